import type * as api from './preload'
import type { WireError } from './tell'

type Message = { id: string; value?: unknown; end?: true; error?: WireError }
type Listener = (value: unknown) => void
type Callbacks = { onProgress?: Listener; onCancel?: (cancel: () => void) => void }

/** Each method has its own channel; the names are those of the main process's table. */
const METHODS: { [G in keyof api.RuntimeApi]: readonly string[] } = {
  runtime: ['start', 'switch', 'stop', 'detect', 'status', 'isAvailable'],
  container: [
    ...['start', 'stop', 'restart', 'remove', 'kill', 'pause', 'unpause', 'wait'],
    ...['inspect', 'details', 'list', 'stats', 'exec'],
  ],
  image: ['pull', 'list', 'remove', 'exists', 'tag'],
  network: ['create', 'remove', 'list', 'connect', 'disconnect'],
  volume: ['create', 'remove', 'list'],
  system: ['info', 'diskUsage', 'prune'],
}

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
    (name: string) =>
    async (...given: unknown[]) => {
      const id = `${page}-${++last}`
      const { args, onProgress, onCancel } = split(given)
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
  const watch = async (name: string, given: unknown[], listener: Listener, onEnd?: (error?: WireError) => void) => {
    const id = `${page}-${++last}`
    const { args } = split(given)
    const close = () => {
      if (open.delete(id)) ipcRenderer.send('lima-runtime:cancel', { id })
    }
    open.set(id, (message) => {
      if (message.end) {
        open.delete(id)
        if (onEnd) quietly(onEnd as Listener, message.error)
        return
      }
      quietly(listener, message.value)
      ipcRenderer.send('lima-runtime:taken', { id })
    })
    try {
      await invoke(name, id, args)
    } catch (error) {
      open.delete(id)
      return Promise.reject(error)
    }
    return close
  }

  const group = (name: keyof api.RuntimeApi) =>
    Object.fromEntries((METHODS[name] ?? []).map((method) => [method, call(`${name}.${method}`)]))
  contextBridge.exposeInMainWorld(key, {
    runtime: {
      ...group('runtime'),
      on: (event: string, listener: Listener) => watch('runtime.watch', [event], listener),
    },
    container: {
      ...group('container'),
      logs: (id: string, options: object, listener: Listener, onEnd?: () => void) =>
        watch('container.logs', [id, options], listener, onEnd),
      watchStats: (id: string, listener: Listener, onEnd?: () => void) =>
        watch('container.watchStats', [id], listener, onEnd),
    },
    image: group('image'),
    network: group('network'),
    volume: group('volume'),
    system: {
      ...group('system'),
      events: (options: object, listener: Listener, onEnd?: () => void) =>
        watch('system.events', [options], listener, onEnd),
    },
  })
}

/** Functions do not cross to the main process: the two that options may hold stay here. */
function split(given: unknown[]): { args: unknown[] } & Callbacks {
  const found: Callbacks = {}
  const args = given.map((value) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
    const { onProgress, onCancel, ...rest } = value as Callbacks
    if (typeof onProgress === 'function') found.onProgress = onProgress
    if (typeof onCancel === 'function') found.onCancel = onCancel
    return rest
  })
  // Omitted arguments are not sent, since the main process counts arguments.
  while (args.length > 0 && args.at(-1) === undefined) args.pop()
  return { args, ...found }
}

function quietly(listener: Listener, value: unknown): void {
  try {
    listener(value)
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
