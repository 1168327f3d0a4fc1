// Replaces electron in the preload script when the app runs in a plain browser: messages go to the main process by HTTP, in
// order, and come back as server-sent events.
import { decode, encode } from './wire'

type Listener = (event: unknown, ...args: unknown[]) => void

const token = new URLSearchParams(location.search).get('token') ?? ''
const listeners = new Map<string, Listener[]>()
const replies = new Map<number, (reply: { value?: unknown; error?: string }) => void>()
const events = new EventSource(`electron/events?token=${token}`)
let last = 0
let own = ''

const connected = new Promise<string>((resolve) => {
  events.onmessage = ({ data }) => {
    const message = decode(data) as { window?: string; reply?: number; channel?: string; args?: unknown[] }
    if (message.window) {
      own = message.window
      resolve(own)
    }
    if (message.reply !== undefined) {
      replies.get(message.reply)?.(message as { value?: unknown })
      replies.delete(message.reply)
    } else for (const listener of listeners.get(message.channel ?? '') ?? []) listener({}, ...(message.args ?? []))
  }
})

let queue: Promise<unknown> = connected
function post(body: string): void {
  queue = queue
    .then(async () => {
      const headers = { 'content-type': 'application/json', 'x-token': token, 'x-window': await connected }
      await fetch('electron/message', { method: 'POST', headers, body })
    })
    .catch(console.error)
}

export const ipcRenderer = {
  send(channel: string, ...args: unknown[]): void {
    post(encode({ channel, args }))
  },
  async invoke(channel: string, ...args: unknown[]): Promise<unknown> {
    const call = ++last
    const body = encode({ channel, args, call })
    const reply = await new Promise<{ value?: unknown; error?: string }>((resolve) => {
      replies.set(call, resolve)
      post(body)
    })
    if (reply.error !== undefined) throw new Error(reply.error)
    return reply.value
  },
  on(channel: string, listener: Listener): void {
    listeners.set(channel, [...(listeners.get(channel) ?? []), listener])
  },
}

/** A browser tells no paths, so the main process gets the file and says where it lies. Synchronous, as Electron's is. */
export const webUtils = {
  getPathForFile(file: File): string {
    const request = new XMLHttpRequest()
    request.open('POST', 'electron/file', false)
    request.setRequestHeader('x-token', token)
    request.setRequestHeader('x-window', own)
    request.setRequestHeader('x-name', encodeURIComponent(file.webkitRelativePath || file.name))
    request.send(file)
    return request.status === 200 ? request.responseText : ''
  },
}

/** Copies like Electron's bridge: functions and promises pass, an Error keeps only its message. */
function bridge(value: unknown): unknown {
  if (typeof value === 'function') return (...args: unknown[]) => bridge(value(...args.map(bridge)))
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Promise) return value.then(bridge, (error) => Promise.reject(bridge(error)))
  if (value instanceof Error) return new Error(value.message)
  if (Array.isArray(value)) return value.map(bridge)
  if (value instanceof Blob) return value
  if (Object.getPrototypeOf(value) !== Object.prototype) return structuredClone(value)
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, bridge(inner)]))
}

export const contextBridge = {
  exposeInMainWorld(key: string, api: unknown): void {
    Object.defineProperty(window, key, { value: bridge(api) })
  },
}
