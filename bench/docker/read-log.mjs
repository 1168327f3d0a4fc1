// node read-log.mjs SOCKET CONTAINER CLIENT: reads the whole log; bytes, wall and CPU time, memory.
import { clients } from './clients.mjs'

const [socket, id, name] = process.argv.slice(2)
const client = await clients[name](socket)
await client.list()
let bytes = 0
const cpu = process.cpuUsage()
const from = performance.now()
await client.log(id, (length) => {
  bytes += length
})
const ms = performance.now() - from
const { user, system } = process.cpuUsage(cpu)
console.log(JSON.stringify({ bytes, ms, cpuMs: (user + system) / 1000, peakMb: process.resourceUsage().maxRSS / 1000 }))
process.exit()
