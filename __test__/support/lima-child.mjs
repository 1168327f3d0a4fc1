// Managers in a process of their own, run by an ordinary user: Lima refuses root. `node lima-child.mjs <index.cjs>`,
// asked over IPC: `{ id, options, method, args, abortAfterMs? }`, answered with `{ id, value }` or `{ id, error }`.
import { createRequire } from 'node:module'

const { ContainerManager, LimaContainerAdapter, LimaRuntimeManager } = createRequire(import.meta.url)(process.argv[2])
const managers = new Map()
const warnings = []
process.on('warning', ({ name, code, message }) => warnings.push({ name, code, message }))

/** One for each set of options, as an application has it. */
function manager(options) {
  const key = JSON.stringify(options)
  let found = managers.get(key)
  if (!found) {
    found = { lima: new LimaRuntimeManager(options), events: [], statuses: [], held: undefined, tell() {} }
    found.lima.on('state', (status) => {
      found.events.push(status.state)
      found.statuses.push(status)
      found.tell()
    })
    if (process.env.LIMA_RUNTIME_TEST_SAY) found.lima.on('progress', (said) => process.send({ said }))
    managers.set(key, found)
  }
  return found
}

/** Gives up after `ms`; 1 when the call ended by that, 0 when it had ended before. */
async function abortedAfter(ms, call) {
  try {
    await call({ signal: AbortSignal.timeout(Math.round(ms)) })
    return 0
  } catch (error) {
    if (error.code !== 'ABORTED') throw error
    return 1
  }
}

const run = {
  events: (m) => m.events.splice(0),
  /** The next status of this state, and the states that came before it. */
  told: async (m, [state]) => {
    for (;;) {
      const at = m.statuses.findIndex((status) => status.state === state)
      if (at >= 0) {
        const before = m.statuses.splice(0, at + 1)
        return { status: before.at(-1), states: before.map((status) => status.state) }
      }
      await new Promise((resolve) => (m.tell = resolve))
    }
  },
  /** Opens a stream that goes on, until `release`. */
  hold: async (m) => {
    m.held = new LimaContainerAdapter(m.lima).watchContainers()
    await m.held.next()
  },
  release: async (m) => {
    await m.held.return()
  },
  warnings: () => warnings.splice(0),
  adapter: (m, [method, ...args]) => new LimaContainerAdapter(m.lima)[method](...args),
  /** What a manager of runtimes says when it comes to this VM. */
  changes: async (_, [options]) => {
    const [manager, said] = [new ContainerManager(options), []]
    manager.on('runtime-changed', (change) => said.push(change))
    await manager.initialize()
    return { said, status: manager.getStatus() }
  },
  progress: async (m, [method, options]) => {
    const events = []
    await m.lima[method]({ ...options, onProgress: (event) => events.push(event) })
    return events
  },
  /** Gives up as soon as a phase begins, or something is said. */
  givenUp: async (m, [method, options, phase]) => {
    const controller = new AbortController()
    const onProgress = (event) => [event.phase, event.message].includes(phase) && controller.abort()
    return m.lima[method]({ ...options, signal: controller.signal, onProgress })
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
    if (abortAfterMs !== undefined) answer.value = await abortedAfter(abortAfterMs, (call) => m.lima[method](call))
    else if (run[method]) answer.value = await run[method](m, args)
    else answer.value = await m.lima[method](...args)
  } catch (error) {
    const { name, code, message, hint, details } = error
    answer.error = { name, code, message, hint, details }
  }
  process.send({ id, ...answer })
})
