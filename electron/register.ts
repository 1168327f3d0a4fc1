import { EventEmitter } from 'node:events'
import type * as runtime from 'lima-runtime'
import { type Check, callback, checkSize, options as only, optional, Refused, shape } from './check'
import type * as api from './main'
import { type Context, isAllowed, runOf } from './methods'
import { type Row, TABLE } from './table'
import { Redactor } from './tell'

/** How many pieces of a stream may be on their way to a window before its source waits. */
const MAX_UNACKNOWLEDGED = 16
/** How many calls and streams one window may have, its earlier pages' included; more is a mistake or an attack. */
const MAX_CALLS_OF_WINDOW = 256
/** How many all windows may have: a page may open and close others. */
const MAX_CALLS = 1024
/** How long a call may run that nobody waits for any more. */
const MAX_ABANDONED_MS = 30 * 60_000

interface Running {
  abort: AbortController
  outlivesPage: boolean
  shared: boolean
  /** Pieces that were sent and not taken yet. */
  unacknowledged: number
  taken: () => void
  /** What it is a stream of, where that is a process. */
  process?: runtime.ContainerProcess
  /** Set when its page has left. */
  left?: NodeJS.Timeout | true
}

/** The table by its channels. */
const ROWS: [string, Row][] = Object.entries(TABLE).flatMap(([group, methods]) =>
  Object.entries(methods).map(([method, row]): [string, Row] => [`${group}.${method}`, row]),
)
const EVENTS = ['state', 'progress', 'runtime-changed'] as const

/** A misspelt permission would silently mean no. */
const asked = optional(callback)
const OPTIONS = only({
  allow: optional(
    shape({
      ...{ sender: asked, hostPath: asked, powers: asked, exec: asked, copy: asked, build: asked, compose: asked },
      ...{ publish: asked, credentials: asked, download: asked, useImage: asked, images: asked, foreign: asked },
      diagnostics: asked,
    } satisfies Record<keyof api.Allow, Check>),
  ),
})

