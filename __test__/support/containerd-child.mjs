// `node containerd-child.mjs`: a private containerd for the tests of Rust. Prints its directory; `halt` or `start` on a line of
// standard input is done and answered with itself; the end of the input is the end of it all.
import { createInterface } from 'node:readline'
import { startContainerd } from './containerd.mjs'

const engine = await startContainerd()
console.log(engine.dir)
for await (const word of createInterface({ input: process.stdin })) {
  await engine[word]()
  console.log(word)
}
await engine.stop()
process.exit()
