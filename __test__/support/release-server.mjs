// The release server of the fetch tests: hands out files on loopback, and misbehaves exactly as a test says.
//
//   const server = await startReleaseServer()                     // in this process
//   const server = await spawnReleaseServer()                     // in a child; the same methods, awaited
//   await server.file('/github.com/o/r/x.tar.gz', { body: bytes })
//   await server.fault('/github.com/o/r/x.tar.gz', { kind: 'cut', at: 1000 }, { kind: 'status', status: 503, times: 2 })
//   server.url                                                    // a mirror: https://host/path -> <url>/host/path
//
// It also serves as the HTTP proxy of a client (absolute-form requests; CONNECT goes to `connectTo`), where every host
// name is itself.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream, statSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import net from 'node:net'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

/**
 * @typedef {object} ReleaseFile
 * @property {Buffer} [body]       the bytes, or
 * @property {string} [path]       a file that holds them
 * @property {string|null} [etag]  default: one made for each `file()` call; null sends none
 * @property {string|null} [lastModified]  an HTTP date; default none
 * @property {boolean} [ranges]    default true
 * @property {number} [rate]       bytes a second for each response
 *
 * @typedef {object} Fault  All active faults of a request act together.
 * @property {'status'|'cut'|'stall'|'change'|'length'|'flip'|'truncate'|'redirect'|'gzip'|'noRanges'|'wrongRange'|'chunked'} kind
 *   status      answer `status`, with `retryAfter` as the header if given, and no file
 *   cut         close the connection after `at` bytes of this body (`reset`: with RST)
 *   stall       send `at` bytes of this body, then nothing more; `at: -1` not even a header
 *   change      the file becomes `body`, with a new ETag, once this response is over
 *   length      Content-Length is wrong by `delta`
 *   flip        bit number `bit` of the whole file is inverted
 *   truncate    the file ends `by` bytes early, and the headers say so
 *   redirect    `status` (302) to `to`
 *   gzip        Content-Encoding: gzip, whatever the client accepts
 *   noRanges    Range is ignored, the answer is 200
 *   wrongRange  a 206 that begins at 0 whatever was asked for
 *   chunked     no Content-Length
 * @property {number} [times]  how many requests it acts on; default 1
 * @property {number} [after]  how many requests pass before it acts; default 0
 */
class ReleaseServer {
  #files = new Map()
  #faults = new Map()
  #log = []
  #sockets = new Set()
  #waiters = new Set()
  #server
  #version = 0

