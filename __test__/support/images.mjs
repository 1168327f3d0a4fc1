// Images made of the machine's own static busybox: no test needs a network.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

/** Names the shared engine's socket to test files. */
export const SOCKET_VARIABLE = 'LIMA_RUNTIME_TEST_DOCKER_SOCKET'

/** What the shared engine holds from the start: nothing may remove these. */
export const IMAGES = { busybox: 'busybox:latest', httpd: 'lima-runtime-httpd:1', health: 'lima-runtime-health:1' }

/** Loads `IMAGES` into an engine. */
export async function loadTestImages(engine) {
  for (const archive of [busyboxArchive(), httpdArchive(), healthArchive()]) await loadArchive(engine, archive)
}

/** Where Debian's busybox-static has it. */
export const BUSYBOX = '/bin/busybox'

/** What `busybox:latest` has beyond its shell, as far as tests use it. */
const applets = () =>
  execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .filter((name) => name !== 'busybox')

/**
 * An image of busybox: its configuration and its layers, as bytes.
 * @param {object} [options]
 * @param {Record<string, unknown>} [options.config] the image's `config`: Cmd, Env, Healthcheck, Labels, ExposedPorts, …
 * @param {Record<string, string | Buffer>} [options.files] more files, by absolute path
 * @param {number} [options.padding] bytes of noise in a layer of its own, for pulls that take time
 * @param {string} [options.architecture] as Go names it
 */
export function busyboxImage({ config = {}, files = {}, padding = 0, architecture } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'lima-runtime-image-'))
  try {
    const root = join(dir, 'root')
    for (const name of ['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp', 'var', 'www'])
      mkdirSync(join(root, name), { recursive: true })
    copyFileSync(BUSYBOX, join(root, 'bin/busybox'))
    for (const name of applets()) symlinkSync('busybox', join(root, 'bin', name))
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n')
    writeFileSync(join(root, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n')
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), content)
    }
    const layers = [tar(root)]
    if (padding > 0) {
      const noise = join(dir, 'noise')
      mkdirSync(noise)
      writeFileSync(join(noise, 'padding'), pseudoRandom(padding))
      layers.push(tar(noise))
    }
    const image = {
      architecture: architecture ?? { x64: 'amd64' }[process.arch] ?? process.arch,
      os: 'linux',
      created: '2026-01-01T00:00:00Z',
      config: { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['sh'], ...config },
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => `sha256:${sha256(layer)}`) },
      history: layers.map(() => ({ created: '2026-01-01T00:00:00Z', created_by: 'lima-runtime tests' })),
    }
    return { config: Buffer.from(JSON.stringify(image)), layers }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** An architecture that this machine's is not. */
export const FOREIGN = process.arch === 'arm64' ? 'amd64' : 'arm64'

/** An image for two platforms, each with its architecture in `/which`. Its programs are this machine's in both. */
export const twoPlatforms = () =>
  [undefined, FOREIGN].map((architecture) => busyboxImage({ architecture, files: { '/which': architecture ?? 'own' } }))

/**
 * Makes an image archive as `docker save` writes it, and returns its bytes.
 * @param {{ tags?: string[] } & Parameters<typeof busyboxImage>[0]} [options]
 */
export function busyboxArchive({ tags = ['busybox:latest'], ...options } = {}) {
  const { config, layers } = busyboxImage(options)
  const dir = mkdtempSync(join(tmpdir(), 'lima-runtime-image-'))
  try {
    const configFile = `${sha256(config)}.json`
    writeFileSync(join(dir, configFile), config)
    const names = layers.map((layer) => {
      const name = `${sha256(layer)}/layer.tar`
      mkdirSync(join(dir, dirname(name)))
      writeFileSync(join(dir, name), layer)
      return name
    })
    writeFileSync(join(dir, 'manifest.json'), JSON.stringify([{ Config: configFile, RepoTags: tags, Layers: names }]))
    return tar(dir)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** A page server: `httpd` on port 80 with one page, which says `page`. */
export function httpdArchive({ tags = ['lima-runtime-httpd:1'], page = 'Hello from a container\n' } = {}) {
  return busyboxArchive({
    tags,
    files: { '/www/index.html': page },
    config: {
      Cmd: ['httpd', '-f', '-v', '-p', '80', '-h', '/www'],
      ExposedPorts: { '80/tcp': {} },
      StopSignal: 'SIGKILL',
    },
  })
}

/** Healthy from the start; unhealthy once /tmp/sick exists. */
function healthArchive({ tags = ['lima-runtime-health:1'] } = {}) {
  const ms = 1_000_000
  const Healthcheck = {
    Test: ['CMD-SHELL', 'test ! -e /tmp/sick'],
    Interval: 200 * ms,
    Timeout: 2_000 * ms,
    Retries: 2,
  }
  return busyboxArchive({ tags, config: { Cmd: ['sleep', '1000000'], StopSignal: 'SIGKILL', Healthcheck } })
}

/** Loads an archive past our own code; resolves when the engine has it. */
export async function loadArchive(engine, archive) {
  const lines = [await engine.api('POST', '/images/load?quiet=1', archive)].flat()
  const failed = lines.find((line) => line?.error)
  if (failed) throw new Error(failed.error)
}

function tar(dir) {
  // The same bytes at every run, so that digests and caches hold.
  const reproducible = ['--sort=name', '--mtime=@1767225600', '--owner=0', '--group=0', '--numeric-owner']
  return execFileSync('tar', ['-C', dir, ...reproducible, '-cf', '-', '.'], { maxBuffer: 2 ** 31 - 1 })
}

const sha256 = (data) => createHash('sha256').update(data).digest('hex')

/** Bytes that do not compress and are the same at every run. */
function pseudoRandom(length) {
  const bytes = Buffer.allocUnsafe(length)
  for (let at = 0, n = 0; at < length; n++) at += createHash('sha512').update(String(n)).digest().copy(bytes, at)
  return bytes
}
