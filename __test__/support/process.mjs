// Processes: as root when we are not, who is alive, who belongs to what.
import { execFileSync, spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

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

/** Pids of the processes that have `text` in an argument, oldest first. */
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

/** Kills the processes that have `text` in an argument and blocks until they are gone. */
export function killProcessesWith(text) {
  for (let left = processesWith(text); left.length > 0; left = processesWith(text)) {
    try {
      runAsRoot('kill', '-KILL', ...left.map(String))
    } catch {
      // One of them ended by itself.
    }
    pause(10)
  }
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
