// Whether something grows: the first settled quarter of a soak against the last.

/** This part of the run is not judged: pools, caches and compiled code come. */
const WARM_UP = 0.2

/** What each may have more in the last quarter: a part of what it had, and what comes and goes. */
const ALLOWED = {
  rss: { part: 0.1, more: 8, unit: 'MB' },
  heap: { part: 0.1, more: 6, unit: 'MB' },
  external: { part: 0.1, more: 4, unit: 'MB' },
  descriptors: { part: 0.1, more: 8, unit: '' },
  threads: { part: 0.25, more: 4, unit: '' },
  delay: { part: 0.5, more: 20, unit: 'ms', of: mean },
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Of what is held: after a start of the engine streams and terminals come back one by one, and a quarter may have more starts. */
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]

/** A row for each: `{ name, unit, first, last, grows }`. While the engine is away there is less of everything: not counted. */
export function growth(samples) {
  const settled = samples.slice(Math.ceil(samples.length * WARM_UP)).filter(({ away }) => !away)
  const size = Math.floor(settled.length / 4)
  if (size === 0) return []
  return Object.entries(ALLOWED).map(([name, { part, more, unit, of = median }]) => {
    const [first, last] = [settled.slice(0, size), settled.slice(-size)].map((some) => of(some.map((one) => one[name])))
    return { name, unit, first, last, grows: last > first * (1 + part) + more }
  })
}
