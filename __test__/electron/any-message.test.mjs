// Any message a page can send is answered at once, by a coded refusal or by the engine. Random, from a seed:
// LIMA_RUNTIME_TEST_SEED repeats one, LIMA_RUNTIME_TEST_STRESS=1 takes more of them, LIMA_RUNTIME_TEST_SECONDS as many as
// there is time for.
import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { ContainerManager } from 'lima-runtime'
import { manageLifecycle, registerRuntimeIpc } from 'lima-runtime/electron/main'
import { dockerGate } from '../support/docker-gate.mjs'
import { source } from '../support/facade.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { FakeIpcMain } from './fakes.mjs'

const SEED = Number(process.env.LIMA_RUNTIME_TEST_SEED) || 0x5eed
const SECONDS = Number(process.env.LIMA_RUNTIME_TEST_SECONDS) || 0
const ROUNDS = SECONDS ? Infinity : process.env.LIMA_RUNTIME_TEST_STRESS ? 200_000 : 5_000

/** mulberry32 */
function dice(seed) {
  let state = seed
  return (n) => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % n
  }
}

const CONFIG = {
  ...{
    name: 'web',
    image: 'busybox',
    env: { A: '1' },
    ports: { 80: '8080' },
    labels: { a: 'b' },
    platform: 'linux/amd64',
  },
  ...{ volumes: [{ host: 'data', container: '/data', readOnly: true }], networks: ['bridge'], command: ['sh'] },
  ...{ healthcheck: { test: ['NONE'], interval: 1, timeout: 1, retries: 1 }, restart: 'always' },
  ...{ resources: { cpus: 1, memory: '64MiB' }, tmpfs: { '/t': { size: 1024, mode: 511 } }, user: '1', tty: true },
  ...{ mounts: [{ type: 'volume', source: 'data', target: '/m' }], ulimits: { core: { soft: 1, hard: 2 } } },
  networkOptions: { bridge: { aliases: ['a'] } },
}
const CALL = { timeoutMs: 1000 }
/** Right arguments of a channel whose arguments are not names alone. */
const RIGHT = {
  'runtime.on': ['state'],
  'runtime.switch': ['docker', CALL],
  'container.create': [CONFIG, CALL],
  'container.start': [CONFIG, CALL],
  'container.update': ['web', { resources: { pids: 5 }, restart: 'no' }, CALL],
  'container.list': [{ ...CALL, all: true, filters: { name: ['x'] } }],
  'container.kill': ['web', 'TERM', CALL],
  'container.spawn': ['web', ['sh'], { ...CALL, tty: true, columns: 80, rows: 24, stdin: true, user: 'root' }],
  'container.attach': ['web', { ...CALL, stdin: true, logs: true }],
  'container.watch': [{ ...CALL, filters: { name: ['x'] } }],
  'container.wait': ['web', { ...CALL, condition: 'exited' }],
  'process.write': ['x', 'data'],
  'process.resize': ['x', 80, 24],
  'process.kill': ['x', 'TERM'],
  'container.exec': ['web', ['sh'], { ...CALL, env: { A: '1' }, input: 'x' }],
  'container.logs': ['web', { ...CALL, follow: true, tail: 5, since: 1, stdout: true }],
  'image.pull': ['busybox', { ...CALL, platform: 'linux/amd64', auth: { username: 'u', password: 'p' } }],
  'image.push': ['busybox', { ...CALL, auth: { username: 'u', password: 'p' } }],
  'image.build': ['/x', { ...CALL, dockerfile: 'D', tags: ['x'], args: { A: '1' }, secrets: { a: 'b' }, pull: true }],
  'compose.up': [
    '/x/c.yaml',
    { ...CALL, projectName: 'x', env: { A: '1' }, services: ['a'], pull: 'never', wait: true },
  ],
  'compose.down': ['/x/c.yaml', { ...CALL, volumes: true, profiles: ['a'] }],
  'compose.ps': ['/x/c.yaml', { ...CALL, projectName: 'x' }],
  'container.commit': ['web', { ...CALL, reference: 'me/web:1', message: 'm', pause: true }],
  'network.create': ['n', { ...CALL, driver: 'bridge', internal: true }],
  'volume.create': ['v', { ...CALL, driver: 'local', labels: { a: 'b' } }],
  'system.prune': [{ ...CALL, images: true }],
  'system.events': [{ ...CALL, since: 1, filters: { type: ['container'] } }],
}
const OTHERS = { options: CALL, force: true, timeout: 5 }
const { TABLE } = await source('electron/table')

