// A worker thread in the middle of calls, for it to be terminated: `workerData` has an engine that hangs and one that works, with a
// container that runs.
import { parentPort, workerData } from 'node:worker_threads'
import { DockerAdapter } from 'lima-runtime'

const { hung, host, id } = workerData
const waiting = new DockerAdapter({ host: hung })
for (let i = 0; i < 5; i++) waiting.listContainers().catch(() => {})
const adapter = new DockerAdapter({ host })
const log = await adapter.getContainerLogs(id, { follow: true })
const events = adapter.events()
const shell = await adapter.spawnInContainer(id, ['cat'], { tty: true })
shell.stdin.write('typed\n')
events.next().catch(() => {})
log.once('data', () => parentPort.postMessage('busy'))
// For ever.
for (;;) await adapter.listContainers()
