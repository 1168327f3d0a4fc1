import type { Readable } from 'node:stream'
import type * as api from '../index'
import { BundledRuntimeManager, engineOf as bundledEngineOf } from './bundled'
import {
  apart,
  callback,
  dated,
  flag,
  hidden,
  inputBytes,
  invoke,
  invokeAndWarn,
  json,
  type NativeCall,
  optionalNumber,
  optionalString,
  progress,
  projectOf,
  string,
  strings,
} from './call'
import { callSync } from './errors'
import { engineOf, LimaRuntimeManager } from './lima'
import { type Adapter, native, type Upload } from './native'
import { Process } from './process'
import { items, readable, uploading } from './streams'

type Call = api.CallOptions

/** Every backend's methods. index.d.ts documents them; the core does the work. */
export abstract class ContainerAdapter implements api.IContainerRuntime {
  readonly #native: Adapter

  protected constructor(make: () => Adapter) {
    this.#native = callSync(make)
  }

  getRuntimeType(): api.RuntimeType {
    return JSON.parse(this.#native.runtimeType())
  }

  restricted(options?: { foreign?: boolean; powers?: boolean }): api.ContainerAdapter {
    return new Restricted(() => this.#native.restricted(json('options', options)))
  }

  async isPrivate(options?: Call): Promise<boolean> {
    return invoke(options, (call) => this.#native.isPrivate(call))
  }

  async initialize(p?: api.Progress): Promise<void> {
    await invoke(progress(p).options, (call) => this.#native.ping(call))
  }

  async isAvailable(options?: Call): Promise<boolean> {
    return invoke(options, (call) => this.#native.ping(call)).then(
      () => true,
      (error) => {
        if (['ABORTED', 'INVALID_ARGUMENT'].includes(error.code)) throw error
        return false
      },
    )
  }

  async createContainer(config: api.ContainerConfig, options?: Call): Promise<string> {
    return invokeAndWarn(options, (call) => this.#native.createContainer(json('config', config ?? null), call))
  }

  async startContainer(configOrId: api.ContainerConfig | string, options?: Call): Promise<string> {
    return invokeAndWarn(options, (call) =>
      typeof configOrId === 'string'
        ? this.#native.startExisting(string('id', configOrId), call)
        : this.#native.startContainer(json('config', configOrId ?? null), call),
    )
  }

  async updateContainer(id: string, changes: api.ContainerUpdate, options?: Call): Promise<void> {
    return invokeAndWarn(options, (call) =>
      this.#native.updateContainer(string('id', id), json('changes', changes ?? null), call),
    )
  }

  async stopContainer(id: string, timeout?: number, options?: Call): Promise<void> {
    return invoke(options, (call) =>
      this.#native.stopContainer(string('id', id), optionalNumber('timeout', timeout), call),
    )
  }

  async restartContainer(id: string, timeout?: number, options?: Call): Promise<void> {
    return invokeAndWarn(options, (call) =>
      this.#native.restartContainer(string('id', id), optionalNumber('timeout', timeout), call),
    )
  }

  async removeContainer(id: string, force?: boolean, options?: Call): Promise<void> {
    return invoke(options, (call) => this.#native.removeContainer(string('id', id), flag('force', force), call))
  }

  async killContainer(id: string, signal?: string, options?: Call): Promise<void> {
    return invoke(options, (call) =>
      this.#native.killContainer(string('id', id), optionalString('signal', signal), call),
    )
  }

  async pauseContainer(id: string, options?: Call): Promise<void> {
    return invoke(options, (call) => this.#native.pauseContainer(string('id', id), call))
  }

  async unpauseContainer(id: string, options?: Call): Promise<void> {
    return invoke(options, (call) => this.#native.unpauseContainer(string('id', id), call))
  }

  waitContainer(id: string, options: api.WaitOptions & { condition: 'healthy' | 'removed' }): Promise<void>
  waitContainer(id: string, options?: api.WaitOptions & { condition?: 'exited' }): Promise<{ exitCode: number }>
  // biome-ignore lint/suspicious/noExplicitAny: what each overload says
  async waitContainer(id: string, options?: api.WaitOptions): Promise<any> {
    const end = await invoke(options, (call) => this.#native.waitContainer(string('id', id), call))
    return (options?.condition ?? 'exited') === 'exited' ? JSON.parse(end) : undefined
  }

  async renameContainer(id: string, name: string, options?: Call): Promise<void> {
    return invoke(options, (call) => this.#native.renameContainer(string('id', id), string('name', name), call))
  }

  async listProcesses(id: string, options?: Call): Promise<api.ProcessList> {
    return JSON.parse(await invoke(options, (call) => this.#native.listProcesses(string('id', id), call)))
  }

  async inspectContainer(id: string, options?: Call): Promise<api.ContainerInfo> {
    return dated(JSON.parse(await invoke(options, (call) => this.#native.inspectContainer(string('id', id), call))))
  }

  async getContainerDetails(id: string, options?: Call): Promise<api.ContainerDetails> {
    const details = JSON.parse(await invoke(options, (call) => this.#native.containerDetails(string('id', id), call)))
    for (const key of ['startedAt', 'finishedAt']) if (key in details) details[key] = new Date(details[key])
    return dated(details)
  }

  async listContainers(options?: api.ListContainersOptions): Promise<api.ContainerInfo[]> {
    const found = await invoke(options, (call) => this.#native.listContainers(call))
    return JSON.parse(found).map(dated)
  }

  watchContainers(options?: api.WatchContainersOptions): AsyncIterableIterator<api.ContainerInfo[]> {
    const open = (under: Call) => invoke(under, (call) => this.#native.watchContainers(call))
    return items(open, (text) => JSON.parse(text).map(dated), options)
  }

  async getContainerLogs(id: string, options?: api.LogOptions): Promise<Readable> {
    const source = await invoke(options, (call) => this.#native.logs(string('id', id), call))
    return readable(source, options?.signal)
  }

  async getContainerStats(id: string, options?: Call): Promise<api.ContainerStats> {
    return JSON.parse(await invoke(options, (call) => this.#native.containerStats(string('id', id), call)))
  }

  streamContainerStats(id: string, options?: Call): AsyncIterableIterator<api.ContainerStats> {
    const open = (under: Call) => invoke(under, (call) => this.#native.streamStats(string('id', id), call))
    return items(open, JSON.parse, options)
  }

  async spawnInContainer(id: string, argv: string[], options?: api.SpawnOptions): Promise<api.ContainerProcess> {
    const spawn = (call: NativeCall) => this.#native.spawn(string('id', id), strings('argv', argv), call)
    return new Process(await invoke(options, spawn), options?.signal)
  }

  async attachContainer(id: string, options?: api.AttachOptions): Promise<api.ContainerProcess> {
    const process = await invoke(options, (call) => this.#native.attach(string('id', id), call))
    return new Process(process, options?.signal)
  }

  async execInContainer(id: string, argv: string[], options?: api.ExecOptions): Promise<api.ExecResult> {
    const [input, rest] = apart('options', options, 'input')
    return invoke(rest, (call) => this.#native.exec(string('id', id), strings('argv', argv), inputBytes(input), call))
  }

  events(options?: api.EventOptions): AsyncIterableIterator<api.RuntimeEvent> {
    const open = (under: Call) => invoke(under, (call) => this.#native.events(call))
    const convert = (text: string) => {
      const event = JSON.parse(text)
      event.time = new Date(event.time)
      return event
    }
    return items(open, convert, options)
  }

  async pullImage(
    name: string,
    onProgress?: (progress: api.PullProgress) => void,
    options?: api.PullOptions,
  ): Promise<void> {
    const report = callback('onProgress', onProgress)
    await invoke(options, (call) => this.#native.pullImage(string('name', name), report, call))
  }

  async listImages(options?: Call): Promise<api.ImageInfo[]> {
    return JSON.parse(await invoke(options, (call) => this.#native.listImages(call))).map(dated)
  }

  async removeImage(id: string, force?: boolean, options?: Call): Promise<void> {
    return invoke(options, (call) => this.#native.removeImage(string('id', id), flag('force', force), call))
  }

  async imageExists(name: string, options?: Call): Promise<boolean> {
    return invoke(options, (call) => this.#native.imageExists(string('name', name), call))
  }

  async tagImage(source: string, target: string, options?: Call): Promise<void> {
    return invoke(options, (call) => this.#native.tagImage(string('source', source), string('target', target), call))
  }

  async inspectImage(name: string, options?: Call): Promise<api.ImageDetails> {
    return dated(JSON.parse(await invoke(options, (call) => this.#native.inspectImage(string('name', name), call))))
  }

  async imageHistory(name: string, options?: Call): Promise<api.ImageHistoryEntry[]> {
    const steps = JSON.parse(await invoke(options, (call) => this.#native.imageHistory(string('name', name), call)))
    for (const step of steps) if ('created' in step) dated(step)
    return steps
  }

  async pushImage(
    name: string,
    onProgress?: (progress: api.PullProgress) => void,
    options?: api.PushOptions,
  ): Promise<void> {
    const report = callback('onProgress', onProgress)
    await invoke(options, (call) => this.#native.pushImage(string('name', name), report, call))
  }

  async commitContainer(id: string, options: api.CommitOptions): Promise<string> {
    return invoke(options, (call) => this.#native.commitContainer(string('id', id), call))
  }

  async buildImage(context: string | NodeJS.ReadableStream, options?: api.BuildOptions): Promise<{ id: string }> {
    const [onProgress, given] = apart('options', options, 'onProgress')
    const report = callback('onProgress', onProgress)
    const [secrets, rest] = apart('options', given, 'secrets')
    const all = { ...rest, ...(secrets !== undefined && { secrets: hidden(secrets) }) } as Call
    if (typeof context === 'string') {
      const path = string('context', context)
      return JSON.parse(await invoke(all, (call) => this.#native.buildImage(path, undefined, report, call)))
    }
    const built = await invoke(all, (call) =>
      uploading('context', context, call, (upload) => this.#native.buildImage('', upload, report, call)),
    )
    return JSON.parse(built)
  }

  async copyToContainer(
    id: string,
    source: string | NodeJS.ReadableStream,
    containerPath: string,
    options?: Call,
  ): Promise<void> {
    const to = () => string('containerPath', containerPath)
    if (typeof source === 'string') {
      return invoke(options, (call) =>
        this.#native.copyFileToContainer(string('id', id), string('source', source), to(), call),
      )
    }
    return invoke(options, (call) => {
      const [container, path] = [string('id', id), to()]
      const send = (upload: Upload) => this.#native.copyToContainer(container, upload, path, call)
      return uploading('source', source, call, send)
    })
  }

  async copyFromContainer(id: string, containerPath: string, options?: api.CopyFromOptions): Promise<Readable> {
    const source = await invoke(options, (call) =>
      this.#native.copyFromContainer(string('id', id), string('containerPath', containerPath), call),
    )
    return readable(source, options?.signal)
  }

  async loadImage(archive: string | NodeJS.ReadableStream, options?: Call): Promise<string[]> {
    if (typeof archive === 'string') {
      return JSON.parse(await invoke(options, (call) => this.#native.loadImageFile(string('archive', archive), call)))
    }
    return JSON.parse(
      await invoke(options, (call) =>
        uploading('archive', archive, call, (upload) => this.#native.loadImage(upload, call)),
      ),
    )
  }

  async saveImage(images: string | string[], options?: Call): Promise<Readable> {
    const list = strings('images', typeof images === 'string' ? [images] : images)
    return readable(await invoke(options, (call) => this.#native.saveImage(list, call)), options?.signal)
  }

  async createNetwork(name: string, options?: api.NetworkOptions): Promise<string> {
    return invokeAndWarn(options, (call) => this.#native.createNetwork(string('name', name), call))
  }

  async removeNetwork(id: string, options?: Call): Promise<void> {
    return invoke(options, (call) => this.#native.removeNetwork(string('id', id), call))
  }

  async listNetworks(options?: Call): Promise<api.NetworkInfo[]> {
    return JSON.parse(await invoke(options, (call) => this.#native.listNetworks(call)))
  }

  async inspectNetwork(id: string, options?: Call): Promise<api.NetworkDetails> {
    return JSON.parse(await invoke(options, (call) => this.#native.inspectNetwork(string('id', id), call)))
  }

  async connectContainerToNetwork(containerId: string, networkId: string, options?: Call): Promise<void> {
    return invoke(options, (call) =>
      this.#native.connectNetwork(string('containerId', containerId), string('networkId', networkId), call),
    )
  }

  async disconnectContainerFromNetwork(containerId: string, networkId: string, options?: Call): Promise<void> {
    return invoke(options, (call) =>
      this.#native.disconnectNetwork(string('containerId', containerId), string('networkId', networkId), call),
    )
  }

  async createVolume(name: string, options?: api.VolumeOptions): Promise<string> {
    return invoke(options, (call) => this.#native.createVolume(string('name', name), call))
  }

  async removeVolume(name: string, force?: boolean, options?: Call): Promise<void> {
    return invoke(options, (call) => this.#native.removeVolume(string('name', name), flag('force', force), call))
  }

  async listVolumes(options?: Call): Promise<api.VolumeInfo[]> {
    return JSON.parse(await invoke(options, (call) => this.#native.listVolumes(call)))
  }

  async inspectVolume(name: string, options?: Call): Promise<api.VolumeDetails> {
    return JSON.parse(await invoke(options, (call) => this.#native.inspectVolume(string('name', name), call)))
  }

  async composeUp(project: string | object, options?: api.ComposeUpOptions): Promise<void> {
    const [onProgress, rest] = apart('options', options, 'onProgress')
    const report = callback('onProgress', onProgress)
    await invokeAndWarn(rest as Call, (call) => this.#native.composeUp(...projectOf(project), report, call))
  }

  async composeDown(project: string | object, options?: api.ComposeDownOptions): Promise<void> {
    const [onProgress, rest] = apart('options', options, 'onProgress')
    const report = callback('onProgress', onProgress)
    await invokeAndWarn(rest as Call, (call) => this.#native.composeDown(...projectOf(project), report, call))
  }

  async composePs(project: string | object, options?: api.ComposePsOptions): Promise<api.ComposeContainer[]> {
    const found = await invoke(options, (call) => this.#native.composePs(...projectOf(project), call))
    return JSON.parse(found).map(dated)
  }

  async getSystemInfo(options?: Call): Promise<api.SystemInfo> {
    return JSON.parse(await invoke(options, (call) => this.#native.systemInfo(call)))
  }

  async diskUsage(options?: Call): Promise<api.DiskUsage> {
    return JSON.parse(await invoke(options, (call) => this.#native.diskUsage(call)))
  }

  async prune(options?: api.PruneOptions): Promise<api.PruneResult> {
    return JSON.parse(await invoke(options, (call) => this.#native.prune(call)))
  }
}

class Restricted extends ContainerAdapter {
  constructor(make: () => Adapter) {
    super(make)
  }
}

/** Documented in index.d.ts. */
export class DockerAdapter extends ContainerAdapter implements api.DockerAdapter {
  constructor(options?: api.DockerAdapterOptions) {
    super(() => native.Adapter.docker(json('options', options)))
  }
}

/** Documented in index.d.ts. */
export class ContainerdAdapter extends ContainerAdapter implements api.ContainerdAdapter {
  readonly #engine: Adapter

  constructor(options?: api.ContainerdAdapterOptions) {
    let engine: Adapter | undefined
    super(() => (engine = native.Adapter.containerd(json('options', options))))
    this.#engine = engine as unknown as Adapter
  }

  async setNerdctlPath(path: string, options?: Call): Promise<void> {
    await invoke(options, (call) => this.#engine.setNerdctlPath(string('path', path), call))
  }
}

/** Documented in index.d.ts. */
export class LimaContainerAdapter extends ContainerAdapter implements api.LimaContainerAdapter {
  readonly #manager: LimaRuntimeManager

  constructor(manager?: LimaRuntimeManager | api.LimaRuntimeOptions) {
    const ours = manager instanceof LimaRuntimeManager ? manager : new LimaRuntimeManager(manager)
    super(() => engineOf(ours))
    this.#manager = ours
  }

  getLimaManager(): api.LimaRuntimeManager {
    return this.#manager
  }

  override async initialize(p?: api.Progress): Promise<void> {
    await this.#manager.start(p)
    await super.initialize(p)
  }
}

/** Documented in index.d.ts. */
export class BundledContainerAdapter extends ContainerAdapter implements api.BundledContainerAdapter {
  readonly #manager: BundledRuntimeManager

  constructor(manager?: BundledRuntimeManager | api.BundledRuntimeOptions) {
    const ours = manager instanceof BundledRuntimeManager ? manager : new BundledRuntimeManager(manager)
    super(() => bundledEngineOf(ours))
    this.#manager = ours
  }

  getBundledManager(): api.BundledRuntimeManager {
    return this.#manager
  }

  override async initialize(p?: api.Progress): Promise<void> {
    await this.#manager.initialize(p)
    await super.initialize(p)
  }
}
