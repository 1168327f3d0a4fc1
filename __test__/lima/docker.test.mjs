// A Docker Engine in the VM, through the facade: the stand-in for limactl, a real sshd as its guest, and a real dockerd that
// listens in this guest. What Lima and root would do in it (unpacking, systemd) is made up; tests with a real VM do that.
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { composeProgram, noComposeToBring } from '../support/compose.mjs'
import { IMAGES, sharedEngine } from '../support/engine.mjs'
import { noGuest, startGuest } from '../support/guest.mjs'
import { limaRig, missing, ordinaryUser, rejected } from '../support/lima.mjs'
import { composeUrl, mirrored } from '../support/release-files.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'

const skip = missing()

/** The shared dockerd's socket, for a user who may not open that. It can hang, or be gone, as a daemon that has failed. */
async function relay(t, path) {
  let [server, hangs] = [undefined, false]
  const clients = new Set()
  const close = async () => {
    const closed = new Promise((resolve) => server.close(resolve))
    for (const client of clients) client.destroy()
    await closed
  }
  const open = async () => {
    server = createServer({ allowHalfOpen: true }, (client) => {
      clients.add(client)
      client.on('close', () => clients.delete(client))
      client.on('error', () => {})
      if (hangs) return client.resume()
      const engine = connect({ path: sharedEngine().socket, allowHalfOpen: true })
      for (const [from, to] of [
        [client, engine],
        [engine, client],
      ]) {
        from.pipe(to)
        from.on('error', () => to.destroy())
      }
      client.on('close', () => engine.destroy())
    })
    await new Promise((resolve) => server.listen(path, resolve))
    chmodSync(path, 0o777)
  }
  await open()
  t.after(close)
  /** A daemon that ends, closes what it had. */
  const hang = (yes) => {
    hangs = yes
    for (const client of yes ? [] : clients) client.destroy()
  }
  return { path, close, open, hang }
}

