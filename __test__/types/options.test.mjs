// What JavaScript can pass is in index.d.ts and nothing else is: each object that a method or a constructor takes, and each
// object in it, is given a field that there is not, and says which ones there are.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { after, describe, test } from 'node:test'
import { API } from 'typescript/unstable/sync'
import { root } from '../../scripts/run.mjs'

const runtime = createRequire(import.meta.url)('lima-runtime')
const TYPO = 'misspeltOption'
/** What the facade takes for itself, with a right value; of the rest the core judges. */
const FACADE = {
  signal: new AbortController().signal,
  timeoutMs: 1000,
  onProgress: () => {},
  download: () => false,
  input: 'x',
}

const compiler = new API({ cwd: root })
after(() => compiler.close())
const [project] = compiler.updateSnapshot({ openProjects: [`${root}/js/tsconfig.json`] }).getProjects()
const { checker, program } = project
const declared = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(`${root}/index.d.ts`)))
const CALL = 0
const CONSTRUCT = 1

const parts = (type) => (type.isUnionType() ? type.getTypes() : [type])
const isCallable = (type) => checker.getSignaturesOfType(type, CALL).length > 0
const isOurs = (symbol) =>
  symbol?.declarations.some(({ path }) => path.endsWith('/index.d.ts') && !path.includes('node_modules'))

/** The objects of fields that may stand here: no class, no function, no record with any keys. */
function shapes(type) {
  return parts(type).filter((part) => {
    // Of `A & { b }` and `Partial<A>` what they are made of.
    const made = part.isIntersectionType() ? part.getTypes() : [part, ...part.getAliasTypeArguments()]
    const symbol = made.map((type) => type.getSymbol()).find(isOurs)
    if (!isOurs(symbol) || isCallable(part) || checker.getIndexInfosOfType(part).length > 0) return false
    return !(symbol.flags & (1 << 5)) && checker.getPropertiesOfType(part).length > 0
  })
}

/** Each place where an object of fields stands in a value of this type, with what makes the value around it. */
function* places(type, path = '', around = (value) => value) {
  for (const shape of shapes(type)) {
    yield { shape, path, around }
    for (const property of checker.getPropertiesOfType(shape)) {
      const inner = `${path}${path && '.'}${property.name}`
      for (const one of parts(checker.getTypeOfSymbol(property))) {
        const put = (value) => around({ [property.name]: value })
        if (!checker.isArrayLikeType(one)) yield* places(one, inner, put)
        else
          for (const item of checker.getTypeArguments(one)) yield* places(item, `${inner}[0]`, (value) => put([value]))
      }
    }
  }
}

/** Something that may stand here, for a method to come to what is looked at. */
function sample(type) {
  for (const part of parts(type)) {
    const text = checker.typeToString(part)
    if (text === 'string') return 'web'
    if (text === 'string[]') return ['web']
    if (part.isStringLiteralType()) return part.value
    if (text === 'ContainerConfig') return { name: 'web', image: 'busybox' }
    if (text === 'ContainerUpdate') return { restart: 'no' }
  }
  return undefined
}

/** All that takes arguments: what calls it, and each parameter with its type. */
function* callables(symbol, instance) {
  const type = checker.getTypeOfSymbol(symbol)
  const of = (signature) => signature.parameters.map((_, i) => checker.getParameterType(signature, i))
  for (const signature of checker.getSignaturesOfType(type, CONSTRUCT)) {
    if (!['RuntimeError', 'ContainerAdapter'].includes(symbol.name))
      yield {
        name: `new ${symbol.name}`,
        call: async (...args) => new runtime[symbol.name](...args),
        types: of(signature),
      }
  }
  for (const member of checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol))) {
    if (!isOurs(member)) continue
    // Overloads say what an application's own implementation may leave out.
    const signature = checker.getSignaturesOfType(checker.getTypeOfSymbol(member), CALL).at(-1)
    if (!signature || !instance) continue
    const call = async (...args) => {
      const answer = await instance[member.name](...args)
      return typeof answer?.next === 'function' ? answer.next() : answer
    }
    yield { name: `${symbol.name}.${member.name}`, call, types: of(signature) }
  }
}

const INSTANCES = {
  DockerAdapter: () => new runtime.DockerAdapter({ host: 'unix:///nowhere/docker.sock' }),
  ContainerdAdapter: () => new runtime.ContainerdAdapter({ address: '/nowhere/containerd.sock' }),
  LimaContainerAdapter: () => new runtime.LimaContainerAdapter({ appDir: '/nowhere' }),
  BundledContainerAdapter: () => new runtime.BundledContainerAdapter({ appDir: '/nowhere' }),
  LimaRuntimeManager: () => new runtime.LimaRuntimeManager({ appDir: '/nowhere' }),
  BundledRuntimeManager: () => new runtime.BundledRuntimeManager({ appDir: '/nowhere' }),
  ContainerManager: () => new runtime.ContainerManager({ appDir: '/nowhere' }),
}

/** What there is, by the error's own word. */
const known = (error) => error.hint?.match(/^There is: (.*)\.$/)[1].split(', ') ?? []

async function refusal(call, field) {
  const error = await call().then(
    () => assert.fail(`${field} was taken`),
    (error) => error,
  )
  assert.equal(error.code, 'INVALID_ARGUMENT', `${field}: ${error.message}`)
  assert.equal(error.details.field, field, error.message)
  return error
}

let probes = 0
for (const symbol of declared.filter(({ name, flags }) => name in INSTANCES && flags & (1 << 5))) {
  describe(symbol.name, () => {
    for (const { name, call, types } of callables(symbol, INSTANCES[symbol.name]())) {
      for (const [at, type] of types.entries()) {
        const found = [...places(type)]
        if (found.length === 0) continue
        test(`${name}, argument ${at + 1}`, async () => {
          for (const { shape, path, around } of found) {
            const fields = checker.getPropertiesOfType(shape).map((property) => property.name)
            const attempt = (key, value) => () =>
              call(...types.map((other, i) => (i === at ? around({ [key]: value }) : sample(other))))
            const placed = (key) => `${path}${path && '.'}${key}`
            const error = await refusal(attempt(TYPO, 1), placed(TYPO))
            const core = fields.filter((field) => !(field in FACADE))
            assert.deepEqual(known(error).sort(), core.sort(), `${name}: ${path}`)
            for (const [key, value] of Object.entries(FACADE)) {
              if (!fields.includes(key)) await refusal(attempt(key, value), placed(key))
            }
            probes++
          }
        })
      }
    }
  })
}

after(() => assert.ok(probes > 100, `only ${probes} objects were looked at`))
