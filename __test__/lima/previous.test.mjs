// An upgrade keeps a copy of the VM, and a rollback puts it back: the stand-in for limactl in two versions, a real sshd as its guest.
import assert from 'node:assert/strict'
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { limaRig, missing, rejected } from '../support/lima.mjs'

const always = { copy: 'always' }
/** In the data disk, far from where its partition's table is. */
const PLACE = 32 << 20

/** As a process leaves it that was killed between the VM's removal and the copy's move. */
function cut(rig, vms) {
  const record = join(vms, '_previous/default/copy.json')
  writeFileSync(record, JSON.stringify({ ...JSON.parse(readFileSync(record, 'utf8')), returning: true }))
  rmSync(rig.vm, { recursive: true })
}

describe('the way back from an upgrade', { skip: missing(), timeout: 300_000 }, () => {
  /** A VM of Lima 1.2.1, stopped, and an application whose Lima is 2.2.0. */
  async function vm(t) {
    const rig = await limaRig(t, { version: ['1.2.1', '2.2.0'] })
    const { ask, call } = rig.app()
    const older = (method) => ask({ options: { ...rig.options, versions: { lima: '1.2.1' } }, method, args: [] })
    const vms = join(rig.options.dataDir, 'vms')
    const disks = () => [
      [join(rig.vm, 'diffdisk'), 0],
      [join(vms, '_disks', readdirSync(join(vms, '_disks'))[0], 'datadisk'), PLACE],
    ]
    const at = (path, flags, work) => {
      const file = openSync(path, flags)
      try {
        return work(file)
      } finally {
        closeSync(file)
      }
    }
    /** What a guest would write on each of its disks. */
    const write = (text) => {
      for (const [path, place] of disks()) at(path, 'r+', (file) => writeSync(file, text, place))
    }
    const read = () =>
      disks().map(([path, place]) =>
        at(path, 'r', (file) => {
          const bytes = Buffer.alloc(4)
          readSync(file, bytes, 0, 4, place)
          return `${bytes}`
        }),
      )
    /** The Lima that ran the VM last, and the one that is installed. */
    const lima = () => [
      readFileSync(join(rig.vm, 'lima-runtime.lima'), 'utf8'),
      readlinkSync(join(rig.options.dataDir, 'current')).split('/').at(-1),
    ]
    const previous = async () => (await call('getStatus')).previous
    await older('start')
    await older('stop')
    write('then')
    return { rig, ask, call, vms, write, read, lima, previous }
  }

  test('leads to the disks, the settings and the versions of then, once', async (t) => {
    const { rig, ask, call, vms, write, read, lima, previous } = await vm(t)
    assert.equal(await previous(), undefined)
    await rejected(call('rollback'), 'INVALID_STATE')
    assert.equal((await rejected(call('upgrade', { copy: 'maybe' }), 'INVALID_ARGUMENT')).details.field, 'copy')
    assert.equal((await call('getStatus')).state, 'stopped')

    // Nothing came, so nothing is copied: the copy would take the place of an older one.
    const away = { ...rig.options, mirror: 'http://127.0.0.1:9' }
    await rejected(ask({ options: away, method: 'upgrade', args: [always] }), 'DOWNLOAD_FAILED')
    assert.equal(await previous(), undefined)

    const before = Date.now()
    await call('upgrade', always)
    assert.deepEqual(lima(), ['2.2.0', '2.2.0'])
    const copy = await previous()
    assert.deepEqual([copy.versions.lima, copy.versions.nerdctl], ['1.2.1', '2.1.6'])
    assert.ok(copy.created >= before && copy.created <= Date.now() && copy.size > 0, `${copy.created} ${copy.size}`)
    // Nothing to bring: the VM goes on, and the copy stays what it was.
    const { sshPort } = await call('getStatus')
    await call('upgrade', always)
    assert.deepEqual([await previous(), (await call('getStatus')).sshPort], [copy, sshPort])
    await call('stop')
    write('late')
    // Another VM here that the newer Lima has run: the older one may not.
    const other = (method, ...args) => ask({ options: { ...rig.options, instance: 'other' }, method, args })
    await other('start')
    assert.equal((await rejected(call('rollback'), 'INVALID_STATE')).details.instance, 'other')
    await other('delete')
    assert.deepEqual([await previous(), read()], [copy, ['late', 'late']])

    await call('rollback')
    assert.deepEqual([read(), lima(), await previous()], [['then', 'then'], ['1.2.1', '1.2.1'], undefined])
    assert.equal((await call('getStatus')).state, 'running')
    assert.equal(existsSync(join(vms, '_previous/default')), false)
    // What was left does not come again by itself ...
    await call('restart')
    assert.deepEqual(lima(), ['1.2.1', '1.2.1'])
    // ... nor with something else that is brought ...
    await call('stop')
    rmSync(join(rig.options.dataDir, 'cache'), { recursive: true })
    await call('start')
    await call('restart')
    assert.deepEqual(lima(), ['1.2.1', '1.2.1'])
    // ... but when it is asked for, also under a VM that runs, if no other one does.
    await other('start')
    assert.equal((await rejected(call('upgrade', always), 'IN_USE')).details.instance, 'other')
    await other('delete')
    assert.equal((await call('getStatus')).state, 'running')
    await call('upgrade', always)
    assert.deepEqual(lima(), ['2.2.0', '2.2.0'])
    await call('stop')
    const versions = () => readdirSync(join(rig.options.dataDir, 'versions')).sort()
    assert.deepEqual(versions(), ['1.2.1', '2.2.0'])
    await call('discardPrevious')
    assert.deepEqual([await previous(), versions()], [undefined, ['2.2.0']])
    await call('discardPrevious')
    await rejected(call('rollback'), 'INVALID_STATE')
  })

  test('is ended by the next start where a rollback was cut off, and begins anew for a new VM', async (t) => {
    const { rig, call, vms, read, lima, previous } = await vm(t)
    await call('upgrade', always)
    await call('stop')
    cut(rig, vms)
    const { state, reason, previous: shown } = await call('getStatus')
    assert.deepEqual([state, shown], ['broken', undefined])
    assert.match(reason, /rollback/)
    await call('start')
    assert.deepEqual([read(), lima(), await previous()], [['then', 'then'], ['1.2.1', '1.2.1'], undefined])

    await call('upgrade', { copy: 'never' })
    assert.deepEqual([lima(), await previous()], [['2.2.0', '2.2.0'], undefined])
  })

  test('is no way out for what a rollback that was cut off has in its hands', async (t) => {
    const { rig, call, vms, read, lima } = await vm(t)
    await call('upgrade', always)
    await call('stop')
    cut(rig, vms)
    await call('uninstall', { keepData: true })
    assert.deepEqual([read(), existsSync(join(vms, '_previous'))], [['then', 'then'], false])
    // Whoever has no Lima gets the present one, and there is nothing to go back to.
    await call('start')
    assert.deepEqual(lima(), ['2.2.0', '2.2.0'])
  })

  test('is gone with the VM', async (t) => {
    const { call, vms, previous } = await vm(t)
    await call('upgrade', always)
    assert.ok(await previous())
    await call('delete', { keepData: true })
    assert.equal(existsSync(join(vms, '_previous/default')), false)
    await rejected(call('rollback'), 'INVALID_STATE')
  })
})
