// A limactl of this machine as if it were a release of Lima: for tests, the demo and the benchmark.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  composeUrl,
  dockerUrl,
  imageUrl,
  LIMA_VERSION,
  limaFiles,
  limaUrl,
  mirrored,
  nerdctlFullArchive,
  nerdctlUrl,
  noise,
  PLATFORM,
  sha256,
  tarball,
} from './release-files.mjs'
import { startReleaseServer } from './release-server.mjs'

/** The archive of a Lima whose limactl runs `argv` with its own arguments; `before` is a line of shell. */
export function limaThatRuns(argv, before = '') {
  const words = argv.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')
  const script = `#!/bin/sh\n${before}\nexec ${words} "$@"\n`
  return tarball({ ...limaFiles(), 'bin/limactl': { bytes: script, mode: 0o755 } })
}

/**
 * Serves `archive` as Lima, with an image and archives of engines that are none, unless `image` or `docker` is one, and docker
 * compose where there is a `compose`; `dir` is for the manifest. Archives by their version are several Limas, of which the last is
 * the default; `nerdctls` are several nerdctl-full.
 */
export async function serveLima(
  dir,
  archive,
  {
    docker = noise(300_000, 'docker'),
    compose,
    image = noise(300_000),
    nerdctls = { '2.1.6': nerdctlFullArchive() },
  } = {},
) {
  const server = await startReleaseServer()
  const limas = archive instanceof Uint8Array ? { [LIMA_VERSION]: archive } : archive
  const bodies = {
    lima: Object.entries(limas).map(([version, body]) => [version, limaUrl(PLATFORM, version), body]),
    image: [['24.04', imageUrl(), image]],
    'nerdctl-full': Object.entries(nerdctls).map(([version, body]) => [version, nerdctlUrl(PLATFORM, version), body]),
    docker: [['29.8.1', dockerUrl(), docker]],
    ...(compose && { compose: [['5.5.1', composeUrl(), compose]] }),
  }
  const components = {}
  for (const [part, releases] of Object.entries(bodies)) {
    components[part] = { default: releases.at(-1)[0], versions: {} }
    for (const [version, url, body] of releases) {
      await server.file(mirrored(url), { body })
      const source = { url, sha256: sha256(body), size: body.length }
      components[part].versions[version] = { platforms: { [PLATFORM]: { sources: [source] } } }
    }
  }
  const manifest = join(dir, 'manifest.json')
  writeFileSync(manifest, JSON.stringify({ schema: 2, components }))
  return { server, options: { manifest, mirror: server.url } }
}
