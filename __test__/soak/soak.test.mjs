// What a soak is made of: that it sees what is lost, what grows and what never settles, and a small one that is over in seconds.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { RuntimeError } from 'lima-runtime'
import { dockerBackend } from '../contract/backends/docker.mjs'
import { Calls, Unexpected } from './calls.mjs'
import { Ledger } from './ledger.mjs'
import { plot } from './plot.mjs'
import { SIZES, soak } from './soak.mjs'
import { growth } from './verdict.mjs'

const RUN = '0a0b0c0d-0000-4000-8000-000000000000'
const lines = (...numbers) => numbers.map((n) => `${RUN} ${n}\n`).join('')

describe('the machinery of the soak', () => {
  it('a line that a stream left out is lost only if the engine has it', async () => {
    const ledger = new Ledger()
    const read = ledger.reader('w')
    const text = lines(7, 8, 10, 13)
    // In pieces, as streams come.
    read(text.slice(0, 50))
    read(text.slice(50))
    const logs = { w: lines(7, 8, 9, 10, 13, 14) }
    const lost = await ledger.lost(async (writer) => logs[writer])
    assert.deepEqual([ledger.lines, lost], [4, [{ writer: 'w', run: RUN, n: 9 }]])
    read(lines(13))
    read('noise\n')
    assert.deepEqual(ledger.twice, [{ writer: 'w', run: RUN, n: 13 }])
    assert.equal(ledger.broken.length, 1)
    const then = new Map(ledger.newest)
    assert.equal(ledger.silent(['w'], then), 1)
    read(lines(14))
    assert.equal(ledger.silent(['w'], then), 0)
  })

  it('a call may fail only with a code, and only while the engine is away', async () => {
    const calls = new Calls()
    const fail = (error) => calls.attempt('list', () => Promise.reject(error))
    const gone = new RuntimeError('ENGINE_UNREACHABLE', 'gone')
    calls.away()
    await fail(gone)
    await fail(new Unexpected('ended'))
    assert.equal(calls.findings.size, 0)
    await fail(new TypeError('no code'))
    assert.ok(calls.wasAwayAt(calls.now()) && !calls.wasAwayAt(-1))
    calls.back()
    assert.match([...calls.findings.keys()].join(), /without a code/)
    // A clock that has not moved since would say that the engine was away.
    while (calls.wasAway(calls.now())) await new Promise(setImmediate)
    await fail(gone)
    assert.match([...calls.findings.keys()].join(), /while the engine was there/)
    calls.attempt('pull', () => new Promise(() => {}))
    assert.deepEqual(
      calls.open().map(({ kind }) => kind),
      ['pull'],
    )
    assert.deepEqual(calls.counts.list, { ok: 0, errors: { ENGINE_UNREACHABLE: 2, UNEXPECTED: 1, 'no code': 1 } })
  })

  it('what grows is told from what comes and goes', () => {
    const sample = (i, rss) => ({
      seconds: i,
      away: i % 10 === 0,
      heap: 10,
      external: 2,
      // They come back one by one after a kill, of which there are more at first.
      descriptors: i < 100 && i % 20 < 9 ? 20 : 60 + (i % 7),
      threads: 12,
      delay: 12,
      rss,
    })
    const flat = Array.from({ length: 200 }, (_, i) => sample(i, 150 + (i % 20)))
    assert.deepEqual(
      growth(flat).filter(({ grows }) => grows),
      [],
    )
    const leak = Array.from({ length: 200 }, (_, i) => sample(i, 150 + i / 2))
    assert.deepEqual(
      growth(leak)
        .filter(({ grows }) => grows)
        .map(({ name }) => name),
      ['rss'],
    )
    const drawn = plot({ title: 'a < b', samples: flat, outages: [{ from: 5000, to: 9000 }] })
    assert.match(drawn, /^<svg [^>]*xmlns=/)
    assert.equal(drawn.match(/<polyline /g).length, 6)
    assert.match(drawn, /a &lt; b/)
    assert.doesNotMatch(drawn, /NaN|Infinity|undefined/)
  })

  it('a small one: one kill, nothing lost', { timeout: 15 * 60_000 }, async () => {
    const sizes = Object.fromEntries(Object.keys(SIZES).map((name) => [name, 2]))
    const seen = await soak(dockerBackend(), {
      sizes,
      minutes: 0,
      kills: 1,
      everyMs: 0,
      patienceMs: 600_000,
      say: () => {},
    })
    assert.equal(seen.outages.length, 1)
    assert.deepEqual(seen.findings, {})
    assert.deepEqual([seen.lines.lost, seen.lines.twice, seen.lines.broken], [[], [], []])
    assert.ok(seen.lines.read > 0)
    for (const kind of ['list', 'log', 'pull', 'terminal', 'stats']) assert.ok(seen.counts[kind].ok > 0, kind)
  })
})
