/**
 * A container runtime for desktop apps, behind one interface.
 *
 * Conventions, true of everything here:
 *
 * - Every asynchronous method rejects with a {@link RuntimeError}; its `code` says what happened, its `hint` what a
 *   person can do. Bad arguments are found before any engine is asked (`INVALID_ARGUMENT`, `details.field`).
 * - Every method takes `signal` and `timeoutMs` ({@link CallOptions}): in its options object where it has one, else as
 *   the last argument.
 * - Sizes are bytes, ports are numbers in answers and text in requests, and each duration or time names its unit.
 * - Where an id is asked for, a name or an unambiguous id prefix does as well; a name wins over a prefix.
 *
 * @example
 * ```ts
 * import { DockerAdapter } from 'lima-runtime'
 *
 * const docker = new DockerAdapter()
 * await docker.initialize()
 * const id = await docker.startContainer({
 *   name: 'web',
 *   image: 'nginx:alpine',
 *   ports: { '80': '8080' },
 * })
 * for await (const line of await docker.getContainerLogs(id, { tail: 10 })) process.stdout.write(line)
 * await docker.removeContainer(id, true)
 * ```
 *
 * @packageDocumentation
 */

import type { EventEmitter } from 'node:events'
import type { Readable } from 'node:stream'

// ---- Errors ---------------------------------------------------------------------------------------------------------

/**
 * What went wrong, the same for the same situation on every backend.
 *
 * Installing and starting a runtime:
 *
 * - `NOT_INSTALLED`: the runtime asked for is not installed; `hint` says how to get it.
 * - `UNSUPPORTED_PLATFORM`: this operating system, architecture or version cannot run it.
 * - `ROOT_USER`: Lima refuses to run as root.
 * - `PATH_TOO_LONG`: a socket path would be longer than the operating system allows.
 * - `DOWNLOAD_FAILED`: a download ended for good: the server refused, or the retries are used up.
 * - `CHECKSUM_MISMATCH`: the bytes are not the ones the manifest names (`details.expected`, `.actual`). Nothing was
 *   installed.
 * - `ARCHIVE_UNSAFE`: the archive tries to leave its directory, or lies about its contents. Nothing was installed.
 * - `DISK_FULL`: not enough space on the disk.
 * - `LOCKED`: another process holds the lock, and the call's deadline passed.
 * - `VM_BROKEN`: the VM is in a state that repair could not mend.
 * - `VM_START_FAILED`: the VM did not come up.
 * - `VM_NOT_RUNNING`: the call needs a running VM, and there is none (or it stopped under the call).
 * - `CONTAINERD_NOT_READY`: the VM runs, but containerd in it does not answer.
 *
 * Any call:
 *
 * - `TIMEOUT`: the deadline passed (`details.timeoutMs`).
 * - `ABORTED`: the caller's `signal` was aborted; `cause` is its `reason`.
 * - `INVALID_ARGUMENT`: an argument is wrong; `details.field` names it. Found before the engine is asked, unless only the
 *   engine can tell: a program that the image does not have, an address that is not its machine's.
 * - `INVALID_STATE`: the object is in a state that does not allow the call.
 * - `PERMISSION_DENIED`: the operating system refused: a socket, file or directory we may not open. Or we are root, and
 *   another user can change the directory that we would write to.
 * - `ENGINE_UNREACHABLE`: no engine answers at the endpoint.
 * - `TOO_LARGE`: a program's output, or an engine's answer, has more bytes than are kept of it (`details.limit`). The
 *   program has been ended.
 * - `ENGINE_ERROR`: the engine refused for a reason without a code of its own; the message is the engine's.
 * - `INTERNAL`: a bug of this package.
 *
 * Containers, images, networks, volumes:
 *
 * - `CONTAINER_NOT_FOUND`, `IMAGE_NOT_FOUND`, `NETWORK_NOT_FOUND`, `VOLUME_NOT_FOUND`: there is none of that id or
 *   name; the message holds it.
 * - `NAME_IN_USE`: a container or network of that name exists.
 * - `PORT_IN_USE`: the host port is taken; the message names it.
 * - `PORT_NOT_FORWARDED`: never thrown, but the `code` of a warning of the process (`process.on('warning', …)`): a call
 *   ended well, and a port it published does not answer on this computer (yet).
 * - `OUTDATED_VERSION`: never thrown, but the `code` of a warning of the process, once for each: a program is used in a
 *   version that should not be. The message says why.
 * - `ENGINE_WARNING`: never thrown, but the `code` of a warning of the process: a call ended well, and the engine did not do
 *   all that it was asked. The message is the engine's.
 * - `IN_USE`: the image, network or volume is used by a container, or the container is running.
 * - `REGISTRY_AUTH`: the registry wants credentials, or refused the ones it got.
 */
export type RuntimeErrorCode =
  | 'NOT_INSTALLED'
  | 'UNSUPPORTED_PLATFORM'
  | 'ROOT_USER'
  | 'PATH_TOO_LONG'
  | 'DOWNLOAD_FAILED'
  | 'CHECKSUM_MISMATCH'
  | 'ARCHIVE_UNSAFE'
  | 'DISK_FULL'
  | 'LOCKED'
  | 'VM_BROKEN'
  | 'VM_START_FAILED'
  | 'VM_NOT_RUNNING'
  | 'CONTAINERD_NOT_READY'
  | 'TIMEOUT'
  | 'ABORTED'
  | 'CONTAINER_NOT_FOUND'
  | 'IMAGE_NOT_FOUND'
  | 'NETWORK_NOT_FOUND'
  | 'VOLUME_NOT_FOUND'
  | 'NAME_IN_USE'
  | 'PORT_IN_USE'
  | 'PORT_NOT_FORWARDED'
  | 'OUTDATED_VERSION'
  | 'IN_USE'
  | 'INVALID_ARGUMENT'
  | 'INVALID_STATE'
  | 'PERMISSION_DENIED'
  | 'ENGINE_UNREACHABLE'
  | 'REGISTRY_AUTH'
  | 'TOO_LARGE'
  | 'ENGINE_ERROR'
  | 'ENGINE_WARNING'
  | 'INTERNAL'

/** Facts about an error, for a log or a bug report. Which are there depends on the code. */
export interface RuntimeErrorDetails {
  /** The wrong argument, as the caller wrote it: `ports.80`, `volumes[0].host`. */
  field?: string
  /** The deadline that passed, in milliseconds. */
  timeoutMs?: number
  /** A file, directory or socket. */
  path?: string
  /** The exit code of a program that failed. */
  exitCode?: number
  /** What that program wrote to standard error. */
  stderr?: string
  /** The last lines of the log that explains the failure. */
  logTail?: string
  /** What should have been there, for example a SHA-256 in hexadecimal. */
  expected?: string
  /** What was there instead. */
  actual?: string
  [fact: string]: unknown
}

/**
 * Every error of this package. It is the same class for `import` and `require`.
 *
 * @example
 * ```ts
 * try {
 *   await docker.startContainer(config)
 * } catch (error) {
 *   if (error instanceof RuntimeError && error.code === 'PORT_IN_USE') return askForAnotherPort(error.message)
 *   throw error
 * }
 * ```
 */
export declare class RuntimeError extends Error {
  constructor(
    code: RuntimeErrorCode,
    message: string,
    options?: { hint?: string | undefined; details?: RuntimeErrorDetails | undefined; cause?: unknown },
  )
  readonly name: 'RuntimeError'
  /** Stable: code may depend on it. The message may change. */
  readonly code: RuntimeErrorCode
  /** Plain English, ready to show: what the person in front of the screen can do. */
  readonly hint?: string
  readonly details: RuntimeErrorDetails
  /** The error beneath, if any; for `ABORTED` the signal's `reason`. */
  readonly cause?: unknown
}

// ---- Calls and progress ---------------------------------------------------------------------------------------------

/** What every method takes. */
export interface CallOptions {
  /**
   * Ends the call with `ABORTED` within 100 ms. What the call left behind is clean: a container half made is removed,
   * a download can be resumed. A method that returns a stream or an iterator keeps to the signal until that has ended.
   */
  signal?: AbortSignal | undefined
  /**
   * Milliseconds (above 0, at most 2^31 - 1) until the call ends with `TIMEOUT`, in place of the method's own
   * deadline. That is 60 s unless the method says otherwise.
   */
  timeoutMs?: number | undefined
}

