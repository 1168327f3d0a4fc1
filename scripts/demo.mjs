// `npm run demo`: the main job of this package on a real engine, from a fresh clone. Leaves nothing behind, whatever
// happens.
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { startDockerd, sweepDockerds } from '../__test__/support/dockerd.mjs'
import { BUSYBOX, busyboxArchive } from '../__test__/support/images.mjs'
import { makeOwned, orphans } from '../__test__/support/owned.mjs'
import { freePort } from '../__test__/support/ports.mjs'
import { waitFor } from '../__test__/support/wait.mjs'
import { lima, unable } from './demo-lima.mjs'
import { amount, say, step } from './demo-screen.mjs'
import { hasNodeModules, missingTools, npmInstall, root } from './run.mjs'
import { canInstall, ensurePackages, missingPackages, PACKAGES } from './setup.mjs'

const IMAGE = 'docker.io/library/busybox:latest'
const LOCAL_IMAGE = 'lima-runtime-demo/busybox:local'
const USAGE = `npm run demo -- [--runtime docker|lima] [--limactl <path>] [--template <path>]

  --runtime   lima (default on macOS): a Lima VM of the demo's own; Lima and the VM's image are fetched first
              docker (default elsewhere): the Docker engine found on this machine, else a private one made for the demo
  --limactl   the limactl of this machine, in place of the one that is fetched
  --template  the VM's template, in place of our own
`

const { values: options } = parseArgs({
  options: {
    runtime: { type: 'string', default: process.platform === 'darwin' ? 'lima' : 'docker' },
    limactl: { type: 'string' },
    template: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
})
if (options.help) {
  console.log(USAGE)
  process.exit()
}

if (!['docker', 'lima'].includes(options.runtime)) {
  console.error(`Unknown runtime: ${options.runtime}\n\n${USAGE}`)
  process.exit(2)
}
const obstacle = options.runtime === 'lima' && unable(options)
if (obstacle) {
  console.error(obstacle)
  process.exit(1)
}

const stopped = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    if (stopped.signal.aborted) process.exit(130)
    say(`\n${signal}: cleaning up`)
    stopped.abort()
  })
}
const signal = stopped.signal

/** Actions to undo at the end, last first. */
const undo = []
const started = performance.now()
try {
  await main()
} catch (error) {
  process.exitCode = signal.aborted ? 130 : 1
  if (!signal.aborted) {
    say(`\n${error.code ? `${error.code}: ` : ''}${error.message}`)
    if (error.hint) say(error.hint)
  }
} finally {
  for (const action of undo.reverse()) {
    await action().catch((error) => {
      process.exitCode ||= 1
      say(`While cleaning up: ${error.message}`)
    })
  }
}
if (!process.exitCode) say(`\nDone in ${((performance.now() - started) / 1000).toFixed(1)} s. Nothing is left behind.`)

async function main() {
  await step('Look for Node.js and Rust', async () => {
    const missing = missingTools()
    if (missing.length > 0) throw new Error(missing.join('\n'))
    return `Node.js ${process.versions.node}`
  })
  if (!hasNodeModules()) {
    await step('Install npm packages', (show) => runShowing(show, npmInstall()))
  }
  await step('Build (debug; the first time takes minutes)', (show) =>
    runShowing(show, [process.execPath, 'scripts/build.mjs']),
  )
  const api = await import(`${root}/dist/index.mjs`)
  if (options.runtime === 'lima') return lima(api, { ...options, signal, undo })
  const state = stateFile()
  await sweep(api)

  const { runtime, host } = await useDocker(api)
  const image = await getImage(runtime, (removeImage) => state.write({ host, removeImage }))
  await journey(runtime, image, (container) => state.write({ host, container }))
}

/** The engine of this machine, or a private one. */
async function useDocker({ DockerAdapter }) {
  return step('Find an engine', async (show) => {
    const found = new DockerAdapter()
    if (await found.isAvailable({ signal })) {
      const { runtimeVersion } = await found.getSystemInfo({ signal })
      return { runtime: found, detail: `this machine's Docker ${runtimeVersion}` }
    }
    if (missingPackages(PACKAGES.demo)?.length !== 0 && !canInstall()) {
      throw new Error(
        'No Docker engine answers. Start Docker Desktop, OrbStack, Colima or another Docker engine, or run this on Debian or Ubuntu as root or with password-less sudo.',
      )
    }
    ensurePackages(PACKAGES.demo, show)
    signal.throwIfAborted()
    show('starting a private dockerd')
    const engine = await startDockerd()
    undo.push(() => engine.stop())
    signal.throwIfAborted()
    const runtime = new DockerAdapter({ host: engine.host })
    const { runtimeVersion } = await runtime.getSystemInfo({ signal })
    return {
      runtime,
      host: engine.host,
      detail: `none here: started a private Docker ${runtimeVersion} in ${engine.dir}`,
    }
  })
}

