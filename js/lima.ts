import { EventEmitter } from 'node:events'
import type * as api from '../index'
import { callback, dated, execProgram, invoke, invokeAndWarn, json, type NativeCall, progress, string } from './call'
import { callSync } from './errors'
import { type Adapter, type LimaManager, native, resourcesPath } from './native'

interface Paths {
  limactl: string
  lima: string
  nerdctl: string
  docker: string
  containerdSocket: string
  dockerSocket: string
}

/** The VM's state during a phase. */
const STATE_DURING: Partial<Record<api.RuntimeProgress['phase'], api.LimaState>> = {
  create: 'starting',
  boot: 'starting',
  provision: 'starting',
  stop: 'stopping',
  delete: 'stopping',
}

/** As the core tells it. */
type IdleEvent = 'settled' | { progress: api.RuntimeProgress }

const natives = new WeakMap<object, LimaManager>()

/** For `LimaContainerAdapter`: the engine in the manager's VM. */
export function engineOf(manager: LimaRuntimeManager): Adapter {
  return (natives.get(manager) as LimaManager).adapter()
}

function withDates(status: api.LimaStatus): api.LimaStatus {
  status.left?.map(dated)
  if (status.previous) dated(status.previous)
  return status
}

/** Documented in index.d.ts. */
export class LimaRuntimeManager extends EventEmitter<api.LimaRuntimeEvents> implements api.LimaRuntimeManager {
  readonly #native: LimaManager
  #state: api.LimaState | undefined

  constructor(options?: api.LimaRuntimeOptions) {
    super()
    this.#native = callSync(() => new native.LimaManager(json('options', options), resourcesPath))
    natives.set(this, this.#native)
    if (options?.idleStopMs !== undefined) this.#native.listen(LimaRuntimeManager.#listener(new WeakRef(this)))
  }

  /** It keeps no manager alive that nobody else knows. */
  static #listener(manager: WeakRef<LimaRuntimeManager>): (event: string) => void {
    const happened = (event: IdleEvent) => {
      const known = manager.deref()
      if (!known) return
      if (event === 'settled') void known.#refreshState()
      else known.#tell(event.progress)
    }
    return callback('progress', happened) as (event: string) => void
  }