/** What installing, starting and stopping a runtime take: a function for plain messages, or an object. */
export type Progress =
  | ((message: string) => void)
  | {
      /** Called at most about ten times a second, and for every new phase. */
      onProgress?: ((progress: RuntimeProgress) => void) | undefined
      signal?: AbortSignal | undefined
      timeoutMs?: number | undefined
    }

/** One event of installing, starting or stopping a runtime. */
export interface RuntimeProgress {
  phase: 'resolve' | 'download' | 'verify' | 'extract' | 'create' | 'boot' | 'provision' | 'ready' | 'stop' | 'delete'
  /** The part it is about; absent when it is about the whole. */
  component?: 'lima' | 'image' | 'nerdctl' | 'containerd'
  /** English, ready to show. */
  message: string
  /** 0 to 100; never goes back within a phase. Absent where nobody knows. */
  percent?: number
  /** Bytes so far. */
  transferred?: number
  /** Bytes in all. Absent where nobody knows. */
  total?: number
  bytesPerSecond?: number
  /** Seconds to the end of this phase, by the present speed. */
  etaSeconds?: number
}

/** One event of an image pull; at most about ten a second. */
export interface PullProgress {
  /** What is happening, ready to show. */
  status: string
  /** 0 to 100 over all layers; never goes back. */
  progress?: number
  /** Bytes over all layers known so far. */
  total?: number
  /** Bytes so far. */
  current?: number
}

// ---- Containers -----------------------------------------------------------------------------------------------------

/** The kinds of backend. */
export type RuntimeType = 'docker' | 'containerd' | 'lima'

/** A container to be made. */
export interface ContainerConfig {
  /** 2 to 253 of the letters `a-z A-Z 0-9 _ . -`, beginning with a letter or digit. */
  name: string
  /** An image reference: `redis:7`, `registry.example.com:5000/team/app@sha256:…`. Pulled first where it is absent. */
  image: string
  /** Environment variables. Nothing of this process's own environment reaches the container. */
  env?: Record<string, string>
  /**
   * Container port to host port: `{ '80': '8080', '53/udp': '127.0.0.1:5353' }`. Ports are 1 to 65535, TCP unless
   * `/udp` is written. Without an address: 127.0.0.1 on Lima and the bundled containerd, all addresses on Docker.
   */
  ports?: Record<string, string>
  /** Directories, files and volumes to mount. */
  volumes?: {
    /**
     * An absolute path on the host, or the name of a volume (made where it is absent). `/var/run/docker.sock` means the
     * engine's own API socket, wherever it listens on its machine; an engine without one refuses it.
     */
    host: string
    /** An absolute path in the container. */
    container: string
    /** Default: false. */
    readOnly?: boolean
  }[]
  /** Names or ids of networks to attach it to, all before it starts. Default: the engine's default network. */
  networks?: string[]
  /** The program and its arguments, passed literally: no shell sees them. Default: the image's own. */
  command?: string[]
  /** How the engine finds out whether the container works. Default: the image's own. */
  healthcheck?: {
    /** As Docker's: `['CMD', 'curl', '-f', 'http://localhost/']`, `['CMD-SHELL', 'exit 0']` or `['NONE']`. */
    test: string[]
    /** Milliseconds between two checks, from 1 to a day. */
    interval: number
    /** Milliseconds a check may take, from 1 to a day. */
    timeout: number
    /** Failures in a row that make the container `unhealthy`, 1 to 1000. */
    retries: number
    /** Milliseconds after the start in which failures do not count, from 0 to a day. Default: 0. */
    startPeriod?: number
  }
  /** What the engine does when the container ends. Default: `'no'`. */
  restart?: 'no' | 'always' | 'on-failure' | 'unless-stopped'
  /**
   * The label `lima-runtime.app` is added: it tells `prune` what is ours. Names that engines act on are refused, on every
   * engine: those that begin with `com.docker.`, `containerd.io/`, `io.containerd.`, `io.cri-containerd`, `nerdctl/`,
   * `lima-runtime.` or `lima-runtime/`. On containerd an image's own labels of these names do not reach the container; a warning
   * of the process says so.
   */
  labels?: Record<string, string>
  /**
   * `'linux/amd64'`, `'linux/arm64/v8'`: the image's platform. Pulled where the image is here for another one only. Default:
   * the engine's own.
   */
  platform?: string
  /** For the pull of an image that is absent, as in {@link PullOptions}. Default: `'user'`. */
  credentials?: 'user' | 'none'
}

/** A container at the moment it was asked for. */
export interface ContainerInfo {
  /** 64 hexadecimal digits. */
  id: string
  name: string
  /** The reference it was made from. */
  image: string
  /** `'stopped'` was made and never started; `'exited'` has run. */
  state: 'running' | 'stopped' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead'
  /** The engine's own words: `Up 5 minutes`. */
  status: string
  /** `'none'` without a healthcheck. */
  health?: 'healthy' | 'unhealthy' | 'starting' | 'none'
  created: Date
  /** `hostPort` is absent where the port is not published. */
  ports: { containerPort: number; hostPort?: number; protocol: 'tcp' | 'udp' }[]
}

/** All that is known about a container. */
export interface ContainerDetails extends ContainerInfo {
  labels: Record<string, string>
  /** The program and its arguments. */
  command: string[]
  /** The container's environment, the image's variables included. */
  env: Record<string, string>
  mounts: Mount[]
  networks: NetworkAttachment[]
  /** Of its last run. Absent while it runs, and when it never ran. */
  exitCode?: number
  /** Absent when it never ran. */
  startedAt?: Date
  /** Absent while it runs, and when it never ran. */
  finishedAt?: Date
  restartPolicy: 'no' | 'always' | 'on-failure' | 'unless-stopped'
  /** The engine's own answer, for what the other fields leave out. Its form differs from backend to backend. */
  raw: unknown
}

/** Something mounted in a container. */
export interface Mount {
  /** `'bind'`, `'volume'`, `'tmpfs'`, or a type only this engine knows. */
  type: string
  /** The host's path, or the volume's name. */
  source: string
  /** The path in the container. */
  destination: string
  readOnly: boolean
}

/** A container's place in a network. */
export interface NetworkAttachment {
  /** The network's id. */
  id: string
  /** The network's name. */
  name: string
  /** Absent while the container does not run. */
  ipAddress?: string
  macAddress?: string
  /** The names other containers of the network reach it by. */
  aliases: string[]
}

/** What a container uses. */
export interface ContainerStats {
  /** Percent of one CPU: 100 is one full core, 250 two and a half. */
  cpu: number
  /** Bytes, and percent of the limit. Without a limit of its own, `limit` is the machine's memory. */
  memory: { used: number; limit: number; percentage: number }
  /** Bytes received and sent since the start, over all networks. */
  network: { rx: number; tx: number }
  /** Bytes read from and written to disks since the start. */
  blockIO: { read: number; write: number }
}

/** Options of {@link IContainerRuntime.listContainers}. */
export interface ListContainersOptions extends CallOptions {
  /** Also those that do not run. Default: false. */
  all?: boolean
  /**
   * Docker's filters: values of one key are alternatives, keys are conditions. Known: `ancestor before exited expose
   * health id label name network publish since status volume`; another is `INVALID_ARGUMENT`. `name` matches any
   * part of a name, `id` the beginning of an id, both literally; an exact name comes first in the answer.
   */
  filters?: Record<string, string[]>
}

/** Options of {@link IContainerRuntime.getContainerLogs}. */
export interface LogOptions extends CallOptions {
  /** Go on with what the container writes from now on; the stream ends by itself when it does. Default: false. */
  follow?: boolean
  /** The last lines only; 0 for none. Default: all. */
  tail?: number
  /** Only what was written since then: a Unix time in seconds, a fraction counts. */
  since?: number
  /** Begin each line with its time, as Docker writes it (RFC 3339, nanoseconds). Default: false. */
  timestamps?: boolean
  /** Standard output. Default: true. */
  stdout?: boolean
  /** Standard error. Default: true. */
  stderr?: boolean
}

