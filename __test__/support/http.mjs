// Plain HTTP for tests that look at an engine or a page past our own code.
import { once } from 'node:events'
import { createServer, request as httpRequest } from 'node:http'

/**
 * A server on loopback; `stop` ends its connections, too.
 * @param {import('node:http').RequestListener} answer
 * @returns {Promise<{ port: number, stop: () => Promise<void> }>}
 */
export async function serveHttp(answer) {
  const server = createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stop = () => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  }
  return { port: server.address().port, stop }
}

/**
 * One request; resolves with status, headers and the whole body.
 * @param {{ socketPath?: string, host?: string, port?: number, path?: string, method?: string, headers?: Record<string, string>, timeoutMs?: number }} options
 * @param {string | Buffer} [body]
 * @returns {Promise<{ status: number, headers: import('node:http').IncomingHttpHeaders, body: Buffer, json: () => any }>}
 */
export function http({ timeoutMs = 60_000, ...options }, body) {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ agent: false, ...options }, (response) => {
      const chunks = []
      response.on('data', (chunk) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => {
        const all = Buffer.concat(chunks)
        resolve({
          status: response.statusCode,
          headers: response.headers,
          body: all,
          json: () => JSON.parse(all.toString()),
        })
      })
    })
    request.setTimeout(timeoutMs, () => request.destroy(new Error(`no answer within ${timeoutMs} ms: ${options.path}`)))
    request.on('error', reject)
    request.end(body)
  })
}

/** A client for the engine's own API, for what a test must do or see without our code. Any status of 400 or more is an Error. */
export function engineApi(socketPath) {
  return async (method, path, body, headers = {}) => {
    const isRaw = typeof body === 'string' || Buffer.isBuffer(body)
    const type = body === undefined ? {} : { 'content-type': isRaw ? 'application/x-tar' : 'application/json' }
    const sent = body === undefined || isRaw ? body : JSON.stringify(body)
    const length = sent === undefined ? {} : { 'content-length': String(Buffer.byteLength(sent)) }
    const answer = await http({ socketPath, method, path, headers: { ...type, ...length, ...headers } }, sent)
    if (answer.status >= 400)
      throw Object.assign(new Error(`${method} ${path}: ${answer.status} ${answer.body}`), { status: answer.status })
    return answer.headers['content-type']?.includes('application/json') && answer.body.length
      ? parse(answer.body.toString())
      : answer.body
  }
}

/** A JSON answer is one value, or (pull, load, build) one a line. */
function parse(text) {
  try {
    return JSON.parse(text)
  } catch {
    return text
      .trim()
      .split(/\r?\n/)
      .map((line) => JSON.parse(line))
  }
}
