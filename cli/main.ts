import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type ParseArgsConfig, parseArgs } from 'node:util'
import type { DiagnosticCheck, LimaRuntimeManager as Manager, RuntimeErrorCode } from '../index'
import { downloadBundle } from '../js/bundle'
import { RuntimeError } from '../js/errors'
import { LimaRuntimeManager } from '../js/lima'
import { version } from '../package.json'
import { examine } from './doctor'
import { bytes, json, plain, Screen } from './output'
import { COMMAND_HELP, HELP } from './usage'

const COMMON = { json: { type: 'boolean' }, quiet: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } as const
const SOURCES = { mirror: { type: 'string' }, manifest: { type: 'string' } } as const
const VERSION = { 'lima-version': { type: 'string' } } as const
const PLACE = {
  'app-name': { type: 'string' },
  'app-dir': { type: 'string' },
  'data-dir': { type: 'string' },
  'bundled-dir': { type: 'string' },
} as const
const OPTIONS = {
  download: {
    ...COMMON,
    ...SOURCES,
    ...VERSION,
    'nerdctl-version': { type: 'string' },
    'image-variant': { type: 'string' },
    'current-platform': { type: 'boolean' },
    platform: { type: 'string', multiple: true },
    all: { type: 'boolean' },
    component: { type: 'string', multiple: true },
    out: { type: 'string' },
  },
  install: { ...COMMON, ...SOURCES, ...VERSION, ...PLACE, repair: { type: 'boolean' } },
  bake: {
    ...COMMON,
    ...SOURCES,
    ...VERSION,
    'nerdctl-version': { type: 'string' },
    'docker-version': { type: 'string' },
    'image-variant': { type: 'string' },
    engine: { type: 'string' },
    'data-dir': { type: 'string' },
    out: { type: 'string' },
    url: { type: 'string' },
  },
  status: { ...COMMON, ...PLACE },
  doctor: { ...COMMON, ...PLACE, engine: { type: 'string' } },
} as const

type Command = keyof typeof OPTIONS
type Values = Record<string, string | boolean | string[] | undefined>

/** Users' scripts depend on these; the help text lists them. */
const EXIT = { ok: 0, failed: 1, usage: 2, untrusted: 3 }
const EXIT_OF: Partial<Record<RuntimeErrorCode, number>> = {
  INVALID_ARGUMENT: EXIT.usage,
  CHECKSUM_MISMATCH: EXIT.untrusted,
  ARCHIVE_UNSAFE: EXIT.untrusted,
}
/** At the terminal's end, too: a VM would outlive us. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const

class UsageError extends Error {}

interface Context {
  values: Values
  screen: Screen
  signal: AbortSignal
  /** Prints the command's result: as JSON when asked for, else as these lines. */
  print(result: unknown, lines: string[]): void
}

const COMMANDS: Record<Command, (context: Context) => Promise<number>> = { download, install, bake, status, doctor }

async function download({ values, screen, signal, print }: Context): Promise<number> {
  const platforms = strings(values.platform)
  if (values.all && (platforms.length > 0 || values['current-platform'])) {
    throw new UsageError('--all stands alone: leave out --platform and --current-platform')
  }
  // No platform means this machine's, which the core knows better: an x64 Node on Apple silicon needs arm64 programs.
  if (values['current-platform'] && platforms.length > 0) {
    throw new UsageError('--current-platform stands alone: leave out --platform')
  }
  const options = {
    platforms: values.all ? ['all'] : platforms,
    components: values.component,
    out: values.out,
    mirror: values.mirror,
    manifest: values.manifest,
    versions: { lima: values['lima-version'], nerdctl: values['nerdctl-version'] },
    imageVariant: values['image-variant'],
  }
  const bundle = await downloadBundle(options, { signal, onProgress: screen.progress })
  print(
    bundle,
    bundle.map((c) => {
      const how = c.downloaded ? 'downloaded' : 'already there'
      return `${c.platform}  ${c.component} ${c.version}  ${bytes(c.size)} in ${c.path}  (${how})`
    }),
  )
  return EXIT.ok
}

async function install({ values, screen, signal, print }: Context): Promise<number> {
  const manager = managerOf(values)
  await manager.install({ signal, onProgress: screen.progress, repair: values.repair === true })
  print({ installed: true, limactl: manager.getLimactlPath() }, [`Installed: ${manager.getLimactlPath()}`])
  return EXIT.ok
}

async function bake({ values, screen, signal, print }: Context): Promise<number> {
  const { out, url } = values
  if (typeof out !== 'string') throw new UsageError('--out is missing: the file to write')
  const given = values['data-dir'] as string | undefined
  // Wrong options are refused before anything is made.
  managerOf(values)
  // The names of Lima's sockets have to fit behind it; on a Mac the temporary directory's own name is too long.
  const dataDir = given ?? (await mkdtemp(join('/tmp', 'lr-bake-')))
  const manager = managerOf({ ...values, 'data-dir': dataDir })
  signal.addEventListener('abort', () => screen.note(`Removing the VM in ${dataDir}. Another signal leaves it there.`))
  try {
    const image = await manager.bake({
      output: out,
      url: url as string | undefined,
      signal,
      onProgress: screen.progress,
    })
    print(image, [
      `${image.path}  ${bytes(image.size)}`,
      `sha256    ${image.sha256}`,
      `engine    ${image.engine.part} ${image.engine.version}`,
      ...(image.manifest ? [`manifest  ${image.manifest}`] : []),
    ])
    return EXIT.ok
  } finally {
    // What a VM that could not be removed still writes to, stays.
    const { state } = await manager.getStatus().catch(() => ({ state: 'unknown' }))
    const gone = state === 'not-created' || state === 'not-installed'
    if (given === undefined) {
      if (gone) await rm(dataDir, { recursive: true, force: true })
      else screen.line(`The VM is left in ${dataDir}: there, bin/limactl deletes it with LIMA_HOME=${dataDir}/vms.`)
    }
  }
}

