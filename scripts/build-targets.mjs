// Links the addon for every target on one Linux machine, checks each file, and runs those that can run here: the host's,
// Windows' under Wine, arm64 Linux's under qemu-user. Results lie in artifacts/native. Arguments: names of targets.
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { addonProblems } from './addon-checks.mjs'
import { writeMacosStubs } from './macos-stubs.mjs'
import { releaseFlags } from './release-flags.mjs'
import { root, run } from './run.mjs'
import { rustSource } from './rust-src.mjs'
import { smoke } from './smoke.mjs'
import { chosenTargets, GLIBC, MACOS } from './targets.mjs'
import { zig } from './zig.mjs'

const out = `${root}/artifacts/native`
const build = `${root}/target/build-targets`
mkdirSync(out, { recursive: true })
run('node', ['scripts/build.mjs', '--js'], { cwd: root })

let failed = false
for (const target of chosenTargets()) {
  link(target)
  const path = join(out, target.node)
  copyFileSync(join(build, target.cross, 'release', target.library), path)
  const { facts, problems } = addonProblems(target, path)
  console.log(`${target.name}: ${facts.join(', ')}`)
  if (problems.length === 0) {
    const outcome = await smoke(target, path)
    console.log(`${target.name}: ${outcome.line ?? `not run: ${outcome.reason}`}`)
    if (outcome.problem) problems.push(outcome.problem)
  }
  for (const problem of problems) console.error(`${target.name}: ${problem}`)
  failed ||= problems.length > 0
}
if (failed) process.exit(1)

function link(target) {
  const { cross, os } = target
  const source = rustSource()
  const { zigbuild, env } = zig()
  // napi-build requires Node's import library, although we take no symbol from it (napi's dyn-symbols): an archive without
  // members satisfies it. So the addon imports no program by name, and any Electron can load it.
  const libnode = join(build, 'libnode')
  mkdirSync(libnode, { recursive: true })
  writeFileSync(join(libnode, 'libnode.dll'), '')
  for (const name of ['libnode.a', 'libnode.dll.a']) writeFileSync(join(libnode, name), '!<arch>\n')
  const sdk = join(build, 'macos-stubs')
  if (os === 'darwin') writeMacosStubs(sdk, root, cross)
  const triple = os === 'linux' ? `${cross}.${GLIBC}` : cross
  const what = ['--release', '--locked', '-p', 'lima-runtime-napi', '-Z', 'build-std=std,panic_abort,panic_unwind']
  run(zigbuild, ['zigbuild', ...what, '--target', triple], {
    cwd: root,
    env: {
      ...env,
      RUSTC_BOOTSTRAP: '1',
      __CARGO_TESTS_ONLY_SRC_ROOT: source,
      CARGO_TARGET_DIR: build,
      CARGO_ENCODED_RUSTFLAGS: releaseFlags(target.cross === target.triple ? target : { os: target.os }, {
        [source]: 'rust-src',
      }),
      LIBNODE_PATH: libnode,
      SDKROOT: sdk,
      MACOSX_DEPLOYMENT_TARGET: MACOS,
    },
  })
}
