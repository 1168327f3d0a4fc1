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
    assert.equal(info.degraded, ctx.backend.degraded ?? false)
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
    assert.ok(id && volume)
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