/** Options of {@link ContainerAdapter.execInContainer}. */
export interface ExecOptions extends CallOptions {
  /** Variables added to the container's own. */
  env?: Record<string, string>
  /** An absolute path in the container. Default: the container's own. */
  workdir?: string
  /** A user, or user and group, by name or number: `'www-data'`, `'1000:1000'`. Default: the container's own. */
  user?: string
  /** Written to the program's standard input, which is then closed; text as UTF-8, bytes as they are now. Default: nothing. */
  input?: string | Uint8Array
  /**
   * Most bytes of standard output and standard error together, 1 to 2^31 - 1. A program that prints more is ended, and the
   * call with `TOO_LARGE`. Default: 64 MiB.
   */
  maxOutput?: number
}

/** How a program in a container ended, and what it wrote. */
export interface ExecResult {
  exitCode: number
  stdout: Buffer
  stderr: Buffer
}

/** Options of {@link ContainerAdapter.events}. */
export interface EventOptions extends CallOptions {
  /** First what happened since then, as far as the engine remembers: a Unix time in seconds. Default: from now on. */
  since?: number
  /** Known: `container event image label network type volume`. */
  filters?: Record<string, string[]>
}

/** Something that happened on the engine, whoever did it. */
export interface RuntimeEvent {
  time: Date
  kind: 'container' | 'image' | 'network' | 'volume'
  /** `'create'`, `'start'`, `'die'`, `'pull'`…: Docker's words. */
  action: string
  id: string
  name?: string
  /** Of a container that ended. */
  exitCode?: number
}

// ---- Images, networks, volumes, the engine --------------------------------------------------------------------------

/** An image on the engine. */
export interface ImageInfo {
  /** `sha256:` and 64 hexadecimal digits. */
  id: string
  /** References: `['busybox:latest']`. Empty for a dangling image. */
  tags: string[]
  /** Bytes. */
  size: number
  created: Date
}

/** Options of {@link IContainerRuntime.pullImage}. */
export interface PullOptions extends CallOptions {
  /** `'linux/amd64'`, `'linux/arm64/v8'`. Default: the engine's own. */
  platform?: string
  /** Default: what docker's configuration and credential helpers have for the registry. */
  auth?: { username: string; password: string }
  /** `'none'`: without `auth` the registry is asked as by anybody. Default: `'user'`, what this user has stored. */
  credentials?: 'user' | 'none'
}

/** A network of containers. */
export interface NetworkInfo {
  id: string
  name: string
  /** `'bridge'`, `'host'`, `'none'`… */
  driver: string
  /** Full ids of the containers attached to it. */
  containers: string[]
}

/** Options of {@link IContainerRuntime.createNetwork}. */
export interface NetworkOptions extends CallOptions {
  /** Default: `'bridge'`. */
  driver?: string
  /** Without a way out. Default: false. */
  internal?: boolean
  /** Docker's flag for containers outside a Swarm service. Default: false. */
  attachable?: boolean
}

/** A volume: data that outlives its containers. */
export interface VolumeInfo {
  name: string
  driver: string
  /** Where the engine keeps it: a path on the engine's machine, which in a VM is not this one. */
  mountpoint: string
}

/** Options of {@link IContainerRuntime.createVolume}. */
export interface VolumeOptions extends CallOptions {
  /** Default: `'local'`. */
  driver?: string
  /** The label `lima-runtime.app` is added. The names that a container's labels may not have are refused here, too. */
  labels?: Record<string, string>
}

/** The engine and the machine it runs on, which may be a VM. */
export interface SystemInfo {
  /** `'linux'`. */
  os: string
  /** As the engine says it: `'x86_64'`, `'aarch64'`. */
  architecture: string
  cpus: number
  /** Bytes. */
  memory: number
  /** The engine's version. */
  runtimeVersion: string
  /**
   * Who runs healthchecks: the engine, a timer in the guest, or this process, and then only while it lives. Every
   * adapter of this package says it.
   */
  healthchecks?: 'engine' | 'timer' | 'process'
}

/** What the engine keeps on disk. */
export interface DiskUsage {
  images: DiskUsageEntry
  containers: DiskUsageEntry
  volumes: DiskUsageEntry
  buildCache: DiskUsageEntry
}

/** One row of {@link DiskUsage}. */
export interface DiskUsageEntry {
  count: number
  /** Bytes. */
  size: number
  /** Bytes that removing what nothing uses would free. */
  reclaimable: number
}

/** Options of {@link IContainerRuntime.prune}. With no kind named: containers, dangling images and networks. */
export interface PruneOptions extends CallOptions {
  /** Those that do not run. */
  containers?: boolean
  /** Those that no tag names and no container uses. */
  images?: boolean
  /** Those that no container uses. Their data is lost. */
  volumes?: boolean
  /** Those that no container is attached to. */
  networks?: boolean
  /**
   * `'app'`: only what carries our `lima-runtime.app` label. `'engine'`: everything. Default: `'app'` on an engine
   * that is not ours (Docker), `'engine'` on one that is.
   */
  scope?: 'app' | 'engine'
}

/** What {@link IContainerRuntime.prune} removed. */
export interface PruneResult {
  containersDeleted: number
  imagesDeleted: number
  volumesDeleted: number
  networksDeleted: number
  /** Bytes. */
  spaceReclaimed: number
}

// ---- The interface --------------------------------------------------------------------------------------------------

/**
 * A container runtime, whichever it is.
 *
 * Any method that talks to the engine may reject with `ENGINE_UNREACHABLE`, `PERMISSION_DENIED`, `TIMEOUT`, `ABORTED`,
 * `INVALID_ARGUMENT`, `ENGINE_ERROR` and, in a VM, `VM_NOT_RUNNING`; the codes named below are those with a meaning
 * of their own.
 */
export interface IContainerRuntime {
  /**
   * Makes the runtime ready for use. For Docker: finds the engine and asks whether it answers; there is no progress to
   * report.
   */
  initialize(progress?: Progress): Promise<void>

  /** Whether the engine answers now. False rather than an error, except for `ABORTED` and `INVALID_ARGUMENT`. */
  isAvailable(options?: CallOptions): Promise<boolean>

  getRuntimeType(): RuntimeType

  /**
   * Pulls the image where it is absent, creates the container, starts it. Whatever fails or is aborted on the way, no
   * container is left behind. The pull has no deadline (but ends after 60 s without a byte, as
   * `pullImage` does), the rest has 60 s.
   *
   * In a Lima VM it resolves once the published ports are open on this computer, or 10 s later with a warning of the
   * process, code `PORT_NOT_FORWARDED`. In a WSL distribution UDP ports are refused: Windows does not forward them.
   *
   * @returns The full id, 64 hexadecimal digits.
   * @throws `NAME_IN_USE`, `PORT_IN_USE`, `IMAGE_NOT_FOUND`, `NETWORK_NOT_FOUND`, `REGISTRY_AUTH`
   * @example
   * ```ts
   * const id = await runtime.startContainer({
   *   name: 'db',
   *   image: 'postgres:17',
   *   env: { POSTGRES_PASSWORD: secret },
   *   ports: { '5432': '127.0.0.1:5432' },
   *   volumes: [{ host: 'db-data', container: '/var/lib/postgresql/data' }],
   *   healthcheck: { test: ['CMD', 'pg_isready'], interval: 5_000, timeout: 3_000, retries: 3 },
   *   restart: 'unless-stopped',
   * })
   * ```
   */
  startContainer(config: ContainerConfig, options?: CallOptions): Promise<string>

  /**
   * Asks the container to end, and kills it after `timeout` seconds (0 to 86400; default: the container's own, 10).
   * One that does not run is no error. A container with `restart: 'always'` stays stopped. Deadline: 30 s more than it gets.
   *
   * @throws `CONTAINER_NOT_FOUND`
   */
  stopContainer(id: string, timeout?: number, options?: CallOptions): Promise<void>

  /**
   * Removes the container; a running one only with `force` (default: false).
   *
   * @throws `CONTAINER_NOT_FOUND`, `IN_USE` for a running one
   */
  removeContainer(id: string, force?: boolean, options?: CallOptions): Promise<void>

  /**
   * Stops and starts it; `timeout` as in `stopContainer`.
   *
   * @throws `CONTAINER_NOT_FOUND`, `PORT_IN_USE`
   */
  restartContainer(id: string, timeout?: number, options?: CallOptions): Promise<void>

  /**
   * Freezes all its processes.
   *
   * @throws `CONTAINER_NOT_FOUND`, `INVALID_STATE` when it does not run or is paused already
   */
  pauseContainer(id: string, options?: CallOptions): Promise<void>

