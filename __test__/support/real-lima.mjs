// A VM of a real limactl: `LIMA_RUNTIME_TEST_LIMACTL` lies in an unpacked release, `LIMA_RUNTIME_TEST_TEMPLATE` can be booted
// here, `LIMA_RUNTIME_TEST_BOOT=1` asks for it. Minutes where the processor virtualizes, half an hour where it is emulated:
// `LIMA_RUNTIME_TEST_VM` names a directory whose VM is used, made when there is none, and left running.
import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { composeProgram } from './compose.mjs'
import { serveLima } from './given-lima.mjs'
import { missing, ordinaryUser, USER } from './lima.mjs'
import { makeOwned } from './owned.mjs'

const {
  LIMA_RUNTIME_TEST_LIMACTL: limactl,
  LIMA_RUNTIME_TEST_TEMPLATE: TEMPLATE,
  LIMA_RUNTIME_TEST_DOCKER: dockerArchive,
} = process.env

/** Why there is none, or undefined. */
export function noRealLima() {
  const unasked = !limactl || !process.env.LIMA_RUNTIME_TEST_BOOT
  return missing() ?? (unasked ? 'LIMA_RUNTIME_TEST_LIMACTL and LIMA_RUNTIME_TEST_BOOT are not set' : undefined)
}

/** Why there is none with the Docker Engine, or undefined. */
export const noRealDocker = () =>
  noRealLima() ?? (dockerArchive ? undefined : 'LIMA_RUNTIME_TEST_DOCKER names no archive of the Docker Engine')

/** This machine, as the guest sees it. */
export const HOST = '192.168.5.2'

/** How much longer everything takes in this VM than on this machine. */
export const SLOWNESS = Number(process.env.LIMA_RUNTIME_TEST_SLOWNESS ?? 1)

/** Lima as it is released, of the limactl under test. */
export const limaArchive = (of = limactl) =>
  execFileSync('tar', ['-C', dirname(dirname(of)), '-czf', '-', './bin', './share'], { maxBuffer: 2 ** 31 - 1 })

/** What it calls itself; to root it would not say. */
export function limaVersion(of = limactl) {
  const { uid, gid } = ordinaryUser()
  const options = { encoding: 'utf8', env: { HOME: '/nonexistent' }, uid, gid }
  return execFileSync(of, ['--version'], options).trim().split(' ').at(-1)
}

/** Lima refuses root: from here on this process is the ordinary user's. */
export function becomeOrdinary() {
  const { uid, gid } = ordinaryUser()
  if (uid !== undefined) {
    process.initgroups(USER, gid)
    process.setgid(gid)
    process.setuid(uid)
    process.env.USER = USER
    process.env.LOGNAME = USER
  }
}

/**
 * The VM, for adapters of this process: `options` are what they need to find it, `shared` is a directory both see. `limas`
 * are archives by their version, of which `versions.lima` makes the VM, by `template`.
 * @param {new (options: object) => import('lima-runtime').LimaRuntimeManager} Manager
 */
export async function startRealLima(Manager, { limas = limaArchive(), versions, engine, template = TEMPLATE } = {}) {
  const kept = process.env.LIMA_RUNTIME_TEST_VM
  becomeOrdinary()
  const dir = kept ?? makeOwned('vm')
  const [home, shared] = [join(dir, 'home'), join(dir, 'shared')]
  for (const path of [home, shared]) mkdirSync(path, { recursive: true })
  process.env.HOME = home
  // What tests lay in temporary directories for a container, the guest must see.
  process.env.TMPDIR = shared
  const { server, options: source } = await serveLima(dir, limas, {
    ...(dockerArchive && { docker: readFileSync(dockerArchive) }),
    compose: composeProgram(),
  })
  const resources = {
    cpus: 2,
    memory: '2GiB',
    disk: '8GiB',
    mounts: [{ location: shared, writable: true }],
  }
  const options = {
    dataDir: join(dir, 'd'),
    ...source,
    resources,
    ...(template && { template }),
    ...(engine && { engine }),
  }
  const manager = new Manager({ ...options, ...(versions && { versions }) })
  const said = new Set()
  const onProgress = ({ phase, message }) => {
    const words = message.replace(/\d.*/, '')
    if (!said.has(words)) console.log(`# ${phase}: ${message}`)
    said.add(words)
  }
  const stop = async () => {
    server.close()
    if (kept) return
    await manager.delete()
    rmSync(dir, { recursive: true, force: true })
  }
  try {
    await manager.start({ timeoutMs: 3_600_000, onProgress })
  } catch (error) {
    await stop()
    throw error
  }

  /** Runs one of our wrapper programs, as any program of the host does. */
  function run(program, args, input = '') {
    return new Promise((resolve, reject) => {
      const child = execFile(program, args, { maxBuffer: 2 ** 30 }, (error, stdout) =>
        error ? reject(error) : resolve(stdout.trim()),
      )
      child.stdin.on('error', () => {}).end(input)
    })
  }
  const nerdctl = (args, input) => run(manager.getNerdctlPath(), args, input)
  const root = (script, ...args) => run(manager.getLimaPath(), ['sudo', 'sh', '-c', script, 'sh', ...args])
  return { dir, shared, options, manager, nerdctl, root, stop }
}
