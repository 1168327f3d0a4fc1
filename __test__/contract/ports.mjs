import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { http } from '../support/http.mjs'
import { freePort } from '../support/ports.mjs'
import { assert, fails, subject } from './kit.mjs'

const SERVE = ['sh', '-c', 'mkdir /www; echo hello >/www/index.html; exec httpd -f -p 80 -h /www']

export const ports = subject('ports', (ctx, test) => {
  test('a published port is reached from the host as soon as the start resolves', async () => {
    const port = await freePort()
    const id = await ctx.start({ command: SERVE, ports: { 80: `127.0.0.1:${port}` } })
    assert.equal(await page(ctx, id, port), 'hello\n')
    const expected = [{ containerPort: 80, hostPort: port, protocol: 'tcp' }]
    assert.deepEqual((await ctx.adapter.inspectContainer(id)).ports, expected)
    const [listed] = await ctx.adapter.listContainers({ filters: { id: [id] } })
    assert.deepEqual(listed.ports, expected)
    assert.equal(await accepts('127.0.0.2', port), false)
  })

  test("without an address it is published where the backend's rule says", async () => {
    const port = await freePort()
    const id = await ctx.start({ command: SERVE, ports: { '80/tcp': `${port}` } })
    assert.equal(await page(ctx, id, port), 'hello\n')
    // 127.0.0.2 is this machine, too, but not the address 127.0.0.1.
    assert.equal(await accepts('127.0.0.2', port), ctx.backend.defaultHostIp === '0.0.0.0')
    assert.deepEqual((await ctx.adapter.inspectContainer(id)).ports, [
      { containerPort: 80, hostPort: port, protocol: 'tcp' },
    ])
  })

  test('a published port answers while networks come and go', async () => {
    const [port, { name }] = [await freePort(), await ctx.network()]
    const id = await ctx.start({ command: SERVE, ports: { 80: `127.0.0.1:${port}` } })
    await ctx.adapter.connectContainerToNetwork(id, name)
    assert.equal(await page(ctx, id, port), 'hello\n', 'connected')
    await ctx.adapter.restartContainer(id, 0)
    assert.equal(await page(ctx, id, port), 'hello\n', 'restarted')
    await ctx.adapter.disconnectContainerFromNetwork(id, name)
    assert.equal(await page(ctx, id, port), 'hello\n', 'disconnected')
  })

  test('udp', async () => {
    const port = await freePort()
    const id = await ctx.start({ ports: { '9/udp': `127.0.0.1:${port}` } })
    assert.deepEqual((await ctx.adapter.inspectContainer(id)).ports, [
      { containerPort: 9, hostPort: port, protocol: 'udp' },
    ])
    // busybox has no program that answers datagrams: that the port is taken has to do.
    const socket = createSocket('udp4')
    ctx.undo(() => socket.close())
    const [error] = await Promise.all([once(socket, 'error'), socket.bind(port, '127.0.0.1')])
    assert.equal(error[0].code, 'EADDRINUSE')
  })

  test('one host port for two ports of the container is PORT_IN_USE, naming the port', async () => {
    const port = await freePort()
    const name = ctx.name()
    const ports = { 80: String(port), 81: `127.0.0.1:${port}` }
    await fails(ctx.start({ name, ports }), 'PORT_IN_USE', { naming: String(port) })
    assert.ok(!(await ctx.names()).includes(name))
  })

  test('a port taken by another container is PORT_IN_USE, naming the port', async () => {
    const port = await freePort()
    await ctx.start({ ports: { 80: `127.0.0.1:${port}` } })
    const name = ctx.name()
    const error = await fails(ctx.start({ name, ports: { 80: `127.0.0.1:${port}` } }), 'PORT_IN_USE', {
      naming: `${port}`,
    })
    assert.ok(error.hint)
    assert.ok(!(await ctx.names()).includes(name))
  })

  test('a port taken by another program is PORT_IN_USE, naming the port', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    ctx.undo(() => new Promise((resolve) => server.close(resolve)))
    const { port } = server.address()
    const name = ctx.name()
    await fails(ctx.start({ name, ports: { 80: `127.0.0.1:${port}` } }), 'PORT_IN_USE', { naming: `${port}` })
    assert.ok(!(await ctx.names()).includes(name))
  })

  test("an address that is not the engine's machine's", async () => {
    const name = ctx.name()
    // TEST-NET-3 is nobody's.
    await fails(ctx.start({ name, ports: { 80: '203.0.113.9:8099' } }), 'INVALID_ARGUMENT', {
      field: 'ports.80',
      naming: '203.0.113.9',
    })
    assert.ok(!(await ctx.names()).includes(name))
  })

  test('several ports of one container', async () => {
    const [a, b] = [await freePort(), await freePort()]
    const id = await ctx.start({ ports: { 80: `127.0.0.1:${a}`, 81: `127.0.0.1:${b}` } })
    assert.deepEqual((await ctx.adapter.inspectContainer(id)).ports, [
      { containerPort: 80, hostPort: a, protocol: 'tcp' },
      { containerPort: 81, hostPort: b, protocol: 'tcp' },
    ])
  })
})

/**
 * The container's page. Its program may still be on its way to listen(): until then the connection is reset, or refused
 * by the container where the port leads straight to it. Refused by a port that is not published is not excused.
 */
async function page(ctx, id, port) {
  const from = Date.now()
  let listens = false
  for (;;) {
    try {
      return (await http({ host: '127.0.0.1', port })).body.toString()
    } catch (error) {
      if ((error.code === 'ECONNREFUSED' && listens) || Date.now() - from > 20_000) throw error
      listens = (await ctx.exec(id, 'netstat', '-ltn')).includes(':80 ')
    }
  }
}

function accepts(host, port) {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    socket
      .on('connect', () => resolve(true))
      .on('error', () => resolve(false))
      .on('close', () => socket.destroy())
    socket.on('connect', () => socket.destroy())
  })
}