  /** @throws `CONTAINER_NOT_FOUND`, `INVALID_STATE` when it is not paused */
  unpauseContainer(id: string, options?: CallOptions): Promise<void>

  /** @throws `CONTAINER_NOT_FOUND` */
  inspectContainer(id: string, options?: CallOptions): Promise<ContainerInfo>

  /**
   * @example
   * ```ts
   * const [web] = await runtime.listContainers({ all: true, filters: { name: ['web'] } })
   * ```
   */
  listContainers(options?: ListContainersOptions): Promise<ContainerInfo[]>

  /**
   * The container's output, standard output and standard error in the order they came, as bytes. A slow reader slows
   * the engine down and costs no memory; `destroy()` closes the connection. An error on the way, an aborted `signal`
   * included, ends the stream with a `RuntimeError`. nerdctl before 2.3.4 may drop the last words of a container that
   * prints faster than its logger reads and then ends: they are in no log.
   *
   * @throws `CONTAINER_NOT_FOUND`
   * @example
   * ```ts
   * const log = await runtime.getContainerLogs(id, { follow: true, tail: 100 })
   * log.pipe(process.stdout)
   * ```
   */
  getContainerLogs(id: string, options?: LogOptions): Promise<NodeJS.ReadableStream>

  /**
   * `cpu` is taken over the time since the last call for this container when that was 0.2 to 10 s ago, else over
   * 100 ms from now.
   *
   * @throws `CONTAINER_NOT_FOUND`, `INVALID_STATE` when it does not run
   */
  getContainerStats(id: string, options?: CallOptions): Promise<ContainerStats>

  /**
   * No deadline, but ends with `TIMEOUT` after 60 s without a byte; on containerd, which tells of whole MiB, after 180 s
   * without one once the layers come. All events have been delivered when it settles.
   *
   * @throws `IMAGE_NOT_FOUND`, `REGISTRY_AUTH`, `DISK_FULL`
   * @example
   * ```ts
   * await runtime.pullImage('redis:7', ({ status, progress }) => bar.update(progress ?? 0, status))
   * ```
   */
  pullImage(name: string, onProgress?: (progress: PullProgress) => void, options?: PullOptions): Promise<void>

  listImages(options?: CallOptions): Promise<ImageInfo[]>

  /**
   * By id or reference; with several tags, the one named goes. `force` (default: false) removes an image that stopped
   * containers use.
   *
   * @throws `IMAGE_NOT_FOUND`, `IN_USE`
   */
  removeImage(id: string, force?: boolean, options?: CallOptions): Promise<void>

  /** Whether the engine has it; no registry is asked. */
  imageExists(name: string, options?: CallOptions): Promise<boolean>

  /**
   * @returns The network's id.
   * @throws `NAME_IN_USE`
   */
  createNetwork(name: string, options?: NetworkOptions): Promise<string>

  /** @throws `NETWORK_NOT_FOUND`, `IN_USE` */
  removeNetwork(id: string, options?: CallOptions): Promise<void>

  listNetworks(options?: CallOptions): Promise<NetworkInfo[]>

  /**
   * Live: the container keeps its id and goes on running, and the attachment survives a restart.
   *
   * @throws `CONTAINER_NOT_FOUND`, `NETWORK_NOT_FOUND`, `INVALID_STATE` when it is attached already
   */
  connectContainerToNetwork(containerId: string, networkId: string, options?: CallOptions): Promise<void>

  /** @throws `CONTAINER_NOT_FOUND`, `NETWORK_NOT_FOUND` */
  disconnectContainerFromNetwork(containerId: string, networkId: string, options?: CallOptions): Promise<void>

  /**
   * One of that name is taken as it is, with its data.
   *
   * @returns The volume's name.
   */
  createVolume(name: string, options?: VolumeOptions): Promise<string>

  /** @throws `VOLUME_NOT_FOUND` (not with `force`), `IN_USE` */
  removeVolume(name: string, force?: boolean, options?: CallOptions): Promise<void>

  listVolumes(options?: CallOptions): Promise<VolumeInfo[]>

  getSystemInfo(options?: CallOptions): Promise<SystemInfo>

  /**
   * Removes what nothing uses, only of the kinds named; see {@link PruneOptions}. No deadline.
   *
   * @returns True counts and true bytes.
   */
  prune(options?: PruneOptions): Promise<PruneResult>
}

/** Another name of {@link IContainerRuntime}. */
export type ContainerRuntimeAdapter = IContainerRuntime

/**
 * What every adapter of this package is: {@link IContainerRuntime} and the methods below. `instanceof` works; new ones
 * are made by its subclasses.
 */
export declare abstract class ContainerAdapter {
  protected constructor()

  /**
   * The same engine for whoever is not trusted; windows have this one. It reaches the containers, networks and volumes
   * that carry the application's `lima-runtime.app` label, and others are not there for it: their ids and names are
   * `CONTAINER_NOT_FOUND`, `NETWORK_NOT_FOUND`, `VOLUME_NOT_FOUND`, a volume's taken name is `NAME_IN_USE`. What it makes
   * has the label, a named volume of `startContainer` included. It uses no network but bridges, of the application or the
   * engine's default one, and makes no other; of volumes the `local` driver alone (`PERMISSION_DENIED`). `prune` keeps to
   * the label, and to dangling images on an engine that {@link isPrivate}.
   *
   * Paths of this computer, ports, programs in containers and images are not its business.
   *
   * @param options `foreign`: what is not the application's, too; the rest holds. Default: false.
   */
  restricted(options?: { foreign?: boolean }): ContainerAdapter

  /** Whether nobody but this application uses the engine: a VM or a containerd of its own, never the user's Docker. */
  isPrivate(options?: CallOptions): Promise<boolean>

  /** As {@link IContainerRuntime.getContainerLogs}; a full `Readable`. */
  getContainerLogs(id: string, options?: LogOptions): Promise<Readable>

  /**
   * Runs `argv` in a running container, to its end; no shell sees it. A program that fails is no error: look at
   * `exitCode`, which is 127 where there is no such program, 126 where it cannot be run. No deadline. A call that is given up
   * ends the program with TERM, then KILL; on Docker, which has no call for that, by a shell of the container's own.
   *
   * @throws `CONTAINER_NOT_FOUND`, `INVALID_STATE` when it does not run, `TOO_LARGE`, `INVALID_ARGUMENT` for a user or a
   *   `workdir` that the container does not have
   * @example
   * ```ts
   * const { exitCode, stdout } = await docker.execInContainer(id, ['sh', '-c', 'cat > /tmp/x; wc -c < /tmp/x'], { input: 'hello' })
   * ```
   */
  execInContainer(id: string, argv: string[], options?: ExecOptions): Promise<ExecResult>

  /**
   * Resolves when the container has ended, at once if it has; one that was never started is waited for. No deadline.
   *
   * @throws `CONTAINER_NOT_FOUND`
   */
  waitContainer(id: string, options?: CallOptions): Promise<{ exitCode: number }>

  /**
   * Sends a signal, by name or number (`'SIGTERM'`, `'HUP'`, `'15'`; default: `'SIGKILL'`).
   *
   * @throws `CONTAINER_NOT_FOUND`, `INVALID_STATE` when it does not run
   */
  killContainer(id: string, signal?: string, options?: CallOptions): Promise<void>

  /** @throws `CONTAINER_NOT_FOUND` */
  getContainerDetails(id: string, options?: CallOptions): Promise<ContainerDetails>

  /**
   * One item about every second until the container stops, which ends the iteration. Leaving the loop closes the
   * connection; `timeoutMs` is for opening it.
   *
   * @throws `CONTAINER_NOT_FOUND`, at the first step
   * @example
   * ```ts
   * for await (const { cpu } of docker.streamContainerStats(id)) console.log(`${cpu.toFixed(1)} %`)
   * ```
   */
  streamContainerStats(id: string, options?: CallOptions): AsyncIterableIterator<ContainerStats>

  /**
   * What happens on the engine, from the first step on, until the loop is left or `signal` aborted. `timeoutMs` is
   * for opening the connection.
   *
   * @example
   * ```ts
   * for await (const event of docker.events({ filters: { type: ['container'] }, signal })) {
   *   if (event.action === 'die') console.log(`${event.name} ended with ${event.exitCode}`)
   * }
   * ```
   */
  events(options?: EventOptions): AsyncIterableIterator<RuntimeEvent>

