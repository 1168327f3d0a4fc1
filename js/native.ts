import { resolve } from 'node:path'
import { RuntimeError } from './errors'

type Bindings = typeof import('../dist/native')

export type {
  Adapter,
  BundledManager,
  ByteStream,
  CancelHandle,
  ItemStream,
  LimaManager,
  NativeProcess,
  Upload,
} from '../dist/native'

/** The published targets, by `process.platform` and `process.arch`; `scripts/targets.mjs` has the details. */
const TARGETS: Record<string, string> = {
  'darwin-arm64': 'darwin-arm64',
  'darwin-x64': 'darwin-x64',
  'linux-arm64': 'linux-arm64-gnu',
  'linux-x64': 'linux-x64-gnu',
  'win32-x64': 'win32-x64-msvc',
}

const MUSL =
  'lima-runtime needs glibc 2.17 or newer, and this Linux has musl (Alpine): use an image or system with glibc.'
const LOAD_HINTS: Record<string, string> = {
  darwin:
    'A hardened app loads only libraries signed by its own team: sign the .node file with the app, and keep it out of the asar archive (asarUnpack: ["**/*.node"]).',
  linux:
    'lima-runtime needs glibc 2.17 or newer, and the .node file outside of the asar archive (asarUnpack: ["**/*.node"]).',
  win32:
    'Keep the .node file out of the asar archive (asarUnpack: ["**/*.node"]), and see that no virus scanner holds it.',
}

/**
 * The addon: the file in LIMA_RUNTIME_NATIVE_PATH, else the one beside this file (a checkout), else the one in the
 * platform's own package. It must fit the process, not the machine: under Rosetta an x64 Electron loads the x64 addon,
 * and only what that installs depends on the hardware.
 */
export const native: Bindings = load()

function load(): Bindings {
  const override = process.env.LIMA_RUNTIME_NATIVE_PATH
  if (override)
    return (
      open(resolve(override)) ??
      missing(`LIMA_RUNTIME_NATIVE_PATH names ${override}, which is not there`, 'Correct or unset it.')
    )
  const target = TARGETS[`${process.platform}-${process.arch}`]
  if (target === undefined) throw unsupported(`${process.platform}-${process.arch}`)
  return open(`./lima-runtime.${target}.node`) ?? open(`lima-runtime-${target}`) ?? absent(target)
}

function open(path: string): Bindings | undefined {
  try {
    return require(path)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'MODULE_NOT_FOUND') return undefined
    throw new RuntimeError(
      'UNSUPPORTED_PLATFORM',
      `The native part of lima-runtime is there but does not load: ${message}`,
      {
        hint: isMusl() ? MUSL : LOAD_HINTS[process.platform],
        details: { path: require.resolve(path) },
        cause: error,
      },
    )
  }
}

function unsupported(platform: string): RuntimeError {
  return new RuntimeError('UNSUPPORTED_PLATFORM', `lima-runtime is not built for ${platform}`, {
    hint: `It runs on ${Object.keys(TARGETS).join(', ')}. Do without it here, or have LIMA_RUNTIME_NATIVE_PATH name an addon you built.`,
  })
}

/** The platform is supported, but its package is missing: say which of the known causes it is. */
function absent(target: string): never {
  if (isMusl())
    throw new RuntimeError('UNSUPPORTED_PLATFORM', `lima-runtime is not built for ${target.replace('gnu', 'musl')}`, {
      hint: MUSL,
    })
  const name = `lima-runtime-${target}`
  const other = Object.values(TARGETS).find(
    (other) => other !== target && resolved(`lima-runtime-${other}/package.json`),
  )
  if (other) {
    missing(
      `${name} is not installed, but lima-runtime-${other} is: node_modules comes from another machine, or from a Node of another architecture`,
      `Install with the Node that runs it, or add this platform: npm install --os=${process.platform} --cpu=${process.arch}. ` +
        'A universal macOS app needs both darwin packages.',
    )
  }
  const packaged = __dirname.includes('app.asar')
  missing(
    `${name}, the native part of lima-runtime, is not installed`,
    packaged
      ? `The packaged app lacks it: keep lima-runtime external to the bundler, ship node_modules/${name} with the app, and unpack it (asarUnpack: ["**/*.node"]).`
      : 'It is an optional dependency: delete node_modules and the lock file and run npm install again, without --omit=optional ' +
          'or --no-optional (npm may leave it out of a lock file made on another platform: https://github.com/npm/cli/issues/4828).',
  )
}

/** Electron's directory of what an application ships, which only JavaScript knows. */
export const { resourcesPath } = process as { resourcesPath?: string }

function missing(message: string, hint: string): never {
  throw new RuntimeError('NOT_INSTALLED', message, { hint })
}

function resolved(request: string): string | undefined {
  try {
    return require.resolve(request)
  } catch {
    return undefined
  }
}

function isMusl(): boolean {
  if (process.platform !== 'linux') return false
  const report = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  return report.header.glibcVersionRuntime === undefined
}
