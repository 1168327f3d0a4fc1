import type { EventEmitter } from 'node:events'
import { isIPv4 } from 'node:net'
import type * as runtime from 'lima-runtime'
import { type Check, flag, list, milliseconds, number, oneOf, optional, Refused, record, shape, string } from './check'
import type { Allow, IpcEvent } from './main'
import { realPath } from './paths'
import type { Teller } from './tell'

/** What a method of the table gets besides its arguments. */
export interface Context {
  manager: runtime.ContainerManager
  /** The manager's events, for any number of windows. */
  events: EventEmitter
  /** The engine as far as this window reaches it. */
  runtime: runtime.ContainerAdapter
  allow: Allow
  event: IpcEvent
  teller: Teller
  /** Aborted when the window cancels, or leaves and the call ends with it. */
  signal: AbortSignal
  progress(value: unknown): void
}

interface Options {
  timeoutMs?: number
}

export interface Method {
  args: Check[]
  // biome-ignore lint/suspicious/noExplicitAny: the checks have looked at them
  run(context: Context, ...args: any[]): unknown
  /** The call continues when its page is gone. Other calls end then, as do those that may wait for ever. */
  goesOn?: true
  /** Work that windows share: one of them alone cannot end it. */
  shared?: true
}

export interface Stream {
  args: Check[]
  // biome-ignore lint/suspicious/noExplicitAny: the checks have looked at them
  open(context: Context, ...args: any[]): Promise<AsyncIterable<unknown>> | AsyncIterable<unknown>
}

const call = { timeoutMs: optional(milliseconds) }
const options = optional(shape(call))
const type = oneOf('docker', 'containerd', 'lima')
/** Limited, since an engine tests each value on each object. */
const filters = optional(record(list(string, 100)))
const text = optional(string)

const config = shape({
  ...{ name: string, image: string, env: optional(record(string)), ports: optional(record(string)) },
  volumes: optional(list(shape({ host: string, container: string, readOnly: optional(flag) }))),
  networks: optional(list(string)),
  command: optional(list(string)),
  healthcheck: optional(
    shape({ test: list(string), interval: number, timeout: number, retries: number, startPeriod: optional(number) }),
  ),
  restart: optional(oneOf('no', 'always', 'on-failure', 'unless-stopped')),
  labels: optional(record(string)),
  platform: text,
})

const under = ({ signal }: Context, given: Options | undefined) => ({ ...given, signal })
const steps = (c: Context, given: Options | undefined) => ({
  ...under(c, given),
  onProgress: (value: runtime.RuntimeProgress) => c.progress(c.teller.progress(value)),
})

