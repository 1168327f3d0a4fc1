// `npm run demo -- --runtime lima`: installs Lima, starts a VM and a container in it, fetches the container's page, and
// removes everything.
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { limaThatRuns, serveLima } from '../__test__/support/given-lima.mjs'
import { BUSYBOX, busyboxArchive } from '../__test__/support/images.mjs'
import { freePort } from '../__test__/support/ports.mjs'
import { waitFor } from '../__test__/support/wait.mjs'
import { step } from './demo-screen.mjs'

const IMAGE = 'docker.io/library/busybox:latest'
const LOCAL_IMAGE = 'lima-runtime-demo/busybox:local'
/** Short, since sockets lie in it. Always the same, so that the next demo removes what a killed one left. */
const DIR = join(homedir(), '.lima-runtime-demo')

/** Why the demo cannot run with these options. */
export function unable({ limactl }) {
  if (process.platform === 'win32') return 'Lima runs on macOS and Linux. Run the demo with --runtime docker.'
  if (process.getuid() === 0) return 'Lima refuses to run as root: run the demo as an ordinary user.'
  if (limactl && !existsSync(limactl)) return `There is no ${limactl}.`
  return ''
}

/**
 * @param {object} api the package
 * @param {object} options
 * @param {AbortSignal} options.signal
 * @param {(() => Promise<void>)[]} options.undo what is to be undone at the end
 * @param {string} [options.limactl] of this machine, in place of the one that is fetched
 * @param {string} [options.template] of the VM, in place of our own
 */
export async function lima({ LimaRuntimeManager }, { signal, undo, limactl, template }) {
  let source = {}
  if (limactl) {
    mkdirSync(DIR, { recursive: true })
    const given = await serveLima(DIR, limaThatRuns([limactl]))
    undo.push(() => given.server.close())
    source = given.options
  }
  const resources = { cpus: 2, memory: '2GiB', disk: '20GiB', mounts: [] }
  const dataDir = join(DIR, 'lima')
  const manager = new LimaRuntimeManager({ appName: 'lima-runtime-demo', dataDir, resources, template, ...source })
  undo.push(async () => {
    await manager.delete()
    await manager.uninstall()
    rmSync(DIR, { recursive: true, force: true })
  })
  await step('Install Lima', async (show) => {
    await manager.install({ onProgress: show.progress, signal })
    return manager.getLimactlPath()
  })
  await step('Start a VM with containerd', async (show) => {
    await manager.start({ onProgress: show.progress, signal })
    const { arch, vmType, cpus, limaVersion } = await manager.getVMInfo()
    return `Lima ${limaVersion}, ${vmType}, ${cpus} CPUs, ${arch}`
  })
  const nerdctl = (args, options) => manager.execNerdctl(args, { signal, ...options })
  const image = await getImage(nerdctl, signal)
  await journey(nerdctl, image, signal)
  await step('Stop the VM', (show) => manager.stop({ onProgress: show.progress, signal }))
  await step('Delete it, and uninstall Lima', async (show) => {
    await manager.delete({ onProgress: show.progress, signal })
    await manager.uninstall({ signal })
  })
}

/** Pulls the image, or makes it where no registry can be reached. */
async function getImage(nerdctl, signal) {
  const { image } = await step(`Pull ${IMAGE}`, async () => {
    try {
      await nerdctl(['pull', '--quiet', IMAGE], { timeoutMs: 300_000 })
      return { image: IMAGE }
    } catch (error) {
      if (signal.aborted || !existsSync(BUSYBOX)) throw error
      return { detail: 'no registry could be reached', lines: [`${error.code}: ${error.message.split('\n')[0]}`] }
    }
  })
  if (image) return image
  await step(`Make an image of ${BUSYBOX} instead`, async () => {
    await nerdctl(['load'], { input: busyboxArchive({ tags: [LOCAL_IMAGE] }) })
    return LOCAL_IMAGE
  })
  return LOCAL_IMAGE
}

async function journey(nerdctl, image, signal) {
  const name = 'lima-runtime-demo'
  const port = await freePort()
  await step('Start a container that serves a page', async () => {
    const page = 'Hello from a container started by lima-runtime.'
    const serve = `mkdir -p /www && echo '${page}' > /www/index.html && echo 'serving on port 80' && exec httpd -f -vv -p 80 -h /www`
    await nerdctl(['run', '-d', '--name', name, '-p', `127.0.0.1:${port}:80`, image, 'sh', '-c', serve])
    return `port 80 published on 127.0.0.1:${port}`
  })
  await step('Fetch the page from this machine', async () => {
    const url = `http://127.0.0.1:${port}/`
    const answer = await waitFor(`a page at ${url}`, () => fetch(url, { signal }), { signal, timeoutMs: 60_000 })
    return { detail: `${answer.status} ${url}`, lines: [await answer.text()] }
  })
  await step('Run a command in it', async () => {
    return { lines: [await nerdctl(['exec', name, 'uname', '-srm'])] }
  })
  await step('Read its log', async () => ({ lines: (await nerdctl(['logs', name])).trim().split('\n') }))
  await step('Stop and remove it', () => nerdctl(['rm', '--force', name]))
}
