// Every field of a container's configuration, by what the container itself sees of it.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'
import { assert, fails, IDLE, subject, warnings } from './kit.mjs'

/** Runs on, and ends at once when asked to. */
const RUN_ON = 'trap "exit 0" TERM; sleep 86400 & wait'

export const settings = subject('settings', (ctx, test) => {
  const sh = (id, script) => ctx.exec(id, 'sh', '-c', script)
  const words = async (id, script) => (await sh(id, script)).trim().split(/\s+/)
  /** The value of a control group's file, of version 2 or 1; undefined where the container sees neither. */
  const group = async (id, ...files) => {
    const text = await sh(
      id,
      `for f in ${files.map((f) => `/sys/fs/cgroup/${f}`).join(' ')}; do [ ! -f $f ] || cat $f; done`,
    )
    return text.trim() || undefined
  }
  const status = async (id, key) => {
    const line = (await sh(id, 'cat /proc/1/status')).split('\n').find((line) => line.startsWith(`${key}:`))
    return line.slice(key.length + 1).trim()
  }
  const mountAt = async (id, target) => {
    const all = (await sh(id, 'cat /proc/self/mounts')).split('\n').map((line) => line.split(' '))
    return all.findLast((mount) => mount[1] === target)
  }
  const options = async (id, target) => (await mountAt(id, target))[3].split(',')
  const kind = () => (ctx.backend.dockerSocket ? 'docker' : 'containerd')
  /** `config` works, or the engine cannot and it is refused by the name of its field; never on engines of the kind `must`. */
  const works = async (t, field, config, must) => {
    const name = ctx.name()
    try {
      return await ctx.start({ ...config, name })
    } catch (error) {
      assert.deepEqual([error.code, error.details.field], ['INVALID_ARGUMENT', field], error.message)
      assert.notEqual(kind(), must, error.message)
      assert.ok(!(await ctx.names()).includes(name))
      t.diagnostic(`not on this engine: ${error.message}`)
      return undefined
    }
  }

  // ---- the process ----------------------------------------------------------------------------------------------

  test('the process: entrypoint, user, groups, directory, names', async () => {
    const id = await ctx.start({
      entrypoint: ['sh', '-c', `${RUN_ON}; #`, 'first word'],
      command: ['--flag', ''],
      user: '1000:1001',
      groupAdd: ['777'],
      workdir: '/tmp/made/here',
      hostname: 'a-name',
    })
    assert.equal(
      (await sh(id, 'cat /proc/1/cmdline')).split('\0').slice(2).join('|'),
      `${RUN_ON}; #|first word|--flag||`,
      'an empty word is one',
    )
    assert.deepEqual((await status(id, 'Uid')).split(/\s+/), Array(4).fill('1000'))
    assert.deepEqual((await status(id, 'Gid')).split(/\s+/), Array(4).fill('1001'))
    assert.ok((await status(id, 'Groups')).split(' ').includes('777'))
    assert.equal((await sh(id, 'cd /proc/1/cwd && pwd -P')).trim(), '/tmp/made/here')
    assert.equal((await sh(id, 'hostname; cat /etc/hostname')).trim(), 'a-name\na-name')
  })

  test('the name of its domain', { needs: 'powers' }, async () => {
    const id = await ctx.start({ domainname: 'example.test' })
    assert.equal((await sh(id, 'cat /proc/sys/kernel/domainname')).trim(), 'example.test')
  })

  test('without an entrypoint the command is the program', async () => {
    const id = await ctx.start({ entrypoint: [], command: ['sh', '-c', RUN_ON] })
    assert.deepEqual((await sh(id, 'cat /proc/1/cmdline')).split('\0').slice(0, 2), ['sh', '-c'])
  })

  test('a terminal', async () => {
    const command = ['sh', '-c', `tty; echo to stderr >&2; ${RUN_ON}`]
    const id = await ctx.start({ tty: true, command })
    assert.match((await sh(id, 'readlink /proc/1/fd/0')).trim(), /^\/dev\//)
    await waitFor('its output in the log', async () => (await ctx.log(id)).includes('to stderr'))
    assert.match(await ctx.log(id), /\/dev\/(pts\/\d+|console)\r?\n.*to stderr\r?\n/)
  })

  test('standard input that stays open', async (t) => {
    // A shell without a command ends with its input.
    const id = await ctx.start({ tty: true, stdin: true, command: ['sh'] })
    assert.equal(
      (await sh(id, 'readlink /proc/1/exe; tr "\\0" " " </proc/1/cmdline')).trim().split('\n').at(-1).trim(),
      'sh',
    )
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
    const open = await works(t, 'stdin', { stdin: true, command: ['cat'] }, 'docker')
    if (open) assert.equal((await sh(open, 'tr "\\0" " " </proc/1/cmdline')).trim(), 'cat')
  })

  test('an init of its own', async (t) => {
    let id
    try {
      id = await ctx.start({ init: true })
    } catch (error) {
      assert.deepEqual([error.code, error.details.field], ['INVALID_ARGUMENT', 'init'], error.message)
      return t.skip('the engine has no init here')
    }
    // nerdctl-full brings one that needs no libraries of the image.
    if ((await ctx.adapter.inspectContainer(id)).state !== 'running')
      return t.skip('the init here is no static program')
    assert.match(await sh(id, 'cat /proc/1/cmdline'), /^\/sbin\/(docker-init|tini)\0/)
    const without = await ctx.start({ init: false })
    assert.match(await sh(without, 'cat /proc/1/cmdline'), /^sh\0/)
  })

  test('the signal of a stop, and how long it waits', async () => {
    const signalled = await ctx.start({
      stopSignal: 'usr1',
      command: ['sh', '-c', 'trap "exit 7" USR1; while :; do sleep 0.1; done'],
    })
    await ctx.adapter.stopContainer(signalled)
    assert.equal((await ctx.adapter.getContainerDetails(signalled)).exitCode, 7)
    // Longer than the engines' own ten seconds.
    const slow = 'trap "sleep 12; exit 8" TERM; while :; do sleep 0.1; done'
    const patient = await ctx.start({ stopTimeout: 120, command: ['sh', '-c', slow] })
    await ctx.adapter.stopContainer(patient)
    assert.equal((await ctx.adapter.getContainerDetails(patient)).exitCode, 8)
  })

  test('one that removes itself', async () => {
    const isGone = (id) => async () => !(await ctx.adapter.listContainers({ all: true })).some((c) => c.id === id)
    const stopped = await ctx.start({ autoRemove: true })
    await ctx.adapter.restartContainer(stopped, 0)
    assert.equal((await ctx.adapter.inspectContainer(stopped)).state, 'running')
    await ctx.adapter.stopContainer(stopped, 0)
    await waitFor('its removal', isGone(stopped))
    const ended = await ctx.start({ autoRemove: true, command: ['true'] })
    await waitFor('its removal', isGone(ended))
  })

  // ---- resources ------------------------------------------------------------------------------------------------

  const MiB = 1 << 20
  const limits = async (id) => ({
    cpus: await group(id, 'cpu.max', 'cpu/cpu.cfs_quota_us'),
    shares: await group(id, 'cpu.weight', 'cpu/cpu.shares'),
    cpuset: await group(id, 'cpuset.cpus', 'cpuset/cpuset.cpus'),
    memory: await group(id, 'memory.max', 'memory/memory.limit_in_bytes'),
    swap: await group(id, 'memory.swap.max', 'memory/memory.memsw.limit_in_bytes'),
    reservation: await group(id, 'memory.low', 'memory/memory.soft_limit_in_bytes'),
    pids: await group(id, 'pids.max', 'pids/pids.max'),
  })
  /** Those that this machine's control groups can show. */
  function shown(found, expected, t) {
    const version2 = found.cpus?.includes(' ')
    for (const [key, values] of Object.entries(expected)) {
      if (found[key] === undefined) t.diagnostic(`no control group shows ${key} here`)
      else assert.ok([values[version2 ? 1 : 0]].flat().map(String).includes(found[key]), `${key}: ${found[key]}`)
    }
  }

  test('limits, and other ones later', { needs: 'cgroups' }, async (t) => {
    const id = await ctx.start({
      resources: {
        ...{
          cpus: 0.5,
          cpuShares: 512,
          cpuset: '0',
          memory: '64MiB',
          memorySwap: 96 * MiB,
          memoryReservation: '32 MiB',
        },
        ...{ pids: 64, shmSize: '8MiB', oomScoreAdj: 500 },
      },
    })
    shown(
      await limits(id),
      {
        // Shares become a weight by another rule from runc 1.3.2 on (github.com/opencontainers/runc/issues/4896).
        ...{ cpus: [50_000, '50000 100000'], shares: [512, [20, 59]], cpuset: ['0', '0'] },
        memory: [64 * MiB, 64 * MiB],
        ...{ reservation: [32 * MiB, 32 * MiB], pids: [64, 64] },
      },
      t,
    )
    const { swap } = await limits(id)
    // A kernel without swap accounting has no such file, and the engine warns.
    if (swap !== undefined) assert.ok([String(96 * MiB), String(32 * MiB)].includes(swap), `swap: ${swap}`)
    assert.equal((await sh(id, 'cat /proc/1/oom_score_adj')).trim(), '500')
    assert.equal((await words(id, 'df -k /dev/shm | tail -n 1'))[1], String(8 * 1024))
    assert.equal((await status(id, 'Cpus_allowed_list')).trim(), '0')

    await ctx.adapter.updateContainer(id, {
      resources: { cpus: 0.25, cpuShares: 256, memory: '128MiB', memoryReservation: '48MiB', pids: 80 },
      restart: 'on-failure',
    })
    const changed = { cpus: [25_000, '25000 100000'], cpuset: ['0', '0'], memory: [128 * MiB, 128 * MiB] }
    shown(
      await limits(id),
      { ...changed, shares: [256, [10, 35]], reservation: [48 * MiB, 48 * MiB], pids: [80, 80] },
      t,
    )
    assert.equal((await ctx.adapter.getContainerDetails(id)).restartPolicy, 'on-failure')
    await ctx.adapter.restartContainer(id, 0)
    shown(await limits(id), { ...changed, pids: [80, 80] }, t)
  })

  test('a restart policy given later is carried out, and one taken away is not', async () => {
    const id = await ctx.start({ command: ['sh', '-c', 'trap "exit 3" USR1; while :; do sleep 0.1; done'] })
    const began = async () => (await ctx.adapter.getContainerDetails(id)).startedAt?.getTime()
    const first = await began()
    await ctx.adapter.updateContainer(id, { restart: 'on-failure' })
    // By itself: what a caller kills stays down.
    await sh(id, 'kill -USR1 1')
    await waitFor('its restart', async () => {
      const { state } = await ctx.adapter.inspectContainer(id)
      return state === 'running' && (await began()) !== first
    })
    await ctx.adapter.updateContainer(id, { restart: 'no' })
    assert.equal((await ctx.adapter.getContainerDetails(id)).restartPolicy, 'no')
    await sh(id, 'kill -USR1 1')
    await ctx.state(id, 'exited')
  })

  test('limits that the machine does not have', async () => {
    const { cpus } = await ctx.adapter.getSystemInfo()
    for (const [field, resources] of [
      ['resources.cpus', { cpus: 4000 }],
      ['resources.cpuset', { cpuset: '0,3999' }],
    ]) {
      const name = ctx.name()
      await fails(ctx.start({ name, resources }), 'INVALID_ARGUMENT', { field })
      assert.ok(!(await ctx.names()).includes(name))
    }
    const id = await ctx.start({ resources: { cpus } })
    await fails(ctx.adapter.updateContainer(id, { resources: { cpus: 4000 } }), 'INVALID_ARGUMENT', {
      field: 'resources.cpus',
    })
  })

  test('limits of setrlimit', async () => {
    const id = await ctx.start({ ulimits: { nofile: { soft: 123, hard: 456 }, core: 0 } })
    const limit = async (name) =>
      (await sh(id, 'cat /proc/1/limits'))
        .split('\n')
        .find((line) => line.startsWith(name))
        .slice(25)
        .trim()
        .split(/\s+/)
    assert.deepEqual((await limit('Max open files')).slice(0, 2), ['123', '456'])
    assert.deepEqual((await limit('Max core file size')).slice(0, 2), ['0', '0'])
  })

  // ---- files ----------------------------------------------------------------------------------------------------

  test('memory as directories, and a root that is read-only', async () => {
    const id = await ctx.start({
      readOnlyRootfs: true,
      tmpfs: { '/small': { size: '1MiB', mode: 0o1770 }, '/any': {} },
      mounts: [{ type: 'tmpfs', target: '/third', readOnly: true }],
    })
    assert.equal(
      await sh(id, 'touch /x 2>/dev/null || echo refused; touch /small/x /any/x; ls /small /any'),
      'refused\n/any:\nx\n\n/small:\nx\n',
    )
    const small = await options(id, '/small')
    assert.deepEqual((await mountAt(id, '/small')).slice(0, 3), ['tmpfs', '/small', 'tmpfs'])
    for (const option of ['noexec', 'nosuid', 'nodev', 'size=1024k', 'mode=1770'])
      assert.ok(small.includes(option), `${small}`)
    assert.ok((await options(id, '/third')).includes('ro'))
    assert.equal(await sh(id, 'head -c 2097152 /dev/zero >/small/y 2>/dev/null || echo full'), 'full\n')
  })

  test('mounts: a path, a volume, an anonymous volume', async () => {
    const dir = tempDir('contract')
    writeFileSync(join(dir, 'in'), 'from the host')
    const name = await ctx.volume()
    const id = await ctx.start({
      mounts: [
        { type: 'bind', source: dir, target: '/rw', propagation: 'rprivate' },
        { type: 'bind', source: dir, target: '/ro', readOnly: true },
        { type: 'volume', source: name, target: '/data' },
        { type: 'volume', target: '/anonymous' },
      ],
    })
    ctx.undo(async () => {
      const { mounts } = await ctx.adapter.getContainerDetails(id)
      const { source } = mounts.find((m) => m.destination === '/anonymous')
      await ctx.adapter.removeContainer(id, true)
      await ctx.adapter.removeVolume(source, true)
    })
    const script = 'cat /rw/in; echo out >/rw/out; touch /ro/x 2>/dev/null && echo written; touch /data/x /anonymous/x'
    assert.equal(await sh(id, script), 'from the host')
    assert.equal(readFileSync(join(dir, 'out'), 'utf8'), 'out\n')
    for (const target of ['/rw', '/ro', '/data', '/anonymous']) assert.ok(await mountAt(id, target), target)
    assert.ok((await options(id, '/ro')).includes('ro'))
    const { mounts } = await ctx.adapter.getContainerDetails(id)
    const seen = mounts
      .filter((m) => m.destination !== '/anonymous')
      .map((m) => [m.type, m.source, m.destination, m.readOnly])
    assert.deepEqual(seen.sort(), [
      ['bind', dir, '/ro', true],
      ['bind', dir, '/rw', false],
      ['volume', name, '/data', false],
    ])
  })

  test('a mount whose propagation is seen', async () => {
    const dir = tempDir('contract')
    try {
      const id = await ctx.start({ mounts: [{ type: 'bind', source: dir, target: '/s', propagation: 'rslave' }] })
      const line = (await sh(id, 'cat /proc/self/mountinfo')).split('\n').find((l) => l.split(' ')[4] === '/s')
      assert.match(line, /master:\d+/)
    } catch (error) {
      // What is mounted where nothing is shared cannot be a slave.
      const said = [error.code, error.details?.field]
      assert.deepEqual(said, ['INVALID_ARGUMENT', 'mounts[0].propagation'], error.message)
    }
  })

  test('a path that is not there is refused, and nothing is made of it', async () => {
    const dir = tempDir('contract')
    mkdirSync(join(dir, 'there'))
    const mounts = [
      { type: 'bind', source: join(dir, 'there'), target: '/there' },
      { type: 'bind', source: join(dir, 'missing'), target: '/missing' },
    ]
    const name = ctx.name()
    await fails(ctx.start({ name, mounts }), 'INVALID_ARGUMENT', { field: 'mounts[1].source' })
    assert.throws(() => readFileSync(join(dir, 'missing')), { code: 'ENOENT' })
    assert.ok(!(await ctx.names()).includes(name))
  })

  test('a directory of a volume', async (t) => {
    const name = await ctx.volume()
    await ctx.ran('mkdir -p /data/sub && echo below >/data/sub/file', { volumes: [{ host: name, container: '/data' }] })
    const mounts = [{ type: 'volume', source: name, target: '/sub', subpath: 'sub' }]
    const id = await works(t, 'mounts[0].subpath', { mounts })
    if (id) assert.equal(await sh(id, 'cat /sub/file'), 'below\n')
    await ctx.clean()
  })

  test("Docker's socket by a mount", { needs: 'dockerSocket' }, async () => {
    const mounts = [{ type: 'bind', source: '/var/run/docker.sock', target: '/var/run/docker.sock' }]
    await ctx.exec(await ctx.start({ mounts }), 'test', '-S', '/var/run/docker.sock')
  })

  test("Docker's socket by a mount of an engine without one", { needs: 'noDockerSocket' }, async () => {
    const mounts = [{ type: 'bind', source: '/run/docker.sock', target: '/s' }]
    await fails(ctx.start({ mounts }), 'INVALID_ARGUMENT', { field: 'mounts[0].source' })
  })

  test('a mount of what the guest does not see', { needs: 'unseenPath' }, async () => {
    const mounts = [{ type: 'bind', source: ctx.backend.unseenPath(), target: '/x' }]
    await fails(ctx.start({ mounts }), 'INVALID_ARGUMENT', { field: 'mounts[0].source' })
  })

  // ---- powers ---------------------------------------------------------------------------------------------------

  const [NET_ADMIN, SYS_ADMIN] = [1n << 12n, 1n << 21n]
  const capabilities = async (id, set) => BigInt(`0x${await status(id, set)}`)

  test('capabilities', async () => {
    const plain = await capabilities(await ctx.start(), 'CapEff')
    assert.equal(plain & NET_ADMIN, 0n)
    const added = await capabilities(await ctx.start({ capAdd: ['net_admin'] }), 'CapEff')
    assert.equal(added, plain | NET_ADMIN)
    const alone = await capabilities(await ctx.start({ capDrop: ['ALL'], capAdd: ['CAP_NET_ADMIN'] }), 'CapEff')
    assert.equal(alone, NET_ADMIN)
  })

  test('all powers', async (t) => {
    let id
    try {
      id = await ctx.start({ privileged: true })
    } catch (error) {
      // A machine that is a container itself has not all of them to give.
      assert.match(error.message, /unable to apply caps|operation not permitted/)
      return t.skip('this machine has not all powers to give')
    }
    const [all, plain] = [await capabilities(id, 'CapEff'), await capabilities(await ctx.start(), 'CapEff')]
    assert.ok(all !== plain && (all & plain) === plain && (all & SYS_ADMIN) !== 0n, all.toString(16))
    assert.equal(await status(id, 'Seccomp'), '0')
  })

  test('security options', async () => {
    const plain = await ctx.start()
    assert.equal(await status(plain, 'NoNewPrivs'), '0')
    const masked = async (id) =>
      (await sh(id, 'cat /proc/self/mounts')).split('\n').filter((l) => /^\S+ \/proc\/./.test(l)).length
    const id = await ctx.start({ securityOpt: ['no-new-privileges', 'seccomp=unconfined', 'systempaths=unconfined'] })
    assert.equal(await status(id, 'NoNewPrivs'), '1')
    assert.equal(await status(id, 'Seccomp'), '0')
    assert.ok((await masked(plain)) > 0)
    assert.equal(await masked(id), 0)
  })

  test('a profile of seccomp as JSON', async (t) => {
    const profile = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO' }],
    }
    const id = await works(t, 'securityOpt[0]', { securityOpt: [`seccomp=${JSON.stringify(profile)}`] }, 'docker')
    if (id) assert.equal(await sh(id, 'mkdir /x 2>/dev/null || echo refused'), 'refused\n')
  })

  test('devices', { needs: 'powers' }, async () => {
    const id = await ctx.start({ devices: ['/dev/null:/dev/other-null:rw'] })
    assert.equal(
      await sh(id, 'test -c /dev/other-null && echo x >/dev/other-null && stat -c %t:%T /dev/other-null'),
      '1:3\n',
    )
    const name = ctx.name()
    await fails(ctx.start({ name, devices: ['/dev/null', '/dev/no-such-device'] }), 'INVALID_ARGUMENT', {
      field: 'devices[1]',
    })
    assert.ok(!(await ctx.names()).includes(name))
  })

  test('GPUs', async (t) => {
    try {
      const id = await ctx.start({ gpus: 'all' })
      assert.ok(await sh(id, 'ls /dev/nvidia* /dev/dri* 2>/dev/null; true'))
    } catch (error) {
      assert.deepEqual([error.code, error.details.field], ['INVALID_ARGUMENT', 'gpus'], error.message)
      t.diagnostic(`no GPU here: ${error.message}`)
    }
  })

  test('kernel parameters', async () => {
    const id = await ctx.start({ sysctls: { 'net.ipv4.ip_default_ttl': '33', 'kernel.msgmax': '4096' } })
    assert.equal(await sh(id, 'cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax'), '33\n4096\n')
    for (const key of ['kernel.panic', 'net.ipv4.no_such_parameter']) {
      const name = ctx.name()
      await fails(ctx.start({ name, sysctls: { [key]: '1' } }), 'INVALID_ARGUMENT', { field: `sysctls.${key}` })
      assert.ok(!(await ctx.names()).includes(name))
    }
  })

  // ---- the network ----------------------------------------------------------------------------------------------

  test('hosts and name servers', async () => {
    const id = await ctx.start({
      extraHosts: { 'one.test': '192.0.2.1', six: '2001:db8::1', gate: 'host-gateway' },
      ...{ dns: ['192.0.2.53'], dnsSearch: ['example.test'], dnsOptions: ['ndots:3'] },
    })
    const hosts = (await sh(id, 'cat /etc/hosts')).split('\n').map((line) => line.trim().split(/\s+/))
    const address = (name) => hosts.find((words) => words.slice(1).includes(name))?.[0]
    assert.deepEqual([address('one.test'), address('six')], ['192.0.2.1', '2001:db8::1'])
    assert.match(address('gate') ?? '', /^[0-9a-f.:]+$/)
    const resolv = await sh(id, 'cat /etc/resolv.conf')
    for (const line of [/^nameserver 192\.0\.2\.53$/m, /^search example\.test$/m, /^options .*ndots:3/m])
      assert.match(resolv, line)
  })

  test('no network, and that of the machine', async () => {
    const none = await ctx.start({ networkMode: 'none' })
    assert.equal((await sh(none, 'ls /sys/class/net')).trim(), 'lo')
    const host = await ctx.start({ networkMode: 'host' })
    const own = await ctx.start()
    const space = (id) => sh(id, 'readlink /proc/1/ns/net')
    assert.notEqual(await space(host), await space(own))
    assert.equal(await space(host), await space(await ctx.start({ networkMode: 'host' })))
  })

  test("another container's network, processes and memory", async (t) => {
    const other = ctx.name('Other')
    const id = await ctx.start({
      name: other,
      ipcMode: 'shareable',
      command: ['sh', '-c', `echo shared >/dev/shm/word; ${RUN_ON}`],
    })
    const space = (of, kind) => sh(of, `readlink /proc/self/ns/${kind}`)
    const joined = await ctx.start({ networkMode: `container:${other}`, pidMode: `container:${id}` })
    for (const kind of ['net', 'pid']) assert.equal(await space(joined, kind), await space(id, kind), kind)
    assert.match(await sh(joined, 'cat /proc/1/cmdline'), /shared/)
    const reader = await works(t, 'ipcMode', { ipcMode: `container:${other}` }, 'docker')
    if (reader) {
      assert.equal(await sh(reader, 'cat /dev/shm/word'), 'shared\n')
      assert.equal(await space(reader, 'ipc'), await space(id, 'ipc'))
    }
    await ctx.adapter.removeContainer(joined, true)
    for (const field of ['networkMode', 'pidMode']) {
      const name = ctx.name()
      await fails(ctx.start({ name, [field]: 'container:no-such' }), 'CONTAINER_NOT_FOUND', { naming: 'no-such' })
      assert.ok(!(await ctx.names()).includes(name))
    }
  })

  test("the machine's processes and memory", { needs: 'powers' }, async (t) => {
    const id = await ctx.start({ pidMode: 'host' })
    const own = await ctx.start({ ipcMode: 'private' })
    const space = (of, kind) => sh(of, `readlink /proc/self/ns/${kind}`)
    assert.notEqual(await space(id, 'pid'), await space(own, 'pid'))
    assert.notEqual((await sh(id, 'cat /proc/1/cmdline')).split('\0')[0], 'sh')
    const shared = await works(t, 'ipcMode', { ipcMode: 'host' }, 'docker')
    if (shared) assert.notEqual(await space(shared, 'ipc'), await space(own, 'ipc'))
    const none = await works(t, 'ipcMode', { ipcMode: 'none' }, 'docker')
    if (none) assert.equal(await sh(none, 'test -e /dev/shm && echo there; true'), '')
  })

  test('names, an address and a MAC address in a network', async () => {
    const network = await ctx.network()
    const mac = '02:42:ac:11:77:02'
    const id = await ctx.start({
      networks: [network.name],
      networkOptions: { [network.name]: { aliases: ['alias-one', 'alias_two'], mac } },
    })
    assert.equal((await sh(id, 'cat /sys/class/net/eth0/address')).trim(), mac)
    const peer = await ctx.start({ networks: [network.id] })
    const [{ ipAddress, aliases }] = (await ctx.adapter.getContainerDetails(id)).networks
    for (const alias of ['alias-one', 'alias_two']) {
      // By /etc/hosts on one engine, by a name server on the other.
      const reached = await sh(peer, `ping -c 1 -w 5 ${alias} 2>&1 | head -n 1`)
      assert.ok(reached.includes(`(${ipAddress})`), `${alias}: ${reached}`)
      assert.ok(aliases.includes(alias), `${aliases}`)
    }
    await ctx.clean()
  })

  test('an address that the network does not have', async () => {
    const network = await ctx.network()
    const name = ctx.name()
    const networkOptions = { [network.name]: { ipv4: '192.0.2.77' } }
    const error = await ctx.start({ name, networks: [network.name], networkOptions }).then(
      () => assert.fail('it started'),
      (error) => error,
    )
    assert.deepEqual(
      [error.code, error.details.field],
      ['INVALID_ARGUMENT', `networkOptions.${network.name}.ipv4`],
      error.message,
    )
    assert.ok(!(await ctx.names()).includes(name))
    await ctx.clean()
  })

  test("ports of the engine's choice", async () => {
    const serve = ['sh', '-c', 'mkdir /www; echo hello >/www/index.html; exec httpd -f -p 80 -h /www']
    const ids = []
    for (let i = 0; i < 2; i++) ids.push(await ctx.start({ command: serve, ports: { 80: '127.0.0.1:0', 81: '0' } }))
    const ports = []
    for (const id of ids) {
      const found = (await ctx.adapter.inspectContainer(id)).ports
      assert.deepEqual([...new Set(found.map((p) => p.containerPort))], [80, 81])
      for (const { hostPort, protocol } of found) assert.ok(hostPort >= 1024 && protocol === 'tcp', `${hostPort}`)
      ports.push(found.find((p) => p.containerPort === 80).hostPort)
      const [listed] = await ctx.adapter.listContainers({ filters: { id: [id] } })
      assert.deepEqual(listed.ports, found)
    }
    assert.notEqual(ports[0], ports[1])
    for (const port of ports) await waitFor('an answer', () => answers(port))
    await ctx.adapter.restartContainer(ids[0], 0)
    const [again] = (await ctx.adapter.inspectContainer(ids[0])).ports
    await waitFor('an answer after the restart', () => answers(again.hostPort))
  })

  // ---- the engine's part ----------------------------------------------------------------------------------------

  test('where its output goes', async (t) => {
    const logging = { driver: 'json-file', options: { 'max-size': '1m', 'max-file': '2' } }
    const id = await ctx.printed('logged\n', 'echo logged', { logging })
    assert.equal(await ctx.log(id), 'logged\n')
    for (const [field, wrong] of [
      ['logging.driver', { driver: 'no-such-driver' }],
      ['logging.options', { driver: 'json-file', options: { 'no-such-option': '1' } }],
    ]) {
      const name = ctx.name()
      const error = await fails(ctx.start({ name, logging: wrong }), 'INVALID_ARGUMENT')
      assert.ok(error.details.field.startsWith(field), error.message)
      assert.ok(!(await ctx.names()).includes(name))
    }
    const none = await works(t, 'logging.driver', { logging: { driver: 'none' } }, 'docker')
    if (none) await fails(ctx.adapter.getContainerLogs(none), 'INVALID_STATE')
  })

  test('another runtime', async () => {
    const id = await ctx.start({ runtime: 'runc' })
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
    const name = ctx.name()
    await fails(ctx.start({ name, runtime: 'no-such-runtime' }), 'INVALID_ARGUMENT', { field: 'runtime' })
    assert.ok(!(await ctx.names()).includes(name))
  })

  test('annotations', async (t) => {
    // They are for the runtime: nothing inside shows them.
    const id = await works(t, 'annotations', { annotations: { 'com.example.note': 'a=b,"c"' } }, 'containerd')
    if (id) assert.ok(JSON.stringify((await ctx.adapter.getContainerDetails(id)).raw).includes('com.example.note'))
  })

  test('a check that comes more often after the start', async (t) => {
    const healthcheck = {
      test: ['CMD', 'true'],
      interval: 3_600_000,
      timeout: 30_000,
      retries: 1,
      startPeriod: 600_000,
      startInterval: 200,
    }
    const id = await works(t, 'healthcheck.startInterval', { healthcheck }, 'containerd')
    // By the interval alone it would take an hour.
    if (id) await waitFor('health', async () => (await ctx.adapter.inspectContainer(id)).health === 'healthy')
  })

  // ---- a life in two steps --------------------------------------------------------------------------------------

  test('made, and started later', async () => {
    const [name, volume] = [ctx.name(), await ctx.volume()]
    ctx.discard(name)
    const config = {
      name,
      image: ctx.backend.image,
      command: IDLE,
      ports: { 80: '0' },
      volumes: [{ host: volume, container: '/v' }],
    }
    const id = await ctx.adapter.createContainer({ ...config, stopTimeout: 0 })
    assert.match(id, /^[0-9a-f]{64}$/)
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'stopped')
    await fails(ctx.adapter.createContainer(config), 'NAME_IN_USE')
    assert.equal(await ctx.adapter.startContainer(name), id)
    assert.equal((await ctx.adapter.inspectContainer(id)).state, 'running')
    assert.ok((await ctx.adapter.inspectContainer(id)).ports[0].hostPort > 0)
    assert.equal(await ctx.adapter.startContainer(id), id, 'one that runs stays')
    await ctx.adapter.stopContainer(id)
    assert.equal(await ctx.adapter.startContainer(id.slice(0, 12)), id)
    await ctx.clean()
  })

  test('one that is paused is not started', { needs: 'cgroups' }, async () => {
    const id = await ctx.start()
    await ctx.adapter.pauseContainer(id)
    await fails(ctx.adapter.startContainer(id), 'INVALID_STATE')
    await ctx.adapter.unpauseContainer(id)
  })

  test('what is not there is neither started nor changed', async () => {
    for (const id of ['no-such-container', '0'.repeat(64)]) {
      await fails(ctx.adapter.startContainer(id), 'CONTAINER_NOT_FOUND', { naming: id })
      await fails(ctx.adapter.updateContainer(id, { restart: 'no' }), 'CONTAINER_NOT_FOUND', { naming: id })
    }
    const once = await ctx.start({ autoRemove: true })
    await fails(ctx.adapter.updateContainer(once, { restart: 'always' }), 'INVALID_STATE')
  })

  test('a container that cannot be made leaves nothing', async () => {
    const name = ctx.name()
    const config = { name, image: ctx.backend.image, user: 'no-such-user' }
    const seen = await warnings(() => fails(ctx.start(config), 'INVALID_ARGUMENT', { field: 'user' }))
    assert.deepEqual(seen, [])
    assert.ok(!(await ctx.names()).includes(name))
  })

  test('those who are not trusted get no powers, however they are spelt', async () => {
    const window = ctx.adapter.restricted()
    const other = await ctx.start({ ipcMode: 'shareable' })
    for (const [field, more] of Object.entries({
      privileged: { privileged: true },
      devices: { devices: ['/dev/null'] },
      gpus: { gpus: 1 },
      capAdd: { capAdd: ['CHOWN'] },
      securityOpt: { securityOpt: ['no-new-privileges'] },
      runtime: { runtime: 'runc' },
      sysctls: { sysctls: { 'net.ipv4.ip_default_ttl': '33' } },
      logging: { logging: { driver: 'syslog', options: { 'syslog-address': 'udp://192.0.2.1:514' } } },
      annotations: { annotations: { a: 'b' } },
      pidMode: { pidMode: `container:${other}` },
      ipcMode: { ipcMode: 'host' },
      networkMode: { networkMode: 'host' },
      'resources.oomScoreAdj': { resources: { oomScoreAdj: -1 } },
      'ulimits.rtprio': { ulimits: { rtprio: 1 } },
      'mounts[0].propagation': { mounts: [{ type: 'bind', source: '/', target: '/h', propagation: 'rshared' }] },
    })) {
      const config = { name: ctx.name(), image: ctx.backend.image, command: IDLE, ...more }
      await fails(window.startContainer(config), 'PERMISSION_DENIED', { field })
      await fails(window.createContainer(config), 'PERMISSION_DENIED', { field })
    }
    await fails(window.spawnInContainer(other, ['true'], { privileged: true }), 'PERMISSION_DENIED', {
      field: 'privileged',
    })
    // What makes a container less, or is its own, is allowed; so is all, with the application's word.
    const harmless = {
      ...{
        capDrop: ['ALL'],
        readOnlyRootfs: true,
        resources: { memory: '64MiB' },
        networkMode: 'none',
        user: '1',
        tty: true,
      },
    }
    for (const [adapter, more] of [
      [window, harmless],
      [ctx.adapter.restricted({ powers: true }), { capAdd: ['NET_ADMIN'], pidMode: `container:${other}` }],
    ]) {
      const name = ctx.name()
      ctx.discard(name)
      const id = await adapter.createContainer({ name, image: ctx.backend.image, command: IDLE, ...more })
      assert.equal(await adapter.startContainer(name), id)
      await adapter.removeContainer(id, true)
    }
    const volume = ctx.name('vol')
    await ctx.backend.outside.createVolume(volume)
    ctx.undo(() => ctx.backend.outside.removeVolume(volume))
    const mounts = [{ type: 'volume', source: volume, target: '/v' }]
    const config = { name: ctx.name(), image: ctx.backend.image, mounts }
    await fails(window.createContainer(config), 'NAME_IN_USE', { field: 'mounts[0].source' })
    const theirs = ctx.name('theirs')
    await ctx.backend.outside.create(theirs, IDLE)
    ctx.undo(() => ctx.backend.outside.remove(theirs))
    const joining = { name: ctx.name(), image: ctx.backend.image, command: IDLE, networkMode: `container:${theirs}` }
    await fails(ctx.adapter.restricted({ powers: true }).startContainer(joining), 'CONTAINER_NOT_FOUND')
    await fails(window.startContainer(theirs), 'CONTAINER_NOT_FOUND')
    await fails(window.updateContainer(theirs, { restart: 'no' }), 'CONTAINER_NOT_FOUND')
  })
})

/** Whether something listens there and says something. */
function answers(port) {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket
      .on('connect', () => socket.write('GET / HTTP/1.0\r\n\r\n'))
      .on('data', (data) => resolve(String(data).startsWith('HTTP/')))
      .on('error', () => resolve(false))
      .on('close', () => resolve(false))
  })
}
