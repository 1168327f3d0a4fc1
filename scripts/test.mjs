// `npm test`: everything. `npm test -- rust`, `-- js`, `-- types`, or a part of a test file's path (`-- contract`) for less.
// Ends with what was skipped and why, and the line `N passed, N failed, N skipped`. Where `CI` is set, a test that is skipped
// for want of what `scripts/setup.mjs` brings, or of root, counts as failed.
import { spawn, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { relative } from 'node:path'
import { createInterface } from 'node:readline'
import { run as runTests } from 'node:test'
import { spec } from 'node:test/reporters'
import { noDockerd, startDockerd } from '../__test__/support/dockerd.mjs'
import { loadTestImages, SOCKET_VARIABLE } from '../__test__/support/images.mjs'
import { hasNodeModules, missingTools, npmInstall, root, run, TSC, typeProjects } from './run.mjs'
import { ensurePackages, ensureTestUser, PACKAGES } from './setup.mjs'

const SUITES = ['rust', 'types', 'js']
// A file that hangs must not hang the run; the longest takes a few minutes.
const FILE_TIMEOUT = 15 * 60_000

/** What a machine that was set up has: in its reasons `setup.mjs` names itself, and root is named. */
const MUST_BE_THERE = /run `node scripts\/setup\.mjs test`|needs root/
const NEEDS_DOCKERD = /support\/(dockerd|engine)\.mjs|backends\/docker\.mjs/
const inCi = Boolean(process.env.CI) && process.env.CI !== 'false'

const selected = process.argv.slice(2)
const paths = selected.filter((name) => !SUITES.includes(name))
const wants = (suite) => selected.length === 0 || selected.includes(suite)
let files = wants('js')
  ? testFiles()
  : paths.length > 0
    ? testFiles().filter((file) => paths.some((part) => relative(root, file).includes(part)))
    : []
if (paths.length > 0 && files.length === 0)
  fail(`No test file has ${paths.join(' or ')} in its path. Suites: ${SUITES.join(', ')}.`)

const missing = missingTools()
if (missing.length > 0) fail(missing.join('\n'))
if (!hasNodeModules()) {
  const [file, ...args] = npmInstall()
  run(file, args, { cwd: root })
}

/** @type {{ suite: string, passed: number, failed: string[], skipped: { name: string, reason: string }[] }[]} */
const results = []
let engine
// An exit by a signal must still remove the engine, which the support code does at `exit`.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1))

try {
  if (process.platform === 'linux') {
    attempt(() => {
      ensurePackages(PACKAGES.test)
      ensureTestUser()
    })
    // Where this fails (Ubuntu's chromium is a snap), the tests that need it say that they are skipped.
    if (wants('js') || paths.length > 0) attempt(() => ensurePackages(PACKAGES.app))
  }
  if (files.length > 0 || wants('types')) run('node', ['scripts/build.mjs'], { cwd: root })
  if (files.length > 0) await startEngine()
  if (wants('rust')) results.push(await rust())
  if (wants('types')) results.push(types())
  if (files.length > 0) results.push(await js())
} catch (error) {
  console.error(error)
  results.push({ suite: 'the test runner itself', passed: 0, failed: [error.message], skipped: [] })
} finally {
  await engine?.stop()
}
process.exitCode = report() ? 0 : 1

/** One engine for everything: what starts in a second need not start for each file. */
async function startEngine() {
  if (process.env[SOCKET_VARIABLE] || noDockerd()) return
  engine = await startDockerd()
  await loadTestImages(engine)
  process.env[SOCKET_VARIABLE] = engine.socket
}

async function rust() {
  heading('Rust: cargo test --workspace')
  const result = { suite: 'Rust', passed: 0, failed: [], skipped: [] }
  const child = spawn('cargo', ['test', '--workspace', '--no-fail-fast'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  // Of one test binary: what tests said of themselves (`tests/support/skip.rs`), whom libtest then calls passed.
  let skipped = new Map()
  for await (const line of createInterface({ input: child.stdout })) {
    console.log(line)
    const [, skips, why] = /SKIPPED (\S+): (.+)$/.exec(line) ?? []
    if (skips) skipped.set(skips, why)
    const [, name, outcome, , reason] = /^test (.+?) \.\.\. (FAILED|ignored)(, (.*))?$/.exec(line) ?? []
    if (outcome === 'FAILED') {
      result.failed.push(name)
      skipped.delete(name)
    }
    if (outcome === 'ignored') skipped.set(name, reason ?? 'ignored without a reason')
    const [, passed, ignored] = /^test result: .*?(\d+) passed;.* (\d+) ignored;/.exec(line) ?? []
    if (passed) {
      result.passed += Number(passed) + Number(ignored) - skipped.size
      result.skipped.push(...[...skipped].map(([name, reason]) => ({ name, reason })))
      skipped = new Map()
    }
  }
  const code = child.exitCode ?? (await new Promise((resolve) => child.once('exit', resolve)))
  if (code !== 0 && result.failed.length === 0) result.failed.push(`cargo test ended with exit code ${code}`)
  return result
}

function types() {
  const result = { suite: 'Types', passed: 0, failed: [], skipped: [] }
  for (const project of typeProjects) {
    heading(`Types: tsc -p ${project}`)
    const { status } = spawnSync(process.execPath, [TSC, '-p', project], { cwd: root, stdio: 'inherit' })
    if (status === 0) result.passed += 1
    else result.failed.push(`tsc -p ${project}`)
  }
  return result
}

async function js() {
  const result = { suite: 'JavaScript', passed: 0, failed: [], skipped: [] }
  const reason = !process.env[SOCKET_VARIABLE] && noDockerd()
  if (reason) {
    // Each of them begins by looking for the engine.
    const without = files.filter((file) => NEEDS_DOCKERD.test(readFileSync(file, 'utf8')))
    result.skipped.push(...without.map((file) => ({ name: relative(root, file), reason })))
    files = files.filter((file) => !without.includes(file))
  }
  heading(`JavaScript: ${files.length} test files`)
  if (files.length === 0) return result
  // One file at a time: some measure time and CPU, and two cores are no more than one test needs.
  const tests = runTests({ files, concurrency: 1, timeout: FILE_TIMEOUT })
  // A suite is its tests, unless it is skipped whole; a file stands for itself only when it failed outside of them.
  const counts = (data) => (data.details?.type !== 'suite' || data.skip !== undefined) && !files.includes(data.name)
  const name = (data) => `${data.name} (${relative(root, data.file ?? '')})`
  tests.on('test:pass', (data) => {
    if (!counts(data)) return
    const note = data.skip ?? data.todo
    if (note === undefined) result.passed += 1
    else
      result.skipped.push({
        name: name(data),
        reason: typeof note === 'string' && note ? note : 'skipped without a reason',
      })
  })
  tests.on('test:fail', (data) => {
    if (data.todo !== undefined) result.skipped.push({ name: name(data), reason: String(data.todo) })
    else if (data.details?.error?.failureType !== 'subtestsFailed') result.failed.push(name(data))
  })
  for await (const text of tests.compose(new spec())) process.stdout.write(text)
  return result
}

function report() {
  const total = { passed: 0, failed: 0, skipped: 0 }
  heading('Summary')
  if (inCi) {
    for (const result of results) {
      const missed = result.skipped.filter(({ reason }) => MUST_BE_THERE.test(reason))
      result.skipped = result.skipped.filter((one) => !missed.includes(one))
      result.failed.push(...missed.map(({ name, reason }) => `${name}: skipped in CI: ${reason}`))
    }
  }
  for (const { suite, passed, failed, skipped } of results) {
    console.log(`${suite}: ${passed} passed, ${failed.length} failed, ${skipped.length} skipped`)
    total.passed += passed
    total.failed += failed.length
    total.skipped += skipped.length
  }
  for (const name of results.flatMap(({ failed }) => failed)) console.log(`FAILED ${name}`)
  for (const [reason, names] of byReason(results.flatMap(({ skipped }) => skipped))) {
    console.log(`skipped ${names.length === 1 ? names[0] : `${names.length} tests`}: ${reason}`)
  }
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
  return total.failed === 0 && total.passed > 0
}

function byReason(skipped) {
  const reasons = new Map()
  for (const { name, reason } of skipped) reasons.set(reason, [...(reasons.get(reason) ?? []), name])
  return reasons
}

function testFiles() {
  return readdirSync(`${root}/__test__`, { recursive: true })
    .filter((name) => name.endsWith('.test.mjs'))
    .map((name) => `${root}/__test__/${name}`)
    .sort()
}

function attempt(action) {
  try {
    action()
  } catch (error) {
    console.log(error.message.split('\n')[0])
  }
}

function heading(text) {
  console.log(`\n== ${text}`)
}

function fail(message) {
  console.error(message)
  process.exit(1)
}
