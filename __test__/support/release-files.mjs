// What the release server hands out: archives shaped like the real ones, manifests, certificates.
import { execFileSync } from 'node:child_process'
import { createCipheriv, createHash } from 'node:crypto'
import {
  chmodSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

export const LIMA_VERSION = '1.2.1'
export const PLATFORM = `${process.platform}-${process.arch}`
// How a release spells the platforms: arm64 is written differently on each system
// (docs/reference/lima.md#release-archive).
const LIMA_NAMES = {
  'darwin-arm64': 'Darwin-arm64',
  'darwin-x64': 'Darwin-x86_64',
  'linux-arm64': 'Linux-aarch64',
  'linux-x64': 'Linux-x86_64',
}

/** `size` bytes that no compressor shrinks, the same for the same seed. */
export function noise(size, seed = 'noise') {
  const key = createHash('sha256').update(seed).digest()
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size))
}

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')

/**
 * A tar.gz of `files` (path -> `{ bytes, mode? }` or `{ link }`), made as Lima's Makefile makes its own:
 * `tar -C <dir> ./`, so entries begin with `./`.
 */
export function tarball(files) {
  const dir = mkdtempSync(join(tmpdir(), 'lr-tar-'))
  try {
    for (const [path, entry] of Object.entries(files)) {
      const at = join(dir, 'root', path)
      mkdirSync(dirname(at), { recursive: true })
      if (entry.link) symlinkSync(entry.link, at)
      else {
        writeFileSync(at, entry.bytes)
        chmodSync(at, entry.mode ?? 0o644)
      }
    }
    // The same files are the same bytes, whenever they are packed.
    for (const path of ['', ...readdirSync(join(dir, 'root'), { recursive: true })])
      lutimesSync(join(dir, 'root', path), 0, 0)
    execFileSync('tar', ['-C', join(dir, 'root'), '-czf', join(dir, 'out.tar.gz'), '--owner=0', '--group=0', './'], {
      env: { ...process.env, GZIP: '-1' },
      stdio: ['ignore', 'inherit', 'ignore'],
    })
    return readFileSync(join(dir, 'out.tar.gz'))
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Contents of a Lima release (docs/reference/lima.md#release-archive), with `payload` bytes of noise as the guest agent. */
export function limaFiles({ version = LIMA_VERSION, payload = 100_000 } = {}) {
  const script = (text) => ({ bytes: `#!/bin/sh\n${text}\n`, mode: 0o755 })
  const agent = `lima-guestagent.Linux-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.gz`
  return {
    'bin/limactl': script(`echo "limactl version ${version}"`),
    'bin/lima': script('exec "$(dirname "$0")/limactl" shell "$@"'),
    'bin/nerdctl.lima': script('exec "$(dirname "$0")/lima" nerdctl "$@"'),
    [`share/lima/${agent}`]: { bytes: noise(payload, `agent ${version}`) },
    'share/lima/templates/default.yaml': { bytes: 'images: []\n' },
    'share/lima/templates/_images/ubuntu-24.04.yaml': { bytes: 'images: []\n' },
    'share/doc/lima/VERSION': { bytes: `${version}\n` },
    'share/doc/lima/templates': { link: '../../lima/templates' },
    'share/man/man1/limactl.1': { bytes: '.TH LIMACTL 1\n' },
  }
}

export const limaArchive = (options) => tarball(limaFiles(options))

/** The part of a nerdctl-full release that anything looks at (docs/reference/nerdctl.md#nerdctl-full). */
export const nerdctlFullArchive = ({ version = '2.1.6', payload = 100_000 } = {}) =>
  tarball({
    'bin/nerdctl': { bytes: `#!/bin/sh\necho "nerdctl version ${version}"\n`, mode: 0o755 },
    'bin/containerd': { bytes: noise(payload, 'containerd'), mode: 0o755 },
    'libexec/cni/bridge': { bytes: noise(1000, 'bridge'), mode: 0o755 },
    'lib/systemd/system/containerd.service': { bytes: '[Service]\nExecStart=/usr/local/bin/containerd\n' },
    'share/doc/nerdctl-full/SHA256SUMS': { bytes: '' },
  })

export const limaUrl = (platform = PLATFORM, version = LIMA_VERSION) =>
  `https://github.com/lima-vm/lima/releases/download/v${version}/lima-${version}-${LIMA_NAMES[platform]}.tar.gz`

export const nerdctlUrl = (platform = PLATFORM, version = '2.1.6') =>
  `https://github.com/containerd/nerdctl/releases/download/v${version}/nerdctl-full-${version}-linux-${platform.endsWith('arm64') ? 'arm64' : 'amd64'}.tar.gz`

export const dockerUrl = (platform = PLATFORM) =>
  `https://download.docker.com/linux/static/stable/${platform.endsWith('arm64') ? 'aarch64' : 'x86_64'}/docker-29.8.1.tgz`

export const composeUrl = (platform = PLATFORM) =>
  `https://github.com/docker/compose/releases/download/v5.5.1/docker-compose-linux-${platform.endsWith('arm64') ? 'aarch64' : 'x86_64'}`

export const imageUrl = (platform = PLATFORM) =>
  `https://cloud-images.ubuntu.com/releases/noble/release-20250704/ubuntu-24.04-server-cloudimg-${platform.endsWith('arm64') ? 'arm64' : 'amd64'}.img`

/** Where the mirror keeps `https://host/path`. */
export const mirrored = (url) => url.replace(/^https?:\//, '')

/** Manifest text of one version each: `{ lima: { 'linux-x64': [{ url, body? , sha256?, size? }] } }`. */
export function manifestOf(components, versions = {}) {
  const version = {
    lima: LIMA_VERSION,
    'nerdctl-full': '2.1.6',
    nerdctl: '2.1.6',
    docker: '29.8.1',
    compose: '5.5.1',
    image: '24.04',
    ...versions,
  }
  const source = ({ body, ...rest }) => (body ? { sha256: sha256(body), size: body.length, ...rest } : rest)
  return {
    schema: 1,
    components: Object.fromEntries(
      Object.entries(components).map(([name, platforms]) => [
        name,
        {
          version: version[name],
          platforms: Object.fromEntries(
            Object.entries(platforms).map(([platform, sources]) => [platform, { sources: sources.map(source) }]),
          ),
        },
      ]),
    ),
  }
}

/** Writes a manifest that names `body` as Lima of this machine's platform, and puts it on `server`'s mirror. */
export async function publishLima(server, dir, body, { url = limaUrl(), file = {}, source = {} } = {}) {
  await server.file(mirrored(url), { body, ...file })
  const path = join(dir, 'manifest.json')
  writeFileSync(path, JSON.stringify(manifestOf({ lima: { [PLATFORM]: [{ url, body, ...source }] } })))
  return { manifest: path, mirror: server.url, path: mirrored(url) }
}

/** An authority nobody knows: the path of its certificate, and what makes a key and a certificate that it signed. */
export function authority(dir) {
  const at = (name) => join(dir, name)
  const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const fresh = (name, subject) => ['-newkey', 'rsa:2048', '-nodes', '-subj', subject, '-keyout', at(`${name}.key`)]
  openssl('req', '-x509', ...fresh('ca', '/CN=Release Test CA'), '-days', '2', '-out', at('ca.pem'))
  const issue = (name, subject, extensions) => {
    const [key, cert, request, wanted] = ['key', 'pem', 'csr', 'ext'].map((ending) => at(`${name}.${ending}`))
    openssl('req', ...fresh(name, subject), '-out', request)
    writeFileSync(wanted, `basicConstraints=CA:FALSE\n${extensions}\n`)
    const signer = ['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial']
    openssl('x509', '-req', '-in', request, ...signer, '-days', '2', '-extfile', wanted, '-out', cert)
    return { key, cert }
  }
  return { ca: at('ca.pem'), issue }
}

const LOOPBACK = 'IP:127.0.0.1,DNS:localhost'

/** What a server on the loopback says of itself; `more` are further names. */
export const ofServer = (...more) =>
  `extendedKeyUsage=serverAuth\nsubjectAltName=${[LOOPBACK, ...more.map((name) => `DNS:${name}`)].join()}`

/** An authority nobody knows, and a certificate of it for the loopback and the release hosts. */
export function certificates(dir) {
  const { ca, issue } = authority(dir)
  const { key, cert } = issue('server', '/CN=localhost', ofServer('github.com', 'cloud-images.ubuntu.com'))
  return { ca, tls: { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') } }
}
