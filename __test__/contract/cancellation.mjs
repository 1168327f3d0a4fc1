import { getEventListeners, once } from 'node:events'
import { Readable } from 'node:stream'
import { CALLS } from './calls.mjs'
import { assert, bytes, fails, subject, timed } from './kit.mjs'

export const cancellation = subject('cancellation', (ctx, test) => {
  /** Aborts a call that is under way and would not end by itself; how soon it ends is measured by `bench/docker`. */
  async function aborts(call, underWay = () => new Promise(setImmediate)) {
    const controller = new AbortController()
    const outcome = timed(fails(call(controller.signal), 'ABORTED'))
    await underWay()
    controller.abort(new Error('the user changed their mind'))
    const { reason, value } = await outcome
    if (reason) throw reason
    assert.equal(value.cause.message, 'the user changed their mind')
    assert.equal(getEventListeners(controller.signal, 'abort').length, 0, 'a listener is left')
  }

  test('a signal already aborted: no method begins', async () => {
    const name = ctx.name()
    const mine = { name, image: ctx.backend.image, archive: '/dev/null' }
    const signal = AbortSignal.abort('before')
    for (const [method, call] of Object.entries(CALLS)) {
      const error = await fails(call(ctx.adapter, mine, { signal }), 'ABORTED').catch((e) => {
        throw new Error(method, { cause: e })
      })
      assert.equal(error.cause, 'before')
    }
    assert.ok(!(await ctx.names()).includes(name))
  })

  test('an engine that does not answer: every method is aborted', async () => {
    const { adapter, close } = await ctx.backend.hungAdapter()
    ctx.undo(close)
    const mine = { name: ctx.name(), image: ctx.backend.image, archive: '/dev/null' }
    for (const [method, call] of Object.entries(CALLS)) {
      await aborts((signal) => call(adapter, mine, { signal })).catch((e) => {
        throw new Error(method, { cause: e })
      })
    }
  })

  test('an engine that does not answer: timeoutMs ends every method', async () => {
    const { adapter, close } = await ctx.backend.hungAdapter()
    ctx.undo(close)
    const mine = { name: ctx.name(), image: ctx.backend.image, archive: '/dev/null' }
    await Promise.all(
      Object.entries(CALLS).map(async ([method, call]) => {
        const { ms, value, reason } = await timed(call(adapter, mine, { timeoutMs: 200 }))
        assert.ok(ms >= 195, `${method} after ${ms} ms: ${reason?.message ?? 'resolved'}`)
        if (method === 'isAvailable') return assert.equal(value, false)
        assert.equal(reason?.code, 'TIMEOUT', `${method}: ${reason?.message ?? 'resolved'}`)
        assert.equal(reason.details.timeoutMs, 200)
        assert.ok(reason.hint)
      }),
    )
  })

  test('AbortSignal.timeout says why', async () => {
    const id = await ctx.start()
    const error = await fails(ctx.adapter.waitContainer(id, { signal: AbortSignal.timeout(50) }), 'ABORTED')
    assert.equal(error.cause.name, 'TimeoutError')
  })

  test('no listener is left on a long-lived signal', async () => {
    const id = await ctx.ran('echo x')
    const { signal } = new AbortController()
    for (let i = 0; i < 20; i++) {
      await ctx.adapter.listContainers({ signal })
      await bytes(await ctx.adapter.getContainerLogs(id, { signal }))
      await ctx.adapter.inspectContainer('no-such', { signal }).catch(() => {})
    }
    const stream = await ctx.adapter.getContainerLogs(id, { signal })
    stream.destroy()
    await once(stream, 'close')
    for await (const _ of ctx.adapter.events({ signal, since: 0 })) break
    assert.equal(getEventListeners(signal, 'abort').length, 0)
  })

  test('wait, exec and stop of what goes on and on', async () => {
    const id = await ctx.start({ command: ['sh', '-c', 'trap "" TERM; while :; do sleep 1; done'] })
    await aborts((signal) => ctx.adapter.waitContainer(id, { signal }))
    await aborts((signal) => ctx.adapter.execInContainer(id, ['sleep', '1000'], { signal }))
    await aborts((signal) => ctx.adapter.stopContainer(id, 3600, { signal }))
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
  })

  test('timeoutMs ends the call, not the container', async () => {
    const id = await ctx.start()
    const error = await fails(ctx.adapter.waitContainer(id, { timeoutMs: 50 }), 'TIMEOUT')
    assert.equal(error.details.timeoutMs, 50)
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
  })

  test('streams end with ABORTED', async () => {
    const id = await ctx.start({ command: ['sh', '-c', 'echo first; sleep 86400'] })
    const controller = new AbortController()
    const { signal } = controller
    const log = await ctx.adapter.getContainerLogs(id, { follow: true, signal })
    await once(log, 'data')
    const stats = ctx.adapter.streamContainerStats(id, { signal })
    await stats.next()
    const events = ctx.adapter.events({ signal, filters: { label: ['nobody=has'] } })
    const waiting = [once(log, 'end').catch((e) => Promise.reject(e)), stats.next(), events.next()]
    const outcomes = Promise.all(waiting.map((w) => timed(w)))
    await new Promise(setImmediate)
    controller.abort('enough')
    for (const { reason, value } of await outcomes) {
      assert.equal(reason?.code, 'ABORTED', `${reason?.stack ?? JSON.stringify(value)}`)
      assert.equal(reason.cause, 'enough')
    }
    assert.equal(log.destroyed, true)
  })

  test('an aborted pull can be made again', async () => {
    const { slow } = ctx.backend
    const image = slow.image()
    ctx.undo(slow.release)
    ctx.discardImage(image)
    const held = slow.hold()
    await aborts(
      (signal) => ctx.adapter.pullImage(image, undefined, { signal }),
      () => held,
    )
    assert.equal(await ctx.adapter.imageExists(image), false)
    slow.release()
    await ctx.adapter.pullImage(image)
    assert.equal(await ctx.adapter.imageExists(image), true)
  })

  test('a start aborted in its pull creates nothing', async () => {
    const { slow } = ctx.backend
    const image = slow.image()
    ctx.undo(slow.release)
    ctx.discardImage(image)
    const name = ctx.name()
    const held = slow.hold()
    await aborts(
      (signal) => ctx.start({ name, image }, { signal }),
      () => held,
    )
    assert.ok(!(await ctx.names()).includes(name))
    slow.release()
    const id = await ctx.start({ name, image })
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
    await ctx.clean()
  })

  test('a start aborted at any moment leaves no container, and its name can be used at once', async () => {
    const outcomes = { aborted: 0, started: 0 }
    for (const delay of [0, 2, 5, 10, 20, 40, 80, 160, 320]) {
      const name = ctx.name()
      const signal = AbortSignal.timeout(delay)
      const { reason } = await timed(ctx.start({ name }, { signal }))
      if (!reason) {
        outcomes.started += 1
        continue
      }
      assert.equal(reason.code, 'ABORTED', reason.stack)
      outcomes.aborted += 1
      const id = await ctx.start({ name })
      assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
      const [only, ...others] = await ctx.adapter.listContainers({ all: true, filters: { name: [name] } })
      assert.deepEqual([only.id, others], [id, []])
    }
    assert.ok(outcomes.aborted > 0, JSON.stringify(outcomes))
  })

  test('a load aborted while its stream waits', async () => {
    const endless = new Readable({ read() {} })
    endless.push(Buffer.alloc(2048))
    await aborts((signal) => ctx.adapter.loadImage(endless, { signal }))
    assert.ok(endless.destroyed, 'the stream nobody reads is closed')
  })

  test('a save aborted in the middle', async () => {
    const controller = new AbortController()
    const archive = await ctx.adapter.saveImage(ctx.backend.image, { signal: controller.signal })
    const outcome = timed(bytes(archive))
    controller.abort()
    assert.equal((await outcome).reason?.code, 'ABORTED')
  })
})
