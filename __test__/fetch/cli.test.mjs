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
  const { server, app, manifest: list, args } = await published(t)
  const done = await cli(['download', '--current-platform', ...args], { cwd: app })
  assert.equal(done.code, 0, done.stderr)
  assert.match(done.stdout, /lima 1\.2\.1/)
  const bundle = join(app, 'resources/bundled-runtime', PLATFORM)
  assert.ok(existsSync(join(bundle, 'bundle.json')))
  server.reset()

  // As in a packaged app: found below the resources, with a mirror that nobody serves.
  const origin = { manifest: list, mirror: 'http://127.0.0.1:9' }
  const options = { dataDir: join(tempDir('data'), 'data'), bundledDir: bundle, ...origin }
  const manager = new LimaRuntimeManager(options)
  assert.equal(await manager.hasPreBundled(), true)
  await manager.install()
  assertWhole(manager, FILES)
  assert.equal(await manager.isInstalled(), true)
  assert.deepEqual(server.counts(), { requests: 0, bytes: 0 })
})

test('the bundle is found where it is said to be, by install and status, and never by itself in the working directory', async (t) => {
  const { server, app, manifest: list, args } = await published(t)
  assert.equal((await cli(['download', ...args], { cwd: app })).code, 0)
  server.reset()
  const dataDir = join(tempDir('data'), 'data')
  const env = { LIMA_RUNTIME_MIRROR: 'http://127.0.0.1:9', LIMA_RUNTIME_MANIFEST: list }
  // Whoever made this directory had nothing of theirs installed by whoever stands in it.
  const standing = await cli(['status', '--json', '--data-dir', dataDir], { cwd: app, env })
  assert.deepEqual([standing.code, JSON.parse(standing.stdout).preBundled], [1, false])
  const placed = ['--data-dir', dataDir, '--bundled-dir', 'resources/bundled-runtime']
  const before = await cli(['status', '--json', ...placed], { cwd: app, env })
  assert.equal(before.code, 0, before.stderr)
  const { installed, preBundled, paths } = JSON.parse(before.stdout)
  assert.deepEqual([installed, preBundled], [false, true])
  assert.ok(paths.limactl.startsWith(dataDir))
  const install = await cli(['install', ...placed], { cwd: app, env })
  assert.equal(install.code, 0, install.stderr)
  assert.match(install.stdout, new RegExp(`Installed: ${dataDir}`))
  assertWhole(new LimaRuntimeManager({ dataDir }), FILES)
  assert.equal((await cli(['install', '--repair', '--quiet', ...placed], { cwd: app, env })).code, 0)
  const doctor = await cli(['doctor', '--json', ...placed], { cwd: app, env })
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
  const { app, manifest: list, args } = await published(t)
  assert.equal((await cli(['download', '--out', join(app, 'bundled-runtime'), ...args])).code, 0)
  const program = `process.resourcesPath = ${JSON.stringify(app)}
    const { LimaRuntimeManager } = require(${JSON.stringify(join(CLI, '../index.cjs'))})
    const options = ${JSON.stringify({ dataDir: tempDir(), manifest: list })}
    new LimaRuntimeManager(options).hasPreBundled().then(console.log)`
  const look = (text) => execFileSync(process.execPath, ['-e', text], { cwd: tempDir(), encoding: 'utf8' }).trim()
  assert.equal(look(program), 'true')
  assert.equal(look(program.replace(/^.*\n/, '')), 'false')
})

test('a damaged bundle is no bundle, and the next download mends it', async (t) => {
  const { server, app, manifest: list, args } = await published(t)
  assert.equal((await cli(['download', ...args], { cwd: app })).code, 0)
  const bundle = join(app, 'resources/bundled-runtime', PLATFORM)
  const manager = new LimaRuntimeManager({ dataDir: join(tempDir(), 'data'), bundledDir: bundle, manifest: list })
  assert.equal(await manager.hasPreBundled(), true)
  const lima = join(bundle, 'lima', limaUrl().split('/').at(-1))
  appendFileSync(lima, 'changed\n')
  assert.equal(await manager.hasPreBundled(), false)
  server.reset()
  assert.equal((await cli(['download', ...args], { cwd: app })).code, 0)
  assert.equal(await manager.hasPreBundled(), true)
  unlinkSync(lima)
  assert.equal(await manager.hasPreBundled(), false)
})

