// The engines that benchmarks measure on: of their own, with busybox and a container that runs.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { noContainerd, startContainerd } from '../__test__/support/containerd.mjs'
import { noDockerd, startDockerd } from '../__test__/support/dockerd.mjs'
import { busyboxArchive, loadArchive } from '../__test__/support/images.mjs'

const IDLE = { name: 'bench', image: 'busybox:latest', command: ['sleep', '100000'] }

/** `measure(engine, adapter, id)` on a dockerd; where there is none it gives the reason. */
export async function onDockerd(measure) {
  const reason = noDockerd()
  if (reason) return `Docker: ${reason}`
  const { DockerAdapter } = await import('lima-runtime')
  const engine = await startDockerd()
  try {
    await loadArchive(engine, busyboxArchive())
    const adapter = new DockerAdapter({ host: `unix://${engine.socket}` })
    await measure(engine, adapter, await adapter.startContainer(IDLE))
  } finally {
    await engine.stop()
  }
}

/** The same on a containerd; where there is none it gives the reason. */
export async function onContainerd(measure) {
  const reason = noContainerd()
  if (reason) return `containerd: ${reason}`
  const { ContainerdAdapter } = await import('lima-runtime')
  const engine = await startContainerd()
  try {
    const archive = join(engine.dir, 'busybox.tar')
    writeFileSync(archive, busyboxArchive())
    await engine.nerdctl(['load', '-i', archive])
    const adapter = new ContainerdAdapter(engine.options)
    await measure(engine, adapter, await adapter.startContainer(IDLE))
  } finally {
    await engine.stop()
  }
}
