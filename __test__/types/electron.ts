// Compiling is the test: what electron/*.d.ts says is what its sources are, and a page can use it as said.
import type { ContainerInfo } from 'lima-runtime'
import type * as main from 'lima-runtime/electron/main'
import type * as preload from 'lima-runtime/electron/preload'
import * as mainSource from '../../electron/main-entry'
import * as preloadSource from '../../electron/preload-entry'

export const mains: Pick<typeof main, keyof typeof mainSource> = mainSource
/** Each of the permissions. */
export const allow: Required<main.Allow> = {
  sender: ({ senderFrame }) => senderFrame?.url === 'app://page',
  hostPath: ({ path, readOnly, config, event }) => readOnly && [path, config.name, event.sender].length === 3,
  powers: ({ powers, config }) => powers.length === 0 && config.privileged !== true,
  copy: ({ direction, path, container, name, containerPath }) =>
    direction === 'in' && [path, container, name, containerPath].length === 4,
  build: ({ directory, options }) => directory === '/app' && options.tags?.[0] === 'me/app:1',
  compose: ({ action, project, options }) => action === 'ps' && project === '/app/compose.yaml' && !options.volumes,
  exec: async ({ container, name, argv, options }) => [container, name, ...argv, options.user].length > 0,
  publish: ({ address, hostPort, containerPort }) => `${address}:${hostPort}:${containerPort}` !== '',
  credentials: ({ image }) => image.startsWith('registry.example.com/'),
  download: ({ runtime }) => runtime === 'lima',
  useImage: ({ action, image }) => action === 'pull' && image !== '',
  images: ({ action, image, target }) => action === 'list' && image === target,
  foreign: ({ method }) => method === 'container.list',
  diagnostics: ({ event }) => event.senderFrame !== null,
}
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
  const { raw } = await kai.container.details('web')
  const places: (string | undefined)[] = (await kai.volume.list()).map(({ mountpoint }) => mountpoint)
  places.push(typeof raw)
  // @ts-expect-error not for windows
  kai.image.load
  // @ts-expect-error not for windows
  kai.runtime.uninstall
  // @ts-expect-error no such event
  kai.runtime.on('quit', () => {})
  return kai.container.list({ all: true })
}
