// One soak on one engine: everything at once, while the engine is killed and started again. Gives what was seen; judges no time.
import { setMaxListeners } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { bytes } from '../contract/kit.mjs'
import { children } from '../support/process.mjs'
import { waitFor } from '../support/wait.mjs'
import { Calls } from './calls.mjs'
import { fleetRuns, makeFleet } from './fleet.mjs'
import { Ledger } from './ledger.mjs'
import { startLoad, TERMINAL } from './load.mjs'
import { startRecorder } from './recorder.mjs'

/** What a soak of full size has. */
export const SIZES = { containers: 1000, running: 50, logs: 200, pulls: 50, terminals: 50, stats: 50 }

/** Of which each is to have a result between two kills. */
const KINDS = ['list', 'pull', 'terminal', 'stats']

/**
 * @param {object} backend one of the contract suite's
 * @param {object} options
 * @param {number} options.minutes how long it kills; it goes on until `kills` were done, too
 * @param {number} options.kills
 * @param {number} options.everyMs between all running and the next kill, at least
 * @param {number} [options.patienceMs] how long a kill waits for a result of each kind
 */
export async function soak(backend, { sizes, minutes, kills, everyMs, patienceMs = 60_000, say }) {
  const { slowness = 1 } = backend
  const ledger = new Ledger()
  const calls = new Calls()
  const onUnhandled = (error) => calls.find(`nobody handled: ${error?.stack ?? error}`)
  for (const event of ['unhandledRejection', 'uncaughtException']) process.on(event, onUnhandled)
  say(`starting ${backend.name}`)
  await backend.start()
  try {
    const adapter = await backend.adapter()
    await adapter.initialize()
    const fleet = await makeFleet(backend, adapter, sizes, say)
    await fleetRuns(adapter, fleet, slowness)
    const before = started()
    const controller = new AbortController()
    const { signal } = controller
    setMaxListeners(0, signal)
    calls.begin()
    const load = startLoad({ adapter, calls, ledger, fleet, sizes, signal })
    const recorder = startRecorder(calls)
    const until = calls.now() + minutes * 60_000
    for (let kill = 1; kill <= kills || calls.now() < until; kill++) {
      // Of each kind something has to come through before all of it is broken again.
      await Promise.all([sleep(everyMs), calls.more(KINDS, patienceMs * slowness)])
      say(`kill ${kill}, after ${(calls.now() / 1000).toFixed(0)} s`)
      calls.away()
      await backend.engine.kill()
      await backend.engine.start()
      await fleetRuns(adapter, fleet, slowness)
      calls.back()
      for (const { kind, ms } of calls.open())
        if (ms > 300_000 * slowness) calls.find(`${kind}: has not settled for ${(ms / 60_000).toFixed(0)} minutes`)
    }
    const then = new Map(ledger.newest)
    const heard = () => ledger.silent(fleet.writers, then) === 0
    // The loggers of an older nerdctl go with containerd (docs/reference/nerdctl.md#logger-ends-with-containerd).
    if (!backend.differs.lastWords)
      await waitFor('all writers heard', heard, { timeoutMs: 60_000 * slowness }).catch(() =>
        calls.find(`log: ${ledger.silent(fleet.writers, then)} writers are not heard any more`),
      )
    await adapter.createContainer({ name: 'soak-last', image: backend.image, command: ['true'] })
    const told = () => load.seen.list.some(({ name }) => name === 'soak-last')
    await waitFor('the watch', told, { timeoutMs: 60_000 * slowness }).catch(() =>
      calls.find('watch: after the last start it does not tell of a new container'),
    )
    recorder.stop()
    say('ending it')
    calls.stop()
    controller.abort()
    const ended = await Promise.race([Promise.all(load.loops), sleep(120_000 * slowness, 'late', { ref: false })])
    if (ended === 'late') for (const { kind } of calls.open()) calls.find(`${kind}: does not end when it is aborted`)
    await findLeft(adapter, fleet, calls, before)
    const lost = await ledger.lost(async (id) => (await bytes(await adapter.getContainerLogs(id))).toString())
    return {
      engine: backend.name,
      sizes: { ...sizes, containers: fleet.size },
      samples: recorder.samples,
      outages: calls.outages,
      counts: calls.counts,
      lines: { read: ledger.lines, lost, twice: ledger.twice, broken: ledger.broken, gaps: ledger.gaps.length },
      watched: load.seen.lists,
      findings: Object.fromEntries(calls.findings),
    }
  } finally {
    say('stopping the engine')
    await backend.stop()
    for (const event of ['unhandledRejection', 'uncaughtException']) process.off(event, onUnhandled)
  }
}

/** Processes that should be gone: our own, and the terminals' in the containers. */
async function findLeft(adapter, fleet, calls, before) {
  const ours = () => started().filter(({ pid }) => !before.some((one) => one.pid === pid))
  await waitFor('our processes gone', () => ours().length === 0).catch(() => {
    for (const { words } of ours()) calls.find(`left behind: ${words}`)
  })
  const words = TERMINAL.join(' ')
  const terminals = async () => {
    const tables = await Promise.all(fleet.writers.map((id) => adapter.listProcesses(id)))
    return tables.flatMap(({ processes }) => processes.filter((row) => row.join(' ').includes(words))).length
  }
  await waitFor('no terminals', async () => (await terminals()) === 0).catch(async () =>
    calls.find(`left in the containers: ${await terminals()} shells of terminals`),
  )
}

/** The processes that this one has started, where the system says. */
function started() {
  if (process.platform !== 'linux') return []
  const found = []
  for (const pid of children()) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').slice(0, 200)
      // The engine is ours, too, and another process after each kill.
      if (!/\b(dockerd|containerd) --/.test(words)) found.push({ pid, words })
    } catch {
      // It ended meanwhile.
    }
  }
  return found
}
