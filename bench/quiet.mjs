// Whether the machine is free for a measurement: for half a second every processor is asked for all it has. What we do not get,
// somebody else does, or the machine's own host.
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { isMainThread, Worker, workerData } from 'node:worker_threads'

/** A part of the processors that others may take without our figures meaning nothing. */
const MOST_TAKEN = 0.1
const MS = 500

/** The part of the processors that others take, 0 to 1. */
export async function taken() {
  const count = availableParallelism()
  const spin = () =>
    new Promise((resolve, reject) => {
      new Worker(fileURLToPath(import.meta.url), { workerData: MS }).once('error', reject).once('exit', resolve)
    })
  // The threads' start counts, too.
  const from = process.cpuUsage()
  const began = performance.now()
  await Promise.all(Array.from({ length: count }, spin))
  const { user, system } = process.cpuUsage(from)
  const had = (user + system) / 1000 / ((performance.now() - began) * count)
  return Math.max(0, 1 - had)
}

/** Why no figure of now would mean anything, or undefined. The best of three looks: something may just be ending. */
export async function busy() {
  let least = 1
  for (let i = 0; i < 3 && least > MOST_TAKEN; i++) least = Math.min(least, await taken())
  if (least > MOST_TAKEN) return `the machine is busy: others have ${(least * 100).toFixed(0)} % of its processors`
}

if (!isMainThread) for (const until = performance.now() + workerData; performance.now() < until; );
