// The lima-runtime command, run as a user's build runs it.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { appendFileSync, existsSync, readdirSync, readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { assertNothing, assertWhole, LimaRuntimeManager, snapshot } from '../support/installs.mjs'
import {
  imageUrl,
  limaArchive,
  limaFiles,
  limaUrl,
  manifestOf,
  mirrored,
  nerdctlFullArchive,
  nerdctlUrl,
  noise,
  PLATFORM,
  sha256,
} from '../support/release-files.mjs'
import { startReleaseServer } from '../support/release-server.mjs'
import { tempDir } from '../support/tempdir.mjs'

const PACKAGE = fileURLToPath(new URL('../../package.json', import.meta.url))
const CLI = join(PACKAGE, '..', JSON.parse(readFileSync(PACKAGE, 'utf8')).bin['lima-runtime'])

const PAYLOAD = 500_000
const FILES = limaFiles({ payload: PAYLOAD })
let lima
let nerdctl
const image = noise(300_000, 'image')

before(() => {
  lima = limaArchive({ payload: PAYLOAD })
  nerdctl = nerdctlFullArchive()
})

/** Runs the command to its end; `onStart` gets the child. */
function cli(args, { cwd = tempDir('app'), env = {}, onStart } = {}) {
  return new Promise((resolve, reject) => {
    const clean = { ...process.env, LIMA_RUNTIME_MIRROR: '', LIMA_RUNTIME_MANIFEST: '', ...env }
    const child = spawn(process.execPath, [CLI, ...args], { cwd, env: clean, stdio: ['ignore', 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (data) => {
      stdout += data
    })
    child.stderr.on('data', (data) => {
      stderr += data
    })
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
    onStart?.(child)
  })
}

/** A mirror with everything, its manifest, and an empty app. */
async function published(t, options) {
  const server = await startReleaseServer(options)
  t.after(() => server.close())
  const app = tempDir('app')
  const manifest = join(tempDir('manifest'), 'manifest.json')
  const guest = PLATFORM.replace(/^\w+/, 'linux')
  const platforms = { [PLATFORM]: lima, 'darwin-arm64': lima, 'darwin-x64': lima }
  const parts = {
    lima: Object.fromEntries(Object.entries(platforms).map(([p, body]) => [p, [{ url: limaUrl(p), body }]])),
    'nerdctl-full': { [guest]: [{ url: nerdctlUrl(guest), body: nerdctl }] },
    image: { [guest]: [{ url: imageUrl(guest), body: image }] },
  }
  for (const sources of Object.values(parts).flatMap((p) => Object.values(p))) {
    for (const { url, body } of sources) server.file(mirrored(url), { body })
  }
  writeFileSync(manifest, JSON.stringify(manifestOf(parts)))
  return { server, app, manifest, args: ['--mirror', server.url, '--manifest', manifest] }
}

test('download in an empty app directory, then install with the network gone', async (t) => {
  const { server, app, args } = await published(t)
  const done = await cli(['download', '--current-platform', ...args], { cwd: app })
  assert.equal(done.code, 0, done.stderr)
  assert.match(done.stdout, /lima 1\.2\.1/)
  const bundle = join(app, 'resources/bundled-runtime', PLATFORM)
  assert.ok(existsSync(join(bundle, 'bundle.json')))
  server.reset()

  // As in a packaged app: found below the resources, with a mirror that nobody serves.
  const options = { dataDir: join(tempDir('data'), 'data'), bundledDir: bundle, mirror: 'http://127.0.0.1:9' }
  const manager = new LimaRuntimeManager(options)
  assert.equal(await manager.hasPreBundled(), true)
  await manager.install()
  assertWhole(manager, FILES)
  assert.equal(await manager.isInstalled(), true)
  assert.deepEqual(server.counts(), { requests: 0, bytes: 0 })
})

test('the bundle is found under the working directory, and by install and status', async (t) => {
  const { server, app, args } = await published(t)
  assert.equal((await cli(['download', ...args], { cwd: app })).code, 0)
  server.reset()
  const dataDir = join(tempDir('data'), 'data')
  const place = ['--data-dir', dataDir]
  const env = { LIMA_RUNTIME_MIRROR: 'http://127.0.0.1:9' }
  const before = await cli(['status', '--json', ...place], { cwd: app })
  assert.equal(before.code, 0, before.stderr)
  const { installed, preBundled, paths } = JSON.parse(before.stdout)
  assert.deepEqual([installed, preBundled], [false, true])
  assert.ok(paths.limactl.startsWith(dataDir))
  const install = await cli(['install', ...place], { cwd: app, env })
  assert.equal(install.code, 0, install.stderr)
  assert.match(install.stdout, new RegExp(`Installed: ${dataDir}`))
  assertWhole(new LimaRuntimeManager({ dataDir }), FILES)
  assert.equal((await cli(['install', '--repair', '--quiet', ...place], { cwd: app, env })).code, 0)
  const doctor = await cli(['doctor', '--json', ...place], { cwd: app })
  const checks = JSON.parse(doctor.stdout)
  assert.equal(checks.find((c) => c.id === 'installation').status, 'ok')
  for (const { id, title, status, detail } of checks) {
    assert.ok(id && title && detail, JSON.stringify(checks))
    assert.ok(['ok', 'warn', 'fail', 'skipped'].includes(status))
  }
  assert.equal(doctor.code, checks.some((c) => c.status === 'fail') ? 1 : 0)
  assert.deepEqual(server.counts(), { requests: 0, bytes: 0 })
})

test("the bundle is found among an Electron application's resources", async (t) => {
  const { app, args } = await published(t)
  assert.equal((await cli(['download', '--out', join(app, 'bundled-runtime'), ...args])).code, 0)
  const program = `process.resourcesPath = ${JSON.stringify(app)}
    const { LimaRuntimeManager } = require(${JSON.stringify(join(CLI, '../index.cjs'))})
    new LimaRuntimeManager({ dataDir: ${JSON.stringify(tempDir())} }).hasPreBundled().then(console.log)`
  const look = (text) => execFileSync(process.execPath, ['-e', text], { cwd: tempDir(), encoding: 'utf8' }).trim()
  assert.equal(look(program), 'true')
  assert.equal(look(program.replace(/^.*\n/, '')), 'false')
})

test('a damaged bundle is no bundle, and the next download mends it', async (t) => {
  const { server, app, args } = await published(t)
  assert.equal((await cli(['download', ...args], { cwd: app })).code, 0)
  const bundle = join(app, 'resources/bundled-runtime', PLATFORM)
  const manager = new LimaRuntimeManager({ dataDir: join(tempDir(), 'data'), bundledDir: bundle })
  assert.equal(await manager.hasPreBundled(), true)
  const limactl = Object.keys(snapshot(bundle)).find((path) => path.endsWith('bin/limactl'))
  appendFileSync(join(bundle, limactl), '# changed\n')
  assert.equal(await manager.hasPreBundled(), false)
  server.reset()
  assert.equal((await cli(['download', ...args], { cwd: app })).code, 0)
  assert.equal(await manager.hasPreBundled(), true)
  unlinkSync(join(bundle, limactl))
  assert.equal(await manager.hasPreBundled(), false)
})

test('what is there and whole is not fetched again', async (t) => {
  const { server, app, args } = await published(t)
  const everything = ['download', '--component', 'lima', '--component', 'nerdctl-full', '--component', 'image', ...args]
  const first = await cli([...everything, '--json'], { cwd: app })
  assert.equal(first.code, 0, first.stderr)
  const components = JSON.parse(first.stdout)
  assert.deepEqual(components.map((c) => c.component).sort(), ['image', 'lima', 'nerdctl-full'])
  assert.ok(
    components.every((c) => c.downloaded && c.size > 0 && existsSync(c.path)),
    first.stdout,
  )
  const before = snapshot(app)
  server.reset()
  const second = await cli([...everything, '--json'], { cwd: app })
  assert.equal(second.code, 0, second.stderr)
  assert.ok(
    JSON.parse(second.stdout).every((c) => !c.downloaded),
    second.stdout,
  )
  assert.deepEqual(server.counts(), { requests: 0, bytes: 0 })
  assert.deepEqual(snapshot(app), before)
})

test('by default Lima alone; several platforms; --all is what the manifest has; --out', async (t) => {
  const { app, args } = await published(t)
  const out = join(app, 'elsewhere')
  const some = await cli(['download', '--platform', 'darwin-arm64', '--platform', 'darwin-x64', '--out', out, ...args])
  assert.equal(some.code, 0, some.stderr)
  assert.deepEqual(
    readdirSync(out)
      .filter((n) => !n.startsWith('.'))
      .sort(),
    ['darwin-arm64', 'darwin-x64'],
  )
  const all = await cli(['download', '--all', '--json', ...args], { cwd: app })
  assert.equal(all.code, 0, all.stderr)
  const found = JSON.parse(all.stdout)
  assert.deepEqual([...new Set(found.map((c) => c.component))], ['lima'])
  assert.deepEqual(found.map((c) => c.platform).sort(), ['darwin-arm64', 'darwin-x64', PLATFORM].sort())
})

test("the shipped manifest and a mirror's wrong bytes: CHECKSUM_MISMATCH, exit 3, nothing left", async (t) => {
  const { server, app } = await published(t)
  const done = await cli(['download', '--platform', 'darwin-arm64', '--mirror', server.url, '--json'], { cwd: app })
  assert.equal(done.code, 3, done.stderr)
  const { error } = JSON.parse(done.stdout)
  assert.equal(error.code, 'CHECKSUM_MISMATCH')
  assert.equal(error.details.expected, '4c6e20510b456a4e380500096ecce72c18d0ce98548064dc8089797de2290fdc')
  assert.equal(error.details.actual, sha256(lima))
  assert.match(done.stderr, /CHECKSUM_MISMATCH/)
  assert.deepEqual(
    Object.keys(snapshot(app)).filter((path) => path.includes('bin/')),
    [],
  )

  const dataDir = join(tempDir(), 'data')
  const name = limaUrl().split('/').at(-1)
  server.file(mirrored(limaUrl()).replace(name, 'SHA256SUMS'), `${'a'.repeat(64)}  ${name}\n`)
  const install = await cli([
    'install',
    '--mirror',
    server.url,
    '--data-dir',
    dataDir,
    '--bundled-dir',
    join(app, 'none'),
  ])
  assert.equal(install.code, 3, install.stderr)
  assertNothing(dataDir)
})

test('interrupted: 130, and the next run goes on from there', async (t) => {
  const { server, app, args } = await published(t, { rate: 400_000 })
  const path = mirrored(limaUrl())
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ]) {
    const stopped = await cli(['download', ...args], {
      cwd: app,
      onStart: (child) => server.sent(path, signal === 'SIGINT' ? 100_000 : 50_000).then(() => child.kill(signal)),
    })
    assert.equal(stopped.code, code, stopped.stderr)
    assert.match(stopped.stderr, /Interrupted/)
    server.reset()
  }
  server.options.rate = undefined
  const done = await cli(['download', ...args], { cwd: app })
  assert.equal(done.code, 0, done.stderr)
  assert.match(server.requests(path).at(-1).range, /^bytes=[1-9]/)
})

