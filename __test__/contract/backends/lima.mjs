import { join } from 'node:path'
import { LimaContainerAdapter, LimaRuntimeManager } from 'lima-runtime'
import { broughtComposeDiffers } from '../../support/compose.mjs'
import { engineApi } from '../../support/http.mjs'
import { busyboxArchive, loadArchive } from '../../support/images.mjs'
import { HOST, SLOWNESS, startRealLima } from '../../support/real-lima.mjs'
import { outside as besideDocker } from './docker.mjs'
import { outside as besideNerdctl, nerdctlDiffers, serveImages } from './nerdctl.mjs'

/** What is the same of both engines in a VM of a real Lima. */
function inVm(engine) {
  const running = []
  const backend = {
    type: 'lima',
    image: 'busybox:latest',
    slowness: SLOWNESS,
    defaultHostIp: '127.0.0.1',
    pruneScope: 'engine',
    deadCode: 'VM_NOT_RUNNING',
    adapter: (options) => patient(new LimaContainerAdapter({ ...backend.vm.options, ...options })),
    ownFile: () => join(backend.vm.options.dataDir, 'lima'),
    deadAdapter: () => new LimaContainerAdapter({ ...backend.vm.options, dataDir: join(backend.vm.dir, 'nothing') }),
    unseenPath: () => '/usr/share',
    /** The VM with the image, and what serves others; gives the ports of the registries. */
    async bring(before, load) {
      const vm = await startRealLima(LimaRuntimeManager, { engine })
      backend.vm = vm
      running.push(vm)
      // Of an earlier run that was killed, too.
      await vm.root(before)
      await load(busyboxArchive())
      const parts = await serveImages(backend, (port) => `${HOST}:${port}`)
      running.push(...parts)
      return parts.map(({ port }) => port)
    },
    async stop() {
      for (const part of running.reverse()) await part.stop()
    },
  }
  return backend
}

/** The Docker Engine there. */
export function limaDockerBackend() {
  const backend = inVm('docker')
  const root = (...args) => backend.vm.root(...args)
  const api = (...args) => engineApi(backend.vm.manager.getDockerSocketPath())(...args)
  const load = (archive) => loadArchive({ api }, archive)
  return Object.assign(backend, {
    name: 'Docker in Lima',
    bringsCompose: true,
    goneCode: 'ENGINE_UNREACHABLE',
    differs: {
      ...broughtComposeDiffers(),
      noDockerSocket: 'this engine has a Docker socket',
      deadInitialize: 'initialize() makes the VM that is not there',
      noBuild: 'there is a BuildKit in the VM',
    },
    dockerSocket: () => '/run/docker.sock',

    async start() {
      const ports = await backend.bring('docker ps -aq | xargs -r docker rm -f; docker network prune -f', load)
      // A file beside the unit: what is not as our own files say is written anew at the next start.
      const trusts =
        'mkdir -p "${1%/*}"; printf "[Service]\\nExecStart=\\nExecStart=%s\\n" "$2" >"$1"; systemctl daemon-reload; systemctl restart docker'
      // A build by an engine before 29 knows none by its network, nor without the scheme.
      const trusted = [`${HOST}/32`, ...ports.map((port) => `http://${HOST}:${port}`)]
      const command = ['/usr/local/lib/lima-runtime/docker/dockerd --host=fd://', ...trusted].join(
        ' --insecure-registry ',
      )
      await root(trusts, '/run/systemd/system/docker.service.d/50-contract.conf', command)
    },

    async hungAdapter() {
      const signal = (name) => root('kill -s "$1" "$(systemctl show -p MainPID --value docker)"', name)
      await signal('STOP')
      return { adapter: backend.adapter(), close: () => signal('CONT') }
    },

    outside: besideDocker({ api, load }, backend.image),

    engine: {
      // The socket would start it again at the next call, and with the socket the service goes, whoever started it.
      kill: () => root(`${stayDown('docker')}; systemctl kill -s KILL docker; systemctl stop docker.socket docker`),
      stop: () => root('systemctl stop docker.socket docker'),
      start: () =>
        root(
          `rm -f ${dropIn('docker')}; systemctl daemon-reload; systemctl reset-failed docker; systemctl start docker.socket docker`,
        ),
    },
  })
}

