// Writes the part of Apple's SDK that the darwin link needs beyond zig's libSystem: text stubs (.tbd, version 4) that tell
// which library a symbol will come from. They are made from the names our own dependencies declare; no file of Apple's is
// involved.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const framework = (name) => ({
  stub: `System/Library/Frameworks/${name}.framework/${name}.tbd`,
  installName: `/System/Library/Frameworks/${name}.framework/Versions/A/${name}`,
})

// Apple prefixes every name with its framework's, so the name, not the declaring crate, tells where a symbol lives.
const LIBRARIES = [
  { ...framework('CoreFoundation'), symbols: /^(k?CF|__CF)[A-Z]/ },
  { ...framework('Security'), symbols: /^(k?Sec|k?SSL|CMS|Authorization|kAuthorization)[A-Z]?/ },
  { ...framework('SystemConfiguration'), symbols: /^k?SC[A-Z]/ },
  {
    stub: 'usr/lib/libiconv.tbd',
    installName: '/usr/lib/libiconv.2.dylib',
    symbols: /^iconv(_open|_close)?$/,
    always: ['iconv', 'iconv_open', 'iconv_close'],
  },
]

/** Writes an SDK root into `directory` that links this project for `triple`. */
export function writeMacosStubs(directory, root, triple) {
  const declared = declaredSymbols(root, triple)
  for (const { stub, installName, symbols, always = [] } of LIBRARIES) {
    const names = [...new Set([...always, ...declared.filter((name) => symbols.test(name))])].sort()
    const path = join(directory, stub)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(
      path,
      [
        '--- !tapi-tbd',
        'tbd-version: 4',
        'targets: [ x86_64-macos, arm64-macos ]',
        `install-name: '${installName}'`,
        'exports:',
        '  - targets: [ x86_64-macos, arm64-macos ]',
        `    symbols: [ ${names.map((name) => `'_${name}'`).join(', ')} ]`,
        '...',
        '',
      ].join('\n'),
    )
  }
}

/** The names in `extern "C"` blocks of the crates that bind to macOS. */
function declaredSymbols(root, triple) {
  const metadata = JSON.parse(
    execFileSync('cargo', ['metadata', '--format-version=1', '--locked', '--filter-platform', triple], {
      cwd: root,
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    }),
  )
  const used = new Set(metadata.resolve.nodes.map((node) => node.id))
  const bindings = metadata.packages.filter(
    (p) =>
      used.has(p.id) && /^(core-foundation|security-framework|system-configuration|objc2?|iana-time-zone)/.test(p.name),
  )
  const names = new Set()
  for (const { manifest_path } of bindings) {
    const source = join(dirname(manifest_path), 'src')
    for (const file of readdirSync(source, { recursive: true }).filter((name) => name.endsWith('.rs'))) {
      const text = readFileSync(join(source, file), 'utf8')
      for (const block of text.matchAll(/extern\s+"C(?:-unwind)?"\s*\{([^}]*)\}/g)) {
        for (const item of block[1].matchAll(/\b(?:fn|static(?:\s+mut)?)\s+(\w+)\s*[(:]/g)) names.add(item[1])
      }
    }
  }
  return [...names]
}
