// Checks an addon file before it ships, from the file alone.
import { execFileSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { machoProblems } from './macho.mjs'
import { root } from './run.mjs'
import { CACHE } from './rust-src.mjs'
import { GLIBC, MACOS } from './targets.mjs'

const REGISTER = 'napi_register_module_v1'
// Only glibc's own libraries and gcc's unwinder; everything else is linked in.
const LINUX_LIBRARIES = /^(libc|libm|libdl|libpthread|librt|libgcc_s|ld-linux-[\w-]+)\.so\.\d+$/
// Libraries that every Windows 10 has. Node's own functions are looked up at load, whatever the program's name.
const WINDOWS_LIBRARIES =
  /^(kernel32|ntdll|advapi32|ws2_32|bcrypt|bcryptprimitives|crypt32|secur32|userenv|ole32|shell32|msvcrt|ucrtbase|combase|iphlpapi|winhttp|api-ms-win-[\w-]+)\.dll$/i

/** `{ facts, problems }` of the addon at `path`, built for `target`: a row of targets.mjs. */
export function addonProblems(target, path) {
  const { facts, problems } = FORMATS[target.os](target, path)
  const text = readFileSync(path)
  for (const directory of new Set([root, homedir(), CACHE, tmpdir()])) {
    // With the slash: "/root" also ends a path of /proc. A home of "/" says nothing about a machine.
    const private_ = `${directory}/`
    if (directory.length > 1 && text.includes(private_))
      problems.push(`names ${private_}, a path of the machine it was built on`)
  }
  return { facts: [`${(statSync(path).size / 1e6).toFixed(1)} MB`, ...facts], problems }
}

const FORMATS = {
  darwin(target, path) {
    const { report, problems } = machoProblems(path, { cpu: target.cpu, minimum: MACOS, exported: `_${REGISTER}` })
    const { signature } = report
    const signed = signature
      ? `${signature.adHoc ? 'ad-hoc ' : ''}signature right for ${signature.pages - signature.wrong.length} of ${signature.pages} pages`
      : 'unsigned'
    return { facts: [`macOS ${report.minimum}`, `links ${report.libraries.map(base).join(' ')}`, signed], problems }
  },

  linux(_target, path) {
    const libraries = all(tool('readelf', '-dW', path), /\(NEEDED\).*\[(.+)\]/g)
    const glibc = all(tool('readelf', '-VW', path), /\bGLIBC_([\d.]+)/g)
      .sort(byVersion)
      .at(-1)
    const problems = libraries.filter((name) => !LINUX_LIBRARIES.test(name)).map((name) => `links ${name}`)
    if (byVersion(glibc, GLIBC) > 0) problems.push(`asks for glibc ${glibc}, not ${GLIBC}`)
    if (!tool('readelf', '--dyn-syms', '-W', path).includes(` ${REGISTER}\n`))
      problems.push(`does not export ${REGISTER}`)
    return { facts: [`glibc ${glibc}`, `links ${libraries.join(' ')}`], problems }
  },

  win32(_target, path) {
    const dump = tool('objdump', '-p', path)
    const libraries = all(dump, /^\s*DLL Name: (\S+)/gm)
    const problems = libraries.filter((name) => !WINDOWS_LIBRARIES.test(name)).map((name) => `links ${name}`)
    if (!dump.includes(` ${REGISTER}`)) problems.push(`does not export ${REGISTER}`)
    return { facts: [`links ${libraries.join(' ')}`], problems }
  },
}

const all = (text, pattern) => [...text.matchAll(pattern)].map((match) => match[1])
const base = (path) => path.split('/').at(-1)
const byVersion = (a, b) => a.localeCompare(b, 'en', { numeric: true })

function tool(program, ...args) {
  return execFileSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 28, env: { ...process.env, LC_ALL: 'C' } })
}
