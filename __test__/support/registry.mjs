// Debian's docker-registry on a free loopback port, with or without a password and TLS.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { join } from 'node:path'
import { http } from './http.mjs'
import { freePort } from './ports.mjs'
import { startServer, waitExit } from './process.mjs'
import { tempDir } from './tempdir.mjs'
import { waitFor } from './wait.mjs'

/** The registry's one account, where it asks for one; the hash is bcrypt, as it demands. */
export const ACCOUNT = { username: 'alice', password: 'correct horse battery staple' }
const HTPASSWD = 'alice:$2b$04$Rp6CrEouqe/5cozKX.19Ie4oWuNq7wFUvSaXqPek7jvc.sYnS6j2.\n'

/**
 * @param {{ auth?: boolean, tls?: boolean }} [options]
 * @returns {Promise<{ address: string, port: number, url: string, ca?: string, log: () => string, stop: () => Promise<void> }>} `address` is what image references begin with; `ca` is the PEM to trust
 */
export async function startRegistry({ auth = false, tls = false } = {}) {
  const dir = tempDir('registry')
  const port = await freePort()
  const address = `127.0.0.1:${port}`
  const settings = {
    version: 0.1,
    log: { level: 'warn' },
    storage: { filesystem: { rootdirectory: join(dir, 'data') }, delete: { enabled: true } },
    http: { addr: address },
  }
  if (auth) {
    writeFileSync(join(dir, 'htpasswd'), HTPASSWD)
    settings.auth = { htpasswd: { realm: 'lima-runtime tests', path: join(dir, 'htpasswd') } }
  }
  if (tls) {
    certificate(dir)
    settings.http.tls = { certificate: join(dir, 'cert.pem'), key: join(dir, 'key.pem') }
  }
  // JSON is YAML too.
  writeFileSync(join(dir, 'config.yml'), JSON.stringify(settings))
  const child = startServer(['docker-registry', 'serve', join(dir, 'config.yml')])
  let log = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (log = (log + chunk).slice(-65_536)))
  const ca = tls ? readFileSync(join(dir, 'cert.pem'), 'utf8') : undefined
  const stop = async () => {
    child.kill('SIGKILL')
    await waitExit(child, 10_000)
    rmSync(dir, { recursive: true, force: true })
  }
  try {
    await waitFor('the registry answering', async () => {
      if (child.exitCode !== null) return 'ended'
      return tls ? await answersTls(port, ca) : (await http({ host: '127.0.0.1', port, path: '/v2/' })).status < 500
    }).then((outcome) => {
      if (outcome === 'ended') throw new Error(`docker-registry ended:\n${log}`)
    })
  } catch (error) {
    await stop()
    throw error
  }
  return { address, port, url: `${tls ? 'https' : 'http'}://${address}`, ca, log: () => log, stop }
}

/** Pushes an image the engine has into a registry, under the name it gets there; past our own code. */
export async function pushImage(engine, image, registry, name, { auth } = {}) {
  const repo = `${registry.address}/${name.split(':')[0]}`
  const tag = name.split(':')[1] ?? 'latest'
  await engine.api('POST', `/images/${encodeURIComponent(image)}/tag?repo=${encodeURIComponent(repo)}&tag=${tag}`)
  const header = Buffer.from(JSON.stringify(auth ?? {})).toString('base64')
  const lines = [
    await engine.api('POST', `/images/${encodeURIComponent(repo)}/push?tag=${tag}`, undefined, {
      'x-registry-auth': header,
    }),
  ].flat()
  const failed = lines.find((line) => line?.error)
  await engine.api('DELETE', `/images/${encodeURIComponent(`${repo}:${tag}`)}?noprune=1`)
  if (failed) throw new Error(failed.error)
  return `${repo}:${tag}`
}

/**
 * Puts an image (`busyboxImage`), or one for each of several platforms, into a registry, past every engine.
 * @param {{ auth?: { username: string, password: string } }} [options]
 */
export async function publish(registry, name, image, { auth } = {}) {
  const [repo, tag] = name.split(':')
  const headers = auth && {
    authorization: `Basic ${Buffer.from(`${auth.username}:${auth.password}`).toString('base64')}`,
  }
  const send = async (method, path, body, type) => {
    const url = new URL(path, registry.url)
    const request = (registry.ca ? httpsRequest : httpRequest)(url, {
      method,
      ca: registry.ca,
      agent: false,
      headers: { ...headers, 'content-length': body?.length ?? 0, ...(type && { 'content-type': type }) },
    })
    const [response] = await once(request.end(body), 'response')
    if (response.statusCode >= 300) throw new Error(`${method} ${url}: ${response.statusCode}`)
    await once(response.resume(), 'end')
    return response.headers
  }
  const put = async (mediaType, data) => {
    const digest = `sha256:${createHash('sha256').update(data).digest('hex')}`
    const { location } = await send('POST', `/v2/${repo}/blobs/uploads/`)
    const upload = new URL(location, registry.url)
    upload.searchParams.set('digest', digest)
    await send('PUT', `${upload.pathname}${upload.search}`, data, 'application/octet-stream')
    return { mediaType: `application/vnd.oci.image.${mediaType}`, digest, size: data.length }
  }
  const putManifest = async (manifest, reference) => {
    const text = Buffer.from(JSON.stringify(manifest))
    const digest = `sha256:${createHash('sha256').update(text).digest('hex')}`
    await send('PUT', `/v2/${repo}/manifests/${reference ?? digest}`, text, manifest.mediaType)
    return { mediaType: manifest.mediaType, digest, size: text.length }
  }
  const putImage = async ({ config, layers }, reference) => {
    const manifest = { schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json', layers: [] }
    manifest.config = await put('config.v1+json', config)
    for (const layer of layers) manifest.layers.push(await put('layer.v1.tar', layer))
    const { architecture, os } = JSON.parse(config)
    return { ...(await putManifest(manifest, reference)), platform: { architecture, os } }
  }
  if (!Array.isArray(image)) return void (await putImage(image, tag))
  const index = { schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [] }
  for (const one of image) index.manifests.push(await putImage(one))
  await putManifest(index, tag)
}

function certificate(dir) {
  // 192.168.5.2 is this machine as a Lima VM sees it.
  const alternatives = 'subjectAltName=IP:127.0.0.1,IP:192.168.5.2,DNS:localhost'
  const names = ['-addext', alternatives, '-subj', '/CN=lima-runtime test registry']
  const files = ['-keyout', join(dir, 'key.pem'), '-out', join(dir, 'cert.pem')]
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30']
  execFileSync('openssl', ['req', ...kind, ...files, ...names], { stdio: ['ignore', 'ignore', 'pipe'] })
}

function answersTls(port, ca) {
  return new Promise((resolve, reject) => {
    httpsRequest({ host: '127.0.0.1', port, path: '/v2/', ca, agent: false }, (response) =>
      resolve(response.resume().statusCode < 500),
    )
      .on('error', reject)
      .end()
  })
}
