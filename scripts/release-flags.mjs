// rustc's flags for what ships, in the form of CARGO_ENCODED_RUSTFLAGS.
import { execFileSync } from 'node:child_process'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { root } from './run.mjs'

/** `target`: a row of targets.mjs; `directories` maps further directories to the names they are to have. */
export function releaseFlags(target, directories = {}) {
  return [...(target.rustflags ?? []), ...remapPaths(directories)].join('\x1f')
}

/** Keeps the build machine's paths out: panics name files as the project and its dependencies know them. */
function remapPaths(directories) {
  const cargo = process.env.CARGO_HOME || join(homedir(), '.cargo')
  const sysroot = execFileSync('rustc', ['--print', 'sysroot'], { encoding: 'utf8' }).trim()
  const names = { [root]: 'lima-runtime', [cargo]: 'cargo', [sysroot]: 'rust', ...directories }
  // rustc takes the last that fits: the more precise ones go to the end.
  const ordered = Object.entries(names).sort(([a], [b]) => a.length - b.length)
  return ordered.map(([path, name]) => `--remap-path-prefix=${path}=${name}`)
}
