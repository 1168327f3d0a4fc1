// Every way to an engine that DOCKER_HOST and a docker context can name, with a real engine at its end; and the registry
// credentials that docker's own configuration holds.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer, request } from 'node:http'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { inspect } from 'node:util'
import { DockerAdapter } from 'lima-runtime'
import { startDockerd } from '../support/dockerd.mjs'
import { sharedEngine } from '../support/engine.mjs'
import { http } from '../support/http.mjs'
import { busyboxArchive, loadArchive } from '../support/images.mjs'
import { freePort } from '../support/ports.mjs'
import { ACCOUNT, pushImage, startRegistry } from '../support/registry.mjs'
import { authority, ofServer } from '../support/release-files.mjs'
import { startSshd } from '../support/sshd.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'

const NAMES = [
  ...['DOCKER_HOST', 'DOCKER_CONTEXT', 'DOCKER_CONFIG', 'DOCKER_CERT_PATH', 'DOCKER_TLS_VERIFY', 'PATH'],
  ...['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'].flatMap((name) => [name, name.toLowerCase()]),
]

/** Runs `work` with these of docker's variables and none else. */
async function under(env, work) {
  const before = NAMES.map((name) => [name, process.env[name]])
  const set = ([name, value]) => {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
  const empty = { DOCKER_CONFIG: tempDir('docker-config'), PATH: process.env.PATH }
  for (const name of NAMES) set([name, { ...empty, ...env }[name]])
  try {
    return await work()
  } finally {
    before.forEach(set)
  }
}

/** A list, and what needs a connection of its own: a command whose input ends before its output does. */
async function works(adapter) {
  const name = `endpoint-${process.pid}`
  const command = ['sh', '-c', 'echo up; trap "exit 0" TERM; sleep 86400 & wait']
  const id = await adapter.startContainer({ name, image: 'busybox:latest', command })
  try {
    assert.deepEqual(
      (await adapter.listContainers({ filters: { name: [name] } })).map((c) => c.id),
      [id],
    )
    const input = Buffer.alloc(300_000, 'some words ')
    const { exitCode, stdout } = await adapter.execInContainer(id, ['sh', '-c', 'cat; exit 7'], { input })
    assert.equal(exitCode, 7)
    assert.ok(stdout.equals(input), `${stdout.length} bytes came back`)
    const log = await adapter.getContainerLogs(id, { follow: true })
    const [first] = await once(log, 'data')
    assert.equal(String(first), 'up\n')
    log.destroy()
  } finally {
    await adapter.removeContainer(id, true)
  }
}

const answers = () => new DockerAdapter().getSystemInfo()

const unreachable = (adapter, message, hint) =>
  assert.rejects(adapter.listContainers(), (e) => {
    assert.equal(e.code, 'ENGINE_UNREACHABLE', e.stack)
    assert.match(e.message, message)
    assert.match(e.hint, hint)
    return true
  })

/** As `docker context create` writes it; `tls` are files to copy, by the names the context gives them. */
function writeContext(config, name, docker, tls = {}) {
  const id = createHash('sha256').update(name).digest('hex')
  const [meta, files] = [join(config, 'contexts/meta', id), join(config, 'contexts/tls', id, 'docker')]
  mkdirSync(meta, { recursive: true })
  writeFileSync(join(meta, 'meta.json'), JSON.stringify({ Name: name, Metadata: {}, Endpoints: { docker } }))
  if (Object.keys(tls).length > 0) mkdirSync(files, { recursive: true })
  for (const [file, from] of Object.entries(tls)) copyFileSync(from, join(files, file))
}

const skip = process.platform !== 'linux' && 'needs a Linux engine'

describe('tcp', { skip }, () => {
  let relay
  let sent = ''
  before(async () => {
    const { socket } = sharedEngine()
    // Half open: an input that ends must not end the output.
    relay = createServer({ allowHalfOpen: true }, (client) => {
      const engine = connect({ path: socket, allowHalfOpen: true })
      client.on('data', (data) => (sent += data.toString('latin1').slice(0, 4096)))
      client.on('error', () => engine.destroy()).pipe(engine)
      engine.on('error', () => client.destroy()).pipe(client)
    }).listen(0, '127.0.0.1')
    await once(relay, 'listening')
  })
  after(() => relay?.close())
  const host = () => `tcp://127.0.0.1:${relay.address().port}`

  it('by the option, by DOCKER_HOST, by a context', async () => {
    await under({}, () => works(new DockerAdapter({ host: host() })))
    await under({ DOCKER_HOST: host() }, answers)
    const config = tempDir('docker-config')
    writeContext(config, 'far', { Host: host(), SkipTLSVerify: false })
    await under({ DOCKER_CONFIG: config, DOCKER_CONTEXT: 'far' }, answers)
    writeFileSync(join(config, 'config.json'), JSON.stringify({ currentContext: 'far' }))
    await under({ DOCKER_CONFIG: config }, answers)
  })

  it('in every form that the docker CLI takes', async () => {
    const { port } = relay.address()
    for (const form of [
      `127.0.0.1:${port}`,
      `localhost:${port}`,
      `:${port}`,
      ` tcp://127.0.0.1:${port}/\n`,
      `\ttcp://:${port}`,
      `http://127.0.0.1:${port}`,
    ])
      await under({ DOCKER_HOST: form }, answers)
    const { socket } = sharedEngine()
    await under({ DOCKER_HOST: ` unix://${socket}\n` }, answers)
    // What stands behind the host stands before every path; this engine knows no such paths.
    sent = ''
    await assert.rejects(under({ DOCKER_HOST: `127.0.0.1:${port}/pre/fix/` }, answers))
    assert.match(sent, /^GET \/pre\/fix\/_ping HTTP/)
  })

  it("speaks the engine's version of the API", async () => {
    const { ApiVersion } = await sharedEngine().api('GET', '/version')
    sent = ''
    await new DockerAdapter({ host: host() }).listContainers()
    const asked = [...sent.matchAll(/^[A-Z]+ (\S+) HTTP/gm)].map(([, path]) => path)
    assert.equal(asked[0], '/_ping')
    assert.ok(asked.length > 1 && asked.slice(1).every((path) => path.startsWith(`/v${ApiVersion}/`)), `${asked}`)
  })

  it('nobody there', async () => {
    const port = await freePort()
    await unreachable(new DockerAdapter({ host: `tcp://127.0.0.1:${port}` }), /refused/i, /wants TLS/)
  })
})

describe('a proxy', { skip }, () => {
  // The proxy alone knows where the engine of this name is.
  const far = 'tcp://engine.invalid:2375'

  /** One for each test: what an adapter of another test still has to say is not asked of it. */
  async function withProxy(t, { tunnels = true } = {}) {
    const asked = []
    const running = new Set()
    const keep = (connection) =>
      running.add(connection.on('close', () => running.delete(connection)).on('error', () => {}))
    const { socket } = sharedEngine()
    const proxy = createHttpServer(async (incoming, outgoing) => {
      asked.push(`${incoming.method} ${incoming.url}`)
      const { method, headers } = incoming
      if (headers['proxy-authorization'] !== `Basic ${Buffer.from('me:secret').toString('base64')}`)
        return outgoing.writeHead(407).end()
      const path = incoming.url.replace(/^http:\/\/[^/]+/, '')
      const upstream = request({ socketPath: socket, method, path, headers, agent: false }, (answer) => {
        outgoing.writeHead(answer.statusCode, answer.headers)
        answer.on('error', () => outgoing.destroy()).pipe(outgoing)
      })
      outgoing.on('close', () => upstream.destroy())
      upstream.on('error', () => outgoing.destroy()).end(Buffer.concat(await incoming.toArray()))
    })
    proxy.on('connection', keep).on('connect', ({ url }, client, head) => {
      asked.push(`CONNECT ${url}`)
      if (!tunnels) return client.end('HTTP/1.1 403 Forbidden\r\n\r\n')
      const engine = connect({ path: socket, allowHalfOpen: true })
      keep(engine)
      client.allowHalfOpen = true
      client.write('HTTP/1.1 200 OK\r\n\r\n')
      engine.write(head)
      client.on('close', () => engine.destroy()).pipe(engine)
      engine.on('close', () => client.destroy()).pipe(client)
    })
    await once(proxy.listen(0, '127.0.0.1'), 'listening')
    t.after(() => {
      for (const connection of running) connection.destroy()
      proxy.close()
    })
    const env = { DOCKER_HOST: far, HTTP_PROXY: `http://me:secret@127.0.0.1:${proxy.address().port}` }
    return { asked, env }
  }

  it('of HTTP_PROXY stands before an engine at tcp://', async (t) => {
    const { asked, env } = await withProxy(t)
    await under(env, () => works(new DockerAdapter()))
    assert.equal(asked[0], 'GET http://engine.invalid:2375/_ping')
    assert.ok(asked.includes('CONNECT engine.invalid:2375'), asked.join('\n'))
    const others = asked.filter((line) => !/^[A-Z]+ (http:\/\/)?engine\.invalid:2375/.test(line))
    assert.deepEqual(others, [])
  })

  it('that opens no tunnel serves all but the connections of processes', async (t) => {
    const { env } = await withProxy(t, { tunnels: false })
    await under(env, async () => {
      const adapter = new DockerAdapter()
      const name = `proxied-${process.pid}`
      const command = ['sh', '-c', 'echo up; trap "exit 0" TERM; sleep 86400 & wait']
      const id = await adapter.startContainer({ name, image: 'busybox:latest', command })
      try {
        const log = await adapter.getContainerLogs(id, { follow: true })
        assert.equal(String((await once(log, 'data'))[0]), 'up\n')
        log.destroy()
        await assert.rejects(adapter.execInContainer(id, ['true']), { code: 'ENGINE_UNREACHABLE', message: /proxy/ })
      } finally {
        await adapter.removeContainer(id, true)
      }
    })
  })

  it('is passed by where nobody wants it, and its password is in no message', async (t) => {
    const { asked, env } = await withProxy(t)
    const look = (more) => under({ ...env, ...more }, () => assert.rejects(answers(), { code: 'ENGINE_UNREACHABLE' }))
    await look({ NO_PROXY: '*' })
    await look({ NO_PROXY: 'a.example,engine.invalid' })
    const nobody = await freePort()
    // An address of nobody's, where the proxy has the engine.
    await under({ ...env, DOCKER_HOST: 'tcp://203.0.113.9:2375' }, answers)
    assert.equal(asked[0], 'GET http://203.0.113.9:2375/_ping')
    asked.length = 0
    for (const host of ['localhost', '127.0.0.1', '[::1]', '']) await look({ DOCKER_HOST: `tcp://${host}:${nobody}` })
    await under({ ...env, DOCKER_HOST: sharedEngine().host }, answers)
    assert.deepEqual(asked, [])
    const gone = { HTTP_PROXY: `http://me:secret@127.0.0.1:${nobody}` }
    await assert.rejects(under({ ...env, ...gone }, answers), (error) => {
      assert.equal(error.code, 'ENGINE_UNREACHABLE')
      assert.match(error.message, new RegExp(`proxy 127.0.0.1:${nobody}`))
      assert.ok(!inspect(error, { depth: 9 }).includes('secret'))
      return true
    })
  })
})

describe('an engine of its own', { skip }, () => {
  let engine
  let host
  let mine
  const running = []

  before(async () => {
    const dir = tempDir('engine-tls')
    const { ca, issue } = authority(dir)
    const server = issue('server', '/CN=engine', ofServer())
    const client = issue('client', '/CN=client', 'extendedKeyUsage=clientAuth')
    mine = { 'ca.pem': ca, 'cert.pem': client.cert, 'key.pem': client.key }
    const port = await freePort()
    host = `tcp://127.0.0.1:${port}`
    const files = ['--tlscacert', ca, '--tlscert', server.cert, '--tlskey', server.key]
    engine = await startDockerd({ args: ['--host', host, '--tlsverify', ...files], poolSize: 16 })
    running.push(engine)
    await loadArchive(engine, busyboxArchive())
  })
  after(async () => {
    for (const part of running.reverse()) await part.stop()
  })

  /** A directory of certificates, as DOCKER_CERT_PATH names one. */
  function certPath(...names) {
    const dir = tempDir('cert-path')
    for (const name of names) copyFileSync(mine[name], join(dir, name))
    return dir
  }

  it('TLS with certificates on both sides, by DOCKER_CERT_PATH', async () => {
    const all = certPath('ca.pem', 'cert.pem', 'key.pem')
    await under({ DOCKER_HOST: host, DOCKER_CERT_PATH: all }, () => works(new DockerAdapter()))
    await under({ DOCKER_HOST: host, DOCKER_CONFIG: all, DOCKER_TLS_VERIFY: '1' }, answers)
  })

  it('TLS by a context, which may also trust blindly', async () => {
    const config = tempDir('docker-config')
    writeContext(config, 'far', { Host: host, SkipTLSVerify: false }, mine)
    const { 'ca.pem': _, ...noCa } = mine
    writeContext(config, 'blind', { Host: host, SkipTLSVerify: true }, noCa)
    writeContext(config, 'stranger', { Host: host, SkipTLSVerify: false }, noCa)
    const by = (name, work) => under({ DOCKER_CONFIG: config, DOCKER_CONTEXT: name }, work)
    await by('far', answers)
    await by('blind', answers)
    await by('stranger', () => unreachable(new DockerAdapter(), /certificate|issuer/i, /ca\.pem/))
  })

  it('TLS that fails: no certificate of ours, an unknown authority, no TLS at all', async () => {
    const look = (env, ...expected) =>
      under({ DOCKER_HOST: host, ...env }, () => unreachable(new DockerAdapter(), ...expected))
    await look({ DOCKER_CERT_PATH: certPath('ca.pem') }, /certificate/i, /cert\.pem/)
    await look({ DOCKER_CERT_PATH: certPath('cert.pem', 'key.pem') }, /certificate|issuer/i, /ca\.pem/)
    await look({}, /HTTP 400|not ready/, /./)
  })

  const noCli = spawnSync('docker', ['--version']).error && 'needs the docker CLI at the other end'
  it('ssh, with the keys and hosts that ssh itself knows', { skip: noCli, timeout: 300_000 }, async () => {
    // The docker CLI at the other end is Debian's own, as root: the socket of a test's engine is nobody else's.
    const dial = `docker --host ${engine.host} system dial-stdio`
    const asked = `case "$SSH_ORIGINAL_COMMAND" in "docker system dial-stdio"|"${dial}") ;; *) exit 9;; esac`
    const sshd = await startSshd(`${asked}; exec sudo -n ${dial}`)
    running.push(sshd)
    const at = `ssh://${sshd.user}@127.0.0.1:${sshd.port}`
    const ours = { PATH: `${sshd.bin}:${process.env.PATH}` }
    await under({ ...ours, DOCKER_HOST: at }, () => works(new DockerAdapter()))
    // With a path it is that engine's own socket there, which containers get, too.
    const { pathname } = new URL(engine.host)
    await under({ ...ours, DOCKER_HOST: ` ${at}${pathname}\n` }, async () => {
      const adapter = new DockerAdapter()
      const volumes = [{ host: '/var/run/docker.sock', container: '/s' }]
      const config = { name: `socket-${process.pid}`, image: 'busybox:latest', command: ['test', '-S', '/s'], volumes }
      const id = await adapter.startContainer(config)
      try {
        assert.deepEqual(await adapter.waitContainer(id), { exitCode: 0 })
        const { mounts } = await adapter.getContainerDetails(id)
        assert.deepEqual(
          mounts.map((mount) => mount.source),
          [pathname],
        )
      } finally {
        await adapter.removeContainer(id, true)
      }
    })
    // That machine is this one: what the engine publishes is here, and nothing is tunnelled.
    await under(ours, async () => {
      const [adapter, port] = [new DockerAdapter({ host: at }), await freePort()]
      const [command, ports] = [['httpd', '-f', '-p', '80', '-h', '/etc'], { 80: `${port}` }]
      const config = { name: `same-${process.pid}`, image: 'busybox:latest', command, ports }
      const id = await adapter.startContainer(config)
      try {
        const answers = () => http({ host: '127.0.0.1', port, path: '/passwd' })
        assert.equal((await waitFor('a page', answers)).status, 200)
        await adapter.restartContainer(id, 0)
        assert.equal((await waitFor('a page', answers)).status, 200)
      } finally {
        await adapter.removeContainer(id, true)
      }
    })
    await under({ ...ours, DOCKER_HOST: `${at}/another.sock` }, () => assert.rejects(answers()))
    const nobody = at.replace(sshd.user, 'nobody-of-that-name')
    await under(ours, () => unreachable(new DockerAdapter({ host: nobody }), /Permission denied|closed/, /`ssh`/))
  })

  it('no addresses are left for another network', async () => {
    const adapter = new DockerAdapter({ host: engine.host })
    await assert.rejects(adapter.createNetwork('n1'), (error) => {
      assert.equal(error.code, 'ENGINE_ERROR', error.message)
      assert.match(error.message, /non-overlapping IPv4 address pool/)
      assert.match(error.hint, /prune/)
      return true
    })
  })

  it("a pull with what docker's config.json holds, or a credential helper", { timeout: 300_000 }, async () => {
    const registry = await startRegistry({ auth: true })
    running.push(registry)
    await loadArchive(engine, busyboxArchive({ tags: ['private:latest'], files: { '/private': 'x' } }))
    const image = await pushImage(engine, 'private:latest', registry, 'test/private:1', { auth: ACCOUNT })
    await engine.api('DELETE', '/images/private:latest')
    const adapter = new DockerAdapter({ host: engine.host })
    const { username, password } = ACCOUNT
    const config = tempDir('docker-config')
    const bin = tempDir('helpers')
    const helper = `#!/bin/sh\n[ "$1" = get ] && [ "$(cat)" = ${registry.address} ] || exit 1
echo '${JSON.stringify({ ServerURL: registry.address, Username: username, Secret: password })}'\n`
    writeFileSync(join(bin, 'docker-credential-of-test'), helper, { mode: 0o755 })
    const pull = async (text) => {
      writeFileSync(join(config, 'config.json'), JSON.stringify(text))
      await under({ DOCKER_CONFIG: config, PATH: `${bin}:${process.env.PATH}` }, () => adapter.pullImage(image))
      await adapter.removeImage(image)
    }
    await assert.rejects(pull({}), { code: 'REGISTRY_AUTH' })
    await pull({ auths: { [registry.address]: { auth: Buffer.from(`${username}:${password}`).toString('base64') } } })
    await pull({ credHelpers: { [registry.address]: 'of-test' } })
    await pull({ credsStore: 'of-test' })
    // As the CLI reads it: nulls are nothing, and a helper that is not there leaves the file's entry.
    const auth = Buffer.from(`${username}:${password}`).toString('base64')
    const auths = { [registry.address]: { auth, identitytoken: null }, other: null }
    await pull({ auths, credsStore: null, credHelpers: null })
    await pull({ auths, credsStore: 'nobody-has-this' })
    const wrong = { auth: Buffer.from('a:b').toString('base64') }
    await pull({ auths: { [`http://${registry.address}`]: wrong, ...auths } })
    await pull({ auths: null, credsStore: 'of-test' })
  })
})
