// What a window sends, and what it gets told: the main process's time and memory are bounded, and nothing of this computer
// crosses unasked.
import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { RuntimeError } from 'lima-runtime'
import { registerRuntimeIpc } from 'lima-runtime/electron/main'
import { IMAGES, sharedEngine } from '../support/engine.mjs'
import { waitFor } from '../support/wait.mjs'
import { appOf, dockerApp, refused } from './app.mjs'
import { FakeIpcMain } from './fakes.mjs'

const { api } = sharedEngine()
const image = IMAGES.busybox ?? 'busybox:latest'

/** A manager whose adapter and itself do as told: `methods` of either, by name. */
function pretending(methods = {}) {
  const adapter = { restricted: () => adapter, isPrivate: async () => true, ...methods }
  return Object.assign(new EventEmitter(), {
    getRuntime: () => adapter,
    getStatus: () => ({ state: 'ready', runtime: 'docker' }),
    abort() {},
    ...methods,
  })
}

/** Calls a handler as Electron does, without a clone: what is sent may watch what is done with it. */
function raw(t, manager, allow) {
  const ipcMain = new FakeIpcMain()
  t.after(registerRuntimeIpc(ipcMain, manager, { allow }))
  const sender = Object.assign(new EventEmitter(), { isDestroyed: () => false, send() {} })
  const event = { sender, senderFrame: { url: 'app://page', parent: null } }
  return (name, request, from = event) => ipcMain.handlers.get(`lima-runtime:${name}`)(from, request)
}

test('what is too large is refused before it is looked at', async (t) => {
  const call = raw(t, pretending())
  let touched = 0
  const watched = (target) =>
    new Proxy(target, {
      get: (...args) => {
        if (args[1] !== 'length') touched++
        return Reflect.get(...args)
      },
      ownKeys: () => assert.fail('listed'),
    })
  const millions = watched(new Array(5_000_000).fill([]))
  for (const args of [millions, [millions], [{ filters: { name: millions } }], [[[millions]]]]) {
    touched = 0
    const { error } = await call('container.list', { id: 'x', args })
    assert.equal(error.code, 'INVALID_ARGUMENT')
    // Never an element of it.
    assert.equal(touched, 0)
  }
  const bytes = 'x'.repeat(600_000)
  for (const value of [
    [bytes, bytes],
    { [bytes]: bytes },
    new Uint8Array(16),
    new ArrayBuffer(1 << 28),
    new Map(),
    new Set(),
    new Date(),
    /x/,
    new Error('x'),
    Object(7),
    new Array(20_000),
    Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [i, i])),
  ]) {
    const { error } = await call('container.list', { id: 'x', args: [{ filters: value }] })
    assert.equal(error.code, 'INVALID_ARGUMENT')
  }
  const cyclic = {}
  cyclic.self = cyclic
  assert.equal((await call('container.list', { id: 'x', args: [cyclic] })).error.code, 'INVALID_ARGUMENT')
  // What a request holds beside is nobody's.
  const request = watched({ id: 'x', args: [], more: millions })
  touched = 0
  assert.equal((await call('image.exists', request)).error.code, 'INVALID_ARGUMENT')
  assert.equal(touched, 2)
})

test('numbers and lists have ends', async (t) => {
  let calls = 0
  const call = raw(t, pretending({ listContainers: () => calls++, stop: () => calls++, pullImage: () => calls++ }))
  for (const timeoutMs of [Number.POSITIVE_INFINITY, Number.NaN, 1e300, 2 ** 31, 0, -1, '5']) {
    for (const [name, args] of [
      ['container.list', [{ timeoutMs }]],
      ['runtime.stop', [{ timeoutMs }]],
      ['runtime.start', [{ timeoutMs }]],
      ['image.pull', ['x', { timeoutMs }]],
    ]) {
      const { error } = await call(name, { id: 'x', args })
      assert.deepEqual([error.code, error.details.field], ['INVALID_ARGUMENT', 'timeoutMs'])
    }
  }
  const name = Array.from({ length: 9_000 }, (_, i) => `${i}`)
  assert.equal(
    (await call('container.list', { id: 'x', args: [{ filters: { name } }] })).error.code,
    'INVALID_ARGUMENT',
  )
  assert.equal(calls, 0)
})

