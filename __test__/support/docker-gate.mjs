// The shared engine behind a socket of our own, which counts and holds.
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { sharedEngine } from './engine.mjs'
import { tempDir } from './tempdir.mjs'

/** `hold()`: it accepts and is silent until `release()`. */
export async function dockerGate(t) {
  const { socket } = sharedEngine()
  const path = join(tempDir('gate'), 'docker.sock')
  const waiting = new Set()
  const open = new Set()
  let held = false
  let connections = 0
  const pass = (client) => {
    const engine = connect({ path: socket, allowHalfOpen: true })
    client.on('close', () => engine.destroy()).pipe(engine)
    engine.on('error', () => client.destroy()).pipe(client)
  }
  // A process's input may end before its output does.
  const server = createServer({ allowHalfOpen: true }, (client) => {
    connections++
    open.add(client.on('error', () => {}).on('close', () => open.delete(client)))
    if (held) waiting.add(client)
    else pass(client)
  })
  await new Promise((resolve) => server.listen(path, resolve))
  const close = () => {
    for (const one of open) one.destroy()
    server.close()
  }
  t?.after(close)
  return {
    host: `unix://${path}`,
    hold() {
      held = true
    },
    release() {
      held = false
      for (const client of waiting) pass(client)
      waiting.clear()
    },
    /** So far, and now. */
    connections: () => connections,
    open: () => open.size,
    close,
  }
}
