// A process that gives bytes to a call and does something to them at once: `buffers.test.mjs`.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { DockerAdapter } from 'lima-runtime'

const [call, deed, host, id] = process.argv.slice(2)
// Large enough for memory of its own, which goes back to the system when it is freed.
const SIZE = 2 << 20
/** More than can be begun before the bytes are spoilt. */
const CALLS = 40
const filled = (byte) => new Uint8Array(deed === 'share' ? new SharedArrayBuffer(SIZE) : SIZE).fill(byte)

function spoil(bytes) {
  if (deed !== 'transfer') return bytes.fill(0)
  // The copy is nobody's.
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
  globalThis.gc()
}

if (call === 'exec') {
  const docker = new DockerAdapter({ host })
  const input = filled(65)
  const calls = Array.from({ length: CALLS }, () => docker.execInContainer(id, ['cat'], { input }))
  spoil(input)
  for (const { stdout } of await Promise.all(calls)) {
    assert.ok(stdout.equals(Buffer.alloc(SIZE, 65)), `${stdout.length} bytes, not as they were`)
  }
} else {
  // An engine that reads an archive slowly, so that a piece waits for room.
  const got = []
  const engine = createServer(async (request, response) => {
    response.setHeader('Api-Version', '1.41')
    if (request.method !== 'POST') return response.end('{}')
    for await (const chunk of request) {
      got.push(chunk)
      await turn()
    }
    response.setHeader('Content-Type', 'application/json')
    response.end('{"stream":"Loaded image: x:1\\n"}\n')
  }).listen(0, '127.0.0.1')
  await once(engine, 'listening')
  const docker = new DockerAdapter({ host: `tcp://127.0.0.1:${engine.address().port}` })
  const pieces = (async function* () {
    for (let i = 0; i < 4; i++) {
      const piece = filled(65 + i)
      setImmediate(spoil, piece)
      yield piece
    }
  })()
  assert.deepEqual(await docker.loadImage(Object.assign(pieces, { pipe() {} })), ['x:1'])
  const wanted = Buffer.concat([0, 1, 2, 3].map((i) => Buffer.alloc(SIZE, 65 + i)))
  assert.ok(Buffer.concat(got).equals(wanted))
  engine.close()
  engine.closeAllConnections()
}
console.log('as it was')
