// The VM through the facade, as an ordinary user, with the stand-in for limactl and a real sshd as its guest.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import http from 'node:http'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { LimaContainerAdapter, LimaRuntimeManager } from 'lima-runtime'
import { random, rounds, snapshot } from '../support/installs.mjs'
import { LIMAS, limaRig, missing, rejected } from '../support/lima.mjs'
import { freePort } from '../support/ports.mjs'
import { processesWith, signalWriterOf } from '../support/process.mjs'
import { PLATFORM } from '../support/release-files.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'

const skip = missing()

function makeKey(dir) {
  const path = join(dir, 'another-key')
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path])
  return path
}

/** What answers a datagram to `port`. */
const askUdp = (port) =>
  new Promise((resolve, reject) => {
    const socket = createSocket('udp4').on('error', reject)
    socket.once('message', (answer) => {
      socket.close()
      resolve(answer.toString())
    })
    socket.send('hello', port, '127.0.0.1')
    setTimeout(() => reject(new Error(`nothing answers at UDP port ${port}`)), 30_000).unref()
  })

const get = (port) =>
  new Promise((resolve, reject) => {
    http
      .get({ port, host: '127.0.0.1', agent: false }, (response) => {
        response.setEncoding('utf8').once('data', resolve)
      })
      .on('error', reject)
  })

for (const version of LIMAS)
  test(`from nothing to a container that answers, and back, with Lima ${version}`, { skip }, (t) => journey(t, version))

