// Compiling is the test: every exported name, used as an application would.
import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import {
  type AttachOptions,
  type BakedImage,
  type BringOptions,
  type BuildOptions,
  type BuildProgress,
  BundledContainerAdapter,
  BundledRuntimeManager,
  type BundledRuntimeOptions,
  type CallOptions,
  type CommitOptions,
  type ComposeContainer,
  type ComposeDownOptions,
  type ComposeProgress,
  type ComposePsOptions,
  type ComposeUpOptions,
  ContainerAdapter,
  type ContainerConfig,
  type ContainerDetails,
  ContainerdAdapter,
  type ContainerdAdapterOptions,
  type ContainerInfo,
  ContainerManager,
  type ContainerManagerEvents,
  type ContainerManagerOptions,
  type ContainerProcess,
  type ContainerResources,
  type ContainerRuntimeAdapter,
  type ContainerStats,
  type ContainerUpdate,
  type CopyFromOptions,
  type DiagnosticCheck,
  type DiskUsage,
  type DiskUsageEntry,
  DockerAdapter,
  type DockerAdapterOptions,
  type DockerContextOptions,
  type EventOptions,
  type ExecOptions,
  type ExecResult,
  type IContainerRuntime,
  type ImageDetails,
  type ImageHistoryEntry,
  type ImageInfo,
  type ImageVariant,
  type KeptData,
  LimaAdapter,
  type LimaContainerAdapter,
  type LimaRuntimeEvents,
  LimaRuntimeManager,
  type LimaRuntimeOptions,
  type LimaState,
  type LimaStatus,
  type ListContainersOptions,
  type LogOptions,
  type ManagerStatus,
  type Mount,
  type NerdctlOptions,
  type NetworkAttachment,
  type NetworkAttachmentOptions,
  type NetworkDetails,
  type NetworkInfo,
  type NetworkOptions,
  type PreviousVm,
  type ProcessList,
  type Progress,
  type PruneOptions,
  type PruneResult,
  type PullOptions,
  type PullProgress,
  type PushOptions,
  type RegistryOptions,
  type RuntimeChange,
  type RuntimeDetail,
  type RuntimeDetection,
  RuntimeError,
  type RuntimeErrorCode,
  type RuntimeErrorDetails,
  type RuntimeEvent,
  type RuntimeProgress,
  type RuntimeType,
  type SpawnOptions,
  type SystemInfo,
  type TmpfsOptions,
  type UninstallOptions,
  type UserEngine,
  type Versions,
  type VmInfo,
  type VmMount,
  type VmResources,
  type VolumeDetails,
  type VolumeInfo,
  type VolumeOptions,
  type WaitOptions,
  type WatchContainersOptions,
} from 'lima-runtime'

const options: DockerAdapterOptions = { host: 'unix:///var/run/docker.sock', appName: 'my-app' }
const docker = new DockerAdapter(options)
new DockerAdapter()
new DockerAdapter({ host: 'ssh://me@box', remotePaths: true })
const adapter: ContainerAdapter = docker
const runtime: IContainerRuntime = adapter
const same: ContainerRuntimeAdapter = runtime
const { signal } = new AbortController()
const call: CallOptions = { signal, timeoutMs: 1000 }
const undecided: CallOptions = { signal: undefined, timeoutMs: undefined }

const messages: Progress = (message) => message.toUpperCase()
const events: Progress = {
  onProgress(p: RuntimeProgress) {
    const numbers: (number | undefined)[] = [p.percent, p.transferred, p.total, p.bytesPerSecond, p.etaSeconds]
    return [p.phase, p.component, p.message, numbers]
  },
  ...call,
}
await same.initialize()
await same.initialize(messages)
await same.initialize(events)
const available: boolean = await same.isAvailable(call)
const type: RuntimeType = same.getRuntimeType()

