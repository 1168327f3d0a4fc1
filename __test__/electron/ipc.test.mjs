// Windows and the main process, over messages that are cloned as Electron clones them, with a real engine behind.
import assert from 'node:assert/strict'
import { readFileSync, realpathSync } from 'node:fs'
import { after, test } from 'node:test'
import { ContainerAdapter, ContainerManager } from 'lima-runtime'
import { IMAGES, sharedEngine } from '../support/engine.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'
import { dockerApp as app, refused } from './app.mjs'

const { api } = sharedEngine()
const made = new Set()
after(() => Promise.all([...made].map((id) => api('DELETE', `/containers/${id}?force=1&v=1`).catch(() => {}))))

const image = IMAGES.busybox ?? 'busybox:latest'
let names = 0
async function container(kai, command, config = {}) {
  const name = `ipc-${process.pid}-${++names}`
  const id = await kai.container.start({ name, image, command, ...config })
  made.add(id)
  return id
}

test('a page works with containers: dates are dates, errors have code, hint and details', async (t) => {
  const { window } = await app(t)
  const { kai } = window()
  const id = await container(kai, ['sh', '-c', 'echo hällo; exec sleep 300'], { labels: { 'ipc.test': '1' } })
  const [found] = await kai.container.list({ filters: { id: [id] } })
  assert.ok(found.created instanceof Date)
  assert.equal(found.state, 'running')
  const stats = await kai.container.stats(id)
  assert.ok(stats.memory.used >= 0)
  const text = await new Promise((resolve) => {
    let all = ''
    kai.container.logs(id, { follow: true }, (text) => {
      all += text
      if (all.includes('\n')) resolve(all)
    })
  })
  assert.equal(text, 'hällo\n')
  await kai.container.remove(id, true)
  const gone = await refused(kai.container.inspect(id), 'CONTAINER_NOT_FOUND')
  assert.match(gone.message, new RegExp(id.slice(0, 12)))
  const wrong = await refused(kai.container.start({ name: 'x y', image: 'busybox' }), 'INVALID_ARGUMENT')
  assert.match(wrong.details.field, /name/)
  const { current, details } = await kai.runtime.detect()
  assert.deepEqual([current, details.length], ['docker', 3])
})

test('what has no channel cannot be asked for', async (t) => {
  const { ipcMain, window, manager } = await app(t)
  const { ipcRenderer, kai } = window()
  const channels = [...ipcMain.handlers.keys()].map((channel) => channel.split(':')[1])
  assert.ok(
    !channels.some((name) => /nerdctl|diagnos|load|save|uninstall|path|delete|reset/i.test(name)),
    `${channels}`,
  )
  for (const name of ['execNerdctl', 'runtime.uninstall', 'image.load', 'container.start.x', '__proto__']) {
    await assert.rejects(ipcRenderer.invoke(`lima-runtime:${name}`, { id: '1', args: [] }), /No handler/)
  }
  // Each method of the page has a channel, and each channel a method.
  const methods = Object.entries(kai).flatMap(([group, api]) => Object.keys(api).map((name) => `${group}.${name}`))
  // Those of a process are called by what `spawn` and `attach` give.
  const own = channels.filter((name) => name.startsWith('process.'))
  assert.deepEqual([...methods, ...own].sort(), channels.sort())
  assert.deepEqual(own.sort(), ['process.end', 'process.kill', 'process.resize', 'process.write'])
  // And each method of an adapter can be asked for, but for those that reach the host.
  const read = (file) => readFileSync(new URL(`../../electron/${file}`, import.meta.url), 'utf8')
  const served = `${read('table.ts')} ${read('methods.ts')}`
  const never = ['constructor', 'getRuntimeType', 'loadImage', 'saveImage', 'restricted']
  const adapter = Object.getOwnPropertyNames(ContainerAdapter.prototype).filter((name) => !never.includes(name))
  assert.deepEqual(
    adapter.filter((name) => !new RegExp(`('|\\.)${name}\\b`).test(served)),
    [],
  )
  assert.equal(manager.getRuntimeType(), 'docker')
})

