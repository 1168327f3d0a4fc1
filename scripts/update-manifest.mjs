// Adds a release to templates/manifest.json: addresses, digests, sizes, and the contents of archives.
//
//   node scripts/update-manifest.mjs lima 2.2.1
//   node scripts/update-manifest.mjs nerdctl 2.3.6            (nerdctl-full and the Windows program)
//   node scripts/update-manifest.mjs compose 5.5.2            (docker's, for Linux)
//   node scripts/update-manifest.mjs image 20260926           (both variants of the guest's image, of the builds last before)
//   node scripts/update-manifest.mjs docker 29.8.2 --also https://mirror.example/docker-ce
//   node scripts/update-manifest.mjs lima newest              (also of nerdctl, compose and the image)
//   … --keep                  the release beside the ones that are there; the default stays
//   … --keep --default        the same, and the release is the default
//   … --contents              what is in the archives, too: fetches them, with the command in dist/
//   … --mirror <url>          https://host/path is read from <url>/host/path
//   … --manifest <file>       another one than templates/manifest.json
//
// GitHub says of each file its size and digest, the release's own SHA256SUMS (compose's checksums.txt) its digest; both must
// say the same. Ubuntu's index of images says both. The publisher of Docker's static archives gives no checksums: they are
// fetched and measured, and must be the same at another place (`--also`: what lies at https://download.docker.com, elsewhere),
// or as they were when the manifest got them. Everything is read and checked before the file is replaced.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const CLI = fileURLToPath(new URL('../dist/cli.cjs', import.meta.url))

/**
 * The names of a release's files, by component and platform (docs/reference/lima.md#release-archive,
 * docs/reference/nerdctl.md#nerdctl-full, docs/reference/docker.md#compose), and of the one with their digests.
 */
const RELEASES = {
  lima: {
    repository: 'lima-vm/lima',
    sums: 'SHA256SUMS',
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
    repository: 'containerd/nerdctl',
    sums: 'SHA256SUMS',
    components: {
      'nerdctl-full': {
        'linux-arm64': (v) => `nerdctl-full-${v}-linux-arm64.tar.gz`,
        'linux-x64': (v) => `nerdctl-full-${v}-linux-amd64.tar.gz`,
      },
      nerdctl: { 'win32-x64': (v) => `nerdctl-${v}-windows-amd64.tar.gz` },
    },
  },
  compose: {
    repository: 'docker/compose',
    sums: 'checksums.txt',
    components: {
      compose: {
        'linux-arm64': () => 'docker-compose-linux-aarch64',
        'linux-x64': () => 'docker-compose-linux-x86_64',
      },
    },
  },
}

/** The static archives of Docker, by component (docs/reference/docker.md#static-archive). */
const DOCKER = 'https://download.docker.com'
const STATICS = {
  docker: (v) => `docker-${v}.tgz`,
  'docker-rootless': (v) => `docker-rootless-extras-${v}.tgz`,
}
const MACHINES = { 'linux-arm64': 'aarch64', 'linux-x64': 'x86_64' }

/** Ubuntu's index of released images, by variant, and its product of each platform's. */
const IMAGES = {
  minimal: 'https://cloud-images.ubuntu.com/minimal/releases/',
  server: 'https://cloud-images.ubuntu.com/releases/',
}
const INDEX = 'streams/v1/com.ubuntu.cloud:released:download.json'
const ARCHITECTURES = { 'linux-arm64': 'arm64', 'linux-x64': 'amd64' }
const UBUNTU = '24.04'

export function parseSums(text) {
  const sums = new Map()
  for (const line of text.split('\n')) {
    const found = /^([0-9a-f]{64})\s+\*?(?:\.\/)?(\S+)\s*$/i.exec(line)
    if (found) sums.set(found[2], found[1].toLowerCase())
  }
  return sums
}

/**
 * Returns `manifest` with `release` at `version`. `read` fetches a text by its address, `measure` a file's size and digest;
 * `also` is another place for what the publisher gives no checksums of.
 */
