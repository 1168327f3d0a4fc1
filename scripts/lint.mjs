// `npm run lint`: formatting and lints of Rust and TypeScript; `-- --fix` corrects what can be corrected by itself.
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { citationProblems, repositoryFiles } from './citations.mjs'
import { documentProblems } from './documents.mjs'
import { BIOME, root, run, TSC, typeProjects } from './run.mjs'

const fix = process.argv.includes('--fix')
const git = ['ls-files', '--cached', '--others', '--exclude-standard', '--deduplicate', '-z']
const names = execFileSync('git', git, { cwd: root, encoding: 'utf8' })
  .split('\0')
  .filter((name) => name && existsSync(`${root}/${name}`))
const files = repositoryFiles(root, names)
const problems = [...citationProblems(files), ...documentProblems(files)]
if (problems.length > 0) {
  console.error(`${problems.join('\n')}\nHow facts are cited: docs/reference/README.md`)
  process.exit(1)
}
run('cargo', ['fmt', '--all', ...(fix ? [] : ['--check'])], { cwd: root })
run(process.execPath, [BIOME, 'check', '--error-on-warnings', ...(fix ? ['--write'] : [])], { cwd: root })
run('cargo', ['clippy', '--workspace', '--all-targets', '--', '-D', 'warnings'], { cwd: root })
// The facade's types stand on those that building the addon generates.
if (!existsSync(`${root}/dist/native.d.ts`)) run(process.execPath, ['scripts/build.mjs'], { cwd: root })
for (const project of typeProjects) run(process.execPath, [TSC, '-p', project], { cwd: root })
