// An npm registry on loopback that serves tarballs from disk: the two kinds of answer `npm install` asks for.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'

/**
 * Serves the packages until `close()`.
 * @param {{ manifest: { name: string, version: string }, tarball: string }[]} packages
 * @returns {Promise<{ url: string, close: () => Promise<void> }>}
 */
export async function startNpmRegistry(packages) {
  const server = createServer((request, response) => {
    const name = decodeURIComponent(request.url.slice(1))
    const asked = packages.find(({ manifest }) => name === manifest.name || name === `${manifest.name}.tgz`)
    if (!asked) response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"not_found"}')
    else if (name.endsWith('.tgz')) response.end(readFileSync(asked.tarball))
    else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(packument(asked, url)))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${server.address().port}/`
  return {
    url,
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

function packument({ manifest, tarball }, url) {
  const integrity = `sha512-${createHash('sha512').update(readFileSync(tarball)).digest('base64')}`
  return {
    name: manifest.name,
    'dist-tags': { latest: manifest.version },
    // Yarn and pnpm take no version that was published within the last day; without a time, Yarn takes none.
    time: { [manifest.version]: new Date(0).toISOString() },
    versions: { [manifest.version]: { ...manifest, dist: { tarball: `${url}${manifest.name}.tgz`, integrity } } },
  }
}
