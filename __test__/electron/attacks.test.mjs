// What a window must not reach: others' things on the engine, this computer, and the main process's time. Each engine is
// a real one; another application works on it, too.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { ContainerdAdapter, ContainerManager, DockerAdapter } from 'lima-runtime'
import { noContainerd, startContainerd } from '../support/containerd.mjs'
import { IMAGES, sharedEngine } from '../support/engine.mjs'
import { busyboxArchive } from '../support/images.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'
import { appOf, refused } from './app.mjs'

const image = IMAGES.busybox ?? 'busybox:latest'
const LABEL = 'lima-runtime.app'
const unique = (what) => `w${process.pid.toString(36)}-${what}`
const sleeper = (name) => ({ name: unique(name), image, command: ['sleep', '1000'] })

const ENGINES = {
  docker: {
    start: async () => ({
      options: { preferred: 'docker', docker: { host: sharedEngine().host } },
      adapter: (appName) => new DockerAdapter({ host: sharedEngine().host, appName }),
      stop() {},
    }),
  },
  containerd: {
    skip: noContainerd(),
    async start() {
      const engine = await startContainerd()
      writeFileSync(join(engine.dir, 'busybox.tar'), busyboxArchive())
      await engine.nerdctl(['load', '-i', join(engine.dir, 'busybox.tar')])
      return {
        options: { preferred: 'containerd', containerd: engine.options },
        adapter: (appName) => new ContainerdAdapter({ ...engine.options, appName }),
        stop: () => engine.stop(),
      }
    },
  },
}

