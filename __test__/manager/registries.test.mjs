// The option `registries`: what is refused, what reaches the engine in a VM, and whether a real dockerd and a real containerd
// understand it.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { BundledRuntimeManager, ContainerManager, LimaRuntimeManager } from 'lima-runtime'
import { noBuildkit, startBuildkit } from '../support/buildkit.mjs'
import { startContainerd } from '../support/containerd.mjs'
import { noDockerd, startDockerd } from '../support/dockerd.mjs'
import { sharedEngine } from '../support/engine.mjs'
import { busyboxImage } from '../support/images.mjs'
import { limaRig, missing } from '../support/lima.mjs'
import { runAsRoot } from '../support/process.mjs'
import { publish, startRegistry } from '../support/registry.mjs'
import { tempDir } from '../support/tempdir.mjs'

describe('what is no registry is refused by name', () => {
  const refused = (make, field) =>
    assert.throws(make, (error) => {
      assert.deepEqual([error.code, error.details.field], ['INVALID_ARGUMENT', field], error.stack)
      return true
    })
  const WRONG = [
    [{ mirrors: { 'docker.io': ['https://ok', 'https://a/../b'] } }, 'registries.mirrors.docker.io[1]'],
    [{ mirrors: { '../../etc': ['https://ok'] } }, 'registries.mirrors.../../etc'],
    [{ insecure: ['ok', 'a"]\n[host."https://evil"]'] }, 'registries.insecure[1]'],
    [{ mirrors: { 'docker.io': 'https://ok' } }, 'registries.mirrors.docker.io'],
    [{ mirror: {} }, 'registries.mirror'],
  ]

  test('by each class', () => {
    const dataDir = tempDir('registries')
    for (const [registries, field] of WRONG) {
      refused(() => new LimaRuntimeManager({ dataDir, registries }), field)
      refused(() => new BundledRuntimeManager({ dataDir, registries }), field)
      refused(() => new ContainerManager({ appDir: dataDir, registries }), field)
      refused(() => new ContainerManager({ appDir: dataDir, lima: { registries } }), `lima.${field}`)
    }
  })

  test('a mirror that the Docker engine does not know', () => {
    const dataDir = tempDir('registries')
    const registries = { mirrors: { 'docker.io': ['https://ok'], 'ghcr.io': ['https://ok'] } }
    new LimaRuntimeManager({ dataDir, registries })
    refused(() => new LimaRuntimeManager({ dataDir, registries, engine: 'docker' }), 'registries.mirrors.ghcr.io')
  })
})

/** What the stand-in's guest was told as root since `from`. */
const told = (rig) => readFileSync(join(rig.options.dataDir, 'guest.log'), 'utf8')

/** The text that was sent for a file: its lines are known, and what follows is another file or command. */
function sent(log, path, isLine) {
  const lines = log.slice(log.lastIndexOf(`${path} `) + path.length + 1).split('\n')
  const end = lines.findIndex((line, i) => i > 0 && !isLine.test(line))
  return `${lines.slice(0, end).join('\n')}\n`
}

