// Calls of the public API that need no engine: arguments, signals, deadlines, callbacks, errors.
import assert from 'node:assert/strict'
import { getEventListeners, once } from 'node:events'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { runInNewContext } from 'node:vm'
import { DockerAdapter, RuntimeError } from 'lima-runtime'
import { facade } from '../support/facade.mjs'
import { startHung } from '../support/hung.mjs'
import { tempDir } from '../support/tempdir.mjs'

const { invoke, json, progress, callback, fromNative } = await facade()
const hung = await startHung(join(tempDir('facade'), 'd.sock'))
const docker = new DockerAdapter({ host: `unix://${hung.path}` })
after(hung.stop)

const refused = (promise, field) =>
  assert.rejects(promise, (e) => {
    assert.ok(e instanceof RuntimeError, e)
    assert.equal(e.code, 'INVALID_ARGUMENT', e.message)
    assert.equal(e.details.field, field, e.message)
    assert.ok(e.message.startsWith(`${field}: `), e.message)
    assert.ok(e.message.length < 500)
    return true
  })

test('wrong types are refused at any depth, and no engine is asked', async () => {
  const config = { name: 'web', image: 'busybox' }
  const loop = { ...config }
  loop.labels = loop
  const throwing = {
    ...config,
    get env() {
      throw new Error('from a getter')
    },
  }
  const cases = [
    ['config', null],
    ['config', 5],
    ['config', [config]],
    ['config', loop],
    ['config', throwing],
    ['name', { image: 'busybox' }],
    ['name', { ...config, name: 5 }],
    ['env', { ...config, env: null }],
    ['env', { ...config, env: new Map([['A', '1']]) }],
    ['env', { ...config, env: ['A=1'] }],
    ['env.A', { ...config, env: { A: 1 } }],
    ['env.A', { ...config, env: { A: () => '1' } }],
    ['env.A', { ...config, env: { A: Symbol('1') } }],
    ['env.A', { ...config, env: { A: 1n } }],
    ['ports.80', { ...config, ports: { 80: 8080 } }],
    ['volumes[0]', { ...config, volumes: [null] }],
    ['volumes[0].host', { ...config, volumes: [{ host: 1, container: '/x' }] }],
    ['volumes[0].container', { ...config, volumes: [{ host: '/x' }] }],
    ['command[1]', { ...config, command: ['a', undefined] }],
    ['command', { ...config, command: 'sh -c true' }],
    ['healthcheck.interval', { ...config, healthcheck: { test: ['NONE'], interval: NaN, timeout: 1, retries: 1 } }],
    ['restart', { ...config, restart: 'sometimes' }],
  ]
  for (const [field, value] of cases) {
    await refused(docker.startContainer(value), field)
  }
  await refused(docker.createContainer('web'), 'config')
  await refused(docker.startContainer(undefined), 'config')
  await refused(docker.stopContainer(null), 'id')
  await refused(docker.stopContainer(7), 'id')
  await refused(docker.stopContainer('x', '10'), 'timeout')
  await refused(docker.stopContainer('x', { timeoutMs: 1 }), 'timeout')
  await refused(docker.removeContainer('x', 'yes'), 'force')
  await refused(docker.inspectContainer('x', null), 'options')
  await refused(docker.listContainers({ filters: { name: 'x' } }), 'filters.name')
  await refused(docker.getContainerLogs('x', { tail: Infinity }), 'tail')
  await refused(docker.getContainerLogs('x', { since: new Date() }), 'since')
  await refused(docker.execInContainer('x', 'ls'), 'argv')
  await refused(docker.execInContainer('x', ['cat'], { input: 5 }), 'input')
  await refused(docker.pullImage('x', {}), 'onProgress')
  await refused(docker.loadImage(new Uint8Array(3)), 'archive')
  await refused(docker.saveImage([5]), 'images[0]')
  await refused(docker.events(null).next(), 'options')
  await refused(docker.streamContainerStats('x', null).next(), 'options')
  await refused(docker.initialize(5), 'progress')
  await refused(docker.initialize({ onProgress: 5 }), 'onProgress')
  assert.throws(() => new DockerAdapter({ host: 2375 }), { code: 'INVALID_ARGUMENT' })
  assert.throws(() => new DockerAdapter('unix:///x'), { code: 'INVALID_ARGUMENT' })
  assert.equal(hung.connections.size, 0)
})

test('10 MB of garbage is refused with a short message', async () => {
  const garbage = 'x'.repeat(10 << 20)
  await refused(docker.startContainer({ name: garbage, image: 'busybox' }), 'name')
  await refused(docker.startContainer({ name: 'web', image: garbage }), 'image')
  await refused(docker.listContainers({ filters: { [garbage]: ['x'] } }), `filters.${garbage.slice(0, 60)}`)
  await refused(docker.inspectContainer(garbage), 'id')
  await refused(docker.prune({ scope: garbage }), 'scope')
})

