import type * as api from '../index'
import { dated, execProgram, invoke, invokeAndWarn, json, type NativeCall, progress } from './call'
import { callSync } from './errors'
import { type Adapter, type BundledManager, native, resourcesPath } from './native'

interface Paths {
  engine: api.UserEngine
  docker: string
  dockerSocket: string
  nerdctl: string
  /** The engine's path for it, where that differs: inside a virtual machine. */
  guestNerdctl?: string
  containerd: string
  address: string
  /** Absent where the engine runs inside already. */
  inside?: string
  dataRoot: string
  cni: string
  networks: string
  buildkit: NonNullable<api.ContainerdAdapterOptions['buildkit']>
}

type Report = ((event: string) => void) | undefined

const natives = new WeakMap<object, { manager: BundledManager; appName?: string | undefined }>()

/** For `BundledContainerAdapter`: the manager's engine. */
export function engineOf(bundled: BundledRuntimeManager): Adapter {
  const { manager, appName } = natives.get(bundled) as { manager: BundledManager; appName?: string }
  const { engine } = JSON.parse(manager.paths()) as Paths
  if (engine === 'docker') return manager.adapter()
  return native.Adapter.containerd(json('options', { ...(appName && { appName }), ...bundled.getAdapterOptions() }))
}

/** Documented in index.d.ts. */
export class BundledRuntimeManager implements api.BundledRuntimeManager {
  readonly #native: BundledManager

  constructor(options?: api.BundledRuntimeOptions) {
    this.#native = callSync(() => new native.BundledManager(json('options', options), resourcesPath))
    natives.set(this, { manager: this.#native, appName: options?.appName })
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

  async initialize(p?: api.Progress): Promise<void> {
    await this.#runWithProgress(p, (report, call) => this.#native.initialize(report, call))
  }

  async install(p?: api.Progress): Promise<void> {
    await this.#runWithProgress(p, (report, call) => this.#native.install(report, call))
  }

  async startDaemon(p?: api.Progress): Promise<void> {
    await this.#runWithProgress(p, (report, call) => this.#native.startDaemon(report, call))
  }

  async stopDaemon(options?: api.CallOptions): Promise<void> {
    await invoke(options, (call) => this.#native.stopDaemon(call))
  }

  async listLeft(options?: api.CallOptions): Promise<(api.ContainerInfo & { own: boolean })[]> {
    return JSON.parse(await invoke(options, (call) => this.#native.left(call))).map(dated)
  }

  async uninstall(options?: api.CallOptions): Promise<void> {
    await invoke(options, (call) => this.#native.uninstall(call))
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

  getDockerPath(): string {
    return this.#paths('docker').docker
  }

  getDockerSocketPath(): string {
    return this.#paths('docker').dockerSocket
  }

  getNerdctlPath(): string {
    return this.#paths('containerd').nerdctl
  }

  getContainerdPath(): string {
    return this.#paths().containerd
  }

  getContainerdAddress(): string {
    return this.#paths('containerd').address
  }

  getAdapterOptions(): api.ContainerdAdapterOptions {
    const { address, nerdctl, guestNerdctl, inside, dataRoot, cni, networks, buildkit } = this.#paths('containerd')
    return {
      address,
      nerdctlPath: guestNerdctl ?? nerdctl,
      dataRoot,
      cniPath: cni,
      cniNetconfPath: networks,
      ...(inside && { insidePath: inside }),
      exclusive: true,
      buildkit,
    }
  }

  async #runWithProgress(
    p: api.Progress | undefined,
    run: (report: Report, call: NativeCall) => Promise<void>,
  ): Promise<void> {
    const { options, report } = progress(p)
    await invokeAndWarn(options, (call) => run(report, call))
  }

  /** Of the engine that has them. */
  #paths(engine?: api.UserEngine): Paths {
    if (engine) callSync(() => this.#native.mustHave(JSON.stringify(engine)))
    return JSON.parse(callSync(() => this.#native.paths()))
  }
}
