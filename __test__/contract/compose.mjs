import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { dockerConfig } from '../support/compose.mjs'
import { http } from '../support/http.mjs'
import { freePort } from '../support/ports.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'
import { assert, fails, IDLE, LITERAL, subject, warnings } from './kit.mjs'

/** The command lines of this machine, which all its users can read. */
function commandLines() {
  const read = (pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
    } catch {
      return ''
    }
  }
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(read)
}

/** In an object `$` begins a variable. */
const literal = (text) => text.replaceAll('$', '$$$$')

export const compose = subject('compose', (ctx, declare) => {
  const { image } = ctx.backend
  const test = (name, ...rest) => {
    const work = rest.pop()
    // Where there is no compose, each row says so.
    const options = { needs: 'compose', ...rest.pop() }
    declare(name, options, async () => {
      setVariable('DOCKER_CONFIG', dockerConfig({ brought: ctx.backend.bringsCompose }))
      await work()
    })
  }
  const setVariable = (name, value) => {
    const before = process.env[name]
    ctx.undo(() => {
      if (before === undefined) delete process.env[name]
      else process.env[name] = before
    })
    process.env[name] = value
  }
  /** Its name, and an object of it. */
  const projectOf = (services, more) => {
    const name = ctx.name('compose')
    const project = { name, services, ...more }
    ctx.undo(() => ctx.adapter.composeDown(project, { volumes: true, removeOrphans: true, profiles: ['more'] }))
    return project
  }
  const idle = (more) => ({ image, command: literalAll(IDLE), stop_grace_period: '1s', ...more })
  const literalAll = (argv) => argv.map(literal)
  const page = (port) =>
    waitFor(`a page at ${port}`, async () => (await http({ host: '127.0.0.1', port })).body.toString())
  const services = async (project, options) =>
    (await ctx.adapter.composePs(project, options)).map(({ service, state }) => `${service} ${state}`)

  test('two services reach each other by name, and a port is reached; what is there, goes; its volume stays', async () => {
    const port = await freePort()
    const words = LITERAL.filter((word) => !word.includes('\n')).join(' ')
    const serve = 'mkdir -p /www && printf "%s" "$WORDS" >/www/index.html && exec httpd -f -p 80 -h /www'
    const project = projectOf(
      {
        web: idle({
          command: ['sh', '-c', literal(serve)],
          environment: { WORDS: '${WORDS}' },
          ports: [`127.0.0.1:${port}:80`],
          volumes: ['data:/data'],
        }),
        peer: idle({ depends_on: ['web'] }),
      },
      { volumes: { data: null } },
    )
    assert.deepEqual(await services(project), [])
    const told = []
    await ctx.adapter.composeUp(project, { env: { WORDS: words }, onProgress: (p) => told.push(p) })
    assert.equal(await page(port), words)
    const [peer, web] = await ctx.adapter.composePs(project)
    assert.deepEqual([peer.service, peer.state, web.service, web.state], ['peer', 'running', 'web', 'running'])
    assert.deepEqual(web.ports, [{ containerPort: 80, hostPort: port, protocol: 'tcp' }])
    assert.ok(web.created instanceof Date)
    assert.equal(await ctx.exec(peer.id, 'wget', '-qO-', 'http://web/'), words)
    const about = told.map(({ resource }) => resource)
    assert.ok(
      about.some((resource) => /^Container .*web/.test(resource)),
      JSON.stringify(told),
    )
    assert.ok(
      about.some((resource) => resource.startsWith('Network ')),
      JSON.stringify(told),
    )
    for (const { status, state } of told) {
      assert.ok(status.length > 0, JSON.stringify(told))
      assert.ok(['working', 'done'].includes(state), JSON.stringify(told))
    }

    await ctx.exec(web.id, 'sh', '-c', 'echo kept >/data/file')
    await ctx.adapter.composeDown(project)
    assert.deepEqual(await services(project), [])
    const named = async (list) => (await list).filter(({ name }) => name.startsWith(project.name)).length
    assert.deepEqual(await Promise.all([ctx.adapter.listNetworks(), ctx.adapter.listVolumes()].map(named)), [0, 1])
    await ctx.adapter.composeUp(project, { env: { WORDS: '' } })
    const again = (await ctx.adapter.composePs(project)).find(({ service }) => service === 'web')
    assert.equal(await ctx.exec(again.id, 'cat', '/data/file'), 'kept\n')
    await ctx.adapter.composeDown(project, { volumes: true })
    assert.equal(await named(ctx.adapter.listVolumes()), 0)
    // There is nothing left to do.
    await ctx.adapter.composeDown(project)
  })

  test('a file is compose’s own: its name, its directory, its .env, its secrets', async () => {
    const dir = tempDir('Compose-Project')
    const secret = `hunter2-${randomBytes(8).toString('hex')}`
    writeFileSync(join(dir, 'token'), secret)
    writeFileSync(join(dir, '.env'), 'FROM_ENV=of the directory\n')
    writeFileSync(join(dir, 'of-a-file.env'), 'FROM_FILE=of a file\n')
    const file = join(dir, 'compose.yaml')
    const argv = JSON.stringify(literalAll(IDLE))
    writeFileSync(
      file,
      `services:
  app:
    image: ${image}
    command: ${argv}
    stop_grace_period: 1s
    environment: { FROM_ENV: "\${FROM_ENV}", GIVEN: "\${GIVEN:-nothing}" }
    env_file: [of-a-file.env]
    secrets: [token]
secrets:
  token: { file: ./token }
`,
    )
    ctx.undo(() => ctx.adapter.composeDown(file, { projectName: 'elsewhere', volumes: true }))
    ctx.undo(() => ctx.adapter.composeDown(file, { volumes: true }))
    await ctx.adapter.composeUp(file, { env: { GIVEN: 'given' } })
    const [app] = await ctx.adapter.composePs(file)
    assert.ok(
      app.name.startsWith(
        basename(dir)
          .toLowerCase()
          .replace(/[^-_a-z0-9]/g, ''),
      ),
      app.name,
    )
    const seen = await ctx.exec(app.id, 'sh', '-c', 'echo "$FROM_ENV,$FROM_FILE,$GIVEN"; cat /run/secrets/token')
    assert.equal(seen, `of the directory,of a file,given\n${secret}`)
    assert.deepEqual(await services(file, { projectName: 'elsewhere' }), [])
    await ctx.adapter.composeDown(file)
    assert.deepEqual(await services(file), [])
  })

  test('nothing of this process’s environment reaches a project, and nothing in it steers compose', async () => {
    const project = projectOf({
      app: idle({ environment: { SEEN: '${CONTRACT_OURS:-nothing},${COMPOSE_FILE:-nothing}', OWN: null } }),
    })
    const ours = { CONTRACT_OURS: 'leaked', OWN: 'leaked', COMPOSE_FILE: '/nowhere/c.yaml', COMPOSE_PROFILES: 'x' }
    Object.assign(ours, { COMPOSE_PROJECT_NAME: 'other', DOCKER_HOST: 'unix:///nowhere.sock', DOCKER_CONTEXT: 'other' })
    for (const [name, value] of Object.entries(ours)) setVariable(name, value)
    await ctx.adapter.composeUp(project)
    const [app] = await ctx.adapter.composePs(project)
    const { env } = await ctx.adapter.getContainerDetails(app.id)
    assert.deepEqual([env.SEEN, env.OWN ?? ''], ['nothing,nothing', ''])
  })

  test('a secret of an object stands on no command line', { needs: 'composeSecrets' }, async () => {
    const [secret, other] = [1, 2].map(() => `hunter2-${randomBytes(8).toString('hex')}`)
    const project = projectOf({ app: idle({ environment: { TOKEN: '${TOKEN}', OTHER: other } }) })
    const seen = new Set()
    const look = () => {
      for (const line of commandLines()) if (line.includes(secret) || line.includes(other)) seen.add(line)
    }
    const timer = setInterval(look, 5)
    try {
      await ctx.adapter.composeUp(project, { env: { TOKEN: secret }, onProgress: look })
    } finally {
      clearInterval(timer)
    }
    assert.deepEqual([...seen], [])
    const [app] = await ctx.adapter.composePs(project)
    const { env } = await ctx.adapter.getContainerDetails(app.id)
    assert.deepEqual([env.TOKEN, env.OTHER], [secret, other])
  })

  test('some services, profiles, and what is no service any more', async () => {
    const project = projectOf({ one: idle(), two: idle({ profiles: ['more'] }), three: idle({ depends_on: ['one'] }) })
    await ctx.adapter.composeUp(project, { services: ['one'] })
    assert.deepEqual(await services(project), ['one running'])
    await ctx.adapter.composeUp(project, { profiles: ['more'] })
    assert.deepEqual(await services(project), ['one running', 'three running', 'two running'])
    const { one } = project.services
    await ctx.adapter.composeUp({ ...project, services: { one } }, { removeOrphans: true })
    assert.deepEqual(await services(project), ['one running'])
  })

  test('what compose leaves out or guesses, it says', async () => {
    const project = projectOf({ app: idle({ environment: { X: '${NOT_SET_ANYWHERE}' } }) })
    const told = []
    const seen = await warnings(() => ctx.adapter.composeUp(project, { onProgress: (p) => told.push(p) }))
    const of = seen.filter(({ message }) => message.includes('NOT_SET_ANYWHERE'))
    assert.deepEqual(
      of.map(({ name, code }) => [name, code]),
      [['RuntimeWarning', 'ENGINE_WARNING']],
      JSON.stringify(seen),
    )
    assert.ok(told.some(({ state, status }) => state === 'warning' && status.includes('NOT_SET_ANYWHERE')))
  })

  test('what is wrong is said with its code, and in compose’s words', async () => {
    // Of what cannot be read there is nothing to be taken down.
    const unread = (services) => ({ name: ctx.name('compose'), services })
    const bad = unread({ app: { imagee: image } })
    await fails(ctx.adapter.composeUp(bad), 'INVALID_ARGUMENT', { field: 'project', naming: 'imagee' })
    const file = join(tempDir('broken'), 'compose.yaml')
    writeFileSync(file, 'services: [\n')
    await fails(ctx.adapter.composeUp(file, { projectName: bad.name }), 'INVALID_ARGUMENT', { field: 'project' })
    const unknown = unread({ app: idle({ depends_on: ['nobody'] }) })
    await fails(ctx.adapter.composeUp(unknown), 'INVALID_ARGUMENT', { field: 'project', naming: 'nobody' })
    const some = projectOf({ app: idle() })
    const nobody = ctx.adapter.composeUp(some, { services: ['nobody'] })
    await fails(nobody, 'INVALID_ARGUMENT', { field: 'services', naming: 'nobody' })

    const missing = `${ctx.backend.remoteImage.split('/')[0]}/no/such:1`
    const told = []
    const without = ctx.adapter.composeUp(projectOf({ app: idle({ image: missing }) }), {
      onProgress: (p) => told.push(p),
    })
    await fails(without, 'IMAGE_NOT_FOUND', { naming: 'no/such' })
    assert.ok(
      told.some(({ state }) => state === 'failed'),
      JSON.stringify(told),
    )

    const port = await freePort()
    await ctx.start({ ports: { 80: `127.0.0.1:${port}` } })
    const taken = projectOf({ app: idle({ ports: [`127.0.0.1:${port}:80`] }), first: idle() })
    const error = await fails(ctx.adapter.composeUp(taken), 'PORT_IN_USE', { naming: String(port) })
    const there = (await ctx.adapter.composePs(taken)).map(({ name }) => name)
    assert.deepEqual((error.details.left ?? []).sort(), there.sort())
  })

  test('an image that is not there is fetched', async () => {
    ctx.discardImage(ctx.backend.remoteImage)
    const project = projectOf({ app: idle({ image: ctx.backend.remoteImage }) })
    const told = []
    await ctx.adapter.composeUp(project, { onProgress: (p) => told.push(p) })
    assert.deepEqual(await services(project), ['app running'])
    assert.ok(
      told.some(({ status }) => /pull/i.test(status)),
      JSON.stringify(told),
    )
  })

  test('an image of a private registry is fetched with the user’s credentials', async () => {
    const { privateImage, account } = ctx.backend
    ctx.discardImage(privateImage)
    const auth = Buffer.from(`${account.username}:${account.password}`).toString('base64')
    const auths = { [privateImage.split('/')[0]]: { auth } }
    writeFileSync(join(process.env.DOCKER_CONFIG, 'config.json'), JSON.stringify({ auths }))
    const project = projectOf({ app: idle({ image: privateImage }) })
    await ctx.adapter.composeUp(project)
    assert.deepEqual(await services(project), ['app running'])
    // Once more, whatever is there.
    await ctx.adapter.composeUp(project, { pull: 'always' })
    await ctx.adapter.composeUp({ ...project, services: { app: idle({ image: privateImage, pull_policy: 'always' }) } })
  })

  const ended = ({ name }) =>
    waitFor('the end of compose', () => !commandLines().some((line) => line.includes(`=${name} `)))
  /** Up to the first container that runs, of a project that waits for a health that does not come. */
  async function waiting(project) {
    const controller = new AbortController()
    const outcome = fails(ctx.adapter.composeUp(project, { wait: true, signal: controller.signal }), 'ABORTED')
    const runs = waitFor('its container', async () => (await services(project)).includes('app running'))
    await Promise.race([runs, outcome.then(() => assert.fail('it has ended'))])
    return async () => {
      controller.abort()
      await outcome
      await ended(project)
    }
  }
  const never = { test: ['CMD-SHELL', 'exit 1'], interval: '1h', start_period: '1h', retries: 1000 }

  test('aborted while an image is fetched, it ends', async () => {
    const { slow } = ctx.backend
    ctx.undo(slow.release)
    const project = projectOf({ app: idle(), late: idle({ image: slow.image() }) })
    const held = slow.hold()
    const controller = new AbortController()
    const outcome = fails(ctx.adapter.composeUp(project, { signal: controller.signal }), 'ABORTED')
    await Promise.race([held, outcome.then(() => assert.fail('it has ended'))])
    controller.abort()
    await outcome
    await ended(project)
    assert.deepEqual(await services(project), [])
  })

  test('aborted, it takes down what it made, and only that', { needs: 'composeHealth' }, async () => {
    const project = projectOf({ app: idle({ healthcheck: never }) })
    const abort = await waiting(project)
    await abort()
    await waitFor('nothing left', async () => (await services(project)).length === 0)
    // The next one waits for that.
    await ctx.adapter.composeUp(project)
    assert.deepEqual(await services(project), ['app running'])
    await (await waiting(project))()
    assert.deepEqual(await services(project), ['app running'])
  })

  test('it waits for health', { needs: 'composeHealth' }, async () => {
    const health = { test: ['CMD-SHELL', 'test -e /healthy'], interval: '1s', timeout: '60s', retries: 1000 }
    const argv = ['sh', '-c', literal('touch /healthy; trap "exit 0" TERM; sleep 86400 & wait')]
    const project = projectOf({ app: idle({ command: argv, healthcheck: health }), plain: idle() })
    await ctx.adapter.composeUp(project, { wait: true })
    const found = await ctx.adapter.composePs(project)
    assert.deepEqual(
      found.map((c) => c.health),
      ['healthy', 'none'],
    )
  })

  declare('whoever is not trusted has no projects, and learns nothing of files', async () => {
    const project = { name: ctx.name('compose'), services: { app: { image } } }
    for (const adapter of [ctx.adapter.restricted(), ctx.adapter.restricted({ foreign: true })]) {
      for (const method of ['composeUp', 'composeDown', 'composePs']) {
        for (const given of [project, '/dev/null/compose.yaml', '/etc/passwd'])
          await fails(adapter[method](given), 'PERMISSION_DENIED', { field: 'project' })
      }
    }
  })

  declare('without a compose it is said what to do', { needs: 'noCompose' }, async () => {
    const project = { name: ctx.name('compose'), services: { app: { image } } }
    const error = await fails(ctx.adapter.composeUp(project), 'NOT_INSTALLED', { naming: 'docker compose' })
    assert.match(error.hint, /cli-plugins/)
  })

  declare('bad input', async () => {
    const [up, object] = [ctx.adapter.composeUp.bind(ctx.adapter), { name: 'x', services: {} }]
    const cycle = { services: {} }
    cycle.services.cycle = cycle
    const getter = Object.defineProperty({}, 'services', {
      enumerable: true,
      get: () => {
        throw new Error('no')
      },
    })
    const rows = [
      ['project', undefined],
      ['project', null],
      ['project', 7],
      ['project', []],
      ['project', ''],
      ['project', '-'],
      ['project', 'https://example.com/compose.yaml'],
      ['project', 'git@example.com:a/b.git'],
      ['project', '/dev/null/compose.yaml'],
      ['project', tempDir('directory')],
      ['project', cycle],
      ['project', getter],
      ['services.run', { services: { run: () => {} } }],
      ['services.when', { services: { when: new Date() } }],
      ['services.n', { services: { n: Number.NaN } }],
      ['name', { name: 'Capital' }],
      ['name', { name: 7 }],
      ['projectName', { services: {} }],
      ...['Capital', '../x', '-x', '', 'a b', 'ä', 'x'.repeat(64)].map((projectName) => [
        'projectName',
        object,
        { projectName },
      ]),
      ['services[0]', object, { services: ['--help'] }],
      ['services', object, { services: 'web' }],
      ['profiles[1]', object, { profiles: ['a', '-f'] }],
      ['pull', object, { pull: 'sometimes' }],
      ['build', object, { build: 'yes' }],
      ['directory', object, { directory: '/dev/null/none' }],
      ['env.COMPOSE_FILE', object, { env: { COMPOSE_FILE: 'x' } }],
      ['env.DOCKER_HOST', object, { env: { DOCKER_HOST: 'x' } }],
      ['env.PATH', object, { env: { PATH: 'x' } }],
      ['env.LD_PRELOAD', object, { env: { LD_PRELOAD: 'x' } }],
      ['env.a-b', object, { env: { 'a-b': 'x' } }],
      ['env.A', object, { env: { A: 'x\0y' } }],
      ['env.A', object, { env: { A: 7 } }],
      ['onProgress', object, { onProgress: 'x' }],
      ['volumes', object, { volumes: true }],
      ['wait', object, { wait: 1 }],
    ]
    for (const [field, project, options] of rows) {
      const error = await fails(up(project, options), 'INVALID_ARGUMENT').catch((e) => {
        throw new Error(`${field}: ${JSON.stringify(options)}`, { cause: e })
      })
      assert.equal(error.details.field, field, error.message)
    }
    await fails(ctx.adapter.composePs(object, { env: {} }), 'INVALID_ARGUMENT', { field: 'env' })
    await fails(ctx.adapter.composeDown(object, { services: [] }), 'INVALID_ARGUMENT', { field: 'services' })
  })
})
