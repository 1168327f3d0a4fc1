// The facade's streams and iterators over sources made by hand: what Node does with them, and when they end.
import assert from 'node:assert/strict'
import { getEventListeners, once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { facade } from '../support/facade.mjs'

const { readable, items, uploading, RuntimeError } = await facade()
const failure = (code) => new Error(JSON.stringify({ code, message: 'as sent', details: {}, causes: [] }))

/** A ByteStream or ItemStream: gives what it has, then ends, fails or waits. */
function source(pieces, end = 'ends') {
  const list = [...pieces]
  let wake
  const pull = async () => {
    self.reads += 1
    if (list.length > 0) return list.shift()
    if (self.closed || end === 'ends') return null
    if (end instanceof Error) throw end
    return new Promise((resolve) => {
      wake = () => resolve(null)
    })
  }
  const self = {
    reads: 0,
    closed: 0,
    read: pull,
    next: pull,
    close() {
      self.closed += 1
      wake?.()
    },
  }
  return self
}
const bytes = (...texts) => texts.map((t) => Buffer.from(t))
const text = async (stream) => {
  const chunks = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

test('a Readable for pipe, for await and data, closed at its end', async () => {
  const a = source(bytes('ab', 'cd'))
  assert.equal(await text(readable(a)), 'abcd')
  const b = source(bytes('ab', 'cd'))
  assert.equal(await text(readable(b).pipe(new PassThrough())), 'abcd')
  const c = source(bytes('ab', 'cd'))
  let seen = ''
  const stream = readable(c).on('data', (chunk) => {
    seen += chunk
  })
  await once(stream, 'close')
  assert.equal(seen, 'abcd')
  assert.deepEqual([a.closed, b.closed, c.closed], [1, 1, 1])
})

test('nothing is read that nobody asked for', async () => {
  const one = source(Array.from({ length: 1000 }, () => Buffer.alloc(64 * 1024)))
  const stream = readable(one)
  await turn()
  assert.equal(one.reads, 0)
  await once(stream, 'readable')
  for (let i = 0; i < 10; i++) await turn()
  assert.ok(one.reads <= 2, `${one.reads} reads ahead of a reader that does not read`)
  stream.destroy()
})

test('destroy() closes a source that waits, without an error', async () => {
  const quiet = source(bytes('x'), 'waits')
  const stream = readable(quiet)
  await once(stream, 'data')
  await turn()
  stream.destroy()
  await once(stream, 'close')
  assert.equal(quiet.closed, 1)
  assert.equal(stream.errored, null)
})

test('leaving a for await loop closes the source', async () => {
  const endless = source(bytes('x', 'y', 'z'), 'waits')
  for await (const _ of readable(endless)) break
  assert.equal(endless.closed, 1)
})

test('an error of the engine comes after the bytes before it, as a RuntimeError', async () => {
  const stream = readable(source(bytes('ab'), failure('ENGINE_UNREACHABLE')))
  let seen = ''
  stream.on('data', (chunk) => {
    seen += chunk
  })
  const [error] = await once(stream, 'error')
  assert.ok(error instanceof RuntimeError)
  assert.deepEqual([error.code, error.message, seen], ['ENGINE_UNREACHABLE', 'as sent', 'ab'])
})

test('a signal ends a stream with ABORTED and its reason, and leaves no listener', async () => {
  const controller = new AbortController()
  const quiet = source([], 'waits')
  const stream = readable(quiet, controller.signal)
  const reading = text(stream)
  controller.abort('enough')
  await assert.rejects(reading, (e) => e instanceof RuntimeError && e.code === 'ABORTED' && e.cause === 'enough')
  assert.equal(quiet.closed, 1)

  const early = readable(source([], 'waits'), AbortSignal.abort('before'))
  await assert.rejects(text(early), (e) => e.code === 'ABORTED' && e.cause === 'before')

  const { signal } = new AbortController()
  for (let i = 0; i < 100; i++) await text(readable(source(bytes('x')), signal))
  for (let i = 0; i < 100; i++) {
    const left = readable(source([], 'waits'), signal)
    left.destroy()
    await once(left, 'close')
  }
  assert.equal(getEventListeners(signal, 'abort').length, 0)
})

const opened = (stream) => async () => stream

test('an iterator gives each item and closes at the end', async () => {
  const three = source(['1', '2', '3'])
  const seen = []
  for await (const item of items(opened(three), JSON.parse)) seen.push(item)
  assert.deepEqual(seen, [1, 2, 3])
  assert.equal(three.closed, 1)
})

test('steps asked for at once are answered in order', async () => {
  const iterator = items(opened(source(['1', '2'])), JSON.parse)
  const steps = await Promise.all([iterator.next(), iterator.next(), iterator.next(), iterator.next()])
  assert.deepEqual(
    steps.map((s) => [s.value, s.done]),
    [
      [1, false],
      [2, false],
      [undefined, true],
      [undefined, true],
    ],
  )
})

test('return() settles while a step waits for a quiet source, and ends that step', async () => {
  const quiet = source([], 'waits')
  const iterator = items(opened(quiet), JSON.parse)
  const step = iterator.next()
  await turn()
  assert.deepEqual(await iterator.return(), { done: true, value: undefined })
  assert.deepEqual(await step, { done: true, value: undefined })
  assert.equal(quiet.closed, 1)
  assert.deepEqual(await iterator.next(), { done: true, value: undefined })
})

test('return() while the source is being opened breaks that off', async () => {
  let opening
  const iterator = items((options) => {
    opening = options.signal
    return new Promise((_, reject) => opening.addEventListener('abort', () => reject(failure('ABORTED'))))
  }, JSON.parse)
  const step = iterator.next()
  await turn()
  await iterator.return()
  assert.deepEqual(await step, { done: true, value: undefined })
  assert.ok(opening.aborted)
})

test('a source that opens after return() is closed', async () => {
  let finish
  const late = source([], 'waits')
  const iterator = items(
    () =>
      new Promise((resolve) => {
        finish = resolve
      }),
    JSON.parse,
  )
  const step = iterator.next()
  await turn()
  await iterator.return()
  finish(late)
  assert.deepEqual(await step, { done: true, value: undefined })
  assert.ok(late.closed >= 1)
})

test('leaving the loop, and return() before the first step', async () => {
  const left = source(['1'], 'waits')
  for await (const _ of items(opened(left), JSON.parse)) break
  assert.equal(left.closed, 1)
  let asked = false
  const iterator = items(async () => {
    asked = true
  }, JSON.parse)
  await iterator.return()
  assert.equal((await iterator.next()).done, true)
  assert.equal(asked, false)
})

test('an error ends an iterator once', async () => {
  const iterator = items(opened(source(['1'], failure('ENGINE_UNREACHABLE'))), JSON.parse)
  await iterator.next()
  await assert.rejects(iterator.next(), (e) => e instanceof RuntimeError && e.code === 'ENGINE_UNREACHABLE')
  assert.equal((await iterator.next()).done, true)
})

test('a signal ends an iterator with ABORTED, once, and leaves no listener', async () => {
  const controller = new AbortController()
  const quiet = source([], 'waits')
  const iterator = items(opened(quiet), JSON.parse, { signal: controller.signal })
  const step = iterator.next()
  await turn()
  controller.abort('enough')
  await assert.rejects(step, (e) => e.code === 'ABORTED' && e.cause === 'enough')
  assert.equal((await iterator.next()).done, true)
  assert.equal(quiet.closed, 1)

  const { signal } = new AbortController()
  for (let i = 0; i < 100; i++) {
    for await (const _ of items(opened(source(['1', '2'])), JSON.parse, { signal })) if (i % 2) break
  }
  assert.equal(getEventListeners(signal, 'abort').length, 0)
})

test('an upload that fails half-way breaks the call off and says why', async () => {
  const broken = new Error('the disk is gone')
  const archive = new Readable({ read() {} })
  let reject
  const failed = uploading(
    'archive',
    archive,
    {},
    () =>
      new Promise((_, no) => {
        reject = no
      }),
  )
  archive.destroy(broken)
  await new Promise((resolve) => archive.once('close', resolve))
  await turn()
  reject(failure('ABORTED'))
  await assert.rejects(
    failed,
    (e) => e.code === 'INVALID_ARGUMENT' && e.cause === broken && e.details.field === 'archive',
  )
})

test('an upload nobody reads any more is destroyed', async () => {
  const endless = new Readable({ read() {} })
  assert.equal(await uploading('archive', endless, {}, async () => 'done'), 'done')
  assert.ok(endless.destroyed)
})

test('a stream of ours in a pipeline is destroyed with it', async () => {
  const endless = source(bytes('x'), 'waits')
  const controller = new AbortController()
  const running = pipeline(readable(endless), new PassThrough(), { signal: controller.signal })
  await turn()
  controller.abort()
  await assert.rejects(running, { name: 'AbortError' })
  assert.equal(endless.closed, 1)
})
