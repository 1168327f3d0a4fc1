// What the process costs, once a second: memory, descriptors, threads, and how late its event loop is.
import { readdirSync, readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'

const MB = 1e6
const GC_EVERY = 10

const descriptors = () => readdirSync('/dev/fd').length
const threads = () =>
  process.platform === 'linux' ? Number(/Threads:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) : 0

/** @param {import('./calls.mjs').Calls} calls whose clock it uses */
export function startRecorder(calls) {
  const samples = []
  const delay = monitorEventLoopDelay({ resolution: 10 })
  delay.enable()
  const timer = setInterval(() => {
    const { rss, heapUsed, external } = process.memoryUsage()
    samples.push({
      seconds: Math.round(calls.now() / 100) / 10,
      away: calls.isAway(),
      rss: Math.round((rss / MB) * 10) / 10,
      heap: Math.round((heapUsed / MB) * 10) / 10,
      external: Math.round((external / MB) * 10) / 10,
      descriptors: descriptors(),
      threads: threads(),
      delay: Math.round(delay.percentile(99) / 1e4) / 100,
    })
    // So that garbage does not hide what is kept; its time is not the loop's.
    if (samples.length % GC_EVERY === 0) globalThis.gc?.()
    delay.reset()
  }, 1000)
  return {
    samples,
    stop() {
      clearInterval(timer)
      delay.disable()
    },
  }
}
