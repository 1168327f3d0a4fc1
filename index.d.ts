/**
 * A container runtime for desktop apps, behind one interface.
 *
 * Conventions:
 *
 * - Every asynchronous method rejects with a {@link RuntimeError}: `code` says what happened, `hint` what a person can
 *   do. Arguments are checked before any engine is asked (`INVALID_ARGUMENT`, `details.field`).
 * - Every method takes `signal` and `timeoutMs` ({@link CallOptions}), in its options object or as the last argument.
 * - An unknown option, at any depth, is `INVALID_ARGUMENT` too: a misspelt one never becomes a default.
 * - Sizes are bytes; ports are numbers in answers and text in requests; each duration or time names its unit.
 * - An id may also be a name or an unambiguous prefix of an id; a name wins over a prefix.
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
 * @module lima-runtime
 */

import type { EventEmitter } from 'node:events'
import type { Readable, Writable } from 'node:stream'

// ---- Errors ---------------------------------------------------------------------------------------------------------

/**
 * What went wrong. The same situation has the same code on every backend.
 *
 * Installing and starting a runtime:
 *
 * - `NOT_INSTALLED`: the requested runtime is not installed; `hint` says how to get it.
 * - `UNSUPPORTED_PLATFORM`: this operating system, architecture or version cannot run it.
 * - `ROOT_USER`: Lima refuses to run as root.
 * - `PATH_TOO_LONG`: a socket path would be longer than the operating system allows.
 * - `DOWNLOAD_FAILED`: a download failed for good: the server refused, or the retries are used up.
 * - `CHECKSUM_MISMATCH`: the bytes are not the ones the manifest names (`details.expected`, `.actual`). Nothing was
 *   installed.
 * - `ARCHIVE_UNSAFE`: an archive, or what was copied out of a container, writes outside its directory, or misstates its
 *   contents. Nothing of it was kept.
 * - `DISK_FULL`: not enough space on the disk.
 * - `LOCKED`: another process holds the lock, and the call's deadline passed.
 * - `VM_BROKEN`: repair could not bring the VM out of its state.
 * - `VM_START_FAILED`: the VM did not come up.
 * - `VM_NOT_RUNNING`: the call needs a running VM, and there is none (or it stopped meanwhile).
 * - `CONTAINERD_NOT_READY`: the VM runs, but its containerd does not answer.
 *
 * Any call:
 *
 * - `TIMEOUT`: the deadline passed (`details.timeoutMs`).
 * - `ABORTED`: the caller's `signal` was aborted; `cause` is its `reason`.
 * - `INVALID_ARGUMENT`: an argument is wrong; `details.field` names it. Checked before the engine is asked, unless only
 *   the engine can tell: a program that the image lacks, an address that its machine does not have.
 * - `INVALID_STATE`: the object is in a state that does not allow the call.
 * - `PERMISSION_DENIED`: the operating system refused to open a socket, file or directory; or this process is root, and
 *   another user can change the directory to write to.
 * - `ENGINE_UNREACHABLE`: no engine answers at the endpoint.
 * - `TOO_LARGE`: a program's output, or an engine's answer, has more bytes than the limit (`details.limit`). The
 *   program was ended.
 * - `ENGINE_ERROR`: the engine refused for a reason without a code of its own; the message is the engine's.
 * - `INTERNAL`: a bug of this package.
 *
 * Containers, images, networks, volumes:
 *
 * - `CONTAINER_NOT_FOUND`, `IMAGE_NOT_FOUND`, `NETWORK_NOT_FOUND`, `VOLUME_NOT_FOUND`: there is none with that id or
 *   name, which the message holds.
 * - `NAME_IN_USE`: a container or network of that name exists.
 * - `PORT_IN_USE`: the host port is taken; the message names it.
 * - `PORT_NOT_FORWARDED`: never thrown; the `code` of a process warning (`process.on('warning', …)`): a call succeeded,
 *   but a port it published does not answer on this computer (yet).
 * - `OUTDATED_VERSION`: never thrown; the `code` of a process warning, once for each program: its version should not be
 *   used. The message says why.
 * - `ENGINE_WARNING`: never thrown; the `code` of a process warning: a call succeeded, but the engine did not do all that
 *   it was asked. The message is the engine's.
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

/** Facts about an error, for a log or a bug report. The code decides which are present. */
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
 *   if (error instanceof RuntimeError && error.code === 'PORT_IN_USE') askForAnotherPort(error.message)
 *   else throw error
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
  /** Stable: programs may depend on it. The message may change. */
  readonly code: RuntimeErrorCode
  /** What the person at the screen can do; plain English, ready to show. */
  readonly hint?: string
  readonly details: RuntimeErrorDetails
  /** The underlying error, if any; for `ABORTED` the signal's `reason`. */
  readonly cause?: unknown
}

// ---- Calls and progress ---------------------------------------------------------------------------------------------

/** What every method takes. */
export interface CallOptions {
  /**
   * Ends the call with `ABORTED` within 100 ms. Nothing is left half done: a half-made container is removed, a download
   * can be resumed. A method that returns a stream or iterator obeys the signal until that has ended.
   */
  signal?: AbortSignal | undefined
  /**
   * Milliseconds (above 0, at most 2^31 - 1) until the call ends with `TIMEOUT`. Replaces the method's own deadline,
   * which is 60 s unless the method says otherwise.
   */
  timeoutMs?: number | undefined
}

/** Argument of installing, starting and stopping a runtime: a function for plain messages, or an object. */
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
  /** The part it is about; absent for the whole. */
  component?: 'lima' | 'image' | 'nerdctl' | 'containerd' | 'docker'
  /** English, ready to show. */
  message: string
  /** 0 to 100; never decreases within a phase. Absent when unknown. */
  percent?: number
  /** Bytes so far. */
  transferred?: number
  /** Total bytes. Absent when unknown. */
  total?: number
  bytesPerSecond?: number
  /** Seconds until the end of this phase, at the current speed. */
  etaSeconds?: number
}

/** One event of an image's pull or push; at most about ten a second. */
export interface PullProgress {
  /** What is happening, ready to show. */
  status: string
  /** 0 to 100 over all layers; never decreases. */
  progress?: number
  /** Bytes over all layers known so far. */
  total?: number
  /** Bytes so far. */
  current?: number
}

/**
 * One event of a build. Steps are numbered as the engine tells of them; step 0 is sending the context. The texts are the
 * Dockerfile's and of programs that it runs: show them as text. A build's `secrets` are `***` in them.
 */
export type BuildProgress =
  | { type: 'step'; step: number; name: string; state: 'running' | 'done' | 'cached' | 'failed' }
  /** What is sent, fetched or unpacked; at most about ten a second. */
  | { type: 'bytes'; step: number; name: string; current: number; total?: number }
  /** What a step's programs print, of a whole build 16 MiB at most. */
  | { type: 'log'; step: number; stream: 'stdout' | 'stderr'; text: string }

/** One event of a project of compose, as its engine's compose tells it; of bytes at most about ten a second. */
export interface ComposeProgress {
  /**
   * As compose calls it: `'Container demo-web-1'`, `'Network demo_default'`, `'Image redis:7'`; empty for the whole project, and
   * `'docker compose'` while that is fetched.
   */
  resource: string
  /** What it is a part of, for example of a layer its image. */
  parent?: string
  /** What is happening, ready to show: `'Creating'`, `'Started'`, or a warning's text. */
  status: string
  /** containerd's compose does not tell of what is done, but for images. */
  state: 'working' | 'done' | 'warning' | 'failed'
  details?: string
  /** Bytes so far. */
  current?: number
  /** Bytes. */
  total?: number
}

// ---- Containers -----------------------------------------------------------------------------------------------------

/** The kinds of backend. */
export type RuntimeType = 'docker' | 'containerd' | 'lima'

/** A container to create. */
export interface ContainerConfig {
  /** 2 to 253 of the letters `a-z A-Z 0-9 _ . -`, beginning with a letter or digit. */
  name: string
  /** An image reference: `redis:7`, `registry.example.com:5000/team/app@sha256:…`. Pulled first when absent. */
  image: string
  /** Environment variables. The container gets none of this process's own. */
  env?: Record<string, string>
  /**
   * Container port to host port: `{ '80': '8080', '53/udp': '127.0.0.1:5353' }`. Ports are 1 to 65535, TCP unless
   * `/udp` is written. Host port `'0'` (`'127.0.0.1:0'`) is the engine's choice, which `inspectContainer` tells. Without an
   * address: 127.0.0.1 on Lima and the bundled containerd, all addresses on Docker.
   */
  ports?: Record<string, string>
  /** Directories, files and volumes to mount. */
  volumes?: {
    /**
     * An absolute path on the host, or the name of a volume (created when absent). `/var/run/docker.sock` means the
     * engine's own API socket, wherever it listens on its machine; an engine without one refuses it.
     */
    host: string
    /** An absolute path in the container. */
    container: string
    /** Default: false. */
    readOnly?: boolean
  }[]
  /**
   * Names or ids of networks; the container is attached to all of them before it starts. Default: the engine's default
   * network.
   */
  networks?: string[]
  /** The program and its arguments, passed literally, without a shell. Default: the image's own. */
  command?: string[]
  /** How the engine checks whether the container works. Default: the image's own. */
  healthcheck?: {
    /** As in Docker: `['CMD', 'curl', '-f', 'http://localhost/']`, `['CMD-SHELL', 'exit 0']` or `['NONE']`. */
    test: string[]
    /** Milliseconds between two checks, from 1 to a day. */
    interval: number
    /** Milliseconds a check may take, from 1 to a day. */
    timeout: number
    /** Failures in a row that make the container `unhealthy`, 1 to 1000. */
    retries: number
    /** Milliseconds after the start in which failures do not count, from 0 to a day. Default: 0. */
    startPeriod?: number
    /**
     * Milliseconds between two checks of the start period, from 1 to a day. Default: `interval`, or the engine's own. Docker has
     * it from Engine 25 on; an older one is `INVALID_ARGUMENT`.
     */
    startInterval?: number
  }
  /** What the engine does when the container ends. Default: `'no'`. */
  restart?: 'no' | 'always' | 'on-failure' | 'unless-stopped'
  /**
   * The label `lima-runtime.app` is added; `prune` uses it. Names that engines act on are refused on every engine:
   * those that begin with `com.docker.`, `desktop.docker.io/`, `containerd.io/`, `io.containerd.`, `io.cri-containerd`,
   * `io.containers.`, `nerdctl/`, `lima-runtime.` or `lima-runtime/`, and the one that names a systemd unit for podman. On
   * containerd, an image's own labels of these names do not reach the container; a process warning says so.
   */
  labels?: Record<string, string>
  /**
   * `'linux/amd64'`, `'linux/arm64/v8'`: the image's platform. Pulled when the image is present for another one only.
   * Default: the engine's own.
   */
  platform?: string
  /** For the pull of an image that is absent, as in {@link PullOptions}. Default: `'user'`. */
  credentials?: 'user' | 'none'

  // ---- The process --------------------------------------------------------------------------------------------------

  /**
   * The program that `command` is given to, with its first arguments; then the image's own command counts for nothing. `[]` takes
   * the image's own entrypoint away, and needs a `command`. Default: the image's own.
   */
  entrypoint?: string[]
  /** `'1000'`, `'1000:1000'`, `'www-data'`. Default: the image's own. */
  user?: string
  /** An absolute path in the container, made when absent. Default: the image's own. */
  workdir?: string
  /** At most 63 letters, digits, `-` and `.`. Default: the beginning of the id. */
  hostname?: string
  /** As `hostname`. */
  domainname?: string
  /** Gives the process a terminal; its standard error is then part of its standard output. Default: false. */
  tty?: boolean
  /**
   * Keeps the process's standard input open. containerd does so only together with `tty` (else `INVALID_ARGUMENT`). Default:
   * false.
   */
  stdin?: boolean
  /** Whether a small init is process 1, which passes signals on and reaps. Default: the engine's own, mostly false. */
  init?: boolean
  /**
   * Removes the container at its end, with its anonymous volumes. Not together with `restart`. On containerd the removal is ours:
   * it comes while a process of the application lives, or when the next one connects. Default: false.
   */
  autoRemove?: boolean
  /** The signal that `stopContainer` sends: `'SIGQUIT'`, `'SIGRTMIN+3'`, `'3'`. Default: the image's own, or SIGTERM. */
  stopSignal?: string
  /** Seconds between that signal and the kill, 0 to 86400. Default: 10. */
  stopTimeout?: number
  /** What the container may use. Default: no limits. */
  resources?: ContainerResources

  // ---- Its files ----------------------------------------------------------------------------------------------------

