// The shipped manifest's updater: digests come from the release's own list, and a bad release changes nothing.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { startReleaseServer } from '../support/release-server.mjs'
import { tempDir } from '../support/tempdir.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const digest = (n) => String(n).repeat(64)

test('a release moves into the manifest with the digests of its SHA256SUMS, or not at all', async (t) => {
  const server = await startReleaseServer()
  t.after(() => server.close())
  const release = '/github.com/lima-vm/lima/releases/download/v1.2.3'
  const names = ['Darwin-arm64', 'Darwin-x86_64', 'Linux-aarch64', 'Linux-x86_64'].map((a) => `lima-1.2.3-${a}.tar.gz`)
  await server.file(`${release}/SHA256SUMS`, names.map((name, i) => `${digest(i)}  ${name}\n`).join(''))
  const manifest = join(tempDir(), 'manifest.json')
  copyFileSync(join(root, 'templates/manifest.json'), manifest)
  const before = JSON.parse(readFileSync(manifest, 'utf8'))
  const update = (...args) =>
    promisify(execFile)(process.execPath, [
      join(root, 'scripts/update-manifest.mjs'),
      ...args,
      '--mirror',
      server.url,
      '--manifest',
      manifest,
    ])

  await update('lima', '1.2.3')
  const after = JSON.parse(readFileSync(manifest, 'utf8'))
  assert.equal(after.components.lima.version, '1.2.3')
  const sources = Object.values(after.components.lima.platforms).flatMap((p) => p.sources)
  assert.deepEqual(
    sources,
    names.map((name, i) => ({ url: `https:/${release}/${name}`, sha256: digest(i) })),
  )
  assert.deepEqual({ ...after.components, lima: 0 }, { ...before.components, lima: 0 })

  await server.file(`${release.replace('1.2.3', '1.2.4')}/SHA256SUMS`, `${digest(1)}  lima-1.2.4-Darwin-arm64.tar.gz\n`)
  await assert.rejects(update('lima', '1.2.4'), /does not name lima-1\.2\.4-Darwin-x86_64/)
  await assert.rejects(update('lima', '9.9.9'), /404/)
  await assert.rejects(update('lima', '../1'), /a version like/)
  assert.deepEqual(JSON.parse(readFileSync(manifest, 'utf8')), after)
})