/** Pulls the image, or makes it where no registry can be reached. */
async function getImage(runtime, record) {
  const owned = (image) => {
    record(image)
    undo.push(async () => {
      if (await runtime.imageExists(image)) await runtime.removeImage(image, true)
    })
  }
  const existed = await runtime.imageExists(IMAGE, { signal })
  if (!existed) owned(IMAGE)
  const { image } = await step(`Pull ${IMAGE}`, async (show) => {
    try {
      await runtime.pullImage(IMAGE, show.pull, { signal, timeoutMs: 180_000 })
      return { image: IMAGE }
    } catch (error) {
      if (signal.aborted || !(existed || existsSync(BUSYBOX))) throw error
      const lines = [`${error.code}: ${error.message.split('\n')[0]}`]
      if (existed)
        return { image: IMAGE, detail: 'no registry could be reached: the engine has one, and it will do', lines }
      return { detail: 'no registry could be reached', lines }
    }
  })
  if (image) return image
  owned(LOCAL_IMAGE)
  await step(`Make an image of ${BUSYBOX} instead`, async () => {
    const archive = busyboxArchive({ tags: [LOCAL_IMAGE] })
    await runtime.loadImage(Readable.from([archive]), { signal })
    return `${LOCAL_IMAGE}, ${amount(archive.length)}`
  })
  return LOCAL_IMAGE
}

async function journey(runtime, image, record) {
  const name = `lima-runtime-demo-${process.pid}`
  const port = await freePort()
  record(name)
  undo.push(() => removeContainer(runtime, name))
  const id = await step('Start a container that serves a page', async () => {
    const page = 'Hello from a container started by lima-runtime.'
    const serve = `mkdir -p /www && echo '${page}' > /www/index.html && echo 'serving on port 80' && exec httpd -f -vv -p 80 -h /www`
    const config = { name, image, command: ['sh', '-c', serve], ports: { 80: `127.0.0.1:${port}` } }
    const id = await runtime.startContainer(config, { signal })
    return { id, detail: `${id.slice(0, 12)}, port 80 published on 127.0.0.1:${port}` }
  }).then(({ id }) => id)
  await step('Fetch the page from this machine', async () => {
    const url = `http://127.0.0.1:${port}/`
    const answer = await waitFor(`a page at ${url}`, () => fetch(url, { signal }), { signal })
    return { detail: `${answer.status} ${url}`, lines: [await answer.text()] }
  })
  await step('Run a command in it', async () => {
    const { exitCode, stdout } = await runtime.execInContainer(id, ['uname', '-srm'], { signal })
    return { detail: `exit code ${exitCode}`, lines: [stdout.toString()] }
  })
  await step('Read its log', async () => {
    const lines = (await text(await runtime.getContainerLogs(id, { tail: 20, signal }))).trim().split('\n')
    return { detail: `${lines.length} lines`, lines }
  })
  await step('Measure it', async () => {
    const { cpu, memory, network } = await runtime.getContainerStats(id, { signal })
    return `CPU ${cpu.toFixed(1)} %, memory ${amount(memory.used)}, received ${amount(network.rx)}, sent ${amount(network.tx)}`
  })
  await step('Stop it', () => runtime.stopContainer(id, 1, { signal }))
  await step('Remove it', async () => {
    await runtime.removeContainer(id, false, { signal })
    const left = await runtime.listContainers({ all: true, signal })
    if (left.some((container) => container.name === name)) throw new Error(`The container ${name} is still there`)
    return `${left.length} containers on the engine`
  })
}

async function removeContainer(runtime, name) {
  await runtime.removeContainer(name, true).catch((error) => {
    if (error.code !== 'CONTAINER_NOT_FOUND') throw error
  })
}

/** Records what this demo is about to create on an engine, for the next demo in case this one is killed. */
function stateFile() {
  const dir = makeOwned('demo')
  const removeDir = () => rmSync(dir, { recursive: true, force: true })
  process.once('exit', removeDir)
  const state = { containers: [], images: [] }
  return {
    write({ host, container, removeImage }) {
      state.host = host
      if (container) state.containers.push(container)
      if (removeImage) state.images.push(removeImage)
      writeFileSync(join(dir, 'state.json'), JSON.stringify(state))
    },
  }
}

/** Removes what killed demos left. */
async function sweep({ DockerAdapter }) {
  const dirs = orphans('demo')
  if (dirs.length === 0) return
  await step('Clean up after a demo that was killed', async () => {
    for (const dir of dirs) {
      const file = join(dir, 'state.json')
      const state = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { containers: [], images: [] }
      // With a `host` the engine was private and is removed as a whole.
      const runtime = new DockerAdapter()
      if (!state.host && (await runtime.isAvailable({ signal }))) {
        for (const name of state.containers) await removeContainer(runtime, name)
        for (const image of state.images) if (await runtime.imageExists(image)) await runtime.removeImage(image, true)
      }
      rmSync(dir, { recursive: true, force: true })
    }
    sweepDockerds()
  })
}

/** Runs a program, showing its newest line; all it printed is in the Error when it fails. */
function runShowing(show, [program, ...args]) {
  return new Promise((resolve, reject) => {
    // A process group of its own: what it starts ends with it.
    const child = spawn(program, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    // After it was waited for, another process may have its number.
    const end = () => child.exitCode === null && child.signalCode === null && process.kill(-child.pid, 'SIGTERM')
    signal.addEventListener('abort', end, { once: true })
    let output = ''
    const take = (chunk) => {
      output += chunk
      show(output.trimEnd().split('\n').at(-1))
    }
    child.stdout.on('data', take)
    child.stderr.on('data', take)
    child.on('error', reject)
    child.on('close', (code) => {
      signal.removeEventListener('abort', end)
      if (code === 0) resolve()
      else reject(new Error(`${program} ${args.join(' ')} failed:\n${output}`))
    })
  })
}
