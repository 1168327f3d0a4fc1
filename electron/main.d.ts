/**
 * The main process's half of a container runtime in an Electron app. It imports nothing of Electron: it takes its objects.
 *
 * @example
 * ```ts
 * import { app, ipcMain, powerMonitor } from 'electron'
 * import { ContainerManager } from 'lima-runtime'
 * import { manageLifecycle, registerRuntimeIpc } from 'lima-runtime/electron/main'
 *
 * const manager = new ContainerManager({ appName: 'my-app', installIfMissing: true })
 * registerRuntimeIpc(ipcMain, manager)
 * manageLifecycle(app, powerMonitor, manager)
 * ```
 *
 * @packageDocumentation
 */
import type { ContainerConfig, ContainerManager } from 'lima-runtime'

// ---- What is needed of Electron -------------------------------------------------------------------------------------

/** Electron's `WebContents`, as far as it is used. */
export interface WebContents {
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  send(channel: string, ...args: any[]): void
  isDestroyed(): boolean
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  on(event: any, listener: (...args: any[]) => void): unknown
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  removeListener(event: any, listener: (...args: any[]) => void): unknown
}

/** Electron's `IpcMainInvokeEvent`, as far as it is used. */
export interface IpcEvent {
  sender: WebContents
  senderFrame?: { readonly url: string; readonly parent: unknown } | null
}

/** Electron's `ipcMain`, as far as it is used. */
export interface IpcMain {
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  handle(channel: string, listener: (event: any, ...args: any[]) => unknown): void
  removeHandler(channel: string): void
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  on(channel: string, listener: (event: any, ...args: any[]) => void): unknown
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  removeListener(channel: string, listener: (...args: any[]) => void): unknown
}

/** Electron's `app`, as far as it is used. */
export interface App {
  whenReady(): Promise<void>
  quit(): void
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  on(event: any, listener: (...args: any[]) => void): unknown
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  removeListener(event: any, listener: (...args: any[]) => void): unknown
}

/** Electron's `powerMonitor`, as far as it is used. */
export interface PowerMonitor {
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  on(event: any, listener: (...args: any[]) => void): unknown
  // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
  removeListener(event: any, listener: (...args: any[]) => void): unknown
}

// ---- Serving windows ------------------------------------------------------------------------------------------------

/**
 * What windows may do beyond the harmless. Each is asked every time; absent, or any answer but `true`, means no
 * (`PERMISSION_DENIED`).
 */
export interface Allow {
  /** Whether this window may use the runtime at all; look at `event.senderFrame.url`. Default: every main frame may. */
  sender?(event: IpcEvent): boolean
  /** Whether a container may mount a path of the host; volumes by name need no permission. */
  hostPath?(request: {
    path: string
    readOnly: boolean
    config: ContainerConfig
    event: IpcEvent
  }): boolean | Promise<boolean>
  /** Whether a program may be run in a container. */
  exec?(request: { container: string; argv: string[]; event: IpcEvent }): boolean | Promise<boolean>
}

/**
 * Serves the windows whose preload script called `exposeRuntime`.
 *
 * A window is not trusted. Arguments are checked, and more than 1 MB is refused; nothing can be reached but the methods of
 * `RuntimeApi` (no program of the host, no archive, no uninstallation, no host network, no pruning of what is not the
 * app's). What a window watches (logs, stats, events, the state) ends when it is closed, crashes or loads another page;
 * what it asked to be done (a start, a pull) goes on. A log is read as fast as the window takes it.
 *
 * Starts of several windows are one start. It ends when the last window that waits for it cancels, also when the app
 * began it by itself.
 *
 * @returns Takes everything back.
 */
export declare function registerRuntimeIpc(
  ipcMain: IpcMain,
  manager: ContainerManager,
  options?: { allow?: Allow },
): () => void

// ---- The app's life -------------------------------------------------------------------------------------------------

export interface LifecycleOptions {
  /** Brings the runtime up when the app is ready. Default: true. */
  startOnLaunch?: boolean
  /** Stops the runtime, where it is ours, when the app quits. Default: true. */
  stopOnQuit?: boolean
  /** Milliseconds that stopping may hold up the app's end. What is not done by then the next start repairs. Default: 10 s. */
  quitDeadlineMs?: number
}

export interface Lifecycle {
  /** Whether the start on launch succeeded; never rejects, the manager's status says why not. */
  started: Promise<boolean>
  /** Takes the listeners back. */
  dispose(): void
}

/**
 * Starts the runtime with the app, tells it when the machine sleeps and wakes, and ends it with the app: a start that is
 * under way is ended first.
 */
export declare function manageLifecycle(
  app: App,
  powerMonitor: PowerMonitor,
  manager: ContainerManager,
  options?: LifecycleOptions,
): Lifecycle
