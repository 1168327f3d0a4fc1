// node event-loop.mjs SECONDS [CLIENT SOCKET RATE CONTAINER IMAGE...]: the delay of this process's event loop, in milliseconds:
// of an idle process, or of one that reads the container's log in 20 streams and pulls the images, over and over. RATE: how
// many bytes of log it reads in a second at most; 0 for as many as come.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { clients } from './clients.mjs'

const [seconds, name, socket, rate, id, ...images] = process.argv.slice(2)
const client = name && (await clients[name](socket))
let bytes = 0
let pulls = 0
let running = true

const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
setTimeout(() => {
  delay.disable()
  running = false
  const ms = (ns) => ns / 1e6
  console.log(
    JSON.stringify({ p50: ms(delay.percentile(50)), p99: ms(delay.percentile(99)), max: ms(delay.max), bytes, pulls }),
  )
  process.exit()
}, Number(seconds) * 1000)

const began = performance.now()
function count(length, stream) {
  bytes += length
  const ahead = Number(rate) && (bytes / Number(rate)) * 1000 - (performance.now() - began)
  if (ahead <= 0 || stream.isPaused()) return
  stream.pause()
  setTimeout(() => stream.resume(), ahead)
}

async function readAgain() {
  while (running) await client.log(id, count)
}

async function pullAgain(image) {
  while (running) {
    await client.pull(image)
    pulls += 1
    await client.remove(image)
  }
}

if (client) await Promise.all([...Array.from({ length: 20 }, readAgain), ...images.map(pullAgain)])
