// What pages show is right: their code compiles for whoever has installed the packages, and their commands exist.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import {
  blocks,
  COMPILED,
  documentProblems,
  pages,
  REFERENCE,
  referenceDigests,
  SOURCES,
} from '../scripts/documents.mjs'
import { root, TSC } from '../scripts/run.mjs'
import { tempDir } from './support/tempdir.mjs'

const read = (name) => readFileSync(join(root, name), 'utf8')
const top = readdirSync(root).filter((name) => name.endsWith('.md'))
const below = readdirSync(join(root, 'docs'), { recursive: true }).map((name) => `docs/${name.replaceAll('\\', '/')}`)
const texts = new Map([...top, ...below.filter((name) => name.endsWith('.md'))].map((name) => [name, read(name)]))
const TYPES = SOURCES.filter((name) => /\.d\.m?ts$/.test(name))

/** What the examples in the types' comments leave to the reader to imagine. */
const IMAGINED = `
declare const docker: import('lima-runtime').DockerAdapter
declare const runtime: import('lima-runtime').ContainerAdapter
declare const lima: import('lima-runtime').LimaRuntimeManager
declare const config: import('lima-runtime').ContainerConfig
declare const app: { getPath(name: 'downloads'): string }
declare const id: string
declare const secret: string
declare const username: string
declare const password: string
declare const signal: AbortSignal
declare const bar: { update(progress: number, status?: string): void }
declare function show(what: unknown): void
declare function askForAnotherPort(message: string): void
`
const CLASSES = [...read('index.d.ts').matchAll(/^export declare (?:abstract )?class (\w+)/gm)].map(([, name]) => name)
const IMPORTED = `import { ${CLASSES.join(', ')} } from 'lima-runtime'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
`.replaceAll('\n', '; ')

/** A project that has installed the packages and compiles as TypeScript is set up today: ES modules, strict. */
function project() {
  const dir = tempDir('documents')
  mkdirSync(join(dir, 'node_modules'))
  symlinkSync(root, join(dir, 'node_modules/lima-runtime'), 'junction')
  symlinkSync(join(root, 'node_modules/@types'), join(dir, 'node_modules/@types'), 'junction')
  writeFileSync(join(dir, 'package.json'), '{ "type": "module" }')
  // A stand-in for Electron's own types.
  cpSync(join(root, 'examples/electron-app/browser/electron.d.ts'), join(dir, 'electron.d.ts'))
  return dir
}

/** Compiles the project's files, each a module by itself. */
function compiles(dir, files, options) {
  const { compilerOptions } = JSON.parse(read('tsconfig.json'))
  const consumer = { module: 'nodenext', moduleResolution: 'nodenext', lib: ['es2023', 'dom', 'dom.iterable'] }
  const config = { compilerOptions: { ...compilerOptions, ...consumer, ...options }, files }
  writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify(config))
  const { status, stdout } = spawnSync(process.execPath, [TSC, '-p', dir], { encoding: 'utf8' })
  assert.equal(status, 0, stdout)
}

test('all code of all pages compiles', () => {
  const dir = project()
  const files = pages(texts).flatMap((file) => {
    const found = blocks(texts.get(file)).filter(({ language }) => COMPILED.includes(language))
    const under = file.replaceAll(/[/.]/g, '-')
    if (found.length > 0) mkdirSync(join(dir, under))
    for (const { name, code, line } of found) {
      assert.ok(name, `${file}:${line}: the code has no name`)
      // As many lines come before it as in the page, so that the compiler names the page's line.
      writeFileSync(join(dir, under, name), '\n'.repeat(line) + code, { flag: 'wx' })
    }
    return found.map(({ name }) => `${under}/${name}`)
  })
  assert.ok(files.length > 10, 'the code was not found')
  compiles(dir, ['electron.d.ts', ...files], { allowJs: true, checkJs: true })
})

