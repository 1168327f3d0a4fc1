// `npm run bench -- fetch`: downloading, checking and unpacking a tar.gz of 100 MB from loopback, against what one would
// type: curl, then sha256sum, then tar xzf. Both sides take turns in the same run.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, createReadStream, mkdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { limaFiles, limaUrl, manifestOf, mirrored, PLATFORM } from '../../__test__/support/release-files.mjs'
import { spawnReleaseServer } from '../../__test__/support/release-server.mjs'
import { tempDir } from '../../__test__/support/tempdir.mjs'
import { atMost, below, child, faster, figure, median, say } from '../report.mjs'

const ROUNDS = 7

let dir
let archive
let size
let sha256
let manifest
let server
const figures = []
const url = limaUrl()
const path = mirrored(url)

export async function run() {
  dir = tempDir('bench')
  say('making the archive')
  archive = makeArchive()
  size = statSync(archive).size
  sha256 = await digest(archive)
  manifest = join(dir, 'manifest.json')
  writeFileSync(manifest, JSON.stringify(manifestOf({ lima: { [PLATFORM]: [{ url, sha256, size }] } })))
  server = await spawnReleaseServer()
  try {
    await server.file(path, { path: archive })
    await inTurn()
    await cutAgainAndAgain()
  } finally {
    await server.close()
  }
  return { figures }
}

async function inTurn() {
  const ours = []
  const theirs = []
  const delays = []
  for (let round = 1; round <= ROUNDS; round++) {
    say(`round ${round} of ${ROUNDS}`)
    theirs.push(typed())
    ours.push(await install('install'))
    // Not while timing: two more event loops cost time.
    delays.push((await install('delay')).delays)
  }
  const [mine, typing] = [median(ours.map((r) => r.ms)), median(theirs)]
  const what = `download, check and unpack ${(size / 1e6).toFixed(0)} MB`
  const against = 'curl; sha256sum; tar xzf'
  figures.push(figure(what, 'ms', mine, typing, { against, ratio: 'faster', goals: [faster(1)] }))
  const memory = Math.max(...ours.map((r) => r.extra))
  figures.push(
    figure('  most extra memory', 'MB', memory / 1e6, undefined, { goals: [below((32 * 2 ** 20) / 1e6, 'MB')] }),
  )
  const above = median(delays.map(([own, idle]) => own - idle))
  figures.push(
    figure('  event-loop delay p99 above an idle Node', 'ms', above, undefined, { goals: [below(10, 'ms')] }),
  )
}

async function cutAgainAndAgain() {
  say('at 10 MB/s, cut every 5 MB')
  await server.file(path, { path: archive, rate: 10e6 })
  await server.reset()
  await server.fault(path, { kind: 'cut', at: 5e6, times: Number.POSITIVE_INFINITY })
  await install('install')
  const { bytes, requests } = await server.counts(path)
  const what = `bytes asked for, cut every 5 MB, in ${requests} requests`
  figures.push(figure(what, 'MB', bytes / 1e6, size / 1e6, { against: 'its size', goals: [atMost(1.05)] }))
}

async function install(mode) {
  const dataDir = join(dir, 'ours')
  rmSync(dataDir, { recursive: true, force: true })
  return child(new URL('worker.mjs', import.meta.url), mode, JSON.stringify({ dataDir, manifest, mirror: server.url }))
}

/** What a person would type, step by step; returns milliseconds. */
function typed() {
  const cwd = join(dir, 'theirs')
  rmSync(cwd, { recursive: true, force: true })
  mkdirSync(cwd)
  const began = performance.now()
  execFileSync('curl', ['-sSf', '-o', 'a.tar.gz', `${server.url}${path}`], { cwd })
  const sum = execFileSync('sha256sum', ['a.tar.gz'], { cwd, encoding: 'utf8' })
  if (!sum.startsWith(sha256)) throw new Error('sha256sum disagrees')
  execFileSync('tar', ['xzf', 'a.tar.gz'], { cwd })
  return performance.now() - began
}

/** An archive with Lima's layout around real programs: copies of this node, which gzip cannot merge. */
function makeArchive() {
  const root = join(dir, 'root')
  for (const [path, entry] of Object.entries(limaFiles())) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    if (entry.link) symlinkSync(entry.link, join(root, path))
    else writeFileSync(join(root, path), entry.bytes, { mode: entry.mode ?? 0o644 })
  }
  mkdirSync(join(root, 'libexec'))
  const archive = join(dir, 'lima.tar.gz')
  for (let n = 0; ; n++) {
    copyFileSync(process.execPath, join(root, 'libexec', `program-${n}`))
    execFileSync('tar', ['-C', root, '-czf', archive, './'], { stdio: ['ignore', 'inherit', 'ignore'] })
    if (statSync(archive).size >= 90e6) break
  }
  rmSync(root, { recursive: true })
  return archive
}

async function digest(path) {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return hash.digest('hex')
}