test('50 MB, functions, and whatever else a page should not send', async (t) => {
  const { window } = await app(t)
  const { kai, ipcRenderer } = window()
  const big = 'x'.repeat(50 << 20)
  const invalid = [
    kai.container.inspect(big),
    kai.container.start({ name: 'x', image: 'busybox', env: { A: big } }),
    kai.container.inspect(() => {}),
    kai.container.start({ name: 'x', image: 'busybox', env: { A: () => {} } }),
    kai.container.start({ name: 'x', image: 'busybox', usernsMode: 'host' }),
    kai.container.start({ name: 'x', image: 'busybox', docker: { HostConfig: { Privileged: true } } }),
    kai.container.start(null),
    kai.container.start([]),
    kai.container.stop(7),
    kai.container.stop('x', '7'),
    kai.container.stop('x', Number.NaN),
    kai.container.list({ filters: { name: 'x' } }),
    kai.container.list({ signal: {} }),
    kai.container.list({ __proto__: null, nested: { a: { b: { c: { d: { e: { f: { g: { h: {} } } } } } } } } }),
    kai.container.list({}, {}, {}),
    kai.network.create(new Map()),
    kai.runtime.switch('podman'),
    kai.runtime.on('quit', () => {}),
    kai.system.prune({ containers: true, scope: 'engine' }),
    kai.image.pull('x', { auth: { username: 'u' } }),
  ]
  await Promise.all(invalid.map((promise) => refused(promise, 'INVALID_ARGUMENT')))
  for (const request of [undefined, null, 7, {}, { id: 1, args: [] }, { id: 'a'.repeat(101), args: [] }, { id: 'a' }]) {
    const answer = await ipcRenderer.invoke('lima-runtime:container.list', request)
    assert.equal(answer.error.code, 'INVALID_ARGUMENT')
  }
  for (const request of [undefined, null, 7, {}, { id: 'nobody' }]) {
    ipcRenderer.send('lima-runtime:cancel', request)
    ipcRenderer.send('lima-runtime:taken', request)
  }
  assert.ok(Array.isArray(await kai.container.list()))
})

test('host paths and exec only by permission, the host network never', async (t) => {
  const asked = []
  const tmp = realpathSync('/tmp')
  const allow = {
    hostPath: ({ path, readOnly }) => asked.push([path, readOnly]) && path === tmp && readOnly,
    exec: async ({ container, name, argv, options }) =>
      container.length === 64 && name.startsWith('ipc-') && argv[0] === 'true' && options.user === undefined,
  }
  const { window: strict } = await app(t)
  const { window } = await app(t, { allow })
  const mount = (host, readOnly) => ({ volumes: [{ host, container: '/mnt', ...(readOnly && { readOnly }) }] })
  for (const host of ['/', '/tmp', '/var/run/docker.sock', '../x', '~/x', 'C:\\', './v', 'a/b', '']) {
    const error = await refused(container(strict().kai, ['true'], mount(host, true)), 'PERMISSION_DENIED')
    assert.equal(error.details.field, 'volumes[0].host')
    assert.match(error.hint, /allow/)
  }
  const { kai } = window()
  await refused(container(kai, ['true'], mount('/', true)), 'PERMISSION_DENIED')
  await refused(container(kai, ['true'], mount('/tmp', false)), 'PERMISSION_DENIED')
  const id = await container(kai, ['sleep', '300'], mount('/tmp', true))
  assert.deepEqual(asked, [
    ['/', true],
    [tmp, false],
    [tmp, true],
  ])
  await refused(strict().kai.container.exec(id, ['true']), 'PERMISSION_DENIED')
  await refused(kai.container.exec(id, ['sh']), 'PERMISSION_DENIED')
  await refused(kai.container.exec(id, ['true'], { user: 'root' }), 'PERMISSION_DENIED')
  // Whatever the window calls it.
  assert.equal((await kai.container.exec(id.slice(0, 20), ['true'])).exitCode, 0)
  await refused(container(kai, ['true'], { networks: ['host'] }), 'PERMISSION_DENIED')
  await refused(kai.network.connect(id, 'host'), 'PERMISSION_DENIED')
  for (const word of [`container:${id}`, 'ns:/proc/1/ns/net']) {
    await refused(container(kai, ['true'], { networks: [word] }), 'INVALID_ARGUMENT')
    await refused(kai.network.connect(id, word), 'INVALID_ARGUMENT')
  }
  await kai.container.remove(id, true)
})