test('all examples of the types compile', () => {
  const dir = project()
  writeFileSync(join(dir, 'imagined.d.ts'), IMAGINED)
  const files = TYPES.flatMap((file) => {
    const text = read(file)
    return [...text.matchAll(/^ *\* ```ts\n(.*?)^ *\* ```$/gms)].map(({ 1: code, index }) => {
      const line = text.slice(0, index).split('\n').length
      const name = `${file.replaceAll(/[/.]/g, '-')}-${line}.ts`
      const example = code.replaceAll(/^ *\* ?/gm, '')
      const before = /^import /m.test(example) ? '' : IMPORTED
      writeFileSync(join(dir, name), `${before}${'\n'.repeat(line)}${example}export {}\n`)
      return name
    })
  })
  assert.ok(files.length > 10, 'the examples were not found')
  compiles(dir, ['electron.d.ts', 'imagined.d.ts', ...files], { noUnusedLocals: false })
})

describe('what is wrong in a page is named with its line', () => {
  const fence = '```'
  const all = {
    'package.json': '{ "scripts": { "test": "", "demo": "" } }',
    'cli/usage.ts': '`Usage: lima-runtime doctor',
    'scripts/a.mjs': '',
  }
  const DIGESTS = `${REFERENCE}/digests.json`
  const made = (files) => ({ ...files, [DIGESTS]: JSON.stringify(referenceDigests(new Map(Object.entries(files)))) })
  const problems = (page, file = 'README.md') =>
    documentProblems(new Map(Object.entries({ ...made(all), [file]: page })))
  const block = (language, code) => `text\n\n${fence}${language}\n${code}\n${fence}\n`

  test('commands', () => {
    const right = 'npm install x # why\nnpm test -- js && npm run demo\nnpx lima-runtime doctor\nnode scripts/a.mjs --x'
    assert.deepEqual(problems(block('sh', right)), [])
    assert.deepEqual(problems(block('sh', 'npm test\nnpm run dmeo')), [
      'README.md:5: package.json has no script "dmeo"',
    ])
    assert.deepEqual(problems(block('sh', 'make')), ['README.md:4: "make" is a command that nothing checks'])
    assert.deepEqual(problems('`npm run demo`, `npx lima-runtime <command>`, `A=1 npm test`, `npm ci`\n'), [])
    assert.deepEqual(problems('a\n`npx lima-runtime instal`, `node scripts/b.mjs`, `CI=1 npm run x`\n'), [
      'README.md:2: lima-runtime has no command "instal"',
      'README.md:2: scripts/b.mjs does not exist',
      'README.md:2: package.json has no script "x"',
    ])
  })

  test('code', () => {
    assert.deepEqual(problems(block('ts', '// a.ts\nexport {}') + block('json', '{ "a": 1 }')), [])
    assert.match(problems(block('ts', 'export {}'))[0], /^README\.md:3: code begins with a comment/)
    assert.match(problems(block('', 'text'))[0], /^README\.md:3: code in "" is not checked/)
    assert.match(problems(block('json', '{ a: 1 }'))[0], /^README\.md:3: .*JSON/)
  })

  test('a README that has grown, a page that nobody finds', () => {
    assert.deepEqual(problems('a\n'.repeat(149)), [])
    assert.match(problems('a\n'.repeat(150))[0], /^README\.md:150: it is longer/)
    assert.deepEqual(problems('# A\n', 'docs/a.md'), ['docs/a.md:1: docs/README.md has no link to it'])
    assert.deepEqual(pages(new Map([['docs/api/a.md'], ['docs/b/c.md'], ['src/a.md'], ['A.md']])), [
      'docs/b/c.md',
      'A.md',
    ])
  })

  test('a reference that is older than the types, or written by hand', () => {
    const files = made({ ...all, [`${REFERENCE}/README.md`]: '# Reference\n', [SOURCES[0]]: 'export {}\n' })
    const after = (changes) => documentProblems(new Map(Object.entries({ ...files, ...changes })))
    const changed = (file) => [`${DIGESTS}:1: ${file} has changed: run npm run docs`]
    assert.deepEqual(after({ [SOURCES[0]]: 'export {}\r\n' }), [], 'as Windows checks it out')
    assert.deepEqual(after({ [SOURCES[0]]: 'export const a: 1\n' }), changed(SOURCES[0]))
    assert.deepEqual(after({ [`${REFERENCE}/README.md`]: '# References\n' }), changed(REFERENCE))
    assert.deepEqual(after({ [`${REFERENCE}/more.md`]: '' }), changed(REFERENCE))
    assert.equal(after({ [DIGESTS]: '{}' }).length, SOURCES.length + 1)
  })
})
