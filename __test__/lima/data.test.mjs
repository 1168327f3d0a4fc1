// A real VM's data disk (`support/real-lima.mjs` says when): it is under the engine from the first boot on, at each later one
// before systemd starts the engine, grows, keeps the engine from starting where it is missing, and outlives the VM.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { LimaContainerAdapter, LimaRuntimeManager } from 'lima-runtime'
import { httpdArchive } from '../support/images.mjs'
import { noRealLima, SLOWNESS, startRealLima } from '../support/real-lima.mjs'

const patience = { timeoutMs: 60_000 * SLOWNESS }
const slow = { timeoutMs: 3_600_000 }
const IMAGE = 'lima-runtime-httpd:1'
const PLACES = [
  '/var/lib/containerd',
  '/var/lib/nerdctl',
  '/var/lib/buildkit',
  '/etc/cni/net.d',
  '/var/lib/cni',
  '/var/lib/docker',
]

const began = Date.now()
const say = (...words) => console.log(`# ${((Date.now() - began) / 1000).toFixed(1).padStart(7)} s`, ...words)

let vm
after(() => vm?.stop())

test('what the engine of a real VM keeps outlives it', { skip: noRealLima(), timeout: 7_200_000 }, async () => {
  vm = await startRealLima(LimaRuntimeManager)
  const adapter = new LimaContainerAdapter(vm.manager)
  // The file system at each place, and its size.
  const sources = async () =>
    (await vm.root('for dir; do findmnt -nro SOURCE --target "$dir"; done', ...PLACES))
      .replaceAll(/\[.*\]/g, '')
      .split('\n')
  const size = async () => Number(await vm.root('stat -f -c %b /var/lib/containerd')) * 4096
  const onDisk = async (when) => {
    const found = await sources()
    say(when, found.join(' '))
    assert.deepEqual([new Set(found).size, found[0].startsWith('/dev/vd'), found[0] === '/dev/vda1'], [1, true, false])
    // The engine's own files are there, too: it did not start before the disk was mounted.
    assert.equal(
      await vm.root(
        'find /var/lib/lima-runtime/containerd -maxdepth 1 -name "io.containerd.*" | grep -q . && echo yes',
      ),
      'yes',
    )
    assert.equal(await vm.root('systemctl show --property=NRestarts --value containerd'), '0', when)
  }
  await onDisk('the first boot')

  writeFileSync(join(vm.shared, 'image.tar'), httpdArchive())
  await adapter.loadImage(join(vm.shared, 'image.tar'), patience)
  await adapter.createVolume('kept', patience)
  await adapter.createNetwork('kept-net', patience)
  const config = { name: 'web', image: IMAGE, networks: ['kept-net'], volumes: [{ host: 'kept', container: '/kept' }] }
  const web = await adapter.startContainer(config, patience)
  const sh = async (script) => {
    const { exitCode, stdout, stderr } = await adapter.execInContainer(web, ['sh', '-c', script], patience)
    assert.equal(exitCode, 0, `${stderr}`)
    return `${stdout}`.trim()
  }
  const sum = await sh('head -c 3000000 /dev/urandom >/kept/data; echo layer >/layer; sync; sha256sum </kept/data')
  const image = (await adapter.listImages(patience)).map(({ id }) => id)
  const whole = async (when) => {
    assert.deepEqual(
      (await adapter.listImages(patience)).map(({ id }) => id),
      image,
      when,
    )
    assert.ok(
      (await adapter.listNetworks(patience)).some(({ name }) => name === 'kept-net'),
      when,
    )
    if ((await adapter.inspectContainer(web, patience)).status !== 'running')
      await adapter.restartContainer(web, 0, patience)
    assert.equal(await sh('sha256sum </kept/data; cat /layer'), `${sum}\nlayer`, when)
    say(when, 'container, image, network and volume are there, with the same checksum')
  }

  const before = await size()
  await vm.manager.configure({ disk: '9GiB' })
  await vm.manager.restart(slow)
  say('restarted')
  await onDisk('a later boot')
  await whole('a later boot')
  say('its size in bytes:', before, await size())
  assert.ok((await size()) - before > 2 ** 29, 'the file system has not grown')

  // Without the disk no unit of an engine starts, on whatever way.
  const left = await vm.root(
    `exec 2>/dev/null
    systemctl stop containerd.service buildkit.service stargz-snapshotter.service
    for pid in $(pgrep -f '^[^ ]*/containerd-shim'); do kill -9 "$pid"; done
    grep -o '/run/[^ ]*rootfs' /proc/mounts | xargs -r umount
    for dir; do umount "$dir"; done
    umount /var/lib/containerd-stargz-grpc; umount /var/lib/lima-runtime
    disk=$(echo /dev/disk/by-label/lima-lr-*); mv "$disk" /run/gone
    timeout 60 systemctl start containerd.service && echo started
    systemctl is-active containerd.service
    ls -A /var/lib/containerd /var/lib/nerdctl | grep -v :$
    mv /run/gone "$disk"
    systemctl start containerd.service && echo mended`,
    ...PLACES,
  )
  say('without the disk:', left.replaceAll('\n', ' '))
  assert.doesNotMatch(left, /^(started|active)$/m)
  assert.match(left, /mended$/)
  await vm.manager.start(slow)
  await whole('with the disk again')

  await vm.manager.delete({ keepData: true, ...slow })
  const { state, keptData } = await vm.manager.getStatus()
  say(state, keptData)
  assert.deepEqual([state, keptData.disk], ['not-created', 9 * 2 ** 30])
  await vm.manager.start(slow)
  await onDisk('a new VM')
  await whole('a new VM')
})