  /** Memory as directories, by their absolute paths in the container; always `noexec,nosuid,nodev`. */
  tmpfs?: Record<string, TmpfsOptions>
  /** What is mounted, beside `volumes`, with more to choose. One place in the container is mounted once. */
  mounts?: {
    type: 'bind' | 'volume' | 'tmpfs'
    /**
     * Of `bind`: an absolute path on the host, which has to exist; Docker's socket is as in `volumes`. Of `volume`: its name, made
     * when absent; without one it is a new anonymous one. `tmpfs` has none.
     */
    source?: string
    /** An absolute path in the container. */
    target: string
    /** Default: false. */
    readOnly?: boolean
    /** Of a named volume: the directory in it that is mounted, which has to exist. Docker Engine 26 and later. */
    subpath?: string
    /** Of `bind`: `'private'`, `'rprivate'`, `'shared'`, `'rshared'`, `'slave'` or `'rslave'`. Default: the engine's own. */
    propagation?: string
  }[]
  /** Lets nothing be written outside of mounts. Default: false. */
  readOnlyRootfs?: boolean

  // ---- Its powers ---------------------------------------------------------------------------------------------------

  /** Gives all powers over the engine's machine. Default: false. */
  privileged?: boolean
  /** Capabilities, with or without `CAP_`: `'NET_ADMIN'`, `'ALL'`. */
  capAdd?: string[]
  /** The same, taken away; before those that are added. */
  capDrop?: string[]
  /**
   * `no-new-privileges`, `systempaths=unconfined`, `seccomp=unconfined`, `apparmor=<profile>`; on Docker alone also
   * `seccomp=<the profile's JSON>` and `label=<SELinux label>`.
   */
  securityOpt?: string[]
  /** More groups of the process: names or numbers. */
  groupAdd?: string[]
  /** Devices of the engine's machine: `'/dev/fuse'`, `'/dev/sda:/dev/xvda:r'`. */
  devices?: string[]
  /** GPUs by NVIDIA's or another vendor's toolkit: all, a number of them (1 to 64), or their ids. */
  gpus?: 'all' | number | string[]
  /** Limits of setrlimit(2) by their names (`nofile`, `nproc`, `core`, …). A number is both limits; -1 is none. */
  ulimits?: Record<string, number | { soft: number; hard: number }>
  /** Kernel parameters of the container's own namespaces: `{ 'net.core.somaxconn': '1024' }`. */
  sysctls?: Record<string, string>

  // ---- Its network --------------------------------------------------------------------------------------------------

  /** Lines of its `/etc/hosts`: name to address, or to `'host-gateway'`, an address of the engine's machine. */
  extraHosts?: Record<string, string>
  /** Addresses of its name servers. Default: the engine's own. */
  dns?: string[]
  /** Domains in which names are looked up. */
  dnsSearch?: string[]
  /** Options of resolv.conf(5): `'ndots:2'`. */
  dnsOptions?: string[]
  /**
   * No network, the engine's machine's own, or that of another container, by id or name. Not together with `networks` and
   * `ports`; in another container's network neither with names and name servers of its own.
   */
  networkMode?: 'none' | 'host' | `container:${string}`
  /** By networks, as `networks` names them. */
  networkOptions?: Record<string, NetworkAttachmentOptions>

  // ---- The engine's part --------------------------------------------------------------------------------------------

  /**
   * Where its output goes. Default: the engine's own, mostly `json-file`. `getContainerLogs` of a driver that keeps nothing is
   * `INVALID_STATE`. containerd has `json-file`, `journald`, `fluentd` and `syslog`.
   */
  logging?: { driver: string; options?: Record<string, string> }
  /** The name of another OCI runtime of the engine: `'runsc'`. */
  runtime?: string
  /** Processes seen from: `'host'`, or `'container:<id>'`. Default: its own. */
  pidMode?: string
  /**
   * Shared memory: `'private'`, `'shareable'`, `'host'`, `'container:<id>'`; on Docker also `'none'`. containerd shares another
   * container's from nerdctl 2.3.5 on. Default: its own.
   */
  ipcMode?: string
  /**
   * Annotations of its OCI configuration, for the runtime. Names that engines act on are refused, as in `labels`. Docker Engine 24
   * and later.
   */
  annotations?: Record<string, string>
}

/** Memory as a directory of a container. */
export interface TmpfsOptions {
  /** As `resources.memory`, at least 1. Default: half of the machine's memory. */
  size?: number | string
  /** Permissions: `0o1777`, the default, up to `0o7777`. */
  mode?: number
}

/** What a container is in one of its networks. */
export interface NetworkAttachmentOptions {
  /** Other names by which the containers of the network find this one; on containerd in all its networks. */
  aliases?: string[]
  /** Addresses of its own, of a network with a subnet; on containerd only of a container in one network. */
  ipv4?: string
  ipv6?: string
  /** `'02:42:ac:11:00:02'` */
  mac?: string
}

/** What a container may use. */
export interface ContainerResources {
  /** How many CPUs' time: 0.01 to as many as the engine's machine has. */
  cpus?: number
  /** Its weight beside others when there is not enough, 2 to 262144. Default: 1024. */
  cpuShares?: number
  /** On which CPUs it runs: `'0-3,5'`. */
  cpuset?: string
  /** `'512MiB'` (`KiB`, `MiB`, `GiB`, `TiB`, of 1024; a fraction is allowed), or bytes; at least 6 MiB. */
  memory?: number | string
  /** Memory and swap together, at least `memory`, which it needs; -1 is no limit. Default: twice `memory`. */
  memorySwap?: number | string
  /** What it is pressed down to when memory is short: at least 6 MiB, at most `memory`. */
  memoryReservation?: number | string
  /** How many processes and threads, 1 to 4194304; -1 is no limit. */
  pids?: number
  /** The size of `/dev/shm`, at least 4 KiB. Default: 64 MiB. */
  shmSize?: number | string
  /** How soon it is killed when the machine's memory ends, -1000 (never) to 1000; without root from 100 on. Default: 0. */
  oomScoreAdj?: number
}

/** What {@link ContainerAdapter.updateContainer} changes. */
export interface ContainerUpdate {
  /** Without `shmSize` and `oomScoreAdj`. What is not given stays. */
  resources?: ContainerResources
  restart?: 'no' | 'always' | 'on-failure' | 'unless-stopped'
}

/** A container at the time of the call. */
export interface ContainerInfo {
  /** 64 hexadecimal digits. */
  id: string
  name: string
  /** The image reference it was created from. */
  image: string
  /** `'stopped'`: created but never started. `'exited'`: has run. */
  state: 'running' | 'stopped' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead'
  /** The engine's own text: `Up 5 minutes`. */
  status: string
  /** `'none'` without a healthcheck. */
  health?: 'healthy' | 'unhealthy' | 'starting' | 'none'
  created: Date
  /** `hostPort` is absent where the port is not published. */
  ports: { containerPort: number; hostPort?: number; protocol: 'tcp' | 'udp' }[]
}

/** A container of a project of compose. */
export interface ComposeContainer extends ContainerInfo {
  /** Its service's name in the project. */
  service: string
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
  /** The engine's own answer, for what the other fields lack. Its form depends on the backend. */
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
  /** Include containers that do not run. Default: false. */
  all?: boolean
  /**
   * Docker's filters: a container must match every key, with one of its values. Known keys: `ancestor before exited
   * expose health id label name network publish since status volume`; another one is `INVALID_ARGUMENT`. `name` matches
   * any part of a name, `id` the beginning of an id, both literally; an exact name comes first in the answer.
   */
  filters?: Record<string, string[]>
}

/** Options of {@link ContainerAdapter.watchContainers}. */
export interface WatchContainersOptions extends CallOptions {
  /** As of {@link IContainerRuntime.listContainers}. */
  filters?: Record<string, string[]>
}

/** Options of {@link IContainerRuntime.getContainerLogs}. */
export interface LogOptions extends CallOptions {
  /** Continue with new output; the stream ends when the container does. Default: false. */
  follow?: boolean
  /** The last lines only; 0 for none. Default: all. */
  tail?: number
  /** Only output since this time: a Unix time in seconds, fractions allowed. */
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
   * The most bytes of standard output and standard error together, 1 to 2^31 - 1. A program that prints more is ended,
   * and the call rejects with `TOO_LARGE`. Default: 64 MiB.
   */
  maxOutput?: number
}

/** The result of a program in a container. */
export interface ExecResult {
  exitCode: number
  stdout: Buffer
  stderr: Buffer
}

/** Options of {@link ContainerAdapter.spawnInContainer}. */
export interface SpawnOptions extends CallOptions {
  /** Ends the process when it is aborted, also after the start; `timeoutMs` applies to the start. */
  signal?: AbortSignal
  /** Give it a terminal: one stream of output, and `TERM=xterm` where nothing else is said. Default: false. */
  tty?: boolean
  /** The terminal's size in characters, 1 to 65535; with `rows`. Default: the engine's. */
  columns?: number
  /** As `columns`. */
  rows?: number
  /** A standard input to write to; else it is empty. Default: true. */
  stdin?: boolean
  /** Variables added to the container's own. */
  env?: Record<string, string>
  /** An absolute path in the container. Default: the container's own. */
  workdir?: string
  /** A user, or user and group, by name or number: `'www-data'`, `'1000:1000'`. Default: the container's own. */
  user?: string
  /** With all of the kernel's capabilities. Default: false. */
  privileged?: boolean
}

/** Options of {@link ContainerAdapter.attachContainer}. */
export interface AttachOptions extends CallOptions {
  /** Lets go of the process when it is aborted; `timeoutMs` applies to the attaching. */
  signal?: AbortSignal
  /** Write to its standard input, which the container must keep open. Default: false. */
  stdin?: boolean
  /** Begin with what it has printed so far. Default: false. */
  logs?: boolean
}

/**
 * A process in a container, shaped like Node's `ChildProcess`. As there, a process whose output is not read waits once
 * some 256 KiB of one stream are unread; `resume()` throws a stream away, `destroy()` closes it. A spawned process that
 * nobody refers to any more, neither to it nor to a stream nor to `exited`, is ended.
 */
export interface ContainerProcess {
  /**
   * `end()` ends the process's input, its output goes on; a terminal has no end of input: write `'\x04'`. `null` where it
   * was not asked for. What a process does not read when it ends is dropped without an error.
   */
  readonly stdin: Writable | null
  /** Bytes, as the process writes them. With a terminal, all of its output. It ends without an error; see `exited`. */
  readonly stdout: Readable
  /** `null` with a terminal. */
  readonly stderr: Readable | null
  /**
   * Resolves once the process has ended and `'data'` listeners have got all of its output. A child of the process that
   * still holds its output is waited for 2 s. It rejects when the connection is lost, with `ABORTED` when the signal was
   * aborted, and with `INVALID_ARGUMENT` for a user or a `workdir` that the container does not have. The exit code is 127
   * for a missing program, 126 for one that cannot run, with the engine's message on the error stream.
   */
  readonly exited: Promise<{ exitCode: number }>
  /**
   * The terminal has another size now, in characters, 1 to 65535.
   *
   * @throws `INVALID_ARGUMENT`, an engine's error without a terminal
   */
  resize(columns: number, rows: number): Promise<void>
  /**
   * Sends a signal, by name or number; default: `'SIGTERM'`. A process that has ended gets none, which is no error. Docker
   * has no call for a spawned process: a shell in the container signals it, as its user; without `sh`, `grep` and `kill`
   * there it is `ENGINE_ERROR`, and an aborted process runs on.
   *
   * @throws `INVALID_ARGUMENT`, `ENGINE_ERROR`
   */
  kill(signal?: string): Promise<void>
}

/** Options of {@link ContainerAdapter.waitContainer}. */
export interface WaitOptions extends CallOptions {
  /** What to wait for. Default: `'exited'`. */
  condition?: 'exited' | 'healthy' | 'removed'
}

/** The processes in a container: a table. */
export interface ProcessList {
  /** As `ps` of the engine's machine has them: `['UID', 'PID', 'PPID', 'C', 'STIME', 'TTY', 'TIME', 'CMD']`. */
  titles: string[]
  /** A row for each process, with its number on the engine's machine. */
  processes: string[][]
}

/** Options of {@link ContainerAdapter.events}. */
export interface EventOptions extends CallOptions {
  /**
   * Begin with past events since this time, as far as the engine remembers them: a Unix time in seconds. Default: new
   * events only.
   */
  since?: number
  /** Known: `container event image label network type volume`. */
  filters?: Record<string, string[]>
}

