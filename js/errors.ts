import type { RuntimeErrorCode, RuntimeErrorDetails } from '../index'

/** Documented in index.d.ts. */
export class RuntimeError extends Error {
  declare readonly name: 'RuntimeError'
  declare readonly cause?: unknown
  readonly code: RuntimeErrorCode
  declare readonly hint?: string
  readonly details: RuntimeErrorDetails

  constructor(
    code: RuntimeErrorCode,
    message: string,
    options: { hint?: string | undefined; details?: RuntimeErrorDetails | undefined; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    if (options.hint !== undefined) this.hint = options.hint
    this.details = options.details ?? {}
  }
}
// On the prototype, as for built-in errors, not on each instance.
Object.defineProperty(RuntimeError.prototype, 'name', { value: 'RuntimeError', configurable: true, writable: true })

export function invalid(field: string, problem: string): RuntimeError {
  return new RuntimeError('INVALID_ARGUMENT', `${field}: ${problem}`, { details: { field } })
}

/** Runs a synchronous native call; its error becomes a `RuntimeError`. */
export function callSync<T>(ask: () => T): T {
  try {
    return ask()
  } catch (error) {
    throw fromNative(error)
  }
}

/** An error's message. Tested by its shape: test runners and vm contexts have an Error of another realm. */
export function messageOf(error: unknown): string {
  const message = (error as { message?: unknown } | null | undefined)?.message
  return typeof message === 'string' ? message : String(error)
}

/** The native side sends `{code, message, hint, details, causes}` as JSON in the message; the stack is made here. */
export function fromNative(error: unknown): Error {
  if (error instanceof RuntimeError) return error
  const text = messageOf(error)
  let data: { code: RuntimeErrorCode; message: string; hint?: string; details: RuntimeErrorDetails; causes: string[] }
  try {
    data = JSON.parse(text)
    if (typeof data.code !== 'string') throw new TypeError(text)
  } catch {
    // Node-API itself refused: a wrong type that the facade's checks let through.
    return new RuntimeError('INTERNAL', text, { cause: error })
  }
  const cause = data.causes.reduceRight<Error | undefined>(
    (inner, message) => (inner ? new Error(message, { cause: inner }) : new Error(message)),
    undefined,
  )
  return new RuntimeError(data.code, data.message, { hint: data.hint ?? undefined, details: data.details, cause })
}