async function journey(t, version) {
  const rig = await limaRig(t, { version })
  const { call, ask } = rig.app()
  const manifest = JSON.parse(readFileSync(rig.options.manifest, 'utf8'))
  const [source] = manifest.components.image.versions['24.04'].platforms[PLATFORM].sources
  source.kernel = { url: 'https://images.invalid/vmlinuz', sha256: 'a'.repeat(64), cmdline: 'root=/dev/vda ro' }
  source.initrd = { url: 'https://images.invalid/initrd', sha256: 'b'.repeat(64) }
  writeFileSync(rig.options.manifest, JSON.stringify(manifest))
  assert.equal((await call('getStatus')).state, 'not-installed')
  assert.equal(await call('isRunning'), false)
  assert.equal((await call('getStatus')).resources.cpus, 1)
  await rejected(call('getVMInfo'), 'INVALID_STATE')
  await rejected(call('execNerdctl', ['ps']), 'VM_NOT_RUNNING')

  const events = await call('progress', 'start')
  const phases = [...new Set(events.map((e) => e.phase))]
  assert.deepEqual(phases, ['resolve', 'download', 'extract', 'create', 'boot', 'provision', 'ready'])
  const components = new Set(
    events.filter((e) => e.phase === 'download').flatMap((e) => e.message.match(/Lima|image|containerd/g)),
  )
  assert.deepEqual([...components].sort(), ['Lima', 'containerd', 'image'])
  for (const phase of phases) {
    const percents = events.filter((e) => e.phase === phase && e.percent !== undefined).map((e) => e.percent)
    assert.deepEqual(
      percents,
      percents.toSorted((a, b) => a - b),
      phase,
    )
  }
  assert.equal(events.filter((e) => e.phase === 'ready').length, 1, 'an installation is not yet a VM')
  assert.deepEqual(await ask({ method: 'events' }), ['starting', 'running'])

  const status = await call('getStatus')
  assert.deepEqual([status.state, status.limaVersion, status.resources.memory], ['running', version, 512 * 2 ** 20])
  assert.equal(await call('isRunning'), true)
  const info = await call('getVMInfo')
  assert.deepEqual([info.name, info.status, info.dir, info.cpus], ['default', 'running', rig.vm, 1])
  assert.ok(info.sshPort > 0 && info.sshPort !== 60022)
  const yaml = readFileSync(join(rig.vm, 'lima.yaml'), 'utf8')
  assert.match(yaml, /location: .*cache\/download\/.*img/, 'Lima was to copy our image, not to download it')
  assert.match(yaml, /location: .*cache\/download\/.*nerdctl-full/)
  assert.match(
    yaml,
    new RegExp(
      `location: ${rig.options.mirror}/?images.invalid/vmlinuz\\s+digest: sha256:a{64}\\s+cmdline: root=/dev/vda ro`,
    ),
  )
  assert.match(yaml, /images.invalid\/initrd\s+digest: sha256:b{64}/)

  // What a shell would take apart.
  const args = ['', ' ', "it's", '"$(id)"', '`x`', '\\', '\n', '-n', 'é\u{1f600}']
  assert.equal(await call('execNerdctl', ['argv', ...args]), args.map((a) => `${a}\0`).join(''))
  assert.equal(await call('execNerdctl', ['cat'], { input: 'text' }), 'text')
  assert.deepEqual(await call('spoilt'), Array(10).fill(true))
  const failed = await rejected(call('execNerdctl', ['exit', '7']), 'ENGINE_ERROR')
  assert.equal(failed.details.exitCode, 7)
  assert.match(failed.details.stderr, /no such container/)
  await rejected(call('execNerdctl', ['sleep'], { timeoutMs: 50 }), 'TIMEOUT')
  assert.ok((await rejected(call('execNerdctl', ['argv', '\0']), 'INVALID_ARGUMENT')).details.field)

  const port = await freePort()
  assert.match(await call('execNerdctl', ['run', '-d', '-p', `${port}:80`, 'web']), /^\d{64}\n$/)
  assert.equal(await get(port), 'from the container\n', 'the port was to be open by now')
  // Somebody else's is named before anything is made.
  const other = createServer().listen(0, '127.0.0.1')
  t.after(() => other.close())
  await new Promise((resolve) => other.once('listening', resolve))
  const taken = await rejected(
    call('execNerdctl', ['run', '-d', '-p', `${other.address().port}:80`, 'web']),
    'PORT_IN_USE',
  )
  assert.equal(taken.details.port, other.address().port)
  // The host agent holds the port of a container that is gone for a moment: that is no other program.
  await call('execNerdctl', ['rm', '-f', 'web'])
  await call('execNerdctl', ['run', '-d', '-p', `${port}:80`, 'web'])
  // UDP as TCP, and apart from it.
  await call('execNerdctl', ['run', '-d', '-p', `${port}:53/udp`, 'dns'])
  assert.equal(await askUdp(port), 'from the container\n', 'the port was to be open by now')
  const foreign = createSocket('udp4').bind(0, '127.0.0.1')
  t.after(() => foreign.close())
  await new Promise((resolve) => foreign.once('listening', resolve))
  const theirs = foreign.address().port
  const { details } = await rejected(call('execNerdctl', ['run', '-d', '-p', `${theirs}:53/udp`, 'dns']), 'PORT_IN_USE')
  assert.deepEqual([details.port, details.protocol], [theirs, 'udp'])
  assert.deepEqual(await call('warnings'), [])

  await call('stop')
  assert.equal((await call('getStatus')).state, 'stopped')
  await rejected(call('execNerdctl', ['ps']), 'VM_NOT_RUNNING')
  await call('start')
  await call('restart')
  await call('delete')
  assert.equal((await call('getStatus')).state, 'not-created')
  const told = await ask({ method: 'events' })
  assert.deepEqual(told, [
    'stopping',
    'stopped',
    'starting',
    'running',
    'stopping',
    'starting',
    'running',
    'stopping',
    'not-created',
  ])
  await call('uninstall')
  for (const name of ['bin', 'versions', 'vms', 'cache', 'install.json', 'lock'])
    assert.equal(existsSync(join(rig.options.dataDir, name)), false, name)
  await waitFor('all processes are gone', () => processesWith(`${rig.options.dataDir}/`).length === 0)
}

test('a VM of Lima 1.2.1 is started by 2.2.0, with what it holds, and never again by 1.2.1', { skip }, async (t) => {
  const rig = await limaRig(t, { version: ['1.2.1', '2.2.0'] })
  const { ask } = rig.app()
  const lima = (version, method) => ask({ options: { ...rig.options, versions: { lima: version } }, method })
  const ran = () => readFileSync(join(rig.options.dataDir, 'boots'), 'utf8').trim().split('\n')
  await lima('1.2.1', 'start')
  writeFileSync(join(rig.vm, 'diffdisk'), 'what it holds')
  // Under a VM that runs nothing is changed.
  await lima('2.2.0', 'start')
  assert.deepEqual(ran(), ['1.2.1'])
  await lima('2.2.0', 'stop')
  await lima('2.2.0', 'start')
  assert.deepEqual(ran(), ['1.2.1', '2.2.0'])
  assert.equal(readFileSync(join(rig.vm, 'disk'), 'utf8'), 'what it holds')
  await lima('2.2.0', 'stop')
  const before = snapshot(rig.vm)
  await rejected(lima('1.2.1', 'start'), 'INVALID_STATE')
  assert.deepEqual(snapshot(rig.vm), before)
  // Whoever asks for none gets the one that it has.
  await ask({ method: 'start' })
  assert.deepEqual(ran(), ['1.2.1', '2.2.0', '2.2.0'])
  // Without the VM, and what it holds, the older one may come back.
  await ask({ method: 'delete' })
  await lima('1.2.1', 'start')
  assert.equal(ran().at(-1), '1.2.1')
  assert.ok(existsSync(join(rig.vm, 'diffdisk')))
})

