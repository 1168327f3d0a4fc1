// zig as the C compiler and linker for every target, driven by cargo-zigbuild.
import { join } from 'node:path'
import { wheels } from './wheels.mjs'

const ZIG = '0.17.1'
const ZIGBUILD = '0.24.0'

/** `{ zigbuild, env }`: the program to run instead of `cargo`, and the environment in which it finds zig. */
export function zig() {
  const directory = wheels(`zig-${ZIG}-${ZIGBUILD}`, [`ziglang==${ZIG}`, `cargo-zigbuild==${ZIGBUILD}`])
  return { zigbuild: join(directory, 'bin/cargo-zigbuild'), env: { PYTHONPATH: directory } }
}
