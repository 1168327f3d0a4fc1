import { join } from 'node:path'
import { DockerAdapter } from 'lima-runtime'
import { composeDiffers } from '../../support/compose.mjs'
import { startDockerd } from '../../support/dockerd.mjs'
import { startHung } from '../../support/hung.mjs'
import { busyboxArchive, loadArchive } from '../../support/images.mjs'
import { tempDir } from '../../support/tempdir.mjs'
import { serveImages } from './nerdctl.mjs'

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
      const parts = await serveImages(backend)
      running.push(...parts)
      await engine.reach?.(...parts.map(({ port }) => port))
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
