// The Docker engine of the application's own through the facade: its program, its context, its adapter, and as the runtime
// that ContainerManager chooses. tests/bundled_docker.rs has its life.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { BundledContainerAdapter, BundledRuntimeManager, ContainerManager } from 'lima-runtime'
import { bundledDocker, noBundledDocker } from '../support/bundled-docker.mjs'

const skip = noBundledDocker()
const run = promisify(execFile)

test('Docker as the engine of the application: chosen, started, reached by every way, stopped', {
  skip,
  timeout: 300_000,
}, async (t) => {
  const { dir, options, close } = await bundledDocker()
  t.after(close)
  const { manifest, mirror } = options
  // Its directory is the one that `options` name.
  const manager = new ContainerManager({
    preferred: 'containerd',
    engine: 'docker',
    appDir: dir,
    appName: 'of-the-test',
    installIfMissing: true,
    lima: { manifest, mirror },
  })
  const detail = async () => (await manager.detectAvailableRuntimes()).details.find((d) => d.type === 'containerd')
  const before = await detail()
  assert.deepEqual([before.state, before.engine], ['installable', 'docker'])
  assert.ok(before.downloadBytes > 1_000_000)
  await manager.initialize()
  t.after(() => manager.stop())
  assert.equal(manager.getRuntimeType(), 'containerd')
  const { state, engine, endpoint } = await detail()
  const bundled = new BundledRuntimeManager({ appDir: dir, appName: 'of-the-test', engine: 'docker' })
  const socket = bundled.getDockerSocketPath()
  assert.deepEqual([state, engine, endpoint], ['ready', 'docker', `unix://${socket}`])
  assert.equal(await bundled.isRunning(), true)
  await bundled.initialize()

  const adapter = new BundledContainerAdapter(bundled)
  assert.equal(adapter.getBundledManager(), bundled)
  const { runtimeVersion } = await adapter.getSystemInfo()
  assert.deepEqual(await manager.getRuntime().getSystemInfo(), await adapter.getSystemInfo())
  const version = ['version', '--format', '{{.Server.Version}}']
  assert.equal((await bundled.execDocker(version)).trim(), runtimeVersion)
  assert.equal((await run(bundled.getDockerPath(), version)).stdout.trim(), runtimeVersion)
  await assert.rejects(bundled.execDocker(['inspect', 'none-of-that-name']), { code: 'ENGINE_ERROR' })

  await assert.rejects(bundled.execNerdctl(['ps']), { code: 'NOT_INSTALLED', hint: /engine: 'containerd'/ })
  for (const method of ['getAdapterOptions', 'getNerdctlPath', 'getContainerdAddress'])
    assert.throws(() => bundled[method](), { code: 'NOT_INSTALLED' })
  const other = new BundledRuntimeManager({ dataDir: join(dir, 'other') })
  for (const method of ['getDockerPath', 'getDockerSocketPath'])
    assert.throws(() => other[method](), { code: 'NOT_INSTALLED' })
  for (const method of ['execDocker', 'registerDockerContext'])
    await assert.rejects(method === 'execDocker' ? other.execDocker(['ps']) : other.registerDockerContext(), {
      code: 'NOT_INSTALLED',
      hint: /engine: 'docker'/,
    })

  const settings = join(dir, 'docker-config')
  mkdirSync(settings)
  const { DOCKER_CONFIG } = process.env
  process.env.DOCKER_CONFIG = settings
  t.after(() => {
    if (DOCKER_CONFIG === undefined) delete process.env.DOCKER_CONFIG
    else process.env.DOCKER_CONFIG = DOCKER_CONFIG
  })
  await bundled.registerDockerContext({ use: true })
  const env = { PATH: process.env.PATH, HOME: dir, DOCKER_CONFIG: settings }
  assert.equal((await run('docker', version, { env })).stdout.trim(), runtimeVersion)
  assert.equal(JSON.parse(readFileSync(join(settings, 'config.json'), 'utf8')).currentContext, 'of-the-test')
  await bundled.unregisterDockerContext()
  assert.doesNotMatch((await run('docker', ['context', 'ls'], { env })).stdout, /of-the-test/)

  await manager.stop()
  assert.equal(await bundled.isRunning(), false)
  assert.equal((await detail()).state, 'stopped')
  await assert.rejects(adapter.listContainers(), { code: 'ENGINE_UNREACHABLE', hint: /startDaemon/ })
})

test('an engine that is none is refused', async () => {
  for (const engine of ['podman', '', 7, null]) {
    for (const make of [
      () => new BundledRuntimeManager({ dataDir: '/nowhere', engine }),
      () => new ContainerManager({ appDir: '/nowhere', engine }),
    ])
      assert.throws(make, ({ code, details }) => code === 'INVALID_ARGUMENT' && details.field === 'engine', `${engine}`)
  }
})
