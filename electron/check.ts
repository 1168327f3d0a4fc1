// A window is not trusted: its messages are checked here before use, for types, sizes and unknown keys. The core judges the
// values.

export class Refused extends Error {
  constructor(
    readonly code: 'INVALID_ARGUMENT' | 'PERMISSION_DENIED' | 'INVALID_STATE',
    message: string,
    readonly hint?: string,
    readonly details: Record<string, unknown> = {},
  ) {
    super(message)
  }
}

export type Check = (path: string, value: unknown) => void

/** More than any call needs; longer text would only block the main process. */
const MAX_BYTES = 1 << 20
const MAX_VALUES = 10_000
const MAX_DEPTH = 8
/** Node's timers, and so `timeoutMs`, take no more. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1

/**
 * Refuses a message that is too large to be checked. Sizes are compared before contents are touched: listing an array
 * of millions blocks the main process longer than sending it takes.
 */
export function checkSize(value: unknown): void {
  let left = MAX_BYTES
  let values = MAX_VALUES
  const take = (bytes: number) => {
    left -= bytes
    if (left < 0) throw tooLarge()
  }
  const walk = (value: unknown, depth: number) => {
    if (depth > MAX_DEPTH || --values < 0) throw tooLarge()
    if (typeof value === 'string') take(value.length)
    if (typeof value !== 'object' || value === null) return
    if (Array.isArray(value)) {
      const { length } = value
      if (length > values) throw tooLarge()
      for (let i = 0; i < length; i++) walk(value[i], depth + 1)
    } else if (isBytes(value)) {
      take(value.byteLength)
    } else if (isPlain(value)) {
      for (const key in value) {
        take(key.length)
        walk((value as Record<string, unknown>)[key], depth + 1)
      }
    } else {
      throw new Refused('INVALID_ARGUMENT', 'args: only plain objects, arrays, texts, bytes, numbers and booleans')
    }
  }
  walk(value, 0)
}

const tooLarge = () =>
  new Refused('INVALID_ARGUMENT', `args: more than ${MAX_BYTES} bytes or ${MAX_VALUES} values, or nested too deeply`)

/** By the tag, not the prototype: plain objects of another realm are plain. Structured clone leaves no class but builtins. */
function isPlain(value: unknown): boolean {
  return Object.prototype.toString.call(value) === '[object Object]'
}

function isBytes(value: unknown): value is Uint8Array {
  return Object.prototype.toString.call(value) === '[object Uint8Array]' && ArrayBuffer.isView(value)
}

function bad(path: string, problem: string, hint?: string): Refused {
  return new Refused('INVALID_ARGUMENT', `${path}: ${problem}`, hint, { field: path })
}

const kind =
  (name: 'string' | 'boolean' | 'number' | 'function'): Check =>
  (path, value) => {
    if (typeof value !== name || (name === 'number' && !Number.isFinite(value))) throw bad(path, `must be a ${name}`)
  }

export const string = kind('string')
export const flag = kind('boolean')
export const number = kind('number')
export const callback = kind('function')

/** A path, or a plain object of whatever it holds. */
export const textOrObject: Check = (path, value) => {
  if (typeof value !== 'string' && !isPlain(value)) throw bad(path, 'must be a string or an object')
}

export const data: Check = (path, value) => {
  if (typeof value !== 'string' && !isBytes(value)) throw bad(path, 'must be a string or a Uint8Array')
}

export const milliseconds: Check = (path, value) => {
  if (typeof value !== 'number' || !(value > 0) || value > MAX_TIMEOUT_MS) {
    throw bad(path, `must be a number of milliseconds above 0, at most ${MAX_TIMEOUT_MS}`)
  }
}

export const optional =
  (check: Check): Check =>
  (path, value) => {
    if (value !== undefined) check(path, value)
  }

/** One of two kinds; the error is the second one's. */
export const either =
  (first: Check, second: Check): Check =>
  (path, value) => {
    try {
      first(path, value)
    } catch {
      second(path, value)
    }
  }

export const oneOf =
  (...allowed: string[]): Check =>
  (path, value) => {
    if (!allowed.includes(value as string)) throw bad(path, `must be one of ${allowed.join(', ')}`)
  }

export const list =
  (check: Check, max = MAX_VALUES): Check =>
  (path, value) => {
    if (!Array.isArray(value)) throw bad(path, 'must be an array')
    if (value.length > max) throw bad(path, `${value.length} are more than ${max}`)
    for (const [i, inner] of value.entries()) check(`${path}[${i}]`, inner)
  }

export const record =
  (check: Check): Check =>
  (path, value) => {
    for (const [key, inner] of Object.entries(plain(path, value))) check(`${path}.${key.slice(0, 60)}`, inner)
  }

/** Accepts only these keys; optional ones are written `optional(…)`. */
export const shape = (fields: Record<string, Check>): Check => fieldsOf((path) => `${path}.`, fields)

/** As `shape`, for an argument: errors name its fields as the facade does, without the argument's name. */
export const options = (fields: Record<string, Check>): Check => fieldsOf(() => '', fields)

const fieldsOf =
  (prefix: (path: string) => string, fields: Record<string, Check>): Check =>
  (path, value) => {
    const object = plain(path, value)
    for (const key of Object.keys(object)) {
      if (!Object.hasOwn(fields, key)) {
        const hint = `There is: ${Object.keys(fields).join(', ')}.`
        throw bad(`${prefix(path)}${key.slice(0, 60)}`, 'is not an option', hint)
      }
    }
    for (const [key, check] of Object.entries(fields)) check(`${prefix(path)}${key}`, object[key])
  }

function plain(path: string, value: unknown): Record<string, unknown> {
  if (!isPlain(value)) throw bad(path, 'must be an object')
  return value as Record<string, unknown>
}
