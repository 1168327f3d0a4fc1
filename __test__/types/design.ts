// The interface applications code against, as they have it: names, argument order and optionality are fixed.

export type RuntimeType = 'docker' | 'containerd' | 'lima'

export interface IContainerRuntime {
  initialize(): Promise<void>
  isAvailable(): Promise<boolean>
  getRuntimeType(): RuntimeType
  startContainer(config: ContainerConfig): Promise<string>
  stopContainer(id: string, timeout?: number): Promise<void>
  removeContainer(id: string, force?: boolean): Promise<void>
  restartContainer(id: string, timeout?: number): Promise<void>
  pauseContainer(id: string): Promise<void>
  unpauseContainer(id: string): Promise<void>
  inspectContainer(id: string): Promise<ContainerInfo>
  listContainers(options?: { all?: boolean; filters?: Record<string, string[]> }): Promise<ContainerInfo[]>
  getContainerLogs(
    id: string,
    options?: { follow?: boolean; tail?: number; since?: number; timestamps?: boolean },
  ): Promise<NodeJS.ReadableStream>
  getContainerStats(id: string): Promise<ContainerStats>
  pullImage(name: string, onProgress?: (progress: PullProgress) => void): Promise<void>
  listImages(): Promise<ImageInfo[]>
  removeImage(id: string, force?: boolean): Promise<void>
  imageExists(name: string): Promise<boolean>
  createNetwork(name: string, options?: { driver?: string; internal?: boolean; attachable?: boolean }): Promise<string>
  removeNetwork(id: string): Promise<void>
  listNetworks(): Promise<NetworkInfo[]>
  connectContainerToNetwork(containerId: string, networkId: string): Promise<void>
  disconnectContainerFromNetwork(containerId: string, networkId: string): Promise<void>
  createVolume(name: string, options?: { driver?: string; labels?: Record<string, string> }): Promise<string>
  removeVolume(name: string, force?: boolean): Promise<void>
  listVolumes(): Promise<VolumeInfo[]>
  getSystemInfo(): Promise<{
    os: string
    architecture: string
    cpus: number
    memory: number
    runtimeVersion: string
  }>
  prune(options?: {
    containers?: boolean
    images?: boolean
    volumes?: boolean
    networks?: boolean
  }): Promise<PruneResult>
}

export interface ContainerConfig {
  name: string
  image: string
  env?: Record<string, string>
  ports?: Record<string, string>
  volumes?: { host: string; container: string; readOnly?: boolean }[]
  networks?: string[]
  command?: string[]
  healthcheck?: { test: string[]; interval: number; timeout: number; retries: number; startPeriod?: number }
  restart?: 'no' | 'always' | 'on-failure' | 'unless-stopped'
  labels?: Record<string, string>
}

export interface ContainerInfo {
  id: string
  name: string
  image: string
  state: 'running' | 'stopped' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead'
  status: string
  health?: 'healthy' | 'unhealthy' | 'starting' | 'none'
  created: Date
  ports: { containerPort: number; hostPort?: number; protocol: 'tcp' | 'udp' }[]
}

export interface ContainerStats {
  cpu: number
  memory: { used: number; limit: number; percentage: number }
  network: { rx: number; tx: number }
  blockIO: { read: number; write: number }
}

export interface ImageInfo {
  id: string
  tags: string[]
  size: number
  created: Date
}

export interface NetworkInfo {
  id: string
  name: string
  driver: string
  containers: string[]
}

export interface VolumeInfo {
  name: string
  driver: string
  mountpoint: string
}

export interface PullProgress {
  status: string
  progress?: number
  total?: number
  current?: number
}

export interface PruneResult {
  containersDeleted: number
  imagesDeleted: number
  volumesDeleted: number
  networksDeleted: number
  spaceReclaimed: number
}

export interface RuntimeProgress {
  phase: 'resolve' | 'download' | 'verify' | 'extract' | 'create' | 'boot' | 'provision' | 'ready' | 'stop' | 'delete'
  component?: 'lima' | 'image' | 'nerdctl' | 'containerd' | 'docker'
  message: string
  percent?: number
  transferred?: number
  total?: number
  bytesPerSecond?: number
  etaSeconds?: number
}

export interface RuntimeEvent {
  time: Date
  kind: 'container' | 'image' | 'network' | 'volume'
  action: string
  id: string
  name?: string
  exitCode?: number
}
