/**
 * Awaits a condition that has no event: calls `condition` until it gives a truthy value, and resolves with that.
 * Where an event exists, await the event.
 * @template T
 * @param {string} what for the error's message
 * @param {() => T | Promise<T>} condition may throw: counts as not yet
 * @param {{ timeoutMs?: number, everyMs?: number, signal?: AbortSignal }} [options]
 * @returns {Promise<NonNullable<T>>}
 */
export async function waitFor(what, condition, { timeoutMs = 60_000, everyMs = 20, signal } = {}) {
  const deadline = Date.now() + timeoutMs
  let last
  for (;;) {
    signal?.throwIfAborted()
    try {
      const value = await condition()
      if (value) return value
      last = undefined
    } catch (error) {
      last = error
    }
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`, { cause: last })
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
}
