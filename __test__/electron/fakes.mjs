// Electron's objects, as far as ours use them: messages are structured clones, and the bridge to the page copies plain
// values, passes functions and promises on, and strips Errors (electronjs.org/docs/latest/api/context-bridge).
import { EventEmitter } from 'node:events'
import { exposeRuntime } from 'lima-runtime/electron/preload'

export class FakeIpcMain extends EventEmitter {
  handlers = new Map()

  handle(channel, handler) {
    if (this.handlers.has(channel)) throw new Error(`Attempted to register a second handler for '${channel}'`)
    this.handlers.set(channel, handler)
  }

  removeHandler(channel) {
    this.handlers.delete(channel)
  }

  /** A window whose page has `kai`. */
  window({ frame = { url: 'app://page', parent: null } } = {}) {
    return new FakeWindow(this, frame)
  }
}

class FakeWindow {
  sent = 0

  constructor(ipcMain, frame) {
    this.ipcMain = ipcMain
    this.frame = frame
    this.contents = Object.assign(new EventEmitter(), {
      isDestroyed: () => this.destroyed === true,
      send: (channel, ...args) => {
        if (this.destroyed) throw new TypeError('Object has been destroyed')
        this.sent++
        const copy = structuredClone(args)
        const { renderer } = this
        setImmediate(() => renderer.emit(channel, {}, ...copy))
      },
    })
    this.load()
  }

  load() {
    const renderer = new EventEmitter()
    const event = () => ({ sender: this.contents, senderFrame: this.frame })
    this.renderer = renderer
    this.ipcRenderer = {
      on: (channel, listener) => renderer.on(channel, listener),
      send: (channel, ...args) => {
        const copy = structuredClone(args)
        if (!this.destroyed) this.ipcMain.emit(channel, event(), ...copy)
      },
      invoke: async (channel, ...args) => {
        const copy = structuredClone(args)
        await new Promise(setImmediate)
        const handler = this.ipcMain.handlers.get(channel)
        const prefix = `Error invoking remote method '${channel}'`
        if (!handler) throw new Error(`${prefix}: Error: No handler registered for '${channel}'`)
        try {
          return structuredClone(await handler(event(), ...copy))
        } catch (error) {
          throw new Error(`${prefix}: ${error}`)
        }
      },
    }
    const contextBridge = { exposeInMainWorld: (key, api) => (this[key] = bridge(api)) }
    exposeRuntime(contextBridge, this.ipcRenderer)
  }

  reload() {
    this.contents.emit('did-navigate')
    this.load()
  }

  close() {
    this.destroyed = true
    this.contents.emit('destroyed')
  }
}

/** What the other side of the bridge gets. */
function bridge(value) {
  if (typeof value === 'function') return (...args) => bridge(value(...args.map(bridge)))
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Promise) {
    return value.then(bridge, (error) => {
      throw bridge(error)
    })
  }
  if (value instanceof Error) return new Error(value.message)
  if (Array.isArray(value)) return value.map(bridge)
  if (Object.getPrototypeOf(value) === Object.prototype) {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, bridge(inner)]))
  }
  return structuredClone(value)
}
