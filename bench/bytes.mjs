// Bytes up to the first container, by component: what we download by the manifest, and what the guest then downloads
// itself. tests/fetch.rs counts at a server that nothing else is fetched.
import { readFileSync } from 'node:fs'
import { below, figure } from './report.mjs'

const GOAL = { 'nerdctl-full': 350e6, docker: 330e6 }
/** docs/first-start-bytes.md explains this figure. */
const GUEST = 5.7e6
const BEFORE = { 'darwin-arm64': 850e6, 'darwin-x64': 850e6 }
const PARTS = { lima: (host) => host, image: guest }

function guest(host) {
  return host.endsWith('arm64') ? 'linux-arm64' : 'linux-x64'
}

export async function run() {
  const { components } = JSON.parse(readFileSync(new URL('../templates/manifest.json', import.meta.url), 'utf8'))
  const figures = []
  const left = []
  for (const [host, before] of Object.entries(BEFORE)) {
    for (const [engine, goal] of Object.entries(GOAL)) {
      const sizes = Object.entries({ ...PARTS, [engine]: guest }).map(([part, of]) => {
        const { default: version, versions } = components[part]
        const { platforms } = versions[version].variants?.minimal ?? versions[version]
        return [part, platforms[of(host)].sources[0].size]
      })
      const unknown = sizes.filter(([, size]) => size === undefined).map(([part]) => part)
      const what = `bytes of a first start, ${host}, ${engine}`
      if (unknown.length > 0) left.push(`${what}: the manifest has no size of ${unknown.join(', ')}`)
      else {
        const ours = (GUEST + sizes.reduce((sum, [, size]) => sum + size, 0)) / 1e6
        figures.push(figure(what, 'MB', ours, before / 1e6, { against: 'before', goals: [below(goal / 1e6, 'MB')] }))
      }
    }
  }
  return { figures, left }
}
