// `npm run bench -- lima`: this package against limactl and ssh, on a VM that is up. The VM is the stand-in for limactl of
// the tests with a real sshd as its guest; LIMA_RUNTIME_TEST_LIMACTL names a real limactl, which then lists that VM, too.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, cpSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { missing } from '../../__test__/support/lima.mjs'
import { tempDir } from '../../__test__/support/tempdir.mjs'
import { root } from '../../scripts/run.mjs'
import { TEST_USER } from '../../scripts/setup.mjs'
import { below, faster, figure, median, quantile } from '../report.mjs'

/** The files that the worker needs: an ordinary user may not be able to read the project. */
const NEEDED = ['dist', 'bench/lima', '__test__/support', 'tests/support/limactl.mjs']

export async function run() {
  const why = missing()
  if (why) return { figures: [], left: [why] }
  const { list, commands, starts } = await measure()
  const lister = process.env.LIMA_RUNTIME_TEST_LIMACTL ? 'limactl list --json' : 'limactl list --json (stand-in)'
  const add = (what, ours, theirs, against, ...goals) =>
    figures.push(figure(what, 'ms', ours, theirs, { against, goals, ratio: 'faster' }))
  const figures = []
  const ssh = 'ssh with a control master'
  add('isRunning(), p50', median(list.ours), median(list.theirs), lister, faster(50))
  add('a command in the guest, p50', median(commands.ours), median(commands.theirs), ssh, faster(2.5))
  add('  p99', quantile(commands.ours, 0.99), quantile(commands.theirs, 0.99), ssh)
  add("  the caller's CPU", commands.cpu.ours, commands.cpu.theirs, ssh, faster(10))
  add("start(): from the call to limactl's spawn, p50", median(starts.map(({ before }) => before)))
  add("  from the host agent's running to our promise", median(starts.map(({ after }) => after)))
  const whole = median(starts.map(({ before, after }) => before + after))
  add('  what start() adds to limactl start', whole, undefined, '', below(300, 'ms'))
  return { figures }
}

/** Lima refuses root. */
function user() {
  if (process.getuid() !== 0) return { uid: process.getuid(), gid: process.getgid(), env: {} }
  const [name, , uid, gid, , home] = spawnSync('getent', ['passwd', TEST_USER], { encoding: 'utf8' }).stdout.split(':')
  return { uid: Number(uid), gid: Number(gid), env: { HOME: home, USER: name, LOGNAME: name } }
}

async function measure() {
  const dir = tempDir('bench')
  const { uid, gid, env } = user()
  for (const path of NEEDED) {
    mkdirSync(dirname(join(dir, path)), { recursive: true })
    cpSync(join(root, path), join(dir, path), { recursive: true })
  }
  const real = process.env.LIMA_RUNTIME_TEST_LIMACTL
  if (real) cpSync(real, join(dir, 'limactl'))
  chmodSync(dir, 0o755)
  mkdirSync(join(dir, 'work'))
  chownSync(join(dir, 'work'), uid, gid)
  const worker = [join(dir, 'bench/lima/worker.mjs'), join(dir, 'work'), real ? join(dir, 'limactl') : '']
  const child = spawn(process.execPath, worker, {
    uid,
    gid,
    cwd: dir,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.on('data', (chunk) => {
    text += chunk
  })
  const [code, signal] = await once(child, 'close')
  if (code !== 0) throw new Error(`the worker ended with ${signal ?? code}`)
  return JSON.parse(text.trim().split('\n').at(-1))
}
