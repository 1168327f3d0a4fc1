import type * as api from '../index'
import { invoke, invokeAndWarn, json, type NativeCall, progress } from './call'
import { callSync } from './errors'
import { type BundledManager, native, resourcesPath } from './native'

interface Paths {
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
}

type Report = ((event: string) => void) | undefined

/** Documented in index.d.ts. */
export class BundledRuntimeManager implements api.BundledRuntimeManager {
  readonly #native: BundledManager

  constructor(options?: api.BundledRuntimeOptions) {
    this.#native = callSync(() => new native.BundledManager(json('options', options), resourcesPath))
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

  async uninstall(options?: api.CallOptions): Promise<void> {
    await invoke(options, (call) => this.#native.uninstall(call))
  }

  getNerdctlPath(): string {
    return this.#paths().nerdctl
  }

  getContainerdPath(): string {
    return this.#paths().containerd
  }

  getContainerdAddress(): string {
    return this.#paths().address
  }

  getAdapterOptions(): api.ContainerdAdapterOptions {
    const { address, nerdctl, guestNerdctl, inside, dataRoot, cni, networks } = this.#paths()
    return {
      address,
      nerdctlPath: guestNerdctl ?? nerdctl,
      dataRoot,
      cniPath: cni,
      cniNetconfPath: networks,
      ...(inside && { insidePath: inside }),
      exclusive: true,
    }
  }

  async #runWithProgress(
    p: api.Progress | undefined,
    run: (report: Report, call: NativeCall) => Promise<void>,
  ): Promise<void> {
    const { options, report } = progress(p)
    await invokeAndWarn(options, (call) => run(report, call))
  }

  #paths(): Paths {
    return JSON.parse(callSync(() => this.#native.paths()))
  }
}
