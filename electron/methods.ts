import type { EventEmitter } from 'node:events'
import { isIPv4 } from 'node:net'
import type * as runtime from 'lima-runtime'
import { Refused } from './check'
import type { Allow, IpcEvent, WindowCompose, WindowExec } from './main'
import { realPath } from './paths'
import type { Row } from './table'
import type { Redactor } from './tell'

/** What a method of the table gets besides its arguments. */
export interface Context {
  manager: runtime.ContainerManager
  /** The manager's events, for any number of windows. */
  events: EventEmitter
  /** The engine as far as this window reaches it. */
  runtime: runtime.ContainerAdapter
  /** The same, whose containers may have powers over the engine's machine. */
  powerful(): runtime.ContainerAdapter
  allow: Allow
  event: IpcEvent
  redactor: Redactor
  /** Aborted when the window cancels, or leaves and the call ends with it. */
  signal: AbortSignal
  progress(value: unknown): void
  /** Makes the process that of this call. */
  holds(process: runtime.ContainerProcess): void
  /** The process of another call of the page. */
  process(call: string): runtime.ContainerProcess
}

interface Options {
  timeoutMs?: number
}

// biome-ignore lint/suspicious/noExplicitAny: the checks have looked at them
type Run = (context: Context, ...args: any[]) => unknown

const withSignal = ({ signal }: Context, given: Options | undefined) => ({ ...given, signal })
const withProgress = (c: Context, given: Options | undefined) => ({
  ...withSignal(c, given),
  onProgress: (value: runtime.RuntimeProgress) => c.progress(c.redactor.progress(value)),
})

/** What a channel does: the adapter's method of its row, or the function in `OWN`. */
export function runOf(name: string, { method, args }: Row): Run {
  const own = OWN[name]
  if (own) return own
  const before = Object.keys(args).filter((arg) => arg !== 'options').length
  return (c, ...given) => {
    const values = Array.from({ length: before }, (_, i) => given[i])
    // biome-ignore lint/suspicious/noExplicitAny: a method of the table, with arguments by the table
    return (c.runtime as any)[method as string](...values, withSignal(c, given[before]))
  }
}

