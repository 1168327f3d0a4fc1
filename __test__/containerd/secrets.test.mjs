// Secrets on their way to a container or a registry: in no argument, which everybody may read in /proc and sudo logs, and in no
// place that another user of this machine has prepared.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { ContainerdAdapter } from 'lima-runtime'
import { TEST_USER } from '../../scripts/setup.mjs'
import { noContainerd, startContainerd } from '../support/containerd.mjs'
import { busyboxArchive, busyboxImage } from '../support/images.mjs'
import { ACCOUNT, publish, startRegistry } from '../support/registry.mjs'
import { waitFor } from '../support/wait.mjs'

const SECRET = 'sEcReT-5c1f'
/** What a line of nerdctl's file of variables cannot hold is among them. */
const ENV = {
  TOKEN: `${SECRET}-token`,
  PRIVATE_KEY: `-----BEGIN\n${SECRET}\\n"$(id)"\n-----END\n`,
  PADDED: `${SECRET} \t `,
  'with.dots': `${SECRET}#x`,
  EMPTY: '',
}

/** Another user of this machine, who looks at every process's arguments all the time; `seen()` are the secrets among them. */
async function spy() {
  const script = `
    const { readdirSync, readFileSync } = require('node:fs')
    process.stdout.write('ready\\n')
    for (;;) for (const pid of readdirSync('/proc').filter(Number)) {
      try {
        const line = readFileSync('/proc/' + pid + '/cmdline', 'latin1')
        if (line.includes('${SECRET.slice(0, 6)}' + '${SECRET.slice(6)}')) process.stdout.write(JSON.stringify(line) + '\\n')
      } catch {}
    }`
  const child = spawn('setpriv', [`--reuid=${TEST_USER}`, '--clear-groups', process.execPath, '-'], { stdio: 'pipe' })
  let said = ''
  child.stdout.on('data', (data) => (said += data))
  child.stdin.end(script)
  await waitFor('the spy', () => said.startsWith('ready'))
  return {
    seen: () => said.split('\n').slice(1).filter(Boolean),
    stop: () => child.kill('SIGKILL'),
  }
}

