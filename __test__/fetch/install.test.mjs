// What an installation is: where its bytes come from, what it tells, what many callers and aborted ones see.
import assert from 'node:assert/strict'
import {
  appendFileSync,
  cpSync,
  existsSync,
  readFileSync,
  realpathSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { before, test } from 'node:test'
import { BundledRuntimeManager } from 'lima-runtime'
import {
  assertNothing,
  assertWhole,
  cached,
  each,
  inChild,
  LimaRuntimeManager,
  random,
  refused,
  rounds,
  snapshot,
} from '../support/installs.mjs'
import {
  limaArchive,
  limaFiles,
  limaUrl,
  manifestOf,
  mirrored,
  PLATFORM,
  publishLima,
  sha256,
} from '../support/release-files.mjs'
import { spawnReleaseServer, startReleaseServer } from '../support/release-server.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'

const PAYLOAD = 2_000_000
let archive

before(() => {
  archive = limaArchive({ payload: PAYLOAD })
})

const FILES = limaFiles({ payload: PAYLOAD })

/** A server with Lima on it, and a manager that gets it from there. */
async function published(t, { server: serverOptions, spawned = false, ...publish } = {}) {
  const server = await (spawned ? spawnReleaseServer : startReleaseServer)(serverOptions)
  t.after(() => server.close())
  const dir = tempDir()
  const { path, ...origin } = await publishLima(server, dir, archive, publish)
  const dataDir = join(dir, 'data')
  const options = { dataDir, ...origin }
  return { server, dir, dataDir, path, options, manager: new LimaRuntimeManager(options) }
}

test('install, then nothing more to do; uninstall', async (t) => {
  const { server, dataDir, manager } = await published(t)
  assert.equal(await manager.isInstalled(), false)
  assert.equal(await manager.hasPreBundled(), false)
  assert.equal(existsSync(dataDir), false, 'looking makes nothing')
  await manager.install()
  assertWhole(manager, FILES)
  assert.equal(await manager.isInstalled(), true)
  const record = JSON.parse(readFileSync(join(dataDir, 'install.json'), 'utf8'))
  assert.equal(record.components.lima.sha256, sha256(archive))
  assert.equal(record.components.lima.version, '1.2.1')
  await manager.install()
  await manager.initialize()
  assert.deepEqual(server.counts(), { requests: 1, bytes: archive.length })
  await manager.uninstall()
  assert.equal(await manager.isInstalled(), false)
  assert.deepEqual(snapshot(dataDir), {})
  await manager.uninstall()
})

test('progress: phases, percentages that never go back, bytes; messages for a function; an event', async (t) => {
  const { manager } = await published(t, { server: { rate: 4_000_000 } })
  const events = []
  const emitted = []
  manager.on('progress', (event) => emitted.push(event))
  await manager.install({ onProgress: (event) => events.push(event) })
  assert.deepEqual(emitted, events)
  for (const { message } of events) assert.match(message, /\S/)
  const downloads = events.filter((e) => e.phase === 'download' && e.transferred !== undefined)
  assert.ok(downloads.length >= 3, JSON.stringify(events))
  for (const [i, event] of downloads.entries()) {
    assert.equal(event.total, archive.length)
    assert.ok(event.transferred <= archive.length && event.percent >= 0 && event.percent <= 100, JSON.stringify(event))
    if (i > 0) assert.ok(event.percent >= downloads[i - 1].percent && event.transferred >= downloads[i - 1].transferred)
  }
  assert.ok(downloads.some((e) => e.bytesPerSecond > 0 && e.etaSeconds >= 0))
  assert.equal(downloads.at(-1).transferred, archive.length)
  assert.equal(events.at(-1).phase, 'ready')

  const messages = []
  await manager.uninstall()
  await manager.install((message) => messages.push(message))
  assert.ok(messages.length > 0 && messages.every((m) => typeof m === 'string' && m))
  assert.ok(
    messages.every((m, i) => m !== messages[i - 1]),
    'a message is not repeated',
  )
})

test('a progress callback or listener that throws ends nothing', async (t) => {
  const { manager } = await published(t)
  const warnings = []
  const warned = (warning) => warnings.push(warning.message)
  process.on('warning', warned)
  t.after(() => process.off('warning', warned))
  await manager.install(() => {
    throw new Error('mine')
  })
  assertWhole(manager, FILES)
  await new Promise((resolve) => setImmediate(resolve))
  assert.ok(
    warnings.some((w) => w.includes('mine')),
    String(warnings),
  )
})

test('repair mends what differs from the record, and only then', async (t) => {
  const { server, dataDir, manager } = await published(t)
  await manager.install()
  const whole = snapshot(dataDir)
  const prefix = dirname(dirname(realpathSync(manager.getLimactlPath())))
  await manager.install({ repair: true })
  assert.deepEqual(snapshot(dataDir), whole)
  assert.equal(server.counts().requests, 1, 'whole: nothing fetched')

  appendFileSync(join(prefix, 'share/lima/templates/default.yaml'), 'x')
  unlinkSync(join(prefix, 'share/doc/lima/templates'))
  await manager.install({ repair: true })
  assertWhole(manager, FILES)
  unlinkSync(manager.getLimactlPath())
  assert.equal(await manager.isInstalled(), false)
  await manager.install()
  assertWhole(manager, FILES)
})

test('the cache goes before the network, and is not believed unread', async (t) => {
  const { server, dataDir, manager } = await published(t)
  const versions = join(dataDir, 'versions')
  await manager.install()
  rmSync(versions, { recursive: true })
  assert.equal(await manager.isInstalled(), false)
  await manager.install()
  assertWhole(manager, FILES)
  assert.equal(server.counts().requests, 1)

  rmSync(versions, { recursive: true })
  const [file] = Object.keys(snapshot(dataDir)).filter((path) => path.endsWith('.tar.gz'))
  const bytes = readFileSync(join(dataDir, file))
  bytes[bytes.length >> 1] ^= 1
  writeFileSync(join(dataDir, file), bytes)
  await manager.install()
  assertWhole(manager, FILES)
  assert.equal(server.counts().requests, 2)
})

test('sources are tried in order', async (t) => {
  const { server, dir, options, path } = await published(t)
  const missing = limaUrl().replace('github.com', 'first.example')
  const origin = { url: limaUrl(), body: archive }
  writeFileSync(
    join(dir, 'two.json'),
    JSON.stringify(manifestOf({ lima: { [PLATFORM]: [{ ...origin, url: missing }, origin] } })),
  )
  const manager = new LimaRuntimeManager({ ...options, manifest: join(dir, 'two.json') })
  await manager.install()
  assertWhole(manager, FILES)
  assert.deepEqual(
    server.requests().map((r) => [r.path, r.status]),
    [
      [mirrored(missing), 404],
      [path, 200],
    ],
  )
})

test('without a digest nothing is installed, and the source is named; no list beside the file is believed', async (t) => {
  const { server, dataDir, options, path } = await published(t)
  writeFileSync(options.manifest, JSON.stringify(manifestOf({ lima: { [PLATFORM]: [{ url: limaUrl() }] } })))
  const name = path.split('/').at(-1)
  server.file(path.replace(name, 'SHA256SUMS'), `${sha256(archive)}  ${name}\n`)
  const error = await refused(new LimaRuntimeManager(options).install(), 'INVALID_ARGUMENT')
  assert.deepEqual([error.details.field, error.details.url], ['manifest', limaUrl()])
  assert.match(error.message, /no sha256/)
  assertNothing(dataDir)
  assert.deepEqual(server.counts(), { requests: 0, bytes: 0 })
})

test('versions: one of the manifest, with a warning of the process where there is an advice', async (t) => {
  const { server, dir, options } = await published(t)
  const older = limaArchive({ version: '9.1.2', payload: 1000 })
  const url = limaUrl(PLATFORM, '9.1.2')
  server.file(mirrored(url), { body: older })
  const release = (url, body, advice) => ({
    ...(advice && { advice }),
    platforms: { [PLATFORM]: { sources: [{ url, sha256: sha256(body), size: body.length }] } },
  })
  const versions = { '9.2.0': release(limaUrl(), archive), '9.1.2': release(url, older, 'it is out of support') }
  const manifest = join(dir, 'versions.json')
  writeFileSync(manifest, JSON.stringify({ schema: 2, components: { lima: { default: '9.2.0', versions } } }))
  const warnings = []
  const warned = (warning) => warnings.push(warning)
  process.on('warning', warned)
  t.after(() => process.off('warning', warned))
  const managerOf = (lima) => new LimaRuntimeManager({ ...options, manifest, ...(lima && { versions: { lima } }) })
  await managerOf().install()
  assertWhole(managerOf(), FILES)
  const error = await refused(managerOf('9.9.9').install(), 'INVALID_ARGUMENT')
  assert.equal(error.details.field, 'versions.lima')
  assert.match(error.message, /9\.1\.2, 9\.2\.0/)
  assert.deepEqual(warnings, [])
  for (const _ of [1, 2]) await managerOf('9.1.2').install()
  assertWhole(managerOf(), limaFiles({ version: '9.1.2', payload: 1000 }), '9.1.2')
  await waitFor('the warning', () => warnings.length > 0)
  const [{ name, code, message }] = warnings
  assert.deepEqual([warnings.length, name, code], [1, 'RuntimeWarning', 'OUTDATED_VERSION'])
  assert.match(message, /Lima 9\.1\.2: it is out of support/)
  for (const Manager of [LimaRuntimeManager, BundledRuntimeManager]) {
    for (const [wrong, field] of [
      [{ versions: { lima: 7 } }, 'versions.lima'],
      [{ versions: { soup: '1' } }, 'versions.soup'],
      [{ imageVariant: 'huge' }, 'imageVariant'],
      [{ mirrors: 'https://x' }, 'mirrors'],
    ]) {
      const found = (e) => e.code === 'INVALID_ARGUMENT' && e.details.field === field
      assert.throws(() => new Manager(wrong), found, JSON.stringify(wrong))
    }
  }
})

test('a newer manifest brings the newer version beside the old one and switches', async (t) => {
  const { server, dir, dataDir, options } = await published(t)
  await new LimaRuntimeManager(options).install()
  const newer = limaArchive({ version: '1.2.2', payload: 1000 })
  const url = limaUrl(PLATFORM, '1.2.2')
  server.file(mirrored(url), { body: newer })
  writeFileSync(
    join(dir, 'new.json'),
    JSON.stringify(manifestOf({ lima: { [PLATFORM]: [{ url, body: newer }] } }, { lima: '1.2.2' })),
  )
  const manager = new LimaRuntimeManager({ ...options, manifest: join(dir, 'new.json') })
  await manager.install()
  assertWhole(manager, limaFiles({ version: '1.2.2', payload: 1000 }), '1.2.2')
  assert.equal(JSON.parse(readFileSync(join(dataDir, 'install.json'), 'utf8')).components.lima.version, '1.2.2')
})

test('ten processes at once: one download, ten successes', async (t) => {
  const { server, options, manager, path } = await published(t, { spawned: true, server: { rate: 8_000_000 } })
  const children = Array.from({ length: 10 }, () => inChild({ options, wait: true }))
  await Promise.all(children.map((c) => c.ready))
  for (const child of children) child.go()
  const results = await Promise.all(children.map((c) => c.result))
  assert.deepEqual(
    results.filter((r) => !r.ok),
    [],
  )
  assert.deepEqual(await server.counts(path), { requests: 1, bytes: archive.length })
  assertWhole(manager, FILES)
})

test('a second process waits, or LOCKED after its timeoutMs', async (t) => {
  const { server, options, manager, path } = await published(t, { spawned: true })
  await server.fault(path, { kind: 'stall', at: 1000 })
  const first = inChild({ options })
  await server.sent(path, 1000)
  let error
  // A busy machine may need longer to come as far as the lock.
  for (const timeoutMs of [200, 2_000, 20_000]) {
    error = await refused(manager.install({ timeoutMs }), 'LOCKED', 'TIMEOUT')
    if (error.code === 'LOCKED') break
  }
  assert.equal(error.code, 'LOCKED')
  assert.match(error.hint, /\w/)
  first.child.kill('SIGKILL')
  await first.result
  await manager.install()
  assertWhole(manager, FILES)
})

test('aborted at any moment: rejects, and a later call resumes', async (t) => {
  const rand = random(t)
  const { server, dir, options, path } = await published(t, { spawned: true, server: { rate: 20_000_000 } })
  const moments = { downloading: 0, later: 0, done: 0 }
  for (let round = 0; round < rounds(12, 50); round++) {
    const dataDir = join(dir, `abort-${round}`)
    const manager = new LimaRuntimeManager({ ...options, dataDir })
    await server.reset()
    const controller = new AbortController()
    const stopAt = rand() * 1.2 * archive.length
    const abort = () => controller.abort()
    // Past the end of the archive stands for the steps after the download.
    if (stopAt < archive.length) server.sent(path, stopAt).then(abort)
    const onProgress = ({ phase }) => stopAt >= archive.length && !['resolve', 'download'].includes(phase) && abort()
    const { signal } = controller
    const outcome = await manager.install({ signal, onProgress }).catch((error) => error)
    abort()
    if (outcome === undefined) moments.done++
    else {
      assert.equal(outcome.code, 'ABORTED', outcome.stack)
      moments[stopAt < archive.length ? 'downloading' : 'later']++
      if (stopAt < archive.length) assert.equal(await manager.isInstalled(), false)
    }
    const have = cached(dataDir)
    const { requests, bytes } = await server.counts(path)
    await manager.install()
    assertWhole(manager, FILES)
    const again = (await server.requests(path)).slice(requests)
    if (outcome !== undefined && have > 0) assertResumed(again, have, bytes)
    rmSync(dataDir, { recursive: true })
  }
  t.diagnostic(`aborts: ${JSON.stringify(moments)}`)
})

/** The requests after an interruption that left at least `have` bytes of the `sent` ones ask for no byte of them again. */
function assertResumed(requests, have, sent) {
  if (have === archive.length) return assert.deepEqual(requests, [])
  // The last bytes may have been on their way to the disk.
  assert.ok(requests.length > 0 || sent === archive.length)
  for (const { range } of requests)
    assert.ok(Number(/^bytes=(\d+)-/.exec(range)?.[1]) >= have, `${range} with ${have} bytes there`)
}

test('an aborted call before its beginning, and timeoutMs', async (t) => {
  const { server, dataDir, manager, path } = await published(t)
  await refused(manager.install({ signal: AbortSignal.abort() }), 'ABORTED')
  assert.equal(existsSync(dataDir), false)
  server.fault(path, { kind: 'stall', at: 5000 })
  await refused(manager.install({ timeoutMs: 300 }), 'TIMEOUT')
  // The call has ended; its threads tidy up.
  await waitFor('nothing left', () => assertNothing(dataDir) ?? true)
  await manager.install()
  assertWhole(manager, FILES)
})

test('bad options are refused before anything happens', async () => {
  const bad = (options, field) =>
    assert.throws(
      () => new LimaRuntimeManager(options),
      (e) => e.code === 'INVALID_ARGUMENT' && e.details.field === field,
    )
  bad({ appName: '../up' }, 'appName')
  bad({ appName: 7 }, 'appName')
  bad('text', 'options')
  const manager = new LimaRuntimeManager({ dataDir: tempDir(), manifest: '/nonexistent/manifest.json' })
  assert.equal((await refused(manager.install(), 'INVALID_ARGUMENT')).details.field, 'manifest')
  const astray = new LimaRuntimeManager({ dataDir: tempDir(), mirror: 'not an address' })
  assert.equal((await refused(astray.install(), 'INVALID_ARGUMENT')).details.field, 'mirror')
  await refused(manager.install({ repair: 'yes' }), 'INVALID_ARGUMENT')
  await refused(manager.install(7), 'INVALID_ARGUMENT')
})

test('many installations of one process do not disturb each other', async (t) => {
  const { dir, options } = await published(t)
  await each(Array.from({ length: 8 }), 8, async (_, i) => {
    const manager = new LimaRuntimeManager({ ...options, dataDir: join(dir, `many-${i}`) })
    await Promise.all([manager.install(), manager.install(), manager.isInstalled()])
    assertWhole(manager, FILES)
  })
})

test('an installation that is copied elsewhere is whole there', async (t) => {
  const { dir, dataDir, options, manager } = await published(t)
  await manager.install()
  cpSync(dataDir, join(dir, 'moved'), { recursive: true, verbatimSymlinks: true })
  rmSync(dataDir, { recursive: true })
  const moved = new LimaRuntimeManager({ ...options, dataDir: join(dir, 'moved') })
  assert.equal(await moved.isInstalled(), true)
  assertWhole(moved, FILES)
})
