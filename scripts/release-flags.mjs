// rustc's flags for what ships, in the form of CARGO_ENCODED_RUSTFLAGS.
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { root } from './run.mjs'

/** `target` is a row of targets.mjs; `directories` maps further directories to the names to show. */
export function releaseFlags(target, directories = {}) {
  return [...(target.rustflags ?? []), ...size(target), ...remapPaths(directories)].join('\x1f')
}

/** For a smaller addon, nothing else. */
function size({ os }) {
  return [
    // Unwind tables are much smaller for functions that keep their frame: 0.3 MB on Linux. Windows has tables of another
    // kind.
    ...(os === 'win32' ? [] : ['-Cforce-frame-pointers=yes']),
    // One signature for each SSH connection does not justify a copy for AVX2.
    '--cfg=curve25519_dalek_backend="serial"',
  ]
}

/** Keeps the build machine's paths out: panics then name files relative to the project and its dependencies. */
function remapPaths(directories) {
  const cargo = process.env.CARGO_HOME || join(homedir(), '.cargo')
  const sysroot = execFileSync('rustc', ['--print', 'sysroot'], { encoding: 'utf8' }).trim()
  const names = { [root]: 'lima-runtime', [cargo]: 'cargo', [sysroot]: 'rust', ...directories }
  // Drops the registry's own name, which is long and would precede every file's.
  const registries = join(cargo, 'registry/src')
  if (existsSync(registries)) for (const name of readdirSync(registries)) names[join(registries, name)] = 'cargo'
  // rustc uses the last match, so longer paths go last.
  const ordered = Object.entries(names).sort(([a], [b]) => a.length - b.length)
  return ordered.map(([path, name]) => `--remap-path-prefix=${path}=${name}`)
}
