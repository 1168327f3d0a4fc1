import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const dirs = new Set()

/** A new empty directory, removed when this process exits, or is stopped by a signal. */
export function tempDir(name = 'test') {
  if (dirs.size === 0) {
    process.on('exit', () => {
      for (const dir of dirs) rmSync(dir, { recursive: true, force: true })
    })
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))
  }
  const dir = mkdtempSync(join(tmpdir(), `lima-runtime-${name}-`))
  dirs.add(dir)
  return dir
}