test('progress: plain lines without a terminal, none with --quiet; results on standard output', async (t) => {
  const { app, args } = await published(t, { rate: 2_000_000 })
  const done = await cli(['download', ...args], { cwd: app })
  assert.equal(done.code, 0)
  assert.ok(!done.stderr.includes('\r') && !done.stderr.includes('\x1b'))
  const lines = done.stderr.trim().split('\n')
  assert.ok(lines.length >= 2 && lines.length < 40, done.stderr)
  assert.match(done.stderr, /%/)
  assert.equal(done.stdout.trim().split('\n').length, 1)
  const quiet = await cli(['download', '--quiet', ...args], { cwd: tempDir() })
  assert.deepEqual([quiet.code, quiet.stderr], [0, ''])
})

test('on a terminal a bar redraws itself', async (t) => {
  const { app, manifest, server } = await published(t, { rate: 2_000_000 })
  // util-linux's script(1) is the terminal.
  const command = `'${process.execPath}' '${CLI}' download --mirror ${server.url} --manifest '${manifest}'`
  const output = await new Promise((resolve, reject) => {
    const env = { ...process.env, CI: '', TERM: 'xterm', COLUMNS: '100' }
    const child = spawn('script', ['-qec', command, '/dev/null'], {
      cwd: app,
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    child.stdout.on('data', (data) => {
      text += data
    })
    child.once('error', reject)
    child.once('close', () => resolve(text))
  }).catch(() => undefined)
  if (output === undefined) return t.skip('needs script(1) of util-linux')
  assert.ok(output.includes('\r\x1b[K['), output)
  assert.match(output, /\[=+ +\] +\d+%/)
  assert.match(output, /100%/)
})

test('wrong usage is exit 2 and says what to look at', async () => {
  const cases = [
    [[], /command is missing/],
    [['fetch'], /no command "fetch"/],
    [['download', '--plattform', 'x'], /--plattform/],
    [['download', '--platform'], /--platform/],
    [['download', 'extra'], /extra/],
    [['download', '--all', '--platform', 'darwin-arm64'], /--all/],
    [['download', '--platform', 'amiga-m68k'], /amiga-m68k.*darwin-arm64/s],
    [['download', '--component', 'soup'], /soup/],
    [['download', '--mirror', 'nowhere'], /mirror/],
    [['install', '--mirror', 'ftp://x'], /mirror/],
  ]
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await cli(args)
    assert.equal(code, 2, `${args}: ${stderr}`)
    assert.match(stderr, message)
    assert.doesNotMatch(stderr, /\n\s+at /, 'no stack')
    assert.equal(stdout, '')
  }
})

test('help of everything, and the version', async () => {
  const help = await cli(['--help'])
  assert.equal(help.code, 0)
  for (const command of ['download', 'install', 'status', 'doctor']) {
    assert.match(help.stdout, new RegExp(`^  ${command} `, 'm'))
    const own = await cli([command, '--help'])
    assert.equal(own.code, 0)
    assert.match(own.stdout, new RegExp(`Usage: lima-runtime ${command}`))
    assert.ok(own.stdout.split('\n').every((line) => line.length <= 120))
  }
  assert.equal((await cli(['--version'])).stdout.trim(), JSON.parse(readFileSync(PACKAGE, 'utf8')).version)
})

test('status of nothing is exit 1; doctor names a directory that cannot be written', async () => {
  const app = tempDir('app')
  const dataDir = join(app, 'data')
  const status = await cli(['status', '--data-dir', dataDir], { cwd: app })
  assert.equal(status.code, 1)
  assert.match(status.stdout, /installed +no/)
  assert.equal(existsSync(dataDir), false)
  writeFileSync(join(app, 'file'), '')
  const doctor = await cli(['doctor', '--data-dir', join(app, 'file/data')], { cwd: app })
  assert.equal(doctor.code, 1, doctor.stdout)
  assert.match(doctor.stdout, /^fail +Data directory: .*file/m)
})

test('the command is one small file that can be run', () => {
  assert.ok(statSync(CLI).size < 100_000)
  assert.match(readFileSync(CLI, 'utf8'), /^#!\/usr\/bin\/env node\n/)
})