const config: ContainerConfig = {
  name: 'web',
  image: 'nginx:alpine',
  env: { A: '1' },
  ports: { '80': '8080', '53/udp': '127.0.0.1:5353' },
  volumes: [{ host: '/srv', container: '/usr/share/nginx/html', readOnly: true }],
  networks: ['bridge'],
  command: ['nginx', '-g', 'daemon off;'],
  healthcheck: { test: ['CMD', 'true'], interval: 1000, timeout: 500, retries: 3, startPeriod: 0 },
  restart: 'unless-stopped',
  labels: { a: 'b' },
  platform: 'linux/amd64',
}
const resources: ContainerResources = {
  ...{ cpus: 1.5, cpuShares: 512, cpuset: '0-1', memory: '512MiB', memorySwap: -1, memoryReservation: 64 << 20 },
  ...{ pids: 100, shmSize: '64MiB', oomScoreAdj: 0 },
}
const tmpfs: TmpfsOptions = { size: '64MiB', mode: 0o1777 }
const inBridge: NetworkAttachmentOptions = {
  aliases: ['db'],
  ipv4: '10.0.0.2',
  ipv6: 'fd00::2',
  mac: '02:42:ac:11:00:02',
}
const whole: ContainerConfig = {
  ...config,
  ...{ entrypoint: ['sh'], user: '1000', workdir: '/app', hostname: 'web', domainname: 'test', tty: true, stdin: true },
  ...{ init: true, autoRemove: true, stopSignal: 'SIGQUIT', stopTimeout: 5, resources, readOnlyRootfs: true },
  tmpfs: { '/tmp': tmpfs },
  mounts: [{ type: 'bind', source: '/a', target: '/b', readOnly: true, propagation: 'rslave' }],
  ...{
    privileged: false,
    capAdd: ['NET_ADMIN'],
    capDrop: ['ALL'],
    securityOpt: ['no-new-privileges'],
    groupAdd: ['audio'],
  },
  ...{
    devices: ['/dev/fuse'],
    gpus: 'all',
    ulimits: { nofile: 1024, core: { soft: 0, hard: -1 } },
    sysctls: { 'net.x': '1' },
  },
  ...{ extraHosts: { gate: 'host-gateway' }, dns: ['1.1.1.1'], dnsSearch: ['test'], dnsOptions: ['ndots:2'] },
  networkOptions: { bridge: inBridge },
  ...{
    logging: { driver: 'json-file', options: { 'max-size': '1m' } },
    runtime: 'runc',
    pidMode: 'host',
    ipcMode: 'private',
  },
  annotations: { 'com.example.tier': 'web' },
}
const joined: ContainerConfig = { ...config, networkMode: 'container:web', gpus: ['0'] }
const madeId: string = await docker.createContainer(whole, call)
const startedId: string = await docker.startContainer(await docker.createContainer(joined), call)
const changes: ContainerUpdate = { resources, restart: 'no' }
await docker.updateContainer(startedId, changes, call)
docker.restricted({ foreign: true, powers: true })
console.log(madeId)
const id: string = await runtime.startContainer(config, call)
await runtime.stopContainer(id)
await runtime.stopContainer(id, 5, call)
await runtime.restartContainer(id, 5, call)
await runtime.removeContainer(id, true, call)
await runtime.pauseContainer(id, undecided)
await runtime.unpauseContainer(id)
const info: ContainerInfo = await runtime.inspectContainer(id)
const port: number | undefined = info.ports[0]?.hostPort
const created: number = info.created.getTime()
const list: ListContainersOptions = { all: true, filters: { name: ['web'] }, signal }
const found: ContainerInfo[] = await runtime.listContainers(list)
const logs: LogOptions = { follow: true, tail: 10, since: 0, timestamps: true, stdout: true, stderr: false, signal }
;(await runtime.getContainerLogs(id, logs)).pipe(process.stdout)
const log: Readable = await docker.getContainerLogs(id)
log.destroy()
const stats: ContainerStats = await runtime.getContainerStats(id)
const numbers: number[] = [stats.cpu, stats.memory.used, stats.memory.limit, stats.memory.percentage]
numbers.push(stats.network.rx, stats.network.tx, stats.blockIO.read, stats.blockIO.write)

