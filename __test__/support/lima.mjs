// A VM without a VM: the limactl stand-in with a real sshd as its guest, used through the facade by an ordinary user.
import assert from 'node:assert/strict'
import { execFileSync, fork, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { limaThatRuns, serveLima } from './given-lima.mjs'
import { makeOwned, orphans } from './owned.mjs'
import { killWhoLivesAt } from './process.mjs'
import { LIMA_VERSION } from './release-files.mjs'

export const USER = 'lima-runtime-test'
/** Those that the stand-in can be. */
export const LIMAS = process.env.LIMA_RUNTIME_TEST_LIMA ? [process.env.LIMA_RUNTIME_TEST_LIMA] : ['1.2.1', '2.2.0']
const file = (path) => fileURLToPath(new URL(path, import.meta.url))

/** Who runs Lima: ourselves, or the test user when we are root. */
export function ordinaryUser() {
  if (process.getuid() !== 0) return {}
  const [, , uid, gid, , home] = execFileSync('getent', ['passwd', USER], { encoding: 'utf8' }).trim().split(':')
  return { uid: Number(uid), gid: Number(gid), home }
}

/** Why these tests cannot run here; undefined when they can. */
export function missing() {
  if (process.platform !== 'linux') return 'the stand-in for limactl needs Linux'
  if (!existsSync('/usr/sbin/sshd')) return 'no /usr/sbin/sshd; run `node scripts/setup.mjs test`'
  if (process.getuid() === 0 && spawnSync('id', [USER]).status !== 0)
    return `no user ${USER}; run \`node scripts/setup.mjs test\``
  return undefined
}

/**
 * A directory of the ordinary user's with a home in it and the addon, a server that has Lima, the guest image and
 * containerd, and options that use all of it. Of several versions the last is the default; `bodies` are as `serveLima` takes them.
 */
export async function limaRig(
  t,
  { archive, version = process.env.LIMA_RUNTIME_TEST_LIMA ?? LIMA_VERSION, ...bodies } = {},
) {
  for (const dir of orphans('vm')) rmSync(dir, { recursive: true, force: true })
  const user = ordinaryUser()
  const dir = makeOwned('vm')
  const give = (path) => user.uid !== undefined && chownSync(path, user.uid, user.gid)
  const children = new Set()
  t.after(async () => {
    for (const child of children) child.kill('SIGKILL')
    // Host agents, drivers, their sshd.
    killWhoLivesAt(join(dir, 'home'))
    rmSync(dir, { recursive: true, force: true })
  })
  give(dir)
  const dist = join(dir, 'dist')
  mkdirSync(dist)
  for (const name of readdirSync(file('../../dist')).filter((n) => n === 'index.cjs' || n.endsWith('.node')))
    copyFileSync(file(`../../dist/${name}`), join(dist, name))
  copyFileSync(file('lima-child.mjs'), join(dist, 'child.mjs'))
  copyFileSync(file('../../tests/support/limactl.mjs'), join(dir, 'limactl.mjs'))
  const home = join(dir, 'home')
  mkdirSync(home)
  give(home)
  chmodSync(dir, 0o755)

  const standIn = (version) =>
    limaThatRuns([process.execPath, join(dir, 'limactl.mjs')], `LIMA_STAND_IN=${version}; export LIMA_STAND_IN`)
  const standIns = () => Object.fromEntries([version].flat().map((version) => [version, standIn(version)]))
  const { server, options: source } = await serveLima(dir, archive ?? standIns(), bodies)
  t.after(() => server.close())
  const containerdSocket = join(dir, 'containerd.sock')
  const containerd = createServer().listen(containerdSocket)
  t.after(() => containerd.close())
  await new Promise((resolve) => containerd.once('listening', resolve))
  chmodSync(containerdSocket, 0o777)

  const options = {
    dataDir: join(dir, 'd'),
    ...source,
    engineSocket: containerdSocket,
    resources: { cpus: 1, memory: '512MiB', mounts: [] },
  }

  /** An application: a process with managers in it. */
  function app(env = {}) {
    const { home: _home, ...ids } = user
    const child = fork(join(dist, 'child.mjs'), [join(dist, 'index.cjs')], {
      ...ids,
      cwd: dir,
      env: { HOME: home, PATH: process.env.PATH, TMPDIR: '/tmp', ...env },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      serialization: 'advanced',
    })
    children.add(child)
    const waiting = new Map()
    let last = 0
    child.on('message', ({ id, value, error }) => {
      if (id === undefined) return
      const { resolve, reject } = waiting.get(id)
      waiting.delete(id)
      if (error) reject(Object.assign(new Error(error.message), error))
      else resolve(value)
    })
    const gone = new Promise((resolve) => child.once('exit', resolve))
    gone.then(() => {
      for (const { reject } of waiting.values()) reject(new Error('the application ended'))
    })
    const ask = (request) =>
      new Promise((resolve, reject) => {
        waiting.set(++last, { resolve, reject })
        child.send({ id: last, options, ...request })
      })
    const call = (method, ...args) => ask({ method, args })
    return { ask, call, child, gone }
  }

  /** Runs a program as the ordinary user. */
  function run(program, args, more = {}) {
    const { home: _home, ...ids } = user
    return spawnSync(program, args, { ...ids, cwd: '/', env: { PATH: '/usr/bin:/bin', HOME: home }, ...more })
  }

  return { dir, home, options, app, run, server, vm: join(options.dataDir, 'vms', 'default') }
}

/** The error, of this code, as it crossed from another process. */
export async function rejected(promise, code) {
  const error = await promise.then(
    () => assert.fail(`resolved instead of ${code}`),
    (e) => e,
  )
  assert.equal(error.code, code, error.message)
  return error
}
