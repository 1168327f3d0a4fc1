// node --expose-gc many-calls.mjs HOST LISTS FAILURES: makes that many calls, eight at a time, and prints the descriptors and
// the memory of the process before, and after each.
import { DockerAdapter } from 'lima-runtime'
import { descriptors } from '../support/process.mjs'

const [host, lists, failures] = process.argv.slice(2)
const adapter = new DockerAdapter({ host })

async function times(count, call) {
  let left = Number(count)
  const worker = async () => {
    while (left-- > 0) await call()
  }
  await Promise.all(Array.from({ length: 8 }, worker))
}

async function level() {
  // Twice, with a turn between: what finalizers free is free after the next one.
  globalThis.gc()
  await new Promise(setImmediate)
  globalThis.gc()
  return { descriptors: descriptors(), memory: process.memoryUsage.rss() }
}

const list = () => adapter.listContainers({ all: true })
const fail = () =>
  adapter.inspectContainer('no-such-container').then(
    () => Promise.reject(new Error('found')),
    (error) => error.code === 'CONTAINER_NOT_FOUND' || Promise.reject(error),
  )
// Pools, caches and compiled code come with the first calls.
await times(1000, list)
await times(200, fail)
const before = await level()
await times(lists, list)
const afterLists = await level()
await times(failures, fail)
const afterFailures = await level()
console.log(JSON.stringify({ before, afterLists, afterFailures }))
