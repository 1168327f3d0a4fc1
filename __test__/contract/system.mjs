import { assert, fails, subject } from './kit.mjs'

export const system = subject('system', (ctx, test) => {
  test('it is there', async () => {
    assert.equal(ctx.adapter.getRuntimeType(), ctx.backend.type)
    assert.equal(await ctx.adapter.isAvailable(), true)
    await ctx.adapter.initialize()
    await ctx.adapter.initialize(() => {})
  })

  test('what it is', async () => {
    const info = await ctx.adapter.getSystemInfo()
    assert.equal(info.os, 'linux')
    assert.match(info.architecture, /^(x86_64|aarch64)$/)
    assert.ok(Number.isInteger(info.cpus) && info.cpus > 0)
    assert.ok(info.memory > 100 << 20)
    assert.match(info.runtimeVersion, /^v?\d+\./)
    assert.ok(['engine', 'timer', 'process'].includes(info.healthchecks))
  })

  test('whose it is', async () => {
    assert.equal(await ctx.adapter.isPrivate(), ctx.backend.pruneScope === 'engine')
    await fails(ctx.adapter.isPrivate({ signal: AbortSignal.abort() }), 'ABORTED')
    await fails(ctx.adapter.isPrivate({ timeoutMs: -1 }), 'INVALID_ARGUMENT')
  })

  test('for those who are not trusted, what is the application’s', async () => {
    const restricted = ctx.adapter.restricted()
    assert.equal(restricted.getRuntimeType(), ctx.backend.type)
    const volume = ctx.name()
    const id = await restricted.startContainer({
      ...{ name: ctx.name(), image: ctx.backend.image, command: ['sleep', '1000'], networks: ['bridge'] },
      volumes: [{ host: volume, container: '/data' }],
    })
    ctx.undo(async () => {
      await ctx.adapter.removeContainer(id, true)
      await ctx.adapter.removeVolume(volume, true)
    })
    assert.equal((await restricted.getContainerDetails(id.slice(0, 20))).labels['lima-runtime.app'], 'kai')
    assert.ok((await restricted.listVolumes()).some(({ name }) => name === volume))
    assert.ok((await restricted.listContainers({ filters: { id: [id] } })).length === 1)
    await fails(restricted.inspectContainer('nobody-at-all'), 'CONTAINER_NOT_FOUND')
    await fails(restricted.createNetwork(ctx.name(), { driver: 'macvlan' }), 'PERMISSION_DENIED')
    for (const network of ['host', 'ns', 'none']) {
      const config = { name: ctx.name(), image: ctx.backend.image, networks: [network] }
      await fails(restricted.startContainer(config), 'PERMISSION_DENIED')
    }
    assert.throws(() => ctx.adapter.restricted({ foreign: 'yes' }), { code: 'INVALID_ARGUMENT' })
  })

  test('what it keeps on disk', async () => {
    const id = await ctx.ran('head -c 3000000 /dev/zero >/file')
    const volume = await ctx.volume()
    const usage = await ctx.adapter.diskUsage()
    for (const key of ['images', 'containers', 'volumes', 'buildCache']) {
      const { count, size, reclaimable } = usage[key]
      assert.ok(
        [count, size, reclaimable].every((n) => Number.isInteger(n) && n >= 0),
        `${key}: ${JSON.stringify(usage[key])}`,
      )
      assert.ok(reclaimable <= size)
    }
    assert.ok(usage.images.count >= 1 && usage.images.size > 100_000)
    assert.ok(
      usage.containers.count >= 1 && usage.containers.size >= 3_000_000 && usage.containers.reclaimable >= 3_000_000,
    )
    assert.ok(usage.volumes.count >= 1)
    assert.ok(id)
    await ctx.ran('head -c 2000000 /dev/zero >/data/file', { volumes: [{ host: volume, container: '/data' }] })
    const { volumes } = await ctx.adapter.diskUsage()
    assert.ok(volumes.size - volumes.reclaimable >= 2_000_000, `${JSON.stringify(volumes)}: a container uses it`)
  })

  test('where there is no engine: not available, and ENGINE_UNREACHABLE with a hint', async () => {
    const dead = ctx.watch(await ctx.backend.deadAdapter())
    assert.equal(await dead.isAvailable(), false)
    const { goneCode, deadCode = goneCode, differs } = ctx.backend
    const calls = [() => dead.listContainers(), () => dead.events().next()]
    if (!differs.deadInitialize) calls.push(() => dead.initialize())
    for (const call of calls) {
      const error = await fails(call(), deadCode)
      assert.ok(error.hint, 'says what to do')
    }
  })
})