/** Something that happened on the engine, whoever caused it. */
export interface RuntimeEvent {
  time: Date
  kind: 'container' | 'image' | 'network' | 'volume'
  /** Docker's names: `'create'`, `'start'`, `'die'`, `'pull'`… */
  action: string
  id: string
  name?: string
  /** Of a container that has ended. */
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

/** What an image says of itself. Of one for several platforms: the one that this engine runs. */
export interface ImageDetails extends ImageInfo {
  /** `['ghcr.io/me/app@sha256:…']`: as registries know it. */
  digests: string[]
  /** `'linux'`. */
  os: string
  /** As Go names it: `'amd64'`, `'arm64'`. */
  architecture: string
  /** `'v8'`. */
  variant?: string
  author?: string
  labels: Record<string, string>
  env: Record<string, string>
  /** Before `command`. */
  entrypoint: string[]
  /** What runs when a container names nothing else. */
  command: string[]
  workdir?: string
  user?: string
  /** `'SIGQUIT'`. */
  stopSignal?: string
  /** What it says it listens on: `['80/tcp']`. */
  ports: string[]
  /** Paths for which a container gets volumes. */
  volumes: string[]
  /** Digests of the unpacked layers, lowest first. */
  layers: string[]
  /** The engine's own answer; on containerd the image's configuration, as the OCI image specification has it. */
  raw: unknown
}

/** One step of an image's making. */
export interface ImageHistoryEntry {
  /** Absent where the image does not say. */
  created?: Date
  /** The command, as its builder wrote it. */
  createdBy: string
  comment: string
  /** Bytes that it added, unpacked; 0 for a step without files. */
  size: number
}

/** Options of {@link ContainerAdapter.pushImage}. */
export interface PushOptions extends CallOptions {
  /** Default: what docker's configuration and credential helpers have for the registry. */
  auth?: { username: string; password: string }
  /** `'none'`: without `auth`, the push is anonymous. `'user'` (default): with what this user has stored. */
  credentials?: 'user' | 'none'
}

/** Options of {@link ContainerAdapter.commitContainer}. */
export interface CommitOptions extends CallOptions {
  /** The image's name: `'me/app:1'`. It is taken from another image if needed. */
  reference: string
  /** Shown in its history. */
  message?: string
  author?: string
  /** Whether the container's processes stand still meanwhile, so that no file is half written. Default: true. */
  pause?: boolean
}

/** Options of {@link ContainerAdapter.buildImage}. */
export interface BuildOptions extends CallOptions {
  /** A path in the context. Default: `'Dockerfile'`. */
  dockerfile?: string
  /** The image's names: `['me/app:1', 'me/app:latest']`. They are taken from other images if needed. */
  tags?: string[]
  /** Values for the Dockerfile's `ARG`s. An image's history shows them: not for secrets. */
  args?: Record<string, string>
  /** The stage to build. Default: the last. */
  target?: string
  /** `'linux/arm64'`. Default: the engine's own. */
  platform?: string
  /** Labels of the image. Those that an engine acts on are refused, as those of a container are. */
  labels?: Record<string, string>
  /**
   * By name, for `RUN --mount=type=secret,id=NAME`; 500 KiB at most each. They stand on no command line, in no layer and no
   * history, and on no disk, unless the Dockerfile puts them there.
   */
  secrets?: Record<string, string | Uint8Array>
  /** Images of registries whose cache may be used, if they were built with the argument BUILDKIT_INLINE_CACHE=1. */
  cacheFrom?: string[]
  /** Use no cache. */
  noCache?: boolean
  /** Ask registries for newer versions of the images it begins with. */
  pull?: boolean
  /**
   * Whether the user's registry credentials may be used, of the registries that the Dockerfile, `args`, `tags` and `cacheFrom`
   * name (of a tar only the options count). Default: `'user'`.
   */
  credentials?: 'user' | 'none'
  onProgress?: (progress: BuildProgress) => void
}

/** Which project of compose is meant, of {@link ContainerAdapter.composeUp}, `composeDown` and `composePs`. */
export interface ComposePsOptions extends CallOptions {
  /**
   * 1 to 63 of `a-z 0-9 _ -`, beginning with a letter or digit. Default: the `name` in the file or object, else a file's
   * directory, as compose itself calls it. An object without `name` needs it.
   */
  projectName?: string
}

/** Options of {@link ContainerAdapter.composeDown}. */
export interface ComposeDownOptions extends ComposePsOptions {
  /**
   * What `${…}` in the project stands for. Nothing of this process's environment does, but for `PATH` and `HOME`; of a file's
   * directory its `.env` does. Names are of `A-Z a-z 0-9 _`; those that steer compose (`COMPOSE_…`, `DOCKER_…`, `PATH`, …) are
   * refused.
   */
  env?: Record<string, string>
  /** The profiles whose services count. Default: none. */
  profiles?: string[]
  /**
   * Of an object: the directory that its relative paths begin in. Default: the working directory of this process, or `/` where
   * containerd is in a VM that does not see that. A file's is the one that it lies in.
   */
  directory?: string
  /** Remove the project's containers whose services are not in it any more. Default: false. */
  removeOrphans?: boolean
  /** Remove its named volumes, with their data, and the anonymous ones of its containers. Default: false. */
  volumes?: boolean
  onProgress?: (progress: ComposeProgress) => void
}

/** Options of {@link ContainerAdapter.composeUp}. */
export interface ComposeUpOptions extends Omit<ComposeDownOptions, 'volumes'> {
  /** These services, and what they depend on. Default: all. */
  services?: string[]
  /** When images are fetched. Default: as the project says, mostly when they are missing. */
  pull?: 'always' | 'missing' | 'never'
  /** Build the images of services with a `build`, also those that are there. Default: false. */
  build?: boolean
  /** Resolve when all containers run, and those with a healthcheck are healthy. Default: false. */
  wait?: boolean
}

/** Options of {@link ContainerAdapter.copyFromContainer}. */
export interface CopyFromOptions extends CallOptions {
  /**
   * A directory of this computer to unpack into, made if it is not there (the one above it must be). Nothing in it is
   * replaced.
   */
  to?: string
}

/** Options of {@link IContainerRuntime.pullImage}. */
export interface PullOptions extends CallOptions {
  /** `'linux/amd64'`, `'linux/arm64/v8'`. Default: the engine's own. */
  platform?: string
  /** Default: what docker's configuration and credential helpers have for the registry. */
  auth?: { username: string; password: string }
  /** `'none'`: without `auth`, the pull is anonymous. `'user'` (default): with what this user has stored. */
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

/** What {@link ContainerAdapter.inspectNetwork} knows of a network. */
export interface NetworkDetails extends NetworkInfo {
  /** Without access to other networks. */
  internal: boolean
  /** Docker's flag for containers outside a Swarm service. */
  attachable: boolean
  labels: Record<string, string>
  /** In CIDR form: `{ subnet: '10.4.1.0/24', gateway: '10.4.1.1' }`. */
  subnets: { subnet: string; gateway?: string }[]
  /** The engine's own answer; `null` on a restricted adapter. */
  raw: unknown
}

/** Options of {@link IContainerRuntime.createNetwork}. */
export interface NetworkOptions extends CallOptions {
  /** Default: `'bridge'`. */
  driver?: string
  /** Without access to other networks. Default: false. */
  internal?: boolean
  /** Docker's flag for containers outside a Swarm service. Default: false. */
  attachable?: boolean
  labels?: Record<string, string>
}

/** A volume: data that outlives its containers. */
export interface VolumeInfo {
  name: string
  driver: string
  /** Where the engine keeps it: a path on the engine's machine, which may be a VM. */
  mountpoint: string
}

/** What {@link ContainerAdapter.inspectVolume} knows of a volume. */
export interface VolumeDetails extends VolumeInfo {
  labels: Record<string, string>
  /** The engine's own answer. */
  raw: unknown
}

/** Options of {@link IContainerRuntime.createVolume}. */
export interface VolumeOptions extends CallOptions {
  /** Default: `'local'`. */
  driver?: string
  /** The label `lima-runtime.app` is added. The names refused for a container's labels are refused here, too. */
  labels?: Record<string, string>
}

/** The engine and the machine it runs on, which may be a VM. */
export interface SystemInfo {
  /** `'linux'`. */
  os: string
  /** As the engine reports it: `'x86_64'`, `'aarch64'`. */
  architecture: string
  cpus: number
  /** Bytes. */
  memory: number
  /** The engine's version. */
  runtimeVersion: string
  /**
   * Who runs healthchecks: the engine, a timer in the guest, or this process (only while it lives). Every adapter of
   * this package sets it.
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
  /** Bytes that would be freed by removing what nothing uses. */
  reclaimable: number
}

/** Options of {@link IContainerRuntime.prune}. Without a kind: containers, dangling images and networks. */
export interface PruneOptions extends CallOptions {
  /** Containers that do not run. */
  containers?: boolean
  /** Images without a tag that no container uses. */
  images?: boolean
  /** Volumes that no container uses. Their data is lost. */
  volumes?: boolean
  /** Networks that no container is attached to. */
  networks?: boolean
  /**
   * `'app'`: only what carries our `lima-runtime.app` label. `'engine'`: everything. Default: `'engine'` on an engine
   * of the application's own, `'app'` on another one (Docker).
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
 * A container runtime of any kind.
 *
 * Any method that talks to the engine may reject with `ENGINE_UNREACHABLE`, `PERMISSION_DENIED`, `TIMEOUT`, `ABORTED`,
 * `INVALID_ARGUMENT`, `ENGINE_ERROR` and, in a VM, `VM_NOT_RUNNING`; methods list only their further codes.
 */
export interface IContainerRuntime {
  /** Makes the runtime ready for use. Docker: finds the engine and checks that it answers, without progress. */
  initialize(progress?: Progress): Promise<void>

  /** Whether the engine answers now. Rejects only with `ABORTED` and `INVALID_ARGUMENT`. */
  isAvailable(options?: CallOptions): Promise<boolean>

  getRuntimeType(): RuntimeType

  /**
   * Pulls the image when absent, creates the container and starts it. When a step fails or is aborted, no container is
   * left. The pull has no deadline (but ends after 60 s without a byte, like `pullImage`); the rest has 60 s.
   *
   * In a Lima VM it resolves once the published ports are open on this computer, or 10 s later with a process warning,
   * code `PORT_NOT_FORWARDED`. A WSL distribution refuses UDP ports, which Windows does not forward.
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
   * Asks the container to end, and kills it after `timeout` seconds (0 to 86400; default: the container's own, 10). A
   * container that does not run is not an error. One with `restart: 'always'` stays stopped. Deadline: `timeout` plus
   * 30 s.
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
   * Stops and starts the container; `timeout` as in `stopContainer`.
   *
   * @throws `CONTAINER_NOT_FOUND`, `PORT_IN_USE`
   */
  restartContainer(id: string, timeout?: number, options?: CallOptions): Promise<void>

  /**
   * Freezes all processes of the container.
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
   * The container's output as bytes, standard output and standard error in the order they came. A slow reader slows the
   * engine and costs no memory; `destroy()` closes the connection. An error, or an aborted `signal`, ends the stream
   * with a `RuntimeError`. nerdctl before 2.3.4 may drop the last output of a container that prints faster than its
   * logger reads and then ends: no log has it.
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
   * `cpu` is measured since the last call for this container if that was 0.2 to 10 s ago, else during the next 100 ms.
   *
   * @throws `CONTAINER_NOT_FOUND`, `INVALID_STATE` when it does not run
   */
  getContainerStats(id: string, options?: CallOptions): Promise<ContainerStats>

  /**
   * No deadline, but ends with `TIMEOUT` after 60 s without a byte; on containerd, which reports whole MiB, after 180 s
   * once layers arrive. All progress is reported before it settles.
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
   * By id or reference; an image with several tags loses only the named one. `force` (default: false) removes an image
   * that stopped containers use.
   *
   * @throws `IMAGE_NOT_FOUND`, `IN_USE`
   */
  removeImage(id: string, force?: boolean, options?: CallOptions): Promise<void>

  /** Whether the engine has the image; asks no registry. */
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
   * On a running container: it keeps its id and goes on running, and the attachment survives a restart.
   *
   * @throws `CONTAINER_NOT_FOUND`, `NETWORK_NOT_FOUND`, `INVALID_STATE` when it is attached already
   */
  connectContainerToNetwork(containerId: string, networkId: string, options?: CallOptions): Promise<void>

  /** @throws `CONTAINER_NOT_FOUND`, `NETWORK_NOT_FOUND` */
  disconnectContainerFromNetwork(containerId: string, networkId: string, options?: CallOptions): Promise<void>

  /**
   * An existing volume of that name is used as it is, with its data.
   *
   * @returns The volume's name.
   */
  createVolume(name: string, options?: VolumeOptions): Promise<string>

  /** @throws `VOLUME_NOT_FOUND` (not with `force`), `IN_USE` */
  removeVolume(name: string, force?: boolean, options?: CallOptions): Promise<void>

  listVolumes(options?: CallOptions): Promise<VolumeInfo[]>

  getSystemInfo(options?: CallOptions): Promise<SystemInfo>

  /**
   * Removes what nothing uses, of the named kinds only; see {@link PruneOptions}. No deadline as a whole; with containerd each
   * container, network or volume has 60 s, like one that is removed by itself. A Lima VM gives the space that is free in it back to
   * this computer a moment later.
   *
   * @returns True counts and true bytes.
   */
  prune(options?: PruneOptions): Promise<PruneResult>
}

/** Another name of {@link IContainerRuntime}. */
export type ContainerRuntimeAdapter = IContainerRuntime

/**
 * The base class of this package's adapters: {@link IContainerRuntime} and the methods below. `instanceof` works;
 * construct a subclass.
 */
export declare abstract class ContainerAdapter {
  protected constructor()

