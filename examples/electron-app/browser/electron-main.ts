// Replaces electron in the main process when the app runs in a plain browser: every page that connects is a window.
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, extname, join, normalize } from 'node:path'
import { pathToFileURL } from 'node:url'
import { decode, encode } from './wire'

// biome-ignore lint/suspicious/noExplicitAny: as Electron has it
type Handler = (event: any, ...args: any[]) => unknown

const LARGEST = 64 << 20
const TYPES: Record<string, string> = {
  ...{ '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.cjs': 'text/javascript' },
}
// Only the page that was given the token knows it: any other page of the browser could reach the port.
const token = randomBytes(24).toString('base64url')
const handlers = new Map<string, Handler>()
const windows = new Map<string, WebContents>()

class WebContents extends EventEmitter {
  readonly id = randomBytes(12).toString('base64url')
  readonly #response: ServerResponse
  #files: string | undefined

  constructor(response: ServerResponse) {
    super()
    this.#response = response
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    this.push({ window: this.id })
  }

  push(message: unknown): void {
    this.#response.write(`data: ${encode(message)}\n\n`)
  }

  send(channel: string, ...args: unknown[]): void {
    this.push({ channel, args })
  }

  isDestroyed(): boolean {
    return this.#response.destroyed
  }

  setWindowOpenHandler(): void {}

  /** Writes a file that the person gave to the page, and tells its path. */
  keep(name: string, body: Buffer): string {
    this.#files ??= mkdtempSync(join(tmpdir(), 'lima-runtime-example-files-'))
    const path = join(this.#files, normalize(`/${name}`))
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, body)
    return path
  }

  forgetFiles(): void {
    if (this.#files) rmSync(this.#files, { recursive: true, force: true })
  }
}

export const ipcMain = Object.assign(new EventEmitter(), {
  handle: (channel: string, handler: Handler) => void handlers.set(channel, handler),
  removeHandler: (channel: string) => void handlers.delete(channel),
})
export const powerMonitor = new EventEmitter()
export const app = Object.assign(new EventEmitter(), {
  whenReady: async () => {},
  getPath: () => process.env.EXAMPLE_DATA ?? join(process.cwd(), '.example'),
  quit() {
    let prevented = false
    app.emit('will-quit', {
      preventDefault: () => {
        prevented = true
      },
    })
    if (!prevented) process.exit(0)
  },
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => app.quit())

export class BrowserWindow {
  static getAllWindows(): unknown[] {
    return [...windows.values()]
  }

  readonly webContents = { setWindowOpenHandler() {} }
  readonly #preload: string

  constructor({ webPreferences }: { webPreferences: { preload: string } }) {
    this.#preload = webPreferences.preload
  }

  loadFile(page: string): void {
    const server = createServer((request, response) => {
      serve(request, response, page, this.#preload).catch((error) => {
        console.error(error)
        response.writeHead(500).end()
      })
    })
    server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      console.log(`Open http://127.0.0.1:${port}/index.html?token=${token}`)
    })
  }
}

async function serve(request: IncomingMessage, response: ServerResponse, page: string, preload: string): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://127.0.0.1')
  // By number only: another site could point a name here.
  if (!/^127\.0\.0\.1:\d+$/.test(request.headers.host ?? '')) return void response.writeHead(403).end()
  if (url.pathname === '/electron/events') {
    if (!knows(url.searchParams.get('token'))) return void response.writeHead(403).end()
    const contents = new WebContents(response)
    windows.set(contents.id, contents)
    response.on('close', () => {
      windows.delete(contents.id)
      contents.emit('destroyed')
      contents.forgetFiles()
    })
    return
  }
  if (url.pathname === '/electron/message' || url.pathname === '/electron/file') {
    const contents = windows.get(String(request.headers['x-window']))
    if (!knows(request.headers['x-token']) || !contents) return void response.writeHead(403).end()
    const chunks: Buffer[] = []
    let size = 0
    for await (const chunk of request) {
      size += chunk.length
      if (size > LARGEST) return void response.writeHead(413).end()
      chunks.push(chunk)
    }
    const body = Buffer.concat(chunks)
    if (url.pathname === '/electron/file') {
      const name = decodeURIComponent(String(request.headers['x-name']))
      return void response.end(contents.keep(name, body))
    }
    response.writeHead(204).end()
    deliver(contents, body.toString(), pathToFileURL(page).href)
    return
  }
  const name = url.pathname.slice(1)
  // Browsers ask for it, Electron does not.
  if (name === 'favicon.ico') return void response.writeHead(204).end()
  const file = name === 'preload.js' ? preload : join(dirname(page), name)
  if (!['index.html', 'page.css', 'renderer.js', 'preload.js'].includes(name)) return void response.writeHead(404).end()
  response.writeHead(200, { 'content-type': TYPES[extname(name)], 'cache-control': 'no-store' })
  // Electron runs the preload script before the page's own.
  const text = readFileSync(file, 'utf8')
  response.end(
    name === 'index.html' ? text.replace('<script', '<script src="preload.js"></script>\n    <script') : text,
  )
}

function knows(given: unknown): boolean {
  const [a, b] = [Buffer.from(String(given)), Buffer.from(token)]
  return a.length === b.length && timingSafeEqual(a, b)
}

function deliver(sender: WebContents, text: string, url: string): void {
  const { channel, args, call } = decode(text) as { channel: string; args: unknown[]; call?: number }
  const event = { sender, senderFrame: { url, parent: null } }
  if (call === undefined) return void ipcMain.emit(channel, event, ...args)
  const handler = handlers.get(channel)
  const answer = async () => {
    if (!handler) throw new Error(`No handler registered for '${channel}'`)
    return handler(event, ...args)
  }
  answer().then(
    (value) => sender.push({ reply: call, value }),
    (error) => sender.push({ reply: call, error: `Error invoking remote method '${channel}': ${error}` }),
  )
}