  /** @param {{ tls?: { key: string, cert: string }, host?: string, connectTo?: number }} [options] */
  constructor(options = {}) {
    this.options = options
    const listener = (request, response) => this.#answer(request, response)
    this.#server = options.tls ? https.createServer(options.tls, listener) : http.createServer(listener)
    this.#server.keepAliveTimeout = 1000
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
      socket.on('error', () => {})
    })
    this.#server.on('tlsClientError', () => {})
    this.#server.on('connect', (request, socket) => this.#connect(request, socket))
  }

  async listen() {
    this.#server.listen(0, this.options.host ?? '127.0.0.1')
    await once(this.#server, 'listening')
    this.port = this.#server.address().port
    this.url = `${this.options.tls ? 'https' : 'http'}://${this.options.host ?? '127.0.0.1'}:${this.port}`
    return this
  }

  /** @param {string} path @param {ReleaseFile | Buffer | string} file */
  file(path, file) {
    const given = Buffer.isBuffer(file) || typeof file === 'string' ? { body: Buffer.from(file) } : { ...file }
    if (given.body && !Buffer.isBuffer(given.body)) given.body = Buffer.from(given.body)
    const size = given.body ? given.body.length : statSync(given.path).size
    this.#files.set(path, { etag: `"v${++this.#version}"`, ranges: true, ...given, size })
  }

  remove(path) {
    this.#files.delete(path)
  }

  /** Replaces the faults of `path`; '*' means every path. @param {string} path @param {...Fault} faults */
  fault(path, ...faults) {
    this.#faults.set(
      path,
      faults.map((f) => ({ times: 1, after: 0, ...f })),
    )
  }

  /** Every request so far: `{ method, path, host, range, ifRange, status, sent, headers }`. */
  requests(path) {
    return this.#log.filter((r) => path === undefined || r.path === path).map((r) => ({ ...r }))
  }

  /** Body bytes handed to the operating system, and requests, of one file or of all. */
  counts(path) {
    const of = this.requests(path)
    return { requests: of.length, bytes: of.reduce((sum, r) => sum + r.sent, 0) }
  }

  /** Forgets counts, requests and faults; the files stay. */
  reset() {
    this.#log = []
    this.#faults.clear()
  }

  /** Resolves once `path` has sent at least `bytes` of a body in one response. */
  async sent(path, bytes = 0) {
    const reached = () => this.#log.some((r) => r.path === path && r.sent >= bytes)
    while (!reached()) await new Promise((resolve) => this.#waiters.add(resolve))
  }

  async close() {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #wake() {
    for (const wake of this.#waiters) wake()
    this.#waiters.clear()
  }

  #connect(request, socket) {
    this.#log.push({ method: 'CONNECT', path: request.url, sent: 0, status: 200, headers: request.headers })
    if (!this.options.connectTo) return socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n')
    const upstream = net.connect(this.options.connectTo, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      upstream.pipe(socket).pipe(upstream)
    })
    upstream.on('error', () => socket.destroy())
    socket.on('error', () => upstream.destroy())
  }

  #active(path) {
    const acting = []
    for (const fault of [...(this.#faults.get(path) ?? []), ...(this.#faults.get('*') ?? [])]) {
      if (fault.after > 0) fault.after--
      else if (fault.times > 0) {
        fault.times--
        acting.push(fault)
      }
    }
    return Object.fromEntries(acting.map((f) => [f.kind, f]))
  }

  async #answer(request, response) {
    const { host } = request.headers
    const url = new URL(request.url, `http://${host}`)
    // As a proxy, or with a name other than the loopback's: the mirror form of that host.
    const own = url.hostname === '127.0.0.1' || url.hostname === 'localhost'
    const path = own ? url.pathname : `/${url.hostname}${url.pathname}`
    const entry = {
      method: request.method,
      path,
      host,
      range: request.headers.range,
      ifRange: request.headers['if-range'],
      headers: request.headers,
      status: 0,
      sent: 0,
    }
    this.#log.push(entry)
    this.#wake()
    response.on('error', () => {})
    const file = this.#files.get(path)
    const fault = this.#active(path)
    const plain = (status, headers = {}) => {
      entry.status = status
      response.writeHead(status, headers).end(`${status}\n`)
    }
    if (fault.stall?.at === -1) return
    if (fault.status) {
      const { status, retryAfter } = fault.status
      return plain(status, retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) })
    }
    if (fault.redirect) return plain(fault.redirect.status ?? 302, { location: fault.redirect.to })
    if (!file) return plain(404)

    const size = file.size - (fault.truncate?.by ?? 0)
    const headers = { 'content-type': 'application/octet-stream' }
    if (file.etag) headers.etag = file.etag
    if (file.lastModified) headers['last-modified'] = file.lastModified
    let start = 0
    let end = size
    let status = 200
    const ranges = file.ranges && !fault.noRanges
    if (ranges) headers['accept-ranges'] = 'bytes'
    const asked = ranges && /^bytes=(\d+)-(\d*)$/.exec(entry.range ?? '')
    const current = [undefined, file.etag, file.lastModified].includes(entry.ifRange)
    if (asked && current) {
      start = Number(asked[1])
      end = asked[2] === '' ? size : Math.min(size, Number(asked[2]) + 1)
      if (start >= size) return plain(416, { 'content-range': `bytes */${size}` })
      if (fault.wrongRange) start = 0
      status = 206
      headers['content-range'] = `bytes ${start}-${end - 1}/${size}`
    }
    let length = end - start
    let body = file.body
    if (fault.flip) {
      body = Buffer.from(body)
      body[fault.flip.bit >> 3] ^= 1 << (fault.flip.bit & 7)
    }
    let source = body
      ? [body.subarray(start, end)]
      : createReadStream(file.path, { start, end: end - 1, highWaterMark: 262144 })
    if (fault.gzip) {
      source = [gzipSync(body.subarray(start, end), { level: 1 })]
      length = source[0].length
      headers['content-encoding'] = 'gzip'
    }
    if (!fault.chunked) headers['content-length'] = length + (fault.length?.delta ?? 0)
    entry.status = status
    response.strictContentLength = false
    response.writeHead(status, headers)
    response.flushHeaders()
    if (request.method === 'HEAD') return response.end()

    const stop = Math.min(fault.cut?.at ?? Infinity, fault.stall?.at ?? Infinity)
    try {
      for await (const piece of paced(source, file.rate ?? this.options.rate, stop)) {
        if (response.destroyed) break
        entry.sent += piece.length
        this.#wake()
        await written(response, piece)
      }
    } catch {
      return response.destroy()
    } finally {
      if (fault.change) this.file(path, { ...file, etag: `"changed${++this.#version}"`, body: fault.change.body })
    }
    if (fault.stall && entry.sent >= fault.stall.at) return
    if (fault.cut && entry.sent >= fault.cut.at) {
      return fault.cut.reset ? response.socket?.resetAndDestroy() : response.socket?.end()
    }
    const { socket } = response
    response.end()
    // A promise of more bytes than there are is only broken by closing.
    if (fault.length?.delta > 0) socket?.end()
  }
}