  /**
   * Loads an archive as `saveImage` or `docker save` makes it (tar or tar.gz), from a path or a stream. No deadline. The
   * stream is read to its end or destroyed.
   *
   * @returns The references loaded.
   * @throws `INVALID_ARGUMENT` for a path that is no file, for what is no archive or not all of one, and for a stream that
   *   fails (its error is the `cause`)
   */
  loadImage(archive: string | NodeJS.ReadableStream, options?: CallOptions): Promise<string[]>

  /**
   * A tar archive of one or several images.
   *
   * @throws `IMAGE_NOT_FOUND`
   */
  saveImage(images: string | string[], options?: CallOptions): Promise<Readable>

  /**
   * Gives an image another reference; one that exists is moved.
   *
   * @throws `IMAGE_NOT_FOUND`
   */
  tagImage(source: string, target: string, options?: CallOptions): Promise<void>

  diskUsage(options?: CallOptions): Promise<DiskUsage>
}
export interface ContainerAdapter extends IContainerRuntime {}

// ---- Docker ---------------------------------------------------------------------------------------------------------

/** Options of {@link DockerAdapter}. */
export interface DockerAdapterOptions {
  /**
   * An endpoint as in `DOCKER_HOST`: `unix:///var/run/docker.sock`, `npipe:////./pipe/docker_engine`,
   * `tcp://host:2375`, `ssh://user@host`. Default: found as the docker CLI finds it (`DOCKER_HOST`, the current
   * context), then among the usual sockets of Docker Desktop, OrbStack, Colima, Rancher Desktop and rootless Docker.
   */
  host?: string
  /** The value of the label `lima-runtime.app` on what this adapter makes. Default: `'kai'`. */
  appName?: string
}

/** Docker, where the user has it. */
export declare class DockerAdapter extends ContainerAdapter {
  /**
   * Connects to nothing yet.
   *
   * @throws `INVALID_ARGUMENT` for an endpoint that is none
   */
  constructor(options?: DockerAdapterOptions)
}

// ---- containerd -----------------------------------------------------------------------------------------------------

/** Options of {@link ContainerdAdapter}. Paths are absolute. */
export interface ContainerdAdapterOptions {
  /**
   * containerd's socket. Default: a rootless containerd of this user (`$XDG_RUNTIME_DIR/containerd-rootless`), then the
   * system's, `/run/containerd/containerd.sock`: as root, or through `sudo -n`. On Windows
   * `wsl://<distribution>/<path of the socket in it>`, as {@link BundledRuntimeManager.getAdapterOptions} names it.
   */
  address?: string
  /**
   * nerdctl 2.1 or later, which makes and removes containers. Default: `nerdctl` of the PATH. From 2.3 on it wants containerd 1.7 or
   * later to load and save images; with an older one `ctr`, which comes with containerd, does it.
   */
  nerdctlPath?: string
  /** containerd's namespace: nothing outside of it is seen or touched. Default: `'kai'`. */
  namespace?: string
  /** The value of the label `lima-runtime.app` on what this adapter makes. Default: `'kai'`. */
  appName?: string
  /** Where nerdctl keeps names, logs and volumes. Default: `/var/lib/nerdctl`, and `~/.local/share/nerdctl` rootless. */
  dataRoot?: string
  /** Where the CNI plugins are. Default: nerdctl looks in its usual places. */
  cniPath?: string
  /** Where nerdctl keeps its networks. Default: `/etc/cni/net.d`, and `~/.config/cni/net.d` rootless. */
  cniNetconfPath?: string
  /**
   * A program that runs its arguments as a command where containerd is, for a containerd with namespaces of its own:
   * {@link BundledRuntimeManager.getAdapterOptions} names the one of its daemon. Default: containerd is where we are.
   */
  insidePath?: string
  /**
   * The engine is this application's and this user's alone: ports without an address are published on 127.0.0.1, `prune()`
   * looks at everything, and nothing is run through sudo. Default: false.
   */
  exclusive?: boolean
}

/** A containerd of this machine, with nerdctl: on Linux, and in a WSL2 distribution on Windows. */
export declare class ContainerdAdapter extends ContainerAdapter {
  /**
   * Connects to nothing yet. `NOT_INSTALLED` comes from the first call where there is no containerd or no nerdctl,
   * `VM_NOT_RUNNING` from each while a WSL distribution is stopped, `UNSUPPORTED_PLATFORM` with a hint where an address
   * names a containerd of Windows itself, which runs Windows images only.
   *
   * @throws `INVALID_ARGUMENT`
   */
  constructor(options?: ContainerdAdapterOptions)
  /**
   * From the next call on, this nerdctl is used.
   *
   * @throws `INVALID_ARGUMENT` for a path that is not absolute
   */
  setNerdctlPath(path: string, options?: CallOptions): Promise<void>
}

/** Options of {@link BundledRuntimeManager}. Paths are absolute, or relative to the working directory. */
export interface BundledRuntimeOptions {
  /** Names the application's data directory. Default: `'kai-desktop'`. */
  appName?: string
  /** The application's data directory. Default: `$XDG_DATA_HOME/<appName>`. */
  appDir?: string
  /** Where everything lies: programs, images, containers, volumes. Default: `<appDir>/containerd`. At most 83 bytes. */
  dataDir?: string
  /**
   * Directory of what the application ships (`npx lima-runtime download --component nerdctl-full`). Default: as for
   * {@link LimaRuntimeOptions}.
   */
  bundledDir?: string
  /** Path or address of a manifest in place of the built-in one. */
  manifest?: string
  /** `https://host/path` is fetched as `<mirror>/host/path`. An international host name in its ASCII form, `xn--…`. */
  mirror?: string
  /** Which nerdctl-full, in place of the manifest's default. */
  versions?: Versions
}

/**
 * A containerd of the application's own on Linux: nerdctl-full installed below its data directory, and its daemon beside
 * whatever else runs on the machine. As root it has its own root, state, socket, networks and default bridge; an ordinary
 * user gets a rootless one. On Windows it is in a WSL2 distribution of the application's own, and no other one is touched;
 * on macOS methods that need it reject with `UNSUPPORTED_PLATFORM`.
 *
 * @example
 * ```ts
 * const bundled = new BundledRuntimeManager({ appName: 'my-app' })
 * await bundled.initialize((message) => console.log(message))
 * const runtime = new ContainerdAdapter(bundled.getAdapterOptions())
 * ```
 */
export declare class BundledRuntimeManager {
  /**
   * Touches no file yet.
   *
   * @throws `INVALID_ARGUMENT`
   */
  constructor(options?: BundledRuntimeOptions)

  /** Whether the programs are there, whole as far as can be seen without reading them. */
  isInstalled(options?: CallOptions): Promise<boolean>

  /** Whether the application ships nerdctl-full, so that {@link install} needs no network. */
  hasPreBundled(options?: CallOptions): Promise<boolean>

  /** Our own containerd lives, and listens. */
  isRunning(options?: CallOptions): Promise<boolean>

  /** {@link install}, then {@link startDaemon}. */
  initialize(progress?: Progress): Promise<void>

  /**
   * Installs nerdctl-full; at once when it is installed. Resumed, checked and atomic, as Lima's. On Windows it makes the
   * distribution first; where WSL or virtualization is missing, that is `UNSUPPORTED_PLATFORM` with `details.missing` and a hint,
   * before anything is fetched, and a distribution of that name that is not ours is `NAME_IN_USE`.
   *
   * @throws `DOWNLOAD_FAILED`, `CHECKSUM_MISMATCH`, `ARCHIVE_UNSAFE`, `DISK_FULL`, `PERMISSION_DENIED`,
   *   `UNSUPPORTED_PLATFORM`, `LOCKED`
   */
  install(progress?: Progress): Promise<void>

  /**
   * Starts containerd, which outlives this process; at once when it runs. Containers with a restart policy start with
   * it. Deadline: 60 s, on Windows 180 s: WSL may have to boot.
   *
   * @throws `NOT_INSTALLED`; `UNSUPPORTED_PLATFORM` where an ordinary user's containerd lacks something: `details.missing`
   *   lists `{ what, advice }`, the hint all advice; `PATH_TOO_LONG`; `CONTAINERD_NOT_READY` with `details.log`; `LOCKED`
   */
  startDaemon(progress?: Progress): Promise<void>