test('the wrapper programs know the VM, ask nothing and hand everything on', { skip }, async (t) => {
  const rig = await limaRig(t)
  const options = { ...rig.options, dataDir: join(rig.dir, 'mit Raum & é'), namespace: 'kai' }
  const { ask } = rig.app()
  const call = (method, ...args) => ask({ options, method, args })
  const [lima, nerdctl] = [await call('getLimaPath'), await call('getNerdctlPath')]
  await call('install')
  const stopped = rig.run(nerdctl, ['ps'])
  assert.equal(stopped.status, 255)
  assert.match(stopped.stderr.toString(), /^nerdctl: the VM is not running/)
  await call('start')
  const args = ['', ' a', "it's", '$(id)', '\n', '--', '-x', 'é']
  const out = rig.run(nerdctl, ['argv', ...args])
  assert.equal(out.stdout.toString(), args.map((a) => `${a}\0`).join(''), out.stderr.toString())
  assert.equal(rig.run(nerdctl, ['exit', '7']).status, 7)
  assert.equal(rig.run(nerdctl, ['cat'], { input: Buffer.from([0, 255, 10]) }).stdout.toString('hex'), '00ff0a')
  // A terminal is asked for where there is one; an sshd without root has none to give.
  const fake = join(rig.dir, 'fake')
  mkdirSync(fake)
  writeFileSync(join(fake, 'ssh'), '#!/bin/sh\necho "$*"\n', { mode: 0o755 })
  const env = { PATH: `${fake}:/usr/bin:/bin`, HOME: rig.home }
  const quoted = `'${nerdctl.replaceAll("'", "'\\''")}' ps`
  assert.match(rig.run('script', ['-qec', quoted, '/dev/null'], { env }).stdout.toString(), / -t lima-default /)
  assert.match(rig.run(nerdctl, ['ps'], { env }).stdout.toString(), / -T lima-default /)
  assert.match(readFileSync(join(options.dataDir, 'guest.log'), 'utf8'), /nerdctl --namespace kai argv/)
  assert.equal(rig.run(lima, ['sh', '-c', 'echo "$0 $1"', 'a', '$b']).stdout.toString(), 'a $b\n')
  assert.equal(rig.run(lima, [], { input: 'exit 9\n' }).status, 9)
  // Another server at the VM's port is not the VM.
  const knownHosts = join(options.dataDir, 'vms/default/lima-runtime.known_hosts')
  const known = readFileSync(knownHosts, 'utf8')
  const other = execFileSync('ssh-keygen', ['-y', '-f', makeKey(rig.dir)], { encoding: 'utf8' })
  for (const text of [`lima-default ${other}`, '']) {
    writeFileSync(knownHosts, text)
    const refused = rig.run(nerdctl, ['argv', 'secret'])
    assert.deepEqual([refused.status, refused.stdout.toString()], [255, ''])
    assert.match(refused.stderr.toString(), /host key/i)
  }
  writeFileSync(knownHosts, known)
  assert.equal(rig.run(nerdctl, ['argv', 'x']).stdout.toString(), 'x\0')
  await call('stop')
  assert.equal(rig.run(nerdctl, ['ps']).status, 255)
  await call('uninstall')
  assert.equal(existsSync(nerdctl), false)
})

