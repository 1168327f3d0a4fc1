// The plot of a soak, as SVG. Well-kept plotters draw in a browser or want a DOM of their own: these are lines in three boxes.

const WIDTH = 900
const LEFT = 60
const BOX = { height: 150, gap: 40 }
const COLOURS = ['#1f6feb', '#d1242f', '#1a7f37']
const BOXES = [
  { title: 'MB', names: ['rss', 'heap', 'external'] },
  { title: 'count', names: ['descriptors', 'threads'] },
  { title: 'ms, event-loop delay p99', names: ['delay'] },
]

const quoted = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
const round = (n) => Math.round(n * 10) / 10

/**
 * @param {object} soak
 * @param {string} soak.title
 * @param {object[]} soak.samples as the recorder has them
 * @param {{ from: number, to: number }[]} soak.outages in milliseconds: grey, from the kill until all runs again
 */
export function plot({ title, samples, outages }) {
  const end = Math.max(1, samples.at(-1)?.seconds ?? 1)
  const x = (seconds) => round(LEFT + (Math.min(seconds, end) / end) * (WIDTH - LEFT - 20))
  const height = 40 + BOXES.length * (BOX.height + BOX.gap)
  const parts = [`<text x="${LEFT}" y="20" font-size="14">${quoted(title)}</text>`]
  for (const [i, { title, names }] of BOXES.entries()) {
    const top = 50 + i * (BOX.height + BOX.gap)
    const bottom = top + BOX.height
    const most = Math.max(1, ...samples.flatMap((sample) => names.map((name) => sample[name]))) * 1.05
    const y = (value) => round(bottom - (value / most) * BOX.height)
    for (const { from, to } of outages) {
      const [a, b] = [x(from / 1000), x(to / 1000)]
      parts.push(`<rect x="${a}" y="${top}" width="${round(b - a)}" height="${BOX.height}" fill="#ddd"/>`)
      parts.push(`<path d="M${a} ${top}V${bottom}" stroke="#d1242f" stroke-dasharray="2 2"/>`)
    }
    parts.push(`<path d="M${LEFT} ${top}V${bottom}H${WIDTH - 20}" fill="none" stroke="#000"/>`)
    for (const part of [0.5, 1])
      parts.push(
        `<text x="${LEFT - 6}" y="${y((most / 1.05) * part) + 4}" text-anchor="end">${round((most / 1.05) * part)}</text>`,
      )
    parts.push(`<text x="${LEFT}" y="${top - 6}">${title}</text>`)
    for (const [j, name] of names.entries()) {
      const points = samples.map((sample) => `${x(sample.seconds)},${y(sample[name])}`).join(' ')
      parts.push(`<polyline points="${points}" fill="none" stroke="${COLOURS[j]}" stroke-width="1.5"/>`)
      if (names.length > 1)
        parts.push(`<text x="${LEFT + 200 + j * 110}" y="${top - 6}" fill="${COLOURS[j]}">${name}</text>`)
    }
    for (let seconds = 0; seconds <= end; seconds += step(end))
      parts.push(`<text x="${x(seconds)}" y="${bottom + 16}" text-anchor="middle">${seconds} s</text>`)
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="#fff"/>
${parts.join('\n')}
</svg>
`
}

const step = (end) => [1, 5, 10, 30, 60, 300, 600].find((seconds) => end / seconds <= 12) ?? 3600
