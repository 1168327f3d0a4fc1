// Stands in for limactl where the real one cannot run: the same commands, messages, exit codes and files, with a real sshd
// as the guest. LIMA_STAND_IN says which limactl it is: 1.2.1 or 2.2.0. What they print is recorded in
// tests/fixtures/limactl-<version>; the sequence of a start, the pid files and the sockets stand in docs/reference/lima.md;
// where the two differ, the place in Lima's source at v2.2.0 is named. The file <LIMA_HOME>/../fault names a fault to have,
// once; the file guest beside it has the words, a line each, that a command begins with which runs in a guest with a real
// containerd.
import { spawn, spawnSync } from 'node:child_process'
import dgram from 'node:dgram'
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTcp } from 'node:net'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const VERSION = process.env.LIMA_STAND_IN ?? '2.2.0'
const V2 = VERSION === '2.2.0'
/** Go's %q in 1.x, %#q in 2.x. */
const q = (text) => (V2 ? `\`${text}\`` : `"${text}"`)
const home = process.env.LIMA_HOME
const work = dirname(home)
const log = (level, msg, fields = {}) =>
  process.stderr.write(`${JSON.stringify({ ...fields, level, msg, time: new Date().toISOString() })}\n`)
const info = (msg, fields) => log('info', msg, fields)
const fatal = (msg) => {
  log('fatal', msg)
  process.exit(1)
}
const read = (path) => (existsSync(path) ? readFileSync(path, 'utf8') : '')
const published = join(work, 'published')
/** Empty: sshd runs on this machine, and what it would do as root is made up. */
const guest = read(join(work, 'guest')).split('\n').filter(Boolean)
const dirOf = (name) => join(home, name)

/** The fault asked for, when it is one of `names`; it happens once. */
function fault(...names) {
  const path = join(work, 'fault')
  const asked = read(path).trim()
  if (!names.includes(asked)) return undefined
  rmSync(path)
  return asked
}

/** As limactl does it: by the number alone. The file of one that has ended goes (pkg/store/instance.go, ReadPIDFile). */
function alive(pidFile) {
  const pid = Number.parseInt(read(pidFile), 10)
  if (!(pid > 0)) return 0
  try {
    process.kill(pid, 0)
    return pid
  } catch (e) {
    if (e.code === 'EPERM') return pid
    rmSync(pidFile, { force: true })
    return 0
  }
}

function status(dir) {
  if (!existsSync(join(dir, 'lima.yaml'))) fatal(`open ${dir}/lima.yaml: no such file or directory`)
  const agent = alive(join(dir, 'ha.pid'))
  const driver = alive(join(dir, 'qemu.pid'))
  if (agent && driver) return 'Running'
  return agent || driver ? 'Broken' : 'Stopped'
}

async function create(name) {
  const dir = dirOf(name)
  if (existsSync(dir)) fatal(`instance ${q(name)} already exists`)
  let yaml = ''
  for await (const chunk of process.stdin) yaml += chunk
  info('Terminal is not available, proceeding without opening an editor')
  if (fault('create-empty')) {
    mkdirSync(dir, { recursive: true })
    process.kill(process.pid, 'SIGKILL')
  }
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, 'lima.yaml'), yaml)
  writeFileSync(join(dir, 'lima-version'), VERSION)
  info('Attempting to download the image', { arch: 'x86_64', digest: '', location: '/srv/images/guest.qcow2' })
  if (fault('create-cut')) process.kill(process.pid, 'SIGKILL')
  info(`Downloaded the image from ${q('/srv/images/guest.qcow2')}`)
  // pkg/driver/qemu/qemu.go: the image becomes the disk.
  const [, image] = /^images:\n- location: (\/\S+)/m.exec(yaml) ?? []
  if (V2 && image && readFileSync(image).subarray(0, 3).equals(Buffer.from('QFI')))
    return copyFileSync(image, join(dir, 'disk'))
  if (V2) return writeFileSync(join(dir, 'disk'), 'the disk')
  writeFileSync(join(dir, 'basedisk'), '')
  writeFileSync(join(dir, 'diffdisk'), 'the disk')
}

