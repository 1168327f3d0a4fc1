// node --expose-gc classes.mjs COUNT: makes and drops COUNT objects of each exported class, and prints the descriptors, threads
// and memory of the process before and after, by class.
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { descriptors, threads } from '../support/process.mjs'

const lima = createRequire(import.meta.url)('lima-runtime')

const count = Number(process.argv[2])
/** None of these files is there, and none is made. */
const nowhere = `${tmpdir()}/lima-runtime-nowhere`
const MAKE = {
  BundledContainerAdapter: (Class) => new Class({ dataDir: nowhere }),
  BundledRuntimeManager: (Class) => new Class({ dataDir: nowhere }),
  // Abstract: made through its subclasses.
  ContainerAdapter: () => new lima.DockerAdapter({ host: `unix://${nowhere}` }).restricted(),
  ContainerManager: (Class) => new Class({ appDir: nowhere }),
  ContainerdAdapter: (Class) => new Class({ address: nowhere }),
  DockerAdapter: (Class) => new Class({ host: `unix://${nowhere}` }),
  LimaAdapter: (Class) => new Class({ dataDir: nowhere }),
  LimaContainerAdapter: (Class) => new Class({ dataDir: nowhere }),
  LimaRuntimeManager: (Class) => new Class({ dataDir: nowhere }),
  RuntimeError: (Class) => new Class('INTERNAL', 'text', { hint: 'hint', details: { path: nowhere } }),
}
const unknown = Object.keys(lima).filter((name) => !MAKE[name])
if (unknown.length > 0) throw new Error(`no way to make ${unknown.join(', ')}`)

async function make(name, times) {
  for (let i = 0; i < times; i++) {
    MAKE[name](lima[name])
    // Finalizers run between turns.
    if (i % 500 === 499) await collect()
  }
}

async function collect() {
  for (let i = 0; i < 3; i++) {
    globalThis.gc()
    await new Promise(setImmediate)
  }
}

async function level() {
  await collect()
  return {
    descriptors: descriptors(),
    threads: threads(),
    memory: process.memoryUsage.rss(),
  }
}

const levels = {}
for (const name of Object.keys(MAKE)) {
  await make(name, Math.min(count, 2000))
  const before = await level()
  await make(name, count)
  levels[name] = { before, after: await level() }
}
console.log(JSON.stringify(levels))
