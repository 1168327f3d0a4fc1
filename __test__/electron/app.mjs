// An app with windows: a manager, its main process's half, and the engine behind.
import assert from 'node:assert/strict'
import { ContainerManager } from 'lima-runtime'
import { registerRuntimeIpc } from 'lima-runtime/electron/main'
import { dockerGate } from '../support/docker-gate.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { FakeIpcMain } from './fakes.mjs'

/** Of any manager; `t` ends it. */
export function appOf(t, manager, allow) {
  const ipcMain = new FakeIpcMain()
  const unregister = registerRuntimeIpc(ipcMain, manager, { allow })
  t.after(unregister)
  return { manager, ipcMain, unregister, window: (options) => ipcMain.window(options) }
}

/** On the shared engine, behind a gate. */
export async function dockerApp(t, { allow, initialize = true, ...options } = {}) {
  const gate = await dockerGate(t)
  const place = { address: `${tempDir('none')}/containerd.sock` }
  const docker = { host: gate.host }
  const manager = new ContainerManager({ appDir: tempDir('app'), docker, containerd: place, ...options })
  const app = appOf(t, manager, allow)
  if (initialize) await manager.initialize()
  return { gate, ...app }
}

/** A plain object with this code, as a page gets it. */
export async function refused(promise, ...codes) {
  const error = await promise.then(
    () => assert.fail(`resolved instead of ${codes}`),
    (error) => error,
  )
  assert.ok(codes.includes(error?.code), `${error?.code}: ${error?.message ?? error}`)
  assert.equal(Object.getPrototypeOf(error), Object.prototype)
  assert.ok(error.message)
  return error
}
