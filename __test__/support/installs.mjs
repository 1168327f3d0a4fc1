// Looking at installations from outside.
import assert from 'node:assert/strict'
import { execFileSync, fork } from 'node:child_process'
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, realpathSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { limaFiles, sha256 } from './release-files.mjs'

export const { LimaRuntimeManager, RuntimeError } = createRequire(import.meta.url)('../../dist/index.cjs')

const CHILD = fileURLToPath(new URL('install-child.mjs', import.meta.url))

/**
 * Runs one method of a manager in a child.
 *
 * @returns {{ child, ready: Promise<void>, go: () => void, result: Promise<{ ok, code?, message?, value? } | { signal }> }}
 */
export function inChild(request, { env, ...rest } = {}) {
  const child = fork(CHILD, [JSON.stringify(request)], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    ...rest,
  })
  let got
  const ready = new Promise((resolve) =>
    child.on('message', (message) => {
      if (message.ready) resolve()
      else got = message
    }),
  )
  const result = new Promise((resolve) =>
    child.once('exit', (code, signal) => resolve(got ?? { signal, exitCode: code })),
  )
  return { child, ready, go: () => child.send('go'), result }
}

/** Rejects with a RuntimeError of one of these codes; anything else fails the test. */
export async function refused(promise, ...codes) {
  const error = await promise.then(
    () => assert.fail(`resolved instead of ${codes.join(' or ')}`),
    (error) => error,
  )
  assert.ok(error instanceof RuntimeError, String(error?.stack ?? error))
  assert.ok(codes.includes(error.code), `${error.code} (${error.message}) instead of ${codes.join(' or ')}`)
  return error
}

/** Every file below `dir`: path -> what it is. Times are left out. */
export function snapshot(dir) {
  const found = {}
  const walk = (at) => {
    for (const name of readdirSync(join(dir, at)).sort()) {
      const path = join(at, name)
      const stat = lstatSync(join(dir, path))
      if (stat.isDirectory()) walk(path)
      else if (stat.isSymbolicLink()) found[path] = `-> ${readlinkSync(join(dir, path))}`
      else found[path] = `${(stat.mode & 0o777).toString(8)} ${sha256(readFileSync(join(dir, path)))}`
    }
  }
  if (existsSync(dir)) walk('')
  return found
}

/** The installation `manager` points to holds exactly `files`, and its limactl runs. */
export function assertWhole(manager, files = limaFiles(), version = '1.2.1') {
  const limactl = manager.getLimactlPath()
  const prefix = dirname(dirname(realpathSync(limactl)))
  for (const [path, entry] of Object.entries(files)) {
    const at = join(prefix, path)
    if (entry.link) assert.equal(readlinkSync(at), entry.link, path)
    else {
      assert.equal(sha256(readFileSync(at)), sha256(entry.bytes), path)
      if (entry.mode) assert.equal(statSync(at).mode & 0o777, entry.mode, path)
    }
  }
  assert.match(execFileSync(limactl, ['--version'], { encoding: 'utf8' }), new RegExp(version.replaceAll('.', '\\.')))
}

/** Nothing is installed in `dataDir` and nothing lies about but the cache. */
export function assertNothing(dataDir) {
  const left = Object.keys(snapshot(dataDir)).filter((path) => !/^(cache\/|lock$|state\.json$)/.test(path))
  assert.deepEqual(left, [], 'left behind')
}

/** Bytes of the largest file in the download cache: how far a download has come. */
export function cached(dataDir) {
  const cache = join(dataDir, 'cache')
  if (!existsSync(cache)) return 0
  return readdirSync(cache, { recursive: true })
    .filter((name) => !name.endsWith('.json'))
    .map((name) => statSync(join(cache, name)))
    .reduce((most, stat) => (stat.isFile() ? Math.max(most, stat.size) : most), 0)
}

/** Runs `work` over `items`, `width` at a time. */
export async function each(items, width, work) {
  const queue = items.entries()
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (const [index, item] of queue) await work(item, index)
    }),
  )
}

/** How often a random test repeats: `quick` in `npm test`, `full` in `npm run stress` (LIMA_RUNTIME_TEST_STRESS=1). */
export const rounds = (quick, full) => (process.env.LIMA_RUNTIME_TEST_STRESS ? full : quick)

/** Random numbers that a failed run can be repeated with (LIMA_RUNTIME_TEST_SEED). */
export function random(t, seed = Number(process.env.LIMA_RUNTIME_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))) {
  t.diagnostic(`LIMA_RUNTIME_TEST_SEED=${seed}`)
  let state = seed >>> 0
  // mulberry32
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let z = Math.imul(state ^ (state >>> 15), state | 1)
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32
  }
}
