// The app's life around the runtime: start on launch, quit during a start, sleep.
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { ContainerManager } from 'lima-runtime'
import { manageLifecycle } from 'lima-runtime/electron/main'
import { dockerGate } from '../support/docker-gate.mjs'
import { tempDir } from '../support/tempdir.mjs'

const CHILD = fileURLToPath(new URL('app-child.mjs', import.meta.url))

class FakeApp extends EventEmitter {
  ended = new Promise((resolve) => (this.end = resolve))
  whenReady() {
    return Promise.resolve()
  }
  /** As Electron: a `will-quit` that nobody prevents ends the process. */
  quit() {
    let prevented = false
    this.emit('will-quit', { preventDefault: () => (prevented = true) })
    if (!prevented) this.end()
  }
}

const managed = (manager, options) => {
  const app = new FakeApp()
  const power = new EventEmitter()
  return { app, power, lifecycle: manageLifecycle(app, power, manager, options) }
}

test('the runtime comes up with the app, also beside windows that ask for it', async (t) => {
  const { host } = await dockerGate(t)
  const manager = new ContainerManager({ appDir: tempDir('app'), docker: { host } })
  let starts = 0
  manager.on('state', ({ state }) => (starts += state === 'starting' ? 1 : 0))
  const { lifecycle, app, power } = managed(manager)
  await Promise.resolve()
  await Promise.all([lifecycle.started, manager.initialize()])
  assert.equal(await lifecycle.started, true)
  assert.equal(starts, 1)
  lifecycle.dispose()
  assert.deepEqual([app.eventNames(), power.eventNames()], [[], []])
})

test('nothing to start is no error of the launch', async () => {
  const manager = new ContainerManager({ appDir: tempDir('app'), docker: { host: `unix://${tempDir('x')}/d.sock` } })
  const { lifecycle } = managed(manager)
  assert.equal(await lifecycle.started, false)
  assert.equal(manager.getStatus().state, 'failed')
  const { lifecycle: quiet } = managed(manager, { startOnLaunch: false })
  assert.equal(await quiet.started, false)
})

test('a quit stops the runtime once, and what does not stop in time does not hold the app', async () => {
  let stops = 0
  const stop = () => {
    stops++
    return new Promise(() => {})
  }
  const manager = { initialize: async () => {}, stop, abort() {} }
  const { app, lifecycle } = managed(manager, { quitDeadlineMs: 50 })
  await lifecycle.started
  app.quit()
  app.quit()
  await app.ended
  assert.equal(stops, 1)
})

test('without stopOnQuit a start is ended, and nothing stopped', async (t) => {
  const { host, hold } = await dockerGate(t)
  const manager = new ContainerManager({ appDir: tempDir('app'), docker: { host } })
  manager.stop = () => assert.fail('stopped')
  hold()
  const { app, lifecycle } = managed(manager, { stopOnQuit: false })
  app.quit()
  await app.ended
  assert.equal(await lifecycle.started, false)
})

test('sleep and wake reach the manager', async () => {
  const told = []
  const manager = {
    initialize: async () => {},
    notifySuspend: () => told.push('suspend'),
    notifyResume: async () => told.push('resume'),
  }
  const { power } = managed(manager)
  power.emit('suspend')
  power.emit('resume')
  assert.deepEqual(told, ['suspend', 'resume'])
})

test('a quit during a start that does not end: the process ends at the deadline, and the next launch works', async (t) => {
  const { host, hold, release } = await dockerGate(t)
  const appDir = tempDir('app')
  hold()
  const launch = () => fork(CHILD, [host, appDir, '2000'])
  const first = launch()
  const state = await new Promise((resolve) => first.once('message', resolve))
  assert.equal(state, 'starting')
  first.send('quit')
  const code = await new Promise((resolve) => first.once('exit', resolve))
  // The engine has not answered yet.
  assert.equal(code, 0)
  release()
  const second = launch()
  const states = []
  await new Promise((resolve) =>
    second.on('message', (state) => {
      states.push(state)
      if (state === 'ready') resolve()
    }),
  )
  assert.deepEqual(states, ['starting', 'ready'])
  second.send('quit')
  assert.equal(await new Promise((resolve) => second.once('exit', resolve)), 0)
})