test('powers beyond a container only by permission, by whatever spelling', async (t) => {
  const asked = []
  const allow = { powers: ({ powers }) => asked.push(powers) && powers.every((p) => p === 'capAdd') }
  const { window: strict } = await app(t)
  const { window } = await app(t, { allow })
  const { kai } = window()
  const tries = {
    privileged: { privileged: true },
    devices: { devices: ['/dev/null'] },
    gpus: { gpus: 'all' },
    capAdd: { capAdd: ['SYS_ADMIN'] },
    securityOpt: { securityOpt: ['seccomp=unconfined'] },
    runtime: { runtime: 'runc' },
    sysctls: { sysctls: { 'net.core.somaxconn': '1' } },
    logging: { logging: { driver: 'syslog', options: { 'syslog-address': 'udp://192.0.2.1:514' } } },
    annotations: { annotations: { 'run.oci.x': '1' } },
    networkMode: { networkMode: 'host' },
    pidMode: { pidMode: 'host' },
    ipcMode: { ipcMode: 'host' },
    resources: { resources: { oomScoreAdj: -1000 } },
    ulimits: { ulimits: { rtprio: { soft: 0, hard: 99 } } },
    mounts: { mounts: [{ type: 'tmpfs', target: '/x', propagation: 'shared' }] },
  }
  for (const [field, more] of Object.entries(tries)) {
    for (const method of ['start', 'create']) {
      const config = { name: `ipc-powers-${process.pid}`, image, ...more }
      const error = await refused(strict().kai.container[method](config), 'PERMISSION_DENIED')
      assert.equal(error.details.field, field)
      if (field !== 'capAdd') await refused(kai.container[method](config), 'PERMISSION_DENIED')
    }
  }
  for (const field of [
    'uts',
    'userns',
    'usernsMode',
    'cgroupParent',
    'volumesFrom',
    'links',
    'HostConfig',
    'credentials',
  ])
    await refused(kai.container.start({ name: 'ipc-x', image, [field]: 'host' }), 'INVALID_ARGUMENT')
  for (const networkMode of ['container:x', 'ns:/proc/1/ns/net', 'HOST'])
    await refused(strict().kai.container.start({ name: 'ipc-x', image, networkMode }), 'PERMISSION_DENIED')
  for (const mount of [
    { type: 'bind', source: '/tmp', target: '/x' },
    { type: 'volume', source: '/tmp', target: '/x' },
  ]) {
    const error = await refused(kai.container.create({ name: 'ipc-x', image, mounts: [mount] }), 'PERMISSION_DENIED')
    assert.equal(error.details.field, 'mounts[0].source')
  }
  asked.length = 0
  const id = await container(kai, ['sleep', '300'], {
    capAdd: ['NET_ADMIN'],
    capDrop: ['ALL'],
    readOnlyRootfs: true,
    ports: { 80: '0' },
  })
  assert.deepEqual(asked, [['capAdd']])
  await kai.container.update(id, { resources: { pids: 50 } })
  await kai.container.stop(id, 0)
  assert.equal(await kai.container.start(id), id)
  await kai.container.remove(id, true)
})

test('only a window the app lets in, and no frame inside of one', async (t) => {
  const { window } = await app(t, { allow: { sender: ({ senderFrame }) => senderFrame.url === 'app://other' } })
  await refused(window().kai.container.list(), 'PERMISSION_DENIED')
  const { window: open } = await app(t)
  for (const frame of [{ url: 'app://page', parent: {} }, null])
    await refused(open({ frame }).kai.container.list(), 'PERMISSION_DENIED')
})

