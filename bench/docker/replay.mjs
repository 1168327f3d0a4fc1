// node replay.mjs SOCKET ENGINE_SOCKET CONTAINER BYTES: records the engine's answer to a request for a log, and serves it on
// SOCKET as fast as the reader takes it, over and over until it has sent BYTES of log. Everything else goes to the engine.
import { createServer, request } from 'node:http'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

const [socket, engine, container, bytes] = process.argv.slice(2)
const PIECE = 1 << 20

/** The raw answer: head, and a chunked body without its last chunk. */
async function record() {
  const connection = connect(engine)
  connection.write(
    `GET /v1.41/containers/${container}/logs?stdout=1&stderr=1 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n`,
  )
  const all = Buffer.concat(await connection.toArray())
  const headEnd = all.indexOf('\r\n\r\n') + 4
  const last = Buffer.from('0\r\n\r\n')
  if (!all.subarray(-last.length).equals(last)) throw new Error('the recorded answer is not chunked')
  return { head: all.subarray(0, headEnd), body: all.subarray(headEnd, -last.length), last }
}

/** How many bytes of log a body's frames hold. */
function payload(body) {
  let length = 0
  for (let at = 0; at < body.length; ) {
    const lineEnd = body.indexOf('\r\n', at)
    const size = Number.parseInt(body.toString('latin1', at, lineEnd), 16)
    // One frame a chunk, as the engine writes them.
    length += size - 8
    at = lineEnd + 2 + size + 2
  }
  return length
}

const { head, body, last } = await record()
const rounds = Math.ceil(Number(bytes) / payload(body))

createServer((incoming, outgoing) => {
  const { method, url: path, headers } = incoming
  if (!path.includes('/logs')) {
    const upstream = request({ socketPath: engine, method, path, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers)
      answer.pipe(outgoing)
    })
    return incoming.pipe(upstream)
  }
  function* answer() {
    yield head
    for (let i = 0; i < rounds; i++) for (let at = 0; at < body.length; at += PIECE) yield body.subarray(at, at + PIECE)
    yield last
  }
  // Ends when the reader leaves.
  pipeline(Readable.from(answer()), incoming.socket).catch(() => {})
}).listen(socket, () => console.log(rounds * payload(body)))