/** Settles when `piece` is with the operating system, or the client has left. */
function written(response, piece) {
  return new Promise((resolve) => {
    const done = () => {
      response.off('close', done)
      resolve()
    }
    response.on('close', done)
    response.write(piece, done)
  })
}

/** Cuts a source into pieces of at most 64 KiB, `limit` bytes in all, `rate` bytes a second. */
async function* paced(source, rate, limit) {
  let left = limit
  const began = performance.now()
  let given = 0
  const most = rate ? Math.max(1, Math.min(65536, Math.round(rate / 50))) : 65536
  for await (const chunk of Readable.from(source)) {
    for (let at = 0; at < chunk.length && left > 0; ) {
      const piece = chunk.subarray(at, at + Math.min(most, left))
      at += piece.length
      left -= piece.length
      given += piece.length
      yield piece
      if (rate) {
        const wait = (given / rate) * 1000 - (performance.now() - began)
        if (wait > 1) await new Promise((resolve) => setTimeout(resolve, wait))
      }
    }
    if (left <= 0) return
  }
}

/** @returns {Promise<ReleaseServer>} listening on a free port of the loopback */
export async function startReleaseServer(options) {
  return new ReleaseServer(options).listen()
}

/** The same in a child process, for measurements that must not share a thread with it. Every method is async. */
export async function spawnReleaseServer(options = {}) {
  const child = fork(fileURLToPath(import.meta.url), {
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const calls = new Map()
  let last = 0
  child.on('message', ({ id, error, value }) => {
    const { resolve, reject } = calls.get(id)
    calls.delete(id)
    if (error) reject(new Error(error))
    else resolve(value)
  })
  const call = (method, ...args) =>
    new Promise((resolve, reject) => {
      calls.set(++last, { resolve, reject })
      child.send({ id: last, method, args })
    })
  const { port, url } = await call('listen', options)
  const remote = { port, url, pid: child.pid }
  for (const method of ['file', 'remove', 'fault', 'requests', 'counts', 'reset', 'sent'])
    remote[method] = (...args) => call(method, ...args)
  remote.close = async () => {
    const gone = once(child, 'exit')
    child.disconnect()
    await gone
  }
  return remote
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.send) {
  let server
  process.on('message', async ({ id, method, args }) => {
    try {
      if (method === 'listen') server = await startReleaseServer(...args)
      const value = method === 'listen' ? { port: server.port, url: server.url } : await server[method](...args)
      process.send({ id, value })
    } catch (error) {
      process.send({ id, error: String(error) })
    }
  })
  process.on('disconnect', () => process.exit())
}
