// node require.mjs PACKAGE: how long require() takes in a fresh process.
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const from = performance.now()
require(process.argv[2])
console.log(JSON.stringify({ ms: performance.now() - from }))
process.exit()
