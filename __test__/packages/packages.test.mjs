// The packages as a user gets them: packed, installed by npm from a registry, loaded, typed; and each way an
// installation is known to go wrong.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { isReleaseBuild } from '../../bench/report.mjs'
import { packAll } from '../../scripts/pack.mjs'
import { root } from '../../scripts/run.mjs'
import { SMOKE_CODES, SMOKE_SCRIPT } from '../../scripts/smoke.mjs'
import { hostTarget, TARGETS } from '../../scripts/targets.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { startNpmRegistry } from './registry.mjs'

const exec = promisify(execFile)
const host = hostTarget()
// As require() names it: macOS' temporary directory lies behind a link.
const work = realpathSync(tempDir('packages'))
const project = join(work, 'project')
const modules = join(project, 'node_modules')
const isRelease = isReleaseBuild()
let packages
let registry

before(async () => {
  const native = join(work, 'native')
  mkdirSync(native)
  // npm reads the manifest of every platform's package and unpacks the host's: the others need hold no addon.
  for (const target of TARGETS) writeFileSync(join(native, target.node), '')
  await stripped(join(root, 'dist', host.node), join(native, host.node))
  const out = join(work, 'out')
  mkdirSync(out)
  packages = packAll({ native, out })
  registry = await startNpmRegistry(
    packages.map(({ name, path }) => ({
      manifest: JSON.parse(readFileSync(join(out, 'packages', name, 'package.json'), 'utf8')),
      tarball: path,
    })),
  )
  await install(project)
})

after(() => registry?.close())

describe('installed from a registry', () => {
  test('two packages and no more', (t) => {
    const installed = readdirSync(modules).filter((name) => !name.startsWith('.'))
    assert.deepEqual(installed.sort(), ['lima-runtime', host.package])
    const size = installed.reduce((sum, name) => sum + sizeOf(join(modules, name)), 0) / 1e6
    t.diagnostic(`${installed.length} packages, ${size.toFixed(2)} MB (${isRelease ? 'release' : 'debug, stripped'})`)
    // The goal is 10 (bench/RESULTS.md says why it is missed): what is larger than this is so by a mistake, and is not published.
    if (isRelease) assert.ok(size <= 12, `${size} MB`)
  })

  test('the main package holds no addon and what it names', () => {
    const files = readdirSync(join(modules, 'lima-runtime'), { recursive: true })
    assert.deepEqual(
      files.filter((name) => name.endsWith('.node')),
      [],
    )
    for (const name of ['dist/index.cjs', 'dist/index.mjs', 'index.d.ts', 'index.d.mts'])
      assert.ok(files.includes(name), name)
  })

  test('require and import work, and give the same classes', async () => {
    writeFileSync(join(project, 'smoke.cjs'), SMOKE_SCRIPT)
    assert.match(await node(project, 'smoke.cjs'), new RegExp(`${SMOKE_CODES}$`))
    writeFileSync(
      join(project, 'both.mjs'),
      `import { createRequire } from 'node:module'
import * as esm from 'lima-runtime'
const cjs = createRequire(import.meta.url)('lima-runtime')
const names = Object.keys(cjs)
console.log(names.length > 0 && names.every((name) => esm[name] === cjs[name]))
`,
    )
    assert.equal(await node(project, 'both.mjs'), 'true')
  })

  for (const [title, file, options] of [
    ['node16, ESM', 'use.mts', { module: 'node16' }],
    ['node16, CJS', 'use.cts', { module: 'node16' }],
    ['nodenext, ESM', 'use.mts', { module: 'nodenext' }],
    ['bundler', 'use.ts', { module: 'preserve', moduleResolution: 'bundler' }],
  ]) {
    test(`tsc resolves the types: ${title}`, async () => {
      writeFileSync(
        join(project, file),
        `import { DockerAdapter, RuntimeError, type ContainerInfo } from 'lima-runtime'
export const list: Promise<ContainerInfo[]> = new DockerAdapter().listContainers({ all: true })
export const code = (error: unknown): string => (error instanceof RuntimeError ? error.code : '')
// @ts-expect-error: the types are there, not any
new DockerAdapter(1)
`,
      )
      const tsconfig = join(project, 'tsconfig.json')
      const compilerOptions = {
        ...options,
        target: 'es2022',
        strict: true,
        skipLibCheck: false,
        noEmit: true,
        types: ['node'],
        typeRoots: [join(root, 'node_modules/@types')],
      }
      writeFileSync(tsconfig, JSON.stringify({ compilerOptions, files: [file] }))
      await exec(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', tsconfig]).catch((error) =>
        assert.fail(error.stdout || error.message),
      )
    })
  }

  test('publint has nothing to say', async () => {
    const pkgDir = join(modules, 'lima-runtime')
    const { messages, pkg } = await publint({ pkgDir, strict: true, pack: false })
    assert.deepEqual(
      messages.map((message) => formatMessage(message, pkg)),
      [],
    )
  })

  test('arethetypeswrong has nothing to say', async () => {
    const attw = join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js')
    // Resolution as of Node 10 knows no exports map, and the custom elements are for browsers: ESM alone.
    const rules = ['--profile', 'node16', '--ignore-rules', 'cjs-resolves-to-esm']
    const args = [attw, packages[0].path, ...rules, '--no-emoji', '--format', 'ascii']
    await exec(process.execPath, args).catch((error) => assert.fail(error.stdout || error.message))
  })
})

