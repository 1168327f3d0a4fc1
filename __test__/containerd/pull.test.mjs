// What a pull tells and what it leaves, with the real nerdctl: figures of a large one, credentials of a private one.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { ContainerdAdapter } from 'lima-runtime'
import { noContainerd, startContainerd } from '../support/containerd.mjs'
import { busyboxImage } from '../support/images.mjs'
import { startProxy } from '../support/proxy.mjs'
import { ACCOUNT, publish, startRegistry } from '../support/registry.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'

const MB = 1e6
const FULL = process.env.LIMA_RUNTIME_TEST_FULL === '1'
const SIZE = (FULL ? 200 : 30) * MB
const RATE = 20 * MB

describe('pull on containerd', { skip: noContainerd() }, () => {
  const running = []
  let engine
  let adapter

  before(async () => {
    engine = await startContainerd()
    running.push(engine)
    adapter = new ContainerdAdapter(engine.options)
  })

  after(async () => {
    for (const part of running.reverse()) await part.stop()
  })

  it('tells bytes as they come, never goes back, and says that it unpacks', { timeout: 300_000 }, async () => {
    const registry = await startRegistry()
    running.push(registry)
    await publish(registry, 'test/large:1', busyboxImage({ padding: SIZE }))
    const slow = await limited(registry.port)
    running.push(slow)
    const image = `127.0.0.1:${slow.port}/test/large:1`
    const events = []
    await adapter.pullImage(image, (event) => events.push({ at: performance.now(), ...event }))
    const seconds = (events.at(-1).at - events[0].at) / 1000
    const gaps = events.slice(1).map((event, i) => event.at - events[i].at)
    const downloading = events.filter((event) => event.status.startsWith('Downloading'))
    const { total } = downloading.at(-1)
    const unpacking = events.findIndex((event) => event.status.startsWith('Unpacking'))
    console.log(
      `${(total / MB).toFixed(1)} MB in ${seconds.toFixed(1)} s: ${events.length} events, ${downloading.length} while downloading, ` +
        `longest gap ${Math.max(...gaps).toFixed(0)} ms, last words: ${[...new Set(events.map((event) => event.status))].slice(-4).join(' | ')}`,
    )
    assert.ok(total >= SIZE && total < SIZE * 1.1, `${total} bytes`)
    let last = { progress: 0, current: 0 }
    for (const event of events.filter((event) => event.total !== undefined)) {
      assert.equal(event.total, total)
      assert.ok(event.progress >= last.progress && event.current >= last.current && event.current <= total)
      last = event
    }
    assert.equal(last.current, total)
    assert.equal(events.at(-1).progress, 100)
    assert.match(events.at(-1).status, /^Pulled /)
    assert.ok(unpacking > 0 && unpacking < events.length - 1, 'unpacking, then done')
    assert.ok(downloading.length >= 2 * Math.floor(SIZE / RATE), `${downloading.length} events`)
  })

  it('is not ended while bytes flow, however slowly', { timeout: 300_000, skip: !FULL && 'slow' }, async () => {
    const registry = await startRegistry()
    running.push(registry)
    await publish(registry, 'test/slow:1', busyboxImage({ padding: 8 * MB }))
    const slow = await limited(registry.port, 90_000)
    running.push(slow)
    const events = []
    await adapter.pullImage(`127.0.0.1:${slow.port}/test/slow:1`, (event) => events.push(event))
    assert.ok(events.filter((event) => event.status.startsWith('Downloading') && event.current > 0).length > 8)
  })

  it('aborted, leaves no lease behind, and takes none of another', { timeout: 300_000 }, async () => {
    const registry = await startRegistry()
    running.push(registry)
    await publish(registry, 'test/aborted:1', busyboxImage({ padding: 8 * MB }))
    const slow = await limited(registry.port, MB)
    running.push(slow)
    const abort = new AbortController()
    let other
    const onProgress = async ({ current }) => {
      if (!current || other) return
      other = engine.ctr('leases', 'create')
      await other
      abort.abort()
    }
    const { signal } = abort
    await assert.rejects(adapter.pullImage(`127.0.0.1:${slow.port}/test/aborted:1`, onProgress, { signal }), {
      code: 'ABORTED',
    })
    const left = async () => (await engine.ctr('leases', 'ls', '-q')).split('\n')
    await waitFor('the end of its lease', async () => (await left()).length === 1)
    assert.deepEqual(await left(), [(await other).split(/\s/)[0]])
  })

  it('goes through the proxy that is set, or the error says why it cannot', { timeout: 300_000 }, async () => {
    const asked = []
    const proxy = createServer().listen(0, '127.0.0.1')
    proxy.on('connect', ({ url }, socket) => {
      asked.push(url)
      socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n')
    })
    await once(proxy, 'listening')
    process.env.https_proxy = `http://127.0.0.1:${proxy.address().port}`
    try {
      const error = await adapter.pullImage('registry.invalid/a/b:1').catch((error) => error)
      assert.equal(error.code, 'ENGINE_ERROR')
      // What fetches is nerdctl, or the daemon, which is another's and knows nothing of our proxies.
      if (asked.length === 0) assert.match(error.hint, /containerd itself fetches.*proxy/)
      else assert.equal(asked[0], 'registry.invalid:443')
    } finally {
      delete process.env.https_proxy
      proxy.close()
    }
  })

  it('of a private registry with its own authority: the image is here, the password nowhere', {
    timeout: 300_000,
  }, async () => {
    const registry = await startRegistry({ auth: true, tls: true })
    running.push(registry)
    const secret = Buffer.from(`${ACCOUNT.username}:${ACCOUNT.password}`).toString('base64')
    const ca = join(tempDir('certs'), 'ca.crt')
    writeFileSync(ca, registry.ca)
    await publish(registry, 'test/private:1', busyboxImage({ files: { '/private': 'x' } }), { auth: ACCOUNT })
    const image = `${registry.address}/test/private:1`
    process.env.NODE_EXTRA_CA_CERTS = ca
    try {
      await assert.rejects(adapter.pullImage(image, undefined, { auth: { username: 'alice', password: 'no' } }), {
        code: 'REGISTRY_AUTH',
      })
      await adapter.pullImage(image, undefined, { auth: ACCOUNT })
    } finally {
      delete process.env.NODE_EXTRA_CA_CERTS
    }
    assert.equal(await adapter.imageExists(image), true)
    const places = [engine.dir, '/run', '/root/.docker', '/var/lib/nerdctl'].filter(existsSync)
    assert.deepEqual(holding(secret, places), [])
    assert.deepEqual(holding(ACCOUNT.password, [engine.dir]), [])
    // Another process of ours may be pulling meanwhile; what is there has an owner that lives.
    const kept = readdirSync('/dev/shm').filter((name) => name.startsWith('lima-runtime-auth.'))
    assert.deepEqual(
      kept.filter((name) => !existsSync(`/proc/${name.split('.')[1]}`)),
      [],
    )
    console.log(`pulled ${image}; its password is in no file below ${places.join(', ')}`)
  })

  it("with the credentials 'none': neither ours nor those that nerdctl finds by itself", {
    timeout: 300_000,
  }, async () => {
    const registry = await startRegistry({ auth: true })
    running.push(registry)
    const home = tempDir('home')
    const secret = Buffer.from(`${ACCOUNT.username}:${ACCOUNT.password}`).toString('base64')
    mkdirSync(join(home, '.docker'))
    const config = join(home, '.docker/config.json')
    writeFileSync(config, JSON.stringify({ auths: { [registry.address]: { auth: secret } } }))
    await publish(registry, 'test/none:1', busyboxImage({ files: { '/none': 'x' } }), { auth: ACCOUNT })
    const image = `${registry.address}/test/none:1`
    const { HOME } = process.env
    process.env.HOME = home
    try {
      await assert.rejects(adapter.pullImage(image, undefined, { credentials: 'none' }), { code: 'REGISTRY_AUTH' })
      const start = { name: 'none', image, credentials: 'none' }
      await assert.rejects(adapter.startContainer(start), { code: 'REGISTRY_AUTH' })
      await adapter.pullImage(image, undefined, { credentials: 'user' })
    } finally {
      process.env.HOME = HOME
    }
    assert.equal(await adapter.imageExists(image), true)
  })
})

/** Files below `places` that hold `text`. */
function holding(text, places) {
  try {
    const found = execFileSync('grep', ['-rlsIF', '--', text, ...places], { encoding: 'utf8', maxBuffer: 1 << 26 })
    return found.trim().split('\n')
  } catch (error) {
    // 1: none; 2: none, and something could not be read (a socket, a file that went away).
    if ([1, 2].includes(error.status) && !error.stdout) return []
    throw error
  }
}

/** A proxy before a registry that lets `rate` bytes a second of each answer through. */
const limited = (port, rate = RATE) =>
  startProxy(port, () => {
    const from = performance.now()
    return async (passed) => {
      const early = (passed / rate) * 1000 - (performance.now() - from)
      if (early > 1) await delay(early)
    }
  })
