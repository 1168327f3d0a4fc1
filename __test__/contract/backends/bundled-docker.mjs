import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { BundledContainerAdapter } from 'lima-runtime'
import { startBundledDocker } from '../../support/bundled-docker.mjs'
import { startHung } from '../../support/hung.mjs'
import { tempDir } from '../../support/tempdir.mjs'
import { backendOver } from './docker.mjs'

/** The Docker engine of a `BundledRuntimeManager`: root's, or an ordinary user's who runs the tests. */
export function bundledDockerBackend() {
  const rootless = process.getuid() !== 0
  const at = (dataDir) => new BundledContainerAdapter({ dataDir, engine: 'docker' })
  return backendOver(startBundledDocker, (engine) => ({
    name: `bundled Docker${rootless ? ', rootless' : ''}`,
    // As a runtime it is what a person knows as containerd.
    type: 'containerd',
    defaultHostIp: '127.0.0.1',
    pruneScope: 'engine',
    bringsCompose: true,
    differs: {
      deadInitialize: 'initialize() installs the engine that is not there',
      ...(rootless && {
        cgroups: 'without a session of systemd an ordinary user has no cgroups to pause and measure by',
        loopback: 'its network is its own: what listens on the loopback of this machine is out of its reach',
        powers: 'an ordinary user gives no domain name and no devices, and mounts no /proc of the machine',
      }),
    },
    adapter: (options) => new BundledContainerAdapter({ ...engine().options, ...options }),
    ownFile: () => join(engine().options.dataDir, 'sock/docker.sock'),
    deadAdapter: () => at(join(engine().dir, 'nothing')),
    async hungAdapter() {
      const dir = tempDir('hung')
      mkdirSync(join(dir, 'sock'))
      const hung = await startHung(join(dir, 'sock', 'docker.sock'))
      return { adapter: at(dir), close: hung.stop }
    },
  }))
}