  /**
   * The same engine for untrusted callers, such as windows. It reaches only containers, networks and volumes with the
   * application's `lima-runtime.app` label. Others do not exist for it: their ids and names are `CONTAINER_NOT_FOUND`,
   * `NETWORK_NOT_FOUND`, `VOLUME_NOT_FOUND`; a volume's taken name is `NAME_IN_USE`. What it creates has the label,
   * also a named volume of `startContainer`. It uses and creates no networks but bridges, the application's or the
   * engine's default one, and volumes of the `local` driver only (`PERMISSION_DENIED`). `prune` removes only what has
   * the label, and dangling images on an engine that {@link isPrivate}.
   *
   * Its containers get no powers over the engine's machine (`PERMISSION_DENIED`): `privileged`, `devices`, `gpus`, `capAdd`,
   * `securityOpt`, `runtime`, `sysctls`, `logging`, `annotations`, a negative `oomScoreAdj`, `ulimits` of `nice` and `rtprio`, the
   * propagation of a mount, the namespaces of the machine or of another container; nor do programs in them, by `privileged`.
   *
   * It does not restrict paths of this computer, ports, programs in containers, or images.
   *
   * @param options `foreign`: also reaches what is not the application's; all else holds. `powers`: its containers may have the
   * powers above; another container's namespaces are still the application's own. Default: both false.
   */
  restricted(options?: { foreign?: boolean; powers?: boolean }): ContainerAdapter

  /** Whether only this application uses the engine: a VM or a containerd of its own, never the user's Docker. */
  isPrivate(options?: CallOptions): Promise<boolean>

  /**
   * As `startContainer`, without the start: pulls the image when absent and makes the container. Start it with
   * `startContainer(id)`.
   *
   * @returns The full id.
   * @throws As `startContainer`
   */
  createContainer(config: ContainerConfig, options?: CallOptions): Promise<string>

  /**
   * With an id or a name, starts a container that is there; one that runs stays as it is. Else as
   * {@link IContainerRuntime.startContainer}.
   *
   * @returns The full id.
   * @throws `CONTAINER_NOT_FOUND`, `PORT_IN_USE`, `INVALID_STATE` for a paused one
   * @example
   * ```ts
   * const id = await runtime.createContainer({ name: 'job', image: 'busybox', ports: { '80': '0' } })
   * await runtime.startContainer(id)
   * const [port] = (await runtime.inspectContainer(id)).ports
   * show(port?.hostPort)
   * ```
   */
  startContainer(configOrId: ContainerConfig | string, options?: CallOptions): Promise<string>

  /**
   * Changes limits and the restart policy of a container that is there; limits of a running one at once.
   *
   * @throws `CONTAINER_NOT_FOUND`; `INVALID_ARGUMENT` for a limit that cannot be, `INVALID_STATE` for a restart policy of one with
   * `autoRemove`
   */
  updateContainer(id: string, changes: ContainerUpdate, options?: CallOptions): Promise<void>

  /** Like {@link IContainerRuntime.getContainerLogs}, as a full `Readable`. */
  getContainerLogs(id: string, options?: LogOptions): Promise<Readable>

  /**
   * Runs `argv` in a running container to its end, without a shell. A program that fails is not an error: see
   * `exitCode`, which is 127 for a missing program, 126 for one that cannot run. No deadline. An aborted call ends the
   * program with TERM, then KILL; on Docker, which has no call for that, through a shell in the container, which knows the
   * program by the variable `LIMA_RUNTIME_EXEC` of its environment.
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
   * Starts `argv` in a running container, without a shell. Deadline of the start: 60 s. How it ends when it is aborted:
   * see {@link execInContainer}.
   *
   * @throws `CONTAINER_NOT_FOUND`, `INVALID_STATE` when it does not run
   * @example
   * ```ts
   * const shell = await docker.spawnInContainer(id, ['sh'], { tty: true, columns: 80, rows: 24 })
   * shell.stdout.pipe(process.stdout)
   * if (shell.stdin) process.stdin.setRawMode(true).pipe(shell.stdin)
   * process.stdout.on('resize', () => shell.resize(process.stdout.columns, process.stdout.rows))
   * const { exitCode } = await shell.exited
   * ```
   */
  spawnInContainer(id: string, argv: string[], options?: SpawnOptions): Promise<ContainerProcess>

  /**
   * Attaches to the container's own process. Letting go of it does not end it; `kill` is {@link killContainer}'s, `resize`
   * is for a container with a terminal. containerd keeps no input open, and its output comes from the log. Deadline of the
   * attaching: 60 s.
   *
   * @throws `CONTAINER_NOT_FOUND`, `INVALID_STATE` when it does not run, `INVALID_ARGUMENT` for `stdin` where the container
   *   keeps none open
   */
  attachContainer(id: string, options?: AttachOptions): Promise<ContainerProcess>

  /**
   * As `ps` on the engine's machine lists them.
   *
   * @throws `CONTAINER_NOT_FOUND`, `INVALID_STATE` when it does not run
   */
  listProcesses(id: string, options?: CallOptions): Promise<ProcessList>

  /**
   * Gives a container another name, by which others on its networks find it, too. The name it has already is no error.
   *
   * @throws `CONTAINER_NOT_FOUND`, `NAME_IN_USE`
   */
  renameContainer(id: string, name: string, options?: CallOptions): Promise<void>

  /**
   * Resolves when the container is healthy, or removed, which the engine's events tell. No deadline.
   *
   * @throws `CONTAINER_NOT_FOUND`; with `'healthy'` also `INVALID_ARGUMENT` without a healthcheck, `INVALID_STATE` when it is
   *   unhealthy or has ended
   */
  waitContainer(id: string, options: WaitOptions & { condition: 'healthy' | 'removed' }): Promise<void>
  /**
   * Resolves when the container has ended, at once if it has already; waits for one that was never started. No
   * deadline.
   *
   * @throws `CONTAINER_NOT_FOUND`
   */
  waitContainer(id: string, options?: WaitOptions & { condition?: 'exited' }): Promise<{ exitCode: number }>

  /**
   * Sends a signal, by name or number (`'SIGTERM'`, `'HUP'`, `'15'`; default: `'SIGKILL'`).
   *
   * @throws `CONTAINER_NOT_FOUND`, `INVALID_STATE` when it does not run
   */
  killContainer(id: string, signal?: string, options?: CallOptions): Promise<void>

  /** @throws `CONTAINER_NOT_FOUND` */
  getContainerDetails(id: string, options?: CallOptions): Promise<ContainerDetails>

  /** @throws `NETWORK_NOT_FOUND` */
  inspectNetwork(id: string, options?: CallOptions): Promise<NetworkDetails>

  /** @throws `VOLUME_NOT_FOUND` */
  inspectVolume(name: string, options?: CallOptions): Promise<VolumeDetails>

  /**
   * About one item a second until the container stops, which ends the iteration. Leaving the loop closes the
   * connection; `timeoutMs` applies to opening it.
   *
   * @throws `CONTAINER_NOT_FOUND`, at the first step
   * @example
   * ```ts
   * for await (const { cpu } of docker.streamContainerStats(id)) console.log(`${cpu.toFixed(1)} %`)
   * ```
   */
  streamContainerStats(id: string, options?: CallOptions): AsyncIterableIterator<ContainerStats>

  /**
   * All containers that the filters let through, running or not: first the list, then a new one after each change that the
   * engine's events tell of, without polling. A slow reader gets the newest list only. It goes on when the engine was gone
   * for a while; `status` is as of the container's last change. `timeoutMs` applies to opening it.
   *
   * @example
   * ```ts
   * for await (const containers of docker.watchContainers({ signal })) show(containers)
   * ```
   */
  watchContainers(options?: WatchContainersOptions): AsyncIterableIterator<ContainerInfo[]>

  /**
   * The engine's events, from the first step until the loop is left or `signal` aborted. `timeoutMs` applies to opening
   * the connection.
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
   * Loads an archive of `saveImage` or `docker save` (tar or tar.gz), from a path or a stream. No deadline. The stream
   * is read to its end or destroyed.
   *
   * @returns The references loaded.
   * @throws `INVALID_ARGUMENT` for a path that is not a file, an invalid or incomplete archive, and a stream that fails (its
   *   error is the `cause`)
   */
  loadImage(archive: string | NodeJS.ReadableStream, options?: CallOptions): Promise<string[]>

  /**
   * A tar archive of one or several images.
   *
   * @throws `IMAGE_NOT_FOUND`
   */
  saveImage(images: string | string[], options?: CallOptions): Promise<Readable>

  /**
   * Gives an image another reference, taking it from another image if needed.
   *
   * @throws `IMAGE_NOT_FOUND`
   */
  tagImage(source: string, target: string, options?: CallOptions): Promise<void>

  /** @throws `IMAGE_NOT_FOUND` */
  inspectImage(name: string, options?: CallOptions): Promise<ImageDetails>

  /**
   * How an image was made, the newest step first.
   *
   * @throws `IMAGE_NOT_FOUND`
   */
  imageHistory(name: string, options?: CallOptions): Promise<ImageHistoryEntry[]>

  /**
   * Sends an image to the registry that its name names; {@link tagImage} gives it such a name. Of an image for several
   * platforms, containerd sends the one it has. No deadline: it ends when nothing moves for a while (`TIMEOUT`).
   *
   * @throws `IMAGE_NOT_FOUND` when it is not here, `REGISTRY_AUTH` when the registry wants other credentials or refuses the
   *   repository, `ENGINE_ERROR` when it cannot be reached
   * @example
   * ```ts
   * await docker.tagImage('app', 'ghcr.io/me/app:1')
   * await docker.pushImage('ghcr.io/me/app:1', ({ progress }) => show(progress), { auth: { username, password } })
   * ```
   */
  pushImage(name: string, onProgress?: (progress: PullProgress) => void, options?: PushOptions): Promise<void>

  /**
   * Builds an image of a directory of this computer, or of a tar. No deadline.
   *
   * Of a directory, what its `.dockerignore` lists (or `<dockerfile>.dockerignore`) is not sent; the Dockerfile and the list
   * always are, and Docker's `COPY . .` copies them. Links are sent as links; owners become root. A tar is sent as it is.
   *
   * BuildKit builds: Docker's own, and on containerd the one of nerdctl-full (`buildkitd` and `buildctl`, where containerd is;
   * on this computer the variable BUILDKIT_HOST may name it). That of a {@link BundledRuntimeManager} runs while something is built,
   * one build at a time, and takes images to begin with from registries alone. An engine without one has a classic builder, which knows no `secrets`.
   * A build gets no powers over the engine's machine: `RUN --security=insecure` and `--network=host` fail. But `ADD` fetches from
   * where the engine is, its loopback included, and so may `RUN` where buildkitd has no network of its own. Aborting ends it and its
   * programs.
   *
   * @returns the image's id. Without `tags` it has no name.
   * @throws `INVALID_ARGUMENT` for a `context` that is no directory or tar, a `dockerfile` that is not in it or has mistakes, a
   *   `target` that it lacks, and `secrets` it asks for in vain; `IMAGE_NOT_FOUND` and `REGISTRY_AUTH` of an image it begins with;
   *   `NOT_INSTALLED` on containerd without BuildKit; `ENGINE_ERROR` for a step that failed, with its name as `details.step` and
   *   the end of its output as `details.log`
   * @example
   * ```ts
   * const { id } = await docker.buildImage('./app', {
   *   tags: ['me/app:1'],
   *   secrets: { token: process.env.NPM_TOKEN ?? '' },
   *   onProgress: (p) => p.type === 'log' && process.stdout.write(p.text),
   * })
   * ```
   */
  buildImage(context: string | NodeJS.ReadableStream, options?: BuildOptions): Promise<{ id: string }>

  /**
   * Makes and starts a project of compose, or brings what is there up to what the project says now. No deadline.
   *
   * `project` is the path of a compose file of this computer, or an object of the same form, in which `$` is written `$$` where no
   * variable is meant. The engine's own compose does the work and says what everything means: on Docker the plugin that this
   * computer has (`docker-compose` 2.29 or later in `~/.docker/cli-plugins` or where packages put it; no docker CLI is needed); for a
   * Docker engine of the application's own in a VM or in WSL a `docker-compose` in there, and for one on this computer without
   * a plugin one here, which the first project fetches (tens of megabytes, {@link Versions.compose}); on
   * containerd `nerdctl compose`, where containerd is. What that does not know is left out with a process warning
   * (`ENGINE_WARNING`). Two calls on one project at a time are two people who type: compose does not keep them apart.
   *
   * A project can ask for anything of the engine's machine. Its containers have compose's labels and not the application's:
   * a `prune` of the application leaves them, and a restricted adapter does not see them.
   *
   * An object and `env` reach compose by no argument and no file. But on containerd nerdctl itself writes the values of
   * `environment` into its arguments for a moment, which whoever has an account where containerd runs can read: give secrets as
   * `secrets` of a file there.
   *
   * Aborting ends compose, and takes down again what this call made if nothing of the project was there before. Otherwise what was
   * made stays, and another `composeUp` goes on from there; an error names the containers that are there as `details.left`.
   *
   * @throws `INVALID_ARGUMENT` for a project that compose cannot read, in its own words; `NOT_INSTALLED` without the plugin;
   *   `DOWNLOAD_FAILED`, `CHECKSUM_MISMATCH`, `DISK_FULL` where it has to be fetched;
   *   `PORT_IN_USE`, `IMAGE_NOT_FOUND`, `REGISTRY_AUTH`; `INVALID_STATE` for what `wait` waits for in vain; `PERMISSION_DENIED` of a
   *   restricted adapter without `powers`; `ENGINE_ERROR` otherwise
   * @example
   * ```ts
   * await docker.composeUp('./compose.yaml', { projectName: 'demo', env: { TAG: '7' }, wait: true })
   * for (const { service, state, ports } of await docker.composePs('./compose.yaml', { projectName: 'demo' }))
   *   console.log(service, state, ports)
   * await docker.composeDown('./compose.yaml', { projectName: 'demo', volumes: true })
   * ```
   */
  composeUp(project: string | object, options?: ComposeUpOptions): Promise<void>

