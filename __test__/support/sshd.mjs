// A real sshd on loopback, run by an ordinary user, and an `ssh` that reaches it without touching anybody's own settings.
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { TEST_USER } from '../../scripts/setup.mjs'
import { runAsRoot, startServer, waitExit } from './process.mjs'
import { freePort } from './registry.mjs'
import { tempDir } from './tempdir.mjs'

/**
 * @param {string} forced  what runs in place of the command a client asks for, which is in $SSH_ORIGINAL_COMMAND
 * @returns {Promise<{ user: string, port: number, bin: string, stop: () => Promise<void> }>} `bin` is to go before PATH
 */
export async function startSshd(forced) {
  const dir = tempDir('sshd')
  const at = (name) => join(dir, name)
  const port = await freePort()
  const isRoot = process.getuid() === 0
  const user = isRoot ? TEST_USER : userInfo().username
  for (const key of ['host', 'user']) {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(key)])
  }
  copyFileSync(at('user.pub'), at('authorized_keys'))
  const settings = {
    ListenAddress: `127.0.0.1:${port}`,
    HostKey: at('host'),
    AuthorizedKeysFile: at('authorized_keys'),
    PidFile: 'none',
    UsePAM: 'no',
    StrictModes: 'no',
    PasswordAuthentication: 'no',
    KbdInteractiveAuthentication: 'no',
    ForceCommand: forced,
  }
  writeFileSync(at('sshd_config'), lines(settings))
  // The client's side, which stays ours: ssh reads no key that others may.
  const own = tempDir('ssh')
  copyFileSync(at('user'), join(own, 'key'))
  const hostKey = execFileSync('ssh-keygen', ['-y', '-f', at('host')], { encoding: 'utf8' })
  writeFileSync(join(own, 'known_hosts'), `[127.0.0.1]:${port} ${hostKey}`)
  const client = {
    IdentityFile: join(own, 'key'),
    IdentitiesOnly: 'yes',
    UserKnownHostsFile: join(own, 'known_hosts'),
    StrictHostKeyChecking: 'yes',
  }
  writeFileSync(join(own, 'config'), lines(client))
  const ssh = execFileSync('sh', ['-c', 'command -v ssh'], { encoding: 'utf8' }).trim()
  mkdirSync(join(own, 'bin'))
  writeFileSync(join(own, 'bin/ssh'), `#!/bin/sh\nexec ${ssh} -F ${join(own, 'config')} "$@"\n`, { mode: 0o755 })

  if (isRoot) runAsRoot('chown', '-R', `${user}:`, dir)
  const id = (flag) => Number(execFileSync('id', [flag, user], { encoding: 'utf8' }))
  const identity = isRoot ? { uid: id('-u'), gid: id('-g') } : {}
  const child = startServer(['/usr/sbin/sshd', '-D', '-e', '-f', at('sshd_config')], { cwd: '/', ...identity })
  let said = ''
  await new Promise((resolve, reject) => {
    createInterface({ input: child.stderr }).on('line', (line) => {
      said += `${line}\n`
      if (line.includes('Server listening on')) resolve()
    })
    child.once('exit', () => reject(new Error(`sshd ended:\n${said}`)))
  })
  const stop = async () => {
    child.kill('SIGKILL')
    await waitExit(child, 10_000)
  }
  return { user, port, bin: join(own, 'bin'), stop }
}

const lines = (settings) =>
  Object.entries(settings)
    .map(([key, value]) => `${key} ${value}\n`)
    .join('')