test('waits end with the page that waits, and count until they have', async (t) => {
  const { window, gate } = await dockerApp(t, { allow: { exec: () => true } })
  const one = window()
  const name = `wait-${process.pid}`
  const id = await one.kai.container.start({ name, image, command: ['sleep', '1000'] })
  t.after(() => api('DELETE', `/containers/${id}?force=1`))
  const before = gate.open()
  for (let reload = 0; reload < 4; reload++) {
    const codes = []
    const { kai } = one
    const calls = [
      ...Array.from({ length: 254 }, () => kai.container.wait(id)),
      kai.container.exec(id, ['sleep', '1000']),
      kai.container.wait(id),
    ]
    for (const call of calls) call.catch(({ code }) => codes.push(code))
    await refused(kai.container.list(), 'INVALID_STATE')
    await waitFor('all of them at the engine', () => gate.open() >= before + 256)
    one.reload()
    await waitFor('their answers', () => codes.length === 256)
    assert.deepEqual([...new Set(codes)], ['ABORTED'])
  }
  // Some may be idle, kept for the next call.
  await waitFor('the connections of one page at most', () => gate.open() <= before + 256)
  assert.equal((await one.kai.container.list()).length >= 1, true)
})

test('calls that go on count for the window, page after page, and for all windows', async (t) => {
  let pulls = 0
  const signals = []
  const manager = pretending({
    pullImage: (_, __, { signal }) => {
      pulls++
      signals.push(signal)
      return new Promise(() => {})
    },
  })
  const { window } = appOf(t, manager)
  const fill = (one, n) => Array.from({ length: n }, (_, i) => one.kai.image.pull(`i:${i}`).catch((error) => error))
  const one = window()
  const late = []
  for (let page = 0; page < 5; page++) {
    late.push(...fill(one, 100))
    await waitFor('they are served', () => pulls === Math.min(256, (page + 1) * 100))
    one.reload()
  }
  await new Promise(setImmediate)
  assert.equal(pulls, 256)
  // They were not ended: a person may have left a page that shows a progress.
  assert.ok(signals.every((signal) => !signal.aborted))
  assert.equal((await Promise.race(late.slice(256))).code, 'INVALID_STATE')
  // Closing a window frees nothing.
  for (let closed = 0; closed < 6; closed++) {
    const another = window()
    fill(another, 256)
    const all = Math.min(1024, 256 * (closed + 2))
    await waitFor('as many as there may be', () => pulls === all)
    another.close()
  }
  await refused(window().kai.image.exists('x'), 'INVALID_STATE')
})

test('a call that nobody waits for ends after a while', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let signal
  const manager = pretending({
    pullImage: (_, __, options) => {
      signal = options.signal
      return new Promise(() => {})
    },
  })
  const { window } = appOf(t, manager)
  const one = window()
  one.kai.image.pull('slow').catch(() => {})
  while (!signal) await new Promise(setImmediate)
  one.reload()
  t.mock.timers.tick(29 * 60_000)
  assert.equal(signal.aborted, false)
  t.mock.timers.tick(2 * 60_000)
  assert.equal(signal.aborted, true)
})

test('an id is its page’s: not used twice, not known to another window, frame, or page', async (t) => {
  let signal
  const manager = pretending({
    waitContainer: (_, options) => {
      signal = options.signal
      return new Promise(() => {})
    },
    pullImage: (_, __, options) => {
      signal = options.signal
      return new Promise(() => {})
    },
  })
  const { window, ipcMain } = appOf(t, manager)
  const [one, two] = [window(), window()]
  const call = { id: 'mine', args: ['x'] }
  one.ipcRenderer.invoke('lima-runtime:container.wait', call)
  await waitFor('it is served', () => signal)
  const again = await one.ipcRenderer.invoke('lima-runtime:container.wait', call)
  assert.equal(again.error.code, 'INVALID_ARGUMENT')
  two.ipcRenderer.send('lima-runtime:cancel', { id: 'mine' })
  for (const senderFrame of [{ url: 'app://page', parent: {} }, null])
    ipcMain.emit('lima-runtime:cancel', { sender: one.contents, senderFrame }, { id: 'mine' })
  for (const id of ['__proto__', ['mine'], null, undefined, 7]) one.ipcRenderer.send('lima-runtime:cancel', { id })
  assert.equal(signal.aborted, false)
  one.ipcRenderer.send('lima-runtime:cancel', { id: 'mine' })
  assert.equal(signal.aborted, true)
  // A call of the page before goes on, and is not the next page's.
  signal = undefined
  one.ipcRenderer.invoke('lima-runtime:image.pull', { id: 'pull', args: ['x'] })
  await waitFor('it is served', () => signal)
  one.reload()
  one.ipcRenderer.send('lima-runtime:cancel', { id: 'pull' })
  assert.equal(signal.aborted, false)
})

