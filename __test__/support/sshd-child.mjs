// `node sshd-child.mjs KIND KIND`: an sshd for the tests of Rust, with such keys. Prints its directory, port and number; `stop` or
// `start` on a line of standard input is done and answered with its number; the end of the input is the end of it all.
import { createInterface } from 'node:readline'
import { startSshd } from './sshd.mjs'

const sshd = await startSshd(undefined, process.argv.slice(2))
console.log(`${sshd.dir}\n${sshd.port}\n${sshd.pid}`)
for await (const word of createInterface({ input: process.stdin })) console.log((await sshd[word]()) ?? 0)
await sshd.stop()
process.exit()
