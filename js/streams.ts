import { Readable } from 'node:stream'
import type { CallOptions } from '../index'
import { bytes, checked, type NativeCall } from './call'
import { fromNative, invalid, messageOf, RuntimeError } from './errors'
import { type ByteStream, type ItemStream, native, type Upload } from './native'
import { aborted, onAbort } from './signal'

/** How much one read returns: larger pieces cost memory, smaller ones calls. */
const CHUNK = 64 * 1024
/**
 * For a slow reader. V8 collects unused buffers once they add up to 32 MB or there are enough small objects; small
 * pieces reach the second limit first.
 */
const SLOW_CHUNK = 8 * 1024
const SLOW_MS = 2

/** A log or an archive as a Node stream. Nothing is read unasked, so a slow reader slows the engine. */
export function readable(source: ByteStream, signal?: AbortSignal): Readable {
  let forget: (() => void) | undefined
  let size = CHUNK
  let fullSince: number | undefined
  const push = (stream: Readable, chunk: Buffer | null) => {
    if (stream.destroyed) return
    fullSince = stream.push(chunk) ? undefined : performance.now()
    if (stream.readableLength === 0) size = CHUNK
  }
  const stream = new Readable({
    highWaterMark: CHUNK,
    read() {
      if (fullSince !== undefined) size = performance.now() - fullSince > SLOW_MS ? SLOW_CHUNK : CHUNK
      source.read(size).then(
        (chunk) => push(this, chunk),
        (error) => this.destroy(fromNative(error)),
      )
    },
    destroy(error, done) {
      forget?.()
      source.close()
      done(error)
    },
  })
  if (signal) {
    // Not Readable's own `signal` option: its AbortError is not a `RuntimeError`.
    const abort = () => stream.destroy(aborted(signal))
    if (signal.aborted) abort()
    else forget = onAbort(signal, abort)
  }
  return stream
}

/**
 * Events or stats, opened by the first step. Leaving the loop, `return()` and the signal end it at once, even while a
 * step waits for a quiet engine; an async generator's `return()` would wait for that step
 * (docs/reference/node-api.md#async-generators).
 */
export function items<T>(
  open: (options: CallOptions) => Promise<ItemStream>,
  convert: (text: string) => T,
  options: CallOptions | undefined,
): AsyncIterableIterator<T> {
  const signal = options?.signal
  const opening = new AbortController()
  let source: Promise<ItemStream> | undefined
  let ended = false
  let forget: (() => void) | undefined

  const close = (reason?: unknown) => {
    if (ended) return
    ended = true
    forget?.()
    // Closes both, whichever is under way. A source that still opens is closed by the step that waits for it.
    opening.abort(reason)
    source?.then(
      (s) => s.close(),
      () => {},
    )
  }

  const start = () => {
    checked(options)
    if (signal?.aborted) throw aborted(signal)
    if (signal) forget = onAbort(signal, () => close(signal.reason))
    return open({ ...options, signal: opening.signal })
  }
  const step = async (): Promise<IteratorResult<T, undefined>> => {
    const done = { done: true, value: undefined } as const
    if (ended) return done
    let failure: unknown
    try {
      source ??= start()
      const text = await (await source).next()
      if (typeof text === 'string' && !ended) return { done: false, value: convert(text) }
    } catch (error) {
      failure = fromNative(error)
    }
    // After `return()`, the result of the step does not matter.
    const left = ended && !signal?.aborted
    close()
    if (left) return done
    if (signal?.aborted) throw aborted(signal)
    if (failure) throw failure
    return done
  }

  // Concurrent steps are answered one after the other, in order.
  let last: Promise<unknown> = Promise.resolve()
  return {
    next() {
      const result = last.then(step)
      last = result.catch(() => {})
      return result
    },
    async return() {
      close()
      return { done: true, value: undefined }
    },
    [Symbol.asyncIterator]() {
      return this
    },
  }
}

/**
 * Passes the caller's stream to `load`, which reads it at its own pace. A stream that fails half-way must not look
 * complete, so the call is cancelled.
 */
export async function uploading<T>(
  field: string,
  archive: NodeJS.ReadableStream & { destroy?: () => void },
  call: NativeCall,
  load: (upload: Upload) => Promise<T>,
): Promise<T> {
  if (typeof archive?.pipe !== 'function') throw invalid(field, 'must be a path or a Readable')
  const upload = new native.Upload()
  call.handle ??= new native.CancelHandle()
  const { handle } = call
  let failure: RuntimeError | undefined
  const feed = async () => {
    try {
      for await (const chunk of archive) if (!(await upload.write(bytes(field, chunk)))) break
    } catch (cause) {
      const unread = () => {
        const message = `${field}: cannot be read: ${messageOf(cause)}`
        return new RuntimeError('INVALID_ARGUMENT', message, { details: { field }, cause })
      }
      failure = cause instanceof RuntimeError ? cause : unread()
      handle.cancel()
    } finally {
      await upload.end()
    }
  }
  void feed()
  try {
    return await load(upload)
  } catch (error) {
    throw failure ?? error
  } finally {
    // Otherwise its producer would wait for ever.
    archive.destroy?.()
  }
}
