import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'
import { assert, fails, LITERAL, subject } from './kit.mjs'
import { tarOfDirectory } from './tars.mjs'

/** A directory with these files. */
function directory(files) {
  const dir = tempDir('build')
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true })
    writeFileSync(join(dir, name), text)
  }
  return dir
}

/** What processes of this machine show of themselves, which all its users can read. */
function shown() {
  const read = (path) => {
    try {
      return readFileSync(path, 'latin1')
    } catch {
      return ''
    }
  }
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => `${read(`/proc/${pid}/cmdline`)}\n${read(`/proc/${pid}/environ`)}`)
}

export const build = subject('build', (ctx, test) => {
  const tag = () => {
    const name = `contract/${ctx.name('built')}:1`
    ctx.discardImage(name)
    return name
  }
  /** Builds, and gives what it told, too. */
  async function built(context, options = {}) {
    const told = []
    const tags = options.tags ?? [tag()]
    const { id } = await ctx.adapter.buildImage(context, { tags, onProgress: (p) => told.push(p), ...options })
    assert.match(id, /^sha256:[0-9a-f]{64}$/)
    return { id, image: tags[0], told }
  }
  const log = (told) => told.map((p) => (p.type === 'log' ? p.text : '')).join('')
  const states = (told, word) =>
    told.filter((p) => p.type === 'step' && p.name.includes(word)).map(({ state }) => state)
  const run = async (image, ...argv) => {
    const id = await ctx.start({ image })
    return ctx.exec(id, ...argv)
  }
  const base = () => `FROM ${ctx.backend.remoteImage}`

  test('of two stages, with a secret, arguments, labels and what is left out; then of the cache', {
    needs: 'build',
  }, async () => {
    const secret = `hunter2-${randomBytes(8).toString('hex')}`
    const dir = directory({
      Dockerfile: `ARG BASE
FROM $BASE AS make
ARG WORD
COPY . /src
RUN --mount=type=cache,target=/cache echo kept >/cache/x
RUN --mount=type=secret,id=token test "$(cat /run/secrets/token)" = ${secret.slice(0, 8)}"$(tail -c 16 /run/secrets/token)"
RUN --mount=type=secret,id=token echo "it is $(cat /run/secrets/token)." && wc -c </run/secrets/token >/length
RUN echo "$WORD" >/word && find /src -type f | sort >/listing
FROM make AS unused
RUN exit 77
FROM $BASE
COPY --from=make /word /listing /length /
`,
      '.dockerignore': '# a comment\n**/*.tmp\nnode_modules\n*.md\n!README.md\nDockerfile\n',
      'README.md': 'read me',
      'NOTES.md': 'notes',
      // A BuildKit that is kept has the last run's cache.
      'src/a.js': secret.slice(-8),
      'src/b.tmp': 'b',
      'node_modules/x/index.js': 'x',
    })
    const options = {
      args: { BASE: ctx.backend.remoteImage, WORD: LITERAL.filter((word) => !word.includes('\n')).join(' ') },
      labels: { 'com.example.odd': 'a "b", c=\'d\'\n$(e) 日本語', 'com.example.empty': '' },
      secrets: { token: secret },
    }
    const first = await built(dir, options)
    assert.equal(await run(first.image, 'cat', '/word'), `${options.args.WORD}\n`)
    assert.equal(await run(first.image, 'cat', '/length'), `${secret.length}\n`)
    const listing = (await run(first.image, 'cat', '/listing')).trimEnd().split('\n')
    const own = ['/src/.dockerignore', '/src/Dockerfile']
    assert.deepEqual(
      listing.filter((path) => !own.includes(path)),
      ['/src/README.md', '/src/src/a.js'],
    )
    const details = await ctx.adapter.inspectImage(first.image)
    assert.equal(details.id, first.id)
    for (const [name, value] of Object.entries(options.labels)) assert.equal(details.labels[name], value)

    assert.ok(log(first.told).includes('it is ***.'), log(first.told))
    const history = await ctx.adapter.imageHistory(first.image)
    assert.ok(!JSON.stringify([first.told, details, history]).includes(secret))
    assert.deepEqual(states(first.told, 'cat /run/secrets/token)."'), ['running', 'done'])
    const sent = first.told.filter(({ type, step }) => type === 'bytes' && step === 0)
    assert.ok(sent.at(-1).current > 2000 && sent.at(-1).current < 100_000, JSON.stringify(sent))
    assert.deepEqual(states(first.told, 'exit 77'), [])

    const second = await built(dir, options)
    assert.ok(states(second.told, 'cat /run/secrets/token)."').includes('cached'), JSON.stringify(second.told))
    assert.equal(log(second.told), '')
    const third = await built(dir, { ...options, noCache: true })
    assert.ok(states(third.told, 'cat /run/secrets/token)."').includes('done'))
  })

  test('the Dockerfile and the stage that are asked for; several names, or none', { needs: 'build' }, async () => {
    const dir = directory({
      'docker/prod.Dockerfile': `${base()} AS one\nRUN echo one >/stage\n${base()} AS two\nRUN echo two >/stage\n`,
      'docker/prod.Dockerfile.dockerignore': 'docker\n',
    })
    const dockerfile = 'docker/prod.Dockerfile'
    const tags = [tag(), tag()]
    const one = await built(dir, { dockerfile, target: 'one', tags })
    for (const name of tags) assert.equal((await ctx.adapter.inspectImage(name)).id, one.id)
    assert.equal(await run(tags[1], 'cat', '/stage'), 'one\n')
    const two = await built(dir, { dockerfile })
    assert.equal(await run(two.image, 'cat', '/stage'), 'two\n')
    const none = await built(dir, { dockerfile, tags: [], noCache: true })
    ctx.discardImage(none.id)
    assert.equal(await run(none.id, 'cat', '/stage'), 'two\n')
    await fails(built(dir, { dockerfile, target: 'three' }), 'INVALID_ARGUMENT', { field: 'target', naming: 'three' })
  })

  test('a tar is sent as it is, and links are links', { needs: 'build' }, async () => {
    const dir = directory({
      Dockerfile: `${base()}\nCOPY . /src\nRUN cd /src && ls -A >/listing && readlink out >/link\n`,
      '.dockerignore': 'a\n',
      a: 'a',
    })
    symlinkSync('/etc/passwd', join(dir, 'out'))
    const ofTar = await built(Readable.from([tarOfDirectory(dir)]))
    assert.equal(await run(ofTar.image, 'cat', '/listing', '/link'), '.dockerignore\nDockerfile\na\nout\n/etc/passwd\n')
    const ofDirectory = await built(dir)
    const listing = await run(ofDirectory.image, 'cat', '/listing', '/link')
    assert.match(listing, /^\.dockerignore\nDockerfile\nout\n\/etc\/passwd\n$/)
    await fails(built(Readable.from([Buffer.from('no tar '.repeat(1000))])), 'INVALID_ARGUMENT')
    const broken = new Readable({ read() {} })
    const failing = fails(built(broken), 'INVALID_ARGUMENT', { field: 'context' })
    broken.push(tarOfDirectory(dir).subarray(0, 1024))
    broken.destroy(new Error('no more'))
    await failing
  })

  test('what is wrong with a build is said with its code', { needs: 'build' }, async () => {
    const of = (Dockerfile, options) => built(directory({ Dockerfile }), options)
    const failed = await fails(of(`${base()}\nRUN echo before; echo why >&2; exit 3\n`), 'ENGINE_ERROR')
    assert.match(failed.details.step, /exit 3/)
    // Its two streams come as they come.
    assert.deepEqual(failed.details.log.split('\n').sort(), ['before', 'why'])
    await fails(of('FRUM x\n'), 'INVALID_ARGUMENT', { field: 'dockerfile' })
    await fails(of(''), 'INVALID_ARGUMENT', { field: 'dockerfile' })
    await fails(built(Readable.from([tarOfDirectory(directory({ a: '' }))])), 'INVALID_ARGUMENT', {
      field: 'dockerfile',
    })
    const secret = `${base()}\nRUN --mount=type=secret,id=token,required=true cat /run/secrets/token\n`
    await fails(of(secret), 'INVALID_ARGUMENT', { field: 'secrets', naming: 'token' })
    const missing = `${ctx.backend.remoteImage.split('/')[0]}/no/such:image`
    await fails(of(`FROM ${missing}\n`), 'IMAGE_NOT_FOUND', { naming: 'no/such' })
  })

  test('a build gets no powers over the machine', { needs: 'build' }, async () => {
    for (const flag of ['--security=insecure', '--network=host']) {
      // A builder may not even know the word.
      const dir = directory({ Dockerfile: `${base()}\nRUN ${flag} id\n` })
      const error = await ctx.adapter.buildImage(dir).then(
        () => assert.fail(`${flag} was granted`),
        (e) => e,
      )
      assert.ok(['PERMISSION_DENIED', 'INVALID_ARGUMENT'].includes(error.code), `${error.code}: ${error.message}`)
    }
  })

  test('aborted, it ends with its programs, and leaves no image; nobody saw its secret', {
    needs: 'build',
  }, async () => {
    const [secret, mark] = [`hunter3-${randomBytes(8).toString('hex')}`, String(10_000_000 + (process.pid % 1_000_000))]
    const dir = directory({
      Dockerfile: `${base()}\nRUN --mount=type=secret,id=token echo begun && sleep ${mark} && echo ${randomBytes(4).toString('hex')}\n`,
    })
    const image = tag()
    const controller = new AbortController()
    let begun
    const running = new Promise((resolve) => (begun = resolve))
    const outcome = fails(
      ctx.adapter.buildImage(dir, {
        tags: [image],
        secrets: { token: secret },
        signal: controller.signal,
        onProgress: (p) => p.type === 'log' && p.text.includes('begun') && begun(),
      }),
      'ABORTED',
    )
    await Promise.race([running, outcome.then(() => assert.fail('it has ended'))])
    assert.ok(!shown().some((text) => text.includes(secret) && !text.startsWith(process.execPath)))
    controller.abort()
    await outcome
    await waitFor('the end of its program', () => !shown().some((text) => text.startsWith(`sleep\0${mark}`)))
    assert.equal(await ctx.adapter.imageExists(image), false)
  })

  test('a private image to begin with: by the user’s credentials, unless they may not be used', {
    needs: 'build',
  }, async () => {
    const { privateImage, account } = ctx.backend
    ctx.discardImage(privateImage)
    const config = tempDir('docker-config')
    const auth = Buffer.from(`${account.username}:${account.password}`).toString('base64')
    writeFileSync(join(config, 'config.json'), JSON.stringify({ auths: { [privateImage.split('/')[0]]: { auth } } }))
    const before = process.env.DOCKER_CONFIG
    ctx.undo(() => {
      if (before === undefined) delete process.env.DOCKER_CONFIG
      else process.env.DOCKER_CONFIG = before
    })
    process.env.DOCKER_CONFIG = config
    const dir = directory({ Dockerfile: `FROM ${privateImage}\nCOPY Dockerfile /\n` })
    await fails(built(dir, { credentials: 'none' }), 'REGISTRY_AUTH')
    await built(dir)
  })

  test('files of the same size and time are each context’s own', { needs: 'build' }, async () => {
    const time = new Date('2026-01-01')
    for (const word of ['one', 'two']) {
      const dir = directory({ Dockerfile: `${base()}\nCOPY word /\n`, word })
      for (const name of ['Dockerfile', 'word']) utimesSync(join(dir, name), time, time)
      assert.equal(await run((await built(dir)).image, 'cat', '/word'), word)
    }
  })

  test('of a context that fails behind whole files there is no image', { needs: 'build' }, async () => {
    const tar = tarOfDirectory(directory({ Dockerfile: `${base()}\nCOPY word /\n`, word: 'cut' }))
    const last = tar.findLastIndex((byte) => byte !== 0)
    async function* cut() {
      yield tar.subarray(0, Math.ceil(last / 512) * 512)
      throw new Error('no more')
    }
    const image = tag()
    await fails(built(Readable.from(cut()), { tags: [image] }), 'INVALID_ARGUMENT', { field: 'context' })
    assert.equal(await ctx.adapter.imageExists(image), false)
  })

  test('who is not trusted leaves nothing in others’ caches', { needs: 'build' }, async () => {
    const id = randomBytes(8).toString('hex')
    const window = ctx.adapter.restricted()
    /** What is there before it leaves something itself; never of the cache of steps. */
    const found = async (adapter, n) => {
      const mount = `RUN --mount=type=cache,id=${id},target=/c`
      const dir = directory({ Dockerfile: `${base()}\n${mount} : ${n}; cat /c/x >/was 2>&1; echo poison >/c/x\n` })
      const image = tag()
      await adapter.buildImage(dir, { tags: [image] })
      return run(image, 'cat', '/was')
    }
    assert.match(await found(window, 1), /No such file/)
    assert.equal(await found(window, 2), 'poison\n')
    assert.match(await found(ctx.adapter, 3), /No such file/)
    const dir = directory({ Dockerfile: base() })
    const args = { BUILDKIT_CACHE_MOUNT_NS: 'another' }
    const field = 'args.BUILDKIT_CACHE_MOUNT_NS'
    await fails(window.buildImage(dir, { args }), 'PERMISSION_DENIED', { field })
  })

  test('without a BuildKit it is said what to do', { needs: 'noBuild' }, async () => {
    const error = await fails(built(directory({ Dockerfile: base() })), 'NOT_INSTALLED', { naming: 'BuildKit' })
    assert.match(error.hint, /buildkitd/)
  })

  test('an engine elsewhere named, in place of a directory', async () => {
    for (const context of ['https://example.com/repo.git', 'git@example.com:a/b.git', '-'])
      await fails(ctx.adapter.buildImage(context), 'INVALID_ARGUMENT', { field: 'context' })
  })
})
