// A private dockerd: own socket, data root, bridge, and namespaces for processes and mounts, so that ending it ends its
// containers and mounts with it. It touches no firewall rule of the machine: ports are published by docker-proxy.
import { createHash, randomInt } from 'node:crypto'
import { accessSync, constants, existsSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { engineApi, http } from './http.mjs'
import { makeOwned, orphans } from './owned.mjs'
import { asRoot, childOfRecorded, killRecorded, pause, recorded, runAsRoot, startServer, waitExit } from './process.mjs'
import { waitFor } from './wait.mjs'

/**
 * @typedef {object} Dockerd
 * @property {string} socket path of its socket
 * @property {string} host what DOCKER_HOST is to be
 * @property {string} dir everything it keeps
 * @property {(method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<any>} api its own HTTP API
 * @property {() => string} log the last 64 KiB it printed
 * @property {() => Promise<void>} stop stops it and removes everything it made
 * @property {(signal?: NodeJS.Signals) => Promise<void>} halt ends the daemon (SIGTERM, or SIGKILL as in a crash) and keeps its data
 * @property {() => string} network the file of its network namespace; it is of its own with `ownNetwork`
 * @property {() => void} unref lets this process exit while it runs; the exit ends it
 * @property {() => Promise<void>} start starts it again after `halt`
 */

/** Where dockerd and its helpers are, if an ordinary user's PATH lacks it. */
const SYSTEM = '/usr/sbin:/sbin'

/** Why there can be none here, or undefined. */
export function noDockerd() {
  if (process.platform !== 'linux') return 'needs a Linux engine'
  const runs = (dir) => {
    try {
      accessSync(join(dir, 'dockerd'), constants.X_OK)
      return true
    } catch {
      return false
    }
  }
  if (`${process.env.PATH}:${SYSTEM}`.split(':').some(runs)) return undefined
  return 'no dockerd; run `node scripts/setup.mjs test`'
}

/**
 * Starts a private dockerd and resolves when it answers. With a `poolSize` of 16 its own bridge leaves no addresses for another
 * network. With `ownNetwork` what it publishes is not on this machine's addresses, as if it were another machine.
 * @param {{ insecureRegistries?: string[], mirrors?: string[], args?: string[], poolSize?: number, ownNetwork?: boolean }} [options]
 * @returns {Promise<Dockerd>}
 */
export async function startDockerd(options = {}) {
  const { insecureRegistries = [], mirrors = [], args = [], poolSize = 24, ownNetwork = false } = options
  sweepDockerds()
  const dir = makeOwned('engine')
  const socket = join(dir, 'docker.sock')
  const removeNow = () => remove(dir)
  process.once('exit', removeNow)
  let child
  let log = ''

  async function start() {
    const { name, net } = ownNetwork ? { name: bridgeName(dir), net: 200 } : makeBridge(dir)
    // What is in there belongs to processes that are gone; their pids may be someone else's by now.
    runAsRoot('rm', '-rf', join(dir, 'exec'), join(dir, 'docker.pid'), socket)
    const config = {
      'data-root': join(dir, 'data'),
      'exec-root': join(dir, 'exec'),
      pidfile: join(dir, 'docker.pid'),
      bridge: name,
      'fixed-cidr': `10.${net}.0.0/24`,
      'default-address-pools': [{ base: `10.${net}.0.0/16`, size: poolSize }],
      iptables: false,
      ip6tables: false,
      'ip-forward': false,
      'ip-masq': false,
      'shutdown-timeout': 5,
      'insecure-registries': ['127.0.0.0/8', ...insecureRegistries],
      'registry-mirrors': mirrors,
    }
    writeFileSync(join(dir, 'daemon.json'), JSON.stringify(config))
    const namespaces = [
      'unshare',
      '--pid',
      '--fork',
      '--kill-child',
      '--mount',
      '--propagation',
      'slave',
      '--mount-proc',
    ]
    if (ownNetwork) namespaces.push('--uts', '--net', 'sh', '-ec', BRIDGE, 'sh', name, `10.${net}.0.1/24`)
    const group = process.getuid() === 0 ? [] : ['--group', String(process.getgid())]
    const daemon = [
      'dockerd',
      '--config-file',
      join(dir, 'daemon.json'),
      '--host',
      `unix://${socket}`,
      ...group,
      ...args,
    ]
    const env = ['env', `PATH=${process.env.PATH}:${SYSTEM}`, `HOME=${dir}`]
    child = startServer(asRoot(recorded(leader(dir), [...env, ...namespaces, ...daemon])))
    const keep = (chunk) => {
      log = (log + chunk).slice(-65_536)
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    let ended
    child.on('error', (error) => (ended = error.message))
    child.on('exit', (code, signal) => (ended = `ended with ${signal ?? `exit code ${code}`}`))
    try {
      const answers = async () =>
        ended || (await http({ socketPath: socket, path: '/_ping', timeoutMs: 2_000 })).status === 200
      await waitFor('dockerd answering', answers, { timeoutMs: 180_000 })
      if (ended) throw new Error(`dockerd ${ended}`)
    } catch (error) {
      throw new Error(`${error.message}\n${log.slice(-4096)}`)
    }
  }

  async function halt(signal = 'SIGTERM') {
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    // The first in its namespace, and the only child of the unshare that waits for it.
    const daemon = childOfRecorded(leader(dir))
    if (daemon) runAsRoot('kill', `-${signal.slice(3)}`, String(daemon))
    await waitExit(child, 30_000).catch(() => killRecorded(leader(dir)))
  }

  async function stop() {
    // Nothing in it is kept, so nothing in it needs to end well.
    await halt('SIGKILL')
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
  const network = () => `/proc/${childOfRecorded(leader(dir))}/ns/net`
  const unref = () => {
    for (const handle of [child, child.stdout, child.stderr]) handle.unref()
  }
  return {
    socket,
    host: `unix://${socket}`,
    dir,
    api: engineApi(socket),
    log: () => log,
    start,
    halt,
    stop,
    network,
    unref,
  }
}

/** Inside a network namespace that has nothing yet, and with a name of its own. */
const BRIDGE = `hostname "far-$1"
ip link set lo up
ip link add "$1" type bridge
ip address add "$2" dev "$1"
ip link set "$1" up
shift 2
exec "$@"`

/** Removes what dockerds of dead processes left: killed tests, killed demos. */
export function sweepDockerds() {
  for (const dir of orphans('engine')) remove(dir)
}

/** Ends and removes everything that belongs to a directory of ours: processes, bridges, files. */
function remove(dir) {
  killRecorded(leader(dir))
  const links = bridges()
  const own = links.find((link) => link.name === bridgeName(dir))
  for (const { name } of links.filter(({ net }) => net === own?.net)) {
    try {
      runAsRoot('ip', 'link', 'delete', name)
    } catch (error) {
      // Someone else may sweep at the same time.
      if (bridges().some((link) => link.name === name)) throw error
    }
  }
  for (let tries = 1; existsSync(dir); tries++) {
    try {
      runAsRoot('rm', '-rf', dir)
    } catch (error) {
      // A killed process may still be writing.
      if (tries === 50) throw error
      pause(20)
    }
  }
}

/** Where it is written which process an engine is of: its end is the end of all in its namespaces. */
function leader(dir) {
  return join(dir, 'leader')
}

/** Interface names hold 15 bytes; this one can be told from the directory's name alone. */
function bridgeName(dir) {
  return `lrt${createHash('sha256').update(basename(dir)).digest('hex').slice(0, 10)}`
}

/** The machine's bridges with an address in 10.0.0.0/8, and the second byte of it. */
function bridges() {
  return JSON.parse(runAsRoot('ip', '-j', '-4', 'address', 'show', 'type', 'bridge'))
    .flatMap(({ ifname, addr_info = [] }) =>
      addr_info.map(({ local }) => ({ name: ifname, bytes: local?.split('.').map(Number) })),
    )
    .filter(({ bytes }) => bytes?.[0] === 10)
    .map(({ name, bytes }) => ({ name, net: bytes[1] }))
}

/** A bridge with a /16 of its own, the one it has or a new one. Two processes that picked the same both pick again. */
function makeBridge(dir) {
  const name = bridgeName(dir)
  for (;;) {
    const found = bridges()
    const own = found.find((link) => link.name === name)
    if (
      own &&
      found.filter(({ net }) => net === own.net).every((link) => link.name === name || !link.name.startsWith('lrt'))
    )
      return own
    const taken = new Set([...found.map(({ net }) => net), ...routedNets()])
    const free = Array.from({ length: 55 }, (_, i) => 200 + i).filter((net) => !taken.has(net))
    if (free.length === 0) throw new Error('No free network 10.200.0.0/16 to 10.254.0.0/16 for a bridge')
    const net = free[randomInt(free.length)]
    if (own) runAsRoot('ip', 'link', 'delete', name)
    runAsRoot('ip', 'link', 'add', name, 'type', 'bridge')
    runAsRoot('ip', 'address', 'add', `10.${net}.0.1/24`, 'dev', name)
    runAsRoot('ip', 'link', 'set', name, 'up')
  }
}

/** Second bytes of the 10.x networks this machine has routes to. */
function routedNets() {
  return JSON.parse(runAsRoot('ip', '-j', '-4', 'route')).flatMap(({ dst }) =>
    dst?.startsWith('10.') ? [Number(dst.split('.')[1])] : [],
  )
}
