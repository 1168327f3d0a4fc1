// What is made and dropped leaves nothing: objects of each class, worker threads that end in the middle of calls, and the addon
// itself, twice in one process.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { cpSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { DockerAdapter } from 'lima-runtime'
import { root } from '../../scripts/run.mjs'
import { sharedEngine } from '../support/engine.mjs'
import { startHung } from '../support/hung.mjs'
import { descriptors, threads } from '../support/process.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'

const engine = sharedEngine()
const MB = 1e6
const ROUNDS = 10_000
const COMMAND = ['sh', '-c', 'echo first; sleep 86400']
const here = (name) => fileURLToPath(new URL(name, import.meta.url))

describe('made and dropped', () => {
  it(`${ROUNDS} of each class: descriptors, threads and memory level`, { timeout: 10 * 60_000 }, async (t) => {
    const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', here('classes.mjs'), String(ROUNDS)])
    for (const [name, { before, after }] of Object.entries(JSON.parse(stdout))) {
      const more = (after.memory - before.memory) / MB
      t.diagnostic(`${name}: ${after.descriptors} descriptors, ${after.threads} threads, ${more.toFixed(1)} MB more`)
      assert.equal(after.descriptors, before.descriptors, `${name}: descriptors`)
      assert.ok(after.threads <= before.threads + 2, `${name}: ${after.threads} threads, before ${before.threads}`)
      // Kept objects would be a kilobyte each, at least.
      assert.ok(more < 8, `${name}: ${more.toFixed(1)} MB more`)
    }
  })

  it('20 workers terminated in the middle of calls: descriptors and threads level', {
    timeout: 10 * 60_000,
  }, async (t) => {
    const adapter = new DockerAdapter({ host: engine.host })
    const name = `limits-workers-${process.pid}`
    t.after(() => adapter.removeContainer(name, true).catch(() => {}))
    const id = await adapter.startContainer({ name, image: 'busybox:latest', command: COMMAND })
    const hung = await startHung(join(tempDir('workers'), 'docker.sock'))
    t.after(hung.stop)
    const workerData = { hung: `unix://${hung.path}`, host: engine.host, id }
    const run = async () => {
      const worker = new Worker(here('worker.mjs'), { workerData })
      const failed = once(worker, 'error').then(([error]) => Promise.reject(error))
      failed.catch(() => {})
      await Promise.race([once(worker, 'message'), failed])
      await worker.terminate()
    }
    // What the first ones bring stays: threads of the runtime that all share.
    await Promise.all(Array.from({ length: 4 }, run))
    await waitFor('its connections closed', () => [...hung.connections].every((c) => c.destroyed))
    const [open, ran] = [descriptors(), threads()]
    for (let i = 0; i < 5; i++) await Promise.all(Array.from({ length: 4 }, run))
    await waitFor('the connections closed', () => descriptors() <= open + 4)
    await waitFor('the threads ended', () => threads() <= ran + 4)
    assert.equal((await adapter.inspectContainer(id)).state, 'running')
    const left = async () => (await adapter.listProcesses(id)).processes.filter((row) => row.at(-1) === 'cat').length
    await waitFor('the programs ended', async () => (await left()) === 0)
  })

  it('two copies in one process work beside each other', async () => {
    const dist = join(tempDir('copy'), 'dist')
    cpSync(join(root, 'dist'), dist, { recursive: true })
    const require = createRequire(import.meta.url)
    const [one, other] = [join(root, 'dist'), dist].map((dir) => require(join(dir, 'index.cjs')))
    assert.notEqual(one.DockerAdapter, other.DockerAdapter)
    const adapters = [one, other].map((copy) => new copy.DockerAdapter({ host: engine.host }))
    await Promise.all(
      adapters.flatMap((adapter) => Array.from({ length: 50 }, () => adapter.listContainers({ all: true }))),
    )
    for (const [i, copy] of [one, other].entries())
      await assert.rejects(
        adapters[i].inspectContainer('no-such-container'),
        (error) => error instanceof copy.RuntimeError && error.code === 'CONTAINER_NOT_FOUND',
      )
    // Taken for options, each would mean the defaults: another directory than the manager's.
    for (const [Adapter, Manager] of [
      ['BundledContainerAdapter', 'BundledRuntimeManager'],
      ['LimaContainerAdapter', 'LimaRuntimeManager'],
    ])
      assert.throws(
        () => new other[Adapter](new one[Manager]({ dataDir: dist })),
        (error) => error.code === 'INVALID_ARGUMENT' && error instanceof other.RuntimeError,
      )
  })
})
