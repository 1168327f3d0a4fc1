// Processes: as root when we are not, who is alive, who belongs to what.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'

const isRoot = process.getuid?.() === 0

/** The argument vector that runs `argv` as root: itself for root, through sudo for others. */
export function asRoot(argv) {
  return isRoot ? argv : ['sudo', '-n', ...argv]
}

/** Runs a program as root to its end; its output, or an Error with what it said. Blocks: exit handlers need it so. */
export function runAsRoot(...argv) {
  const [file, ...args] = asRoot(argv)
  return execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

/** Starts a server that dies with us, even by SIGKILL; `onLine` gets what it prints. */
export function startServer(argv, { dieWithUs = true, ...options } = {}) {
  const [file, ...args] = dieWithUs && process.platform === 'linux' ? ['setpriv', '--pdeathsig', 'KILL', ...argv] : argv
  return spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options })
}

const boot = () => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()

/** In a function, so that its caller's arguments stay: `$at` is when process `$1` began. */
const BEGAN = 'began() { at=; IFS= read -r stat <"/proc/$1/stat" || return; set -- ${stat##*) }; at=${20}; }'
const RECORD = `${BEGAN}
began $$
file=$1
shift
IFS= read -r boot </proc/sys/kernel/random/boot_id
echo "$$ $at $boot" >>"$file"
exec "$@"`
const KILL = `${BEGAN}
for one; do
  began "\${one%:*}" 2>/dev/null
  [ "$at" != "\${one#*:}" ] || kill -s KILL "\${one%:*}"
done`

/** `argv`, writing first into `file` who it is. */
export function recorded(file, argv) {
  return ['sh', '-ec', RECORD, 'sh', file, ...argv]
}

/** Those of this boot that are recorded in `file`, whether they live or not. */
function records(file) {
  if (!existsSync(file)) return []
  const lines = readFileSync(file, 'utf8').trim().split('\n')
  return lines
    .map((line) => line.split(' '))
    .filter(([, , when]) => when === boot())
    .map(([pid, started]) => ({ pid: Number(pid), started }))
}

/** What the system says of every process but this one. */
function everybody() {
  const look = (pid) => {
    try {
      // The second field, the name in parentheses, may hold anything.
      const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1).split(' ')
      const [state, parent, , session] = fields
      return { pid, ended: state === 'Z', parent: Number(parent), session: Number(session), started: fields[19] }
    } catch {
      return { pid, ended: true }
    }
  }
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return pids.map((pid) => look(Number(pid))).filter(({ pid, ended }) => !ended && pid !== process.pid)
}

/** The processes of which `isOurs` is true, and what came of them. */
function families(isOurs) {
  const all = everybody()
  const ours = new Map(all.filter(isOurs).map((one) => [one.pid, one]))
  for (let before = -1; before !== ours.size; ) {
    before = ours.size
    for (const one of all) if (ours.has(one.parent)) ours.set(one.pid, one)
  }
  return [...ours.values()]
}

/** Kills the processes of which `isOurs` is true, and what came of them, and blocks until they are gone. */
function killFamilies(isOurs) {
  for (let left = families(isOurs); left.length > 0; left = families(isOurs)) {
    try {
      runAsRoot('sh', '-c', KILL, 'sh', ...left.map(({ pid, started }) => `${pid}:${started}`))
    } catch {
      // One of them ended by itself.
    }
    pause(10)
  }
}

/** Those recorded in `file`, and what came of them; not who merely names the file. */
export function killRecorded(file) {
  const known = records(file)
  killFamilies(({ pid, started }) => known.some((one) => one.pid === pid && one.started === started))
}

/** The same, for leaders of sessions (`detached`): also those whom they left to the init process. */
export function killSessions(file) {
  const known = records(file)
  const isOf = (one, leader) =>
    (one.pid === leader.pid && one.started === leader.started) ||
    (one.session === leader.pid && BigInt(one.started) >= BigInt(leader.started))
  killFamilies((one) => known.some((leader) => isOf(one, leader)))
}

/** Those that were started with `dir` as their home, which nobody's is. */
export function killWhoLivesAt(dir) {
  const mark = `\0HOME=${dir}\0`
  killFamilies(({ pid }) => {
    try {
      return `\0${readFileSync(`/proc/${pid}/environ`, 'utf8')}`.includes(mark)
    } catch {
      // It ended, or is somebody else's.
      return false
    }
  })
}

/** The pids of this process's children. */
export function children() {
  return everybody()
    .filter(({ parent }) => parent === process.pid)
    .map(({ pid }) => pid)
}

/** How many descriptors this process has. */
export const descriptors = () => readdirSync('/dev/fd').length
/** How many threads it has; 0 where the system does not say. */
export const threads = () => (existsSync('/proc/self/task') ? readdirSync('/proc/self/task').length : 0)

/** The child that a process recorded in `file` has; undefined when it has none. */
export function childOfRecorded(file) {
  const known = records(file)
  const all = everybody()
  const lives = ({ pid, started }) => all.some((one) => one.pid === pid && one.started === started)
  return all.find(({ parent }) => known.some((one) => one.pid === parent && lives(one)))?.pid
}

/** A number that is another for every process that ever gets this pid (its start time); undefined when it is gone. */
export function startTime(pid) {
  try {
    if (process.platform !== 'linux') return process.kill(pid, 0) && '0'
    // The second field, the name in parentheses, may hold anything; the start time is the 20th after it.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1).split(' ')
    return fields[0] === 'Z' ? undefined : fields[19]
  } catch {
    return undefined
  }
}

/** Sends a signal to the process whose number is in `file`, if it had it when that was written. Returns the number. */
export function signalWriterOf(file, signal = 'SIGKILL') {
  const pid = Number(readFileSync(file, 'utf8'))
  if (process.platform === 'linux') {
    // Linux counts in hundredths of a second since the boot; clocks are read one after the other.
    const boot = Date.now() - Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000
    const began = boot + Number(startTime(pid)) * 10
    if (!(began < statSync(file).mtimeMs + 1000)) throw new Error(`${file} was not written by process ${pid}`)
  }
  process.kill(pid, signal)
  return pid
}

/** Pids of the processes that have `text` in an argument, oldest first: to be looked at, for they may be anybody's. */
export function processesWith(text) {
  const found = []
  for (const pid of readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)) {
    if (pid === process.pid) continue
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text) && startTime(pid)) found.push(pid)
    } catch {
      // It ended meanwhile.
    }
  }
  return found.sort((a, b) => Number(startTime(a) ?? 0) - Number(startTime(b) ?? 0))
}

/** Blocks this thread: exit handlers have no other way to wait. */
export function pause(ms) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

/** Resolves when the process has ended; rejects when it has not within `timeoutMs`. */
export async function waitExit(child, timeoutMs) {
  if (child.exitCode !== null || child.signalCode !== null) return
  await new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`process ${child.pid} did not end within ${timeoutMs} ms`)),
      timeoutMs,
    )
    child.once('exit', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}
