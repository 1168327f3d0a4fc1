// What a figure was measured on, and with.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os'
import { root } from '../scripts/run.mjs'
import { isReleaseBuild } from './report.mjs'

/** Programs that benchmarks measure against or on, each with how it tells its version. */
const PROGRAMS = [
  ['dockerd', '--version'],
  ['docker', '--version'],
  [process.env.LIMA_RUNTIME_TEST_NERDCTL ?? 'nerdctl', '--version'],
  [
    process.env.LIMA_RUNTIME_TEST_CONTAINERD ? `${process.env.LIMA_RUNTIME_TEST_CONTAINERD}/containerd` : 'containerd',
    '--version',
  ],
  ['runc', '--version'],
  ['ssh', '-V'],
  ['curl', '--version'],
]

export function machine() {
  const { version } = read('package.json')
  const dockerode = read('node_modules/dockerode/package.json').version
  const said = PROGRAMS.map(([file, flag]) => {
    const { stdout, stderr } = spawnSync(file, [flag], {
      encoding: 'utf8',
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    })
    return (stdout || stderr || '').split('\n')[0].trim()
  }).filter(Boolean)
  return {
    'lima-runtime': `${version}, ${isReleaseBuild() ? 'release' : 'debug'} build`,
    machine: `${availableParallelism()} × ${cpus()[0]?.model}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, ${type()} ${release()}, load ${loadavg()[0].toFixed(2)}`,
    versions: [`Node ${process.versions.node}`, `dockerode ${dockerode}`, ...said].join('; '),
  }
}

const read = (path) => JSON.parse(readFileSync(`${root}/${path}`, 'utf8'))
