// The main journey on a real VM (`support/real-lima.mjs` says when).
import assert from 'node:assert/strict'
import http from 'node:http'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { httpdArchive } from '../support/images.mjs'
import { limaRig } from '../support/lima.mjs'
import { limaArchive, noRealLima } from '../support/real-lima.mjs'

const skip = noRealLima()
const { LIMA_RUNTIME_TEST_TEMPLATE: template } = process.env

const HOUR = 3_600_000

test('a real VM, from an empty directory to a container that answers', { skip, timeout: 2 * HOUR }, async (t) => {
  const began = Date.now()
  const say = (...words) => console.log(`# ${((Date.now() - began) / 1000).toFixed(1).padStart(7)} s`, ...words)
  const rig = await limaRig(t, { archive: limaArchive() })
  const { engineSocket: _standIn, ...rest } = rig.options
  const resources = { cpus: 2, memory: '2GiB', disk: '6GiB', mounts: [] }
  const options = { ...rest, resources, ...(template && { template }) }
  const { QEMU_SYSTEM_X86_64 } = process.env
  const { ask, child } = rig.app({ LIMA_RUNTIME_TEST_SAY: '1', ...(QEMU_SYSTEM_X86_64 && { QEMU_SYSTEM_X86_64 }) })
  child.on('message', ({ said }) => said && say(said.phase, said.percent ?? '', said.message))
  const call = (method, ...args) => ask({ options, method, args })
  const slow = { timeoutMs: HOUR }

  assert.equal((await call('getStatus')).state, 'not-installed')
  const events = await call('progress', 'install', slow)
  say('installed')
  events.push(...(await call('progress', 'start', slow)))
  say('started')
  const phases = [...new Set(events.map((e) => e.phase))]
  for (const phase of ['resolve', 'download', 'extract', 'create', 'boot', 'provision', 'ready'])
    assert.ok(phases.includes(phase), `${phase} is not among ${phases}`)
  for (const phase of phases) {
    const percents = events.filter((e) => e.phase === phase && e.percent !== undefined).map((e) => e.percent)
    assert.deepEqual(
      percents,
      percents.toSorted((a, b) => a - b),
      phase,
    )
  }
  say(JSON.stringify(await call('getVMInfo')))
  say(await call('execNerdctl', ['load'], { input: httpdArchive(), ...slow }))
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address()
  await assert.rejects(
    call('execNerdctl', ['run', '-d', '-p', `${port}:80`, 'lima-runtime-httpd:1']),
    ({ code, details }) => code === 'PORT_IN_USE' && details.port === port,
  )
  await new Promise((resolve) => server.close(resolve))
  const id = await call('execNerdctl', ['run', '-d', '--name', 'web', '-p', `${port}:80`, 'lima-runtime-httpd:1'], slow)
  say('container', id.trim().slice(0, 12))
  const page = await new Promise((resolve, reject) => {
    http
      .get({ port, host: '127.0.0.1', agent: false }, (answer) => answer.setEncoding('utf8').once('data', resolve))
      .on('error', reject)
  })
  assert.equal(page, 'Hello from a container\n')
  say(`it answered at 127.0.0.1:${port}:`, page.trim())
  const wrapper = rig.run(await call('getNerdctlPath'), ['ps', '--format', '{{.Names}} {{.Status}}'])
  assert.match(wrapper.stdout.toString(), /^web Up/, wrapper.stderr.toString())
  say('bin/nerdctl ps:', wrapper.stdout.toString().trim())

  await call('stop', slow)
  assert.equal((await call('getStatus')).state, 'stopped')
  say('stopped')
  await call('start', slow)
  say('started again')
  // nerdctl's own word for a container that a reboot ended is Created.
  assert.match(
    await call('execNerdctl', ['ps', '-a', '--format', '{{.Names}} {{.Status}}'], slow),
    /^web (Exited|Created)/,
  )
  await call('delete', slow)
  assert.equal((await call('getStatus')).state, 'not-created')
  await call('uninstall')
  say('deleted')
})
