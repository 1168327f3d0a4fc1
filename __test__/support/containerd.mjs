// A private containerd with the real nerdctl: own socket, root, state, namespace, bridge, nerdctl data and CNI
// configuration, all in one directory.
import { execFile, execFileSync } from 'node:child_process'
import { createHash, randomInt } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { makeOwned, orphans } from './owned.mjs'
import { killSessions, pause, recorded, runAsRoot, startServer, waitExit } from './process.mjs'
import { waitFor } from './wait.mjs'

/** The nerdctl to test with; it is in no package registry. */
export const NERDCTL_VARIABLE = 'LIMA_RUNTIME_TEST_NERDCTL'
/** A containerd to test with, in place of Debian's: the directory of its programs. */
const CONTAINERD_VARIABLE = 'LIMA_RUNTIME_TEST_CONTAINERD'

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
export const CNI = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'].find((dir) => existsSync(join(dir, 'bridge')))

/** The paths of the programs to test with. */
export function containerdPrograms() {
  const own = process.env[CONTAINERD_VARIABLE]
  const names = ['containerd', 'containerd-shim-runc-v2', 'ctr', 'runc']
  return names.map((name) => (own ? join(own, name) : `/usr/${name === 'runc' ? 'sbin' : 'bin'}/${name}`))
}

/** Why the suite cannot run here, or undefined. */
export function noContainerd() {
  if (process.platform !== 'linux') return 'containerd needs Linux'
  if (!process.env[NERDCTL_VARIABLE]) return `${NERDCTL_VARIABLE} names no nerdctl`
  if (process.getuid() !== 0) return 'needs root: a private containerd'
  if (!CNI) return 'no CNI plugins; run `node scripts/setup.mjs test`'
  return undefined
}

/** Whether the logger of the nerdctl to test with may lose the end (docs/reference/nerdctl.md#logger-loses-the-end). */
export const losesLastWords = () => isNerdctl(/ v?2\.(1|2|3\.[0-3])\b/)
/** Whether its compose knows no healthchecks (pkg/composer/serviceparser). */
export const composesNoHealth = () => isNerdctl(/ v?2\.1\b/)

function isNerdctl(version) {
  const nerdctl = process.env[NERDCTL_VARIABLE]
  return Boolean(nerdctl) && version.test(execFileSync(nerdctl, ['--version'], { encoding: 'utf8' }))
}

/**
 * @param {{ monitor?: string }} [settings] `monitor`: how often the restart monitor looks, in place of every ten seconds
 * @returns the daemon: `options` are what an adapter needs to find it
 */
export async function startContainerd({ monitor } = {}) {
  for (const dir of orphans('containerd')) remove(dir)
  const dir = makeOwned('containerd')
  const address = join(dir, 'sock')
  const namespace = basename(dir).replaceAll('_', '-').toLowerCase()
  const nerdctlPath = process.env[NERDCTL_VARIABLE]
  const own = process.env[CONTAINERD_VARIABLE]
  const options = {
    address,
    namespace,
    nerdctlPath,
    dataRoot: join(dir, 'nerdctl'),
    cniPath: CNI,
    cniNetconfPath: join(dir, 'cni'),
  }
  for (const name of ['nerdctl', 'cni', 'home']) mkdirSync(join(dir, name))
  // Written before nerdctl makes its own, whose bridge and addresses are one for the whole machine.
  writeFileSync(join(dir, 'cni/nerdctl-bridge.conflist'), JSON.stringify(defaultNetwork(dir)))
  const config = [
    'version = 2',
    `root = '${join(dir, 'root')}'`,
    `state = '${join(dir, 'state')}'`,
    "disabled_plugins = ['io.containerd.grpc.v1.cri']",
    '[grpc]',
    `address = '${address}'`,
    ...(monitor ? ['[plugins."io.containerd.internal.v1.restart"]', `interval = '${monitor}'`] : []),
  ]
  writeFileSync(join(dir, 'config.toml'), `${config.join('\n')}\n`)
  const env = { PATH: own ? `${own}:${PATH}` : PATH, HOME: join(dir, 'home'), LANG: 'C.UTF-8' }
  const removeNow = () => remove(dir)
  process.once('exit', removeNow)
  let child
  let log = ''

  async function start() {
    // Its shims, their loggers and the port reservers stay in its session when it has gone.
    const argv = recorded(join(dir, 'leaders'), ['containerd', '--config', join(dir, 'config.toml')])
    child = startServer(argv, { env, dieWithUs: false, detached: true })
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => (log = (log + chunk).slice(-65_536)))
    await waitFor('containerd answering', async () => {
      if (child.exitCode !== null) throw new Error(`containerd ended:\n${log.slice(-4096)}`)
      return ctr('version')
    })
  }

  async function halt(signal = 'SIGTERM') {
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    child.kill(signal)
    await waitExit(child, 30_000)
  }

  const run = promisify(execFile)
  const ctr = async (...args) =>
    (await run('ctr', ['--address', address, '--namespace', namespace, ...args], { env })).stdout.trim()
  const flags = [
    `--address=${address}`,
    `--namespace=${namespace}`,
    `--data-root=${options.dataRoot}`,
    `--cni-path=${CNI}`,
    `--cni-netconfpath=${options.cniNetconfPath}`,
  ]
  const nerdctl = async (args, more = {}) => {
    const running = run(nerdctlPath, [...flags, ...args], { env: { ...env, ...more }, maxBuffer: 1 << 28 })
    running.child.stdin.end()
    return (await running).stdout.trim()
  }

  const lines = (text) => text.split('\n').filter(Boolean)
  async function stop() {
    if (child.exitCode !== null || child.signalCode !== null) await start()
    if (nerdctlPath) {
      const ids = lines(await nerdctl(['ps', '-aq', '--no-trunc']))
      if (ids.length > 0) await nerdctl(['rm', '-f', ...ids])
      await nerdctl(['network', 'prune', '-f'])
    }
    // What ran without nerdctl, in any namespace.
    for (const name of lines(await ctr('namespaces', 'ls', '-q'))) {
      const of = ['--namespace', name, 'tasks']
      for (const id of lines(await ctr(...of, 'ls', '-q'))) await ctr(...of, 'rm', '--force', id)
    }
    await halt()
    remove(dir)
    process.off('exit', removeNow)
  }

  try {
    await start()
  } catch (error) {
    remove(dir)
    process.off('exit', removeNow)
    throw error
  }
  const signal = (name) => child.kill(name)
  return { dir, address, options, nerdctl, ctr, start, halt, signal, stop, log: () => log }
}