test('a window closed, crashed or loaded anew in the middle of a log', async (t) => {
  const { window, gate } = await app(t)
  const other = window()
  const id = await container(other.kai, ['sh', '-c', 'while :; do echo line; sleep 0.05; done'])
  const endings = {
    closed: (w) => w.close(),
    crashed: (w) => w.contents.emit('render-process-gone', {}, { reason: 'crashed' }),
    reloaded: (w) => w.reload(),
  }
  for (const [how, end] of Object.entries(endings)) {
    const one = window()
    let lines = 0
    await one.kai.container.logs(id, { follow: true }, () => lines++)
    await one.kai.runtime.on('state', () => {})
    await waitFor('lines', () => lines > 2)
    const during = gate.open()
    end(one)
    const sent = one.sent
    await waitFor(`the engine's connection closed: ${how}`, () => gate.open() < during)
    assert.equal(one.sent, sent, `${how}: nothing is sent to a window that is gone`)
    if (how === 'closed') assert.equal(one.contents.eventNames().length, 0)
    else assert.ok(Array.isArray(await one.kai.container.list()), how)
  }
  // The other one has noticed nothing.
  const text = await new Promise((resolve) => other.kai.container.logs(id, { tail: 1 }, resolve))
  assert.match(text, /line/)
  await other.kai.container.remove(id, true)
})

test('a stream ends by itself, or by the page; its end says why', async (t) => {
  const { window, gate } = await app(t)
  const { kai } = window()
  const id = await container(kai, ['sh', '-c', 'sleep 0.3; echo last'])
  const ended = await new Promise((resolve) => {
    let text = ''
    kai.container.logs(
      id,
      { follow: true },
      (more) => (text += more),
      (error) => resolve({ text, error }),
    )
  })
  assert.deepEqual(ended, { text: 'last\n', error: undefined })
  await refused(
    kai.container.logs('nobody', {}, () => {}),
    'CONTAINER_NOT_FOUND',
  )
  const failed = await new Promise((resolve) => kai.container.watchStats('nobody', () => {}, resolve))
  assert.equal(failed.code, 'CONTAINER_NOT_FOUND')
  const events = []
  const close = await kai.system.events({ filters: { type: ['container'] } }, (event) => events.push(event))
  await kai.container.remove(id, true)
  await waitFor('an event', () => events.some(({ action, time }) => action === 'destroy' && time instanceof Date))
  const during = gate.open()
  close()
  close()
  await waitFor('the connection closed', () => gate.open() < during)
})

test('a page that does not take a log holds its source', async (t) => {
  const { window } = await app(t)
  const one = window()
  const id = await container(one.kai, ['sh', '-c', 'head -c 4000000 /dev/zero | tr "\\0" x'])
  await one.kai.container.wait(id)
  // The raw channel: nobody says `taken`.
  const before = one.sent
  await one.ipcRenderer.invoke('lima-runtime:container.logs', { id: 'raw', args: [id, {}] })
  await waitFor('the first pieces', () => one.sent - before >= 16)
  // Later than anything that was on its way: an answer of the engine's.
  await one.kai.container.list()
  assert.equal(one.sent - before, 16)
  one.ipcRenderer.send('lima-runtime:taken', { id: 'raw' })
  await waitFor('one more', () => one.sent - before === 17)
  one.close()
  await window().kai.container.remove(id, true)
})

test('a listener that returns a promise holds the source until it settles, however it does', async (t) => {
  const { window } = await app(t)
  const one = window()
  const id = await container(one.kai, ['sh', '-c', 'head -c 4000000 /dev/zero | tr "\\0" x'])
  await one.kai.container.wait(id)
  const waiting = []
  let [heard, holding] = [0, true]
  const listener = (text) => {
    heard += text.length
    return holding ? new Promise((resolve, reject) => waiting.push({ resolve, reject })) : Promise.resolve()
  }
  t.mock.method(console, 'error', () => {})
  const ended = new Promise((resolve) => one.kai.container.logs(id, {}, listener, resolve))
  await waitFor('the first pieces', () => waiting.length >= 16)
  await one.kai.container.list()
  assert.equal(waiting.length, 16)
  waiting[0].resolve()
  await waitFor('one more', () => waiting.length === 17)
  waiting[1].reject(new Error('of the page'))
  await waitFor('another', () => waiting.length === 18)
  holding = false
  for (const { resolve } of waiting) resolve()
  assert.equal(await ended, undefined)
  assert.equal(heard, 4_000_000)
  await one.kai.container.remove(id, true)
})