  /**
   * Stops and removes the containers and networks of a project; volumes stay unless `volumes` says otherwise. A project that is
   * not there is no error. No deadline. Aborted, it leaves the rest as it is.
   *
   * @throws as {@link composeUp}
   */
  composeDown(project: string | object, options?: ComposeDownOptions): Promise<void>

  /**
   * The containers of a project, running or not, by service and name: asked of the engine, without compose. Empty when there are
   * none.
   *
   * @throws `INVALID_ARGUMENT`, `PERMISSION_DENIED` as {@link composeUp}
   */
  composePs(project: string | object, options?: ComposePsOptions): Promise<ComposeContainer[]>

  /**
   * Copies into a container, running or not; its volumes are reached, too. No deadline.
   *
   * `source` is a path of this computer, or a tar. A file becomes `containerPath`, or lies in it if that is a directory; a
   * directory becomes `containerPath`, or lies in it if that is there, and with `/.` behind it only what it holds is copied, as
   * `docker cp` does it. Modes, links and times are kept, the owner is root. A link is copied as a link. Sockets, pipes and
   * devices are left out. A tar is unpacked in the directory `containerPath` as it is, owners included.
   *
   * @throws `CONTAINER_NOT_FOUND`, `INVALID_ARGUMENT` for a `source` that is not there or no tar, and a `containerPath` that is
   *   not absolute, or in no directory; `PERMISSION_DENIED` where the container may write to nothing
   * @example
   * ```ts
   * await docker.copyToContainer(id, './config/.', '/etc/app')
   * ```
   */
  copyToContainer(
    id: string,
    source: string | NodeJS.ReadableStream,
    containerPath: string,
    options?: CallOptions,
  ): Promise<void>

  /**
   * Copies out of a container, running or not: a tar of what is at `containerPath`, under its last name; with `/.` behind a
   * directory, of what it holds. Nothing is read faster than the stream is. `timeoutMs` applies to opening it.
   *
   * With `to`, it is unpacked there before this resolves, and the stream is an empty one; no deadline then. A container is
   * not trusted: a link that leads out of what is copied, a device, a pipe and a name this computer cannot hold are
   * `ARCHIVE_UNSAFE`, and leave nothing behind. Owners and set-user bits are not kept.
   *
   * @throws `CONTAINER_NOT_FOUND`, `INVALID_ARGUMENT` when nothing is at `containerPath`, `ARCHIVE_UNSAFE`, `NAME_IN_USE` when
   *   something of that name is in `to`
   */
  copyFromContainer(id: string, containerPath: string, options?: CopyFromOptions): Promise<Readable>

  /**
   * Makes an image of a container, running or not: the container's image, and the files changed since. Volumes are not part
   * of it. On Docker the image also keeps the container's command, environment and labels; on containerd, its image's.
   * No deadline.
   *
   * @returns The image's id.
   * @throws `CONTAINER_NOT_FOUND`
   */
  commitContainer(id: string, options: CommitOptions): Promise<string>

  diskUsage(options?: CallOptions): Promise<DiskUsage>
}
export interface ContainerAdapter extends IContainerRuntime {}

// ---- Docker ---------------------------------------------------------------------------------------------------------

/** Options of {@link DockerAdapter}. */
export interface DockerAdapterOptions {
  /**
   * An endpoint as in `DOCKER_HOST`: `unix:///var/run/docker.sock`, `npipe:////./pipe/docker_engine`,
   * `tcp://host:2375`, `ssh://user@host`. Default: as the docker CLI finds it (`DOCKER_HOST`, the current context),
   * then the usual sockets of Docker Desktop, OrbStack, Colima, Rancher Desktop and rootless Docker.
   */
  host?: string
  /** The value of the label `lima-runtime.app` on what this adapter makes. Default: `'kai'`. */
  appName?: string
  /**
   * The application's directory, in which the ports that it asked an engine at `ssh://` for are noted. Default: as in
   * {@link LimaRuntimeOptions}.
   */
  appDir?: string
  /**
   * The paths in `volumes` are those of the engine's machine. Without it, an engine at `ssh://`, or at a `tcp://` address that
   * is not loopback, refuses a path of this computer (`INVALID_ARGUMENT` naming `volumes[0].host`); volumes by name and
   * `/var/run/docker.sock`, the engine's own socket there, need it not. No meaning for an engine on this computer.
   */
  remotePaths?: boolean
}

/**
 * The user's Docker.
 *
 * Over `ssh://` a published tcp port comes to this computer as from a VM: it is free here before the container is made, else
 * `PORT_IN_USE`, and `127.0.0.1:<port>` here leads to the container while it runs and the adapter lives. Those that
 * the application asked for in an earlier run, or in another process with the same `appDir`, are here from the first call about
 * containers on; no other port of that machine is, whatever label its container has. Where ssh cannot carry one,
 * the container runs and the process gets a warning, `PORT_NOT_FORWARDED`. Without an address it is published on 127.0.0.1
 * there, too. A udp port is refused, unless it names an address of that machine.
 *
 * Over `tcp://` nothing is tunnelled, for that needs a shell there: ports are published on the engine's machine.
 */
export declare class DockerAdapter extends ContainerAdapter {
  /**
   * Does not connect yet.
   *
   * @throws `INVALID_ARGUMENT` for an invalid endpoint
   */
  constructor(options?: DockerAdapterOptions)
}

// ---- containerd -----------------------------------------------------------------------------------------------------

/** Options of {@link ContainerdAdapter}. Paths are absolute. */
export interface ContainerdAdapterOptions {
  /**
   * containerd's socket. Default: a rootless containerd of this user (`$XDG_RUNTIME_DIR/containerd-rootless`), then the
   * system's, `/run/containerd/containerd.sock`: as root, or through `sudo -n`. On Windows `wsl://<distribution>/<path
   * of the socket in it>`, as {@link BundledRuntimeManager.getAdapterOptions} gives it.
   */
  address?: string
  /**
   * nerdctl 2.1 or later, which creates and removes containers. Default: `nerdctl` on the PATH. From 2.3 on it needs
   * containerd 1.7 or later to load and save images; with an older one `ctr`, which comes with containerd, does it.
   */
  nerdctlPath?: string
  /** containerd's namespace; nothing outside it is seen or touched. Default: `'kai'`. */
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
   * A program that runs its arguments as a command in containerd's own namespaces, if it has any: {@link
   * BundledRuntimeManager.getAdapterOptions} gives the one of its daemon. Default: containerd shares ours.
   */
  insidePath?: string
  /**
   * Only this application and user use the engine: ports without an address are published on 127.0.0.1, `prune()`
   * covers everything, and nothing runs through sudo. Default: false.
   */
  exclusive?: boolean
  /**
   * A BuildKit of this engine alone, which runs while something is built, one build at a time: the absolute paths of the
   * directories of its programs, of its configuration (`buildkitd.toml`) and of its cache, where the engine is. {@link
   * BundledRuntimeManager.getAdapterOptions} gives those of nerdctl-full. Default: the buildkitd that listens there, or
   * where BUILDKIT_HOST says.
   */
  buildkit?: { programs: string; settings: string; cache: string }
}

/** A containerd of this machine, with nerdctl: on Linux, and in a WSL2 distribution on Windows. */
export declare class ContainerdAdapter extends ContainerAdapter {
  /**
   * Does not connect yet. The first call rejects with `NOT_INSTALLED` without containerd or nerdctl, every call with
   * `VM_NOT_RUNNING` while a WSL distribution is stopped, and with `UNSUPPORTED_PLATFORM` and a hint for a containerd
   * of Windows itself, which runs Windows images only.
   *
   * @throws `INVALID_ARGUMENT`
   */
  constructor(options?: ContainerdAdapterOptions)
  /**
   * Uses this nerdctl from the next call on.
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
  /**
   * The directory of everything: programs, images, containers, volumes. Default: `<appDir>/containerd`. At most 83
   * bytes.
   */
  dataDir?: string
  /**
   * The directory of what the application ships (`npx lima-runtime download --component nerdctl-full`). Default: as for
   * {@link LimaRuntimeOptions}.
   */
  bundledDir?: string
  /** Path or address of a manifest that replaces the built-in one. */
  manifest?: string
  /** `https://host/path` is fetched as `<mirror>/host/path`. An international host name in its ASCII form, `xn--…`. */
  mirror?: string
  /** An http(s) proxy for downloads. Default: the environment's and the system's. */
  proxy?: string
  /**
   * Certificate authorities to trust beside the system's, for downloads and for the `registries`: PEM texts or paths of PEM
   * files.
   */
  caCertificates?: string[]
  /** Mirrors, and registries that need not prove who they are, for pulls. Takes effect at the next start of the daemon. */
  registries?: RegistryOptions
  /** As in {@link LimaRuntimeOptions}. */
  idleTimeoutMs?: number
  /** As in {@link LimaRuntimeOptions}. */
  retries?: number
  /** The version of nerdctl-full or Docker, instead of the manifest's default. */
  versions?: Versions
  /**
   * What runs the containers. Default: `'containerd'`. With another one {@link BundledRuntimeManager.startDaemon} ends
   * the first; what that made stays in `dataDir`, and is found again when the option changes back.
   */
  engine?: UserEngine
}

/**
 * An engine of the application's own on Linux, containerd or Docker: its programs below the application's data
 * directory, its daemon beside any other one. As root it has its own root, state, socket, networks and default bridge; an
 * ordinary user gets a rootless one. On Windows it runs in a WSL2 distribution of the application's own, and no other one
 * is touched; on macOS methods that need it reject with `UNSUPPORTED_PLATFORM`.
 *
 * @example
 * ```ts
 * const bundled = new BundledRuntimeManager({ appName: 'my-app', engine: 'docker' })
 * await bundled.initialize((message) => console.log(message))
 * const runtime = new BundledContainerAdapter(bundled)
 * ```
 */
export declare class BundledRuntimeManager {
  /**
   * Touches no file.
   *
   * @throws `INVALID_ARGUMENT`
   */
  constructor(options?: BundledRuntimeOptions)

  /** Whether the programs are installed, as far as can be seen without reading them. */
  isInstalled(options?: CallOptions): Promise<boolean>

  /** Whether the application ships the engine's archives, so that {@link install} needs no network. */
  hasPreBundled(options?: CallOptions): Promise<boolean>

  /** Whether this engine runs and answers; a Docker that takes longer than 5 s does not. */
  isRunning(options?: CallOptions): Promise<boolean>

  /** {@link install}, then {@link startDaemon}. */
  initialize(progress?: Progress): Promise<void>

  /**
   * Installs nerdctl-full or Docker; at once when installed. Downloads are resumed and checked, and the installation is atomic,
   * as for Lima. On Windows it first creates the distribution. Missing WSL or virtualization is `UNSUPPORTED_PLATFORM`
   * with `details.missing` and a hint, before anything is downloaded; a distribution of that name that is not ours is
   * `NAME_IN_USE`.
   *
   * @throws `DOWNLOAD_FAILED`, `CHECKSUM_MISMATCH`, `ARCHIVE_UNSAFE`, `DISK_FULL`, `PERMISSION_DENIED`,
   *   `UNSUPPORTED_PLATFORM`, `LOCKED`
   */
  install(progress?: Progress): Promise<void>

  /**
   * Starts the engine, which outlives this process; at once when it runs. One that was killed or hangs is ended and
   * started anew. Containers with a restart policy start with it. Deadline: 60 s, for Docker 120 s; on Windows 180 s, since
   * WSL may have to boot.
   *
   * @throws `NOT_INSTALLED`; `UNSUPPORTED_PLATFORM` when this machine lacks something for a rootless engine, or for Docker
   *   as root: `details.missing` lists `{ what, advice }`, the hint all advice; `PATH_TOO_LONG`; `CONTAINERD_NOT_READY`, for
   *   Docker `ENGINE_UNREACHABLE`, with `details.log`; `LOCKED`
   */
  startDaemon(progress?: Progress): Promise<void>

  /**
   * Ends its containers (TERM, KILL after 10 s) and the engine, and notes what that holds for {@link listLeft}. Leaves no
   * process, mount or network interface; files on the disk stay. Resolves when none runs. Deadline: 60 s.
   *
   * @throws `IN_USE` when a process does not end, `LOCKED`
   */
  stopDaemon(options?: CallOptions): Promise<void>