export async function update(
  manifest,
  release,
  version,
  { read, measure },
  { keep = false, default: isDefault = !keep, also } = {},
) {
  if (manifest.schema !== 2) throw new Error(`the manifest is of schema ${manifest.schema}, not 2`)
  const ways = {
    image: () => images(version, read),
    docker: () => statics(manifest.components, version, measure, also),
  }
  const found = await (ways[release] ?? (() => archives(release, version, read)))()
  const components = { ...manifest.components }
  for (const [component, { version: name, ...rest }] of Object.entries(found)) {
    const before = components[component]
    const versions = { [name]: rest, ...(keep ? without(before?.versions, name) : {}) }
    components[component] = { default: (!isDefault && before?.default) || name, versions }
  }
  return { ...manifest, components }
}

const without = (versions = {}, name) => Object.fromEntries(Object.entries(versions).filter(([v]) => v !== name))

async function archives(release, version, read) {
  const known = RELEASES[release]
  if (!known) throw new Error(`${release}: one of ${[...Object.keys(RELEASES), 'image', 'docker'].join(', ')}`)
  checkVersion(version)
  const base = `https://github.com/${known.repository}/releases/download/v${version}`
  const api = `https://api.github.com/repos/${known.repository}/releases/tags/v${version}`
  const sums = parseSums(await read(`${base}/${known.sums}`))
  const assets = new Map(JSON.parse(await read(api)).assets.map((asset) => [asset.name, asset]))
  const found = {}
  for (const [component, names] of Object.entries(known.components)) {
    const platforms = {}
    for (const [platform, name] of Object.entries(names)) {
      const file = name(version)
      const sha256 = sums.get(file)
      if (!sha256) throw new Error(`${base}/${known.sums} does not name ${file}`)
      const asset = assets.get(file)
      if (!asset) throw new Error(`${api} does not name ${file}`)
      if (asset.digest !== `sha256:${sha256}`)
        throw new Error(`${file}: GitHub says ${asset.digest}, the release's ${known.sums} sha256:${sha256}`)
      platforms[platform] = { sources: [{ url: `${base}/${file}`, sha256, size: sized(file, asset.size) }] }
    }
    found[component] = { version, platforms }
  }
  return found
}

/** GitHub's newest release is no pre-release, and not drafted. */
async function newest(release, read) {
  // Of the image it is the last one before a date.
  if (release === 'image') return '99991231'
  const repository = RELEASES[release]?.repository
  if (!repository) throw new Error(`${release}: name its version`)
  const { tag_name: tag } = JSON.parse(await read(`https://api.github.com/repos/${repository}/releases/latest`))
  return tag.replace(/^v/, '')
}

function checkVersion(version) {
  if (!/^\d+\.\d+\.\d+(-[a-z0-9.]+)?$/.test(version ?? ''))
    throw new Error(`${version}: a version like 1.2.3, without a v`)
}

/** Docker's archives, which two places, or the manifest and the publisher, have the same. */
async function statics(components, version, measure, also) {
  checkVersion(version)
  const found = {}
  for (const [component, name] of Object.entries(STATICS)) {
    const platforms = {}
    for (const [platform, machine] of Object.entries(MACHINES)) {
      const path = `/linux/static/stable/${machine}/${name(version)}`
      const url = DOCKER + path
      const { sha256, size } = await measure(url)
      const agrees = (where, digest) => {
        if (digest !== sha256) throw new Error(`${url} has sha256 ${sha256}, ${where} ${digest}`)
      }
      const [pinned] = components[component]?.versions?.[version]?.platforms?.[platform]?.sources ?? []
      if (pinned) agrees('the manifest', pinned.sha256)
      if (also) {
        const elsewhere = also.replace(/\/+$/, '') + path
        agrees(elsewhere, (await measure(elsewhere)).sha256)
      } else if (!pinned) {
        throw new Error(`${url}: its publisher gives no checksums; name another place that has it, with --also <url>`)
      }
      platforms[platform] = { sources: [{ url, sha256, size: sized(path, size) }] }
    }
    found[component] = { version, platforms }
  }
  return found
}

