import { contextBridge, ipcRenderer, webUtils } from 'electron'
import { exposeRuntime } from 'lima-runtime/electron/preload'

exposeRuntime(contextBridge, ipcRenderer)

/** The path of a file, or of the directory that it was chosen with. */
function pathOf(file: File): string {
  const path = webUtils.getPathForFile(file)
  const below = file.webkitRelativePath.split('/').length - 1
  return below > 0 ? path.split(/[\\/]/).slice(0, -below).join('/') : path
}

// A script can make no file with a path: one that has it was dropped or chosen by a person. The main process hears of it
// here, on a channel that no page has.
contextBridge.exposeInMainWorld('files', {
  path(file: File): string {
    const path = pathOf(file)
    ipcRenderer.send('example:chosen', path)
    return path
  },
})
