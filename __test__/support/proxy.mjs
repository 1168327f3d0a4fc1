import { request } from 'node:http'
import { serveHttp } from './http.mjs'

/**
 * An HTTP proxy before a server on loopback.
 * @param {number} port the server's
 * @param {(path: string, answer: import('node:http').IncomingMessage) => (passed: number, outgoing: import('node:http').ServerResponse) => unknown} pace
 *   makes for each answer what is awaited before a piece of it is handed on; `passed` are its bytes up to there
 * @returns {Promise<{ port: number, stop: () => Promise<void> }>}
 */
export async function startProxy(port, pace) {
  return serveHttp((incoming, outgoing) => {
    const { method, url: path, headers } = incoming
    const upstream = request({ host: '127.0.0.1', port, method, path, headers, agent: false }, async (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers)
      const turn = pace(path, answer)
      let passed = 0
      try {
        for await (const chunk of answer) {
          passed += chunk.length
          await turn(passed, outgoing)
          if (outgoing.destroyed) return
          outgoing.write(chunk)
        }
        outgoing.end()
      } catch {
        outgoing.destroy()
      }
    })
    upstream.on('error', () => outgoing.destroy())
    incoming.pipe(upstream)
  })
}
