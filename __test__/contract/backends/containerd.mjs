import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ContainerdAdapter } from 'lima-runtime'
import { TEST_USER } from '../../../scripts/setup.mjs'
import { noBuildkit, startBuildkit } from '../../support/buildkit.mjs'
import { composesNoHealth, losesLastWords, startContainerd } from '../../support/containerd.mjs'
import { startHung } from '../../support/hung.mjs'
import { busyboxArchive } from '../../support/images.mjs'
import { tempDir } from '../../support/tempdir.mjs'
import { nerdctlDiffers, outside, serveImages } from './nerdctl.mjs'

/**
 * containerd and nerdctl of this machine: a daemon of its own. `bridged`: its socket is closed to whoever looks for it, who may
 * use sudo.
 */
export function containerdBackend({ bridged = false } = {}) {
  let engine
  const running = []
  const nerdctl = (...args) => engine.nerdctl(args)
  let archives = 0

  async function load(archive) {
    const file = join(engine.dir, `image-${archives++}.tar`)
    writeFileSync(file, archive)
    // Not nerdctl's: 2.3 needs a later containerd than Debian's to load an image.
    await engine.ctr('images', 'import', file)
  }

  const image = 'busybox:latest'
  const backend = {
    name: bridged ? 'containerd through sudo' : 'containerd',
    type: 'containerd',
    image,
    defaultHostIp: '0.0.0.0',
    pruneScope: 'app',
    goneCode: 'CONTAINERD_NOT_READY',
    differs: {
      ...nerdctlDiffers,
      ...(composesNoHealth() && { composeHealth: 'this nerdctl has no healthchecks of projects' }),
      unseenPath: 'the engine sees all the paths the host does',
      ...(noBuildkit() ? { build: noBuildkit() } : { noBuild: 'a BuildKit is given' }),
      ...(losesLastWords() && { lastWords: "nerdctl's logger before 2.3.4 loses what it has read" }),
    },
    adapter(options) {
      const adapter = new ContainerdAdapter({ ...engine.options, ...options })
      return bridged ? asOrdinaryUser(adapter) : adapter
    },
    deadAdapter: () => new ContainerdAdapter({ ...engine.options, address: join(engine.dir, 'no-such.sock') }),

    async start() {
      engine = await startContainerd()
      running.push(engine)
      if (!noBuildkit()) {
        const buildkit = await startBuildkit(engine.options.nerdctlPath)
        running.push(buildkit)
        engine.options.nerdctlPath = buildkit.nerdctl
      }
      await load(busyboxArchive())
      running.push(...(await serveImages(backend)))
    },

    async stop() {
      for (const part of running.reverse()) await part.stop()
    },

    async hungAdapter() {
      const hung = await startHung(join(tempDir('hung'), 'containerd.sock'))
      return { adapter: new ContainerdAdapter({ ...engine.options, address: hung.path }), close: hung.stop }
    },

    outside: outside({ nerdctl, ctr: (...args) => engine.ctr(...args), load }, image),

    engine: {
      kill: () => engine.halt('SIGKILL'),
      stop: () => engine.halt('SIGTERM'),
      start: () => engine.start(),
    },
  }
  return backend
}

/** It looks for its engine without root's rights over sockets, and has sudo. */
async function asOrdinaryUser(adapter) {
  process.seteuid(TEST_USER)
  try {
    await adapter.initialize()
  } finally {
    process.seteuid(0)
  }
  return adapter
}
