// What the subjects of the contract suite are written with. A backend is an object; `backends/docker.mjs` is the model.
//
// type              the RuntimeType the adapter must report
// image             a reference the engine has: busybox, with its applets in /bin
// platformsImage    one in a registry: `twoPlatforms()`
// refusing          the address of a registry that gives nothing: `startRefusing()`
// publish(name, image) puts a `busyboxImage()` into that registry and gives its reference
// remoteImage       a reference in a registry the engine reaches, that it does not have; the registry's images are small
// differs           { row: reason }: what this backend does not do, and why; the tests that need the row are skipped
// defaultHostIp     where a port without an address is published
// pruneScope        the scope prune has of itself: 'app' on an engine that is not ours
// goneCode          the error code while the engine is down
// deadCode          the error code of deadAdapter(), when it is another
// bringsCompose     of a Docker: projects need no plugin of the user's
// ownFile           () => a path on this computer at which the engine itself lies, where it is one that we know
// slowness          how many times as long a test may take
// start(), stop()   the engine; stop() leaves nothing behind
// adapter(options)  a new adapter of it, { appName }
// hungAdapter()     { adapter, close }: one whose engine accepts connections and never answers
// deadAdapter()     one whose endpoint has no engine
// privateImage      one in a registry that wants `account` ({ username, password })
// slow              { image(), hold(), release() }: another image each time, whose layers can be held back; hold() makes the next
//                   ones stop half-way, and gives a promise that resolves when the engine waits for the rest of one
// outside           somebody else, at the engine without us: create(name, argv, { stopTimeout }?), kill(id), remove(id), removeImage(ref),
//                   createVolume(name), createNetwork(name), danglingImage(), volumes(), networks(), containers()
// engine            kill() ends it without a goodbye, start(), restart() as an administrator does
import assert from 'node:assert/strict'
import { afterEach, describe, it } from 'node:test'
import { RuntimeError } from 'lima-runtime'
import { waitFor } from '../support/wait.mjs'

export { assert }

/** Ends at once when asked to, as PID 1 does not do of itself. */
export const IDLE = ['sh', '-c', 'trap "exit 0" TERM; sleep 86400 & wait']

/** What a shell, a template engine, an option parser or printf would make something else of. */
export const LITERAL = [
  '--flag',
  '-rf',
  '--',
  "it's",
  '"double"',
  '$(exit 1)',
  '`exit 1`',
  '$HOME',
  `\${PATH}`,
  '%s%n',
  'a\nb',
  'a\\nb',
  '*',
  '~',
  '; exit 1',
  '| cat',
  '&& exit',
  '>/dev/null',
  '!!',
  '{{.Name}}',
  '#',
  ' leading',
  'trailing ',
  '\t',
  '日本語 🐋',
  '',
]

export class Context {
  #count = 0
  #undo = []
  /** Names of the methods called, for the completeness test. */
  called = new Set()

  constructor(backend) {
    this.backend = backend
  }

  async open() {
    await this.backend.start()
    this.adapter = this.watch(await this.backend.adapter())
    await this.adapter.initialize()
  }

  /** The same adapter, with its calls noted down. */
  watch(adapter) {
    const { called } = this
    return new Proxy(adapter, {
      get(target, key) {
        const value = target[key]
        if (typeof value !== 'function') return value
        return (...args) => {
          called.add(key)
          return value.apply(target, args)
        }
      },
    })
  }

  name(word = 'c') {
    this.#count += 1
    return `contract-${word}-${process.pid}-${this.#count}`
  }

  /** To be done when the test has ended, last first. */
  undo(action) {
    this.#undo.push(action)
  }