test('Lima is shipped unpacked where the manifest says what is in its archive', async (t) => {
  const { app, manifest: list, args } = await published(t)
  const packed = JSON.parse((await cli(['download', '--json', ...args], { cwd: app })).stdout)
  const manifest = JSON.parse(readFileSync(list, 'utf8'))
  const [source] = manifest.components.lima.platforms[PLATFORM].sources
  source.contents = packed[0].contents
  writeFileSync(list, JSON.stringify(manifest))
  const [{ path, downloaded }] = JSON.parse((await cli(['download', '--json', ...args], { cwd: app })).stdout)
  assert.ok(downloaded && existsSync(join(path, 'bin/limactl')))
  const options = { dataDir: join(tempDir(), 'data'), bundledDir: join(path, '..'), manifest: list }
  const manager = new LimaRuntimeManager({ ...options, mirror: 'http://127.0.0.1:9' })
  await manager.install()
  assertWhole(manager, FILES)
  // A manifest that says something else is wrong about its own archive.
  source.contents = 'a'.repeat(64)
  writeFileSync(list, JSON.stringify(manifest))
  assert.equal(await new LimaRuntimeManager(options).hasPreBundled(), false)
  const wrong = await cli(['download', ...args], { cwd: app })
  assert.equal(wrong.code, 3, wrong.stderr)
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
  for (const platform of ['darwin-arm64', PLATFORM]) server.file(mirrored(limaUrl(platform, '2.2.0')), { body: lima })
  const download = ['download', '--platform', 'darwin-arm64', '--mirror', server.url, '--json']
  // The digest where nobody knows the size, else the size at once.
  const digest = '4c6e20510b456a4e380500096ecce72c18d0ce98548064dc8089797de2290fdc'
  for (const [version, expected, actual] of [
    ['1.2.1', digest, sha256(lima)],
    ['2.2.0', 37_586_365, lima.length],
  ]) {
    const done = await cli([...download, '--lima-version', version], { cwd: app })
    assert.equal(done.code, 3, done.stderr)
    const { error } = JSON.parse(done.stdout)
    assert.deepEqual(
      [error.code, error.details.expected, error.details.actual],
      ['CHECKSUM_MISMATCH', expected, actual],
    )
    assert.match(done.stderr, /CHECKSUM_MISMATCH/)
    assert.equal(/OUTDATED_VERSION/.test(done.stderr), version === '1.2.1', done.stderr)
  }
  assert.deepEqual(
    Object.keys(snapshot(app)).filter((path) => path.includes('bin/')),
    [],
  )

  // The mirror's own list of digests is nobody's word but the mirror's.
  const dataDir = join(tempDir(), 'data')
  const url = limaUrl(PLATFORM, '2.2.0')
  const name = url.split('/').at(-1)
  server.file(mirrored(url).replace(name, 'SHA256SUMS'), `${sha256(lima)}  ${name}\n`)
  server.reset()
  const install = await cli(['install', '--mirror', server.url, '--data-dir', dataDir])
  assert.equal(install.code, 3, install.stderr)
  assert.deepEqual(
    server.requests().map((r) => r.path),
    [mirrored(url)],
  )
  assertNothing(dataDir)
})

test('versions and variants are chosen by flags, and one that there is not is exit 2 with those that are', async (t) => {
  const { server, app } = await published(t)
  const out = join(app, 'out')
  const download = (...args) => cli(['download', '--mirror', server.url, '--out', out, '--json', ...args])
  const paths = async (...args) => {
    server.reset()
    assert.equal((await download(...args)).code, 1, 'there is nothing on the mirror')
    return server.requests().map((r) => r.path.split('/').at(-1))
  }
  const platform = ['--platform', 'darwin-arm64']
  assert.deepEqual(await paths(...platform), ['lima-2.2.0-Darwin-arm64.tar.gz'])
  const nerdctl = ['--component', 'nerdctl-full', ...platform]
  assert.deepEqual(await paths(...nerdctl), ['nerdctl-full-2.3.5-linux-arm64.tar.gz'])
  assert.deepEqual(await paths(...nerdctl, '--nerdctl-version', '2.1.6'), ['nerdctl-full-2.1.6-linux-arm64.tar.gz'])
  // What is shipped has to start without a network.
  const image = ['--component', 'image', ...platform]
  assert.deepEqual(await paths(...image), ['ubuntu-24.04-server-cloudimg-arm64.img'])
  assert.deepEqual(await paths(...image, '--image-variant', 'minimal'), ['ubuntu-24.04-minimal-cloudimg-arm64.img'])
  for (const [args, field, says] of [
    [['--lima-version', '9.9'], 'versions.lima', /1\.2\.1, 2\.2\.0/],
    [['--nerdctl-version', 'x'], 'versions.nerdctl', /2\.1\.6, 2\.3\.5/],
    [['--image-variant', 'huge'], 'imageVariant', /minimal.*server/],
  ]) {
    const { code, stdout } = await download(...args)
    assert.equal(code, 2, stdout)
    const { error } = JSON.parse(stdout)
    assert.match(error.message, says)
    assert.match(error.message, new RegExp(field.replace('.', '\\.')))
  }
})

test('interrupted: 130, and the next run goes on from there', async (t) => {
  const { server, app, args } = await published(t, { rate: 400_000 })
  const path = mirrored(limaUrl())
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ]) {
    const stopped = await cli(['download', ...args], {
      cwd: app,
      onStart: async (child) => {
        await server.sent(path, signal === 'SIGINT' ? 100_000 : 50_000)
        child.kill(signal)
        // A closed terminal's shell sends one, and the system another.
        if (signal === 'SIGHUP') child.kill(signal)
      },
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

test('what others say does not steer a terminal', async (t) => {
  const { app, args } = await published(t)
  const { code, stderr } = await cli(['download', ...args, '--manifest', 'no\x1b]52;c;eA==\x07\u202efile'], {
    cwd: app,
  })
  assert.equal(code, 2, stderr)
  assert.match(stderr, /no\\u\{1b\}\]52;c;eA==\\u\{7\}\\u\{202e\}file/)
  assert.ok(!['\x1b', '\x07', '\u202e'].some((c) => stderr.includes(c)))
  const asked = await cli(['download', '--json', ...args, '--manifest', 'no\u009b\u202efile'], { cwd: app })
  assert.ok(!['\u009b', '\u202e'].some((c) => `${asked.stdout}${asked.stderr}`.includes(c)))
  assert.match(JSON.parse(asked.stdout).error.message, /no\u009b\u202efile/)
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
  const { app, manifest, server } = await published(t, { rate: 400_000 })
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
    [['bake'], /--out/],
    [['bake', '--out', 'x', '--engine', 'podman'], /engine/],
    [['bake', '--out', 'x', '--template', 'y'], /--template/],
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
  for (const command of ['download', 'install', 'bake', 'status', 'doctor']) {
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
