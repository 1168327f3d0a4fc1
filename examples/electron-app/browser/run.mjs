// `npm run example`: the app without Electron. Its page and preload script run in a browser, its main process here.
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from 'esbuild'

const here = fileURLToPath(new URL('..', import.meta.url))
const root = fileURLToPath(new URL('../../..', import.meta.url))
const dist = join(root, 'dist')

/** Bundles the app's three parts into `outdir`, with ours in electron's place. */
export async function bundle(outdir) {
  const ours = {
    'lima-runtime/electron/main': join(dist, 'electron-main.cjs'),
    'lima-runtime/electron/preload': join(dist, 'electron-preload.cjs'),
    'lima-runtime/ui': join(dist, 'ui.mjs'),
  }
  const part = (name, electron, options) =>
    build({
      absWorkingDir: here,
      entryPoints: { [name]: `src/${name}.ts` },
      outdir,
      bundle: true,
      logLevel: 'warning',
      alias: { electron: join(here, 'browser', electron), ...ours },
      ...options,
    })
  const addon = { name: 'addon', setup: ({ onResolve }) => external(onResolve) }
  const external = (onResolve) =>
    onResolve({ filter: /^lima-runtime$/ }, () => ({ path: join(dist, 'index.cjs'), external: true }))
  const cjs = { '.js': '.cjs' }
  await part('main', 'electron-main.ts', { platform: 'node', format: 'cjs', plugins: [addon], outExtension: cjs })
  await part('preload', 'electron-renderer.ts', { platform: 'browser', format: 'iife', outExtension: cjs })
  await part('renderer', 'electron-renderer.ts', { platform: 'browser', format: 'esm' })
  await build({ absWorkingDir: here, entryPoints: ['src/page.css'], outdir, bundle: true, logLevel: 'warning' })
  copyFileSync(join(here, 'src/index.html'), join(outdir, 'index.html'))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const outdir = mkdtempSync(join(tmpdir(), 'lima-runtime-example-'))
  process.on('exit', () => rmSync(outdir, { recursive: true, force: true }))
  await bundle(outdir)
  await import(pathToFileURL(join(outdir, 'main.cjs')))
}
