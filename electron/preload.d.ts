/**
 * The preload script's half. It imports nothing, not even Electron, and works with `contextIsolation` and `sandbox`; a
 * sandboxed preload script must be bundled.
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
 * @module lima-runtime/electron/preload
 */
import type {
  BuildProgress,
  ComposeContainer,
  ComposeProgress,
  ContainerConfig,
  ContainerDetails,
  ContainerInfo,
  ContainerStats,
  ContainerUpdate,
  DiskUsage,
  ImageDetails,
  ImageHistoryEntry,
  ImageInfo,
  ManagerStatus,
  NetworkDetails,
  NetworkInfo,
  ProcessList,
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
  VolumeDetails,
  VolumeInfo,
} from 'lima-runtime'
import type { WindowBuild, WindowCompose } from './main'

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
 * What a promise of `window.kai` rejects with: a plain object, because the bridge strips an Error's code. It holds no
 * paths of this computer, logs or programs' messages, unless the app allows it (`allow.diagnostics`).
 */
export interface RuntimeApiError {
  name: 'RuntimeError'
  code: RuntimeErrorCode
  message: string
  /** Ready to show: what the person can do. */
  hint?: string
  details: RuntimeErrorDetails
}

/** Options of every call. Functions cross the bridge, an `AbortSignal` does not. */
export interface ApiCall {
  /** Milliseconds until the call ends with `TIMEOUT`. */
  timeoutMs?: number
  /** Called at once with the function that cancels this call; it then ends with `ABORTED`. */
  onCancel?: (cancel: () => void) => void
}

/** Options of starting and switching. */
export interface ApiProgress extends ApiCall {
  onProgress?: (progress: RuntimeProgress) => void
}

/** Stops watching. */
export type Close = () => void
/** Called when the stream ends by itself, with the error if there was one. */
export type OnEnd = (error?: RuntimeApiError) => void

/**
 * `window.kai`. Its methods are those of `ContainerManager` and its adapter, documented there. They reach what is the
 * app's own; the app may permit more (`allow` of `registerRuntimeIpc`), else they reject with `PERMISSION_DENIED`.
 */