// By pnpm each package sees only what it names; by Yarn's Plug'n'Play there is no node_modules at all.
describe('installed by another package manager', () => {
  for (const [title, by] of [
    ['pnpm', pnpm],
    ['Yarn, node_modules', (dir) => yarn(dir, 'node-modules')],
    ['Yarn, Plug’n’Play', (dir) => yarn(dir, 'pnp')],
  ]) {
    test(title, async () => {
      const dir = join(work, title.replace(/\W+/g, '-'))
      mkdirSync(dir)
      writeFileSync(join(dir, 'package.json'), JSON.stringify({ name: 'consumer', private: true }))
      const run = await by(dir)
      writeFileSync(join(dir, 'smoke.cjs'), SMOKE_SCRIPT)
      assert.match(await run('smoke.cjs'), new RegExp(`${SMOKE_CODES}$`))
    })
  }
})

describe('an installation gone wrong', () => {
  test('--omit=optional: says what is missing and how to get it', async () => {
    const bare = join(work, 'bare')
    await install(bare, '--omit=optional')
    const { code, message, hint } = await loadError(bare)
    assert.equal(code, 'NOT_INSTALLED')
    assert.match(message, new RegExp(host.package))
    assert.match(hint, /delete node_modules and the lock file.*--omit=optional.*npm\/cli\/issues\/4828/)
  })

  test('a platform there is no addon for', async () => {
    const { code, message, hint } = await loadError(project, pretend({ platform: 'freebsd' }))
    assert.equal(code, 'UNSUPPORTED_PLATFORM')
    assert.match(message, new RegExp(`freebsd-${process.arch}`))
    for (const { os, cpu } of TARGETS) assert.ok(hint.includes(`${os}-${cpu}`), hint)
  })

  test('node_modules from another platform', async () => {
    const other = TARGETS.find((target) => target.os !== host.os)
    const { code, message, hint } = await loadError(project, pretend({ platform: other.os, arch: other.cpu }))
    assert.equal(code, 'NOT_INSTALLED')
    assert.ok(message.includes(other.package) && message.includes(host.package), message)
    assert.ok(hint.includes(`--os=${other.os} --cpu=${other.cpu}`), hint)
  })

  test('Linux with musl', { skip: host.os !== 'linux' && 'Linux only' }, async () => {
    const bare = join(work, 'bare-musl')
    await install(bare, '--omit=optional')
    const { code, hint } = await loadError(bare, 'process.report.getReport = () => ({ header: {} })')
    assert.equal(code, 'UNSUPPORTED_PLATFORM')
    assert.match(hint, /musl/)
  })

  test('an addon that does not load is an error of its own, not a missing package', async () => {
    const broken = copyProject('broken')
    const addon = join(broken, 'node_modules', host.package, host.node)
    writeFileSync(addon, 'no library')
    const { code, message, path } = await loadError(broken)
    assert.equal(code, 'UNSUPPORTED_PLATFORM')
    assert.match(message, /does not load/)
    assert.equal(path, addon)
  })

  test('LIMA_RUNTIME_NATIVE_PATH names the addon, or an error says that it is not there', async () => {
    const moved = copyProject('moved')
    const addon = join(moved, 'addon.node')
    copyFileSync(join(moved, 'node_modules', host.package, host.node), addon)
    rmSync(join(moved, 'node_modules', host.package), { recursive: true })
    assert.equal((await loadError(moved)).code, 'NOT_INSTALLED')
    assert.equal(await loadError(moved, undefined, { LIMA_RUNTIME_NATIVE_PATH: addon }), null)
    const { code, message } = await loadError(moved, undefined, { LIMA_RUNTIME_NATIVE_PATH: '/nowhere.node' })
    assert.equal(code, 'NOT_INSTALLED')
    assert.match(message, /LIMA_RUNTIME_NATIVE_PATH.*nowhere\.node/)
  })
})

