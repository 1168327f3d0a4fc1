import type { EventEmitter } from 'node:events'
import type * as runtime from 'lima-runtime'
import { type Check, flag, list, number, oneOf, optional, Refused, record, shape, string } from './check'
import type { Allow, IpcEvent } from './main'

/** What a method of the table gets beside its arguments. */
export interface Context {
  manager: runtime.ContainerManager
  /** The manager's events, for however many windows. */
  events: EventEmitter
  runtime: runtime.ContainerAdapter
  allow: Allow
  event: IpcEvent
  /** Aborted when the window cancels, or, for what it only watches, is gone. */
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
  /** Work that all windows share: one of them alone does not end it. */
  shared?: true
}

export interface Stream {
  args: Check[]
  // biome-ignore lint/suspicious/noExplicitAny: the checks have looked at them
  open(context: Context, ...args: any[]): Promise<AsyncIterable<unknown>> | AsyncIterable<unknown>
}

const call = { timeoutMs: optional(number) }
const options = optional(shape(call))
const type = oneOf('docker', 'containerd', 'lima')
const filters = optional(record(list(string)))
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
const steps = (context: Context, given: Options | undefined) => ({
  ...under(context, given),
  onProgress: (value: unknown) => context.progress(value),
})

/** What a window may ask for, by channel; what is not here has no channel. */
export const METHODS: Record<string, Method> = {
  'runtime.start': { args: [options], shared: true, run: (c, o) => c.manager.initialize(steps(c, o)) },
  'runtime.switch': { args: [type, options], shared: true, run: (c, t, o) => c.manager.switchRuntime(t, steps(c, o)) },
  'runtime.stop': { args: [options], run: (c, o) => c.manager.stop(steps(c, o)) },
  'runtime.detect': { args: [options], run: (c, o) => c.manager.detectAvailableRuntimes(under(c, o)) },
  'runtime.status': { args: [], run: (c) => c.manager.getStatus() },
  'runtime.isAvailable': { args: [options], run: (c, o) => c.runtime.isAvailable(under(c, o)) },

  'container.start': {
    args: [config, options],
    async run(c, wanted, o) {
      await harmless(c, wanted)
      return c.runtime.startContainer(wanted, under(c, o))
    },
  },
  'container.stop': {
    args: [string, optional(number), options],
    run: (c, id, t, o) => c.runtime.stopContainer(id, t, under(c, o)),
  },
  'container.restart': {
    args: [string, optional(number), options],
    run: (c, id, t, o) => c.runtime.restartContainer(id, t, under(c, o)),
  },
  'container.remove': {
    args: [string, optional(flag), options],
    run: (c, id, f, o) => c.runtime.removeContainer(id, f, under(c, o)),
  },
  'container.kill': {
    args: [string, text, options],
    run: (c, id, s, o) => c.runtime.killContainer(id, s, under(c, o)),
  },
  'container.pause': { args: [string, options], run: (c, id, o) => c.runtime.pauseContainer(id, under(c, o)) },
  'container.unpause': { args: [string, options], run: (c, id, o) => c.runtime.unpauseContainer(id, under(c, o)) },
  'container.wait': { args: [string, options], run: (c, id, o) => c.runtime.waitContainer(id, under(c, o)) },
  'container.inspect': { args: [string, options], run: (c, id, o) => c.runtime.inspectContainer(id, under(c, o)) },
  'container.details': { args: [string, options], run: (c, id, o) => c.runtime.getContainerDetails(id, under(c, o)) },
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
    async run(c, id, argv, o) {
      await permitted(
        c.allow.exec?.({ container: id, argv, event: c.event }),
        'run programs in containers',
        'allow.exec',
      )
      return c.runtime.execInContainer(id, argv, under(c, o))
    },
  },

  'image.pull': {
    args: [
      string,
      optional(shape({ ...call, platform: text, auth: optional(shape({ username: string, password: string })) })),
    ],
    run: (c, name, o) => c.runtime.pullImage(name, (p) => c.progress(p), under(c, o)),
  },
  'image.list': { args: [options], run: (c, o) => c.runtime.listImages(under(c, o)) },
  'image.remove': {
    args: [string, optional(flag), options],
    run: (c, id, f, o) => c.runtime.removeImage(id, f, under(c, o)),
  },
  'image.exists': { args: [string, options], run: (c, name, o) => c.runtime.imageExists(name, under(c, o)) },
  'image.tag': { args: [string, string, options], run: (c, a, b, o) => c.runtime.tagImage(a, b, under(c, o)) },

  'network.create': {
    args: [string, optional(shape({ ...call, driver: text, internal: optional(flag), attachable: optional(flag) }))],
    run(c, name, o) {
      notTheHosts('options.driver', o?.driver)
      return c.runtime.createNetwork(name, under(c, o))
    },
  },
  'network.remove': { args: [string, options], run: (c, id, o) => c.runtime.removeNetwork(id, under(c, o)) },
  'network.list': { args: [options], run: (c, o) => c.runtime.listNetworks(under(c, o)) },
  'network.connect': {
    args: [string, string, options],
    run(c, id, network, o) {
      notTheHosts('networkId', network)
      return c.runtime.connectContainerToNetwork(id, network, under(c, o))
    },
  },
  'network.disconnect': {
    args: [string, string, options],
    run: (c, id, network, o) => c.runtime.disconnectContainerFromNetwork(id, network, under(c, o)),
  },

  'volume.create': {
    args: [string, optional(shape({ ...call, driver: text, labels: optional(record(string)) }))],
    run: (c, name, o) => c.runtime.createVolume(name, under(c, o)),
  },
  'volume.remove': {
    args: [string, optional(flag), options],
    run: (c, name, f, o) => c.runtime.removeVolume(name, f, under(c, o)),
  },
  'volume.list': { args: [options], run: (c, o) => c.runtime.listVolumes(under(c, o)) },

  'system.info': { args: [options], run: (c, o) => c.runtime.getSystemInfo(under(c, o)) },
  'system.diskUsage': { args: [options], run: (c, o) => c.runtime.diskUsage(under(c, o)) },
  'system.prune': {
    // Without `scope`: what is not the app's own on an engine that is the user's is none of a window's business.
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

/** What a window may watch: each ends with it. */
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
      // Text, a character never in two halves.
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

/** One kind of the manager's events; of the state, the present one first. */
async function* changes(
  { manager, events, signal }: Context,
  event: keyof runtime.ContainerManagerEvents,
): AsyncGenerator<unknown> {
  const waiting: unknown[] = event === 'state' ? [manager.getStatus()] : []
  let wake = () => {}
  const push = (value: unknown) => {
    // A window that does not keep up gets the newest.
    if (waiting.length >= 100) waiting.shift()
    waiting.push(value)
    wake()
  }
  const ended = () => wake()
  events.on(event, push)
  signal.addEventListener('abort', ended, { once: true })
  try {
    while (!signal.aborted) {
      while (waiting.length > 0) yield waiting.shift()
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

const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/

async function harmless(c: Context, wanted: runtime.ContainerConfig): Promise<void> {
  for (const [i, { host, readOnly = false }] of (wanted.volumes ?? []).entries()) {
    if (VOLUME_NAME.test(host)) continue
    const asked = c.allow.hostPath?.({ path: host, readOnly, config: wanted, event: c.event })
    await permitted(asked, `mount ${host.slice(0, 200)}`, 'allow.hostPath', `config.volumes[${i}].host`)
  }
  for (const [i, network] of (wanted.networks ?? []).entries()) notTheHosts(`config.networks[${i}]`, network)
}

/** The host's own network, or another container's: both reach what listens on this machine alone. */
function notTheHosts(field: string, network: string | undefined): void {
  if (network === 'host' || network?.includes(':')) {
    throw new Refused(
      'PERMISSION_DENIED',
      `${field}: a window may not use the network ${network.slice(0, 60)}`,
      undefined,
      {
        field,
      },
    )
  }
}

async function permitted(
  asked: boolean | Promise<boolean> | undefined,
  what: string,
  by: string,
  field?: string,
): Promise<void> {
  if ((await asked) === true) return
  const hint = `The app decides that in its main process: registerRuntimeIpc(…, { allow }), ${by}.`
  throw new Refused('PERMISSION_DENIED', `A window may not ${what}`, hint, field ? { field } : {})
}
