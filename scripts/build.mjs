// Builds the addon and the facade into dist/. `--release` for what ships; `--js` for the facade alone.
import { chmodSync, copyFileSync, existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { generateTypeDef } from '@napi-rs/cli'
import { build } from 'esbuild'
import { releaseFlags } from './release-flags.mjs'
import { run } from './run.mjs'
import { hostTarget } from './targets.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const args = new Set(process.argv.slice(2))
mkdirSync(`${root}/dist`, { recursive: true })

if (!args.has('--js')) {
  const target = hostTarget()
  const profile = args.has('--release') ? 'release' : 'debug'
  const types = `${root}/target/napi-types`
  mkdirSync(types, { recursive: true })
  // Plain cargo, not `napi build`, which always passes --target and so builds every dependency twice
  // (docs/reference/node-api.md#building).
  const options = profile === 'release' ? ['--release'] : ['--features', 'tokio/test-util']
  run('cargo', ['build', '-p', 'lima-runtime-napi', ...options], {
    cwd: root,
    env: {
      NAPI_TYPE_DEF_TMP_FOLDER: types,
      ...(profile === 'release' ? { CARGO_ENCODED_RUSTFLAGS: releaseFlags(target) } : {}),
      // napi-derive writes the types while it compiles: without them, compile.
      ...(existsSync(`${types}/lima-runtime-napi`) ? {} : { NAPI_FORCE_BUILD_LIMA_RUNTIME_NAPI: `${Date.now()}` }),
    },
  })
  const { library, node } = target
  // Renamed into place: a process that has loaded the old one must not see it change.
  copyFileSync(`${root}/target/${profile}/${library}`, `${root}/dist/${node}.new`)
  renameSync(`${root}/dist/${node}.new`, `${root}/dist/${node}`)
  const header =
    '// Generated from napi/src; `NativeCall` is made by js/call.ts.\nimport type { NativeCall } from "../js/call"\n'
  const { dts } = await generateTypeDef({ typeDefDir: types, dtsHeader: header, constEnum: false, cwd: root })
  writeFileSync(`${root}/dist/native.d.ts`, dts)
}

/** Bundles each entry point into one file of dist/. */
const bundle = (entryPoints, options) =>
  build({ absWorkingDir: root, entryPoints, outdir: 'dist', bundle: true, logLevel: 'warning', ...options })
const FOR_NODE = { outExtension: { '.js': '.cjs' }, format: 'cjs', platform: 'node', target: 'node20' }

// One file: a require() of many small ones costs more than everything else in them.
await bundle({ index: 'js/index.ts' }, { ...FOR_NODE, external: ['*.node'] })

// The command is a separate program that bundles all it needs.
await bundle({ cli: 'cli/main.ts' }, { ...FOR_NODE, external: ['*.node'], banner: { js: '#!/usr/bin/env node' } })
chmodSync(`${root}/dist/cli.cjs`, 0o755)

// Electron's two sides take Electron's objects and the manager, so they are bundled separately.
const electron = ['main', 'preload'].map((side) => [`electron-${side}`, `electron/${side}-entry.ts`])
await bundle(Object.fromEntries(electron), FOR_NODE)
for (const [name] of electron) writeFileSync(`${root}/dist/${name}.mjs`, `export * from './${name}.cjs'\n`)

// The screens run in a renderer: a module of their own, small because it is loaded by a page. Electron 30 is Chromium 124.
const forPage = { outExtension: { '.js': '.mjs' }, minify: true, format: 'esm', target: 'chrome124' }
await bundle({ ui: 'ui/main.ts' }, forPage)

// The ESM entry re-exports the CJS one, whose names esbuild leaves readable for Node: two copies would make two
// RuntimeError classes.
writeFileSync(`${root}/dist/index.mjs`, "export * from './index.cjs'\n")
