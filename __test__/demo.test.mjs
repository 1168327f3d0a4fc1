// `npm run demo`, as a person runs it: twice, stopped by Ctrl-C, and killed half-way. Nothing of it may stay.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { before, test } from 'node:test'
import { startDockerd } from './support/dockerd.mjs'
import { IMAGES, sharedEngine } from './support/engine.mjs'
import { busyboxArchive, loadArchive } from './support/images.mjs'
import { processesWith } from './support/process.mjs'
import { pushImage, startRegistry } from './support/registry.mjs'
import { tempDir } from './support/tempdir.mjs'

const root = new URL('..', import.meta.url).pathname
const engine = sharedEngine()
const PAGE = 'Hello from a container started by lima-runtime.'
let onEngine

before(async () => {
  onEngine = await inventory()
})

test('the whole journey on an engine that is there, twice', async () => {
  for (let run = 0; run < 2; run++) {
    const demo = startDemo({ DOCKER_HOST: engine.host })
    assert.equal(await demo.exit, 0, demo.output())
    journeyWasShown(demo.output())
    await nothingLeft(demo)
  }
})

test('where a registry can be reached, the image is pulled and removed again', async () => {
  const registry = await startRegistry()
  // As a mirror of Docker Hub: what the demo asks for is found there.
  const own = await startDockerd({ mirrors: [registry.url] })
  try {
    await loadArchive(own, busyboxArchive({ padding: 8 << 20 }))
    await pushImage(own, IMAGES.busybox, registry, 'library/busybox:latest')
    await own.api('DELETE', `/images/${IMAGES.busybox}?force=1`)
    const demo = startDemo({ DOCKER_HOST: own.host })
    assert.equal(await demo.exit, 0, demo.output())
    assert.match(demo.output(), /✔ Pull docker.io\/library\/busybox:latest/)
    assert.doesNotMatch(demo.output(), /instead|no registry/)
    journeyWasShown(demo.output())
    assert.deepEqual(await own.api('GET', '/images/json'), [])
  } finally {
    await own.stop()
    await registry.stop()
  }
})

test('the whole journey on a private engine, where there is none', async () => {
  const demo = startDemo({ DOCKER_HOST: 'unix:///tmp/no-such-engine.sock' })
  assert.equal(await demo.exit, 0, demo.output())
  assert.match(demo.output(), /started a private Docker/)
  journeyWasShown(demo.output())
  await nothingLeft(demo)
})

for (const [where, env] of [
  ['an engine that is there', () => ({ DOCKER_HOST: engine.host })],
  ['a private engine', () => ({ DOCKER_HOST: 'unix:///tmp/no-such-engine.sock' })],
]) {
  test(`stopped by Ctrl-C while its container runs on ${where}`, async () => {
    const demo = startDemo(env(), 'Start a container')
    await demo.reached
    demo.child.kill('SIGINT')
    assert.equal(await demo.exit, 130, demo.output())
    await nothingLeft(demo)
  })

  test(`killed while its container runs on ${where}: the next one cleans up after it`, async () => {
    const killed = startDemo(env(), 'Start a container')
    await killed.reached
    killed.child.kill('SIGKILL')
    await killed.exit
    const next = startDemo(env())
    assert.equal(await next.exit, 0, next.output())
    await nothingLeft(killed)
    await nothingLeft(next)
  })
}

test('a word it does not know is refused with what it knows', async () => {
  const demo = startDemo({}, undefined, ['--runtime', 'podman'])
  assert.equal(await demo.exit, 2)
  assert.match(demo.output(), /Unknown runtime: podman[\s\S]*--runtime/)
})

/** Starts the demo with an empty home; `reached` resolves when it has printed `mark`. */
function startDemo(env, mark, args = []) {
  const home = tempDir('home')
  const child = spawn(process.execPath, ['scripts/demo.mjs', ...args], {
    cwd: root,
    env: { ...process.env, HOME: home, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  const { promise: reached, resolve, reject } = withResolvers()
  const take = (chunk) => {
    output += chunk
    if (mark && output.includes(mark)) resolve()
  }
  child.stdout.on('data', take)
  child.stderr.on('data', take)
  const exit = once(child, 'close').then(([code]) => {
    reject(new Error(`The demo ended before "${mark}":\n${output}`))
    return code
  })
  reached.catch(() => {})
  return { child, exit, reached, output: () => output }
}

function withResolvers() {
  const made = {}
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }))
  return made
}

function journeyWasShown(output) {
  assert.match(output, new RegExp(`Fetch the page.*200 http://127\\.0\\.0\\.1:\\d+/\\n +${PAGE}`))
  assert.match(output, /Run a command in it.*exit code 0\n +Linux /)
  assert.match(output, /Read its log.*lines\n +serving on port 80/)
  assert.match(output, /Measure it.*CPU \d+\.\d %, memory \d/)
  assert.match(output, /Done in .* Nothing is left behind/)
}

async function nothingLeft({ child }) {
  const left = readdirSync('/tmp').filter((name) => name.match(new RegExp(`^lima-runtime-\\w+-${child.pid}-`)))
  assert.deepEqual(left, [])
  assert.deepEqual(processesWith(`-${child.pid}-`), [])
  assert.deepEqual(await inventory(), onEngine)
}

/** Names of everything on the shared engine. */
async function inventory() {
  const containers = await engine.api('GET', '/containers/json?all=1')
  const images = await engine.api('GET', '/images/json')
  const volumes = await engine.api('GET', '/volumes')
  return {
    containers: containers.flatMap(({ Names }) => Names).sort(),
    images: images.flatMap(({ RepoTags }) => RepoTags).sort(),
    volumes: (volumes.Volumes ?? []).map(({ Name }) => Name).sort(),
  }
}
