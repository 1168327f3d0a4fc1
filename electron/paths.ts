// The real path of a path of this computer: the app is asked about it, and it is mounted.
import { lstat, realpath } from 'node:fs/promises'
import { posix, win32 } from 'node:path'
import { Refused } from './check'

/** The path without `.` and `..`, by text alone; `undefined` when it is not absolute. */
export function absolute(path: string, platform: NodeJS.Platform = process.platform): string | undefined {
  if (path.includes('\0')) return undefined
  if (platform !== 'win32') return path.startsWith('/') ? posix.normalize(path) : undefined
  const clean = win32.normalize(path)
  // A drive or a share. Not `C:x` or `\x`, which depend on the working directory, nor a device (`\\.\`, `\\?\`); and no
  // second colon, which names a stream.
  const [drive, share] = [/^[A-Za-z]:\\/.test(clean), /^\\\\[^\\?.][^\\]*\\[^\\]+/.test(clean)]
  return (drive || share) && !clean.slice(2).includes(':') ? clean : undefined
}

/** Means the engine's own API socket, wherever that listens: what this computer has there says nothing of it. */
const ENGINE_SOCKET = '/var/run/docker.sock'
/** Its names; a Mac's `/var` is a link. */
const NAMES = [ENGINE_SOCKET, '/run/docker.sock', '/private/var/run/docker.sock']

const isEngineSocket = (path: string) => NAMES.includes(posix.normalize(path).replace(/\/$/, ''))

/**
 * The path with all links followed, and the engine's socket by one name; `undefined` when it cannot be known. A missing part
 * is where it would be created. (An engine on another machine has its own links, which we cannot follow.)
 */
export async function realPath(field: string, path: string): Promise<string | undefined> {
  const { dirname, basename, join } = process.platform === 'win32' ? win32 : posix
  if (isEngineSocket(path)) return ENGINE_SOCKET
  const clean = absolute(path)
  if (clean === undefined) {
    const problem = `${field}: is neither an absolute path nor a volume`
    throw new Refused('INVALID_ARGUMENT', problem, undefined, { field })
  }
  const missing: string[] = []
  for (let head = clean; ; head = dirname(head)) {
    const found = await realpath(head).then(
      (real) => ({ real }),
      ({ code }) => ({ code }),
    )
    if ('real' in found) {
      const real = join(found.real, ...missing)
      return isEngineSocket(real) ? ENGINE_SOCKET : real
    }
    // Missing, or a dangling link, whose target somebody else may create.
    const absent = found.code === 'ENOENT' && (await lstat(head).catch(({ code }) => code)) === 'ENOENT'
    if (!absent || dirname(head) === head) return undefined
    missing.unshift(basename(head))
  }
}
