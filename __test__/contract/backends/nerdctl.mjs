// What the backends have in common whose engine is containerd with nerdctl, wherever it runs; and the images of all backends.
import { busyboxArchive, busyboxImage, twoPlatforms } from '../../support/images.mjs'
import { ACCOUNT, publish, startRegistry } from '../../support/registry.mjs'
import { startGate } from '../gate.mjs'
import { startRefusing } from '../refusing.mjs'

/** The rows of these backends, of which the tests are skipped. */
export const nerdctlDiffers = {
  dockerSocket: 'this engine has no Docker socket',
  composeSecrets: 'nerdctl writes variables into arguments of its own',
  noCompose: 'nerdctl has one',
}

/** One image for each test that holds one back. Its noise is in no other one, nor in another run's: the engine has to fetch it. */
const BIGS = [1, 2, 3, 4]
const bigPadding = (i) => (8 << 20) + (process.pid % 1e6) * BIGS.length + i

/**
 * Registries with the images the suite pulls; gives `backend` their names, and what is to be stopped.
 * @param {(port: number) => string} [address] of this machine's port, as the engine sees it
 */
export async function serveImages(backend, address = (port) => `127.0.0.1:${port}`) {
  const [open, closed] = await Promise.all([startRegistry(), startRegistry({ auth: true })])
  const gate = await startGate(open.port)
  const refusing = await startRefusing()
  const small = busyboxImage({ files: { '/small': 'another image' } })
  await publish(closed, 'contract/private:1', small, { auth: ACCOUNT })
  const bigs = BIGS.map((tag) => `contract/big:${tag}`)
  for (const [i, name] of bigs.entries()) await publish(open, name, busyboxImage({ padding: bigPadding(i) }))
  backend.publish = async (name, image) => {
    await publish(open, name, image)
    return `${address(open.port)}/${name}`
  }
  backend.platformsImage = await backend.publish('contract/platforms:1', twoPlatforms())
  backend.refusing = address(refusing.port)
  backend.account = ACCOUNT
  backend.remoteImage = await backend.publish('contract/small:1', small)
  backend.privateImage = `${address(closed.port)}/contract/private:1`
  const names = bigs.map((name) => `${address(gate.port)}/${name}`)
  backend.slow = { image: () => names.shift(), hold: gate.hold, release: gate.release }
  return [open, closed, gate, refusing]
}

/**
 * Somebody else at the engine.
 * @param {object} engine
 * @param {(...args: string[]) => Promise<string>} engine.nerdctl
 * @param {(...args: string[]) => Promise<string>} engine.ctr
 * @param {(archive: Buffer) => Promise<unknown>} engine.load
 */
export function outside({ nerdctl, ctr, load }, image) {
  return {
    create(name, argv, { stopTimeout } = {}) {
      const options = stopTimeout === undefined ? [] : ['--stop-timeout', String(stopTimeout)]
      return nerdctl('create', '--name', name, ...options, image, ...argv)
    },
    kill: (id) => nerdctl('kill', id),
    remove: (id) => nerdctl('rm', '-f', id),
    removeImage: (reference) => nerdctl('rmi', '-f', reference),
    async createVolume(name) {
      await nerdctl('volume', 'create', name)
      // containerd tells of images and containers only: what is to be seen in its events is an image's tag.
      await ctr('images', 'tag', 'docker.io/library/busybox:latest', name)
      await ctr('images', 'rm', name)
    },
    removeVolume: (name) => nerdctl('volume', 'rm', name),
    createNetwork: (name) => nerdctl('network', 'create', name),
    removeNetwork: (name) => nerdctl('network', 'rm', name),
    async networkFlags(name) {
      const { CNI } = JSON.parse(await nerdctl('network', 'inspect', '--mode', 'native', '--format', 'json', name))
      const plugins = CNI.plugins.map((plugin) => plugin.type)
      // nerdctl leaves the port mapping out of a network of its own; it has no `attachable`, which we remember.
      const attachable = CNI.nerdctlLabels?.['lima-runtime.attachable'] === 'true'
      return { internal: !plugins.includes('portmap'), attachable }
    },
    /** An image as nerdctl builds one without a tag; returns its id. */
    async danglingImage() {
      await load(busyboxArchive({ tags: ['dangling:latest'], files: { '/big': Buffer.alloc(3 << 20, 'dangling') } }))
      const listed = await ctr('images', 'ls', 'name==docker.io/library/dangling:latest')
      const digest = /sha256:[0-9a-f]{64}/.exec(listed)[0]
      await ctr('images', 'tag', 'docker.io/library/dangling:latest', `overlayfs@${digest}`)
      await nerdctl('rmi', 'dangling:latest')
      return digest
    },
  }
}
