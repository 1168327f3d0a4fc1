// The dockerd that test files share: the test runner starts it once and names its socket in the environment; a test
// file run by hand (`node --test __test__/x.test.mjs`) starts its own when it imports this.
import { startDockerd } from './dockerd.mjs'
import { engineApi } from './http.mjs'
import { loadTestImages, SOCKET_VARIABLE } from './images.mjs'

export { IMAGES, loadTestImages, SOCKET_VARIABLE } from './images.mjs'

const socket = process.env[SOCKET_VARIABLE] || (await startOwn())
const engine = { socket, host: `unix://${socket}`, api: engineApi(socket) }

/**
 * The shared engine, with `IMAGES` in it.
 * @returns {{ socket: string, host: string, api: import('./dockerd.mjs').Dockerd['api'] }}
 */
export function sharedEngine() {
  return engine
}

async function startOwn() {
  const own = await startDockerd()
  await loadTestImages(own)
  // It goes when this process exits, and does not keep it from that.
  own.unref()
  return own.socket
}
