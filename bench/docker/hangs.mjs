// node hangs.mjs SOCKET COUNT: at an engine that never answers, COUNT times in milliseconds: how long after its abort a call
// ends, and how long it takes to know what is there.
import { dirname, join } from 'node:path'
import { ContainerManager, DockerAdapter } from 'lima-runtime'
import { startHung } from '../../__test__/support/hung.mjs'

const [socket, count] = process.argv.slice(2)
await startHung(socket)
const host = `unix://${socket}`
const docker = new DockerAdapter({ host })
const containerd = { address: join(dirname(socket), 'none.sock') }
const [aborts, looks] = [[], []]
for (let i = 0; i < Number(count); i++) {
  const controller = new AbortController()
  const call = docker.listContainers({ signal: controller.signal }).catch(() => performance.now())
  await new Promise(setImmediate)
  const aborted = performance.now()
  controller.abort()
  aborts.push((await call) - aborted)
  const began = performance.now()
  await new ContainerManager({ appDir: dirname(socket), docker: { host }, containerd }).detectAvailableRuntimes()
  looks.push(performance.now() - began)
}
console.log(JSON.stringify({ aborts, looks }))
process.exit()
