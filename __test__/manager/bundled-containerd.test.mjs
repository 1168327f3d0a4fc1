// What is built on the containerd of the application's own, whose BuildKit runs only while it builds. tests/bundled.rs
// has the engine's life.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { BundledContainerAdapter, BundledRuntimeManager } from 'lima-runtime'
import { BUILDKIT_VARIABLE, noBuildkit } from '../support/buildkit.mjs'
import { CNI, containerdPrograms, NERDCTL_VARIABLE, noContainerd } from '../support/containerd.mjs'
import { busyboxImage } from '../support/images.mjs'
import { makeOwned, orphans } from '../support/owned.mjs'
import { publish, startRegistry } from '../support/registry.mjs'
import { manifestOf, mirrored, nerdctlUrl } from '../support/release-files.mjs'
import { startReleaseServer } from '../support/release-server.mjs'
import { waitFor } from '../support/wait.mjs'

const skip = noContainerd() ?? noBuildkit() ?? false
const PLUGINS = ['bridge', 'firewall', 'host-local', 'loopback', 'portmap', 'tuning']
const KIND = 'bundled-c'

/** An archive like nerdctl-full's (docs/reference/nerdctl.md#nerdctl-full), of the programs that are given. */
function archive(dir) {
  const full = join(dir, 'full')
  for (const sub of ['bin', 'libexec/cni']) mkdirSync(join(full, sub), { recursive: true })
  const buildkit = process.env[BUILDKIT_VARIABLE]
  const bin = [
    ...containerdPrograms(),
    join(buildkit, 'buildkitd'),
    join(buildkit, 'buildctl'),
    process.env[NERDCTL_VARIABLE],
  ]
  for (const path of bin) copyFileSync(path, join(full, 'bin', path.split('/').at(-1)))
  for (const name of PLUGINS) copyFileSync(join(CNI, name), join(full, 'libexec/cni', name))
  const path = join(dir, 'full.tgz')
  execFileSync('tar', ['-C', full, '--owner=0', '--group=0', '--use-compress-program=gzip -1', '-cf', path, '.'])
  return readFileSync(path)
}

/** The processes that run a program below `dir`. */
const running = (dir, name) =>
  readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .filter((pid) => {
      try {
        const [program] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
        return program.startsWith(dir) && program.endsWith(`/${name}`)
      } catch {
        return false
      }
    })

test('a BuildKit runs while something is built, and ends with it however that ends', {
  skip,
  timeout: 600_000,
}, async (t) => {
  for (const orphan of orphans(KIND)) {
    await new BundledRuntimeManager({ dataDir: join(orphan, 'c') }).uninstall()
    rmSync(orphan, { recursive: true, force: true })
  }
  const dir = makeOwned(KIND)
  const body = archive(dir)
  const server = await startReleaseServer()
  const registry = await startRegistry()
  const url = nerdctlUrl()
  await server.file(mirrored(url), { body })
  const manifest = join(dir, 'manifest.json')
  const components = { 'nerdctl-full': { [`linux-${process.arch}`]: [{ url, body }] } }
  writeFileSync(manifest, JSON.stringify(manifestOf(components)))
  const options = { dataDir: join(dir, 'c'), manifest, mirror: server.url }
  const manager = new BundledRuntimeManager(options)
  t.after(async () => {
    await manager.uninstall()
    await Promise.all([server.close(), registry.stop()])
    rmSync(dir, { recursive: true, force: true })
  })
  await manager.initialize()
  const adapter = new BundledContainerAdapter(manager)
  const base = `127.0.0.1:${registry.port}/base:1`
  await publish(registry, 'base:1', busyboxImage())
  const daemons = () => running(dir, 'buildkitd')
  const context = join(dir, 'context')
  mkdirSync(context)
  const dockerfile = (name, ...lines) => writeFileSync(join(context, name), [`FROM ${base}`, ...lines, ''].join('\n'))
  dockerfile('Dockerfile', 'RUN echo built >/said')
  dockerfile('slow', 'RUN echo begun; sleep 1000')

  // Two at once: they take turns.
  const ids = await Promise.all(['one', 'two'].map((tag) => adapter.buildImage(context, { tags: [`built:${tag}`] })))
  assert.equal(ids[0].id, ids[1].id, 'the second one took all from the cache')
  assert.deepEqual(daemons(), [])
  const id = await adapter.startContainer({ name: 'said', image: 'built:one', command: ['sleep', '1000'] })
  const { stdout } = await adapter.execInContainer(id, ['cat', '/said'])
  assert.equal(`${stdout}`, 'built\n')

  // Given up, and killed in the midst.
  const begun = (signal) => {
    let build
    const runs = new Promise((resolve) => {
      const onProgress = (p) => p.type === 'log' && p.text.includes('begun') && resolve()
      build = adapter.buildImage(context, { dockerfile: 'slow', noCache: true, onProgress, signal })
    })
    return { build: build.then(assert.fail, (error) => error), begun: runs }
  }
  const stop = new AbortController()
  const given = begun(stop.signal)
  await given.begun
  assert.equal(daemons().length, 1)
  stop.abort()
  assert.equal((await given.build).code, 'ABORTED')
  await waitFor('BuildKit has ended', () => daemons().length === 0)

  const killed = begun()
  await killed.begun
  const [daemon] = daemons()
  process.kill(daemon, 'SIGKILL')
  assert.match((await killed.build).code, /ENGINE_ERROR|ENGINE_UNREACHABLE/)
  await adapter.buildImage(context, { tags: ['built:again'] })
  assert.deepEqual(daemons(), [])

  // The next build after its own start fails says so.
  writeFileSync(join(options.dataDir, 'buildkit/buildkitd.toml'), 'this is no TOML')
  const refused = await adapter.buildImage(context, {}).then(assert.fail, (error) => error)
  assert.equal(refused.code, 'ENGINE_UNREACHABLE')
  assert.match(refused.message, /BuildKit does not start/)
  assert.ok(!existsSync(join(options.dataDir, 'buildkit/cache/buildkitd.sock')))
})
