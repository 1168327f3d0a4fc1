// An image is baked in a real VM (`support/real-lima.mjs` says when) and another one is made from it: how long each first start
// takes, by phase. Then that VM gets a newer nerdctl, and goes back. `LIMA_RUNTIME_TEST_MANIFEST` names a manifest with an `image`
// that boots here and two versions of `nerdctl-full`, the older one first.
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { LimaContainerAdapter, LimaRuntimeManager } from 'lima-runtime'
import { serveLima } from '../support/given-lima.mjs'
import { httpdArchive } from '../support/images.mjs'
import { makeOwned } from '../support/owned.mjs'
import { becomeOrdinary, limaArchive, limaVersion, noRealLima, SLOWNESS } from '../support/real-lima.mjs'
import { limaUrl, mirrored, PLATFORM } from '../support/release-files.mjs'

const { LIMA_RUNTIME_TEST_MANIFEST: given } = process.env
const skip = noRealLima() ?? (given ? false : 'LIMA_RUNTIME_TEST_MANIFEST is not set')
const HOUR = 3_600_000
const patience = { timeoutMs: 60_000 * SLOWNESS }

const began = Date.now()
const say = (...words) => console.log(`# ${((Date.now() - began) / 1000).toFixed(1).padStart(7)} s`, ...words)

/** Seconds in each phase until the VM is ready, and the messages as they come. */
function watch() {
  const seconds = {}
  let [phase, since, last] = ['resolve', Date.now(), '']
  const onProgress = (event) => {
    const words = `${event.phase}: ${event.message.replace(/\d.*/, '')}`
    if (words !== last) say(words)
    last = words
    if (event.phase === phase) return
    const now = Date.now()
    seconds[phase] = (seconds[phase] ?? 0) + (now - since) / 1000
    ;[phase, since] = [event.phase, now]
  }
  return { seconds, onProgress }
}

let end = () => {}
after(() => end())

test('a VM from a baked image installs nothing; a newer engine comes to it, and goes', {
  skip,
  timeout: 2 * HOUR,
}, async () => {
  becomeOrdinary()
  const dir = makeOwned('vm')
  process.env.HOME = join(dir, 'home')
  mkdirSync(process.env.HOME)
  const { server, options } = await serveLima(dir, limaArchive())
  const managers = []
  end = async () => {
    for (const manager of managers) await manager.delete().catch(() => {})
    server.close()
    rmSync(dir, { recursive: true, force: true })
  }
  const manifest = JSON.parse(readFileSync(options.manifest, 'utf8'))
  const { image, 'nerdctl-full': nerdctls } = JSON.parse(readFileSync(given, 'utf8')).components
  const [lima] = Object.values(manifest.components.lima.versions)[0].platforms[PLATFORM].sources
  lima.url = `${server.url}/${mirrored(limaUrl(PLATFORM, manifest.components.lima.default)).replace(/^\//, '')}`
  manifest.components = { lima: manifest.components.lima, image, 'nerdctl-full': nerdctls }
  writeFileSync(options.manifest, JSON.stringify(manifest))
  const [older, newer] = Object.keys(nerdctls.versions)
  const resources = { cpus: 2, memory: '2GiB', disk: '8GiB', mounts: [] }
  const make = (more) => {
    const manager = new LimaRuntimeManager({ resources, manifest: options.manifest, ...more })
    managers.push(manager)
    return manager
  }

  const unbaked = watch()
  const output = join(dir, 'baked.img')
  const path = '/baked.img'
  const builder = make({ dataDir: join(dir, 'a'), versions: { nerdctl: older } })
  const baked = await builder.bake({
    output,
    url: `${server.url}${path}`,
    timeoutMs: 2 * HOUR,
    onProgress: unbaked.onProgress,
  })
  say('baked', JSON.stringify(baked))
  assert.deepEqual([baked.engine.part, baked.engine.version], ['nerdctl-full', older])
  assert.equal((await builder.getStatus()).state, 'not-created')

  await server.file(path, { path: output })
  const of = { manifest: baked.manifest, dataDir: join(dir, 'b') }
  const first = make({ ...of, versions: { nerdctl: older } })
  const fromBaked = watch()
  const start = Date.now()
  await first.start({ timeoutMs: HOUR, onProgress: fromBaked.onProgress })
  say(`first start from the baked image: ${(Date.now() - start) / 1000} s`)
  const table = ['resolve', 'download', 'verify', 'extract', 'create', 'boot', 'provision']
  for (const phase of table) {
    const [a, b] = [unbaked.seconds[phase] ?? 0, fromBaked.seconds[phase] ?? 0]
    console.log(`# ${phase.padEnd(10)} unbaked ${a.toFixed(1).padStart(7)} s   baked ${b.toFixed(1).padStart(7)} s`)
  }
  const sum = (seconds) => table.reduce((all, phase) => all + (seconds[phase] ?? 0), 0)
  console.log(
    `# until ready unbaked ${sum(unbaked.seconds).toFixed(1)} s, baked ${sum(fromBaked.seconds).toFixed(1)} s`,
  )

  const nerdctl = async (manager) =>
    JSON.parse(await manager.execNerdctl(['version', '--format', '{{json .}}'], patience)).Client.Version
  assert.equal(await nerdctl(first), `v${older}`)
  const adapter = new LimaContainerAdapter({ ...of, versions: { nerdctl: older } })
  const archive = join(dir, 'image.tar')
  writeFileSync(archive, httpdArchive())
  await adapter.loadImage(archive, patience)
  await adapter.createVolume('kept', patience)
  const container = { name: 'web', image: 'lima-runtime-httpd:1', volumes: [{ host: 'kept', container: '/kept' }] }
  const web = await adapter.startContainer(container, patience)
  const sh = async (script) => {
    const { exitCode, stdout, stderr } = await adapter.execInContainer(web, ['sh', '-c', script], patience)
    assert.equal(exitCode, 0, `${stderr}`)
    return `${stdout}`.trim()
  }
  const checksum = await sh('head -c 3000000 /dev/urandom >/kept/data; sync; sha256sum </kept/data')
  say('a container runs; checksum of its volume', checksum)

  const next = make({ ...of, versions: { nerdctl: newer } })
  await next.upgrade({ copy: 'always', timeoutMs: HOUR, onProgress: watch().onProgress })
  assert.equal(await nerdctl(next), `v${newer}`)
  const was = async (manager, words) => {
    const there = await adapter.inspectContainer(web, patience)
    if (there.status !== 'running') await adapter.restartContainer(web, 0, patience)
    assert.equal(await sh('sha256sum </kept/data; ls /kept'), words)
    say(`nerdctl ${await nerdctl(manager)}: the volume is the same`)
  }
  await was(next, `${checksum}\ndata`)
  await sh('echo later >/kept/later; echo lost >/kept/data; sync')
  await next.rollback({ timeoutMs: HOUR, onProgress: watch().onProgress })
  assert.equal(await nerdctl(next), `v${older}`)
  await was(next, `${checksum}\ndata`)
  assert.equal((await next.getStatus()).limaVersion, limaVersion())
})
