import type * as runtime from 'lima-runtime'
import { type Check, flag, milliseconds, options as only, optional } from './check'
import type * as api from './main'

const OPTIONS = only({
  ...{ startOnLaunch: optional(flag), stopOnQuit: optional(flag), quitDeadlineMs: optional(milliseconds) },
} satisfies Record<keyof api.LifecycleOptions, Check>)

/** Documented in main.d.ts. */
export function manageLifecycle(
  app: api.App,
  powerMonitor: api.PowerMonitor,
  manager: runtime.ContainerManager,
  options: api.LifecycleOptions = {},
): api.Lifecycle {
  OPTIONS('options', options)
  const { startOnLaunch = true, stopOnQuit = true, quitDeadlineMs = 10_000 } = options
  let quit: 'no' | 'under way' | 'done' = 'no'

  const started = app.whenReady().then(async () => {
    if (!startOnLaunch || quit !== 'no') return false
    return manager.initialize().then(
      () => true,
      // Windows see the error in the manager's status; a first launch has nothing to start.
      () => false,
    )
  })

  const end = async () => {
    if (stopOnQuit) return manager.stop({ timeoutMs: quitDeadlineMs })
    manager.abort()
    await started
  }
  const onQuit = (event: { preventDefault(): void }) => {
    if (quit === 'done') return
    event.preventDefault()
    if (quit === 'under way') return
    quit = 'under way'
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, quitDeadlineMs)
    })
    // What does not stop in time is repaired by the next start.
    Promise.race([end().catch(() => {}), deadline]).then(() => {
      clearTimeout(timer)
      quit = 'done'
      app.quit()
    })
  }
  const onSuspend = () => manager.notifySuspend()
  const onResume = () => {
    manager.notifyResume().catch(() => {})
  }

  app.on('will-quit', onQuit)
  powerMonitor.on('suspend', onSuspend)
  powerMonitor.on('resume', onResume)
  return {
    started,
    dispose() {
      app.removeListener('will-quit', onQuit)
      powerMonitor.removeListener('suspend', onSuspend)
      powerMonitor.removeListener('resume', onResume)
    },
  }
}
