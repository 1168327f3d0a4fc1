import type { Progress } from '../index'
import { invokeAndWarn, json, progress } from './call'
import { native } from './native'

/** One component of one platform, as it is on the disk now. */
export interface BundledComponent {
  platform: string
  component: string
  version: string
  path: string
  source: string
  sha256: string
  /** The digest of the archive's contents, for the manifest. */
  contents?: string
  /** Bytes on the disk. */
  size: number
  /** False when a whole copy was there already. */
  downloaded: boolean
}

/** Downloads components into a directory that ships with an app, where `hasPreBundled()` finds them. */
export async function downloadBundle(bundle: object, p?: Progress): Promise<BundledComponent[]> {
  const { options, report } = progress(p)
  return JSON.parse(
    await invokeAndWarn(options, (call) => native.downloadBundle(json('options', bundle), report, call)),
  )
}
