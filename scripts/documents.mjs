// Checks what pages show: each block of code has a language that is checked, each command exists. That the code compiles is
// a test: __test__/documents.test.mjs.
import { createHash } from 'node:crypto'
import { basename } from 'node:path/posix'

/** README.md is a page and a half. */
const README_LINES = 150
/** What is compiled; what is parsed here; what only draws. */
export const COMPILED = ['ts', 'js']
const KNOWN = [...COMPILED, 'sh', 'json', 'mermaid']

/** What `npm run docs` makes, and of what. */
export const REFERENCE = 'docs/api'
export const SOURCES = [
  ...['index.d.ts', 'electron/main.d.ts', 'electron/preload.d.ts', 'ui/index.d.mts'],
  ...['once.mjs', 'package-lock.json', 'tsconfig.json', 'typedoc.json'].map((name) => `scripts/docs/${name}`),
]

/** The pages that people read: those at the top, and docs/ but for what is generated. */
export function pages(files) {
  return [...files.keys()].filter((file) => /^(?:docs\/(?!api\/).*|[\w-]+)\.md$/.test(file))
}

/** The blocks of code between fences, with the line of the first one; `name` is that of a first comment, `// name.ts`. */
export function blocks(text) {
  return [...text.matchAll(/^```(\S*)\n(.*?)^```$/gms)].map(({ 1: language, 2: code, index }) => ({
    language,
    code,
    line: text.slice(0, index).split('\n').length,
    name: /^\/\/ ([\w-]+\.(?:ts|mjs))\n/.exec(code)?.[1],
  }))
}

/** `path:line: what is wrong` for each; `files` maps every path of the repository to its text. */
export function documentProblems(files) {
  const there = {
    scripts: Object.keys(JSON.parse(files.get('package.json')).scripts),
    commands: [...(files.get('cli/usage.ts') ?? '').matchAll(/`Usage: lima-runtime (\w+)/g)].map(([, name]) => name),
    files,
  }
  const problems = []
  for (const file of pages(files)) {
    const text = files.get(file)
    const say = (line, problem) => problem && problems.push(`${file}:${line}: ${problem}`)
    for (const { language, code, line, name } of blocks(text)) {
      if (!KNOWN.includes(language)) say(line, `code in "${language}" is not checked; there is: ${KNOWN.join(', ')}`)
      if (COMPILED.includes(language) && !name) say(line, 'code begins with a comment that names its file: // name.ts')
      if (language === 'json') say(line, jsonProblem(code))
      if (language === 'sh')
        for (const [index, command] of code.trimEnd().split('\n').entries())
          for (const part of command.replace(/ #.*/, '').split('&&'))
            say(line + 1 + index, commandProblem(part.trim(), true, there))
    }
    for (const [index, line] of text.split('\n').entries())
      for (const [, words] of line.matchAll(/`((?:[A-Z_]+=\S* )?(?:npm|npx|node) [^`]+)`/g))
        say(index + 1, commandProblem(words, false, there))
    if (file === 'README.md' && text.split('\n').length > README_LINES)
      say(README_LINES, 'it is longer than a page and a half: say it on a page under docs/')
  }
  const index = files.get('docs/README.md') ?? ''
  for (const file of pages(files).filter((file) => /^docs\/(?!README)[\w-]+\.md$/.test(file)))
    if (!index.includes(`](${basename(file)}`)) problems.push(`${file}:1: docs/README.md has no link to it`)
  return [...problems, ...referenceProblems(files)]
}

/** What the reference's pages were made of, and the pages. */
export function referenceDigests(files) {
  const digest = (texts) => createHash('sha256').update(texts.join('\0').replaceAll('\r\n', '\n')).digest('hex')
  const pages = [...files.keys()].filter((file) => file.startsWith(`${REFERENCE}/`) && file.endsWith('.md')).sort()
  return {
    ...Object.fromEntries(SOURCES.map((file) => [file, digest([files.get(file) ?? ''])])),
    [REFERENCE]: digest(pages.flatMap((file) => [file, files.get(file)])),
  }
}

/** The tool itself is not needed to see that it has to run again. */
function referenceProblems(files) {
  const name = `${REFERENCE}/digests.json`
  const noted = JSON.parse(files.get(name) ?? '{}')
  return Object.entries(referenceDigests(files))
    .filter(([file, digest]) => noted[file] !== digest)
    .map(([file]) => `${name}:1: ${file} has changed: run npm run docs`)
}

function jsonProblem(code) {
  try {
    JSON.parse(code)
  } catch (error) {
    return error.message
  }
}

/** In a block nothing is passed over; in a sentence `npm install` of anything may be meant. */
function commandProblem(command, strict, { scripts, commands, files }) {
  const words = command.split(/\s+/)
  while (/^[A-Z_]+=/.test(words[0])) words.shift()
  const [program, ...args] = words
  if (program === 'npm' && ['run', 'test'].includes(args[0])) {
    const script = args[0] === 'run' ? args[1] : 'test'
    return scripts.includes(script) ? undefined : `package.json has no script "${script}"`
  }
  if (program === 'npx' && args[0] === 'lima-runtime') {
    const unknown = args[1]?.split('|').find((name) => /^\w/.test(name) && !commands.includes(name))
    return unknown && `lima-runtime has no command "${unknown}"`
  }
  if (program === 'node' && /^\w.*\//.test(args[0] ?? ''))
    return files.has(args[0]) ? undefined : `${args[0]} does not exist`
  if (strict && !(program === 'npm' && args[0] === 'install')) return `"${command}" is a command that nothing checks`
}