export interface RuntimeApi {
  runtime: {
    /** Starts the runtime; starts of several windows are one start. Downloads need `allow.download`. */
    start(options?: ApiProgress): Promise<void>
    switch(type: RuntimeType, options?: ApiProgress): Promise<void>
    stop(options?: ApiProgress): Promise<void>
    detect(options?: ApiCall): Promise<RuntimeDetection>
    status(): Promise<ApiStatus>
    isAvailable(options?: ApiCall): Promise<boolean>
    /** Reports the current state at once, then every new one. */
    on(event: 'state', listener: (status: ApiStatus) => void): Promise<Close>
    on(event: 'progress', listener: (progress: RuntimeProgress) => void): Promise<Close>
    on(event: 'runtime-changed', listener: (change: RuntimeChange) => void): Promise<Close>
  }
  container: {
    /**
     * Host paths in `volumes` and `mounts` need the app's permission (`allow.hostPath`), as do ports on addresses other than
     * loopback (`allow.publish`); a port without an address is published on 127.0.0.1. Networks are the app's own
     * bridges and the engine's default one. A missing image is pulled without this user's credentials, unless the app
     * allows them (`allow.credentials`). Powers beyond the container need `allow.powers`. With an id, it starts one that is
     * there.
     */
    start(configOrId: ContainerConfig | string, options?: ApiCall): Promise<string>
    /** Makes a container as `start` does, and does not start it. */
    create(config: ContainerConfig, options?: ApiCall): Promise<string>
    update(id: string, changes: ContainerUpdate, options?: ApiCall): Promise<void>
    stop(id: string, timeout?: number, options?: ApiCall): Promise<void>
    restart(id: string, timeout?: number, options?: ApiCall): Promise<void>
    remove(id: string, force?: boolean, options?: ApiCall): Promise<void>
    kill(id: string, signal?: string, options?: ApiCall): Promise<void>
    pause(id: string, options?: ApiCall): Promise<void>
    unpause(id: string, options?: ApiCall): Promise<void>
    rename(id: string, name: string, options?: ApiCall): Promise<void>
    wait(id: string, options: ApiCall & { condition: 'healthy' | 'removed' }): Promise<void>
    wait(id: string, options?: ApiCall & { condition?: 'exited' }): Promise<{ exitCode: number }>
    inspect(id: string, options?: ApiCall): Promise<ContainerInfo>
    details(id: string, options?: ApiCall): Promise<ApiDetails>
    list(options?: ApiCall & { all?: boolean; filters?: Record<string, string[]> }): Promise<ContainerInfo[]>
    stats(id: string, options?: ApiCall): Promise<ContainerStats>
    processes(id: string, options?: ApiCall): Promise<ProcessList>
    /**
     * Needs the app's permission (`allow.exec`). It is read as fast as `listener` returns, or the promise that it returns
     * settles, and ends with its page.
     */
    spawn(
      id: string,
      argv: string[],
      options: {
        timeoutMs?: number
        tty?: boolean
        columns?: number
        rows?: number
        stdin?: boolean
        env?: Record<string, string>
        workdir?: string
        user?: string
      },
      listener: (output: ApiOutput) => void,
    ): Promise<ApiProcess>
    /** As `spawn`, for the container's own process, which the page's end does not end. */
    attach(
      id: string,
      options: { timeoutMs?: number; stdin?: boolean; logs?: boolean },
      listener: (output: ApiOutput) => void,
    ): Promise<ApiProcess>
    /** Needs the app's permission (`allow.exec`). */
    exec(
      id: string,
      argv: string[],
      options?: ApiCall & { env?: Record<string, string>; workdir?: string; user?: string; input?: string },
    ): Promise<{ exitCode: number; stdout: Uint8Array; stderr: Uint8Array }>
    /** Copies a path of this computer into a container. Needs the app's permission (`allow.copy`). */
    copyTo(id: string, path: string, containerPath: string, options?: ApiCall): Promise<void>
    /** Copies out of a container into a directory of this computer. Needs the app's permission (`allow.copy`). */
    copyFrom(id: string, containerPath: string, to: string, options?: ApiCall): Promise<void>
    /** Needs the app's permission (`allow.images`). */
    commit(
      id: string,
      options: ApiCall & { reference: string; message?: string; author?: string; pause?: boolean },
    ): Promise<string>
    /** The log as text. It is read as fast as `listener` returns, or the promise that it returns settles. */
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
    /** All containers, and again after each change. */
    watch(
      options: { filters?: Record<string, string[]> },
      listener: (containers: ContainerInfo[]) => void,
      onEnd?: OnEnd,
    ): Promise<Close>
    /** About once a second. */
    watchStats(id: string, listener: (stats: ContainerStats) => void, onEnd?: OnEnd): Promise<Close>
  }
  image: {
    /** Anonymous without `auth`, unless the app allows this user's credentials (`allow.credentials`). */
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
    /** As `list`. */
    inspect(name: string, options?: ApiCall): Promise<ApiImageDetails>
    /** As `list`. */
    history(name: string, options?: ApiCall): Promise<ImageHistoryEntry[]>
    /** Needs `allow.images` on any engine. Anonymous without `auth`, as a pull. */
    push(
      name: string,
      options?: ApiCall & {
        onProgress?: (progress: PullProgress) => void
        auth?: { username: string; password: string }
      },
    ): Promise<void>
    /** Builds a directory of this computer, by its absolute path. Needs `allow.build`; no registry gets credentials. */
    build(
      directory: string,
      options?: ApiCall &
        WindowBuild & { onProgress?: (progress: BuildProgress) => void; secrets?: Record<string, string> },
    ): Promise<{ id: string }>
  }
  network: {
    /** Only with the driver `bridge`. */
    create(
      name: string,
      options?: ApiCall & {
        driver?: string
        internal?: boolean
        attachable?: boolean
        labels?: Record<string, string>
      },
    ): Promise<string>
    remove(id: string, options?: ApiCall): Promise<void>
    list(options?: ApiCall): Promise<NetworkInfo[]>
    inspect(id: string, options?: ApiCall): Promise<ApiNetworkDetails>
    connect(containerId: string, networkId: string, options?: ApiCall): Promise<void>
    disconnect(containerId: string, networkId: string, options?: ApiCall): Promise<void>
  }
  volume: {
    create(name: string, options?: ApiCall & { driver?: string; labels?: Record<string, string> }): Promise<string>
    remove(name: string, force?: boolean, options?: ApiCall): Promise<void>
    list(options?: ApiCall): Promise<ApiVolume[]>
    inspect(name: string, options?: ApiCall): Promise<ApiVolumeDetails>
  }
  /** Projects of compose, of files by their absolute paths. Each needs `allow.compose`. */
  compose: {
    up(
      project: string | object,
      options?: ApiCall & Omit<WindowCompose, 'volumes'> & { onProgress?: (progress: ComposeProgress) => void },
    ): Promise<void>
    down(
      project: string | object,
      options?: ApiCall &
        Pick<WindowCompose, 'projectName' | 'env' | 'profiles' | 'removeOrphans' | 'volumes'> & {
          onProgress?: (progress: ComposeProgress) => void
        },
    ): Promise<void>
    ps(project: string | object, options?: ApiCall & Pick<WindowCompose, 'projectName'>): Promise<ComposeContainer[]>
  }
  system: {
    info(options?: ApiCall): Promise<SystemInfo>
    diskUsage(options?: ApiCall): Promise<DiskUsage>
    /** Removes only the app's own; of images, dangling ones on an engine that is the app's own. */
    prune(
      options?: ApiCall & { containers?: boolean; images?: boolean; volumes?: boolean; networks?: boolean },
    ): Promise<PruneResult>
    events(
      options: { since?: number; filters?: Record<string, string[]> },
      listener: (event: RuntimeEvent) => void,
      onEnd?: OnEnd,
    ): Promise<Close>
  }
}

