// A Docker engine of `BundledRuntimeManager`, from an archive like Docker's own, packed of the programs of this machine.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BundledRuntimeManager } from 'lima-runtime'
import { composeProgram } from './compose.mjs'
import { noDockerd } from './dockerd.mjs'
import { engineApi } from './http.mjs'
import { makeOwned, orphans } from './owned.mjs'
import { joined } from './relay.mjs'
import { composeUrl, dockerUrl, manifestOf, mirrored } from './release-files.mjs'
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

/** Dockers before 28 need the second one. */
const EXTRAS = ['/usr/bin/rootlesskit', '/usr/bin/rootlesskit-docker-proxy']

/** Why it cannot run here, or undefined. */
export function noBundledDocker() {
  const absent = isRoot() ? undefined : EXTRAS.find((program) => !existsSync(program))
  return noDockerd() ?? (absent && `no ${absent}; run \`node scripts/setup.mjs test\``)
}

const isRoot = () => process.getuid() === 0

/** What an archive of Docker's holds (docs/reference/docker.md#static-archive). */
function archive(dir, name, programs) {
  mkdirSync(join(dir, name))
  for (const program of programs) copyFileSync(program, join(dir, name, basename(program)))
  const path = join(dir, `${name}.tgz`)
  execFileSync('tar', ['-C', dir, '--owner=0', '--group=0', '--use-compress-program=gzip -1', '-cf', path, name])
  return readFileSync(path)
}

/** Options of a runtime that gets the engine from a mirror here. */
export async function bundledDocker() {
  // What tests left that were killed.
  for (const orphan of orphans('bundled')) await remove(orphan)
  const dir = makeOwned('bundled')
  const server = await startReleaseServer()
  const components = {}
  const extrasUrl = dockerUrl().replace('docker-29', 'docker-rootless-extras-29')
  const archives = [
    ['docker', dockerUrl(), archive(dir, 'docker', PROGRAMS)],
    ...(isRoot() ? [] : [['docker-rootless', extrasUrl, archive(dir, 'docker-rootless-extras', EXTRAS)]]),
    ...(composeProgram() ? [['compose', composeUrl(), composeProgram()]] : []),
  ]
  for (const [part, url, body] of archives) {
    await server.file(mirrored(url), { body })
    components[part] = { [`linux-${process.arch}`]: [{ url, body }] }
  }
  const manifest = join(dir, 'manifest.json')
  const version = '29.8.1'
  writeFileSync(manifest, JSON.stringify(manifestOf(components, { docker: version, 'docker-rootless': version })))
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
  const reached = new Map()
  let relay

  /** In the engine's own network, this machine's ports are answered by a program of ours. */
  async function carry() {
    relay?.kill('SIGKILL')
    const inside = join(options.dataDir, 'bin', 'inside')
    const args = [process.execPath, fileURLToPath(new URL('relay.mjs', import.meta.url)), dir, ...reached.keys()]
    relay = spawn(inside, args.map(String), { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(relay.stdout, 'data')
  }

  return {
    dir,
    options,
    manager,
    socket,
    api: engineApi(socket),
    async start() {
      await manager.startDaemon()
      if (relay) await carry()
    },
    /** Lets the engine reach what listens on this machine's loopback. */
    async reach(...ports) {
      if (isRoot()) return
      for (const port of ports) {
        const server = createServer({ allowHalfOpen: true }, (client) => joined(client, connect(port, '127.0.0.1')))
        reached.set(port, server.listen(join(dir, `${port}.sock`)))
        await once(server, 'listening')
      }
      await carry()
    },
    async halt(signal) {
      if (signal !== 'SIGKILL') return manager.stopDaemon()
      const { process: daemon } = JSON.parse(readFileSync(join(options.dataDir, 'run', 'daemon.json'), 'utf8'))
      process.kill(daemon.pid, 'SIGKILL')
      await waitFor('the engine is gone', async () => !(await manager.isRunning()))
    },
    async stop() {
      relay?.kill('SIGKILL')
      for (const server of reached.values()) server.close()
      await close()
    },
  }
}
