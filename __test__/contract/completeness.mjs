import { readFileSync } from 'node:fs'
import { CALLS } from './calls.mjs'
import { assert, subject } from './kit.mjs'

const types = readFileSync(new URL('../../index.d.ts', import.meta.url), 'utf8')

/** The methods an interface or class of index.d.ts declares. */
function methodsOf(declaration) {
  const from = types.indexOf(`${declaration} {`)
  assert.ok(from > 0, `index.d.ts has no ${declaration}`)
  const body = types.slice(from, types.indexOf('\n}', from))
  return [...body.matchAll(/^ {2}(\w+)\(.*\): /gm)].map(([, name]) => name)
}

export const completeness = subject('completeness', (ctx, test) => {
  const methods = [
    ...new Set([...methodsOf('interface IContainerRuntime'), ...methodsOf('abstract class ContainerAdapter')]),
  ]

  test('every method was exercised against the real engine', (t) => {
    assert.ok(methods.length >= 37, `only ${methods.length} methods found in index.d.ts`)
    assert.deepEqual(
      methods.filter((name) => !ctx.called.has(name)),
      [],
    )
    t.diagnostic(`${methods.length} methods`)
  })

  test('every method takes part in the tests of cancellation', () => {
    // Of Docker nobody asks whose it is.
    const none = ['getRuntimeType', 'restricted', 'isPrivate']
    assert.deepEqual(
      methods.filter((name) => !none.includes(name) && !(name in CALLS)),
      [],
    )
  })
})
