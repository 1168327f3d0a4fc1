// A proxy before a registry, which can hold the layers back: so that a pull is certainly under way when a test wants it so.
import { once } from 'node:events'
import { startProxy } from '../support/proxy.mjs'

/** Bytes of a layer that pass while the gate is shut. */
const LET_THROUGH = 64 * 1024

/** @param {number} port the registry's, on loopback */
export async function startGate(port) {
  let shut
  const proxy = await startProxy(port, (path, { headers }) => {
    const isLayer = path.includes('/blobs/') && Number(headers['content-length']) > LET_THROUGH
    return async (passed, outgoing) => {
      if (!isLayer || !shut || passed <= LET_THROUGH) return
      shut.waiting()
      await Promise.race([shut.opened, once(outgoing, 'close')])
    }
  })

  const release = () => {
    shut?.open()
    shut = undefined
  }
  return {
    port: proxy.port,
    hold() {
      release()
      return new Promise((waiting) => {
        shut = { waiting }
        shut.opened = new Promise((open) => {
          shut.open = open
        })
      })
    },
    release,
    stop() {
      release()
      return proxy.stop()
    },
  }
}
