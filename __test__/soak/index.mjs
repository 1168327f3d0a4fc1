// `npm run test:soak`: about four minutes of everything at once on a real engine, which is killed and started again and again.
// `-- --engine docker|containerd|vm|vm-docker`, `--minutes N`, `--every SECONDS` before a kill, `--scale 0.1` for a tenth of everything,
// `--containers N`, `--out DIR`. It records each second to JSON, draws it as SVG, and fails when something was lost, has grown, or never settled.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { machine } from '../../bench/machine.mjs'
import { root } from '../../scripts/run.mjs'
import { noContainerd } from '../support/containerd.mjs'
import { noDockerd } from '../support/dockerd.mjs'
import { noRealDocker, noRealLima } from '../support/real-lima.mjs'
import { plot } from './plot.mjs'
import { SIZES, soak } from './soak.mjs'
import { growth } from './verdict.mjs'

/** The contract suite's backends, and why there is none here. */
const ENGINES = {
  docker: {
    missing: noDockerd,
    backend: async () => (await import('../contract/backends/docker.mjs')).dockerBackend(),
  },
  containerd: {
    missing: noContainerd,
    backend: async () => (await import('../contract/backends/containerd.mjs')).containerdBackend(),
  },
  vm: { missing: noRealLima, backend: async () => (await import('../contract/backends/lima.mjs')).limaBackend() },
  'vm-docker': {
    missing: noRealDocker,
    backend: async () => (await import('../contract/backends/lima.mjs')).limaDockerBackend(),
  },
}

const { values } = parseArgs({
  options: {
    engine: { type: 'string', default: 'docker' },
    minutes: { type: 'string', default: '4' },
    scale: { type: 'string', default: '1' },
    containers: { type: 'string' },
    every: { type: 'string', default: '5' },
    out: { type: 'string', default: join(root, 'artifacts/soak') },
  },
})
const chosen = ENGINES[values.engine] ?? fail(`--engine is one of ${Object.keys(ENGINES).join(', ')}`)
const reason = chosen.missing()
if (reason) fail(`${values.engine}: ${reason}`)
const scaled = (n) => Math.max(1, Math.round(n * positive('scale')))
const sizes = Object.fromEntries(Object.entries(SIZES).map(([name, n]) => [name, scaled(n)]))
if (values.containers) sizes.containers = positive('containers')
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

const seen = await soak(await chosen.backend(), {
  sizes,
  minutes: positive('minutes'),
  kills: 1,
  everyMs: positive('every') * 1000,
  say: (text) => console.error(`  ${text}`),
})
const grown = growth(seen.samples)
const about = machine()
const report = { date: new Date().toISOString(), ...about, growth: grown, ...seen }
mkdirSync(values.out, { recursive: true })
const file = (kind) => join(values.out, `soak-${values.engine}.${kind}`)
writeFileSync(file('json'), JSON.stringify(report))
writeFileSync(
  file('svg'),
  plot({ title: `${seen.engine}: ${seen.outages.length} kills; ${about['lima-runtime']}; ${about.machine}`, ...seen }),
)

console.log(
  `${seen.engine}: ${Object.entries(seen.sizes)
    .map(([name, n]) => `${n} ${name}`)
    .join(', ')}`,
)
console.log(
  `killed ${seen.outages.length} times, at ${seen.outages.map(({ from }) => `${(from / 1000).toFixed(0)} s`).join(', ')}`,
)
for (const [kind, { ok, errors }] of Object.entries(seen.counts))
  console.log(`${kind}: ${ok}; ${JSON.stringify(errors)}`)
const { read, lost, twice, broken } = seen.lines
console.log(
  `lines: ${read} read, ${lost.length} lost, ${twice.length} twice, ${broken.length} broken; lists of the watch: ${seen.watched}`,
)
for (const { name, unit, first, last, grows } of grown)
  console.log(`${name}: ${first.toFixed(1)} ${unit}, at last ${last.toFixed(1)} ${unit}${grows ? ': it GROWS' : ''}`)
for (const [what, times] of Object.entries(seen.findings)) console.log(`FOUND ${times} times: ${what}`)
console.log(`${file('json')}\n${file('svg')}`)
const bad = lost.length + twice.length + broken.length + Object.keys(seen.findings).length
process.exit(bad > 0 || grown.some(({ grows }) => grows) ? 1 : 0)

function positive(name) {
  const value = Number(values[name])
  return value > 0 ? value : fail(`--${name} is a number above 0`)
}

function fail(message) {
  console.error(message)
  process.exit(1)
}