async function status({ values, signal, print }: Context): Promise<number> {
  const manager = managerOf(values)
  const [installed, preBundled] = await Promise.all([
    manager.isInstalled({ signal }),
    manager.hasPreBundled({ signal }),
  ])
  const paths = {
    limactl: manager.getLimactlPath(),
    lima: manager.getLimaPath(),
    nerdctl: manager.getNerdctlPath(),
    containerdSocket: manager.getContainerdSocketPath(),
  }
  const yes = (value: boolean) => (value ? 'yes' : 'no')
  print({ installed, preBundled, paths }, [
    `installed    ${yes(installed)}`,
    `pre-bundled  ${yes(preBundled)}`,
    ...Object.entries(paths).map(([name, path]) => `${name.padEnd(16)} ${path}`),
  ])
  return installed || preBundled ? EXIT.ok : EXIT.failed
}

async function doctor({ values, signal, print }: Context): Promise<number> {
  const checks = await examine(managerOf(values), signal)
  const line = ({ status, title, detail, hint }: DiagnosticCheck) => [
    `${status.padEnd(7)}  ${title}: ${detail}`,
    ...(hint ? [`         ${hint}`] : []),
  ]
  print(checks, checks.flatMap(line))
  return checks.some((c) => c.status === 'fail') ? EXIT.failed : EXIT.ok
}

function managerOf(values: Values): Manager {
  const named = {
    appName: values['app-name'],
    appDir: values['app-dir'],
    dataDir: values['data-dir'],
    bundledDir: values['bundled-dir'],
    mirror: values.mirror,
    manifest: values.manifest,
    imageVariant: values['image-variant'],
    engine: values.engine,
    versions: given({
      lima: values['lima-version'],
      nerdctl: values['nerdctl-version'],
      docker: values['docker-version'],
    }),
  }
  return new LimaRuntimeManager(given(named))
}

function given(values: Values | Record<string, unknown>): Record<string, unknown> | undefined {
  const entries = Object.entries(values).filter(([, value]) => value !== undefined)
  return entries.length > 0 ? Object.fromEntries(entries) : undefined
}

function strings(value: Values[string]): string[] {
  return Array.isArray(value) ? [...value] : []
}

async function main(argv: string[]): Promise<number> {
  const [first, ...rest] = argv
  if (first === '--version' || first === '-v') return say(version)
  if (first === undefined) throw new UsageError('a command is missing')
  if (['--help', '-h', 'help'].includes(first)) return say(HELP)
  if (!Object.hasOwn(OPTIONS, first)) throw new UsageError(`there is no command ${JSON.stringify(first)}`)
  const command = first as Command
  const values: Values = parse(command, rest)
  if (values.help) return say(COMMAND_HELP[command])

  const screen = new Screen(values.quiet === true)
  const print = (result: unknown, lines: string[]) => {
    screen.clear()
    say(values.json ? json(result) : lines.map(plain).join('\n'))
  }
  const controller = new AbortController()
  let ended: keyof typeof SIGNALS | undefined
  // When the terminal is gone, what is to be tidied goes on; a result that cannot be written is a failure.
  process.stderr.on('error', () => {})
  process.stdout.on('error', (error) => {
    if (!ended) throw error
  })
  for (const name of Object.keys(SIGNALS) as (keyof typeof SIGNALS)[]) {
    process.on(name, () => {
      // The second signal ends at once; but a terminal that is closed sends two, its shell's and its own.
      if (ended && name !== 'SIGHUP') process.exit(SIGNALS[name])
      ended ??= name
      controller.abort(new Error(name))
    })
  }
  try {
    return await COMMANDS[command]({ values, screen, signal: controller.signal, print })
  } catch (error) {
    if (!(error instanceof RuntimeError)) throw error
    const { code, message, hint, details } = error
    screen.clear()
    if (values.json) say(json({ error: { code, message, hint, details } }))
    screen.line(`${ended ? 'Interrupted' : 'Failed'}: ${message} [${code}]`)
    const keeps = command !== 'bake' || values['data-dir'] !== undefined
    if (ended && keeps) screen.note('What was fetched is kept: the same command goes on from there.')
    if (details.vmLeft) screen.line(`The VM could not be removed: ${details.vmLeft}`)
    if (hint && !ended) screen.line(hint)
    return ended ? SIGNALS[ended] : (EXIT_OF[code] ?? EXIT.failed)
  }
}

function parse(command: Command, args: string[]): Values {
  try {
    const options: ParseArgsConfig['options'] = OPTIONS[command]
    return parseArgs({ args, options, strict: true }).values as Values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function say(text: string): number {
  if (text !== '') process.stdout.write(`${text}\n`)
  return EXIT.ok
}

main(process.argv.slice(2)).then(
  // Not process.exit(), so that output written to a pipe arrives.
  (code) => {
    process.exitCode = code
  },
  (error) => {
    if (error instanceof UsageError) {
      process.stderr.write(`lima-runtime: ${error.message}\nSee: lima-runtime --help\n`)
      process.exitCode = EXIT.usage
      return
    }
    process.stderr.write(`${error?.stack ?? error}\n`)
    process.exitCode = EXIT.failed
  },
)
