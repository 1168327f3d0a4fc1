// A registry and its token server that give nothing: each name is answered in another one's words.
import { serveHttp } from '../support/http.mjs'

const json = (code, message) => JSON.stringify({ errors: [{ code, message }] })
const HTML = '<html><body>go away</body></html>'

/** By the repository's name: who refuses, with which status, in which words. */
const WORDS = {
  // ghcr.io's, GitLab's and Docker Hub's token servers.
  'ghcr/a': ['token', 403, json('DENIED', 'denied')],
  'gitlab/a': ['token', 403, json('DENIED', 'access forbidden')],
  'hub/a': ['token', 401, JSON.stringify({ details: 'incorrect username or password' })],
  'token-page/a': ['token', 403, HTML],
  // Registries themselves.
  'denied/a': ['registry', 403, json('DENIED', 'requested access to the resource is denied')],
  'google/a': [
    'registry',
    403,
    json('DENIED', 'Permission "artifactregistry.repositories.downloadArtifacts" denied on resource "projects/x"'),
  ],
  'page/a': ['registry', 403, HTML],
  'unauthorized/a': ['registry', 401, json('UNAUTHORIZED', 'authentication required')],
  // No more for now.
  'busy/a': ['registry', 429, json('TOOMANYREQUESTS', 'You have reached your pull rate limit.')],
  'busy-page/a': ['registry', 429, HTML],
  'busy-token/a': ['token', 429, json('TOOMANYREQUESTS', 'slow down')],
}
export const REFUSED = Object.keys(WORDS).filter((name) => !name.startsWith('busy'))
export const BUSY = Object.keys(WORDS).filter((name) => name.startsWith('busy'))

/** @returns {Promise<{ port: number, stop: () => Promise<void> }>} */
export async function startRefusing() {
  return serveHttp((request, response) => {
    const url = new URL(request.url, 'http://registry')
    const answer = (status, text, headers = {}) => {
      const type = text.startsWith('<') ? 'text/html' : 'application/json'
      response.writeHead(status, { 'content-type': type, ...headers }).end(request.method === 'HEAD' ? '' : text)
    }
    if (url.pathname === '/token') {
      const [, name] = /repository:([^:]+):/.exec(url.searchParams.getAll('scope').join(' ')) ?? []
      const [who, status, text] = WORDS[name] ?? []
      return who === 'token' ? answer(status, text) : answer(200, JSON.stringify({ token: 'none', expires_in: 300 }))
    }
    if (!request.headers.authorization) {
      const realm = `Bearer realm="http://${request.headers.host}/token",service="registry"`
      return answer(401, json('UNAUTHORIZED', 'authentication required'), { 'www-authenticate': realm })
    }
    const [, name] = /^\/v2\/(.+)\/(?:manifests|blobs)\//.exec(url.pathname) ?? []
    const [who, status, text] = WORDS[name] ?? []
    return who === 'registry' ? answer(status, text) : answer(200, '{}')
  })
}
