// The targets we ship for, one row each. Everything that depends on the platform's spelling is derived here.

/** The oldest systems the addons load on. */
export const GLIBC = '2.17'
export const MACOS = '11.0'

export const TARGETS = [
  {
    triple: 'aarch64-apple-darwin',
    name: 'darwin-arm64',
    os: 'darwin',
    cpu: 'arm64',
    library: 'liblima_runtime_napi.dylib',
  },
  {
    triple: 'x86_64-apple-darwin',
    name: 'darwin-x64',
    os: 'darwin',
    cpu: 'x64',
    library: 'liblima_runtime_napi.dylib',
  },
  {
    triple: 'x86_64-unknown-linux-gnu',
    name: 'linux-x64-gnu',
    os: 'linux',
    cpu: 'x64',
    libc: 'glibc',
    library: 'liblima_runtime_napi.so',
  },
  {
    triple: 'aarch64-unknown-linux-gnu',
    name: 'linux-arm64-gnu',
    os: 'linux',
    cpu: 'arm64',
    libc: 'glibc',
    library: 'liblima_runtime_napi.so',
  },
  // Microsoft's libraries are not available on Linux, where MinGW's ABI reaches the same Windows API.
  {
    triple: 'x86_64-pc-windows-msvc',
    cross: 'x86_64-pc-windows-gnu',
    name: 'win32-x64-msvc',
    os: 'win32',
    cpu: 'x64',
    library: 'lima_runtime_napi.dll',
    // Node brings its own C runtime; a user's Windows may have none.
    rustflags: ['-Ctarget-feature=+crt-static'],
  },
].map((row) => {
  const node = `lima-runtime.${row.name}.node`
  // On macOS a library holds its own name; the linker's default is where it was built.
  const rustflags = row.os === 'darwin' ? [`-Clink-arg=-Wl,-install_name,@rpath/${node}`] : row.rustflags
  return { cross: row.triple, ...row, node, rustflags, package: `lima-runtime-${row.name}` }
})

/** The target of the machine this runs on. */
export function hostTarget() {
  const found = TARGETS.find((t) => t.os === process.platform && t.cpu === process.arch)
  if (!found) throw new Error(`lima-runtime is not built for ${process.platform}-${process.arch}`)
  return found
}

/** The targets named on the command line, or all. */
export function chosenTargets() {
  const names = process.argv.slice(2)
  const unknown = names.find((name) => !TARGETS.some((t) => t.name === name))
  if (unknown) {
    console.error(`There is no target ${unknown}. There are ${TARGETS.map((t) => t.name).join(', ')}.`)
    process.exit(1)
  }
  return TARGETS.filter((t) => names.length === 0 || names.includes(t.name))
}
