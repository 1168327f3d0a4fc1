// A limactl of this machine as if it were a release of Lima: for tests, the demo and the benchmark.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  imageUrl,
  limaFiles,
  limaUrl,
  manifestOf,
  mirrored,
  nerdctlFullArchive,
  nerdctlUrl,
  noise,
  PLATFORM,
  tarball,
} from './release-files.mjs'
import { startReleaseServer } from './release-server.mjs'

/** The archive of a Lima whose limactl runs `argv` with its own arguments; `before` is a line of shell. */
export function limaThatRuns(argv, before = '') {
  const words = argv.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')
  const script = `#!/bin/sh\n${before}\nexec ${words} "$@"\n`
  return tarball({ ...limaFiles(), 'bin/limactl': { bytes: script, mode: 0o755 } })
}

/** Serves `archive` as Lima, with an image and an archive of containerd that are none; `dir` is for the manifest. */
export async function serveLima(dir, archive) {
  const server = await startReleaseServer()
  const bodies = {
    lima: [limaUrl(), archive],
    image: [imageUrl(), noise(300_000)],
    'nerdctl-full': [nerdctlUrl(), nerdctlFullArchive()],
  }
  const components = {}
  for (const [part, [url, body]] of Object.entries(bodies)) {
    await server.file(mirrored(url), { body })
    components[part] = { [PLATFORM]: [{ url, body }] }
  }
  const manifest = join(dir, 'manifest.json')
  writeFileSync(manifest, JSON.stringify(manifestOf(components)))
  return { server, options: { manifest, mirror: server.url } }
}
