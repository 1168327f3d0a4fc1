// A real sshd on loopback, run by an ordinary user, and an `ssh` that reaches it without touching anybody's own settings.
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { TEST_USER } from '../../scripts/setup.mjs'
import { freePort } from './ports.mjs'
import { asRoot, runAsRoot, startServer, waitExit } from './process.mjs'
import { tempDir } from './tempdir.mjs'

/**
 * @param {string} [forced]  what runs in place of the command a client asks for, which is in $SSH_ORIGINAL_COMMAND
 * @param {string[]} [kinds]  of the host's key and of the user's
 * @returns `bin` is to go before PATH; `stop()` ends the server, and `start()` starts it again and gives its number
 */
export async function startSshd(forced, kinds) {
  const port = await freePort()
  const { dir, user, bin, file, identity } = prepare(forced, `[127.0.0.1]:${port}`, kinds, {
    ListenAddress: `127.0.0.1:${port}`,
  })
  let child
  const start = async () => {
    child = startServer(['/usr/sbin/sshd', '-D', '-e', '-f', file], { cwd: '/', ...identity })
    let said = ''
    await new Promise((resolve, reject) => {
      createInterface({ input: child.stderr }).on('line', (line) => {
        said += `${line}\n`
        if (line.includes('Server listening on')) resolve()
      })
      child.once('exit', () => reject(new Error(`sshd ended:\n${said}`)))
    })
    return child.pid
  }
  const stop = async () => {
    child.kill('SIGKILL')
    await waitExit(child, 60_000)
  }
  const pid = await start()
  return { dir, pid, user, port, bin, start, stop }
}

/**
 * A machine called `name`, whose network is that of the namespace `network`: each login is a sshd of its own in there.
 * @returns {{ user: string, bin: string }}
 */
export function sshInto(network, name, forced, settings = {}) {
  const { user, bin, client, file } = prepare(forced, name, undefined, settings)
  const id = (flag) => execFileSync('id', [flag, user], { encoding: 'utf8' }).trim()
  const sshd = ['/usr/sbin/sshd', '-i', '-f', file]
  const login = ['setpriv', '--reuid', id('-u'), '--regid', id('-g'), '--clear-groups', ...sshd]
  const proxy = asRoot(['nsenter', `--net=${network}`, '--', ...login]).join(' ')
  writeFileSync(client.file, lines({ ...client.settings, ProxyCommand: proxy }))
  return { user, bin }
}

/** Everything but a server: keys, settings, and an `ssh` that knows the host `name`. */
function prepare(forced, name, kinds = ['ed25519', 'ed25519'], more = {}) {
  const dir = tempDir('sshd')
  const at = (name) => join(dir, name)
  const isRoot = process.getuid() === 0
  const user = isRoot ? TEST_USER : userInfo().username
  for (const [i, key] of ['host', 'user'].entries()) {
    execFileSync('ssh-keygen', ['-q', '-t', kinds[i], '-N', '', '-f', at(key)])
  }
  copyFileSync(at('user.pub'), at('authorized_keys'))
  const settings = {
    ...more,
    HostKey: at('host'),
    AuthorizedKeysFile: at('authorized_keys'),
    PidFile: 'none',
    UsePAM: 'no',
    StrictModes: 'no',
    PasswordAuthentication: 'no',
    KbdInteractiveAuthentication: 'no',
    MaxSessions: '10',
    ...(forced && { ForceCommand: forced }),
  }
  writeFileSync(at('sshd_config'), lines(settings))
  // The client's side, which stays ours: ssh reads no key that others may.
  const own = tempDir('ssh')
  copyFileSync(at('user'), join(own, 'key'))
  const hostKey = execFileSync('ssh-keygen', ['-y', '-f', at('host')], { encoding: 'utf8' })
  writeFileSync(join(own, 'known_hosts'), `${name} ${hostKey}`)
  const client = {
    IdentityFile: join(own, 'key'),
    IdentitiesOnly: 'yes',
    UserKnownHostsFile: join(own, 'known_hosts'),
    StrictHostKeyChecking: 'yes',
  }
  writeFileSync(join(own, 'config'), lines(client))
  const settled = { file: join(own, 'config'), settings: client }
  const ssh = execFileSync('sh', ['-c', 'command -v ssh'], { encoding: 'utf8' }).trim()
  mkdirSync(join(own, 'bin'))
  writeFileSync(join(own, 'bin/ssh'), `#!/bin/sh\nexec ${ssh} -F ${join(own, 'config')} "$@"\n`, { mode: 0o755 })

  if (isRoot) runAsRoot('chown', '-R', `${user}:`, dir)
  const id = (flag) => Number(execFileSync('id', [flag, user], { encoding: 'utf8' }))
  const identity = isRoot ? { uid: id('-u'), gid: id('-g') } : {}
  return { dir, user, bin: join(own, 'bin'), file: at('sshd_config'), client: settled, identity }
}

const lines = (settings) =>
  Object.entries(settings)
    .map(([key, value]) => `${key} ${value}\n`)
    .join('')