/** The methods a window may call, by channel; others have no channel. */
export const METHODS: Record<string, Method> = {
  'runtime.start': {
    args: [options],
    goesOn: true,
    shared: true,
    run: (c, o) => brought(c, (p) => c.manager.initialize(p), o),
  },
  'runtime.switch': {
    args: [type, options],
    ...{ goesOn: true, shared: true },
    run: (c, t, o) => brought(c, (p) => c.manager.switchRuntime(t, p), o),
  },
  'runtime.stop': { args: [options], goesOn: true, run: (c, o) => c.manager.stop(steps(c, o)) },
  'runtime.detect': {
    args: [options],
    async run(c, o) {
      return c.teller.detection(await c.manager.detectAvailableRuntimes(under(c, o)))
    },
  },
  'runtime.status': { args: [], run: (c) => c.teller.status(c.manager.getStatus()) },
  'runtime.isAvailable': { args: [options], run: (c, o) => c.manager.getRuntime().isAvailable(under(c, o)) },

  'container.start': {
    args: [config, options],
    goesOn: true,
    run: async (c, wanted, o) => c.runtime.startContainer(await harmless(c, wanted, under(c, o)), under(c, o)),
  },
  'container.stop': {
    args: [string, optional(number), options],
    goesOn: true,
    run: (c, id, t, o) => c.runtime.stopContainer(id, t, under(c, o)),
  },
  'container.restart': {
    args: [string, optional(number), options],
    goesOn: true,
    run: (c, id, t, o) => c.runtime.restartContainer(id, t, under(c, o)),
  },
  'container.remove': {
    args: [string, optional(flag), options],
    goesOn: true,
    run: (c, id, f, o) => c.runtime.removeContainer(id, f, under(c, o)),
  },
  'container.kill': {
    args: [string, text, options],
    goesOn: true,
    run: (c, id, s, o) => c.runtime.killContainer(id, s, under(c, o)),
  },
  'container.pause': {
    args: [string, options],
    goesOn: true,
    run: (c, id, o) => c.runtime.pauseContainer(id, under(c, o)),
  },
  'container.unpause': {
    args: [string, options],
    goesOn: true,
    run: (c, id, o) => c.runtime.unpauseContainer(id, under(c, o)),
  },
  'container.wait': { args: [string, options], run: (c, id, o) => c.runtime.waitContainer(id, under(c, o)) },
  'container.inspect': { args: [string, options], run: (c, id, o) => c.runtime.inspectContainer(id, under(c, o)) },
  'container.details': {
    args: [string, options],
    run: async (c, id, o) => c.teller.container(await c.runtime.getContainerDetails(id, under(c, o))),
  },
  'container.list': {
    args: [optional(shape({ ...call, all: optional(flag), filters }))],
    run: (c, o) => c.runtime.listContainers(under(c, o)),
  },
  'container.stats': { args: [string, options], run: (c, id, o) => c.runtime.getContainerStats(id, under(c, o)) },
  'container.exec': {
    args: [
      string,
      list(string),
      optional(shape({ ...call, env: optional(record(string)), workdir: text, user: text, input: text })),
    ],
    async run(c, word, argv, o) {
      // The app decides about the container, not about the name that the window uses.
      const { id, name } = await c.runtime.inspectContainer(word, under(c, o))
      const { timeoutMs: _, ...options } = o ?? {}
      await permitted(c, 'exec', { container: id, name, argv, options }, 'run programs in containers')
      return c.runtime.execInContainer(id, argv, under(c, o))
    },
  },

  'image.pull': {
    args: [
      string,
      optional(shape({ ...call, platform: text, auth: optional(shape({ username: string, password: string })) })),
    ],
    goesOn: true,
    async run(c, name, o) {
      await usable(c, 'pull', name)
      const credentials = !o?.auth && (await may(c, 'credentials', { image: name })) ? 'user' : 'none'
      return c.runtime.pullImage(name, (p) => c.progress(p), { ...under(c, o), credentials })
    },
  },
  'image.list': {
    args: [options],
    async run(c, o) {
      if (!(await c.runtime.isPrivate(under(c, o)))) await permitted(c, 'images', { action: 'list' }, 'list images')
      return c.runtime.listImages(under(c, o))
    },
  },
  'image.remove': {
    args: [string, optional(flag), options],
    goesOn: true,
    async run(c, id, f, o) {
      if (!(await c.runtime.isPrivate(under(c, o))))
        await permitted(c, 'images', { action: 'remove', image: id }, 'remove images')
      return c.runtime.removeImage(id, f, under(c, o))
    },
  },
  'image.exists': { args: [string, options], run: (c, name, o) => c.runtime.imageExists(name, under(c, o)) },
  'image.tag': {
    args: [string, string, options],
    goesOn: true,
    async run(c, image, target, o) {
      // On the app's own engine, too: the app would start the window's image by that name.
      await permitted(c, 'images', { action: 'tag', image, target }, 'name images')
      return c.runtime.tagImage(image, target, under(c, o))
    },
  },

  'network.create': {
    args: [string, optional(shape({ ...call, driver: text, internal: optional(flag), attachable: optional(flag) }))],
    goesOn: true,
    run: (c, name, o) => c.runtime.createNetwork(name, under(c, o)),
  },
  'network.remove': {
    args: [string, options],
    goesOn: true,
    run: (c, id, o) => c.runtime.removeNetwork(id, under(c, o)),
  },
  'network.list': { args: [options], run: (c, o) => c.runtime.listNetworks(under(c, o)) },
  'network.connect': {
    args: [string, string, options],
    goesOn: true,
    run: (c, id, network, o) => c.runtime.connectContainerToNetwork(id, network, under(c, o)),
  },
  'network.disconnect': {
    args: [string, string, options],
    goesOn: true,
    run: (c, id, network, o) => c.runtime.disconnectContainerFromNetwork(id, network, under(c, o)),
  },

  'volume.create': {
    args: [string, optional(shape({ ...call, driver: text, labels: optional(record(string)) }))],
    goesOn: true,
    run: (c, name, o) => c.runtime.createVolume(name, under(c, o)),
  },
  'volume.remove': {
    args: [string, optional(flag), options],
    goesOn: true,
    run: (c, name, f, o) => c.runtime.removeVolume(name, f, under(c, o)),
  },
  'volume.list': {
    args: [options],
    run: async (c, o) => c.teller.volumes(await c.runtime.listVolumes(under(c, o))),
  },

  'system.info': { args: [options], run: (c, o) => c.runtime.getSystemInfo(under(c, o)) },
  'system.diskUsage': { args: [options], run: (c, o) => c.runtime.diskUsage(under(c, o)) },
  'system.prune': {
    // Without `scope`: a window may not prune others' things on the user's engine.
    args: [
      optional(
        shape({
          ...{ ...call, containers: optional(flag), images: optional(flag) },
          ...{ volumes: optional(flag), networks: optional(flag) },
        }),
      ),
    ],
    run: (c, o) => c.runtime.prune(under(c, o)),
  },
}

