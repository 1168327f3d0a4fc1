// Bytes that cross: what a call was given is its own from the moment it returns, whatever becomes of the caller's memory.
// In processes of their own, since the wrong way ends with a segmentation fault.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { DockerAdapter } from 'lima-runtime'
import { IMAGES, sharedEngine } from '../support/engine.mjs'

const { host, api } = sharedEngine()
const CHILD = fileURLToPath(new URL('buffers-child.mjs', import.meta.url))
const docker = new DockerAdapter({ host })

async function container(t) {
  const name = `buffers-${process.pid}`
  const id = await docker.startContainer({ name, image: IMAGES.busybox, command: ['sleep', '600'] })
  t.after(() => api('DELETE', `/containers/${id}?force=1&v=1`))
  return id
}

async function child(...args) {
  const process_ = spawn(process.execPath, ['--expose-gc', CHILD, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  process_.stdout.setEncoding('utf8').on('data', (text) => {
    said += text
  })
  const [code, signal] = await once(process_, 'close')
  assert.deepEqual({ code, signal, said }, { code: 0, signal: null, said: 'as it was\n' })
}

test("exec's input is what it was when the call was made", async (t) => {
  const id = await container(t)
  await t.test('changed', () => child('exec', 'change', host, id))
  await t.test('transferred, and freed', () => child('exec', 'transfer', host, id))
  await t.test('of memory that threads share, changed', () => child('exec', 'share', host, id))
})

test("an archive's pieces are what they were when they were given", async (t) => {
  await t.test('changed', () => child('load', 'change'))
  await t.test('transferred, and freed', () => child('load', 'transfer'))
})

test('input that has been transferred already is refused', async () => {
  const input = new Uint8Array(8)
  structuredClone(input.buffer, { transfer: [input.buffer] })
  await assert.rejects(docker.execInContainer('x', ['cat'], { input }), {
    code: 'INVALID_ARGUMENT',
    details: { field: 'input' },
  })
})

test("exec's output has memory of its own, with nothing else in it", async (t) => {
  const id = await container(t)
  const { stdout } = await docker.execInContainer(id, ['echo', 'text'])
  assert.deepEqual([stdout.toString(), stdout.buffer.byteLength], ['text\n', 5])
  // Node refuses this for memory that is an addon's.
  const there = structuredClone(stdout, { transfer: [stdout.buffer] })
  assert.deepEqual([Buffer.from(there).toString(), stdout.length], ['text\n', 0])
})