  async clean() {
    for (const action of this.#undo.splice(0).reverse()) await action()
  }

  async start(config = {}, options) {
    const { name = this.name(), image = this.backend.image, command = IDLE, ...rest } = config
    this.discard(name)
    return this.adapter.startContainer({ name, image, command, ...rest }, options)
  }

  /** A container that has run `script` to its end. */
  async ran(script, config = {}) {
    const id = await this.start({ command: ['sh', '-c', script], ...config })
    await this.adapter.waitContainer(id)
    // Docker's lists come after its waits (docs/reference/docker.md#ends-in-lists).
    const running = { filters: { id: [id], status: ['running'] } }
    await waitFor('its end listed', async () => (await this.adapter.listContainers(running)).length === 0)
    return id
  }

  /**
   * A container that has printed `text`, by `script`, and runs on: of what one says that ends, some loggers lose the end
   * (docs/reference/nerdctl.md#logger-loses-the-end).
   */
  async printed(text, script, { argv = [], ...config } = {}) {
    const command = ['sh', '-c', `${script}; trap "exit 0" TERM; sleep 86400 & wait`, 'sh', ...argv]
    const id = await this.start({ command, ...config })
    const [expected, said] = [Buffer.from(text), []]
    for await (const chunk of await this.adapter.getContainerLogs(id, { follow: true })) {
      said.push(chunk)
      if (Buffer.concat(said).length >= expected.length) break
    }
    assert.ok(Buffer.concat(said).equals(expected), `it has printed ${Buffer.concat(said).subarray(0, 4096)}`)
    return id
  }

  async network(options) {
    const name = this.name('net')
    const id = await this.adapter.createNetwork(name, options)
    this.undo(() => gone(this.adapter.removeNetwork(id)))
    return { name, id }
  }

  async volume(options) {
    const name = await this.adapter.createVolume(this.name('vol'), options)
    this.undo(() => gone(this.adapter.removeVolume(name)))
    return name
  }

  /** Removes the container at the end of the test, whatever became of it. */
  discard(id) {
    this.undo(() => gone(this.adapter.removeContainer(id, true)))
  }

  discardImage(reference) {
    this.undo(() => gone(this.adapter.removeImage(reference, true)))
  }

  async exec(id, ...argv) {
    const { exitCode, stdout, stderr } = await this.adapter.execInContainer(id, argv)
    assert.equal(exitCode, 0, `${argv.join(' ')}: ${stderr}`)
    return stdout.toString()
  }

  async log(id, options) {
    return (await bytes(await this.adapter.getContainerLogs(id, options))).toString()
  }

  /** Resolves once `condition` is true; it is asked again at every event of the engine. */
  async until(condition) {
    // From a little before now: nothing that happens while the stream opens is missed.
    const events = this.adapter.events({ since: Date.now() / 1000 - 2 })
    let next = events.next()
    try {
      while (!(await condition())) {
        const { done } = await next
        assert.ok(!done, 'the engine ended its events')
        next = events.next()
      }
    } finally {
      next.catch(() => {})
      await events.return()
    }
  }

  state(id, state) {
    return this.until(async () => (await this.adapter.inspectContainer(id)).state === state)
  }

  names() {
    return this.adapter.listContainers({ all: true }).then((all) => all.map((c) => c.name))
  }
}

async function gone(removal) {
  try {
    await removal
  } catch (error) {
    if (!/_NOT_FOUND$/.test(error.code)) throw error
  }
}

/** The warnings of the process under `work`. */
export async function warnings(work) {
  const seen = []
  const listen = (warning) => seen.push(warning)
  process.on('warning', listen)
  try {
    await work()
    await new Promise(setImmediate)
  } finally {
    process.off('warning', listen)
  }
  return seen
}

/** Declares the tests of one subject: `define(ctx, test)`; `test(name, { needs?, timeout? }?, f)`. */
export function subject(title, define) {
  const declare = (ctx) =>
    describe(title, () => {
      afterEach(() => ctx.clean())
      const test = (name, ...rest) => {
        const f = rest.pop()
        const { needs, timeout = 180_000, skip } = rest.pop() ?? {}
        it(
          name,
          {
            timeout: timeout * (ctx.backend.slowness ?? 1),
            skip: skip ?? (needs ? ctx.backend.differs[needs] : undefined),
          },
          f,
        )
      }
      define(ctx, test)
    })
  return Object.assign(declare, { title })
}

/** The call fails with this code, as every error of the package does. Returns the error. */
export async function fails(promise, code, words = {}) {
  let value
  try {
    value = await promise
  } catch (error) {
    assert.ok(error instanceof RuntimeError, `not a RuntimeError: ${error?.stack ?? error}`)
    assert.equal(error.code, code, `${error.code}: ${error.message}`)
    assert.ok(error.message && !error.message.startsWith('{'), `message: ${error.message}`)
    for (const word of [words.naming ?? []].flat())
      assert.ok(error.message.includes(word), `"${error.message}" does not name ${word}`)
    if (words.field !== undefined) assert.equal(error.details.field, words.field, error.message)
    return error
  }
  assert.fail(`expected ${code}, but it resolved with ${JSON.stringify(value)}`)
}

/** All of a stream. */
export async function bytes(stream) {
  const chunks = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Reads a stream up to what one waits for, then lets it be read on. */
export class LineReader {
  #lines = []
  #waiting
  #rest = ''
  #end

  constructor(stream) {
    this.stream = stream
    stream.on('data', (chunk) => {
      const parts = (this.#rest + chunk).split('\n')
      this.#rest = parts.pop()
      this.#lines.push(...parts)
      this.#waiting?.()
    })
    const ended = (error) => {
      this.#end ??= { error }
      this.#waiting?.()
    }
    stream
      .on('end', () => ended())
      .on('error', ended)
      .on('close', () => ended())
  }

  /** The next line; undefined at the end. An error of the stream is thrown. */
  async next() {
    while (this.#lines.length === 0 && !this.#end) await new Promise((resolve) => (this.#waiting = resolve))
    if (this.#lines.length === 0 && this.#end.error) throw this.#end.error
    return this.#lines.shift()
  }
}

/** How long it took, in milliseconds, and how it ended. */
export async function timed(promise) {
  const from = performance.now()
  const [result] = await Promise.allSettled([promise])
  return { ms: performance.now() - from, ...result }
}