test('resources are changed between two boots, kept, and refused where data would be lost', { skip }, async (t) => {
  const rig = await limaRig(t)
  const { call } = rig.app()
  assert.deepEqual(await call('configure', { memory: '600MiB', disk: '20GiB' }), { restartRequired: false })
  await call('start')
  const info = await call('getVMInfo')
  assert.deepEqual([info.memory, info.disk], [600 * 2 ** 20, 20 * 2 ** 30])
  const settings = () =>
    ['state.json', 'vms/default/lima.yaml'].map((f) => readFileSync(join(rig.options.dataDir, f), 'utf8'))
  const before = settings()
  for (const [field, value] of [
    ['cpus', 0],
    ['cpus', 1.5],
    ['cpus', 10_000],
    ['memory', '4'],
    ['memory', '4GB'],
    ['memory', '-1'],
    ['memory', '4096GiB'],
    ['disk', '10GiB'],
    ['mounts', [{ location: 'relative' }]],
    ['swap', '1GiB'],
  ]) {
    const error = await rejected(call('configure', { [field]: value }), 'INVALID_ARGUMENT')
    assert.match(error.details.field, new RegExp(`^${field}`))
  }
  assert.deepEqual(settings(), before, 'a refused change changed something')
  assert.deepEqual(await call('configure', { disk: '20GiB' }), { restartRequired: false })
  assert.deepEqual(await call('configure', { disk: '30GiB', mounts: [{ location: '/srv' }] }), {
    restartRequired: true,
  })
  assert.equal((await call('getVMInfo')).disk, 20 * 2 ** 30, 'a running VM has what it booted with')
  await call('restart')
  const { resources } = await call('getStatus')
  assert.deepEqual(
    [resources.memory, resources.disk, resources.mounts[0].location],
    [600 * 2 ** 20, 30 * 2 ** 30, '/srv'],
  )
  // Another run of the application, and a new VM.
  await rig.app().call('factoryReset')
  assert.equal((await call('getVMInfo')).disk, 30 * 2 ** 30)
})

for (const version of LIMAS) {
  test(`what a VM's engines keep outlives it, and goes with it only when asked, with Lima ${version}`, {
    skip,
  }, async (t) => {
    const rig = await limaRig(t, { version })
    const { call } = rig.app()
    await call('configure', { disk: '6GiB' })
    await call('start')
    assert.equal((await call('getStatus')).keptData, undefined, 'it is the VM that has it')
    const disks = join(rig.options.dataDir, 'vms', '_disks')
    const file = () => join(disks, readdirSync(disks)[0], 'datadisk')
    assert.deepEqual([statSync(file()).size, statSync(file()).mode & 0o777], [6 * 2 ** 30, 0o600])
    const write = (text) => {
      const disk = openSync(file(), 'r+')
      writeSync(disk, text, 2 ** 21)
      closeSync(disk)
    }
    const held = () => {
      const [disk, bytes] = [openSync(file(), 'r'), Buffer.alloc(8)]
      readSync(disk, bytes, 0, 8, 2 ** 21)
      closeSync(disk)
      return `${bytes}`
    }
    write('the data')
    await rejected(call('delete', { keepData: 1 }), 'INVALID_ARGUMENT')
    await rejected(call('delete', { keep: true }), 'INVALID_ARGUMENT')
    await call('delete', { keepData: true })
    const kept = await call('getStatus')
    assert.deepEqual([kept.state, kept.keptData.disk, kept.resources.disk], ['not-created', 6 * 2 ** 30, 6 * 2 ** 30])
    assert.ok(kept.keptData.used > 0 && kept.keptData.used < 2 ** 21, `${kept.keptData.used}`)
    assert.deepEqual(readdirSync(join(rig.options.dataDir, 'vms')).sort(), ['_config', '_disks'])
    const { details } = await rejected(call('configure', { disk: '5GiB' }), 'INVALID_ARGUMENT')
    assert.equal(details.field, 'disk')
    // What is installed may go, and come again.
    await call('uninstall', { keepData: true })
    assert.deepEqual([(await call('getStatus')).state, held()], ['not-installed', 'the data'])
    await call('configure', { disk: '7GiB' })
    await call('start')
    assert.deepEqual([held(), (await call('getVMInfo')).disk], ['the data', 7 * 2 ** 30])
    await call('factoryReset', { keepData: true })
    assert.equal(held(), 'the data')
    await call('factoryReset')
    assert.equal(held(), '\0'.repeat(8))
    write('the data')
    await call('delete', { keepData: true })
    await call('delete')
    assert.deepEqual(readdirSync(disks), [])
    assert.equal((await call('getStatus')).keptData, undefined)
  })
}

