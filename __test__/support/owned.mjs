// Directories that say in their name which process they belong to: nothing has to be written before a crash can be
// cleaned up after.
import { mkdtempSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { startTime } from './process.mjs'

// Not the environment's temporary directory: the path of a socket holds 104 bytes, and containerd's is deep.
const PARENT = '/tmp'

/** Makes a new empty directory of this process. */
export function makeOwned(kind) {
  return mkdtempSync(join(PARENT, `lima-runtime-${kind}-${process.pid}-${startTime(process.pid)}-`))
}

/** The directories of a kind whose process is gone. */
export function orphans(kind) {
  const pattern = new RegExp(`^lima-runtime-${kind}-(\\d+)-(\\d+)-\\w+$`)
  return readdirSync(PARENT)
    .filter((name) => {
      const [, pid, started] = pattern.exec(name) ?? []
      return pid && startTime(Number(pid)) !== started
    })
    .map((name) => join(PARENT, name))
}
