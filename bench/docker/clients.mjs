// The same work by two clients, each written as its documentation suggests.
import { once } from 'node:events'
import { Agent, get } from 'node:http'
import { Writable } from 'node:stream'

export const clients = {
  async ours(socket) {
    const { DockerAdapter } = await import('lima-runtime')
    const docker = new DockerAdapter({ host: `unix://${socket}` })
    return {
      list: () => docker.listContainers({ all: true }),
      /** Reads a log to its end; `count` gets the length of each piece, and the stream, which it may pause. */
      async log(id, count) {
        const stream = await docker.getContainerLogs(id, { follow: true })
        stream.on('data', (chunk) => count(chunk.length, stream))
        await once(stream, 'end')
      },
      pull: (image) => docker.pullImage(image, () => {}),
      remove: (image) => docker.removeImage(image, true),
    }
  },

  /** The lower bound for any client: the same request on a kept connection, its answer unread. Lists only. */
  async bare(socketPath) {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const list = async () => {
      const [answer] = await once(get({ socketPath, agent, path: '/containers/json?all=1' }), 'response')
      await once(answer.resume(), 'end')
    }
    return { list }
  },

  async dockerode(socket) {
    const { default: Docker } = await import('dockerode')
    const docker = new Docker({ socketPath: socket })
    return {
      list: () => docker.listContainers({ all: true }),
      async log(id, count) {
        const stream = await docker.getContainer(id).logs({ follow: true, stdout: true, stderr: true })
        const sink = new Writable({
          write(chunk, _, done) {
            count(chunk.length, stream)
            done()
          },
        })
        docker.modem.demuxStream(stream, sink, sink)
        await once(stream, 'end')
      },
      async pull(image) {
        const stream = await docker.pull(image)
        await new Promise((resolve, reject) => {
          docker.modem.followProgress(
            stream,
            (error) => (error ? reject(error) : resolve()),
            () => {},
          )
        })
      },
      remove: (image) => docker.getImage(image).remove({ force: true }),
    }
  },
}
