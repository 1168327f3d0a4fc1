import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { BundledContainerAdapter } from 'lima-runtime'
import { startBundledDocker } from '../../support/bundled-docker.mjs'
import { startHung } from '../../support/hung.mjs'
import { tempDir } from '../../support/tempdir.mjs'
import { backendOver } from './docker.mjs'

/** The Docker engine of a `BundledRuntimeManager`, as root. */
export function bundledDockerBackend() {
  const at = (dataDir) => new BundledContainerAdapter({ dataDir, engine: 'docker' })
  return backendOver(startBundledDocker, (engine) => ({
    name: 'bundled Docker',
    // As a runtime it is what a person knows as containerd.
    type: 'containerd',
    defaultHostIp: '127.0.0.1',
    pruneScope: 'engine',
    differs: { deadInitialize: 'initialize() installs the engine that is not there' },
    adapter: (options) => new BundledContainerAdapter({ ...engine().options, ...options }),
    deadAdapter: () => at(join(engine().dir, 'nothing')),
    async hungAdapter() {
      const dir = tempDir('hung')
      mkdirSync(join(dir, 'sock'))
      const hung = await startHung(join(dir, 'sock', 'docker.sock'))
      return { adapter: at(dir), close: hung.stop }
    },
  }))
}
