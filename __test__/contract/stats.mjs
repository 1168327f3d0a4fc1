import { assert, fails, subject } from './kit.mjs'

const BURN = ['sh', '-c', 'while :; do :; done']

export const stats = subject('stats', (ctx, test) => {
  test('one reading: memory, network, disk', async () => {
    const id = await ctx.start({
      command: ['sh', '-c', 'head -c 20000000 /dev/zero | tail -c 20000000 | (sleep 86400)'],
    })
    const { cpu, memory, network, blockIO } = await ctx.adapter.getContainerStats(id)
    for (const n of [
      cpu,
      memory.used,
      memory.limit,
      memory.percentage,
      network.rx,
      network.tx,
      blockIO.read,
      blockIO.write,
    ]) {
      assert.ok(Number.isFinite(n) && n >= 0, JSON.stringify({ cpu, memory, network, blockIO }))
    }
    const { memory: machine } = await ctx.adapter.getSystemInfo()
    assert.ok(memory.used > 50_000 && memory.limit <= machine)
    assert.ok(Math.abs(memory.percentage - (memory.used / memory.limit) * 100) < 0.01)
  })

  test('a container burning one core reads 90 to 110', { needs: 'cgroups' }, async (t) => {
    const id = await ctx.start({ command: BURN })
    const { cpus } = await ctx.adapter.getSystemInfo()
    // Others may be using the machine: the truth is what the kernel counted for the container over the same time.
    for (let i = 0; i < 10; i++) {
      const fresh = ctx.watch(await ctx.backend.adapter())
      const before = await burnt(id)
      const { cpu } = await fresh.getContainerStats(id)
      const after = await burnt(id)
      const truth = ((after.used - before.used) / (after.at - before.at)) * 100
      t.diagnostic(`${cpu.toFixed(1)} %, the kernel ${truth.toFixed(1)} %`)
      assert.ok(cpu < Math.max(110, cpus * 10 + 100), `${cpu} %`)
      // One that the machine starves may get nothing between two readings.
      assert.ok(cpu > 0 || truth < 50, `${cpu} %, the kernel ${truth} %`)
      if (truth < 95) continue
      assert.ok(cpu >= 90 && cpu <= 110, `${cpu} % of one core, the kernel says ${truth} %`)
      return
    }
    t.skip('the machine was too busy to give the container a whole core')
  })

  /** Seconds of CPU time used by the container's first process, and the time of the machine it runs on. */
  async function burnt(id) {
    const [uptime, stat] = (await ctx.exec(id, 'cat', '/proc/uptime', '/proc/1/stat')).split('\n')
    const [utime, stime] = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, 13)
      .map(Number)
    return { at: Number(uptime.split(' ')[0]), used: (utime + stime) / 100 }
  }

  test('the second reading is taken since the first', { needs: 'cgroups' }, async () => {
    const id = await ctx.start()
    const first = await ctx.adapter.getContainerStats(id)
    assert.ok(first.cpu < 50, `an idle container reads ${first.cpu}`)
    await ctx.exec(id, 'sh', '-c', 'timeout 2 sh -c "while :; do :; done" || true')
    assert.ok((await ctx.adapter.getContainerStats(id)).cpu > 5)
  })

  test('network counts what went through', async () => {
    const { name } = await ctx.network()
    const command = ['sh', '-c', 'mkdir /w; head -c 1000000 /dev/zero >/w/big; exec httpd -f -h /w']
    const id = await ctx.start({ networks: [name], command })
    const client = await ctx.start({ networks: [name] })
    const [{ ipAddress }] = (await ctx.adapter.getContainerDetails(id)).networks
    const before = await ctx.adapter.getContainerStats(id)
    const get = `printf 'GET /big HTTP/1.0\\r\\n\\r\\n' | nc ${ipAddress} 80 >/dev/null`
    await ctx.exec(client, 'sh', '-c', `i=0; until ${get}; do i=$((i+1)); test $i -lt 100 || exit 1; sleep 0.05; done`)
    const after = await ctx.adapter.getContainerStats(id)
    assert.ok(after.network.tx - before.network.tx > 1_000_000)
    assert.ok(after.network.rx > before.network.rx)
  })

  test('the stream goes on until the loop is left', async () => {
    const id = await ctx.start({ command: BURN })
    const seen = []
    for await (const reading of ctx.adapter.streamContainerStats(id)) {
      seen.push(reading)
      if (seen.length === 2) break
    }
    assert.ok(
      seen.every(({ cpu, memory }) => Number.isFinite(cpu) && cpu >= 0 && memory.used > 0),
      JSON.stringify(seen),
    )
  })

  test('the stream ends with the container', async () => {
    const id = await ctx.start()
    const stream = ctx.adapter.streamContainerStats(id)
    assert.equal((await stream.next()).done, false)
    await ctx.adapter.stopContainer(id, 0)
    while (!(await stream.next()).done);
  })

  test('a container that does not run is INVALID_STATE', async () => {
    await fails(ctx.adapter.getContainerStats(await ctx.ran('exit 0')), 'INVALID_STATE')
  })
})
