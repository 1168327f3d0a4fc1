import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { tempDir } from '../support/tempdir.mjs'
import { assert, fails, IDLE, subject } from './kit.mjs'

export const volumes = subject('volumes', (ctx, test) => {
  test('create, list, remove', async () => {
    const name = ctx.name('vol')
    assert.equal(await ctx.adapter.createVolume(name, { driver: 'local', labels: { kind: 'test' } }), name)
    const found = (await ctx.adapter.listVolumes()).find((v) => v.name === name)
    assert.deepEqual([found.name, found.driver], [name, 'local'])
    assert.match(found.mountpoint, /^\//)
    await ctx.adapter.removeVolume(name)
    assert.ok(!(await ctx.adapter.listVolumes()).some((v) => v.name === name))
    await fails(ctx.adapter.removeVolume(name), 'VOLUME_NOT_FOUND', { naming: name })
    await ctx.adapter.removeVolume(name, true)
  })

  test('one that is there is taken as it is', async () => {
    const name = await ctx.volume()
    const mount = { volumes: [{ host: name, container: '/data' }] }
    await ctx.ran('echo kept >/data/file', mount)
    assert.equal(await ctx.adapter.createVolume(name), name)
    assert.equal(await ctx.exec(await ctx.start(mount), 'cat', '/data/file'), 'kept\n')
    assert.equal((await ctx.adapter.listVolumes()).filter((v) => v.name === name).length, 1)
  })

  test('what one container writes the next one reads; in use it stays', async () => {
    const name = await ctx.volume()
    const mount = { volumes: [{ host: name, container: '/data' }] }
    const first = await ctx.ran('echo kept >/data/file', mount)
    await fails(ctx.adapter.removeVolume(name), 'IN_USE', { naming: name })
    await ctx.adapter.removeContainer(first)
    assert.equal(await ctx.exec(await ctx.start(mount), 'cat', '/data/file'), 'kept\n')
    await ctx.clean()
  })

  test('a volume that is not there is made', async () => {
    const name = ctx.name('vol')
    ctx.undo(() => ctx.adapter.removeVolume(name))
    const id = await ctx.start({ volumes: [{ host: name, container: '/data' }] })
    const { mounts } = await ctx.adapter.getContainerDetails(id)
    assert.deepEqual(mounts, [{ type: 'volume', source: name, destination: '/data', readOnly: false }])
  })

  test('a directory of the host, writable and read-only', async () => {
    const dir = tempDir('contract')
    writeFileSync(join(dir, 'in'), 'from the host')
    const script = 'cat /rw/in; echo from the container >/rw/out; touch /ro/x 2>/dev/null && echo written; exit 0'
    const volumes = [
      { host: dir, container: '/rw' },
      { host: dir, container: '/ro', readOnly: true },
    ]
    const id = await ctx.start({ volumes })
    assert.equal(await ctx.exec(id, 'sh', '-c', script), 'from the host')
    assert.equal(readFileSync(join(dir, 'out'), 'utf8'), 'from the container\n')
    const { mounts } = await ctx.adapter.getContainerDetails(id)
    assert.deepEqual(
      mounts.sort((a, b) => (a.destination < b.destination ? -1 : 1)),
      [
        { type: 'bind', source: dir, destination: '/ro', readOnly: true },
        { type: 'bind', source: dir, destination: '/rw', readOnly: false },
      ],
    )
  })

  test('one file of the host', async () => {
    const file = join(tempDir('contract'), 'conf')
    writeFileSync(file, 'setting')
    const id = await ctx.start({ volumes: [{ host: file, container: '/etc/conf' }] })
    assert.equal(await ctx.exec(id, 'cat', '/etc/conf'), 'setting')
  })

  for (const odd of ['with a space', 'colon:ro', 'comma,readonly', 'quote\'"$(x)', 'ünï']) {
    test(`a path "${odd}" works or is refused, and is never something else`, async () => {
      const parent = tempDir('contract')
      const host = join(parent, odd)
      mkdirSync(host)
      writeFileSync(join(host, 'file'), odd)
      const volumes = [{ host, container: '/in here' }]
      let id
      try {
        id = await ctx.start({ volumes })
      } catch (error) {
        assert.equal(error.code, 'INVALID_ARGUMENT', error.message)
        assert.equal(error.details.field, 'volumes[0].host')
        assert.ok(odd !== 'with a space', 'a space must work')
      }
      if (id) assert.equal(await ctx.exec(id, 'cat', '/in here/file'), odd)
      assert.deepEqual(readdirSync(parent), [odd], 'no other directory was made')
    })
  }

  test('a path in the container with a colon is that path or is refused, for a directory and for a volume', async () => {
    const dir = tempDir('contract')
    for (const host of [dir, await ctx.volume()]) {
      let id
      try {
        id = await ctx.start({ volumes: [{ host, container: '/data:ro' }] })
      } catch (error) {
        assert.equal(error.code, 'INVALID_ARGUMENT', error.message)
        assert.equal(error.details.field, 'volumes[0].container')
        continue
      }
      await ctx.exec(id, 'touch', '/data:ro/file')
    }
  })

  test('a path that is not there becomes a directory there, or is refused; the other mounts are as they were', async () => {
    for (const container of ['/data:ro', '/data']) {
      // One of its own for each: a VM's view of the host remembers for seconds what was removed behind its back.
      const dir = tempDir('contract')
      mkdirSync(join(dir, 'there'))
      writeFileSync(join(dir, 'there', 'file'), 'whole')
      const volumes = [
        { host: join(dir, 'there'), container: '/there' },
        { host: join(dir, 'pipeline', 'new'), container },
      ]
      const script = `cat /there/file; touch '${container}/made' /there/made`
      let id
      try {
        id = await ctx.start({ volumes })
      } catch (error) {
        assert.deepEqual([error.code, error.details.field], ['INVALID_ARGUMENT', 'volumes[1].container'], error.message)
        assert.ok(container.includes(':'), 'without a colon it must work')
        continue
      }
      assert.equal(await ctx.exec(id, 'sh', '-c', script), 'whole')
      const { mounts } = await ctx.adapter.getContainerDetails(id)
      assert.deepEqual(
        mounts.map((m) => [m.type, m.source, m.destination, m.readOnly]).sort(),
        volumes.map((v) => ['bind', v.host, v.container, false]).sort(),
      )
      assert.ok(existsSync(join(dir, 'pipeline', 'new', 'made')) && existsSync(join(dir, 'there', 'made')))
    }
  })

  test('a named volume at a path with a colon is there, or refused', async () => {
    const name = await ctx.volume()
    let id
    try {
      id = await ctx.start({ volumes: [{ host: name, container: '/data:ro' }] })
    } catch (error) {
      assert.deepEqual([error.code, error.details.field], ['INVALID_ARGUMENT', 'volumes[0].container'], error.message)
      return
    }
    assert.equal(await ctx.exec(id, 'sh', '-c', "touch '/data:ro/made'; ls -d /data*"), '/data:ro\n')
    const { mounts } = await ctx.adapter.getContainerDetails(id)
    assert.deepEqual(mounts, [{ type: 'volume', source: name, destination: '/data:ro', readOnly: false }])
  })

  test('two volumes at one place', async () => {
    const dir = tempDir('contract')
    for (const container of ['/x', '/x/', '//x', '/y/../x'])
      await fails(
        ctx.start({
          volumes: [
            { host: dir, container: '/x' },
            { host: dir, container },
          ],
        }),
        'INVALID_ARGUMENT',
        { field: 'volumes[1].container' },
      )
  })

  test('a directory on a file, and a file on a directory', async () => {
    const dir = tempDir('contract')
    writeFileSync(join(dir, 'file'), '')
    for (const volume of [
      { host: join(dir, 'file'), container: '/etc' },
      { host: dir, container: '/etc/passwd' },
    ])
      await fails(ctx.start({ volumes: [{ host: dir, container: '/x' }, volume] }), 'INVALID_ARGUMENT', {
        field: 'volumes[1].container',
      })
  })

  test('a driver that the engine does not have', { timeout: 300_000 }, async () => {
    const name = ctx.name('vol')
    const words = { field: 'driver', naming: 'no-such-driver' }
    await fails(ctx.adapter.createVolume(name, { driver: 'no-such-driver' }), 'INVALID_ARGUMENT', words)
    assert.ok(!(await ctx.adapter.listVolumes()).some((v) => v.name === name))
  })

  test("/var/run/docker.sock is the engine's own socket, wherever that is", { needs: 'dockerSocket' }, async () => {
    for (const host of ['/var/run/docker.sock', ctx.backend.dockerSocket()]) {
      const id = await ctx.start({ volumes: [{ host, container: '/var/run/docker.sock' }] })
      await ctx.exec(id, 'test', '-S', '/var/run/docker.sock')
      const { mounts } = await ctx.adapter.getContainerDetails(id)
      assert.deepEqual(
        mounts.map((m) => [m.source, m.destination]),
        [[ctx.backend.dockerSocket(), '/var/run/docker.sock']],
      )
    }
  })

  test('a Docker socket on an engine without one is refused', { needs: 'noDockerSocket' }, async () => {
    const name = ctx.name()
    const config = {
      name,
      image: ctx.backend.image,
      command: IDLE,
      volumes: [{ host: '/var/run/docker.sock', container: '/s' }],
    }
    const error = await fails(ctx.adapter.startContainer(config), 'INVALID_ARGUMENT', { field: 'volumes[0].host' })
    assert.match(error.hint, /engine: 'docker'/)
    assert.ok(!(await ctx.names()).includes(name))
  })

  test('a path the guest does not see is refused, naming the mounts', { needs: 'unseenPath' }, async () => {
    const volumes = [{ host: ctx.backend.unseenPath(), container: '/x' }]
    await fails(ctx.start({ volumes }), 'INVALID_ARGUMENT', { field: 'volumes[0].host' })
  })
})
