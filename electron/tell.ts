// What a window is told. Without the app's permission (`allow.diagnostics`), nothing that describes this computer: paths,
// logs, programs' messages.
import type * as runtime from 'lima-runtime'

/** An error as a window gets it: Electron itself would pass only the message. */
export interface WireError {
  name: 'RuntimeError'
  code: runtime.RuntimeErrorCode
  message: string
  hint?: string
  details: Record<string, unknown>
}

/** Every code, with the text that replaces a message that windows must not see. */
const SAFE_MESSAGES: Record<runtime.RuntimeErrorCode, string> = {
  NOT_INSTALLED: 'The runtime is not installed',
  UNSUPPORTED_PLATFORM: 'This computer cannot run it',
  ROOT_USER: 'Lima refuses to run as root',
  PATH_TOO_LONG: 'The path of a socket would be too long',
  DOWNLOAD_FAILED: 'A download failed',
  CHECKSUM_MISMATCH: 'What was downloaded is not what it should be; nothing was installed',
  ARCHIVE_UNSAFE: 'What came is not safe to unpack; nothing of it was kept',
  DISK_FULL: 'There is not enough space on the disk',
  LOCKED: 'Another process is at work on the runtime',
  VM_BROKEN: 'The VM is broken',
  VM_START_FAILED: 'The VM did not start',
  VM_NOT_RUNNING: 'The VM does not run',
  CONTAINERD_NOT_READY: 'containerd does not answer',
  TIMEOUT: 'There was no answer in time',
  ABORTED: 'The operation was aborted',
  CONTAINER_NOT_FOUND: 'There is no such container',
  IMAGE_NOT_FOUND: 'There is no such image',
  NETWORK_NOT_FOUND: 'There is no such network',
  VOLUME_NOT_FOUND: 'There is no such volume',
  NAME_IN_USE: 'The name is taken',
  PORT_IN_USE: 'The port of this computer is taken',
  PORT_NOT_FORWARDED: 'A published port does not answer on this computer',
  OUTDATED_VERSION: 'A program is used in a version that should not be',
  TOO_LARGE: 'More was printed or answered than is kept of it',
  ENGINE_WARNING: 'The container engine did not do all it was asked',
  IN_USE: 'It is in use',
  INVALID_ARGUMENT: 'An argument is wrong',
  INVALID_STATE: 'It is not in a state that allows this',
  PERMISSION_DENIED: 'That is not permitted',
  ENGINE_UNREACHABLE: 'No engine answers',
  REGISTRY_AUTH: 'The registry wants credentials, or refused them',
  ENGINE_ERROR: 'The engine refused',
  INTERNAL: 'Something went wrong inside',
}

/** Details about the call and its objects; none about files, logs or programs. */
const SAFE_DETAILS = new Set([
  ...['field', 'timeoutMs', 'id', 'image', 'network', 'volume', 'port', 'status', 'exitCode', 'signal', 'platform'],
  ...['component', 'expected', 'actual', 'size', 'needed', 'available', 'retryAfterSeconds'],
])

/** A longer text is a log. */
const MAX_LENGTH = 500

/** `sent` is what the window itself sent, which it may be told again. */
export class Redactor {
  readonly #unredacted: boolean
  readonly #sent: unknown

  constructor(unredacted: boolean, sent?: unknown) {
    this.#unredacted = unredacted
    this.#sent = sent
  }

