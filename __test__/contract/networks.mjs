import { assert, fails, subject, warnings } from './kit.mjs'

export const networks = subject('networks', (ctx, test) => {
  const interfaces = async (id) =>
    (await ctx.exec(id, 'ls', '/sys/class/net')).split('\n').filter((name) => name.startsWith('eth'))
  const listed = async (id) => (await ctx.adapter.listNetworks()).find((n) => n.id === id)

  test('create, list, remove', async () => {
    const { name, id } = await ctx.network({ driver: 'bridge' })
    assert.deepEqual(await listed(id), { id, name, driver: 'bridge', containers: [] })
    await ctx.adapter.removeNetwork(name)
    assert.equal(await listed(id), undefined)
    await fails(ctx.adapter.removeNetwork(name), 'NETWORK_NOT_FOUND', { naming: name })
  })

  test('a name taken is NAME_IN_USE', async () => {
    const { name } = await ctx.network()
    await fails(ctx.adapter.createNetwork(name), 'NAME_IN_USE', { naming: name })
    assert.equal((await ctx.adapter.listNetworks()).filter((n) => n.name === name).length, 1)
  })

  test("the engine's own networks are taken, and stay", async () => {
    for (const name of ['bridge', 'host', 'none', 'default'])
      await fails(ctx.adapter.createNetwork(name), 'NAME_IN_USE', { naming: name })
    const { name } = (await ctx.adapter.listNetworks()).find((n) => n.name === 'bridge')
    await fails(ctx.adapter.removeNetwork(name), 'INVALID_ARGUMENT', { field: 'id', naming: name })
  })

  test('a driver that the engine does not have', { timeout: 300_000 }, async () => {
    const name = ctx.name('net')
    const words = { field: 'driver', naming: 'no-such-driver' }
    await fails(ctx.adapter.createNetwork(name, { driver: 'no-such-driver' }), 'INVALID_ARGUMENT', words)
    assert.ok(!(await ctx.adapter.listNetworks()).some((n) => n.name === name))
  })

  test("'default' is the network of a container that names none", async () => {
    const networks = async (config) =>
      (await ctx.adapter.getContainerDetails(await ctx.start(config))).networks.map((n) => n.name)
    assert.deepEqual(await networks({ networks: ['default'] }), await networks({}))
    const id = await ctx.start()
    await fails(ctx.adapter.connectContainerToNetwork(id, 'default'), 'NETWORK_NOT_FOUND', { naming: 'default' })
  })

  test("ports mean nothing on the host's network, and a warning says so", async () => {
    const seen = await warnings(() => ctx.start({ networks: ['host'], ports: { 80: '127.0.0.1:18' } }))
    const ours = seen.filter((warning) => warning.code === 'ENGINE_WARNING')
    assert.equal(ours.length, 1, seen.map(String).join('\n'))
    assert.match(ours[0].message, /port/i)
  })

  test('a network in use is IN_USE', async () => {
    const { name, id } = await ctx.network()
    const container = await ctx.start({ networks: [name] })
    assert.deepEqual((await listed(id)).containers, [container])
    await fails(ctx.adapter.removeNetwork(id), 'IN_USE')
    await ctx.clean()
  })

  test('internal and attachable reach the engine', async () => {
    const { name } = await ctx.network({ internal: true, attachable: true })
    assert.deepEqual(await ctx.backend.outside.networkFlags(name), { internal: true, attachable: true })
    const { name: plain } = await ctx.network()
    assert.deepEqual(await ctx.backend.outside.networkFlags(plain), { internal: false, attachable: false })
  })

  test('labels are kept, whatever stands in them', async () => {
    const labels = { 'com.example.a': 'x', b: '', c: 'a, "b" = c\n$(d)' }
    const { id } = await ctx.network({ labels })
    const kept = (await ctx.adapter.inspectNetwork(id)).labels
    for (const [key, value] of Object.entries(labels)) assert.equal(kept[key], value, key)
  })

  test('containers of one network find each other by name', async () => {
    const { name } = await ctx.network()
    const server = ctx.name('server')
    const id = await ctx.start({ name: server, networks: [name] })
    const client = await ctx.start({ networks: [name] })
    const [{ ipAddress }] = (await ctx.adapter.getContainerDetails(id)).networks
    // By the resolver, not by a DNS query: nerdctl's containers know each other by /etc/hosts.
    const said = await ctx.exec(client, 'ping', '-c', '1', '-W', '10', server)
    assert.ok(said.includes(ipAddress), `${said} does not name ${ipAddress}`)
  })

  test('a container of two networks from the start', async () => {
    const [a, b] = [await ctx.network(), await ctx.network()]
    const id = await ctx.start({ networks: [a.name, b.id] })
    const { networks } = await ctx.adapter.getContainerDetails(id)
    assert.deepEqual(networks.map((n) => n.name).sort(), [a.name, b.name].sort())
    assert.equal((await interfaces(id)).length, 2)
  })

  test('connect and disconnect live: id unchanged, and kept over a restart', async () => {
    const { name, id: network } = await ctx.network()
    const id = await ctx.start()
    const { startedAt } = await ctx.adapter.getContainerDetails(id)
    assert.equal((await interfaces(id)).length, 1)

    await ctx.adapter.connectContainerToNetwork(id, network)
    const connected = await ctx.adapter.getContainerDetails(id)
    assert.deepEqual([connected.id, connected.state, connected.startedAt], [id, 'running', startedAt])
    const attached = connected.networks.find((n) => n.name === name)
    assert.equal(attached.id, network)
    assert.equal((await interfaces(id)).length, 2)
    assert.ok((await ctx.exec(id, 'ip', 'addr')).includes(`${attached.ipAddress}/`))
    assert.deepEqual((await listed(network)).containers, [id])
    await fails(ctx.adapter.connectContainerToNetwork(id, name), 'INVALID_STATE')

    await ctx.adapter.restartContainer(id, 5)
    assert.equal((await interfaces(id)).length, 2)

    await ctx.adapter.disconnectContainerFromNetwork(id, name)
    assert.equal((await interfaces(id)).length, 1)
    assert.deepEqual((await listed(network)).containers, [])
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
  })

  test('connected live, a peer is reached by name and by address, before and after a restart', async () => {
    const { name, id: network } = await ctx.network()
    const server = ctx.name('server')
    const peer = await ctx.start({ name: server, networks: [name] })
    const [{ ipAddress }] = (await ctx.adapter.getContainerDetails(peer)).networks
    const id = await ctx.start()
    const reaches = async (host) => {
      const said = await ctx.exec(id, 'ping', '-c', '1', '-W', '10', host)
      assert.ok(said.includes(ipAddress), `${said} does not name ${ipAddress}`)
    }
    await ctx.adapter.connectContainerToNetwork(id, network)
    for (const host of [server, ipAddress]) await reaches(host)
    await ctx.adapter.restartContainer(id, 0)
    for (const host of [server, ipAddress]) await reaches(host)
    assert.equal((await ctx.adapter.inspectContainer(id)).id, id)
    await ctx.adapter.disconnectContainerFromNetwork(id, network)
    assert.notEqual((await ctx.adapter.execInContainer(id, ['ping', '-c', '1', '-W', '1', server])).exitCode, 0)
  })

  test('connect a container that is stopped', async () => {
    const { name } = await ctx.network()
    const id = await ctx.start()
    await ctx.adapter.stopContainer(id, 5)
    await ctx.adapter.connectContainerToNetwork(id, name)
    await ctx.adapter.restartContainer(id)
    assert.equal((await interfaces(id)).length, 2)
  })

  test('an unknown network is NETWORK_NOT_FOUND with its name', async () => {
    const id = await ctx.start()
    const network = 'no-such-network'
    await fails(ctx.adapter.connectContainerToNetwork(id, network), 'NETWORK_NOT_FOUND', { naming: network })
    await fails(ctx.adapter.disconnectContainerFromNetwork(id, network), 'NETWORK_NOT_FOUND', { naming: network })
    await fails(ctx.adapter.removeNetwork(network), 'NETWORK_NOT_FOUND', { naming: network })
  })
})