/** Right arguments for a channel. */
function rightFor(channel) {
  const name = channel.split(':')[1]
  const [group, method] = name.split('.')
  return structuredClone(RIGHT[name] ?? Object.keys(TABLE[group][method].args).map((arg) => OTHERS[arg] ?? 'web'))
}
const TEXTS = [
  '',
  'x',
  '/etc',
  '../..',
  'host',
  'container:x',
  'a:b',
  '__proto__',
  'constructor',
  '\0',
  '\ud800',
  'x'.repeat(5000),
]

/** What structured clone lets through, and no page's code would send. */
function any(roll, depth = 0) {
  const more = () => any(roll, depth + 1)
  const kinds = [
    () => TEXTS[roll(TEXTS.length)],
    () => [0, -0, -1, 1.5, NaN, Infinity, 2 ** 31, 2 ** 53, -(2 ** 63)][roll(9)],
    () => [undefined, null, true, false, 5n, new Date(NaN), /x/g, new Map([['a', 1]]), new Set(['a'])][roll(9)],
    () => [new Error('x'), new Uint8Array(8), new ArrayBuffer(8), new DataView(new ArrayBuffer(4)), Object(1)][roll(5)],
    () => structuredClone(CONFIG),
    () => structuredClone(CALL),
    () => Array.from({ length: roll(4) }, () => (depth < 10 ? more() : 0)),
    () =>
      Object.fromEntries(Array.from({ length: roll(4) }, () => [TEXTS[roll(TEXTS.length)], depth < 10 ? more() : 0])),
    () => JSON.parse('{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}'),
    () => {
      const self = {}
      self.self = self
      return self
    },
    () => Array(roll(2) ? 1e9 : 20_000),
  ]
  return kinds[roll(kinds.length)]()
}

/** A right argument with something in it changed. */
function spoilt(roll, value) {
  if (typeof value !== 'object' || value === null || roll(4) === 0) return any(roll)
  const keys = Object.keys(value)
  const key = roll(6) === 0 || keys.length === 0 ? TEXTS[roll(TEXTS.length)] : keys[roll(keys.length)]
  const copy = Array.isArray(value) ? [...value] : { ...value }
  if (roll(5) === 0) delete copy[key]
  else Object.defineProperty(copy, key, { value: spoilt(roll, value[key]), enumerable: true, configurable: true })
  return copy
}

/** Its engine was there and is gone: what gets through the checks fails at once, and changes nothing. */
async function withoutEngine(t) {
  const gate = await dockerGate(t)
  const place = { address: `${tempDir('none')}/containerd.sock` }
  const manager = new ContainerManager({ appDir: tempDir('app'), docker: { host: gate.host }, containerd: place })
  await manager.switchRuntime('docker')
  gate.close()
  return manager
}

test('what an array has beside its elements is looked at by nobody', async (t) => {
  const ipcMain = new FakeIpcMain()
  t.after(registerRuntimeIpc(ipcMain, await withoutEngine(t)))
  const window = ipcMain.window()
  const argv = Object.assign(['true'], { more: {} })
  argv.more.more = argv
  const event = { sender: window.contents, senderFrame: window.frame }
  const call = { id: 'one', args: ['web', argv, CALL] }
  const answer = await ipcMain.handlers.get('lima-runtime:container.exec')(event, structuredClone(call))
  assert.equal(answer.error.code, 'ENGINE_UNREACHABLE')
})

/** Each object in these arguments with a field more, and where it is. */
function* misspelt(value, path = '') {
  if (typeof value !== 'object') return
  const at = (key) => (Array.isArray(value) ? `${path}[${key}]` : `${path}${path && '.'}${key}`)
  if (!Array.isArray(value) && !/(env|ports|labels|filters)$/.test(path))
    yield [{ ...value, misspelt: 1 }, at('misspelt')]
  for (const [key, inner] of Object.entries(value)) {
    for (const [spoilt, field] of misspelt(inner, at(key))) {
      const copy = structuredClone(value)
      copy[key] = spoilt
      yield [copy, field]
    }
  }
}

