// An engine that sends whatever it likes: how much of it is kept, and that no number of its own breaks anything.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { DockerAdapter } from 'lima-runtime'
import { tempDir } from '../support/tempdir.mjs'

const MIB = 1 << 20
/** What may stand in sockets and pipes between us beside what was read. */
const UNDER_WAY = 8 * MIB

describe('an engine that sends what it likes', { skip: process.platform === 'win32' && 'needs a unix socket' }, () => {
  let server
  let adapter
  let reply
  let sent = 0

  before(async () => {
    const path = join(tempDir('hostile'), 'docker.sock')
    server = createServer((request, response) => {
      if (request.url === '/_ping') return response.writeHead(200, { 'api-version': '1.41' }).end('OK')
      request.resume()
      reply(request.url.replace(/^\/v1\.41/, ''), response)
    }).listen(path)
    await once(server, 'listening')
    adapter = new DockerAdapter({ host: `unix://${path}` })
  })
  after(() => {
    server.closeAllConnections()
    server.close()
  })

  /** `head`, and `piece` again and again until nobody listens; counts the bytes. */
  async function endless(response, status, head, piece) {
    sent = 0
    let listens = true
    response.on('close', () => (listens = false)).on('error', () => {})
    response.writeHead(status, { 'content-type': 'application/json' }).write(head)
    const block = piece.repeat(Math.ceil(65_536 / piece.length))
    while (listens) {
      sent += block.length
      if (!response.write(block)) await Promise.race([once(response, 'drain'), once(response, 'close')])
      else await new Promise(setImmediate)
    }
  }

  const json = (value) => (_, response) => response.end(JSON.stringify(value))
  const drained = async (stream) => {
    for await (const _ of stream);
  }

  it('a refusal without an end is cut, and still says why', { timeout: 300_000 }, async () => {
    for (const head of ['{"message":"No such container: c1', 'No such container: c1']) {
      reply = (_, response) => endless(response, 404, head, ' and more')
      await assert.rejects(adapter.inspectContainer('c1', { timeoutMs: 120_000 }), (error) => {
        assert.equal(error.code, 'CONTAINER_NOT_FOUND', error.message)
        assert.ok(error.message.length <= MIB, `${error.message.length}`)
        return true
      })
      assert.ok(sent <= MIB + UNDER_WAY, `${sent} bytes were taken`)
    }
  })

  const lists = ['listContainers', 'listImages', 'listNetworks', 'listVolumes', 'diskUsage']
  it('nor is an answer without an end kept', { timeout: 300_000 }, async () => {
    const calls = [
      ...lists.map((method) => [method, 64, () => adapter[method]({ timeoutMs: 120_000 })]),
      ['inspectContainer', 16, () => adapter.inspectContainer('c1')],
      ['getContainerDetails', 16, () => adapter.getContainerDetails('c1')],
      ['getSystemInfo', 1, () => adapter.getSystemInfo()],
      ['getContainerStats', 1, () => adapter.getContainerStats('c1')],
      ['createVolume', 1, () => adapter.createVolume('v1')],
    ]
    for (const [method, limit, call] of calls) {
      reply = (_, response) => endless(response, 200, '{"Id":"c1","Containers":["', 'x')
      const failed = await call().then(
        () => assert.fail(method),
        (error) => error,
      )
      assert.deepEqual([failed.code, failed.details.limit], ['TOO_LARGE', limit * MIB], `${method}: ${failed.message}`)
      assert.ok(sent <= limit * 2 * MIB + UNDER_WAY, `${method}: ${sent} bytes were taken`)
    }
  })

  const running = (response) => response.end('{"Id":"c1","State":{"Status":"running","Running":true}}')
  it('nor a line without an end', { timeout: 300_000 }, async () => {
    for (const call of [
      () => drained(adapter.events()),
      () => adapter.pullImage('a.example/a:1', undefined, { credentials: 'none' }),
      () => drained(adapter.streamContainerStats('c1')),
      () => adapter.loadImage(join(import.meta.dirname, 'hostile.test.mjs')),
    ]) {
      reply = (url, response) =>
        url.endsWith('/json') ? running(response) : endless(response, 200, '{"status":"', 'x')
      await assert.rejects(call(), (error) => {
        assert.equal(error.code, 'TOO_LARGE', `${call}: ${error.message}`)
        assert.ok(error.details.limit <= 16 * MIB && sent <= error.details.limit + UNDER_WAY, `${call}: ${sent} bytes`)
        return true
      })
    }
  })

  it('an empty answer for the stats of a container that does not run, as podman gives it', async () => {
    const state = (Running) => JSON.stringify({ Id: 'c1', State: { Status: Running ? 'running' : 'exited', Running } })
    for (const [runs, code] of [
      [false, 'INVALID_STATE'],
      [true, 'ENGINE_ERROR'],
    ]) {
      reply = (url, response) => response.end(url.endsWith('/json') ? state(runs) : '')
      await assert.rejects(adapter.getContainerStats('c1'), { code })
    }
  })

  it('numbers as large as they come', async () => {
    const [most, least] = ['9223372036854775807', '-9223372036854775808']
    const raw = (text) => (_, response) => response.end(text)
    const valid = (date) => assert.ok(date instanceof Date && Number.isFinite(date.getTime()), String(date))
    for (const number of [most, least]) {
      reply = raw(`[{"Id":"c1","Names":["/c1"],"Created":${number},"State":"running","Ports":[]}]`)
      for (const { created } of await adapter.listContainers()) valid(created)
      reply = raw(
        `[{"Id":"sha256:00","RepoTags":["a:1"],"Created":${number},"Size":5},{"Id":"sha256:01","Created":0,"Size":5}]`,
      )
      for (const { created } of await adapter.listImages()) valid(created)
      const size = `"Size":${number},"SharedSize":${number},"Containers":1`
      reply =
        raw(`{"LayersSize":${number},"Images":[{${size}},{${size}}],"Containers":[{"SizeRw":${number},"State":"exited"},{"SizeRw":${number},"State":"exited"}],
        "Volumes":[{"UsageData":{"Size":${number},"RefCount":0}},{"UsageData":{"Size":${number},"RefCount":0}}],"BuildCache":[]}`)
      for (const entry of Object.values(await adapter.diskUsage()))
        for (const figure of Object.values(entry))
          assert.ok(Number.isFinite(figure) && figure >= 0, JSON.stringify(entry))
    }
    const top = '18446744073709551615'
    const net = `{"rx_bytes":${top},"tx_bytes":${top}}`
    const block = `{"op":"read","value":${top}},{"op":"write","value":${top}}`
    reply =
      raw(`{"read":"2024-05-01T10:00:00Z","networks":{"a":${net},"b":${net}},"memory_stats":{"usage":${top},"limit":${top}},
      "blkio_stats":{"io_service_bytes_recursive":[${block},${block}]},"cpu_stats":{"cpu_usage":{"total_usage":${top}},"system_cpu_usage":${top},"online_cpus":4294967295}}`)
    const stats = await adapter.getContainerStats('c1')
    const figures = JSON.stringify(stats).match(/:[^,{}[\]"]+/g)
    assert.ok(
      figures.length > 4 && figures.every((figure) => Number.isFinite(Number(figure.slice(1)))),
      JSON.stringify(stats),
    )
    reply = (url, response) => response.end(url.startsWith('/images/json') ? '[]' : `{"SpaceReclaimed":${top}}`)
    const all = { containers: true, images: true, volumes: true, networks: true }
    assert.equal((await adapter.prune(all)).spaceReclaimed, Number(top))
    for (const offset of ['+9223372036854775807:00', '+99:99', 'Z']) {
      const State = {
        Status: 'exited',
        StartedAt: `9999-12-31T23:59:59${offset}`,
        FinishedAt: `0000-01-01T00:00:00${offset}`,
      }
      reply = json({ Id: 'c1', Name: '/c1', Created: `9999-12-31T23:59:59${offset}`, State, Config: { Image: 'a' } })
      const details = await adapter.getContainerDetails('c1')
      for (const date of [details.created, details.startedAt, details.finishedAt]) if (date !== undefined) valid(date)
    }
  })
})
