// Managers in a process of their own, run by an ordinary user: Lima refuses root. `node lima-child.mjs <index.cjs>`,
// asked over IPC: `{ id, options, method, args, abortAfterMs? }`, answered with `{ id, value }` or `{ id, error }`.
import { createRequire } from 'node:module'
import { monitorEventLoopDelay } from 'node:perf_hooks'

const { LimaRuntimeManager } = createRequire(import.meta.url)(process.argv[2])
const managers = new Map()
const warnings = []
process.on('warning', ({ name, code, message }) => warnings.push({ name, code, message }))

/** One for each set of options, as an application has it. */
function manager(options) {
  const key = JSON.stringify(options)
  let found = managers.get(key)
  if (!found) {
    found = { lima: new LimaRuntimeManager(options), events: [] }
    found.lima.on('state', ({ state }) => found.events.push(state))
    if (process.env.LIMA_RUNTIME_TEST_SAY) found.lima.on('progress', (said) => process.send({ said }))
    managers.set(key, found)
  }
  return found
}

/**
 * Gives up after `ms`; how long the answer took then, less what this thread was late, or a call that waits for nothing:
 * on a machine at its limit that is not the call's doing.
 */
async function abortedAfter(ms, lima, call) {
  const controller = new AbortController()
  const lag = monitorEventLoopDelay({ resolution: 1 })
  let aborted
  let idle
  const timer = setTimeout(() => {
    lag.enable()
    aborted = performance.now()
    controller.abort()
    idle = lima.isInstalled().then(() => performance.now() - aborted)
  }, ms)
  try {
    await call({ signal: controller.signal })
    return { done: true }
  } catch (error) {
    if (error.code !== 'ABORTED') throw error
    const took = performance.now() - aborted
    return { took: took - Math.max(lag.max / 1e6, await idle) }
  } finally {
    clearTimeout(timer)
    lag.disable()
  }
}

const run = {
  events: (m) => m.events.splice(0),
  warnings: () => warnings.splice(0),
  progress: async (m, [method, options]) => {
    const events = []
    await m.lima[method]({ ...options, onProgress: (event) => events.push(event) })
    return events
  },
  /** Input that is changed as soon as the calls are made; whether each of them sent it as it was. */
  spoilt: async (m) => {
    const input = Buffer.alloc(1 << 20, 'a')
    const calls = Array.from({ length: 10 }, () => m.lima.execNerdctl(['cat'], { input }))
    input.fill('b')
    return (await Promise.all(calls)).map((said) => said === 'a'.repeat(1 << 20))
  },
}

process.on('message', async ({ id, options, method, args = [], abortAfterMs }) => {
  const answer = {}
  try {
    const m = manager(options)
    if (abortAfterMs !== undefined)
      answer.value = await abortedAfter(abortAfterMs, m.lima, (call) => m.lima[method](call))
    else if (run[method]) answer.value = await run[method](m, args)
    else answer.value = await m.lima[method](...args)
  } catch (error) {
    answer.error = { name: error.name, code: error.code, message: error.message, details: error.details }
  }
  process.send({ id, ...answer })
})