test('an option that there is not is named, on every channel and at any depth', async (t) => {
  const ipcMain = new FakeIpcMain()
  t.after(registerRuntimeIpc(ipcMain, await withoutEngine(t)))
  const window = ipcMain.window()
  const event = { sender: window.contents, senderFrame: window.frame }
  let asked = 0
  for (const [channel, handler] of ipcMain.handlers) {
    const right = rightFor(channel)
    for (const [i, argument] of right.entries()) {
      for (const [spoilt, field] of misspelt(argument)) {
        const { error } = await handler(event, { id: `m${asked++}`, args: right.with(i, spoilt) })
        assert.deepEqual([error?.code, error?.details.field], ['INVALID_ARGUMENT', field], channel)
      }
    }
  }
  assert.ok(asked >= 40, `${asked}`)
})

test('options of the main process are refused where they are misspelt', async (t) => {
  const manager = await withoutEngine(t)
  const cases = [
    ['allw', { allw: {} }],
    ['allow.hostpath', { allow: { hostpath: () => true } }],
    ['allow.exec', { allow: { exec: true } }],
  ]
  for (const [field, options] of cases) {
    assert.throws(
      () => registerRuntimeIpc(new FakeIpcMain(), manager, options),
      (error) => error.code === 'INVALID_ARGUMENT' && error.details.field === field,
    )
  }
  const app = Object.assign(new EventEmitter(), { whenReady: async () => {}, quit() {} })
  assert.throws(
    () => manageLifecycle(app, new EventEmitter(), manager, { startOnLauch: false }),
    (error) => error.code === 'INVALID_ARGUMENT' && error.details.field === 'startOnLauch',
  )
})

test(`${SECONDS ? `${SECONDS} s of` : ROUNDS} random messages, seed ${SEED}`, async (t) => {
  const manager = await withoutEngine(t)
  const ipcMain = new FakeIpcMain()
  t.after(registerRuntimeIpc(ipcMain, manager))
  const roll = dice(SEED)
  // Starting and looking for runtimes take their time, and are asked for with a few messages of their own elsewhere.
  const slow = /:runtime\.(start|switch|stop|detect)$/
  const channels = [...ipcMain.handlers].filter(([channel]) => !slow.test(channel))
  let window = ipcMain.window()
  const answers = {}
  const until = performance.now() + SECONDS * 1000
  let round = 0
  for (; round < ROUNDS && !(SECONDS && performance.now() > until); round++) {
    // What it watches piles up.
    if (round % 100 === 0) {
      window.close()
      window = ipcMain.window()
    }
    const [channel, handler] = channels[roll(channels.length)]
    const args = rightFor(channel).map((value) => (roll(3) === 0 ? spoilt(roll, value) : value))
    if (roll(20) === 0) args.push(any(roll))
    const call = { id: roll(30) === 0 ? any(roll) : `m${round}`, args: roll(30) === 0 ? any(roll) : args }
    const event = { sender: window.contents, senderFrame: window.frame }
    const answer = await handler(event, roll(20) === 0 ? any(roll) : call).catch((error) => {
      throw new Error(`round ${round}: ${channel} rejected: ${error.stack}`)
    })
    const told = () => `round ${round}, ${channel}: ${JSON.stringify(answer)}`
    const outcome = answer.ok ? 'ok' : answer.error.code
    answers[outcome] = 1 + (answers[outcome] ?? 0)
    assert.notEqual(outcome, 'INTERNAL', told())
    assert.ok(answer.ok || answer.error.message.length < 500, told())
    structuredClone(answer)
  }
  window.close()
  assert.equal({}.polluted, undefined)
  // Some of each, or this test looks at nothing.
  for (const outcome of ['ok', 'INVALID_ARGUMENT', 'PERMISSION_DENIED', 'ENGINE_UNREACHABLE'])
    assert.ok(answers[outcome] > round / 200, JSON.stringify(answers))
  t.diagnostic(`${round} messages: ${JSON.stringify(answers)}`)
})
