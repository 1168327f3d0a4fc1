/**
 * The main process's half of a container runtime in an Electron app. It imports no Electron; it takes Electron's
 * objects.
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
 * @module lima-runtime/electron/main
 */
import type {
  BuildOptions,
  ComposeDownOptions,
  ComposeUpOptions,
  ContainerConfig,
  ContainerManager,
  RuntimeType,
} from 'lima-runtime'

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

/** An answer of the app. Anything but `true`, a rejection included, means no. */
export type Word = boolean | Promise<boolean>

/**
 * Permissions of windows. Each function is called for every request, with the window's `event`. A missing one means no
 * (`PERMISSION_DENIED`), except `sender` and `useImage`, which only restrict. "The worst" says what a yes may lead to.
 */
export interface Allow {
  /**
   * Whether this window may use the runtime at all; look at the whole of `event.senderFrame.url`. Default: every main
   * frame may. The worst: a page from elsewhere starts and removes containers, and reads the environment of the app's.
   */
  sender?(event: IpcEvent): boolean

  /**
   * Whether a container may mount a path of this computer; named volumes need no permission. `path` is the real path of
   * what the window asked for, absolute, without `.`, `..` and links; exactly this path is mounted. The engine's own
   * socket is `/var/run/docker.sock` by any of its names. The worst: a container is root, and with a writable path, or with
   * a socket of an engine in it, read-only or not, it can do all that the engine can. Where the engine is the application's
   * own, a path that holds its data directory, or lies in it, is refused whatever is answered.
   *
   * Whoever may write to a directory can replace part of a path by a link after the question: below a directory that a
   * container may write to, allow only the directory itself.
   */
  hostPath?(request: { path: string; readOnly: boolean; config: ContainerConfig; event: IpcEvent }): Word

  /**
   * Whether a container may have powers beyond itself: `privileged devices gpus capAdd securityOpt runtime sysctls logging
   * annotations`, a `networkMode`, `pidMode` or `ipcMode` of the machine's or of another container (of the app's own), a negative
   * `resources.oomScoreAdj`, `ulimits` of `nice` and `rtprio`, `mounts` with a propagation. `powers` names those of `config`.
   * The worst: the container is root on the engine's machine.
   */
  powers?(request: { powers: (keyof ContainerConfig)[]; config: ContainerConfig; event: IpcEvent }): Word

  /**
   * Whether a program may run in a container, given by its full id and its name; or, with the action `'attach'` and an
   * empty `argv`, whether the window may hear, signal and write to the container's own process. The worst: it runs as any
   * user there, with the container's mounts and secrets. No window can ask for `privileged`.
   */
  exec?(request: {
    action: 'exec' | 'spawn' | 'attach'
    container: string
    name: string
    argv: string[]
    options: WindowExec
    event: IpcEvent
  }): Word

  /**
   * Whether files may be copied from this computer into a container (`in`), or out of it (`out`). `path` is the real path of
   * what the window asked for, as for `hostPath`, and is what is read, or the directory that is written to; nothing there is
   * replaced. The worst: the window reads the file `path`, or all below it; or it places files of its own there.
   */
  copy?(request: {
    direction: 'in' | 'out'
    container: string
    name: string
    containerPath: string
    path: string
    event: IpcEvent
  }): Word

  /**
   * Whether an image may be built of a directory of this computer. `directory` is the real path of what the window asked for, as
   * for `hostPath`; links in it are sent as links. `options` are the window's, without its secrets; `tags` are the names that
   * the image takes, from other images, too. The worst: the window reads all below the directory; programs of its choice run, of
   * any image there and of any registry (`useImage` is not asked); they and `ADD` reach the network of the engine's machine, its
   * loopback included, and with a `# syntax=` of their own the caches of others' builds; the app starts the window's image by its
   * own image's name.
   */
  build?(request: { directory: string; options: WindowBuild; event: IpcEvent }): Word

  /**
   * Whether a project of compose may be brought up, taken down or listed. `project` is the real path of the file that the window
   * asked for, as for `hostPath`, or its object; `options` are the window's. The project is not looked at: whoever may write its file
   * or make the object has all that the engine has. The worst: any program as root on the engine's machine, with any of its files,
   * the application's own engine included; any file that the application can read reaches a container; other projects' containers
   * and volumes are replaced or removed by their names; the user's registry credentials fetch its images; the first one on a
   * Docker engine of the application's own downloads docker compose, whatever `download` answers. Say yes to files that the
   * application itself ships.
   */
  compose?(request: {
    action: 'up' | 'down' | 'ps'
    project: string | object
    options: WindowCompose
    event: IpcEvent
  }): Word

