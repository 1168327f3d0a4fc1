/**
 * The preload script's half. It imports nothing, of Electron neither, and works with `contextIsolation` and `sandbox`; a
 * sandboxed preload script has to be bundled, as Electron wants it.
 *
 * @example
 * ```ts
 * import { contextBridge, ipcRenderer } from 'electron'
 * import { exposeRuntime } from 'lima-runtime/electron/preload'
 *
 * exposeRuntime(contextBridge, ipcRenderer)
 * ```
 *
 * And for the page's types:
 *
 * ```ts
 * import type { RuntimeApi } from 'lima-runtime/electron/preload'
 *
 * declare global {
 *   interface Window { kai: RuntimeApi }
 * }
 * ```
 *
 * @packageDocumentation
 */
import type {
  ContainerConfig,
  ContainerDetails,
  ContainerInfo,
  ContainerStats,
  DiskUsage,
  ImageInfo,
  ManagerStatus,
  NetworkInfo,
  PruneResult,
  PullProgress,
  RuntimeChange,
  RuntimeDetection,
  RuntimeErrorCode,
  RuntimeErrorDetails,
  RuntimeEvent,
  RuntimeProgress,
  RuntimeType,
  SystemInfo,
  VolumeInfo,
} from 'lima-runtime'

/** Electron's `contextBridge`, as far as it is used. */
export interface ContextBridge {
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  exposeInMainWorld(key: string, api: any): void
}

/** Electron's `ipcRenderer`, as far as it is used. */
export interface IpcRenderer {
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  invoke(channel: string, ...args: any[]): Promise<any>
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  send(channel: string, ...args: any[]): void
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  on(channel: string, listener: (event: any, ...args: any[]) => void): unknown
}

/**
 * What a promise of `window.kai` rejects with: a plain object, because the bridge would strip an Error of its code. Paths of
 * this computer, logs and programs' words are left out, unless the app lets them cross (`allow.diagnostics`).
 */
export interface RuntimeApiError {
  name: 'RuntimeError'
  code: RuntimeErrorCode
  message: string
  /** Ready to show: what the person can do. */
  hint?: string
  details: RuntimeErrorDetails
}

/** What every call takes. Functions cross the bridge, an `AbortSignal` does not. */
export interface ApiCall {
  /** As everywhere: milliseconds until the call ends with `TIMEOUT`. */
  timeoutMs?: number
  /** Called at once with what cancels this call; it then ends with `ABORTED`. */
  onCancel?: (cancel: () => void) => void
}

/** What starting and switching take. */
export interface ApiProgress extends ApiCall {
  onProgress?: (progress: RuntimeProgress) => void
}

/** Ends what a window watches. */
export type Close = () => void
/** Called when it ends by itself, with the error where there was one. */
export type OnEnd = (error?: RuntimeApiError) => void

/**
 * `window.kai`. The methods are those of `ContainerManager` and its adapter; what may be missing is said there. They reach
 * what is the app's own; what more they may do the app decides (`allow` of `registerRuntimeIpc`), else it is
 * `PERMISSION_DENIED`.
 */
