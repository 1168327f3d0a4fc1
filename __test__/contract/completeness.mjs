import { METHODS } from './calls.mjs'
import { assert, subject } from './kit.mjs'

export const completeness = subject('completeness', (ctx, test) => {
  test('every method was exercised against the real engine', (t) => {
    const methods = Object.keys(METHODS)
    assert.ok(methods.length >= 37, `only ${methods.length} methods found in index.d.ts`)
    assert.deepEqual(
      methods.filter((name) => !ctx.called.has(name)),
      [],
    )
    t.diagnostic(`${methods.length} methods`)
  })
})
