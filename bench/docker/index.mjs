// `npm run bench -- docker`: this package against dockerode, on a dockerd of its own. Both sides of each ratio are measured
// in the same run and in turn. `--quick` takes a tenth of the log; everything else is the same.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { noDockerd, startDockerd } from '../../__test__/support/dockerd.mjs'
import { busyboxArchive, loadArchive } from '../../__test__/support/images.mjs'
import { pushImage, startRegistry } from '../../__test__/support/registry.mjs'
import { tempDir } from '../../__test__/support/tempdir.mjs'
import { atLeast, atMost, below, child, faster, figure, median, quantile, say } from '../report.mjs'

const GB = process.argv.includes('--quick') ? 100_000_000 : 1_000_000_000
const here = (name) => new URL(name, import.meta.url)
const NAMES = ['ours', 'dockerode']
/** Of all logs together, in bytes a second: less than either reads when nothing slows it. */
const LOG_RATE = 3_000_000

export async function run() {
  const reason = noDockerd()
  if (reason) return { figures, left: [reason] }
  engine = await startDockerd()
  registry = await startRegistry()
  try {
    await loadArchive(engine, busyboxArchive())
    await requires()
    await hangs()
    await lists()
    await replayed()
    await fromEngine()
    await eventLoop()
  } finally {
    await registry.stop()
    await engine.stop()
  }
  return { figures }
}

const figures = []
const against = 'dockerode'
const add = (what, unit, ours, theirs, ...goals) => figures.push(figure(what, unit, ours, theirs, { against, goals }))
let engine
let registry

async function requires() {
  say('require, in 40 fresh processes each')
  const seen = { 'lima-runtime': [], dockerode: [] }
  for (let i = 0; i < 40; i++)
    for (const name of Object.keys(seen)) seen[name].push((await child(here('require.mjs'), name)).ms)
  const [ours, theirs] = Object.values(seen).map(median)
  const goals = [faster(10), below(15, 'ms')]
  figures.push(figure('require', 'ms', ours, theirs, { against, goals, ratio: 'faster' }))
}

async function hangs() {
  say('an engine that never answers')
  const { aborts, looks } = await child(here('hangs.mjs'), join(tempDir('bench'), 'hung.sock'), 20)
  const alone = (what, times, goal) =>
    figures.push(figure(what, 'ms', quantile(times, 0.99), undefined, { goals: [goal] }))
  alone('an aborted call ends, p99', aborts, below(100, 'ms'))
  alone('what is there, one of it hung, p99', looks, below(300, 'ms'))
}

async function lists() {
  say('50 containers')
  for (let i = 0; i < 50; i++) {
    const config = { Image: 'busybox:latest', Cmd: ['sleep', '100000'], Labels: { role: `bench-${i % 5}` } }
    const { Id } = await engine.api('POST', `/containers/create?name=bench-${i}`, config)
    if (i % 5 === 0) await engine.api('POST', `/containers/${Id}/start`)
  }
  say('lists, in turn')
  const { times: taken } = await child(here('lists.mjs'), engine.socket, 1000, ...NAMES, 'bare')
  for (const [q, goals] of [
    [0.5, [atMost(0.8)]],
    [0.99, []],
  ])
    add(`list 50 containers, p${q * 100}`, 'ms', ...NAMES.map((name) => quantile(taken[name], q)), ...goals)
  add('  the bare request, its answer unread, p50', 'ms', median(taken.bare), median(taken.dockerode))
  const cpu = { ours: [], dockerode: [] }
  for (let i = 0; i < 3; i++) {
    for (const name of NAMES) cpu[name].push((await child(here('lists.mjs'), engine.socket, 1000, name)).cpuMs)
  }
  const [ours, theirs] = NAMES.map((name) => median(cpu[name]))
  add('client CPU per 1,000 lists', 'ms', ours, theirs, atMost(0.8))
  for (let i = 0; i < 50; i++) await engine.api('DELETE', `/containers/bench-${i}?force=1`)
}

