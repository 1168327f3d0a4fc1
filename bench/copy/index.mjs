// `npm run bench -- copy`: a large file into a container and out of it, against the engines' own programs, on a dockerd and a
// containerd of their own. All sides of a ratio are measured in the same run and in turn. Memory is this process's, over what it
// has before the first copy; theirs is in processes of their own. containerd needs LIMA_RUNTIME_TEST_NERDCTL. `--quick` takes a
// tenth of the bytes.
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, mkdirSync, openSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { noContainerd, startContainerd } from '../../__test__/support/containerd.mjs'
import { startDockerd } from '../../__test__/support/dockerd.mjs'
import { busyboxArchive, loadArchive } from '../../__test__/support/images.mjs'
import { tempDir } from '../../__test__/support/tempdir.mjs'
import { median, table } from '../report.mjs'

const BYTES = process.argv.includes('--quick') ? 100 << 20 : 1 << 30
const ROUNDS = 3
const GOAL = 'at most 1×'
const say = (text) => console.error(`  ${text}`)
const ms = (n) => `${n.toFixed(0)} ms`
const mb = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`
const run_ = promisify(execFile)
const rows = [[`copies of ${mb(BYTES)}`, 'lima-runtime', 'the other', 'ratio', 'goal']]

/** Prints the table of all figures. */
export async function run() {
  await docker()
  const reason = noContainerd()
  if (reason) console.log(`containerd: left out, ${reason}`)
  else await containerd()
  table(rows)
}

async function docker() {
  const { DockerAdapter } = await import('lima-runtime')
  const engine = await startDockerd()
  try {
    await loadArchive(engine, busyboxArchive())
    const adapter = new DockerAdapter({ host: `unix://${engine.socket}` })
    await compare('docker cp', adapter, (...args) => run_('docker', ['-H', `unix://${engine.socket}`, 'cp', ...args]))
  } finally {
    await engine.stop()
  }
}

async function containerd() {
  const { ContainerdAdapter } = await import('lima-runtime')
  const engine = await startContainerd()
  try {
    const archive = join(engine.dir, 'busybox.tar')
    writeFileSync(archive, busyboxArchive())
    await engine.nerdctl(['load', '-i', archive])
    await compare('nerdctl cp', new ContainerdAdapter(engine.options), (...args) => engine.nerdctl(['cp', ...args]))
  } finally {
    await engine.stop()
  }
}

async function compare(name, adapter, cp) {
  const id = await adapter.startContainer({ name: 'bench', image: 'busybox:latest', command: ['sleep', '100000'] })
  const dir = tempDir('bench-copy')
  const file = join(dir, 'large')
  write(file)
  const [mine, its] = ['mine', 'its'].map((who) => join(dir, who))
  const afresh = () => {
    for (const out of [mine, its]) rmSync(out, { recursive: true, force: true })
    mkdirSync(its)
  }
  say(`against ${name}: in`)
  const before = process.memoryUsage().rss
  let peak = before
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 10)
  await row(
    `in, against ${name}`,
    GOAL,
    () => {},
    () => adapter.copyToContainer(id, file, '/mine'),
    () => cp(file, `${id}:/its`),
  )
  say(`against ${name}: out`)
  await row(
    `out, against ${name}`,
    GOAL,
    afresh,
    () => adapter.copyFromContainer(id, '/mine', { to: mine }),
    () => cp(`${id}:/its`, its),
  )
  await row(
    `out as a stream, against ${name} to a file`,
    '',
    afresh,
    async () => {
      for await (const _ of await adapter.copyFromContainer(id, '/mine'));
    },
    () => cp(`${id}:/its`, its),
  )
  clearInterval(watch)
  rows.push([`memory, against ${name}`, `+${mb(peak - before)}`, '', '', 'flat'])
}

/** The medians of both, measured in turn. */
async function row(what, goal, before, ...sides) {
  const taken = sides.map(() => [])
  for (let round = 0; round <= ROUNDS; round++) {
    before()
    for (const [i, side] of sides.entries()) {
      const from = performance.now()
      await side()
      // The first round warms up.
      if (round > 0) taken[i].push(performance.now() - from)
    }
  }
  const [mine, its] = taken.map(median)
  rows.push([what, ms(mine), ms(its), `${(mine / its).toFixed(2)}×`, goal])
}

/** Of what is no hole. */
function write(file) {
  const piece = randomBytes(1 << 20)
  const to = openSync(file, 'w')
  for (let size = 0; size < BYTES; size += piece.length) writeSync(to, piece)
  closeSync(to)
  if (statSync(file).size !== BYTES) throw new Error('the file is not as large as it should be')
}