test('two applications start at once and one is killed: the other succeeds', { skip }, async (t) => {
  const rig = await limaRig(t)
  const rand = random(t)
  for (let round = 0; round < rounds(3, 20); round++) {
    const [one, two] = [rig.app(), rig.app()]
    await Promise.all([one.call('isRunning'), two.call('isRunning')])
    const [lost, kept] = [one.call('start').catch((e) => e), two.call('start')]
    const delay = setTimeout(() => one.child.kill('SIGKILL'), rand() * 1500)
    await kept
    clearTimeout(delay)
    one.child.kill('SIGKILL')
    await lost
    assert.equal((await two.call('getStatus')).state, 'running')
    assert.equal(await two.call('execNerdctl', ['argv', 'x']), 'x\0')
    await two.call(round % 2 ? 'stop' : 'delete')
    two.child.kill()
  }
})

test('a start given up at any moment rejects, and the next succeeds', { skip }, async (t) => {
  const rig = await limaRig(t)
  const rand = random(t)
  const { call, ask } = rig.app()
  const began = performance.now()
  await call('start')
  const whole = performance.now() - began
  let aborted = 0
  for (let round = 0; round < rounds(30, 100); round++) {
    await call(round % 3 ? 'stop' : 'delete')
    aborted += await ask({ method: 'start', abortAfterMs: rand() * whole })
    await call('start')
  }
  assert.ok(aborted > 0, 'no start was given up before its end')
  await call('stop')
  await waitFor('no orphan', () => processesWith(`${rig.options.dataDir}/`).length === 0)
})

test("the user's own Lima stays as it is, whatever is called", { skip }, async (t) => {
  const rig = await limaRig(t)
  const own = join(rig.home, '.lima', 'default')
  mkdirSync(own, { recursive: true })
  mkdirSync(join(rig.home, 'Library', 'LaunchAgents'), { recursive: true })
  writeFileSync(join(rig.home, 'Library', 'LaunchAgents', 'io.lima-vm.autostart.default.plist'), 'theirs')
  for (const name of ['lima.yaml', 'diffdisk', 'ssh.config', 'ha.pid', 'ha.sock'])
    writeFileSync(join(own, name), 'theirs')
  const all = () => [snapshot(join(rig.home, '.lima')), snapshot(join(rig.home, 'Library')), statSync(own).mtimeMs]
  const before = all()
  const { call } = rig.app({ LIMA_HOME: join(rig.home, '.lima'), LIMA_INSTANCE: 'default' })
  const still = (what) => assert.deepEqual(all(), before, what)
  const methods = [
    ['initialize'],
    ['start'],
    ['getStatus'],
    ['getVMInfo'],
    ['execNerdctl', ['argv']],
    ['configure', { memory: '600MiB' }],
    ['notifySuspend'],
    ['notifyResume'],
    ['restart'],
    ['factoryReset'],
    ['stop'],
    ['delete'],
    ['uninstall'],
  ]
  for (const [method, ...args] of methods) {
    if (method === 'stop') {
      for (const path of [await call('getLimaPath'), await call('getNerdctlPath')]) {
        const env = {
          PATH: '/usr/bin:/bin',
          HOME: rig.home,
          LIMA_HOME: join(rig.home, '.lima'),
          LIMA_INSTANCE: 'default',
        }
        assert.equal(rig.run(path, ['true'], { env }).status, 0)
        still(path)
      }
    }
    await call(method, ...args)
    still(method)
  }
})

test('after a sleep the clock is set, and a VM that died is brought back', { skip }, async (t) => {
  const rig = await limaRig(t)
  const { call } = rig.app()
  await call('notifyResume')
  assert.equal(existsSync(rig.vm), false, 'a VM at rest stays so')
  await call('start')
  await call('notifySuspend')
  await call('notifyResume')
  assert.match(readFileSync(join(rig.options.dataDir, 'guest.log'), 'utf8'), /date -s/)
  signalWriterOf(join(rig.vm, 'qemu.pid'))
  await waitFor('the VM is known to be dead', async () => (await call('getStatus')).state !== 'running')
  await call('notifyResume')
  assert.equal((await call('getStatus')).state, 'running')
  assert.equal(await call('execNerdctl', ['argv', 'x']), 'x\0')
})

