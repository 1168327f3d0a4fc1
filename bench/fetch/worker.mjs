// One installation in a process of its own; prints JSON. `delay`: measures event loops instead, this one's and that of
// an idle Node beside it.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'

const [mode, options] = process.argv.slice(2)
const histogram = monitorEventLoopDelay({ resolution: 1 })
const p99 = () => {
  histogram.disable()
  return histogram.percentile(99) / 1e6
}

if (mode === 'idle') {
  histogram.enable()
  process.send('ready')
  await once(process, 'message')
  process.send(p99(), () => process.disconnect())
} else {
  const { LimaRuntimeManager } = createRequire(import.meta.url)('../../dist/index.cjs')
  const manager = new LimaRuntimeManager(JSON.parse(options))
  await manager.isInstalled()
  const before = process.memoryUsage.rss()
  let idle
  if (mode === 'delay') {
    idle = fork(fileURLToPath(import.meta.url), ['idle'])
    await once(idle, 'message')
    histogram.enable()
  }
  const began = performance.now()
  await manager.install()
  const ms = performance.now() - began
  // maxRSS is in kilobytes, over the process's whole life.
  const extra = process.resourceUsage().maxRSS * 1024 - before
  let delays
  if (idle) {
    const own = p99()
    idle.send('stop')
    delays = [own, (await once(idle, 'message'))[0]]
  }
  console.log(JSON.stringify({ ms, extra, delays }))
}
