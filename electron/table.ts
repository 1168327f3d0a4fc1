import type * as runtime from 'lima-runtime'
import {
  type Check,
  data,
  either,
  flag,
  list,
  milliseconds,
  number,
  oneOf,
  optional,
  options,
  record,
  shape,
  string,
  textOrObject,
} from './check'
import type { ApiProcess, RuntimeApi } from './preload'

/** One method of the page: its channel is `lima-runtime:<group>.<method>`. */
export interface Row {
  /** The adapter's method that it calls. Absent where `methods.ts` has a function for it. */
  method?: keyof runtime.ContainerAdapter
  args: Record<string, Check>
  /** The call continues when its page is gone. Other calls end then, as do those that may wait for ever. */
  outlivesPage?: true
  /** Work that windows share: one of them alone cannot end it. */
  shared?: true
  /** It calls `onProgress` of its options. */
  reports?: true
  /** A stream: a listener follows the arguments, and it ends with its page. */
  watched?: true
  /** A stream of a process: the page gets an object with the methods of the group `process`. */
  process?: true
}

const call = { timeoutMs: optional(milliseconds) }
const plain = { options: optional(options(call)) }
/** Limited, since an engine tests each value on each object. */
const filters = optional(record(list(string, 100)))
const text = optional(string)
const optionalFlag = optional(flag)
const id = { id: string }

/** Calls the adapter's method. */
const query = (method: keyof runtime.ContainerAdapter, args: Record<string, Check>): Row => ({
  method,
  args: { ...args, ...('options' in args ? {} : plain) },
})
/** Calls a method that changes something. */
const command = (method: keyof runtime.ContainerAdapter, args: Record<string, Check>): Row => ({
  ...query(method, args),
  outlivesPage: true,
})

const texts = optional(list(string))
const pairs = optional(record(string))
const ofProject = { ...call, projectName: text, env: pairs, profiles: texts, removeOrphans: optionalFlag }
const amount = optional(number)
const size = optional(either(string, number))
const resources = optional(
  shape({
    ...{ cpus: amount, cpuShares: amount, cpuset: text, memory: size, memorySwap: size, memoryReservation: size },
    ...{ pids: amount, shmSize: size, oomScoreAdj: amount },
  }),
)
const auth = optional(shape({ username: string, password: string }))
const restart = optional(oneOf('no', 'always', 'on-failure', 'unless-stopped'))

const config = options({
  ...{ name: string, image: string, env: pairs, ports: pairs },
  volumes: optional(list(shape({ host: string, container: string, readOnly: optionalFlag }))),
  networks: texts,
  command: texts,
  healthcheck: optional(
    shape({
      ...{ test: list(string), interval: number, timeout: number, retries: number },
      ...{ startPeriod: amount, startInterval: amount },
    }),
  ),
  ...{ restart, labels: pairs, platform: text, resources },
  ...{ entrypoint: texts, user: text, workdir: text, hostname: text, domainname: text, tty: optionalFlag },
  ...{ stdin: optionalFlag, init: optionalFlag, autoRemove: optionalFlag, stopSignal: text, stopTimeout: amount },
  tmpfs: optional(record(shape({ size, mode: amount }))),
  mounts: optional(
    list(
      shape({
        ...{ type: oneOf('bind', 'volume', 'tmpfs'), source: text, target: string, readOnly: optionalFlag },
        ...{ subpath: text, propagation: text },
      }),
    ),
  ),
  ...{ readOnlyRootfs: optionalFlag, privileged: optionalFlag, capAdd: texts, capDrop: texts, securityOpt: texts },
  ...{ groupAdd: texts, devices: texts, gpus: optional(either(either(string, number), list(string))) },
  ulimits: optional(record(either(number, shape({ soft: number, hard: number })))),
  ...{ sysctls: pairs, extraHosts: pairs, dns: texts, dnsSearch: texts, dnsOptions: texts, networkMode: text },
  networkOptions: optional(record(shape({ aliases: texts, ipv4: text, ipv6: text, mac: text }))),
  logging: optional(shape({ driver: string, options: pairs })),
  ...{ runtime: text, pidMode: text, ipcMode: text, annotations: pairs },
} satisfies Record<Exclude<keyof runtime.ContainerConfig, 'credentials'>, Check>)

const process = { process: string }

/**
 * The methods a window may call: the page's functions, the channels and their checks are made of this table. Those of
 * `process` are called by the objects that `container.spawn` and `container.attach` give.
 */
