// What a pull tells and what it leaves, with the real nerdctl: figures of a large one, credentials of a private one.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { ContainerdAdapter } from 'lima-runtime'
import { noContainerd, startContainerd } from '../support/containerd.mjs'
import { busyboxArchive } from '../support/images.mjs'
import { startProxy } from '../support/proxy.mjs'
import { ACCOUNT, startRegistry } from '../support/registry.mjs'
import { tempDir } from '../support/tempdir.mjs'

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

  async function publish(registry, name, archive, env, flags = []) {
    const file = join(engine.dir, 'image.tar')
    writeFileSync(file, archive)
    await engine.nerdctl(['load', '-i', file])
    const reference = `${registry.address}/${name}`
    await engine.nerdctl(['tag', 'made:latest', reference])
    await engine.nerdctl([...flags, 'push', reference], env)
    await engine.nerdctl(['rmi', reference, 'made:latest'])
    return reference
  }

  it('tells bytes as they come, never goes back, and says that it unpacks', { timeout: 300_000 }, async () => {
    const registry = await startRegistry()
    running.push(registry)
    await publish(registry, 'test/large:1', busyboxArchive({ tags: ['made:latest'], padding: SIZE }))
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

  it('of a private registry with its own authority: the image is here, the password nowhere', {
    timeout: 120_000,
  }, async () => {
    const registry = await startRegistry({ auth: true, tls: true })
    running.push(registry)
    const config = tempDir('docker-config')
    const secret = Buffer.from(`${ACCOUNT.username}:${ACCOUNT.password}`).toString('base64')
    writeFileSync(join(config, 'config.json'), JSON.stringify({ auths: { [registry.address]: { auth: secret } } }))
    const archive = busyboxArchive({ tags: ['made:latest'], files: { '/private': 'x' } })
    const hosts = tempDir('certs')
    mkdirSync(join(hosts, registry.address))
    const ca = join(hosts, registry.address, 'ca.crt')
    writeFileSync(ca, registry.ca)
    const flags = ['--hosts-dir', hosts]
    const image = await publish(registry, 'test/private:1', archive, { DOCKER_CONFIG: config }, flags)
    writeFileSync(join(config, 'config.json'), '{}')
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
    timeout: 120_000,
  }, async () => {
    const registry = await startRegistry({ auth: true })
    running.push(registry)
    const home = tempDir('home')
    const secret = Buffer.from(`${ACCOUNT.username}:${ACCOUNT.password}`).toString('base64')
    mkdirSync(join(home, '.docker'))
    const config = join(home, '.docker/config.json')
    writeFileSync(config, JSON.stringify({ auths: { [registry.address]: { auth: secret } } }))
    const archive = busyboxArchive({ tags: ['made:latest'], files: { '/none': 'x' } })
    const image = await publish(registry, 'test/none:1', archive, { DOCKER_CONFIG: join(home, '.docker') })
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

/** A proxy before a registry that lets `RATE` bytes a second through. */
const limited = (port) =>
  startProxy(port, () => {
    const from = performance.now()
    return async (passed) => {
      const early = (passed / RATE) * 1000 - (performance.now() - from)
      if (early > 1) await delay(early)
    }
  })
