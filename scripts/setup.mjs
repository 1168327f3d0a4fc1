// What the tests need of the machine: Debian packages and an ordinary user. `node scripts/setup.mjs [group...]`.
// Says nothing and takes no time when everything is there; starts no service.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The user for suites that must not run as root (nerdctl and Lima refuse it). */
export const TEST_USER = 'lima-runtime-test'

/** Debian packages, by what needs them. */
export const PACKAGES = {
  test: [
    'docker.io',
    'containerd',
    'runc',
    'containernetworking-plugins',
    'docker-registry',
    'busybox-static',
    'openssh-server',
    'openssh-client',
    'openssl',
    'iproute2',
    'iptables',
    'ca-certificates',
    'curl',
    'uidmap',
    'slirp4netns',
    'rootlesskit',
    'socat',
    'sudo',
    'xz-utils',
    'qemu-utils',
  ],
  demo: ['docker.io', 'containerd', 'runc', 'busybox-static', 'iproute2', 'iptables', 'ca-certificates'],
  app: ['chromium'],
  // Programs that run the addons of other platforms.
  targets: ['wine', 'wine64', 'qemu-user-static', 'libc6-arm64-cross', 'libstdc++6-arm64-cross', 'binutils'],
}

const isRoot = process.getuid?.() === 0
const POLICY = '/usr/sbin/policy-rc.d'

/** Runs a program as root and returns its output; a failure is an Error with that output. */
function asRoot(program, args) {
  const [file, argv] = isRoot ? [program, args] : ['sudo', ['-n', '-E', program, ...args]]
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' }
  const { status, error, stdout, stderr } = spawnSync(file, argv, { env, encoding: 'utf8', maxBuffer: 64 << 20 })
  if (error || status !== 0) {
    throw new Error(
      `${program} ${args.join(' ')}: ${error?.message ?? `exit code ${status}`}\n${stdout ?? ''}${stderr ?? ''}`,
    )
  }
  return stdout
}

/** The packages of `names` that are not installed; undefined without dpkg. */
export function missingPackages(names) {
  const format = '${Package} ${db:Status-Status}\n'
  const { error, stdout } = spawnSync('dpkg-query', ['-W', '-f', format, ...names], { encoding: 'utf8' })
  if (error) return undefined
  const installed = new Set(
    stdout
      .split('\n')
      .filter((line) => line.endsWith(' installed'))
      .map((line) => line.split(' ')[0]),
  )
  return names.filter((name) => !installed.has(name))
}

/** True when packages can be installed: with apt, as root or with password-less sudo. */
export function canInstall() {
  if (process.platform !== 'linux' || spawnSync('apt-get', ['--version']).status !== 0) return false
  return isRoot || spawnSync('sudo', ['-n', 'true']).status === 0
}

/** Installs what is missing of `names`. `say` gets a line for each thing done. */
export function ensurePackages(names, say = console.log) {
  const missing = missingPackages(names)
  if (missing?.length === 0) return
  if (!missing || !canInstall()) {
    throw new Error(
      `Missing: ${(missing ?? names).join(', ')}. Install them with your package manager, or run this again as root or with password-less sudo on Debian or Ubuntu.`,
    )
  }
  say(`Installing Debian packages: ${missing.join(' ')}`)
  // Without this the packages would start dockerd, containerd, sshd and the registry as system services.
  const ownPolicy = !existsSync(POLICY)
  if (ownPolicy) asRoot('sh', ['-c', `printf '#!/bin/sh\\nexit 101\\n' >${POLICY} && chmod 755 ${POLICY}`])
  try {
    const options = ['-o', 'DPkg::Lock::Timeout=600', '-o', 'Acquire::Retries=3']
    const install = () => asRoot('apt-get', [...options, 'install', '-y', '-q', '--no-install-recommends', ...missing])
    try {
      install()
    } catch {
      // No package lists yet, or lists older than the mirror's files.
      say('Updating the package lists')
      asRoot('apt-get', [...options, 'update', '-q'])
      install()
    }
  } finally {
    if (ownPolicy) asRoot('rm', ['-f', POLICY])
  }
}

/** Creates the ordinary user of the tests, with password-less sudo. */
export function ensureTestUser(say = console.log) {
  if (spawnSync('id', [TEST_USER]).status !== 0) {
    say(`Making the user ${TEST_USER}`)
    asRoot('useradd', ['--create-home', '--shell', '/bin/bash', TEST_USER])
  }
  const sudoers = `/etc/sudoers.d/${TEST_USER}`
  if (isRoot ? existsSync(sudoers) : spawnSync('sudo', ['-n', 'test', '-e', sudoers]).status === 0) return
  const dir = mkdtempSync(join(tmpdir(), 'lima-runtime-setup-'))
  try {
    writeFileSync(join(dir, 'sudoers'), `${TEST_USER} ALL=(ALL) NOPASSWD: ALL\n`)
    asRoot('install', ['-m', '440', '-o', 'root', '-g', 'root', join(dir, 'sudoers'), sudoers])
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const groups = process.argv.slice(2)
  try {
    const unknown = groups.find((group) => !(group in PACKAGES))
    if (unknown) throw new Error(`No such group: ${unknown}. Groups: ${Object.keys(PACKAGES).join(', ')}`)
    ensurePackages([...new Set((groups.length ? groups : ['test']).flatMap((group) => PACKAGES[group]))])
    if (!groups.length || groups.includes('test')) ensureTestUser()
  } catch (error) {
    console.error(error.message)
    process.exit(1)
  }
}