test('whether a window may is asked strictly', async (t) => {
  const ask = async (sender, frame) => {
    const { window } = appOf(t, pretending({ imageExists: async () => true }), { sender })
    return window({ frame }).kai.image.exists('x')
  }
  assert.equal(await ask(() => true), true)
  for (const sender of [async () => true, () => 'true', () => 1, () => assert.fail('x')]) {
    await refused(ask(sender), 'PERMISSION_DENIED')
  }
})

// ---- What is told ----------------------------------------------------------------------------------------------------

const HOME = '/home/alice/.local/share/my-app'
const SECRETS = [HOME, 'alice', '/run/user/1000/docker.sock', 'C:\\Users\\alice', 'kernel panic', 'hunter2', '\\\\nas']
const MESSAGES = [
  `Cannot open ${HOME}/lima/ha.stderr.log: permission denied`,
  `No engine answers at unix:///run/user/1000/docker.sock: No such file (alice)`,
  `open "${HOME}/x": no`,
  `(${HOME})`,
  `mount:${HOME}`,
  'C:\\Users\\alice\\AppData\\x is locked',
  'Cannot read \\\\nas\\alice\\x',
  `fetching https://alice:hunter2@proxy.example/x failed`,
  `${'kernel panic\n'.repeat(200)}`,
]
const CODES = [
  ...['NOT_INSTALLED', 'UNSUPPORTED_PLATFORM', 'ROOT_USER', 'PATH_TOO_LONG', 'DOWNLOAD_FAILED', 'CHECKSUM_MISMATCH'],
  ...[
    'ARCHIVE_UNSAFE',
    'DISK_FULL',
    'LOCKED',
    'VM_BROKEN',
    'VM_START_FAILED',
    'VM_NOT_RUNNING',
    'CONTAINERD_NOT_READY',
  ],
  ...['TIMEOUT', 'ABORTED', 'CONTAINER_NOT_FOUND', 'IMAGE_NOT_FOUND', 'NETWORK_NOT_FOUND', 'VOLUME_NOT_FOUND'],
  ...['NAME_IN_USE', 'PORT_IN_USE', 'PORT_NOT_FORWARDED', 'IN_USE', 'INVALID_ARGUMENT', 'INVALID_STATE'],
  ...['PERMISSION_DENIED', 'ENGINE_UNREACHABLE', 'REGISTRY_AUTH', 'ENGINE_ERROR', 'INTERNAL'],
]
const details = {
  ...{ path: HOME, endpoint: 'unix:///run/user/1000/docker.sock', stderr: 'hunter2', stdout: 'hunter2', log: HOME },
  ...{ hostAgentLog: 'kernel panic', serialLog: 'kernel panic', guestLog: 'kernel panic', logTail: 'kernel panic' },
  ...{ credentials: `${HOME}/config.json`, tried: [HOME], reasons: { lima: HOME }, causes: [HOME], entry: HOME },
  ...{ id: HOME, field: 'volumes[0].host', exitCode: 1, timeoutMs: 5, image: 'busybox:1' },
}
const safe = (value) => {
  const text = JSON.stringify(value)
  for (const secret of SECRETS) {
    assert.ok(!text.includes(JSON.stringify(secret).slice(1, -1)), `${secret} in ${text}`)
  }
}

test('no code, with whatever words, tells of this computer', async (t) => {
  let error
  const fail = () => Promise.reject(error)
  // biome-ignore lint/correctness/useYield: it fails before
  const failing = async function* () {
    throw error
  }
  const manager = pretending({ imageExists: fail, events: failing, getContainerLogs: fail, initialize: fail })
  const { kai } = appOf(t, manager).window()
  const { kai: open } = appOf(t, manager, { diagnostics: () => true }).window()
  for (const code of CODES) {
    for (const message of MESSAGES) {
      error = new RuntimeError(code, message, { hint: message, details, cause: new Error(HOME) })
      const told = await refused(kai.image.exists('x'), code)
      safe(told)
      assert.ok(told.message.length > 5)
      if (code !== 'INTERNAL') {
        const { field, exitCode, timeoutMs, image } = details
        assert.deepEqual(told.details, { field, exitCode, timeoutMs, image })
      }
    }
    safe(await refused(kai.runtime.start(), code))
    safe(
      await refused(
        kai.container.logs('x', {}, () => {}),
        code,
      ),
    )
    safe(await new Promise((resolve) => kai.system.events({}, () => {}, resolve)))
    const all = await refused(open.image.exists('x'), code)
    assert.deepEqual([all.message, all.hint, all.details], [error.message, error.hint, details])
  }
  for (error of [
    new TypeError(HOME),
    Object.assign(new Error(HOME), { code: 'ENOENT', path: HOME }),
    HOME,
    undefined,
  ]) {
    const told = await refused(kai.image.exists('x'), 'INTERNAL')
    safe(told)
  }
})

