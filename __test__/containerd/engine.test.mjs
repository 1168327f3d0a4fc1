// What only containerd with nerdctl can get wrong, with the real ones.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { ContainerdAdapter } from 'lima-runtime'
import { losesLastWords, noContainerd, startContainerd } from '../support/containerd.mjs'
import { busyboxArchive } from '../support/images.mjs'
import { waitFor } from '../support/wait.mjs'

const skip = noContainerd()
const SECRET = 'lima-runtime-test-secret-9f2c'

describe('containerd with nerdctl', { skip, timeout: 600_000 }, () => {
  let engine
  let adapter
  const image = 'busybox:latest'
  const text = async (id, options) => {
    let all = ''
    for await (const chunk of await adapter.getContainerLogs(id, options)) all += chunk
    return all
  }

  before(async () => {
    process.env.LIMA_RUNTIME_TEST_SECRET = SECRET
    engine = await startContainerd()
    writeFileSync(join(engine.dir, 'busybox.tar'), busyboxArchive())
    await engine.ctr('images', 'import', join(engine.dir, 'busybox.tar'))
    adapter = new ContainerdAdapter(engine.options)
    await adapter.initialize()
  })
  after(() => engine?.stop())

  it('50 containers that print and end at once leave 50 whole logs to those who follow', async () => {
    const names = Array.from({ length: 50 }, (_, i) => `printer-${i}`)
    const logs = await Promise.all(
      names.map(async (name) => {
        const command = ['sh', '-c', `i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo ${name} $i; done; printf end`]
        // Fifty wait for one nerdctl: longer than one call may take, on a busy machine.
        const id = await adapter.startContainer({ name, image, command }, { timeoutMs: 300_000 })
        return text(id, { follow: true })
      }),
    )
    for (const [i, name] of names.entries()) {
      const lines = Array.from({ length: 20 }, (_, n) => `${name} ${n + 1}\n`)
      assert.equal(logs[i], `${lines.join('')}end`)
    }
    await Promise.all(names.map((name) => adapter.removeContainer(name, true, { timeoutMs: 300_000 })))
  })

  it("nothing of the caller's environment reaches a container or nerdctl's files", async () => {
    const id = await adapter.startContainer({ name: 'clean', image, command: ['sleep', '1000'] })
    const { raw, env } = await adapter.getContainerDetails(id)
    assert.ok(!JSON.stringify(raw).includes(SECRET) && !JSON.stringify(env).includes(SECRET))
    assert.ok(!(await engine.ctr('containers', 'info', id)).includes(SECRET))
    assert.ok(!filesBelow(join(engine.dir, 'nerdctl')).some((file) => readFileSync(file).includes(SECRET)))
    await adapter.removeContainer(id, true)
  })

  it('what the restart monitor has no policy for, it leaves alone', async () => {
    // containerd 1.6: a label of its own status makes it start the container, without a log, also one that ended well.
    const id = await adapter.startContainer({ name: 'well', image, command: ['true'], restart: 'on-failure' })
    assert.deepEqual(await adapter.waitContainer(id), { exitCode: 0 })
    const { Labels } = JSON.parse(await engine.ctr('containers', 'info', id))
    if (!('containerd.io/restart.policy' in Labels)) assert.ok(!('containerd.io/restart.status' in Labels))
    const { state, labels } = await adapter.getContainerDetails(id)
    assert.deepEqual([state, Object.keys(labels)], ['exited', ['lima-runtime.app']])
    await adapter.removeContainer(id)
  })

  it('what is to be restarted starts once, whenever the restart monitor looks', async () => {
    // Its rounds are ten seconds apart; these starts take longer.
    for (let turn = 0; turn < 25; turn++) {
      const config = {
        name: `once-${turn}`,
        image,
        restart: 'always',
        command: ['sh', '-c', 'echo up; exec sleep 1000'],
      }
      const id = await adapter.startContainer(config)
      const lines = (await adapter.getContainerLogs(id, { follow: true }))[Symbol.asyncIterator]()
      assert.equal(String((await lines.next()).value), 'up\n')
      await lines.return()
      const { Labels } = JSON.parse(await engine.ctr('containers', 'info', id))
      assert.equal(Labels['containerd.io/restart.status'], 'running')
      assert.match(Labels['containerd.io/restart.policy'], /always|unless-stopped/)
      assert.equal(await text(id), 'up\n')
      await adapter.removeContainer(id, true)
    }
  })

  it('a list, kept from the last one, never lags behind what another client did', async () => {
    const id = await adapter.startContainer({ name: 'labelled', image, command: ['sleep', '1000'] })
    for (let turn = 0; turn < 20; turn++) {
      const label = [`turn=${turn}`]
      const found = () => adapter.listContainers({ all: true, filters: { label } })
      assert.deepEqual(await found(), [])
      await engine.ctr('containers', 'label', id, ...label)
      assert.equal((await found())[0]?.id, id)
    }
    await adapter.removeContainer(id, true)
    assert.deepEqual(await adapter.listContainers({ all: true, filters: { id: [id] } }), [])
  })

  it('a container takes the port of one that has ended, and of one that was stopped', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address()
    await new Promise((resolve) => server.close(resolve))
    const config = { image, ports: { 80: `127.0.0.1:${port}` } }
    const ended = await adapter.startContainer({ ...config, name: 'ended', command: ['true'] })
    await adapter.waitContainer(ended)
    const stopped = await adapter.startContainer({ ...config, name: 'stopped', command: ['sleep', '1000'] })
    await adapter.stopContainer(stopped, 0)
    const third = await adapter.startContainer({ ...config, name: 'third', command: ['sleep', '1000'] })
    assert.equal((await adapter.inspectContainer(third)).state, 'running')
    for (const id of [ended, stopped, third]) await adapter.removeContainer(id, true)
  })

  it('what is ended to free a port is what holds it, not whoever has its number', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address()
    await new Promise((resolve) => server.close(resolve))
    const config = { image, ports: { 80: `127.0.0.1:${port}` } }
    const id = await adapter.startContainer({ ...config, name: 'kept', command: ['true'] })
    await adapter.waitContainer(id)
    // As after a restart of the machine: the number is somebody else's.
    const other = spawn('sleep', ['infinity'])
    const file = `/run/nerdctl/${engine.options.namespace}/${id}/port-reserver.pid`
    const reserver = readFileSync(file, 'utf8')
    writeFileSync(file, String(other.pid))
    try {
      const second = adapter.startContainer({ ...config, name: 'second', command: ['sleep', '1000'] })
      await assert.rejects(second, { code: 'PORT_IN_USE' })
      assert.deepEqual([other.exitCode, other.signalCode], [null, null])
    } finally {
      other.kill('SIGKILL')
      process.kill(Number(reserver))
      for (const name of ['kept', 'second']) await adapter.removeContainer(name, true).catch(() => {})
    }
  })

  it("a network's name that nerdctl takes for a namespace's address is refused", async () => {
    for (const name of ['ns', 'container']) {
      await assert.rejects(adapter.startContainer({ name: 'ns', image, networks: [name] }), {
        code: 'INVALID_ARGUMENT',
        details: { field: 'networks[0]' },
      })
      await assert.rejects(adapter.createNetwork(name), { code: 'NAME_IN_USE' })
    }
  })

  it('a start that fails leaves no process behind', async () => {
    const loggers = () =>
      readdirSync('/proc')
        .filter(Number)
        .filter((pid) => {
          try {
            return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(join(engine.dir, 'nerdctl'))
          } catch {
            return false
          }
        })
    const before = loggers()
    await assert.rejects(adapter.startContainer({ name: 'nosuch', image, command: ['nosuch'] }))
    await waitFor('their end', () => loggers().every((pid) => before.includes(pid)))
  })

  it('the last words of a container that says much at once', async (t) => {
    if (losesLastWords()) return t.skip("nerdctl's logger before 2.3.4 loses what it has read")
    for (let turn = 0; turn < 10; turn++) {
      // All of it fits into the pipe: the container has ended before its logger has read much.
      const command = ['sh', '-c', 'yes 0123456789 | head -n 5500; yes abcdef | head -n 9000 >&2']
      const id = await adapter.startContainer({ name: `last-${turn}`, image, command })
      const followed = await text(id, { follow: true })
      assert.equal((await text(id, { stderr: false })).length, 5500 * 11)
      assert.equal((await text(id, { stdout: false })).length, 9000 * 7)
      assert.equal(followed.length, 5500 * 11 + 9000 * 7)
      await adapter.removeContainer(id, true)
    }
  })

  it('a name that a killed nerdctl left behind does not stand in the way', async () => {
    const id = await adapter.startContainer({ name: 'first', image, command: ['sleep', '1000'] })
    const [file] = filesBelow(join(engine.dir, 'nerdctl')).filter((path) => path.endsWith('/first'))
    const content = readFileSync(file)
    await adapter.removeContainer(id, true)
    assert.ok(!existsSync(file))
    writeFileSync(file, content)
    const again = await adapter.startContainer({ name: 'first', image, command: ['sleep', '1000'] })
    assert.notEqual(again, id)
    await adapter.removeContainer(again, true)
  })

  it('containers that lost their tasks read as ended, and can be started', async () => {
    const id = await adapter.startContainer({ name: 'lost', image, command: ['sleep', '1000'] })
    // As after a reboot: the record stays, the task is gone.
    await engine.ctr('tasks', 'kill', '-s', 'KILL', id)
    await adapter.waitContainer(id)
    await engine.ctr('tasks', 'rm', id)
    assert.equal((await adapter.inspectContainer(id)).state, 'exited')
    await adapter.restartContainer(id, 0)
    assert.equal((await adapter.inspectContainer(id)).state, 'running')
    await adapter.removeContainer(id, true)
  })

  it('another nerdctl is used from the next call on; a missing one is NOT_INSTALLED', async () => {
    const other = new ContainerdAdapter(engine.options)
    await other.setNerdctlPath('/no/such/nerdctl')
    await assert.rejects(other.startContainer({ name: 'never', image }), { code: 'NOT_INSTALLED' })
    await assert.rejects(other.setNerdctlPath('nerdctl'), { code: 'INVALID_ARGUMENT' })
    await other.setNerdctlPath(engine.options.nerdctlPath)
    await other.removeContainer(await other.startContainer({ name: 'made', image }), true)
  })

  it('a nerdctl that panics, warns, or prints half a line is an error with its words', async () => {
    const fake = join(engine.dir, 'fake-nerdctl')
    const says = async (script) => {
      writeFileSync(fake, `#!/bin/sh\n${script}\n`)
      chmodSync(fake, 0o755)
      const other = new ContainerdAdapter({ ...engine.options, nerdctlPath: fake })
      return other.createVolume('never-made').then(
        () => assert.fail('it resolved'),
        (error) => error,
      )
    }
    // Go's form of a panic (docs/reference/nerdctl.md#errors).
    assert.match((await says('echo "panic: environment variable HOME is not set" >&2; exit 2')).message, /panic: env/)
    assert.equal((await says('printf "time=\\"x\\" level=warning msg=\\"half" >&2; exit 1')).code, 'ENGINE_ERROR')
    const error = await says('echo \'time="x" level=fatal msg="boom \\"quoted\\""\' >&2; exit 1')
    assert.ok(error.message.includes('boom "quoted"'), error.message)
  })
})

function filesBelow(dir) {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
}
