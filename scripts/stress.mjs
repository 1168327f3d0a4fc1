// `npm run stress`: the random tests at their full length, some ten minutes. `-- kill` for those with that in their path.
process.env.LIMA_RUNTIME_TEST_STRESS = '1'
if (process.argv.length === 2) process.argv.push('fetch')
await import('./test.mjs')
