// A process of its own for what follows the environment, or has to die.
import { connect, createServer } from 'node:net'

const [, , what, from, to] = process.argv

if (what === 'die') {
  // Killed: else Node would remove the socket's file.
  createServer().listen(from, () => process.kill(process.pid, 'SIGKILL'))
} else {
  const { ContainerManager } = await import('lima-runtime')
  const server = createServer((client) => {
    const engine = connect(from)
    client.on('error', () => engine.destroy()).pipe(engine)
    engine.on('error', () => client.destroy()).pipe(client)
  })
  await new Promise((resolve) => server.listen(to, resolve))
  const look = () => new ContainerManager({ appDir: process.env.HOME }).detectAvailableRuntimes()
  let found = await look()
  // A busy machine may let it answer too late.
  while (!found.docker) found = await look()
  process.send(found)
  process.once('disconnect', () => process.exit())
}
