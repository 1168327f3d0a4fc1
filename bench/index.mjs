// `npm run bench`: every benchmark; `-- docker`: that one. They print figures and judge nothing: see each file's head.
import { readdirSync } from 'node:fs'
import { parse } from 'node:path'
import { isReleaseBuild } from './report.mjs'

const known = new Map(
  readdirSync(new URL('.', import.meta.url), { withFileTypes: true })
    .map((entry) =>
      entry.isDirectory() ? [entry.name, `${entry.name}/index.mjs`] : [parse(entry.name).name, entry.name],
    )
    .filter(([name]) => !['index', 'engines', 'report'].includes(name)),
)
const asked = process.argv.slice(2).filter((word) => !word.startsWith('--'))
const unknown = asked.find((name) => !known.has(name))
if (unknown) {
  console.error(`No such benchmark: ${unknown}. There are: ${[...known.keys()].join(', ')}.`)
  process.exit(1)
}
if (!isReleaseBuild())
  console.log('dist/ holds a debug build: these figures say nothing about what ships. `npm run build` first.\n')
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))
for (const name of asked.length > 0 ? asked : known.keys()) {
  const { run } = await import(`./${known.get(name)}`)
  await run()
}
