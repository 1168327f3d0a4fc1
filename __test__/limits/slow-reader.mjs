// node --expose-gc slow-reader.mjs HOST CONTAINER BYTES_PER_SECOND: reads a container's log at that pace, and prints what it
// read, the most memory it had above the memory at the first megabyte, and how long it took.
import { setTimeout as after } from 'node:timers/promises'
import { DockerAdapter } from 'lima-runtime'

const [host, container, rate] = process.argv.slice(2)
const log = await new DockerAdapter({ host }).getContainerLogs(container)

let read = 0
let base
let peak = 0
let from
for await (const chunk of log) {
  read += chunk.length
  if (base === undefined) {
    if (read < 1e6) continue
    globalThis.gc()
    base = process.memoryUsage.rss()
    from = performance.now()
  }
  peak = Math.max(peak, process.memoryUsage.rss() - base)
  const early = (read / Number(rate)) * 1000 - (performance.now() - from)
  // The pace is what is tested: this waits for nothing.
  if (early > 5) await after(early)
}
console.log(JSON.stringify({ read, grown: peak, seconds: (performance.now() - from) / 1000 }))
