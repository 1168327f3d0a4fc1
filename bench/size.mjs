// What an installation takes on the disk: this package and its addon, against dockerode and what it needs.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { mainContents } from '../scripts/pack.mjs'
import { root } from '../scripts/run.mjs'
import { hostTarget } from '../scripts/targets.mjs'
import { below, figure, isReleaseBuild } from './report.mjs'

export async function run() {
  const others = closure('dockerode')
  const theirs = [...others].reduce((sum, dir) => sum + sizeOf(dir), 0)
  const counts = figure('packages of an installation', '', 2, others.size, { against: 'dockerode' })
  if (!isReleaseBuild()) return { figures: [counts], left: ['the size of an installation: a debug build'] }
  const ours = mainContents().unpackedSize + statSync(join(root, 'dist', hostTarget().node)).size
  const size = figure('size of an installation', 'MB', ours / 1e6, theirs / 1e6, {
    against: 'dockerode',
    goals: [below(10, 'MB')],
  })
  return { figures: [size, counts] }
}

/** The directories of a package and of all that it needs. */
function closure(name, from = root, seen = new Set()) {
  const dir = [join(from, 'node_modules', name), join(root, 'node_modules', name)].find((path) =>
    statSync(join(path, 'package.json'), { throwIfNoEntry: false }),
  )
  if (!dir || seen.has(dir)) return seen
  seen.add(dir)
  const { dependencies = {} } = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'))
  for (const other of Object.keys(dependencies)) closure(other, dir, seen)
  return seen
}

/** Without the packages inside, which are counted by themselves. */
function sizeOf(dir) {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .filter((path) => !path.slice(dir.length).includes('node_modules'))
    .reduce((total, path) => total + statSync(path).size, 0)
}
