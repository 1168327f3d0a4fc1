// A disk that is full or may not be written: a code, and everything as before.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { TEST_USER } from '../../scripts/setup.mjs'
import { assertNothing, assertWhole, inChild, LimaRuntimeManager, refused, snapshot } from '../support/installs.mjs'
import {
  limaArchive,
  limaFiles,
  limaUrl,
  manifestOf,
  mirrored,
  PLATFORM,
  publishLima,
  tarball,
} from '../support/release-files.mjs'
import { startReleaseServer } from '../support/release-server.mjs'
import { tempDir } from '../support/tempdir.mjs'

const asRoot = process.getuid?.() === 0 ? [] : ['sudo', '-n']
const root = (...command) => {
  const [file, ...args] = [...asRoot, ...command]
  return spawnSync(file, args, { encoding: 'utf8' })
}

/** Mounts something on `at` for the length of a test; undefined where that is not allowed. */
function mounted(t, how, at = tempDir('mount')) {
  if (process.platform !== 'linux' || root('mount', ...how, at).status !== 0) {
    t.skip('needs to mount a file system: Linux, and root or password-less sudo')
    return undefined
  }
  t.after(() => root('umount', '-l', at))
  root('chown', String(process.getuid()), at)
  return at
}

async function served(t) {
  const server = await startReleaseServer()
  t.after(() => server.close())
  return server
}

/** A manager of `body` as version `version`, in `dataDir`. */
async function managerOf(server, dataDir, body, version, source = {}) {
  const url = limaUrl(PLATFORM, version)
  const dir = tempDir()
  server.file(mirrored(url), { body })
  const manifest = join(dir, 'manifest.json')
  writeFileSync(
    manifest,
    JSON.stringify(manifestOf({ lima: { [PLATFORM]: [{ url, body, ...source }] } }, { lima: version })),
  )
  return new LimaRuntimeManager({ dataDir, manifest, mirror: server.url })
}

for (const [name, source, payload, faults] of [
  ['known beforehand', {}, 8_000_000, []],
  ['found while writing', { size: undefined }, 8_000_000, [{ kind: 'chunked', times: 99 }]],
]) {
  test(`a full disk, ${name}: DISK_FULL, and the older version still works`, async (t) => {
    const at = mounted(t, ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs'])
    if (!at) return
    const server = await served(t)
    const dataDir = join(at, 'data')
    const old = await managerOf(server, dataDir, limaArchive({ payload: 100_000 }), '1.2.1')
    await old.install()
    const before = snapshot(dataDir)
    const big = limaArchive({ version: '1.2.2', payload })
    const manager = await managerOf(server, dataDir, big, '1.2.2', source)
    const path = mirrored(limaUrl(PLATFORM, '1.2.2'))
    server.fault(path, ...faults)
    const error = await refused(manager.install(), 'DISK_FULL')
    assert.match(error.hint, /\w/)
    if (faults.length === 0) assert.equal(server.counts(path).bytes, 0, 'found before the first byte')
    const after = Object.fromEntries(Object.entries(snapshot(dataDir)).filter(([p]) => !p.startsWith('cache')))
    assert.deepEqual(after, Object.fromEntries(Object.entries(before).filter(([p]) => !p.startsWith('cache'))))
    assertWhole(old, limaFiles({ payload: 100_000 }))
    assert.equal(await old.isInstalled(), true)
  })
}

test('an archive that fits but whose contents do not: DISK_FULL, nothing left', async (t) => {
  const at = mounted(t, ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs'])
  if (!at) return
  const server = await served(t)
  const body = tarball({ ...limaFiles({ payload: 1000 }), 'share/lima/zeros': { bytes: Buffer.alloc(16_000_000) } })
  assert.ok(body.length < 1_000_000)
  const manager = await managerOf(server, join(at, 'data'), body, '1.2.1')
  await refused(manager.install(), 'DISK_FULL')
  assertNothing(join(at, 'data'))
  const room = Number(/(\d+)%/.exec(execFileSync('df', ['--output=pcent', at], { encoding: 'utf8' }))[1])
  assert.ok(room < 50, `${room}% of the disk still taken`)
})

test('a read-only file system: PERMISSION_DENIED, everything as before', async (t) => {
  const dir = tempDir()
  const server = await served(t)
  const manager = await managerOf(server, join(dir, 'data'), limaArchive(), '1.2.1')
  await manager.install()
  const before = snapshot(dir)
  // In place: bin/lima and bin/nerdctl name the directory, and would be written anew at another one.
  const at = mounted(t, ['--bind', dir], dir)
  if (!at) return
  assert.equal(root('mount', '-o', 'remount,ro,bind', at).status, 0)
  const there = await managerOf(server, join(at, 'data'), limaArchive(), '1.2.1')
  assert.equal(await there.isInstalled(), true, 'reading needs no writing')
  await there.install()
  const newer = await managerOf(server, join(at, 'data'), limaArchive({ version: '1.2.2' }), '1.2.2')
  const error = await refused(newer.install(), 'PERMISSION_DENIED')
  assert.match(error.hint, /\w/)
  await refused(there.uninstall(), 'PERMISSION_DENIED')
  const fresh = await managerOf(server, join(at, 'fresh'), limaArchive(), '1.2.1')
  await refused(fresh.install(), 'PERMISSION_DENIED')
  assert.deepEqual(snapshot(dir), before)
})

test('a directory of somebody else: PERMISSION_DENIED', async (t) => {
  const id = (flag) => Number(spawnSync('id', [flag, TEST_USER], { encoding: 'utf8' }).stdout)
  if (process.getuid?.() !== 0 || !id('-u')) return t.skip(`needs root, to run as ${TEST_USER}`)
  const server = await served(t)
  const dir = tempDir()
  chmodSync(dir, 0o755)
  mkdirSync(join(dir, 'theirs'), { mode: 0o755 })
  const { path: _, ...origin } = await publishLima(server, dir, limaArchive())
  chmodSync(origin.manifest, 0o644)
  const run = (dataDir) =>
    inChild({ options: { dataDir, ...origin } }, { uid: id('-u'), gid: id('-g'), cwd: '/', env: { HOME: dir } }).result
  for (const dataDir of [join(dir, 'theirs'), join(dir, 'theirs/new/data')]) {
    const result = await run(dataDir)
    assert.equal(result.code, 'PERMISSION_DENIED', JSON.stringify(result))
    assert.match(result.hint, /\w/)
  }
  assert.deepEqual(snapshot(join(dir, 'theirs')), {})
})
