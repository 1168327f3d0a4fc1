// What LIMA_RUNTIME_LOG prints, and where.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const skip = process.platform === 'win32' && 'no engine is reached by ssh'
const facade = fileURLToPath(new URL('../../dist/index.cjs', import.meta.url))
const script = `const { DockerAdapter } = require(${JSON.stringify(facade)})
const runtime = new DockerAdapter({ host: 'ssh://nobody@127.0.0.1:1' })
runtime.initialize().catch((error) => console.log(error.code))`
const dir = mkdtempSync(join(tmpdir(), 'lr-log-'))
writeFileSync(join(dir, 'ssh'), '#!/bin/sh\necho no >&2\nexit 255\n', { mode: 0o755 })
after(() => rmSync(dir, { recursive: true }))

/** Its output, its standard error and its exit code. */
function run(log, more = {}) {
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', script], {
    env: { PATH: dir, ...(log && { LIMA_RUNTIME_LOG: log }) },
    encoding: 'utf8',
    ...more,
  })
  return { said: stdout.trim(), lines: (stderr ?? '').split('\n').filter(Boolean), status }
}

test('nothing is printed, unless it is asked for', { skip }, () => {
  const { said, lines, status } = run()
  assert.match(said, /^[A-Z_]+$/)
  assert.deepEqual([lines, status], [[], 0])
})

test('debug prints what is started', { skip }, () => {
  const { lines } = run('debug')
  assert.ok(
    lines.some((line) => /^\d{4}-\S+Z DEBUG lima_runtime::\S+: .*what="ssh/.test(line)),
    lines.join('\n'),
  )
})

test('a level prints what is as grave, and another word is told', { skip }, () => {
  assert.deepEqual(run('error').lines, [])
  const { lines } = run('loud\u001b[2J')
  assert.equal(lines.length, 1, lines.join('\n'))
  assert.match(lines[0], /WARN .*LIMA_RUNTIME_LOG is none of .*loud/)
  assert.ok(!lines[0].includes('\u001b'))
})

test('nobody needs to read it', { skip }, () => {
  const { said, status } = run('debug', { stdio: ['ignore', 'pipe', 'ignore'] })
  assert.equal(status, 0)
  assert.equal(said, run().said)
})
