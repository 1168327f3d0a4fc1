import { types } from 'node:util'
import type { CallOptions, NerdctlOptions, Progress, RuntimeProgress, UserEngine } from '../index'
import { fromNative, invalid, RuntimeError } from './errors'
import { type CancelHandle, type LimaManager, native } from './native'
import { aborted, onAbort } from './signal'

export interface NativeCall {
  handle?: CancelHandle
  timeoutMs?: number
  /** The method's own options, as JSON. */
  options?: string
}

/** Runs one native call under the caller's `signal` and `timeoutMs`; every public method goes through here. */
export async function invoke<T>(
  options: CallOptions | undefined,
  run: (call: NativeCall) => T | Promise<T>,
  given?: CancelHandle,
): Promise<T> {
  const { signal, timeoutMs, more } = checked(options)
  if (signal?.aborted) throw aborted(signal)
  const handle = given ?? (signal && new native.CancelHandle())
  const forget = signal && onAbort(signal, () => handle?.cancel())
  try {
    return await run({
      ...(timeoutMs !== undefined && { timeoutMs }),
      ...(more && { options: more }),
      ...(handle && { handle }),
    })
  } catch (thrown) {
    const error = fromNative(thrown)
    // `AbortSignal.timeout()` and `abort(reason)` say why.
    throw signal?.aborted && (error as RuntimeError).code === 'ABORTED' ? aborted(signal) : error
  } finally {
    forget?.()
    for (const text of handle?.takeWarnings() ?? []) {
      const { code, message, hint } = fromNative(text) as RuntimeError
      process.emitWarning(message, { type: 'RuntimeWarning', code, ...(hint && { detail: hint }) })
    }
  }
}

/** Like `invoke`, for a call that may succeed with warnings. */
export function invokeAndWarn<T>(
  options: CallOptions | undefined,
  run: (call: NativeCall) => T | Promise<T>,
): Promise<T> {
  return invoke(options, run, new native.CancelHandle())
}

/** Checks the options of a call. `more`: the options that only this method has, as JSON. */
export function checked(options: CallOptions | undefined): CallOptions & { more?: string } {
  if (options === undefined) return {}
  const { signal, timeoutMs, ...rest } = readable('options', () => ({ ...object('options', options) })) as CallOptions
  const more = Object.keys(rest).length > 0 ? json('options', rest) : undefined
  if (timeoutMs !== undefined && (typeof timeoutMs !== 'number' || !(timeoutMs > 0) || timeoutMs > MAX_TIMEOUT)) {
    throw invalid('timeoutMs', `must be a number of milliseconds above 0, at most ${MAX_TIMEOUT}`)
  }
  // By its shape: Electron's preload scripts and test runners have an AbortSignal of another realm
  // (docs/reference/node-api.md#kinds-across-realms).
  if (signal !== undefined && (typeof signal?.aborted !== 'boolean' || typeof signal.addEventListener !== 'function')) {
    throw invalid('signal', `must be an AbortSignal, not ${kind(signal)}`)
  }
  return { signal, timeoutMs, ...(more && { more }) }
}

/** As {@link checked}, for a call whose options all stay on this side. */
export function checkedAlone(options: CallOptions | undefined): CallOptions {
  const { more, ...call } = checked(options)
  const [unknown] = Object.keys(JSON.parse(more ?? '{}'))
  if (unknown !== undefined) throw invalid(unknown, 'is not an option')
  return call
}

/** Takes the field that stays on this side out of an options object. */
export function apart<T extends object, K extends string & keyof T>(
  field: string,
  options: T | undefined,
  key: K,
): [T[K] | undefined, Omit<T, K> | undefined] {
  if (options === undefined) return [undefined, undefined]
  const { [key]: taken, ...rest } = readable(field, () => ({ ...object(field, options) })) as T
  return [taken, rest]
}

/** 24.8 days, the longest Node's own timers take. */
const MAX_TIMEOUT = 2 ** 31 - 1

/** Splits a `Progress` argument into the options for `invoke` and the callback for the native side. */
export function progress(value: Progress | undefined): {
  options: CallOptions | undefined
  report: ((event: string) => void) | undefined
} {
  if (typeof value === 'function') {
    let last: string | undefined
    // Each message once, not at every percent.
    const tell = ({ message }: RuntimeProgress) => {
      if (message === last) return
      last = message
      value(message)
    }
    return { options: undefined, report: callback('progress', tell) }
  }
  const [onProgress, options] = apart('progress', value, 'onProgress')
  return { options, report: callback('onProgress', onProgress) }
}

/** A caller's callback that throws must not end the application: the error becomes a process warning. */
export function callback<P>(field: string, f: ((event: P) => void) | undefined): ((event: string) => void) | undefined {
  if (f === undefined) return undefined
  if (typeof f !== 'function') throw invalid(field, `must be a function, not ${kind(f)}`)
  return (text) => {
    try {
      f(JSON.parse(text))
    } catch (error) {
      process.emitWarning(`A progress callback threw: ${String(error)}`, 'RuntimeWarning')
    }
  }
}

/** What crossed as milliseconds, or went through JSON. */
export function dated<T extends { created: unknown }>(value: T): T & { created: Date } {
  return Object.assign(value, { created: new Date(value.created as number | string) })
}

/** Checks JavaScript types; the core checks values. `field` is what the caller wrote. */
export function string(field: string, value: unknown): string {
  if (typeof value !== 'string') throw invalid(field, `must be a string, not ${kind(value)}`)
  if (value.length > MAX_LENGTH) throw invalid(field, `is too long: ${value.length} characters`)
  return value
}

