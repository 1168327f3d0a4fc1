// An application's process with a container on an engine elsewhere, until it is killed.
import { DockerAdapter } from 'lima-runtime'

process.on('message', async ({ options, config }) => {
  const docker = new DockerAdapter(options)
  try {
    process.send({ id: await docker.startContainer(config) })
  } catch (error) {
    process.send({ error: error.stack })
  }
  // Held for as long as the process lives.
  process.on('message', () => docker)
})
