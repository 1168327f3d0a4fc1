import { join } from 'node:path'
import { LimaContainerAdapter, LimaRuntimeManager } from 'lima-runtime'
import { busyboxArchive } from '../../support/images.mjs'
import { HOST, SLOWNESS, startRealLima } from '../../support/real-lima.mjs'
import { outside, serveImages } from './nerdctl.mjs'

/** containerd in a VM of a real Lima. */
export function limaBackend() {
  let vm
  const running = []
  const image = 'busybox:latest'
  const nerdctl = (...args) => vm.nerdctl(args)
  const load = (archive) => vm.nerdctl(['load'], archive)
  const ctr = (...args) => vm.root('exec ctr -n default "$@"', ...args)

  const backend = {
    name: 'Lima',
    type: 'lima',
    image,
    slowness: SLOWNESS,
    defaultHostIp: '127.0.0.1',
    pruneScope: 'engine',
    goneCode: 'CONTAINERD_NOT_READY',
    deadCode: 'VM_NOT_RUNNING',
    differs: {
      dockerSocket: 'this engine has no Docker socket',
      deadInitialize: 'initialize() makes the VM that is not there',
    },
    adapter: (options) => patient(new LimaContainerAdapter({ ...vm.options, ...options })),
    deadAdapter: () => new LimaContainerAdapter({ ...vm.options, dataDir: join(vm.dir, 'nothing') }),
    unseenPath: () => '/usr/share',

    async start() {
      vm = await startRealLima(LimaRuntimeManager)
      running.push(vm)
      await vm.root(
        // Of an earlier run that was killed, too.
        'systemctl start containerd; nerdctl ps -aq | xargs -r nerdctl rm -f; nerdctl network prune -f; rm -rf /etc/containerd/certs.d',
      )
      await load(busyboxArchive())
      const parts = await serveImages(backend, (port) => `${HOST}:${port}`)
      running.push(...parts)
      const trust =
        'for p; do d=/etc/containerd/certs.d/$p; mkdir -p "$d"; echo "server = \\"http://$p\\"" >"$d/hosts.toml"; done'
      await vm.root(trust, ...parts.map(({ port }) => `${HOST}:${port}`))
    },

    async stop() {
      for (const part of running.reverse()) await part.stop()
    },

    async hungAdapter() {
      const signal = (name) => vm.root('kill -s "$1" "$(systemctl show -p MainPID --value containerd)"', name)
      await signal('STOP')
      return { adapter: backend.adapter(), close: () => signal('CONT') }
    },

    outside: outside({ nerdctl, ctr, load }, image),

    engine: {
      // Its unit would start it again at once.
      kill: () =>
        vm.root(`${STAY_DOWN}; systemctl kill -s KILL containerd; while systemctl is-active -q containerd; do :; done`),
      stop: () => vm.root('systemctl stop containerd'),
      start: () =>
        vm.root(
          `rm -f ${DROP_IN}; systemctl daemon-reload; systemctl reset-failed containerd; systemctl start containerd`,
        ),
    },
  }
  return backend
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

const DROP_IN = '/run/systemd/system/containerd.service.d/90-contract.conf'
const STAY_DOWN = `mkdir -p "$(dirname ${DROP_IN})"; printf '[Service]\\nRestart=no\\n' >${DROP_IN}; systemctl daemon-reload`