/** Of the YAML's `additionalDisks`, as we write them. */
const disksOf = (dir) =>
  [...read(join(dir, 'lima.yaml')).matchAll(/- name: (lr-\w+)\n\s+format: (true|false)/g)].map(([, disk, format]) => ({
    disk: join(home, '_disks', disk),
    name: disk,
    format: format === 'true',
  }))

/** pkg/store/disk.go: a link that names the instance's directory. */
function holderOf(disk) {
  try {
    return readlinkSync(join(disk, 'in_use_by'))
  } catch {
    return undefined
  }
}

/**
 * What a driver does with additional disks: takes a lock that a crash leaves, which vz of 1.x never takes over
 * (pkg/driver/vz/vm_darwin.go, attachDisks), as the fault `vz` has it; QEMU and 2.x do for the same instance
 * (pkg/driver/qemu/qemu.go; pkg/store/disk.go, LockForInstance).
 */
function attachDisks(dir) {
  for (const { disk, name } of disksOf(dir)) {
    if (!existsSync(join(disk, 'datadisk'))) return `could not load disk ${q(name)}`
    const holder = holderOf(disk)
    if (holder && (holder !== dir || existsSync(join(work, 'vz')))) return `in use by instance ${q(holder)}`
    rmSync(join(disk, 'in_use_by'), { force: true })
    symlinkSync(dir, join(disk, 'in_use_by'))
  }
  return undefined
}

/** The guest's boot/05-lima-disks.sh: no label and `format`, and the disk is formatted. The label is where a file system begins. */
function formatDisks(dir) {
  for (const { disk, name, format } of disksOf(dir)) {
    const file = openSync(join(disk, 'datadisk'), 'r+')
    const label = Buffer.alloc(5 + name.length)
    readSync(file, label, 0, label.length, 2 ** 20)
    if (`${label}` !== `lima-${name}` && format) {
      appendFileSync(join(work, 'formats'), `${name}\n`)
      writeSync(file, `lima-${name}`, 2 ** 20)
    }
    closeSync(file)
  }
}

async function start(name) {
  const dir = dirOf(name)
  const now = status(dir)
  info(`Using the existing instance ${q(name)}`)
  if (now === 'Running') {
    info(`The instance ${q(name)} is already running. Run \`lima\` to open the shell.`)
    return
  }
  if (now === 'Broken') fatal(`errors inspecting instance: [failed to get Info from ${q(`${dir}/ha.sock`)}]`)
  if (existsSync(join(dir, 'ha.pid'))) {
    const hint = `(hint: remove ${q(`${dir}/ha.pid`)} if the instance is not actually running)`
    fatal(`instance ${q(name)} seems running ${hint}`)
  }
  info(`Starting the instance ${q(name)} with ${V2 ? 'internal ' : ''}VM driver ${q('qemu')}`)
  const file = (f) => join(dir, f)
  if (V2) {
    // pkg/driverutil/disk.go, MigrateDiskLayout.
    if (!existsSync(file('disk')) && existsSync(file('diffdisk'))) symlinkSync('diffdisk', file('disk'))
  } else if (!existsSync(file('diffdisk'))) {
    // docs/reference/lima.md#disk-names: over a disk that it does not know by its name, 1.x makes an empty one.
    writeFileSync(file('diffdisk'), '')
  }
  for (const log of ['ha.stdout.log', 'ha.stderr.log']) rmSync(file(log), { force: true })
  const [out, err] = ['ha.stdout.log', 'ha.stderr.log'].map((f) => openSync(file(f), 'w'))
  const args = [
    fileURLToPath(import.meta.url),
    'hostagent',
    '--pidfile',
    join(dir, 'ha.pid'),
    '--socket',
    join(dir, 'ha.sock'),
    name,
  ]
  const agent = spawn(process.execPath, args, { detached: true, stdio: ['ignore', out, err] })
  closeSync(out)
  closeSync(err)
  let exited = false
  agent.on('exit', () => (exited = true))
  let seen = 0
  for (;;) {
    // First: what was said before the deciding event is passed on before it.
    const events = read(join(dir, 'ha.stdout.log'))
      .split('\n')
      .slice(0, -1)
      .map((l) => JSON.parse(l).status)
    const lines = read(join(dir, 'ha.stderr.log')).split('\n').slice(0, -1)
    for (const line of lines.slice(seen)) {
      const { level, msg, ...fields } = JSON.parse(line)
      if (level !== 'debug') log(level, `[hostagent] ${msg}`, fields)
    }
    seen = lines.length
    const running = events.find((e) => e.running)
    if (running?.degraded) {
      agent.unref()
      fatal(`degraded, status={Running:true Degraded:true Exiting:false Errors:[${running.errors}] SSHLocalPort:1}`)
    }
    if (running) {
      info('READY. Run `lima` to open the shell.')
      agent.unref()
      return process.exit(0)
    }
    if (exited) fatal('host agent process has exited: exit status 1')
    await sleep(20)
  }
}