const pull: PullOptions = { platform: 'linux/arm64', auth: { username: 'me', password: 'secret' }, signal }
const onPull = (p: PullProgress) => [p.status, p.progress, p.total, p.current]
await runtime.pullImage('redis:7', onPull, pull)
await runtime.pullImage('redis:7')
const images: ImageInfo[] = await runtime.listImages()
await runtime.removeImage('redis:7', true)
const exists: boolean = await runtime.imageExists('redis:7')

const network: NetworkOptions = {
  driver: 'bridge',
  internal: true,
  attachable: false,
  labels: { 'com.example.session': '1' },
  timeoutMs: 5000,
}
const networkId: string = await runtime.createNetwork('net', network)
const networks: NetworkInfo[] = await runtime.listNetworks()
await runtime.connectContainerToNetwork(id, networkId)
await runtime.disconnectContainerFromNetwork(id, networkId, call)
await runtime.removeNetwork(networkId)
const volume: VolumeOptions = { driver: 'local', labels: { a: 'b' } }
const volumeName: string = await runtime.createVolume('data', volume)
const volumes: VolumeInfo[] = await runtime.listVolumes()
await runtime.removeVolume(volumeName, true)

const system: SystemInfo = await docker.getSystemInfo()
const systemFacts: [string, string, number, number, string] = [
  system.os,
  system.architecture,
  system.cpus,
  system.memory,
  system.runtimeVersion,
]
const prune: PruneOptions = { containers: true, images: true, volumes: false, networks: true, scope: 'app' }
const pruned: PruneResult = await runtime.prune(prune)
const freed: number = pruned.spaceReclaimed

const exec: ExecOptions = { env: { A: '1' }, workdir: '/', user: '1000:1000', input: new Uint8Array(1), signal }
const result: ExecResult = await docker.execInContainer(id, ['cat'], exec)
const output: string = result.stdout.toString('utf8') + result.stderr.toString('latin1')
const { exitCode } = await docker.waitContainer(id)
const until: WaitOptions & { condition: 'healthy' } = { condition: 'healthy', timeoutMs: 1000 }
await docker.waitContainer(id, until)
const terminal: SpawnOptions = {
  tty: true,
  columns: 80,
  rows: 24,
  stdin: true,
  privileged: false,
  user: 'root',
  signal,
}
const shell: ContainerProcess = await docker.spawnInContainer(id, ['sh'], terminal)
shell.stdin?.end('exit 3\n')
shell.stdout.pipe(process.stdout)
shell.stderr?.resume()
await shell.resize(100, 40)
await shell.kill('SIGINT')
const left: number = (await shell.exited).exitCode
const attach: AttachOptions = { stdin: true, logs: true, signal, timeoutMs: left }
const watched: WatchContainersOptions = { filters: { status: ['running'] }, signal }
for await (const containers of docker.watchContainers(watched)) numbers.push(containers.length)
const attached: ContainerProcess = await docker.attachContainer(id, attach)
await docker.renameContainer(id, String(attached.stdin?.writableLength), call)
const processes: ProcessList = await docker.listProcesses(id)
const subnets: NetworkDetails['subnets'] = (await docker.inspectNetwork(processes.titles[0] ?? 'bridge')).subnets
const volumeDetails: VolumeDetails = await docker.inspectVolume(subnets[0]?.gateway ?? 'data', call)
if (volumeDetails.labels.a) await docker.removeVolume(volumeDetails.name)
await docker.killContainer(id, 'SIGTERM', call)
const details: ContainerDetails = await docker.getContainerDetails(id)
const mounts: Mount[] = details.mounts
const attachments: NetworkAttachment[] = details.networks
const seconds: number = (details.finishedAt?.getTime() ?? 0) - (details.startedAt?.getTime() ?? 0)
for await (const { cpu } of docker.streamContainerStats(id, call)) numbers.push(cpu)
const watch: EventOptions = { since: 0, filters: { type: ['container'] }, signal }
for await (const event of docker.events(watch)) {
  const seen: RuntimeEvent = event
  if (seen.kind === 'container' && seen.action === 'die') numbers.push(seen.exitCode ?? -1)
}
const iterator = docker.events()
await iterator.return?.()
const loaded: string[] = await docker.loadImage('/tmp/image.tar')
await docker.loadImage(createReadStream('/tmp/image.tar'), call)
const archive: Readable = await docker.saveImage(['redis:7', 'nginx:alpine'])
await docker.tagImage('redis:7', 'mine:1')
const about: ImageDetails = await docker.inspectImage('redis:7', call)
const steps: ImageHistoryEntry[] = await docker.imageHistory('redis:7')
const push: PushOptions = { auth: { username: 'me', password: 'x' }, credentials: 'none', ...call }
await docker.pushImage('me/redis:7', onPull, push)
await docker.pushImage('me/redis:7')
const onBuild = (p: BuildProgress) => {
  if (p.type === 'step') console.log(p.step, p.name, p.state === 'cached')
  else if (p.type === 'bytes') console.log(p.name, p.current, p.total ?? 0)
  else console.log(p.stream, p.text)
}
const build: BuildOptions = {
  dockerfile: 'docker/Dockerfile',
  tags: ['me/app:1'],
  args: { WORD: 'x' },
  target: 'make',
  platform: 'linux/amd64',
  labels: { 'com.example.tier': 'x' },
  secrets: { token: 'x', key: new Uint8Array(1) },
  cacheFrom: ['me/app:0'],
  noCache: true,
  pull: true,
  credentials: 'none',
  onProgress: onBuild,
  ...call,
}
const built: { id: string } = await docker.buildImage('./app', build)
await docker.buildImage(createReadStream('x.tar'))
console.log(built.id)
const onCompose = (p: ComposeProgress) =>
  console.log(p.resource, p.status, p.state === 'failed', p.current ?? 0, p.parent)
