import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { assert, bytes, fails, LineReader, subject } from './kit.mjs'

/** Goes on from one line to the next when it is told so, by `next(id)`: so the times of its lines are in order. */
const STEPS = [
  'sh',
  '-c',
  // A step's writer may still have the pipe open when the next step begins to read: that read ends without a line.
  'step() { until read x </step; do :; done; }; mkfifo /step; echo out1; step; echo err2 >&2; step; echo out3; step',
]

export const logs = subject('logs', (ctx, test) => {
  const next = (id) => ctx.exec(id, 'sh', '-c', 'while ! test -p /step; do :; done; echo >/step')

  /** A container that has written out1, err2 and out3 and goes on running. */
  async function stepped() {
    const id = await ctx.start({ command: STEPS })
    const lines = new LineReader(await ctx.adapter.getContainerLogs(id, { follow: true }))
    assert.equal(await lines.next(), 'out1')
    await next(id)
    assert.equal(await lines.next(), 'err2')
    await next(id)
    assert.equal(await lines.next(), 'out3')
    return { id, lines }
  }

  test('stdout and stderr come in the order they were written', async () => {
    const { id } = await stepped()
    assert.equal(await ctx.log(id), 'out1\nerr2\nout3\n')
    assert.equal(await ctx.log(id, { stderr: false }), 'out1\nout3\n')
    assert.equal(await ctx.log(id, { stdout: false }), 'err2\n')
  })

  test('without follow the stream ends where the log does, the container running on', async () => {
    const { id } = await stepped()
    assert.equal(await ctx.log(id), 'out1\nerr2\nout3\n')
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
  })

  test('follow ends by itself after the last byte, nothing lost', { needs: 'lastWords' }, async () => {
    const id = await ctx.start({
      command: ['sh', '-c', 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done'],
    })
    const text = await ctx.log(id, { follow: true })
    const expected = Array.from({ length: 20_000 }, (_, i) => `${i + 1}\n`).join('')
    assert.equal(text.length, expected.length)
    assert.ok(text === expected)
  })

  test('follow of a container that has ended gives its log and ends', async () => {
    const id = await ctx.printed('done\n', 'echo done')
    await ctx.adapter.stopContainer(id)
    assert.equal(await ctx.log(id, { follow: true }), 'done\n')
  })

  test('tail', async () => {
    const id = await ctx.printed('1\n2\n3\n4\n5\n', 'for i in 1 2 3 4 5; do echo $i; done')
    assert.equal(await ctx.log(id, { tail: 2 }), '4\n5\n')
    assert.equal(await ctx.log(id, { tail: 100 }), '1\n2\n3\n4\n5\n')
    assert.equal(await ctx.log(id, { tail: 0 }), '')
  })

  test('tail 0 with follow gives only what comes', async () => {
    const { id } = await stepped()
    const lines = new LineReader(await ctx.adapter.getContainerLogs(id, { follow: true, tail: 0 }))
    await ctx.adapter.stopContainer(id, 0)
    assert.equal(await lines.next(), undefined)
  })

  test('timestamps, and since', async () => {
    const { id } = await stepped()
    const stamped = (await ctx.log(id, { timestamps: true }))
      .trimEnd()
      .split('\n')
      .map((line) => line.split(' '))
    assert.deepEqual(
      stamped.map(([, text]) => text),
      ['out1', 'err2', 'out3'],
    )
    const times = stamped.map(([time]) => {
      assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d)$/)
      return Date.parse(time) / 1000
    })
    assert.ok(Math.abs(times[0] - Date.now() / 1000) < 60)
    assert.ok(times[0] < times[1] && times[1] < times[2], String(times))
    const between = (a, b) => (a + b) / 2
    assert.equal(await ctx.log(id, { since: between(times[0], times[1]) }), 'err2\nout3\n')
    assert.equal(await ctx.log(id, { since: between(times[1], times[2]) }), 'out3\n')
    assert.equal(await ctx.log(id, { since: Math.floor(times[0]) }), 'out1\nerr2\nout3\n')
    assert.equal(await ctx.log(id, { since: times[2] + 1000 }), '')
  })

  test('control characters and UTF-8 are kept, and a long line is one line', async () => {
    const text = 'żółw 🐋\x01\x1b[1m\r\n'
    const printed = `${text}\0\n${'x'.repeat(100_000)}\n`
    const script = `printf '%s\\000\\n' "$TEXT"; head -c 100000 /dev/zero | tr '\\0' x; echo`
    const id = await ctx.printed(printed, script, { env: { TEXT: text } })
    assert.equal(await ctx.log(id), printed)
  })

  test('it is a Readable: pipe, for await, on data, Buffers', async () => {
    const id = await ctx.printed('hello\n', 'echo hello')
    const stream = await ctx.adapter.getContainerLogs(id)
    assert.ok(stream instanceof Readable)
    const through = new PassThrough()
    const [piped] = await Promise.all([bytes(through), pipeline(stream, through)])
    assert.equal(piped.toString(), 'hello\n')
    for await (const chunk of await ctx.adapter.getContainerLogs(id)) assert.ok(Buffer.isBuffer(chunk))
    const listened = await ctx.adapter.getContainerLogs(id)
    let text = ''
    listened.setEncoding('utf8').on('data', (chunk) => (text += chunk))
    await once(listened, 'end')
    assert.equal(text, 'hello\n')
  })

  test('destroy closes the stream without an error, also while it waits', async () => {
    const { id } = await stepped()
    const stream = await ctx.adapter.getContainerLogs(id, { follow: true })
    const closed = once(stream, 'close')
    await once(stream, 'data')
    stream.destroy()
    await closed
    for await (const _ of await ctx.adapter.getContainerLogs(id, { follow: true })) break
  })

  test('a reader that stops gets all of it when it goes on', async () => {
    const line = `${'x'.repeat(9999)}\n`
    const script = 'line=$(head -c 9999 /dev/zero | tr "\\0" x); for i in $(seq 300); do echo "$line"; done'
    const id = await ctx.printed(line.repeat(300), script)
    const stream = await ctx.adapter.getContainerLogs(id)
    const [first] = await once(stream, 'data')
    stream.pause()
    await ctx.ran('exit 0')
    let size = first.length
    stream.on('data', (chunk) => (size += chunk.length)).resume()
    await once(stream, 'end')
    assert.equal(size, 3_000_000)
  })

  test('wrong options', async () => {
    const id = await ctx.ran('exit 0')
    for (const tail of [-1, 1.5, Number.NaN, Infinity, '5', null]) {
      await fails(ctx.adapter.getContainerLogs(id, { tail }), 'INVALID_ARGUMENT', { field: 'tail' })
    }
    for (const since of [-1, Number.NaN, Date.now(), '0', new Date()]) {
      await fails(ctx.adapter.getContainerLogs(id, { since }), 'INVALID_ARGUMENT', { field: 'since' })
    }
    await fails(ctx.adapter.getContainerLogs(id, { follow: 'yes' }), 'INVALID_ARGUMENT', { field: 'follow' })
    await fails(ctx.adapter.getContainerLogs(id, { stdout: false, stderr: false }), 'INVALID_ARGUMENT')
  })
})
