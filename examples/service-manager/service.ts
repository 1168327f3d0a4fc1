// How an application runs a service on any backend: it knows only the interface.
import type { ContainerConfig, IContainerRuntime } from 'lima-runtime'

/** A service with its data in a volume, in its own network, reached at a port of this machine. */
export interface Service {
  name: string
  image: string
  /** A port of this machine; the service itself listens on 80. */
  port: number
  command: string[]
  /** The command that checks in the container whether it works. */
  check: string[]
}

export class ServiceManager {
  constructor(
    private readonly runtime: IContainerRuntime,
    private readonly say: (text: string) => void = () => {},
  ) {}

  async start({ name, image, port, command, check }: Service): Promise<string> {
    await this.runtime.initialize()
    if (!(await this.runtime.imageExists(image))) {
      await this.runtime.pullImage(image, ({ status, progress }) =>
        this.say(`${status} ${Math.round(progress ?? 0)} %`),
      )
    }
    const networks = await this.runtime.listNetworks()
    if (!networks.some((network) => network.name === name)) await this.runtime.createNetwork(name)
    const config: ContainerConfig = {
      name,
      image,
      command,
      ports: { '80': `127.0.0.1:${port}` },
      volumes: [{ host: await this.runtime.createVolume(`${name}-data`), container: '/data' }],
      networks: [name],
      healthcheck: { test: ['CMD', ...check], interval: 300, timeout: 5_000, retries: 20 },
      restart: 'unless-stopped',
      labels: { 'example.service': name },
    }
    const id = await this.runtime.startContainer(config)
    await this.healthy(id)
    return id
  }

  /** Polls; an application that can follow `events()` need not. */
  async healthy(id: string, within = 60_000): Promise<void> {
    for (const end = Date.now() + within; Date.now() < end; ) {
      const { health, state, status } = await this.runtime.inspectContainer(id)
      this.say(`${state}, ${health}`)
      if (health === 'healthy') return
      if (state !== 'running' && state !== 'restarting') throw new Error(`The service ended: ${status}`)
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
    throw new Error(`Not healthy within ${within} ms`)
  }

  async find(name: string): Promise<string | undefined> {
    const [found] = await this.runtime.listContainers({ all: true, filters: { label: [`example.service=${name}`] } })
    return found?.id
  }

  async log(id: string, lines = 100): Promise<string> {
    let text = ''
    for await (const chunk of await this.runtime.getContainerLogs(id, { tail: lines })) text += String(chunk)
    return text
  }

  async usage(id: string): Promise<string> {
    const { cpu, memory } = await this.runtime.getContainerStats(id)
    return `${cpu.toFixed(1)} % of a CPU, ${(memory.used / 1e6).toFixed(1)} MB`
  }

  async restart(id: string): Promise<void> {
    await this.runtime.restartContainer(id, 2)
    await this.healthy(id)
  }

  /** `data`: also removes the volume. */
  async remove(name: string, { data = false } = {}): Promise<void> {
    const id = await this.find(name)
    if (id) {
      await this.runtime.stopContainer(id, 2)
      await this.runtime.removeContainer(id)
    }
    const network = (await this.runtime.listNetworks()).find((one) => one.name === name)
    if (network) await this.runtime.removeNetwork(network.id)
    if (data) await this.runtime.removeVolume(`${name}-data`)
  }
}