const composeUp: ComposeUpOptions = {
  projectName: 'demo',
  env: { TAG: '7' },
  profiles: ['debug'],
  services: ['web'],
  pull: 'missing',
  build: true,
  wait: true,
  removeOrphans: true,
  onProgress: onCompose,
  ...call,
}
await docker.composeUp('./compose.yaml', composeUp)
const composePs: ComposePsOptions = { projectName: 'demo', ...call }
const composed: ComposeContainer[] = await docker.composePs('./compose.yaml', composePs)
console.log(composed[0]?.service, composed[0]?.state)
const composeDown: ComposeDownOptions = { directory: '.', volumes: true, onProgress: onCompose, ...call }
await docker.composeDown({ name: 'demo', services: {}, volumes: { data: null } }, composeDown)
await docker.copyToContainer('c', './file', '/etc/', call)
await docker.copyToContainer('c', createReadStream('x.tar'), '/etc')
const copyFrom: CopyFromOptions = { to: './here', ...call }
const copied: Readable = await docker.copyFromContainer('c', '/etc/.', copyFrom)
copied.destroy()
const commit: CommitOptions = { reference: 'me/redis:8', message: 'm', author: 'me', pause: false, ...call }
const committed: string = await docker.commitContainer('c', commit)
console.log(about.entrypoint, about.env.PATH, about.created.getTime(), steps[0]?.created?.getTime(), committed)
const disk: DiskUsage = await docker.diskUsage()
const entry: DiskUsageEntry = disk.buildCache

try {
  throw new RuntimeError('NOT_INSTALLED', 'There is none', { hint: 'Install it', details: { path: '/x' } })
} catch (error) {
  if (error instanceof RuntimeError) {
    const code: RuntimeErrorCode = error.code
    const facts: RuntimeErrorDetails = error.details
    const texts: (string | undefined)[] = [error.hint, facts.field, facts.path, facts.stderr, facts.logTail]
    const anything: unknown = facts.whatever ?? error.cause
    if (code === 'PORT_IN_USE') throw new Error(String([texts, anything]), { cause: error })
  }
}
if (!(docker instanceof ContainerAdapter)) throw new Error('never')

