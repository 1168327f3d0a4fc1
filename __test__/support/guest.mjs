// A guest without a VM: a containerd in process and mount namespaces of its own, at the place where a VM has it. Its
// /run and /var/lib are in memory; what runs in it as root reaches no process, clock or directory of this machine's.
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bridgesOf, CNI, defaultNetwork, NERDCTL_VARIABLE } from './containerd.mjs'
import { makeOwned, orphans } from './owned.mjs'
import { asRoot, childOfRecorded, killRecorded, recorded, runAsRoot, startServer, waitExit } from './process.mjs'
import { waitFor } from './wait.mjs'

/** Why there can be none here, or undefined. */
export function noGuest() {
  if (process.platform !== 'linux') return 'a guest of namespaces needs Linux'
  if (!existsSync('/usr/bin/containerd')) return 'no /usr/bin/containerd; run `node scripts/setup.mjs test`'
  return undefined
}

const SOCKET = '/run/containerd/containerd.sock'

/** The first process. Arguments: our directory, a nerdctl or nothing. */
const INIT = `
set -e
dir=$1 nerdctl=$2
for place in /run /var/lib /usr/local/bin /usr/local/lib; do mount -t tmpfs tmpfs "$place"; done
# What a boot lays in for its data disk; /var/lib is one already.
mkdir /usr/local/lib/lima-runtime
printf '#!/bin/sh\\n' > /usr/local/lib/lima-runtime/data-disk
chmod 755 /usr/local/lib/lima-runtime/data-disk
# There is no systemd, and the disks are this machine's.
for name in systemctl fstrim; do printf '#!/bin/sh\\n' > "/usr/local/bin/$name"; chmod 755 "/usr/local/bin/$name"; done
if [ -n "$nerdctl" ]; then
  ln -s "$nerdctl" /usr/local/bin/nerdctl
  mount -t overlay overlay -o "lowerdir=/etc,upperdir=$dir/etc,workdir=$dir/work" /etc
  mkdir -p /etc/cni/net.d
  cp "$dir"/cni/* /etc/cni/net.d/
fi
containerd --config "$dir/guest.toml" &
# A shell that waits takes what its children leave behind.
wait
`

/**
 * Starts one for the user of a stand-in limactl, who may open containerd's socket.
 * @returns `enter`: the words before a command that runs in it as that user
 */
export async function startGuest({ uid = process.getuid(), gid = process.getgid() } = {}) {
  for (const dir of orphans('guest')) remove(dir)
  const dir = makeOwned('guest')
  const nerdctl = CNI && process.env[NERDCTL_VARIABLE]
  for (const name of ['etc', 'work', 'cni']) mkdirSync(join(dir, name))
  for (const path of [dir, join(dir, 'etc')]) chmodSync(path, 0o755)
  if (nerdctl) writeFileSync(join(dir, 'cni/nerdctl-bridge.conflist'), JSON.stringify(defaultNetwork(dir)))
  writeFileSync(
    join(dir, 'guest.toml'),
    `version = 2
root = '/var/lib/containerd'
state = '/run/containerd'
disabled_plugins = ['io.containerd.grpc.v1.cri']
[grpc]
address = '${SOCKET}'
uid = ${uid}
gid = ${gid}
`,
  )
  // It has all of root's powers but over what is not the guest's.
  const limited = ['setpriv', '--bounding-set=-sys_time,-sys_boot', '--inh-caps=-sys_time,-sys_boot']
  const spaces = ['unshare', '--mount', '--pid', '--fork', '--kill-child=KILL', '--mount-proc']
  const init = ['sh', '-c', INIT, 'guest', dir, nerdctl ?? '']
  const child = startServer(asRoot(recorded(join(dir, 'leader'), [...limited, ...spaces, ...init])), {
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' },
  })
  let log = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (log = (log + text).slice(-65_536)))

  const first = await waitFor('the guest', () => {
    if (child.exitCode !== null) throw new Error(`the guest ended:\n${log.slice(-4096)}`)
    return childOfRecorded(join(dir, 'leader'))
  })
  const inside = ['nsenter', '-t', String(first), '-m', '-p', '--']
  const asUser = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--init-groups', '--bounding-set=-sys_time,-sys_boot']
  /** As its root. */
  const run = (...argv) => runAsRoot(...inside, ...argv)
  const ctr = (...argv) => run('ctr', '--namespace', 'default', ...argv)
  await waitFor('its containerd', () => {
    if (child.exitCode !== null) throw new Error(`the guest ended:\n${log.slice(-4096)}`)
    try {
      return ctr('version')
    } catch {
      return undefined
    }
  })

  const removeNow = () => remove(dir)
  process.once('exit', removeNow)
  async function stop() {
    remove(dir)
    await waitExit(child, 30_000)
    process.off('exit', removeNow)
  }
  return { dir, enter: ['sudo', '-n', ...inside, ...asUser], run, ctr, nerdctl: Boolean(nerdctl), stop, log: () => log }
}

/** With its first process everything in it ends. */
function remove(dir) {
  killRecorded(join(dir, 'leader'))
  for (const bridge of bridgesOf(dir)) runAsRoot('ip', 'link', 'delete', bridge)
  runAsRoot('rm', '-rf', dir)
}