async function hostagent(name) {
  const dir = dirOf(name)
  const file = (f) => join(dir, f)
  const event = (s) => process.stdout.write(`${JSON.stringify({ time: new Date().toISOString(), status: s })}\n`)
  // cmd/limactl/hostagent.go
  if (V2 && alive(file('ha.pid')))
    fatal(`another hostagent may already be running with pid ${alive(file('ha.pid'))} (pidfile ${q(file('ha.pid'))})`)
  if (!V2 && existsSync(file('ha.pid'))) fatal(`pidfile ${q(file('ha.pid'))} already exists`)
  writeFileSync(file('ha.pid'), `${process.pid}\n`)
  // The agent's socket comes a moment after its pid.
  await sleep(30)
  const port = Number(/localPort: (\d+)/.exec(read(file('lima.yaml')))[1])
  const server = createServer((request, response) => {
    if (request.url !== '/v1/info') return response.writeHead(404).end()
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ sshLocalPort: port }))
  })
  rmSync(file('ha.sock'), { force: true })
  server.listen(file('ha.sock'))
  info(`hostagent socket created at ${file('ha.sock')}`)
  info(`Starting QEMU (hint: to watch the boot progress, see ${q('serial*.log')})`)
  const give_up = (why) => {
    log('debug', `qemu[stderr]: ${why}`)
    event({ exiting: true })
    rmSync(file('ha.pid'), { force: true })
    process.exit(1)
  }
  if (fault('disk-full')) give_up('qemu-system-x86_64: write: No space left on device: no space left on device')
  const unattached = attachDisks(dir)
  if (unattached) give_up(unattached)
  formatDisks(dir)
  guestFiles(dir, port, name)
  const self = fileURLToPath(import.meta.url)
  const serial = openSync(file('serial.log'), 'a')
  const driver = spawn(process.execPath, [self, 'qemu', '-pidfile', file('qemu.pid'), String(port), dir], {
    detached: true,
    stdio: ['ignore', serial, serial, 'ipc'],
  })
  writeFileSync(file('qemu.pid'), `${driver.pid}\n`)
  const booted = await new Promise((resolve) => {
    driver.once('message', () => resolve(true))
    driver.once('exit', () => resolve(false))
  })
  if (!booted) {
    rmSync(file('qemu.pid'))
    give_up(`Could not set up host forwarding rule 'tcp:127.0.0.1:${port}-:22'`)
  }
  driver.disconnect()
  const end = () => {
    // pkg/hostagent/hostagent.go: one of the things done at the end.
    for (const { disk } of disksOf(dir)) rmSync(join(disk, 'in_use_by'), { force: true })
    event({ exiting: true })
    for (const f of ['ha.pid', 'qemu.pid', 'ga.sock']) rmSync(file(f), { force: true })
    process.exit(0)
  }
  const shutDown = () => {
    info('Received SIGINT, shutting down the host agent')
    if (existsSync(file('ssh.sock'))) spawnSync('ssh', ['-F', file('ssh.config'), '-O', 'exit', `lima-${name}`])
    info('Shutting down QEMU with the power button')
    driver.once('exit', end)
    driver.kill('SIGTERM')
  }
  process.on('SIGINT', shutDown)
  appendFileSync(join(work, 'boots'), `${VERSION}\n`)
  const booting = { sshLocalPort: port }
  const running = { running: true, ...booting }
  event(booting)
  info(`SSH Local Port: ${port}`)
  // pkg/hostagent/requirements.go: one more, without sshfs.
  const essential = V2 ? 3 : 2
  info(`Waiting for the essential requirement 1 of ${essential}: ${q('ssh')}`)
  // Network, VPN, a bad image: it waits for minutes (docs/reference/lima.md#hanging-start).
  if (fault('ssh-hangs')) return
  for (let i = 1; i <= essential; i++) info(`The essential requirement ${i} of ${essential} is satisfied`)
  info(`Waiting for the optional requirement 2 of 2: ${q('containerd binaries to be installed')}`)
  info('The optional requirement 2 of 2 is satisfied')
  info('The final requirement 1 of 1 is satisfied')
  // The agent comes when Lima still waits for it, when it has called the VM degraded, or never.
  const [comes, patience] = { 'agent-late': [2000, 20_000], 'agent-later': [3000, 300], 'agent-never': [1e9, 300] }[
    fault('agent-late', 'agent-later', 'agent-never')
  ] ?? [0, 0]
  const agent = comes > 0 ? guestAgent(dir, name, comes).then(() => true) : true
  if (comes === 0 || (await Promise.race([agent, sleep(patience)]))) {
    info('Guest agent is running')
    event(running)
  } else {
    const errors = ['guest agent does not seem to be running; port forwards will not work']
    event({ ...running, degraded: true, errors })
    await agent
    info('Guest agent is running')
  }
  // pkg/hostagent/hostagent.go, emitPortForwardEvent: with the state as it was looked up before, under another lock.
  const portForward = { type: 'not-forwarding', protocol: 'tcp', guestAddr: '0.0.0.0:22' }
  if (V2) event({ ...booting, portForward })
  forwardPorts(V2 ? (portForward) => event({ ...running, portForward }) : () => {}, read(file('lima.yaml')))
  setInterval(() => {}, 1 << 30)
}

