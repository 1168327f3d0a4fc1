// `node relay.mjs <dir> <port>…`: answers at these ports of the network that it runs in, and passes on what comes to
// `<dir>/<port>.sock`, which another network listens at. Prints a line once it does.
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'

/** Each of two connections carries on what the other one says. */
export function joined(one, other) {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ]) {
    from.pipe(to)
    from.on('error', () => to.destroy())
    from.on('close', () => to.destroy())
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const [, , dir, ...ports] = process.argv
  for (const port of ports) {
    const server = createServer({ allowHalfOpen: true }, (client) =>
      joined(client, connect({ path: join(dir, `${port}.sock`), allowHalfOpen: true })),
    )
    await once(server.listen(Number(port), '127.0.0.1'), 'listening')
  }
  console.log('up')
}
