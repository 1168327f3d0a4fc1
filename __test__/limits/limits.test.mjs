// What must not grow: memory, file descriptors, and the time the event loop is held. Each is measured in a process of its
// own. The log is 200 MB read at 20 MB/s here; LIMA_RUNTIME_TEST_FULL=1 makes it 1 GB at 1 MB/s, which takes 17 minutes.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once, setMaxListeners } from 'node:events'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { DockerAdapter } from 'lima-runtime'
import { sharedEngine } from '../support/engine.mjs'
import { startHung } from '../support/hung.mjs'
import { descriptors } from '../support/process.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'

const MB = 1_000_000
const full = process.env.LIMA_RUNTIME_TEST_FULL === '1'
const { size, rate } = full ? { size: 1000 * MB, rate: MB } : { size: 200 * MB, rate: 20 * MB }

const engine = sharedEngine()

async function measured(script, ...args) {
  const path = fileURLToPath(new URL(script, import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--expose-gc',
    path,
    engine.host,
    ...args.map(String),
  ])
  return JSON.parse(stdout)
}

describe('limits', () => {
  let adapter
  before(() => {
    adapter = new DockerAdapter({ host: engine.host })
  })

  it(`a ${size / MB} MB log read at ${rate / MB} MB/s costs less than 32 MB`, { timeout: 30 * 60_000 }, async (t) => {
    // Lines of 1000 bytes.
    const script = `yes "$(head -c 999 /dev/zero | tr '\\0' x)" | head -c ${size}`
    const name = `limits-log-${process.pid}`
    t.after(() => adapter.removeContainer(name, true).catch(() => {}))
    const id = await adapter.startContainer({ name, image: 'busybox:latest', command: ['sh', '-c', script] })
    assert.deepEqual(await adapter.waitContainer(id), { exitCode: 0 })
    const { read, grown, seconds } = await measured('slow-reader.mjs', id, rate)
    t.diagnostic(`${(grown / MB).toFixed(1)} MB over ${seconds.toFixed(0)} s`)
    assert.equal(read, size)
    assert.ok(grown < 32 * MB, `${(grown / MB).toFixed(1)} MB`)
  })

  it('10,000 lists and 1,000 failures: descriptors and memory level', { timeout: 10 * 60_000 }, async (t) => {
    const { before, afterLists, afterFailures } = await measured('many-calls.mjs', 10_000, 1_000)
    for (const level of [before, afterLists, afterFailures]) {
      t.diagnostic(`${level.descriptors} descriptors, ${(level.memory / MB).toFixed(1)} MB`)
    }
    for (const { descriptors, memory } of [afterLists, afterFailures]) {
      // A kept connection or two come and go; a thousandth of a call left open would be more.
      assert.ok(descriptors <= before.descriptors + 4, `${descriptors} descriptors, before ${before.descriptors}`)
      // The allocators' own coming and going; one kept answer or error a call would be more.
      assert.ok(memory - before.memory < 12 * MB, `${((memory - before.memory) / MB).toFixed(1)} MB more`)
    }
  })

  it('200 log streams opened and left: descriptors level', async (t) => {
    const name = `limits-streams-${process.pid}`
    t.after(() => adapter.removeContainer(name, true).catch(() => {}))
    const command = ['sh', '-c', 'echo first; sleep 86400']
    const id = await adapter.startContainer({ name, image: 'busybox:latest', command })
    const use = async () => {
      const log = await adapter.getContainerLogs(id, { follow: true })
      await once(log, 'data')
      log.destroy()
    }
    const before = descriptors()
    for (let i = 0; i < 20; i++) await Promise.all(Array.from({ length: 10 }, use))
    // Sockets are closed on a thread of their own; ten calls at a time leave at most ten connections for the next ones.
    await waitFor('the sockets closed', () => descriptors() <= before + 10)
  })

  it('the event loop turns while an engine does not answer', async (t) => {
    const { path, stop } = await startHung(join(tempDir('limits'), 'docker.sock'))
    t.after(stop)
    const hung = new DockerAdapter({ host: `unix://${path}` })
    const controller = new AbortController()
    setMaxListeners(0, controller.signal)
    let settled = 0
    const calls = Array.from({ length: 100 }, () =>
      hung.listContainers({ signal: controller.signal }).catch(({ code }) => {
        settled += 1
        return code
      }),
    )
    for (let i = 0; i < 1000; i++) await new Promise(setImmediate)
    assert.equal(settled, 0)
    controller.abort()
    assert.deepEqual(new Set(await Promise.all(calls)), new Set(['ABORTED']))
  })
})
