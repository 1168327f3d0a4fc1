// The code that documents show compiles, as written.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { root, TSC } from '../../scripts/run.mjs'

/** Blocks that begin with a comment naming a file. */
function blocks(text) {
  return [...text.matchAll(/^```ts\n(\/\/ ([\w.-]+\.ts)\n.*?)^```/gms)].map(([, code, name]) => ({ name, code }))
}

for (const [document, expected] of [
  ['README.md', ['quickstart.ts', 'main.ts', 'preload.ts', 'renderer.ts', 'allow.ts']],
  ['docs/migration.md', ['migrated.ts']],
]) {
  test(`the code in ${document}`, (t) => {
    const found = blocks(readFileSync(join(root, document), 'utf8'))
    assert.deepEqual(
      found.map(({ name }) => name).filter((name) => expected.includes(name)),
      expected,
    )
    // Below the project, so that its packages are found.
    const dir = mkdtempSync(join(root, 'dist/documents-'))
    t.after(() => rmSync(dir, { recursive: true, force: true }))
    for (const { name, code } of found) writeFileSync(join(dir, name), code)
    const { compilerOptions } = JSON.parse(readFileSync(join(root, 'examples/electron-app/tsconfig.json'), 'utf8'))
    const paths = Object.fromEntries(
      Object.entries(compilerOptions.paths).map(([name, [path]]) => [name, [join(root, path.replace('../../', ''))]]),
    )
    writeFileSync(
      join(dir, 'tsconfig.json'),
      JSON.stringify({
        extends: join(root, 'tsconfig.json'),
        compilerOptions: { ...compilerOptions, paths },
        files: [...found.map(({ name }) => name), join(root, 'examples/electron-app/browser/electron.d.ts')],
      }),
    )
    try {
      execFileSync(process.execPath, [TSC, '-p', dir], { encoding: 'utf8' })
    } catch (error) {
      assert.fail(error.stdout)
    }
  })
}
