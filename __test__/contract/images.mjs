import { execFileSync } from 'node:child_process'
import { createReadStream, createWriteStream, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip, gzipSync } from 'node:zlib'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'
import { assert, fails, subject } from './kit.mjs'
import { BUSY, REFUSED } from './refusing.mjs'

export const images = subject('images', (ctx, test) => {
  test('pull tells how far it is', async () => {
    const { remoteImage } = ctx.backend
    ctx.discardImage(remoteImage)
    const seen = []
    await ctx.adapter.pullImage(remoteImage, (p) => seen.push(p))
    assert.equal(await ctx.adapter.imageExists(remoteImage), true)
    assert.ok(seen.length > 0)
    complete(seen)
  })

  test('a pull of what is there already, and without a callback', async () => {
    ctx.discardImage(ctx.backend.remoteImage)
    await ctx.adapter.pullImage(ctx.backend.remoteImage)
    await ctx.adapter.pullImage(ctx.backend.remoteImage)
  })

  test('two pulls of the same image at once', async () => {
    const { remoteImage } = ctx.backend
    ctx.discardImage(remoteImage)
    const other = ctx.watch(await ctx.backend.adapter())
    await Promise.all([ctx.adapter.pullImage(remoteImage), other.pullImage(remoteImage)])
    assert.equal(await ctx.adapter.imageExists(remoteImage), true)
  })

  test('a callback that throws ends nothing', async () => {
    ctx.discardImage(ctx.backend.remoteImage)
    const warnings = []
    const listen = (warning) => warnings.push(warning.message)
    process.on('warning', listen)
    try {
      await ctx.adapter.pullImage(ctx.backend.remoteImage, () => {
        throw new Error('from the callback')
      })
      await new Promise(setImmediate)
    } finally {
      process.off('warning', listen)
    }
    assert.ok(warnings.some((text) => text.includes('from the callback')))
  })

  test('what no registry has is IMAGE_NOT_FOUND', async () => {
    const missing = `${ctx.backend.remoteImage.split('/')[0]}/no/such:image`
    await fails(ctx.adapter.pullImage(missing), 'IMAGE_NOT_FOUND', { naming: missing })
  })

  test('a registry that wants credentials: none, wrong ones, the right ones', async () => {
    const { privateImage, account } = ctx.backend
    ctx.discardImage(privateImage)
    await fails(ctx.adapter.pullImage(privateImage), 'REGISTRY_AUTH')
    const wrong = { ...account, password: 'wrong' }
    await fails(ctx.adapter.pullImage(privateImage, undefined, { auth: wrong }), 'REGISTRY_AUTH')
    assert.equal(await ctx.adapter.imageExists(privateImage), false)
    await ctx.adapter.pullImage(privateImage, undefined, { auth: account })
    assert.equal(await ctx.adapter.imageExists(privateImage), true)
  })

  test('a registry that denies access, or gives no more for now, whose words it may have', async () => {
    const pull = (name, call = (image) => ctx.adapter.pullImage(image)) => call(`${ctx.backend.refusing}/${name}:1`)
    for (const name of REFUSED) {
      const error = await fails(pull(name), 'REGISTRY_AUTH', { naming: name })
      assert.match(error.hint, /log in|auth/i, name)
    }
    for (const name of BUSY) {
      const error = await fails(pull(name), 'ENGINE_ERROR', { naming: name })
      assert.match(error.hint, /Log in .* wait/s, name)
    }
    const container = ctx.name()
    await fails(
      pull(REFUSED[0], (image) => ctx.start({ name: container, image })),
      'REGISTRY_AUTH',
    )
    assert.ok(!(await ctx.names()).includes(container))
  })

  test('the platform asked for', async () => {
    ctx.discardImage(ctx.backend.remoteImage)
    const platform = `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`
    await ctx.adapter.pullImage(ctx.backend.remoteImage, undefined, { platform })
    const id = await ctx.start({ image: ctx.backend.remoteImage, platform })
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
    await ctx.clean()
  })

  test('list and exists', async () => {
    const { image } = ctx.backend
    const found = (await ctx.adapter.listImages()).find(({ tags }) => tags.includes(image))
    assert.match(found.id, /^sha256:[0-9a-f]{64}$/)
    assert.ok(found.size > 100_000 && found.created instanceof Date && Number.isFinite(found.created.getTime()))
    assert.equal(await ctx.adapter.imageExists(image), true)
    assert.equal(await ctx.adapter.imageExists(found.id), true)
    assert.equal(await ctx.adapter.imageExists('no/such:image'), false)
  })

  test('every reference the grammar knows is taken, and none is mistaken for another', async () => {
    const { image } = ctx.backend
    const digest = `sha256:${'0'.repeat(64)}`
    for (const reference of [
      '[::1]:5000/a:1',
      'MYREG/app',
      'localhost/a-b__c.d:T_1',
      `r.example:5000/a/b@${digest}`,
      `a:1@${digest}`,
      digest,
      digest.slice(7),
    ])
      assert.equal(await ctx.adapter.imageExists(reference), false, reference)
    for (const written of ['[::1]:5000/a:1', 'MYREG/app:1', 'docker.io/contract/hub:1', 'localhost:5000/a:5000']) {
      try {
        await ctx.adapter.tagImage(image, written)
      } catch (error) {
        // dockerd 20.10 has an older grammar.
        assert.deepEqual([error.code, error.details.field], ['INVALID_ARGUMENT', 'target'], error.message)
        assert.ok(/^(\[|MYREG)/.test(written), written)
        continue
      }
      ctx.discardImage(written)
      const shown = written.replace(/^docker\.io\//, '')
      const { tags } = (await ctx.adapter.listImages()).find(({ tags }) => tags.includes(image))
      assert.ok(tags.includes(shown), `${shown} is not among ${tags}`)
      assert.equal(await ctx.adapter.imageExists(written), true)
    }
    for (const written of [image, `library/${image}`, `docker.io/${image}`, `index.docker.io/library/${image}`])
      assert.equal(await ctx.adapter.imageExists(written), true, written)
    // The Hub's namespace is another one than a host of its name.
    assert.equal(await ctx.adapter.imageExists('MYREG/hub:1'), false)
  })

  test('an id that is not here is in no registry either', async () => {
    const name = ctx.name()
    for (const image of ['0'.repeat(64), `sha256:${'0'.repeat(64)}`])
      await fails(ctx.start({ name, image }), 'IMAGE_NOT_FOUND', { naming: image })
    const { id } = (await ctx.adapter.listImages()).find(({ tags }) => tags.includes(ctx.backend.image))
    assert.match(await ctx.start({ name, image: id }), /^[0-9a-f]{64}$/)
  })

  test('tag, and remove by reference keeps the image while it has another', async () => {
    const { image } = ctx.backend
    await ctx.adapter.tagImage(image, 'contract/tagged:one')
    ctx.discardImage('contract/tagged:one')
    const found = (await ctx.adapter.listImages()).find(({ tags }) => tags.includes('contract/tagged:one'))
    assert.ok(found.tags.includes(image))
    await ctx.adapter.removeImage('contract/tagged:one')
    assert.equal(await ctx.adapter.imageExists('contract/tagged:one'), false)
    assert.equal(await ctx.adapter.imageExists(image), true)
    await fails(ctx.adapter.tagImage('no/such:image', 'contract/x:y'), 'IMAGE_NOT_FOUND', { naming: 'no/such:image' })
  })

  test('an image in use is IN_USE, an unknown one IMAGE_NOT_FOUND', async () => {
    const { remoteImage } = ctx.backend
    ctx.discardImage(remoteImage)
    const id = await ctx.start({ image: remoteImage })
    await fails(ctx.adapter.removeImage(remoteImage), 'IN_USE')
    assert.equal(await ctx.adapter.imageExists(remoteImage), true)
    await ctx.adapter.removeContainer(id, true)
    await ctx.adapter.removeImage(remoteImage)
    assert.equal(await ctx.adapter.imageExists(remoteImage), false)
    await fails(ctx.adapter.removeImage(remoteImage), 'IMAGE_NOT_FOUND', { naming: remoteImage })
    await fails(ctx.adapter.removeImage(remoteImage, true), 'IMAGE_NOT_FOUND', { naming: remoteImage })
  })

  test('save and load: a tar and a tar.gz, from a path and from a stream', async () => {
    const dir = tempDir('contract')
    const reference = 'contract/saved:one'
    await ctx.adapter.tagImage(ctx.backend.image, reference)
    ctx.discardImage(reference)
    const nameless = async () => (await ctx.adapter.listImages()).filter(({ tags }) => tags.length === 0)
    const before = await nameless()
    const tar = join(dir, 'image.tar')
    const gz = join(dir, 'with a space.tar.gz')
    const saved = await ctx.adapter.saveImage(reference)
    assert.ok(saved instanceof Readable)
    await pipeline(saved, createWriteStream(tar))
    await pipeline(createReadStream(tar), createGzip({ level: 1 }), createWriteStream(gz))
    for (const archive of [() => tar, () => gz, () => createReadStream(tar), () => createReadStream(gz)]) {
      await ctx.adapter.removeImage(reference)
      assert.deepEqual(await ctx.adapter.loadImage(archive()), [reference])
      assert.equal(await ctx.adapter.imageExists(reference), true)
      assert.deepEqual(await nameless(), before, 'nothing but its name keeps it')
    }
    const id = await ctx.start({ image: reference })
    assert.equal((await ctx.adapter.inspectContainer(id)).image, reference)
    await ctx.clean()
  })

  test('what an image says of itself, by name and by id', async () => {
    const { image } = ctx.backend
    const { id, size } = (await ctx.adapter.listImages()).find(({ tags }) => tags.includes(image))
    for (const name of [image, id]) {
      const found = await ctx.adapter.inspectImage(name)
      assert.equal(found.id, id)
      assert.ok(found.tags.includes(image))
      assert.equal(found.size, size)
      assert.equal(found.created.getTime(), Date.UTC(2026, 0, 1))
      assert.equal(found.os, 'linux')
      assert.equal(found.architecture, process.arch === 'x64' ? 'amd64' : process.arch)
      assert.deepEqual([found.entrypoint, found.command], [[], ['sh']])
      assert.match(found.env.PATH, /^\/usr\/local\/sbin:/)
      assert.deepEqual([found.labels, found.ports, found.volumes], [{}, [], []])
      assert.equal(found.layers.length, 1)
      assert.match(found.layers[0], /^sha256:[0-9a-f]{64}$/)
      for (const digest of found.digests) assert.match(digest, /^[^@]+@sha256:[0-9a-f]{64}$/)
      assert.equal(typeof found.raw, 'object')
    }
    const [step, ...more] = await ctx.adapter.imageHistory(image)
    assert.deepEqual(more, [])
    assert.equal(step.created.getTime(), Date.UTC(2026, 0, 1))
    assert.equal(step.createdBy, 'lima-runtime tests')
    assert.ok(step.size > 100_000)
    for (const method of ['inspectImage', 'imageHistory'])
      await fails(ctx.adapter[method]('no/such:image'), 'IMAGE_NOT_FOUND', { naming: 'no/such:image' })
  })

  test('push tells how far it is, and a pull finds the image', async () => {
    const pushed = `${ctx.backend.remoteImage.split('/')[0]}/contract/pushed:${process.pid}`
    await fails(ctx.adapter.pushImage(pushed), 'IMAGE_NOT_FOUND', { naming: pushed })
    await ctx.adapter.tagImage(ctx.backend.image, pushed)
    ctx.discardImage(pushed)
    const { layers } = await ctx.adapter.inspectImage(pushed)
    const seen = []
    await ctx.adapter.pushImage(pushed, (p) => seen.push(p))
    complete(seen)
    // Again: the registry has all of it.
    await ctx.adapter.pushImage(pushed)
    await ctx.adapter.removeImage(pushed)
    await ctx.adapter.pullImage(pushed)
    assert.deepEqual((await ctx.adapter.inspectImage(pushed)).layers, layers)
  })

  test('a push to a registry that wants credentials, that refuses, and to none', async () => {
    const { privateImage, account, refusing, image } = ctx.backend
    const name = async (name) => {
      await ctx.adapter.tagImage(image, name)
      ctx.discardImage(name)
      return name
    }
    const closed = await name(`${privateImage.split('/')[0]}/contract/pushed:${process.pid}`)
    await fails(ctx.adapter.pushImage(closed, undefined, { credentials: 'none' }), 'REGISTRY_AUTH', { naming: closed })
    const wrong = { ...account, password: 'wrong' }
    await fails(ctx.adapter.pushImage(closed, undefined, { auth: wrong }), 'REGISTRY_AUTH')
    await ctx.adapter.pushImage(closed, undefined, { auth: account })
    const denied = await name(`${refusing}/ghcr/a:1`)
    await fails(ctx.adapter.pushImage(denied), 'REGISTRY_AUTH', { naming: denied })
    // Nobody listens there.
    const nowhere = await name('127.0.0.1:1/contract/pushed:1')
    await fails(ctx.adapter.pushImage(nowhere), 'ENGINE_ERROR', { naming: nowhere })
  })

  test('an image of a container, running and over', async () => {
    const reference = 'contract/committed:one'
    const id = await ctx.start()
    await ctx.exec(id, 'sh', '-c', 'echo changed >/etc/passwd-too && rm /etc/group')
    ctx.discardImage(reference)
    const image = await ctx.adapter.commitContainer(id, { reference, message: 'a message', author: 'somebody' })
    assert.match(image, /^sha256:[0-9a-f]{64}$/)
    // The second one takes its name.
    ctx.discardImage(image)
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
    const found = await ctx.adapter.inspectImage(reference)
    assert.deepEqual([found.id, found.author, found.layers.length], [image, 'somebody', 2])
    assert.equal((await ctx.adapter.imageHistory(reference))[0].comment, 'a message')
    assert.ok(!found.labels['lima-runtime.app'], 'a container of it is not for that the application’s')
    const made = await ctx.start({ image: reference })
    assert.equal(
      await ctx.exec(made, 'sh', '-c', 'cat /etc/passwd-too; [ -e /etc/group ] || echo gone'),
      'changed\ngone\n',
    )
    await ctx.adapter.removeContainer(made, true)

    const over = await ctx.ran('echo over >/over')
    await ctx.adapter.commitContainer(over, { reference, pause: false })
    const second = await ctx.start({ image: reference })
    assert.equal(await ctx.exec(second, 'cat', '/over'), 'over\n')
    await ctx.adapter.removeContainer(second, true)
    await fails(ctx.adapter.commitContainer('no-such', { reference }), 'CONTAINER_NOT_FOUND', { naming: 'no-such' })
  })

  test('an aborted push leaves no name behind', { needs: 'loopback' }, async () => {
    // It takes connections and never answers.
    const silent = createServer()
    await new Promise((resolve) => silent.listen(0, '127.0.0.1', resolve))
    const sockets = new Set()
    const asked = new Promise((resolve) =>
      silent.on('connection', (socket) => resolve(sockets.add(socket.on('error', () => {})))),
    )
    ctx.undo(() => {
      for (const socket of sockets) socket.destroy()
      silent.close()
    })
    // As the engine reaches this machine.
    const [host] = ctx.backend.refusing.split(':')
    const name = `${host}:${silent.address().port}/contract/pushed:1`
    await ctx.adapter.tagImage(ctx.backend.image, name)
    ctx.discardImage(name)
    const tags = async () => (await ctx.adapter.listImages()).flatMap(({ tags }) => tags).sort()
    const before = await tags()
    const controller = new AbortController()
    const push = fails(ctx.adapter.pushImage(name, undefined, { signal: controller.signal }), 'ABORTED')
    await Promise.race([asked, push])
    controller.abort()
    await push
    await waitFor('its names as before', async () => String(await tags()) === String(before))
  })

  test('several images in one archive', async () => {
    const [a, b] = ['contract/several:a', 'contract/several:b']
    for (const reference of [a, b]) {
      await ctx.adapter.tagImage(ctx.backend.image, reference)
      ctx.discardImage(reference)
    }
    const archive = await ctx.adapter.saveImage([a, b])
    const path = join(tempDir('contract'), 'two.tar')
    await pipeline(archive, createWriteStream(path))
    await ctx.adapter.removeImage(a)
    await ctx.adapter.removeImage(b)
    assert.deepEqual((await ctx.adapter.loadImage(path)).sort(), [a, b])
  })

  test('save of an unknown image is IMAGE_NOT_FOUND', async () => {
    await fails(ctx.adapter.saveImage('no/such:image'), 'IMAGE_NOT_FOUND', { naming: 'no/such:image' })
  })

  test('load of what is no archive, of no file, of a stream that fails', async () => {
    const ids = async () => (await ctx.adapter.listImages()).map((image) => image.id).sort()
    const before = await ids()
    const garbage = join(tempDir('contract'), 'garbage')
    writeFileSync(garbage, Buffer.alloc(100_000, 'garbage '))
    for (const archive of [garbage, createReadStream(garbage)]) {
      await fails(ctx.adapter.loadImage(archive), 'INVALID_ARGUMENT', { field: 'archive' })
    }
    const dir = tempDir('contract')
    const whole = join(dir, 'whole.tar')
    await pipeline(await ctx.adapter.saveImage(ctx.backend.image), createWriteStream(whole))
    const part = join(dir, 'part.tar')
    writeFileSync(part, readFileSync(whole).subarray(0, 600_000))
    const gz = join(dir, 'part.tar.gz')
    writeFileSync(gz, gzipSync(readFileSync(whole), { level: 1 }).subarray(0, 300_000))
    execFileSync('mkfifo', [join(dir, 'fifo')])
    symlinkSync('loop', join(dir, 'loop'))
    for (const path of [
      '/no/such/file.tar',
      dir,
      `${dir}/`,
      `${whole}/`,
      `${whole}/x`,
      join(dir, 'fifo'),
      join(dir, 'loop'),
      join(dir, 'x'.repeat(300)),
      part,
      gz,
    ]) {
      const error = await fails(ctx.adapter.loadImage(path), 'INVALID_ARGUMENT', { field: 'archive' })
      if (path !== part && path !== gz) assert.ok(error.message.includes(path), error.message)
    }
    for (const path of [part, gz])
      await fails(ctx.adapter.loadImage(createReadStream(path)), 'INVALID_ARGUMENT', { field: 'archive' })
    const broken = new Readable({
      read() {
        this.destroy(new Error('the disk is gone'))
      },
    })
    await assert.rejects(ctx.adapter.loadImage(broken), /the disk is gone/)
    assert.deepEqual(await ids(), before)
  })
})

/** Progress that never goes back, and ends with all of it. */
function complete(seen) {
  let last = 0
  for (const { status, progress, current, total } of seen) {
    assert.ok(typeof status === 'string' && status.length > 0)
    if (progress !== undefined) {
      assert.ok(progress >= last && progress <= 100, `${progress} after ${last}`)
      last = progress
    }
    if (total !== undefined) assert.ok(current <= total)
  }
  assert.equal(last, 100)
}
