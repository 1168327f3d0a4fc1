// Bytes up to the first container, by component: what we download by the manifest, and what the guest then downloads
// itself. tests/fetch.rs counts at a server that nothing else is fetched.
import { readFileSync } from 'node:fs'
import { table } from './report.mjs'

const GOAL = { 'nerdctl-full': 350e6, docker: 330e6 }
/** docs/first-start-bytes.md explains this figure. */
const GUEST = 5.7e6
const BEFORE = { 'darwin-arm64': 850e6, 'darwin-x64': 850e6 }
const PARTS = { lima: (host) => host, image: guest }

function guest(host) {
  return host.endsWith('arm64') ? 'linux-arm64' : 'linux-x64'
}

const mb = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`

export async function run() {
  const { components } = JSON.parse(readFileSync(new URL('../templates/manifest.json', import.meta.url), 'utf8'))
  const sizeOf = (part, platform) => {
    const { default: version, versions } = components[part]
    const release = versions[version]
    const { platforms } = release.variants?.minimal ?? release
    return { name: `${part} ${version}`, size: platforms[platform].sources[0].size }
  }
  for (const [host, before] of Object.entries(BEFORE)) {
    for (const [engine, goal] of Object.entries(GOAL)) {
      const rows = [[`first start, ${host}`, 'bytes', 'before', '', 'goal']]
      let known = GUEST
      let unknown = 0
      for (const [part, of] of Object.entries({ ...PARTS, [engine]: guest })) {
        const { name, size } = sizeOf(part, of(host))
        known += size ?? 0
        unknown += size === undefined ? 1 : 0
        rows.push([name, size === undefined ? 'not known' : mb(size), '', '', ''])
      }
      rows.push(['the guest by itself', mb(GUEST), '', '', ''])
      const sum = `${unknown > 0 ? '> ' : ''}${mb(known)}`
      rows.push(['together', sum, mb(before), '', `<= ${mb(goal)}`])
      table(rows)
      if (unknown > 0) console.log('The manifest lacks sizes: scripts/update-manifest.mjs fills them in.')
      console.log()
    }
    const [containerd, docker] = Object.keys(GOAL).map((engine) => sizeOf(engine, guest(host)).size)
    if (containerd && docker)
      console.log(`The Docker Engine is ${((docker / containerd) * 100).toFixed(0)} % of containerd's bytes.\n`)
  }
}
