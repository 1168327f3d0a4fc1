// A real VM that an older Lima made (`LIMA_RUNTIME_TEST_LIMACTL_OLDER` lies in an unpacked release of it; by
// `LIMA_RUNTIME_TEST_TEMPLATE_OLDER` with an older nerdctl), upgraded by the one under test (`support/real-lima.mjs`) and rolled
// back: what it holds is still there, and ports, commands and files work each time.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { readFileSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { LimaContainerAdapter, LimaRuntimeManager } from 'lima-runtime'
import { httpdArchive } from '../support/images.mjs'
import { freePort } from '../support/ports.mjs'
import { limaArchive, limaVersion, noRealLima, SLOWNESS, startRealLima } from '../support/real-lima.mjs'

const older = process.env.LIMA_RUNTIME_TEST_LIMACTL_OLDER
const template = process.env.LIMA_RUNTIME_TEST_TEMPLATE_OLDER ?? process.env.LIMA_RUNTIME_TEST_TEMPLATE
const newTemplate = process.env.LIMA_RUNTIME_TEST_TEMPLATE && { template: process.env.LIMA_RUNTIME_TEST_TEMPLATE }
const unasked = older ? false : 'LIMA_RUNTIME_TEST_LIMACTL_OLDER is not set'
const patience = { timeoutMs: 60_000 * SLOWNESS }
const IMAGE = 'lima-runtime-httpd:1'

const began = Date.now()
const say = (...words) => console.log(`# ${((Date.now() - began) / 1000).toFixed(1).padStart(7)} s`, ...words)

let vm
after(() => vm?.stop())

test('a VM of an older Lima keeps what it holds', { skip: noRealLima() ?? unasked, timeout: 7_200_000 }, async () => {
  const [first, second] = [limaVersion(older), limaVersion()]
  const limas = { [first]: limaArchive(older), [second]: limaArchive() }
  vm = await startRealLima(LimaRuntimeManager, { limas, versions: { lima: first }, template })
  const nerdctl = async () => JSON.parse(await vm.nerdctl(['version', '--format', '{{json .}}'])).Client.Version
  const engineOfThen = await nerdctl()
  say(`running with Lima ${first}, nerdctl ${engineOfThen}`)
  const instance = join(vm.options.dataDir, 'vms/default')
  const adapter = new LimaContainerAdapter({ ...vm.options, versions: { lima: first } })

  writeFileSync(join(vm.shared, 'image.tar'), httpdArchive())
  say('image', await adapter.loadImage(join(vm.shared, 'image.tar'), patience))
  await adapter.createVolume('kept', patience)
  const [tcp, udp, unheard] = [await freePort(), await freePort(), await freePort()]
  const web = await adapter.startContainer(
    {
      name: 'web',
      image: IMAGE,
      ports: { 80: `${tcp}`, '9/udp': `${unheard}` },
      volumes: [
        { host: 'kept', container: '/kept' },
        { host: vm.shared, container: '/shared' },
      ],
    },
    patience,
  )
  await assert.rejects(bound(unheard), { code: 'EADDRINUSE' }, 'the UDP port was to be taken by now')
  const sh = async (of, script) => {
    const { exitCode, stdout, stderr } = await of.execInContainer(web, ['sh', '-c', script], patience)
    assert.equal(exitCode, 0, `${stderr}`)
    return `${stdout}`.trim()
  }
  const sum = await sh(adapter, 'head -c 3000000 /dev/urandom >/kept/data; sync; sha256sum </kept/data')
  await sh(adapter, 'cp /kept/data /shared/data')
  const seen = createHash('sha256')
    .update(readFileSync(join(vm.shared, 'data')))
    .digest('hex')
  assert.equal(sum, `${seen}  -`, 'a file from the container, seen here')
  const image = (await adapter.listImages(patience)).map(({ id }) => id)
  say('checksum of the volume', sum)
  await works(vm.manager, tcp, udp)

  const newer = new LimaRuntimeManager({ ...vm.options, ...newTemplate, versions: { lima: second } })
  await newer.upgrade({ copy: 'always', timeoutMs: 3_600_000, onProgress: told })
  say(`running with Lima ${second}, nerdctl ${await nerdctl()}`)
  assert.equal(readFileSync(join(instance, 'lima-runtime.lima'), 'utf8'), second)
  const { previous } = await newer.getStatus()
  say('the copy:', JSON.stringify(previous))
  assert.equal(previous.versions.lima, first)
  const now = new LimaContainerAdapter({ ...vm.options, versions: { lima: second } })
  assert.deepEqual(
    (await now.listImages(patience)).map(({ id }) => id),
    image,
  )
  assert.ok((await now.listVolumes(patience)).some(({ name }) => name === 'kept'))
  const found = await now.inspectContainer(web, patience)
  say('the container is', found.status)
  if (found.status !== 'running') await now.restartContainer(web, 0, patience)
  assert.equal(await sh(now, 'sha256sum </kept/data'), sum)
  assert.equal(await sh(now, 'sha256sum </shared/data'), sum)
  say('container, image and volume are there, with the same checksum')
  await works(newer, tcp, udp)

  await sh(now, 'echo later >/kept/later; echo lost >/kept/data; sync')
  await newer.stop(patience)
  const again = new LimaRuntimeManager({ ...vm.options, versions: { lima: first } })
  const refused = await again.start(patience).then(
    () => assert.fail('an older Lima got the disk'),
    (error) => error,
  )
  say('back to the older one without rollback():', refused.code, refused.message)
  assert.equal(refused.code, 'INVALID_STATE')

  // An application's template is its own: the one of then.
  const back = new LimaRuntimeManager({ ...vm.options, versions: { lima: second } })
  await back.rollback({ timeoutMs: 3_600_000, onProgress: told })
  const was = new LimaContainerAdapter({ ...vm.options, versions: { lima: second } })
  say(`rolled back: running with Lima ${readFileSync(join(instance, 'lima-runtime.lima'))}, nerdctl ${await nerdctl()}`)
  assert.equal(readFileSync(join(instance, 'lima-runtime.lima'), 'utf8'), first)
  assert.equal(await nerdctl(), engineOfThen)
  assert.equal((await back.getStatus()).previous, undefined)
  assert.deepEqual(
    (await was.listImages(patience)).map(({ id }) => id),
    image,
  )
  const there = await was.inspectContainer(web, patience)
  if (there.status !== 'running') await was.restartContainer(web, 0, patience)
  assert.equal(await sh(was, 'sha256sum </kept/data; ls /kept'), `${sum}\ndata`)
  say('container, image and volume are as they were, with the same checksum')
  await works(back, tcp, udp)
})

