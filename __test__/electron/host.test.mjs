// What a window gets of this computer: paths, ports, credentials, downloads. The app is asked, about what really is.
import assert from 'node:assert/strict'
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { join, sep } from 'node:path'
import { after, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { build } from 'esbuild'
import { ContainerManager, DockerAdapter } from 'lima-runtime'
import { root } from '../../scripts/run.mjs'
import { IMAGES, sharedEngine } from '../support/engine.mjs'
import { freePort } from '../support/ports.mjs'
import { ACCOUNT, pushImage, startRegistry } from '../support/registry.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { appOf, dockerApp, refused } from './app.mjs'
import { FakeIpcMain } from './fakes.mjs'

const { api, host } = sharedEngine()
const image = IMAGES.busybox ?? 'busybox:latest'
const made = new Set()
after(() => Promise.all([...made].map((id) => api('DELETE', `/containers/${id}?force=1&v=1`).catch(() => {}))))

let names = 0
async function container(kai, config) {
  const name = `host-${process.pid}-${++names}`
  const id = await kai.container.start({ name, image, command: ['sleep', '1000'], ...config })
  made.add(id)
  return id
}
const mount = (path, more) => ({ volumes: [{ host: path, container: '/mnt', readOnly: true, ...more }] })

function withEnvironment(t, variables) {
  for (const [name, value] of Object.entries(variables)) {
    const before = process.env[name]
    process.env[name] = value
    t.after(() => {
      if (before === undefined) delete process.env[name]
      else process.env[name] = before
    })
  }
}

/** `data` with what an attacker would put there, and what lies around it. */
function traps() {
  const dir = realpathSync(tempDir('paths'))
  const data = join(dir, 'data')
  for (const name of ['data/sub', 'data-evil', 'secret']) mkdirSync(join(dir, name), { recursive: true })
  writeFileSync(join(dir, 'secret/key'), 'secret')
  for (const [target, link] of [
    ['../secret', 'out'],
    [join(dir, 'secret'), 'absolute'],
    ['sub', 'in'],
    ['loop', 'loop'],
    ['../nothing-yet', 'dangling'],
    ['/', 'root'],
  ]) {
    symlinkSync(target, join(data, link))
  }
  symlinkSync(data, join(dir, 'alias'))
  return { dir, data }
}

test('copies are asked about, by the real path', async (t) => {
  const { dir, data } = traps()
  writeFileSync(join(data, 'sub/file'), 'a file')
  let asked = []
  const copy = ({ direction, path, containerPath, name }) => {
    asked.push([direction, path, containerPath, /^host-/.test(name)])
    return path === data || path.startsWith(data + sep)
  }
  const { window } = await dockerApp(t, { allow: { copy } })
  const { kai } = window()
  const id = await container(kai)
  await kai.container.copyTo(id, join(dir, 'alias/in/file'), '/tmp')
  await kai.container.copyFrom(id, '/tmp/file', join(data, 'sub/../new'))
  assert.equal(readFileSync(join(data, 'new/file'), 'utf8'), 'a file')
  assert.deepEqual(asked, [
    ['in', join(data, 'sub/file'), '/tmp', true],
    ['out', join(data, 'new'), '/tmp/file', true],
  ])
  asked = []
  await kai.container.copyTo(id, `${join(data, 'new')}/.`, '/tmp/held')
  await kai.container.copyFrom(id, '/tmp/held', join(data, 'held'))
  assert.equal(readFileSync(join(data, 'held/held/file'), 'utf8'), 'a file')
  assert.equal(asked[0][1], join(data, 'new'))
  asked = []
  for (const path of ['out/key', 'absolute/key', 'root/etc/passwd', '../secret/key']) {
    await refused(kai.container.copyTo(id, `${data}/${path}`, '/tmp'), 'PERMISSION_DENIED')
    await refused(kai.container.copyFrom(id, '/tmp/file', `${data}/${path}`), 'PERMISSION_DENIED')
  }
  assert.ok(
    asked.every(([, path]) => !path.startsWith(data + sep)),
    String(asked),
  )
  await refused(kai.container.copyTo(id, 'relative', '/tmp'), 'INVALID_ARGUMENT')
  const { window: without } = await dockerApp(t)
  await refused(without().kai.container.copyTo(id, data, '/tmp'), 'PERMISSION_DENIED')
})

test('a build is asked about, by the real path', async (t) => {
  const { dir, data } = traps()
  writeFileSync(join(data, 'sub/Dockerfile'), 'FROM busybox:latest\nRUN echo from a build\n')
  let asked = []
  const build = ({ directory, options }) => {
    asked.push([directory, options])
    return directory.startsWith(data + sep)
  }
  const { window } = await dockerApp(t, { allow: { build } })
  const { kai } = window()
  const tags = [`lima-runtime-host-built:${process.pid}`]
  t.after(() => api('DELETE', `/images/${tags[0]}`).catch(() => {}))
  const told = []
  const onProgress = (p) => told.push(p)
  const options = { tags, secrets: { token: 'hunter2' }, onProgress }
  const { id } = await kai.image.build(join(dir, 'alias/in'), options)
  assert.match(id, /^sha256:/)
  assert.deepEqual(asked, [[join(data, 'sub'), { tags }]])
  assert.ok(told.some(({ type, text }) => type === 'log' && text === 'from a build\n'))
  asked = []
  for (const path of ['out', 'absolute', 'root/etc', '../secret'])
    await refused(kai.image.build(`${data}/${path}`, options), 'PERMISSION_DENIED')
  assert.ok(
    asked.every(([directory]) => !directory.startsWith(data + sep)),
    String(asked),
  )
  await refused(kai.image.build('relative'), 'INVALID_ARGUMENT')
  await refused(kai.image.build(join(data, 'sub'), { dockerfile: '../../secret/key' }), 'INVALID_ARGUMENT')
  await refused(kai.image.build(join(data, 'sub'), { network: 'host' }), 'INVALID_ARGUMENT')
  await refused(kai.image.build(join(data, 'sub'), { credentials: 'user' }), 'INVALID_ARGUMENT')
  const { window: without } = await dockerApp(t)
  await refused(without().kai.image.build(data), 'PERMISSION_DENIED')
})

test('a project of compose is asked about, by the real path', async (t) => {
  const { dir, data } = traps()
  const file = join(data, 'sub/compose.yaml')
  writeFileSync(file, 'name: host-compose\nservices: {}\n')
  let asked = []
  const compose = ({ action, project, options }) => {
    asked.push([action, project, options])
    return typeof project === 'object' ? project.name === 'mine' : project.startsWith(data + sep)
  }
  const { window } = await dockerApp(t, { allow: { compose } })
  const { kai } = window()
  assert.deepEqual(await kai.compose.ps(join(dir, 'alias/in/compose.yaml')), [])
  assert.deepEqual(await kai.compose.ps({ name: 'mine' }, { timeoutMs: 60_000 }), [])
  assert.deepEqual(asked, [
    ['ps', file, {}],
    ['ps', { name: 'mine' }, {}],
  ])
  asked = []
  for (const path of ['out/key', 'absolute/key', 'root/etc/passwd', '../secret/key'])
    await refused(kai.compose.up(`${data}/${path}`, { wait: true }), 'PERMISSION_DENIED')
  await refused(kai.compose.down({ name: 'other' }, { volumes: true }), 'PERMISSION_DENIED')
  assert.ok(asked.every(([, project]) => typeof project === 'object' || !project.startsWith(data + sep)))
  assert.deepEqual(asked.at(-1), ['down', { name: 'other' }, { volumes: true }])
  await refused(kai.compose.up('relative.yaml'), 'INVALID_ARGUMENT')
  await refused(kai.compose.up(file, { directory: '/' }), 'INVALID_ARGUMENT')
  const { window: without } = await dockerApp(t, { allow: { powers: () => true, foreign: () => true } })
  for (const method of ['up', 'down', 'ps']) {
    for (const project of [file, '/dev/null/none', { name: 'mine' }])
      await refused(without().kai.compose[method](project), 'PERMISSION_DENIED')
  }
})

test('the app is asked about the real path, and that one is mounted', async (t) => {
  const { dir, data } = traps()
  let asked = []
  const hostPath = ({ path, config }) => {
    asked.push(path)
    assert.equal(config.volumes[0].host, path)
    return path === data || path.startsWith(data + sep)
  }
  const { window } = await dockerApp(t, { allow: { hostPath } })
  const { kai } = window()
  const at = async (path) => {
    asked = []
    const id = await container(kai, mount(path))
    const { mounts } = await kai.container.details(id)
    assert.deepEqual([asked, mounts.map(({ source }) => source)], [[asked[0]], [asked[0]]], path)
    return asked[0]
  }
  assert.equal(await at(data), data)
  assert.equal(await at(`${data}/`), data + sep === `${data}/` ? data : undefined)
  assert.equal(await at(`${data}/in`), join(data, 'sub'))
  assert.equal(await at(`${data}/./sub/../sub//`), join(data, 'sub'))
  assert.equal(await at(`${dir}/alias/in`), join(data, 'sub'))
  assert.equal(await at(`${data}/new/dir`), join(data, 'new/dir'))
  for (const [path, real] of [
    [`${data}/../secret`, join(dir, 'secret')],
    [`${data}/sub/../../secret`, join(dir, 'secret')],
    [`${data}-evil`, join(dir, 'data-evil')],
    [`${data}/out`, join(dir, 'secret')],
    [`${data}/out/key`, join(dir, 'secret/key')],
    [`${data}/absolute/../secret`, join(data, 'secret')],
    [`${data}/root/etc`, '/etc'],
    [`${data}/out/not/there`, join(dir, 'secret/not/there')],
    [`/proc/self/root${dir}/secret`, join(dir, 'secret')],
    [`${data}/../../../../../../etc/shadow`, '/etc/shadow'],
    ['/', '/'],
    ['//etc', '/etc'],
  ]) {
    asked = []
    const refusal = container(kai, mount(path))
    if (real === join(data, 'secret')) await refusal
    else await refused(refusal, 'PERMISSION_DENIED')
    assert.deepEqual(asked, [real], path)
  }
  asked = []
  const unknown = []
  for (const path of [`${data}/dangling`, `${data}/dangling/x`, `${data}/loop`, `${data}/loop/x`])
    unknown.push(await refused(container(kai, mount(path)), 'PERMISSION_DENIED'))
  // As a no: what is there is nothing to be told.
  assert.deepEqual(unknown, Array(4).fill(await refused(container(kai, mount('/etc')), 'PERMISSION_DENIED')))
  assert.deepEqual(asked, ['/etc'])
  asked = []
  const nul = await refused(container(kai, mount(`${data}/sub\0/../../x`)), 'INVALID_ARGUMENT')
  assert.equal(nul.details.field, 'volumes[0].host')
  for (const path of ['../x', '~/x', './v', 'a/b', '', 'C:\\x', '-v', `file://${data}`]) {
    await refused(container(kai, mount(path)), 'INVALID_ARGUMENT')
  }
  assert.deepEqual(asked, [])
})

test('the engine’s own socket has one name for the app, and no file of this computer is in its place', async (t) => {
  const { data } = traps()
  symlinkSync('/var/run/docker.sock', join(data, 'link.sock'))
  let allowed = false
  const asked = []
  const { gate, window } = await dockerApp(t, { allow: { hostPath: ({ path }) => asked.push(path) > 0 && allowed } })
  const { kai } = window()
  const names = [
    '/var/run/docker.sock',
    '/run/docker.sock',
    '//var/./run/../run/docker.sock/',
    '/var/run/docker.sock/.',
  ]
  for (const path of names) await refused(container(kai, mount(path)), 'PERMISSION_DENIED')
  assert.deepEqual(asked, names.fill('/var/run/docker.sock'))
  // A link to it is that socket, too, where it is there; else nobody knows what it will be.
  await refused(container(kai, mount(`${data}/link.sock`)), 'PERMISSION_DENIED')
  assert.deepEqual(new Set(asked), new Set(['/var/run/docker.sock']))
  await refused(container(kai, mount('/var/run/docker.sock\0')), 'INVALID_ARGUMENT')
  allowed = true
  const id = await container(kai, mount('/run/docker.sock'))
  const [{ source }] = (await kai.container.details(id)).mounts
  assert.equal(source, gate.host.slice('unix://'.length))
})

test('a link that is turned round after the question leads nowhere', async (t) => {
  const { dir, data } = traps()
  const link = join(data, 'in')
  const hostPath = () => {
    unlinkSync(link)
    symlinkSync(join(dir, 'secret'), link)
    return true
  }
  const { window } = await dockerApp(t, { allow: { hostPath } })
  const { kai } = window()
  const id = await container(kai, mount(link))
  assert.equal((await kai.container.details(id)).mounts[0].source, join(data, 'sub'))
})

test('all paths are asked about, and one no is enough', async (t) => {
  const { data } = traps()
  const asked = []
  const hostPath = async ({ path }) => asked.push(path) > 0 && path === data
  const { window } = await dockerApp(t, { allow: { hostPath } })
  const volumes = [
    ...mount(data).volumes,
    { host: 'named-volume', container: '/v' },
    { host: '/etc', container: '/etc2' },
  ]
  await refused(container(window().kai, { volumes }), 'PERMISSION_DENIED')
  assert.deepEqual(asked, [data, '/etc'])
  await assert.rejects(api('GET', '/volumes/named-volume'), { status: 404 })
})

test('paths of Windows', async (t) => {
  const dir = mkdtempSync(join(root, 'dist/paths-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  const outfile = join(dir, 'paths.mjs')
  await build({
    entryPoints: [join(root, 'electron/paths.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
  })
  const { absolute } = await import(pathToFileURL(outfile))
  for (const [path, clean] of [
    ['C:\\Users\\me\\..\\you', 'C:\\Users\\you'],
    ['c:/a//b/./c', 'c:\\a\\b\\c'],
    ['C:\\..\\..\\Windows', 'C:\\Windows'],
    ['\\\\server\\share\\a\\..\\..\\..\\b', '\\\\server\\share\\b'],
    ['//server/share/x', '\\\\server\\share\\x'],
    ['C:x', undefined],
    ['\\x', undefined],
    ['/etc', undefined],
    ['..\\x', undefined],
    ['\\\\?\\C:\\x', undefined],
    ['\\\\.\\pipe\\docker_engine', undefined],
    ['//./pipe/docker_engine', undefined],
    ['C:\\x:stream', undefined],
    ['C:\\x\0y', undefined],
    ['\\\\server', undefined],
  ]) {
    assert.equal(absolute(path, 'win32'), clean, path)
  }
})

test('the example of docs/security.md is safe as it is written', async (t) => {
  const text = readFileSync(join(root, 'docs/security.md'), 'utf8')
  const [, code] = /^```ts\n(\/\/ allow\.ts\n.*?)^```/ms.exec(text)
  // Below the project, so that its packages are found.
  const dir = realpathSync(mkdtempSync(join(root, 'dist/allow-')))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  writeFileSync(join(dir, 'allow.ts'), code)
  writeFileSync(join(dir, 'electron.cjs'), 'module.exports = globalThis.electronOfTheTest')
  const external = (path) => () => ({ path, external: true })
  const ours = (build) => {
    build.onResolve({ filter: /^electron$/ }, external(join(dir, 'electron.cjs')))
    build.onResolve({ filter: /^lima-runtime$/ }, external(join(root, 'dist/index.cjs')))
    build.onResolve({ filter: /^lima-runtime\/electron\/main$/ }, external(join(root, 'dist/electron-main.cjs')))
  }
  const plugins = [{ name: 'ours', setup: ours }]
  const outfile = join(dir, 'allow.cjs')
  await build({ entryPoints: [join(dir, 'allow.ts')], outfile, bundle: true, platform: 'node', format: 'cjs', plugins })
  const ipcMain = new FakeIpcMain()
  const { dir: around, data } = traps()
  globalThis.electronOfTheTest = { ipcMain, app: { getPath: () => around } }
  withEnvironment(t, { DOCKER_HOST: host, XDG_DATA_HOME: tempDir('data'), KAI_CONTAINER_RUNTIME: 'docker' })
  createRequire(import.meta.url)(outfile)
  const url = pathToFileURL(join(dir, 'index.html')).href
  for (const other of ['file:///tmp/index.html', `${url}.evil`, `${url}/../x`, 'https://example.org/', '']) {
    const { kai } = ipcMain.window({ frame: { url: other, parent: null } })
    await refused(kai.runtime.status(), 'PERMISSION_DENIED')
  }
  const { kai } = ipcMain.window({ frame: { url, parent: null } })
  await kai.runtime.start()
  const id = await container(kai, mount(`${data}/in`))
  assert.equal((await kai.container.details(id)).mounts[0].source, join(data, 'sub'))
  for (const path of [
    ...[`${data}-evil`, `${data}/../secret`, `${data}/out`, `${data}/absolute`, `${data}/root`, `${data}/root/etc`],
    ...[data, around, '/', '/etc', '/var/run/docker.sock', `${data}/out/key`, `${around}/data/../../../etc`],
  ]) {
    await refused(container(kai, mount(path)), 'PERMISSION_DENIED')
  }
  await refused(container(kai, mount(`${data}/sub`, { readOnly: false })), 'PERMISSION_DENIED')
  await refused(kai.container.exec(id, ['pg_dump']), 'PERMISSION_DENIED')
})

test('ports are of loopback, but for the app’s word', async (t) => {
  const asked = []
  const publish = ({ containerPort, hostPort, address, config, event }) => {
    asked.push([containerPort, hostPort, address])
    return config.name.startsWith('host-') && event.senderFrame.url === 'app://page' && hostPort !== '1'
  }
  const { window: strict } = await dockerApp(t)
  const { window } = await dockerApp(t, { allow: { publish } })
  const addresses = async (kai, ports) => {
    const id = await container(kai, { ports })
    const { HostConfig } = await api('GET', `/containers/${id}/json`)
    const bound = Object.values(HostConfig.PortBindings).flatMap((all) => all.map(({ HostIp }) => HostIp))
    return bound.sort()
  }
  const port = String(await freePort())
  assert.deepEqual(await addresses(strict().kai, { 80: port }), ['127.0.0.1'])
  assert.deepEqual(await addresses(strict().kai, { '81/udp': `127.0.0.2:${port}` }), ['127.0.0.2'])
  for (const address of [
    '0.0.0.0',
    '192.168.0.1',
    '[::]',
    '::',
    '[::ffff:0.0.0.0]',
    '',
    '127.1',
    '128.0.0.1',
    'localhost',
  ]) {
    const error = await refused(container(strict().kai, { ports: { 80: `${address}:${port}` } }), 'PERMISSION_DENIED')
    assert.match(error.hint, /allow\.publish/)
  }
  assert.deepEqual(asked, [])
  const [first, second] = [String(await freePort()), String(await freePort())]
  assert.deepEqual(await addresses(window().kai, { 80: first, '53/udp': `0.0.0.0:${second}` }), ['', '0.0.0.0'])
  assert.deepEqual(asked, [
    ['80', first, undefined],
    ['53/udp', second, '0.0.0.0'],
  ])
  await refused(container(window().kai, { ports: { 80: '0.0.0.0:1' } }), 'PERMISSION_DENIED')
})

test("the user's registry credentials are the app's to give", async (t) => {
  const registry = await startRegistry({ auth: true })
  t.after(registry.stop)
  const { address } = registry
  const auth = { ...ACCOUNT, serveraddress: address }
  const secret = await pushImage({ api }, image, registry, 'secret:1', { auth })
  t.after(() => api('DELETE', `/images/${encodeURIComponent(secret)}?noprune=1`).catch(() => {}))
  const drop = () => api('DELETE', `/images/${encodeURIComponent(secret)}?noprune=1`)
  const config = tempDir('docker-config')
  const entry = Buffer.from(`${ACCOUNT.username}:${ACCOUNT.password}`).toString('base64')
  writeFileSync(join(config, 'config.json'), JSON.stringify({ auths: { [address]: { auth: entry } } }))
  withEnvironment(t, { DOCKER_CONFIG: config })
  // They work: the app itself has them.
  const own = new DockerAdapter({ host })
  await own.pullImage(secret)
  await drop()
  const { window } = await dockerApp(t)
  const { kai } = window()
  await refused(kai.image.pull(secret), 'REGISTRY_AUTH')
  await refused(container(kai, { image: secret }), 'REGISTRY_AUTH')
  await refused(kai.image.pull(secret, { credentials: 'user' }), 'INVALID_ARGUMENT')
  await refused(container(kai, { image: secret, credentials: 'user' }), 'INVALID_ARGUMENT')
  assert.equal(await kai.image.exists(secret), false)
  // With its own it may.
  await kai.image.pull(secret, { auth: ACCOUNT })
  await drop()
  const asked = []
  const allowed = await dockerApp(t, { allow: { credentials: ({ image }) => asked.push(image) > 0 } })
  const { kai: free } = allowed.window()
  await free.image.pull(secret)
  await container(free, { image: secret })
  assert.deepEqual(asked, [secret])
})

test('a download of a runtime needs the app’s word, and is asked about when it comes to it', async (t) => {
  let requests = 0
  const server = createServer((_, response) => {
    requests++
    response.writeHead(404).end()
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const lima = { manifest: `http://127.0.0.1:${server.address().port}/manifest.json`, bundledDir: tempDir('none') }
  const asked = []
  const place = { address: `${tempDir('none')}/containerd.sock` }
  const options = { containerd: place, docker: { host }, lima, installIfMissing: true }
  const app = (allow, more) => {
    const manager = new ContainerManager({ appDir: tempDir('app'), ...options, ...more })
    return { manager, ...appOf(t, manager, allow) }
  }
  const { manager, window } = app()
  const error = await refused(window().kai.runtime.switch('lima'), 'PERMISSION_DENIED')
  assert.match(error.hint, /allow\.download/)
  assert.deepEqual([requests, manager.getStatus().error.code], [0, 'NOT_INSTALLED'])
  // What needs none is nobody's question.
  await window().kai.runtime.switch('docker')
  // On the app's own machine only Lima is left.
  const none = { docker: { host: `unix://${tempDir('none')}/docker.sock` } }
  const silent = app({ download: () => false }, none)
  await refused(silent.window().kai.runtime.start(), 'NOT_INSTALLED')
  assert.equal(requests, 0)
  const answer = app({ download: async ({ runtime }) => asked.push(runtime) > 0 })
  const failed = await answer
    .window()
    .kai.runtime.switch('lima')
    .catch((error) => error)
  assert.deepEqual(asked, ['lima'])
  assert.notEqual(failed.code, 'PERMISSION_DENIED')
  // Of the app itself, and of who joins it, none is asked.
  const mine = app({ download: () => assert.fail('asked') })
  const own = mine.manager.switchRuntime('lima').catch(({ code }) => code)
  const joined = mine.window().kai.runtime.switch('lima')
  assert.equal((await joined.catch((error) => error)).code, await own)
})