/**
 * An agent in the guest that answers only after some time. Until then the forward of its socket over ssh is made anew every
 * ten seconds (here: more often), each time as pkg/hostagent/hostagent.go of v1.2.1 does: remove the socket,
 * `ssh -O forward`, remove the socket when that fails. It fails for ever after the first (lima-vm/lima#2227); 2.x cancels
 * the former forward first.
 */
async function guestAgent(dir, name, comes) {
  const [local, remote] = [join(dir, 'ga.sock'), '/run/lima-guestagent.sock']
  const ssh = (...words) => spawnSync('ssh', ['-F', join(dir, 'ssh.config'), ...words, `lima-${name}`])
  ssh('-M', '-N', '-f')
  const began = Date.now()
  const forward = `${local}:${remote}`
  for (;;) {
    if (V2) ssh('-O', 'cancel', '-L', forward)
    info(`Forwarding ${q(remote)} (guest) to ${q(local)} (host)`)
    rmSync(local, { force: true })
    if (ssh('-O', 'forward', '-L', forward).status !== 0) rmSync(local, { force: true })
    if (existsSync(local) && Date.now() - began > comes) return
    const why = `connect: ${existsSync(local) ? 'connection refused' : 'no such file or directory'}`
    const error = `rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial unix ${local}: ${why}"`
    log('warning', 'guest agent events closed unexpectedly', { error })
    await sleep(300)
  }
}

/**
 * As Lima forwards a port: it notices a listener of the guest after a while, says so, and listens (docs/reference/lima.md#published-ports). UDP
 * by default in 2.x, by a rule in 1.x (pkg/limayaml/defaults.go, FillPortForwardDefaults).
 */
