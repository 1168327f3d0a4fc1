// An engine on another machine, over ssh: its network is a namespace of its own, so that what answers on this machine's
// addresses came through a tunnel.
import assert from 'node:assert/strict'
import { fork, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { get } from 'node:http'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { DockerAdapter } from 'lima-runtime'
import { noDockerd, startDockerd } from '../support/dockerd.mjs'
import { busyboxArchive, loadArchive } from '../support/images.mjs'
import { freePort } from '../support/ports.mjs'
import { processesWith, startTime } from '../support/process.mjs'
import { sshInto } from '../support/sshd.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'

const image = 'busybox:latest'
const command = ['sh', '-c', 'mkdir /www; hostname >/www/index.html; exec httpd -f -p 80 -h /www']

const skip = noDockerd() ?? (spawnSync('docker', ['--version']).error && 'needs the docker CLI at the other end')

describe('an engine on another machine', { skip, timeout: 600_000 }, () => {
  const path = process.env.PATH
  let engine
  let host
  let bin
  let names = 0
  const dirs = tempDir('remote')
  const name = () => `remote-${process.pid}-${++names}`
  const adapters = []
  /** Kept to the end: what nobody holds is gone, with its ports, whenever it is collected. */
  const adapter = (options) => {
    const appName = options?.appName ?? `app-${adapters.length}`
    const made = new DockerAdapter({ host, appDir: join(dirs, appName), ...options, appName })
    adapters.push(made)
    return made
  }

  before(async () => {
    engine = await startDockerd({ ownNetwork: true })
    await loadArchive(engine, busyboxArchive())
    const far = sshInto(engine.network(), 'far', `exec sudo -n docker --host ${engine.host} system dial-stdio`)
    bin = far.bin
    host = `ssh://${far.user}@far`
    process.env.PATH = `${bin}:${path}`
  })
  /** The ssh programs that carry ports, of all adapters here and of a test's child. */
  const links = () =>
    processesWith(join(bin, '..')).filter((pid) => {
      const text = spawnSync('ps', ['-o', 'args=', '-p', `${pid}`], { encoding: 'utf8' }).stdout
      return /^\S*ssh -F \S+ -N /.test(text)
    })
  after(async () => {
    process.env.PATH = path
    await engine?.stop()
  })

  it('its published port is on 127.0.0.1 here while the container runs', async () => {
    const [docker, port] = [adapter(), await freePort()]
    const id = await docker.startContainer({ name: name(), image, command, ports: { 80: `${port}` } })
    const hostname = `${id.slice(0, 12)}\n`
    assert.equal(await page(port), hostname)
    assert.equal(await accepts(port, '127.0.0.2'), false)
    assert.deepEqual((await docker.inspectContainer(id)).ports, [
      { containerPort: 80, hostPort: port, protocol: 'tcp' },
    ])
    const { NetworkSettings } = await engine.api('GET', `/containers/${id}/json`)
    assert.deepEqual(NetworkSettings.Ports['80/tcp'], [{ HostIp: '127.0.0.1', HostPort: `${port}` }])
    // Whoever stops and starts it.
    await docker.stopContainer(id, 0)
    await closed(port)
    await engine.api('POST', `/containers/${id}/start`)
    assert.equal(await page(port), hostname)
    await docker.restartContainer(id, 0)
    assert.equal(await page(port), hostname)
    await engine.api('DELETE', `/containers/${id}?force=1`)
    await closed(port)
  })

  it('a port that a program here has is PORT_IN_USE, and nothing is made there', async () => {
    const docker = adapter()
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address()
    const config = { name: name(), image, command, ports: { 80: `${port}` } }
    await assert.rejects(docker.startContainer(config), { code: 'PORT_IN_USE', message: new RegExp(`${port}`) })
    await engine.api('GET', `/containers/${config.name}/json`).then(
      () => assert.fail('it is there'),
      (error) => assert.match(error.message, /404|No such container/),
    )
    server.close()
    await once(server, 'close')
    const id = await docker.startContainer(config)
    assert.equal(await page(port), `${id.slice(0, 12)}\n`)
    // Its own: the engine judges.
    await assert.rejects(docker.startContainer({ ...config, name: name() }), { code: 'PORT_IN_USE' })
    assert.equal(await page(port), `${id.slice(0, 12)}\n`)
    await docker.removeContainer(id, true)
  })

  it('udp stays there: refused by name, unless it names an address of that machine', async () => {
    const [docker, port] = [adapter(), await freePort()]
    for (const ports of [{ '53/udp': `${port}` }, { '53/udp': `127.0.0.1:${port}` }])
      await assert.rejects(docker.startContainer({ name: name(), image, command, ports }), (error) => {
        assert.deepEqual([error.code, error.details.field], ['INVALID_ARGUMENT', 'ports.53/udp'])
        return true
      })
    const ports = { '53/udp': `0.0.0.0:${port}`, 80: `10.200.0.1:${port}` }
    const id = await docker.startContainer({ name: name(), image, command, ports })
    assert.equal(await page(port), `${id.slice(0, 12)}\n`)
    await docker.removeContainer(id, true)
  })

  it('many ports, over one connection that may die', async () => {
    const docker = adapter()
    const ports = {}
    while (Object.keys(ports).length < 40) ports[`${100 + Object.keys(ports).length}`] = `${await freePort()}`
    const [first] = Object.values(ports)
    delete ports[100]
    const id = await docker.startContainer({ name: name(), image, command, ports: { ...ports, 80: first } })
    const before = links()
    assert.equal(await page(first), `${id.slice(0, 12)}\n`)
    for (const port of Object.values(ports)) assert.equal(await accepts(port), true, `port ${port}`)
    assert.deepEqual(links(), before)
    // Theirs and those of the tests before this one.
    for (const pid of before) process.kill(pid, 'SIGKILL')
    await waitFor('their ends', () => before.every((pid) => !startTime(pid)))
    assert.equal(await page(first), `${id.slice(0, 12)}\n`)
    assert.equal(links().length, 1)
    // With those that carry the engine's API and its events, nobody tells of an end.
    for (const pid of processesWith(join(bin, '..'))) process.kill(pid, 'SIGKILL')
    await engine.api('DELETE', `/containers/${id}?force=1`)
    await closed(first)
  })

  it('the ports of an application that was killed are those of its next process', async () => {
    const port = await freePort()
    const child = fork(fileURLToPath(new URL('remote-child.mjs', import.meta.url)), { env: { ...process.env } })
    const config = { name: name(), image, command, ports: { 80: `${port}` } }
    const already = links()
    child.send({ options: { host, appName: 'killed', appDir: join(dirs, 'killed') }, config })
    const [{ id, error }] = await once(child, 'message')
    assert.equal(error, undefined)
    assert.equal(await page(port), `${id.slice(0, 12)}\n`)
    const its = links().filter((pid) => !already.includes(pid))
    assert.equal(its.length, 1)
    child.kill('SIGKILL')
    await waitFor('the end of its ssh', () => !startTime(its[0]))
    assert.equal(await accepts(port), false)

    const [docker, stranger] = [adapter({ appName: 'killed' }), adapter({ appName: 'another' })]
    assert.equal((await stranger.listContainers({ filters: { id: [id] } })).length, 1)
    assert.equal(await accepts(port), false, 'it is another application’s')
    assert.equal((await docker.listContainers({ filters: { id: [id] } })).length, 1)
    assert.equal(await page(port), `${id.slice(0, 12)}\n`)
    await docker.removeContainer(id, true)
    await closed(port)
  })

  it('a host that forwards nothing: the container runs, and connections here are closed', async () => {
    const forced = `exec sudo -n docker --host ${engine.host} system dial-stdio`
    const shut = sshInto(engine.network(), 'shut', forced, { DisableForwarding: 'yes' })
    const before = process.env.PATH
    process.env.PATH = `${shut.bin}:${before}`
    try {
      const [docker, port] = [adapter({ host: `ssh://${shut.user}@shut` }), await freePort()]
      const id = await docker.startContainer({ name: name(), image, command, ports: { 80: `${port}` } })
      await assert.rejects(get200(port), { message: /socket hang up|ECONNRESET/ })
      await docker.removeContainer(id, true)
    } finally {
      process.env.PATH = before
    }
  })

  it('a path of this machine is refused by name, unless paths are said to be those of the other one', async () => {
    const volumes = [
      { host: 'data', container: '/data' },
      { host: '/srv', container: '/srv' },
    ]
    const config = { name: name(), image, command: ['true'], volumes }
    const refused = (docker) =>
      assert.rejects(docker.startContainer(config), (error) => {
        assert.deepEqual([error.code, error.details.field], ['INVALID_ARGUMENT', 'volumes[1].host'], error.stack)
        assert.match(error.hint, /remotePaths/)
        return true
      })
    await refused(adapter())
    const sockets = [{ host: '/var/run/docker.sock', container: '/s' }]
    const own = await adapter()
      .startContainer({ name: name(), image, command: ['true'], volumes: sockets })
      .catch((e) => e)
    // This engine's socket is elsewhere there; the path is not what is refused.
    assert.doesNotMatch(own.hint ?? '', /remotePaths/)
    const docker = adapter({ remotePaths: true })
    const id = await docker.startContainer(config)
    assert.deepEqual(await docker.waitContainer(id), { exitCode: 0 })

    // Over tcp, an address of this machine is this machine, and any other is not.
    const relay = createServer((client) => {
      const there = connect({ path: engine.socket })
      client.on('error', () => there.destroy()).pipe(there)
      there.on('error', () => client.destroy()).pipe(client)
    }).listen(0, '0.0.0.0')
    await once(relay, 'listening')
    const { port } = relay.address()
    await refused(adapter({ host: `tcp://0.0.0.0:${port}` }))
    const far = await adapter({ host: `tcp://0.0.0.0:${port}`, remotePaths: true }).startContainer({
      ...config,
      name: name(),
    })
    const near = await adapter({ host: `tcp://127.0.0.1:${port}` }).startContainer({ ...config, name: name() })
    for (const one of [id, far, near]) await engine.api('DELETE', `/containers/${one}?force=1`)
    relay.close()
  })
})

function get200(port) {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, agent: false }, (response) => {
      let text = ''
      response.on('data', (chunk) => (text += chunk)).on('end', () => resolve(text))
    }).on('error', reject)
  })
}

/** The container's program may still be on its way to listen(), and the engine's event on its way here. */
const page = (port) => waitFor(`a page at port ${port}`, () => get200(port))

const closed = (port) => waitFor(`port ${port} to be closed`, async () => !(await accepts(port)))

function accepts(port, host = '127.0.0.1') {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false))
    socket.on('connect', () => socket.destroy())
  })
}
