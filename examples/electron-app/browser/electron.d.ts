// What the app uses of Electron, for a checkout without it; with Electron installed its own types are taken.
declare module 'electron' {
  export const app: import('lima-runtime/electron/main').App & { getPath(name: 'userData'): string }
  export const ipcMain: import('lima-runtime/electron/main').IpcMain
  export const powerMonitor: import('lima-runtime/electron/main').PowerMonitor
  export const contextBridge: import('lima-runtime/electron/preload').ContextBridge
  export const ipcRenderer: import('lima-runtime/electron/preload').IpcRenderer
  export class BrowserWindow {
    static getAllWindows(): BrowserWindow[]
    constructor(options: {
      width?: number
      height?: number
      webPreferences?: { preload?: string; contextIsolation?: boolean; sandbox?: boolean }
    })
    readonly webContents: { setWindowOpenHandler(handler: () => { action: 'deny' }): void }
    loadFile(path: string): unknown
  }
}
