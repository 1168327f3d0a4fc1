// The work of a soak, each kind in a loop of its own until the signal: lists, logs, pulls, terminals, statistics, a watch.
import { finished } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Unexpected } from './calls.mjs'

/** Begins with a word by which a terminal that was left behind is known. */
export const TERMINAL = ['sh', '-s', 'soak-terminal']

/** Starts all of it: a promise for each loop, and the newest list that the watch gave. */
export function startLoad({ adapter, calls, ledger, fleet, sizes, signal }) {
  const again = async (work, restMs) => {
    while (!signal.aborted) {
      await work()
      await sleep(restMs, undefined, { signal }).catch(() => {})
    }
  }
  const seen = { list: [], lists: 0 }
  const writerOf = (i) => fleet.writers[i % fleet.writers.length]
  const many = (count, work, restMs) => Array.from({ length: count }, (_, i) => again(() => work(writerOf(i)), restMs))

  async function list() {
    const from = calls.now()
    const found = await calls.attempt('list', () => adapter.listContainers({ all: true, signal }))
    if (found && found.length < fleet.size && !calls.wasAway(from))
      calls.find(`list: ${found.length} containers of ${fleet.size}`)
  }

  async function log(id) {
    const from = calls.now()
    const stream = await calls.attempt('log', () => adapter.getContainerLogs(id, { follow: true, tail: 5, signal }))
    if (!stream) return
    stream.on('data', ledger.reader(id))
    try {
      await finished(stream)
      // While not all containers run again, one that does not has a log with an end.
      if (!signal.aborted && !calls.wasAwayAt(from))
        calls.find(`log: a stream ended without an error${calls.wasAway(from) ? ' at a kill' : ''}`)
    } catch (error) {
      calls.failed('log stream', error, from)
    }
  }

  async function pull() {
    await Promise.all(
      fleet.images.map(async (image) => {
        const pulled = await calls.attempt('pull', async () => {
          await adapter.pullImage(image, () => {}, { signal })
          return true
        })
        if (pulled) await calls.attempt('remove image', () => adapter.removeImage(image, true, { signal }))
      }),
    )
  }

  const stats = () =>
    Promise.all(
      Array.from({ length: sizes.stats }, (_, i) =>
        calls.attempt('stats', () => adapter.getContainerStats(writerOf(i), { signal })),
      ),
    )

  async function watch() {
    try {
      for await (const list of adapter.watchContainers({ signal })) {
        seen.list = list
        seen.lists += 1
      }
      if (!signal.aborted) calls.find('watch: it ended')
    } catch (error) {
      if (!signal.aborted) calls.find(`watch: ${error.code}: ${error.message}`)
    }
  }

  const loops = [
    again(list, 200),
    ...many(sizes.logs, log, 100),
    again(pull, 1000),
    ...many(sizes.terminals, (id) => calls.attempt('terminal', () => terminal(adapter, id, signal)), 500),
    again(stats, 1000),
    watch(),
  ]
  return { loops, seen }
}

/** Types into a shell, gives its terminal another size, and ends it. */
async function terminal(adapter, id, signal) {
  const shell = await adapter.spawnInContainer(id, TERMINAL, { tty: true, columns: 80, rows: 24, signal })
  const shows = screen(shell)
  for (let round = 1; round <= 3; round++) {
    shell.stdin.write(`echo said-$((${round} * 1000 + 1))\n`)
    await shows(`said-${round}001`)
    await shell.resize(80 + round, 24)
    shell.stdin.write('stty size\n')
    await shows(`24 ${80 + round}`)
    await sleep(1000, undefined, { signal }).catch(() => {})
  }
  shell.stdin.write('exit 7\n')
  const { exitCode } = await shell.exited
  if (exitCode !== 7) throw new Unexpected(`a terminal that ended with ${exitCode}`)
}

/** Waits for a text in what a process prints; fails with what ended it. */
function screen({ stdout, exited }) {
  let text = ''
  let waiting
  let ended = false
  exited.catch(() => {})
  const wake = () => waiting?.()
  stdout.on('data', (chunk) => {
    text = (text + chunk).slice(-4096)
    wake()
  })
  stdout.once('close', () => {
    ended = true
    wake()
  })
  return async (part) => {
    while (!text.includes(part) && !ended) await new Promise((resolve) => (waiting = resolve))
    if (text.includes(part)) return
    const { exitCode } = await exited
    throw new Unexpected(`a terminal that ended with ${exitCode} before it said ${part}`)
  }
}
