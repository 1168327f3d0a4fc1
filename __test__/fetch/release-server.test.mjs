// The fetch tests believe what this server says it did: each misbehaviour is looked at from outside once.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { certificates, noise } from '../support/release-files.mjs'
import { spawnReleaseServer, startReleaseServer } from '../support/release-server.mjs'
import { tempDir } from '../support/tempdir.mjs'

const BODY = noise(300_000)

/** One raw request: what a client sees, cut connections included. */
function get(url, headers = {}, options = {}) {
  return new Promise((resolve, reject) => {
    const { get } = url.startsWith('https') ? https : http
    const request = get(url, { headers, agent: false, ...options }, (response) => {
      const chunks = []
      const done = (complete) =>
        resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks), complete })
      response.on('data', (c) => {
        chunks.push(c)
        options.onData?.(Buffer.concat(chunks).length, request)
      })
      response.on('end', () => done(response.complete))
      response.on('error', () => done(false))
    })
    request.on('error', reject)
  })
}

async function served(t, ...faults) {
  const server = await startReleaseServer()
  t.after(() => server.close())
  server.file('/h/f', { body: BODY })
  server.fault('/h/f', ...faults)
  return { server, url: `${server.url}/h/f` }
}

test('whole files, ranges, If-Range and 416', async (t) => {
  const { server, url } = await served(t)
  const whole = await get(url)
  assert.equal(whole.status, 200)
  assert.ok(whole.body.equals(BODY) && whole.complete)
  const rest = await get(url, { range: 'bytes=299990-', 'if-range': whole.headers.etag })
  assert.deepEqual([rest.status, rest.headers['content-range']], [206, 'bytes 299990-299999/300000'])
  assert.ok(rest.body.equals(BODY.subarray(299_990)))
  assert.equal((await get(url, { range: 'bytes=10-', 'if-range': '"other"' })).status, 200)
  assert.equal((await get(url, { range: 'bytes=300000-' })).status, 416)
  assert.equal((await get(`${server.url}/h/none`)).status, 404)
  assert.deepEqual(server.counts('/h/f'), { requests: 4, bytes: 600_010 })
})

test('each fault, as a client sees it', async (t) => {
  const { server, url } = await served(t)
  const under = (...faults) => {
    server.fault('/h/f', ...faults)
    return get(url, faults[0].range ? { range: faults[0].range } : {})
  }
  for (const reset of [false, true]) {
    const cut = await under({ kind: 'cut', at: 70_000, reset })
    assert.ok(
      !cut.complete && cut.body.length <= 70_000 && (reset || cut.body.length === 70_000),
      `cut at ${cut.body.length}`,
    )
  }
  const busy = await under({ kind: 'status', status: 429, retryAfter: 3 })
  assert.deepEqual([busy.status, busy.headers['retry-after']], [429, '3'])
  const moved = await under({ kind: 'redirect', to: 'http://elsewhere/x' })
  assert.deepEqual([moved.status, moved.headers.location], [302, 'http://elsewhere/x'])
  const flipped = await under({ kind: 'flip', bit: 8 * 1000 + 3 })
  assert.equal(flipped.body[1000] ^ BODY[1000], 8)
  assert.equal((await under({ kind: 'truncate', by: 5 })).body.length, 299_995)
  const longer = await under({ kind: 'length', delta: 7 })
  assert.deepEqual([longer.headers['content-length'], longer.complete], ['300007', false])
  const packed = await under({ kind: 'gzip' })
  assert.equal(packed.headers['content-encoding'], 'gzip')
  assert.ok(gunzipSync(packed.body).equals(BODY))
  assert.equal((await under({ kind: 'noRanges', range: 'bytes=5-' })).status, 200)
  const wrong = await under({ kind: 'wrongRange', range: 'bytes=5-' })
  assert.deepEqual([wrong.status, wrong.headers['content-range']], [206, 'bytes 0-299999/300000'])
  assert.equal((await under({ kind: 'chunked' })).headers['content-length'], undefined)
  await under({ kind: 'change', body: Buffer.from('new') })
  assert.equal(String((await get(url)).body), 'new')
})

test('a stall keeps the connection open until the client leaves', async (t) => {
  const { server, url } = await served(t, { kind: 'stall', at: 1000 })
  const stalled = await get(url, {}, { onData: (bytes, request) => bytes === 1000 && request.destroy() }).catch(
    (e) => e,
  )
  assert.ok(stalled instanceof Error || stalled.body.length === 1000)
  assert.equal(server.counts('/h/f').bytes, 1000)
})

test('faults act `times` times, `after` so many', async (t) => {
  const { url } = await served(t, { kind: 'status', status: 503, times: 2, after: 1 })
  const statuses = []
  for (let i = 0; i < 4; i++) statuses.push((await get(url)).status)
  assert.deepEqual(statuses, [200, 503, 503, 200])
})

test('in a child process, over TLS, and as a proxy', async (t) => {
  const { ca, tls } = certificates(tempDir())
  const server = await spawnReleaseServer({ tls, rate: 50_000_000 })
  t.after(() => server.close())
  await server.file('/github.com/f', { body: BODY })
  await assert.rejects(get(`${server.url}/github.com/f`), /certificate|issuer/)
  const trusted = await get(`${server.url}/github.com/f`, {}, { ca: readFileSync(ca) })
  assert.ok(trusted.body.equals(BODY))
  assert.deepEqual(await server.counts(), { requests: 1, bytes: 300_000 })

  const proxy = await startReleaseServer({ connectTo: server.port })
  t.after(() => proxy.close())
  proxy.file('/example.test/f', 'through the proxy')
  const through = await get(proxy.url, {}, { path: 'http://example.test/f', headers: { host: 'example.test' } })
  assert.equal(String(through.body), 'through the proxy')
})
