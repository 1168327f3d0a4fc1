// Bundles the three parts of the app into dist/, without the addon, which a bundler cannot carry.
import { copyFileSync } from 'node:fs'
import { build } from 'esbuild'

const common = { bundle: true, outdir: 'dist', outExtension: { '.js': '.cjs' }, external: ['electron'] }
await build({
  ...common,
  entryPoints: ['src/main.ts'],
  platform: 'node',
  format: 'cjs',
  external: ['electron', 'lima-runtime'],
})
// A sandboxed preload script can require only electron.
await build({ ...common, entryPoints: ['src/preload.ts'], platform: 'browser', format: 'cjs' })
await build({ ...common, entryPoints: ['src/renderer.ts'], outExtension: {}, platform: 'browser', format: 'esm' })
await build({ entryPoints: ['src/page.css'], bundle: true, outdir: 'dist' })
copyFileSync('src/index.html', 'dist/index.html')
