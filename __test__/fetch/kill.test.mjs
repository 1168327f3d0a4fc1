// SIGKILL at random moments: afterwards an installation is whole or absent, and no byte that was kept is fetched again.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { assertWhole, cached, each, inChild, LimaRuntimeManager, random, rounds } from '../support/installs.mjs'
import { limaArchive, limaFiles, publishLima } from '../support/release-files.mjs'
import { spawnReleaseServer } from '../support/release-server.mjs'
import { tempDir } from '../support/tempdir.mjs'

const PAYLOAD = 3_000_000

test('killed at a random moment of an install', async (t) => {
  const rand = random(t)
  const files = limaFiles({ payload: PAYLOAD })
  const archive = limaArchive({ payload: PAYLOAD })
  // Slow enough for the download to have an inside, fast enough for what follows it to be hit as well.
  const server = await spawnReleaseServer({ rate: 15_000_000 })
  t.after(() => server.close())
  const dir = tempDir('kill')

  /** An address of its own for each round: its requests are this round's. */
  const prepare = async (name) => {
    const { path, ...origin } = await publishLima(server, tempDir('kill'), archive, {
      url: `https://${name}.example/lima.tar.gz`,
    })
    return { path, options: { dataDir: join(dir, name), ...origin } }
  }
  const start = async (options) => {
    const running = inChild({ options, wait: true })
    await running.ready
    running.go()
    return running
  }

  const names = (dataDir) => readdirSync(dataDir, { recursive: true }).sort()

  const calibration = await prepare('calibration')
  const first = await start(calibration.options)
  const began = performance.now()
  assert.equal((await first.result).ok, true)
  const typical = performance.now() - began

  const seen = { absent: 0, whole: 0, partial: 0 }
  let fetchedAgain = 0
  await each(Array.from({ length: rounds(15, 200) }), 1, async (_, round) => {
    const { path, options } = await prepare(`round-${round}`)
    // Every other one comes in a download that goes no further; of the rest a fifth come when all is done but the process's
    // end.
    const inside = round % 2 === 0
    const moment = inside ? Math.floor(rand() * 0.9 * archive.length) : rand() * 1.25 * typical
    const what = `round ${round}, killed after ${moment.toFixed(1)} ${inside ? 'bytes' : 'ms'}`
    const timer = new AbortController()
    if (inside) await server.fault(path, { kind: 'stall', at: moment })
    const due = inside ? server.sent(path, moment) : delay(moment, undefined, timer).catch(() => {})
    const running = await start(options)
    due.then(() => running.child.kill('SIGKILL'))
    const result = await running.result
    timer.abort()

    const manager = new LimaRuntimeManager(options)
    const installed = await manager.isInstalled()
    if (result.ok) assert.equal(installed, true, what)
    assert.equal(existsSync(manager.getLimactlPath()), installed, what)
    if (installed) assertWhole(manager, files)
    if (inside) assert.equal(installed, false, what)
    seen[installed ? 'whole' : 'absent']++

    const have = cached(options.dataDir)
    if (!installed && have > 0 && have < archive.length) seen.partial++
    const before = (await server.requests(path)).length
    await manager.install()
    assertWhole(manager, files)
    assert.equal(await manager.isInstalled(), true)
    for (const { range, ifRange } of (await server.requests(path)).slice(before)) {
      const from = Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0)
      if (from < have) fetchedAgain++
      assert.ok(from >= have, `${what}: asked from ${from} with ${have} bytes there`)
      if (range) assert.ok(ifRange, 'a range without If-Range')
    }
    // What a killed process left is gone with the next success.
    assert.deepEqual(names(options.dataDir), names(calibration.options.dataDir), what)
    rmSync(options.dataDir, { recursive: true })
  })
  t.diagnostic(`${JSON.stringify(seen)} over ${typical.toFixed(0)} ms; bytes fetched again: ${fetchedAgain}`)
})
