import { EventEmitter } from 'node:events'
import type * as runtime from 'lima-runtime'
import { type Check, Refused, small, wire } from './check'
import type * as api from './main'
import { type Context, METHODS, STREAMS } from './methods'

/** Pieces of a stream that may be on their way to a window; then its source waits. */
const ROOM = 16
/** Calls and streams of one window at a time: more is a mistake, or none. */
const MOST = 256

interface Running {
  abort: AbortController
  /** Ends with the window. */
  watching: boolean
  /** Pieces sent and not yet taken. */
  onTheWay: number
  taken: () => void
}

const EVENTS = ['state', 'progress', 'runtime-changed'] as const

type Window = Map<string, Running>

interface Request {
  id: string
  args: unknown[]
}

/** Documented in main.d.ts. */
export function registerRuntimeIpc(
  ipcMain: api.IpcMain,
  manager: runtime.ContainerManager,
  options: { allow?: api.Allow } = {},
): () => void {
  const allow = options.allow ?? {}
  const windows = new Map<api.WebContents, Window>()
  const forgets = new Set<() => void>()
  // One listener for all windows: Node warns of a leak at the eleventh.
  const events = new EventEmitter().setMaxListeners(0)
  const forwards = EVENTS.map((event) => [event, (value: unknown) => events.emit(event, value)] as const)
  for (const [event, forward] of forwards) manager.on(event, forward)
  /** Windows that wait for a start or a switch. */
  const sharing = new Set<Running>()

  /** The calls of a window; they are forgotten, and what it watches ends, when it is closed, crashes or loads anew. */
  const windowOf = (sender: api.WebContents): Window => {
    const known = windows.get(sender)
    if (known) return known
    const window: Window = new Map()
    windows.set(sender, window)
    const leave = () => {
      const all = [...window.values()]
      window.clear()
      for (const running of all) {
        running.taken()
        if (running.watching) running.abort.abort()
      }
    }
    const gone = () => {
      leave()
      windows.delete(sender)
      forget()
    }
    const events = { destroyed: gone, 'render-process-gone': leave, 'did-navigate': leave }
    const forget = () => {
      forgets.delete(forget)
      for (const [event, listener] of Object.entries(events)) sender.removeListener(event, listener)
    }
    for (const [event, listener] of Object.entries(events)) sender.on(event, listener)
    forgets.add(forget)
    return window
  }

  const begin = (event: api.IpcEvent, request: unknown, watching: boolean) => {
    // Frames inside of a page are not the app's own. Of one that has gone or loads anew (null) nobody can tell.
    if (event.senderFrame === null || event.senderFrame?.parent)
      throw new Refused('PERMISSION_DENIED', 'Only a window itself may use the runtime')
    if (allow.sender && !allow.sender(event))
      throw new Refused('PERMISSION_DENIED', 'This window may not use the runtime')
    small(request)
    const { id, args } = (request ?? {}) as Request
    if (typeof id !== 'string' || id.length > 100 || !Array.isArray(args)) {
      throw new Refused('INVALID_ARGUMENT', 'args: not a call of exposeRuntime')
    }
    const window = windowOf(event.sender)
    if (window.has(id)) throw new Refused('INVALID_ARGUMENT', 'args: an id that is in use')
    if (window.size >= MOST) {
      throw new Refused(
        'INVALID_STATE',
        `${MOST} calls of this window are under way`,
        'Close streams that nobody reads.',
      )
    }
    const running: Running = { abort: new AbortController(), watching, onTheWay: 0, taken: () => {} }
    window.set(id, running)
    const send = (message: Record<string, unknown>) => {
      // It may have gone in the meantime, and `send` would throw.
      if (window.get(id) === running && !event.sender.isDestroyed()) {
        event.sender.send('lima-runtime:event', { id, ...message })
      }
    }
    const context: Context = {
      ...{ manager, events, allow, event, signal: running.abort.signal },
      get runtime() {
        return manager.getRuntime()
      },
      progress: (value) => send({ value }),
    }
    const end = () => {
      if (window.get(id) === running) window.delete(id)
    }
    return { args, context, running, send, end }
  }

  const answer = async (work: () => Promise<unknown>) => {
    try {
      return { ok: true, value: crossing(await work()) }
    } catch (error) {
      return { ok: false, error: wire(error) }
    }
  }

  for (const [name, method] of Object.entries(METHODS)) {
    ipcMain.handle(`lima-runtime:${name}`, (event, request) =>
      answer(async () => {
        const { args, context, running, end } = begin(event, request, false)
        if (method.shared) sharing.add(running)
        try {
          return await method.run(context, ...checked(method.args, args))
        } finally {
          sharing.delete(running)
          end()
        }
      }),
    )
  }

  for (const [name, stream] of Object.entries(STREAMS)) {
    ipcMain.handle(`lima-runtime:${name}`, (event, request) =>
      answer(async () => {
        const { args, context, running, send, end } = begin(event, request, true)
        try {
          const source = await stream.open(context, ...checked(stream.args, args))
          void pump(source, running, send).finally(end)
        } catch (error) {
          end()
          throw error
        }
      }),
    )
  }

  const cancel = (event: api.IpcEvent, request: unknown) => {
    const running = windows.get(event.sender)?.get((request as Request | undefined)?.id ?? '')
    if (!running) return
    running.abort.abort()
    running.taken()
    // A person's cancel ends a start, also one that began with the app; another window that waits keeps it.
    if (sharing.delete(running) && sharing.size === 0) manager.abort()
  }
  const taken = (event: api.IpcEvent, request: unknown) => {
    const running = windows.get(event.sender)?.get((request as Request | undefined)?.id ?? '')
    if (!running || running.onTheWay === 0) return
    running.onTheWay--
    running.taken()
  }
  ipcMain.on('lima-runtime:cancel', cancel)
  ipcMain.on('lima-runtime:taken', taken)

  return () => {
    for (const name of [...Object.keys(METHODS), ...Object.keys(STREAMS)]) ipcMain.removeHandler(`lima-runtime:${name}`)
    ipcMain.removeListener('lima-runtime:cancel', cancel)
    ipcMain.removeListener('lima-runtime:taken', taken)
    for (const [event, forward] of forwards) manager.off(event, forward)
    for (const forget of [...forgets]) forget()
    for (const window of windows.values()) for (const running of window.values()) running.abort.abort()
    windows.clear()
  }
}

function checked(checks: Check[], args: unknown[]): unknown[] {
  if (args.length > checks.length) throw new Refused('INVALID_ARGUMENT', `args: at most ${checks.length}`)
  for (const [i, check] of checks.entries()) check(`args[${i}]`, args[i])
  return args
}

/** Sends what comes, as fast as the window takes it. */
async function pump(
  source: AsyncIterable<unknown>,
  running: Running,
  send: (message: Record<string, unknown>) => void,
): Promise<void> {
  const { signal } = running.abort
  let error: unknown
  try {
    for await (const value of source) {
      if (signal.aborted) break
      running.onTheWay++
      send({ value: crossing(value) })
      while (running.onTheWay >= ROOM && !signal.aborted) {
        await new Promise<void>((resolve) => {
          running.taken = resolve
        })
      }
    }
  } catch (thrown) {
    error = thrown
  }
  // One that the window closed has nobody to hear of its end.
  if (!signal.aborted) send(error === undefined ? { end: true } : { end: true, error: wire(error) })
}

/** A status holds an error, of which Electron would keep the message alone. */
function crossing(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  return 'error' in value && typeof value.error === 'object' && value.error !== null
    ? { ...value, error: wire(value.error) }
    : value
}
