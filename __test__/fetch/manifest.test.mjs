// The shipped manifest's updater: sizes and digests are the publishers' own, who must agree, and a bad release changes
// nothing. The server stands in for GitHub's release API (`GET /repos/{owner}/{repo}/releases/tags/{tag}`: `assets` with
// `name`, `size` and `digest`), a release's own list of digests, and Ubuntu's simplestreams index.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { limaArchive, noise, sha256 } from '../support/release-files.mjs'
import { startReleaseServer } from '../support/release-server.mjs'
import { tempDir } from '../support/tempdir.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const digest = (n) => String(n).repeat(64)
const ARCHS = ['Darwin-arm64', 'Darwin-x86_64', 'Linux-aarch64', 'Linux-x86_64']

/** A server, a copy of the shipped manifest, and the script that changes it. */
async function updater(t) {
  const server = await startReleaseServer()
  t.after(() => server.close())
  const manifest = join(tempDir(), 'manifest.json')
  copyFileSync(join(root, 'templates/manifest.json'), manifest)
  const script = join(root, 'scripts/update-manifest.mjs')
  const update = (...args) =>
    promisify(execFile)(process.execPath, [script, ...args, '--mirror', server.url, '--manifest', manifest])
  return { server, update, manifest: () => JSON.parse(readFileSync(manifest, 'utf8')) }
}

/** A release as GitHub has it; `files` are name, sha256 and size of each. */
function release(server, version, files, { repository = 'lima-vm/lima', sums = 'SHA256SUMS' } = {}) {
  const at = `/github.com/${repository}/releases/download/v${version}`
  const assets = files.map(({ name, sha256, size }) => ({ name, size, digest: `sha256:${sha256}` }))
  server.file(`${at}/${sums}`, files.map(({ name, sha256 }) => `${sha256}  ${name}\n`).join(''))
  const api = `/api.github.com/repos/${repository}/releases/tags/v${version}`
  const publish = (list) => server.file(api, JSON.stringify({ tag_name: `v${version}`, assets: list }))
  publish(assets)
  return { at, assets, publish }
}

const limaFiles = (version) =>
  ARCHS.map((arch, i) => ({ name: `lima-${version}-${arch}.tar.gz`, sha256: digest(i), size: 1000 + i }))

test('a release moves into the manifest with the digests and sizes that GitHub and its list agree on', async (t) => {
  const { server, update, manifest } = await updater(t)
  const before = manifest()
  const files = limaFiles('2.3.4')
  const { at } = release(server, '2.3.4', files)
  await update('lima', '2.3.4')
  const { lima, ...others } = manifest().components
  assert.equal(lima.default, '2.3.4')
  assert.deepEqual(Object.keys(lima.versions), ['2.3.4'])
  assert.deepEqual(
    Object.values(lima.versions['2.3.4'].platforms).flatMap((p) => p.sources),
    files.map(({ name, sha256, size }) => ({ url: `https:/${at}/${name}`, sha256, size })),
  )
  const { lima: _, ...same } = before.components
  assert.deepEqual(others, same)

  // Beside the ones that are there, or in the place of the same.
  release(server, '2.3.5', limaFiles('2.3.5'))
  await update('lima', '2.3.5', '--keep')
  release(server, '2.3.4', [{ ...files[0], sha256: digest(7) }, ...files.slice(1)])
  await update('lima', '2.3.4', '--keep')
  const after = manifest().components.lima
  assert.equal(after.default, '2.3.4')
  assert.deepEqual(Object.keys(after.versions).sort(), ['2.3.4', '2.3.5'])
  assert.equal(after.versions['2.3.4'].platforms['darwin-arm64'].sources[0].sha256, digest(7))
  await update('lima', '2.3.5', '--keep', '--default')
  const { default: newest, versions } = manifest().components.lima
  assert.deepEqual([newest, Object.keys(versions).sort()], ['2.3.5', ['2.3.4', '2.3.5']])
})

