// What a support person asks for, where there is nothing yet.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { LimaRuntimeManager, refused } from '../support/installs.mjs'
import { tempDir } from '../support/tempdir.mjs'

const options = { skip: process.platform === 'win32' && 'Lima runs on macOS and Linux' }

test('diagnose() checks everything it says, and changes nothing', options, async () => {
  const dataDir = join(tempDir(), 'data')
  const checks = await new LimaRuntimeManager({ dataDir, proxy: 'http://me:Tr0ub4dor@proxy.example:3128' }).diagnose()
  const documentation = /interface DiagnosticCheck \{\s+\/\*\*([\s\S]*?)\*\//.exec(
    readFileSync('index.d.ts', 'utf8'),
  )[1]
  assert.deepEqual(
    checks.map(({ id }) => id),
    [...documentation.matchAll(/`'([\w-]+)'`/g)].map(([, id]) => id),
  )
  for (const { id, title, status, detail, hint } of checks) {
    assert.ok(title && detail && ['ok', 'warn', 'fail', 'skipped'].includes(status), id)
    assert.ok(hint || !['warn', 'fail'].includes(status), `${id} says what to do`)
  }
  const by = Object.fromEntries(checks.map((check) => [check.id, check]))
  assert.equal(by.installation.status, 'warn')
  assert.equal(by.ssh.status, 'skipped')
  assert.equal(by.proxy.detail, 'proxy=http://proxy.example:3128')
  assert.ok(!existsSync(dataDir))
})

test('collectDiagnostics() writes an archive, or says why not', options, async () => {
  const dir = tempDir()
  const manager = new LimaRuntimeManager({ dataDir: join(dir, 'data') })
  const path = await manager.collectDiagnostics(join(dir, 'd.tar.gz'))
  assert.equal(path, join(dir, 'd.tar.gz'))
  const names = execFileSync('tar', ['-tzf', path], { encoding: 'utf8' }).trim().split('\n')
  assert.ok(names.includes('lima-runtime-diagnostics/checks.json'), String(names))
  mkdirSync(join(dir, 'other'))
  for (const bad of [join(dir, 'other'), join(dir, 'none', 'd.tar.gz'), 7]) {
    const { details } = await refused(manager.collectDiagnostics(bad), 'INVALID_ARGUMENT')
    assert.equal(details.field, 'path')
  }
})