/** The streams a window may watch; each ends with its page. */
export const STREAMS: Record<string, Stream> = {
  'runtime.watch': {
    args: [oneOf('state', 'progress', 'runtime-changed')],
    open: (c, event) => changes(c, event),
  },
  'container.logs': {
    args: [
      string,
      optional(
        shape({
          ...{ ...call, follow: optional(flag), tail: optional(number), since: optional(number) },
          ...{ timestamps: optional(flag), stdout: optional(flag), stderr: optional(flag) },
        }),
      ),
    ],
    async open(c, id, o) {
      const log = await c.runtime.getContainerLogs(id, under(c, o))
      // As text, without splitting a character.
      return (log as NodeJS.ReadableStream).setEncoding('utf8')
    },
  },
  'container.watchStats': {
    args: [string, options],
    open: (c, id, o) => c.runtime.streamContainerStats(id, under(c, o)),
  },
  'system.events': {
    args: [optional(shape({ ...call, since: optional(number), until: optional(number), filters }))],
    open: (c, o) => c.runtime.events(under(c, o)),
  },
}

/** One kind of the manager's events; for `state`, the current one first. */
async function* changes(
  { manager, events, teller, signal }: Context,
  event: keyof runtime.ContainerManagerEvents,
): AsyncGenerator<unknown> {
  const waiting: unknown[] = event === 'state' ? [manager.getStatus()] : []
  // biome-ignore lint/suspicious/noExplicitAny: what the event brings
  const told = (value: any) => {
    if (event === 'state') return teller.status(value)
    return event === 'progress' ? teller.progress(value) : value
  }
  let wake = () => {}
  const push = (value: unknown) => {
    // A slow window gets the newest events.
    if (waiting.length >= 100) waiting.shift()
    waiting.push(value)
    wake()
  }
  const ended = () => wake()
  events.on(event, push)
  signal.addEventListener('abort', ended, { once: true })
  try {
    while (!signal.aborted) {
      while (waiting.length > 0) yield told(waiting.shift())
      if (!signal.aborted && waiting.length === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
  } finally {
    events.off(event, push)
    signal.removeEventListener('abort', ended)
  }
}

/** Starts a runtime; the app decides about downloads. */
async function brought(
  c: Context,
  bring: (p: Parameters<runtime.ContainerManager['initialize']>[0]) => Promise<void>,
  given: Options | undefined,
): Promise<void> {
  let refused: Refused | undefined
  const download = async (type: runtime.RuntimeType) => {
    if (await may(c, 'download', { runtime: type })) return true
    refused = no('download a runtime', 'download')
    return false
  }
  try {
    await bring({ ...steps(c, given), download })
  } catch (error) {
    throw refused ?? error
  }
}

const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/

/** The configuration as a window may have it, with the real paths that the app was asked about. */
async function harmless(
  c: Context,
  wanted: runtime.ContainerConfig,
  o: runtime.CallOptions,
): Promise<runtime.ContainerConfig> {
  const config: runtime.ContainerConfig = { ...wanted, credentials: 'none' }
  await usable(c, 'start', config.image)
  if (wanted.ports) config.ports = await published(c, config, wanted.ports)
  const volumes = wanted.volumes ?? []
  const field = (i: number) => `config.volumes[${i}].host`
  const paths = [...volumes.entries()].filter(([, { host }]) => !VOLUME_NAME.test(host))
  for (const [i, volume] of paths) {
    const host = c.allow.hostPath && (await realPath(field(i), volume.host))
    if (host === undefined) throw no('mount this path', 'hostPath', field(i))
    volumes[i] = { ...volume, host }
  }
  for (const [i] of paths) {
    const { host: path, readOnly = false } = volumes[i] as (typeof volumes)[0]
    await permitted(c, 'hostPath', { path, readOnly, config }, 'mount this path', field(i))
  }
  // An image that is there needs no pull.
  if (c.allow.credentials && (config.platform || !(await c.runtime.imageExists(config.image, o)))) {
    if (await may(c, 'credentials', { image: config.image })) config.credentials = 'user'
  }
  return config
}

async function published(
  c: Context,
  config: runtime.ContainerConfig,
  ports: Record<string, string>,
): Promise<Record<string, string>> {
  const all: [string, string][] = []
  for (const [containerPort, host] of Object.entries(ports)) {
    const colon = host.lastIndexOf(':')
    const address = colon < 0 ? undefined : host.slice(0, colon).replace(/^\[(.*)\]$/, '$1')
    const request = { containerPort, hostPort: host.slice(colon + 1), address, config }
    if (address === undefined) {
      // On Docker and the system's containerd that means all addresses.
      all.push([containerPort, (await may(c, 'publish', request)) ? host : `127.0.0.1:${host}`])
    } else {
      const local = address === '::1' || (isIPv4(address) && address.startsWith('127.'))
      if (!local)
        await permitted(c, 'publish', request, 'publish ports to others', `config.ports.${containerPort.slice(0, 60)}`)
      all.push([containerPort, host])
    }
  }
  return Object.fromEntries(all)
}

/** Refuses an image that the app does not allow; without `useImage` all are allowed. */
async function usable(c: Context, action: 'start' | 'pull', image: string): Promise<void> {
  if (c.allow.useImage) await permitted(c, 'useImage', { action, image }, 'use this image')
}

type Asked = Exclude<keyof Allow, 'sender'>
type Request<K extends Asked> = Omit<Parameters<NonNullable<Allow[K]>>[0], 'event'>

/** Asks the app's permission. A missing function, an error or any answer but `true` means no. */
export async function may<K extends Asked>(
  { allow, event }: Pick<Context, 'allow' | 'event'>,
  what: K,
  request: Request<K>,
): Promise<boolean> {
  try {
    return (await (allow[what] as ((r: object) => unknown) | undefined)?.call(allow, { ...request, event })) === true
  } catch (error) {
    process.emitWarning(`allow.${what} threw, which means no: ${String(error)}`, 'RuntimeWarning')
    return false
  }
}

async function permitted<K extends Asked>(
  c: Context,
  what: K,
  request: Request<K>,
  deed: string,
  field?: string,
): Promise<void> {
  if (!(await may(c, what, request))) throw no(deed, what, field)
}

function no(deed: string, what: keyof Allow, field?: string): Refused {
  const hint = `The app decides that in its main process: registerRuntimeIpc(…, { allow }), allow.${what}.`
  return new Refused('PERMISSION_DENIED', `A window may not ${deed}`, hint, field ? { field } : {})
}
