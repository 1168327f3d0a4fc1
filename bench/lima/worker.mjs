// node worker.mjs DIR [LIMACTL]: measures as an ordinary user, and prints JSON.
import { execFile, execFileSync } from 'node:child_process'
import { readFileSync, rmSync, symlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { limaThatRuns, serveLima } from '../../__test__/support/given-lima.mjs'
import { LimaRuntimeManager } from '../../dist/index.mjs'

const exec = promisify(execFile)
const [dir, real] = process.argv.slice(2)
const dataDir = join(dir, 'data')
const vms = join(dataDir, 'vms')
const vm = join(vms, 'default')
const say = (text) => console.error(`  ${text}`)
const now = () => performance.timeOrigin + performance.now()

const program = fileURLToPath(new URL('../../tests/support/limactl.mjs', import.meta.url))
// Records when its start was spawned.
const note = `case " $* " in *" start "*) date +%s%N >'${dir}/spawned' ;; esac`
const lima = await serveLima(dir, limaThatRuns([process.execPath, program], note))
const engineSocket = join(dir, 'containerd.sock')
const containerd = createServer((socket) => socket.on('error', () => {}).resume()).listen(engineSocket)

const resources = { cpus: 1, memory: '1GiB', disk: '10GiB', mounts: [] }
const manager = new LimaRuntimeManager({ dataDir, ...lima.options, resources, engineSocket })
try {
  say('starts, each after a stop')
  await manager.start()
  const starts = []
  for (let i = 0; i < 15; i++) starts.push(await timedStart())
  say('isRunning() and limactl list, in turn')
  const list = await lists()
  say('commands, in turn')
  console.log(JSON.stringify({ starts, list, commands: await commands() }))
} finally {
  await manager.stop()
  await lima.server.close()
  containerd.close()
}

async function timedStart() {
  await manager.stop()
  const from = now()
  await manager.start()
  const to = now()
  const spawned = Number(BigInt(readFileSync(`${dir}/spawned`, 'utf8').trim()) / 1000n) / 1000
  const events = readFileSync(join(vm, 'ha.stdout.log'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const running = Date.parse(events.find(({ status }) => status.running).time)
  return { before: spawned - from, after: to - running, whole: to - from }
}

async function lists() {
  const limactl = real || manager.getLimactlPath()
  const env = { HOME: process.env.HOME, PATH: '/usr/bin:/bin', LIMA_HOME: vms }
  const times = { ours: [], theirs: [] }
  for (let i = 0; i < 20; i++) {
    for (let j = 0; j < 50; j++) {
      const from = now()
      if (!(await manager.isRunning())) throw new Error('isRunning() says no')
      times.ours.push(now() - from)
    }
    const from = now()
    const { stdout } = await exec(limactl, ['list', '--json'], { env })
    times.theirs.push(now() - from)
    const [{ status }] = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    if (status !== 'Running') throw new Error(`limactl says ${status}`)
  }
  return times
}

async function commands() {
  // Both run this in the guest; it ends at once.
  const sudo = join(vm, 'bin', 'sudo')
  rmSync(sudo)
  symlinkSync('/bin/true', sudo)
  const ssh = ['-F', join(vm, 'ssh.config'), '-o', `ControlPath=${dir}/master`, '-o', 'BatchMode=yes']
  const unknown = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR']
  // The master continues in the background and would hold our streams.
  execFileSync('ssh', [...ssh, ...unknown, '-o', 'ControlMaster=yes', '-N', '-f', 'lima-default'], { stdio: 'ignore' })
  const ours = () => manager.execNerdctl(['version'])
  const theirs = () => exec('ssh', [...ssh, 'lima-default', 'sudo -n -- nerdctl --namespace default version'])
  const cpu = async (call) => {
    const spent = () => {
      const { user, system } = process.cpuUsage()
      // CPU time of ended children, in ticks of 10 ms.
      const [children, childrenSystem] = readFileSync('/proc/self/stat', 'utf8')
        .split(') ')
        .at(-1)
        .split(' ')
        .slice(13, 15)
      return (user + system) / 1000 + (Number(children) + Number(childrenSystem)) * 10
    }
    const from = spent()
    for (let i = 0; i < 300; i++) await call()
    return (spent() - from) / 300
  }
  try {
    for (let i = 0; i < 20; i++) await Promise.all([ours(), theirs()])
    const times = { ours: [], theirs: [] }
    for (let i = 0; i < 300; i++) {
      for (const [name, call] of Object.entries({ ours, theirs })) {
        const from = now()
        await call()
        times[name].push(now() - from)
      }
    }
    return { ...times, cpu: { ours: await cpu(ours), theirs: await cpu(theirs) } }
  } finally {
    execFileSync('ssh', [...ssh, '-O', 'exit', 'lima-default'], { stdio: 'ignore' })
  }
}