test('what the window said itself, and what names no place, crosses', async (t) => {
  let error
  const { kai } = appOf(t, pretending({ imageExists: () => Promise.reject(error) })).window()
  const own = '/srv/data'
  for (const message of [
    'There is no container web',
    'The registry refused to give docker.io/library/x:1: unauthorized',
    'fetching https://registry-1.docker.io/v2/library/x/manifests/1 failed',
    'ports.80/tcp: 0.0.0.0:80/tcp is taken, read and/or write, linux/amd64',
    'mkdir /srv/data: no such file',
    '"/srv/data" is not in the VM',
  ]) {
    error = new RuntimeError('ENGINE_ERROR', message, { details: { id: own } })
    const told = await refused(kai.image.exists(own), 'ENGINE_ERROR')
    assert.deepEqual([told.message, told.details.id], [message, own])
  }
  error = new RuntimeError('ENGINE_ERROR', 'mkdir /srv/data-of-alice: no')
  assert.equal((await refused(kai.image.exists(own), 'ENGINE_ERROR')).message, 'The engine refused')
})

test('answers tell of containers, not of this computer', async (t) => {
  const error = new RuntimeError('VM_START_FAILED', MESSAGES[0], { details })
  const progress = { phase: 'boot', message: MESSAGES[1], percent: 5 }
  const status = { state: 'failed', runtime: 'lima', error, explanation: MESSAGES[2], progress }
  const endpoint = 'unix:///run/user/1000/docker.sock'
  const found = { type: 'docker', state: 'unavailable', endpoint, reason: MESSAGES[1], hint: MESSAGES[0] }
  const manager = pretending({
    getStatus: () => status,
    detectAvailableRuntimes: async () => ({
      ...{ docker: false, containerd: false, lima: false, current: 'none' },
      details: [{ ...found, tried: [{ endpoint, source: HOME }], downloadBytes: 5 }],
    }),
    initialize: async ({ onProgress }) => {
      onProgress(progress)
      for (let i = 0; i < 3; i++) await new Promise(setImmediate)
    },
    getContainerDetails: async () => ({ id: 'x', env: {}, raw: { LogPath: HOME } }),
    listVolumes: async () => [{ name: 'v', driver: 'local', mountpoint: HOME }],
  })
  const told = async (allow) => {
    const { kai } = appOf(t, manager, allow).window()
    const heard = []
    await kai.runtime.on('state', (state) => heard.push(state))
    await kai.runtime.on('progress', (progress) => heard.push(progress))
    await kai.runtime.start({ onProgress: (progress) => heard.push(progress) })
    manager.emit('state', status)
    manager.emit('progress', progress)
    await waitFor('all of it', () => heard.length === 4)
    const asked = [kai.runtime.status(), kai.runtime.detect(), kai.container.details('x'), kai.volume.list()]
    return [heard, ...(await Promise.all(asked))]
  }
  const [heard, now, detected, container, volumes] = await told()
  safe([heard, now, detected, container, volumes])
  assert.deepEqual([now.state, now.error.code, now.progress.percent], ['failed', 'VM_START_FAILED', 5])
  assert.deepEqual(detected.details, [{ type: 'docker', state: 'unavailable', downloadBytes: 5 }])
  assert.deepEqual([container, volumes], [{ id: 'x', env: {} }, [{ name: 'v', driver: 'local' }]])
  const open = await told({ diagnostics: ({ event }) => event.senderFrame.url === 'app://page' })
  assert.equal(open[1].error.details.path, HOME)
  assert.equal(open[2].details[0].endpoint, endpoint)
  assert.equal(open[3].raw.LogPath, HOME)
  assert.equal(open[4][0].mountpoint, HOME)
})