for (const [engineName, { skip, start }] of Object.entries(ENGINES)) {
  describe(`windows and others' things on ${engineName}`, { skip, timeout: 900_000 }, () => {
    let engine
    let other
    let ours
    let manager
    const theirs = {}

    before(async () => {
      engine = await start()
      other = engine.adapter('other')
      ours = engine.adapter('kai')
      await other.initialize()
      theirs.volume = await other.createVolume(unique('their-data'))
      theirs.networkName = unique('their-net')
      theirs.network = await other.createNetwork(theirs.networkName)
      theirs.name = unique('theirs')
      theirs.id = await other.startContainer({
        ...sleeper('theirs'),
        env: { TOKEN: 'theirs' },
        volumes: [{ host: theirs.volume, container: '/data' }],
      })
      manager = new ContainerManager({ appDir: tempDir('app'), ...engine.options })
      await manager.initialize()
    })
    after(async () => {
      const all = await ours?.listContainers({ all: true, filters: { name: [unique('')] } })
      await Promise.all((all ?? []).map(({ id }) => ours.removeContainer(id, true)))
      for (const network of (await ours?.listNetworks()) ?? [])
        if (network.name.startsWith(unique(''))) await ours.removeNetwork(network.id)
      for (const { name } of (await ours?.listVolumes()) ?? [])
        if (name.startsWith(unique(''))) await ours.removeVolume(name, true)
      await engine?.stop()
    })

    it("another application's container is as one that is not there", async (t) => {
      const { kai } = appOf(t, manager, { exec: () => true }).window()
      const methods = {
        ...Object.fromEntries(
          ['stop', 'restart', 'kill', 'pause', 'unpause', 'wait', 'inspect', 'details', 'stats'].map((method) => [
            method,
            (id) => kai.container[method](id),
          ]),
        ),
        remove: (id) => kai.container.remove(id, true),
        exec: (id) => kai.container.exec(id, ['env']),
        spawn: (id) => kai.container.spawn(id, ['env'], {}, () => {}),
        attach: (id) => kai.container.attach(id, { logs: true }, () => {}),
        processes: (id) => kai.container.processes(id),
        rename: (id) => kai.container.rename(id, unique('renamed')),
        removed: (id) => kai.container.wait(id, { condition: 'removed' }),
        healthy: (id) => kai.container.wait(id, { condition: 'healthy' }),
        logs: (id) => kai.container.logs(id, {}, () => {}),
        noLogs: (id) => kai.container.logs(id, { tail: 0 }, () => {}),
        watchStats: (id) => new Promise((_, reject) => kai.container.watchStats(id, () => {}, reject)),
        connect: (id) => kai.network.connect(id, 'bridge'),
        disconnect: (id) => kai.network.disconnect(id, 'bridge'),
        before: (id) => kai.container.list({ all: true, filters: { before: [id] } }),
        since: (id) => kai.container.list({ all: true, filters: { since: [id] } }),
      }
      const nobody = 'f'.repeat(64)
      for (const [method, call] of Object.entries(methods)) {
        const absent = await refused(call(nobody), 'CONTAINER_NOT_FOUND')
        for (const word of [theirs.id, theirs.id.slice(0, 12), theirs.name]) {
          const error = await refused(call(word), 'CONTAINER_NOT_FOUND')
          const same = JSON.parse(JSON.stringify(absent).replaceAll(nobody, word))
          assert.deepEqual(error, same, `${method} ${word}`)
        }
      }
      for (const filters of [undefined, { id: [theirs.id] }, { name: [theirs.name] }, { label: [`${LABEL}=other`] }]) {
        assert.ok(!(await kai.container.list({ all: true, filters })).some(({ id }) => id === theirs.id))
      }
      assert.equal((await other.inspectContainer(theirs.id)).state, 'running')
    })

    it('its own it works with, by name, id, and the beginning of one', async (t) => {
      const { kai } = appOf(t, manager).window()
      const config = sleeper('own')
      const id = await kai.container.start(config)
      for (const word of [id, id.slice(0, 20), config.name]) assert.equal((await kai.container.inspect(word)).id, id)
      assert.equal((await kai.container.details(config.name)).labels[LABEL], 'kai')
      assert.deepEqual(
        (await kai.container.list({ filters: { id: [id] } })).map((c) => c.id),
        [id],
      )
      await kai.container.stop(config.name, 0)
      await kai.container.remove(id)
      await refused(kai.container.inspect(id), 'CONTAINER_NOT_FOUND')
    })

    it("another's label is not a window's to give", async (t) => {
      const { kai } = appOf(t, manager).window()
      const labels = { [LABEL]: 'other' }
      const made = kai.container.start({ ...sleeper('disguised'), labels })
      const id = await made.catch((error) => assert.equal(error.code, 'INVALID_ARGUMENT'))
      if (id) assert.equal((await ours.getContainerDetails(id)).labels[LABEL], 'kai')
      await kai.volume.create(unique('disguised'), { labels }).catch(() => {})
      assert.ok(!(await engine.adapter('other').restricted().listVolumes()).some((v) => v.name === unique('disguised')))
    })

    it("another application's volume is neither seen, mounted, taken over nor removed", async (t) => {
      const { kai } = appOf(t, manager).window()
      assert.ok(!(await kai.volume.list()).some(({ name }) => name === theirs.volume))
      const absent = await refused(kai.volume.remove('nobody-s'), 'VOLUME_NOT_FOUND')
      await refused(kai.volume.inspect(theirs.volume), 'VOLUME_NOT_FOUND')
      const error = await refused(kai.volume.remove(theirs.volume), 'VOLUME_NOT_FOUND')
      assert.deepEqual(error, JSON.parse(JSON.stringify(absent).replaceAll('nobody-s', theirs.volume)))
      await kai.volume.remove(theirs.volume, true)
      await refused(kai.volume.create(theirs.volume), 'NAME_IN_USE')
      const volumes = [{ host: theirs.volume, container: '/stolen' }]
      await refused(kai.container.start({ ...sleeper('thief'), volumes }), 'NAME_IN_USE')
      assert.ok((await other.listVolumes()).some(({ name }) => name === theirs.volume))
      await refused(kai.volume.create(unique('remote'), { driver: 'vieux/sshfs' }), 'PERMISSION_DENIED')
    })

    it('a volume that a container brings along is the application’s', async (t) => {
      const { kai } = appOf(t, manager).window()
      const host = unique('by-the-way')
      const id = await kai.container.start({ ...sleeper('with-volume'), volumes: [{ host, container: '/data' }] })
      assert.ok((await kai.volume.list()).some(({ name }) => name === host))
      // It has the label.
      assert.ok((await ours.restricted().listVolumes()).some(({ name }) => name === host))
      await kai.container.remove(id, true)
      await kai.volume.remove(host)
      assert.ok(!(await ours.listVolumes()).some(({ name }) => name === host))
    })

    it("networks: the application's bridges and the default one, by the engine's list", async (t) => {
      const { kai } = appOf(t, manager).window()
      const listed = (await kai.network.list()).map(({ name }) => name)
      assert.deepEqual([listed.includes('bridge'), listed.includes(theirs.networkName)], [true, false])
      for (const word of [theirs.network, theirs.networkName, theirs.network.slice(0, 12), 'nobody-s']) {
        await refused(kai.network.remove(word), 'NETWORK_NOT_FOUND')
        await refused(kai.network.inspect(word), 'NETWORK_NOT_FOUND')
        await refused(kai.container.start({ ...sleeper('guest'), networks: [word] }), 'NETWORK_NOT_FOUND')
      }
      // The host's namespace, another container's, a file's.
      for (const word of ['host', 'none', 'ns', 'container', 'default']) {
        // By itself it means the default network, on every engine.
        if (word !== 'default')
          await refused(kai.container.start({ ...sleeper('host'), networks: [word] }), 'PERMISSION_DENIED')
        await refused(kai.container.start({ ...sleeper('host'), networks: ['bridge', word] }), 'PERMISSION_DENIED')
        // Nor a network that is called like it, and would be read as the word.
        await refused(kai.network.create(word), 'NAME_IN_USE')
      }
      for (const word of [`container:${theirs.id}`, 'ns:/proc/1/ns/net', 'ns:', '--network=host', '../x', '']) {
        await refused(kai.container.start({ ...sleeper('host'), networks: [word] }), 'INVALID_ARGUMENT')
      }
      for (const driver of ['host', 'macvlan', 'ipvlan', 'null', 'overlay', '']) {
        await refused(
          kai.network.create(unique('driver'), { driver }),
          driver ? 'PERMISSION_DENIED' : 'INVALID_ARGUMENT',
        )
      }
      const usual = await kai.container.start({ ...sleeper('usual'), networks: ['default'] })
      assert.deepEqual(
        (await kai.container.details(usual)).networks.map(({ name }) => name),
        ['bridge'],
      )
      await kai.container.remove(usual, true)
      const network = await kai.network.create(unique('net'), { driver: 'bridge' })
      const id = await kai.container.start({ ...sleeper('on-net'), networks: [unique('net')] })
      assert.deepEqual(
        (await kai.container.details(id)).networks.map(({ name }) => name),
        [unique('net')],
      )
      assert.deepEqual((await kai.network.list()).find((n) => n.id === network)?.containers, [id])
      await refused(kai.network.connect(id, theirs.network), 'NETWORK_NOT_FOUND')
      await refused(kai.network.connect(id, 'host'), 'PERMISSION_DENIED')
      await kai.container.remove(id, true)
      await kai.network.remove(network)
    })

    it("of the default network's containers only the application's are told", async (t) => {
      const { kai } = appOf(t, manager).window()
      const id = await kai.container.start(sleeper('on-bridge'))
      const bridge = (await kai.network.list()).find(({ name }) => name === 'bridge')
      assert.ok(bridge.containers.includes(id))
      assert.ok(!bridge.containers.includes(theirs.id))
      await kai.container.remove(id, true)
    })

    it("events are the application's", async (t) => {
      const { kai } = appOf(t, manager).window()
      const events = []
      const close = await kai.system.events({}, (event) => events.push(event))
      const noise = await other.startContainer(sleeper('noise'))
      await other.removeContainer(noise, true)
      const their = unique('noise')
      await other.createVolume(their)
      await other.removeVolume(their)
      await other.removeNetwork(await other.createNetwork(their))
      const volume = unique('told')
      await kai.volume.create(volume)
      await kai.volume.remove(volume)
      const network = await kai.network.create(volume)
      await kai.network.remove(network)
      const id = await kai.container.start(sleeper('told'))
      await kai.container.remove(id, true)
      const has = (kind, action, subject) =>
        events.some((e) => e.kind === kind && e.action === action && [e.id, e.name].includes(subject))
      await waitFor('its own events', () => has('container', 'destroy', id))
      assert.ok(has('volume', 'create', volume) && has('volume', 'destroy', volume))
      assert.ok(has('network', 'create', network) && has('network', 'destroy', network))
      const about = (subject) => events.filter((e) => e.id === subject || e.name === subject)
      assert.deepEqual([...about(noise), ...about(their)], [])
      assert.ok(!events.some(({ kind }) => kind === 'image'))
      close()
    })

    it("a prune takes the application's", async (t) => {
      const { kai } = appOf(t, manager).window()
      const [mine, alien] = await Promise.all(
        [kai.container.start, (c) => other.startContainer(c)].map((start, i) =>
          start({ name: unique(`ended-${i}`), image, command: ['true'] }),
        ),
      )
      await Promise.all([ours.waitContainer(mine), other.waitContainer(alien)])
      const { containersDeleted } = await kai.system.prune({ containers: true, networks: true, volumes: true })
      assert.ok(containersDeleted >= 1)
      await refused(kai.container.inspect(mine), 'CONTAINER_NOT_FOUND')
      assert.equal((await other.inspectContainer(alien)).state, 'exited')
      assert.ok((await other.listNetworks()).some(({ id }) => id === theirs.network))
      await other.removeContainer(alien)
    })

    it('images that are not the application’s are listed, removed and named by permission', async (t) => {
      const asked = []
      const images = ({ action, image, target }) => asked.push([action, image, target]) < 0
      const { kai } = appOf(t, manager, { images }).window()
      await refused(kai.image.list(), 'PERMISSION_DENIED')
      await refused(kai.image.remove('nobody:1', true), 'PERMISSION_DENIED')
      await refused(kai.image.tag(image, 'redis:7'), 'PERMISSION_DENIED')
      await refused(kai.image.inspect(image), 'PERMISSION_DENIED')
      await refused(kai.image.history(image), 'PERMISSION_DENIED')
      await refused(kai.image.push(image), 'PERMISSION_DENIED')
      const id = await kai.container.start(sleeper('to-commit'))
      await refused(kai.container.commit(id, { reference: 'redis:7' }), 'PERMISSION_DENIED')
      await refused(kai.container.commit(theirs.id, { reference: 'redis:7' }), 'CONTAINER_NOT_FOUND')
      assert.deepEqual(asked, [
        ['list', undefined, undefined],
        ['remove', 'nobody:1', undefined],
        ['tag', image, 'redis:7'],
        ['inspect', image, undefined],
        ['inspect', image, undefined],
        ['push', image, undefined],
        ['commit', (await kai.container.inspect(id)).name, 'redis:7'],
      ])
      const { kai: free } = appOf(t, manager, { images: () => true }).window()
      assert.ok((await free.image.list()).length > 0)
      const { raw, tags } = await free.image.inspect(image)
      assert.ok(raw === undefined && tags.includes(image))
      const only = ({ action, image }) => action === 'start' && image === 'busybox:latest'
      const { kai: narrow } = appOf(t, manager, { useImage: only }).window()
      await refused(narrow.image.pull('localhost:5000/private'), 'PERMISSION_DENIED')
      await refused(narrow.container.start({ ...sleeper('image'), image: 'busybox' }), 'PERMISSION_DENIED')
    })

    it('with the app’s word it reaches the whole engine, and still no network of the host', async (t) => {
      const asked = []
      const foreign = async ({ method }) => asked.push(method) > 0
      const { kai } = appOf(t, manager, { foreign }).window()
      assert.equal((await kai.container.details(theirs.name)).env.TOKEN, 'theirs')
      assert.ok((await kai.container.list()).some(({ id }) => id === theirs.id))
      assert.ok((await kai.volume.list()).some(({ name }) => name === theirs.volume))
      assert.deepEqual(asked, ['container.details', 'container.list', 'volume.list'])
      await refused(kai.container.start({ ...sleeper('host'), networks: ['host'] }), 'PERMISSION_DENIED')
      for (const answer of [() => 1, () => Promise.reject(new Error('x')), () => assert.fail('x'), () => 'true']) {
        const { kai } = appOf(t, manager, { foreign: answer }).window()
        await refused(kai.container.inspect(theirs.id), 'CONTAINER_NOT_FOUND')
      }
    })

    it('keys that mean something to JavaScript mean nothing here', async (t) => {
      const { kai, ipcRenderer } = appOf(t, manager).window()
      const env = JSON.parse('{"__proto__": "a", "constructor": "b", "toString": "c"}')
      const config = { ...sleeper('keys'), env, labels: env }
      const answer = await ipcRenderer.invoke('lima-runtime:container.start', { id: 'keys', args: [config] })
      assert.ok(answer.ok, JSON.stringify(answer))
      const { labels, env: inside } = await ours.getContainerDetails(answer.value)
      for (const key of Object.keys(env)) {
        assert.ok(Object.hasOwn(labels, key) && Object.hasOwn(inside, key), key)
      }
      assert.equal({}.a ?? {}.b, undefined)
      await kai.container.remove(answer.value, true)
      const disguised = { ...config, ...JSON.parse('{"__proto__": {"volumes": [{"host": "/", "container": "/h"}]}}') }
      Object.defineProperty(disguised, '__proto__', { value: { volumes: [] }, enumerable: true })
      const no = await ipcRenderer.invoke('lima-runtime:container.start', { id: 'proto', args: [disguised] })
      assert.equal(no.error.code, 'INVALID_ARGUMENT')
    })
  })
}
