import { contextBridge, ipcRenderer } from 'electron'
import { exposeRuntime } from 'lima-runtime/electron/preload'

exposeRuntime(contextBridge, ipcRenderer)
