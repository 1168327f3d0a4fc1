// The standard library's source for `-Z build-std`: the one thing that cross-compiling needs and a plain toolchain lacks.
// It must match rustc exactly. Looked for in: LIMA_RUNTIME_RUST_SRC (a library/ directory), the toolchain's own rust-src
// component, our cache, and last Debian's rust-src package, by the mirror this machine's apt is set up with.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** Outlives the checkout: its contents are downloaded once a machine. */
export const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'lima-runtime-build')

// In the order in which they get a rustc: backports carry it when Debian stable's own is too old.
const SUITES = ['trixie-backports', 'testing', 'unstable']

const read = (program, args, options) => execFileSync(program, args, { encoding: 'utf8', ...options }).trim()

/** The `library/` directory, downloaded if need be. Throws an Error that says what to do when there is none. */
export function rustSource() {
  const given = process.env.LIMA_RUNTIME_RUST_SRC
  if (given) {
    if (existsSync(join(given, 'std/Cargo.toml'))) return given
    throw new Error(
      `LIMA_RUNTIME_RUST_SRC=${given} holds no std/Cargo.toml: it must name a library/ directory of Rust's source`,
    )
  }
  const component = join(read('rustc', ['--print', 'sysroot']), 'lib/rustlib/src/rust/library')
  if (existsSync(join(component, 'std/Cargo.toml'))) return component
  const release = /^release: (.+)$/m.exec(read('rustc', ['-vV']))[1]
  const cached = join(CACHE, `rust-src-${release}`)
  if (!existsSync(cached)) {
    try {
      fromDebian(release, cached)
    } catch (error) {
      throw new Error(
        `There is no source of the standard library for rustc ${release}: ${error.message}\n` +
          'Install it with `rustup component add rust-src`, or set LIMA_RUNTIME_RUST_SRC to the library/ directory of ' +
          `Rust ${release}'s source.`,
        { cause: error },
      )
    }
  }
  return cached
}

function fromDebian(release, destination) {
  const mirrors = debianMirrors()
  if (mirrors.length === 0)
    throw new Error("apt is not set up with a Debian mirror, so Debian's rust-src cannot be had")
  mkdirSync(CACHE, { recursive: true })
  const work = mkdtempSync(join(CACHE, 'apt-'))
  try {
    for (const suite of SUITES) {
      const apt = privateApt(join(work, suite), mirrors, suite)
      const version = apt('apt-cache', 'madison', 'rust-src')
        .split('\n')
        .map((line) => line.split('|')[1]?.trim())
        .find((version) => version?.startsWith(`${release}+`))
      if (!version) continue
      apt('apt-get', 'download', `rust-src=${version}`)
      const deb = join(
        work,
        suite,
        readdirSync(join(work, suite)).find((name) => name.endsWith('.deb')),
      )
      execFileSync('dpkg-deb', ['-x', deb, join(work, 'root')])
      // Moved into place as a whole: a killed run leaves nothing half done.
      renameSync(join(work, `root/usr/src/rustc-${release}/library`), destination)
      return
    }
    throw new Error(`Debian's ${SUITES.join(', ')} no longer carry rust-src ${release}`)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** The Debian mirrors of this machine's apt, in whatever form they are configured. */
function debianMirrors() {
  const format = ['--format', '$(REPO_URI)|$(RELEASE)', 'Created-By: Packages']
  const sources = read('apt-get', ['indextargets', ...format]).split('\n')
  return [...new Set(sources.filter((s) => !s.includes('security')).map((s) => s.split('|')[0]))].filter((s) =>
    s.includes('debian'),
  )
}

/** apt-get and apt-cache with lists and sources of their own: the machine's stay as they are. */
function privateApt(dir, mirrors, suite) {
  mkdirSync(join(dir, 'lists/partial'), { recursive: true })
  mkdirSync(join(dir, 'archives/partial'), { recursive: true })
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'
  writeFileSync(
    join(dir, 'sources.list'),
    mirrors.map((uri) => `deb [signed-by=${keyring}] ${uri} ${suite} main\n`).join(''),
  )
  const options = {
    'Dir::Etc::sourcelist': join(dir, 'sources.list'),
    'Dir::Etc::sourceparts': '-',
    'Dir::State::lists': join(dir, 'lists'),
    'Dir::Cache': dir,
    'APT::Sandbox::User': '',
    'Acquire::Languages': 'none',
  }
  const flags = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`])
  const apt = (program, ...args) => read(program, [...flags, ...args], { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] })
  apt('apt-get', '-q', 'update')
  return apt
}
