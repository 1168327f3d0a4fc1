// The part of Electron that the app uses, for a checkout without it; an installed Electron's own types take precedence.
declare module 'electron' {
  export const app: import('lima-runtime/electron/main').App & { getPath(name: 'userData'): string }
  export const ipcMain: import('lima-runtime/electron/main').IpcMain
  export const powerMonitor: import('lima-runtime/electron/main').PowerMonitor
  export const contextBridge: import('lima-runtime/electron/preload').ContextBridge
  export const ipcRenderer: import('lima-runtime/electron/preload').IpcRenderer
  export const webUtils: { getPathForFile(file: File): string }
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
