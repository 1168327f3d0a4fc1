// `npm run bench -- socket`: the Docker socket that a VM's engine has on this computer, against the docker CLI over ssh. The VM
// is the stand-in for limactl of the tests with a real sshd as its guest, the engine a real dockerd.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { noDockerd, startDockerd } from '../../__test__/support/dockerd.mjs'
import { http } from '../../__test__/support/http.mjs'
import { busyboxArchive, loadArchive } from '../../__test__/support/images.mjs'
import { limaRig, missing, ordinaryUser } from '../../__test__/support/lima.mjs'
import { faster, figure, quantile } from '../report.mjs'

const GB = process.argv.includes('--quick') ? 1e8 : 1e9
const LISTS = process.argv.includes('--quick') ? 5 : 15
const CALLS = 200
const REPLAY = new URL('../docker/replay.mjs', import.meta.url).pathname

export async function run() {
  const why = missing() ?? noDockerd() ?? (existsSync('/usr/bin/ssh') ? undefined : 'no /usr/bin/ssh')
  if (why) return { figures: [], left: [why] }
  const ends = []
  const t = { after: (end) => ends.unshift(end) }
  try {
    return { figures: await measure(t) }
  } finally {
    for (const end of ends) await end()
  }
}

async function measure(t) {
  const figures = []
  const against = 'docker over ssh'
  const engine = await startDockerd()
  t.after(() => engine.stop())
  // The guest is this machine, and its user is not root.
  for (const [path, mode] of [
    [engine.dir, 0o711],
    [engine.socket, 0o666],
  ])
    chmodSync(path, mode)
  await loadArchive(engine, busyboxArchive())
  for (let i = 0; i < 50; i++)
    await engine.api('POST', `/containers/create?name=bench-${i}`, { Image: 'busybox:latest', Cmd: ['true'] })
  const rig = await limaRig(t)
  const { uid, gid } = ordinaryUser()
  const user = { uid, gid, cwd: '/', maxBuffer: 2 ** 30 }

  const { socket, app, docker } = await running(rig, engine.socket)
  const calls = []
  for (let i = 0; i < CALLS; i++) calls.push(await timed(() => get(socket, '/containers/json?all=1')))
  const lists = []
  for (let i = 0; i < LISTS; i++) lists.push(await timed(() => docker('ps', '--all')))
  for (const [q, goals] of [
    [0.5, [faster(10)]],
    [0.99, []],
  ]) {
    const [ours, theirs] = [calls, lists].map((times) => quantile(times, q))
    const what = `the VM's Docker socket: list 50 containers, p${q * 100}`
    figures.push(figure(what, 'ms', ours, theirs, { against, goals, ratio: 'faster' }))
  }
  await app.call('stop')

  const replay = join(rig.dir, 'replay.sock')
  const log = await engine.api('POST', '/containers/create', { Image: 'busybox:latest', Cmd: ['awk', LINES] })
  await engine.api('POST', `/containers/${log.Id}/start`)
  await engine.api('POST', `/containers/${log.Id}/wait`)
  const server = spawn(process.execPath, [REPLAY, replay, engine.socket, log.Id, String(GB)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => server.kill())
  await once(server.stdout, 'data')
  chmodSync(replay, 0o666)
  const through = await running(rig, replay)
  const path = `/containers/${log.Id}/logs?stdout=1&stderr=1`
  const before = peak(through.app.child.pid)
  const read = await timed(() => curl(through.socket, path))
  const memory = peak(through.app.child.pid) - before
  const cli = await timed(() => through.docker('logs', log.Id))
  const bare = await timed(() => curl(replay, path))
  const speed = (time) => GB / 1000 / time
  figures.push(figure(`  a log of ${GB / 1e6} MB through it`, 'MB/s', speed(read), speed(cli), { against }))
  figures.push(figure('  past us, without ssh', 'MB/s', speed(bare)))
  figures.push(figure("  the application's memory grew by", 'MB', memory))
  return figures

  /** An application whose VM has this engine, and the docker CLI as somebody uses it who has only ssh. */
  async function running(rig, engineSocket) {
    const options = { ...rig.options, engine: 'docker', engineSocket }
    const app = rig.app()
    const call = (method, ...args) => app.ask({ options, method, args })
    await call('start')
    const socket = await call('getDockerSocketPath')
    const config = join(rig.options.dataDir, 'vms', 'default', 'ssh.config')
    const ssh = join(rig.dir, 'ssh')
    writeFileSync(ssh, `#!/bin/sh\nexec /usr/bin/ssh -F '${config}' "$@"\n`, { mode: 0o755 })
    const env = { PATH: `${rig.dir}:/usr/local/bin:/usr/bin:/bin`, HOME: rig.home }
    const host = /^Host (\S+)/m.exec(readFileSync(config, 'utf8'))[1]
    const docker = (...args) =>
      promisify(execFile)(
        'sh',
        ['-c', 'exec docker "$@" >/dev/null', 'sh', '-H', `ssh://${host}${engineSocket}`, ...args],
        {
          ...user,
          env,
        },
      )
    await docker('ps')
    return { socket, app: { call, child: app.child }, docker }
  }
}

/** Lines of 100 bytes, 20 MB of them, one in ten to stderr. */
const LINES = `BEGIN { for (i = 0; i < 200000; i++) if (i % 10) print "${'x'.repeat(99)}"; else print "${'x'.repeat(99)}" > "/dev/stderr" }`

async function timed(work) {
  const from = performance.now()
  await work()
  return performance.now() - from
}

async function get(socketPath, path) {
  const { status } = await http({ socketPath, path })
  if (status !== 200) throw new Error(`${path}: ${status}`)
}

const curl = (socket, path) =>
  promisify(execFile)('curl', ['-sSf', '-o', '/dev/null', '--unix-socket', socket, `http://d${path}`])

/** In MB. */
const peak = (pid) => Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1000
