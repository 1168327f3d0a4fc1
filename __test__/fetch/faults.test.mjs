// Everything a server can do wrong, alone and in pairs: the right bytes are installed, or nothing is and the error has
// a code.
import assert from 'node:assert/strict'
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import {
  assertNothing,
  assertWhole,
  each,
  inChild,
  LimaRuntimeManager,
  RuntimeError,
  random,
  refused,
  rounds,
} from '../support/installs.mjs'
import { certificates, limaArchive, limaFiles, limaUrl, mirrored, publishLima } from '../support/release-files.mjs'
import { startReleaseServer } from '../support/release-server.mjs'
import { tempDir } from '../support/tempdir.mjs'

const PAYLOAD = 600_000
const FILES = limaFiles({ payload: PAYLOAD })
let archive
let other

before(() => {
  archive = limaArchive({ payload: PAYLOAD })
  other = limaArchive({ payload: PAYLOAD + 1000 })
})

const always = Number.POSITIVE_INFINITY
const OK = 'ok'

/**
 * Name -> faults and what must come of them alone. A server that asks to come back in an hour stands for one that is
 * down for good: it ends without the minute of tries.
 */
const FAULTS = {
  cut: { faults: () => [{ kind: 'cut', at: 100_000 }], ends: OK },
  'cut again and again': { faults: () => [{ kind: 'cut', at: 150_000, times: always }], ends: OK },
  reset: { faults: () => [{ kind: 'cut', at: 200_000, reset: true }], ends: OK },
  'cut before the first byte': { faults: () => [{ kind: 'cut', at: 0, times: 2 }], ends: OK },
  'cut, and no ranges': {
    faults: () => [
      { kind: 'cut', at: 300_000 },
      { kind: 'noRanges', times: always },
    ],
    ends: OK,
  },
  'cut, and a range nobody asked for': {
    faults: () => [
      { kind: 'cut', at: 300_000 },
      { kind: 'wrongRange', after: 1 },
    ],
    ends: OK,
  },
  'cut, and the file changes': {
    faults: () => [
      { kind: 'cut', at: 300_000 },
      { kind: 'change', body: other },
    ],
    ends: 'CHECKSUM_MISMATCH',
  },
  'cut, and the file shrinks': {
    faults: () => [
      { kind: 'cut', at: 300_000 },
      { kind: 'change', body: other.subarray(0, 1000) },
    ],
    ends: 'CHECKSUM_MISMATCH',
  },
  'a length too long': { faults: () => [{ kind: 'length', delta: 1000, times: always }], ends: 'CHECKSUM_MISMATCH' },
  'a length too short': { faults: () => [{ kind: 'length', delta: -1000, times: always }], ends: 'CHECKSUM_MISMATCH' },
  'no length': { faults: () => [{ kind: 'chunked', times: always }], ends: OK },
  'a short file': { faults: () => [{ kind: 'truncate', by: 1000, times: always }], ends: 'CHECKSUM_MISMATCH' },
  'a flipped bit': { faults: () => [{ kind: 'flip', bit: 1_000_003, times: always }], ends: 'CHECKSUM_MISMATCH' },
  403: { faults: () => [{ kind: 'status', status: 403, times: always }], ends: 'DOWNLOAD_FAILED' },
  404: { faults: () => [{ kind: 'status', status: 404, times: always }], ends: 'DOWNLOAD_FAILED' },
  416: { faults: () => [{ kind: 'status', status: 416, times: always }], ends: 'DOWNLOAD_FAILED' },
  'cut, then 416': {
    faults: () => [
      { kind: 'cut', at: 250_000 },
      { kind: 'status', status: 416, after: 1 },
    ],
    ends: OK,
  },
  '429 with Retry-After': { faults: () => [{ kind: 'status', status: 429, retryAfter: 1 }], ends: OK },
  '429 for an hour': {
    faults: () => [{ kind: 'status', status: 429, retryAfter: 3600, times: always }],
    ends: 'DOWNLOAD_FAILED',
  },
  500: { faults: () => [{ kind: 'status', status: 500 }], ends: OK },
  503: { faults: () => [{ kind: 'status', status: 503, times: 2 }], ends: OK },
  'cut, then 503': {
    faults: () => [
      { kind: 'cut', at: 250_000 },
      { kind: 'status', status: 503, after: 1 },
    ],
    ends: OK,
  },
  'redirect to another host': {
    faults: (s) => [{ kind: 'redirect', to: `http://localhost:${s.port}${s.elsewhere}`, times: always }],
    ends: OK,
  },
  'redirect loop': {
    faults: (s) => [{ kind: 'redirect', to: `${s.url}${s.path}`, times: always }],
    ends: 'DOWNLOAD_FAILED',
  },
  'redirect to nowhere': {
    faults: (s) => [{ kind: 'redirect', to: `${s.url}/none`, times: always }],
    ends: 'DOWNLOAD_FAILED',
  },
  stall: { faults: () => [{ kind: 'stall', at: 300_000 }], ends: OK },
  'stall before the first header': { faults: () => [{ kind: 'stall', at: -1 }], ends: OK },
  'gzip encoding': { faults: () => [{ kind: 'gzip', times: always }], ends: 'CHECKSUM_MISMATCH' },
}

