import type { RuntimeProgress } from '../index'

/** Control characters but a tab and a line's end, and what turns the direction of text. */
const STEERING = /(?![\t\n])[\p{Cc}\u2028-\u202e\u2066-\u2069]/gu

const code = (character: string) => (character.codePointAt(0) ?? 0).toString(16)

/** Some of it was said by programs, guests and servers: on a terminal it must not steer. Lines stay lines. */
export function plain(text: string): string {
  return text.replaceAll('\r\n', '\n').replace(STEERING, (c) => `\\u{${code(c)}}`)
}

/** JSON leaves some of these in its strings as they are. */
export function json(value: unknown): string {
  return JSON.stringify(value, null, 2).replace(STEERING, (c) => `\\u${code(c).padStart(4, '0')}`)
}

/** Progress and messages for a person, on standard error; results go to standard output. */
export class Screen {
  private readonly stream = process.stderr
  private readonly bars: boolean
  private drawn = false
  private last = ''
  private step = -1

  constructor(private readonly quiet: boolean) {
    this.bars = Boolean(this.stream.isTTY) && !process.env.CI && process.env.TERM !== 'dumb'
  }

  /** On a terminal a bar that redraws itself; in a log one line for each message and each tenth. */
  readonly progress = (said: RuntimeProgress): void => {
    if (this.quiet) return
    const event = { ...said, message: plain(said.message) }
    if (this.bars) {
      this.draw(barLine(event, this.stream.columns ?? 80))
      return
    }
    const step = event.percent === undefined ? -1 : Math.floor(event.percent / 10)
    if (event.message === this.last && step <= this.step) return
    this.last = event.message
    this.step = step
    this.stream.write(`${plainLine(event)}\n`)
  }

  note(text: string): void {
    if (!this.quiet) this.line(text)
  }

  /** Written even when quiet. */
  line(text: string): void {
    this.clear()
    this.stream.write(`${plain(text)}\n`)
  }

  clear(): void {
    if (this.drawn) this.stream.write('\r\x1b[K')
    this.drawn = false
  }

  private draw(text: string): void {
    this.stream.write(`\r\x1b[K${text}`)
    this.drawn = true
  }
}

const BAR = 24

function barLine(event: RuntimeProgress, columns: number): string {
  const { percent } = event
  if (percent === undefined) return event.message.slice(0, columns - 1)
  const full = Math.round((Math.min(100, percent) / 100) * BAR)
  const bar = `[${'='.repeat(full)}${' '.repeat(BAR - full)}] ${Math.floor(percent).toString().padStart(3)}%`
  return [bar, ...amounts(event), event.message].join('  ').slice(0, columns - 1)
}

function plainLine(event: RuntimeProgress): string {
  const facts = [...(event.percent === undefined ? [] : [`${Math.floor(event.percent)}%`]), ...amounts(event)]
  return facts.length > 0 ? `${event.message} (${facts.join(', ')})` : event.message
}

function amounts({ transferred, total, bytesPerSecond, etaSeconds }: RuntimeProgress): string[] {
  const found: string[] = []
  if (transferred !== undefined)
    found.push(total === undefined ? bytes(transferred) : `${bytes(transferred)} of ${bytes(total)}`)
  if (bytesPerSecond !== undefined) found.push(`${bytes(bytesPerSecond)}/s`)
  if (etaSeconds !== undefined) found.push(`${duration(etaSeconds)} left`)
  return found
}

export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = count
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

function duration(seconds: number): string {
  const whole = Math.ceil(seconds)
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`
}
