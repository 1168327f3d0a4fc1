// `npm run verify:mac`: a report of everything that only a Mac can show. Builds the addon, installs Lima into a directory of
// its own, boots VMs, and takes everything away again. Exits 1 when something failed. Elsewhere than on a Mac nothing is
// touched, and the report says that all of it was left out.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { homedir, release } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { parseArgs } from 'node:util'
import { freePort } from '../__test__/support/ports.mjs'
import { waitFor } from '../__test__/support/wait.mjs'
import { root, run } from './run.mjs'

const USAGE = `npm run verify:mac -- [--sleep] [--report <file>] [--built]

  --sleep    also asks you to let the Mac sleep, and looks whether the VM is there when it wakes
  --report   writes the report as JSON; where something failed, diagnostics go beside it
  --built    takes dist/ as it is
`
const IMAGE = 'docker.io/library/busybox:latest'
/** Short, since sockets lie in it; with a space and a letter beyond ASCII, as users have them. */
const DIR = join(homedir(), '.lima-runtime vérify')
const MINUTES = 60_000

const { values: options } = parseArgs({
  options: {
    sleep: { type: 'boolean' },
    report: { type: 'string' },
    built: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
})
if (options.help) {
  console.log(USAGE)
  process.exit()
}

/** Why nothing can be checked here. */
const elsewhere = process.platform !== 'darwin' && `only a Mac can show it; this is ${process.platform}`

if (!elsewhere && !options.built) run(process.execPath, ['scripts/build.mjs'], { cwd: root })
const dataDir = join(DIR, 'lima')
const resources = { cpus: 2, memory: '2GiB', disk: '20GiB', mounts: [{ location: DIR, writable: true }] }
const manager = elsewhere ? undefined : await makeManager()
const report = []
/** The titles of passed checks, which later ones may need. */
const passed = new Set()

const said = (program, ...args) => {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8' })
  if (error) throw error
  return { status, text: `${stdout}${stderr}`.trim() }
}
const sysctl = (name) => said('/usr/sbin/sysctl', '-n', name).text
const apple = !elsewhere && sysctl('hw.optional.arm64') === '1'
const nerdctl = (...args) => manager.execNerdctl(args, { timeoutMs: 5 * MINUTES })

/** `work` returns a line, throws the reason of a failure, or returns `skip(reason)`. */
async function check(title, work, { needs = [] } = {}) {
  const from = performance.now()
  const missing = needs.find((need) => !passed.has(need))
  let result
  try {
    const why = elsewhere || (missing && `needs: ${missing}`)
    result = why ? skip(why) : { status: 'pass', detail: (await work()) ?? '' }
    if (typeof result.detail === 'object') result = result.detail
  } catch (error) {
    const { code, message, hint, details } = error
    result = { status: 'fail', detail: [code, message, hint].filter(Boolean).join(': '), details }
  }
  if (result.status === 'pass') passed.add(title)
  const seconds = (performance.now() - from) / 1000
  report.push({ title, ...result, seconds })
  console.log(
    `${result.status.toUpperCase()}  ${title.padEnd(66)} ${seconds.toFixed(1).padStart(6)} s  ${result.detail}`,
  )
}
const skip = (detail) => ({ status: 'skip', detail })
const assert = (condition, message) => {
  if (!condition) throw new Error(message)
}
/** The checks of diagnose() by their id. */
const diagnosed = async () => Object.fromEntries((await manager.diagnose()).map((one) => [one.id, one]))
const judged = (one) => {
  assert(one.status === 'ok', `${one.detail} ${one.hint ?? ''}`)
  return one.detail
}

const INSTALLED = 'Lima is installed from nothing'
const BOOTED = 'the VM boots with vz'
const PULLED = 'an image is pulled'

try {
  if (!elsewhere) makeRoom()
  await programs()
  await virtualMachine()
  await afterwards()
} finally {
  const file = options.report && resolve(options.report)
  if (file) mkdirSync(dirname(file), { recursive: true })
  if (file && report.some(({ status }) => status === 'fail'))
    await manager.collectDiagnostics(`${file}.tar.gz`).catch((error) => console.error(error.message))
  await check('everything is taken away again', async () => {
    await manager.delete()
    await manager.uninstall()
    assert(!existsSync(dataDir), `${dataDir} is still there`)
    rmSync(DIR, { recursive: true, force: true })
  })
  if (file) writeFileSync(file, JSON.stringify(report, null, 2))
}
const count = (status) => report.filter((one) => one.status === status).length
console.log(`\n${count('pass')} passed, ${count('fail')} failed, ${count('skip')} skipped`)
process.exit(count('fail') > 0 ? 1 : 0)

async function makeManager() {
  const { LimaRuntimeManager } = await import(`${root}/dist/index.mjs`)
  return new LimaRuntimeManager({ appName: 'lima-runtime-verify', dataDir, resources })
}

function makeRoom() {
  rmSync(DIR, { recursive: true, force: true })
  mkdirSync(DIR, { recursive: true })
  console.log(`macOS ${sysctl('kern.osproductversion')} (Darwin ${release()}), ${apple ? 'Apple silicon' : 'Intel'}\n`)
}

async function programs() {
  await check('macOS is new enough', async () => judged((await diagnosed()).macos))
  await check('the processor is recognised by hardware', async () => {
    const { detail } = (await diagnosed()).architecture
    assert(detail.startsWith(apple ? 'darwin-arm64' : 'darwin-x64'), detail)
    return detail
  })
  await check(INSTALLED, async () => {
    let last
    await manager.install({ onProgress: (event) => (last = event) })
    assert(await manager.isInstalled(), 'isInstalled() says no')
    return last?.message
  })
  const limactl = () => realpathSync(manager.getLimactlPath())
  await check('limactl runs', () => said(limactl(), '--version').text, { needs: [INSTALLED] })
  await check(
    'limactl is signed, and valid',
    () => {
      const { status, text } = said('/usr/bin/codesign', '--verify', '--verbose=2', limactl())
      assert(status === 0, text)
      return text.split('\n').at(-1)
    },
    { needs: [INSTALLED] },
  )
  await check('limactl has the virtualization entitlement', async () => judged((await diagnosed()).virtualization), {
    needs: [INSTALLED],
  })
  await check(
    'nothing installed is quarantined',
    () => {
      const { text } = said('/usr/bin/xattr', '-r', realpathSync(join(dataDir, 'current')))
      assert(!text.includes('com.apple.quarantine'), text)
    },
    { needs: [INSTALLED] },
  )
  await check(
    'a quarantined limactl is recognised, and mended as it says',
    async () => {
      const mark = ['com.apple.quarantine', '0083;00000000;Safari;']
      assert(said('/usr/bin/xattr', '-w', ...mark, limactl()).status === 0, 'xattr -w failed')
      const { virtualization } = await diagnosed()
      assert(virtualization.status === 'fail' && virtualization.hint.includes('xattr'), JSON.stringify(virtualization))
      said('/usr/bin/xattr', '-dr', mark[0], limactl())
      return judged((await diagnosed()).virtualization)
    },
    { needs: [INSTALLED] },
  )
  await check(
    'a limactl signed without the entitlement is recognised, and repaired',
    async () => {
      said('/usr/bin/codesign', '--force', '--sign', '-', limactl())
      const { virtualization } = await diagnosed()
      assert(virtualization.status === 'fail', JSON.stringify(virtualization))
      await manager.install({ repair: true })
      return judged((await diagnosed()).virtualization)
    },
    { needs: [INSTALLED] },
  )
}

async function virtualMachine() {
  await check(
    BOOTED,
    async () => {
      if (sysctl('kern.hv_support') !== '1') return skip('this Mac, or the machine it runs in, cannot virtualize')
      const phases = new Set()
      await manager.start({ onProgress: ({ phase }) => phases.add(phase) })
      const { vmType, arch } = await manager.getVMInfo()
      assert(vmType === 'vz', `vmType is ${vmType}`)
      assert(arch === (apple ? 'aarch64' : 'x86_64'), `arch is ${arch}`)
      assert(await manager.isRunning(), 'isRunning() says no')
      return [...phases].join(', ')
    },
    { needs: [INSTALLED] },
  )
  await check(
    'SSH, containerd, clock and DNS',
    async () => {
      const checks = await diagnosed()
      return ['ssh', 'containerd', 'clock', 'dns'].map((id) => `${id} ${judged(checks[id])}`).join('; ')
    },
    { needs: [BOOTED] },
  )
  await check(
    'nothing of the app runs translated or as root',
    async () => {
      const { user, architecture } = await diagnosed()
      return [user, architecture].map(judged).join('; ')
    },
    { needs: [BOOTED] },
  )
  await check(PULLED, () => nerdctl('pull', '--quiet', IMAGE), { needs: [BOOTED] })
  await check('a published port answers on the Mac', () => served('127.0.0.1'), { needs: [PULLED] })
  await check(
    'amd64 programs run through Rosetta',
    async () => {
      if (!apple) return skip('an Intel Mac')
      const machine = await nerdctl('run', '--rm', '--platform', 'linux/amd64', IMAGE, 'uname', '-m')
      assert(machine.trim() === 'x86_64', machine)
      const handlers = await nerdctl(
        'run',
        '--rm',
        '--privileged',
        '-v',
        '/proc/sys/fs/binfmt_misc:/b',
        IMAGE,
        'ls',
        '/b',
      )
      assert(/rosetta/.test(handlers), `the handlers are ${handlers}`)
      return machine.trim()
    },
    { needs: [PULLED] },
  )
  await check(
    'a directory of the Mac is read and written',
    async () => {
      writeFileSync(join(DIR, 'from-mac'), 'mac')
      const script = 'cat /mnt/from-mac && echo vm > /mnt/from-vm'
      const text = await nerdctl('run', '--rm', '-v', `${DIR}:/mnt`, IMAGE, 'sh', '-c', script)
      assert(text === 'mac' && readFileSync(join(DIR, 'from-vm'), 'utf8') === 'vm\n', text)
    },
    { needs: [PULLED] },
  )
  await check(
    'containerd is reached through its forwarded socket',
    async () => {
      const path = manager.getContainerdSocketPath()
      await waitFor(path, () => existsSync(path), { timeoutMs: 30_000 })
      return path
    },
    { needs: [BOOTED] },
  )
}

/** A container's page, fetched from the Mac. */
async function served(host) {
  const port = await freePort()
  const script = 'mkdir /www && echo hello > /www/index.html && exec httpd -f -p 80 -h /www'
  await nerdctl('run', '-d', '--name', 'verify', '-p', `${host}:${port}:80`, IMAGE, 'sh', '-c', script)
  try {
    const url = `http://127.0.0.1:${port}/`
    const answer = await waitFor(url, () => fetch(url), { timeoutMs: 30_000 })
    assert((await answer.text()) === 'hello\n', 'another page')
    return url
  } finally {
    await nerdctl('rm', '--force', 'verify')
  }
}

async function afterwards() {
  const hostagents = () =>
    said('/bin/ps', '-axww', '-o', 'pid=,command=')
      .text.split('\n')
      .filter((l) => l.includes(DIR))
  await check(
    'the VM survives notifySuspend() and notifyResume()',
    async () => {
      manager.notifySuspend()
      await manager.notifyResume()
      return judged((await diagnosed()).ssh)
    },
    { needs: [BOOTED] },
  )
  await check(
    'the VM is there after a sleep of the Mac, its clock right',
    async () => {
      if (!options.sleep) return skip('ask for it with --sleep')
      const ask = createInterface({ input: process.stdin, output: process.stdout })
      manager.notifySuspend()
      await ask.question('Let the Mac sleep for two minutes (Apple menu > Sleep), wake it, then press return. ')
      ask.close()
      await manager.notifyResume()
      const { ssh, clock } = await diagnosed()
      return [ssh, clock].map(judged).join('; ')
    },
    { needs: [BOOTED] },
  )
  await check(
    'start() repairs a killed host agent, which is the VM',
    async () => {
      const file = join(manager.getContainerdSocketPath(), '..', '..', 'ha.pid')
      const pid = Number(readFileSync(file, 'utf8'))
      // A process that has the number now and had it when the file was written has written the file.
      const began = Date.parse(said('/usr/bin/env', 'LC_ALL=C', '/bin/ps', '-o', 'lstart=', '-p', String(pid)).text)
      if (!(began < statSync(file).mtimeMs + 1000)) throw new Error(`${file} names process ${pid}, which is another's`)
      process.kill(pid, 'SIGKILL')
      await waitFor('the agent is gone', () => !hostagents().some((line) => line.trim().startsWith(`${pid} `)))
      await manager.start()
      return judged((await diagnosed()).containerd)
    },
    { needs: [BOOTED] },
  )
  await check(
    'it stops, and no process is left',
    async () => {
      await manager.stop()
      await waitFor('no process is left', () => hostagents().length === 0)
    },
    { needs: [BOOTED] },
  )
  await check(
    'it starts again, quicker',
    async () => {
      const from = performance.now()
      await manager.start()
      await manager.stop()
      return `${((performance.now() - from) / 1000).toFixed(0)} s with its stop`
    },
    { needs: [BOOTED] },
  )
}
