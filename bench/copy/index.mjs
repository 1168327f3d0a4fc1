// `npm run bench -- copy`: a large file into a container and out of it, against the engines' own programs, on a dockerd and a
// containerd of their own. All sides of a ratio are measured in the same run and in turn. Memory is this process's, over what it
// has before the first copy; theirs is in processes of their own. containerd needs LIMA_RUNTIME_TEST_NERDCTL. `--quick` takes a
// tenth of the bytes.
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, mkdirSync, openSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { tempDir } from '../../__test__/support/tempdir.mjs'
import { onContainerd, onDockerd } from '../engines.mjs'
import { atMost, below, figure, inTurn, say } from '../report.mjs'

const BYTES = process.argv.includes('--quick') ? 100 << 20 : 1 << 30
const ROUNDS = 3
const mb = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`
const run_ = promisify(execFile)
const figures = []

export async function run() {
  const docker = await onDockerd((engine, adapter, id) =>
    compare('docker cp', adapter, id, (...args) => run_('docker', ['-H', `unix://${engine.socket}`, 'cp', ...args])),
  )
  const containerd = await onContainerd((engine, adapter, id) =>
    compare('nerdctl cp', adapter, id, (...args) => engine.nerdctl(['cp', ...args])),
  )
  return { figures, left: [docker, containerd].filter(Boolean) }
}

async function compare(name, adapter, id, cp) {
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
    `${mb(BYTES)} in`,
    name,
    [atMost(1)],
    () => adapter.copyToContainer(id, file, '/mine'),
    () => cp(file, `${id}:/its`),
  )
  say(`against ${name}: out`)
  await row(
    `${mb(BYTES)} out`,
    name,
    [atMost(1)],
    [afresh, () => adapter.copyFromContainer(id, '/mine', { to: mine })],
    () => cp(`${id}:/its`, its),
  )
  await row(
    `${mb(BYTES)} out as a stream`,
    `${name} to a file`,
    [],
    [
      afresh,
      async () => {
        for await (const _ of await adapter.copyFromContainer(id, '/mine'));
      },
    ],
    () => cp(`${id}:/its`, its),
  )
  clearInterval(watch)
  figures.push(
    figure(`memory of these copies, beside ${name}`, 'MB', (peak - before) / 1e6, undefined, {
      goals: [below(64, 'MB')],
    }),
  )
}

async function row(what, against, goals, ...sides) {
  const [mine, its] = await inTurn(ROUNDS, ...sides)
  figures.push(figure(what, 'ms', mine, its, { against, goals }))
}

/** Of what is no hole. */
function write(file) {
  const piece = randomBytes(1 << 20)
  const to = openSync(file, 'w')
  for (let size = 0; size < BYTES; size += piece.length) writeSync(to, piece)
  closeSync(to)
  if (statSync(file).size !== BYTES) throw new Error('the file is not as large as it should be')
}
