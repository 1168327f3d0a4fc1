import type { SetupError, SetupProgress, SetupSession, SetupState } from './index.mjs'

/**
 * A set-up outside any element: it continues while the screen is closed and opened again. `run` is what the Continue
 * button does, for example `(o) => window.kai.runtime.start(o)`.
 */
export function createSetupSession(
  run: (
    options: { onProgress: (progress: SetupProgress) => void; onCancel: (cancel: () => void) => void },
    signal: AbortSignal,
  ) => Promise<unknown>,
): SetupSession {
  let state: SetupState = { status: 'idle' }
  let abort: AbortController | undefined
  const listeners = new Set<() => void>()
  const set = (next: SetupState) => {
    state = next
    for (const listener of [...listeners]) listener()
  }
  return {
    get state() {
      return state
    },
    subscribe(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    start() {
      if (state.status === 'running') return
      const controller = new AbortController()
      abort = controller
      set({ status: 'running', startedAt: Date.now() })
      const onProgress = (progress: SetupProgress) => {
        if (abort === controller && state.status === 'running') set({ ...state, progress })
      }
      const onCancel = (cancel: () => void) => {
        if (controller.signal.aborted) cancel()
        else controller.signal.addEventListener('abort', () => cancel(), { once: true })
      }
      // In a promise, so that a `run` that throws counts as failed, too.
      Promise.resolve()
        .then(() => run({ onProgress, onCancel }, controller.signal))
        .then(
          () => set({ ...state, status: 'ready' }),
          (error: SetupError) =>
            set(error?.code === 'ABORTED' ? { ...state, status: 'cancelled' } : { ...state, status: 'failed', error }),
        )
    },
    cancel() {
      abort?.abort()
    },
  }
}
