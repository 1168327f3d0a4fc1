// zig as the C compiler and linker for every target, driven by cargo-zigbuild: both come as wheels from PyPI.
import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { run } from './run.mjs'
import { CACHE } from './rust-src.mjs'

const ZIG = '0.17.1'
const ZIGBUILD = '0.24.0'

/** `{ zigbuild, env }`: the program that stands for `cargo`, and what it needs to find zig. */
export function zig() {
  const directory = join(CACHE, `zig-${ZIG}-${ZIGBUILD}`)
  if (!existsSync(directory)) {
    mkdirSync(CACHE, { recursive: true })
    const partial = `${directory}.${process.pid}`
    const packages = [`ziglang==${ZIG}`, `cargo-zigbuild==${ZIGBUILD}`]
    run('python3', ['-m', 'pip', 'install', '-q', '--no-compile', '--target', partial, ...packages])
    renameSync(partial, directory)
  }
  return { zigbuild: join(directory, 'bin/cargo-zigbuild'), env: { PYTHONPATH: directory } }
}