  /** Any error as a window gets it. */
  error(thrown: unknown): WireError {
    const given = (typeof thrown === 'object' && thrown !== null ? thrown : {}) as Record<string, unknown>
    const { code, message, hint } = given
    const details = (typeof given.details === 'object' ? given.details : undefined) as
      | Record<string, unknown>
      | undefined
    // Another error's text could say anything.
    if (typeof code !== 'string' || !Object.hasOwn(SAFE_MESSAGES, code) || (code === 'INTERNAL' && !this.#unredacted)) {
      const said = typeof message === 'string' ? message : String(thrown)
      return {
        name: 'RuntimeError',
        code: 'INTERNAL',
        message: this.#unredacted ? said : SAFE_MESSAGES.INTERNAL,
        details: {},
      }
    }
    const known = code as runtime.RuntimeErrorCode
    const safeDetails = this.#safeDetails(details ?? {})
    const { field } = safeDetails
    const instead = SAFE_MESSAGES[known] + (field && known === 'INVALID_ARGUMENT' ? `: ${field}` : '')
    const advice = this.text(hint)
    return {
      name: 'RuntimeError',
      code: known,
      message: this.text(message) ?? instead,
      ...(advice && { hint: advice }),
      details: safeDetails,
    }
  }

  /** The text, unless a window must not see it. */
  text(text: unknown): string | undefined {
    if (typeof text !== 'string') return undefined
    return this.#unredacted || (text.length <= MAX_LENGTH && !this.#revealsPath(text)) ? text : undefined
  }

  status(status: runtime.ManagerStatus): object {
    const { error, explanation, progress, ...rest } = status
    const why = this.text(explanation)
    return {
      ...rest,
      ...(why && { explanation: why }),
      ...(progress && { progress: this.progress(progress) }),
      ...(error && { error: this.error(error) }),
    }
  }

  progress<P extends runtime.RuntimeProgress>(progress: P): P {
    return { ...progress, message: this.text(progress.message) ?? progress.phase }
  }

  detection(found: runtime.RuntimeDetection): runtime.RuntimeDetection {
    if (this.#unredacted) return found
    const details = found.details.map(({ endpoint: _, tried: __, reason, hint, ...rest }) => {
      const [why, advice] = [this.text(reason), this.text(hint)]
      return { ...rest, ...(why && { reason: why }), ...(advice && { hint: advice }) }
    })
    return { ...found, details }
  }

  /** Of a container, an image or a network. */
  details(details: runtime.ContainerDetails | runtime.ImageDetails | runtime.NetworkDetails): object {
    const { raw, ...rest } = details
    return this.#unredacted ? details : rest
  }

  volume(details: runtime.VolumeDetails): object {
    const { raw, mountpoint, ...rest } = details
    return this.#unredacted ? details : rest
  }

  volumes(volumes: runtime.VolumeInfo[]): object[] {
    return this.#unredacted ? volumes : volumes.map(({ mountpoint: _, ...rest }) => rest)
  }

  #safeDetails(details: Record<string, unknown>): Record<string, unknown> {
    try {
      const all = Object.entries(JSON.parse(JSON.stringify(details)))
      if (this.#unredacted) return Object.fromEntries(all)
      return Object.fromEntries(
        all.filter(([key, value]) => {
          if (!SAFE_DETAILS.has(key)) return false
          return typeof value === 'string'
            ? this.text(value) !== undefined
            : ['number', 'boolean'].includes(typeof value)
        }),
      )
    } catch {
      return {}
    }
  }

  /** Whether it names a path, socket or address of this computer that the window has not sent itself. */
  #revealsPath(text: string): boolean {
    if (CREDENTIALS.test(text)) return true
    const paths = text.replace(WEB_URL, ' ').match(LOCAL_PATH) ?? []
    return paths.some((path) => !contains(this.#sent, path.replace(/[.:]+$/, '')))
  }
}

const CREDENTIALS = /:\/\/[^\s/]*@/
/** Web addresses say nothing about this computer. */
const WEB_URL = /\bhttps?:\/\/[\w.-]+(:\d+)?(\/[\w./%:@+-]*)?/g
/** Paths and sockets: `/a/b`, `unix:///a`, `C:\a`, `\\server\a`, with what follows. */
const LOCAL_PATH =
  /(?<![\w.~-])\/+[\w.~%@-][^\s"'`,;()[\]{}]*|\b[A-Za-z]:[\\/][^\s"'`,;()[\]{}]*|\\\\[^\s"'`,;()[\]{}]+/g

function contains(value: unknown, text: string): boolean {
  if (typeof value === 'string') return value.includes(text)
  if (typeof value !== 'object' || value === null) return false
  // By index only: nobody has checked an array's other properties.
  if (Array.isArray(value)) return value.some((inner) => contains(inner, text))
  return Object.entries(value).some(([key, inner]) => key.includes(text) || contains(inner, text))
}
