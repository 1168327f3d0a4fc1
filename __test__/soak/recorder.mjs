// What the process costs, once a second: memory, descriptors, threads, and how late its event loop is.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { descriptors, threads } from '../support/process.mjs'

const MB = 1e6
const GC_EVERY = 10

const tenths = (n) => Math.round(n * 10) / 10

/** @param {import('./calls.mjs').Calls} calls whose clock it uses */
export function startRecorder(calls) {
  const samples = []
  const delay = monitorEventLoopDelay({ resolution: 10 })
  delay.enable()
  const timer = setInterval(() => {
    const { rss, heapUsed, external } = process.memoryUsage()
    samples.push({
      seconds: tenths(calls.now() / 1000),
      away: calls.wasAwayAt(calls.now()),
      rss: tenths(rss / MB),
      heap: tenths(heapUsed / MB),
      external: tenths(external / MB),
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