const HOSTS = /^(#.*|server = .*|\[host\..*| {2}[a-z_]+ = .*|)$/

test('they reach the engine in a VM at its next start, and go', { skip: missing(), timeout: 300_000 }, async (t) => {
  const rig = await limaRig(t)
  const { ask } = rig.app()
  const registries = { mirrors: { 'docker.io': ['https://one.example'] }, insecure: ['two.example:5000'] }
  await ask({ options: rig.options, method: 'start' })
  const before = told(rig)
  assert.doesNotMatch(before, /docker\.io\/hosts\.toml/)
  await ask({ options: { ...rig.options, registries }, method: 'start' })
  const hosts = told(rig).slice(before.length)
  assert.match(hosts, / \/etc\/containerd\/certs\.d hosts\.toml /)
  assert.equal(
    sent(hosts, 'docker.io/hosts.toml', HOSTS),
    '# Written by lima-runtime at each start.\n\n[host."https://one.example"]\n  capabilities = ["pull", "resolve"]\n',
  )
  assert.match(sent(hosts, 'two.example:5000/hosts.toml', HOSTS), /\nserver = "http:\/\/two\.example:5000"\n/)
  const after = told(rig)
  await ask({ options: rig.options, method: 'start' })
  assert.doesNotMatch(told(rig).slice(after.length), /docker\.io\/hosts\.toml/)
  await ask({ options: rig.options, method: 'delete' })
})

const noRegistry = !existsSync('/usr/bin/docker-registry') && 'no docker-registry; run `node scripts/setup.mjs test`'

const rootless = process.getuid() !== 0 && 'needs root: a private containerd'

test('a real containerd pulls from a mirror', {
  skip: missing() || noRegistry || rootless,
  timeout: 300_000,
}, async (t) => {
  const mirror = await mirrored(t)
  const rig = await limaRig(t)
  const registries = { mirrors: { 'docker.io': ['http://127.0.0.1:1', mirror.url] }, insecure: ['registry.invalid'] }
  await rig.app().ask({ options: { ...rig.options, registries }, method: 'start' })
  const dir = tempDir('certs')
  for (const host of ['docker.io', 'registry.invalid']) {
    const file = join(dir, host, 'hosts.toml')
    mkdirSync(dirname(file))
    writeFileSync(file, sent(told(rig), `${host}/hosts.toml`, HOSTS))
  }
  const containerd = await startContainerd()
  t.after(() => containerd.stop())
  const image = 'docker.io/library/mirrored:1'
  await containerd.ctr('images', 'pull', '--hosts-dir', dir, image)
  assert.equal(await containerd.ctr('images', 'ls', '-q'), image)
  // The file of a registry that is not to be checked is read, and both ways are tried.
  const far = 'registry.invalid/x/y:1'
  await assert.rejects(containerd.ctr('images', 'pull', '--hosts-dir', dir, far), /registry\.invalid/)
})

test('a registry of an unknown authority is one that need not prove who it is', {
  skip: missing() || noRegistry || rootless,
  timeout: 300_000,
}, async (t) => {
  const registry = await startRegistry({ tls: true })
  t.after(() => registry.stop())
  await publish(registry, 'library/closed:1', busyboxImage())
  const rig = await limaRig(t)
  await rig.app().ask({ options: { ...rig.options, registries: { insecure: [registry.address] } }, method: 'start' })
  const file = join(tempDir('certs'), registry.address, 'hosts.toml')
  mkdirSync(dirname(file))
  const containerd = await startContainerd()
  t.after(() => containerd.stop())
  const image = `${registry.address}/library/closed:1`
  const pull = () => containerd.ctr('images', 'pull', '--hosts-dir', dirname(dirname(file)), image)
  await assert.rejects(pull())
  writeFileSync(file, sent(told(rig), `${registry.address}/hosts.toml`, HOSTS))
  await pull()
})

/** The tables that were sent for the guest's buildkitd. */
const TABLES = /^(\[registry\..*|(mirrors|http|insecure) = .*)$/

test('a real buildkitd begins with the images of a mirror', {
  skip: missing() || noBuildkit() || noRegistry || rootless,
  timeout: 300_000,
}, async (t) => {
  const mirror = await startRegistry({ tls: true })
  t.after(() => mirror.stop())
  await publish(mirror, 'library/mirrored:1', busyboxImage())
  const rig = await limaRig(t)
  const registries = { mirrors: { 'registry.invalid': [mirror.url] }, insecure: [mirror.address] }
  await rig.app().ask({ options: { ...rig.options, registries }, method: 'start' })
  const tables = sent(told(rig), '/proc', TABLES)
  assert.match(tables, /^\[registry\."registry\.invalid"\]$/m)
  const dir = tempDir('mirrored')
  writeFileSync(join(dir, 'Dockerfile'), 'FROM registry.invalid/library/mirrored:1\nCOPY Dockerfile /\n')
  const build = async (config) => {
    const buildkit = await startBuildkit('/bin/true', config)
    try {
      const local = ['--local', `context=${dir}`, '--local', `dockerfile=${dir}`]
      const address = process.env.BUILDKIT_HOST
      const program = join(dirname(buildkit.nerdctl), 'buildctl')
      runAsRoot(program, '--addr', address, 'build', '--frontend', 'dockerfile.v0', ...local)
    } finally {
      await buildkit.stop()
    }
  }
  await build(tables)
  await assert.rejects(build(''), /registry\.invalid/)
})

test('a real dockerd pulls from a mirror', {
  skip: missing() || noDockerd() || noRegistry,
  timeout: 300_000,
}, async (t) => {
  const mirror = await mirrored(t)
  const rig = await limaRig(t)
  const engineSocket = join(rig.dir, 'engine.sock')
  const relay = createServer({ allowHalfOpen: true }, (client) => {
    const engine = connect({ path: sharedEngine().socket, allowHalfOpen: true })
    client.on('error', () => engine.destroy()).pipe(engine)
    engine.on('error', () => client.destroy()).pipe(client)
  }).listen(engineSocket)
  await once(relay, 'listening')
  t.after(() => relay.close())
  chmodSync(engineSocket, 0o777)
  const registries = { mirrors: { 'docker.io': ['http://127.0.0.1:1', mirror.url] }, insecure: [mirror.address] }
  const options = { ...rig.options, engine: 'docker', engineSocket, registries }
  await rig.app().ask({ options, method: 'start' })
  const settings = JSON.parse(sent(told(rig), '/etc/docker/daemon.json', /^( {2}|\})/))
  const engine = await startDockerd({
    mirrors: settings['registry-mirrors'],
    insecureRegistries: settings['insecure-registries'],
  })
  t.after(() => engine.stop())
  await engine.api('POST', '/images/create?fromImage=mirrored&tag=1')
  assert.ok((await engine.api('GET', '/images/mirrored:1/json')).Id)
})

/** Has what nobody else has: Docker Hub is not asked. */
async function mirrored(t) {
  const registry = await startRegistry()
  t.after(() => registry.stop())
  await publish(registry, 'library/mirrored:1', busyboxImage())
  return registry
}
