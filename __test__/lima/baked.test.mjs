// An image with the engine in it is baked, and VMs are made from it: the stand-in for limactl, a real sshd as its guest, and
// QEMU's own qemu-img.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { limaRig, missing, rejected } from '../support/lima.mjs'
import { mirrored, nerdctlFullArchive, PLATFORM, sha256 } from '../support/release-files.mjs'
import { tempDir } from '../support/tempdir.mjs'

const url = 'https://images.example.com/baked.img'
const noTools =
  spawnSync('qemu-img', ['--version']).status === 0 ? undefined : 'no qemu-img; run `node scripts/setup.mjs test`'
const both = { '2.1.6': nerdctlFullArchive(), '2.3.5': nerdctlFullArchive({ version: '2.3.5' }) }

/** A disk with something on it. */
function qcow2(t) {
  const dir = tempDir(t)
  const [raw, image] = [join(dir, 'raw'), join(dir, 'image')]
  writeFileSync(raw, Buffer.concat([Buffer.alloc(1 << 20, 'the guest '), Buffer.alloc(3 << 20)]))
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image])
  return readFileSync(image)
}

/** What the disk of an image holds. */
function contents(t, image) {
  const raw = join(tempDir(t), 'raw')
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', image, raw])
  return createHash('sha256').update(readFileSync(raw)).digest('hex')
}

