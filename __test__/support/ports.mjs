// Ports that tests name beforehand.
import { createServer } from 'node:net'

// Below those that systems give to connections of their own: from 32768 on Linux, from 49152 on macOS and Windows
// (net.ipv4.ip_local_port_range; RFC 6335, section 6).
const [FIRST, END] = [20_000, 32_768]
let next = FIRST + Math.floor(Math.random() * (END - FIRST))

/** A port nobody listens on now. No two calls of a process give the same one. */
export async function freePort() {
  for (;;) {
    const port = next++
    if (next === END) next = FIRST
    if (await isFree(port)) return port
  }
}

function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
