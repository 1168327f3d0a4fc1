import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { waitFor } from '../support/wait.mjs'
import { assert, bytes, fails, LITERAL, subject } from './kit.mjs'

const SYS_ADMIN = 1n << 21n

/** Whether root of this machine has every capability. */
function isWholeRoot() {
  const last = BigInt(readFileSync('/proc/sys/kernel/cap_last_cap', 'utf8').trim())
  const bounding = /CapBnd:\s*(\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]
  return BigInt(`0x${bounding}`) === (1n << (last + 1n)) - 1n
}

/** What a terminal has printed, read as a person would: until something stands there. */
class Screen {
  text = ''

  constructor(process) {
    this.process = process
    process.stdout.setEncoding('utf8').on('data', (text) => {
      this.text += text
    })
  }

  /** Waits for `what` behind all that was seen before; returns what stood in between. */
  async until(what) {
    await waitFor(`${what} on the screen, and there is ${JSON.stringify(this.text)}`, () => this.text.includes(what), {
      timeoutMs: 120_000,
    })
    const at = this.text.indexOf(what)
    const before = this.text.slice(0, at)
    this.text = this.text.slice(at + what.length)
    return before
  }

  async type(line) {
    this.process.stdin.write(line)
  }
}

export const processes = subject('processes', (ctx, test) => {
  const spawn = (id, argv, options) => ctx.adapter.spawnInContainer(id, argv, options)
  const shell = (id, script, options) => spawn(id, ['sh', '-c', script], options)
  /** All output and the end of a process. */
  const all = async (process) => {
    const [out, err, { exitCode }] = await Promise.all([
      bytes(process.stdout),
      process.stderr ? bytes(process.stderr) : undefined,
      process.exited,
    ])
    return { out: out.toString('latin1'), err: err?.toString('latin1'), exitCode }
  }
  const gone = (id, word) =>
    waitFor(`no ${word}`, async () => !(await ctx.exec(id, 'ps')).includes(word), { timeoutMs: 120_000 })
  const there = (id, word) =>
    waitFor(word, async () => (await ctx.exec(id, 'ps')).includes(word), { timeoutMs: 120_000 })

  test('its streams and its exit code; arguments pass literally', async () => {
    const id = await ctx.start()
    const process = await shell(id, 'echo out; echo err >&2; exit 7')
    assert.deepEqual(await all(process), { out: 'out\n', err: 'err\n', exitCode: 7 })
    assert.deepEqual(await process.exited, { exitCode: 7 })
    const { out } = await all(await spawn(id, ['sh', '-c', 'for a; do printf "%s\\0" "$a"; done', 'sh', ...LITERAL]))
    assert.deepEqual(Buffer.from(out, 'latin1').toString().split('\0').slice(0, -1), LITERAL)
  })

  test('env, workdir, user and privileged', async () => {
    const id = await ctx.start({ env: { KEPT: 'yes' } })
    const script = 'printf "%s|%s|%s|%s" "$KEPT" "$GIVEN" "$PWD" "$(id -u):$(id -g)"'
    const options = { env: { GIVEN: LITERAL.join('') }, workdir: '/tmp', user: '1234:56' }
    const { out } = await all(await shell(id, script, options))
    assert.equal(Buffer.from(out, 'latin1').toString(), `yes|${LITERAL.join('')}|/tmp|1234:56`)
    const script2 = 'echo "guest:x:321:654::/:" >>/etc/passwd; echo "more:x:77:guest" >>/etc/group'
    await ctx.exec(id, 'sh', '-c', script2)
    for (const user of ['guest', '321']) {
      const { out } = await all(await shell(id, 'id -u; id -g; id -G', { user }))
      assert.deepEqual(out.split('\n'), ['321', '654', '654 77', ''], user)
    }
    const capabilities = async (options) => {
      const { out } = await all(await shell(id, 'grep CapEff /proc/self/status', options))
      return BigInt(`0x${out.split(/\s+/)[1]}`)
    }
    const plain = await capabilities({})
    assert.equal(plain & SYS_ADMIN, 0n)
    // Docker gives all that there are, and fails where root itself lacks some.
    if (ctx.adapter.getRuntimeType() !== 'docker' || isWholeRoot())
      assert.equal((await capabilities({ privileged: true })) & SYS_ADMIN, SYS_ADMIN)
  })

  test('half-close: cat ends at the end of its input', async () => {
    const id = await ctx.start()
    const cat = await spawn(id, ['cat'])
    cat.stdin.write('one ')
    cat.stdin.end('two')
    assert.deepEqual(await all(cat), { out: 'one two', err: '', exitCode: 0 })
    const none = await spawn(id, ['cat'], { stdin: false })
    assert.equal(none.stdin, null)
    assert.deepEqual(await all(none), { out: '', err: '', exitCode: 0 })
    // Closed at once.
    for (let i = 0; i < 5; i++) {
      const cat = await spawn(id, ['cat'])
      cat.stdin.end()
      assert.equal((await all(cat)).exitCode, 0)
    }
  })

  test('20 MB go in and come back unchanged', async () => {
    const id = await ctx.start()
    const cat = await spawn(id, ['cat'])
    const piece = Buffer.from(Array.from({ length: 65_521 }, (_, i) => (i * 7 + (i >> 8)) & 0xff))
    const [sent, came] = [createHash('sha256'), createHash('sha256')]
    let size = 0
    function* pieces() {
      for (let i = 0; i < 20_000_000; i += piece.length) {
        sent.update(piece)
        size += piece.length
        yield piece
      }
    }
    let back = 0
    const read = (async () => {
      for await (const chunk of cat.stdout) {
        came.update(chunk)
        back += chunk.length
      }
    })()
    await pipeline(Readable.from(pieces()), cat.stdin)
    await read
    assert.equal((await cat.exited).exitCode, 0)
    assert.equal(back, size)
    assert.equal(came.digest('hex'), sent.digest('hex'))
  })

  test('100 MB come out whole; what nobody reads waits', { timeout: 600_000 }, async () => {
    const id = await ctx.start()
    const process = await shell(id, 'head -c 100000000 /dev/zero; echo end >&2')
    let size = 0
    let exited = false
    process.exited.then(() => {
      exited = true
    })
    for await (const chunk of process.stdout) {
      if (size === 0) assert.equal(exited, false)
      size += chunk.length
    }
    assert.equal(size, 100_000_000)
    assert.equal((await bytes(process.stderr)).toString(), 'end\n')
    assert.equal((await process.exited).exitCode, 0)
  })

  test('a stream that nobody wants holds up nothing', async () => {
    const id = await ctx.start()
    const process = await shell(id, 'head -c 3000000 /dev/zero >&2; echo out')
    process.stderr.destroy()
    assert.equal((await bytes(process.stdout)).toString(), 'out\n')
    const resumed = await shell(id, 'head -c 3000000 /dev/zero')
    resumed.stdout.resume()
    assert.equal((await resumed.exited).exitCode, 0)
  })

  test('listeners have all output when it has ended', async () => {
    const id = await ctx.start()
    const process = await shell(id, 'head -c 1000000 /dev/zero; head -c 500000 /dev/zero >&2; exit 3')
    let [out, err] = [0, 0]
    process.stdout.on('data', (chunk) => {
      out += chunk.length
    })
    process.stderr.on('data', (chunk) => {
      err += chunk.length
    })
    assert.deepEqual([await process.exited, out, err], [{ exitCode: 3 }, 1_000_000, 500_000])
  })

  test('input that is not read is no error', async () => {
    const id = await ctx.start()
    const process = await shell(id, 'exit 3')
    process.stdout.resume()
    const closed = new Promise((resolve) => process.stdin.once('close', resolve))
    const fill = () => {
      while (!process.stdin.destroyed && process.stdin.write(Buffer.alloc(1 << 20))) {}
    }
    process.stdin.on('drain', fill)
    fill()
    assert.equal((await process.exited).exitCode, 3)
    await closed
  })

  test('a child that keeps its output open does not hold its end up', async () => {
    const id = await ctx.start()
    const process = await shell(id, 'sleep 34567 & echo out; exit 4')
    assert.deepEqual(await all(process), { out: 'out\n', err: '', exitCode: 4 })
    const { stdout } = await ctx.adapter.execInContainer(id, ['sh', '-c', 'sleep 34567 & echo out'])
    assert.equal(stdout.toString(), 'out\n')
  })

  test('a terminal: prompt, lines, size, Ctrl-C, Ctrl-D', async () => {
    const id = await ctx.start()
    const process = await spawn(id, ['sh', '-i'], { tty: true, columns: 91, rows: 32, env: { PS1: 'ready> ' } })
    assert.equal(process.stderr, null)
    const screen = new Screen(process)
    await screen.until('ready> ')
    screen.type('stty size; echo "$TERM"\n')
    await screen.until('32 91\r\n')
    await screen.until('xterm\r\n')
    await screen.until('ready> ')
    await process.resize(120, 40)
    screen.type('stty size\n')
    await screen.until('40 120\r\n')
    screen.type('sleep 45678\n')
    await there(id, 'sleep 45678')
    screen.type('\x03')
    await gone(id, 'sleep 45678')
    await screen.until('ready> ')
    screen.type('echo a >&2; false\n')
    await screen.until('\r\na\r\n')
    await screen.until('ready> ')
    // A terminal has no end of input.
    process.stdin.write('(exit 9)\n')
    await screen.until('ready> ')
    screen.type('\x04')
    assert.equal((await process.exited).exitCode, 9)
    // Of one that has ended.
    await process.resize(80, 24)
    await process.kill()
  })

  test('a program on the whole screen', async () => {
    const id = await ctx.start()
    await ctx.exec(id, 'sh', '-c', 'echo "what stands there" >/text')
    const process = await spawn(id, ['vi', '/text'], { tty: true, columns: 80, rows: 24 })
    const screen = new Screen(process)
    // It moves the cursor, and shows lines that there are not.
    await screen.until('\x1b[')
    await screen.until('what stands there')
    await screen.until('~')
    screen.type('ihello from vi: ')
    await screen.until('hello from vi: what stands there')
    // Escape and what follows could be one key.
    screen.type('\x1b')
    await screen.until('[Modified]')
    screen.type(':wq\r')
    assert.equal((await process.exited).exitCode, 0)
    assert.equal(await ctx.exec(id, 'cat', '/text'), 'hello from vi: what stands there\n')
  })

  test('bytes pass a terminal in raw mode unchanged', async () => {
    const id = await ctx.start()
    const process = await shell(id, 'stty raw -echo; echo go; head -c 256', { tty: true })
    const chunks = []
    process.stdout.on('data', (chunk) => chunks.push(chunk))
    await waitFor('go', () => Buffer.concat(chunks).includes('go'))
    const every = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
    process.stdin.write(every)
    await process.exited
    assert.ok(Buffer.concat(chunks).subarray(-256).equals(every), Buffer.concat(chunks).toString('hex'))
  })

  test('signals, by name and number; one that has ended gets none', async () => {
    const id = await ctx.start()
    const traps = 'trap "echo usr1" USR1; trap "echo term; exit 5" TERM; echo ready; while :; do sleep 0.1; done'
    const process = await shell(id, traps)
    const screen = new Screen(process)
    await screen.until('ready\n')
    await process.kill('SIGUSR1')
    await screen.until('usr1\n')
    await process.kill('10')
    await screen.until('usr1\n')
    await process.kill()
    await screen.until('term\n')
    assert.equal((await process.exited).exitCode, 5)
    await process.kill('KILL')
    const other = await spawn(id, ['sleep', '56789'])
    await there(id, '56789')
    await other.kill('SIGKILL')
    assert.equal((await other.exited).exitCode, 137)
    await fails(other.kill('SIGNONSENSE'), 'INVALID_ARGUMENT', { field: 'signal' })
    await fails(other.kill(9), 'INVALID_ARGUMENT', { field: 'signal' })
  })

  test('a signal is for the process alone, not for its children', async () => {
    const id = await ctx.start()
    const process = await shell(id, 'sleep 67891 & echo ready; wait')
    const screen = new Screen(process)
    await screen.until('ready\n')
    await process.kill('SIGUSR2')
    assert.notEqual((await process.exited).exitCode, 0)
    assert.ok((await ctx.exec(id, 'ps')).includes('sleep 67891'))
  })

  test('an aborted process ends in the container, its streams close, and its end says why', async () => {
    const id = await ctx.start()
    const stop = new AbortController()
    const process = await spawn(id, ['sleep', '78912'], { signal: stop.signal })
    await there(id, '78912')
    const closed = Promise.all(
      [process.stdin, process.stdout, process.stderr].map((s) => new Promise((resolve) => s.once('close', resolve))),
    )
    const reason = new Error('enough')
    stop.abort(reason)
    const error = await fails(process.exited, 'ABORTED')
    assert.equal(error.cause, reason)
    await closed
    await gone(id, '78912')
    await fails(spawn(id, ['sleep', '78913'], { signal: stop.signal }), 'ABORTED')
    await fails(spawn(id, ['true'], { signal: AbortSignal.abort() }), 'ABORTED')
  })

  test('a process that nobody refers to any more is ended', async () => {
    const id = await ctx.start()
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc')
    const signal = new AbortController().signal
    await (async () => {
      await spawn(id, ['sleep', '89123'], { signal })
      await there(id, '89123')
    })()
    await waitFor(
      'no 89123',
      async () => {
        collect()
        return !(await ctx.exec(id, 'ps')).includes('89123')
      },
      { timeoutMs: 120_000 },
    )
    // Its end alone keeps it.
    const kept = spawn(id, ['sh', '-c', 'read -r line; exit 6']).then((p) => {
      const { exited, stdin } = p
      return { exited, end: () => stdin.end('x\n') }
    })
    const { exited, end } = await kept
    collect()
    await ctx.exec(id, 'true')
    collect()
    end()
    assert.equal((await exited).exitCode, 6)
  })

  test('a program, a user or a directory that is not there', async () => {
    const id = await ctx.start()
    for (const [program, code] of [
      ['/no/such/program', 127],
      ['/etc', 126],
    ]) {
      const { out, err, exitCode } = await all(await spawn(id, [program]))
      assert.deepEqual([out, exitCode], ['', code], err)
      assert.ok(err.includes(program), err)
      const inTerminal = await all(await spawn(id, [program], { tty: true, columns: 80, rows: 24 }))
      assert.equal(inTerminal.exitCode, code)
      assert.ok(inTerminal.out.includes(program), inTerminal.out)
    }
    const end = async (options) => (await spawn(id, ['true'], options)).exited
    for (const user of ['no-such-user', '0:no-such-group'])
      await fails(end({ user }), 'INVALID_ARGUMENT', { field: 'user' })
    await fails(end({ workdir: '/no/such/directory' }), 'INVALID_ARGUMENT', { field: 'workdir' })
  })

  test('bad input', async () => {
    const id = await ctx.start()
    const bad = (field, argv, options) => fails(spawn(id, argv, options), 'INVALID_ARGUMENT', { field })
    await bad('argv', [])
    await bad('argv', [''])
    await bad('argv', 'ls')
    await bad('argv[1]', ['ls', 5])
    await bad('argv[1]', ['ls', 'a\0b'])
    await bad('env.A', ['ls'], { env: { A: 'a\0b' } })
    await bad('workdir', ['ls'], { workdir: 'relative' })
    await bad('user', ['ls'], { user: '-x' })
    for (const columns of [0, -1, 1.5, 65_536]) await bad('columns', ['ls'], { tty: true, columns, rows: 24 })
    await bad('rows', ['ls'], { tty: true, columns: 80, rows: 0 })
    await bad('rows', ['ls'], { tty: true, columns: 80 })
    await bad('columns', ['ls'], { columns: 80, rows: 24 })
    await bad('columns', ['ls'], { tty: true, columns: Number.NaN, rows: 24 })
    await bad('tty', ['ls'], { tty: 'yes' })
    await bad('stdin', ['ls'], { stdin: 1 })
    await bad('privileged', ['ls'], { privileged: 'no' })
    await bad('maxOutput', ['ls'], { maxOutput: 1 })
    await fails(spawn('', ['ls']), 'INVALID_ARGUMENT', { field: 'id' })
    await fails(spawn('no-such-container', ['ls']), 'CONTAINER_NOT_FOUND')
    await fails(spawn(await ctx.ran('exit 0'), ['ls']), 'INVALID_STATE')
    const process = await spawn(id, ['sh'], { tty: true })
    await fails(process.resize(0, 24), 'INVALID_ARGUMENT', { field: 'columns' })
    await fails(process.resize(80, '24'), 'INVALID_ARGUMENT', { field: 'rows' })
    assert.throws(() => process.stdin.write(5), TypeError)
    process.stdin.write('exit 0\n')
    process.stdout.resume()
    assert.equal((await process.exited).exitCode, 0)
  })

  test('many at once, each with its own input', async () => {
    const id = await ctx.start()
    const results = await Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        const process = await shell(id, `read -r line; echo "$line"; exit ${i}`)
        process.stdin.end(`line ${i}\n`)
        return all(process)
      }),
    )
    assert.deepEqual(
      results.map(({ out, exitCode }) => [out, exitCode]),
      results.map((_, i) => [`line ${i}\n`, i]),
    )
  })

  test('attached to the own process: what it prints from now on or from its begin, its signals and its end', async () => {
    const script = 'trap "echo heard" TERM; echo begin; echo err >&2; while :; do sleep 0.1; done'
    const own = await ctx.start({ command: ['sh', '-c', script] })
    await waitFor('its begin', async () => (await ctx.log(own)).includes('begin'))
    const late = await ctx.adapter.attachContainer(own)
    const whole = await ctx.adapter.attachContainer(own, { logs: true })
    assert.equal(late.stdin, null)
    const screens = [late, whole].map((process) => new Screen(process))
    const err = bytes(whole.stderr)
    await whole.kill('SIGTERM')
    assert.equal(await screens[0].until('heard\n'), '')
    assert.equal(await screens[1].until('heard\n'), 'begin\n')
    await late.kill('SIGKILL')
    assert.deepEqual(await Promise.all([late.exited, whole.exited]), [{ exitCode: 137 }, { exitCode: 137 }])
    assert.equal((await err).toString(), 'err\n')
    await fails(ctx.adapter.attachContainer(own), 'INVALID_STATE')
    await fails(ctx.adapter.attachContainer('no-such-container'), 'CONTAINER_NOT_FOUND')
    const other = await ctx.start()
    await fails(ctx.adapter.attachContainer(other, { stdin: true }), 'INVALID_ARGUMENT', { field: 'stdin' })
    const left = await ctx.adapter.attachContainer(other, { signal: AbortSignal.timeout(1) }).catch((e) => e)
    if (left.exited) await fails(left.exited, 'ABORTED')
    assert.equal((await ctx.adapter.inspectContainer(other)).state, 'running')
  })
})
