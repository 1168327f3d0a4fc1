// Compiling is the test: each marked line must be an error, and nothing else.
import {
  ContainerAdapter,
  ContainerManager,
  DockerAdapter,
  type IContainerRuntime,
  LimaRuntimeManager,
  RuntimeError,
  type RuntimeErrorCode,
} from 'lima-runtime'

declare const runtime: IContainerRuntime
declare const docker: DockerAdapter

// @ts-expect-error the base class is abstract
new ContainerAdapter()
// @ts-expect-error an endpoint is text
new DockerAdapter({ host: 2375 })
// @ts-expect-error not an option
new DockerAdapter({ socket: '/var/run/docker.sock' })
// @ts-expect-error an object, not the endpoint itself
new DockerAdapter('unix:///var/run/docker.sock')
// @ts-expect-error it is a class
DockerAdapter()

// @ts-expect-error a list of names
docker.buildImage('.', { tags: 'me/app:1' })
// @ts-expect-error its value, not where it is
docker.buildImage('.', { secrets: ['id=token,src=./token'] })
// @ts-expect-error no such event
docker.buildImage('.', { onProgress: (p) => p.type === 'layer' })
// @ts-expect-error a build has no such power
docker.buildImage('.', { network: 'host' })

// @ts-expect-error it never stays attached
docker.composeUp('compose.yaml', { detach: false })
// @ts-expect-error not a word of compose's
docker.composeUp('compose.yaml', { pull: 'sometimes' })
// @ts-expect-error an `up` removes no volumes
docker.composeUp('compose.yaml', { volumes: true })

// @ts-expect-error a name is needed
runtime.startContainer({ image: 'redis' })
// @ts-expect-error an image is needed
runtime.startContainer({ name: 'x' })
// @ts-expect-error ports are text
runtime.startContainer({ name: 'x', image: 'redis', ports: { '6379': 6379 } })
// @ts-expect-error a record, not Docker's list
runtime.startContainer({ name: 'x', image: 'redis', ports: ['6379:6379'] })
// @ts-expect-error objects, not Docker's text
runtime.startContainer({ name: 'x', image: 'redis', volumes: ['/a:/b'] })
// @ts-expect-error where in the container?
runtime.startContainer({ name: 'x', image: 'redis', volumes: [{ host: '/a' }] })
// @ts-expect-error a list, not a shell line
runtime.startContainer({ name: 'x', image: 'redis', command: 'redis-server' })
// @ts-expect-error no such policy
runtime.startContainer({ name: 'x', image: 'redis', restart: 'sometimes' })
// @ts-expect-error milliseconds, not Docker's text
runtime.startContainer({ name: 'x', image: 'redis', healthcheck: { test: [], interval: '5s', timeout: 1, retries: 1 } })
// @ts-expect-error a typing error
runtime.startContainer({ name: 'x', image: 'redis', evn: { A: '1' } })
// @ts-expect-error env is a record, not Docker's list
runtime.startContainer({ name: 'x', image: 'redis', env: ['A=1'] })
// @ts-expect-error null is no config
runtime.startContainer(null)

// @ts-expect-error an id is needed
runtime.stopContainer()
// @ts-expect-error a number of seconds
runtime.stopContainer('x', '10')
// @ts-expect-error the timeout comes before the options
runtime.stopContainer('x', { timeoutMs: 1 })
// @ts-expect-error an object is no flag
runtime.removeContainer('x', { force: true })
// @ts-expect-error a signal, not its controller
runtime.inspectContainer('x', { signal: new AbortController() })
// @ts-expect-error milliseconds as a number
runtime.inspectContainer('x', { timeoutMs: '1s' })
// @ts-expect-error not an option
runtime.inspectContainer('x', { timeout: 1 })
// @ts-expect-error values are lists
runtime.listContainers({ filters: { name: 'x' } })
// @ts-expect-error a flag
runtime.listContainers({ all: 'yes' })
// @ts-expect-error a number of lines
runtime.getContainerLogs('x', { tail: 'all' })
// @ts-expect-error a Unix time in seconds
runtime.getContainerLogs('x', { since: new Date() })
// @ts-expect-error a function
runtime.pullImage('x', { onProgress() {} })
// @ts-expect-error both are needed
runtime.pullImage('x', undefined, { auth: { username: 'me' } })
// @ts-expect-error no such scope
runtime.prune({ scope: 'all' })
// @ts-expect-error no such kind
runtime.prune({ buildCache: true })
// @ts-expect-error only our adapters have it
runtime.execInContainer('x', ['true'])

// @ts-expect-error a list, not a shell line
docker.execInContainer('x', 'ls -l')
// @ts-expect-error text or bytes
docker.execInContainer('x', ['cat'], { input: 5 })
// @ts-expect-error a name or a number as text
docker.killContainer('x', 9)
// @ts-expect-error a path or a stream
docker.loadImage(new Uint8Array())
// @ts-expect-error it is no promise
docker.events().then(() => {})
// @ts-expect-error private to the facade
docker.native

// @ts-expect-error a name is text
new LimaRuntimeManager({ appName: 7 })
declare const lima: LimaRuntimeManager
// @ts-expect-error it is a flag
lima.install({ repair: 'yes' })
// @ts-expect-error it has no such event
lima.on('finished', () => {})
// @ts-expect-error there is no such option
new LimaRuntimeManager({ cpus: 2 })
// @ts-expect-error there is no such image
new LimaRuntimeManager({ imageVariant: 'desktop' })
// @ts-expect-error a version is text
new LimaRuntimeManager({ versions: { lima: 2 } })
// @ts-expect-error a number of CPUs is a number
lima.configure({ cpus: '2' })
// @ts-expect-error a mount is a directory and more
lima.configure({ mounts: ['/srv'] })
// @ts-expect-error one argument vector, not a line for a shell
lima.execNerdctl('ps -a')
// @ts-expect-error a progress event is no text
lima.on('progress', (message: string) => message)

// @ts-expect-error the union is closed
new RuntimeError('OOPS', 'text')
// @ts-expect-error a message is needed
new RuntimeError('INTERNAL')
// @ts-expect-error the union is closed
export const code: RuntimeErrorCode = 'EPERM'
// @ts-expect-error read-only
new RuntimeError('INTERNAL', 'text').code = 'ABORTED'

// @ts-expect-error no such runtime
new ContainerManager('podman')
// @ts-expect-error it has to be said which
new ContainerManager().switchRuntime('auto')
// @ts-expect-error no such event
new ContainerManager().on('changed', () => {})
