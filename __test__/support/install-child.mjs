// A process of its own that calls one method of LimaRuntimeManager: to be killed, to be many, to have its own
// environment. `node install-child.mjs '{"options": {…}, "method": "install", "argument": {…}}'`, with IPC.
import { createRequire } from 'node:module'

const { LimaRuntimeManager } = createRequire(import.meta.url)('../../dist/index.cjs')
const { options, method = 'install', argument = {}, wait } = JSON.parse(process.argv[2])
const answer = (message) => new Promise((sent) => process.send(message, sent))

try {
  const manager = new LimaRuntimeManager(options)
  if (wait) {
    await answer({ ready: true })
    await new Promise((resolve) => process.once('message', resolve))
  }
  const value = await manager[method](...(argument === null ? [] : [argument]))
  await answer({ ok: true, value })
} catch (error) {
  await answer({ ok: false, code: error.code, message: error.message, hint: error.hint, details: error.details })
}
process.disconnect()