  /**
   * Ends its containers (TERM, and KILL after 10 s) and containerd. No process, mount or network interface of it is
   * left; what is on the disk stays. Without one that runs it resolves. Deadline: 60 s.
   *
   * @throws `IN_USE` when a process does not end, `LOCKED`
   */
  stopDaemon(options?: CallOptions): Promise<void>

  /**
   * {@link stopDaemon}, then removes everything: programs, images, containers and volumes.
   *
   * @throws `IN_USE`, `PERMISSION_DENIED`, `LOCKED`
   */
  uninstall(options?: CallOptions): Promise<void>

  /**
   * Our own `nerdctl` program, absolute: it talks to this containerd, and lets nothing of its caller's environment in. On
   * Windows a `.cmd` file, which Node starts with `shell: true` only.
   */
  getNerdctlPath(): string

  /** The raw `containerd`, absolute; on Windows its path in the distribution. */
  getContainerdPath(): string

  /** containerd's socket, absolute; on Windows `wsl://<distribution>/<path of the socket in it>`. */
  getContainerdAddress(): string

  /** For `new ContainerdAdapter(options)`. */
  getAdapterOptions(): ContainerdAdapterOptions
}

/**
 * containerd in the VM of a {@link LimaRuntimeManager}. It stays good while the VM is stopped and started; without one
 * that runs, calls reject with `VM_NOT_RUNNING`.
 *
 * Ports are published on this machine's 127.0.0.1, tcp only, and `startContainer` resolves once they are forwarded.
 * Of this machine's files, containers see what is under the VM's `mounts`.
 */
export declare class LimaContainerAdapter extends ContainerAdapter {
  /** @throws `INVALID_ARGUMENT` */
  constructor(manager?: LimaRuntimeManager | LimaRuntimeOptions)
  getLimaManager(): LimaRuntimeManager
  /** Brings the VM to running: installs and starts what is missing, as {@link LimaRuntimeManager.start}. */
  initialize(p?: Progress): Promise<void>
}
export { LimaContainerAdapter as LimaAdapter }

// ---- The manager ----------------------------------------------------------------------------------------------------

/** Options of {@link ContainerManager}. */
export interface ContainerManagerOptions {
  /**
   * What to use. `KAI_CONTAINER_RUNTIME` in the environment goes before it; `'auto'` (the default) leaves it to the saved
   * choice, and without one to what is there: Docker when it answers, then Lima on macOS, then containerd.
   */
  preferred?: RuntimeType | 'auto'
  /** `initialize()` may download a runtime where nothing else can be used: what a Continue button says. Default: false. */
  installIfMissing?: boolean
  /** The last part of `appDir`, and the value of the label `lima-runtime.app`. Default: `'kai-desktop'`, and `'kai'`. */
  appName?: string
  /** The application's data directory, as in {@link LimaRuntimeOptions}. The choice is kept in its `runtime.json`. */
  appDir?: string
  docker?: DockerAdapterOptions
  containerd?: ContainerdAdapterOptions
  /** `appName` and `appDir` are taken from above where they are absent. */
  lima?: LimaRuntimeOptions
}

/** What is known about one runtime. */
export interface RuntimeDetail {
  type: RuntimeType
  /** `'stopped'`: a start brings it up. `'installable'`: it can be fetched. */
  state: 'ready' | 'stopped' | 'installable' | 'unavailable'
  version?: string
  /** Where it answers, or where an answer was most to be expected. */
  endpoint?: string
  /** Why it is not ready; plain English. */
  reason?: string
  /** What would make it available. */
  hint?: string
  /** Bytes still to be fetched before it can be used. Absent where nothing is, or nobody knows. */
  downloadBytes?: number
  /** True of a VM for whose start something is still to be fetched, also when nobody knows how much. */
  incomplete?: boolean
  /** Bytes of memory and disk that it takes at most while it runs, where that is known: a VM's. */
  memoryBytes?: number
  diskBytes?: number
  /** Milliseconds that its last start took here, without downloads. */
  lastStartMs?: number
  /** Every place that was looked at; `reason` is absent where one answered. */
  tried?: { endpoint: string; source: string; reason?: string }[]
}

/** Answer of {@link ContainerManager.detectAvailableRuntimes}. The booleans say: usable now, without a download. */
export interface RuntimeDetection {
  docker: boolean
  containerd: boolean
  /** Installed, or shipped with the application. */
  lima: boolean
  current: RuntimeType | 'none'
  details: RuntimeDetail[]
}

/** What {@link ContainerManager.initialize} and {@link ContainerManager.switchRuntime} take beside progress. */
export interface BringOptions {
  /**
   * Whether what is missing may be fetched, or what is called when something is; it narrows what the method does anyway.
   * Of those who share one start, one who allows it is enough. Without leave: `NOT_INSTALLED`. Default: true.
   */
  download?: boolean | ((type: RuntimeType) => boolean | Promise<boolean>) | undefined
}

/** Where a {@link ContainerManager} stands. */
export interface ManagerStatus {
  state: 'idle' | 'starting' | 'ready' | 'stopping' | 'stopped' | 'failed'
  /** The one in use. */
  runtime: RuntimeType | 'none'
  /** Why it is not the one that was asked for; plain English. */
  explanation?: string
  /** What is brought up, while it starts. */
  target?: RuntimeType
  /** The last event, while it starts. */
  progress?: RuntimeProgress
  /** Why it `'failed'`. */
  error?: RuntimeError
}

/** Another runtime is in use. */
export interface RuntimeChange {
  from: RuntimeType | 'none'
  to: RuntimeType
  /** The application's containers that stay in the old runtime, as they are. */
  left: ContainerInfo[]
}

/** Events of {@link ContainerManager}. */
export interface ContainerManagerEvents {
  'runtime-changed': [change: RuntimeChange]
  /** What `initialize()` and `switchRuntime()` report, whoever called them. */
  progress: [progress: RuntimeProgress]
  state: [status: ManagerStatus]
}

/**
 * The container runtime of an application: finds what is there, uses what is wanted, remembers the choice.
 * `'containerd'` on Linux is the system's (or the one `containerd.address` names), and where there is none a containerd of
 * the application's own, as {@link BundledRuntimeManager} has it.
 *
 * @example
 * ```ts
 * const manager = new ContainerManager({ appName: 'my-app' })
 * await manager.initialize()
 * const containers = await manager.getRuntime().listContainers()
 * ```
 */
export declare class ContainerManager extends EventEmitter<ContainerManagerEvents> {
  /**
   * Touches no file and connects to nothing yet.
   *
   * @throws `INVALID_ARGUMENT`
   */
  constructor(preferred?: RuntimeType | 'auto' | ContainerManagerOptions)

  /**
   * Chooses a runtime and brings it up. Precedence: `KAI_CONTAINER_RUNTIME`, the constructor's, the saved choice, `'auto'`.
   * A choice that cannot be used gives way to another runtime, and {@link getStatus} says why; the variable's does not.
   * Calls at the same time share one start; each has its own `signal` and `timeoutMs`, and the last to give up ends it.
   * Called again, it sees to it that the runtime in use is up.
   *
   * @throws `NOT_INSTALLED` when nothing can be used, `INVALID_ARGUMENT` for a variable that names no runtime, and what
   *   the runtime's own start throws
   */
  initialize(progress?: Progress & BringOptions): Promise<void>

  /**
   * Whether {@link initialize} or {@link switchRuntime} has succeeded, and neither {@link stop} nor a start of the same
   * runtime that failed has been since. While another runtime is brought up, and where that fails, the old one's holds.
   */
  isInitialized(): boolean

  /**
   * The runtime in use.
   *
   * @throws `INVALID_STATE` before {@link initialize} or {@link switchRuntime} has been
   */
  getRuntime(): ContainerAdapter

  getRuntimeType(): RuntimeType | 'none'

  /** Where it stands, for a window that has just been opened. */
  getStatus(): ManagerStatus

  /**
   * Brings another runtime up, installed where that is needed, uses it and remembers the choice. The old one's containers
   * are left alone: `'runtime-changed'` lists them. One that fails leaves the old one in use. A start that is under way
   * ends with `ABORTED`.
   *
   * @throws What the runtime's own start throws
   */
  switchRuntime(type: RuntimeType, progress?: Progress & BringOptions): Promise<void>