/** A container that has written lines of 100 bytes, one in ten to stderr. */
async function written(bytes) {
  const line = 'x'.repeat(99)
  const script = `BEGIN { for (i = 0; i < ${bytes / 100}; i++) if (i % 10) print "${line}"; else print "${line}" > "/dev/stderr" }`
  const { Id } = await engine.api('POST', '/containers/create', { Image: 'busybox:latest', Cmd: ['awk', script] })
  await engine.api('POST', `/containers/${Id}/start`)
  await engine.api('POST', `/containers/${Id}/wait`)
  return Id
}

async function read(socket, id, rounds, what, ...goals) {
  const runs = { ours: [], dockerode: [] }
  for (let i = 0; i < rounds; i++)
    for (const name of NAMES) runs[name].push(await child(here('read-log.mjs'), socket, id, name))
  const [a, b] = NAMES.map((name) => {
    const [{ bytes }] = runs[name]
    if (bytes < GB * 0.99) throw new Error(`${name} read ${bytes} bytes of ${GB}`)
    return {
      speed: bytes / 1000 / median(runs[name].map((run) => run.ms)),
      cpu: median(runs[name].map((run) => run.cpuMs)) / (bytes / 1e9),
      peak: median(runs[name].map((run) => run.peakMb)),
    }
  })
  add(`log, ${what}`, 'MB/s', a.speed, b.speed, ...goals)
  add('  client CPU per GB', 'ms', a.cpu, b.cpu)
  add('  peak memory of the process', 'MB', a.peak, b.peak)
}

async function replayed() {
  say(`a log of ${GB / 1e6} MB, replayed`)
  const id = await written(20_000_000)
  const socket = join(tempDir('bench'), 'replay.sock')
  const server = spawn(process.execPath, [here('replay.mjs').pathname, socket, engine.socket, id, String(GB)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  process.once('exit', () => server.kill())
  await once(server.stdout, 'data')
  await read(socket, id, 3, 'loopback replay', atLeast(2))
  server.kill()
}

async function fromEngine() {
  say(`a log of ${GB / 1e6} MB, from the engine`)
  await read(engine.socket, await written(GB), 1, 'from dockerd')
}

async function eventLoop() {
  say('the event loop, while 20 pulls and 20 log streams run')
  const id = await written(20_000_000)
  const images = []
  for (let i = 0; i < 20; i++) {
    const tag = `bench-${i}:latest`
    await loadArchive(engine, busyboxArchive({ tags: [tag], files: { '/which': String(i) } }))
    images.push(await pushImage(engine, tag, registry, `bench/${i}:1`))
    await engine.api('DELETE', `/images/${tag}`)
  }
  const measured = {}
  for (const name of NAMES) {
    const loaded = child(here('event-loop.mjs'), 10, name, engine.socket, 0, id, ...images)
    const idle = child(here('event-loop.mjs'), 10)
    measured[name] = { ...(await loaded), idle: await idle }
    say(`${name}: ${measured[name].pulls} pulls, ${(measured[name].bytes / 1e6).toFixed(0)} MB of logs in 10 s`)
  }
  const { ours, dockerode } = measured
  add('event-loop delay under load, p99', 'ms', ours.p99, dockerode.p99)
  const overIdle = (m) => Math.max(0, m.p99 - m.idle.p99)
  add('  above an idle Node beside it', 'ms', overIdle(ours), overIdle(dockerode), below(10, 'ms'))

  // Whoever reads more of the logs leaves dockerd less time for pulls: so both read as much of them.
  const rounds = { ours: [], dockerode: [] }
  for (let i = 0; i < 5; i++) {
    for (const name of i % 2 ? NAMES.toReversed() : NAMES) {
      const round = await child(here('event-loop.mjs'), 10, name, engine.socket, LOG_RATE, id, ...images)
      rounds[name].push(round)
      say(`${name}: ${round.pulls} pulls, ${(round.bytes / 1e6).toFixed(0)} MB of logs in 10 s`)
    }
  }
  const [pulls, theirs] = NAMES.map((name) => rounds[name].reduce((sum, round) => sum + round.pulls, 0))
  const [read, theirRead] = NAMES.map((name) => rounds[name].reduce((sum, round) => sum + round.bytes, 0))
  add('pulls beside 20 paced logs, in 50 s', '', pulls, theirs, atLeast(1))
  add('  of the logs', 'MB', read / 1e6, theirRead / 1e6)
}