function forwardPorts(emit, yaml) {
  mkdirSync(published, { recursive: true })
  const udpToo = V2 || /proto: udp/.test(yaml)
  const open = new Map()
  const look = () => {
    const wanted = readdirSync(published).filter((name) => udpToo || !name.endsWith('-udp'))
    for (const name of wanted.filter((p) => !open.has(p))) {
      const [port, protocol = 'tcp'] = name.split('-')
      const [guestAddr, hostAddr] = [`0.0.0.0:${port}`, `127.0.0.1:${port}`]
      info(`Forwarding ${protocol.toUpperCase()} from ${guestAddr} to ${hostAddr}`)
      emit({ type: 'forwarding', protocol, guestAddr, hostAddr })
      const failed = () => {
        const error = `listen ${protocol} ${hostAddr}: bind: address already in use`
        // pkg/portfwd/listener.go, logListenError
        if (V2) log('warning', `failed to listen ${protocol}: ${hostAddr}`, { error })
        else log('error', `failed to listen ${protocol === 'tcp' ? 'to TCP connection' : 'udp'}: ${error}`)
      }
      open.set(name, (protocol === 'tcp' ? listenTcp : listenUdp)(Number(port), failed))
    }
    for (const [name, close] of [...open].filter(([p]) => !wanted.includes(p))) {
      const [port, protocol = 'tcp'] = name.split('-')
      emit({ type: 'stopping', protocol, guestAddr: `0.0.0.0:${port}`, hostAddr: `127.0.0.1:${port}` })
      close()
      open.delete(name)
      log('debug', `Port forwarding closed proto:${protocol} host:127.0.0.1:${port} guest:0.0.0.0:${port}`)
    }
  }
  setInterval(look, 300).unref()
}

function listenTcp(port, failed) {
  const server = createServer((_request, response) => response.end('from the container\n')).on('error', failed)
  server.listen(port, '127.0.0.1')
  return () => {
    server.close()
    server.closeAllConnections()
  }
}

function listenUdp(port, failed) {
  const socket = dgram.createSocket('udp4').on('error', failed)
  socket.on('message', (_message, { port, address }) => socket.send('from the container\n', port, address))
  socket.bind(port, '127.0.0.1')
  return () => {
    try {
      socket.close()
    } catch {
      // It never was open.
    }
  }
}

/** The VM: everything that talks to the guest ends with this process. */
function qemu(port, dir) {
  // Neither does QEMU's own forwarding wait for more.
  const [program, ...args] = [...guest, '/usr/sbin/sshd', '-i', '-f', join(dir, 'sshd_config')]
  const server = createTcp({ noDelay: true }, (socket) => {
    const sshd = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    socket.pipe(sshd.stdin)
    sshd.stdout.pipe(socket)
    for (const stream of [socket, sshd.stdin, sshd.stdout]) stream.on('error', () => {})
    sshd.on('exit', () => socket.destroy())
    socket.on('close', () => sshd.kill())
  })
  server.on('error', () => process.exit(1))
  server.listen(port, '127.0.0.1', () => process.send('booted'))
}