test('a terminal in a page: typed, resized, read; another page cannot touch it, and it ends with its own', async (t) => {
  const asked = []
  const allow = {
    exec: ({ action, container, argv, options }) => {
      asked.push({ action, container, argv, options })
      return true
    },
  }
  const { window } = await app(t, { allow })
  const one = window()
  const { kai } = one
  const id = await container(kai, ['sh', '-c', 'while :; do sleep 1; done'])
  let text = ''
  const listener = ({ stream, data }) => {
    assert.ok(stream === 'stdout' && Object.prototype.toString.call(data) === '[object Uint8Array]')
    text += Buffer.from(data).toString('latin1')
  }
  const options = { tty: true, columns: 81, rows: 25, env: { PS1: 'ready> ' } }
  const shell = await kai.container.spawn(id.slice(0, 20), ['sh', '-i'], options, listener)
  assert.deepEqual(asked, [{ action: 'spawn', container: id, argv: ['sh', '-i'], options }])
  const until = (what) => waitFor(`${what} in ${JSON.stringify(text)}`, () => text.includes(what))
  await until('ready> ')
  await shell.write('stty size\n')
  await until('25 81\r\n')
  await shell.resize(100, 40)
  await shell.write(new TextEncoder().encode('stty size; exit 3\n'))
  await until('40 100\r\n')
  assert.deepEqual(await shell.exited(), { exitCode: 3 })
  await refused(shell.write('x'), 'INVALID_STATE')
  await refused(shell.resize(0, 1), 'INVALID_STATE')

  // Both streams, half-close and a signal.
  const said = { stdout: '', stderr: '' }
  const hear = ({ stream, data }) => {
    said[stream] += Buffer.from(data)
  }
  const cat = await kai.container.spawn(id, ['sh', '-c', 'cat; echo err >&2; exit 4'], {}, hear)
  const warnings = []
  const warned = (warning) => warnings.push(warning.message)
  process.on('warning', warned)
  for (let i = 0; i < 20; i++) await cat.write('in')
  await cat.end()
  assert.deepEqual(await cat.exited(), { exitCode: 4 })
  process.off('warning', warned)
  assert.deepEqual(warnings, [], 'a write leaves no listener behind')
  assert.deepEqual(said, { stdout: 'in'.repeat(20), stderr: 'err\n' })
  const sleep = await kai.container.spawn(id, ['sleep', '1000'], {}, hear)
  await refused(sleep.kill('SIGNONSENSE'), 'INVALID_ARGUMENT')
  const listed = async (word) =>
    (await kai.container.processes(id)).processes.some((row) => row.at(-1).includes(`sleep ${word}`))
  await waitFor('it runs', () => listed('1000'))
  await sleep.kill('SIGKILL')
  assert.deepEqual(await sleep.exited(), { exitCode: 137 })

  // Of another page, which knows its number.
  const held = await kai.container.spawn(id, ['sleep', '2000'], {}, hear)
  const other = window()
  for (const call of ['write', 'end', 'resize', 'kill']) {
    const args = { write: ['x'], end: [], resize: [1, 1], kill: [] }[call]
    const guess = [...Array(40).keys()].map((n) =>
      other.ipcRenderer.invoke(`lima-runtime:process.${call}`, { id: `${call}-${n}`, args: [`page-${n}`, ...args] }),
    )
    for (const { error } of await Promise.all(guess)) assert.equal(error.code, 'INVALID_STATE')
  }
  await waitFor('it runs', () => listed('2000'))
  held.close()
  await refused(held.exited(), 'ABORTED')
  await waitFor('it has ended', async () => !(await listed('2000')))
  await kai.container.spawn(id, ['sleep', '3000'], {}, hear)
  await waitFor('it runs', () => listed('3000'))
  one.close()
  const { kai: third } = other
  const rows = async () => (await third.container.processes(id)).processes.map((row) => row.at(-1))
  await waitFor('it has ended with its page', async () => !(await rows()).some((c) => c.includes('sleep 3000')))
  await third.container.remove(id, true)
})

