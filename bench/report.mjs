// What benchmarks have in common: child processes that print JSON, measuring in turn, medians, and a table.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { hostTarget } from '../scripts/targets.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Tells how far it is, beside the figures. */
export const say = (text) => console.error(`  ${text}`)
export const ms = (n) => `${n < 10 ? n.toFixed(2) : n.toFixed(0)} ms`

/** Runs a script in a process of its own; its last line of output is JSON. */
export async function child(script, ...args) {
  const process_ = spawn(process.execPath, [...process.execArgv, fileURLToPath(script), ...args.map(String)], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  process_.stdout.on('data', (chunk) => {
    text += chunk
  })
  const [code] = await once(process_, 'close')
  if (code !== 0) throw new Error(`${script} ended with ${code}`)
  return JSON.parse(text.trim().split('\n').at(-1))
}

export function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))]
}

export const median = (values) => quantile(values, 0.5)

/** The medians of all sides, measured in turn; `[before, measured]` measures only the second function. */
export async function inTurn(rounds, ...sides) {
  const taken = sides.map(() => [])
  for (let round = 0; round <= rounds; round++) {
    for (const [i, side] of sides.entries()) {
      const [before, measured] = Array.isArray(side) ? side : [undefined, side]
      await before?.()
      const from = performance.now()
      await measured()
      // The first round warms up.
      if (round > 0) taken[i].push(performance.now() - from)
    }
  }
  return taken.map(median)
}

/** True when dist/ holds what `npm run build` makes. */
export function isReleaseBuild() {
  const { library, node } = hostTarget()
  const size = (path) => statSync(`${root}/${path}`, { throwIfNoEntry: false })?.size
  return size(`dist/${node}`) === size(`target/release/${library}`)
}

/** Rows of `[what, ours, theirs, ratio, goal]`; the first row is the head. */
export function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => String(row[column]).length)))
  const line = (row) =>
    row
      .map((cell, column) => String(cell)[column === 0 || column === 4 ? 'padEnd' : 'padStart'](widths[column]))
      .join('  ')
  console.log(
    [line(rows[0]), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.slice(1).map(line)].join('\n'),
  )
}
