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
    const { exitCode } = await ctx.adapter.execInContainer(id, ['/no/such/program'])
    assert.ok([126, 127].includes(exitCode), `exit code ${exitCode}`)
  })

  test('a container that does not run is INVALID_STATE', async () => {
    const exited = await ctx.ran('exit 0')
    await fails(ctx.adapter.execInContainer(exited, ['true']), 'INVALID_STATE')
    const paused = await ctx.start()
    await ctx.adapter.pauseContainer(paused)
    await fails(ctx.adapter.execInContainer(paused, ['true']), 'INVALID_STATE')
  })
})
