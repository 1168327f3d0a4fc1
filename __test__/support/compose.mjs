// Docker's compose for the tests: the user's own, or the one that a variable names. Debian has only the first version, which is
// another program.
import { accessSync, constants, mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { tempDir } from './tempdir.mjs'

/** A docker-compose of version 2.29 or later. */
const COMPOSE_VARIABLE = 'LIMA_RUNTIME_TEST_COMPOSE'

/** Why there is none, or undefined. */
function noCompose() {
  if (process.env[COMPOSE_VARIABLE]) return undefined
  const dirs = ['lib', 'libexec'].flatMap((lib) => [`/usr/${lib}`, `/usr/local/${lib}`])
  const found = dirs.some((dir) => isProgram(join(dir, 'docker/cli-plugins/docker-compose')))
  return found ? undefined : `no docker compose; ${COMPOSE_VARIABLE} names a docker-compose of version 2.29 or later`
}

/** What a release server hands out for an engine of ours: the program itself, or undefined. */
export function composeProgram() {
  const given = process.env[COMPOSE_VARIABLE]
  return given && readFileSync(given)
}

/** Why there is none to be brought into a guest, or undefined. */
export const noComposeToBring = () =>
  process.env[COMPOSE_VARIABLE] ? undefined : `${COMPOSE_VARIABLE} names no docker-compose to be brought there`

/** The rows of a Docker in a guest, where compose is brought. */
export function broughtComposeDiffers() {
  const none = noComposeToBring()
  const rows = none ? { compose: none, composeSecrets: none, composeHealth: none } : {}
  return { ...rows, noCompose: 'docker compose is brought there' }
}

/** The rows of Docker's backends, of which the tests are skipped. */
export function composeDiffers() {
  const none = noCompose()
  return none
    ? { compose: none, composeSecrets: none, composeHealth: none }
    : { noCompose: 'there is a docker compose' }
}

function isProgram(path) {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** A directory of settings of the docker CLI's, whose plugin is the one that the variable names; without it where one is `brought`. */
export function dockerConfig({ brought = false } = {}) {
  const dir = tempDir('docker-config')
  mkdirSync(join(dir, 'cli-plugins'))
  const given = !brought && process.env[COMPOSE_VARIABLE]
  if (given) symlinkSync(given, join(dir, 'cli-plugins/docker-compose'))
  return dir
}
