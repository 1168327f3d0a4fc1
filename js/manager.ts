import { EventEmitter } from 'node:events'
import type * as api from '../index'
import {
  BundledContainerAdapter,
  type ContainerAdapter,
  ContainerdAdapter,
  DockerAdapter,
  LimaContainerAdapter,
} from './adapter'
import { BundledRuntimeManager } from './bundled'
import { apart, checkedAlone, invoke, json, progress } from './call'
import { callSync, invalid, RuntimeError } from './errors'
import { LimaRuntimeManager } from './lima'
import { native, resourcesPath } from './native'
import { Shared } from './shared'

type Steps = { onProgress: (p: api.RuntimeProgress) => void; signal: AbortSignal }
type Download = NonNullable<api.BringOptions['download']>

/** A start or a switch. */
interface PendingStart {
  shared: Shared
  target: api.RuntimeType | undefined
  /** All callers that wait for it, each with whether downloads are allowed. */
  waiters: Set<{ download: Download }>
  /** A download was needed, and nobody allowed it. */
  refused: boolean
}

/** One kind of runtime, as the manager sees it. */
interface Backend {
  type: api.RuntimeType
  /** Absent for an engine of the user's. */
  engine?: api.UserEngine
  runtime: ContainerAdapter
  /** Starts it; `may` asks whether missing files may be downloaded. */
  start(mayDownload: () => Promise<boolean>, p: Steps): Promise<void>
  /** Absent where the engine is not ours to stop. */
  stop?(p: api.Progress | undefined): Promise<void>
  /** The application's containers in an engine that this one replaced. */
  left?(): Promise<api.ContainerInfo[]>
  suspend?(): void
  resume?(): Promise<void>
}

const TYPES: readonly api.RuntimeType[] = ['docker', 'containerd', 'lima']
/** How long the old engine may take to list what stays in it. */
const LIST_TIMEOUT_MS = 2_000

/** Documented in index.d.ts. */
export class ContainerManager extends EventEmitter<api.ContainerManagerEvents> implements api.ContainerManager {
  readonly #native: InstanceType<typeof native.ContainerManager>
  readonly #options: api.ContainerManagerOptions
  readonly #backends = new Map<api.RuntimeType, Backend>()
  /** Backends whose start was begun, whatever its result; `stop()` stops them. */
  readonly #started = new Set<Backend>()
  #current: Backend | undefined
  #initialized = false
  #status: api.ManagerStatus = { state: 'idle', runtime: 'none' }
  #pending: PendingStart | undefined

  constructor(preferred?: api.RuntimeType | 'auto' | api.ContainerManagerOptions) {
    super()
    const options = typeof preferred === 'string' ? { preferred } : preferred
    const text = json('options', options)
    this.#native = callSync(() => new native.ContainerManager(text, resourcesPath))
    this.#options = JSON.parse(text)
  }

  async initialize(p?: api.Progress & api.BringOptions): Promise<void> {
    await this.#join(undefined, p)
  }

  async switchRuntime(type: api.RuntimeType, p?: api.Progress & api.BringOptions): Promise<void> {
    if (!TYPES.includes(type)) throw invalid('type', `must be one of ${TYPES.join(', ')}`)
    await this.#join(type, p)
  }

  /** Callers that ask for the same join the work under way; a switch aborts another one and starts after its end. */
  async #join(target: api.RuntimeType | undefined, p: (api.Progress & api.BringOptions) | undefined): Promise<void> {
    const [download = true, rest] = typeof p === 'function' ? [undefined, p] : apart('progress', p, 'download')
    if (typeof download !== 'boolean' && typeof download !== 'function') {
      throw invalid('download', 'must be a boolean or a function')
    }
    checkedAlone(progress(rest).options)
    let work = this.#pending
    if (!work?.shared.open || work.refused || (target !== undefined && work.target !== target)) {
      const before = work?.shared
      before?.abort()
      const shared = new Shared(async (steps) => {
        await before?.done.catch(() => {})
        steps.signal.throwIfAborted()
        await this.#start(target, steps, own)
      })
      const own: PendingStart = { shared, target, waiters: new Set(), refused: false }
      work = this.#pending = own
      const done = () => {
        if (this.#pending === own) this.#pending = undefined
      }
      shared.done.then(done, done)
    }
    const waiter = { download }
    work.waiters.add(waiter)
    try {
      await work.shared.join(rest)
    } finally {
      work.waiters.delete(waiter)
    }
  }

