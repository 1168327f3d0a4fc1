// What a real VM consists of, killed piece by piece (`support/real-lima.mjs` says when): `start()` ends in running each time.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { LimaRuntimeManager } from 'lima-runtime'
import { processesWith, signalWriterOf, startTime } from '../support/process.mjs'
import { noRealLima, SLOWNESS, startRealLima } from '../support/real-lima.mjs'
import { waitFor } from '../support/wait.mjs'

const ROUNDS = Number(process.env.LIMA_RUNTIME_TEST_ROUNDS ?? 1)
const DRIVERS = ['qemu.pid', 'vz.pid']
const patience = { timeoutMs: 180_000 * SLOWNESS }

describe('a real VM whose pieces are killed', { skip: noRealLima(), timeout: 7_200_000 }, () => {
  let vm
  let instance
  let bystander
  before(async () => {
    vm = await startRealLima(LimaRuntimeManager)
    instance = join(vm.options.dataDir, 'vms/default')
    bystander = spawn('sleep', ['86400'], { stdio: 'ignore' })
  })
  after(async () => {
    bystander?.kill()
    await vm?.stop()
  })

  const path = (name) => join(instance, name)
  const pidIn = (name) => Number(readFileSync(path(name), 'utf8'))
  const drivers = () => DRIVERS.filter((name) => existsSync(path(name)))
  async function kill(names, signal = 'SIGKILL') {
    for (const name of names) {
      const pid = signalWriterOf(path(name), signal)
      await waitFor(`the end of ${name}`, () => startTime(pid) === undefined, { timeoutMs: 60_000 * SLOWNESS })
    }
  }

  const FAULTS = {
    'the host agent is killed': () => kill(['ha.pid']),
    'the driver is killed': () => kill(drivers()),
    'both are killed, as by a crash of the computer': () => kill(['ha.pid', ...drivers()]),
    'both are killed, and their pids are somebody else’s now': async () => {
      const names = ['ha.pid', ...drivers()]
      await kill(names)
      for (const name of names) writeFileSync(path(name), `${bystander.pid}\n`)
    },
    'the guest is powered off from inside': async () => {
      const pids = drivers().map(pidIn)
      await vm.root('systemctl poweroff').catch(() => {})
      const off = () => pids.every((pid) => startTime(pid) === undefined)
      await waitFor('the power-off', off, { timeoutMs: 60_000 * SLOWNESS })
    },
    'containerd is stopped': () => vm.root('systemctl stop containerd'),
    'containerd hangs': () => vm.root('kill -s STOP "$(systemctl show -p MainPID --value containerd)"'),
    'sshd is stopped': () => vm.root('systemctl stop ssh.socket ssh.service').catch(() => {}),
  }

  for (const [name, inject] of Object.entries(FAULTS)) {
    for (let round = 1; round <= ROUNDS; round++) {
      it(ROUNDS > 1 ? `${name}, ${round} of ${ROUNDS}` : name, async () => {
        await vm.root('echo kept >/root/kept; sync')
        await inject()
        const began = Date.now()
        await vm.manager.start(patience)
        console.log(`# ${name}: running again after ${((Date.now() - began) / 1000).toFixed(1)} s`)
        assert.equal((await vm.manager.getStatus()).state, 'running')
        assert.equal(await vm.manager.isRunning(), true)
        assert.match(await vm.manager.execNerdctl(['version', '--format', '{{.Server}}'], patience), /containerd/)
        assert.equal(await vm.root('cat /root/kept'), 'kept')
        assert.equal(bystander.exitCode ?? bystander.signalCode, null, 'a process that is not ours was ended')
        // One host agent, one driver: the rest are connections and what a test runs.
        const command = (pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
        const ours = processesWith(vm.options.dataDir).map(command)
        assert.equal(ours.filter((argv) => argv.includes('hostagent')).length, 1)
        assert.equal(
          ours.filter(([program]) => /qemu-system/.test(program)).length,
          drivers().includes('qemu.pid') ? 1 : 0,
        )
      })
    }
  }
})
