// Labels that containerd's restart monitor, nerdctl and its hook act on as root: an image's never reach a container of ours, and
// what stands in somebody else's record is not believed.
import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { ContainerdAdapter } from 'lima-runtime'
import { noContainerd, startContainerd } from '../support/containerd.mjs'
import { busyboxArchive } from '../support/images.mjs'
import { waitFor } from '../support/wait.mjs'

describe('labels that are acted on', { skip: noContainerd(), timeout: 300_000 }, () => {
  let engine
  let adapter
  const file = (name) => join(engine.dir, name)
  /** A log's URI that makes the monitor's shim run a shell. */
  const shell = (script) => `binary:///bin/sh?-c=${encodeURIComponent(script)}`
  const record = async (id) => JSON.parse(await engine.ctr('containers', 'info', id))

  async function load(tag, config) {
    writeFileSync(file('image.tar'), busyboxArchive({ tags: [tag], config: { Cmd: ['sleep', '1000'], ...config } }))
    await engine.ctr('images', 'import', file('image.tar'))
  }

  /** Labels with which an image would have something done on the machine, and what would be there then. */
  function attack() {
    const traces = ['loguri', 'logpath', 'pidfile'].map((name) => file(`evil-${name}`))
    return {
      traces,
      labels: {
        'containerd.io/restart.status': 'running',
        'containerd.io/restart.policy': 'always',
        'containerd.io/restart.loguri': shell(`id >${traces[0]}`),
        'containerd.io/restart.logpath': traces[1],
        'containerd.io/restart.explicitly-stopped': 'false',
        'containerd.io/other': 'x',
        'io.containerd.other': 'x',
        'nerdctl/pid-file': traces[2],
        'nerdctl/network-namespace': '/proc/1/ns/net',
        'nerdctl/anonymous-volumes': '["precious"]',
        'nerdctl/mounts': '[{"Type":"volume","Name":"precious","Source":"/x","Destination":"/y"}]',
        'nerdctl/mounts.0': '{"Type":"volume","Name":"precious","Source":"/x","Destination":"/y"}',
        'nerdctl/mounts.7': '{"Type":"bind","Source":"/","Destination":"/host"}',
        'nerdctl/pid-container': 'other',
        'nerdctl/ip': '10.9.9.9',
        'nerdctl/mac-address': '02:00:00:00:00:01',
        'nerdctl/stop-timeout': '86400',
        'nerdctl/state-dir': '/etc',
        'nerdctl/namespace': 'other',
        'nerdctl/name': 'other',
        'nerdctl/healthstate': '{"Status":"healthy"}',
        'nerdctl/bypass4netns': 'true',
        'com.docker.compose.project': 'theirs',
        'lima-runtime.restart': 'always',
        'lima-runtime.restart-status': 'running',
        'lima-runtime.app': 'other',
        'com.example.kept': 'yes',
      },
    }
  }

  before(async () => {
    engine = await startContainerd({ monitor: '500ms' })
    await load('busybox:latest')
    adapter = new ContainerdAdapter({ ...engine.options, appName: 'labels' })
    await adapter.initialize()
  })
  after(() => engine?.stop())

  /** Returns when the monitor has done for one of its own what it would do for others that were there before. */
  async function round(name) {
    const trace = file(`witness-${name}`)
    const labels = { 'restart.status': 'running', 'restart.policy': 'always', 'restart.loguri': shell(`id >${trace}`) }
    await engine.ctr(...['containers', 'create', 'docker.io/library/busybox:latest', name, 'sleep', '1000'])
    const given = Object.entries(labels).map(([key, value]) => `containerd.io/${key}=${value}`)
    await engine.ctr('containers', 'label', name, ...given)
    await waitFor('a round of the monitor', () => existsSync(trace), { timeoutMs: 120_000 })
    await engine.ctr('containers', 'label', name, 'containerd.io/restart.status=')
    await engine.ctr('tasks', 'kill', '-s', 'KILL', name).catch(() => {})
    await waitFor('its end', () =>
      engine.ctr('tasks', 'rm', '-f', name).then(
        () => true,
        () => false,
      ),
    )
    await engine.ctr('containers', 'rm', name)
    assert.match(readFileSync(trace, 'utf8'), /uid=0/, 'the attack works where nobody is in its way')
  }

  it('what an image says under these names is never done, however long nerdctl takes', async () => {
    const { labels, traces } = attack()
    await load('evil:1', { Labels: labels })
    await engine.nerdctl(['volume', 'create', 'precious'])
    // The monitor has its round while the container is made and nothing of ours has seen it.
    const slow = file('slow-nerdctl')
    const go = file('go')
    writeFileSync(
      slow,
      `#!/bin/sh
out=$("${engine.options.nerdctlPath}" "$@") || exit
case " $* " in *" create "*) while [ ! -e ${go} ]; do sleep 0.05; done ;; esac
printf '%s\\n' "$out"
`,
    )
    chmodSync(slow, 0o755)
    const warnings = []
    const note = (warning) => warnings.push(warning)
    process.on('warning', note)
    try {
      const slowly = new ContainerdAdapter({ ...engine.options, nerdctlPath: slow, appName: 'labels' })
      const starting = slowly.startContainer({ name: 'evil', image: 'evil:1' })
      await waitFor('the container', async () => (await engine.ctr('containers', 'ls', '-q')).length > 0)
      await round('first')
      writeFileSync(go, '')
      const id = await starting
      await round('second')
      const found = await record(id)
      assert.deepEqual(
        Object.keys(found.Labels)
          .filter((key) => key in labels)
          .sort(),
        // nerdctl writes the second when it starts a container.
        [
          'com.example.kept',
          'containerd.io/restart.explicitly-stopped',
          'lima-runtime.app',
          'nerdctl/name',
          'nerdctl/namespace',
          'nerdctl/state-dir',
        ],
      )
      assert.equal(found.Labels['lima-runtime.app'], 'labels')
      assert.equal(found.Labels['nerdctl/name'], 'evil')
      assert.ok(found.Labels['nerdctl/state-dir'].endsWith(id))
      assert.equal(found.Spec.annotations['nerdctl/pid-file'], undefined)
      assert.equal(found.Spec.annotations['nerdctl/network-namespace'], undefined)
      const { mounts, labels: shown } = await adapter.getContainerDetails(id)
      assert.deepEqual([mounts, shown], [[], { 'com.example.kept': 'yes', 'lima-runtime.app': 'labels' }])
      await adapter.stopContainer(id, 0)
      await adapter.removeContainer(id, true)
      assert.deepEqual(traces.filter(existsSync), [])
      assert.ok((await adapter.listVolumes()).some(({ name }) => name === 'precious'))
      await waitFor('the warning', () => warnings.some(({ message }) => message.includes('nerdctl/pid-file')))
    } finally {
      process.off('warning', note)
    }
  })

  it('a restart policy of ours has its own log and no other', async () => {
    const { labels, traces } = attack()
    await load('evil:2', { Labels: labels })
    const id = await adapter.startContainer({ name: 'restarted', image: 'evil:2', restart: 'always' })
    const { Labels } = await record(id)
    assert.equal(Labels['containerd.io/restart.loguri'], Labels['nerdctl/log-uri'])
    assert.equal(Labels['containerd.io/restart.status'], 'running')
    await adapter.removeContainer(id, true)
    assert.deepEqual(traces.filter(existsSync), [])
  })

  it('a record that was changed afterwards is cleaned before its start', async () => {
    const id = await adapter.startContainer({ name: 'changed', image: 'busybox:latest', command: ['sleep', '1000'] })
    await adapter.stopContainer(id, 0)
    const trace = file('evil-later')
    await engine.ctr('containers', 'label', id, `nerdctl/pid-file=${trace}`, 'containerd.io/restart.logpath=/x')
    await adapter.restartContainer(id, 0)
    const { Labels } = await record(id)
    assert.deepEqual([Labels['nerdctl/pid-file'], Labels['containerd.io/restart.logpath']], [undefined, undefined])
    await adapter.removeContainer(id, true)
    assert.ok(!existsSync(trace))
  })

  it("a directory that another client's record names is neither read nor removed", async () => {
    // `ctr` copies an image's labels, and nerdctl believes them: it would remove the directory.
    const dir = file('precious')
    mkdirSync(dir)
    writeFileSync(join(dir, 'kept'), 'kept')
    await load('evil:3', {
      Labels: {
        'nerdctl/state-dir': dir,
        'nerdctl/name': 'theirs',
        'nerdctl/ipc': `{"mode":"shareable","hostShmPath":"${dir}"}`,
      },
    })
    await engine.ctr('containers', 'create', 'docker.io/library/evil:3', 'theirs', 'sleep', '1000')
    writeFileSync(join(dir, 'theirs-json.log'), '{"log":"secret\\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}\n')
    let log = ''
    for await (const chunk of await adapter.getContainerLogs('theirs')) log += chunk
    assert.equal(log, '')
    for (const call of [
      () => adapter.removeContainer('theirs', true),
      () => adapter.stopContainer('theirs', 0),
      () => adapter.restartContainer('theirs', 0),
    ])
      await assert.rejects(call, { code: 'INVALID_STATE' })
    assert.ok(existsSync(join(dir, 'kept')))
    await engine.ctr('containers', 'rm', 'theirs')
  })

  it('one whose create was cut off is not started', async () => {
    const id = await engine.nerdctl([
      'create',
      '--label',
      'lima-runtime.unfinished=true',
      '--name',
      'half',
      'busybox:latest',
    ])
    await assert.rejects(() => adapter.restartContainer(id), { code: 'INVALID_STATE' })
    await adapter.removeContainer(id)
  })
})
