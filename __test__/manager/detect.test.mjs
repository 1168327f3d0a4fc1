// What is there, with engines that answer, refuse, hang and are not there at all; how long it takes to know, `bench/docker` measures.
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { ContainerManager } from 'lima-runtime'
import { TEST_USER } from '../../scripts/setup.mjs'
import { noContainerd, startContainerd } from '../support/containerd.mjs'
import { sharedEngine } from '../support/engine.mjs'
import { startHung } from '../support/hung.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'

const CHILD = fileURLToPath(new URL('detect-child.mjs', import.meta.url))

async function hung(t, path) {
  const { stop } = await startHung(path)
  t.after(stop)
  return path
}

function connected(path) {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => resolve(socket.destroy()))
    socket.once('error', reject)
  })
}

/** A socket file nobody listens on. */
async function refused(path) {
  const child = fork(CHILD, ['die', path], { stdio: 'ignore' })
  await new Promise((resolve) => child.once('exit', resolve))
  return path
}

/** `finds`: the runtime that is there, and which a busy machine may let answer too late. */
async function look(options, finds) {
  if (finds) return waitFor(`${finds} found`, async () => answered(await look(options), finds))

  const found = await new ContainerManager({ appDir: tempDir('detect'), ...options }).detectAvailableRuntimes()
  assert.equal(found.current, 'none')
  assert.deepEqual(found.details.map((d) => d.type).sort(), ['containerd', 'docker', 'lima'])
  return { ...found, of: (type) => found.details.find((d) => d.type === type) }
}

const answered = (found, type) => found[type] && found

const unix = (path) => `unix://${path}`
const nowhere = () => ({ address: join(tempDir('none'), 'containerd.sock') })

test('the engine of User mode, and what would be fetched for it', async () => {
  for (const engine of ['containerd', 'docker']) {
    const lima = (await look({ engine, containerd: nowhere() })).of('lima')
    assert.equal(lima.engine, engine)
    // Root gets no VM.
    if (process.getuid() === 0) continue
    const archive = engine === 'docker' ? 'docker' : 'nerdctl'
    assert.deepEqual(lima.downloads.map(({ component }) => component).sort(), ['image', 'lima', archive].sort())
  }
  assert.equal((await look({ containerd: nowhere() })).of('lima').engine, 'containerd')
  // The VM's own option is the closer one.
  assert.equal((await look({ engine: 'docker', lima: { engine: 'containerd' } })).of('lima').engine, 'containerd')
  assert.equal((await look({ containerd: nowhere() })).of('docker').engine, undefined)
  for (const engine of ['podman', '', null, 7]) {
    assert.throws(() => new ContainerManager({ engine }), { code: 'INVALID_ARGUMENT', details: { field: 'engine' } })
    assert.throws(() => new ContainerManager({ lima: { engine } }), { code: 'INVALID_ARGUMENT' })
  }
})

test('a docker socket that hangs', async (t) => {
  const path = await hung(t, join(tempDir('hung'), 'docker.sock'))
  const found = await look({ docker: { host: unix(path) }, containerd: nowhere() })
  assert.equal(found.docker, false)
  const docker = found.of('docker')
  assert.equal(docker.state, 'unavailable')
  assert.match(docker.reason, /does not answer/)
  assert.equal(docker.endpoint, unix(path))
  assert.match(docker.hint, /Start Docker/)
})

test('one that refuses, and one that is not there', async () => {
  const path = await refused(join(tempDir('refused'), 'docker.sock'))
  const first = await look({ docker: { host: unix(path) }, containerd: nowhere() })
  assert.equal(first.of('docker').state, 'unavailable')
  assert.ok(first.of('docker').reason)
  const gone = join(tempDir('gone'), 'docker.sock')
  const second = await look({ docker: { host: unix(gone) }, containerd: nowhere() })
  assert.match(second.of('docker').reason, /no socket/)
  assert.deepEqual(
    second.of('docker').tried.map((one) => one.endpoint),
    [unix(gone)],
  )
})

test('one that answers', async () => {
  const { host } = sharedEngine()
  const found = await look({ docker: { host }, containerd: nowhere() }, 'docker')
  const { state, version, endpoint, reason } = found.of('docker')
  assert.deepEqual([state, endpoint, reason], ['ready', host, undefined])
  assert.match(version, /^\d+\./)
})