/** Not public: what a test must not wait a minute for. */
const IMPATIENT = { idleTimeoutMs: 1500, retries: 5 }

/** One install under some faults, in a directory and at an address of its own; checks what must hold whatever happens. */
async function attempt(server, dir, name, ...chosen) {
  const url = limaUrl().replace('github.com', `${name.toLowerCase().replaceAll(/\W+/g, '-')}.example`)
  const path = mirrored(url)
  const elsewhere = `/localhost${path}`
  const { manifest } = await publishLima(server, tempDir('manifest'), archive, { url })
  server.file(elsewhere, { body: archive })
  const at = { port: server.port, url: server.url, path, elsewhere }
  server.fault(path, ...chosen.flatMap((f) => f.faults(at)))
  const dataDir = join(dir, name.replaceAll(/\W+/g, '-'))
  const manager = new LimaRuntimeManager({ dataDir, manifest, mirror: server.url, ...IMPATIENT })
  const error = await manager.install().catch((e) => e)
  if (error === undefined) {
    assertWhole(manager, FILES)
    assert.equal(await manager.isInstalled(), true)
  } else {
    assert.ok(error instanceof RuntimeError, String(error?.stack))
    assert.ok(['DOWNLOAD_FAILED', 'CHECKSUM_MISMATCH'].includes(error.code), `${error.code}: ${error.message}`)
    assert.match(error.hint ?? '', /\w/, 'a hint')
    assert.equal(await manager.isInstalled(), false)
    assertNothing(dataDir)
  }
  // Once the server is well again, so is the next call.
  server.fault(path)
  server.file(path, { body: archive })
  await manager.install()
  assertWhole(manager, FILES)
  const requests = server.requests(path)
  rmSync(dataDir, { recursive: true })
  return { outcome: error?.code ?? OK, error, requests }
}

describe('each fault alone', { concurrency: 8 }, () => {
  let server
  const dir = tempDir('faults')
  before(async () => {
    server = await startReleaseServer()
  })
  after(() => server.close())
  for (const [name, fault] of Object.entries(FAULTS)) {
    test(name, async () => {
      const { outcome, error } = await attempt(server, dir, name, fault)
      assert.equal(outcome, fault.ends, error?.message)
    })
  }
})