export interface RuntimeApi {
  runtime: {
    /** Brings the runtime up; with starts of other windows it is one start. Downloads need `allow.download`. */
    start(options?: ApiProgress): Promise<void>
    switch(type: RuntimeType, options?: ApiProgress): Promise<void>
    stop(options?: ApiProgress): Promise<void>
    detect(options?: ApiCall): Promise<RuntimeDetection>
    status(): Promise<ApiStatus>
    isAvailable(options?: ApiCall): Promise<boolean>
    /** The present state comes at once, and every one after it. */
    on(event: 'state', listener: (status: ApiStatus) => void): Promise<Close>
    on(event: 'progress', listener: (progress: RuntimeProgress) => void): Promise<Close>
    on(event: 'runtime-changed', listener: (change: RuntimeChange) => void): Promise<Close>
  }
  container: {
    /**
     * Host paths in `volumes` need the app's permission (`allow.hostPath`), as do ports on other addresses than loopback
     * (`allow.publish`); a port without an address is one of 127.0.0.1. Networks are the app's own bridges and the
     * engine's default one. A missing image is pulled without this user's credentials (`allow.credentials`).
     */
    start(config: ContainerConfig, options?: ApiCall): Promise<string>
    stop(id: string, timeout?: number, options?: ApiCall): Promise<void>
    restart(id: string, timeout?: number, options?: ApiCall): Promise<void>
    remove(id: string, force?: boolean, options?: ApiCall): Promise<void>
    kill(id: string, signal?: string, options?: ApiCall): Promise<void>
    pause(id: string, options?: ApiCall): Promise<void>
    unpause(id: string, options?: ApiCall): Promise<void>
    wait(id: string, options?: ApiCall): Promise<{ exitCode: number }>
    inspect(id: string, options?: ApiCall): Promise<ContainerInfo>
    details(id: string, options?: ApiCall): Promise<ApiDetails>
    list(options?: ApiCall & { all?: boolean; filters?: Record<string, string[]> }): Promise<ContainerInfo[]>
    stats(id: string, options?: ApiCall): Promise<ContainerStats>
    /** Needs the app's permission (`allow.exec`). */
    exec(
      id: string,
      argv: string[],
      options?: ApiCall & { env?: Record<string, string>; workdir?: string; user?: string; input?: string },
    ): Promise<{ exitCode: number; stdout: Uint8Array; stderr: Uint8Array }>
    /** The log as text. It is read as fast as `listener` returns. */
    logs(
      id: string,
      options: {
        follow?: boolean
        tail?: number
        since?: number
        timestamps?: boolean
        stdout?: boolean
        stderr?: boolean
      },
      listener: (text: string) => void,
      onEnd?: OnEnd,
    ): Promise<Close>
    /** About once a second. */
    watchStats(id: string, listener: (stats: ContainerStats) => void, onEnd?: OnEnd): Promise<Close>
  }
  image: {
    /** Without `auth` by anybody's right, unless the app lets it use this user's (`allow.credentials`). */
    pull(
      name: string,
      options?: ApiCall & {
        onProgress?: (progress: PullProgress) => void
        platform?: string
        auth?: { username: string; password: string }
      },
    ): Promise<void>
    /** On an engine that is not the app's own, `list` and `remove` need `allow.images`; `tag` needs it on any. */
    list(options?: ApiCall): Promise<ImageInfo[]>
    remove(id: string, force?: boolean, options?: ApiCall): Promise<void>
    exists(name: string, options?: ApiCall): Promise<boolean>
    tag(source: string, target: string, options?: ApiCall): Promise<void>
  }
  network: {
    /** Of the driver `bridge`. */
    create(
      name: string,
      options?: ApiCall & { driver?: string; internal?: boolean; attachable?: boolean },
    ): Promise<string>
    remove(id: string, options?: ApiCall): Promise<void>
    list(options?: ApiCall): Promise<NetworkInfo[]>
    connect(containerId: string, networkId: string, options?: ApiCall): Promise<void>
    disconnect(containerId: string, networkId: string, options?: ApiCall): Promise<void>
  }
  volume: {
    create(name: string, options?: ApiCall & { driver?: string; labels?: Record<string, string> }): Promise<string>
    remove(name: string, force?: boolean, options?: ApiCall): Promise<void>
    list(options?: ApiCall): Promise<ApiVolume[]>
  }
  system: {
    info(options?: ApiCall): Promise<SystemInfo>
    diskUsage(options?: ApiCall): Promise<DiskUsage>
    /** Of the app's own; of images, dangling ones on an engine that is the app's. */
    prune(
      options?: ApiCall & { containers?: boolean; images?: boolean; volumes?: boolean; networks?: boolean },
    ): Promise<PruneResult>
    events(
      options: { since?: number; until?: number; filters?: Record<string, string[]> },
      listener: (event: RuntimeEvent) => void,
      onEnd?: OnEnd,
    ): Promise<Close>
  }
}

/** `raw` where the app lets it (`allow.diagnostics`). */
export interface ApiDetails extends Omit<ContainerDetails, 'raw'> {
  raw?: unknown
}

/** `mountpoint` where the app lets it (`allow.diagnostics`). */
export interface ApiVolume extends Omit<VolumeInfo, 'mountpoint'> {
  mountpoint?: string
}

/** A `ManagerStatus` as it crosses. */
export interface ApiStatus extends Omit<ManagerStatus, 'error'> {
  error?: RuntimeApiError
}

/** Gives the page `window.kai`, or what `key` names. */
export declare function exposeRuntime(contextBridge: ContextBridge, ipcRenderer: IpcRenderer, key?: string): void
