// rustc's flags for what ships, in the form of CARGO_ENCODED_RUSTFLAGS.
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { root } from './run.mjs'

/** `target`: a row of targets.mjs; `directories` maps further directories to the names they are to have. */
export function releaseFlags(target, directories = {}) {
  return [...(target.rustflags ?? []), ...size(target), ...remapPaths(directories)].join('\x1f')
}

/** For a smaller addon, nothing else. */
function size({ os }) {
  return [
    // The tables that a panic unwinds by say much less about a function that keeps its frame: 0.3 MB on Linux. Windows
    // has tables of another kind.
    ...(os === 'win32' ? [] : ['-Cforce-frame-pointers=yes']),
    // One signature for each SSH connection to the guest needs no copy for AVX2.
    '--cfg=curve25519_dalek_backend="serial"',
  ]
}

/** Keeps the build machine's paths out: panics name files as the project and its dependencies know them. */
function remapPaths(directories) {
  const cargo = process.env.CARGO_HOME || join(homedir(), '.cargo')
  const sysroot = execFileSync('rustc', ['--print', 'sysroot'], { encoding: 'utf8' }).trim()
  const names = { [root]: 'lima-runtime', [cargo]: 'cargo', [sysroot]: 'rust', ...directories }
  // Without the registry's own name, which is long and would stand in front of every file's.
  const registries = join(cargo, 'registry/src')
  if (existsSync(registries)) for (const name of readdirSync(registries)) names[join(registries, name)] = 'cargo'
  // rustc takes the last that fits: the more precise ones go to the end.
  const ordered = Object.entries(names).sort(([a], [b]) => a.length - b.length)
  return ordered.map(([path, name]) => `--remap-path-prefix=${path}=${name}`)
}
