// Compiling is the test: what electron/*.d.ts says is what its sources are, and a page can use it as said.
import type { ContainerInfo } from 'lima-runtime'
import type * as main from 'lima-runtime/electron/main'
import type * as preload from 'lima-runtime/electron/preload'
import * as mainSource from '../../electron/main-entry'
import * as preloadSource from '../../electron/preload-entry'

export const mains: Pick<typeof main, keyof typeof mainSource> = mainSource
export const preloads: Pick<typeof preload, keyof typeof preloadSource> = preloadSource

export async function page(kai: preload.RuntimeApi): Promise<ContainerInfo[]> {
  await kai.runtime.start({ onProgress: ({ percent }) => percent, onCancel: (cancel) => cancel(), timeoutMs: 1 })
  const close = await kai.runtime.on('state', ({ state, error }) => [state, error?.code, error?.hint])
  close()
  const end = await kai.container.logs(
    'web',
    { follow: true },
    (text) => text.length,
    (error) => error?.details.path,
  )
  end()
  // @ts-expect-error not for windows
  kai.image.load
  // @ts-expect-error not for windows
  kai.runtime.uninstall
  // @ts-expect-error no such event
  kai.runtime.on('quit', () => {})
  return kai.container.list({ all: true })
}