/** Each phase once. */
const phases = new Set()
function told({ phase, message }) {
  const words = `${phase}: ${message.replace(/\d.*/, '')}`
  if (!phases.has(words)) say(words)
  phases.add(words)
}

/** A page over TCP, an answer over UDP, and a port that somebody has. */
async function works(manager, tcp, udp) {
  assert.equal(await page(tcp), 'Hello from a container\n')
  say(`127.0.0.1:${tcp}/tcp answers`)
  // busybox has no program that answers datagrams; the guest has Python, for cloud-init.
  const echo = [
    'import socket',
    "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 53))",
    'while True: d, a = s.recvfrom(2048); s.sendto(b"echo " + d, a)',
  ].join('\n')
  const guests = ['/usr', '/lib', '/lib64'].flatMap((dir) => ['-v', `${dir}:${dir}:ro`])
  const run = ['run', '-d', '--name', 'echo', '-p', `${udp}:53/udp`, ...guests, IMAGE, '/usr/bin/python3', '-c', echo]
  const before = Date.now()
  await manager.execNerdctl(run, patience)
  say(`run of the UDP container returned after ${Date.now() - before} ms`)
  assert.equal(await datagram(udp), 'echo hello')
  say(`127.0.0.1:${udp}/udp answers`)
  await manager.execNerdctl(['rm', '-f', 'echo'], patience)
  const socket = await bound(0)
  const { port } = socket.address()
  await assert.rejects(manager.execNerdctl(['run', '-d', '-p', `${port}:53/udp`, IMAGE], patience), {
    code: 'PORT_IN_USE',
  })
  socket.close()
}

const bound = (port) =>
  new Promise((resolve, reject) => {
    const socket = createSocket('udp4').on('error', reject)
    socket.bind(port, '127.0.0.1', () => resolve(socket))
  })

/** What comes back; the container's program may not listen yet. */
async function datagram(port) {
  const socket = createSocket('udp4')
  const answer = new Promise((resolve) => socket.once('message', (message) => resolve(message.toString())))
  try {
    for (const end = Date.now() + 10_000 * SLOWNESS; Date.now() < end; ) {
      socket.send('hello', port, '127.0.0.1')
      const said = await Promise.race([answer, sleep(1000)])
      if (said) return said
    }
    return undefined
  } finally {
    socket.close()
  }
}

const page = (port) =>
  new Promise((resolve, reject) => {
    http
      .get({ port, host: '127.0.0.1', agent: false }, (answer) => answer.setEncoding('utf8').once('data', resolve))
      .on('error', reject)
  })
