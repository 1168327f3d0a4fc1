// `npm run bench -- docker`: this package against dockerode, on a dockerd of its own. Both sides of each ratio are measured
// in the same run and in turn. `--quick` takes a tenth of the log; everything else is the same.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { startDockerd } from '../../__test__/support/dockerd.mjs'
import { busyboxArchive, loadArchive } from '../../__test__/support/images.mjs'
import { pushImage, startRegistry } from '../../__test__/support/registry.mjs'
import { tempDir } from '../../__test__/support/tempdir.mjs'
import { child, median, ms, quantile, say, table } from '../report.mjs'

const GB = process.argv.includes('--quick') ? 100_000_000 : 1_000_000_000
const here = (name) => new URL(name, import.meta.url)
const times = (n) => `${n.toFixed(2)}×`
const NAMES = ['ours', 'dockerode']
/** Of all logs together, in bytes a second: less than either reads when nothing slows it. */
const LOG_RATE = 3_000_000

/** Prints the table of all figures. */
export async function run() {
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
  table(rows)
}

const rows = [['Docker', 'lima-runtime', 'dockerode', 'ratio', 'goal']]
let engine
let registry

async function requires() {
  say('require, in 40 fresh processes each')
  const seen = { 'lima-runtime': [], dockerode: [] }
  for (let i = 0; i < 40; i++)
    for (const name of Object.keys(seen)) seen[name].push((await child(here('require.mjs'), name)).ms)
  const [ours, theirs] = Object.values(seen).map(median)
  rows.push(['require', ms(ours), ms(theirs), `${(theirs / ours).toFixed(1)}× faster`, '10× faster, at most 15 ms'])
}

async function hangs() {
  say('an engine that never answers')
  const { aborts, looks } = await child(here('hangs.mjs'), join(tempDir('bench'), 'hung.sock'), 20)
  rows.push(['an aborted call ends, p99', ms(quantile(aborts, 0.99)), '', '', 'at most 100 ms'])
  rows.push(['what is there, one of it hung, p99', ms(quantile(looks, 0.99)), '', '', 'at most 300 ms'])
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
  const [p50, theirs50] = NAMES.map((name) => median(taken[name]))
  const [p99, theirs99] = NAMES.map((name) => quantile(taken[name], 0.99))
  rows.push(['list 50 containers, p50', ms(p50), ms(theirs50), times(p50 / theirs50), 'at most 0.8×'])
  rows.push([
    '  the bare request, its answer unread',
    '',
    ms(median(taken.bare)),
    times(median(taken.bare) / theirs50),
    '',
  ])
  rows.push(['list 50 containers, p99', ms(p99), ms(theirs99), times(p99 / theirs99), ''])
  const cpu = { ours: [], dockerode: [] }
  for (let i = 0; i < 3; i++) {
    for (const name of NAMES) cpu[name].push((await child(here('lists.mjs'), engine.socket, 1000, name)).cpuMs)
  }
  const [ours, theirs] = NAMES.map((name) => median(cpu[name]))
  rows.push(['client CPU per 1,000 lists', ms(ours), ms(theirs), times(ours / theirs), 'at most 0.8×'])
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

async function read(socket, id, rounds, what, goal) {
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
  const speed = (n) => `${n.toFixed(0)} MB/s`
  const mb = (n) => `${n.toFixed(0)} MB`
  rows.push([`log, ${what}`, speed(a.speed), speed(b.speed), times(a.speed / b.speed), goal])
  rows.push([`  client CPU per GB`, ms(a.cpu), ms(b.cpu), times(a.cpu / b.cpu), ''])
  rows.push([`  peak memory of the process`, mb(a.peak), mb(b.peak), times(a.peak / b.peak), ''])
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
  await read(socket, id, 3, 'loopback replay', 'at least 2×')
  server.kill()
}

async function fromEngine() {
  say(`a log of ${GB / 1e6} MB, from the engine`)
  await read(engine.socket, await written(GB), 1, 'from dockerd', '')
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
  rows.push(['event-loop delay under load, p99', ms(ours.p99), ms(dockerode.p99), times(ours.p99 / dockerode.p99), ''])
  const above = (m) => `${(m.p99 - m.idle.p99).toFixed(2)} ms`
  rows.push(['  above an idle Node beside it', above(ours), above(dockerode), '', 'at most 10 ms'])
  rows.push(['  the idle Node, p99', ms(ours.idle.p99), ms(dockerode.idle.p99), '', ''])

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
  rows.push(['pulls beside 20 paced logs, in 50 s', String(pulls), String(theirs), times(pulls / theirs), 'not fewer'])
  const mb = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`
  rows.push(['  of the logs', mb(read), mb(theirRead), times(read / theirRead), 'as much'])
}
