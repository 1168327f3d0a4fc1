// `npm run pack:all`: tarballs in artifacts/, one of the main package and one for each target whose addon lies in
// artifacts/native (`npm run build:targets`, or a release job's downloads); with none there, the host's is built.
// `--release` insists on all of them, and that each may ship.
// The checkout's package.json names no platform package: what is not published yet could not be installed.
import { execFileSync } from 'node:child_process'
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { addonProblems } from './addon-checks.mjs'
import { root, run } from './run.mjs'
import { hostTarget, TARGETS } from './targets.mjs'

export const NATIVE = join(root, 'artifacts/native')

const manifest = () => JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const OS = { darwin: 'macOS', linux: 'Linux', win32: 'Windows' }

/** package.json of the published main package. */
function mainManifest() {
  const { devDependencies: _, scripts: __, napi: ___, ...published } = manifest()
  const optionalDependencies = Object.fromEntries(TARGETS.map((t) => [t.package, published.version]))
  return { ...published, ...repository(), optionalDependencies }
}

/** package.json of the package that holds `target`'s addon: a row of targets.mjs. */
export function platformManifest(target) {
  const { version, license, engines } = manifest()
  return {
    name: target.package,
    version,
    description: `The native part of lima-runtime for ${OS[target.os]} on ${target.cpu}`,
    license,
    ...repository(),
    main: target.node,
    files: [target.node],
    os: [target.os],
    cpu: [target.cpu],
    ...(target.libc ? { libc: [target.libc] } : {}),
    engines,
    // Yarn's Plug'n'Play would keep it in a zip, from which the system cannot load it.
    preferUnplugged: true,
  }
}

/** npm accepts a provenance statement only for the repository that the package names, and finds README's links by it. */
function repository() {
  const { GITHUB_SERVER_URL: server, GITHUB_REPOSITORY: name } = process.env
  return server && name ? { repository: { type: 'git', url: `git+${server}/${name}.git` } } : {}
}

/** Packs the addons in `native` into tarballs in `out`; returns `{ name, path, unpacked }` of each. */
export function packAll({ native = NATIVE, out = join(root, 'artifacts') } = {}) {
  const packages = [packMain(out)]
  for (const target of TARGETS) {
    const addon = join(native, target.node)
    if (existsSync(addon)) packages.push(packPlatform(target, addon, out))
  }
  return packages
}

/** What the main package holds, as npm tells it: `{ files, unpackedSize }`. */
export function mainContents() {
  return JSON.parse(npm(['pack', '--dry-run', '--json', '--ignore-scripts'], root))[0]
}

function packMain(out) {
  const stage = freshStage(out, 'lima-runtime')
  for (const { path } of mainContents().files) cpSync(join(root, path), join(stage, path))
  return tarball(stage, mainManifest(), out)
}

function packPlatform(target, addon, out) {
  const stage = freshStage(out, target.package)
  copyFileSync(addon, join(stage, target.node))
  const { description, name } = platformManifest(target)
  writeFileSync(
    join(stage, 'README.md'),
    `# ${name}\n\n${description}. Do not install it yourself: lima-runtime does.\n`,
  )
  for (const file of ['LICENSE', 'NOTICE']) copyFileSync(join(root, file), join(stage, file))
  return tarball(stage, platformManifest(target), out)
}

function freshStage(out, name) {
  const stage = join(out, 'packages', name)
  rmSync(stage, { recursive: true, force: true })
  mkdirSync(stage, { recursive: true })
  return stage
}

function tarball(stage, manifest, out) {
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
  const [{ filename, name, unpackedSize }] = JSON.parse(npm(['pack', '--json', '--pack-destination', out], stage))
  return { name, path: join(out, filename), unpacked: unpackedSize }
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`

function npm(args, cwd) {
  const stdio = ['ignore', 'pipe', 'ignore']
  // On Windows npm is a shell script.
  return execFileSync('npm', args, { cwd, stdio, encoding: 'utf8', shell: process.platform === 'win32' })
}

/** Exits unless every target's addon exists and may ship. */
function assertComplete() {
  const problems = TARGETS.flatMap((target) => {
    const addon = join(NATIVE, target.node)
    if (!existsSync(addon)) return [`${target.name}: ${addon} is missing`]
    return addonProblems(target, addon).problems.map((problem) => `${target.name}: ${problem}`)
  })
  for (const problem of problems) console.error(`pack:all: ${problem}`)
  if (problems.length > 0) process.exit(1)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const forRelease = process.argv.includes('--release')
  if (forRelease) assertComplete()
  if (TARGETS.some((t) => existsSync(join(NATIVE, t.node)))) run('node', ['scripts/build.mjs', '--js'], { cwd: root })
  else {
    run('node', ['scripts/build.mjs', '--release'], { cwd: root })
    const { node } = hostTarget()
    mkdirSync(NATIVE, { recursive: true })
    copyFileSync(join(root, 'dist', node), join(NATIVE, node))
  }
  const [main, ...platforms] = packAll()
  for (const { name, path, unpacked } of [main, ...platforms]) console.log(`${megabytes(unpacked)} ${name} (${path})`)
  const largest = Math.max(...platforms.map(({ unpacked }) => unpacked))
  console.log(`Installed: 2 packages, at most ${megabytes(main.unpacked + largest)}`)
}
