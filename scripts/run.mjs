import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The project's directory. */
export const root = fileURLToPath(new URL('..', import.meta.url)).replace(/[\\/]$/, '')

/** The directories whose TypeScript is checked. */
export const typeProjects = [
  'js',
  'electron',
  'cli',
  'ui',
  'examples/electron-app',
  'examples/service-manager',
  '__test__/types',
].filter((dir) => existsSync(`${root}/${dir}/tsconfig.json`))

/** Runs a program to its end with our own stdio; when it fails, this script exits with its code. */
export function run(program, args, { env = {}, ...options } = {}) {
  const { status, error } = spawnSync(program, args, { stdio: 'inherit', ...options, env: { ...process.env, ...env } })
  if (error) throw error
  if (status !== 0) process.exit(status ?? 1)
}

/** True when node_modules is up to date with package-lock.json, by their times. */
export function hasNodeModules(dir = root) {
  const installed = statSync(`${dir}/node_modules/.package-lock.json`, { throwIfNoEntry: false })
  return installed !== undefined && installed.mtimeMs >= statSync(`${dir}/package-lock.json`).mtimeMs
}

/**
 * The command that installs the npm packages. Not `npm ci`, which refuses a lock file that lacks optional packages of
 * platforms that the registry did not have then.
 */
export function npmInstall() {
  // Under `npm run` npm gives its path; Windows would not find it by name.
  const npm = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : ['npm']
  return [...npm, 'install', '--no-save', '--no-audit', '--no-fund']
}

/** Programs of the npm packages, run by Node directly: npx is slower and prints npm's warnings. */
export const TSC = `${root}/node_modules/typescript/bin/tsc`
export const BIOME = `${root}/node_modules/@biomejs/biome/bin/biome`

/**
 * rustup looks for its toolchains under HOME: with another HOME (sudo, an empty one) it must be told where they are.
 */
function findToolchain() {
  if (process.env.RUSTUP_HOME) return
  const bin = process.env.PATH.split(delimiter).find((dir) => existsSync(join(dir, 'rustup')))
  if (!bin || !existsSync(join(bin, '../../.rustup'))) return
  process.env.RUSTUP_HOME = join(bin, '../../.rustup')
  process.env.CARGO_HOME ??= join(bin, '..')
}

/** What is missing or too old of Node and Rust, one sentence each with what to do; empty when nothing is. */
export function missingTools() {
  const missing = []
  findToolchain()
  const node = JSON.parse(readFileSync(`${root}/package.json`, 'utf8')).engines.node.replace('>=', '')
  if (Number(process.versions.node.split('.')[0]) < Number(node)) {
    missing.push(
      `Node.js ${node} or newer is needed, this is ${process.versions.node}. Get it from https://nodejs.org.`,
    )
  }
  const wanted = /^rust-version = "(.+)"/m.exec(readFileSync(`${root}/Cargo.toml`, 'utf8'))[1]
  for (const tool of ['rustc', 'cargo']) {
    const { error, stdout } = spawnSync(tool, ['--version'], { encoding: 'utf8' })
    const version = / (\d+)\.(\d+)\./.exec(stdout ?? '')
    if (error || !version)
      missing.push(`Rust's ${tool} was not found. Install Rust ${wanted} or newer from https://rustup.rs.`)
    else if (older([version[1], version[2]], wanted.split('.'))) {
      missing.push(
        `Rust ${wanted} or newer is needed, ${tool} is ${version[1]}.${version[2]}. Update with: rustup update stable`,
      )
    }
  }
  return missing
}

/** True when version `a` comes before `b`; both as [major, minor]. */
function older(a, b) {
  return Number(a[0]) === Number(b[0]) ? Number(a[1]) < Number(b[1]) : Number(a[0]) < Number(b[0])
}