/** The last build of each variant up to `date`: the two are not built on the same days. */
async function images(date, read) {
  if (!/^\d{8}$/.test(date ?? '')) throw new Error(`${date}: a date like 20260926`)
  const variants = {}
  for (const [variant, at] of Object.entries(IMAGES)) {
    const { products } = JSON.parse(await read(at + INDEX))
    const platforms = {}
    for (const [platform, arch] of Object.entries(ARCHITECTURES)) {
      const ofArch = Object.values(products).filter((p) => p.version === UBUNTU && p.arch === arch)
      const builds = ofArch.flatMap((p) => Object.entries(p.versions)).filter(([name]) => name <= `${date}~`)
      const [name, build] = builds.sort(([a], [b]) => (a < b ? 1 : -1))[0] ?? []
      const image = build?.items?.['disk1.img']
      if (!image) throw new Error(`${at}${INDEX} has no ${variant} image for ${arch} of ${date} or before`)
      const { path, sha256, size } = image
      if (!/^[0-9a-f]{64}$/.test(sha256)) throw new Error(`${path} of ${name} has no sha256`)
      // The directories above are links to this one.
      const [file] = /[^/]+\/release-[^/]+\/[^/]+$/.exec(path) ?? []
      if (!file) throw new Error(`${path} is not the path of a dated image`)
      platforms[platform] = { sources: [{ url: new URL(file, at).href, sha256, size: sized(path, size) }] }
    }
    variants[variant] = { platforms }
  }
  return { image: { version: UBUNTU, variants } }
}

function sized(file, size) {
  if (!Number.isSafeInteger(size) || size <= 0) throw new Error(`${file}: ${size} is not its size`)
  return size
}

/** Fetches Lima for each platform, as an application's build does, and records what the archive holds. */
function withContents(manifest, version, mirror) {
  const dir = mkdtempSync(join(tmpdir(), 'lima-runtime-contents-'))
  try {
    const file = join(dir, 'manifest.json')
    writeFileSync(file, JSON.stringify(manifest))
    const { platforms } = manifest.components.lima.versions[version]
    for (const platform of Object.keys(platforms)) {
      const from = mirror ? ['--mirror', mirror] : []
      const args = [
        'download',
        '--json',
        '--platform',
        platform,
        '--lima-version',
        version,
        '--manifest',
        file,
        ...from,
      ]
      const report = execFileSync(process.execPath, [CLI, ...args, '--out', join(dir, 'out')], { encoding: 'utf8' })
      const [{ sha256, contents }] = JSON.parse(report)
      for (const source of platforms[platform].sources) if (source.sha256 === sha256) source.contents = contents
    }
  } finally {
    rmSync(dir, { recursive: true })
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      mirror: { type: 'string' },
      keep: { type: 'boolean' },
      default: { type: 'boolean' },
      contents: { type: 'boolean' },
      also: { type: 'string' },
      manifest: { type: 'string', default: fileURLToPath(new URL('../templates/manifest.json', import.meta.url)) },
    },
  })
  const [release, wanted] = positionals
  const mirrored = (url) => (values.mirror ? url.replace(/^https:\//, values.mirror.replace(/\/+$/, '')) : url)
  const got = async (url) => {
    const response = await fetch(mirrored(url))
    if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`)
    return response
  }
  const read = async (url) => (await got(url)).text()
  const measure = async (url) => {
    const [hash, { body }] = [createHash('sha256'), await got(url)]
    let size = 0
    for await (const piece of body) {
      hash.update(piece)
      size += piece.length
    }
    return { sha256: hash.digest('hex'), size }
  }
  const before = JSON.parse(readFileSync(values.manifest, 'utf8'))
  const version = wanted === 'newest' ? await newest(release, read) : wanted
  if (wanted === 'newest' && before.components[release]?.versions?.[version]) {
    console.log(`${values.manifest}: has ${release} ${version}, the newest`)
    return
  }
  const next = await update(before, release, version, { read, measure }, values)
  if (values.contents && release === 'lima') withContents(next, version, values.mirror)
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