const place: LimaRuntimeOptions = { appName: 'my-app', mirror: 'https://mirror.example' }
const pins: Versions = { lima: '2.2.0', nerdctl: '2.3.5' }
const variant: ImageVariant = 'server'
const pinned: LimaRuntimeOptions = { ...place, versions: pins, imageVariant: variant }
const lima = new LimaRuntimeManager(pinned)
new LimaRuntimeManager()
const told = (...[event]: LimaRuntimeEvents['progress']) => bars.push(event.percent ?? 0)
const bars: number[] = []
lima
  .on('progress', told)
  .once('progress', ({ message }) => message.length)
  .off('progress', told)
await lima.initialize((message) => message.toUpperCase())
await lima.install({ repair: true, onProgress: ({ phase }) => phase === 'ready', timeoutMs: 1 })
await lima.install()
const both: boolean = (await lima.isInstalled({ signal: new AbortController().signal })) && (await lima.hasPreBundled())
const paths: string[] = [
  lima.getLimactlPath(),
  lima.getLimaPath(),
  lima.getNerdctlPath(),
  lima.getContainerdSocketPath(),
]
const shared: VmMount = { location: '/srv', mountPoint: '/mnt/srv', writable: true }
const vm: VmResources = { cpus: 2, memory: '2GiB', disk: 2 ** 36, mounts: [shared] }
const registries: RegistryOptions = {
  mirrors: { 'docker.io': ['https://mirror.example'] },
  insecure: ['registry.example:5000'],
}
const tuned: LimaRuntimeOptions = {
  ...place,
  instance: 'second',
  resources: { cpus: vm.cpus },
  template: '/srv/lima.yaml',
  namespace: 'kai',
  vmType: 'vz',
  rosetta: false,
  proxy: 'http://proxy.example:3128',
  caCertificates: ['/etc/ssl/ca.pem'],
  registries,
}
new LimaRuntimeManager(tuned).on('state', ({ state, reason }) => [state, reason])
await lima.start(events)
await lima.restart()
const status: LimaStatus = await lima.getStatus(call)
const states: LimaState[] = [status.state]
const vmInfo: VmInfo = await lima.getVMInfo()
numbers.push(vmInfo.cpus, vmInfo.memory, vmInfo.disk, vmInfo.sshPort ?? 0, status.sshPort ?? 0)
states.push(vmInfo.status)
const { restartRequired } = await lima.configure({ memory: '4GiB', mounts: [] }, call)
if (restartRequired && (await lima.isRunning())) await lima.factoryReset(messages)
const nerdctl: NerdctlOptions = { input: 'text', timeoutMs: 1000 }
const printed: string = await lima.execNerdctl(['exec', '-i', 'web', 'cat'], nerdctl)
const engine: UserEngine = 'docker'
const dockers = new LimaRuntimeManager({ ...place, engine })
const context: DockerContextOptions = { name: 'my-app', use: true }
await dockers.registerDockerContext(context)
const listed: string = await dockers.execDocker(['ps'], nerdctl)
await dockers.unregisterDockerContext({ name: listed })
const where: string[] = [dockers.getDockerPath(), dockers.getDockerSocketPath()]
where.sort()
const checks: DiagnosticCheck[] = await lima.diagnose(call)
const bad = checks.find(({ status }) => status === 'fail')
const sent: string = await lima.collectDiagnostics(bad?.hint ?? 'diagnostics.tar.gz')
lima.notifySuspend()
await lima.notifyResume()
await lima.stop()
await lima.delete({ signal: undefined })
await lima.delete({ keepData: true, ...messages })
await lima.factoryReset({ keepData: false })
const kept: KeptData | undefined = status.keptData
numbers.push(kept?.disk ?? 0, kept?.used ?? 0)
await lima.upgrade()
await lima.upgrade({ copy: 'always', ...messages })
const previous: PreviousVm | undefined = status.previous
numbers.push(previous?.size ?? 0, previous?.created.getTime() ?? 0, previous?.versions.lima?.length ?? 0)
await lima.rollback(messages)
const baked: BakedImage = await lima.bake({ output: 'guest.img', url: 'https://x.example/guest.img', ...call })
console.log(baked.engine.part, baked.manifest?.length)
await lima.discardPrevious({ timeoutMs: 1000 })
const keep: UninstallOptions = { keepData: true }
await lima.uninstall(keep)

