// node lists.mjs SOCKET COUNT CLIENT...: COUNT lists by each client, in turn, and the times of each in milliseconds; and the
// CPU time of the process for all of them, which is one client's when one is named.
import { clients } from './clients.mjs'

const [socket, count, ...names] = process.argv.slice(2)
const times = Object.fromEntries(names.map((name) => [name, []]))
const made = await Promise.all(names.map((name) => clients[name](socket)))
const round = async (note) => {
  for (const [i, client] of made.entries()) {
    const from = performance.now()
    const found = await client.list()
    if (note) times[names[i]].push(performance.now() - from)
    if (found && found.length !== 50) throw new Error(`${found.length} containers`)
  }
}
for (let i = 0; i < 100; i++) await round(false)
const before = process.cpuUsage()
for (let i = 0; i < Number(count); i++) await round(true)
const { user, system } = process.cpuUsage(before)
console.log(JSON.stringify({ times, cpuMs: (user + system) / 1000 }))
process.exit()
