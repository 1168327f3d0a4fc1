import { type Readable, Writable } from 'node:stream'
import type * as api from '../index'
import { invoke, number, optionalString } from './call'
import { fromNative } from './errors'
import type { ByteStream, NativeProcess } from './native'
import { aborted, onAbort } from './signal'
import { readable } from './streams'

/** What each stream's process is: one whose streams are still read is not given up. */
const owners = new WeakMap<object, NativeProcess>()
/** Takes the listener off a signal that outlives its process. */
const forgotten = new FinalizationRegistry((forget: () => void) => forget())

/** Documented in index.d.ts. A process that nobody refers to any more is ended by the native side's finalizer. */
export class Process implements api.ContainerProcess {
  readonly stdin: Writable | null
  readonly stdout: Readable
  readonly stderr: Readable | null
  readonly #native: NativeProcess
  readonly #signal: AbortSignal | undefined
  #exited: Promise<{ exitCode: number }> | undefined

  constructor(native: NativeProcess, signal: AbortSignal | undefined) {
    this.#native = native
    this.#signal = signal
    const output = (source: ByteStream) => {
      const stream = readable(source)
      owners.set(stream, native)
      return stream
    }
    this.stdout = output(native.takeStdout() as ByteStream)
    const stderr = native.takeStderr()
    this.stderr = stderr && output(stderr)
    this.stdin = native.hasStdin ? writable(native) : null
    if (signal) closeOnAbort(signal, native, [this.stdin, this.stdout, this.stderr])
  }

  /** Made when it is first asked for: a promise that nobody awaits would keep the process for ever. */
  get exited(): Promise<{ exitCode: number }> {
    this.#exited ??= this.#end()
    return this.#exited
  }

  async resize(columns: number, rows: number): Promise<void> {
    await invoke(undefined, () => this.#native.resize(number('columns', columns), number('rows', rows)))
  }

  async kill(signal?: string): Promise<void> {
    await invoke(undefined, () => this.#native.kill(optionalString('signal', signal)))
  }

  async #end(): Promise<{ exitCode: number }> {
    try {
      const exitCode = await this.#native.exit()
      await Promise.all([delivered(this.stdout), delivered(this.stderr)])
      return { exitCode }
    } catch (error) {
      throw this.#signal?.aborted ? aborted(this.#signal) : fromNative(error)
    }
  }
}

function closeOnAbort(signal: AbortSignal, native: NativeProcess, streams: (Readable | Writable | null)[]): void {
  const abort = closing(
    new WeakRef(native),
    streams.flatMap((stream) => (stream ? [new WeakRef(stream)] : [])),
  )
  if (signal.aborted) abort()
  else forgotten.register(native, onAbort(signal, abort))
}

/** A function of its own: a closure keeps all that others of its scope keep, and the signal keeps this one. */
function closing(native: WeakRef<NativeProcess>, streams: WeakRef<Readable | Writable>[]): () => void {
  return () => {
    native.deref()?.close()
    for (const stream of streams) stream.deref()?.destroy()
  }
}

/** Until listeners have got all of it. What is read in another way, or not at all, waits in the stream. */
function delivered(stream: Readable | null): Promise<void> | undefined {
  if (!stream || stream.readableEnded || stream.destroyed || stream.listenerCount('data') === 0) return undefined
  return new Promise((resolve) => {
    for (const event of ['end', 'close', 'error']) stream.once(event, () => resolve())
  })
}

function writable(native: NativeProcess): Writable {
  const write = (stream: Writable, chunk: Uint8Array, done: (error?: Error | null) => void) => {
    native.write(chunk).then(
      (isRead) => {
        done()
        // As of a pipe whose reader is gone, without an error: the exit code tells enough.
        if (!isRead) stream.destroy()
      },
      (error) => done(fromNative(error) as Error),
    )
  }
  return new Writable({
    write(chunk, _, done) {
      write(this, chunk, done)
    },
    writev(chunks, done) {
      write(this, Buffer.concat(chunks.map(({ chunk }) => chunk)), done)
    },
    final(done) {
      native.endInput().then(() => done(), done)
    },
    destroy(error, done) {
      native.endInput().then(
        () => done(error),
        () => done(error),
      )
    },
  })
}
