// A private buildkitd of a real BuildKit, which no package registry has.
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { killSessions, recorded, runAsRoot, startServer, waitExit } from './process.mjs'
import { tempDir } from './tempdir.mjs'
import { waitFor } from './wait.mjs'

/** The directory of buildkitd and buildctl. */
export const BUILDKIT_VARIABLE = 'LIMA_RUNTIME_TEST_BUILDKIT'

/** Why nothing can be built on containerd here, or undefined. */
export function noBuildkit() {
  return process.env[BUILDKIT_VARIABLE] ? undefined : `${BUILDKIT_VARIABLE} names no BuildKit`
}

/**
 * As nerdctl-full has it: its client lies beside nerdctl. `BUILDKIT_HOST` says where it listens.
 * @param {string} nerdctl
 * @param {string} [config] its `buildkitd.toml`
 * @returns `nerdctl` is another path of the given one
 */
export async function startBuildkit(nerdctl, config = '') {
  const programs = process.env[BUILDKIT_VARIABLE]
  const dir = tempDir('buildkit')
  const address = `unix://${join(dir, 'sock')}`
  const env = { ...process.env, PATH: `${programs}:${process.env.PATH}` }
  const worker = ['--oci-worker=true', '--containerd-worker=false', '--oci-worker-net=host']
  writeFileSync(join(dir, 'buildkitd.toml'), config)
  const flags = ['--root', join(dir, 'root'), '--addr', address, '--config', join(dir, 'buildkitd.toml'), ...worker]
  const argv = recorded(join(dir, 'leaders'), ['buildkitd', ...flags])
  const child = startServer(argv, { env, detached: true })
  let log = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (log = (log + chunk).slice(-65_536)))
  const before = process.env.BUILDKIT_HOST
  const stop = async () => {
    if (before === undefined) delete process.env.BUILDKIT_HOST
    else process.env.BUILDKIT_HOST = before
    child.kill('SIGTERM')
    await waitExit(child, 30_000)
    killSessions(join(dir, 'leaders'))
    runAsRoot('sh', '-c', 'grep -o " $0/[^ ]*" /proc/self/mounts | sort -r | xargs -r umount -l', dir)
    rmSync(dir, { recursive: true, force: true })
  }
  try {
    await waitFor('buildkitd answering', () => {
      if (child.exitCode !== null) throw new Error(`buildkitd ended:\n${log}`)
      try {
        return runAsRoot(join(programs, 'buildctl'), '--addr', address, 'debug', 'workers').includes('linux/')
      } catch {
        return false
      }
    })
  } catch (error) {
    await stop()
    throw error
  }
  process.env.BUILDKIT_HOST = address
  const beside = join(dir, 'bin')
  mkdirSync(beside)
  symlinkSync(nerdctl, join(beside, 'nerdctl'))
  symlinkSync(join(programs, 'buildctl'), join(beside, 'buildctl'))
  return { nerdctl: join(beside, 'nerdctl'), stop, log: () => log }
}