  /**
   * Whether a port may be published on an address other than loopback. Without `address` the engine would choose: all
   * addresses on Docker and the system's containerd; then a no means 127.0.0.1. The worst: everybody on the network
   * reaches the container, past the firewall where the engine is Docker on Linux.
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
   * Whether a pull or a push without its own `auth` may use this user's stored registry credentials. A no makes it anonymous. The
   * worst: the window runs, and so reads, the user's private images.
   */
  credentials?(request: { image: string; event: IpcEvent }): Word

  /** Whether a start or a switch may download a runtime. The worst: hundreds of megabytes and the disk's space. */
  download?(request: { runtime: RuntimeType; event: IpcEvent }): Word

  /**
   * Whether an image may be started or pulled. Default: any. The worst: on the user's Docker any image there, with its
   * files, and any registry that the engine reaches, also in this network.
   */
  useImage?(request: { action: 'start' | 'pull'; image: string; event: IpcEvent }): Word

  /**
   * Whether images may be listed, inspected or removed on an engine that is not the app's own, and on any be tagged, pushed
   * to the registry of their name, or made of a container (`commit`); `image` is what the window calls it, a name or an id,
   * and of a commit the container's name. The worst: the user loses images, or somebody's registry gets them; the app starts
   * the window's image by its own image's name, with the app's rights.
   */
  images?(request: {
    action: 'list' | 'inspect' | 'remove' | 'tag' | 'push' | 'commit'
    image?: string
    /** The new name. */
    target?: string
    event: IpcEvent
  }): Word

  /**
   * Whether a call of `container`, `network`, `volume` or `system` also reaches what is not the app's: `method` is
   * `'container.list'` or the like. For an app that manages a whole engine. The worst: the window reads other programs'
   * secrets, and removes their containers and data.
   */
  foreign?(request: { method: string; event: IpcEvent }): Word

  /**
   * Whether a window is told about this computer: paths and sockets, logs and programs' messages in errors and answers,
   * an engine's raw answer, a volume's mountpoint. The worst: it learns the user's name and what a log holds.
   */
  diagnostics?(request: { event: IpcEvent }): Word
}

/** A window's options for `build`. */
export interface WindowBuild
  extends Pick<
    BuildOptions,
    'dockerfile' | 'tags' | 'args' | 'target' | 'platform' | 'labels' | 'cacheFrom' | 'noCache' | 'pull'
  > {}

/** A window's options for projects of compose. */
export interface WindowCompose
  extends Pick<
      ComposeUpOptions,
      'projectName' | 'env' | 'profiles' | 'services' | 'pull' | 'build' | 'wait' | 'removeOrphans'
    >,
    Pick<ComposeDownOptions, 'volumes'> {}

/** A window's options for `exec`, `spawn` and `attach`. */
export interface WindowExec {
  tty?: boolean
  columns?: number
  rows?: number
  stdin?: boolean
  logs?: boolean
  env?: Record<string, string>
  workdir?: string
  user?: string
  input?: string
}

/**
 * Serves the windows whose preload script called `exposeRuntime`.
 *
 * A window is not trusted. Arguments are checked; more than 1 MB or 10,000 values are refused. A window reaches only
 * the methods of `RuntimeApi` (no program of the host, no archive, no uninstallation), and of the engine only what
 * carries the app's label: see `ContainerAdapter.restricted`.
 *
 * What a page watches or waits for (logs, stats, events, the state, processes, `wait`, `exec`, lists) ends when the window is
 * closed, crashes or navigates. What it asked to be done (a start, a pull) continues, for 30 minutes at most. A window
 * may have 256 calls at a time, those of its earlier pages included. A log and a process are read as fast as
 * the window takes it.
 *
 * Starts of several windows are one start. It ends when the last window that waits for it cancels, even if the app
 * itself began it.
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
  /** Starts the runtime when the app is ready. Default: true. */
  startOnLaunch?: boolean
  /** Stops the runtime, if it is the app's own, when the app quits. Default: true. */
  stopOnQuit?: boolean
  /**
   * Milliseconds that stopping may delay the app's end. The next start repairs what was not finished. Default: 10 s.
   */
  quitDeadlineMs?: number
}

export interface Lifecycle {
  /** Whether the start on launch succeeded. Never rejects; the manager's status has the error. */
  started: Promise<boolean>
  /** Removes the listeners. */
  dispose(): void
}

/**
 * Starts the runtime with the app, tells it when the machine sleeps and wakes, and stops it with the app; a start under
 * way is ended first.
 */
export declare function manageLifecycle(
  app: App,
  powerMonitor: PowerMonitor,
  manager: ContainerManager,
  options?: LifecycleOptions,
): Lifecycle