  /**
   * Looks at all runtimes at once and starts none; answers within 300 ms, also where sockets hang, but for a containerd whose
   * socket is closed to this user: sudo is asked then, for up to 5 s.
   */
  detectAvailableRuntimes(options?: CallOptions): Promise<RuntimeDetection>

  /** Ends a start or a switch that is under way, for all who wait for it: they get `ABORTED`. */
  abort(): void

  /**
   * Ends a start that is under way, then stops what this manager has brought up of its own: the runtime in use, one that
   * was only half started, and one that a switch left behind. Docker goes on running.
   */
  stop(progress?: Progress): Promise<void>

  /** The machine is about to sleep. */
  notifySuspend(): void

  /** The machine is awake again: connections that died are made anew. */
  notifyResume(): Promise<void>
}

// ---- Lima -----------------------------------------------------------------------------------------------------------

/**
 * Versions of what is fetched. Each must be in the manifest (`INVALID_ARGUMENT` with those that are). Default: the
 * manifest's, 2.2.0 of Lima and 2.3.5 of nerdctl; it also has 1.2.1 and 2.1.6, whose use is a warning of the process,
 * `OUTDATED_VERSION`. An older version than the VM was made with is refused with `INVALID_STATE`.
 */
export interface Versions {
  lima?: string
  /** Of nerdctl-full: nerdctl, containerd and what belongs to them. */
  nerdctl?: string
  docker?: string
}

/**
 * The guest's image. `'minimal'` has less than half the bytes, and its first boot fetches iptables and rsync, a few
 * megabytes; `'server'` boots without a network.
 */
export type ImageVariant = 'minimal' | 'server'

/** Options of {@link LimaRuntimeManager}. */
export interface LimaRuntimeOptions {
  /** The last part of `appDir`. Default: `'kai-desktop'`. */
  appName?: string
  /**
   * The application's data directory. Default: `~/Library/Application Support/<appName>` on macOS,
   * `$XDG_DATA_HOME/<appName>` on Linux, `%LOCALAPPDATA%\\<appName>` on Windows.
   */
  appDir?: string
  /** Where the runtime is installed. Default: `<appDir>/lima`. */
  dataDir?: string
  /**
   * The pre-bundled runtime, as `npx lima-runtime download` makes it. Default:
   * `<process.resourcesPath>/bundled-runtime/<platform>-<arch>`, then `resources/bundled-runtime/<platform>-<arch>`
   * under that directory; the working directory is not looked into. What is in it is checked against the digests of the
   * manifest, not against any list beside it.
   */
  bundledDir?: string
  /**
   * A file or https address (http for this machine alone: what files are known by is in it) that says which versions to
   * fetch, from where, with which SHA-256, instead of the manifest of this package; its form is `templates/manifest.schema.json`, of which the older schema 1 is read too. At
   * most 1 MiB. Default: `LIMA_RUNTIME_MANIFEST`.
   */
  manifest?: string
  /** Which versions to use, in place of the manifest's defaults. */
  versions?: Versions
  /**
   * Which image a new VM is made from. Default: `'minimal'`, or the one the application ships, or the other one where the
   * minimal has gone from its server. A manifest whose image has no variants has only that one.
   */
  imageVariant?: ImageVariant
  /**
   * `https://host/path` is fetched from `<mirror>/host/path`. An international host name in its ASCII form, `xn--…`.
   * Default: `LIMA_RUNTIME_MIRROR`.
   */
  mirror?: string
  /**
   * An http(s) proxy for downloads, for Lima, and for the guest and its containerd. Default: the environment's and the
   * system's.
   */
  proxy?: string
  /** Certificate authorities to trust beside the system's, here and in the guest: PEM texts or paths of PEM files. */
  caCertificates?: string[]
  /**
   * The VM's name: at most 40 letters and digits, with single `.`, `_` or `-` between them. Default: `'default'`; it
   * has nothing to do with the user's own Lima instance of that name.
   */
  instance?: string
  /** What the VM may have, until {@link LimaRuntimeManager.configure} says otherwise. */
  resources?: Partial<VmResources>
  /** A Lima template (YAML file) to use instead of this package's own; it names its own image and containerd. */
  template?: string
  /** containerd's namespace for `execNerdctl()` and the `nerdctl` program. Default: `'default'`, as nerdctl's own. */
  namespace?: string
  /** Default: `'vz'` on macOS, `'qemu'` on Linux. For a new VM. */
  vmType?: 'vz' | 'qemu'
  /** amd64 programs on Apple silicon. Default: true. For a new VM. */
  rosetta?: boolean
}

/** What a VM may have of this computer. */
export interface VmResources {
  /** A whole number, from 1 to this computer's. Default: 4, or all there are. */
  cpus: number
  /** `'4GiB'` (also `KiB`, `MiB`, `TiB`) or bytes; at least 512 MiB. Default: 4 GiB, at most half of this computer's. */
  memory: string | number
  /** As `memory`; at least 5 GiB. It takes room as it fills, and can only grow. Default: 100 GiB. */
  disk: string | number
  /** Directories of this computer that the VM sees. Default: the home directory, writable. */
  mounts: VmMount[]
}

/** A directory of this computer that the VM sees. */
export interface VmMount {
  /** Absolute, or beginning with `~`. */
  location: string
  /**
   * Where the VM sees it: absolute, without commas and brackets; with spaces on a Mac with Lima 2.2 or newer alone. Default:
   * at the same path.
   */
  mountPoint?: string
  /** Default: false. */
  writable?: boolean
}

/**
 * What state a VM is in. `broken` is what was left by a crash, a reboot or a killed process; `start()` mends it.
 */
export type LimaState = 'not-installed' | 'not-created' | 'stopped' | 'starting' | 'running' | 'stopping' | 'broken'

/** What {@link LimaRuntimeManager.getStatus} tells. */
export interface LimaStatus {
  state: LimaState
  /** Why it is so, where one would not expect it. */
  reason?: string
  /** Of the Lima that made the VM, else of the one installed. */
  limaVersion?: string
  /** What the VM has, or what the first start will give it; `memory` and `disk` in bytes. */
  resources?: VmResources
  /** On 127.0.0.1, while the VM runs. */
  sshPort?: number
}

/** What {@link LimaRuntimeManager.getVMInfo} tells. */
export interface VmInfo {
  name: string
  status: LimaState
  /** The instance's directory. */
  dir: string
  arch: 'aarch64' | 'x86_64'
  /** `'vz'` or `'qemu'`. */
  vmType: string
  cpus: number
  /** Bytes. */
  memory: number
  /** Bytes. */
  disk: number
  /** On 127.0.0.1, while the VM runs. */
  sshPort?: number
  /** Of the Lima that made it. */
  limaVersion: string
}

/** One check of {@link LimaRuntimeManager.diagnose}, ready to show. */
export interface DiagnosticCheck {
  /**
   * Stable: `'macos'`, `'architecture'`, `'virtualization'`, `'user'`, `'path-length'`, `'disk-space'`, `'proxy'`,
   * `'installation'`, `'ports'`, `'instance'`, `'ssh'`, `'containerd'`, `'clock'` (the VM's against this computer's),
   * `'dns'` (from the VM). Others may come.
   */
  id: string
  title: string
  /** `'skipped'`: it does not apply here, or not now. */
  status: 'ok' | 'warn' | 'fail' | 'skipped'
  detail: string
  /** What to do. */
  hint?: string
}

/** Options of {@link LimaRuntimeManager.execNerdctl}. */
export interface NerdctlOptions extends CallOptions {
  /** Written to nerdctl's standard input; bytes as they are now. */
  input?: string | Uint8Array
}

/** Events of {@link LimaRuntimeManager}. */
export interface LimaRuntimeEvents {
  /** What this manager's methods report, whoever called them. */
  progress: [progress: RuntimeProgress]
  /**
   * The VM is in another state, by a method of this manager or as one found it. What happens outside of it is seen at
   * the next call.
   */
  state: [status: LimaStatus]
}

/** Options of {@link LimaRuntimeManager.uninstall}. */
export interface UninstallOptions extends CallOptions {
  /** The VMs, and the files they were made from, stay. Default: false. */
  keepData?: boolean | undefined
}

