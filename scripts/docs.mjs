// `npm run docs`: makes docs/api, the reference, from the packages' types. `npm run lint` says when it does not fit to them.
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { repositoryFiles } from './citations.mjs'
import { REFERENCE, referenceDigests, SOURCES } from './documents.mjs'
import { hasNodeModules, npmInstall, root, run } from './run.mjs'

/** TypeDoc has a directory of its own: it needs TypeScript 6, and the project has 7. */
const dir = join(root, 'scripts/docs')
if (!hasNodeModules(dir)) {
  const [npm, ...args] = npmInstall()
  // `npm run` tells npm that the project's directory is meant.
  run(npm, [...args, '--prefix', dir], { cwd: dir })
}
run(process.execPath, [join(dir, 'node_modules/typedoc/bin/typedoc'), '--options', join(dir, 'typedoc.json')])
const pages = readdirSync(join(root, REFERENCE), { recursive: true }).filter((name) => name.endsWith('.md'))
const names = [...SOURCES, ...pages.map((name) => `${REFERENCE}/${name.replaceAll('\\', '/')}`)]
const digests = JSON.stringify(referenceDigests(repositoryFiles(root, names)), null, 2)
writeFileSync(join(root, REFERENCE, 'digests.json'), `${digests}\n`)
