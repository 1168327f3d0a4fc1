import { join } from 'node:path'
import { DockerAdapter } from 'lima-runtime'
import { composeDiffers } from '../../support/compose.mjs'
import { startDockerd } from '../../support/dockerd.mjs'
import { startHung } from '../../support/hung.mjs'
import { busyboxArchive, loadArchive, twoPlatforms } from '../../support/images.mjs'
import { ACCOUNT, publish, pushImage, startRegistry } from '../../support/registry.mjs'
import { tempDir } from '../../support/tempdir.mjs'
import { startGate } from '../gate.mjs'
import { startRefusing } from '../refusing.mjs'
import { BIGS, bigPadding } from './nerdctl.mjs'

/** Docker, over a dockerd of its own: the suite prunes it and takes it down. */
export function dockerBackend() {
  return backendOver(startDockerd, (engine) => ({
    name: 'Docker',
    type: 'docker',
    defaultHostIp: '0.0.0.0',
    pruneScope: 'app',
    adapter: (options) => new DockerAdapter({ host: engine().host, ...options }),
    deadAdapter: () => new DockerAdapter({ host: `unix://${join(engine().dir, 'no-such.sock')}` }),
    async hungAdapter() {
      const hung = await startHung(join(tempDir('hung'), 'docker.sock'))
      return { adapter: new DockerAdapter({ host: `unix://${hung.path}` }), close: hung.stop }
    },
  }))
}

/**
 * What the backends have in common whose engine is a Docker on this machine.
 * @param {() => Promise<Pick<import('../../support/dockerd.mjs').Dockerd, 'socket' | 'api' | 'halt' | 'start' | 'stop'>>} startEngine
 * @param {(engine: () => object) => object} own what is the backend's own
 */
export function backendOver(startEngine, own) {
  let engine
  const running = []
  const api = (...args) => engine.api(...args)
  const { differs, ...more } = own(() => engine)
  const backend = {
    image: 'busybox:latest',
    account: ACCOUNT,
    goneCode: 'ENGINE_UNREACHABLE',
    ...more,
    differs: {
      noDockerSocket: 'this engine has a Docker socket',
      unseenPath: 'the engine sees all the paths the host does',
      noBuild: 'Docker has a BuildKit of its own',
      ...composeDiffers(),
      ...differs,
    },
    dockerSocket: () => engine.socket,

    async start() {
      engine = await startEngine()
      running.push(engine)
      await loadArchive(engine, busyboxArchive())
      await loadArchive(engine, busyboxArchive({ tags: ['small:latest'], files: { '/small': 'another image' } }))
      const [open, closed] = await Promise.all([startRegistry(), startRegistry({ auth: true })])
      running.push(open, closed)
      const gate = await startGate(open.port)
      running.push(gate)
      const refusing = await startRefusing()
      running.push(refusing)
      await engine.reach?.(...[open, closed, gate, refusing].map(({ port }) => port))
      backend.remoteImage = await pushImage(engine, 'small:latest', open, 'contract/small:1')
      backend.privateImage = await pushImage(engine, 'small:latest', closed, 'contract/private:1', { auth: ACCOUNT })
      await publish(open, 'contract/platforms:1', twoPlatforms())
      backend.platformsImage = `${open.address}/contract/platforms:1`
      backend.publish = async (name, image) => {
        await publish(open, name, image)
        return `${open.address}/${name}`
      }
      backend.refusing = `127.0.0.1:${refusing.port}`
      const names = []
      for (const [i, tag] of BIGS.entries()) {
        await loadArchive(engine, busyboxArchive({ tags: [`big:${tag}`], padding: bigPadding(i) }))
        await pushImage(engine, `big:${tag}`, open, `contract/big:${tag}`)
        await api('DELETE', `/images/big:${tag}`)
        names.push(`127.0.0.1:${gate.port}/contract/big:${tag}`)
      }
      await api('DELETE', '/images/small:latest')
      backend.slow = { image: () => names.shift(), hold: gate.hold, release: gate.release }
    },

    async stop() {
      for (const part of running.reverse()) await part.stop()
    },

    outside: outside({ api, load: (archive) => loadArchive(engine, archive) }, 'busybox:latest'),

    engine: {
      kill: () => engine.halt('SIGKILL'),
      stop: () => engine.halt('SIGTERM'),
      start: () => engine.start(),
    },
  }
  return backend
}

/**
 * Somebody else at the engine.
 * @param {object} engine
 * @param {(method: string, path: string, body?: unknown) => Promise<any>} engine.api
 * @param {(archive: Buffer) => Promise<unknown>} engine.load
 */
export function outside({ api, load }, image) {
  return {
    create: (name, argv, { stopTimeout } = {}) =>
      api('POST', `/containers/create?name=${name}`, { Image: image, Cmd: argv, StopTimeout: stopTimeout }),
    kill: (id) => api('POST', `/containers/${id}/kill`),
    remove: (id) => api('DELETE', `/containers/${id}?force=1&v=1`),
    removeImage: (reference) => api('DELETE', `/images/${encodeURIComponent(reference)}?force=1`),
    createVolume: (name) => api('POST', '/volumes/create', { Name: name }),
    removeVolume: (name) => api('DELETE', `/volumes/${name}`),
    createNetwork: (name) => api('POST', '/networks/create', { Name: name, Driver: 'bridge' }),
    removeNetwork: (name) => api('DELETE', `/networks/${name}`),
    async networkFlags(name) {
      const { Internal, Attachable } = await api('GET', `/networks/${name}`)
      return { internal: Internal, attachable: Attachable }
    },
    /** An image without a tag; returns its id. */
    async danglingImage() {
      await load(busyboxArchive({ tags: ['dangling:latest'], files: { '/big': Buffer.alloc(3 << 20, 'dangling') } }))
      const { Id } = await api('GET', '/images/dangling:latest/json')
      // Another image takes the tag: the first is left without one.
      await api('POST', `/images/${encodeURIComponent(image)}/tag?repo=dangling&tag=latest`)
      await api('DELETE', '/images/dangling:latest')
      return Id
    },
  }
}
