// Clippy for every target that is not the host's, from any Linux machine: no Mac, no Windows, nothing linked.
// One cargo run for all of them, so that build scripts and procedural macros are compiled once. Arguments: names of targets.
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { root, run } from './run.mjs'
import { rustSource } from './rust-src.mjs'
import { chosenTargets } from './targets.mjs'

const stub = fileURLToPath(new URL('stub-cc.sh', import.meta.url))

let source
try {
  source = rustSource()
} catch (error) {
  console.error(`check:targets: ${error.message}`)
  process.exit(1)
}

// napi-build wants to see Node's import library, which no symbol of ours is taken from (napi's dyn-symbols).
const libnode = `${root}/target/check-targets/libnode`
mkdirSync(libnode, { recursive: true })
writeFileSync(`${libnode}/libnode.dll`, '')

const triples = chosenTargets()
  .map((t) => t.cross)
  .filter((triple) => triple !== 'x86_64-unknown-linux-gnu')
const started = performance.now()
run(
  'cargo',
  [
    'clippy',
    '--workspace',
    '--locked',
    '-Z',
    'build-std=std,panic_abort',
    ...triples.flatMap((t) => ['--target', t]),
    '--',
    '-D',
    'warnings',
  ],
  {
    cwd: root,
    env: {
      RUSTC_BOOTSTRAP: '1',
      __CARGO_TESTS_ONLY_SRC_ROOT: source,
      // A separate directory: some build scripts see RUSTC_BOOTSTRAP and would rebuild everything whenever it changes.
      CARGO_TARGET_DIR: `${root}/target/check-targets`,
      // Windows' import libraries are made by dlltool, even for std alone.
      CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUSTFLAGS: `-Cdlltool=${stub}`,
      LIBNODE_PATH: libnode,
      // Otherwise cc asks Xcode for it.
      SDKROOT: '/',
      ...Object.fromEntries(
        triples.flatMap((t) => ['CC', 'AR', 'CXX'].map((tool) => [`${tool}_${t.replaceAll('-', '_')}`, stub])),
      ),
    },
  },
)
console.log(`check:targets: ${triples.join(', ')} clean in ${((performance.now() - started) / 1000).toFixed(0)} s`)