export const TABLE: { [G in keyof RuntimeApi]: { [M in keyof RuntimeApi[G]]: Row } } & {
  process: { [M in Exclude<keyof ApiProcess, 'close' | 'exited'>]: Row }
} = {
  runtime: {
    start: { args: plain, outlivesPage: true, shared: true, reports: true },
    switch: {
      args: { type: oneOf('docker', 'containerd', 'lima'), ...plain },
      ...{ outlivesPage: true, shared: true, reports: true },
    },
    stop: { args: plain, outlivesPage: true, reports: true },
    detect: { args: plain },
    status: { args: {} },
    isAvailable: { args: plain },
    on: { args: { event: oneOf('state', 'progress', 'runtime-changed') }, watched: true },
  },
  container: {
    create: { args: { config, ...plain }, outlivesPage: true },
    start: { args: { configOrId: either(string, config), ...plain }, outlivesPage: true },
    update: command('updateContainer', { id: string, changes: options({ resources, restart }) }),
    stop: command('stopContainer', { id: string, timeout: amount }),
    restart: command('restartContainer', { id: string, timeout: amount }),
    remove: command('removeContainer', { id: string, force: optionalFlag }),
    kill: command('killContainer', { id: string, signal: text }),
    pause: command('pauseContainer', id),
    unpause: command('unpauseContainer', id),
    rename: command('renameContainer', { id: string, name: string }),
    wait: query('waitContainer', {
      id: string,
      options: optional(options({ ...call, condition: optional(oneOf('exited', 'healthy', 'removed')) })),
    }),
    inspect: query('inspectContainer', id),
    details: { args: { ...id, ...plain } },
    list: query('listContainers', { options: optional(options({ ...call, all: optionalFlag, filters })) }),
    stats: query('getContainerStats', id),
    processes: query('listProcesses', id),
    spawn: {
      args: {
        ...{ id: string, argv: list(string) },
        // Without `privileged`: no window may ask for that.
        options: optional(
          options({
            ...{ ...call, tty: optionalFlag, columns: amount, rows: amount, stdin: optionalFlag },
            ...{ env: pairs, workdir: text, user: text },
          }),
        ),
      },
      ...{ watched: true, process: true },
    },
    attach: {
      args: { id: string, options: optional(options({ ...call, stdin: optionalFlag, logs: optionalFlag })) },
      ...{ watched: true, process: true },
    },
    exec: {
      args: {
        ...{ id: string, argv: list(string) },
        options: optional(options({ ...call, env: pairs, workdir: text, user: text, input: text })),
      },
    },
    copyTo: { args: { id: string, path: string, containerPath: string, ...plain }, outlivesPage: true },
    copyFrom: { args: { id: string, containerPath: string, to: string, ...plain }, outlivesPage: true },
    commit: {
      args: {
        id: string,
        options: options({ ...call, reference: string, message: text, author: text, pause: optionalFlag }),
      },
      outlivesPage: true,
    },
    logs: {
      args: {
        id: string,
        options: optional(
          options({
            ...{ ...call, follow: optionalFlag, tail: amount, since: amount },
            ...{ timestamps: optionalFlag, stdout: optionalFlag, stderr: optionalFlag },
          }),
        ),
      },
      watched: true,
    },
    watch: {
      ...query('watchContainers', { options: optional(options({ ...call, filters })) }),
      watched: true,
    },
    watchStats: { method: 'streamContainerStats', args: id, watched: true },
  },
  image: {
    pull: {
      args: {
        name: string,
        options: optional(options({ ...call, platform: text, auth })),
      },
      ...{ outlivesPage: true, reports: true },
    },
    list: { args: plain },
    remove: { args: { id: string, force: optionalFlag, ...plain }, outlivesPage: true },
    exists: query('imageExists', { name: string }),
    tag: { args: { source: string, target: string, ...plain }, outlivesPage: true },
    inspect: { args: { name: string, ...plain } },
    history: { args: { name: string, ...plain } },
    push: {
      args: {
        name: string,
        options: optional(options({ ...call, auth })),
      },
      ...{ outlivesPage: true, reports: true },
    },
    build: {
      args: {
        directory: string,
        options: optional(
          options({
            ...{ ...call, dockerfile: text, tags: texts, args: pairs, target: text, platform: text, labels: pairs },
            ...{ secrets: pairs, cacheFrom: texts, noCache: optionalFlag, pull: optionalFlag },
          }),
        ),
      },
      ...{ outlivesPage: true, reports: true },
    },
  },
  network: {
    create: command('createNetwork', {
      name: string,
      options: optional(
        options({ ...call, driver: text, internal: optionalFlag, attachable: optionalFlag, labels: pairs }),
      ),
    }),
    remove: command('removeNetwork', id),
    list: query('listNetworks', {}),
    inspect: { args: { ...id, ...plain } },
    connect: command('connectContainerToNetwork', { containerId: string, networkId: string }),
    disconnect: command('disconnectContainerFromNetwork', { containerId: string, networkId: string }),
  },
  volume: {
    create: command('createVolume', {
      name: string,
      options: optional(options({ ...call, driver: text, labels: pairs })),
    }),
    remove: command('removeVolume', { name: string, force: optionalFlag }),
    list: { args: plain },
    inspect: { args: { name: string, ...plain } },
  },
  compose: {
    up: {
      args: {
        project: textOrObject,
        options: optional(
          options({
            ...{ ...ofProject, services: texts, pull: optional(oneOf('always', 'missing', 'never')) },
            ...{ build: optionalFlag, wait: optionalFlag },
          }),
        ),
      },
      ...{ outlivesPage: true, reports: true },
    },
    down: {
      args: {
        project: textOrObject,
        options: optional(options({ ...ofProject, volumes: optionalFlag })),
      },
      ...{ outlivesPage: true, reports: true },
    },
    ps: { args: { project: textOrObject, options: optional(options({ ...call, projectName: text })) } },
  },
  process: {
    write: { args: { ...process, data } },
    end: { args: process },
    resize: { args: { ...process, columns: number, rows: number } },
    kill: { args: { ...process, signal: text } },
  },
  system: {
    info: query('getSystemInfo', {}),
    diskUsage: query('diskUsage', {}),
    // Without `scope`: a window may not prune others' things on the user's engine.
    prune: query('prune', {
      options: optional(
        options({
          ...call,
          containers: optionalFlag,
          images: optionalFlag,
          volumes: optionalFlag,
          networks: optionalFlag,
        }),
      ),
    }),
    events: {
      ...query('events', { options: optional(options({ ...call, since: amount, filters })) }),
      watched: true,
    },
  },
}
