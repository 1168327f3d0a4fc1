// Choosing, sharing a start, switching: against a real engine, reached through a gate that counts and holds.
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ContainerManager } from 'lima-runtime'
import { dockerGate as gate } from '../support/docker-gate.mjs'
import { refused } from '../support/installs.mjs'
import { tempDir } from '../support/tempdir.mjs'

const none = () => ({ containerd: { address: join(tempDir('none'), 'containerd.sock') } })
const make = (options) => new ContainerManager({ appDir: tempDir('app'), ...none(), ...options })

test('initialize takes Docker, says so, and its adapter works', async (t) => {
  const engine = await gate(t)
  const { host } = engine
  const manager = make({ docker: { host } })
  const told = []
  manager
    .on('state', ({ state }) => told.push(state))
    .on('runtime-changed', ({ from, to }) => told.push(`${from}>${to}`))
  assert.equal(manager.getRuntimeType(), 'none')
  const early = await refused(
    Promise.resolve().then(() => manager.getRuntime()),
    'INVALID_STATE',
  )
  assert.match(early.hint, /initialize/)
  assert.equal(manager.isInitialized(), false)
  await manager.initialize()
  assert.equal(manager.isInitialized(), true)
  assert.equal(manager.getRuntimeType(), 'docker')
  assert.ok(Array.isArray(await manager.getRuntime().listContainers()))
  assert.deepEqual(told, ['starting', 'ready', 'none>docker'])
  assert.equal((await manager.detectAvailableRuntimes()).current, 'docker')
  // Ours to use, not to stop.
  await manager.stop()
  assert.equal(manager.isInitialized(), false)
  assert.ok(await manager.getRuntime().isAvailable())
  await manager.initialize()
  assert.equal(manager.isInitialized(), true)
  engine.close()
  await refused(manager.initialize(), 'ENGINE_UNREACHABLE')
  assert.equal(manager.isInitialized(), false)
})

test('nothing to use: NOT_INSTALLED with the reason of each', async () => {
  const manager = make({ docker: { host: `unix://${tempDir('none')}/docker.sock` } })
  const error = await refused(manager.initialize(), 'NOT_INSTALLED')
  assert.match(error.details.reasons.docker, /no socket/)
  assert.ok(error.hint)
  const { state, error: kept } = manager.getStatus()
  assert.deepEqual([state, kept.code, manager.isInitialized()], ['failed', 'NOT_INSTALLED', false])
})

test('ten callers share one start; who aborts leaves alone, and the last to leave ends it', async (t) => {
  const { host, hold, release, connections } = await gate(t)
  const manager = make({ docker: { host } })
  await manager.detectAvailableRuntimes()
  const alone = connections()
  await manager.initialize()
  const one = connections() - alone
  // Another manager, ten callers: as many connections as for one.
  const shared = make({ docker: { host } })
  const before = connections()
  await Promise.all(Array.from({ length: 10 }, () => shared.initialize()))
  assert.equal(connections() - before, one)

  hold()
  const third = make({ docker: { host }, preferred: 'docker' })
  const leaves = new AbortController()
  const starting = third.switchRuntime('docker')
  const left = refused(third.switchRuntime('docker', { signal: leaves.signal }), 'ABORTED')
  const late = refused(third.switchRuntime('docker', { timeoutMs: 20 }), 'TIMEOUT')
  leaves.abort()
  await left
  await late
  assert.equal(third.getStatus().state, 'starting')
  release()
  await starting
  assert.equal(third.getStatus().state, 'ready')

  hold()
  const fourth = make({ docker: { host } })
  const all = [1, 2].map(() => refused(fourth.switchRuntime('docker'), 'ABORTED'))
  await new Promise(setImmediate)
  fourth.abort()
  await Promise.all(all)
  assert.equal(fourth.getStatus().state, 'idle')
  release()
  await fourth.initialize()
})

