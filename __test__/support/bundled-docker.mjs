// A Docker engine of `BundledRuntimeManager`, from an archive like Docker's own, packed of the programs of this machine.
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { BundledRuntimeManager } from 'lima-runtime'
import { noDockerd } from './dockerd.mjs'
import { engineApi } from './http.mjs'
import { makeOwned, orphans } from './owned.mjs'
import { dockerUrl, manifestOf, mirrored } from './release-files.mjs'
import { startReleaseServer } from './release-server.mjs'
import { waitFor } from './wait.mjs'

const PROGRAMS = [
  '/usr/sbin/dockerd',
  '/usr/bin/docker',
  '/usr/sbin/docker-proxy',
  '/usr/bin/docker-init',
  '/usr/bin/containerd',
  '/usr/bin/containerd-shim-runc-v2',
  '/usr/sbin/runc',
]

/** Why it cannot run here, or undefined. */
export function noBundledDocker() {
  return noDockerd() ?? (process.getuid() === 0 ? undefined : "needs root: the engine as a service of root's")
}

/** What Docker's static archive holds (docs/reference/docker.md#static-archive). */
function archive(dir) {
  const programs = join(dir, 'docker')
  mkdirSync(programs)
  for (const program of PROGRAMS) copyFileSync(program, join(programs, basename(program)))
  const path = join(dir, 'docker.tgz')
  execFileSync('tar', ['-C', dir, '--owner=0', '--group=0', '--use-compress-program=gzip -1', '-cf', path, 'docker'])
  return readFileSync(path)
}

/** Options of a runtime that gets the engine from a mirror here. */
export async function bundledDocker() {
  // What tests left that were killed.
  for (const orphan of orphans('bundled')) await remove(orphan)
  const dir = makeOwned('bundled')
  const body = archive(dir)
  const server = await startReleaseServer()
  await server.file(mirrored(dockerUrl()), { body })
  const manifest = join(dir, 'manifest.json')
  const docker = { [`linux-${process.arch}`]: [{ url: dockerUrl(), body }] }
  writeFileSync(manifest, JSON.stringify(manifestOf({ docker }, { docker: '29.8.1' })))
  const options = { dataDir: join(dir, 'containerd'), engine: 'docker', manifest, mirror: server.url }
  const close = async () => {
    await server.close()
    await remove(dir)
  }
  return { dir, options, server, close }
}

async function remove(dir) {
  await new BundledRuntimeManager({ dataDir: join(dir, 'containerd'), engine: 'docker' }).uninstall()
  rmSync(dir, { recursive: true, force: true })
}

/** Such an engine that runs, as `startDockerd` gives one. */
export async function startBundledDocker() {
  const { dir, options, close } = await bundledDocker()
  const manager = new BundledRuntimeManager(options)
  try {
    await manager.initialize()
  } catch (error) {
    await close()
    throw error
  }
  const socket = manager.getDockerSocketPath()
  return {
    dir,
    options,
    manager,
    socket,
    api: engineApi(socket),
    start: () => manager.startDaemon(),
    async halt(signal) {
      if (signal !== 'SIGKILL') return manager.stopDaemon()
      const { process: daemon } = JSON.parse(readFileSync(join(options.dataDir, 'run', 'daemon.json'), 'utf8'))
      process.kill(daemon.pid, 'SIGKILL')
      await waitFor('the engine is gone', async () => !(await manager.isRunning()))
    },
    stop: close,
  }
}
