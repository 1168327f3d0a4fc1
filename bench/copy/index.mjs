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
import { inTurn, ms, say, table } from '../report.mjs'

const BYTES = process.argv.includes('--quick') ? 100 << 20 : 1 << 30
const ROUNDS = 3
const GOAL = 'at most 1×'
const mb = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`
const run_ = promisify(execFile)
const rows = [[`copies of ${mb(BYTES)}`, 'lima-runtime', 'the other', 'ratio', 'goal']]

/** Prints the table of all figures. */
export async function run() {
  await onDockerd((engine, adapter, id) =>
    compare('docker cp', adapter, id, (...args) => run_('docker', ['-H', `unix://${engine.socket}`, 'cp', ...args])),
  )
  await onContainerd((engine, adapter, id) =>
    compare('nerdctl cp', adapter, id, (...args) => engine.nerdctl(['cp', ...args])),
  )
  table(rows)
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
    `in, against ${name}`,
    GOAL,
    () => adapter.copyToContainer(id, file, '/mine'),
    () => cp(file, `${id}:/its`),
  )
  say(`against ${name}: out`)
  await row(`out, against ${name}`, GOAL, [afresh, () => adapter.copyFromContainer(id, '/mine', { to: mine })], () =>
    cp(`${id}:/its`, its),
  )
  await row(
    `out as a stream, against ${name} to a file`,
    '',
    [
      afresh,
      async () => {
        for await (const _ of await adapter.copyFromContainer(id, '/mine'));
      },
    ],
    () => cp(`${id}:/its`, its),
  )
  clearInterval(watch)
  rows.push([`memory, against ${name}`, `+${mb(peak - before)}`, '', '', 'flat'])
}

async function row(what, goal, ...sides) {
  const [mine, its] = await inTurn(ROUNDS, ...sides)
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
