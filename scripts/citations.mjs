// Checks what comments and pages cite: headings of docs/reference and tests must exist, and notes from outside the
// repository must not be cited.
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path/posix'

/** Notes from outside the repository, in the forms in which they have been cited. */
const OUTSIDE = [
  /\u00a7/,
  /\b[a-z]+-(?:contract|trial|practice)\b/,
  /\bDESIGN\b/,
  /\b[Pp]itfalls? \d/,
  /\btranscripts?\b/,
]
/** Written by others, or by programs. */
const FOREIGN = /(?:^|\/)(?:LICENSE|package-lock\.json|Cargo\.lock)$|^proto\/|\/proto\//

/** The anchors that GitHub gives a page's headings. */
export function anchors(page) {
  const found = new Map()
  for (const [, title] of page.replaceAll(/^```.*?^```/gms, '').matchAll(/^#+ +(.+)$/gm)) {
    const anchor = title
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, '')
      .replaceAll(' ', '-')
    const times = found.get(anchor) ?? 0
    found.set(anchor, times + 1)
    if (times > 0) found.set(`${anchor}-${times}`, 1)
  }
  return new Set(found.keys())
}

/** `path:line: what is wrong` for each; `files` maps every path of the repository to its text. */
export function citationProblems(files) {
  const known = new Map()
  const has = (path, anchor) => {
    if (!known.has(path)) known.set(path, anchors(files.get(path)))
    return known.get(path).has(anchor)
  }
  const exists = (path) => files.has(path) || [...files.keys()].some((file) => file.startsWith(`${path}/`))
  const wrong = (path, anchor) => {
    if (!exists(path)) return `${path} does not exist`
    if (anchor && path.endsWith('.md') && !has(path, anchor)) return `${path} has no heading #${anchor}`
  }
  const problems = []
  for (const [file, text] of files) {
    if (FOREIGN.test(file)) continue
    const markdown = file.endsWith('.md')
    for (const [index, line] of text.split('\n').entries()) {
      const say = (problem) => problem && problems.push(`${file}:${index + 1}: ${problem}`)
      const link = /\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)/g
      if (markdown) {
        for (const [, path, anchor] of line.matchAll(link)) say(wrong(path ? join(dirname(file), path) : file, anchor))
      }
      if (file === THREATS) {
        const [, ...named] = line.split('](')
        for (const rest of named) {
          const [path, ...row] = rest.split(')')
          const target = join(dirname(file), path)
          if (files.has(target)) testProblems(row.join(')'), target, files.get(target)).forEach(say)
        }
      }
      // Elsewhere than in a page's links, a path begins at the top of the repository.
      const words = markdown ? line.replaceAll(link, ']') : line
      for (const [, path, anchor] of words.matchAll(/(docs\/reference\/[\w.-]*\w)(?:#([\w-]+))?/g))
        say(wrong(path, anchor))
      for (const [, path, anchor] of words.matchAll(/(?<![\w/.-])([\w-]+\.md)#([\w-]+)/g)) say(wrong(path, anchor))
      const [notes] = OUTSIDE.flatMap((form) => line.match(form) ?? [])
      say(notes && `"${notes}" is nothing in this repository; docs/reference has the facts`)
    }
  }
  return problems
}

/** The page whose every row names the tests that hold it. */
const THREATS = 'docs/threat-model.md'

/** The tests named after a link to a test file, up to the next link: titles in quotes, and functions. */
function testProblems(row, file, text) {
  const problems = []
  for (const [, title] of row.matchAll(/"([^"]+)"/g)) {
    const quoted = [`'${title.replaceAll("'", "\\'")}'`, `"${title}"`, `\`${title}\``]
    if (!quoted.some((name) => text.includes(`(${name}`))) problems.push(`${file} has no test "${title}"`)
  }
  for (const [, name] of row.matchAll(/`([a-z0-9_]+)`/g)) {
    if (file.endsWith('.rs') && !text.includes(`fn ${name}(`)) problems.push(`${file} has no test ${name}`)
  }
  return problems
}

/** The repository's files with their text; nothing for one that is not text. */
export function repositoryFiles(root, names) {
  const read = (name) => {
    const text = readFileSync(join(root, name), 'utf8')
    return text.includes('\0') ? '' : text
  }
  return new Map(names.map((name) => [name, read(name)]))
}