/** containerd there. */
export function limaBackend() {
  const backend = inVm('containerd')
  const root = (...args) => backend.vm.root(...args)
  const nerdctl = (...args) => backend.vm.nerdctl(args)
  const load = (archive) => backend.vm.nerdctl(['load'], archive)
  const ctr = (...args) => root('exec ctr -n default "$@"', ...args)
  return Object.assign(backend, {
    name: 'Lima',
    goneCode: 'CONTAINERD_NOT_READY',
    differs: {
      ...nerdctlDiffers,
      deadInitialize: 'initialize() makes the VM that is not there',
      noBuild: 'there is a BuildKit in the VM',
    },

    async start() {
      const ports = await backend.bring(
        'systemctl start containerd; nerdctl ps -aq | xargs -r nerdctl rm -f; nerdctl network prune -f',
        load,
      )
      // Whoever starts it next without them takes them away again.
      backend.vm.options.registries = { insecure: ports.map((port) => `${HOST}:${port}`) }
      await new LimaRuntimeManager(backend.vm.options).start()
    },

    async hungAdapter() {
      const signal = (name) => root('kill -s "$1" "$(systemctl show -p MainPID --value containerd)"', name)
      await signal('STOP')
      return { adapter: backend.adapter(), close: () => signal('CONT') }
    },

    outside: besideNerdctl({ nerdctl, ctr, load }, backend.image),

    engine: {
      // Its unit would start it again at once.
      kill: () =>
        root(
          `${stayDown('containerd')}; systemctl kill -s KILL containerd; while systemctl is-active -q containerd; do :; done`,
        ),
      stop: () => root('systemctl stop containerd'),
      start: () =>
        root(
          `rm -f ${dropIn('containerd')}; systemctl daemon-reload; systemctl reset-failed containerd; systemctl start containerd`,
        ),
    },
  })
}

/** Where each method that has a deadline of its own takes its options. */
const OPTIONS_AT = {
  startContainer: 1,
  stopContainer: 2,
  restartContainer: 2,
  removeContainer: 2,
  killContainer: 2,
  pauseContainer: 1,
  unpauseContainer: 1,
  inspectContainer: 1,
  getContainerDetails: 1,
  listContainers: 0,
  getContainerStats: 1,
  removeImage: 2,
  imageExists: 1,
  listImages: 0,
  tagImage: 2,
  createNetwork: 1,
  removeNetwork: 1,
  listNetworks: 0,
  connectContainerToNetwork: 2,
  disconnectContainerFromNetwork: 2,
  createVolume: 1,
  removeVolume: 2,
  listVolumes: 0,
  getSystemInfo: 0,
  diskUsage: 0,
  prune: 0,
}

/** The same adapter, whose calls have as much longer as this VM is slower; what a test asks for itself goes before. */
function patient(adapter) {
  if (SLOWNESS === 1) return adapter
  return new Proxy(adapter, {
    get(target, key) {
      const value = target[key]
      if (typeof value !== 'function') return value
      return (...args) => {
        const at = OPTIONS_AT[key]
        const given = args[at]
        if (at !== undefined && (given === undefined || given?.constructor === Object))
          args[at] = { timeoutMs: 60_000 * SLOWNESS, ...given }
        return value.apply(target, args)
      }
    },
  })
}

const dropIn = (unit) => `/run/systemd/system/${unit}.service.d/90-contract.conf`
const stayDown = (unit) =>
  `mkdir -p "$(dirname ${dropIn(unit)})"; printf '[Service]\\nRestart=no\\n' >${dropIn(unit)}; systemctl daemon-reload`