test('a Docker Engine in the VM: adapter, socket, program, context, and the way back to containerd', {
  skip,
  timeout: 300_000,
}, async (t) => {
  const rig = await limaRig(t)
  const { path: engineSocket } = await relay(t, join(rig.dir, 'engine.sock'))
  const options = { ...rig.options, engine: 'docker', engineSocket }
  const { ask } = rig.app()
  const call = (method, ...args) => ask({ options, method, args })
  const adapter = (method, ...args) => call('adapter', method, ...args)
  const yaml = () => readFileSync(join(rig.vm, 'lima.yaml'), 'utf8')

  const events = await call('progress', 'start', {})
  assert.ok(events.some(({ component }) => component === 'docker'))
  assert.ok(!events.some(({ component }) => component === 'nerdctl'), 'the other engine is not downloaded')
  assert.match(yaml(), /containerd:\n(?: {2}.*\n)* {2}system: false\n/)

  // The engine over the guest's channel.
  assert.equal(await adapter('getRuntimeType'), 'lima')
  assert.equal(await adapter('isPrivate'), true)
  const id = await adapter('startContainer', {
    name: `in-vm-${process.pid}`,
    image: IMAGES.busybox,
    command: ['sh', '-c', 'ls -l /var/run/docker.sock; sleep 1000'],
    volumes: [{ host: '/var/run/docker.sock', container: '/var/run/docker.sock' }],
  })
  try {
    const { mounts } = await adapter('getContainerDetails', id)
    assert.equal(mounts[0].source, engineSocket, "it is the guest's own")
    const outside = { ...rejectable(), volumes: [{ host: '/etc', container: '/e' }] }
    const { details } = await rejected(adapter('startContainer', outside), 'INVALID_ARGUMENT')
    assert.equal(details.field, 'volumes[0].host')
  } finally {
    await adapter('removeContainer', id, true)
  }

  // For other programs of this user.
  const socket = await call('getDockerSocketPath')
  assert.equal(statSync(socket).mode & 0o777, 0o600)
  const { uid, gid } = ordinaryUser()
  /** As the user who has the VM; not in this thread, where the relay is. */
  const run = (program, ...args) =>
    new Promise((resolve) => {
      const env = { PATH: '/usr/bin:/bin', HOME: rig.home }
      execFile(program, args, { uid, gid, cwd: '/', env }, (error, stdout, stderr) =>
        resolve({ status: error?.code ?? 0, stdout, stderr }),
      )
    })
  const curl = (path) => run('curl', '-sS', '--max-time', '30', '--unix-socket', socket, `http://d${path}`)
  const pong = await curl('/_ping')
  assert.equal(pong.stdout, 'OK', pong.stderr)
  for (const [method, ...args] of [['execNerdctl', ['ps']], ['getNerdctlPath'], ['getContainerdSocketPath']]) {
    const { message } = await rejected(call(method, ...args), 'NOT_INSTALLED')
    assert.match(message, /There is no nerdctl in the VM: its engine is the Docker engine/)
  }
  assert.match(await call('execDocker', ['--version']), /^Docker version /)
  assert.match((await run(await call('getDockerPath'), '--version')).stdout, /^Docker version /)

  await rejected(call('registerDockerContext', { name: 'a/b' }), 'INVALID_ARGUMENT')
  await rejected(call('registerDockerContext', { nam: 'x' }), 'INVALID_ARGUMENT')
  await call('registerDockerContext', { name: 'in-vm', use: true })
  const docker = await run('docker', 'info', '--format', '{{.ServerVersion}}')
  const { runtimeVersion } = await adapter('getSystemInfo')
  assert.equal(docker.stdout.trim(), runtimeVersion, docker.stderr)
  await call('unregisterDockerContext', { name: 'in-vm' })
  assert.doesNotMatch((await run('docker', 'context', 'ls')).stdout, /in-vm/)

  // Without a VM nobody waits, and the socket closes at once.
  await call('stop')
  await rejected(adapter('listContainers'), 'VM_NOT_RUNNING')
  assert.notEqual((await curl('/_ping')).status, 0)

  // The other engine: the VM is restarted with it, and told to let the first one rest. What that holds is listed.
  await call('start')
  const [own, other] = ['own', 'other'].map((name) => `left-${name}-${process.pid}`)
  const { api } = sharedEngine()
  t.after(() => Promise.all([own, other].map((name) => api('DELETE', `/containers/${name}?force=1`).catch(() => {}))))
  await adapter('startContainer', { name: own, image: IMAGES.busybox, command: ['sleep', '1000'] })
  await call('execDocker', [
    '-H',
    `unix://${engineSocket}`,
    'create',
    '--name',
    other,
    '--label',
    'a="b\\c"',
    IMAGES.busybox,
    'true',
  ])
  assert.equal((await call('getStatus')).left, undefined)
  const bin = (name) => existsSync(join(rig.options.dataDir, 'bin', name))
  assert.deepEqual([bin('docker'), bin('nerdctl')], [true, false])
  const back = { ...rig.options }
  await ask({ options: back, method: 'start' })
  assert.deepEqual([bin('docker'), bin('nerdctl')], [false, true])
  assert.match(yaml(), /containerd:\n(?: {2}.*\n)* {2}system: true\n/)
  const said = readFileSync(join(rig.options.dataDir, 'guest.log'), 'utf8')
  assert.match(said, /disable --now[\s\S]*docker\.socket docker\.service/)
  const { left } = await ask({ options: back, method: 'getStatus' })
  const kept = (name) => left.find((container) => container.name === name)
  assert.deepEqual([kept(own).own, kept(own).state, kept(own).image], [true, 'exited', IMAGES.busybox])
  assert.ok(kept(own).created instanceof Date)
  assert.equal(kept(other).own, false)
  for (const [method, ...args] of [['execDocker', ['ps']], ['getDockerPath'], ['getDockerSocketPath']]) {
    const { message } = await rejected(ask({ options: back, method, args }), 'NOT_INSTALLED')
    assert.match(message, /There is no docker in the VM: its engine is containerd/)
  }
  await rejected(ask({ options: back, method: 'registerDockerContext' }), 'NOT_INSTALLED')

  // And back: there it is again.
  await ask({ options: back, method: 'stop' })
  await call('start')
  assert.equal((await call('getStatus')).left, undefined)
  assert.ok((await adapter('listContainers', { all: true })).some(({ name }) => name === own))

  // A manager of runtimes tells of the application's own. There is no containerd in this guest that could have held them.
  const noted = join(rig.vm, 'lima-runtime.left.json')
  writeFileSync(noted, readFileSync(noted, 'utf8').replace('"engine":"docker"', '"engine":"containerd"'))
  const { engine, ...lima } = options
  const { said: changes, status } = await ask({ method: 'changes', args: [{ preferred: 'lima', engine, lima }] })
  assert.equal(status.engine, 'docker')
  const [{ from, to, left: ours }] = changes
  assert.deepEqual([from, to], ['none', 'lima'])
  assert.ok(ours.some(({ name }) => name === own) && !ours.some(({ name }) => name === other))
  assert.ok(!('own' in ours[0]))

  await call('delete')
  await call('uninstall')
  assert.ok(!existsSync(socket))
})

