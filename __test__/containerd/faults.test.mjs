// What containerd and nerdctl do that they should not: they die, hang, and are many.
import assert from 'node:assert/strict'
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { ContainerdAdapter, RuntimeError } from 'lima-runtime'
import { CALLS } from '../contract/calls.mjs'
import { noContainerd, startContainerd } from '../support/containerd.mjs'
import { busyboxArchive } from '../support/images.mjs'
import { runAsRoot, startTime } from '../support/process.mjs'
import { waitFor } from '../support/wait.mjs'

const skip = noContainerd()
const image = 'busybox:latest'
const IDLE = ['sh', '-c', 'trap "exit 0" TERM; sleep 86400 & wait']

describe('faults of containerd and nerdctl', { skip, timeout: 900_000 }, () => {
  let engine
  let adapter

  before(async () => {
    engine = await startContainerd()
    const load = async (archive) => {
      writeFileSync(join(engine.dir, 'image.tar'), archive)
      await engine.nerdctl(['load', '-i', join(engine.dir, 'image.tar')])
    }
    await load(busyboxArchive())
    await load(busyboxArchive({ tags: ['other:latest'], files: { '/other': 'another' } }))
    adapter = new ContainerdAdapter(engine.options)
    await adapter.initialize()
  })
  after(() => engine?.stop())

  /** Whether somebody waits for containerd to take a connection or to read. */
  function waits() {
    const sockets = runAsRoot('ss', '-xaH').split('\n')
    return sockets.some((line) => {
      const [, , unread, , path] = line.split(/\s+/)
      return path === engine.address && Number(unread) > 0
    })
  }

  describe('containerd killed and restarted during', () => {
    for (const [method, call] of Object.entries(CALLS)) {
      it(method, { timeout: 300_000 }, async () => {
        const name = `killed-${method.toLowerCase()}`
        if (method !== 'startContainer') await adapter.startContainer({ name, image, command: IDLE })
        const mine = { name, image, archive: join(engine.dir, 'image.tar') }
        // Held, so that what needs it is under way when it is killed.
        do {
          engine.signal('SIGCONT')
          await waitFor('nothing under way', () => !waits())
          engine.signal('SIGSTOP')
        } while (waits())
        let ended
        const outcome = call(adapter, mine, { timeoutMs: 120_000 }).then(
          () => (ended = 'done'),
          (error) => (ended = error),
        )
        // What has ended meanwhile needs no containerd; the one subscription to events stands already.
        if (method !== 'events')
          await waitFor('the call, at containerd', () => ended || waits()).catch((error) => {
            engine.signal('SIGCONT')
            throw error
          })
        await engine.halt('SIGKILL')
        await engine.start()
        await outcome
        // Made again after the kill, or an error of ours that is no accident of this package.
        if (ended !== 'done') {
          assert.ok(ended instanceof RuntimeError, ended)
          assert.notEqual(ended.code, 'INTERNAL', ended.stack)
        }
        // The same adapter goes on, and nothing stands in the way of the same name.
        const [left] = await adapter.listContainers({ all: true, filters: { name: [name] } })
        if (left) await adapter.removeContainer(left.id, true)
        const again = await adapter.startContainer({ name, image, command: IDLE })
        assert.equal((await adapter.inspectContainer(again)).state, 'running')
        await adapter.removeContainer(again, true)
      })
    }
  })

  const WRITES = {
    'volume create': (adapter, options) => adapter.createVolume('hangs', options),
    // Of several steps, without a deadline of its own.
    'volume rm': (adapter, options) => adapter.prune({ volumes: true, ...options }),
  }
  for (const [words, call] of Object.entries(WRITES))
    it(`nerdctl ${words} hangs: the deadline, TERM, then KILL; those behind it go on`, async () => {
      const [fake, pid, heard] = ['fake', 'pid', 'term'].map((name) => join(engine.dir, `${words}-${name}`))
      // The first one hangs and hears no TERM; the others are nerdctl's.
      writeFileSync(
        fake,
        `#!/bin/sh
case "$*" in *'${words}'*) ;; *) exec ${engine.options.nerdctlPath} "$@" ;; esac
[ ! -e '${pid}' ] || exec ${engine.options.nerdctlPath} "$@"
trap 'echo TERM >>"${heard}"' TERM
echo $$ >'${pid}'
while :; do sleep 0.05; done
`,
      )
      chmodSync(fake, 0o755)
      const other = new ContainerdAdapter({ ...engine.options, nerdctlPath: fake })
      await adapter.createVolume('unused')
      // Until the deadline of a busy machine comes after the beginning.
      for (let timeoutMs = 500; !existsSync(pid); timeoutMs *= 2)
        await assert.rejects(call(other, { timeoutMs }), { code: 'TIMEOUT' })
      const process = Number(await waitFor('its number', () => readFileSync(pid, 'utf8')))
      assert.equal(await other.createVolume('goes-on', { timeoutMs: 120_000 }), 'goes-on')
      await waitFor('the end of the one that hung', () => startTime(process) === undefined)
      assert.ok(existsSync(heard), 'it was asked to end before it was killed')
      await other.prune({ volumes: true })
    })

  it('an image whose tag has moved: its container is what it was, the next one is the other', async () => {
    await adapter.tagImage(image, 'moved:1')
    const old = await adapter.startContainer({ name: 'old', image: 'moved:1', command: IDLE })
    await engine.nerdctl(['tag', 'other:latest', 'moved:1'])
    const fresh = await adapter.startContainer({ name: 'fresh', image: 'moved:1', command: IDLE })
    const has = async (id) => (await adapter.execInContainer(id, ['test', '-e', '/other'])).exitCode === 0
    assert.deepEqual([await has(old), await has(fresh)], [false, true])
    await adapter.restartContainer(old, 0)
    assert.equal(await has(old), false)
    assert.equal((await adapter.inspectContainer(old)).image, 'moved:1')
    const named = (await adapter.listImages()).filter(({ tags }) => tags.includes('moved:1'))
    assert.deepEqual(
      named.map(({ tags }) => tags.includes('other:latest')),
      [true],
    )
    for (const id of [old, fresh]) await adapter.removeContainer(id, true)
    await adapter.removeImage('moved:1')
  })

  it('300 containers: all are listed, and found by name and by prefix', async () => {
    // Made without nerdctl, which takes its time; with the labels by which it knows its own.
    const names = Array.from({ length: 300 }, (_, i) => `many-${i}`)
    const reference = 'docker.io/library/busybox:latest'
    const make = (name, i) =>
      engine.ctr('containers', 'create', '--label', `nerdctl/name=${name}`, reference, `${i}`.padStart(64, 'e'))
    for (let i = 0; i < names.length; i += 10)
      await Promise.all(names.slice(i, i + 10).map((name, n) => make(name, i + n)))
    const listed = await adapter.listContainers({ all: true })
    assert.deepEqual(listed.map(({ name }) => name).sort(), names.toSorted())
    assert.ok(listed.every(({ state }) => state === 'stopped'))
    assert.equal((await adapter.inspectContainer('many-7')).id, '7'.padStart(64, 'e'))
    const ids = listed.map(({ id }) => id)
    for (let i = 0; i < ids.length; i += 50) await engine.ctr('containers', 'rm', ...ids.slice(i, i + 50))
    assert.deepEqual(await adapter.listContainers({ all: true }), [])
  })
})
