import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'
import { assert, bytes, fails, IDLE, subject } from './kit.mjs'
import { tarOf, tarOfDirectory } from './tars.mjs'

/** What the entries of a tar are: `[name, kind and mode, link]`. */
function listed(tar) {
  const text = execFileSync('tar', ['--list', '--verbose', '--numeric-owner', '--file=-'], {
    input: tar,
    encoding: 'utf8',
  })
  return text
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [mode, owner, size, , , ...rest] = line.split(/ +/)
      const [name, link] = rest.join(' ').split(/ -> | link to /)
      return { name: name.replace(/\/$/, ''), mode, owner, size: Number(size), link }
    })
}

/** A file of a tar. */
const content = (tar, name) =>
  execFileSync('tar', ['--extract', '--to-stdout', '--file=-', name], { input: tar, maxBuffer: 1 << 28 })

/** A tar of what `script` makes in an empty directory. */
function made(script) {
  const dir = tempDir('tar')
  execFileSync('sh', ['-ec', script], { cwd: dir })
  return tarOfDirectory(dir)
}

export const files = subject('files', (ctx, test) => {
  const read = async (id, path) => bytes(await ctx.adapter.copyFromContainer(id, path))
  const cat = (id, path) => ctx.exec(id, 'cat', path)

  test('what docker cp says of destinations, running and stopped', async () => {
    const dir = tempDir('copy')
    mkdirSync(join(dir, 'd/e'), { recursive: true })
    writeFileSync(join(dir, 'f'), 'a file')
    writeFileSync(join(dir, 'd/e/g'), 'deep')
    const running = await ctx.start()
    const stopped = await ctx.ran('true')
    for (const id of [running, stopped]) {
      const put = (source, path) => ctx.adapter.copyToContainer(id, `${dir}/${source}`, path)
      const names = async (path) =>
        listed(await read(id, path))
          .map(({ name }) => name)
          .sort()
      const text = async (path) => content(await read(id, path), path.split('/').at(-1)).toString()
      await put('f', '/tmp')
      await put('f', '/tmp/')
      assert.equal(await text('/tmp/f'), 'a file')
      await put('f', '/tmp/new')
      assert.equal(await text('/tmp/new'), 'a file')
      writeFileSync(join(dir, 'f2'), 'another')
      await put('f2', '/tmp/new')
      assert.equal(await text('/tmp/new'), 'another')
      await fails(put('f', '/tmp/nodir/'), 'INVALID_ARGUMENT', { field: 'containerPath' })
      await fails(put('f', '/tmp/no/parent'), 'INVALID_ARGUMENT', { field: 'containerPath' })
      await fails(put('d', '/tmp/new'), 'INVALID_ARGUMENT', { field: 'containerPath' })
      await put('d', '/tmp')
      assert.deepEqual(await names('/tmp/d'), ['d', 'd/e', 'd/e/g'])
      await put('d', '/tmp/renamed')
      assert.deepEqual(await names('/tmp/renamed'), ['renamed', 'renamed/e', 'renamed/e/g'])
      await put('d/.', '/tmp/contents')
      assert.deepEqual(await names('/tmp/contents'), ['contents', 'contents/e', 'contents/e/g'])
      await put('d/e/.', '/tmp/contents')
      assert.deepEqual(await names('/tmp/contents'), ['contents', 'contents/e', 'contents/e/g', 'contents/g'])
      assert.deepEqual(
        (await names('/tmp/contents/.')).map((n) => n.replace(/^\.\/?/, '')),
        ['', 'e', 'e/g', 'g'],
      )
      await fails(read(id, '/tmp/no/such'), 'INVALID_ARGUMENT', { field: 'containerPath' })
      await fails(read(id, '/tmp/new/.'), 'INVALID_ARGUMENT', { field: 'containerPath' })
    }
    await fails(read('no-such', '/tmp'), 'CONTAINER_NOT_FOUND', { naming: 'no-such' })
    await fails(ctx.adapter.copyToContainer('no-such', `${dir}/f`, '/tmp'), 'CONTAINER_NOT_FOUND', {
      naming: 'no-such',
    })
    await fails(ctx.adapter.copyToContainer(running, `${dir}/none`, '/tmp'), 'INVALID_ARGUMENT', { field: 'source' })
    execFileSync('mkfifo', [join(dir, 'pipe')])
    for (const name of ['f/', 'pipe'])
      await fails(ctx.adapter.copyToContainer(running, `${dir}/${name}`, '/tmp'), 'INVALID_ARGUMENT', {
        field: 'source',
      })
  })

  test('modes, links, times, owners, long names, empty and large files, in and out', async () => {
    const dir = tempDir('copy')
    const long = 'n'.repeat(200)
    mkdirSync(join(dir, 'd/empty'), { recursive: true })
    writeFileSync(join(dir, 'd/run'), '#!/bin/sh\n')
    chmodSync(join(dir, 'd/run'), 0o750)
    linkSync(join(dir, 'd/run'), join(dir, 'd/same'))
    symlinkSync('run', join(dir, 'd/link'))
    writeFileSync(join(dir, 'd', long), '')
    writeFileSync(join(dir, 'd/large'), Buffer.alloc(5 << 20, 'large '))
    writeFileSync(join(dir, 'd/sparse'), 'begin')
    truncateSync(join(dir, 'd/sparse'), 20 << 20)
    const id = await ctx.start()
    await ctx.adapter.copyToContainer(id, join(dir, 'd'), '/tmp')
    const said = await ctx.exec(
      id,
      'sh',
      '-c',
      'cd /tmp/d && stat -c "%n %a %u:%g %h" run same && readlink link && wc -c <sparse && ls',
    )
    assert.equal(
      said,
      `run 750 0:0 2\nsame 750 0:0 2\nrun\n${20 << 20}\nempty\nlarge\nlink\n${long}\nrun\nsame\nsparse\n`,
    )
    const tar = await read(id, '/tmp/d')
    const found = Object.fromEntries(listed(tar).map((entry) => [entry.name, entry]))
    assert.equal(found['d/run'].mode.slice(1), 'rwxr-x---')
    assert.equal(found['d/link'].link, 'run')
    const kinds = ['d/run', 'd/same'].map((name) => found[name].mode[0])
    assert.ok(kinds.includes('h'), 'one of them is a link to the other')
    assert.ok(content(tar, 'd/large').equals(Buffer.alloc(5 << 20, 'large ')))
    assert.equal(content(tar, 'd/sparse').length, 20 << 20)
    const here = join(dir, 'out')
    const none = await ctx.adapter.copyFromContainer(id, '/tmp/d', { to: here })
    assert.equal((await bytes(none)).length, 0)
    assert.deepEqual(readdirSync(here), ['d'])
    assert.equal(statSync(join(here, 'd/run')).mode & 0o7777, 0o750)
    assert.equal(statSync(join(here, 'd/run')).ino, statSync(join(here, 'd/same')).ino)
    assert.equal(readlinkSync(join(here, 'd/link')), 'run')
    assert.ok(readFileSync(join(here, 'd/large')).equals(Buffer.alloc(5 << 20, 'large ')))
    const { size, blocks } = statSync(join(here, 'd/sparse'))
    assert.ok(size === 20 << 20 && blocks * 512 < 1 << 20, `a hole of ${size} takes ${blocks * 512} bytes`)
    const error = await fails(ctx.adapter.copyFromContainer(id, '/tmp/d', { to: here }), 'NAME_IN_USE')
    assert.equal(error.details.path, join(here, 'd'))
    assert.deepEqual(readdirSync(here), ['d'])
  })

  test('a tar stream, and a stream that is none or fails', async () => {
    const id = await ctx.start()
    const tar = made('mkdir a; echo x >a/b; chmod 600 a/b; ln -s b a/c')
    await ctx.adapter.copyToContainer(id, Readable.from([tar.subarray(0, 700), tar.subarray(700)]), '/tmp')
    assert.equal(await ctx.exec(id, 'sh', '-c', 'cat /tmp/a/c; stat -c %a /tmp/a/b'), 'x\n600\n')
    const put = (stream, path = '/tmp') => ctx.adapter.copyToContainer(id, stream, path)
    await fails(put(Readable.from([tar]), '/tmp/a/b'), 'INVALID_ARGUMENT', { field: 'containerPath' })
    await fails(put(Readable.from([tar]), '/none'), 'INVALID_ARGUMENT', { field: 'containerPath' })
    await fails(put(Readable.from([Buffer.alloc(10_000, 'garbage ')])), 'INVALID_ARGUMENT', { field: 'source' })
    const broken = new Readable({
      read() {
        this.destroy(new Error('the disk is gone'))
      },
    })
    await assert.rejects(put(broken), /the disk is gone/)
  })

  test('volumes are reached, also of one that does not run; what may not be written is not', async () => {
    const dir = tempDir('copy')
    writeFileSync(join(dir, 'f'), 'in a volume')
    const volume = await ctx.volume()
    const volumes = [
      { host: volume, container: '/data' },
      { host: volume, container: '/fixed', readOnly: true },
    ]
    const over = await ctx.ran('echo before >/data/before', { volumes })
    await ctx.adapter.copyToContainer(over, join(dir, 'f'), '/data')
    const id = await ctx.start({ volumes })
    assert.equal(await cat(id, '/data/f'), 'in a volume')
    assert.equal(content(await read(over, '/fixed/before'), 'before').toString(), 'before\n')
    for (const one of [id, over])
      await fails(ctx.adapter.copyToContainer(one, join(dir, 'f'), '/fixed'), 'PERMISSION_DENIED')
    const locked = await ctx.ran('true', { volumes, readOnlyRootfs: true })
    await fails(ctx.adapter.copyToContainer(locked, join(dir, 'f'), '/etc'), 'PERMISSION_DENIED')
    // It has no place for its volume yet.
    const name = ctx.name()
    ctx.discard(name)
    const made = await ctx.adapter.createContainer({
      name,
      image: ctx.backend.image,
      volumes: [{ host: volume, container: '/none/there' }],
    })
    assert.match(content(await read(made, '/etc/passwd'), 'passwd').toString(), /^root:/)
  })

  test('links of a container lead nowhere but in it', async () => {
    const dir = tempDir('copy')
    writeFileSync(join(dir, 'f'), 'from outside')
    const secret = join(dir, 'secret')
    writeFileSync(secret, 'a secret of this computer')
    const script = `
      mkdir -p /trap /etc && cd /trap && echo "of the container" >/etc/hostfile
      ln -s / root; ln -s ${dir} out; ln -s ../../../../../../../..${dir} up; ln -s ${secret} secret; ln -s loop loop
      ln -s /etc/hostfile abs; ln -s /proc/1/root proc; ln -s /nowhere dangling`
    const id = await ctx.start()
    await ctx.exec(id, 'sh', '-c', script)
    const stopped = await ctx.ran(script)
    for (const one of [id, stopped]) {
      assert.deepEqual(
        listed(await read(one, '/trap/secret')).map(({ link }) => link),
        [secret],
      )
      for (const path of [
        '/trap/out/secret',
        '/trap/up/secret',
        '/trap/out/.',
        '/trap/up/',
        '/trap/loop/x',
        '/trap/loop/.',
      ])
        await fails(read(one, path), 'INVALID_ARGUMENT', { field: 'containerPath' })
      assert.match(content(await read(one, '/trap/root/etc/hostfile'), 'hostfile').toString(), /of the container/)
      await ctx.adapter.copyToContainer(one, join(dir, 'f'), '/trap/abs')
      assert.equal(content(await read(one, '/etc/hostfile'), 'hostfile').toString(), 'from outside')
      for (const path of ['/trap/out', '/trap/up', '/trap/loop'])
        await fails(ctx.adapter.copyToContainer(one, join(dir, 'f'), `${path}/f`), 'INVALID_ARGUMENT')
      // A tar that climbs, and one that makes a link to write through: unpacked in the container, or refused.
      const up = '../'.repeat(12)
      for (const entries of [
        [{ name: `${up.slice(0, -1)}${dir}/evil`, data: 'evil' }],
        [{ name: `${dir}/evil`, data: 'evil' }],
        [
          { name: 'l', link: dir },
          { name: 'l/evil', data: 'evil' },
        ],
        [
          { name: 'r', link: `${up}${dir}` },
          { name: 'r/evil', data: 'evil' },
        ],
      ])
        await ctx.adapter.copyToContainer(one, Readable.from([tarOf(entries)]), '/trap').catch((error) => {
          assert.ok(['INVALID_ARGUMENT', 'ENGINE_ERROR'].includes(error.code), error.message)
        })
    }
    assert.deepEqual(readdirSync(dir).sort(), ['f', 'secret'])
    assert.equal(readFileSync(secret, 'utf8'), 'a secret of this computer')
  })

  test('what a container gives is not believed on this computer', async () => {
    const dir = tempDir('copy')
    const id = await ctx.start()
    await ctx.exec(
      id,
      'sh',
      '-ec',
      `mkdir /w && cd /w && mkdir link up fifo set
       ln -s /etc link/x; ln -s ../../.. up/x; mkfifo fifo/x; echo x >set/x; chmod 6777 set/x`,
    )
    for (const name of ['link', 'up', 'fifo']) {
      await fails(ctx.adapter.copyFromContainer(id, `/w/${name}`, { to: join(dir, 'to') }), 'ARCHIVE_UNSAFE')
      assert.deepEqual(readdirSync(join(dir, 'to')), [], name)
    }
    await ctx.adapter.copyFromContainer(id, '/w/set', { to: join(dir, 'to') })
    assert.equal(lstatSync(join(dir, 'to/set/x')).mode & 0o7000, 0)
    await fails(ctx.adapter.copyFromContainer(id, '/w/set', { to: join(dir, 'no/such') }), 'INVALID_ARGUMENT', {
      field: 'to',
    })
  })

  test('no device of a container becomes one of this computer', { needs: 'powers' }, async () => {
    const to = join(tempDir('copy'), 'to')
    const id = await ctx.start()
    await ctx.exec(id, 'sh', '-ec', 'mkdir /w; mknod /w/x c 1 3')
    await fails(ctx.adapter.copyFromContainer(id, '/w', { to }), 'ARCHIVE_UNSAFE')
    assert.deepEqual(readdirSync(to), [])
  })

  test('whoever is not trusted goes through no link, and reaches nothing of the engine itself', async () => {
    const dir = realpathSync(tempDir('copy'))
    for (const name of ['d', 'secret']) {
      mkdirSync(join(dir, name))
      writeFileSync(join(dir, name, 'f'), name)
    }
    symlinkSync('secret', join(dir, 'link'))
    const id = await ctx.start()
    const window = ctx.adapter.restricted()
    const [put, get] = [
      // As it is spelt: `join` takes what follows the last slash away.
      (path) => window.copyToContainer(id, path, '/tmp'),
      (to) => window.copyFromContainer(id, '/tmp/f', { to }),
    ]
    await put(join(dir, 'd/f'))
    await get(join(dir, 'd/new'))
    assert.equal(readFileSync(join(dir, 'd/new/f'), 'utf8'), 'd')
    for (const path of ['link/f', 'link/.', 'link/'])
      await fails(put(`${dir}/${path}`), 'INVALID_ARGUMENT', { field: 'source' })
    for (const path of ['link', 'link/new']) await fails(get(join(dir, path)), 'INVALID_ARGUMENT', { field: 'to' })
    assert.deepEqual(readdirSync(join(dir, 'secret')), ['f'])
    const own = ctx.backend.ownFile?.()
    if (own === undefined) return
    for (const path of [own, dirname(own), dirname(dirname(own)), join(own, 'new')]) {
      await fails(put(path), 'PERMISSION_DENIED', { field: 'source' })
      await fails(get(path), 'PERMISSION_DENIED', { field: 'to' })
    }
    symlinkSync(dirname(own), join(dir, 'own'))
    await fails(put(join(dir, 'own')), 'PERMISSION_DENIED', { field: 'source' })
    await fails(get(join(dir, 'own')), 'PERMISSION_DENIED', { field: 'to' })
  })

  test('a file of nothing but its size: read slowly, left in the middle, and unpacked as a hole', async () => {
    const id = await ctx.start()
    await ctx.exec(
      id,
      'sh',
      '-c',
      'truncate -s 1T /huge 2>/dev/null || dd if=/dev/null of=/huge bs=1M seek=1048576; truncate -s 64M /hole',
    )
    const stream = await ctx.adapter.copyFromContainer(id, '/huge')
    for await (const chunk of stream) {
      assert.ok(chunk.length > 0)
      break
    }
    assert.ok(stream.destroyed)
    const dir = tempDir('copy')
    await ctx.adapter.copyFromContainer(id, '/hole', { to: dir })
    const { size, blocks } = statSync(join(dir, 'hole'))
    assert.ok(size === 64 << 20 && blocks * 512 < 1 << 20)
    const controller = new AbortController()
    const aborted = fails(
      ctx.adapter.copyFromContainer(id, '/huge', { to: join(dir, 'to'), signal: controller.signal }),
      'ABORTED',
    )
    controller.abort()
    await aborted
  })

  test('a start waits for what is being written, which can be aborted; a pipe in its place is replaced', async () => {
    const name = ctx.name()
    ctx.discard(name)
    const id = await ctx.adapter.createContainer({ name, image: ctx.backend.image, command: IDLE })
    const tar = tarOf([
      { name: 'large', data: Buffer.alloc(8 << 20, 'large ') },
      { name: 'last', data: 'last' },
    ])
    const half = 6 << 20
    let [taken, goOn] = [false, undefined]
    const held = new Promise((resolve) => {
      goOn = resolve
    })
    async function* inHalves() {
      for (let at = 0; at < half; at += 65_536) yield tar.subarray(at, Math.min(at + 65_536, half))
      taken = true
      await held
      yield tar.subarray(half)
    }
    const order = []
    const copied = ctx.adapter.copyToContainer(id, Readable.from(inHalves()), '/tmp').then(() => order.push('copied'))
    await waitFor('half of it', () => taken)
    const started = ctx.adapter.startContainer(id).then(() => order.push('started'))
    for (let i = 0; i < 10; i++)
      assert.deepEqual(await ctx.adapter.listContainers({ filters: { id: [id], status: ['running'] } }), [])
    goOn()
    await Promise.all([copied, started])
    assert.deepEqual(order, ['copied', 'started'])
    assert.equal(await ctx.exec(id, 'sh', '-c', 'wc -c </tmp/large; cat /tmp/last'), `${8 << 20}\nlast`)

    await ctx.exec(id, 'mkfifo', '/tmp/pipe')
    const file = join(tempDir('copy'), 'file')
    writeFileSync(file, 'a file')
    await ctx.adapter.copyToContainer(id, file, '/tmp/pipe')
    assert.equal(await cat(id, '/tmp/pipe'), 'a file')

    const entry = tarOf([{ name: 'again', data: Buffer.alloc(1 << 20, 'again ') }]).subarray(0, -1024)
    let begun = 0
    const endless = new Readable({
      read() {
        begun += 1
        this.push(entry)
      },
    })
    const controller = new AbortController()
    const aborted = ctx.adapter.copyToContainer(id, endless, '/tmp', { signal: controller.signal })
    await waitFor('its beginning', () => begun > 10)
    controller.abort()
    await fails(aborted, 'ABORTED')
    assert.ok(endless.destroyed)
    // Nothing of it is in the way of the next one.
    await ctx.adapter.copyToContainer(id, file, '/tmp')
    assert.equal(await cat(id, '/tmp/file'), 'a file')
  })

  test('an image without a single program of the kind', async () => {
    const id = await ctx.start()
    await ctx.exec(id, 'sh', '-c', 'mkdir /kept && echo x >/kept/x && rm -f /bin/tar /bin/readlink /bin/cat')
    const dir = tempDir('copy')
    writeFileSync(join(dir, 'f'), 'f')
    await ctx.adapter.copyToContainer(id, join(dir, 'f'), '/kept')
    assert.deepEqual(
      listed(await read(id, '/kept'))
        .map(({ name }) => name)
        .sort(),
      ['kept', 'kept/f', 'kept/x'],
    )
  })
})
