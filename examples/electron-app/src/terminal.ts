// A terminal on a process in a container: what it prints is shown, what is typed is sent.
import { FitAddon } from '@xterm/addon-fit'
import { Terminal } from '@xterm/xterm'
import type { ApiOutput, ApiProcess } from 'lima-runtime/electron/preload'

interface Size {
  columns: number
  rows: number
}

/** Starts the process, or attaches to it. */
export type Begin = (size: Size, listener: (output: ApiOutput) => Promise<void>) => Promise<ApiProcess>

export interface TerminalScreen {
  /** Resolves behind the last output. */
  exited: Promise<{ exitCode: number }>
  focus(): void
  copy(): Promise<void>
  paste(): Promise<void>
  readAloud(on: boolean): void
  /** Makes a shell draw its prompt again, and a program its screen. */
  redraw(): void
  close(): void
}

/** How much is sent at a time; the bridge takes 1 MB at most. */
const PIECE = 64 * 1024
const dark = matchMedia('(prefers-color-scheme: dark)')

/** `leave` is called when a key moves the focus out: Tab is the terminal's. */
export async function openScreen(host: HTMLElement, begin: Begin, leave: () => void): Promise<TerminalScreen> {
  const terminal = new Terminal({
    fontFamily: 'ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace',
    fontSize: 14,
    // Programs choose colours for a dark background.
    minimumContrastRatio: 4.5,
  })
  const fit = new FitAddon()
  terminal.loadAddon(fit)
  terminal.open(host)
  terminal.textarea?.setAttribute('aria-describedby', 'keys')
  const paint = () => {
    const { color, backgroundColor } = getComputedStyle(host)
    const selectionBackground = dark.matches ? '#44618f' : '#b3d1ff'
    terminal.options.theme = {
      ...{ foreground: color, background: backgroundColor, cursor: color, cursorAccent: backgroundColor },
      ...{ selectionBackground, selectionInactiveBackground: selectionBackground },
    }
  }
  paint()
  fit.fit()
  dark.addEventListener('change', paint)
  const fitted = new ResizeObserver(() => fit.fit())
  fitted.observe(host)

  const close = () => {
    fitted.disconnect()
    dark.removeEventListener('change', paint)
    terminal.dispose()
  }
  const show = (data: Uint8Array | string) => new Promise<void>((resolve) => terminal.write(data, resolve))
  const size = () => ({ columns: terminal.cols, rows: terminal.rows })
  let process: ApiProcess
  try {
    process = await begin(size(), ({ data }) => show(data))
  } catch (error) {
    close()
    throw error
  }

  let ended = false
  // Whoever types or resizes after the end is told of the end alone.
  const unlessEnded = (error: unknown) => {
    if (!ended) console.warn(error)
  }
  const resize = () => process.resize(terminal.cols, terminal.rows).catch(unlessEnded)
  terminal.onResize(resize)
  // An attached one has another size, as has one whose window changed meanwhile.
  void resize()

  let sent: Promise<unknown> = Promise.resolve()
  const send = (bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length; at += PIECE) {
      const piece = bytes.slice(at, at + PIECE)
      sent = sent.then(() => process.write(piece)).catch(unlessEnded)
    }
  }
  terminal.onData((text) => send(new TextEncoder().encode(text)))
  terminal.onBinary((text) => send(Uint8Array.from(text, (character) => character.charCodeAt(0))))

  const copy = () => navigator.clipboard.writeText(terminal.getSelection())
  terminal.attachCustomKeyEventHandler((event) => {
    // Then keys are the page's, Tab among them.
    if (ended) return false
    if (!event.ctrlKey || !event.shiftKey) return true
    const { code, type } = event
    if (code !== 'KeyC' && code !== 'KeyL') return true
    event.preventDefault()
    if (type === 'keydown') code === 'KeyC' ? void copy() : leave()
    return false
  })

  const exited = process.exited().finally(async () => {
    ended = true
    terminal.options.disableStdin = true
    terminal.options.cursorBlink = false
    // Behind what was printed last.
    await show('')
  })
  exited.catch(() => {})
  return {
    exited,
    focus: () => terminal.focus(),
    copy,
    paste: async () => {
      terminal.focus()
      terminal.paste(await navigator.clipboard.readText())
    },
    readAloud: (on) => {
      terminal.options.screenReaderMode = on
    },
    redraw() {
      // Both do it when the size changes. More than once: an engine may attach a while after it says so.
      const again = async () => {
        if (ended) return
        await process.resize(terminal.cols, terminal.rows + 1).catch(unlessEnded)
        await resize()
      }
      for (const after of [0, 300, 1500]) setTimeout(again, after)
    },
    close() {
      ended = true
      process.close()
      close()
    },
  }
}
