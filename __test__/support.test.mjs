// The support code itself: what it starts works, and what it leaves behind is nothing.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { startDockerd } from './support/dockerd.mjs'
import { IMAGES, loadTestImages, sharedEngine } from './support/engine.mjs'
import { http } from './support/http.mjs'
import { freePort } from './support/ports.mjs'
import { processesWith } from './support/process.mjs'
import { ACCOUNT, pushImage, startRegistry } from './support/registry.mjs'
import { waitFor } from './support/wait.mjs'

const engine = sharedEngine()

test('a container of the shared engine is reached over HTTP on its published port', async () => {
  const port = await freePort()
  const HostConfig = { PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: String(port) }] } }
  const { Id } = await engine.api('POST', '/containers/create', { Image: IMAGES.httpd, HostConfig })
  try {
    await engine.api('POST', `/containers/${Id}/start`)
    const page = await waitFor('the page', () => http({ host: '127.0.0.1', port, path: '/' }))
    assert.equal(page.body.toString(), 'Hello from a container\n')
  } finally {
    await engine.api('DELETE', `/containers/${Id}?force=1`)
  }
})

test('no port is given to two of a test’s containers', async () => {
  const ports = await Promise.all(Array.from({ length: 300 }, freePort))
  assert.equal(new Set(ports).size, 300)
  assert.ok(ports.every((port) => port < 32_768))
})

test('an image is pushed to and pulled from a registry, with a password and TLS too', async () => {
  for (const options of [{}, { auth: true }, { auth: true, tls: true }]) {
    const registry = await startRegistry(options)
    try {
      const auth = options.auth ? ACCOUNT : undefined
      const image = await pushImage(engine, IMAGES.busybox, registry, 'support:1', { auth })
      assert.match(image, /^127\.0\.0\.1:\d+\/support:1$/)
      if (options.auth)
        await assert.rejects(pushImage(engine, IMAGES.busybox, registry, 'support:2'), /no basic auth credentials/)
    } finally {
      await registry.stop()
    }
  }
})

test('a dockerd that crashes and starts again has its containers; stopping it leaves nothing', async () => {
  const own = await startDockerd()
  await loadTestImages(own)
  const { Id } = await own.api('POST', '/containers/create', { Image: IMAGES.httpd })
  await own.api('POST', `/containers/${Id}/start`)
  await own.halt('SIGKILL')
  await own.start()
  assert.equal((await own.api('GET', `/containers/${Id}/json`)).State.Status, 'exited')
  await own.api('POST', '/networks/create', { Name: 'left-behind' })
  await own.stop()
  assertGone(own.dir)
})

test('what a killed test leaves is removed by the next sweep, and by two at once', async () => {
  const script = `
    const { startDockerd } = await import('${new URL('./support/dockerd.mjs', import.meta.url)}')
    const engine = await startDockerd()
    await engine.api('POST', '/networks/create', { Name: 'left-behind' })
    console.log(engine.dir)
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [dir] = await once(createInterface({ input: child.stdout }), 'line')
  child.kill('SIGKILL')
  await once(child, 'exit')
  const sweep = `(await import('${new URL('./support/dockerd.mjs', import.meta.url)}')).sweepDockerds()`
  const sweepers = [0, 1].map(() => spawn(process.execPath, ['--input-type=module', '-e', sweep], { stdio: 'inherit' }))
  assert.deepEqual(await Promise.all(sweepers.map((sweeper) => once(sweeper, 'exit').then(([code]) => code))), [0, 0])
  assertGone(dir)
})

function assertGone(dir) {
  assert.equal(existsSync(dir), false)
  assert.deepEqual(processesWith(dir), [])
}