test('faults in random pairs', async (t) => {
  const rand = random(t)
  const server = await startReleaseServer()
  t.after(() => server.close())
  const dir = tempDir('pairs')
  const names = Object.keys(FAULTS)
  const pairs = names.flatMap((a, i) => names.slice(i + 1).map((b) => [a, b]))
  const chosen = pairs
    .map((pair) => [rand(), pair])
    .sort(([a], [b]) => a - b)
    .slice(0, rounds(24, pairs.length))
    .map(([, pair]) => pair)
  const outcomes = {}
  await each(chosen, 8, async ([a, b]) => {
    const { outcome } = await attempt(server, dir, `${a} and ${b}`, FAULTS[a], FAULTS[b]).catch((error) => {
      throw new Error(`${a} + ${b}: ${error.message}`, { cause: error })
    })
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
  })
  t.diagnostic(`${chosen.length} pairs: ${JSON.stringify(outcomes)}`)
})

test('one flipped bit anywhere is CHECKSUM_MISMATCH', async (t) => {
  const rand = random(t)
  const server = await startReleaseServer()
  t.after(() => server.close())
  const small = limaArchive({ payload: 20_000 })
  const dir = tempDir('flip')
  const last = small.length * 8 - 1
  const bits = [
    0,
    7,
    8 * 4,
    8 * 10,
    last,
    last - 40,
    ...Array.from({ length: rounds(40, 1000) }, () => Math.floor(rand() * last)),
  ]
  await each(bits, 8, async (bit, i) => {
    const url = `https://flip-${i}.example/lima.tar.gz`
    const { path, ...origin } = await publishLima(server, tempDir('manifest'), small, { url })
    server.fault(path, { kind: 'flip', bit, times: always })
    const dataDir = join(dir, String(i))
    const manager = new LimaRuntimeManager({ dataDir, ...origin })
    const error = await refused(manager.install(), 'CHECKSUM_MISMATCH')
    assert.match(String(error.details.actual), /^[0-9a-f]{64}$/, `bit ${bit}`)
    assert.match(String(error.details.expected), /^[0-9a-f]{64}$/)
    assertNothing(dataDir)
    rmSync(dataDir, { recursive: true, force: true })
  })
})

test('a mirror that is wrong about everything is still only a mirror: nobody installs its bytes', async (t) => {
  const server = await startReleaseServer()
  t.after(() => server.close())
  const dir = tempDir()
  const { manifest, path } = await publishLima(server, dir, archive)
  server.file(path, { body: other })
  const manager = new LimaRuntimeManager({ dataDir: join(dir, 'data'), manifest, mirror: server.url })
  await refused(manager.install(), 'CHECKSUM_MISMATCH')
  assertNothing(join(dir, 'data'))
})

test('nobody listens: DOWNLOAD_FAILED in the end', async () => {
  const server = await startReleaseServer()
  const dir = tempDir()
  const { path: _, ...origin } = await publishLima(server, dir, archive)
  await server.close()
  const manager = new LimaRuntimeManager({ dataDir: join(dir, 'data'), ...origin, retries: 1 })
  const error = await refused(manager.install(), 'DOWNLOAD_FAILED')
  assert.match(error.hint, /\w/)
  assertNothing(join(dir, 'data'))
})