/**
 * A Lima VM with containerd for one application and one user: from nothing to running, and back to running after every
 * reboot, sleep, crash and upgrade. Everything lies below `dataDir`; no Lima of the user's own is read or changed.
 *
 * Several processes may use one `dataDir`: what changes something waits for its turn (`LOCKED` after the deadline), what
 * asks does not. A call that is given up rejects at once, and what it leaves behind can be continued from by the next.
 *
 * Bytes come from the first of these that has them: the installation itself, the pre-bundled directory, the download
 * cache, the mirror or the original address. They are checked against the SHA-256 of the manifest before anything is
 * installed, and an installation is switched in one step: it is whole or absent, also after a crash. Proxies of the
 * environment and of the system, the system's certificates and `NODE_EXTRA_CA_CERTS` are honoured.
 *
 * @example
 * ```ts
 * const lima = new LimaRuntimeManager({ appName: 'my-app', resources: { cpus: 2, memory: '2GiB' } })
 * lima.on('progress', ({ message, percent }) => console.log(message, percent))
 * await lima.start()
 * await lima.execNerdctl(['run', '-d', '-p', '8080:80', 'nginx:alpine'])
 * ```
 */
export declare class LimaRuntimeManager extends EventEmitter<LimaRuntimeEvents> {
  /**
   * Touches no file yet.
   *
   * @throws `INVALID_ARGUMENT`, also for an option that there is not; `UNSUPPORTED_PLATFORM`
   */
  constructor(options?: LimaRuntimeOptions)

  /** Whether Lima is installed, whole as far as can be seen without reading its files. No process, no network. */
  isInstalled(options?: CallOptions): Promise<boolean>

  /** Whether the application ships Lima, so that {@link install} needs no network. */
  hasPreBundled(options?: CallOptions): Promise<boolean>

  /** Installs what is not installed; never boots. As {@link install} without `repair`. */
  initialize(progress?: Progress): Promise<void>

  /**
   * Installs Lima; at once when it is installed. An interrupted download goes on where it ended, in this process or
   * another. Several processes may call it at once: one works, the others wait. A download ends with
   * `DOWNLOAD_FAILED` after 60 s without a byte and a few more tries; there is no other deadline.
   *
   * With `repair`, every file of an installation is checked against its record and mended.
   *
   * @throws `DOWNLOAD_FAILED`, `CHECKSUM_MISMATCH`, `ARCHIVE_UNSAFE`, `DISK_FULL`, `PERMISSION_DENIED`,
   *   `UNSUPPORTED_PLATFORM`, `LOCKED` when another process works and `timeoutMs` passed. In each case what was
   *   installed before is as it was.
   * @example
   * ```ts
   * const stop = new AbortController()
   * await lima.install({ signal: stop.signal, onProgress: ({ percent }) => bar.update(percent ?? 0) })
   * ```
   */
  install(progress?: Progress & { repair?: boolean | undefined }): Promise<void>

  /**
   * Whether the VM runs: its host agent is ours, lives and said so last, and our SSH has not found it dead. No process,
   * a millisecond.
   */
  isRunning(options?: CallOptions): Promise<boolean>

  /** What state the VM is in. Waits for nobody. */
  getStatus(options?: CallOptions): Promise<LimaStatus>

  /**
   * The VM there is.
   *
   * @throws `INVALID_STATE` when there is none
   */
  getVMInfo(options?: CallOptions): Promise<VmInfo>

  /**
   * Brings the VM to running from any state: installs what is missing (Lima, the guest image and containerd, fetched at
   * once under one progress), creates the VM, boots it, joins a start that is under way, mends what a crash left.
   * Resolves when SSH works and containerd answers. At once when it runs already.
   *
   * Deadline: a first boot 30 minutes, a later one 3 minutes, both without the downloads, which have only idle
   * timeouts; `timeoutMs` replaces it, for everything together.
   *
   * @throws what {@link install} throws, `ROOT_USER`, `PATH_TOO_LONG`, `VM_START_FAILED`, `VM_BROKEN`,
   *   `CONTAINERD_NOT_READY`, `INVALID_ARGUMENT`, `INVALID_STATE` for a VM that a newer Lima has run; `details.hostAgentLog`, `details.serialLog` and, of a VM without
   *   containerd, `details.guestLog` are the ends of the VM's logs
   */
  start(progress?: Progress): Promise<void>

  /**
   * Ends the VM: the containers first (their restart policies stay), then the guest; by force what does not end in time:
   * a container after 10 s, a guest of which nothing is seen after 30 s. No VM, or one at rest, is no error. Deadline:
   * 3 min, for a guest that is slow.
   */
  stop(progress?: Progress): Promise<void>

  /** {@link stop}, then {@link start}. */
  restart(progress?: Progress): Promise<void>

  /** Removes the VM with all it holds: containers, images, volumes. What was downloaded stays. Deadline: 60 s. */
  delete(progress?: Progress): Promise<void>

  /** {@link delete}, then {@link start}: a new VM with the same settings. */
  factoryReset(progress?: Progress): Promise<void>

  /**
   * Other resources, for the VM that is there or will be. Those named replace the constructor's and are kept, across
   * upgrades, resets and restarts of the application. A running VM has them after its next start.
   *
   * @throws `INVALID_ARGUMENT` for what this computer does not have, and for a disk smaller than the VM's
   */
  configure(resources: Partial<VmResources>, options?: CallOptions): Promise<{ restartRequired: boolean }>

  /** The computer is about to sleep (Electron's `powerMonitor` says so): the VM writes to its disk what it has. */
  notifySuspend(): void

  /**
   * The computer woke up. A VM that ran is looked at: its clock is set, the connections to it are made anew, and one
   * that does not answer within 10 s is brought back, as by {@link start}. A VM at rest stays so.
   */
  notifyResume(progress?: Progress): Promise<void>

  /**
   * Runs nerdctl as root in the VM and returns what it printed, as UTF-8. The arguments reach it as they are. No
   * deadline but `timeoutMs`; a call given up ends nerdctl.
   *
   * `run -d -p …` resolves once the ports are open on this computer, or 10 s later with a warning of the process, code
   * `PORT_NOT_FORWARDED`, when the container is late.
   *
   * @throws `ENGINE_ERROR` when nerdctl does not end with 0 (`details.exitCode`, `details.stderr`), `VM_NOT_RUNNING` at
   *   once, `PORT_IN_USE` when another program has a port that `run` is to publish
   * @example
   * ```ts
   * const ids = await lima.execNerdctl(['ps', '-q'])
   * await lima.execNerdctl(['load'], { input: await readFile('image.tar') })
   * ```
   */
  execNerdctl(args: string[], options?: NerdctlOptions): Promise<string>

  /**
   * Everything that a support person would look at, in any state of the VM. It reads alone: nothing is changed, mended or
   * started. Deadline: 60 s.
   */
  diagnose(options?: CallOptions): Promise<DiagnosticCheck[]>

  /**
   * Writes a `.tar.gz` for a support person: the checks of {@link diagnose}, settings, and the last 256 KiB of each log of
   * Lima, of the VM's boot and of containerd. Secrets, user and host names, home directories, e-mail and network addresses
   * (but the loopback's) are blanked. The file is this user's alone, and there whole or not at all. Deadline: 120 s.
   *
   * @param path of the file; one that exists is replaced
   * @returns the path, absolute
   * @throws `INVALID_ARGUMENT` when `path` is something else than a file or its directory is not there, `PERMISSION_DENIED`, `DISK_FULL`
   * @example
   * ```ts
   * await lima.collectDiagnostics(join(app.getPath('downloads'), 'diagnostics.tar.gz'))
   * ```
   */
  collectDiagnostics(path: string, options?: CallOptions): Promise<string>

  /**
   * Removes what was installed.
   *
   * @throws `IN_USE` while the VM runs, `PERMISSION_DENIED`, `LOCKED`
   */
  uninstall(options?: UninstallOptions): Promise<void>

  /** The raw `limactl`, absolute; there once {@link install} has been. */
  getLimactlPath(): string

  /** Our own `lima` program, absolute: it only ever touches this application's VM. */
  getLimaPath(): string

  /** Our own `nerdctl` program, absolute: it talks to this application's containerd and never prompts. */
  getNerdctlPath(): string

  /** Where containerd's socket is forwarded to, absolute. */
  getContainerdSocketPath(): string
}
