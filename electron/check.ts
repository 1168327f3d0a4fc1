// The renderer is not trusted: what it sends is looked at here, before anything is done with it. What values mean is the
// core's to judge; this is about their kinds, their size, and nothing being there that was not asked for.

/** An error on its way to a window: Electron's own crossing would lose all but the message. */
export interface WireError {
  name: 'RuntimeError'
  code: string
  message: string
  hint?: string
  details: Record<string, unknown>
}

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

/** More than any call needs; what is longer would only hold up the main process. */
const LONGEST = 1 << 20
const MOST_VALUES = 10_000
const DEEPEST = 8

/** Refuses a message that is too large to be looked at in peace. */
export function small(value: unknown): void {
  let left = LONGEST
  let values = MOST_VALUES
  const walk = (value: unknown, depth: number) => {
    if (depth > DEEPEST || --values < 0) throw tooLarge()
    if (typeof value === 'string') left -= value.length
    else if (ArrayBuffer.isView(value) || tag(value) === 'ArrayBuffer') left -= (value as ArrayBufferLike).byteLength
    else if (typeof value === 'object' && value !== null) {
      for (const [key, inner] of Object.entries(value)) {
        left -= key.length
        walk(inner, depth + 1)
      }
    }
    if (left < 0) throw tooLarge()
  }
  walk(value, 0)
}

const tooLarge = () => new Refused('INVALID_ARGUMENT', `args: more than ${LONGEST} bytes, or nested too deeply`)

function bad(path: string, problem: string): Refused {
  return new Refused('INVALID_ARGUMENT', `${path}: ${problem}`, undefined, { field: path })
}

const kind =
  (name: 'string' | 'boolean' | 'number'): Check =>
  (path, value) => {
    if (typeof value !== name || (name === 'number' && !Number.isFinite(value))) throw bad(path, `must be a ${name}`)
  }

export const string = kind('string')
export const flag = kind('boolean')
export const number = kind('number')

export const optional =
  (check: Check): Check =>
  (path, value) => {
    if (value !== undefined) check(path, value)
  }

export const oneOf =
  (...allowed: string[]): Check =>
  (path, value) => {
    if (!allowed.includes(value as string)) throw bad(path, `must be one of ${allowed.join(', ')}`)
  }

export const list =
  (check: Check): Check =>
  (path, value) => {
    if (!Array.isArray(value)) throw bad(path, 'must be an array')
    for (const [i, inner] of value.entries()) check(`${path}[${i}]`, inner)
  }

export const record =
  (check: Check): Check =>
  (path, value) => {
    for (const [key, inner] of Object.entries(plain(path, value))) check(`${path}.${key.slice(0, 60)}`, inner)
  }

/** Only these keys; a key that is not required is written `optional(…)`. */
export const shape =
  (fields: Record<string, Check>): Check =>
  (path, value) => {
    const object = plain(path, value)
    for (const key of Object.keys(object)) {
      if (!Object.hasOwn(fields, key)) throw bad(`${path}.${key.slice(0, 60)}`, 'is not an option')
    }
    for (const [key, check] of Object.entries(fields)) check(`${path}.${key}`, object[key])
  }

function plain(path: string, value: unknown): Record<string, unknown> {
  const proto = typeof value === 'object' && value !== null ? Object.getPrototypeOf(value) : undefined
  // An object's prototype has none itself, in whatever realm: a test runner's messages come from another.
  const object = tag(value) === 'Object' && (proto === null || Object.getPrototypeOf(proto) === null)
  if (!object) throw bad(path, 'must be an object')
  return value as Record<string, unknown>
}

/** The kind of a builtin, the same in every realm. */
const tag = (value: unknown): string => Object.prototype.toString.call(value).slice(8, -1)

/** Any error as it crosses. */
export function wire(error: unknown): WireError {
  const { code, message, hint, details } = (typeof error === 'object' && error !== null ? error : {}) as Record<
    string,
    unknown
  >
  const known = typeof code === 'string' && /^[A-Z_]+$/.test(code)
  return {
    name: 'RuntimeError',
    code: known ? code : 'INTERNAL',
    message: typeof message === 'string' ? message : String(error),
    ...(typeof hint === 'string' && { hint }),
    details: facts(details),
  }
}

/** What of the details survives a crossing. */
function facts(details: unknown): Record<string, unknown> {
  try {
    return JSON.parse(JSON.stringify(details ?? {}))
  } catch {
    return {}
  }
}