const OWN: Record<string, Run> = {
  'runtime.start': (c, o) => startRuntime(c, (p) => c.manager.initialize(p), o),
  'runtime.switch': (c, type, o) => startRuntime(c, (p) => c.manager.switchRuntime(type, p), o),
  'runtime.stop': (c, o) => c.manager.stop(withProgress(c, o)),
  'runtime.detect': async (c, o) => c.redactor.detection(await c.manager.detectAvailableRuntimes(withSignal(c, o))),
  'runtime.status': (c) => c.redactor.status(c.manager.getStatus()),
  'runtime.isAvailable': (c, o) => c.manager.getRuntime().isAvailable(withSignal(c, o)),
  'runtime.on': (c, event) => managerEvents(c, event),

  'container.create': async (c, wanted, o) => {
    const config = await permittedConfig(c, wanted, withSignal(c, o))
    return (await reaching(c, config)).createContainer(config, withSignal(c, o))
  },
  'container.start': async (c, wanted, o) => {
    if (typeof wanted === 'string') return c.runtime.startContainer(wanted, withSignal(c, o))
    const config = await permittedConfig(c, wanted, withSignal(c, o))
    return (await reaching(c, config)).startContainer(config, withSignal(c, o))
  },
  'container.details': async (c, id, o) =>
    c.redactor.details(await c.runtime.getContainerDetails(id, withSignal(c, o))),
  'container.exec': async (c, word, argv, o) => {
    const id = await permittedContainer(c, word, 'exec', argv, o)
    return c.runtime.execInContainer(id, argv, withSignal(c, o))
  },
  'container.copyTo': async (c, word, path, containerPath, o) => {
    const { id, source } = await permittedCopy(c, 'in', word, 'path', path, containerPath, o)
    return c.runtime.copyToContainer(id, source, containerPath, withSignal(c, o))
  },
  'container.copyFrom': async (c, word, containerPath, to, o) => {
    const { id, source } = await permittedCopy(c, 'out', word, 'to', to, containerPath, o)
    const none = await c.runtime.copyFromContainer(id, containerPath, { ...withSignal(c, o), to: source })
    none.destroy()
  },
  'container.commit': async (c, word, o) => {
    const { id, name } = await meant(c, word, o)
    // A name as `tag` gives one: the app would start the window’s image by it.
    const request = { action: 'commit' as const, image: name, target: o.reference }
    await requirePermission(c, 'images', request, 'make images of containers')
    return c.runtime.commitContainer(id, { ...o, signal: c.signal })
  },
  'container.spawn': async (c, word, argv, o) => {
    const id = await permittedContainer(c, word, 'spawn', argv, o)
    return held(c, await c.runtime.spawnInContainer(id, argv, withSignal(c, o)))
  },
  'container.attach': async (c, word, o) => {
    const id = await permittedContainer(c, word, 'attach', [], o)
    return held(c, await c.runtime.attachContainer(id, withSignal(c, o)))
  },
  'process.write': async (c, call, data) => {
    const { stdin } = c.process(call)
    if (!stdin) throw new Refused('INVALID_STATE', 'The process has no standard input')
    // One that has ended takes nothing, which is no error.
    if (stdin.destroyed || stdin.writableEnded) return
    await new Promise<void>((resolve) => {
      const done = () => {
        stdin.off('close', done)
        resolve()
      }
      stdin.once('close', done)
      stdin.write(typeof data === 'string' ? data : Buffer.from(data), done)
    })
  },
  'process.end': async (c, call) => {
    c.process(call).stdin?.end()
  },
  'process.resize': (c, call, columns, rows) => c.process(call).resize(columns, rows),
  'process.kill': (c, call, signal) => c.process(call).kill(signal),
  'container.logs': async (c, id, o) => {
    const log = await c.runtime.getContainerLogs(id, withSignal(c, o))
    // As text, without splitting a character.
    return (log as NodeJS.ReadableStream).setEncoding('utf8')
  },

  'image.pull': async (c, name, o) => {
    await checkImage(c, 'pull', name)
    const credentials = !o?.auth && (await isAllowed(c, 'credentials', { image: name })) ? 'user' : 'none'
    return c.runtime.pullImage(name, (p) => c.progress(p), { ...withSignal(c, o), credentials })
  },
  'image.list': async (c, o) => {
    if (!(await c.runtime.isPrivate(withSignal(c, o))))
      await requirePermission(c, 'images', { action: 'list' }, 'list images')
    return c.runtime.listImages(withSignal(c, o))
  },
  'image.remove': async (c, id, f, o) => {
    if (!(await c.runtime.isPrivate(withSignal(c, o))))
      await requirePermission(c, 'images', { action: 'remove', image: id }, 'remove images')
    return c.runtime.removeImage(id, f, withSignal(c, o))
  },
  'image.tag': async (c, image, target, o) => {
    // On the app’s own engine, too: the app would start the window’s image by that name.
    await requirePermission(c, 'images', { action: 'tag', image, target }, 'name images')
    return c.runtime.tagImage(image, target, withSignal(c, o))
  },
  'image.inspect': async (c, name, o) => {
    await permittedImage(c, 'inspect', name, o)
    return c.redactor.details(await c.runtime.inspectImage(name, withSignal(c, o)))
  },
  'image.history': async (c, name, o) => {
    await permittedImage(c, 'inspect', name, o)
    return c.runtime.imageHistory(name, withSignal(c, o))
  },
  'image.push': async (c, name, o) => {
    // On the app’s own engine, too: what is sent is gone.
    await requirePermission(c, 'images', { action: 'push', image: name }, 'send images to registries')
    const credentials = !o?.auth && (await isAllowed(c, 'credentials', { image: name })) ? 'user' : 'none'
    return c.runtime.pushImage(name, (p) => c.progress(p), { ...withSignal(c, o), credentials })
  },
  'image.build': async (c, wanted, o) => {
    const directory = c.allow.build && (await realPath('directory', wanted))
    if (directory === undefined) throw denied('build images', 'build', 'directory')
    const { timeoutMs: _, secrets: _hidden, ...given } = o ?? {}
    await requirePermission(c, 'build', { directory, options: given }, 'build images', 'directory')
    const onProgress = (p: runtime.BuildProgress) => c.progress(p)
    return c.runtime.buildImage(directory, { ...withSignal(c, o), credentials: 'none', onProgress })
  },

  'compose.up': async (c, wanted, o) => {
    const project = await permittedProject(c, 'up', wanted, o)
    const onProgress = (p: runtime.ComposeProgress) => c.progress(p)
    return c.powerful().composeUp(project, { ...withSignal(c, o), onProgress })
  },
  'compose.down': async (c, wanted, o) => {
    const project = await permittedProject(c, 'down', wanted, o)
    const onProgress = (p: runtime.ComposeProgress) => c.progress(p)
    return c.powerful().composeDown(project, { ...withSignal(c, o), onProgress })
  },
  'compose.ps': async (c, wanted, o) => {
    const project = await permittedProject(c, 'ps', wanted, o)
    return c.powerful().composePs(project, withSignal(c, o))
  },

  'network.inspect': async (c, id, o) => c.redactor.details(await c.runtime.inspectNetwork(id, withSignal(c, o))),
  'volume.inspect': async (c, name, o) => c.redactor.volume(await c.runtime.inspectVolume(name, withSignal(c, o))),
  'volume.list': async (c, o) => c.redactor.volumes(await c.runtime.listVolumes(withSignal(c, o))),
}