describe('TLS and proxies', () => {
  const dir = tempDir('tls')
  let ca
  let tls
  before(() => {
    ;({ ca, tls } = certificates(dir))
  })
  const clean = {
    HTTP_PROXY: '',
    HTTPS_PROXY: '',
    http_proxy: '',
    https_proxy: '',
    NO_PROXY: '',
    no_proxy: '',
    NODE_EXTRA_CA_CERTS: '',
  }

  test('a certificate of an unknown authority is refused, and accepted with NODE_EXTRA_CA_CERTS', async (t) => {
    const server = await startReleaseServer({ tls })
    t.after(() => server.close())
    const { path: _, ...origin } = await publishLima(server, tempDir(), archive)
    const options = { dataDir: join(dir, 'ca'), ...origin }
    const no = await inChild({ options }, { env: clean }).result
    assert.equal(no.code, 'DOWNLOAD_FAILED', JSON.stringify(no))
    assert.match(`${no.message} ${no.hint}`, /certificate/i)
    assert.match(no.hint, /NODE_EXTRA_CA_CERTS/)
    assertNothing(options.dataDir)
    const yes = await inChild({ options }, { env: { ...clean, NODE_EXTRA_CA_CERTS: ca } }).result
    assert.equal(yes.ok, true, JSON.stringify(yes))
    assertWhole(new LimaRuntimeManager(options), FILES)
  })

  test('an extra authority that cannot be read is an error that says so', async (t) => {
    const server = await startReleaseServer({ tls })
    t.after(() => server.close())
    const { path: _, ...origin } = await publishLima(server, tempDir(), archive)
    const options = { dataDir: join(dir, 'noca'), ...origin }
    const no = await inChild({ options }, { env: { ...clean, NODE_EXTRA_CA_CERTS: join(dir, 'none.pem') } }).result
    assert.equal(no.ok, false)
    assert.match(`${no.message} ${no.hint}`, /NODE_EXTRA_CA_CERTS|certificate/)
  })

  test('no redirect from https to http', async (t) => {
    const plain = await startReleaseServer()
    t.after(() => plain.close())
    plain.file('/lima.tar.gz', { body: archive })
    const server = await startReleaseServer({ tls })
    t.after(() => server.close())
    const { path, ...origin } = await publishLima(server, tempDir(), archive)
    server.fault(path, { kind: 'redirect', to: `${plain.url}/lima.tar.gz`, times: always })
    const options = { dataDir: join(dir, 'downgrade'), ...origin }
    const no = await inChild({ options }, { env: { ...clean, NODE_EXTRA_CA_CERTS: ca } }).result
    assert.equal(no.code, 'DOWNLOAD_FAILED', JSON.stringify(no))
    assert.deepEqual(plain.requests(), [], 'the plain server was not even asked')
    assertNothing(options.dataDir)
  })

  test('HTTP_PROXY and HTTPS_PROXY are used, NO_PROXY is not passed by', async (t) => {
    const origin = await startReleaseServer({ tls })
    t.after(() => origin.close())
    const proxy = await startReleaseServer({ connectTo: origin.port })
    t.after(() => proxy.close())
    const url = limaUrl()
    for (const [name, address] of [
      ['https', url],
      ['http', url.replace('https', 'http')],
    ]) {
      // The name is resolved by the proxy alone: with https it opens a tunnel, with http it is the server.
      const { path, manifest } = await publishLima(name === 'https' ? origin : proxy, tempDir(), archive, {
        url: address,
      })
      assert.equal(path, mirrored(url))
      const options = { dataDir: join(dir, `proxy-${name}`), manifest }
      const env = { ...clean, NODE_EXTRA_CA_CERTS: ca, [`${name.toUpperCase()}_PROXY`]: proxy.url }
      const result = await inChild({ options }, { env }).result
      assert.equal(result.ok, true, `${name}: ${JSON.stringify(result)}`)
      assertWhole(new LimaRuntimeManager(options), FILES)
    }
    assert.deepEqual(
      proxy.requests().map((r) => `${r.method} ${r.path}`),
      ['CONNECT github.com:443', `GET ${mirrored(url)}`],
    )
    const { path: _, ...direct } = await publishLima(origin, tempDir(), archive)
    // The origin is an address; the proxy would refuse it.
    for (const [i, none] of ['127.0.0.1', '*', 'a.example, *'].entries()) {
      const dataDir = join(dir, `no-proxy-${i}`)
      const env = { ...clean, NODE_EXTRA_CA_CERTS: ca, HTTPS_PROXY: proxy.url, NO_PROXY: none }
      const result = await inChild({ options: { dataDir, ...direct } }, { env }).result
      assert.equal(result.ok, true, `${none}: ${JSON.stringify(result)}`)
      assert.equal(proxy.requests().length, 2, none)
      assert.ok(existsSync(dataDir))
    }
  })
})