test('containerd that hangs, refuses or is not there', {
  skip: process.platform !== 'linux' && 'Linux only',
}, async (t) => {
  const docker = { host: unix(join(tempDir('none'), 'docker.sock')) }
  const path = await hung(t, join(tempDir('hung'), 'containerd.sock'))
  const silent = await look({ docker, containerd: { address: path } })
  assert.match(silent.of('containerd').reason, /does not answer/)
  const dead = await refused(join(tempDir('refused'), 'containerd.sock'))
  assert.equal((await look({ docker, containerd: { address: dead } })).containerd, false)
  const absent = await look({ docker, containerd: nowhere() })
  assert.match(absent.of('containerd').reason, /no socket/)
})

test('a containerd that only root may reach is asked through sudo', { skip: noContainerd() }, async (t) => {
  const { dir, options, stop } = await startContainerd()
  t.after(stop)
  // As /run/containerd is: its way is open, and it itself is root's, whose group this process keeps.
  chmodSync(dir, 0o711)
  chmodSync(options.address, 0o600)
  const docker = { host: unix(join(tempDir('none'), 'docker.sock')) }
  const appDir = tempDir('detect')
  chmodSync(appDir, 0o777)
  const manager = new ContainerManager({ appDir, docker, containerd: options })
  process.seteuid(TEST_USER)
  let found
  try {
    await assert.rejects(connected(options.address), { code: 'EACCES' })
    found = await waitFor('containerd found', async () =>
      answered(await manager.detectAvailableRuntimes(), 'containerd'),
    )
  } finally {
    process.seteuid(0)
  }
  const { state, version, reason } = found.details.find((d) => d.type === 'containerd')
  assert.deepEqual([found.containerd, state, reason], [true, 'ready', undefined])
  assert.match(version, /^v?[12]\./)
})

const SYSTEM = '/run/containerd/containerd.sock'
const elsewhere =
  process.platform !== 'linux' ? 'Linux only' : existsSync(SYSTEM) && 'this machine has a containerd of its own'

test('without a containerd, our own can be installed', { skip: elsewhere }, async () => {
  const found = await look({ docker: { host: unix(join(tempDir('none'), 'docker.sock')) } })
  const { state, endpoint, tried, reason, hint } = found.of('containerd')
  assert.equal(found.containerd, false)
  // What an ordinary user lacks here, with the command that mends it; root lacks nothing.
  if (state === 'unavailable') assert.ok(process.getuid() !== 0 && reason && hint, reason)
  else assert.equal(state, 'installable')
  assert.match(endpoint, /containerd\/run\/containerd\.sock$/)
  assert.equal(tried[0].endpoint, unix(SYSTEM))
})

test('two at once: the first of the usual places that answers, though one before it hangs', async (t) => {
  // In a process of its own: where it looks follows HOME.
  const home = tempDir('home')
  for (const dir of ['.docker/run', '.orbstack/run', '.colima/default']) mkdirSync(join(home, dir), { recursive: true })
  await hung(t, join(home, '.docker/run/docker.sock'))
  await hung(t, join(home, '.orbstack/run/docker.sock'))
  const { socket } = sharedEngine()
  const { DOCKER_HOST: _, DOCKER_CONTEXT: __, ...env } = process.env
  const child = fork(CHILD, ['relay', socket, join(home, '.colima/default/docker.sock')], {
    env: { ...env, HOME: home, XDG_RUNTIME_DIR: home, DOCKER_CONFIG: join(home, '.docker') },
  })
  const found = await new Promise((resolve) => child.once('message', resolve))
  child.disconnect()
  const docker = found.details.find((d) => d.type === 'docker')
  assert.equal(docker.state, 'ready')
  assert.match(docker.endpoint, /colima/)
  const said = Object.fromEntries(docker.tried.map(({ source, reason }) => [source, reason ?? 'answers']))
  assert.match(said['Docker Desktop'], /does not answer|no socket/)
  assert.match(said.OrbStack, /does not answer/)
  assert.equal(said.Colima, 'answers')
})
