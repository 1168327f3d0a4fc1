import { once } from 'node:events'
import { createServer } from 'node:net'

/**
 * An engine that hangs: takes connections at a socket and never says a word.
 * @param {string} path
 * @returns {Promise<{ path: string, connections: Set<import('node:net').Socket>, stop: () => Promise<void> }>}
 */
export async function startHung(path) {
  const connections = new Set()
  const server = createServer((socket) => connections.add(socket.on('error', () => {}).resume())).listen(path)
  await once(server, 'listening')
  const stop = () => {
    for (const socket of connections) socket.destroy()
    return new Promise((resolve) => server.close(resolve))
  }
  return { path, connections, stop }
}
