import { createRequire } from 'node:module'
import { build } from 'esbuild'
import { root } from '../../scripts/run.mjs'
import { hostTarget } from '../../scripts/targets.mjs'

/** The modules of the facade that are not exported, over the real addon. */
export function facade() {
  return source(...['streams', 'call', 'errors'].map((name) => `js/${name}`))
}

/** What TypeScript files of the project export, also to nobody but each other. */
export async function source(...paths) {
  const addon = `${root}/dist/${hostTarget().node}`
  const { outputFiles } = await build({
    stdin: { contents: paths.map((path) => `export * from './${path}'`).join('\n'), resolveDir: root, loader: 'ts' },
    bundle: true,
    format: 'cjs',
    platform: 'node',
    write: false,
    plugins: [
      {
        name: 'addon',
        setup({ onResolve, onLoad }) {
          onResolve({ filter: /^\.\/native$/ }, () => ({ path: addon, namespace: 'addon' }))
          onLoad({ filter: /.*/, namespace: 'addon' }, ({ path }) => ({
            contents: `export const native = require(${JSON.stringify(path)})`,
            resolveDir: root,
          }))
        },
      },
    ],
    external: ['*.node'],
  })
  const module = { exports: {} }
  new Function('module', 'exports', 'require', outputFiles[0].text)(
    module,
    module.exports,
    createRequire(import.meta.url),
  )
  return module.exports
}
