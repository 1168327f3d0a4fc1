// Brings templates/manifest.json to a version of Lima or nerdctl, with the digests of the release's own SHA256SUMS.
//
//   node scripts/update-manifest.mjs lima 1.2.3
//   node scripts/update-manifest.mjs nerdctl 2.2.1          (nerdctl-full and the Windows program)
//   … --mirror http://127.0.0.1:8080                         (https://host/path is read from <mirror>/host/path)
//   … --manifest path/to/manifest.json                       (another one than templates/manifest.json)
//
// Everything is read and checked before the file is replaced; the name of every archive must be in the SHA256SUMS.
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

/** What a release calls its archives, by component and platform (lima-contract §6, nerdctl-contract §6). */
const RELEASES = {
  lima: {
    at: (v) => `https://github.com/lima-vm/lima/releases/download/v${v}`,
    components: {
      lima: {
        'darwin-arm64': (v) => `lima-${v}-Darwin-arm64.tar.gz`,
        'darwin-x64': (v) => `lima-${v}-Darwin-x86_64.tar.gz`,
        'linux-arm64': (v) => `lima-${v}-Linux-aarch64.tar.gz`,
        'linux-x64': (v) => `lima-${v}-Linux-x86_64.tar.gz`,
      },
    },
  },
  nerdctl: {
    at: (v) => `https://github.com/containerd/nerdctl/releases/download/v${v}`,
    components: {
      'nerdctl-full': {
        'linux-arm64': (v) => `nerdctl-full-${v}-linux-arm64.tar.gz`,
        'linux-x64': (v) => `nerdctl-full-${v}-linux-amd64.tar.gz`,
      },
      nerdctl: { 'win32-x64': (v) => `nerdctl-${v}-windows-amd64.tar.gz` },
    },
  },
}

export function parseSums(text) {
  const sums = new Map()
  for (const line of text.split('\n')) {
    const found = /^([0-9a-f]{64})\s+\*?(?:\.\/)?(\S+)\s*$/i.exec(line)
    if (found) sums.set(found[2], found[1].toLowerCase())
  }
  return sums
}

/** `manifest` with `release`'s components at `version`; `read` fetches a text by its address. */
export async function update(manifest, release, version, read) {
  const known = RELEASES[release]
  if (!known) throw new Error(`${release}: one of ${Object.keys(RELEASES).join(', ')}`)
  if (!/^\d+\.\d+\.\d+(-[a-z0-9.]+)?$/.test(version ?? ''))
    throw new Error(`${version}: a version like 1.2.3, without a v`)
  const base = known.at(version)
  const sums = parseSums(await read(`${base}/SHA256SUMS`))
  const components = { ...manifest.components }
  for (const [component, names] of Object.entries(known.components)) {
    const platforms = {}
    for (const [platform, name] of Object.entries(names)) {
      const file = name(version)
      const sha256 = sums.get(file)
      if (!sha256) throw new Error(`${base}/SHA256SUMS does not name ${file}`)
      // No size: the list has none, and none is invented.
      platforms[platform] = { sources: [{ url: `${base}/${file}`, sha256 }] }
    }
    components[component] = { version, platforms }
  }
  return { ...manifest, components }
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      mirror: { type: 'string' },
      manifest: { type: 'string', default: fileURLToPath(new URL('../templates/manifest.json', import.meta.url)) },
    },
  })
  const [release, version] = positionals
  const mirrored = (url) => (values.mirror ? url.replace(/^https:\//, values.mirror.replace(/\/+$/, '')) : url)
  const read = async (url) => {
    const response = await fetch(mirrored(url))
    if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`)
    return response.text()
  }
  const next = await update(JSON.parse(readFileSync(values.manifest, 'utf8')), release, version, read)
  writeFileSync(`${values.manifest}.new`, `${JSON.stringify(next, null, 2)}\n`)
  renameSync(`${values.manifest}.new`, values.manifest)
  console.log(`${values.manifest}: ${release} ${version}`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main().catch((error) => {
    console.error(`update-manifest: ${error.message}`)
    process.exit(1)
  })
}
