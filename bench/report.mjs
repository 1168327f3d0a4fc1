// What benchmarks have in common: child processes that print JSON, measuring in turn, medians, and a table of figures. A
// benchmark's `run()` gives `{ figures, left }`: `left` says why something of it could not be measured.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { hostTarget } from '../scripts/targets.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Tells how far it is, beside the figures. */
export const say = (text) => console.error(`  ${text}`)
const ms = (n) => `${n < 10 ? n.toFixed(2) : n.toFixed(0)} ms`

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

const UNITS = {
  ms,
  'MB/s': (n) => `${n.toFixed(0)} MB/s`,
  MB: (n) => `${n.toFixed(n < 10 ? 1 : 0)} MB`,
  '': (n) => String(n),
}

/** What a figure is to reach: `text` says it, `reached` tells. */
export const atMost = (n) => ({ text: `at most ${n}×`, reached: (ours, theirs) => ours / theirs <= n })
export const atLeast = (n) => ({ text: `at least ${n}×`, reached: (ours, theirs) => ours / theirs >= n })
export const faster = (n) => ({
  text: n === 1 ? 'faster' : `${n}× faster`,
  reached: (ours, theirs) => theirs / ours >= n,
})
export const below = (n, unit) => ({
  text: `at most ${UNITS[unit](n)}`,
  reached: (ours) => ours <= n,
})

/**
 * One line of the table.
 * @param {string} what
 * @param {keyof typeof UNITS} unit
 * @param {number} ours
 * @param {number} [theirs]
 * @param {{ against?: string, goals?: { text: string, reached: (ours: number, theirs?: number) => boolean }[], ratio?: 'faster' }} [more]
 *   `ratio`: `faster` divides theirs by ours, as one does where less is better and much less is meant
 */
export function figure(what, unit, ours, theirs, { against = '', goals = [], ratio } = {}) {
  const value = theirs === undefined ? undefined : ratio === 'faster' ? theirs / ours : ours / theirs
  return {
    what,
    against,
    unit,
    ours,
    theirs,
    ratio: value,
    ratioText:
      value === undefined ? '' : `${value.toFixed(value >= 100 ? 0 : 2)}×${ratio === 'faster' ? ' faster' : ''}`,
    goal: goals.map(({ text }) => text).join(', '),
    reached: goals.length > 0 ? goals.every((goal) => goal.reached(ours, theirs)) : undefined,
  }
}

/** All figures as text: what was measured, ours, the other's, the ratio, the goal, and whether it is reached. */
export function table(figures) {
  const shown = (value, unit) => (value === undefined ? '' : UNITS[unit](value))
  const rows = [
    ['', 'lima-runtime', 'the other', 'ratio', 'goal', ''],
    ...figures.map(({ what, against, unit, ours, theirs, ratioText, goal, reached }) => [
      against ? `${what}, against ${against}` : what,
      shown(ours, unit),
      shown(theirs, unit),
      ratioText,
      goal,
      reached === undefined ? '' : reached ? 'reached' : 'NOT reached',
    ]),
  ]
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  const line = (row) =>
    row
      .map((cell, column) => cell[column >= 1 && column <= 3 ? 'padStart' : 'padEnd'](widths[column]))
      .join('  ')
      .trimEnd()
  return [line(rows[0]), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.slice(1).map(line)].join('\n')
}