test('docker compose is a bare program, whose digest its own list and GitHub say', async (t) => {
  const { server, update, manifest } = await updater(t)
  const of = { repository: 'docker/compose', sums: 'checksums.txt' }
  const files = ['aarch64', 'x86_64'].map((machine, i) => ({
    name: `docker-compose-linux-${machine}`,
    sha256: digest(i),
    size: 1000 + i,
  }))
  const { at, assets, publish } = release(server, '6.7.8', files, of)
  const latest = JSON.stringify({ tag_name: 'v6.7.8' })
  server.file('/api.github.com/repos/docker/compose/releases/latest', latest)
  await update('compose', 'newest')
  const { compose } = manifest().components
  assert.deepEqual([compose.default, Object.keys(compose.versions)], ['6.7.8', ['6.7.8']])
  assert.deepEqual(
    ['linux-arm64', 'linux-x64'].flatMap((platform) => compose.versions['6.7.8'].platforms[platform].sources),
    files.map(({ name, sha256, size }) => ({ url: `https:/${at}/${name}`, sha256, size })),
  )
  publish([{ ...assets[0], digest: `sha256:${digest(9)}` }, assets[1]])
  await assert.rejects(update('compose', '6.7.8'), /GitHub says sha256:9+, the release's checksums\.txt sha256:0+/)
})

test('the newest release is asked for, and one that is there already stays as it is', async (t) => {
  const { server, update, manifest } = await updater(t)
  const latest = (tag) =>
    server.file('/api.github.com/repos/lima-vm/lima/releases/latest', JSON.stringify({ tag_name: tag }))
  release(server, '2.3.4', limaFiles('2.3.4'))
  latest('v2.3.4')
  await update('lima', 'newest')
  const { components } = manifest()
  assert.deepEqual(Object.keys(components.lima.versions), ['2.3.4'])
  // What `--contents` had added would be lost.
  const { stdout } = await update('lima', 'newest')
  assert.match(stdout, /has lima 2\.3\.4, the newest/)
  assert.deepEqual(manifest().components, components)
  latest('nightly')
  await assert.rejects(update('lima', 'newest'), /nightly: a version like/)
  await assert.rejects(update('docker', 'newest'), /docker: name its version/)
})

test('what is not said, or said twice and differently, is not written', async (t) => {
  const { server, update, manifest } = await updater(t)
  const before = manifest()
  const files = limaFiles('2.3.4')
  const { assets, publish } = release(server, '2.3.4', files)
  const refuse = async (list, why) => {
    publish(list)
    await assert.rejects(update('lima', '2.3.4'), why)
  }
  await refuse(assets.slice(1), /does not name lima-2\.3\.4-Darwin-arm64/)
  await refuse(
    [{ ...assets[0], digest: `sha256:${digest(9)}` }, ...assets.slice(1)],
    /GitHub says sha256:9+, .*sha256:0+/,
  )
  await refuse([{ ...assets[0], digest: null }, ...assets.slice(1)], /GitHub says null/)
  await refuse([{ ...assets[0], size: 0 }, ...assets.slice(1)], /0 is not its size/)
  release(server, '2.3.6', files.slice(0, 1))
  await assert.rejects(update('lima', '2.3.6'), /does not name lima-2\.3\.6-Darwin-arm64/)
  await assert.rejects(update('lima', '9.9.9'), /404/)
  await assert.rejects(update('lima', '../1'), /a version like/)
  await assert.rejects(update('soup', '1.0.0'), /lima, nerdctl, compose, image, docker/)
  assert.deepEqual(manifest(), before)
})

test('what is in an archive is read from the archive', async (t) => {
  const { server, update, manifest } = await updater(t)
  const archive = limaArchive({ version: '2.3.4' })
  const files = limaFiles('2.3.4').map((file) => ({ ...file, sha256: sha256(archive), size: archive.length }))
  const { at } = release(server, '2.3.4', files)
  for (const { name } of files) server.file(`${at}/${name}`, { body: archive })
  await update('lima', '2.3.4', '--contents')
  const sources = Object.values(manifest().components.lima.versions['2.3.4'].platforms).flatMap((p) => p.sources)
  assert.equal(sources.length, 4)
  assert.ok(
    sources.every((s) => /^[0-9a-f]{64}$/.test(s.contents) && s.contents === sources[0].contents),
    JSON.stringify(sources),
  )
})

test("the image's builds come from Ubuntu's index, each variant's last one of the date or before", async (t) => {
  const { server, update, manifest } = await updater(t)
  const before = manifest()
  // As products:1.0 has it: a product an architecture, a version a build, an item a file.
  const index = (variant, builds) => {
    const products = {}
    for (const [i, arch] of ['amd64', 'arm64', 's390x'].entries()) {
      const versions = {}
      for (const [j, build] of builds.entries()) {
        const path = `${variant === 'minimal' ? '' : 'server/'}releases/noble/release-${build}/ubuntu-24.04-${variant}-cloudimg-${arch}.img`
        const disk = { ftype: 'disk1.img', path, sha256: digest(i + j), size: 5000 + j }
        versions[build] = { items: { 'disk1.img': disk, 'root.tar.xz': { path: 'other', sha256: digest(9), size: 1 } } }
      }
      products[`com.ubuntu.cloud:server:24.04:${arch}`] = { version: '24.04', arch, versions }
      products[`com.ubuntu.cloud:server:26.04:${arch}`] = { version: '26.04', arch, versions: {} }
    }
    const at = variant === 'minimal' ? 'minimal/releases' : 'releases'
    const path = `/cloud-images.ubuntu.com/${at}/streams/v1/com.ubuntu.cloud:released:download.json`
    server.file(path, JSON.stringify({ format: 'products:1.0', products }))
  }
  index('minimal', ['20260716', '20260801', '20261101'])
  index('server', ['20260926', '20260926.1', '20261102'])
  await update('image', '20260930')
  const { image, ...others } = manifest().components
  const sources = (variant, platform) => image.versions['24.04'].variants[variant].platforms[platform].sources
  assert.deepEqual(sources('minimal', 'linux-x64'), [
    {
      url: 'https://cloud-images.ubuntu.com/minimal/releases/noble/release-20260801/ubuntu-24.04-minimal-cloudimg-amd64.img',
      sha256: digest(1),
      size: 5001,
    },
  ])
  assert.match(
    sources('server', 'linux-arm64')[0].url,
    /^https:\/\/cloud-images\.ubuntu\.com\/releases\/noble\/release-20260926\.1\/ubuntu-24\.04-server-cloudimg-arm64\.img$/,
  )
  const { image: _, ...same } = before.components
  assert.deepEqual(others, same)
  await assert.rejects(update('image', '20250101'), /no minimal image for arm64 of 20250101/)
  await assert.rejects(update('image', 'today'), /a date like/)
})

test("Docker's archives, of which nobody publishes a digest, are measured and must be the same elsewhere", async (t) => {
  const { server, update, manifest } = await updater(t)
  const before = manifest()
  const [official, other] = ['/download.docker.com', '/mirror.example/docker-ce']
  const also = ['--also', 'https://mirror.example/docker-ce/']
  const names = (version) =>
    ['x86_64', 'aarch64'].flatMap((machine) =>
      ['docker', 'docker-rootless-extras'].map((n) => `/linux/static/stable/${machine}/${n}-${version}.tgz`),
    )
  const publish = (version, at, change = () => '') => {
    for (const name of names(version)) server.file(at + name, { body: noise(5000, name + change(name)) })
  }
  publish('30.1.2', official)
  await assert.rejects(update('docker', '30.1.2'), /gives no checksums; name another place .* --also/)
  await assert.rejects(update('docker', '30.1.2', ...also), /mirror\.example.*404/)
  publish('30.1.2', other, (name) => (name.includes('aarch64/docker-rootless') ? 'x' : ''))
  await assert.rejects(update('docker', '30.1.2', ...also), /aarch64\/docker-rootless.* has sha256 .*mirror\.example/)
  await assert.rejects(update('docker', '../1', ...also), /a version like/)
  assert.deepEqual(manifest(), before, 'nothing was written')

  publish('30.1.2', other)
  await update('docker', '30.1.2', ...also, '--keep')
  const { docker, 'docker-rootless': extras, ...others } = manifest().components
  const { docker: old, 'docker-rootless': _, ...same } = before.components
  assert.deepEqual(others, same)
  assert.equal(docker.default, old.default)
  assert.deepEqual(docker.versions[old.default], old.versions[old.default])
  for (const [component, name] of [
    [docker, 'docker'],
    [extras, 'docker-rootless-extras'],
  ]) {
    for (const [platform, machine] of [
      ['linux-x64', 'x86_64'],
      ['linux-arm64', 'aarch64'],
    ]) {
      const path = `/linux/static/stable/${machine}/${name}-30.1.2.tgz`
      const source = { url: `https:/${official}${path}`, sha256: sha256(noise(5000, path)), size: 5000 }
      assert.deepEqual(component.versions['30.1.2'].platforms[platform].sources, [source])
    }
  }
  // What is pinned stays what it is, and needs no second place.
  await update('docker', '30.1.2', '--keep')
  publish('30.1.2', official, () => 'another')
  const pinned = manifest()
  await assert.rejects(update('docker', '30.1.2', '--keep'), /has sha256 .*, the manifest [0-9a-f]{64}/)
  await assert.rejects(update('docker', '30.1.2', ...also), /has sha256 .*, the manifest/)
  assert.deepEqual(manifest(), pinned)
})
