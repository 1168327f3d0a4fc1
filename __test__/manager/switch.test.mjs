// From Docker to containerd and back, with a log followed on each: what runs in a runtime stays there, and goes on.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ContainerManager } from 'lima-runtime'
import { noContainerd, startContainerd } from '../support/containerd.mjs'
import { IMAGES, sharedEngine } from '../support/engine.mjs'
import { busyboxArchive } from '../support/images.mjs'
import { refused } from '../support/installs.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'

const LINES = ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo "line $i"; sleep 0.1; done']

test('Docker, containerd, Docker', { skip: noContainerd() ?? false, timeout: 300_000 }, async (t) => {
  // Last made, first undone.
  const undo = []
  t.after(async () => {
    for (const one of undo.reverse()) await one()
  })
  const engine = await startContainerd()
  undo.push(() => engine.stop())
  const archive = join(tempDir('image'), 'busybox.tar')
  writeFileSync(archive, busyboxArchive())
  await engine.nerdctl(['load', '-i', archive])
  const { host } = sharedEngine()
  const manager = new ContainerManager({
    appDir: tempDir('app'),
    appName: `switch-${process.pid}`,
    preferred: 'docker',
    docker: { host },
    containerd: engine.options,
  })
  const changes = []
  manager.on('runtime-changed', ({ from, to, left }) => changes.push([from, to, left.map(({ id }) => id)]))
  const found = await manager.detectAvailableRuntimes()
  assert.deepEqual([found.docker, found.containerd], [true, true], JSON.stringify(found))

  const follow = async () => {
    const runtime = manager.getRuntime()
    const name = `switch-${process.pid}-${manager.getRuntimeType()}`
    const id = await runtime.startContainer({ name, image: IMAGES.busybox, command: LINES, networks: ['none'] })
    undo.push(() => runtime.removeContainer(id, true))
    const seen = { id, lines: 0, error: undefined }
    const log = await runtime.getContainerLogs(id, { follow: true })
    log.on('data', (chunk) => (seen.lines += String(chunk).split('\n').length - 1)).on('error', (e) => (seen.error = e))
    undo.push(() => log.destroy())
    await waitFor('lines', () => seen.lines > 2)
    return seen
  }
  const goesOn = async (seen) => {
    const before = seen.lines
    await waitFor('more lines', () => seen.lines > before + 2)
    assert.equal(seen.error, undefined)
  }

  await manager.initialize()
  const docker = await follow()
  await manager.switchRuntime('containerd')
  assert.equal(manager.getRuntime().getRuntimeType(), 'containerd')
  await goesOn(docker)
  const containerd = await follow()
  assert.deepEqual(
    (await manager.getRuntime().listContainers()).map(({ id }) => id),
    [containerd.id],
  )
  await manager.switchRuntime('docker')
  await goesOn(docker)
  await goesOn(containerd)
  assert.equal((await manager.getRuntime().inspectContainer(docker.id)).state, 'running')
  assert.deepEqual(changes, [
    ['none', 'docker', []],
    ['docker', 'containerd', [docker.id]],
    ['containerd', 'docker', [containerd.id]],
  ])
  t.diagnostic(
    `${docker.lines} lines of the one in Docker, ${containerd.lines} of the one in containerd, none broken off`,
  )

  // One that fails leaves the one in use as it is.
  await engine.halt()
  await refused(manager.switchRuntime('containerd', { timeoutMs: 20_000 }), 'CONTAINERD_NOT_READY', 'TIMEOUT')
  assert.equal(manager.getRuntimeType(), 'docker')
  await goesOn(docker)
  await engine.start()
})
