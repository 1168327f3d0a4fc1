// A VM that nobody uses is stopped, and the next use starts it: the stand-in for limactl, a real sshd as its guest, and a
// private dockerd that listens in this guest, in which nobody else has a container.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmodSync, existsSync, readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { ContainerManager, LimaRuntimeManager } from 'lima-runtime'
import { noDockerd, startDockerd } from '../support/dockerd.mjs'
import { IMAGES, loadTestImages } from '../support/images.mjs'
import { LIMAS, limaRig, missing, ordinaryUser, rejected } from '../support/lima.mjs'
import { joined } from '../support/relay.mjs'
import { waitFor } from '../support/wait.mjs'

const skip = missing() ?? noDockerd()
const idleStopMs = 1000

test('how long nobody may use it is a whole number in its bounds, and a wrong one is named', () => {
  for (const wrong of [0, -1, 999, 1000.5, 2 ** 31, Number.NaN, '2000', true]) {
    const named = (field) => (error) => error.code === 'INVALID_ARGUMENT' && error.details.field === field
    assert.throws(() => new LimaRuntimeManager({ idleStopMs: wrong }), named('idleStopMs'), String(wrong))
    assert.throws(() => new ContainerManager({ lima: { idleStopMs: wrong } }), named('lima.idleStopMs'), String(wrong))
  }
  for (const right of [1000, 2 ** 31 - 1]) new LimaRuntimeManager({ idleStopMs: right })
})

describe('a VM that nobody uses', { skip, timeout: 900_000 }, () => {
  let engine
  before(async () => {
    engine = await startDockerd()
    await loadTestImages(engine)
  })
  after(() => engine?.stop())

  /** A VM with that engine, and an application. */
  async function vm(t) {
    const rig = await limaRig(t, { version: LIMAS.at(-1) })
    const engineSocket = join(rig.dir, 'engine.sock')
    const server = createServer({ allowHalfOpen: true }, (client) =>
      joined(client, connect({ path: engine.socket, allowHalfOpen: true })),
    )
    t.after(() => server.close())
    await new Promise((resolve) => server.listen(engineSocket, resolve))
    chmodSync(engineSocket, 0o777)
    const options = { ...rig.options, engine: 'docker', engineSocket }
    const app = (more = { idleStopMs }) => {
      const { ask, child, gone } = rig.app()
      const call = (method, ...args) => ask({ options: { ...options, ...more }, method, args })
      const adapter = (method, ...args) => call('adapter', method, ...args)
      return { call, adapter, child, gone, stopped: () => call('told', 'stopped') }
    }
    const said = (name) => {
      const path = join(rig.options.dataDir, name)
      return existsSync(path) ? readFileSync(path, 'utf8') : ''
    }
    const boots = () => said('boots').trim().split('\n').length
    return { rig, app, boots, said, ...app() }
  }

  /** Returns once a VM that was last used before this call would have been stopped: another one was, which holds nothing. */
  async function longEnough(t) {
    const rig = await limaRig(t, { version: LIMAS.at(-1) })
    const { ask } = rig.app()
    const call = (method, ...args) => ask({ options: { ...rig.options, idleStopMs }, method, args })
    await call('start')
    await call('told', 'stopped')
  }

  test('is stopped and says so, and is started by what needs it: a call, a program, a connection', async (t) => {
    const { rig, call, adapter, stopped, boots } = await vm(t)
    await call('start')
    const { status, states } = await stopped()
    assert.deepEqual(states, ['starting', 'running', 'stopping', 'stopped'])
    assert.equal(status.idle, true)
    assert.match(status.reason, /nobody used it/)
    const asked = await call('getStatus')
    assert.deepEqual([asked.state, asked.idle, asked.reason], ['stopped', true, status.reason])
    // It is no use to ask.
    assert.equal(await call('isRunning'), false)
    await call('notifyResume')
    assert.equal(boots(), 1)

    // Several at once: one start.
    const lists = await Promise.all([1, 2, 3].map(() => adapter('listContainers', { all: true })))
    assert.deepEqual(lists, [[], [], []])
    assert.equal(boots(), 2)
    const again = await stopped()
    assert.deepEqual(again.states, ['starting', 'running', 'stopping', 'stopped'])

    assert.match(await call('execDocker', ['--version']), /^Docker version /)
    assert.equal((await call('getStatus')).idle, undefined)
    await stopped()
    // A program of this user, over the socket of this computer.
    const { uid, gid } = ordinaryUser()
    const socket = await call('getDockerSocketPath')
    const pong = await new Promise((resolve) => {
      const args = ['-sS', '--max-time', '120', '--unix-socket', socket, 'http://d/_ping']
      execFile('curl', args, { uid, gid, cwd: '/', env: { PATH: '/usr/bin:/bin', HOME: rig.home } }, (_, out, err) =>
        resolve(out || err),
      )
    })
    assert.equal(pong, 'OK')
    assert.equal(boots(), 4)

    // A caller's own time counts, and the start goes on without him.
    await stopped()
    await rejected(adapter('listContainers', { timeoutMs: 300 }), 'TIMEOUT')
    await call('told', 'running')
    assert.equal(boots(), 5)

    // A use that begins while it is being stopped waits for that, and starts it.
    await call('told', 'stopping')
    assert.deepEqual(await adapter('listContainers', { all: true }), [])
    assert.equal(boots(), 6)

    // What somebody stops stays stopped: at once, and where it rested.
    await call('stop')
    await rejected(adapter('listContainers'), 'VM_NOT_RUNNING')
    assert.equal((await call('getStatus')).idle, undefined)
    await call('start')
    await call('events')
    await waitFor('its rest', async () => (await call('getStatus')).idle)
    await call('stop')
    await rejected(call('execDocker', ['--version']), 'VM_NOT_RUNNING')
    assert.equal(boots(), 7)
  })

  test('is in use while a stream is open, a container runs, or another process uses it', async (t) => {
    const { call, adapter, stopped, boots, app } = await vm(t)
    await call('start')
    await call('hold')
    await longEnough(t)
    assert.equal(await call('isRunning'), true, 'a stream is open')

    const id = await adapter('startContainer', { name: 'in-use', image: IMAGES.busybox, command: ['sleep', '10000'] })
    await call('release')
    await longEnough(t)
    assert.equal(await call('isRunning'), true, 'a container runs')

    // Another process, which stops none.
    const other = app({})
    await other.call('hold')
    await adapter('stopContainer', id, 1)
    await longEnough(t)
    assert.equal(await call('isRunning'), true, 'another process uses it')
    await other.call('release')
    assert.equal((await stopped()).status.idle, true)
    assert.equal(boots(), 1)
    await rejected(other.adapter('listContainers'), 'VM_NOT_RUNNING')

    // A third one starts it, and the first one knows that it runs by the next use of its own.
    const third = app()
    await third.adapter('removeContainer', id)
    assert.deepEqual(await adapter('listContainers', { all: true }), [])
    assert.equal(boots(), 2)
    // Whoever is first.
    await Promise.race([stopped(), third.stopped()])
    await waitFor('its rest', async () => (await other.call('getStatus')).idle)
  })

  test('keeps no process alive, and gives back what a prune has freed', async (t) => {
    const { app, said } = await vm(t)
    const { call, adapter, child, gone } = app({ idleStopMs: 2 ** 31 - 1 })
    await call('start')
    await adapter('prune', { volumes: true })
    await waitFor('the trim', () => said('guest.log').match(/sync; exec timeout 120 fstrim -a/))
    assert.equal(await call('isRunning'), true)
    child.disconnect()
    await gone
  })
})