  /**
   * Containers of the engine that ran here before `engine` was changed, as `left` of {@link LimaRuntimeManager.getStatus}:
   * what it held when it was last stopped, by this manager or by a start of the other engine.
   */
  listLeft(options?: CallOptions): Promise<(ContainerInfo & { own: boolean })[]>

  /**
   * {@link stopDaemon}, then removes everything: programs, images, containers and volumes, of either engine.
   *
   * @throws `IN_USE`, `PERMISSION_DENIED`, `LOCKED`
   */
  uninstall(options?: CallOptions): Promise<void>

  /**
   * Runs nerdctl and returns its output as UTF-8. Arguments are passed literally. No deadline but `timeoutMs`; an aborted
   * call ends nerdctl.
   *
   * @throws `NOT_INSTALLED` before the first start or when the engine is Docker, `ENGINE_ERROR` when nerdctl fails
   *   (`details.exitCode`, `details.stderr`)
   */
  execNerdctl(args: string[], options?: NerdctlOptions): Promise<string>

  /**
   * As {@link execNerdctl}, for docker.
   *
   * @throws `NOT_INSTALLED` before the first start or when the engine is containerd; else as {@link execNerdctl}
   */
  execDocker(args: string[], options?: NerdctlOptions): Promise<string>

  /**
   * As {@link LimaRuntimeManager.registerDockerContext}, for this engine.
   *
   * @throws `NOT_INSTALLED` when the engine is containerd; else as there
   */
  registerDockerContext(options?: DockerContextOptions): Promise<void>

  /** Removes that context, if it is ours, and no longer uses it. */
  unregisterDockerContext(options?: Omit<DockerContextOptions, 'use'>): Promise<void>

  /**
   * The absolute path of our own `docker` program, which talks to this engine only. On Windows a `.cmd` file, which Node
   * starts only with `shell: true`.
   *
   * @throws `NOT_INSTALLED` when the engine is containerd
   */
  getDockerPath(): string

  /**
   * The absolute path of Docker's socket, for this user alone. On Windows a named pipe, `\\.\pipe\lima-runtime-…`, which
   * is served from {@link startDaemon} on while this process lives, by one process at a time.
   *
   * @throws `NOT_INSTALLED` when the engine is containerd
   */
  getDockerSocketPath(): string

  /**
   * The absolute path of our own `nerdctl` program, which talks to this containerd without its caller's environment. On
   * Windows a `.cmd` file, which Node starts only with `shell: true`.
   *
   * @throws `NOT_INSTALLED` when the engine is Docker
   */
  getNerdctlPath(): string

  /** The absolute path of `containerd`; on Windows its path in the distribution. */
  getContainerdPath(): string

  /**
   * containerd's socket, absolute; on Windows `wsl://<distribution>/<path of the socket in it>`.
   *
   * @throws `NOT_INSTALLED` when the engine is Docker
   */
  getContainerdAddress(): string

  /**
   * For `new ContainerdAdapter(options)`.
   *
   * @throws `NOT_INSTALLED` when the engine is Docker: use {@link BundledContainerAdapter}
   */
  getAdapterOptions(): ContainerdAdapterOptions
}

/**
 * The engine of a {@link BundledRuntimeManager}, whichever it is; its `getRuntimeType()` is `'containerd'` with both. It
 * stays valid while the engine is stopped and started. Ports are published on 127.0.0.1 unless an address is named.
 */
export declare class BundledContainerAdapter extends ContainerAdapter {
  /** @throws `INVALID_ARGUMENT` */
  constructor(manager?: BundledRuntimeManager | BundledRuntimeOptions)
  getBundledManager(): BundledRuntimeManager
  /** Installs and starts what is missing, like {@link BundledRuntimeManager.initialize}. */
  initialize(p?: Progress): Promise<void>
}

/**
 * containerd in the VM of a {@link LimaRuntimeManager}. It stays valid while the VM is stopped and started; while no VM
 * runs, calls reject with `VM_NOT_RUNNING`. A VM that rests by `idleStopMs` is started by any call; so a program that asks for
 * lists time and again, or keeps watching one, keeps it running.
 *
 * Ports are published on this machine's 127.0.0.1, tcp only, and `startContainer` resolves once they are forwarded.
 * Of this machine's files, containers see what is under the VM's `mounts`.
 */
export declare class LimaContainerAdapter extends ContainerAdapter {
  /** @throws `INVALID_ARGUMENT` */
  constructor(manager?: LimaRuntimeManager | LimaRuntimeOptions)
  getLimaManager(): LimaRuntimeManager
  /** Installs and starts what is missing, like {@link LimaRuntimeManager.start}. */
  initialize(p?: Progress): Promise<void>
}
export { LimaContainerAdapter as LimaAdapter }

// ---- The manager ----------------------------------------------------------------------------------------------------

/** Registries that are asked in place of others, or that need not prove who they are. */
export interface RegistryOptions {
  /**
   * The mirrors of a registry, by its host as image references name it: `{ 'docker.io': ['https://mirror.example'] }`. Each is
   * `https://host[:port]` or `http://host[:port]`; they are asked in order, then the registry itself. The Docker engine
   * knows mirrors of `docker.io` alone and refuses others (`INVALID_ARGUMENT`).
   */
  mirrors?: Record<string, string[]>
  /**
   * Registries and mirrors, as `host[:port]`, whose certificates are not looked at and which may speak plain http: whoever is
   * on the way there can replace images.
   */
  insecure?: string[]
}

/** Options of {@link ContainerManager}. */
export interface ContainerManagerOptions {
  /**
   * The runtime to use. `KAI_CONTAINER_RUNTIME` in the environment takes precedence; `'auto'` (the default) means the
   * saved choice, else what is there: Docker when it answers, then Lima on macOS, then containerd.
   */
  preferred?: RuntimeType | 'auto'
  /**
   * `initialize()` may download a runtime when nothing else can be used, as after a Continue button. Default: false.
   */
  installIfMissing?: boolean
  /** The last part of `appDir`, and the value of the label `lima-runtime.app`. Default: `'kai-desktop'`, and `'kai'`. */
  appName?: string
  /** The application's data directory, as in {@link LimaRuntimeOptions}. Its `runtime.json` keeps the choice. */
  appDir?: string
  docker?: DockerAdapterOptions
  containerd?: ContainerdAdapterOptions
  /**
   * The engine of a runtime of the application's own, which the screens call User mode. Default: `'containerd'`. Takes
   * effect as in {@link LimaRuntimeOptions}. With `'docker'` the runtime `'containerd'` is the {@link
   * BundledRuntimeManager}'s Docker engine.
   */
  engine?: UserEngine
  /** For a VM whose `lima.registries` is absent, and for a bundled runtime. */
  registries?: RegistryOptions
  /** `appName`, `appDir` and `engine` default to those above. */
  lima?: LimaRuntimeOptions
}

/** What is known about one runtime. */
export interface RuntimeDetail {
  type: RuntimeType
  /** `'stopped'`: a start makes it ready. `'installable'`: it can be downloaded. */
  state: 'ready' | 'stopped' | 'installable' | 'unavailable'
  version?: string
  /** Where it answers, or where an answer was most likely. */
  endpoint?: string
  /** Why it is not ready; plain English. */
  reason?: string
  /** What would make it available. */
  hint?: string
  /** What runs containers in a runtime of the application's own. Absent for an engine of the user's. */
  engine?: UserEngine
  /** Bytes still to download before it can be used. Absent when there are none, or their number is unknown. */
  downloadBytes?: number
  /** Its parts, by the names that {@link RuntimeProgress} has for them; `bytes` is absent where unknown. */
  downloads?: { component: NonNullable<RuntimeProgress['component']>; bytes?: number }[]
  /** True when a VM's start still needs a download, even of unknown size. */
  incomplete?: boolean
  /** The most bytes of memory and disk it takes while it runs, if known (for a VM). */
  memoryBytes?: number
  diskBytes?: number
  /** How many milliseconds its last start took here, without downloads. */
  lastStartMs?: number
  /** Every place that was probed; `reason` is absent for one that answered. */
  tried?: { endpoint: string; source: string; reason?: string }[]
}

/** Answer of {@link ContainerManager.detectAvailableRuntimes}. The booleans mean: usable now, without a download. */
export interface RuntimeDetection {
  docker: boolean
  containerd: boolean
  /** Installed, or shipped with the application. */
  lima: boolean
  current: RuntimeType | 'none'
  details: RuntimeDetail[]
}

/** Options of {@link ContainerManager.initialize} and {@link ContainerManager.switchRuntime}, besides progress. */
export interface BringOptions {
  /**
   * Whether missing files may be downloaded, or a function that is asked when some are. It only restricts what the
   * method may do. When callers share a start, one who allows it is enough. Refused: `NOT_INSTALLED`. Default: true.
   */
  download?: boolean | ((type: RuntimeType) => boolean | Promise<boolean>) | undefined
}

/** The status of a {@link ContainerManager}. */
export interface ManagerStatus {
  state: 'idle' | 'starting' | 'ready' | 'stopping' | 'stopped' | 'failed'
  /** The runtime in use. */
  runtime: RuntimeType | 'none'
  /** Why it is not the requested one; plain English. */
  explanation?: string
  /** The runtime that is being started. */
  target?: RuntimeType
  /** The engine of what is in use or being started, where that is the application's own. */
  engine?: UserEngine
  /** The last progress event of a start. */
  progress?: RuntimeProgress
  /** Why it `'failed'`. */
  error?: RuntimeError
}

/** A change of the runtime in use. */
export interface RuntimeChange {
  from: RuntimeType | 'none'
  to: RuntimeType
  /**
   * The application's containers that stay in the old runtime, as they are; and those of the engine that a VM had before its
   * `engine` was changed, as {@link LimaStatus} has them.
   */
  left: ContainerInfo[]
}

/** Events of {@link ContainerManager}. */
export interface ContainerManagerEvents {
  'runtime-changed': [change: RuntimeChange]
  /**
   * What `initialize()` and `switchRuntime()` report, whoever called them; and a VM that is stopped and started by `idleStopMs`,
   * during which the state stays `'ready'`.
   */
  progress: [progress: RuntimeProgress]
  state: [status: ManagerStatus]
}

/**
 * The container runtime of an application: finds runtimes, uses the wanted one, remembers the choice. On Linux
 * `'containerd'` means the system's (or the one at `containerd.address`), and without one a containerd of the
 * application's own, as in {@link BundledRuntimeManager}.
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
   * Touches no file and does not connect.
   *
   * @throws `INVALID_ARGUMENT`
   */
  constructor(preferred?: RuntimeType | 'auto' | ContainerManagerOptions)

  /**
   * Chooses a runtime and starts it. Precedence: `KAI_CONTAINER_RUNTIME`, the constructor, the saved choice, `'auto'`.
   * A choice that cannot be used gives way to another runtime, and {@link getStatus} explains it; the variable's choice
   * does not. Concurrent calls share one start; each has its own `signal` and `timeoutMs`, and the last to give up
   * aborts it. Called again, it makes sure that the runtime in use is up.
   *
   * @throws `NOT_INSTALLED` when nothing can be used, `INVALID_ARGUMENT` for a variable that names no runtime, and what
   *   the runtime's own start throws
   */
  initialize(progress?: Progress & BringOptions): Promise<void>

  /**
   * Whether {@link initialize} or {@link switchRuntime} has succeeded, and since then neither {@link stop} was called
   * nor a start of the same runtime failed. A start of another runtime does not change it until that succeeds.
   */
  isInitialized(): boolean

  /**
   * The runtime in use.
   *
   * @throws `INVALID_STATE` before {@link initialize} or {@link switchRuntime} has succeeded
   */
  getRuntime(): ContainerAdapter

  getRuntimeType(): RuntimeType | 'none'

  /** The current status, for a window that was just opened. */
  getStatus(): ManagerStatus

  /**
   * Starts another runtime, installing it if needed, uses it and remembers the choice. The old one's containers are
   * left alone; `'runtime-changed'` lists them. A switch that fails leaves the old runtime in use. A start under way
   * ends with `ABORTED`.
   *
   * @throws What the runtime's own start throws
   */
  switchRuntime(type: RuntimeType, progress?: Progress & BringOptions): Promise<void>

  /**
   * Probes all runtimes at once and starts none. Answers within 300 ms even when sockets hang, except for a containerd
   * whose socket is closed to this user: sudo may then take up to 5 s.
   */
  detectAvailableRuntimes(options?: CallOptions): Promise<RuntimeDetection>

  /** Aborts a start or switch under way; all who wait for it get `ABORTED`. */
  abort(): void

  /**
   * Aborts a start under way, then stops what this manager has started of its own: the runtime in use, a half-started
   * one, and one that a switch left. Docker keeps running.
   */
  stop(progress?: Progress): Promise<void>

  /** The machine is about to sleep. */
  notifySuspend(): void