test('a switch is remembered beside what others keep; one that fails keeps the old runtime', async (t) => {
  const { host } = await gate(t)
  const appDir = tempDir('app')
  const file = join(appDir, 'runtime.json')
  writeFileSync(file, JSON.stringify({ theirs: [1, 2], runtime: 'lima' }))
  const manager = new ContainerManager({ appDir, docker: { host }, ...none() })
  await manager.initialize()
  assert.match(manager.getStatus().explanation, /Lima was chosen.*Docker is used instead/)
  await manager.switchRuntime('docker')
  assert.deepEqual(JSON.parse(readFileSync(file, 'utf8')), { theirs: [1, 2], runtime: 'docker' })
  await refused(manager.switchRuntime('containerd'), 'CONTAINERD_NOT_READY')
  assert.equal(manager.getRuntimeType(), 'docker')
  assert.deepEqual([manager.getStatus().state, manager.isInitialized()], ['ready', true])
  assert.ok(await manager.getRuntime().isAvailable())
  assert.equal(JSON.parse(readFileSync(file, 'utf8')).runtime, 'docker')
  await refused(manager.switchRuntime('podman'), 'INVALID_ARGUMENT')
})

test('a broken file and a wrong name are not fatal', async (t) => {
  const { host } = await gate(t)
  for (const [text, said] of [
    ['{ "runtime": "docke', /broken/],
    ['{ "runtime": "podman" }', /none that we know/],
    ['{ "runtime": 7 }', /none that we know/],
  ]) {
    const appDir = tempDir('app')
    mkdirSync(appDir, { recursive: true })
    writeFileSync(join(appDir, 'runtime.json'), text)
    const manager = new ContainerManager({ appDir, docker: { host }, ...none() })
    await manager.initialize()
    assert.equal(manager.getRuntimeType(), 'docker')
    assert.match(manager.getStatus().explanation, said)
    assert.equal(existsSync(join(appDir, 'runtime.json.broken')), said.source === 'broken')
    await manager.switchRuntime('docker')
    assert.equal(JSON.parse(readFileSync(join(appDir, 'runtime.json'), 'utf8')).runtime, 'docker')
  }
})

test('the variable goes before everything, and a wrong one is an error', async (t) => {
  const { host } = await gate(t)
  t.after(() => delete process.env.KAI_CONTAINER_RUNTIME)
  process.env.KAI_CONTAINER_RUNTIME = 'podman'
  const error = await refused(make({ docker: { host } }).initialize(), 'INVALID_ARGUMENT')
  assert.equal(error.details.field, 'KAI_CONTAINER_RUNTIME')
  process.env.KAI_CONTAINER_RUNTIME = 'containerd'
  await refused(make({ preferred: 'docker', docker: { host } }).initialize(), 'ENGINE_UNREACHABLE')
  process.env.KAI_CONTAINER_RUNTIME = 'docker'
  const manager = make({ preferred: 'lima', docker: { host } })
  await manager.initialize()
  assert.equal(manager.getRuntimeType(), 'docker')
})

test('a listener that throws ends nothing', async (t) => {
  const { host } = await gate(t)
  const manager = make({ docker: { host } })
  const warned = new Promise((resolve) => process.once('warning', resolve))
  manager.on('state', () => {
    throw new Error('mine')
  })
  await manager.initialize()
  assert.match((await warned).message, /mine/)
})

test('wrong options say which', async () => {
  for (const [options, field] of [
    ['podman', 'preferred'],
    [{ preferred: 7 }, 'preferred'],
    [{ docker: { host: 'ftp://x' } }, 'docker.host'],
    [{ appName: '../x' }, 'appName'],
    [7, 'options'],
  ]) {
    const error = await refused(
      Promise.resolve().then(() => {
        const manager = new ContainerManager(options)
        return manager.initialize()
      }),
      'INVALID_ARGUMENT',
    ).catch((e) => assert.fail(`${JSON.stringify(options)}: ${e.message}`))
    assert.ok(
      error.details.field.endsWith(field.split('.').at(-1)),
      `${JSON.stringify(options)}: ${error.details.field}`,
    )
  }
})