test('a process in a page needs the app’s word, takes no privileges, and waits for a page that does not read', async (t) => {
  const { window: strict } = await app(t)
  const { window } = await app(t, { allow: { exec: ({ argv }) => argv[0] === 'sh' } })
  const one = window()
  const { kai } = one
  const id = await container(kai, ['sh', '-c', 'while :; do sleep 1; done'])
  await refused(
    strict().kai.container.spawn(id, ['sh'], {}, () => {}),
    'PERMISSION_DENIED',
  )
  await refused(
    strict().kai.container.attach(id, {}, () => {}),
    'PERMISSION_DENIED',
  )
  await refused(
    kai.container.spawn(id, ['ls'], {}, () => {}),
    'PERMISSION_DENIED',
  )
  await refused(
    kai.container.attach(id, {}, () => {}),
    'PERMISSION_DENIED',
  )
  const privileged = await refused(
    kai.container.spawn(id, ['sh'], { privileged: true }, () => {}),
    'INVALID_ARGUMENT',
  )
  assert.equal(privileged.details.field, 'privileged')
  const before = one.sent
  // The raw channel: nobody says `taken`.
  const script = 'head -c 8000000 /dev/zero'
  await one.ipcRenderer.invoke('lima-runtime:container.spawn', { id: 'raw', args: [id, ['sh', '-c', script], {}] })
  await waitFor('the first pieces', () => one.sent - before >= 16)
  await kai.container.list()
  assert.equal(one.sent - before, 16)
  one.ipcRenderer.send('lima-runtime:taken', { id: 'raw' })
  await waitFor('one more', () => one.sent - before === 17)
  await kai.container.remove(id, true)
})

test('ten windows start: one start, ten answers, and each hears of it', async (t) => {
  const { gate, window, manager } = await app(t, { initialize: false })
  const early = await refused(window().kai.container.list(), 'INVALID_STATE')
  assert.match(early.hint, /initialize|start/)
  const alone = gate.connections()
  const single = new ContainerManager({ appDir: tempDir('app'), docker: { host: gate.host } })
  await single.initialize()
  const one = gate.connections() - alone
  const windows = Array.from({ length: 10 }, () => window())
  const states = windows.map(() => [])
  await Promise.all(windows.map(({ kai }, i) => kai.runtime.on('state', ({ state }) => states[i].push(state))))
  const before = gate.connections()
  let starts = 0
  manager.on('state', ({ state }) => (starts += state === 'starting' ? 1 : 0))
  await Promise.all(windows.map(({ kai }) => kai.runtime.start()))
  assert.equal(gate.connections() - before, one)
  assert.equal(starts, 1)
  for (const seen of states) {
    await waitFor('the state in each window', () => seen.at(-1) === 'ready')
    assert.deepEqual(seen, ['idle', 'starting', 'ready'])
  }
})

test('a cancelled start: of two windows the other one keeps it, the last one ends it', async (t) => {
  const { gate, window, manager } = await app(t, { initialize: false })
  gate.hold()
  // As the app's own start on launch: it alone must not keep a start that a person cancels.
  const own = manager.switchRuntime('docker').catch(({ code }) => code)
  const cancels = []
  const [first, second] = [window(), window()].map(({ kai }) =>
    kai.runtime.switch('docker', { onCancel: (cancel) => cancels.push(cancel) }).catch((error) => error.code),
  )
  await waitFor('both are served', () => manager.getStatus().state === 'starting')
  await new Promise(setImmediate)
  await new Promise(setImmediate)
  cancels[0]()
  assert.equal(await first, 'ABORTED')
  assert.equal(manager.getStatus().state, 'starting')
  cancels[1]()
  assert.equal(await second, 'ABORTED')
  assert.equal(await own, 'ABORTED')
  assert.equal(manager.getStatus().state, 'idle')
  gate.release()
  await window().kai.runtime.start()
  assert.equal(manager.getRuntimeType(), 'docker')
})

test('taken back, nothing answers any more', async (t) => {
  const { unregister, ipcMain, window } = await app(t)
  const one = window()
  await one.kai.runtime.on('state', () => {})
  unregister()
  assert.equal(ipcMain.handlers.size, 0)
  assert.equal(ipcMain.eventNames().length, 0)
  assert.equal(one.contents.eventNames().length, 0)
  const error = await refused(one.kai.container.list(), 'INVALID_STATE')
  assert.match(error.hint, /registerRuntimeIpc/)
})
