// What index.d.ts promises is there at run time, in both module formats, and nothing more is.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { after, test } from 'node:test'
import * as esm from 'lima-runtime'
import { API } from 'typescript/unstable/sync'
import { root } from '../../scripts/run.mjs'
import { hostTarget } from '../../scripts/targets.mjs'

const require = createRequire(import.meta.url)
const cjs = require('lima-runtime')
const formats = { require: cjs, import: esm }

const compiler = new API({ cwd: root })
after(() => compiler.close())
const [project] = compiler.updateSnapshot({ openProjects: [`${root}/js/tsconfig.json`] }).getProjects()
const { checker, program } = project
const declared = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(`${root}/index.d.ts`)))
const CLASS = 1 << 5
const classes = declared.filter((symbol) => symbol.flags & CLASS)
/** What a further name stands for. */
const meant = (symbol) => (symbol.flags & (1 << 21) ? checker.getAliasedSymbol(symbol) : symbol)
const named = (name) => declared.find((symbol) => symbol.name === name)
const documentation = (symbol) => checker.getDocumentationCommentOfSymbol(symbol)
const tags = (symbol) => checker.getJsDocTagsOfSymbol(symbol)
/** What our classes stand on is Node's to keep. */
const BUILT_IN = [Error.prototype, EventEmitter.prototype]
const inherited = (name) => BUILT_IN.some((proto) => name in proto)
const members = (symbol) =>
  checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol)).filter(({ name }) => !inherited(name))

for (const [format, runtime] of Object.entries(formats)) {
  test(`${format}: each export is there, and no other`, () => {
    const VALUE = CLASS | (1 << 4) | 3
    const values = declared.filter((symbol) => meant(symbol).flags & VALUE).map((symbol) => symbol.name)
    // Newer Nodes add names of their own to the namespace of a CommonJS module.
    const found = Object.keys(runtime).filter((name) => !['default', 'module.exports', '__esModule'].includes(name))
    assert.deepEqual(found.sort(), values.sort())
  })

  for (const symbol of classes) {
    test(`${format}: ${symbol.name} has each method, and no other`, () => {
      const real = runtime[symbol.name]
      assert.match(Function.prototype.toString.call(real), /^class/)
      const methods = members(symbol)
        .filter((member) => checker.getSignaturesOfType(checker.getTypeOfSymbol(member), 0).length > 0)
        .map((member) => member.name)
      const found = new Set()
      for (let proto = real.prototype; ![Object.prototype, ...BUILT_IN].includes(proto); ) {
        for (const name of Object.getOwnPropertyNames(proto)) {
          if (typeof proto[name] === 'function' && !inherited(name)) found.add(name)
        }
        proto = Object.getPrototypeOf(proto)
      }
      assert.deepEqual([...found].sort(), methods.sort())
    })
  }
}

test('the classes are the same for import and require', () => {
  for (const { name } of classes) assert.equal(formats.import[name], formats.require[name])
})

test('RuntimeErrorCode is the list of the core, and each code is explained', () => {
  const { errorCodes } = require(`${root}/dist/${hostTarget().node}`)
  const union = checker.getDeclaredTypeOfSymbol(named('RuntimeErrorCode'))
  assert.deepEqual(
    union
      .getTypes()
      .map((type) => type.value)
      .sort(),
    errorCodes().sort(),
  )
  const text = documentation(named('RuntimeErrorCode'))
  const page = readFileSync(`${root}/docs/errors.md`, 'utf8')
  for (const code of errorCodes()) {
    assert.match(text, new RegExp(`\`${code}\``), `${code} is not explained`)
    assert.match(page, new RegExp(`\`${code}\``), `${code} is not in docs/errors.md`)
  }
})

const VARIABLES = [
  'DOCKER_HOST',
  'KAI_CONTAINER_RUNTIME',
  'LIMA_RUNTIME_EXEC',
  'LIMA_RUNTIME_MANIFEST',
  'LIMA_RUNTIME_MIRROR',
  'NODE_EXTRA_CA_CERTS',
]

test('every code that a method names is one', () => {
  const codes = new Set(
    checker
      .getDeclaredTypeOfSymbol(named('RuntimeErrorCode'))
      .getTypes()
      .map((t) => t.value),
  )
  const source = readFileSync(`${root}/index.d.ts`, 'utf8')
  for (const [, code] of source.matchAll(/`([A-Z]+_[A-Z_]+)`/g)) {
    assert.ok(codes.has(code) || VARIABLES.includes(code), code)
  }
})

test('everything exported is documented, and used in usage.mts', () => {
  const usage = readFileSync(`${root}/__test__/types/usage.mts`, 'utf8')
  for (const symbol of declared) {
    assert.ok(documentation(meant(symbol)), `${symbol.name} has no documentation`)
    assert.match(usage, new RegExp(`\\b${symbol.name}\\b`), `${symbol.name} is not in usage.mts`)
  }
})

test('each method of the adapters is in the table of docs/README.md', () => {
  const page = readFileSync(`${root}/docs/README.md`, 'utf8')
  for (const { name } of members(named('ContainerAdapter'))) assert.ok(page.includes(`\`${name}\``), name)
})

test('each method says what it does, or what it throws', () => {
  for (const symbol of declared.filter(({ name }) => ['IContainerRuntime', 'ContainerAdapter'].includes(name))) {
    for (const member of members(symbol)) {
      const said = documentation(member) || tags(member).length > 0
      assert.ok(said || /^(list|get|disk)/.test(member.name), `${symbol.name}.${member.name}`)
    }
  }
})

test('a script that makes every class and does nothing else exits by itself', () => {
  const script = `
    const runtime = require('lima-runtime')
    for (const [name, Class] of Object.entries(runtime)) {
      if (name !== 'ContainerAdapter') name === 'RuntimeError' ? new Class('INTERNAL', 'text') : new Class()
    }
    // What would keep the process: timers, sockets, threads that it waits for.
    console.log(process.getActiveResourcesInfo().filter((name) => !/^(TTY|Pipe|File)/.test(name)).length)`
  const options = { cwd: root, encoding: 'utf8', timeout: 180_000 }
  const { status, stdout, stderr, signal } = spawnSync(process.execPath, ['-e', script], options)
  assert.equal(signal, null, 'it does not exit')
  assert.equal(status, 0, stderr)
  assert.equal(stdout, '0\n')
})
