// What an image says under names on which an engine, or a program beside it, acts.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { DockerAdapter } from 'lima-runtime'
import { noDockerd, startDockerd } from '../support/dockerd.mjs'
import { busyboxArchive, loadArchive } from '../support/images.mjs'

/** Names a project of somebody's, an application, and a unit of systemd's to restart. */
const labels = {
  'com.docker.compose.project': 'theirs',
  'com.docker.compose.service': 'db',
  'com.docker.compose.oneoff': 'False',
  'io.containers.autoupdate': 'registry',
  PODMAN_SYSTEMD_UNIT: 'sshd.service',
  'lima-runtime.app': 'another',
  'lima-runtime/healthcheck': 'x',
}

describe('labels of an image', { skip: noDockerd(), timeout: 300_000 }, () => {
  let engine
  let docker
  before(async () => {
    engine = await startDockerd()
    const config = { Labels: { ...labels, 'com.example.kept': 'yes' }, Cmd: ['sleep', '1000'] }
    await loadArchive(engine, busyboxArchive({ tags: ['evil:1'], config }))
    docker = new DockerAdapter({ host: engine.host, appName: 'labels' })
  })
  after(() => engine?.stop())

  it('make a container nobody’s but the application’s', async () => {
    const id = await docker.startContainer({ name: 'evil', image: 'evil:1', labels: { 'com.example.tier': 'web' } })
    const { Config } = await engine.api('GET', `/containers/${id}/json`)
    const expected = Object.fromEntries(Object.keys(labels).map((key) => [key, '']))
    assert.deepEqual(Config.Labels, {
      ...expected,
      'com.example.kept': 'yes',
      'com.example.tier': 'web',
      'lima-runtime.app': 'labels',
    })
    // As compose looks for what belongs to a project, and another application for what is its own.
    for (const label of ['com.docker.compose.project=theirs', 'lima-runtime.app=another']) {
      const filters = encodeURIComponent(JSON.stringify({ label: [label] }))
      assert.deepEqual(await engine.api('GET', `/containers/json?all=1&filters=${filters}`), [], label)
    }
    await docker.removeContainer(id, true)
  })
})