describe('a packaged Electron app', () => {
  test('the unpacked tree loads', async () => {
    const app = join(work, 'electron/resources/app.asar.unpacked')
    cpSync(modules, join(app, 'node_modules'), { recursive: true })
    assert.equal(await loadError(app), null)
  })

  test('without the platform package: says how to pack it', async () => {
    const app = join(work, 'electron-bare/resources/app.asar')
    cpSync(join(modules, 'lima-runtime'), join(app, 'node_modules/lima-runtime'), { recursive: true })
    const { code, hint } = await loadError(app)
    assert.equal(code, 'NOT_INSTALLED')
    assert.ok(hint.includes('asarUnpack') && hint.includes(host.package), hint)
  })
})

async function install(dir, ...options) {
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, 'package.json'), JSON.stringify({ name: 'consumer', private: true }))
  const quiet = ['--no-audit', '--no-fund', '--cache', join(work, 'npm-cache')]
  await exec('npm', ['install', 'lima-runtime', '--registry', registry.url, ...quiet, ...options], {
    cwd: dir,
    shell: process.platform === 'win32',
  })
}

/** Installs by a program of node_modules, with these variables; gives what runs a file there. */
async function installBy(program, dir, settings) {
  const home = join(work, 'home')
  mkdirSync(home, { recursive: true })
  // Of somebody who has set nothing up: what `npm test` sets would reach other package managers, too.
  const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|yarn_|pnpm_|xdg_|node_options)/i.test(name))
  const env = { ...Object.fromEntries(kept), HOME: home, USERPROFILE: home, ...settings }
  const run = async (...args) => {
    const argv = [join(root, 'node_modules', program), ...args]
    const { stdout } = await exec(process.execPath, argv, { cwd: dir, env, timeout: 180_000 })
    return stdout.trim()
  }
  await run('add', 'lima-runtime')
  return (file) => run('exec', 'node', file)
}

function pnpm(dir) {
  const settings = { npm_config_registry: registry.url, npm_config_store_dir: join(work, 'pnpm-store') }
  return installBy('pnpm/bin/pnpm.cjs', dir, settings)
}

function yarn(dir, linker) {
  // Or it takes a directory above for its project.
  writeFileSync(join(dir, 'yarn.lock'), '')
  return installBy('@yarnpkg/cli-dist/bin/yarn.js', dir, {
    YARN_NODE_LINKER: linker,
    YARN_NPM_REGISTRY_SERVER: registry.url,
    YARN_UNSAFE_HTTP_WHITELIST: '127.0.0.1',
    YARN_GLOBAL_FOLDER: join(work, 'yarn'),
    YARN_ENABLE_TELEMETRY: '0',
    // On CI it would write no lock file.
    YARN_ENABLE_IMMUTABLE_INSTALLS: 'false',
  })
}

async function node(cwd, ...args) {
  const { stdout } = await exec(process.execPath, args, { cwd, timeout: 180_000 })
  return stdout.trim()
}

/** What require() throws in a new process in `dir`, after `preload` ran; null when it loads. */
async function loadError(dir, preload = '', env = {}) {
  const script = `${preload}
let thrown = null
try { require('lima-runtime') } catch (e) {
  thrown = { code: e.code, message: e.message, hint: e.hint, path: e.details?.path, isError: e instanceof Error }
}
console.log(JSON.stringify(thrown))`
  const file = join(dir, 'load.cjs')
  writeFileSync(file, script)
  const { stdout } = await exec(process.execPath, [file], {
    cwd: dir,
    env: { ...process.env, ...env },
    timeout: 180_000,
  })
  return JSON.parse(stdout)
}

const pretend = (values) =>
  Object.entries(values)
    .map(([name, value]) => `Object.defineProperty(process, '${name}', { value: '${value}' })`)
    .join('\n')

function copyProject(name) {
  const copy = join(work, name)
  cpSync(project, copy, { recursive: true })
  return copy
}

/** A debug build is ten times the size for its line tables, which packing does not need. */
async function stripped(from, to) {
  if (isRelease || process.platform !== 'linux') copyFileSync(from, to)
  else await exec('strip', ['--strip-debug', '-o', to, from])
}

function sizeOf(dir) {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath ?? entry.path, entry.name)).size, 0)
}