describe('a baked image', { skip: missing() ?? noTools, timeout: 300_000 }, () => {
  const read = (rig) => JSON.parse(readFileSync(rig.options.manifest, 'utf8'))
  const nerdctlAsked = (rig) => rig.server.requests().filter(({ path }) => path.includes('nerdctl-full')).length

  test('is the disk of a VM, named in a manifest, and nothing else is left', async (t) => {
    const image = qcow2(t)
    const rig = await limaRig(t, { image, version: '2.2.0' })
    const { ask } = rig.app()
    const output = join(rig.home, 'out', 'baked.img')
    // No directory of this computer is in it, which by default a VM has.
    const options = { ...rig.options, resources: { cpus: 1, memory: '512MiB' } }
    const events = await ask({ options, method: 'progress', args: ['bake', { output, url }] })
    const phases = [...new Set(events.map(({ phase }) => phase))]
    assert.deepEqual(phases, ['resolve', 'download', 'extract', 'create', 'boot', 'provision', 'stop', 'ready'])
    assert.equal(events.filter(({ phase }) => phase === 'ready').length, 1, 'a VM that is ready is no image yet')
    const written = events.filter(({ message }) => message === 'Writing the image').map(({ percent }) => percent)
    assert.deepEqual([written[0], written.at(-1), events.at(-1).phase], [0, 100, 'ready'])
    const guest = readFileSync(join(rig.options.dataDir, 'guest.log'), 'utf8')
    assert.match(guest, /userdel -f -r/)
    const body = readFileSync(output)
    const from = join(tempDir(t), 'from')
    writeFileSync(from, image)
    assert.equal(contents(t, output), contents(t, from))
    assert.deepEqual(readdirSync(join(rig.home, 'out')).sort(), ['baked.img', 'baked.img.manifest.json'])
    assert.equal(existsSync(rig.vm), false)
    assert.deepEqual(readdirSync(join(rig.options.dataDir, 'vms/_disks')), [])

    const { image: before, 'nerdctl-full': nerdctl } = read(rig).components
    const { components } = JSON.parse(readFileSync(`${output}.manifest.json`, 'utf8'))
    const { default: version, versions } = components.image
    assert.deepEqual([version, versions['24.04']], ['24.04-baked', before.versions['24.04']])
    const archive = nerdctl.versions['2.1.6'].platforms[PLATFORM].sources[0].sha256
    const engine = { part: 'nerdctl-full', version: '2.1.6', sha256: archive }
    assert.deepEqual(versions[version].platforms[PLATFORM].sources, [
      { url, sha256: sha256(body), size: body.length, engine },
    ])
    assert.deepEqual(components.lima, read(rig).components.lima)
  })

  test('is refused where it could not be one', async (t) => {
    const rig = await limaRig(t, { image: qcow2(t), version: '2.2.0' })
    const { ask } = rig.app()
    const bake = (args, more) => ask({ options: { ...rig.options, ...more }, method: 'bake', args: [args] })
    const output = join(rig.home, 'baked.img')
    const field = async (args, more) => (await rejected(bake(args, more), 'INVALID_ARGUMENT')).details.field
    assert.equal(await field({}), 'output')
    assert.equal(await field({ output: '/' }), 'output')
    assert.equal(await field({ output: rig.home }), 'output')
    assert.equal(await field({ output: `${output}\0` }), 'output')
    assert.equal(await field({ output, url: 'ftp://x/y.img' }), 'url')
    assert.equal(await field({ output, url: 'https://x/' }), 'url')
    assert.equal(await field({ output, url: 'guest.img' }), 'url')
    assert.equal(await field({ output: '/proc/none/guest.img' }), 'output')
    assert.equal(await field({ output, size: 1 }), 'size')
    assert.equal(await field({ output }, { template: '/t.yaml' }), 'template')
    assert.equal(await field({ output }, { registries: { insecure: ['registry:5000'] } }), 'registries')
    assert.equal(await field({ output }, { proxy: 'http://me:secret@127.0.0.1:9' }), 'proxy')
    const { ask: behind } = rig.app({ https_proxy: 'me:secret@127.0.0.1:9' })
    await rejected(behind({ method: 'bake', args: [{ output }] }), 'INVALID_ARGUMENT')
    // Its VM would lie where that of every other long one does.
    assert.equal(await field({ output }, { dataDir: join(rig.home, 'd'.repeat(80)) }), 'dataDir')
    await ask({ method: 'start', args: [] })
    await rejected(bake({ output }), 'INVALID_STATE')
    assert.equal((await ask({ method: 'getStatus', args: [] })).state, 'running')
    await ask({ method: 'delete', args: [{ keepData: true }] })
    await rejected(bake({ output }), 'INVALID_STATE')
    assert.ok((await ask({ method: 'getStatus', args: [] })).keptData)
    await ask({ method: 'delete', args: [] })
    await ask({ method: 'configure', args: [{ mounts: [{ location: '/srv' }] }] })
    await rejected(bake({ output }), 'INVALID_STATE')
    await ask({ method: 'configure', args: [{ mounts: [] }] })

    // Given up in the middle: no VM, no half of an image.
    for (const phase of ['create', 'boot', 'provision', 'Writing the image']) {
      await rejected(ask({ method: 'givenUp', args: ['bake', { output }, phase] }), 'ABORTED')
      assert.equal((await ask({ method: 'getStatus', args: [] })).state, 'not-created', phase)
      assert.deepEqual(readdirSync(rig.home), [], phase)
    }
    const { ask: without } = rig.app({ PATH: '/nowhere' })
    await rejected(without({ method: 'bake', args: [{ output }] }), 'NOT_INSTALLED')
  })

  /** An application whose manifest has an image with nerdctl-full 2.3.5 in it, and 2.1.6 besides. */
  async function withBaked(t, change = () => {}) {
    const rig = await limaRig(t, { nerdctls: both, version: '2.2.0' })
    const manifest = read(rig)
    const { sources } = manifest.components['nerdctl-full'].versions['2.3.5'].platforms[PLATFORM]
    manifest.components.image.versions['24.04'].platforms[PLATFORM].sources[0].engine = {
      part: 'nerdctl-full',
      version: '2.3.5',
      sha256: sources[0].sha256,
    }
    change(manifest)
    writeFileSync(rig.options.manifest, JSON.stringify(manifest))
    const yaml = () => readFileSync(join(rig.vm, 'lima.yaml'), 'utf8')
    return { rig, manifest, yaml, ...rig.app() }
  }
  /** Whether Lima is to install containerd, and of which archive. */
  const installs = (yaml) => [
    /^containerd:\n( .*\n)*? {2}system: true/m.test(yaml),
    /cache\/download\/\S*nerdctl-full-([\d.]+)-/.exec(yaml)?.[1],
  ]

  test('makes VMs without an archive, until a newer one is asked for', async (t) => {
    const { rig, manifest, yaml, call, ask } = await withBaked(t)
    await call('start')
    assert.deepEqual([nerdctlAsked(rig), installs(yaml())], [0, [false, undefined]])
    const guest = () => readFileSync(join(rig.options.dataDir, 'guest.log'), 'utf8')
    assert.match(guest(), /systemctl enable[\s\S]*containerd\.service/, 'nobody else has it run')
    await call('restart')
    assert.equal(nerdctlAsked(rig), 0)
    // Also when the image is no longer in the manifest: the VM has it.
    delete manifest.components.image.versions['24.04'].platforms[PLATFORM].sources[0].engine
    writeFileSync(rig.options.manifest, JSON.stringify(manifest))
    await call('restart')
    assert.equal(nerdctlAsked(rig), 0)
    // An older one would not be installed: Lima compares the times of the files.
    const older = { ...rig.options, versions: { nerdctl: '2.1.6' } }
    await call('stop')
    await rejected(ask({ options: older, method: 'start', args: [] }), 'INVALID_STATE')

    // A newer one comes as to every VM, and leaves a way back.
    const newer = nerdctlFullArchive({ version: '2.4.0' })
    const { versions } = manifest.components['nerdctl-full']
    const at = 'https://github.com/containerd/nerdctl/releases/download/v2.4.0/nerdctl-full-2.4.0-linux-amd64.tar.gz'
    versions['2.4.0'] = {
      platforms: { [PLATFORM]: { sources: [{ url: at, sha256: sha256(newer), size: newer.length }] } },
    }
    manifest.components['nerdctl-full'].default = '2.4.0'
    writeFileSync(rig.options.manifest, JSON.stringify(manifest))
    // Without a network what the guest has will do.
    await call('start')
    const warned = (await ask({ method: 'warnings', args: [] })).filter(({ code }) => code === 'DOWNLOAD_FAILED')
    assert.equal(warned.length, 1)
    assert.deepEqual(installs(yaml()), [false, undefined])
    await rig.server.file(mirrored(at), { body: newer })
    await call('upgrade', { copy: 'always' })
    assert.deepEqual(installs(yaml()), [true, '2.4.0'])
    await call('rollback')
    assert.deepEqual(installs(yaml()), [false, undefined])
  })

  test('is made anew without a network, and is none while it does not come', async (t) => {
    const { rig, manifest, yaml, ask } = await withBaked(t)
    await rig.server.file('/manifest.json', JSON.stringify(manifest))
    const options = { ...rig.options, manifest: `${rig.server.url}/manifest.json`, retries: 0 }
    const call = (method, ...args) => ask({ options, method, args })
    await call('start')
    rig.server.remove('/manifest.json')
    await call('factoryReset')
    assert.deepEqual([nerdctlAsked(rig), installs(yaml())], [0, [false, undefined]])
    await call('delete')

    // Another one is wanted, which holds a newer engine and cannot be had. The one that is there holds the older one.
    const [source] = manifest.components.image.versions['24.04'].platforms[PLATFORM].sources
    const engine = { part: 'nerdctl-full', version: '2.4.0', sha256: 'c'.repeat(64) }
    Object.assign(source, { url: 'https://images.example.com/newer.img', sha256: 'b'.repeat(64), engine })
    const { versions } = manifest.components['nerdctl-full']
    const at = 'https://images.example.com/nerdctl-full-2.4.0.tar.gz'
    versions['2.4.0'] = { platforms: { [PLATFORM]: { sources: [{ url: at, sha256: engine.sha256 }] } } }
    manifest.components['nerdctl-full'].default = '2.4.0'
    await rig.server.file('/manifest.json', JSON.stringify(manifest))
    await rejected(call('start'), 'DOWNLOAD_FAILED')
    assert.equal(existsSync(rig.vm), false)
  })

  test('that holds another engine, or may hold none, is a usual one', async (t) => {
    for (const change of [
      ({ components: { image } }) => {
        const [source] = image.versions['24.04'].platforms[PLATFORM].sources
        source.engine = { ...source.engine, part: 'docker' }
      },
      ({ components: { image } }) => {
        const { sources } = image.versions['24.04'].platforms[PLATFORM]
        const { engine: _, ...plain } = sources[0]
        sources.push({ ...plain, url: 'https://images.example.com/other.img', sha256: 'a'.repeat(64) })
      },
    ]) {
      const { rig, call } = await withBaked(t, change)
      await call('start')
      assert.equal(nerdctlAsked(rig), 1)
      await call('delete')
    }
  })

  test('is not given an older engine than it holds', async (t) => {
    const { rig, ask } = await withBaked(t)
    const older = { ...rig.options, versions: { nerdctl: '2.1.6' } }
    const { hint } = await rejected(ask({ options: older, method: 'start', args: [] }), 'INVALID_STATE')
    assert.match(hint, /image/)
    assert.equal(existsSync(rig.vm), false)
  })
})
