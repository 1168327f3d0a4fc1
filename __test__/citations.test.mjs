import assert from 'node:assert/strict'
import { test } from 'node:test'
import { anchors, citationProblems } from '../scripts/citations.mjs'

// What is wrong on purpose is made of pieces: this file is one of those that are looked at.
const DIR = 'docs/reference'
const PAGE = "# nerdctl\n\n## Exec's exit code\n\n```sh\n# no heading\n```\n\n## Names\n\n## Names\n"
const problems = (files) => citationProblems(new Map([[`${DIR}/nerdctl.md`, PAGE], ...Object.entries(files)]))

test('a citation of a heading that exists is right, in code and in a page', () => {
  const code = `// The last line says it (${DIR}/nerdctl.md#execs-exit-code), see ${DIR}/nerdctl.md.\n`
  const page = `[a](${DIR}/nerdctl.md#names-1) [b](#b-c) [c](src/a.rs) [d](https://x.y/z.md#q)\n\n## B c\n`
  assert.deepEqual(problems({ 'src/a.rs': code, 'README.md': page }), [])
})

test('a heading or a page that does not exist is named with its line', () => {
  const code = `\n// ${DIR}/nerdctl.md#exec, ${DIR}/podman.md#names\n// ${'nerdctl'}.md#names\n`
  assert.deepEqual(problems({ 'src/a.rs': code }), [
    `src/a.rs:2: ${DIR}/nerdctl.md has no heading #exec`,
    `src/a.rs:2: ${DIR}/podman.md does not exist`,
    'src/a.rs:3: nerdctl.md does not exist',
  ])
  const page = `[a](${'nerdctl'}.md#exec) [b](../../src/none.rs) [c](#none)\n`
  assert.equal(problems({ [`${DIR}/x.md`]: page }).length, 3)
})

test('a test that the threat model names is in the file it names', () => {
  const files = {
    'a.test.mjs': `test('it is\\'nt', f)\nit("it’s 1", { skip }, f)\n// (no test)\n`,
    'src/a.rs': 'fn it_is() {}\n',
  }
  const row = (text) => problems({ ...files, 'docs/threat-model.md': `| who | what | ${text} |\n` })
  assert.deepEqual(row('[a](../a.test.mjs): "it is\'nt", "it’s 1"; [b](../src/a.rs): `it_is`; no test'), [])
  assert.deepEqual(row('[a](../a.test.mjs): "no test", "it’s"; [b](../src/a.rs): `it_is`, `it_was`'), [
    'docs/threat-model.md:1: a.test.mjs has no test "no test"',
    'docs/threat-model.md:1: a.test.mjs has no test "it’s"',
    'docs/threat-model.md:1: src/a.rs has no test it_was',
  ])
  assert.deepEqual(row('[a](../b.test.mjs): "x"'), ['docs/threat-model.md:1: b.test.mjs does not exist'])
})

test('notes that are not in the repository cannot be cited', () => {
  const forms = ['nerdctl- contract', 'ssh- trial', "DE SIGN's table", 'pit fall 3', 'tran script', '\u00a7 2']
  for (const form of forms.map((pieces) => pieces.replace(' ', ''))) {
    const [problem] = problems({ 'src/a.rs': `fn a() {}\n// As it is said (${form}).\n` })
    assert.match(problem ?? '', /^src\/a\.rs:2: ".+" is nothing in this repository/, form)
  }
})

test('anchors are those of GitHub', () => {
  assert.deepEqual([...anchors(PAGE)], ['nerdctl', 'execs-exit-code', 'names', 'names-1'])
  assert.deepEqual([...anchors('## `a_b` — C/D, e?')], ['a_b--cd-e'])
})