/** The guest: sshd with the host key that the first boot command lays in, and programs of its own. */
function guestFiles(dir, port, name) {
  const key = join(home, '_config', 'user')
  const keygen = (path) => spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path])
  if (!existsSync(key)) {
    mkdirSync(dirname(key), { recursive: true })
    keygen(key)
  }
  const block = /( *)-----BEGIN OPENSSH PRIVATE KEY-----[\s\S]*?-----END OPENSSH PRIVATE KEY-----\n/
  const [text, indent] = block.exec(read(join(dir, 'lima.yaml')))
  writeFileSync(join(dir, 'hostkey'), text.replaceAll(new RegExp(`^${indent}`, 'gm'), ''), { mode: 0o600 })
  // Somebody else sits at the VM's port, and lets everybody in.
  if (fault('impostor')) {
    rmSync(join(dir, 'hostkey'))
    keygen(join(dir, 'hostkey'))
  }
  const bin = join(dir, 'bin')
  mkdirSync(bin, { recursive: true })
  // Nothing that runs "as root in the guest" may touch this machine.
  const sudo = `#!/bin/sh
${/passwordlessSudo: false/.test(read(join(dir, 'lima.yaml'))) ? "echo 'sudo: a password is required' >&2; exit 1" : ''}
shift 2
echo "$*" >> '${join(work, 'guest.log')}'
case "$1 $*" in
  nerdctl*) shift 3; . '${join(bin, 'nerdctl.sh')}' ;;
  ctr*version) test -e '${join(work, 'containerd-dead')}' && { echo 'ctr: connection refused' >&2; exit 1; }; echo Server: ;;
  systemctl*restart*containerd*) rm -f '${join(work, 'containerd-dead')}' ;;
  systemctl*is-enabled*containerd*) exit 1 ;;
  systemctl*show*docker*) printf 'masked\\nmasked\\ninactive\\ndead\\n' ;;
  sh*docker.service*) if [ -e '${join(work, 'guest-full')}' ]; then echo "sh: 1: printf: No space left on device" >&2; exit 1; fi
    cat '${join(work, 'older-containers')}' 2>/dev/null || : ;;
  *data-disk*) if [ -e '${join(work, 'data-disk')}' ]; then cat '${join(work, 'data-disk')}' >&2; exit "$(cat '${join(work, 'data-disk.exit')}')"; fi ;;
  stat*-f*) if [ -e '${join(work, 'guest-full')}' ] || [ -e '${join(work, 'guest-packed')}' ]; then echo '12 1000 900'; else echo '900000 1000 900'; fi ;;
  journalctl*docker*) echo 'dockerd: what it said last' ;;
esac
`
  writeFileSync(join(bin, 'sudo'), sudo, { mode: 0o755 })
  mkdirSync(published, { recursive: true })
  // No nerdctl: what a test asks for. \`run\` and \`rm\` tell the host agent of a container's port.
  const nerdctl = `case "$1" in
  argv) shift; printf '%s\\0' "$@" ;;
  cat) cat ;;
  exit) echo 'time="now" level=fatal msg="no such container: x"' >&2; exit "$2" ;;
  sleep) exec sleep 1000 ;;
  run) for word; do case "$word" in
    *:*/udp) : > '${published}'/"\${word%%:*}-udp" ;;
    *:*) : > '${published}'/"\${word%%:*}" ;;
  esac; done; printf '%064d\\n' 7 ;;
  rm) rm -f '${published}'/* ;;
esac
`
  writeFileSync(join(bin, 'nerdctl.sh'), nerdctl)
  writeFileSync(
    join(dir, 'sshd_config'),
    `HostKey "${dir}/hostkey"
AuthorizedKeysFile "${key}.pub"
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
SetEnv PATH="${guest.length > 0 ? '/usr/local/bin' : bin}:/usr/bin:/bin"
`,
  )
  const user = spawnSync('id', ['-un'], { encoding: 'utf8' }).stdout.trim()
  writeFileSync(
    join(dir, 'ssh.config'),
    `Host lima-${name}
  IdentityFile "${key}"
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  BatchMode yes
  IdentitiesOnly yes
  User ${user}
  ControlMaster auto
  ControlPath "${join(dir, 'ssh.sock')}"
  Hostname 127.0.0.1
  Port ${port}
`,
    { mode: 0o600 },
  )
}

async function stop(name, force) {
  const dir = dirOf(name)
  const now = status(dir)
  if (!force && now !== 'Running')
    fatal(`expected status ${q('Running')}, got ${q(now)} (maybe use \`limactl stop -f\`?)`)
  appendFileSync(join(work, 'stops'), `${force ? 'force' : 'gentle'}\n`)
  if (force) throw new Error('nobody may ask for this: it kills by pid files unread')
  if (fault('stop-hangs')) for (;;) await sleep(1000)
  const pid = alive(join(dir, 'ha.pid'))
  info(`Sending SIGINT to hostagent process ${pid}`)
  process.kill(pid, 'SIGINT')
  info('Waiting for the host agent and the driver processes to shut down')
  while (status(dir) !== 'Stopped') await sleep(20)
  info(`The instance ${name} has shut down`)
}

/** One object a line (docs/reference/lima.md#list); of its fields those that somebody reads. */
function list() {
  for (const name of readdirSync(home).filter((entry) => !/^[._]/.test(entry))) {
    const dir = dirOf(name)
    process.stdout.write(`${JSON.stringify({ name, status: status(dir), dir, vmType: 'qemu', arch: 'x86_64' })}\n`)
  }
}

const args = process.argv.slice(2).filter((a) => !['--tty=false', '--log-format', 'json'].includes(a))
const last = args.at(-1)
if (args[0] === '--version') process.stdout.write(`limactl version ${VERSION}\n`)
else if (args[0] === 'list') list()
else if (args[0] === 'create') await create(args[args.indexOf('--name') + 1])
else if (args[0] === 'start') await start(last)
else if (args[0] === 'hostagent') await hostagent(last)
else if (args[0] === 'qemu') qemu(Number(args.at(-2)), last)
else if (args[0] === 'stop') await stop(last, args.includes('--force'))
else fatal(`unknown command ${q(args[0])} for ${q('limactl')}`)
