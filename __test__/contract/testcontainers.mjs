// A test library in the manner of testcontainers, made of this package's calls alone, and programs that use it as its users do.
import { randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { tempDir } from '../support/tempdir.mjs'
import { assert, bytes, subject } from './kit.mjs'
import { tarOf } from './tars.mjs'

const SESSION = 'org.testcontainers.session-id'

/** All that one test process starts carries its label, by which it is removed, whatever became of the process. */
class Session {
  id = randomUUID()

  constructor(adapter) {
    this.adapter = adapter
    this.labels = { [SESSION]: this.id }
  }

  async network() {
    const name = `tc-${this.id}`
    await this.adapter.createNetwork(name, { labels: this.labels })
    return name
  }

  /**
   * @param {object} config of a container; `network` and `aliases` besides, `files` to be there before it starts, and what
   *   `line` it says when it is ready
   */
  async start({ network, aliases = [], files = [], line, ...config }) {
    const id = await this.adapter.createContainer({
      name: `tc-${randomUUID()}`,
      labels: this.labels,
      ...(network && { networks: [network], networkOptions: { [network]: { aliases } } }),
      ...config,
    })
    for (const { source, target } of files) await this.adapter.copyToContainer(id, source, target)
    await this.adapter.startContainer(id)
    if (line) await this.#says(id, line)
    if (config.healthcheck) await this.adapter.waitContainer(id, { condition: 'healthy' })
    const { ports } = await this.adapter.inspectContainer(id)
    return new Started(this.adapter, id, ports)
  }

  async #says(id, line) {
    let said = ''
    for await (const chunk of await this.adapter.getContainerLogs(id, { follow: true })) {
      said += chunk
      if (line.test(said)) return
    }
    throw new Error(`it ended and said ${JSON.stringify(said)}`)
  }

  /** What the reaper does. */
  async removeAll() {
    const filters = { label: [`${SESSION}=${this.id}`] }
    for (const { id } of await this.adapter.listContainers({ all: true, filters }))
      await this.adapter.removeContainer(id, true)
    const networks = async () => (await this.adapter.listNetworks()).filter(({ name }) => name.endsWith(this.id))
    for (const { id } of await networks()) await this.adapter.removeNetwork(id)
    const left = await this.adapter.listContainers({ all: true, filters })
    return { containers: left.length, networks: (await networks()).length }
  }
}

class Started {
  constructor(adapter, id, ports) {
    this.adapter = adapter
    this.id = id
    this.ports = ports
  }

  mappedPort(port) {
    return this.ports.find(({ containerPort }) => containerPort === port)?.hostPort
  }

  async exec(...argv) {
    const { exitCode, stdout, stderr } = await this.adapter.execInContainer(this.id, argv)
    return { exitCode, output: `${stdout}${stderr}` }
  }

  async page(port, path) {
    return new Promise((resolve, reject) => {
      get({ host: '127.0.0.1', port: this.mappedPort(port), path, agent: false }, (answer) => {
        bytes(answer).then((body) => resolve(`${answer.statusCode} ${body}`), reject)
      }).on('error', reject)
    })
  }
}

export const testcontainers = subject('testcontainers', (ctx, test) => {
  const { image } = ctx.backend
  const serve = {
    image,
    command: ['sh', '-c', '. /etc/app.conf && echo "ready as $NAME"; exec httpd -f -p 80 -h /site'],
    ports: { 80: '0' },
    line: /^ready as/m,
    healthcheck: {
      test: ['CMD', 'wget', '-q', '-O', '/dev/null', 'http://127.0.0.1/'],
      interval: 300,
      timeout: 5000,
      retries: 100,
    },
  }

  function session() {
    const session = new Session(ctx.adapter)
    ctx.undo(() => session.removeAll())
    return session
  }

  /** What a service is given before it starts: a directory of this computer, and a tar. */
  function files(name) {
    const dir = tempDir('testcontainers')
    mkdirSync(join(dir, 'pages'))
    writeFileSync(join(dir, 'pages/index.html'), `a page of ${name}`)
    const conf = tarOf([{ name: 'app.conf', data: `NAME=${name}\n` }])
    return [
      { source: join(dir, 'pages'), target: '/site' },
      { source: Readable.from([conf]), target: '/etc' },
    ]
  }

  test('two services on ports of the engine’s choice, files before they start, a log line, health, aliases, exec, removal by label', async () => {
    const here = session()
    const network = await here.network()
    const [one, two] = await Promise.all(
      ['one', 'two'].map((name) => here.start({ ...serve, network, aliases: [`service-${name}`], files: files(name) })),
    )
    const mapped = [one.mappedPort(80), two.mappedPort(80)]
    assert.ok(mapped.every((port) => port > 0 && port < 65_536) && mapped[0] !== mapped[1], `${mapped}`)
    assert.equal(await one.page(80, '/'), '200 a page of one')
    assert.equal(await two.page(80, '/'), '200 a page of two')
    for (const [from, to, page] of [
      [one, 'two', 'a page of two'],
      [two, 'one', 'a page of one'],
    ])
      assert.deepEqual(await from.exec('wget', '-q', '-O', '-', `http://service-${to}/`), { exitCode: 0, output: page })
    assert.deepEqual(await one.exec('sh', '-c', 'echo out; echo err >&2; exit 3'), {
      exitCode: 3,
      output: 'out\nerr\n',
    })

    // What it has made is read back, also when it has ended.
    await one.exec('sh', '-c', 'mkdir /results && echo passed >/results/report')
    await ctx.adapter.stopContainer(one.id, 0)
    const out = tempDir('testcontainers')
    await ctx.adapter.copyFromContainer(one.id, '/results', { to: out })
    assert.equal(readFileSync(join(out, 'results/report'), 'utf8'), 'passed\n')

    // Another session's is not touched.
    const elsewhere = session()
    const other = await elsewhere.start({ image, command: serve.command, files: files('other'), line: serve.line })
    assert.deepEqual(await here.removeAll(), { containers: 0, networks: 0 })
    assert.equal((await ctx.adapter.inspectContainer(other.id)).state, 'running')
    assert.deepEqual(await elsewhere.removeAll(), { containers: 0, networks: 0 })
  })

  test('a service that ends before it says so', async () => {
    const here = session()
    await assert.rejects(
      here.start({ image, command: ['sh', '-c', 'echo no luck; exit 1'], line: /ready/ }),
      // Some loggers lose what it said last.
      /it ended and said "(no luck\\n)?"/,
    )
    assert.deepEqual(await here.removeAll(), { containers: 0, networks: 0 })
  })
})