  /** The machine woke up: dead connections are renewed. */
  notifyResume(): Promise<void>
}

// ---- Lima -----------------------------------------------------------------------------------------------------------

/**
 * Versions to download. Each must be in the manifest (else `INVALID_ARGUMENT`, listing those that are). Default: the
 * manifest's, Lima 2.2.0, nerdctl 2.3.5, Docker 29.8.1 and docker compose 5.5.1; it also has 1.2.1 and 2.1.6, with a process warning, `OUTDATED_VERSION`. A
 * version older than the one that made the VM is refused with `INVALID_STATE`.
 */
export interface Versions {
  lima?: string
  /** Of nerdctl-full: nerdctl, containerd and what belongs to them. */
  nerdctl?: string
  /** Of the Docker Engine. */
  docker?: string
  /** Of docker compose, for a Docker engine of the application's own: {@link ContainerAdapter.composeUp}. */
  compose?: string
}

/**
 * The guest's image. `'minimal'` has less than half the bytes, but its first boot downloads iptables and rsync, a few
 * megabytes; `'server'` boots without a network.
 */
export type ImageVariant = 'minimal' | 'server'

/**
 * What runs containers in the VM or the bundled runtime. `'docker'` is a real Docker Engine, for containers and programs that need Docker's API;
 * `'containerd'` is containerd with nerdctl.
 */
export type UserEngine = 'containerd' | 'docker'

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
   * The pre-bundled runtime, made by `npx lima-runtime download`. Default:
   * `<process.resourcesPath>/bundled-runtime/<platform>-<arch>`, then `resources/bundled-runtime/<platform>-<arch>`
   * below that directory; never the working directory. Its files are checked against the digests of the manifest, not
   * against a list beside them.
   */
  bundledDir?: string
  /**
   * A manifest that replaces this package's own: a file or https address (http only on this machine, since it holds the
   * digests) with versions, addresses and SHA-256. Its form is `templates/manifest.schema.json`; the older schema 1 is
   * also read. At most 1 MiB. Default: `LIMA_RUNTIME_MANIFEST`.
   */
  manifest?: string
  /** Versions to use instead of the manifest's defaults. */
  versions?: Versions
  /**
   * The image of a new VM. Default: `'minimal'`, or the one the application ships, or the other one when the minimal
   * image is gone from its server. A manifest whose image has no variants has only that one.
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
  /**
   * Certificate authorities to trust in addition to the system's, here and in the guest: PEM texts or paths of PEM
   * files.
   */
  caCertificates?: string[]
  /**
   * Mirrors, and registries that need not prove who they are, for pulls and builds in the VM, where `host.lima.internal` is this
   * computer. Takes effect at the next start.
   */
  registries?: RegistryOptions
  /** Milliseconds, a whole number, that a download may go without a byte before it is tried again. Default: 60,000. */
  idleTimeoutMs?: number
  /** How often a download is tried again without a new byte in between, a whole number. Default: 7. */
  retries?: number
  /**
   * The VM's name: at most 40 letters and digits, with single `.`, `_` or `-` between them. Default: `'default'`, which
   * is separate from the user's own Lima instance of that name.
   */
  instance?: string
  /** The VM's resources, until {@link LimaRuntimeManager.configure} changes them. */
  resources?: Partial<VmResources>
  /**
   * The engine in the VM. Default: `'containerd'`. Another one for an existing VM takes effect at the next
   * {@link LimaRuntimeManager.start}, which restarts the VM. What the first engine made stays on the VM's disk: its
   * containers end, `left` of {@link LimaRuntimeManager.getStatus} lists them, and all of it is found again when the option
   * changes back. The two share the disk's space, and no images.
   */
  engine?: UserEngine
  /** A Lima template (YAML file) to use instead of this package's own; it names its own image and containerd. */
  template?: string
  /**
   * The engine's socket in the VM, for a `template` that has it elsewhere. Default: `/run/containerd/containerd.sock` or
   * `/run/docker.sock`.
   */
  engineSocket?: string
  /**
   * Milliseconds, a whole number from 1,000 to 2,147,483,647, that nobody may use the VM before it is stopped; the next use starts
   * it again. Default: never.
   *
   * In use it is while a call of an adapter, `execNerdctl()` or `execDocker()` is under way, a stream is open (logs, events,
   * statistics, a watched list, a process), a program is connected to {@link LimaRuntimeManager.getDockerSocketPath}, or a
   * container runs, is paused or is about to be restarted, of whatever namespace; also a use by another process of this package on
   * the same VM. Before it is stopped, the guest is asked whether a program runs in a session of ssh: a shell, or one of the
   * programs at {@link LimaRuntimeManager.getNerdctlPath}, {@link LimaRuntimeManager.getDockerPath} and
   * {@link LimaRuntimeManager.getLimaPath}. Not known are a connection to containerd's forwarded socket that has no call of ours, and
   * what a person left running in the guest's background. To ask for the status, to diagnose or `isRunning()` is no use.
   *
   * The time counts from the first start or use in this process, while the computer is awake; where several processes use the VM, it
   * may take up to twice as long. It is stopped by a process that has this option, as long as its manager or an adapter of it
   * lives, and started by such a process: in one without it calls reject with `VM_NOT_RUNNING`, as after {@link LimaRuntimeManager.stop},
   * after which nothing starts it but {@link LimaRuntimeManager.start}. A call that starts it may also reject with what `start()`
   * throws; the method's own deadline begins once the VM runs, `timeoutMs` at once. A caller that gives up leaves the start to the
   * others.
   */
  idleStopMs?: number
  /** containerd's namespace for `execNerdctl()` and the `nerdctl` program. Default: `'default'`, as nerdctl's own. */
  namespace?: string
  /** Default: `'vz'` on macOS, `'qemu'` on Linux. For a new VM. */
  vmType?: 'vz' | 'qemu'
  /** Run amd64 programs on Apple silicon. Default: true. For a new VM. */
  rosetta?: boolean
}

/** The resources of a VM. */
export interface VmResources {
  /** A whole number, from 1 to this computer's. Default: 4, or all if there are fewer. */
  cpus: number
  /** `'4GiB'` (also `KiB`, `MiB`, `TiB`) or bytes; at least 512 MiB. Default: 4 GiB, at most half of this computer's. */
  memory: string | number
  /**
   * What the engine has for containers, images and volumes: as `memory`; at least 5 GiB. It takes space on this computer as it
   * fills, and can only grow. The system has 20 GiB of its own, which fill in the same way. Default: 100 GiB.
   */
  disk: string | number
  /** Directories of this computer that the VM sees. Default: the home directory, writable. */
  mounts: VmMount[]
}

/** A directory of this computer that the VM sees. */
export interface VmMount {
  /** Absolute, or beginning with `~`. */
  location: string
  /**
   * Its path in the VM: absolute, without commas and brackets; with spaces only on a Mac with Lima 2.2 or newer.
   * Default: the same path.
   */
  mountPoint?: string
  /** Default: false. */
  writable?: boolean
}

/** The state of a VM. `broken` is what a crash, a reboot or a killed process left; `start()` repairs it. */
export type LimaState = 'not-installed' | 'not-created' | 'stopped' | 'starting' | 'running' | 'stopping' | 'broken'

/** Answer of {@link LimaRuntimeManager.getStatus}. */
export interface LimaStatus {
  state: LimaState
  /** Why the state is not the expected one, or that nobody used the VM. */
  reason?: string
  /** It was stopped because nobody used it (`idleStopMs`). Absent otherwise. */
  idle?: true
  /** The version of Lima that made the VM, else the installed one. */
  limaVersion?: string
  /** The VM's resources, or those its first start will give it; `memory` and `disk` in bytes. */
  resources?: VmResources
  /** On 127.0.0.1, while the VM runs. */
  sshPort?: number
  /** While there is no VM: what {@link LimaRuntimeManager.delete} kept, which the next VM takes. Absent when there is nothing. */
  keptData?: KeptData
  /** The copy of the VM to which {@link LimaRuntimeManager.rollback} leads. Absent when there is none. */
  previous?: PreviousVm
  /**
   * Containers of the engine that the VM had before its `engine` was changed, as they were when that engine was put to rest,
   * and ended since; `own` ones carry this application's label. At most 1,000, and none of an engine that did not answer then:
   * what it holds is there all the same. Absent when there are none.
   */
  left?: (ContainerInfo & { own: boolean })[]
}

/** The data of a VM that is gone. */
export interface KeptData {
  /** The size of the disk it is on, in bytes. */
  disk: number
  /** Bytes that it takes on this computer. */
  used: number
}

/** A VM as it was before its last upgrade. */
export interface PreviousVm {
  /** When the copy was made. */
  created: Date
  /** What was installed then. */
  versions: Versions
  /** Bytes that it takes on this computer at most: a clone shares with the VM what neither has changed since. */
  size: number
}

/** Answer of {@link LimaRuntimeManager.bake}. */
export interface BakedImage {
  /** Absolute. */
  path: string
  /** Of the file, in hex. */
  sha256: string
  /** Bytes. */
  size: number
  /** What is installed in it, as a manifest's `engine` says it: `sha256` is of the archive it came from. */
  engine: { part: 'nerdctl-full' | 'docker'; version: string; sha256: string }
  /** The manifest that names it; with `url` alone. */
  manifest?: string
}

/** Answer of {@link LimaRuntimeManager.getVMInfo}. */
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
  /** The version of Lima that made it. */
  limaVersion: string
}

/** One check of {@link LimaRuntimeManager.diagnose}, ready to show. */
export interface DiagnosticCheck {
  /**
   * Stable: `'macos'`, `'architecture'`, `'virtualization'`, `'user'`, `'path-length'`, `'disk-space'`, `'proxy'`,
   * `'installation'`, `'ports'`, `'instance'`, `'ssh'`, `'containerd'` (docker, with that engine), `'clock'` (the VM's
   * against this computer's), `'dns'` (from the VM). Others may come.
   */
  id: string
  title: string
  /** `'skipped'`: does not apply here, or not now. */
  status: 'ok' | 'warn' | 'fail' | 'skipped'
  detail: string
  /** What to do. */
  hint?: string
}

/** Options of {@link LimaRuntimeManager.execNerdctl} and {@link LimaRuntimeManager.execDocker}. */
export interface NerdctlOptions extends CallOptions {
  /** Written to the program's standard input; bytes as they are now. */
  input?: string | Uint8Array
}

/** Options of {@link LimaRuntimeManager.registerDockerContext}. */
export interface DockerContextOptions extends CallOptions {
  /** Two or more letters, digits, `_`, `.`, `+` or `-`. Default: `appName`. */
  name?: string
  /** Whether `docker` uses it from now on. Default: false. */
  use?: boolean
}

/** Events of {@link LimaRuntimeManager}. */
export interface LimaRuntimeEvents {
  /** The progress of this manager's methods, whoever called them, and of stops and starts by `idleStopMs`. */
  progress: [progress: RuntimeProgress]
  /**
   * The VM's state changed, by a method of this manager or as one found it, or by `idleStopMs`. Changes from outside are seen at the next
   * call.
   */
  state: [status: LimaStatus]
}

/** Options of {@link LimaRuntimeManager.uninstall}. */
export interface UninstallOptions extends CallOptions {
  /** Keep the VMs and the files they were made from. Default: false. */
  keepData?: boolean | undefined
}

