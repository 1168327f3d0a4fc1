import { waitFor } from '../support/wait.mjs'
import { assert, fails, LITERAL, subject } from './kit.mjs'

export const exec = subject('exec', (ctx, test) => {
  test('exit code 7 is an answer, not an error', async () => {
    const id = await ctx.start()
    const result = await ctx.adapter.execInContainer(id, ['sh', '-c', 'echo out; echo err >&2; exit 7'])
    assert.deepEqual(result, { exitCode: 7, stdout: Buffer.from('out\n'), stderr: Buffer.from('err\n') })
  })

  test('arguments pass literally', async () => {
    const id = await ctx.start()
    const out = await ctx.exec(id, 'sh', '-c', 'for a; do printf "%s\\0" "$a"; done', 'sh', ...LITERAL)
    assert.deepEqual(out.split('\0').slice(0, -1), LITERAL)
  })

  test('env, workdir and user', async () => {
    const id = await ctx.start({ env: { KEPT: 'yes' } })
    const script = 'printf "%s|%s|%s|%s" "$KEPT" "$GIVEN" "$PWD" "$(id -u):$(id -g)"'
    const options = { env: { GIVEN: LITERAL.join('') }, workdir: '/tmp', user: '1234:56' }
    const { stdout } = await ctx.adapter.execInContainer(id, ['sh', '-c', script], options)
    assert.equal(stdout.toString(), `yes|${LITERAL.join('')}|/tmp|1234:56`)
  })

  test('input is written and closed; a megabyte goes there and back', async () => {
    const id = await ctx.start()
    const input = Buffer.alloc(1 << 20, 'ab\0c\xff', 'latin1')
    const { stdout } = await ctx.adapter.execInContainer(id, ['cat'], { input })
    assert.ok(stdout.equals(input))
    const text = await ctx.adapter.execInContainer(id, ['wc', '-c'], { input: 'żółw' })
    assert.equal(text.stdout.toString().trim(), '7')
    const none = await ctx.adapter.execInContainer(id, ['cat'])
    assert.equal(none.stdout.length, 0)
  })

  test('input that the program does not read is no error', async () => {
    const id = await ctx.start()
    const { exitCode } = await ctx.adapter.execInContainer(id, ['sh', '-c', 'exit 3'], { input: Buffer.alloc(4 << 20) })
    assert.equal(exitCode, 3)
  })

  test('much output of both kinds is whole', async () => {
    const id = await ctx.start()
    const script = 'head -c 5000000 /dev/zero; head -c 2000000 /dev/zero >&2'
    const { stdout, stderr } = await ctx.adapter.execInContainer(id, ['sh', '-c', script])
    assert.deepEqual([stdout.length, stderr.length], [5_000_000, 2_000_000])
  })

  test('many at once', async () => {
    const id = await ctx.start()
    const results = await Promise.all(
      Array.from({ length: 10 }, (_, i) => ctx.adapter.execInContainer(id, ['sh', '-c', `echo ${i}; exit ${i}`])),
    )
    assert.deepEqual(
      results.map((r) => [r.exitCode, r.stdout.toString()]),
      results.map((_, i) => [i, `${i}\n`]),
    )
  })

  test('a program that is not there ends as it does in a shell', async () => {
    const id = await ctx.start()
    for (const [program, code] of [
      ['/no/such/program', 127],
      ['no-such-program', 127],
      ['/etc', 126],
      ['/etc/passwd', 126],
    ]) {
      const { exitCode, stdout, stderr } = await ctx.adapter.execInContainer(id, [program])
      assert.deepEqual([exitCode, stdout.length], [code, 0], `${program}: ${stdout}${stderr}`)
      assert.ok(stderr.includes(program), String(stderr))
    }
    for (const code of [126, 127]) {
      const script = `echo out; echo err >&2; exit ${code}`
      const own = await ctx.adapter.execInContainer(id, ['sh', '-c', script])
      assert.deepEqual(own, { exitCode: code, stdout: Buffer.from('out\n'), stderr: Buffer.from('err\n') })
    }
  })

  test('a user or a directory that the container does not have', async () => {
    const id = await ctx.start()
    const run = (options) => ctx.adapter.execInContainer(id, ['true'], options)
    for (const user of ['no-such-user', '0:no-such-group'])
      await fails(run({ user }), 'INVALID_ARGUMENT', { field: 'user' })
    for (const workdir of ['/no/such/directory', '/etc/passwd'])
      await fails(run({ workdir }), 'INVALID_ARGUMENT', { field: 'workdir' })
  })

  test('a program that prints too much is ended, as one whose caller leaves', async () => {
    const id = await ctx.start()
    const gone = (word) =>
      waitFor(`no ${word}`, async () => !(await ctx.exec(id, 'ps')).includes(word), { timeoutMs: 120_000 })
    const limits = { maxOutput: 1 << 20 }
    const exact = await ctx.adapter.execInContainer(
      id,
      ['sh', '-c', 'head -c 1000000 /dev/zero; head -c 48576 /dev/zero >&2'],
      limits,
    )
    assert.equal(exact.stdout.length + exact.stderr.length, limits.maxOutput)
    const error = await fails(ctx.adapter.execInContainer(id, ['yes', 'and again'], limits), 'TOO_LARGE')
    assert.equal(error.details.limit, limits.maxOutput)
    await gone('and again')
    // 64 MiB where nothing is said.
    await fails(ctx.adapter.execInContainer(id, ['yes', 'for ever']), 'TOO_LARGE')
    await gone('for ever')
    const stop = new AbortController()
    const call = ctx.adapter.execInContainer(id, ['sh', '-c', 'echo $$ >/begun; exec sleep 12345'], {
      signal: stop.signal,
    })
    await waitFor(
      'its begin',
      async () => (await ctx.adapter.execInContainer(id, ['test', '-s', '/begun'])).exitCode === 0,
    )
    stop.abort()
    await fails(call, 'ABORTED')
    await gone('12345')
    await fails(ctx.adapter.execInContainer(id, ['sleep', '23456'], { timeoutMs: 1500 }), 'TIMEOUT')
    await gone('23456')
  })

  test('a container that does not run is INVALID_STATE', async () => {
    const exited = await ctx.ran('exit 0')
    await fails(ctx.adapter.execInContainer(exited, ['true']), 'INVALID_STATE')
  })

  test('a container that is paused is INVALID_STATE', { needs: 'cgroups' }, async () => {
    const paused = await ctx.start()
    await ctx.adapter.pauseContainer(paused)
    await fails(ctx.adapter.execInContainer(paused, ['true']), 'INVALID_STATE')
  })
})