describe('secrets', { skip: noContainerd(), timeout: 300_000 }, () => {
  const running = []
  let engine
  let adapter
  let argvs
  const file = (name) => join(engine.dir, name)

  before(async () => {
    engine = await startContainerd()
    running.push(engine)
    writeFileSync(file('image.tar'), busyboxArchive())
    await engine.ctr('images', 'import', file('image.tar'))
    // Notes every argument it gets, and where its credentials lie: the spy may come too late to see them.
    argvs = () => readFileSync(file('argvs'), 'latin1')
    writeFileSync(file('argvs'), '')
    writeFileSync(
      file('noting-nerdctl'),
      `#!/bin/sh
printf '%s\\0' "$@" >>${file('argvs')}
[ -z "$DOCKER_CONFIG" ] || stat -c '%U %a %n' "$DOCKER_CONFIG" >>${file('configs')}
exec "${engine.options.nerdctlPath}" "$@"
`,
    )
    chmodSync(file('noting-nerdctl'), 0o755)
    adapter = new ContainerdAdapter({ ...engine.options, nerdctlPath: file('noting-nerdctl') })
    await adapter.initialize()
  })
  after(async () => {
    for (const part of running.reverse()) await part.stop()
  })

  it('variables of a container and of an exec are as given, and in no argument', async () => {
    const other = await spy()
    running.push(other)
    const id = await adapter.startContainer({ name: 'env', image: 'busybox', command: ['sleep', '1000'], env: ENV })
    const { env } = await adapter.getContainerDetails(id)
    for (const [key, value] of Object.entries(ENV)) assert.equal(env[key], value)
    // Without a shell, which drops names that it does not know.
    const own = await adapter.execInContainer(id, ['cat', '/proc/1/environ'])
    const given = Object.fromEntries(Object.entries(ENV).map(([key, value]) => [`X_${key}`, value]))
    const input = Buffer.from('the input\nof the process')
    const exec = await adapter.execInContainer(id, ['cat', '/proc/self/environ', '-'], { env: given, input })
    const entries = (output) => output.toString().split('\0')
    for (const [key, value] of Object.entries(ENV)) {
      assert.ok(entries(own.stdout).includes(`${key}=${value}`), key)
      assert.ok(entries(exec.stdout).includes(`X_${key}=${value}`), key)
    }
    assert.ok(exec.stdout.toString().endsWith(input.toString()))
    assert.equal(argvs().includes(SECRET), false)
    assert.deepEqual(other.seen(), [])
    await adapter.removeContainer(id, true)
  })

  it('a name that nerdctl itself heeds is given to the container alone', async () => {
    const id = await adapter.startContainer({
      name: 'heeded',
      image: 'busybox',
      command: ['sleep', '1000'],
      env: { LD_PRELOAD: '/nowhere.so', NERDCTL_TOML: '/nowhere.toml', HOSTNAME: 'given' },
    })
    const { env, raw } = await adapter.getContainerDetails(id)
    assert.deepEqual([env.NERDCTL_TOML, env.HOSTNAME], ['/nowhere.toml', 'given'])
    assert.ok(!JSON.stringify(raw.spec.hooks).includes('nowhere'))
    const given = { env: { LD_PRELOAD: 'a\nb', NERDCTL_TOML: '/elsewhere.toml' } }
    const { stdout } = await adapter.execInContainer(id, ['cat', '/proc/self/environ'], given)
    const entries = stdout.toString().split('\0')
    for (const entry of ['LD_PRELOAD=a\nb', 'NERDCTL_TOML=/elsewhere.toml']) assert.ok(entries.includes(entry), entry)
    await adapter.removeContainer(id, true)
  })

  it('credentials and proxies of a pull lie in a directory that nobody else has made', async () => {
    const registry = await startRegistry({ auth: true })
    running.push(registry)
    await publish(registry, 'test/private:1', busyboxImage({ files: { '/x': 'x' } }), { auth: ACCOUNT })
    const image = `${registry.address}/test/private:1`
    // Another user has all the names that the next thousand processes could choose.
    const uid = Number(readFileSync('/etc/passwd', 'utf8').match(new RegExp(`^${TEST_USER}:[^:]*:(\\d+):`, 'm'))[1])
    const next = Number(readFileSync('/proc/loadavg', 'utf8').trim().split(' ')[4])
    const base = '/dev/shm/lima-runtime-test-runtime'
    mkdirSync(base, { recursive: true })
    chmodSync(base, 0o1777)
    const traps = Array.from({ length: 1000 }, (_, i) => join(base, `lima-runtime-auth.${next + i}`))
    process.env.XDG_RUNTIME_DIR = base
    process.env.https_proxy = `http://user:${SECRET}@127.0.0.1:9`
    process.env.no_proxy = '127.0.0.1'
    const other = await spy()
    running.push(other)
    try {
      for (const trap of traps) {
        mkdirSync(trap)
        chmodSync(trap, 0o777)
        chownSync(trap, uid, uid)
      }
      await adapter.pullImage(image, undefined, { auth: ACCOUNT })
      const [owner, mode, dir] = readFileSync(file('configs'), 'utf8').trim().split('\n').at(-1).split(' ')
      assert.deepEqual([owner, mode], ['root', '700'], dir)
      assert.ok(dir.startsWith(base), 'XDG_RUNTIME_DIR comes first')
      assert.ok(!existsSync(dir))
      const kept = traps.filter(existsSync).flatMap((trap) => readdirSync(trap))
      assert.deepEqual(kept, [], 'nothing was left with the other user')
    } finally {
      for (const name of ['XDG_RUNTIME_DIR', 'https_proxy', 'no_proxy']) delete process.env[name]
      rmSync(base, { recursive: true })
    }
    assert.equal(argvs().includes(ACCOUNT.password) || argvs().includes(SECRET), false)
    assert.deepEqual(other.seen(), [])
  })
})
