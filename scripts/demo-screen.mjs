// The demo's output: a line for each step, with a bar on a terminal and plain lines elsewhere.
import { clearLine, cursorTo } from 'node:readline'

const tty = process.stdout.isTTY && process.env.TERM !== 'dumb'
const paint = (code, text) => (tty && !process.env.NO_COLOR ? `\x1b[${code}m${text}\x1b[0m` : text)
const BAR = 24

export function say(line) {
  wipe()
  console.log(line)
}

/** Bytes for people. */
export function amount(bytes) {
  const unit = ['B', 'KiB', 'MiB', 'GiB'].findIndex((_, i) => bytes < 1024 ** (i + 1) || i === 3)
  return `${(bytes / 1024 ** unit).toFixed(unit === 0 ? 0 : 1)} ${['B', 'KiB', 'MiB', 'GiB'][unit]}`
}

/**
 * Runs one step and prints how it ended and how long it took. `work` gets a function that shows a line meanwhile, with
 * `.pull` for the progress of a pull and `.progress` for that of a runtime, and may return the line's detail, or an object with `detail` and `lines`.
 */
export async function step(title, work) {
  const start = performance.now()
  const draw = (text) => {
    if (!tty) return
    wipe()
    const seconds = ((performance.now() - start) / 1000).toFixed(0)
    process.stdout.write(
      `  ${paint(36, '◌')} ${title} ${paint(2, `${seconds} s ${text}`)}`.slice(0, process.stdout.columns + 16),
    )
  }
  let shown = ''
  const show = (text) => {
    shown = text
    draw(shown)
  }
  show.pull = ({ status, progress, current, total }) =>
    show(
      progress === undefined
        ? status
        : `${bar(progress)} ${total ? `${amount(current ?? 0)} of ${amount(total)}` : status}`,
    )
  show.progress = ({ message, percent, transferred, total }) => {
    const bytes = total ? ` ${amount(transferred ?? 0)} of ${amount(total)}` : ''
    show(`${percent === undefined ? '' : `${bar(percent)} `}${message}${bytes}`)
  }
  const timer = setInterval(() => draw(shown), 500)
  try {
    draw('')
    const result = await work(show)
    const detail = typeof result === 'string' ? result : result?.detail
    done(paint(32, '✔'), title, start, detail)
    for (const line of result?.lines ?? []) console.log(paint(2, `      ${line.trimEnd()}`))
    return result
  } catch (error) {
    done(paint(31, '✖'), title, start)
    throw error
  } finally {
    clearInterval(timer)
  }
}

function done(mark, title, start, detail) {
  const time = `${((performance.now() - start) / 1000).toFixed(2)} s`
  say(`  ${mark} ${title.padEnd(44)} ${paint(2, time.padStart(9))}${detail ? `  ${detail}` : ''}`)
}

function bar(percent) {
  const full = Math.round((percent / 100) * BAR)
  return `${'█'.repeat(full)}${'░'.repeat(BAR - full)} ${percent.toFixed(0).padStart(3)} %`
}

function wipe() {
  if (!tty) return
  cursorTo(process.stdout, 0)
  clearLine(process.stdout, 0)
}
