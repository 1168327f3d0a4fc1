import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { DiagnosticCheck, LimaRuntimeManager } from '../index'
import { DockerAdapter } from '../js/adapter'
import type { RuntimeError } from '../js/errors'

/** Only reads. Every check runs, whatever the others find. */
export async function examine(manager: LimaRuntimeManager, signal: AbortSignal): Promise<DiagnosticCheck[]> {
  const dataDir = dirname(dirname(manager.getLimactlPath()))
  const vm = manager.diagnose({ signal }).catch(({ code, message, hint = '' }: RuntimeError): DiagnosticCheck[] => {
    const status = code === 'UNSUPPORTED_PLATFORM' ? 'skipped' : 'fail'
    return [{ id: 'lima', title: 'Lima', status, detail: message, hint }]
  })
  const [directory, checks, engine] = await Promise.all([writable(dataDir), vm, docker(signal)])
  return [directory, ...checks, engine]
}

async function nearestExisting(dir: string): Promise<string> {
  for (let at = dir; ; at = dirname(at)) {
    if (at === dirname(at)) return at
    try {
      await access(at)
      return at
    } catch (error) {
      if (!['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return at
    }
  }
}

async function writable(dataDir: string): Promise<DiagnosticCheck> {
  const check = { id: 'directory', title: 'Data directory' }
  const existing = await nearestExisting(dataDir)
  try {
    await access(`${existing}/.`, constants.W_OK | constants.X_OK)
    return { ...check, status: 'ok', detail: existing === dataDir ? dataDir : `${dataDir} (will be made)` }
  } catch {
    const hint = 'Change its owner or mode, or choose another with --data-dir.'
    return { ...check, status: 'fail', detail: `${existing} cannot be written`, hint }
  }
}

async function docker(signal: AbortSignal): Promise<DiagnosticCheck> {
  const check = { id: 'docker', title: 'Docker' }
  const reachable = await new DockerAdapter().isAvailable({ signal, timeoutMs: 2000 }).catch(() => false)
  return reachable
    ? { ...check, status: 'ok', detail: 'answers' }
    : { ...check, status: 'skipped', detail: 'does not answer; it is not needed' }
}
