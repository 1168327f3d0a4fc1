// `npm run bench`: all of them, in one table; `-- docker exec`: those two. They judge nothing but their goals. `--quick` takes fewer
// rounds and bytes; `--json FILE` keeps the figures there; `--anyway` measures on a busy machine, too.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, parse, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { root } from '../scripts/run.mjs'
import { machine } from './machine.mjs'
import { busy } from './quiet.mjs'
import { isReleaseBuild, say, table } from './report.mjs'

const PARTS = ['index', 'engines', 'machine', 'quiet', 'report', 'results']
const known = new Map(
  readdirSync(new URL('.', import.meta.url), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() || entry.name.endsWith('.mjs'))
    .map((entry) =>
      entry.isDirectory() ? [entry.name, `${entry.name}/index.mjs`] : [parse(entry.name).name, entry.name],
    )
    .filter(([name]) => !PARTS.includes(name)),
)
const { values, positionals: asked } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean' }, anyway: { type: 'boolean' }, json: { type: 'string' } },
})
const unknown = asked.find((name) => !known.has(name))
if (unknown) {
  console.error(`No such benchmark: ${unknown}. There are: ${[...known.keys()].join(', ')}.`)
  process.exit(1)
}
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

const figures = []
const left = []
let failed = false
for (const name of asked.length > 0 ? asked : known.keys()) {
  say(`-- ${name}`)
  const why = await disturbed()
  if (why) {
    left.push(`${name}: ${why}`)
    continue
  }
  try {
    const { run } = await import(`./${known.get(name)}`)
    const result = await run()
    const since = await disturbed()
    // Whoever came meanwhile may have slowed one side only.
    if (since) left.push(`${name}: ${since}, after it was measured`)
    else figures.push(...result.figures.map((one) => ({ benchmark: name, ...one })))
    left.push(...(result.left ?? []).map((reason) => `${name}: ${reason}`))
  } catch (error) {
    failed = true
    left.push(`${name}: it failed: ${error.message}`)
    console.error(error)
  }
}

const about = machine()
console.log(
  Object.entries(about)
    .map(([what, value]) => `${what}: ${value}`)
    .join('\n'),
)
console.log(
  `method: both sides in the same run, in turn, medians${values.quick ? '; --quick: few rounds, few bytes' : ''}`,
)
if (!isReleaseBuild())
  console.log('dist/ holds a debug build: these figures say nothing about what ships. `npm run build` first.')
if (values.anyway) console.log('--anyway: nobody looked whether the machine was busy.')
if (figures.length > 0) console.log(`\n${table(figures)}`)
if (left.length > 0) console.log(`\nNot measured:\n${left.map((reason) => `  ${reason}`).join('\n')}`)
console.log('\nbench/RESULTS.md explains each line.')
const date = new Date().toISOString()
const file = resolve(values.json ?? `${root}/bench/results/${date.slice(0, 19).replaceAll(':', '')}.json`)
mkdirSync(dirname(file), { recursive: true })
const quick = Boolean(values.quick)
writeFileSync(
  file,
  `${JSON.stringify({ date, ...about, quick, anyway: Boolean(values.anyway), figures, left }, null, 2)}\n`,
)
console.log(file)
if (failed) process.exitCode = 1

async function disturbed() {
  return values.anyway ? undefined : await busy()
}
