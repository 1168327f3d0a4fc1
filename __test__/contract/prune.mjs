import { assert, IDLE, subject } from './kit.mjs'

const NOTHING = { containersDeleted: 0, imagesDeleted: 0, volumesDeleted: 0, networksDeleted: 0, spaceReclaimed: 0 }

export const prune = subject('prune', (ctx, test) => {
  const filled = 'head -c 3000000 /dev/zero >/file'
  const { outside } = ctx.backend

  async function strangers() {
    const name = ctx.name('stranger')
    await outside.create(name, IDLE)
    await outside.createVolume(name)
    await outside.createNetwork(name)
    ctx.discard(name)
    ctx.undo(() => ctx.adapter.removeNetwork(name).catch(() => {}))
    ctx.undo(() => ctx.adapter.removeVolume(name, true).catch(() => {}))
    return name
  }

  async function left(name) {
    const lists = [ctx.adapter.listContainers({ all: true }), ctx.adapter.listNetworks(), ctx.adapter.listVolumes()]
    return (await Promise.all(lists)).map((list) => list.some((thing) => thing.name === name))
  }

  test('nothing to do', async () => {
    await ctx.adapter.prune({ containers: true, images: true, volumes: true, networks: true })
    assert.deepEqual(
      await ctx.adapter.prune({ containers: true, images: true, volumes: true, networks: true }),
      NOTHING,
    )
    assert.deepEqual(await ctx.adapter.prune({ containers: false }), NOTHING)
  })

  test('only the kind asked for, counts and bytes true', async () => {
    const running = await ctx.start()
    const a = await ctx.ran(filled)
    const b = await ctx.ran(filled)
    const used = await ctx.network()
    const inUse = await ctx.start({ networks: [used.name] })
    const unused = await ctx.network()
    const volume = await ctx.volume()

    const containers = await ctx.adapter.prune({ containers: true })
    const { spaceReclaimed, ...counts } = containers
    assert.deepEqual(counts, { containersDeleted: 2, imagesDeleted: 0, volumesDeleted: 0, networksDeleted: 0 })
    assert.ok(spaceReclaimed >= 6_000_000 && spaceReclaimed < 7_000_000, `${spaceReclaimed} bytes`)
    const ids = (await ctx.adapter.listContainers({ all: true })).map((c) => c.id)
    assert.ok(ids.includes(running) && ids.includes(inUse) && !ids.includes(a) && !ids.includes(b))

    assert.deepEqual(await ctx.adapter.prune({ networks: true }), { ...NOTHING, networksDeleted: 1 })
    const networks = (await ctx.adapter.listNetworks()).map((n) => n.id)
    assert.ok(networks.includes(used.id) && !networks.includes(unused.id))
    assert.ok((await ctx.adapter.listVolumes()).some((v) => v.name === volume))
  })

  test('volumes: only on request, with their bytes', async () => {
    const volume = await ctx.volume()
    const writer = await ctx.ran('head -c 2000000 /dev/zero >/data/file', {
      volumes: [{ host: volume, container: '/data' }],
    })
    assert.equal((await ctx.adapter.prune({ volumes: true })).volumesDeleted, 0, 'a container uses it')
    await ctx.adapter.removeContainer(writer)
    const result = await ctx.adapter.prune({ volumes: true })
    assert.equal(result.volumesDeleted, 1)
    assert.ok(result.spaceReclaimed >= 2_000_000 && result.spaceReclaimed < 3_000_000, `${result.spaceReclaimed} bytes`)
    assert.ok(!(await ctx.adapter.listVolumes()).some((v) => v.name === volume))
  })

  test('none named: containers, dangling images, networks, and no volumes', async () => {
    await ctx.ran('exit 0')
    await ctx.network()
    const volume = await ctx.volume()
    const { containersDeleted, networksDeleted, volumesDeleted } = await ctx.adapter.prune()
    assert.deepEqual([containersDeleted, networksDeleted, volumesDeleted], [1, 1, 0])
    assert.ok((await ctx.adapter.listVolumes()).some((v) => v.name === volume))
  })

  test("what others made stays, another app's too", async () => {
    const name = await strangers()
    const other = ctx.watch(await ctx.backend.adapter({ appName: 'another-app' }))
    const theirs = ctx.name('theirs')
    await other.createVolume(theirs)
    await other.createNetwork(theirs)
    ctx.undo(() => other.prune({ volumes: true, networks: true }))
    const result = await ctx.adapter.prune({
      containers: true,
      images: true,
      volumes: true,
      networks: true,
      scope: 'app',
    })
    assert.deepEqual(result, NOTHING)
    assert.deepEqual(await left(name), [true, true, true])
    if (ctx.backend.pruneScope === 'app') {
      assert.deepEqual(await ctx.adapter.prune({ containers: true, volumes: true, networks: true }), NOTHING)
      assert.deepEqual(await left(name), [true, true, true])
    }
    assert.deepEqual(await left(theirs), [false, true, true])
    assert.equal((await other.prune({ volumes: true, networks: true, scope: 'app' })).networksDeleted, 1)
    assert.deepEqual(await left(theirs), [false, false, false])
    assert.deepEqual(await left(name), [true, true, true])
  })

  test("scope 'engine' takes everything unused", async () => {
    const name = await strangers()
    const dangling = await outside.danglingImage()
    assert.equal(await ctx.adapter.imageExists(dangling), true)
    const result = await ctx.adapter.prune({
      containers: true,
      images: true,
      volumes: true,
      networks: true,
      scope: 'engine',
    })
    assert.deepEqual(await left(name), [false, false, false])
    assert.equal(await ctx.adapter.imageExists(dangling), false)
    const { spaceReclaimed, ...counts } = result
    assert.deepEqual(counts, { containersDeleted: 1, imagesDeleted: 1, volumesDeleted: 1, networksDeleted: 1 })
    assert.ok(spaceReclaimed >= 3 << 20, `${spaceReclaimed} bytes`)
    assert.equal(await ctx.adapter.imageExists(ctx.backend.image), true)
  })
})