/** A piece of what a process prints. */
export interface ApiOutput {
  stream: 'stdout' | 'stderr'
  data: Uint8Array
}

/** A `ContainerProcess` as a window has it. */
export interface ApiProcess {
  /** Resolves when there is room for more: wait for it. At most 1 MB at a time. */
  write(data: string | Uint8Array): Promise<void>
  /** Ends the process's input. */
  end(): Promise<void>
  resize(columns: number, rows: number): Promise<void>
  kill(signal?: string): Promise<void>
  /** Ends a process that was spawned; lets go of one that was attached to. */
  close: Close
  /** Resolves behind the last output. Rejects with a `RuntimeApiError`. */
  exited(): Promise<{ exitCode: number }>
}

/** `raw` is present if the app allows it (`allow.diagnostics`). */
export interface ApiNetworkDetails extends Omit<NetworkDetails, 'raw'> {
  raw?: unknown
}

/** `raw` and `mountpoint` are present if the app allows it (`allow.diagnostics`). */
export interface ApiVolumeDetails extends Omit<VolumeDetails, 'raw' | 'mountpoint'> {
  raw?: unknown
  mountpoint?: string
}

/** `raw` is present if the app allows it (`allow.diagnostics`). */
export interface ApiDetails extends Omit<ContainerDetails, 'raw'> {
  raw?: unknown
}

/** `raw` is present if the app allows it (`allow.diagnostics`). */
export interface ApiImageDetails extends Omit<ImageDetails, 'raw'> {
  raw?: unknown
}

/** `mountpoint` is present if the app allows it (`allow.diagnostics`). */
export interface ApiVolume extends Omit<VolumeInfo, 'mountpoint'> {
  mountpoint?: string
}

/** A `ManagerStatus` as a window gets it. */
export interface ApiStatus extends Omit<ManagerStatus, 'error'> {
  error?: RuntimeApiError
}

/** Exposes the API to the page as `window.kai`, or as `key` names it. */
export declare function exposeRuntime(contextBridge: ContextBridge, ipcRenderer: IpcRenderer, key?: string): void