test('bad places and settings are refused, with nothing changed', { skip }, async (t) => {
  const rig = await limaRig(t)
  const { ask } = rig.app()
  const dataDir = join(rig.dir, 'bad')
  const start = (more) => ask({ options: { ...rig.options, dataDir, ...more }, method: 'start' })
  for (const [more, code, field] of [
    [{ resources: { cpus: 0 } }, 'INVALID_ARGUMENT', 'resources.cpus'],
    [{ resources: { cpus: 1.5 } }, 'INVALID_ARGUMENT', 'resources.cpus'],
    [{ resources: { cpus: 10_000 } }, 'INVALID_ARGUMENT', 'resources.cpus'],
    [{ resources: { memory: '4' } }, 'INVALID_ARGUMENT', 'resources.memory'],
    [{ resources: { memory: '4GB' } }, 'INVALID_ARGUMENT', 'resources.memory'],
    [{ resources: { memory: '-1' } }, 'INVALID_ARGUMENT', 'resources.memory'],
    [{ resources: { memory: '4096GiB' } }, 'INVALID_ARGUMENT', 'resources.memory'],
    [{ resources: { cores: 2 } }, 'INVALID_ARGUMENT', 'resources.cores'],
    [{ memory: '4GiB' }, 'INVALID_ARGUMENT', 'memory'],
    [{ instance: 'a/b' }, 'INVALID_ARGUMENT', 'instance'],
    [{ instance: 'x'.repeat(80) }, 'INVALID_ARGUMENT', 'instance'],
    [{ dataDir: join(dataDir, 'x'.repeat(60)), appName: 'y'.repeat(60) }, 'PATH_TOO_LONG'],
  ]) {
    const error = await rejected(start(more), code)
    if (field) assert.equal(error.details.field, field, JSON.stringify(more))
    assert.equal(existsSync(dataDir), false, JSON.stringify(more))
  }
  // A name is a part of paths that are removed.
  mkdirSync(join(dataDir, 'vms', '_disks'), { recursive: true })
  for (const instance of ['', '..', '_disks', join(rig.dir, 'bad', 'vms')])
    for (const method of ['delete', 'factoryReset', 'discardPrevious', 'stop']) {
      const error = await rejected(ask({ options: { ...rig.options, dataDir, instance }, method }), 'INVALID_ARGUMENT')
      assert.equal(error.details.field, 'instance', `${method} ${instance}`)
      assert.ok(existsSync(join(dataDir, 'vms', '_disks')), `${method} ${instance}`)
    }
  // Too long for a socket, with a home short enough: the VM lies there, and all else where it was wanted.
  const long = join(rig.dir, 'l'.repeat(60))
  await ask({ options: { ...rig.options, dataDir: long, appName: 'kai' }, method: 'start' })
  const { dir } = await ask({ options: { ...rig.options, dataDir: long, appName: 'kai' }, method: 'getVMInfo' })
  assert.equal(dir, join(rig.home, '.kai', 'lima', 'default'))
  const { status, stdout } = rig.run(join(long, 'bin', 'nerdctl'), ['argv', 'x'])
  assert.deepEqual([status, stdout.toString()], [0, 'x\0'])
  await ask({ options: { ...rig.options, dataDir: long, appName: 'kai' }, method: 'uninstall' }).catch((e) =>
    assert.equal(e.code, 'IN_USE'),
  )
  await ask({ options: { ...rig.options, dataDir: long, appName: 'kai' }, method: 'delete' })

  const shut = join(rig.dir, 'shut')
  mkdirSync(shut)
  chmodSync(shut, 0o555)
  await rejected(ask({ options: { ...rig.options, dataDir: join(shut, 'd') }, method: 'start' }), 'PERMISSION_DENIED')
})

const notRoot = process.getuid() !== 0 && 'only root can be refused as root'

test('root is refused, with nothing changed', { skip: notRoot }, async () => {
  const dataDir = join(tempDir('root'), 'lima')
  const lima = new LimaRuntimeManager({ dataDir })
  const adapter = new LimaContainerAdapter(lima)
  for (const method of [
    'start',
    'stop',
    'restart',
    'delete',
    'factoryReset',
    'upgrade',
    'rollback',
    'discardPrevious',
  ]) {
    const { hint } = await rejected(lima[method](), 'ROOT_USER')
    assert.match(hint, /ordinary user/, method)
  }
  await rejected(adapter.initialize(), 'ROOT_USER')
  assert.equal(existsSync(dataDir), false)
})