/** Longer than any valid text; it would only block Node's thread on its way to the core's checks. */
const MAX_LENGTH = 1 << 20

export function strings(field: string, value: unknown): string[] {
  if (!Array.isArray(value)) throw invalid(field, `must be an array of strings, not ${kind(value)}`)
  return value.map((v, i) => string(`${field}[${i}]`, v))
}

export function number(field: string, value: unknown): number {
  if (typeof value !== 'number') throw invalid(field, `must be a number, not ${kind(value)}`)
  return value
}

export function optionalNumber(field: string, value: unknown): number | undefined {
  return value === undefined ? undefined : number(field, value)
}

export function optionalString(field: string, value: unknown): string | undefined {
  return value === undefined ? undefined : string(field, value)
}

/** A program's standard input. */
export function inputBytes(input: unknown): Uint8Array | undefined {
  return input === undefined ? undefined : bytes('input', input)
}

/** A build's secrets for the core. No error says anything of one. */
export function hidden(secrets: unknown): Record<string, string> {
  return readable('secrets', () => {
    const all = Object.entries(object('secrets', secrets))
    return Object.fromEntries(
      all.map(([id, value]) => {
        const name = string('secrets', id)
        return [name, Buffer.from(bytes(`secrets.${name.slice(0, 60)}`, value)).toString('base64')]
      }),
    )
  })
}

/** Runs a manager's engine's own program. */
export function execProgram(
  manager: Pick<LimaManager, 'exec'>,
  engine: UserEngine,
  args: string[],
  options: NerdctlOptions | undefined,
): Promise<string> {
  const [input, rest] = apart('options', options, 'input')
  return invokeAndWarn(rest, (call) =>
    manager.exec(JSON.stringify(engine), strings('args', args), inputBytes(input), call),
  )
}

/** Text or bytes for the native side, which copies them before its method returns. */
export function bytes(field: string, value: unknown): Uint8Array {
  if (typeof value === 'string') return Buffer.from(value)
  // Not `instanceof`: test runners and vm contexts have a Uint8Array of another realm.
  if (!types.isUint8Array(value)) throw invalid(field, `must be a string or a Uint8Array, not ${kind(value)}`)
  try {
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  } catch {
    // A transferred buffer would be sent as empty.
    throw invalid(field, 'has no memory any more: it was transferred')
  }
}

export function flag(field: string, value: unknown): boolean {
  if (value === undefined) return false
  if (typeof value !== 'boolean') throw invalid(field, `must be a boolean, not ${kind(value)}`)
  return value
}

/** An options object as JSON for the core, which checks every field and names the wrong one. */
export function json(field: string, value: unknown): string {
  return value === undefined ? '{}' : document(field, value, false)
}

/** A project of compose for the core: its file, or the object as JSON, in which null is a value. */
export function projectOf(value: unknown): [file: string | undefined, object: string | undefined] {
  if (typeof value === 'string') return [string('project', value), undefined]
  return [undefined, document('project', value, true)]
}

function document(field: string, value: unknown, nulls: boolean): string {
  return readable(field, () => {
    const given = object(field, value)
    for (const [key, inner] of Object.entries(given)) checkJson(string(key.slice(0, 60), key), inner, 0, nulls)
    return JSON.stringify(given)
  })
}

function readable<T>(field: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof RuntimeError) throw error
    // A getter threw, or it is a proxy or a cycle.
    throw new RuntimeError('INVALID_ARGUMENT', `${field}: cannot be read: ${String(error)}`, {
      details: { field },
      cause: error,
    })
  }
}

/** Refuses what JSON would drop or change: null, NaN, functions, a Map. */
function checkJson(path: string, value: unknown, depth: number, nulls: boolean): void {
  if (value === undefined || typeof value === 'boolean' || (nulls && value === null)) return
  if (typeof value === 'string') {
    string(path, value)
    return
  }
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw invalid(path, `must be a finite number, not ${value}`)
    return
  }
  if (Array.isArray(value)) {
    value.forEach((inner, i) => {
      if (inner === undefined) throw invalid(`${path}[${i}]`, 'must not be undefined')
      checkNested(`${path}[${i}]`, inner, depth, nulls)
    })
    return
  }
  // By the tag, not the prototype: plain objects of another realm are accepted.
  if (typeof value !== 'object' || Object.prototype.toString.call(value) !== '[object Object]') {
    throw invalid(path, `must not be ${kind(value)}`)
  }
  for (const [key, inner] of Object.entries(value as object)) {
    const name = `${path}.${key.slice(0, 60)}`
    string(name, key)
    checkNested(name, inner, depth, nulls)
  }
}

function checkNested(path: string, value: unknown, depth: number, nulls: boolean): void {
  if (depth === MAX_DEPTH) throw new RangeError('it is nested too deeply, or holds itself')
  checkJson(path, value, depth + 1, nulls)
}

/** Deeper than any option is, and than what a service has. */
const MAX_DEPTH = 10

function object(field: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(field, `must be an object, not ${kind(value)}`)
  }
  // Of these JSON would keep nothing, and they would mean the defaults: a Map, a manager of another copy of this package.
  if (Object.keys(value).length === 0 && !isPlain(value)) {
    throw invalid(field, `must be a plain object, not ${value.constructor?.name || kind(value)}`)
  }
  return value as Record<string, unknown>
}

/** Also of another realm. */
function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

function kind(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  const name = typeof value === 'object' ? Object.prototype.toString.call(value).slice(8, -1) : typeof value
  return `${/^[aeiou]/i.test(name) ? 'an' : 'a'} ${name === 'Object' ? 'object' : name}`
}
