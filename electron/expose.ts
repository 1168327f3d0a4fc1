import type * as api from './preload'
import { type Row, TABLE } from './table'
import type { WireError } from './tell'

type Message = { id: string; value?: unknown; end?: true; error?: WireError }
type Listener = (value: unknown) => unknown
type Callbacks = { onProgress?: Listener; onCancel?: (cancel: () => void) => void }

/** Documented in preload.d.ts. */
export function exposeRuntime(contextBridge: api.ContextBridge, ipcRenderer: api.IpcRenderer, key = 'kai'): void {
  const open = new Map<string, (message: Message) => void>()
  // Unique for each page: a page that loads again must not reuse the ids of the one before it.
  const page = `${Date.now().toString(36)}${Math.random().toString(36).slice(2)}`
  let last = 0
  ipcRenderer.on('lima-runtime:event', (_: unknown, message: Message) => open.get(message.id)?.(message))

  const invoke = async (name: string, id: string, args: unknown[]) => {
    let answer: { ok: true; value: unknown } | { ok: false; error: WireError }
    try {
      answer = await ipcRenderer.invoke(`lima-runtime:${name}`, { id, args })
    } catch (error) {
      answer = { ok: false, error: broken(name, error) }
    }
    if (answer.ok) return answer.value
    // A plain object: the bridge to the page keeps only the message of an Error
    // (docs/reference/node-api.md#messages-of-electron).
    return Promise.reject(answer.error)
  }

  const call =
    (name: string, row: Row) =>
    async (...given: unknown[]) => {
      const id = `${page}-${++last}`
      const { args, onProgress, onCancel } = split(row, given)
      if (onProgress) open.set(id, ({ value }) => quietly(onProgress, value))
      const answer = invoke(name, id, args)
      if (onCancel) onCancel(() => ipcRenderer.send('lima-runtime:cancel', { id }))
      try {
        return await answer
      } finally {
        open.delete(id)
      }
    }

  /** Resolves once it is open, with the function that closes it. */
  const watch =
    (name: string, row: Row) =>
    async (...given: unknown[]) => {
      const id = `${page}-${++last}`
      const [listener, onEnd] = given.splice(Object.keys(row.args).length) as [Listener, Listener | undefined]
      const { args } = split(row, given)
      const close = () => {
        if (open.delete(id)) ipcRenderer.send('lima-runtime:cancel', { id })
      }
      open.set(id, (message) => {
        if (message.end) {
          open.delete(id)
          if (onEnd) quietly(onEnd, message.error)
          return
        }
        const taken = () => ipcRenderer.send('lima-runtime:taken', { id })
        const done = quietly(listener, message.value)
        // By its shape: a promise may belong to the page's realm.
        if (typeof (done as PromiseLike<unknown> | undefined)?.then !== 'function') return taken()
        Promise.resolve(done).catch(console.error).finally(taken)
      })
      try {
        await invoke(name, id, args)
      } catch (error) {
        open.delete(id)
        return Promise.reject(error)
      }
      return close
    }

  /** As `watch`, for a process: resolves with what the page does with it. */
  const start =
    (name: string, row: Row) =>
    async (...given: unknown[]) => {
      const [listener] = given.splice(Object.keys(row.args).length) as [Listener]
      let ended: { resolve: Listener; reject: Listener } | undefined
      const exited = new Promise((resolve, reject) => {
        ended = { resolve, reject }
      })
      // Nobody has to wait for it.
      exited.catch(() => {})
      let exit: unknown
      const listen = (value: unknown) => {
        if (typeof (value as { exitCode?: number }).exitCode !== 'number') return listener(value)
        exit = value
      }
      const onEnd = (error: unknown) => (exit ? ended?.resolve(exit) : ended?.reject(error))
      const id = `${page}-${last + 1}`
      const close = await watch(name, row)(...padded(given, row), listen, onEnd)
      const method = (method: string) => {
        const run = call(`process.${method}`, TABLE.process[method as keyof typeof TABLE.process])
        return (...args: unknown[]) => run(id, ...args)
      }
      const left = () => {
        close()
        ended?.reject({ name: 'RuntimeError', code: 'ABORTED', message: 'The page let go of it', details: {} })
      }
      const methods = Object.keys(TABLE.process).map((name) => [name, method(name)])
      // A function: a promise that is handed to the page would be one that nobody there waits for.
      return { ...Object.fromEntries(methods), close: left, exited: () => exited }
    }

  const groups = Object.entries(TABLE).flatMap(([group, rows]) => {
    if (group === 'process') return []
    const methods = Object.entries(rows as Record<string, Row>).map(([method, row]) => {
      const name = `${group}.${method}`
      return [method, row.process ? start(name, row) : row.watched ? watch(name, row) : call(name, row)]
    })
    return [[group, Object.fromEntries(methods)]]
  })
  contextBridge.exposeInMainWorld(key, Object.fromEntries(groups))
}

/** Functions do not cross to the main process: the two that options may hold stay here, where the method has them. */
function split(row: Row, given: unknown[]): { args: unknown[] } & Callbacks {
  const found: Callbacks = {}
  const args = [...given]
  const at = Object.keys(row.args).indexOf('options')
  const options = args[at]
  if (typeof options === 'object' && options !== null && !Array.isArray(options)) {
    const { onProgress, onCancel, ...rest } = options as Callbacks
    const kept: Callbacks = rest
    if (row.reports && typeof onProgress === 'function') found.onProgress = onProgress
    else if (onProgress !== undefined) kept.onProgress = onProgress
    if (!row.watched && typeof onCancel === 'function') found.onCancel = onCancel
    else if (onCancel !== undefined) kept.onCancel = onCancel
    args[at] = kept
  }
  // Omitted arguments are not sent, since the main process counts arguments.
  while (args.length > 0 && args.at(-1) === undefined) args.pop()
  return { args, ...found }
}

/** With as many values as the row has arguments. */
function padded(given: unknown[], row: Row): unknown[] {
  return Object.keys(row.args).map((_, i) => given[i])
}

function quietly(listener: Listener, value: unknown): unknown {
  try {
    return listener(value)
  } catch (error) {
    console.error(error)
  }
}

function broken(name: string, error: unknown): WireError {
  // By its shape: Electron's errors may belong to the page's realm or the preload script's.
  const message = String((error as Error | undefined)?.message ?? error)
  // Structured clone refuses functions, symbols and proxies.
  const cloned = /cloned/.test(message)
  return {
    name: 'RuntimeError',
    code: cloned ? 'INVALID_ARGUMENT' : 'INVALID_STATE',
    message: cloned ? `args: cannot be sent to the main process: ${message}` : message,
    hint: cloned ? 'Pass plain values.' : `Does the main process call registerRuntimeIpc? (${name})`,
    details: {},
  }
}
