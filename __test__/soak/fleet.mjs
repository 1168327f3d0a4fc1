// What a soak works on: containers that write counted lines, containers that were only created, and images in a registry.
import { busyboxImage } from '../support/images.mjs'
import { waitFor } from '../support/wait.mjs'
import { WRITER } from './ledger.mjs'

const LABELS = { soak: 'writer' }

/** @param {{ containers: number, running: number, pulls: number }} sizes */
export async function makeFleet(backend, adapter, sizes, say) {
  const { image } = backend
  say(`${sizes.running} containers that write`)
  const config = (i) => ({ name: `soak-${i}`, image, command: WRITER, restart: 'unless-stopped', labels: LABELS })
  const writers = await each(sizes.running, 4, (i) => adapter.startContainer(config(i)))
  const created = Math.max(0, sizes.containers - sizes.running)
  say(`${created} containers that were only created`)
  await each(created, 4, (i) => adapter.createContainer({ name: `soak-created-${i}`, image, command: ['true'] }))
  say(`${sizes.pulls} images in the registry`)
  // The layer below is one that the engine has; the one above is another in each.
  const images = await each(sizes.pulls, 4, (i) =>
    backend.publish(`soak/image-${i}:1`, busyboxImage({ padding: 65_536 + i })),
  )
  return { writers, images, size: writers.length + created }
}

/** Resolves once all writers run, which the engine sees to after its start. */
export function fleetRuns(adapter, { writers }, slowness = 1) {
  const filters = { label: [`soak=${LABELS.soak}`], status: ['running'] }
  const all = async () => (await adapter.listContainers({ filters })).length === writers.length
  return waitFor('the containers running again', all, { timeoutMs: 300_000 * slowness, everyMs: 200 })
}

async function each(count, atOnce, make) {
  const made = []
  let next = 0
  const worker = async () => {
    while (next < count) {
      const i = next++
      made[i] = await make(i)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return made
}
