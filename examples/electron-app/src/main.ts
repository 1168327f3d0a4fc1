// The main process: it owns the runtime and decides what the page may do with it.
import { existsSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { app, BrowserWindow, ipcMain, powerMonitor } from 'electron'
import { ContainerManager, type UserEngine } from 'lima-runtime'
import { type IpcEvent, manageLifecycle, registerRuntimeIpc } from 'lima-runtime/electron/main'

const appDir = app.getPath('userData')
const page = join(__dirname, 'index.html')
// The variable of containerd's own clients; without it the system's, or one of the app's own. The engine of User mode is the
// application's choice: Docker's where a container, or a program that it ships, speaks Docker's API.
const { CONTAINERD_ADDRESS: address, EXAMPLE_ENGINE: engine } = process.env
const manager = new ContainerManager({
  appName: 'lima-runtime-example',
  appDir,
  ...(address && { containerd: { address } }),
  ...(engine && { engine: engine as UserEngine }),
})

const isOurs = ({ senderFrame }: IpcEvent) => senderFrame?.url.split('?')[0] === pathToFileURL(page).href
/** What a person dropped on the page or chose there. */
const chosen = new Set<string>()
ipcMain.on('example:chosen', (event: IpcEvent, path: unknown) => {
  if (isOurs(event) && !event.senderFrame?.parent && typeof path === 'string' && existsSync(path))
    chosen.add(realpathSync(path))
})

registerRuntimeIpc(ipcMain, manager, {
  allow: {
    sender: isOurs,
    // The page exists to choose a runtime, and choosing one downloads it.
    download: () => true,
    // It has terminals in the app's own containers.
    exec: () => true,
    copy: ({ direction, path }) => direction === 'in' && chosen.has(path),
    build: ({ directory }) => chosen.has(directory),
    // Its set-up screen offers the ends of logs for a bug report.
    diagnostics: () => true,
  },
})
// On the first launch the person chooses first.
manageLifecycle(app, powerMonitor, manager, { startOnLaunch: existsSync(join(appDir, 'runtime.json')) })

function open(): void {
  const window = new BrowserWindow({
    width: 900,
    height: 720,
    webPreferences: { preload: join(__dirname, 'preload.cjs'), contextIsolation: true, sandbox: true },
  })
  window.webContents.setWindowOpenHandler(() => ({ action: 'deny' }))
  window.loadFile(page)
}

app.whenReady().then(open)
app.on('activate', () => {
  if (BrowserWindow.getAllWindows().length === 0) open()
})
app.on('window-all-closed', () => {
  if (process.platform !== 'darwin') app.quit()
})
