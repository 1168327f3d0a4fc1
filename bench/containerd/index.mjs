// `npm run bench -- containerd`: this package against the nerdctl it stands on, on a containerd of its own. Both sides of
// each ratio are measured in the same run and in turn. Needs LIMA_RUNTIME_TEST_NERDCTL. `--quick` stops at 50 containers.
import { onContainerd } from '../engines.mjs'
import { inTurn, ms, say, table } from '../report.mjs'

/** Prints the table of all figures. */
export async function run() {
  await onContainerd(measure)
}

async function measure(engine, adapter, id) {
  const rows = [['containerd', 'lima-runtime', 'nerdctl', 'ratio', 'goal']]
  const compare = async (what, rounds, ours, theirs, goal = '') => {
    const [mine, its] = await inTurn(rounds, ours, theirs)
    rows.push([what, ms(mine), ms(its), `${(its / mine).toFixed(1)}× faster`, goal])
  }
  const list = () => adapter.listContainers({ all: true })
  const ps = () => engine.nerdctl(['ps', '-a', '--no-trunc', '--format', 'json'])

  say('inspect, exec, stats')
  await compare(
    'inspect',
    20,
    () => adapter.inspectContainer(id),
    () => engine.nerdctl(['container', 'inspect', id]),
  )
  await compare(
    'exec of true',
    10,
    () => adapter.execInContainer(id, ['true']),
    () => engine.nerdctl(['exec', id, 'true']),
  )
  await adapter.getContainerStats(id)
  const pause = () => new Promise((resolve) => setTimeout(resolve, 250))
  await compare(
    'stats, the second reading on',
    10,
    // A reading needs an earlier one at least 0.2 s old; a younger one costs the 0.1 s between two samples.
    [pause, () => adapter.getContainerStats(id)],
    () => engine.nerdctl(['stats', '--no-stream', '--format', 'json', id]),
    '100× faster',
  )

  let made = 1
  const grown = []
  for (const size of process.argv.includes('--quick') ? [10, 50] : [10, 50, 300]) {
    say(`${size} containers`)
    for (; made < size; made++) await engine.nerdctl(['create', '--name', `c-${made}`, 'busybox:latest', 'sleep', '1'])
    const [mine, its] = await inTurn(size > 50 ? 5 : 15, list, ps)
    const goal = size === 50 ? '20× faster' : ''
    rows.push([`list ${size} containers`, ms(mine), ms(its), `${(its / mine).toFixed(1)}× faster`, goal])
    grown.push(`${size}: ${ms(mine)}`)
  }
  table(rows)
  console.log(`list grows: ${grown.join(', ')}`)
}
