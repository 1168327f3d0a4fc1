// What diagnose() and collectDiagnostics() say of a VM that runs, and of one that broke.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { limaRig, missing } from '../support/lima.mjs'
import { signalWriterOf } from '../support/process.mjs'
import { waitFor } from '../support/wait.mjs'

test('a VM that runs, and one whose host agent was killed', { skip: missing() }, async (t) => {
  const rig = await limaRig(t)
  const { call } = rig.app()
  await call('start')
  const checks = async () => Object.fromEntries((await call('diagnose')).map((check) => [check.id, check]))
  const well = await checks()
  for (const id of ['installation', 'ports', 'instance', 'ssh', 'containerd', 'clock', 'user'])
    assert.equal(well[id].status, 'ok', JSON.stringify(well[id]))
  // Whether this machine finds a registry is not ours to say.
  assert.notEqual(well.dns.status, 'skipped')

  const path = await call('collectDiagnostics', join(rig.home, 'diagnostics.tar.gz'))
  const tar = (...args) => execFileSync('tar', [...args, '-f', path], { encoding: 'utf8' })
  const names = tar('-tz').trim().split('\n')
  for (const name of ['checks.json', 'instance/lima.yaml', 'instance/ha.stderr.log', 'guest/containerd.log'])
    assert.ok(names.includes(`lima-runtime-diagnostics/${name}`), `${name} is not among ${names}`)
  const all = tar('-xzO')
  assert.ok(!all.includes(rig.home), 'the home directory is blanked')
  const log = () => tar('-xzO', '--wildcards', '*/lima-runtime.log')
  const said = log()
  for (const line of [
    /phase=Create/,
    /phase=Boot/,
    /a program starts what="limactl start"/,
    /ended what="limactl create"/,
    / INFO .* is up engine="containerd" boots=1/,
  ])
    assert.match(said, line)

  signalWriterOf(join(rig.vm, 'ha.pid'))
  await waitFor('its end is seen', async () => (await call('getStatus')).state === 'broken')
  const broken = await checks()
  assert.equal(broken.instance.status, 'fail', JSON.stringify(broken.instance))
  assert.match(broken.instance.hint, /start\(\)/)
  assert.equal(broken.ssh.status, 'skipped')
  await call('start')
  assert.equal((await checks()).instance.status, 'ok')
  await call('stop')

  // Whatever the caller does with the error. `VM` is blanked where that is this computer's name.
  writeFileSync(join(rig.options.dataDir, 'fault'), 'disk-full')
  await assert.rejects(call('start'), { code: 'DISK_FULL' })
  await call('collectDiagnostics', path)
  assert.match(log(), / ERROR .*the start of the \S+ failed code="DISK_FULL"/)
})
