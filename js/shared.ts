import type { Progress, RuntimeProgress } from '../index'
import { checkedAlone, progress } from './call'
import { RuntimeError } from './errors'
import { aborted, onAbort } from './signal'

interface Waiter {
  report: ((event: string) => void) | undefined
}

/**
 * Work shared by all who ask for it while it runs. Each gets its progress, the last event at once. A caller who gives
 * up leaves; when the last one leaves, the work is aborted.
 */
export class Shared {
  readonly done: Promise<void>
  readonly #abort = new AbortController()
  readonly #waiters = new Set<Waiter>()
  #last: string | undefined

  constructor(work: (p: { onProgress: (p: RuntimeProgress) => void; signal: AbortSignal }) => Promise<void>) {
    const onProgress = (event: RuntimeProgress) => {
      this.#last = JSON.stringify(event)
      for (const { report } of [...this.#waiters]) report?.(this.#last)
    }
    this.done = work({ onProgress, signal: this.#abort.signal })
    this.done.catch(() => {})
  }

  /** Whether callers may still join: it has not been aborted. */
  get open(): boolean {
    return !this.#abort.signal.aborted
  }

  abort(): void {
    this.#abort.abort()
  }

  async join(p: Progress | undefined): Promise<void> {
    const { options, report } = progress(p)
    const { signal, timeoutMs } = checkedAlone(options)
    if (signal?.aborted) throw aborted(signal)
    const waiter: Waiter = { report }
    let timer: NodeJS.Timeout | undefined
    let forget: (() => void) | undefined
    const gaveUp = new Promise<never>((_, reject) => {
      forget = signal && onAbort(signal, () => reject(aborted(signal)))
      if (timeoutMs !== undefined) timer = setTimeout(() => reject(timedOut(timeoutMs)), timeoutMs)
    })
    this.#waiters.add(waiter)
    if (this.#last) report?.(this.#last)
    try {
      await Promise.race([this.done, gaveUp])
    } finally {
      this.#waiters.delete(waiter)
      forget?.()
      clearTimeout(timer)
      // Has no effect when the work has ended.
      if (this.#waiters.size === 0) this.abort()
    }
  }
}

function timedOut(timeoutMs: number): RuntimeError {
  return new RuntimeError('TIMEOUT', `No answer within ${timeoutMs / 1000} s`, {
    hint: 'Pass a larger timeoutMs, or look whether the engine is under load.',
    details: { timeoutMs },
  })
}
