// A real VM that nobody uses (`support/real-lima.mjs` says when) is stopped, and started by the next call: how long each takes.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { LimaContainerAdapter, LimaRuntimeManager } from 'lima-runtime'
import { noRealLima, SLOWNESS, startRealLima } from '../support/real-lima.mjs'

const HOUR = 3_600_000
const idleStopMs = 1000 * SLOWNESS

const began = Date.now()
const say = (...words) => console.log(`# ${((Date.now() - began) / 1000).toFixed(1).padStart(7)} s`, ...words)

let vm
after(() => vm?.stop())

test('a real VM that nobody uses rests, and wakes for who needs it', {
  skip: noRealLima(),
  timeout: HOUR,
}, async () => {
  vm = await startRealLima(LimaRuntimeManager)
  await vm.root('nerdctl ps -aq | xargs -r nerdctl rm -f')
  const manager = new LimaRuntimeManager({ ...vm.options, idleStopMs })
  const adapter = new LimaContainerAdapter(manager)
  const states = []
  let tell = () => {}
  manager.on('state', (status) => {
    states.push(status)
    say(status.state, status.reason ?? '')
    tell()
  })
  const reached = async (state) => {
    while (states.at(-1)?.state !== state) await new Promise((resolve) => (tell = resolve))
    return states.at(-1)
  }
  for (const round of [1, 2]) {
    await manager.start({ timeoutMs: HOUR })
    const [used, cpu] = [Date.now(), process.cpuUsage()]
    assert.equal((await reached('stopped')).idle, true)
    const { user, system } = process.cpuUsage(cpu)
    say(
      `round ${round}: rests ${Date.now() - used} ms after its last use; ${(user + system) / 1000} ms of processor time here`,
    )
    const asked = Date.now()
    assert.deepEqual(await adapter.listContainers({ all: true, timeoutMs: HOUR }), [])
    say(`round ${round}: answered ${Date.now() - asked} ms after the call that woke it`)
    await reached('running')
  }
})
