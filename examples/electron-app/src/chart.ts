// CPU and memory over the last two minutes.
import type { ContainerStats } from 'lima-runtime'
import uPlot from 'uplot'

const SECONDS = 120
const HEIGHT = 130
const dark = matchMedia('(prefers-color-scheme: dark)')

export interface Charts {
  add(stats: ContainerStats): void
  close(): void
}

export function openCharts(host: HTMLElement): Charts {
  const times: number[] = []
  const plots = [
    { title: 'CPU, % of one core', values: [] as number[], of: ({ cpu }: ContainerStats) => cpu, most: 10 },
    { title: 'Memory, MB', values: [] as number[], of: ({ memory }: ContainerStats) => memory.used / 1e6, most: 1 },
  ]
  let drawn: uPlot[] = []
  /** Anew when the colours change: a canvas does not follow the style sheet. */
  const draw = () => {
    for (const plot of drawn) plot.destroy()
    const { color } = getComputedStyle(host)
    const text = getComputedStyle(document.body).color
    const lines = { stroke: `color-mix(in srgb, ${text} 20%, transparent)`, width: 1 }
    const axis = { stroke: text, grid: lines, ticks: lines }
    const clock = (_: uPlot, ticks: number[]) => ticks.map((at) => new Date(at * 1000).toLocaleTimeString())
    drawn = plots.map(({ title, values, most }) => {
      const now = () => times.at(-1) ?? Date.now() / 1000
      const options: uPlot.Options = {
        ...{ title, width: host.clientWidth, height: HEIGHT, pxAlign: false },
        ...{ legend: { show: false }, cursor: { show: false } },
        scales: {
          x: { range: () => [now() - SECONDS, now()] },
          y: { range: (_, __, highest) => [0, Math.max(most, highest * 1.1)] },
        },
        axes: [
          { ...axis, size: 30, space: 120, values: clock },
          { ...axis, size: 60 },
        ],
        series: [{}, { stroke: color, width: 2 }],
      }
      return new uPlot(options, [times, values], host)
    })
  }
  draw()
  dark.addEventListener('change', draw)
  const fitted = new ResizeObserver(() => {
    for (const plot of drawn) plot.setSize({ width: host.clientWidth, height: HEIGHT })
  })
  fitted.observe(host)
  return {
    add(stats) {
      times.push(Date.now() / 1000)
      for (const { values, of } of plots) values.push(of(stats))
      while ((times[0] ?? 0) < (times.at(-1) ?? 0) - SECONDS) {
        times.shift()
        for (const { values } of plots) values.shift()
      }
      for (const [i, { values }] of plots.entries()) drawn[i]?.setData([times, values])
    },
    close() {
      fitted.disconnect()
      dark.removeEventListener('change', draw)
      for (const plot of drawn) plot.destroy()
    },
  }
}