interface Window {
  /** The calls of the current page. */
  calls: Map<string, Running>
  /** The calls of earlier pages, until they end. */
  left: Set<Running>
}

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
  OPTIONS('options', options)
  const allow = options.allow ?? {}
  const windows = new Map<api.WebContents, Window>()
  const runningCalls = new Set<Running>()
  const cleanups = new Set<() => void>()
  // One listener for all windows: Node warns of a leak at the eleventh.
  const events = new EventEmitter().setMaxListeners(0)
  const forwards = EVENTS.map((event) => [event, (value: unknown) => events.emit(event, value)] as const)
  for (const [event, forward] of forwards) manager.on(event, forward)
  /** Calls that wait for a start or a switch. */
  const sharing = new Set<Running>()

  /** The calls of a window. When it is closed, crashes or navigates, nobody hears of them and most of them end. */
  const windowOf = (sender: api.WebContents): Window => {
    const known = windows.get(sender)
    if (known) return known
    const window: Window = { calls: new Map(), left: new Set() }
    windows.set(sender, window)
    const leave = () => {
      const all = [...window.calls.values()]
      window.calls.clear()
      for (const running of all) {
        window.left.add(running)
        running.left = true
        running.taken()
        if (!running.outlivesPage) running.abort.abort()
        else if (!running.shared) running.left = setTimeout(() => running.abort.abort(), MAX_ABANDONED_MS).unref()
      }
    }
    const gone = () => {
      leave()
      windows.delete(sender)
      forget()
    }
    const events = { destroyed: gone, 'render-process-gone': leave, 'did-navigate': leave }
    const forget = () => {
      cleanups.delete(forget)
      for (const [event, listener] of Object.entries(events)) sender.removeListener(event, listener)
    }
    for (const [event, listener] of Object.entries(events)) sender.on(event, listener)
    cleanups.add(forget)
    return window
  }

  const startCall = (event: api.IpcEvent, request: unknown, kind: { outlivesPage?: true; shared?: true }) => {
    if (event.sender.isDestroyed()) throw new Refused('INVALID_STATE', 'The window is closed')
    if (!isTopFrame(event)) throw new Refused('PERMISSION_DENIED', 'Only a window itself may use the runtime')
    if (!isSenderAllowed(allow, event)) throw new Refused('PERMISSION_DENIED', 'This window may not use the runtime')
    const { id, args } = (request ?? {}) as Request
    if (typeof id !== 'string' || id.length > 100 || !Array.isArray(args)) {
      throw new Refused('INVALID_ARGUMENT', 'args: not a call of exposeRuntime')
    }
    checkSize(args)
    const window = windowOf(event.sender)
    if (window.calls.has(id)) throw new Refused('INVALID_ARGUMENT', 'args: an id that is in use')
    if (window.calls.size + window.left.size >= MAX_CALLS_OF_WINDOW || runningCalls.size >= MAX_CALLS) {
      const hint = 'Close streams that nobody reads.'
      throw new Refused('INVALID_STATE', 'Too many calls are under way', hint)
    }
    const running: Running = {
      ...{ abort: new AbortController(), outlivesPage: kind.outlivesPage ?? false, shared: kind.shared ?? false },
      ...{ unacknowledged: 0, taken: () => {} },
    }
    window.calls.set(id, running)
    runningCalls.add(running)
    const send = (message: Record<string, unknown>) => {
      // The window may be gone, and `send` would throw.
      if (!running.left && window.calls.get(id) === running && !event.sender.isDestroyed()) {
        event.sender.send('lima-runtime:event', { id, ...message })
      }
    }
    const end = () => {
      if (window.calls.get(id) === running) window.calls.delete(id)
      window.left.delete(running)
      runningCalls.delete(running)
      if (typeof running.left === 'object') clearTimeout(running.left)
    }
    return { args, running, send, end }
  }

  /** The context that a method of the table gets. */
  const contextOf = async (
    name: string,
    event: api.IpcEvent,
    redactor: Redactor,
    { running, send }: Pick<ReturnType<typeof startCall>, 'running' | 'send'>,
  ): Promise<Context> => {
    const [group] = name.split('.')
    const { signal } = running.abort
    const progress = (value: unknown) => send({ value })
    const holds = (process: runtime.ContainerProcess) => {
      running.process = process
    }
    const process = (call: string) => {
      const found = windows.get(event.sender)?.calls.get(call)?.process
      if (!found) throw new Refused('INVALID_STATE', 'The process has ended')
      return found
    }
    const context = { manager, events, allow, event, redactor, signal, progress, holds, process }
    // These methods need no engine, and there may be none yet.
    if (group === 'runtime' || group === 'process') {
      const runtime = undefined as unknown as runtime.ContainerAdapter
      return { ...context, runtime, powerful: () => runtime }
    }
    const engine = manager.getRuntime()
    const foreign = group !== 'image' && (await isAllowed(context, 'foreign', { method: name }))
    const powerful = () => engine.restricted({ foreign, powers: true })
    return { ...context, runtime: engine.restricted({ foreign }), powerful }
  }

  /** `work` gets the redactor once it is known what the window may be told. */
  const answer = async (
    event: api.IpcEvent,
    request: unknown,
    kind: { outlivesPage?: true; shared?: true },
    work: (call: ReturnType<typeof startCall>, redactor: Redactor) => Promise<unknown>,
  ) => {
    let redactor = new Redactor(false)
    try {
      const call = startCall(event, request, kind)
      try {
        redactor = new Redactor(await isAllowed({ allow, event }, 'diagnostics', {}), call.args)
        return { ok: true, value: await work(call, redactor) }
      } catch (error) {
        call.end()
        throw error
      }
    } catch (error) {
      return { ok: false, error: redactor.error(error) }
    }
  }

  for (const [name, row] of ROWS) {
    const run = runOf(name, row)
    ipcMain.handle(`lima-runtime:${name}`, (event, request) =>
      answer(event, request, row, async (call, redactor) => {
        const { running, send, end } = call
        if (row.shared) sharing.add(running)
        let streaming = false
        try {
          const args = checked(row.args, call.args)
          const value = await run(await contextOf(name, event, redactor, call), ...args)
          if (!row.watched) return value
          streaming = true
          void pump(value as AsyncIterable<unknown>, running, redactor, send).finally(end)
        } finally {
          sharing.delete(running)
          if (!streaming) end()
        }
      }),
    )
  }

  /** The call of the page that a message is about. */
  const callOf = (event: api.IpcEvent, request: unknown): Running | undefined => {
    const id = (request as Request | undefined)?.id
    return typeof id === 'string' && isTopFrame(event) ? windows.get(event.sender)?.calls.get(id) : undefined
  }
  const cancel = (event: api.IpcEvent, request: unknown) => {
    const running = callOf(event, request)
    if (!running) return
    running.abort.abort()
    running.taken()
    // A person's cancel also ends a start that the app began, unless another window waits for it.
    if (sharing.delete(running) && sharing.size === 0) manager.abort()
  }
  const taken = (event: api.IpcEvent, request: unknown) => {
    const running = callOf(event, request)
    if (!running || running.unacknowledged === 0) return
    running.unacknowledged--
    running.taken()
  }
  ipcMain.on('lima-runtime:cancel', cancel)
  ipcMain.on('lima-runtime:taken', taken)

  return () => {
    for (const [name] of ROWS) ipcMain.removeHandler(`lima-runtime:${name}`)
    ipcMain.removeListener('lima-runtime:cancel', cancel)
    ipcMain.removeListener('lima-runtime:taken', taken)
    for (const [event, forward] of forwards) manager.off(event, forward)
    for (const forget of [...cleanups]) forget()
    for (const running of runningCalls) running.abort.abort()
    windows.clear()
  }
}

/** Only a top frame is the app's own. A frame that is gone or navigating (null) is refused. */
function isTopFrame({ senderFrame }: api.IpcEvent): boolean {
  return senderFrame !== null && !senderFrame?.parent
}

function isSenderAllowed(allow: api.Allow, event: api.IpcEvent): boolean {
  if (!allow.sender) return true
  try {
    // A promise does not count as an answer.
    return allow.sender(event) === true
  } catch (error) {
    process.emitWarning(`allow.sender threw, which means no: ${String(error)}`, 'RuntimeWarning')
    return false
  }
}

function checked(checks: Record<string, Check>, args: unknown[]): unknown[] {
  const all = Object.entries(checks)
  if (args.length > all.length) throw new Refused('INVALID_ARGUMENT', `args: at most ${all.length}`)
  for (const [i, [name, check]] of all.entries()) check(name, args[i])
  return args
}

/** Sends values as fast as the window takes them. */
async function pump(
  source: AsyncIterable<unknown>,
  running: Running,
  redactor: Redactor,
  send: (message: Record<string, unknown>) => void,
): Promise<void> {
  const { signal } = running.abort
  let error: unknown
  try {
    for await (const value of source) {
      if (signal.aborted) break
      running.unacknowledged++
      send({ value })
      while (running.unacknowledged >= MAX_UNACKNOWLEDGED && !signal.aborted) {
        await new Promise<void>((resolve) => {
          running.taken = resolve
        })
      }
    }
  } catch (thrown) {
    error = thrown
  }
  // A stream that the window closed has no listener for its end.
  if (!signal.aborted) send(error === undefined ? { end: true } : { end: true, error: redactor.error(error) })
}
