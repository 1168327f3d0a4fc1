import { waitFor } from '../support/wait.mjs'
import { assert, fails, LineReader, subject } from './kit.mjs'

export const life = subject('life', (ctx, test) => {
  const { engine } = ctx.backend

  test('a new name: it is found by it, and its peers find it', async () => {
    const { name: network } = await ctx.network()
    const old = ctx.name()
    const id = await ctx.start({ name: old, networks: [network] })
    const peer = await ctx.start({ networks: [network] })
    const name = ctx.name('new')
    ctx.discard(name)
    await ctx.adapter.renameContainer(old, name)
    assert.equal((await ctx.adapter.inspectContainer(name)).id, id)
    assert.equal((await ctx.adapter.inspectContainer(id)).name, name)
    assert.ok((await ctx.names()).includes(name))
    await fails(ctx.adapter.inspectContainer(old), 'CONTAINER_NOT_FOUND')
    await waitFor('the new name at its peer', async () => {
      const { exitCode } = await ctx.adapter.execInContainer(peer, ['ping', '-c', '1', '-W', '5', name])
      return exitCode === 0
    })
    // The old name is free, and the new one outlives a restart.
    const again = await ctx.start({ name: old })
    assert.notEqual(again, id)
    await ctx.adapter.restartContainer(name, 5)
    assert.equal((await ctx.adapter.inspectContainer(name)).id, id)
    // A stopped one, too.
    await ctx.adapter.stopContainer(name, 5)
    const last = ctx.name('last')
    ctx.discard(last)
    await ctx.adapter.renameContainer(id, last)
    assert.equal((await ctx.adapter.inspectContainer(last)).name, last)
  })

  test('a name that is taken or is none; its own name is no error', async () => {
    const [one, other] = [ctx.name(), ctx.name()]
    const id = await ctx.start({ name: one })
    await ctx.start({ name: other })
    await fails(ctx.adapter.renameContainer(id, other), 'NAME_IN_USE')
    await ctx.adapter.renameContainer(id, one)
    for (const name of ['', '-x', 'a/b', 'a b', 'x', 'a\0b'])
      await fails(ctx.adapter.renameContainer(id, name), 'INVALID_ARGUMENT', { field: 'name' })
    await fails(ctx.adapter.renameContainer(id, 5), 'INVALID_ARGUMENT', { field: 'name' })
    await fails(ctx.adapter.renameContainer('no-such-container', ctx.name()), 'CONTAINER_NOT_FOUND')
    assert.equal((await ctx.adapter.inspectContainer(id)).name, one)
  })

  test('the processes in a container', { needs: 'cgroups' }, async () => {
    const id = await ctx.start({ command: ['sh', '-c', 'sleep 54321 & exec sleep 65432'] })
    await waitFor('both', async () => {
      const { titles, processes } = await ctx.adapter.listProcesses(id)
      const commands = processes.map((row) => row[titles.indexOf('CMD')])
      assert.ok(titles.includes('PID'), titles)
      assert.ok(processes.every((row) => row.length === titles.length))
      assert.ok(processes.every((row) => /^\d+$/.test(row[titles.indexOf('PID')])))
      return commands.length === 2 && ['54321', '65432'].every((word) => commands.some((c) => c.includes(word)))
    })
    await fails(ctx.adapter.listProcesses(await ctx.ran('exit 0')), 'INVALID_STATE')
    await fails(ctx.adapter.listProcesses('no-such-container'), 'CONTAINER_NOT_FOUND')
  })

  const check = (test) => ({ test: ['CMD-SHELL', test], interval: 300, timeout: 5000, retries: 2 })

  test('waiting for its health', async () => {
    const id = await ctx.start({ healthcheck: check('test -e /well') })
    const wait = ctx.adapter.waitContainer(id, { condition: 'healthy' })
    let early = false
    wait.then(
      () => {
        early = true
      },
      () => {
        early = true
      },
    )
    assert.equal(early, false)
    await ctx.exec(id, 'touch', '/well')
    const end = await wait.catch((error) => error)
    // On a slow machine two checks may have failed before.
    if (end instanceof Error) await fails(Promise.reject(end), 'INVALID_STATE')
    else assert.equal(end, undefined)
    await waitFor('its health', async () => (await ctx.adapter.inspectContainer(id)).health === 'healthy')
    assert.equal(await ctx.adapter.waitContainer(id, { condition: 'healthy' }), undefined)
  })

  test('health that never comes: unhealthy, ended, removed, or without a check', async () => {
    const ill = await ctx.start({ healthcheck: check('exit 1') })
    await fails(ctx.adapter.waitContainer(ill, { condition: 'healthy' }), 'INVALID_STATE', { naming: 'unhealthy' })
    const slow = { ...check('exit 1'), retries: 1000 }
    const ending = await ctx.start({ healthcheck: slow })
    const ended = ctx.adapter.waitContainer(ending, { condition: 'healthy' })
    const kept = fails(ended, 'INVALID_STATE', { naming: 'ended' })
    await ctx.adapter.killContainer(ending)
    await kept
    await fails(ctx.adapter.waitContainer(ending, { condition: 'healthy' }), 'INVALID_STATE')
    const leaving = await ctx.start({ healthcheck: slow })
    const left = ctx.adapter.waitContainer(leaving, { condition: 'healthy' }).catch((error) => error)
    await ctx.adapter.removeContainer(leaving, true)
    assert.ok(['CONTAINER_NOT_FOUND', 'INVALID_STATE'].includes((await left).code))
    const without = await ctx.start()
    await fails(ctx.adapter.waitContainer(without, { condition: 'healthy' }), 'INVALID_ARGUMENT', {
      field: 'condition',
    })
    await fails(ctx.adapter.waitContainer(without, { condition: 'happy' }), 'INVALID_ARGUMENT', { field: 'condition' })
    await fails(ctx.adapter.waitContainer('no-such-container', { condition: 'healthy' }), 'CONTAINER_NOT_FOUND')
  })

  test('waiting for its removal, and for its end by name', async () => {
    const id = await ctx.start({ command: ['sh', '-c', 'exit 9'] })
    assert.deepEqual(await ctx.adapter.waitContainer(id, { condition: 'exited' }), { exitCode: 9 })
    const stop = new AbortController()
    const aborted = fails(ctx.adapter.waitContainer(id, { condition: 'removed', signal: stop.signal }), 'ABORTED')
    await fails(ctx.adapter.waitContainer(id, { condition: 'removed', timeoutMs: 300 }), 'TIMEOUT')
    stop.abort()
    await aborted
    const waits = [id, id.slice(0, 20)].map((word) => ctx.adapter.waitContainer(word, { condition: 'removed' }))
    await ctx.adapter.removeContainer(id)
    assert.deepEqual(await Promise.all(waits), [undefined, undefined])
    await fails(ctx.adapter.waitContainer(id, { condition: 'removed' }), 'CONTAINER_NOT_FOUND')
  })

  test('a list that is kept: made, started, renamed, ended, removed, and what a filter lets through', async () => {
    const stop = new AbortController()
    const role = ctx.name('role')
    const filters = { label: [`role=${role}`] }
    const all = ctx.adapter.watchContainers({ filters, signal: stop.signal })
    const exited = ctx.adapter.watchContainers({ filters: { ...filters, status: ['exited'] } })
    assert.deepEqual((await all.next()).value, [])
    assert.deepEqual((await exited.next()).value, [])
    /** Reads lists until one is so. */
    const until = async (lists, what, so) => {
      for (;;) {
        const { value, done } = await lists.next()
        assert.ok(!done, what)
        if (so(value)) return value
      }
    }
    const name = ctx.name()
    const id = await ctx.start({ name, labels: { role } })
    const [info] = await until(all, 'it runs', ([c]) => c?.state === 'running')
    assert.deepEqual([info.id, info.name], [id, name])
    assert.ok(info.created instanceof Date)
    // Nobody reads meanwhile: only the newest is given.
    const other = ctx.name('other')
    ctx.discard(other)
    await ctx.adapter.renameContainer(id, ctx.name('between'))
    await ctx.adapter.renameContainer(id, other)
    await until(all, 'its new name', ([c]) => c?.name === other && c.state === 'running')
    await ctx.adapter.killContainer(id)
    await until(all, 'its end', ([c]) => c?.state === 'exited')
    await until(exited, 'its end', ([c]) => c?.id === id)
    const second = await ctx.start({ labels: { role } })
    await until(all, 'both', (list) => list.length === 2 && list[0].id === second && list[0].state === 'running')
    await ctx.adapter.removeContainer(id)
    await until(all, 'one', (list) => list.length === 1 && list[0].id === second)
    await until(exited, 'none', (list) => list.length === 0)
    await exited.return()
    const next = all.next()
    await new Promise(setImmediate)
    stop.abort()
    await fails(next, 'ABORTED')
    await fails(ctx.adapter.watchContainers({ filters: { nosuch: ['x'] } }).next(), 'INVALID_ARGUMENT', {
      field: 'filters.nosuch',
    })
  })

  test('a list that is kept tells of a pause', { needs: 'cgroups' }, async () => {
    const id = await ctx.start()
    const lists = ctx.adapter.watchContainers({ filters: { id: [id] } })
    const until = async (state) => {
      for await (const [one] of lists) if (one.state === state) return
    }
    await lists.next()
    await ctx.adapter.pauseContainer(id)
    await until('paused')
    await ctx.adapter.unpauseContainer(id)
    await until('running')
    await lists.return()
  })

  test('a list that is kept outlives its engine', { timeout: 300_000 }, async () => {
    const lists = ctx.adapter.watchContainers()
    await lists.next()
    await engine.kill()
    await engine.start()
    await waitFor('the engine', () => ctx.adapter.isAvailable())
    const id = await ctx.start()
    for (;;) {
      const { value, done } = await lists.next()
      assert.ok(!done)
      if (value.some((c) => c.id === id && c.state === 'running')) break
    }
    await lists.return()
  })

  test('what is followed fails when its engine is killed', { timeout: 300_000 }, async () => {
    const id = await ctx.start({ command: ['sh', '-c', 'echo ready; sleep 86400'] })
    const log = await ctx.adapter.getContainerLogs(id, { follow: true })
    const lines = new LineReader(log)
    await lines.next()
    const stats = ctx.adapter.streamContainerStats(id)
    await stats.next()
    await engine.kill()
    await fails(lines.next(), ctx.backend.goneCode)
    // Readings of before may be waiting.
    const rest = async () => {
      for await (const _ of stats);
    }
    await fails(rest(), ctx.backend.goneCode)
    await engine.start()
    await waitFor('the engine', () => ctx.adapter.isAvailable())
  })

  test('a spawned process is ended, though its engine was killed', { timeout: 300_000 }, async (t) => {
    const id = await ctx.start()
    const processes = await Promise.all(
      [true, false].map((tty) => ctx.adapter.spawnInContainer(id, ['sh', '-c', 'echo ready; sleep 86399'], { tty })),
    )
    for (const { stdout } of processes) await new LineReader(stdout).next()
    await engine.kill()
    for (const { exited } of processes) await fails(exited, ctx.backend.goneCode)
    await engine.start()
    await waitFor('the engine', () => ctx.adapter.isAvailable())
    if ((await ctx.adapter.inspectContainer(id)).state !== 'running')
      return t.diagnostic('the engine took its containers with it: there is nothing to be ended')
    const left = async () => (await ctx.adapter.listProcesses(id)).processes.filter((row) => /86399/.test(row.at(-1)))
    await waitFor('their end', async () => (await left()).length === 0)
  })

  test('one network', async () => {
    const { name, id } = await ctx.network({ internal: true })
    const container = await ctx.start({ networks: [name] })
    for (const word of [name, id]) {
      const network = await ctx.adapter.inspectNetwork(word)
      assert.deepEqual([network.id, network.name, network.driver], [id, name, 'bridge'])
      assert.deepEqual([network.internal, network.containers], [true, [container]])
      assert.ok(network.labels['lima-runtime.app'] && network.raw, JSON.stringify(network))
      assert.match(network.subnets[0].subnet, /^[\d.]+\/\d+$/)
    }
    const open = await ctx.network()
    assert.equal((await ctx.adapter.inspectNetwork(open.id)).internal, false)
    await fails(ctx.adapter.inspectNetwork('no-such-network'), 'NETWORK_NOT_FOUND')
    await fails(ctx.adapter.inspectNetwork('a/b'), 'INVALID_ARGUMENT', { field: 'id' })
  })

  test('one volume', async () => {
    const name = await ctx.volume({ labels: { use: 'data' } })
    const volume = await ctx.adapter.inspectVolume(name)
    assert.deepEqual([volume.name, volume.driver, volume.labels.use], [name, 'local', 'data'])
    assert.ok(volume.labels['lima-runtime.app'] && volume.mountpoint.startsWith('/') && volume.raw)
    await fails(ctx.adapter.inspectVolume('no-such-volume'), 'VOLUME_NOT_FOUND')
  })

  test('a restricted adapter knows only what is the application’s', async () => {
    const { outside } = ctx.backend
    const own = ctx.adapter.restricted()
    const name = ctx.name('theirs')
    await outside.create(name, ['sleep', '1000'])
    ctx.undo(() => outside.remove(name))
    for (const call of [
      () => own.spawnInContainer(name, ['true']),
      () => own.attachContainer(name),
      () => own.listProcesses(name),
      () => own.renameContainer(name, ctx.name()),
      () => own.waitContainer(name, { condition: 'removed' }),
    ])
      await fails(call(), 'CONTAINER_NOT_FOUND')
    const volume = ctx.name('theirvol')
    await outside.createVolume(volume)
    ctx.undo(() => ctx.adapter.removeVolume(volume))
    await fails(own.inspectVolume(volume), 'VOLUME_NOT_FOUND')
    const network = ctx.name('theirnet')
    await outside.createNetwork(network)
    ctx.undo(() => ctx.adapter.removeNetwork(network))
    await fails(own.inspectNetwork(network), 'NETWORK_NOT_FOUND')
    const mine = await ctx.network()
    assert.equal((await own.inspectNetwork(mine.name)).id, mine.id)
    const id = await ctx.start()
    const process = await own.spawnInContainer(id, ['sh', '-c', 'exit 3'])
    assert.equal((await process.exited).exitCode, 3)
  })
})