  async isInstalled(options?: api.CallOptions): Promise<boolean> {
    return invoke(options, (call) => this.#native.isInstalled(call))
  }

  async hasPreBundled(options?: api.CallOptions): Promise<boolean> {
    return invoke(options, (call) => this.#native.hasPreBundled(call))
  }

  async isRunning(options?: api.CallOptions): Promise<boolean> {
    return invoke(options, (call) => this.#native.isRunning(call))
  }

  async getStatus(options?: api.CallOptions): Promise<api.LimaStatus> {
    return withDates(JSON.parse(await invoke(options, (call) => this.#native.status(call))))
  }

  async getVMInfo(options?: api.CallOptions): Promise<api.VmInfo> {
    return JSON.parse(await invoke(options, (call) => this.#native.info(call)))
  }

  async initialize(p?: api.Progress): Promise<void> {
    await this.#runWithProgress(p, (report, call) => this.#native.initialize(report, call))
  }

  async install(p?: api.Progress & { repair?: boolean | undefined }): Promise<void> {
    await this.#runWithProgress(p, (report, call) => this.#native.install(report, call))
  }

  async start(p?: api.Progress): Promise<void> {
    await this.#runWithProgress(p, (report, call) => this.#native.start(report, call))
  }

  async stop(p?: api.Progress): Promise<void> {
    await this.#runWithProgress(p, (report, call) => this.#native.stop(report, call))
  }

  async restart(p?: api.Progress): Promise<void> {
    await this.#runWithProgress(p, (report, call) => this.#native.restart(report, call))
  }

  async delete(p?: api.Progress & { keepData?: boolean | undefined }): Promise<void> {
    await this.#runWithProgress(p, (report, call) => this.#native.delete(report, call))
  }

  async factoryReset(p?: api.Progress & { keepData?: boolean | undefined }): Promise<void> {
    await this.#runWithProgress(p, (report, call) => this.#native.factoryReset(report, call))
  }

  async upgrade(p?: api.Progress & { copy?: 'auto' | 'always' | 'never' | undefined }): Promise<void> {
    await this.#runWithProgress(p, (report, call) => this.#native.upgrade(report, call))
  }

  async rollback(p?: api.Progress): Promise<void> {
    await this.#runWithProgress(p, (report, call) => this.#native.rollback(report, call))
  }

  async bake(p: api.Progress & { output: string; url?: string | undefined }): Promise<api.BakedImage> {
    return JSON.parse(await this.#runWithProgress(p, (report, call) => this.#native.bake(report, call)))
  }

  async discardPrevious(options?: api.CallOptions): Promise<void> {
    await invoke(options, (call) => this.#native.discardPrevious(call))
  }

  async configure(
    resources: Partial<api.VmResources>,
    options?: api.CallOptions,
  ): Promise<{ restartRequired: boolean }> {
    return JSON.parse(await invoke(options, (call) => this.#native.configure(json('resources', resources), call)))
  }

  notifySuspend(): void {
    // The host sleeps soon, whatever the result.
    void this.#native.suspend().catch(() => {})
  }

  async notifyResume(p?: api.Progress): Promise<void> {
    await this.#runWithProgress(p, (report, call) => this.#native.resume(report, call))
  }

  async diagnose(options?: api.CallOptions): Promise<api.DiagnosticCheck[]> {
    return JSON.parse(await invoke(options, (call) => this.#native.diagnose(call)))
  }

  async collectDiagnostics(path: string, options?: api.CallOptions): Promise<string> {
    return invoke(options, (call) => this.#native.collectDiagnostics(string('path', path), call))
  }

  async execNerdctl(args: string[], options?: api.NerdctlOptions): Promise<string> {
    return execProgram(this.#native, 'containerd', args, options)
  }

  async execDocker(args: string[], options?: api.NerdctlOptions): Promise<string> {
    return execProgram(this.#native, 'docker', args, options)
  }

  async registerDockerContext(options?: api.DockerContextOptions): Promise<void> {
    await invoke(options, (call) => this.#native.registerDockerContext(call))
  }

  async unregisterDockerContext(options?: Omit<api.DockerContextOptions, 'use'>): Promise<void> {
    await invoke(options, (call) => this.#native.unregisterDockerContext(call))
  }

  /** Runs a call that reports progress to its caller and to listeners, and may change the VM's state. */
  async #runWithProgress<T>(
    p: api.Progress | undefined,
    run: (report: (event: string) => void, call: NativeCall) => Promise<T>,
  ): Promise<T> {
    const { options, report } = progress(p)
    const listener = callback<api.RuntimeProgress>('progress', (event) => this.#tell(event))
    const both = (text: string) => {
      report?.(text)
      listener?.(text)
    }
    let failed = true
    try {
      const result = await invokeAndWarn(options, (call) => run(both, call))
      failed = false
      return result
    } finally {
      const refreshed = this.#refreshState()
      // A caller that gave up does not wait for this.
      if (!failed) await refreshed
    }
  }

  #tell(event: api.RuntimeProgress): void {
    const state = STATE_DURING[event.phase]
    if (state) this.#emitState({ state })
    this.emit('progress', event)
  }

  async #refreshState(): Promise<void> {
    if (this.listenerCount('state') === 0) return
    const status = await this.getStatus().catch(() => undefined)
    if (status) callback<api.LimaStatus>('state', (s) => this.#emitState(withDates(s)))?.(JSON.stringify(status))
  }

  #emitState(status: api.LimaStatus): void {
    if (status.state === this.#state) return
    this.#state = status.state
    this.emit('state', status)
  }

  async uninstall(options?: api.UninstallOptions): Promise<void> {
    await invoke(options, (call) => this.#native.uninstall(call))
    await this.#refreshState()
  }

  getLimactlPath(): string {
    return this.#path('limactl')
  }

  getLimaPath(): string {
    return this.#path('lima')
  }

  getNerdctlPath(): string {
    return this.#path('nerdctl', 'containerd')
  }

  getContainerdSocketPath(): string {
    return this.#path('containerdSocket', 'containerd')
  }

  getDockerPath(): string {
    return this.#path('docker', 'docker')
  }

  getDockerSocketPath(): string {
    return this.#path('dockerSocket', 'docker')
  }

  #path(name: keyof Paths, engine?: api.UserEngine): string {
    if (engine) callSync(() => this.#native.mustHave(JSON.stringify(engine)))
    return (JSON.parse(callSync(() => this.#native.paths())) as Paths)[name]
  }
}
