// `npm run bench -- containerd`: this package against the nerdctl it stands on, on a containerd of its own. Both sides of
// each ratio are measured in the same run and in turn. Needs LIMA_RUNTIME_TEST_NERDCTL. `--quick` stops at 50 containers.
import { onContainerd } from '../engines.mjs'
import { faster, figure, inTurn, say } from '../report.mjs'

export async function run() {
  const figures = []
  const reason = await onContainerd((...engine) => measure(figures, ...engine))
  return { figures, left: [reason].filter(Boolean) }
}

async function measure(figures, engine, adapter, id) {
  const add = (what, mine, its, ...goals) =>
    figures.push(figure(`containerd: ${what}`, 'ms', mine, its, { against: 'nerdctl', ratio: 'faster', goals }))
  const compare = async (what, rounds, ours, theirs, ...goals) =>
    add(what, ...(await inTurn(rounds, ours, theirs)), ...goals)
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
    faster(100),
  )

  let made = 1
  for (const size of process.argv.includes('--quick') ? [10, 50] : [10, 50, 300]) {
    say(`${size} containers`)
    for (; made < size; made++) await engine.nerdctl(['create', '--name', `c-${made}`, 'busybox:latest', 'sleep', '1'])
    await compare(`list ${size} containers`, size > 50 ? 5 : 15, list, ps, ...(size === 50 ? [faster(20)] : []))
  }
}