/** The container that a window's word means. */
function meant(c: Context, word: string, o: Options | undefined): Promise<runtime.ContainerInfo> {
  return c.runtime.inspectContainer(word, withSignal(c, o?.timeoutMs ? { timeoutMs: o.timeoutMs } : {}))
}

/** The container's id, if the app permits it. It decides about the container, not about the name that the window uses. */
async function permittedContainer(
  c: Context,
  word: string,
  action: 'exec' | 'spawn' | 'attach',
  argv: string[],
  o: (Options & WindowExec) | undefined,
): Promise<string> {
  const { id, name } = await meant(c, word, o)
  const { timeoutMs: _, ...options } = o ?? {}
  const request = { action, container: id, name, argv, options }
  await requirePermission(c, 'exec', request, 'run programs in containers')
  return id
}

/** What a process prints, and its exit code as the last value. Each of its streams waits until its piece is taken. */
function held(c: Context, process: runtime.ContainerProcess): AsyncIterable<unknown> {
  c.holds(process)
  return output(process)
}

async function* output(process: runtime.ContainerProcess): AsyncGenerator<unknown> {
  const ready: { value: unknown; taken: () => void }[] = []
  let wake = () => {}
  let end: { value: unknown } | { error: unknown } | undefined
  const read = async (stream: 'stdout' | 'stderr') => {
    for await (const data of process[stream] ?? []) {
      await new Promise<void>((taken) => {
        ready.push({ value: { stream, data }, taken })
        wake()
      })
    }
  }
  const ended = (how: NonNullable<typeof end>) => {
    end = how
    wake()
  }
  Promise.all([read('stdout'), read('stderr')])
    .then(() => process.exited)
    .then(
      ({ exitCode }) => ended({ value: { exitCode } }),
      (error) =>
        process.exited.then(
          () => ended({ error }),
          (why) => ended({ error: why }),
        ),
    )
  for (;;) {
    const next = ready.shift()
    if (next) {
      yield next.value
      next.taken()
    } else if (end) {
      if ('error' in end) throw end.error
      yield end.value
      return
    } else {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  }
}

/** One kind of the manager's events; for `state`, the current one first. */
async function* managerEvents(
  { manager, events, redactor, signal }: Context,
  event: keyof runtime.ContainerManagerEvents,
): AsyncGenerator<unknown> {
  const waiting: unknown[] = event === 'state' ? [manager.getStatus()] : []
  // biome-ignore lint/suspicious/noExplicitAny: what the event brings
  const told = (value: any) => {
    if (event === 'state') return redactor.status(value)
    return event === 'progress' ? redactor.progress(value) : value
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
async function startRuntime(
  c: Context,
  bring: (p: Parameters<runtime.ContainerManager['initialize']>[0]) => Promise<void>,
  given: Options | undefined,
): Promise<void> {
  let refused: Refused | undefined
  const download = async (type: runtime.RuntimeType) => {
    if (await isAllowed(c, 'download', { runtime: type })) return true
    refused = denied('download a runtime', 'download')
    return false
  }
  try {
    await bring({ ...withProgress(c, given), download })
  } catch (error) {
    throw refused ?? error
  }
}

/** What gives a container powers beyond itself. The app is asked by this list; the core refuses by its own, `powers_of`. */
const POWERS: Partial<Record<keyof runtime.ContainerConfig, (config: runtime.ContainerConfig) => boolean>> = {
  privileged: (c) => c.privileged === true,
  devices: (c) => (c.devices ?? []).length > 0,
  gpus: (c) => c.gpus !== undefined,
  capAdd: (c) => (c.capAdd ?? []).length > 0,
  securityOpt: (c) => (c.securityOpt ?? []).length > 0,
  runtime: (c) => c.runtime !== undefined,
  sysctls: (c) => Object.keys(c.sysctls ?? {}).length > 0,
  logging: (c) => c.logging !== undefined,
  annotations: (c) => Object.keys(c.annotations ?? {}).length > 0,
  networkMode: (c) => c.networkMode !== undefined && c.networkMode !== 'none',
  pidMode: (c) => c.pidMode !== undefined,
  ipcMode: (c) => !['none', 'private', 'shareable', undefined].includes(c.ipcMode),
  resources: (c) => (c.resources?.oomScoreAdj ?? 0) < 0,
  ulimits: ({ ulimits = {} }) =>
    [ulimits.nice, ulimits.rtprio].some((limit) => (typeof limit === 'object' ? limit.hard : (limit ?? 0)) !== 0),
  mounts: (c) => (c.mounts ?? []).some(({ propagation }) => propagation !== undefined),
}

/** The engine as far as this container may reach it. */
async function reaching(c: Context, config: runtime.ContainerConfig): Promise<runtime.ContainerAdapter> {
  const all = Object.entries(POWERS) as [keyof runtime.ContainerConfig, (config: runtime.ContainerConfig) => boolean][]
  const powers = all.filter(([, has]) => has(config)).map(([field]) => field)
  const [first] = powers
  if (first === undefined) return c.runtime
  await requirePermission(c, 'powers', { powers, config }, 'give a container these powers', first)
  return c.powerful()
}

const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/

/** The configuration as a window may have it, with the real paths that the app was asked about. */
async function permittedConfig(
  c: Context,
  wanted: runtime.ContainerConfig,
  o: runtime.CallOptions,
): Promise<runtime.ContainerConfig> {
  const config: runtime.ContainerConfig = { ...wanted, credentials: 'none' }
  await checkImage(c, 'start', config.image)
  if (wanted.ports) config.ports = await permittedPorts(c, config, wanted.ports)
  const [volumes, mounts] = [wanted.volumes ?? [], wanted.mounts ?? []]
  const paths: { field: string; path: string; readOnly: boolean }[] = []
  const real = async (field: string, path: string, readOnly = false) => {
    const found = c.allow.hostPath && (await realPath(field, path))
    if (found === undefined) throw denied('mount this path', 'hostPath', field)
    paths.push({ field, path: found, readOnly })
    return found
  }
  for (const [i, volume] of volumes.entries()) {
    if (VOLUME_NAME.test(volume.host)) continue
    volumes[i] = { ...volume, host: await real(`volumes[${i}].host`, volume.host, volume.readOnly) }
  }
  for (const [i, mount] of mounts.entries()) {
    // Whatever its type says: the core refuses a path that is none of a bind.
    if (mount.source === undefined || (mount.type !== 'bind' && VOLUME_NAME.test(mount.source))) continue
    mounts[i] = { ...mount, source: await real(`mounts[${i}].source`, mount.source, mount.readOnly) }
  }
  for (const { field, ...request } of paths) {
    await requirePermission(c, 'hostPath', { ...request, config }, 'mount this path', field)
  }
  // An image that is there needs no pull.
  if (c.allow.credentials && (config.platform || !(await c.runtime.imageExists(config.image, o)))) {
    if (await isAllowed(c, 'credentials', { image: config.image })) config.credentials = 'user'
  }
  return config
}

async function permittedPorts(
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
      all.push([containerPort, (await isAllowed(c, 'publish', request)) ? host : `127.0.0.1:${host}`])
    } else {
      const local = address === '::1' || (isIPv4(address) && address.startsWith('127.'))
      if (!local)
        await requirePermission(c, 'publish', request, 'publish ports to others', `ports.${containerPort.slice(0, 60)}`)
      all.push([containerPort, host])
    }
  }
  return Object.fromEntries(all)
}

/** The container's id, and the real path that the app was asked about. */
async function permittedCopy(
  c: Context,
  direction: 'in' | 'out',
  word: string,
  field: string,
  wanted: string,
  containerPath: string,
  o: Options | undefined,
): Promise<{ id: string; source: string }> {
  const { id, name } = await meant(c, word, o)
  const path = c.allow.copy && (await realPath(field, wanted))
  if (path === undefined) throw denied('copy files', 'copy', field)
  await requirePermission(c, 'copy', { direction, container: id, name, containerPath, path }, 'copy files', field)
  // Only what the directory holds.
  return { id, source: /[\\/]\.$/.test(wanted) ? `${path}/.` : path }
}

/** The project, of a file by the real path that the app was asked about. */
async function permittedProject(
  c: Context,
  action: 'up' | 'down' | 'ps',
  wanted: string | object,
  o: (Options & WindowCompose) | undefined,
): Promise<string | object> {
  const project = c.allow.compose && (typeof wanted === 'string' ? await realPath('project', wanted) : wanted)
  if (project === undefined) throw denied('have projects of compose', 'compose', 'project')
  const { timeoutMs: _, ...options } = o ?? {}
  await requirePermission(c, 'compose', { action, project, options }, 'have projects of compose', 'project')
  return project
}

/** On an engine that is not the app's own, what images hold is others'. */
async function permittedImage(c: Context, action: 'inspect', image: string, o: Options | undefined): Promise<void> {
  if (!(await c.runtime.isPrivate(withSignal(c, o))))
    await requirePermission(c, 'images', { action, image }, `${action} images`)
}

/** Refuses an image that the app does not allow; without `useImage` all are allowed. */
async function checkImage(c: Context, action: 'start' | 'pull', image: string): Promise<void> {
  if (c.allow.useImage) await requirePermission(c, 'useImage', { action, image }, 'use this image')
}

type Permission = Exclude<keyof Allow, 'sender'>
type Request<K extends Permission> = Omit<Parameters<NonNullable<Allow[K]>>[0], 'event'>

/** Asks the app's permission. A missing function, an error or any answer but `true` means no. */
export async function isAllowed<K extends Permission>(
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

async function requirePermission<K extends Permission>(
  c: Context,
  what: K,
  request: Request<K>,
  action: string,
  field?: string,
): Promise<void> {
  if (!(await isAllowed(c, what, request))) throw denied(action, what, field)
}

function denied(action: string, what: keyof Allow, field?: string): Refused {
  const hint = `The app decides that in its main process: registerRuntimeIpc(…, { allow }), allow.${what}.`
  return new Refused('PERMISSION_DENIED', `A window may not ${action}`, hint, field ? { field } : {})
}