test('a daemon that is dead, that hangs, or that has no room: mended without another boot, or named', {
  skip,
  timeout: 600_000,
}, async (t) => {
  const rig = await limaRig(t)
  const daemon = await relay(t, join(rig.dir, 'engine.sock'))
  const options = { ...rig.options, engine: 'docker', engineSocket: daemon.path }
  const { ask } = rig.app()
  const call = (method, ...args) => ask({ options, method, args })
  const at = (name) => join(rig.options.dataDir, name)
  const boots = () => readFileSync(at('boots'), 'utf8').trim().split('\n').length
  const restarts = () => readFileSync(at('guest.log'), 'utf8').split('systemctl restart docker.service').length - 1
  const finding = async () => (await call('diagnose')).find(({ id }) => id === 'docker')
  await call('start')
  assert.deepEqual([boots(), restarts()], [1, 0])
  assert.equal((await finding()).status, 'ok')

  const faults = {
    dead: { breaks: daemon.close, mends: daemon.open },
    hangs: { breaks: () => daemon.hang(true), mends: () => daemon.hang(false) },
  }
  for (const [name, { breaks, mends }] of Object.entries(faults)) {
    const before = restarts()
    await breaks()
    const found = await finding()
    assert.equal(found.status, 'fail', name)
    assert.match(found.detail, /docker\.service: masked, masked, inactive, dead/, name)
    assert.match(found.hint, /start\(\)/, name)
    const started = call('start')
    await waitFor(`a restart of the daemon that ${name}`, () => restarts() > before, { timeoutMs: 180_000 })
    await mends()
    await started
    assert.equal(boots(), 1, name)
    assert.equal((await finding()).status, 'ok', name)
  }

  // No room for what it writes: said at once, with what to do, and the VM is left as it is.
  writeFileSync(at('guest-full'), '')
  const full = await rejected(call('start'), 'DISK_FULL')
  assert.match(full.message, /the VM's disk is full/)
  assert.equal(boots(), 1)
  await daemon.close()
  const found = await finding()
  assert.match(found.detail, /the VM's disk is full/)
  assert.match(found.hint, /configure\(\)/)
  rmSync(at('guest-full'))
  await daemon.open()
  await call('start')
  assert.equal(boots(), 1)

  // One that runs on a full disk may hide what it holds: the call ends well, and says so.
  writeFileSync(at('guest-packed'), '')
  await call('warnings')
  await call('start')
  const packed = (await call('warnings')).filter(({ code }) => code === 'DISK_FULL')
  assert.match(packed.map(({ message }) => message).join(), /disk is full: containers may be hidden/)
  rmSync(at('guest-packed'))
  await call('start')
  assert.deepEqual(await call('warnings'), [])

  // What an older engine's store holds and this one does not list is said.
  writeFileSync(
    at('older-containers'),
    ['a', 'b'].map((id) => `/var/lib/docker/containers/${id}/config.v2.json\n`).join(''),
  )
  await call('warnings')
  await call('start')
  const [warning] = (await call('warnings')).filter(({ code }) => code === 'ENGINE_WARNING')
  assert.match(warning.message, /older Docker Engine with another image store, 2 of them/)

  // What is collected names the engine and has its log.
  const archive = await call('collectDiagnostics', join(rig.home, 'diagnostics.tar.gz'))
  const held = (name) =>
    rig.run('tar', ['-xzOf', archive, `lima-runtime-diagnostics/${name}`], { encoding: 'utf8' }).stdout
  assert.equal(JSON.parse(held('about.json')).engine, 'docker')
  assert.match(held('guest/docker.log'), /dockerd: what it said last/)

  // The daemon first, so that restart policies stay as they are; then the containers.
  await call('stop')
  assert.match(readFileSync(at('guest.log'), 'utf8'), /systemctl stop[\s\S]*docker\.socket docker\.service\n$/)
})

/** An archive of a Docker Engine whose programs nobody runs: the engine of this guest is another. */
function dockerArchive() {
  const dir = tempDir('docker-archive')
  mkdirSync(join(dir, 'docker'))
  for (const name of ['dockerd', 'docker', 'containerd', 'runc'])
    writeFileSync(join(dir, 'docker', name), '#!/bin/sh\n', { mode: 0o755 })
  execFileSync('tar', ['-C', dir, '-czf', join(dir, 'docker.tgz'), 'docker'])
  return readFileSync(join(dir, 'docker.tgz'))
}

test('a project of compose in the VM: the program is fetched and runs there, and nothing of it here', {
  skip: skip ?? noGuest() ?? noComposeToBring(),
  timeout: 600_000,
}, async (t) => {
  const rig = await limaRig(t, { docker: dockerArchive(), compose: composeProgram() })
  const user = ordinaryUser()
  const guest = await startGuest(user)
  t.after(() => guest.stop())
  // What root writes there is the guest's own.
  const etc = `lowerdir=/etc,upperdir=${guest.dir}/etc,workdir=${guest.dir}/work`
  guest.run('mount', '-t', 'overlay', 'overlay', '-o', etc, '/etc')
  guest.run('mount', '-t', 'tmpfs', 'tmpfs', '/usr/local/lib')
  mkdirSync(rig.options.dataDir)
  writeFileSync(join(rig.options.dataDir, 'guest'), guest.enter.join('\n'))
  // The guest sees this directory at another place.
  const shared = join(rig.dir, 'shared')
  mkdirSync(shared)
  guest.run('sh', '-c', `mkdir /run/project; mount --bind ${shared} /run/project`)
  for (const path of [rig.options.dataDir, shared]) if (user.uid !== undefined) chownSync(path, user.uid, user.gid)
  const { path: engineSocket } = await relay(t, join(rig.dir, 'engine.sock'))
  const mounts = [{ location: shared, mountPoint: '/run/project' }]
  const resources = { ...rig.options.resources, mounts }
  const options = { ...rig.options, engine: 'docker', engineSocket, resources }
  // No plugin of the user's, and a variable that compose must not see.
  const { ask } = rig.app({ DOCKER_CONFIG: join(rig.home, '.docker'), TAG: 'leaked' })
  const call = (method, ...args) => ask({ options, method, args })
  const adapter = (method, ...args) => call('adapter', method, ...args)
  const program = mirrored(composeUrl())
  await call('start')
  assert.equal(rig.server.requests(program).length, 0, 'a start does not need it')

  const file = join(shared, 'compose.yaml')
  writeFileSync(join(shared, '.env'), 'FROM_ENV=of the directory\n')
  writeFileSync(join(shared, 'token'), 'of a file')
  const name = `in-vm-project-${process.pid}`
  writeFileSync(
    file,
    `name: ${name}
services:
  app:
    image: ${IMAGES.busybox}
    command: ["sleep", "1000"]
    init: true
    environment: { FROM_ENV: "\${FROM_ENV}", GIVEN: "\${GIVEN}", TAG: "\${TAG:-nothing}" }
    labels: { there: "\${PWD}" }
`,
  )
  const left = [`/containers/${name}-app-1?force=1`, `/networks/${name}_default`, `/images/${name}-app?force=1`]
  t.after(async () => {
    for (const path of left)
      await sharedEngine()
        .api('DELETE', path)
        .catch(() => {})
  })
  // Both at once: it comes once.
  const env = { GIVEN: "it's $x" }
  await Promise.all([
    adapter('composeUp', file, { env }),
    adapter('composePs', file),
    adapter('composeDown', {
      name: `${name}-other`,
      services: { app: { image: IMAGES.busybox } },
    }),
  ])
  assert.equal(rig.server.requests(program).length, 1)
  const [{ id, service, state }] = await adapter('composePs', file)
  assert.deepEqual([service, state], ['app', 'running'])
  const details = await adapter('getContainerDetails', id)
  const { FROM_ENV, GIVEN, TAG } = details.env
  assert.deepEqual([FROM_ENV, GIVEN, TAG], ['of the directory', "it's $x", 'nothing'])
  assert.equal(details.labels['com.docker.compose.project.working_dir'], '/run/project')
  const placed = guest.run('sh', '-c', 'ls -l /usr/local/lib/lima-runtime/compose/*/docker-compose')
  assert.match(placed, /^-rwxr-xr-x 1 root root/)
  assert.ok(!existsSync('/usr/local/lib/lima-runtime/compose'), 'nothing of it is here')

  // Built by the engine's BuildKit, which compose would have needed a plugin for.
  mkdirSync(join(shared, 'app'))
  const steps = [`FROM ${IMAGES.busybox}`, 'ARG WORD', 'RUN --mount=type=tmpfs,target=/t echo "$WORD" >/word']
  writeFileSync(join(shared, 'app/Dockerfile'), steps.join('\n'))
  const app = { build: { context: './app', args: { WORD: 'a$$b' } }, command: ['sleep', '1000'], init: true }
  const built = { name, services: { app } }
  await adapter('composeUp', built, { directory: shared })
  const [{ id: ofBuilt }] = await adapter('composePs', built)
  const { stdout } = await adapter('execInContainer', ofBuilt, ['cat', '/word'])
  assert.equal(Buffer.from(stdout).toString(), 'a$b\n')

  // What is wrong is said; the project's directory has to be one that the guest sees.
  const bad = await rejected(adapter('composeUp', { name, services: { app: { imagee: 'x' } } }), 'INVALID_ARGUMENT')
  assert.equal(bad.details.field, 'project')
  writeFileSync(join(rig.dir, 'unseen.yaml'), readFileSync(file))
  const unseen = await rejected(adapter('composeUp', join(rig.dir, 'unseen.yaml')), 'INVALID_ARGUMENT')
  assert.match(unseen.message, /is not in the VM/)

  // A guest that was made anew gets it without another download.
  guest.run('rm', '-rf', '/usr/local/lib/lima-runtime/compose')
  await adapter('composeDown', file)
  assert.deepEqual(await adapter('composePs', file), [])
  assert.equal(rig.server.requests(program).length, 1)

  // Without a VM nobody fetches anything.
  await call('stop')
  await rejected(adapter('composeUp', file, { env }), 'VM_NOT_RUNNING')
})

const rejectable = () => ({ name: `not-made-${process.pid}`, image: IMAGES.busybox })

test('an engine that there is not is refused, and nothing is touched', { skip }, async (t) => {
  const rig = await limaRig(t)
  const { ask } = rig.app()
  for (const engine of ['podman', '', 7, null]) {
    const error = await ask({ options: { ...rig.options, engine }, method: 'getStatus' }).then(
      () => undefined,
      (e) => e,
    )
    assert.equal(error?.code, 'INVALID_ARGUMENT', `${engine}`)
    assert.equal(error.details.field, 'engine', `${engine}`)
  }
  assert.ok(!existsSync(rig.options.dataDir))
})

test('a data directory too long for the socket is refused before anything is there', { skip }, async (t) => {
  const rig = await limaRig(t)
  const { ask } = rig.app()
  const dataDir = join(rig.dir, 'd'.repeat(100))
  for (const method of ['install', 'initialize', 'start']) {
    const error = await rejected(
      ask({ options: { ...rig.options, engine: 'docker', dataDir }, method }),
      'PATH_TOO_LONG',
    )
    assert.equal(error.details.path, join(dataDir, 'sock', 'docker.sock'))
    assert.equal(error.details.limit, 107)
    assert.match(error.message, /a socket's path at most 107/)
  }
  assert.ok(!existsSync(dataDir))
  assert.equal(rig.server.requests().length, 0)
})
