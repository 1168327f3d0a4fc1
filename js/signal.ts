import { RuntimeError } from './errors'

/** What a caller who aborts gets; the signal says why. */
export function aborted(signal: AbortSignal): RuntimeError {
  return new RuntimeError('ABORTED', 'The operation was aborted', { cause: signal.reason })
}

interface Waiting {
  listener: () => void
  all: Set<() => void>
}

const waiting = new WeakMap<AbortSignal, Waiting>()

/**
 * Calls `f` when the signal is aborted; the function returned ends that. All our calls share one listener: an app may
 * have many under one signal, and Node warns of a leak at the eleventh.
 */
export function onAbort(signal: AbortSignal, f: () => void): () => void {
  let entry = waiting.get(signal)
  if (!entry) {
    const all = new Set<() => void>()
    entry = {
      all,
      listener: () => {
        for (const one of [...all]) one()
      },
    }
    waiting.set(signal, entry)
    signal.addEventListener('abort', entry.listener, { once: true })
  }
  const { all, listener } = entry
  // A function of its own: the same one may be given twice.
  const one = () => f()
  all.add(one)
  return () => {
    // An entry that was emptied is gone; a later one is not ours to remove.
    if (!all.delete(one) || all.size > 0) return
    signal.removeEventListener('abort', listener)
    waiting.delete(signal)
  }
}
