// An app that starts its runtime with itself, and quits when it is told to.
import { EventEmitter } from 'node:events'
import { ContainerManager } from 'lima-runtime'
import { manageLifecycle } from 'lima-runtime/electron/main'

const [, , host, appDir, deadline] = process.argv
const app = Object.assign(new EventEmitter(), {
  whenReady: async () => {},
  quit() {
    let prevented = false
    app.emit('will-quit', { preventDefault: () => (prevented = true) })
    if (!prevented) process.exit(0)
  },
})
const manager = new ContainerManager({ appDir, docker: { host } })
manager.on('state', ({ state }) => process.send(state))
manageLifecycle(app, new EventEmitter(), manager, { quitDeadlineMs: Number(deadline) })
process.on('message', () => app.quit())