/** Ends and removes everything that belongs to a directory of ours. */
function remove(dir) {
  const namespace = basename(dir).replaceAll('_', '-').toLowerCase()
  killSessions(join(dir, 'leaders'))
  runAsRoot('rm', '-rf', `/run/nerdctl/${namespace}`)
  for (const mount of mounts()
    .filter((path) => path.startsWith(`${dir}/`))
    .reverse())
    attempt('umount', '-l', mount)
  for (const bridge of bridgesOf(dir)) attempt('ip', 'link', 'delete', bridge)
  for (let tries = 1; existsSync(dir); tries++) {
    try {
      runAsRoot('rm', '-rf', dir)
    } catch (error) {
      if (tries === 50) throw error
      pause(20)
    }
  }
}

function attempt(...argv) {
  try {
    runAsRoot(...argv)
  } catch {
    // It is gone already.
  }
}

const mounts = () =>
  readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => line.split(' ')[1])

/** nerdctl's `bridge`, as it writes it, with a free network. */
export function defaultNetwork(dir) {
  const routes = JSON.parse(runAsRoot('ip', '-j', '-4', 'route'))
  const taken = new Set(routes.flatMap(({ dst }) => (dst?.startsWith('10.') ? [Number(dst.split('.')[1])] : [])))
  // Private dockerds take 200 and above, nerdctl's own networks 4 and above.
  const free = Array.from({ length: 100 }, (_, i) => 100 + i).filter((net) => !taken.has(net))
  const net = free[randomInt(free.length)]
  const sha256 = (text) => createHash('sha256').update(text).digest('hex')
  const plugin = {
    type: 'bridge',
    // Interface names hold 15 bytes.
    bridge: `lrc${sha256(basename(dir)).slice(0, 10)}`,
    isGateway: true,
    ipMasq: true,
    hairpinMode: true,
    ipam: {
      type: 'host-local',
      dataDir: join(dir, 'leases'),
      ranges: [[{ subnet: `10.${net}.0.0/24`, gateway: `10.${net}.0.1` }]],
      routes: [{ dst: '0.0.0.0/0' }],
    },
  }
  return {
    cniVersion: '1.0.0',
    name: 'bridge',
    nerdctlID: sha256('bridge'),
    nerdctlLabels: { 'nerdctl/default-network': 'true' },
    plugins: [
      plugin,
      { type: 'portmap', capabilities: { portMappings: true } },
      { type: 'firewall', ingressPolicy: 'same-bridge' },
      { type: 'tuning' },
    ],
  }
}

/** The bridges of its networks. */
export function bridgesOf(dir) {
  const found = []
  const read = (path) => {
    if (!existsSync(path)) return
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const file = join(path, entry.name)
      if (entry.isDirectory()) read(file)
      else if (entry.name.endsWith('.conflist'))
        for (const { bridge } of JSON.parse(readFileSync(file, 'utf8')).plugins ?? []) if (bridge) found.push(bridge)
    }
  }
  read(join(dir, 'cni'))
  return found.filter((name) => {
    const ports = `/sys/class/net/${name}/brif`
    return existsSync(ports) && readdirSync(ports).length === 0
  })
}