const wanted: ContainerManagerOptions = { preferred: 'auto', installIfMissing: true, appName: 'my-app', lima: place }
const manager = new ContainerManager(wanted)
new ContainerManager('docker')
new ContainerManager()
const stands = (...[at]: ContainerManagerEvents['state']): ManagerStatus => at
const changed = ({ from, to, left: [first] }: RuntimeChange) => [from, to, first?.id]
manager.on('state', stands).once('runtime-changed', changed).off('progress', told)
await manager.initialize((message) => message.length)
await manager.switchRuntime('lima', { onProgress: ({ percent }) => percent, signal, timeoutMs: 1 })
const bring: BringOptions = { download: async (type) => type === 'lima' }
await manager.initialize(bring)
const ours: ContainerAdapter = manager.getRuntime().restricted({ foreign: await adapter.isPrivate(call) })
await ours.pullImage('redis:7', undefined, { credentials: 'none' })
const there: RuntimeDetection = await manager.detectAvailableRuntimes(call)
const why: (string | undefined)[] = there.details.map((d: RuntimeDetail) => d.reason ?? d.tried?.[0]?.endpoint)
const used: IContainerRuntime = manager.getRuntime()
const inUse: RuntimeType | 'none' = manager.getRuntimeType()
const standing = manager.getStatus()
const ready: boolean = manager.isInitialized()
manager.abort()
manager.notifySuspend()
await manager.notifyResume()
await manager.stop()

/** An application's own adapter needs only what the application's interface has. */
class Minimal implements Partial<ContainerRuntimeAdapter> {
  async initialize(): Promise<void> {}
  async stopContainer(_id: string, _timeout?: number): Promise<void> {}
}

export default [
  ...[available, type, port, created, found, images, exists, networks, volumes, systemFacts, freed, output, exitCode],
  ...[mounts, attachments, seconds, loaded, archive, entry, Minimal, both, paths, printed, sent],
  ...[why, used, inUse, standing, ready],
]

const shipped: BundledRuntimeOptions = { appName: 'my-app', bundledDir: 'resources/bundled-runtime', versions: pins }
const bundled = new BundledRuntimeManager(shipped)
await bundled.initialize((message) => message.length)
await bundled.install({ timeoutMs: 1 })
await bundled.startDaemon({ onProgress: ({ phase }) => phase === 'boot' })
const up: boolean = (await bundled.isRunning(call)) && (await bundled.isInstalled()) && (await bundled.hasPreBundled())
const own: ContainerdAdapterOptions = bundled.getAdapterOptions()
new ContainerdAdapter(own)
const again: LimaContainerAdapter = new LimaAdapter()
again.getLimaManager()
const places: string[] = [bundled.getNerdctlPath(), bundled.getContainerdPath(), bundled.getContainerdAddress()]
const withDocker = new BundledContainerAdapter({ ...shipped, engine: 'docker' })
const itsDocker: string = await withDocker.getBundledManager().execDocker(['ps'], call)
const itsLeft: boolean[] = (await withDocker.getBundledManager().listLeft(call)).map(({ own }) => own)
const itsSocket: string[] = [
  withDocker.getBundledManager().getDockerSocketPath(),
  bundled.getDockerPath(),
  itsDocker,
  `${itsLeft}`,
]
await bundled.registerDockerContext({ name: 'own', use: true })
await bundled.unregisterDockerContext()
await bundled.stopDaemon(call)
await bundled.uninstall()
console.log(up, places, itsSocket)