/**
 * A Lima VM with an engine for one application and one user: from nothing to running, and back to running after each
 * reboot, sleep, crash and upgrade. Everything lies below `dataDir`, the VM in a short directory
 * of the home instead where that path is too long for sockets; the user's own Lima is neither read nor changed.
 *
 * Several processes may use one `dataDir`: a call that changes something waits for its turn (`LOCKED` after the
 * deadline), one that only asks does not. An aborted call rejects at once, and the next call continues from what it
 * left.
 *
 * Files come from the first place that has them: the installation itself, the pre-bundled directory, the download
 * cache, the mirror, the original address. They are checked against the manifest's SHA-256 before anything is
 * installed, and an installation is switched in one step: it is whole or absent, even after a crash. Proxies of the
 * environment and the system, the system's certificates and `NODE_EXTRA_CA_CERTS` are honoured.
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
   * @throws `INVALID_ARGUMENT`, also for an unknown option; `UNSUPPORTED_PLATFORM`
   */
  constructor(options?: LimaRuntimeOptions)

  /** Whether Lima is installed, as far as can be seen without reading its files. No process, no network. */
  isInstalled(options?: CallOptions): Promise<boolean>

  /** Whether the application ships Lima, so that {@link install} needs no network. */
  hasPreBundled(options?: CallOptions): Promise<boolean>

  /** Installs what is missing; never boots. Like {@link install} without `repair`. */
  initialize(progress?: Progress): Promise<void>

  /**
   * Installs Lima; at once when installed. An interrupted download continues, in this process or another. Several
   * processes may call it at once: one works, the others wait. A download ends with `DOWNLOAD_FAILED` after 60 s
   * without a byte and a few more tries; there is no other deadline.
   *
   * With `repair`, checks every file of an installation against its record and replaces wrong ones.
   *
   * @throws `DOWNLOAD_FAILED`, `CHECKSUM_MISMATCH`, `ARCHIVE_UNSAFE`, `DISK_FULL`, `PERMISSION_DENIED`,
   *   `UNSUPPORTED_PLATFORM`, `LOCKED` when another process works and `timeoutMs` passed. In each case the old
   *   installation is unchanged.
   * @example
   * ```ts
   * const stop = new AbortController()
   * await lima.install({ signal: stop.signal, onProgress: ({ percent }) => bar.update(percent ?? 0) })
   * ```
   */
  install(progress?: Progress & { repair?: boolean | undefined }): Promise<void>

  /**
   * Whether the VM runs: our host agent lives and last reported so, and our SSH has not found the VM dead. Takes a
   * millisecond and no process.
   */
  isRunning(options?: CallOptions): Promise<boolean>

  /** The state of the VM. Waits for no lock. */
  getStatus(options?: CallOptions): Promise<LimaStatus>

  /**
   * Information about the VM.
   *
   * @throws `INVALID_STATE` when there is none
   */
  getVMInfo(options?: CallOptions): Promise<VmInfo>

  /**
   * Brings the VM to running from any state: installs what is missing (Lima, the guest image and the engine, downloaded
   * at once under one progress), creates the VM, boots it, joins a start under way, repairs what a crash left. Resolves
   * when SSH works and the engine answers; at once when it runs already with that engine. On a full disk the engine may
   * run and hide containers: a process warning says so, code `DISK_FULL`. Newer versions that cannot be fetched are not brought
   * where older ones are there, unless `versions` names them: a process warning, code `DOWNLOAD_FAILED`.
   *
   * Deadline: 30 minutes for a first boot, 3 minutes for a later one, which may take longer while the guest shows progress, as an
   * emulated one does; both without downloads, which have only idle timeouts;
   * `timeoutMs` replaces it, for everything together.
   *
   * @throws what {@link install} throws, `ROOT_USER`, `PATH_TOO_LONG`, `VM_START_FAILED`, `VM_BROKEN`,
   *   `CONTAINERD_NOT_READY`, `INVALID_ARGUMENT`, `INVALID_STATE` for a VM that a newer Lima has run, or data that a newer
   *   version wrote; `VM_BROKEN` for a VM whose data disk is missing or damaged: no engine starts without it;
   *   `ENGINE_UNREACHABLE` of a Docker Engine; `details.hostAgentLog`, `details.serialLog` and, for a VM without
   *   containerd, `details.guestLog` are the ends of
   *   the VM's logs
   */
  start(progress?: Progress): Promise<void>

  /**
   * Stops the VM: the containers first (their restart policies stay), then the guest. What does not end in time is
   * ended by force: a container after 10 s, a guest that shows no progress after 30 s. No VM, or a stopped one, is not
   * an error. Deadline: 3 min, for a slow guest.
   */
  stop(progress?: Progress): Promise<void>

  /** {@link stop}, then {@link start}. */
  restart(progress?: Progress): Promise<void>

  /**
   * Removes the VM with its containers, images and volumes, and the copy for {@link rollback}. Downloads stay. Deadline: 60 s.
   *
   * With `keepData`, stops the VM as {@link stop} does, and keeps what its engines hold: containers, images, volumes,
   * networks, BuildKit's cache. The next {@link start} makes a VM that has them; until then `keptData` of {@link getStatus}
   * tells of them. {@link delete} without `keepData` removes them, too. Deadline: 4 min.
   *
   * @throws `INVALID_STATE` with `keepData` for a VM that an earlier version made: it has no data disk. It is left as it
   *   was. `ROOT_USER`, `LOCKED`
   * @example
   * ```ts
   * await lima.delete({ keepData: true }) // a broken guest
   * await lima.start() // a new one, with everything that was in it
   * ```
   */
  delete(progress?: Progress & { keepData?: boolean | undefined }): Promise<void>

  /** {@link delete}, then {@link start}: a new VM with the same settings, and with `keepData` with the same data. */
  factoryReset(progress?: Progress & { keepData?: boolean | undefined }): Promise<void>

  /**
   * Brings Lima and the engine to the versions that this package, or `versions`, asks for, and the VM to running: a VM that
   * runs is stopped for it, if there is anything to bring. Containers, images and volumes stay. {@link start} does the same
   * with a VM that is stopped, but not after a {@link rollback}. When it fails, the VM may be left stopped.
   *
   * Before the VM gets other versions, a copy is made of it, for {@link rollback}. `copy` says what that may cost: with `'auto'`
   * neither time nor space, so there is one where the file system clones files (APFS, Btrfs, XFS); with `'always'` there is one
   * everywhere, of all bytes that the VM takes on this computer; with `'never'` none. Default: `'auto'`, which is also what
   * {@link start} and {@link install} do. A new copy takes the place of the one before, which stays while none is made: `created`
   * of `previous` says of when it is. In a `dataDir` with several VMs only this manager's is copied.
   *
   * Deadlines: those of {@link stop} and {@link start}; a copy that must be written has none.
   *
   * @throws what {@link start} throws; `IN_USE` while another VM in the same `dataDir` runs, and `DISK_FULL` when a copy that must
   *   be written has no room: the VM goes on as it was
   * @example
   * ```ts
   * await lima.upgrade({ copy: 'always', onProgress: ({ message }) => console.log(message) })
   * const { previous } = await lima.getStatus()
   * if (previous) console.log(`rollback() goes back to Lima ${previous.versions.lima}`)
   * ```
   */
  upgrade(progress?: Progress & { copy?: 'auto' | 'always' | 'never' | undefined }): Promise<void>

  /**
   * Puts the VM back as it was when its copy was made (`previous` of {@link getStatus}), with the versions of then, and starts it.
   * What containers, images and volumes became since is lost, and so is the copy: there is no way forth again. The versions then
   * stay until {@link upgrade}. A rollback that was cut off is ended by the next {@link start}. Deadlines: those of {@link stop}
   * and {@link start}.
   *
   * @throws `INVALID_STATE` without a copy, for one that is not whole, and where another VM in the same `dataDir` has run since:
   *   the VM stays as it was; what {@link start} throws
   */
  rollback(progress?: Progress): Promise<void>

  /** Removes the copy that {@link rollback} would put back, and the versions that only it needs. Without one nothing happens. */
  discardPrevious(options?: CallOptions): Promise<void>

  /**
   * Makes an image in which everything is installed that a first boot installs: the engine of this manager, and the packages that
   * Lima wants. For the build of an application, on the kind of machine that its users have. `lima-runtime bake` does it too.
   *
   * Boots a VM without mounts in a `dataDir` that has none, takes out what is that VM's own (user, keys, machine-id, logs, certificates,
   * proxies), writes its root disk to `output` as a compressed qcow2, and removes the VM. With `url`, where the image will be
   * published, a manifest is written beside it, `<output>.manifest.json`: this manager's, with the image as the default one for this
   * machine's guests and its engine as the default version. Runtimes with that `manifest` make their VMs from it, and download no
   * archive of the engine until one is newer.
   *
   * Nothing is left of a call that failed or was given up, but downloads. Needs QEMU's `qemu-img`. Deadline: that of {@link start};
   * then 13 min for the guest's end, and none for writing.
   *
   * @throws `INVALID_ARGUMENT` with `template`, `registries`, a proxy with a password (the option's or the environment's: its bytes
   *   might stay in free space) or a `dataDir` too long for a VM, and for an `output` or `url` that is no file's; `INVALID_STATE`
   *   where there is a VM, the data or a copy of one, or mounts by `configure()`; `NOT_INSTALLED` without `qemu-img`; `DISK_FULL`;
   *   what {@link start} throws. `details.vmLeft` says why the VM could not be removed, where that failed
   * @example
   * ```ts
   * const builder = new LimaRuntimeManager({ dataDir: '/tmp/bake' })
   * const url = 'https://downloads.example.com/guest-1.0-arm64.img'
   * const image = await builder.bake({ output: 'guest-1.0-arm64.img', url, onProgress: ({ message }) => console.log(message) })
   * console.log(image.sha256, image.manifest)
   * ```
   */
  bake(options: Progress & { output: string; url?: string | undefined }): Promise<BakedImage>

  /**
   * Changes the resources of the VM, existing or not. They replace the constructor's and are kept across upgrades,
   * resets and restarts of the application. A running VM gets them at its next start.
   *
   * @throws `INVALID_ARGUMENT` for more than this computer has, and for a disk smaller than the VM's
   */
  configure(resources: Partial<VmResources>, options?: CallOptions): Promise<{ restartRequired: boolean }>

  /** The computer is about to sleep (Electron's `powerMonitor` says so): the VM flushes its disk. */
  notifySuspend(): void

  /**
   * The computer woke up. For a VM that ran: sets its clock, renews the connections, and starts it again, like {@link
   * start}, when it does not answer within 10 s. A stopped VM stays stopped, also one that rests by `idleStopMs`.
   */
  notifyResume(progress?: Progress): Promise<void>

  /**
   * Runs nerdctl as root in the VM and returns its output as UTF-8. Arguments are passed literally. No deadline but
   * `timeoutMs`; an aborted call ends nerdctl.
   *
   * `run -d -p …` resolves once the ports are open on this computer, or 10 s later with a process warning, code
   * `PORT_NOT_FORWARDED`, when the container is late.
   *
   * @throws `NOT_INSTALLED` when the VM's engine is Docker, `ENGINE_ERROR` when nerdctl fails (`details.exitCode`,
   *   `details.stderr`), `VM_NOT_RUNNING` at once (a VM that rests by `idleStopMs` is started first), `PORT_IN_USE` when another program has a port that `run` is to publish
   * @example
   * ```ts
   * const ids = await lima.execNerdctl(['ps', '-q'])
   * await lima.execNerdctl(['load'], { input: await readFile('image.tar') })
   * ```
   */
  execNerdctl(args: string[], options?: NerdctlOptions): Promise<string>

  /**
   * As {@link execNerdctl}, for docker as the VM's user. For a VM with `engine: 'docker'`.
   *
   * @throws `NOT_INSTALLED` when the VM's engine is containerd; else as {@link execNerdctl}
   */
  execDocker(args: string[], options?: NerdctlOptions): Promise<string>

  /**
   * Writes a context for the docker CLI that leads to {@link getDockerSocketPath}; with `use`, makes it the current one.
   * No other method writes to docker's settings.
   *
   * @throws `NOT_INSTALLED` when the VM's engine is containerd, `NAME_IN_USE` when a context of that name leads elsewhere,
   *   `INVALID_ARGUMENT`, `INVALID_STATE` when docker's `config.json` cannot be understood (it is left as it is)
   */
  registerDockerContext(options?: DockerContextOptions): Promise<void>

  /** Removes that context, if it is ours, and no longer uses it. */
  unregisterDockerContext(options?: Omit<DockerContextOptions, 'use'>): Promise<void>

  /**
   * Everything that a support person would check, in any state of the VM. Only reads: changes, repairs and starts
   * nothing. Deadline: 60 s.
   */
  diagnose(options?: CallOptions): Promise<DiagnosticCheck[]>

  /**
   * Writes a `.tar.gz` for a support person: the checks of {@link diagnose}, settings, what this process did last, and
   * the last 256 KiB of each log of Lima, of the VM's boot and of its engine. Secrets, user and host names, home
   * directories, e-mail and network addresses (except loopback) are blanked. The file is readable by this user only, and
   * written whole or not at all. Deadline: 120 s.
   *
   * @param path The file to write; an existing one is replaced.
   * @returns The absolute path.
   * @throws `INVALID_ARGUMENT` when `path` is not a regular file or its directory is missing, `PERMISSION_DENIED`,
   *   `DISK_FULL`
   * @example
   * ```ts
   * await lima.collectDiagnostics(join(app.getPath('downloads'), 'diagnostics.tar.gz'))
   * ```
   */
  collectDiagnostics(path: string, options?: CallOptions): Promise<string>

  /**
   * Removes the programs, the downloads, and every VM in `dataDir` with its data. `keepData` leaves the VMs, but not the copy for
   * {@link rollback}.
   *
   * @throws `IN_USE` while the VM runs, `PERMISSION_DENIED`, `LOCKED`
   */
  uninstall(options?: UninstallOptions): Promise<void>

  /** The absolute path of `limactl`, which exists after {@link install}. */
  getLimactlPath(): string

  /** The absolute path of our own `lima` program, which touches only this application's VM. */
  getLimaPath(): string

  /**
   * The absolute path of our own `nerdctl` program, which talks to this application's containerd and never prompts.
   *
   * @throws `NOT_INSTALLED` when the VM's engine is Docker
   */
  getNerdctlPath(): string

  /**
   * The absolute path to which containerd's socket is forwarded.
   *
   * @throws `NOT_INSTALLED` when the VM's engine is Docker
   */
  getContainerdSocketPath(): string

  /**
   * The absolute path of our own `docker` program, there with `engine: 'docker'`. It only ever touches this application's
   * VM.
   *
   * @throws `NOT_INSTALLED` when the VM's engine is containerd
   */
  getDockerPath(): string

  /**
   * The absolute path of the Docker Engine's socket on this computer, for programs that speak Docker's API. With `engine:
   * 'docker'` it is served from {@link start} on while the application lives, for this user alone.
   *
   * @throws `NOT_INSTALLED` when the VM's engine is containerd
   */
  getDockerSocketPath(): string
}
