// `npm run lint`: formatting and lints of Rust and TypeScript; `-- --fix` corrects what can be corrected by itself.
import { existsSync } from 'node:fs'
import { BIOME, root, run, TSC, typeProjects } from './run.mjs'

const fix = process.argv.includes('--fix')
run('cargo', ['fmt', '--all', ...(fix ? [] : ['--check'])], { cwd: root })
run(process.execPath, [BIOME, 'check', '--error-on-warnings', ...(fix ? ['--write'] : [])], { cwd: root })
run('cargo', ['clippy', '--workspace', '--all-targets', '--', '-D', 'warnings'], { cwd: root })
// The facade's types stand on those that building the addon generates.
if (!existsSync(`${root}/dist/native.d.ts`)) run(process.execPath, ['scripts/build.mjs'], { cwd: root })
for (const project of typeProjects) run(process.execPath, [TSC, '-p', project], { cwd: root })
