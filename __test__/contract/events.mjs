import { assert, fails, subject } from './kit.mjs'

export const events = subject('events', (ctx, test) => {
  /** What happened from now on, as a stream that ends at the marker that `end()` sets. */
  async function recording(options) {
    const marker = ctx.name('marker')
    const seen = []
    const events = ctx.adapter.events({ since: Date.now() / 1000 - 1, ...options })
    const done = (async () => {
      for await (const event of events) {
        if (event.id === marker || event.name === marker) return seen
        seen.push(event)
      }
    })()
    const end = async () => {
      await ctx.adapter.createVolume(marker)
      ctx.undo(() => ctx.adapter.removeVolume(marker))
      return done
    }
    return { end }
  }

  test('what happens to a container, with its name and exit code', async () => {
    const record = await recording()
    const name = ctx.name()
    const id = await ctx.ran('exit 5', { name })
    await ctx.adapter.removeContainer(id)
    const mine = (await record.end()).filter((event) => event.id === id)
    const actions = mine.map((event) => event.action)
    for (const action of ['create', 'start', 'die', 'destroy'])
      assert.ok(actions.includes(action), `${action} in ${actions}`)
    assert.ok(actions.indexOf('start') < actions.indexOf('die') && actions.indexOf('die') < actions.indexOf('destroy'))
    for (const event of mine) {
      assert.deepEqual([event.kind, event.name], ['container', name])
      assert.ok(event.time instanceof Date && Math.abs(event.time - Date.now()) < 120_000, String(event.time))
    }
    assert.equal(mine.find((event) => event.action === 'die').exitCode, 5)
  })

  test('images, networks and volumes', async () => {
    const record = await recording()
    await ctx.adapter.tagImage(ctx.backend.image, 'contract/event:one')
    await ctx.adapter.removeImage('contract/event:one')
    const { id } = await ctx.network()
    const volume = await ctx.volume()
    const seen = await record.end()
    assert.ok(seen.some((e) => e.kind === 'image' && e.action === 'tag'))
    assert.ok(seen.some((e) => e.kind === 'network' && e.action === 'create' && e.id === id))
    assert.ok(seen.some((e) => e.kind === 'volume' && e.action === 'create' && e.id === volume))
  })

  test('filters', async () => {
    const record = await recording({ filters: { type: ['volume'] } })
    await ctx.ran('exit 0')
    const volume = await ctx.volume()
    const seen = await record.end()
    assert.ok(seen.every((event) => event.kind === 'volume'))
    assert.ok(seen.some((event) => event.id === volume))
  })

  test('since gives what was, first', async () => {
    const from = Date.now() / 1000 - 1
    const id = await ctx.ran('exit 0')
    for await (const event of ctx.adapter.events({ since: from, filters: { container: [id], event: ['die'] } })) {
      assert.equal(event.id, id)
      break
    }
  })

  test('return() ends a loop that waits', async () => {
    const events = ctx.adapter.events({ filters: { label: ['nobody=has'] } })
    const next = events.next()
    await events.return()
    assert.equal((await next).done, true)
  })

  test('an unknown filter', async () => {
    await fails(ctx.adapter.events({ filters: { colour: ['red'] } }).next(), 'INVALID_ARGUMENT', {
      field: 'filters.colour',
    })
  })
})
