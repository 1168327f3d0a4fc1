import { FOREIGN } from '../support/images.mjs'
import { waitFor } from '../support/wait.mjs'
import { assert, fails, IDLE, LITERAL, subject, timed } from './kit.mjs'

export const containers = subject('containers', (ctx, test) => {
  test('start returns the full id, and inspect tells the rest', async () => {
    const name = ctx.name()
    const before = Date.now()
    const id = await ctx.start({ name })
    assert.match(id, /^[0-9a-f]{64}$/)
    const { created, status, ...info } = await ctx.adapter.inspectContainer(id)
    assert.deepEqual(info, { id, name, image: ctx.backend.image, state: 'running', health: 'none', ports: [] })
    assert.ok(created instanceof Date && Math.abs(created - before) < 60_000, String(created))
    assert.ok(status)
  })

  test('details tell what it was made of and how it ended', async () => {
    const config = { env: { COLOUR: 'red' }, labels: { tier: 'web' }, restart: 'no' }
    // It ends when told to: dockerd 20.10 writes a start after the end of a container that ends at once.
    const command = ['sh', '-c', 'while [ ! -e /done ]; do sleep 0.1; done; exit 3']
    const id = await ctx.start({ ...config, command })
    assert.equal((await ctx.adapter.execInContainer(id, ['touch', '/done'])).exitCode, 0)
    await ctx.adapter.waitContainer(id)
    const details = await ctx.adapter.getContainerDetails(id)
    assert.equal(details.id, id)
    assert.equal(details.state, 'exited')
    assert.equal(details.exitCode, 3)
    assert.equal(details.env.COLOUR, 'red')
    assert.equal(details.labels.tier, 'web')
    assert.ok(details.labels['lima-runtime.app'], 'what we make carries our label')
    assert.deepEqual(details.command, command)
    assert.equal(details.restartPolicy, 'no')
    assert.ok(details.startedAt instanceof Date && details.finishedAt instanceof Date)
    assert.ok(details.startedAt <= details.finishedAt)
    assert.equal(typeof details.raw, 'object')
  })

  test('a running container has an address in its network, and no end', async () => {
    const details = await ctx.adapter.getContainerDetails(await ctx.start())
    assert.equal(details.networks.length, 1)
    assert.match(details.networks[0].ipAddress, /^\d+\.\d+\.\d+\.\d+$/)
    assert.ok(!('exitCode' in details) && !('finishedAt' in details))
  })

  test('arguments, variables and labels pass literally', async () => {
    const text = Object.fromEntries(LITERAL.map((value, i) => [`V${i}`, value]))
    const script =
      'for a; do printf "%s\\0" "$a"; done; i=0; while [ $i -lt $# ]; do eval "printf \'%s\\0\' \\"\\$V$i\\""; i=$((i+1)); done; echo'
    const printed = [...LITERAL, ...LITERAL, '\n'].join('\0')
    const id = await ctx.printed(printed, script, { argv: LITERAL, env: text, labels: text })
    const { labels, env } = await ctx.adapter.getContainerDetails(id)
    for (const [key, value] of Object.entries(text)) {
      assert.equal(labels[key], value)
      assert.equal(env[key], value)
    }
  })

  test('an absent image is pulled first', async () => {
    ctx.discardImage(ctx.backend.remoteImage)
    assert.equal(await ctx.adapter.imageExists(ctx.backend.remoteImage), false)
    const id = await ctx.start({ image: ctx.backend.remoteImage })
    assert.equal((await ctx.adapter.inspectContainer(id)).image, ctx.backend.remoteImage)
    assert.equal(await ctx.adapter.imageExists(ctx.backend.remoteImage), true)
    await ctx.adapter.removeContainer(id, true)
  })

  test('an image nobody has is IMAGE_NOT_FOUND, and nothing is created', async () => {
    const name = ctx.name()
    const image = `${ctx.backend.remoteImage.replace(/:[^:/]*$/, '')}-missing:none`
    await fails(ctx.start({ name, image }), 'IMAGE_NOT_FOUND', { naming: image })
    assert.ok(!(await ctx.names()).includes(name))
  })

  test('a name taken is NAME_IN_USE; nothing is created and the first lives on', async () => {
    const name = ctx.name()
    const id = await ctx.start({ name })
    const before = await ctx.names()
    await fails(ctx.adapter.startContainer({ name, image: ctx.backend.image }), 'NAME_IN_USE', { naming: name })
    assert.deepEqual(await ctx.names(), before)
    assert.equal((await ctx.adapter.inspectContainer(name)).id, id)
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
  })

  test('a failure after the create removes what was created, and names what was wrong', async () => {
    const name = ctx.name()
    for (const program of ['/no/such/program', 'no-such-program', '/etc', '/etc/passwd'])
      await fails(ctx.start({ name, command: [program, 'x'] }), 'INVALID_ARGUMENT', {
        field: 'command[0]',
        naming: program,
      })
    assert.ok(!(await ctx.names()).includes(name))
    const id = await ctx.start({ name })
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
  })

  test('a network nobody has is NETWORK_NOT_FOUND, and nothing is created', async () => {
    const name = ctx.name()
    await fails(ctx.start({ name, networks: ['no-such-network'] }), 'NETWORK_NOT_FOUND', { naming: 'no-such-network' })
    assert.ok(!(await ctx.names()).includes(name))
  })

  test("'created' reads as 'stopped'", async () => {
    const name = ctx.name()
    await ctx.backend.outside.create(name, IDLE)
    ctx.discard(name)
    assert.equal((await ctx.adapter.inspectContainer(name)).state, 'stopped')
    const [listed] = await ctx.adapter.listContainers({ all: true, filters: { name: [name] } })
    assert.equal(listed.state, 'stopped')
    const details = await ctx.adapter.getContainerDetails(name)
    assert.ok(!('exitCode' in details) && !('startedAt' in details) && !('finishedAt' in details))
  })

  test('stop lets the program end; stopping what is stopped is no error', async () => {
    const id = await ctx.start({ command: ['sh', '-c', 'trap "exit 5" TERM; echo ready; sleep 86400 & wait'] })
    const lines = await ctx.adapter.getContainerLogs(id, { follow: true })
    await new Promise((resolve) => lines.once('data', resolve))
    await ctx.adapter.stopContainer(id, 30)
    const details = await ctx.adapter.getContainerDetails(id)
    assert.deepEqual([details.state, details.exitCode], ['exited', 5])
    await ctx.adapter.stopContainer(id)
  })

  test('stop kills after its timeout', async () => {
    const id = await ctx.start({ command: ['sh', '-c', 'trap "" TERM; while :; do sleep 1; done'] })
    await ctx.adapter.stopContainer(id, 0)
    assert.equal((await ctx.adapter.getContainerDetails(id)).exitCode, 137)
  })

  test("a stopped container of restart: 'always' stays stopped", { timeout: 300_000 }, async () => {
    const id = await ctx.start({ restart: 'always' })
    const other = await ctx.start({ restart: 'always', command: ['sleep', '1'] })
    await ctx.adapter.stopContainer(id, 5)
    const { startedAt } = await ctx.adapter.getContainerDetails(id)
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'exited')
    // Who restarts looks at all of them in turn (containerd's monitor every ten seconds). Another one that was brought back a
    // second time since shows a whole round.
    const rounds = new Set()
    const seen = async () => rounds.add((await ctx.adapter.getContainerDetails(other)).startedAt?.getTime()).size > 2
    await waitFor('two restarts of another one', seen, { timeoutMs: 200_000, everyMs: 200 })
    const after = await ctx.adapter.getContainerDetails(id)
    assert.deepEqual([after.state, after.startedAt], ['exited', startedAt])
  })

  test('what the program ends of itself is restarted', async () => {
    const id = await ctx.start({
      restart: 'on-failure',
      command: ['sh', '-c', 'test -e /again && echo again && sleep 86400; touch /again; exit 1'],
    })
    // What it prints comes a little after the event of its start, and with none of its own.
    await waitFor('its second run', async () => (await ctx.log(id)).includes('again'), { timeoutMs: 120_000 })
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
  })

  for (const restart of ['no', 'always', 'on-failure', 'unless-stopped']) {
    test(`restart: '${restart}' is kept`, async () => {
      assert.equal((await ctx.adapter.getContainerDetails(await ctx.start({ restart }))).restartPolicy, restart)
    })
  }

  test('restart keeps the id and starts anew', async () => {
    const id = await ctx.start()
    const before = await ctx.adapter.getContainerDetails(id)
    await ctx.adapter.restartContainer(id, 5)
    const after = await ctx.adapter.getContainerDetails(id)
    assert.equal(after.state, 'running')
    assert.ok(after.startedAt > before.startedAt)
  })

  test('restart starts what is stopped', async () => {
    const id = await ctx.ran('exit 0')
    await ctx.adapter.restartContainer(id)
    assert.ok((await ctx.adapter.getContainerDetails(id)).startedAt)
  })

  test('a stop and a restart wait as long as the container itself says', { timeout: 300_000 }, async () => {
    // Both longer than the deadline of a container that says nothing.
    const stopTimeout = 42
    const made = await Promise.all(
      ['stopContainer', 'restartContainer'].map(async (method) => {
        const name = ctx.name()
        // As PID 1 it takes no notice of a TERM.
        await ctx.backend.outside.create(name, ['sleep', '86400'], { stopTimeout })
        ctx.discard(name)
        await ctx.adapter.restartContainer(name)
        return { name, method }
      }),
    )
    const before = await Promise.all(made.map(({ name }) => ctx.adapter.getContainerDetails(name)))
    let ended = 0
    const waits = made.map(({ name, method }) => timed(ctx.adapter[method](name).finally(() => ended++)))
    const meanwhile = async () => {
      await ctx.start()
      assert.equal(ended, 0, 'a start beside them waited for them')
    }
    await Promise.all([
      meanwhile(),
      ...made.map(async ({ name, method }, i) => {
        const { status, reason, ms } = await waits[i]
        assert.equal(status, 'fulfilled', reason?.message)
        assert.ok(ms > stopTimeout * 1000 - 1000, `${method}: ${ms} ms`)
        const after = await ctx.adapter.getContainerDetails(name)
        if (method === 'stopContainer') assert.deepEqual([after.state, after.exitCode], ['exited', 137])
        else assert.ok(after.state === 'running' && after.startedAt > before[i].startedAt)
        // A time that is asked for goes before it.
        assert.ok((await timed(ctx.adapter.stopContainer(name, 0))).ms < stopTimeout * 1000)
      }),
    ])
  })

  test('pause and unpause', { needs: 'cgroups' }, async () => {
    const id = await ctx.start()
    await fails(ctx.adapter.unpauseContainer(id), 'INVALID_STATE')
    await ctx.adapter.pauseContainer(id)
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'paused')
    await fails(ctx.adapter.pauseContainer(id), 'INVALID_STATE')
    await ctx.adapter.unpauseContainer(id)
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
    await ctx.adapter.stopContainer(id, 5)
    await fails(ctx.adapter.pauseContainer(id), 'INVALID_STATE')
  })

  test('remove refuses a running container unless forced', async () => {
    const name = ctx.name()
    const id = await ctx.start({ name })
    const error = await fails(ctx.adapter.removeContainer(name), 'IN_USE')
    assert.ok(error.hint, 'says what to do')
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
    await ctx.adapter.removeContainer(name, true)
    await fails(ctx.adapter.inspectContainer(id), 'CONTAINER_NOT_FOUND', { naming: id })
  })

  test('remove takes a stopped container', async () => {
    const id = await ctx.ran('exit 0')
    await ctx.adapter.removeContainer(id)
    await fails(ctx.adapter.inspectContainer(id), 'CONTAINER_NOT_FOUND', { naming: id })
  })

  test('kill sends the signal, SIGKILL of itself', async () => {
    const script = 'trap "exit 9" USR1; echo ready; while :; do sleep 0.05; done'
    for (const [signal, exitCode] of [
      ['SIGUSR1', 9],
      ['USR1', 9],
      ['10', 9],
      [undefined, 137],
    ]) {
      const id = await ctx.start({ command: ['sh', '-c', script] })
      const log = await ctx.adapter.getContainerLogs(id, { follow: true })
      await new Promise((resolve) => log.once('data', resolve))
      await ctx.adapter.killContainer(id, signal)
      assert.deepEqual(await ctx.adapter.waitContainer(id), { exitCode }, String(signal))
      await fails(ctx.adapter.killContainer(id), 'INVALID_STATE')
      await ctx.clean()
    }
  })

  test('wait resolves when the container ends, and at once when it has', async () => {
    const id = await ctx.start({ command: ['sh', '-c', 'sleep 0.2; exit 4'] })
    assert.deepEqual(await ctx.adapter.waitContainer(id), { exitCode: 4 })
    assert.deepEqual(await ctx.adapter.waitContainer(id), { exitCode: 4 })
  })

  test('wait for one that was never started waits for its end, or its removal', async () => {
    const name = ctx.name()
    await ctx.backend.outside.create(name, ['sh', '-c', 'exit 6'])
    ctx.discard(name)
    let ended = false
    const waits = ctx.adapter.waitContainer(name).finally(() => (ended = true))
    // It stands once a later call has come and gone; nothing has ended then.
    await fails(ctx.adapter.waitContainer(name, { timeoutMs: 1000 }), 'TIMEOUT')
    assert.equal(ended, false)
    await ctx.adapter.restartContainer(name)
    assert.deepEqual(await waits, { exitCode: 6 })

    const other = ctx.name()
    await ctx.backend.outside.create(other, IDLE)
    ctx.discard(other)
    const removed = fails(ctx.adapter.waitContainer(other), 'CONTAINER_NOT_FOUND', { naming: other })
    await fails(ctx.adapter.waitContainer(other, { timeoutMs: 1000 }), 'TIMEOUT')
    await ctx.adapter.removeContainer(other)
    await removed
  })

  test('the image for the platform asked for, though another is here', { timeout: 300_000 }, async () => {
    const { platformsImage: image } = ctx.backend
    const before = new Set((await ctx.adapter.listImages()).map(({ id }) => id))
    // On Docker the one that was there before stays, without a name.
    ctx.undo(async () => {
      for (const { id } of await ctx.adapter.listImages()) if (!before.has(id)) await ctx.adapter.removeImage(id, true)
    })
    await ctx.adapter.pullImage(image)
    const which = async (platform) => {
      // Not by its log: nerdctl 2.1 loses the end of one on a busy machine.
      const id = await ctx.start({ image, platform })
      const said = await ctx.exec(id, 'cat', '/which')
      await ctx.adapter.removeContainer(id, true)
      return said
    }
    assert.equal(await which(undefined), 'own')
    assert.equal(await which(`linux/${FOREIGN}`), FOREIGN)
    assert.equal(await which(`linux/${process.arch === 'x64' ? 'amd64' : process.arch}`), 'own')
    await fails(ctx.start({ image, platform: 'linux/s390x' }), 'IMAGE_NOT_FOUND', { naming: image })
  })

  test('list shows what runs, all on request', async () => {
    const running = await ctx.start()
    const exited = await ctx.ran('exit 0')
    const ids = (list) => list.map((c) => c.id)
    assert.ok(ids(await ctx.adapter.listContainers()).includes(running))
    assert.ok(!ids(await ctx.adapter.listContainers()).includes(exited))
    const all = await ctx.adapter.listContainers({ all: true })
    assert.ok(ids(all).includes(running) && ids(all).includes(exited))
    const { status: _, created, ...listed } = all.find((c) => c.id === running)
    const { status: __, created: exactly, ...inspected } = await ctx.adapter.inspectContainer(running)
    assert.deepEqual(listed, inspected)
    // Docker lists whole seconds.
    assert.equal(Math.floor(created / 1000), Math.floor(exactly / 1000))
  })

  test('filter by name: a substring, the exact one first', async () => {
    const name = ctx.name('web')
    const exact = await ctx.start({ name })
    const longer = await ctx.start({ name: `${name}-db` })
    const before = await ctx.start({ name: `a-${name}` })
    const found = await ctx.adapter.listContainers({ filters: { name: [name] } })
    assert.equal(found[0].id, exact)
    assert.deepEqual(new Set(found.map((c) => c.id)), new Set([exact, longer, before]))
  })

  test('a filter is no pattern', async () => {
    const name = ctx.name('web')
    const dotted = await ctx.start({ name: `${name}.1` })
    const id = await ctx.start({ name: `${name}x1` })
    const find = async (filters) => (await ctx.adapter.listContainers({ filters })).map((c) => c.id)
    assert.deepEqual(await find({ name: [`${name}.1`] }), [dotted])
    assert.deepEqual(await find({ name: [`/${name}x1`] }), [id])
    for (const value of [`${name}.*`, `^${name}`, `${name}[.x]1`, '(', `${name}\\.1`])
      assert.deepEqual(await find({ name: [value] }), [], value)
    // The beginning of an id, not any part of it.
    for (const value of ['.*', id.slice(1, 40), `^${id}`]) assert.deepEqual(await find({ id: [value] }), [], value)
    assert.deepEqual(await find({ id: [id.slice(0, 12)] }), [id])
  })

  test('filter by label, status, ancestor and id', async () => {
    const id = await ctx.start({ labels: { role: 'filtered' } })
    await ctx.ran('exit 0', { labels: { role: 'filtered' } })
    const find = async (filters) => (await ctx.adapter.listContainers({ all: true, filters })).map((c) => c.id)
    assert.deepEqual(await find({ label: ['role=filtered'], status: ['running'] }), [id])
    assert.equal((await find({ label: ['role=filtered'] })).length, 2)
    assert.equal((await find({ label: ['role'], status: ['exited'] })).length, 1)
    assert.deepEqual(await find({ label: ['role=other'] }), [])
    assert.deepEqual(await find({ id: [id.slice(0, 12)] }), [id])
    assert.ok((await find({ ancestor: [ctx.backend.image] })).includes(id))
  })

  test('an id prefix is enough, and a name wins over a prefix', async () => {
    const id = await ctx.start()
    assert.equal((await ctx.adapter.inspectContainer(id.slice(0, 12))).id, id)
    const named = await ctx.start({ name: id.slice(0, 12) })
    assert.equal((await ctx.adapter.inspectContainer(id.slice(0, 12))).id, named)
    await ctx.adapter.removeContainer(id.slice(0, 12), true)
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
  })

  test('health follows the check', async () => {
    const check = { interval: 100, timeout: 5000, retries: 1 }
    const id = await ctx.start({ healthcheck: { test: ['CMD-SHELL', 'test -e /well'], ...check } })
    const health = (want) => ctx.until(async () => (await ctx.adapter.inspectContainer(id)).health === want)
    await health('unhealthy')
    await ctx.exec(id, 'touch', '/well')
    await health('healthy')
    const [listed] = await ctx.adapter.listContainers({ filters: { id: [id] } })
    assert.equal(listed.health, 'healthy')
  })

  test("health is 'starting' before the first check, and 'none' without one", async () => {
    const slow = { interval: 3_600_000, timeout: 1000, retries: 1, startPeriod: 3_600_000 }
    const starting = await ctx.start({ healthcheck: { test: ['CMD', 'true'], ...slow } })
    assert.equal((await ctx.adapter.inspectContainer(starting)).health, 'starting')
    const none = await ctx.start({ healthcheck: { test: ['NONE'], ...slow } })
    assert.equal((await ctx.adapter.inspectContainer(none)).health, 'none')
  })

  test('an unknown id or name is CONTAINER_NOT_FOUND with the id, in every method', async () => {
    const id = 'no-such-container'
    const { adapter } = ctx
    const { id: network } = await ctx.network()
    const calls = {
      stop: () => adapter.stopContainer(id),
      restart: () => adapter.restartContainer(id),
      remove: () => adapter.removeContainer(id),
      'remove, forced': () => adapter.removeContainer(id, true),
      kill: () => adapter.killContainer(id),
      pause: () => adapter.pauseContainer(id),
      unpause: () => adapter.unpauseContainer(id),
      wait: () => adapter.waitContainer(id),
      inspect: () => adapter.inspectContainer(id),
      details: () => adapter.getContainerDetails(id),
      logs: () => adapter.getContainerLogs(id),
      'logs, tail 0': () => adapter.getContainerLogs(id, { tail: 0 }),
      stats: () => adapter.getContainerStats(id),
      'stats stream': () => adapter.streamContainerStats(id).next(),
      exec: () => adapter.execInContainer(id, ['true']),
      connect: () => adapter.connectContainerToNetwork(id, network),
      disconnect: () => adapter.disconnectContainerFromNetwork(id, network),
    }
    for (const [name, call] of Object.entries(calls)) {
      const error = await fails(call(), 'CONTAINER_NOT_FOUND', { naming: id }).catch((e) => {
        throw new Error(name, { cause: e })
      })
      assert.ok(!/<html|No such container: No such/.test(error.message), error.message)
    }
  })
})
