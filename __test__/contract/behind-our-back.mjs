import { setTimeout } from 'node:timers/promises'
import { assert, fails, IDLE, LineReader, subject, timed } from './kit.mjs'

export const behindOurBack = subject('behind our back', (ctx, test) => {
  const { outside, engine, goneCode } = ctx.backend

  test('killed: wait, the log and the state all say so', async () => {
    const id = await ctx.start({ command: ['sh', '-c', 'echo alive; sleep 86400'] })
    const lines = new LineReader(await ctx.adapter.getContainerLogs(id, { follow: true }))
    assert.equal(await lines.next(), 'alive')
    const wait = ctx.adapter.waitContainer(id)
    await outside.kill(id)
    assert.deepEqual(await wait, { exitCode: 137 })
    assert.equal(await lines.next(), undefined)
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'exited')
  })

  test('killed in the middle of an exec', async () => {
    const id = await ctx.start()
    const exec = timed(ctx.adapter.execInContainer(id, ['sh', '-c', 'echo begun; sleep 54321']))
    await ctx.until(async () => (await ctx.exec(id, 'ps')).includes('sleep 54321'))
    await outside.kill(id)
    const { value, reason } = await exec
    assert.equal(value?.exitCode, 137, reason?.stack)
  })

  test('killed while an exec begins: its own end, or that the container had ended', async () => {
    for (const delay of [0, 20, 40, 60]) {
      const id = await ctx.start()
      const exec = timed(ctx.adapter.execInContainer(id, ['sleep', '54321']))
      await setTimeout(delay)
      await outside.kill(id)
      const { value, reason } = await exec
      assert.ok(
        // It had begun, or not: the engine knew that the container had ended, or its runtime found nobody there, and says so
        // in words that have no reason in them.
        value ? value.exitCode === 137 : ['INVALID_STATE', 'ENGINE_ERROR'].includes(reason.code),
        reason?.stack ?? JSON.stringify(value),
      )
    }
  })

  test('removed: whatever was under way ends, whatever comes after is CONTAINER_NOT_FOUND', async () => {
    const id = await ctx.start({ command: ['sh', '-c', 'echo alive; sleep 86400'] })
    const lines = new LineReader(await ctx.adapter.getContainerLogs(id, { follow: true }))
    assert.equal(await lines.next(), 'alive')
    const stats = ctx.adapter.streamContainerStats(id)
    await stats.next()
    const wait = timed(ctx.adapter.waitContainer(id))
    await outside.remove(id)
    assert.equal(await lines.next(), undefined)
    while (!(await stats.next()).done);
    const { value, reason } = await wait
    assert.equal(value?.exitCode, 137, reason?.stack)
    for (const call of [
      () => ctx.adapter.stopContainer(id),
      () => ctx.adapter.removeContainer(id),
      () => ctx.adapter.getContainerLogs(id),
    ]) {
      await fails(call(), 'CONTAINER_NOT_FOUND', { naming: id })
    }
  })

  test('image deleted: the next start pulls it again', async () => {
    const { remoteImage } = ctx.backend
    ctx.discardImage(remoteImage)
    await ctx.adapter.pullImage(remoteImage)
    await outside.removeImage(remoteImage)
    assert.equal(await ctx.adapter.imageExists(remoteImage), false)
    const id = await ctx.start({ image: remoteImage })
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
    await ctx.clean()
  })

  test('network and volume removed', async () => {
    const { id, name } = await ctx.network()
    await outside.removeNetwork(name)
    await fails(ctx.start({ networks: [name] }), 'NETWORK_NOT_FOUND', { naming: name })
    await fails(ctx.adapter.removeNetwork(id), 'NETWORK_NOT_FOUND')
    const volume = await ctx.volume()
    await outside.removeVolume(volume)
    await fails(ctx.adapter.removeVolume(volume), 'VOLUME_NOT_FOUND')
  })

  /** Takes the engine down for the time of `whileDown`. */
  async function down(how, whileDown = () => {}) {
    await engine[how]()
    try {
      await whileDown()
    } finally {
      await engine.start()
    }
  }

  test('the engine restarted in the middle of a log stream', { timeout: 300_000 }, async () => {
    const id = await ctx.start({ restart: 'always', command: ['sh', '-c', 'echo alive; sleep 86400'] })
    const ended = await ctx.ran('exit 6')
    const lines = new LineReader(await ctx.adapter.getContainerLogs(id, { follow: true }))
    assert.equal(await lines.next(), 'alive')
    const events = ctx.adapter.events({ filters: { label: ['nobody=has'] } })
    const nextEvent = timed(events.next())
    const wait = timed(ctx.adapter.waitContainer(id))
    await down('kill', async () => {
      // Not a quiet end, which would look like the container's own.
      await fails(lines.next(), goneCode)
      await fails(ctx.adapter.listContainers(), goneCode)
      assert.equal(await ctx.adapter.isAvailable(), false)
    })
    assert.equal((await nextEvent).reason?.code, goneCode, 'events that stop say why')
    assert.equal((await wait).reason?.code, goneCode)
    // The same adapter goes on.
    assert.equal(await ctx.adapter.isAvailable(), true)
    await ctx.state(id, 'running')
    assert.match(await ctx.log(id), /^alive\n/)
    const details = await ctx.adapter.getContainerDetails(ended)
    assert.deepEqual([details.state, details.exitCode], ['exited', 6])
  })

  test('the engine restarted in the middle of a pull', { timeout: 300_000 }, async () => {
    const { slow } = ctx.backend
    const image = slow.image()
    ctx.undo(slow.release)
    ctx.discardImage(image)
    const held = slow.hold()
    const pull = timed(ctx.adapter.pullImage(image))
    await held
    await down('kill', async () => {
      assert.equal((await pull).reason?.code, goneCode)
      slow.release()
    })
    await ctx.adapter.pullImage(image)
    assert.equal(await ctx.adapter.imageExists(image), true)
  })

  test('the engine stopped in an orderly way', { timeout: 300_000 }, async () => {
    const name = ctx.name()
    const id = await ctx.start({ name, restart: 'unless-stopped', command: IDLE })
    const log = await ctx.adapter.getContainerLogs(id, { follow: true })
    // With an error where the container lives on without its engine.
    const closed = new Promise((resolve) =>
      log
        .on('error', () => {})
        .on('close', resolve)
        .resume(),
    )
    await down('stop', async () => {
      await closed
      await fails(ctx.start({ name: ctx.name() }), goneCode)
    })
    assert.equal((await ctx.adapter.inspectContainer(name)).id, id)
    await ctx.state(id, 'running')
  })
})
