// The facade and its callers in different realms, as under Jest and in Vitest's vm threads: `Error`, `Uint8Array`, `Date`
// and `Array` are not the same there, and nothing may depend on it.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { compileFunction, createContext, runInContext } from 'node:vm'
import { root } from '../../scripts/run.mjs'
import { FakeIpcMain } from '../electron/fakes.mjs'
import { startHung } from '../support/hung.mjs'
import { tempDir } from '../support/tempdir.mjs'

const require = createRequire(import.meta.url)
const dir = tempDir('realms')
const hung = await startHung(join(dir, 'd.sock'))
after(hung.stop)

/** A context with what test runners put into theirs: Node's own objects, and the builtins of its realm. */
function realm() {
  const { process, Buffer, setTimeout, clearTimeout, setImmediate, performance, AbortController, AbortSignal } =
    globalThis
  const context = createContext({
    ...{ process, Buffer, setTimeout, clearTimeout, setImmediate, performance, AbortController, AbortSignal },
  })
  return {
    /** A bundle of ours, evaluated there; Node's modules and the addon are the main realm's. */
    load(name) {
      const path = `${root}/dist/${name}.cjs`
      const module = { exports: {} }
      const names = ['module', 'exports', 'require', '__filename', '__dirname']
      const run = compileFunction(readFileSync(path, 'utf8'), names, { parsingContext: context, filename: path })
      run(module, module.exports, createRequire(path), path, `${root}/dist`)
      return module.exports
    },
    /** A value made there. */
    make: (text) => runInContext(`(${text})`, context),
  }
}

const main = { load: (name) => require(`${root}/dist/${name}.cjs`), make: (text) => new Function(`return (${text})`)() }
const foreign = realm()
const PAIRS = [
  ['the facade in another realm than its callers', foreign, main],
  ['the callers in another realm than the facade', main, foreign],
  ['both in one that is not the main one', foreign, foreign],
  ['both in two that are not the main one', foreign, realm()],
]

/** What comes of a call: its code, the field and the words; what was accepted reaches an engine that is silent. */
async function outcome(work) {
  try {
    await work()
    return ['done']
  } catch (error) {
    return [error.name, error.code, error.details?.field, error.message.replace(/ms-\w+/, '')]
  }
}

const CONFIG = `{ name: 'web', image: 'busybox'`
const CALLS = {
  'a wrong option at once': ({ DockerAdapter }, make) => new DockerAdapter(make(`{ host: 2375 }`)),
  'an option the core refuses at once': ({ DockerAdapter }, make) => new DockerAdapter(make(`{ host: 'ftp://x' }`)),
  'no engine': ({ DockerAdapter }) => new DockerAdapter({ host: `unix://${dir}/none.sock` }).listImages(),
  'an engine that is silent': ({ docker }, make) => docker.listContainers(make(`{ all: true, timeoutMs: 20 }`)),
  'a field the core refuses': ({ docker }, make) => docker.startContainer(make(`${CONFIG}, ports: { 80: 'x' } }`)),
  'an array in the place of an object': ({ docker }, make) => docker.startContainer(make(`['web']`)),
  'an array where one belongs': ({ docker }, make) => docker.startContainer(make(`${CONFIG}, command: ['a', 5] }`)),
  'a Date': ({ docker }, make) => docker.getContainerLogs('x', make(`{ since: new Date(0) }`)),
  'a Map': ({ docker }, make) => docker.startContainer(make(`${CONFIG}, env: new Map() }`)),
  'an Error': ({ docker }, make) => docker.startContainer(make(`${CONFIG}, env: new Error('x') }`)),
  'a getter that throws': ({ docker }, make) =>
    docker.startContainer(make(`${CONFIG}, get env() { throw new TypeError('from a getter') } }`)),
  'no array': ({ docker }, make) => docker.execInContainer('x', make(`{ 0: 'ls', length: 1 }`)),
  'bytes as input': ({ docker }, make) =>
    docker.execInContainer('x', make(`['cat']`), make(`{ input: new Uint8Array([1, 2]), timeoutMs: 20 }`)),
  'a part of a buffer as input': ({ docker }, make) =>
    docker.execInContainer('x', ['cat'], make(`{ input: new Uint8Array(new ArrayBuffer(8), 2, 4), timeoutMs: 20 }`)),
  'other numbers as input': ({ docker }, make) =>
    docker.execInContainer('x', ['cat'], make(`{ input: new Uint16Array([1, 2]) }`)),
  'a Buffer as input': ({ docker }) =>
    docker.execInContainer('x', ['cat'], { input: Buffer.from('text'), timeoutMs: 20 }),
  'no signal': ({ docker }, make) => docker.listImages(make(`{ signal: { aborted: false } }`)),
  'a signal': ({ docker }) => docker.listImages({ signal: AbortSignal.timeout(20) }),
  'a callback': ({ docker }, make) => docker.pullImage('busybox', make(`() => {}`), make(`{ timeoutMs: 20 }`)),
  'no callback': ({ docker }, make) => docker.pullImage('busybox', make(`/x/`)),
  'an archive that is not there': ({ docker }) => docker.loadImage(`${dir}/none.tar`),
  'a stream of bytes': ({ docker }, make) => docker.loadImage(streamOf(make(`[new Uint8Array(9)]`)), { timeoutMs: 20 }),
  'a stream of something else': ({ docker }, make) =>
    docker.loadImage(streamOf(make(`[new Date(0)]`)), { timeoutMs: 500 }),
  'a stream that fails': ({ docker }, make) =>
    docker.loadImage(streamOf([], make(`new RangeError('cut')`)), { timeoutMs: 500 }),
  'an iterator': ({ docker }, make) => docker.events(make(`{ timeoutMs: 20 }`)).next(),
  'an iterator that is refused': ({ docker }, make) => docker.events(make(`{ since: 'x' }`)).next(),
  'a manager': async ({ ContainerManager }, make) => new ContainerManager(make(`{ preferred: 'podman' }`)),
  'a path': ({ LimaRuntimeManager }, make) =>
    new LimaRuntimeManager(make(`{ resources: { cpus: 'x' } }`)).getLimactlPath(),
}

