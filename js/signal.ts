import { RuntimeError } from './errors'

/** The error for an aborted call; the signal's reason is its cause. */
export function aborted(signal: AbortSignal): RuntimeError {
  return new RuntimeError('ABORTED', 'The operation was aborted', { cause: signal.reason })
}

interface Waiting {
  listener: () => void
  all: Set<() => void>
}

const waiting = new WeakMap<AbortSignal, Waiting>()

/**
 * Calls `f` when the signal is aborted; the returned function stops this. All our calls share one listener: an app may
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
  // A new function each time: the same `f` may be given twice.
  const one = () => f()
  all.add(one)
  return () => {
    // An emptied entry is gone; a later one is not ours to remove.
    if (!all.delete(one) || all.size > 0) return
    signal.removeEventListener('abort', listener)
    waiting.delete(signal)
  }
}
