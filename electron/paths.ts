// What a path of this computer really is: that is what the app is asked about, and what is mounted.
import { lstat, realpath } from 'node:fs/promises'
import { posix, win32 } from 'node:path'
import { Refused } from './check'

/** A path without `.` and `..`, by the letters; `undefined` for what is none that stands alone. */
export function absolute(path: string, platform: NodeJS.Platform = process.platform): string | undefined {
  if (path.includes('\0')) return undefined
  if (platform !== 'win32') return path.startsWith('/') ? posix.normalize(path) : undefined
  const clean = win32.normalize(path)
  // A drive or a share. Not `C:x` and `\x`, which depend on where the process is, nor a device (`\\.\`, `\\?\`); and no
  // colon behind the drive's: it begins the name of a stream.
  const [drive, share] = [/^[A-Za-z]:\\/.test(clean), /^\\\\[^\\?.][^\\]*\\[^\\]+/.test(clean)]
  return (drive || share) && !clean.slice(2).includes(':') ? clean : undefined
}

/**
 * Where it leads once all links are followed; `undefined` where nobody can say. What is not there yet is where it would be
 * made. (An engine on another machine has links of its own, which nobody here can follow.)
 */
export async function realPath(field: string, path: string): Promise<string | undefined> {
  const { dirname, basename, join } = process.platform === 'win32' ? win32 : posix
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
    if ('real' in found) return join(found.real, ...missing)
    // Absent, or a link to nothing: what comes to be there is another's to say.
    const absent = found.code === 'ENOENT' && (await lstat(head).catch(({ code }) => code)) === 'ENOENT'
    if (!absent || dirname(head) === head) return undefined
    missing.unshift(basename(head))
  }
}