  async #start(target: api.RuntimeType | undefined, { onProgress, signal }: Steps, work: PendingStart): Promise<void> {
    const before = this.#status
    const phases = new Set<api.RuntimeProgress['phase']>()
    const steps: Steps = {
      signal,
      onProgress: (event) => {
        phases.add(event.phase)
        this.#set({ ...this.#status, progress: event }, false)
        onProgress(event)
        this.#emitSafely('progress', event)
      },
    }
    const { explanation: _, error: __, progress: ___, target: ____, engine: _____, ...rest } = before
    this.#set({ ...rest, state: 'starting' })
    try {
      const { type, install, explanation } = await this.#select(target, signal)
      this.#set({ ...this.#status, target: type }, false)
      const backend = await this.#backend(type, signal)
      const engine = backend.engine && { engine: backend.engine }
      this.#set({ ...this.#status, ...engine }, false)
      if (backend.stop) this.#started.add(backend)
      const began = performance.now()
      let allowed = false
      const mayDownload = async () => {
        // One yes is enough; not saying anything means yes.
        for (const { download } of install && !allowed ? [...work.waiters] : []) {
          allowed ||= download === true || (download !== false && (await download(type)) === true)
        }
        work.refused ||= !allowed
        return allowed
      }
      // Missing parts of an installed runtime are downloaded without asking.
      const silent = [...work.waiters].some(({ download }) => download === true)
      if (!silent && type !== 'docker' && (await this.#incomplete(type, signal)) && !(await mayDownload()))
        throw notInstalled(type === 'lima' ? 'Lima' : type)
      await backend.start(mayDownload, steps)
      // Saves how long a plain start takes, to show it at the next one.
      if (backend.stop && phases.has('boot') && !phases.has('download') && !phases.has('create')) {
        const took = Math.round(performance.now() - began)
        await invoke({ signal }, (call) => this.#native.saveStart(JSON.stringify(type), took, call)).catch(() => {})
      }
      if (target !== undefined) await invoke({ signal }, (call) => this.#native.save(JSON.stringify(target), call))
      const from = this.#current
      this.#current = backend
      this.#initialized = true
      this.#set({ state: 'ready', runtime: type, ...engine, ...(explanation && { explanation }) })
      if (from !== backend) this.#emitSafely('runtime-changed', await changeEvent(from, backend, this.#label()))
    } catch (cause) {
      const error = signal.aborted ? new RuntimeError('ABORTED', 'The operation was aborted', { cause }) : cause
      const runtime = this.getRuntimeType()
      // A switch that fails leaves the old runtime in use.
      if (target !== undefined && this.#current && target !== runtime) {
        this.#set({ ...rest, ...(before.engine && { engine: before.engine }), state: before.state })
        throw error
      }
      this.#initialized = false
      if (signal.aborted) this.#set({ state: this.#current ? 'stopped' : 'idle', runtime })
      else this.#set({ state: 'failed', runtime, error: error as RuntimeError })
      throw error
    }
  }

  async #select(
    target: api.RuntimeType | undefined,
    signal: AbortSignal,
  ): Promise<{ type: api.RuntimeType; install: boolean; explanation?: string }> {
    // A person who chooses a runtime wants it installed.
    if (target) return { type: target, install: true }
    if (this.#current) return { type: this.#current.type, install: this.#options.installIfMissing ?? false }
    return JSON.parse(await invoke({ signal }, (call) => this.#native.select(call)))
  }

  async #incomplete(type: api.RuntimeType, signal: AbortSignal): Promise<boolean> {
    const found: api.RuntimeDetection = JSON.parse(await invoke({ signal }, (call) => this.#native.detect(call)))
    return found.details.find((detail) => detail.type === type)?.incomplete ?? false
  }

  isInitialized(): boolean {
    return this.#initialized
  }

  getRuntime(): api.ContainerAdapter {
    if (this.#current) return this.#current.runtime
    throw new RuntimeError('INVALID_STATE', 'No container runtime is in use yet', {
      hint: 'Await initialize() first.',
    })
  }

  getRuntimeType(): api.RuntimeType | 'none' {
    return this.#current?.type ?? 'none'
  }

  getStatus(): api.ManagerStatus {
    return { ...this.#status }
  }

  async detectAvailableRuntimes(options?: api.CallOptions): Promise<api.RuntimeDetection> {
    const found = JSON.parse(await invoke(options, (call) => this.#native.detect(call)))
    return { ...found, current: this.getRuntimeType() }
  }

  abort(): void {
    this.#pending?.shared.abort()
  }

  async stop(p?: api.Progress): Promise<void> {
    checkedAlone(progress(p).options)
    this.abort()
    await this.#pending?.shared.done.catch(() => {})
    this.#initialized = false
    if (this.#started.size === 0) return
    const before = this.#status
    const runtime = this.getRuntimeType()
    this.#set({ state: 'stopping', runtime })
    try {
      await Promise.all([...this.#started].map((backend) => this.#stopBackend(backend, p)))
      // Docker keeps running, even after a VM of ours that it replaced has stopped.
      this.#set(this.#current && !this.#current.stop ? before : { state: 'stopped', runtime })
    } catch (error) {
      this.#set({ state: 'failed', runtime, error: error as RuntimeError })
      throw error
    }
  }

  async #stopBackend(backend: Backend, p: api.Progress | undefined): Promise<void> {
    try {
      await backend.stop?.(p)
      this.#started.delete(backend)
    } catch (error) {
      // A failed start has already reported its error.
      if (backend === this.#current) throw error
    }
  }

  notifySuspend(): void {
    for (const backend of this.#started) backend.suspend?.()
  }

  async notifyResume(): Promise<void> {
    await Promise.all([...this.#started].map((backend) => backend.resume?.()))
  }

  /** The value of the label on containers and volumes. */
  #label(): string {
    return this.#options.appName ?? 'kai'
  }

  async #backend(type: api.RuntimeType, signal: AbortSignal): Promise<Backend> {
    let backend = this.#backends.get(type)
    if (!backend) {
      backend = await this.#make(type, signal)
      this.#backends.set(type, backend)
    }
    return backend
  }

  async #make(type: api.RuntimeType, signal: AbortSignal): Promise<Backend> {
    const { appName, appDir, engine, registries, docker, containerd, lima } = this.#options
    const whose = { ...(appName && { appName }), ...(appDir && { appDir }) }
    const app = { ...whose, ...(engine && { engine }), ...(registries && { registries }) }
    if (type === 'docker') {
      const runtime = new DockerAdapter({ ...whose, appName: this.#label(), ...docker })
      return { type, runtime, start: (_, p) => runtime.initialize(p) }
    }
    if (type === 'containerd') {
      const named = { appName: this.#label(), ...containerd }
      if (!(await invoke({ signal }, (call) => this.#native.containerdIsOwn(call)))) {
        const runtime = new ContainerdAdapter(named)
        return { type, runtime, start: (_, p) => runtime.initialize(p) }
      }
      const { bundledDir, manifest, mirror, versions } = lima ?? {}
      const source = {
        ...(bundledDir && { bundledDir }),
        ...(manifest && { manifest }),
        ...(mirror && { mirror }),
        ...(versions && { versions }),
      }
      const own = new BundledRuntimeManager({ ...app, ...source })
      const runtime =
        engine === 'docker'
          ? new BundledContainerAdapter(own)
          : new ContainerdAdapter({ ...named, ...own.getAdapterOptions() })
      return {
        type,
        engine: engine ?? 'containerd',
        runtime,
        async start(mayDownload, p) {
          await ensureInstalled(mayDownload, own, engine === 'docker' ? 'The Docker engine' : 'containerd', p)
          await own.initialize(p)
          await runtime.initialize(p)
        },
        stop: (p) => own.stopDaemon(progress(p).options),
        left: async () => withoutOwners(await own.listLeft()),
      }
    }
    const manager = new LimaRuntimeManager({ ...app, ...(engine && { engine }), ...lima })
    // What a start or a stop tells is on its way already.
    manager.on('progress', (event) => {
      if (!this.#pending && this.#status.state === 'ready') this.#emitSafely('progress', event)
    })
    const runtime = new LimaContainerAdapter(manager)
    return {
      type,
      engine: lima?.engine ?? engine ?? 'containerd',
      runtime,
      async start(mayDownload, p) {
        await ensureInstalled(mayDownload, manager, 'Lima', p)
        await runtime.initialize(p)
      },
      stop: (p) => manager.stop(p),
      left: async () => withoutOwners((await manager.getStatus()).left ?? []),
      suspend: () => manager.notifySuspend(),
      resume: () => manager.notifyResume(),
    }
  }

  #set(status: api.ManagerStatus, tell = true): void {
    this.#status = status
    if (tell) this.#emitSafely('state', this.getStatus())
  }

  /** A listener that throws must not end the work. */
  #emitSafely<E extends keyof api.ContainerManagerEvents>(event: E, ...args: api.ContainerManagerEvents[E]): void {
    try {
      ;(this.emit as (event: E, ...args: unknown[]) => boolean).call(this, event, ...args)
    } catch (error) {
      process.emitWarning(`A listener of '${event}' threw: ${String(error)}`, 'RuntimeWarning')
    }
  }
}

/** The application's own of an engine's containers. */
function withoutOwners(left: (api.ContainerInfo & { own: boolean })[]): api.ContainerInfo[] {
  return left.filter(({ own }) => own).map(({ own: _, ...container }) => container)
}

/** Downloads only what somebody allowed. */
async function ensureInstalled(
  mayDownload: () => Promise<boolean>,
  runtime: Pick<api.LimaRuntimeManager, 'isInstalled' | 'hasPreBundled'>,
  name: string,
  { signal }: Steps,
): Promise<void> {
  if ((await runtime.isInstalled({ signal })) || (await runtime.hasPreBundled({ signal })) || (await mayDownload()))
    return
  throw notInstalled(name)
}

function notInstalled(name: string): RuntimeError {
  const hint = 'Pass installIfMissing, or let the person choose it: switchRuntime installs.'
  return new RuntimeError('NOT_INSTALLED', `${name} is not installed`, { hint })
}

/** The result of a switch: the old engine's containers stay where they are. */
async function changeEvent(from: Backend | undefined, to: Backend, label: string): Promise<api.RuntimeChange> {
  const resting = (await to.left?.().catch(() => [])) ?? []
  if (!from) return { from: 'none', to: to.type, left: resting }
  const ours = { all: true, filters: { label: [`lima-runtime.app=${label}`] }, timeoutMs: LIST_TIMEOUT_MS }
  // An engine that no longer answers has nothing to list.
  const left = await from.runtime.listContainers(ours).catch(() => [])
  return { from: from.type, to: to.type, left: [...left, ...resting] }
}
