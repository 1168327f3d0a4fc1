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
 * registerRuntimeIpc(ipcMain, manager, { allow: { download: () => true } })
 * manageLifecycle(app, powerMonitor, manager)
 * ```
 *
 * @packageDocumentation
 */
import type { ContainerConfig, ContainerManager, RuntimeType } from 'lima-runtime'

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

/** An answer of the app's. Anything but `true`, a rejection included, is a no. */
export type Word = boolean | Promise<boolean>

/**
 * What windows may do beyond the harmless. Each is asked every time, with the window's `event`; absent, it means no
 * (`PERMISSION_DENIED`), but for `sender` and `useImage`, which only narrow. Each says the worst that a yes brings.
 */
export interface Allow {
  /**
   * Whether this window may use the runtime at all; look at the whole of `event.senderFrame.url`. Default: every main
   * frame may. The worst: a page from elsewhere starts and removes containers, and reads the environment of the app's.
   */
  sender?(event: IpcEvent): boolean

  /**
   * Whether a container may mount a path of this computer; volumes by name need no permission. `path` is where the
   * window's leads: absolute, without `.`, `..` and links, and this path is what is mounted. The worst: a container is
   * root, and with a path that is writable, or a socket of an engine, it has all that the engine has.
   *
   * Whoever may write to a directory can put a link into it between the question and the mount: below a directory that a
   * container may write to, allow nothing but the directory itself.
   */
  hostPath?(request: { path: string; readOnly: boolean; config: ContainerConfig; event: IpcEvent }): Word

  /**
   * Whether a program may be run in a container, by its full id and its name. The worst: as any user there, with what
   * the container has mounted and knows.
   */
  exec?(request: { container: string; name: string; argv: string[]; options: WindowExec; event: IpcEvent }): Word

  /**
   * Whether a port may be published on another address than loopback. Without `address` the window leaves it to the
   * engine: all addresses on Docker and a system's containerd; a no makes 127.0.0.1 of it. The worst: everybody on the
   * network reaches the container, past the firewall where the engine is Docker on Linux.
   */
  publish?(request: {
    /** As in `ports`: `'80'`, `'53/udp'`. */
    containerPort: string
    hostPort: string
    address?: string | undefined
    config: ContainerConfig
    event: IpcEvent
  }): Word

  /**
   * Whether a pull without `auth` of its own may use the registry credentials that this user has stored. A no makes it
   * anonymous. The worst: the window runs, and so reads, the user's private images.
   */
  credentials?(request: { image: string; event: IpcEvent }): Word

  /** Whether a start or a switch may download a runtime. The worst: hundreds of megabytes and the disk's space. */
  download?(request: { runtime: RuntimeType; event: IpcEvent }): Word

  /**
   * Whether containers may be made of an image, or it may be pulled. Default: any. The worst: on the user's Docker any
   * image there is, with the files in it, and any registry that the engine reaches, also one of this network.
   */
  useImage?(request: { action: 'start' | 'pull'; image: string; event: IpcEvent }): Word

  /**
   * Whether images may be listed or removed on an engine that is not the app's own, and named on any; `image` is what the
   * window calls it, a name or an id. The worst: the user's images are lost; the app starts what the window has given the
   * name of its image, with the app's rights.
   */
  images?(request: {
    action: 'list' | 'remove' | 'tag'
    image?: string
    /** The new name. */
    target?: string
    event: IpcEvent
  }): Word

  /**
   * Whether a call of `container`, `network`, `volume` or `system` reaches what is not the app's, too: `method` is
   * `'container.list'` or the like. For an app that manages all of an engine. The worst: reads other programs'
   * secrets, and removes their containers and data.
   */
  foreign?(request: { method: string; event: IpcEvent }): Word

  /**
   * Whether a window is told of this computer: paths and sockets, logs and programs' words in errors and answers, an
   * engine's raw answer, a volume's place. The worst: it learns the user's name, and what a log holds.
   */
  diagnostics?(request: { event: IpcEvent }): Word
}

/** What a window's `exec` asks for beside the program. */
export interface WindowExec {
  env?: Record<string, string>
  workdir?: string
  user?: string
  input?: string
}

/**
 * Serves the windows whose preload script called `exposeRuntime`.
 *
 * A window is not trusted. Arguments are checked, and more than 1 MB or 10,000 values refused; nothing can be reached but
 * the methods of `RuntimeApi` (no program of the host, no archive, no uninstallation), and of the engine nothing but what
 * carries the app's label: see `ContainerAdapter.restricted`.
 *
 * What a page watches or waits for (logs, stats, events, the state, `wait`, `exec`, lists) ends when the window is closed,
 * crashes or loads another page; what it asked to be done (a start, a pull) goes on, for 30 minutes at most. 256 calls of
 * one window may be under way, those of its earlier pages included. A log is read as fast as the window takes it.
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
