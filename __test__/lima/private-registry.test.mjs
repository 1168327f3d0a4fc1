// A registry with a password and an authority of its own, and a real VM: what a pull leaves on the guest's disk.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { LimaContainerAdapter, LimaRuntimeManager } from 'lima-runtime'
import { busyboxImage } from '../support/images.mjs'
import { HOST, noRealLima, SLOWNESS, startRealLima } from '../support/real-lima.mjs'
import { ACCOUNT, publish, startRegistry } from '../support/registry.mjs'

const running = []
after(async () => {
  for (const part of running.reverse()) await part.stop()
})

test('the image is there, the password on no disk of the guest', {
  skip: noRealLima(),
  timeout: 300_000 * SLOWNESS,
}, async () => {
  const patience = { timeoutMs: 60_000 * SLOWNESS }
  const vm = await startRealLima(LimaRuntimeManager)
  running.push(vm)
  const registry = await startRegistry({ auth: true, tls: true })
  running.push(registry)
  await publish(registry, 'test/private:1', busyboxImage({ files: { '/private': 'it is here' } }), { auth: ACCOUNT })
  const image = `${HOST}:${registry.port}/test/private:1`
  const unaware = new LimaContainerAdapter(vm.options)
  await assert.rejects(unaware.pullImage(image, undefined, { auth: ACCOUNT }), /certificate/)
  const adapter = new LimaContainerAdapter({ ...vm.options, caCertificates: [registry.ca] })
  const wrong = adapter.pullImage(image, undefined, { auth: { ...ACCOUNT, password: 'wrong' } })
  await assert.rejects(wrong, { code: 'REGISTRY_AUTH' })
  await adapter.pullImage(image, undefined, { auth: ACCOUNT })
  assert.equal(await adapter.imageExists(image, patience), true)
  const id = await adapter.startContainer(
    { name: `private-${process.pid}`, image, command: ['cat', '/private'] },
    patience,
  )
  await adapter.waitContainer(id)
  assert.equal(await text(await adapter.getContainerLogs(id)), 'it is here')
  await adapter.removeContainer(id, true, patience)
  await adapter.removeImage(image, true, patience)

  // What is written reaches the disk's file on this machine, where it is searched for.
  const mark = randomUUID()
  await vm.root(`echo ${mark} >/root/mark; sync`)
  const vms = join(vm.options.dataDir, 'vms')
  const data = readdirSync(join(vms, '_disks')).map((name) => join(vms, '_disks', name, 'datadisk'))
  const disks = ['diffdisk', 'basedisk', 'disk', 'cidata.iso'].map((name) => join(vms, 'default', name))
  data.push(...disks.filter(existsSync))
  const onDisk = (words) => spawnSync('grep', ['-acF', '--', words, ...data], { encoding: 'utf8' })
  assert.equal(onDisk(mark).status, 0, 'the search finds nothing that is there')
  const secrets = [ACCOUNT.password, Buffer.from(`${ACCOUNT.username}:${ACCOUNT.password}`).toString('base64')]
  for (const secret of secrets) assert.equal(onDisk(secret).status, 1, onDisk(secret).stdout)
  const places = '/root/.docker /home/*/.docker /run/lima-runtime-auth.* /dev/shm/lima-runtime-auth.*'
  assert.equal(await vm.root(`ls -d ${places} 2>/dev/null || true`), '')
})

async function text(stream) {
  const chunks = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}