function streamOf(chunks, error) {
  return {
    pipe() {},
    async *[Symbol.asyncIterator]() {
      yield* chunks
      if (error) throw error
    },
  }
}

async function outcomes(facadeIn, callersIn) {
  const facade = facadeIn.load('index')
  const docker = new facade.DockerAdapter({ host: `unix://${hung.path}` })
  const answers = {}
  for (const [name, call] of Object.entries(CALLS)) {
    answers[name] = await outcome(async () => call({ ...facade, docker }, callersIn.make))
  }
  return answers
}

const right = await outcomes(main, main)

test('within one realm each call has its own code', () => {
  const codes = new Set(Object.entries(right).map(([name, [, code]]) => code ?? name))
  assert.deepEqual([...codes].sort(), ['ABORTED', 'ENGINE_UNREACHABLE', 'INVALID_ARGUMENT', 'TIMEOUT'])
  for (const name of ['bytes as input', 'a part of a buffer as input', 'a Buffer as input', 'a stream of bytes'])
    assert.equal(right[name][1], 'TIMEOUT', name)
})

for (const [name, facadeIn, callersIn] of PAIRS) {
  test(`${name}: the same answers`, async () => {
    assert.deepEqual(await outcomes(facadeIn, callersIn), right)
  })
}

test('errors and dates are those of the realm that loads the facade', async () => {
  const { DockerAdapter, RuntimeError } = foreign.load('index')
  const error = await new DockerAdapter({ host: `unix://${hung.path}` }).listImages({ timeoutMs: 20 }).catch((e) => e)
  assert.ok(error instanceof RuntimeError)
  assert.ok(error instanceof foreign.make('Error'))
})

test("a window's messages are looked at alike, and errors cross alike", async () => {
  const answers = []
  for (const [mainIn, messagesIn] of [[main, main], ...PAIRS.map(([, a, b]) => [a, b])]) {
    const { ContainerManager } = mainIn.load('index')
    const docker = { host: `unix://${dir}/none.sock` }
    const manager = new ContainerManager({ appDir: tempDir('app'), preferred: 'docker', docker })
    const ipcMain = new FakeIpcMain()
    const unregister = mainIn.load('electron-main').registerRuntimeIpc(ipcMain, manager)
    const sender = { on() {}, removeListener() {}, isDestroyed: () => false, send() {} }
    let id = 0
    const ask = (name, args) =>
      ipcMain.handlers.get(`lima-runtime:${name}`)({ sender }, messagesIn.make(`{ id: '${++id}', args: ${args} }`))
    const answered = [
      await ask('runtime.isAvailable', `[{ timeoutMs: 50 }]`),
      await ask('runtime.switch', `['docker', { timeoutMs: 5000 }]`),
      await ask('runtime.status', `[]`),
      await ask('runtime.isAvailable', `[new Date(0)]`),
      await ask('runtime.isAvailable', `[new Map()]`),
      await ask('runtime.isAvailable', `[[]]`),
      await ask('image.exists', `['x', new ArrayBuffer(2 << 20)]`),
      await ask('image.exists', `['x', new Uint8Array(2 << 20)]`),
    ]
    answers.push(JSON.parse(JSON.stringify(answered)))
    unregister()
  }
  const [first, ...others] = answers
  assert.deepEqual(
    first.map(({ ok, error }) => ok || error.code),
    ['INVALID_STATE', 'ENGINE_UNREACHABLE', true, ...Array(5).fill('INVALID_ARGUMENT')],
  )
  assert.equal(first[2].value.error.code, 'ENGINE_UNREACHABLE')
  for (const other of others) assert.deepEqual(other, first)
})
