// `npm run verify:mac` where there is no Mac: a report all the same, of what was left out and why.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { tempDir } from './support/tempdir.mjs'

const skip = process.platform === 'darwin' && 'on a Mac it boots VMs'

test('elsewhere than on a Mac it ends well, and says what only a Mac can show', { skip }, () => {
  const dir = tempDir('verify')
  const file = join(dir, 'report.json')
  const script = new URL('../scripts/verify-mac.mjs', import.meta.url).pathname
  const env = { ...process.env, HOME: dir }
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, '--report', file], { env, encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  assert.match(stdout, /\n0 passed, 0 failed, \d+ skipped\n$/)
  const report = JSON.parse(readFileSync(file, 'utf8'))
  assert.ok(report.some(({ title }) => title === 'the VM boots with vz') && report.length > 20)
  for (const { title, status, detail } of report) {
    assert.deepEqual([status, detail], ['skip', `only a Mac can show it; this is ${process.platform}`], title)
    assert.ok(stdout.includes(`SKIP  ${title}`), title)
  }
  assert.equal(existsSync(join(dir, '.lima-runtime vérify')), false, 'it made something')
})