test('signal and timeoutMs are checked', async () => {
  for (const timeoutMs of [0, -1, NaN, Infinity, 2 ** 31, '1000', null, {}]) {
    await refused(docker.listImages({ timeoutMs }), 'timeoutMs')
  }
  for (const signal of [null, {}, 'x', new AbortController(), { aborted: false }]) {
    await refused(docker.listImages({ signal }), 'signal')
    await refused(docker.events({ signal }).next(), 'signal')
  }
})

test('options of another realm are options', () => {
  const foreign = runInNewContext(`({ all: true, filters: { name: ['x'] } })`)
  assert.equal(json('options', foreign), '{"all":true,"filters":{"name":["x"]}}')
})

test('a signal already aborted: ABORTED with its reason, and nothing begins', async () => {
  let ran = false
  const signal = AbortSignal.abort('before')
  await assert.rejects(
    invoke({ signal }, () => {
      ran = true
    }),
    (e) => e.code === 'ABORTED' && e.cause === 'before',
  )
  assert.equal(ran, false)
  assert.equal(getEventListeners(signal, 'abort').length, 0)
})

test('an abort ends a call to an engine that never answers', async () => {
  for (let i = 0; i < 5; i++) {
    const controller = new AbortController()
    const reason = new Error('the user changed their mind')
    const call = docker.listContainers({ all: true, signal: controller.signal })
    const outcome = assert.rejects(call, (e) => e instanceof RuntimeError && e.code === 'ABORTED' && e.cause === reason)
    await new Promise(setImmediate)
    controller.abort(reason)
    await outcome
    assert.equal(getEventListeners(controller.signal, 'abort').length, 0)
  }
})

test('AbortSignal.timeout and timeoutMs', async () => {
  const error = await docker.listImages({ signal: AbortSignal.timeout(20) }).catch((e) => e)
  assert.deepEqual([error.code, error.cause.name], ['ABORTED', 'TimeoutError'])
  const late = await docker.listImages({ timeoutMs: 20 }).catch((e) => e)
  assert.deepEqual([late.code, late.details.timeoutMs], ['TIMEOUT', 20])
  assert.ok(late.hint)
})

test('a hundred calls at once leave no listener on a long-lived signal, and Node warns of none', async () => {
  const { signal } = new AbortController()
  const warnings = []
  const warned = (warning) => warnings.push(warning.name)
  process.on('warning', warned)
  const calls = Array.from({ length: 100 }, (_, i) => [
    docker.listImages({ signal, timeoutMs: 20 }),
    docker.inspectContainer(i % 2 ? 'x' : '', { signal, timeoutMs: 20 }),
    docker.getContainerLogs('x', { signal, timeoutMs: 20 }),
    docker.events({ signal, timeoutMs: 20 }).next(),
  ])
  const outcomes = await Promise.allSettled(calls.flat())
  const codes = new Set(outcomes.map(({ reason }) => reason?.code))
  assert.deepEqual([...codes].sort(), ['INVALID_ARGUMENT', 'TIMEOUT'])
  assert.equal(getEventListeners(signal, 'abort').length, 0)
  await new Promise(setImmediate)
  process.off('warning', warned)
  assert.deepEqual(warnings, [])
})

test('isAvailable is false where nothing answers, and rejects for ABORTED', async () => {
  assert.equal(await docker.isAvailable({ timeoutMs: 50 }), false)
  assert.equal(await new DockerAdapter({ host: `unix://${join(tempDir('none'), 'none.sock')}` }).isAvailable(), false)
  await assert.rejects(docker.isAvailable({ signal: AbortSignal.abort() }), { code: 'ABORTED' })
})

test('a callback that throws becomes a warning', async () => {
  const warning = once(process, 'warning')
  callback('onProgress', () => {
    throw new Error('mine')
  })('{}')
  const [{ message }] = await warning
  assert.match(message, /progress callback threw: Error: mine/)
})

test('a Progress is a function for messages, or an object', () => {
  const seen = []
  progress((message) => seen.push(message)).report('{"phase":"boot","message":"Booting"}')
  const { signal } = new AbortController()
  const taken = progress({ onProgress: (p) => seen.push(p.phase), signal, timeoutMs: 5 })
  taken.report('{"phase":"boot","message":"Booting"}')
  assert.deepEqual(seen, ['Booting', 'boot'])
  assert.equal(taken.options.signal, signal)
  assert.deepEqual(progress(undefined), { options: undefined, report: undefined })
})

test('a native error is a RuntimeError with hint, details and the chain of causes', () => {
  const sent = { code: 'DISK_FULL', message: 'full', hint: 'make room', details: { path: '/x' }, causes: ['a', 'b'] }
  const error = fromNative(new Error(JSON.stringify(sent)))
  assert.deepEqual(
    [error.name, error.code, error.message, error.hint, error.details, error.cause.message, error.cause.cause.message],
    ['RuntimeError', 'DISK_FULL', 'full', 'make room', { path: '/x' }, 'a', 'b'],
  )
  assert.match(error.stack, /calls\.test\.mjs/)
  for (const other of [new Error('Failed to convert'), new Error('null'), new Error('{}'), 'text']) {
    const internal = fromNative(other)
    assert.deepEqual([internal.code, internal.cause], ['INTERNAL', other])
  }
  assert.equal(fromNative(error), error)
})
