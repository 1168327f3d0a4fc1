// A Docker Engine in the VM, through the facade: the stand-in for limactl, a real sshd as its guest, and a real dockerd that
// listens in this guest. What Lima and root would do in it (unpacking, systemd) is made up; tests with a real VM do that.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmodSync, existsSync, readFileSync, statSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { IMAGES, sharedEngine } from '../support/engine.mjs'
import { limaRig, missing, ordinaryUser, rejected } from '../support/lima.mjs'

const skip = missing()

/** The shared dockerd's socket, for a user who may not open that. */
async function relay(t, path) {
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const engine = connect({ path: sharedEngine().socket, allowHalfOpen: true })
    for (const [from, to] of [
      [client, engine],
      [engine, client],
    ]) {
      from.pipe(to)
      from.on('error', () => to.destroy())
    }
  })
  await new Promise((resolve) => server.listen(path, resolve))
  chmodSync(path, 0o777)
  t.after(() => server.close())
  return path
}

test('a Docker Engine in the VM: adapter, socket, program, context, and the way back to containerd', {
  skip,
  timeout: 300_000,
}, async (t) => {
  const rig = await limaRig(t)
  const engineSocket = await relay(t, join(rig.dir, 'engine.sock'))
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
  await rejected(call('execNerdctl', ['ps']), 'NOT_INSTALLED')
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

  // The other engine: the VM is restarted with it, and told to let the first one rest.
  await call('start')
  const back = { ...rig.options }
  await ask({ options: back, method: 'start' })
  assert.match(yaml(), /containerd:\n(?: {2}.*\n)* {2}system: true\n/)
  const said = readFileSync(join(rig.options.dataDir, 'guest.log'), 'utf8')
  assert.match(said, /disable --now[\s\S]*docker\.socket docker\.service/)
  await rejected(ask({ options: back, method: 'execDocker', args: [['ps']] }), 'NOT_INSTALLED')
  await rejected(ask({ options: back, method: 'registerDockerContext' }), 'NOT_INSTALLED')

  await ask({ options: back, method: 'delete' })
  await call('uninstall')
  assert.ok(!existsSync(socket))
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
  }
})
