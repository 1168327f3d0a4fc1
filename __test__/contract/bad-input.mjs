import { CALLS, METHODS } from './calls.mjs'
import { assert, fails, subject } from './kit.mjs'

const GARBAGE = 'x'.repeat(10 << 20)
/** Labels on which an engine, or a program beside it, acts. */
const ENGINES_LABELS = [
  'containerd.io/restart.loguri',
  'io.containerd.image.config.stop-signal',
  'io.cri-containerd.kind',
  'nerdctl/pid-file',
  'com.docker.compose.project',
  'desktop.docker.io/binds/0/Source',
  'io.containers.autoupdate',
  'PODMAN_SYSTEMD_UNIT',
  'lima-runtime.app',
  'lima-runtime/x',
]
const MANY = Object.fromEntries(
  Array.from({ length: 50_000 }, (_, i) => [`key${i}`, 'a value of some length, again and again']),
)
const NOT_STRINGS = [null, undefined, 42, true, {}, []]
const NOT_NAMES = [
  '',
  'a/b',
  '/',
  '../up',
  '-rf',
  '--all',
  'a b',
  'a\0b',
  'a\nb',
  'a;b',
  '$(x)',
  'ä',
  GARBAGE,
  ...NOT_STRINGS,
]
const NOT_IMAGES = [
  '',
  ' ',
  'a b',
  '-x',
  '--all-tags',
  'UPPER',
  'a//b',
  'http://host/name',
  'a\0b',
  'name:',
  'x:y:z',
  'me/App:1',
  '/a',
  'a/',
  'a_.b',
  'host_name:5000/a',
  '[::1]:5000',
  '[::1',
  'a:-tag',
  'repo@sha256:ffffffff',
  `a:${'t'.repeat(129)}`,
  `example.com/${'a'.repeat(256)}`,
  GARBAGE,
  ...NOT_STRINGS,
]
const ID = '0'.repeat(64)
const NOT_FLAGS = ['yes', 1, null, {}]
const check = { test: ['CMD', 'true'], interval: 1000, timeout: 1000, retries: 1 }

export const badInput = subject('bad input', (ctx, test) => {
  /** Each is INVALID_ARGUMENT with the field, and the engine sees none of them. */
  function refused(name, rows) {
    test(name, { timeout: 300_000 }, async () => {
      const from = Date.now() / 1000
      const before = await everything()
      for (const [field, what, call] of rows(ctx.adapter)) {
        const label = `${field}: ${shown(what)}`
        const error = await fails(call(), 'INVALID_ARGUMENT').catch((e) => {
          throw new Error(`${label} — ${e.message}`, { cause: e })
        })
        assert.equal(error.details.field, field, `${label} — ${error.message}`)
        assert.ok(error.message.startsWith(`${field}: `), error.message.slice(0, 200))
        assert.ok(error.message.length < 500, `${label}: a message of ${error.message.length} characters`)
      }
      assert.deepEqual(await everything(), before)
      const marker = ctx.name('marker')
      await ctx.backend.outside.createVolume(marker)
      ctx.undo(() => ctx.backend.outside.removeVolume(marker))
      for await (const event of ctx.adapter.events({ since: from })) {
        if ((event.name ?? event.id) === marker) break
        // A second of its own clock before: what the test before this one cleaned up.
        assert.ok(event.time / 1000 < from + 0.001, `the engine was asked: ${JSON.stringify(event)}`)
      }
    })
  }

  async function everything() {
    const { adapter } = ctx
    const lists = [
      adapter.listContainers({ all: true }),
      adapter.listImages(),
      adapter.listNetworks(),
      adapter.listVolumes(),
    ]
    const names = (await Promise.all(lists)).map((list) => list.map((thing) => thing.id ?? thing.name).sort())
    return Object.fromEntries(['containers', 'images', 'networks', 'volumes'].map((kind, i) => [kind, names[i]]))
  }

  const config = (more) => ({ name: 'never-made', image: ctx.backend.image, ...more })

  refused('ContainerConfig', (a) => {
    const start = (field, values, make) => values.map((v) => [field, v, () => a.startContainer(config(make(v)))])
    const whole = [null, undefined, 42, [], true]
    return [
      ...whole.map((v) => ['config', v, () => a.startContainer(v)]),
      // To a start it is an id.
      ...[...whole, 'name'].map((v) => ['config', v, () => a.createContainer(v)]),
      ...NOT_NAMES.filter((v) => typeof v === 'string').map((v) => ['id', v, () => a.startContainer(v)]),
      ...start('name', [...NOT_NAMES, 'x', `${'a'.repeat(300)}`], (name) => ({ name })),
      ...start('image', NOT_IMAGES, (image) => ({ image })),
      ...start('env', [null, 'A=1', 42, [], ['A=1']], (env) => ({ env })),
      ...start('env.A', [1, null, true, {}, 'a\0b', GARBAGE], (A) => ({ env: { A } })),
      ['env.', '', () => a.startContainer(config({ env: { '': 'x' } }))],
      ['env.A=B', 'A=B', () => a.startContainer(config({ env: { 'A=B': 'x' } }))],
      ['env', MANY, () => a.startContainer(config({ env: MANY }))],
      ...start('ports', [null, '80:80', 80, [], ['80:80']], (ports) => ({ ports })),
      ...start(
        'ports.80',
        [
          '',
          '70000',
          'abc',
          '-1',
          '80.5',
          ' 80',
          '+80',
          '0x50',
          '80-90',
          '1.2.3.4.5:80',
          'host:80',
          ':',
          '80:',
          GARBAGE,
          8080,
          null,
          {},
        ],
        (p) => ({ ports: { 80: p } }),
      ),
      ...['0', '70000', 'abc', '', '80/sctp', '80/', '/tcp', '-1', '80-90'].map((k) => [
        `ports.${k}`,
        k,
        () => a.startContainer(config({ ports: { [k]: '8080' } })),
      ]),
      ...start('volumes', [null, '/a:/b', {}, 42], (volumes) => ({ volumes })),
      ...start('volumes[0]', [null, '/a:/b', 42], (v) => ({ volumes: [v] })),
      ...start(
        'volumes[0].host',
        ['', 'relative/path', './here', '../up', '~/home', 'a b', '/a\0b', GARBAGE, ...NOT_STRINGS],
        (host) => ({ volumes: [{ host, container: '/x' }] }),
      ),
      ...start(
        'volumes[0].container',
        ['', 'relative', '/', '//', '/..', '/a\0b', `/${GARBAGE}`, ...NOT_STRINGS],
        (container) => ({
          volumes: [{ host: '/tmp', container }],
        }),
      ),
      ...start('volumes[0].readOnly', NOT_FLAGS, (readOnly) => ({
        volumes: [{ host: '/tmp', container: '/x', readOnly }],
      })),
      ...start('networks', [null, 'bridge', {}, 42], (networks) => ({ networks })),
      ...start(
        'networks[0]',
        NOT_NAMES.map((v) => v ?? null),
        (n) => ({ networks: [n] }),
      ),
      ...start('command', [null, 'sh -c true', {}, 42], (command) => ({ command })),
      ...start('command[1]', [null, 42, 'a\0b', GARBAGE, {}], (arg) => ({ command: ['echo', arg] })),
      ...start('healthcheck', ['curl', 42, [], true], (healthcheck) => ({ healthcheck })),
      ...start('healthcheck.test', [[], ['curl'], ['CMD'], ['CMD-SHELL'], ['NONE', 'x'], 'curl', null], (t) => ({
        healthcheck: { ...check, test: t },
      })),
      ...start('healthcheck.test[1]', [42, null, 'a\0b', GARBAGE], (t) => ({
        healthcheck: { ...check, test: ['CMD', t] },
      })),
      ...['interval', 'timeout', 'retries'].flatMap((key) =>
        start(`healthcheck.${key}`, [0, -1, 1.5, 1e12, NaN, Infinity, '5s', null, undefined], (v) => ({
          healthcheck: { ...check, [key]: v },
        })),
      ),
      ...start('healthcheck.startPeriod', [-1, 1.5, 1e12, '5s'], (startPeriod) => ({
        healthcheck: { ...check, startPeriod },
      })),
      ...start('restart', ['sometimes', '', 42, true, GARBAGE], (restart) => ({ restart })),
      ...start('labels', [null, 'a=b', 42, []], (labels) => ({ labels })),
      ...start('labels.a', [1, null, {}, 'a\0b', GARBAGE], (l) => ({ labels: { a: l } })),
      ['labels.', '', () => a.startContainer(config({ labels: { '': 'x' } }))],
      ...ENGINES_LABELS.map((key) => [
        `labels.${key}`,
        key,
        () => a.startContainer(config({ labels: { [key]: 'x' } })),
      ]),
      ['labels', MANY, () => a.startContainer(config({ labels: MANY }))],
      ...start('platform', ['', 'linux', 'linux/', '/amd64', 'a/b/c/d', 'linux/amd 64', GARBAGE, 42], (platform) => ({
        platform,
      })),
    ]
  })

  refused('settings of a ContainerConfig', (a) => {
    const start = (field, values, make) => values.map((v) => [field, v, () => a.createContainer(config(make(v)))])
    const simple = (field, ...values) => start(field, values, (v) => ({ [field]: v }))
    const inner = (outer, field, ...values) => start(`${outer}.${field}`, values, (v) => ({ [outer]: { [field]: v } }))
    const sizes = ['', '64', '64MB', '64m', '-1MiB', 'MiB', '1e9MiB', -5, 1.5, true, {}, [], null, 'NaNMiB', GARBAGE]
    const flags = ['tty', 'stdin', 'init', 'autoRemove', 'readOnlyRootfs', 'privileged']
    const lists = [
      'entrypoint',
      'capAdd',
      'capDrop',
      'securityOpt',
      'groupAdd',
      'devices',
      'dns',
      'dnsSearch',
      'dnsOptions',
    ]
    const records = ['tmpfs', 'ulimits', 'sysctls', 'extraHosts', 'networkOptions', 'annotations']
    const check = { test: ['CMD', 'true'], interval: 1000, timeout: 1000, retries: 1 }
    return [
      ...flags.flatMap((field) => simple(field, ...NOT_FLAGS)),
      ...lists.flatMap((field) => [
        ...simple(field, null, 'x', {}, 42),
        ...start(`${field}[0]`, [null, 42, {}], (v) => ({ [field]: [v] })),
      ]),
      ...records.flatMap((field) => simple(field, null, 'x', [], 42)),
      ...simple('entrypoint', []),
      ...start('entrypoint[0]', ['', 'a\0b', GARBAGE], (v) => ({ entrypoint: [v] })),
      ...simple('user', '', '-x', 'a b', 'a\0b', 1000, GARBAGE),
      ...simple('workdir', '', 'relative', '/a\0b', 42, `/${GARBAGE}`),
      ...['hostname', 'domainname'].flatMap((f) =>
        simple(f, '', '-a', 'a-', 'a b', 'a..b', 'a_b', 'a;b', 'a\0b', 'ä', 'x'.repeat(64), GARBAGE, 42),
      ),
      ...simple('stopSignal', '', 'SIG KILL', '0', '99', '-9', 'SIGNONSENSE', 9, GARBAGE),
      ...simple('stopTimeout', -1, 1.5, NaN, Infinity, 1e9, '10', {}),
      ...start('autoRemove', ['always', 'on-failure', 'unless-stopped'], (restart) => ({ autoRemove: true, restart })),
      ...simple('resources', null, 'x', [], 42),
      ...inner('resources', 'cpus', 0, -1, NaN, Infinity, 0.001, 1e9, '1', null),
      ...inner('resources', 'cpuShares', 0, 1, 1.5, 1e9, NaN, '2'),
      ...inner('resources', 'cpuset', '', 'a', '1-', '-1', '3-1', '0,', '0;1', '99999', 0, GARBAGE),
      ...['memory', 'memoryReservation'].flatMap((f) =>
        inner('resources', f, ...sizes.filter((v) => v !== null), 0, 1, 6 * 1024 * 1024 - 1, '5.9MiB', 2 ** 60),
      ),
      ...inner('resources', 'shmSize', ...sizes.filter((v) => v !== null), 0),
      ...start('resources.memorySwap', [...sizes.filter((v) => v !== null), -2, '63MiB', 0], (memorySwap) => ({
        resources: { memory: '64MiB', memorySwap },
      })),
      ...inner('resources', 'memorySwap', '64MiB', -1),
      ...start('resources.memoryReservation', ['65MiB'], (memoryReservation) => ({
        resources: { memory: '64MiB', memoryReservation },
      })),
      ...inner('resources', 'pids', 0, -2, 1.5, 1e9, NaN, '5'),
      ...inner('resources', 'oomScoreAdj', -1001, 1001, 0.5, NaN, '5'),
      ...start('resources.nosuch', [1], (nosuch) => ({ resources: { nosuch } })),
      ...['relative', '', '/', '/..', '/a\0b'].map((k) => [
        `tmpfs.${k.replace('\0', '')}`,
        k,
        () => a.createContainer(config({ tmpfs: { [k]: {} } })),
      ]),
      ...start('tmpfs./t.size', [...sizes.filter((v) => v !== null), 0], (size) => ({ tmpfs: { '/t': { size } } })),
      ...start('tmpfs./t.mode', [-1, 0o10000, 1.5, NaN, '1777'], (mode) => ({ tmpfs: { '/t': { mode } } })),
      ...simple('mounts', null, 'x', {}, 42),
      ...start('mounts[0].type', ['', 'npipe', 'image', 42], (type) => ({ mounts: [{ type, target: '/x' }] })),
      ...start('mounts[0].target', ['', 'relative', '/', '/a\0b', 42], (target) => ({
        mounts: [{ type: 'tmpfs', target }],
      })),
      ...start('mounts[0].source', [undefined, '', 'relative', '../up', 'name', '/a\0b', GARBAGE], (source) => ({
        mounts: [{ type: 'bind', source, target: '/x' }],
      })),
      ...start('mounts[0].source', ['', '/path', '../up', 'a b', '-x', GARBAGE], (source) => ({
        mounts: [{ type: 'volume', source, target: '/x' }],
      })),
      ...start('mounts[0].subpath', ['', '/abs', '../up', 'a/../b', 'a//b', '.'], (subpath) => ({
        mounts: [{ type: 'volume', source: 'data', target: '/x', subpath }],
      })),
      ...start('mounts[0].propagation', ['', 'none', 'rw', 42], (propagation) => ({
        mounts: [{ type: 'bind', source: '/tmp', target: '/x', propagation }],
      })),
      ...start('mounts[0].target', ['/x', '//x/', '/y/../x'], (target) => ({
        tmpfs: {},
        volumes: [{ host: '/tmp', container: '/x' }],
        mounts: [{ type: 'tmpfs', target }],
      })),
      ...['capAdd', 'capDrop'].flatMap((f) =>
        start(`${f}[0]`, ['', 'NONE', 'CAP_', 'CHOWN,SETUID', '--x', GARBAGE], (v) => ({ [f]: [v] })),
      ),
      ...start(
        'securityOpt[0]',
        ['', 'nosuch', 'seccomp', 'seccomp=/etc/passwd', 'seccomp=[]', 'apparmor=', 'systempaths=x', 'a\0b', GARBAGE],
        (v) => ({ securityOpt: [v] }),
      ),
      ...start('groupAdd[0]', ['', '-1', 'a,b', 'a b', 'a:b', GARBAGE], (v) => ({ groupAdd: [v] })),
      ...start(
        'devices[0]',
        [
          '',
          'dev',
          '/',
          '/dev/a:/dev/b:x',
          '/dev/a,/dev/b',
          '/dev/a:',
          'a:b:c:d',
          'vendor.com/class=all',
          '/a\0b',
          GARBAGE,
        ],
        (v) => ({ devices: [v] }),
      ),
      ...simple('gpus', 'some', 0, -1, 1.5, 1000, [], {}, true),
      ...start('gpus[0]', ['', 'a,b', 'a"b', 42], (v) => ({ gpus: [v] })),
      ...['files', '', 'NOFILE', 'nofile=1'].map((k) => [
        `ulimits.${k}`,
        k,
        () => a.createContainer(config({ ulimits: { [k]: 1 } })),
      ]),
      ...start('ulimits.nofile', [-2, 1.5, NaN, '5', null, [], true], (nofile) => ({ ulimits: { nofile } })),
      ...start('ulimits.nofile.soft', [2, -1], (soft) => ({ ulimits: { nofile: { soft, hard: 1 } } })),
      ...['x', '', 'a b.c', 'a..b', 'a.b=c', '../x'].map((k) => [
        `sysctls.${k}`,
        k,
        () => a.createContainer(config({ sysctls: { [k]: '1' } })),
      ]),
      ...start('sysctls.net.x', ['1\n2', 'a\0b', 1, null, GARBAGE], (v) => ({ sysctls: { 'net.x': v } })),
      ...['', 'a b', '-a', 'a:b', 'a,b'].map((k) => [
        `extraHosts.${k}`,
        k,
        () => a.createContainer(config({ extraHosts: { [k]: '192.0.2.1' } })),
      ]),
      ...start('extraHosts.a', ['', 'gateway', '1.2.3', '1.2.3.4 b', 42, GARBAGE], (v) => ({ extraHosts: { a: v } })),
      ...start('dns[0]', ['', 'one.one', '1.2.3.4.5', '1.1.1.1,8.8.8.8', '1.1.1.1\n', GARBAGE], (v) => ({ dns: [v] })),
      ...start('dnsSearch[0]', ['', 'a b', 'a\nb', '-a', GARBAGE], (v) => ({ dnsSearch: [v] })),
      ...start('dnsOptions[0]', ['', 'a b', 'a\nb', 'a,b', GARBAGE], (v) => ({ dnsOptions: [v] })),
      ...simple(
        'networkMode',
        '',
        'bridge',
        'ns:/proc/1/ns/net',
        'container',
        'container:',
        'container:-x',
        'container:a b',
        'HOST',
        42,
        GARBAGE,
      ),
      ...['networks', 'ports'].flatMap((f) =>
        ['none', 'host', 'container:x'].map((networkMode) => [
          f,
          networkMode,
          () => a.createContainer(config({ networkMode, [f]: f === 'ports' ? { 80: '0' } : ['bridge'] })),
        ]),
      ),
      ...['hostname', 'domainname'].map((f) => [
        f,
        'h',
        () => a.createContainer(config({ networkMode: 'container:x', [f]: 'h' })),
      ]),
      ...start('networkOptions.n1', [{}, { aliases: ['a'] }], (v) => ({ networkOptions: { n1: v } })),
      ...Object.entries({
        'aliases[0]': [{ aliases: [''] }, { aliases: ['a b'] }, { aliases: ['a\nb'] }, { aliases: [GARBAGE] }],
        ipv4: [{ ipv4: '' }, { ipv4: '::1' }, { ipv4: '1.2.3' }, { ipv4: '1.2.3.4/24' }],
        ipv6: [{ ipv6: '1.2.3.4' }, { ipv6: 'x' }],
        mac: [
          { mac: '' },
          { mac: '02:42' },
          { mac: '02-42-ac-11-00-02' },
          { mac: 'zz:42:ac:11:00:02' },
          { mac: GARBAGE },
        ],
      }).flatMap(([f, values]) =>
        start(`networkOptions.n1.${f}`, values, (v) => ({ networks: ['n1'], networkOptions: { n1: v } })),
      ),
      ...simple('logging', null, 'syslog', [], 42),
      ...start('logging.driver', ['', '-x', 'a b', 'binary:///bin/sh', 'file:///etc/x', 42, GARBAGE], (driver) => ({
        logging: { driver },
      })),
      ...['', 'a=b', 'a b'].map((k) => [
        `logging.options.${k}`,
        k,
        () => a.createContainer(config({ logging: { driver: 'json-file', options: { [k]: '1' } } })),
      ]),
      ...start('logging.options.a', ['1\n2', 1, GARBAGE], (v) => ({
        logging: { driver: 'json-file', options: { a: v } },
      })),
      ...simple('runtime', '', '-x', '/bin/sh', '../x', 'a b', 42, GARBAGE),
      ...simple('pidMode', '', 'private', 'container:', 'ns:/x', 42, GARBAGE),
      ...simple('ipcMode', '', 'public', 'container:', 42, GARBAGE),
      ...start('resources.shmSize', ['host', 'none', 'container:x'], (ipcMode) => ({
        ipcMode,
        resources: { shmSize: '1MiB' },
      })),
      ...['', 'a=b', ...ENGINES_LABELS].map((k) => [
        `annotations.${k}`,
        k,
        () => a.createContainer(config({ annotations: { [k]: 'x' } })),
      ]),
      ...start('annotations.a', ['1\n2', 'a\0b', 1, GARBAGE], (v) => ({ annotations: { a: v } })),
      ...start('healthcheck.startInterval', [0, -1, 1.5, 1e12, '5s'], (startInterval) => ({
        healthcheck: { ...check, startInterval },
      })),
      ...['changes'].flatMap((f) =>
        [{}, null, undefined, 'x', 42].map((v) => [f, v, () => a.updateContainer('some-container', v)]),
      ),
      ['restart', 'x', () => a.updateContainer('some-container', { restart: 'x' })],
      ['nosuch', 1, () => a.updateContainer('some-container', { nosuch: 1 })],
      ['resources.shmSize', 1, () => a.updateContainer('some-container', { resources: { shmSize: '1MiB' } })],
      ['resources.oomScoreAdj', 1, () => a.updateContainer('some-container', { resources: { oomScoreAdj: 1 } })],
      ['resources.memory', 1, () => a.updateContainer('some-container', { resources: { memory: 1 } })],
    ]
  })

  refused('ids of containers', (a) => {
    const methods = Object.keys(METHODS).filter((name) => /Container/.test(name) && METHODS[name][0] === 'id')
    assert.ok(methods.length >= 13, `${methods}`)
    return methods.flatMap((name) => NOT_NAMES.map((id) => ['id', id, () => CALLS[name](a, { name: id })]))
  })

  refused('other arguments of container methods', (a) => {
    const id = 'some-container'
    const each = (field, values, call) => values.map((v) => [field, v, () => call(v)])
    return [
      ...each('timeout', [-1, 1.5, NaN, Infinity, 1e9, '10', null, {}], (t) => a.stopContainer(id, t)),
      ...each('timeout', [-1, 1.5, '10'], (t) => a.restartContainer(id, t)),
      ...each('force', NOT_FLAGS, (force) => a.removeContainer(id, force)),
      ...each('signal', ['', 'SIG KILL', '0', '99', '-9', 'SIGNONSENSE', 9, null, GARBAGE], (s) =>
        a.killContainer(id, s),
      ),
      ...each('argv', [undefined, null, 'ls -l', 42, {}, [], ['']], (argv) => a.execInContainer(id, argv)),
      ...each('argv[1]', [undefined, null, 42, 'a\0b', GARBAGE], (arg) => a.execInContainer(id, ['ls', arg])),
      ...each('options', ['x', 42, []], (o) => a.execInContainer(id, ['ls'], o)),
      ...each('env', [null, 'A=1', []], (env) => a.execInContainer(id, ['ls'], { env })),
      ...each('env.A', [1, null, 'a\0b', GARBAGE], (A) => a.execInContainer(id, ['ls'], { env: { A } })),
      ...each('workdir', ['', 'relative', '/a\0b', 42, `/${GARBAGE}`], (workdir) =>
        a.execInContainer(id, ['ls'], { workdir }),
      ),
      ...each('user', ['', 'a b', '-x', 'a;b', 1000, GARBAGE], (user) => a.execInContainer(id, ['ls'], { user })),
      ...each('input', [null, 42, {}, ['a']], (input) => a.execInContainer(id, ['cat'], { input })),
      ...each('source', [undefined, null, 42, {}, [], '', 'a\0b', GARBAGE], (s) => a.copyToContainer(id, s, '/tmp')),
      ...each('containerPath', ['', 'relative', '/a\0b', `/${GARBAGE}`, ...NOT_STRINGS], (path) =>
        a.copyToContainer(id, '/etc/hostname', path),
      ),
      ...each('containerPath', ['', 'relative', '/a\0b', `/${GARBAGE}`, ...NOT_STRINGS], (path) =>
        a.copyFromContainer(id, path),
      ),
      ...each('to', ['', 42, null, 'a\0b', GARBAGE], (to) => a.copyFromContainer(id, '/tmp', { to })),
      ...each('options', [null, 'x', 42, []], (o) => a.copyFromContainer(id, '/tmp', o)),
      ...each('options', [null, 'x', 42, []], (o) => a.copyToContainer(id, '/etc/hostname', '/tmp', o)),
      ...each('options', [null, 'x', 42, []], (o) => a.listContainers(o)),
      ...each('all', NOT_FLAGS, (all) => a.listContainers({ all })),
      ...each('filters', [null, 'name=x', 42, []], (filters) => a.listContainers({ filters })),
      ...each('filters.nosuch', [['x']], (v) => a.listContainers({ filters: { nosuch: v } })),
      ...each('filters.name', ['x', null, 42, {}], (name) => a.listContainers({ filters: { name } })),
      ...each('filters.name[0]', [null, 42, GARBAGE], (n) => a.listContainers({ filters: { name: [n] } })),
      ...each('filters.status', [['flying']], (status) => a.listContainers({ filters: { status } })),
      ...each('options', [null, 'x', 42, []], (o) => a.getContainerLogs(id, o)),
      ...each('tail', [-1, 1.5, 'all', null], (tail) => a.getContainerLogs(id, { tail })),
      ...each('follow', NOT_FLAGS, (follow) => a.getContainerLogs(id, { follow })),
      ...each('since', ['x', NaN, -1], (since) => a.events({ since }).next()),
      ...each('filters.nosuch', [['x']], (v) => a.events({ filters: { nosuch: v } }).next()),
      ...each('filters.type[0]', [GARBAGE], (v) => a.events({ filters: { type: [v] } }).next()),
    ]
  })

  refused('images', (a) => {
    const { image } = ctx.backend
    const each = (field, values, call) => values.map((v) => [field, v, () => call(v)])
    return [
      // An id is in no registry.
      ...each('name', [...NOT_IMAGES, ID, `sha256:${ID}`], (name) => a.pullImage(name)),
      ...each('name', NOT_IMAGES, (name) => a.imageExists(name)),
      ...each('id', NOT_IMAGES, (id) => a.removeImage(id)),
      ...each('force', NOT_FLAGS, (force) => a.removeImage(image, force)),
      ...each('source', NOT_IMAGES, (source) => a.tagImage(source, 'target:x')),
      ...each('target', [...NOT_IMAGES, ID, `sha256:${ID}`, `x@sha256:${ID}`], (target) => a.tagImage(image, target)),
      ...each('onProgress', ['x', 42, {}, null], (f) => a.pullImage(image, f)),
      ...each('options', [null, 'x', 42, []], (o) => a.pullImage(image, undefined, o)),
      ...each('platform', ['', 'amd64', 42, GARBAGE], (platform) => a.pullImage(image, undefined, { platform })),
      ...each('auth', ['user:pass', 42, []], (auth) => a.pullImage(image, undefined, { auth })),
      ...each('auth.username', ['', 42, null, undefined, GARBAGE], (username) =>
        a.pullImage(image, undefined, { auth: { username, password: 'x' } }),
      ),
      ...each('auth.password', [42, null, undefined, GARBAGE], (password) =>
        a.pullImage(image, undefined, { auth: { username: 'x', password } }),
      ),
      ...each('name', NOT_IMAGES, (name) => a.inspectImage(name)),
      ...each('name', NOT_IMAGES, (name) => a.imageHistory(name)),
      ...each('name', [...NOT_IMAGES, ID, `sha256:${ID}`, `x@sha256:${ID}`], (name) => a.pushImage(name)),
      ...each('onProgress', ['x', 42, {}, null], (f) => a.pushImage(image, f)),
      ...each('options', [null, 'x', 42, []], (o) => a.pushImage(image, undefined, o)),
      ...each('platform', ['linux/amd64'], (platform) => a.pushImage(image, undefined, { platform })),
      ...each('auth', ['user:pass', 42, []], (auth) => a.pushImage(image, undefined, { auth })),
      ...each('auth.username', ['', 42, null, undefined, GARBAGE], (username) =>
        a.pushImage(image, undefined, { auth: { username, password: 'x' } }),
      ),
      ...each('options', [null, 'x', 42, []], (o) => a.commitContainer('some-container', o)),
      ['reference', undefined, () => a.commitContainer('some-container')],
      ...each('reference', [...NOT_IMAGES, ID, `x@sha256:${ID}`], (reference) =>
        a.commitContainer('some-container', { reference }),
      ),
      ...each('message', [42, null, 'a\0b', GARBAGE], (message) =>
        a.commitContainer('some-container', { reference: 'x:y', message }),
      ),
      ...each('author', [42, null, 'a\0b', GARBAGE], (author) =>
        a.commitContainer('some-container', { reference: 'x:y', author }),
      ),
      ...each('pause', NOT_FLAGS, (pause) => a.commitContainer('some-container', { reference: 'x:y', pause })),
      ...each('context', [undefined, null, 42, {}, [], '', 'a\0b', GARBAGE, '/etc/hostname', '/no/such'], (context) =>
        a.buildImage(context),
      ),
      ...each('options', [null, 'x', 42, []], (o) => a.buildImage('/etc', o)),
      ...each('onProgress', ['x', 42, {}, null], (onProgress) => a.buildImage('/etc', { onProgress })),
      ...each(
        'dockerfile',
        ['', '..', '../x', '/etc/passwd', 'a/../../x', 'none', 'a\nb', 'a\0b', 42, null],
        (dockerfile) => a.buildImage('/etc', { dockerfile }),
      ),
      ...each('tags', ['x', 42, null, {}], (tags) => a.buildImage('/etc', { tags })),
      ...each(
        'tags[0]',
        NOT_IMAGES.filter((v) => typeof v === 'string'),
        (v) => a.buildImage('/etc', { tags: [v] }),
      ),
      ...each('tags[1]', [`x@sha256:${ID}`, ID, 'a,b', 'a b', '-x'], (v) => a.buildImage('/etc', { tags: ['x', v] })),
      ...each('cacheFrom[0]', ['', 'type=local,src=/etc', 'a b', GARBAGE], (v) =>
        a.buildImage('/etc', { cacheFrom: [v] }),
      ),
      ...each('args', ['x', 42, null, ['A=1']], (args) => a.buildImage('/etc', { args })),
      ...each('args.A', [1, null, {}, 'a\0b', GARBAGE], (A) => a.buildImage('/etc', { args: { A } })),
      ...['A=B', 'BUILDKIT_SYNTAX'].map((name) => [
        `args.${name}`,
        name,
        () => a.buildImage('/etc', { args: { [name]: 'x' } }),
      ]),
      ...each('target', ['', '--x', 'a b', 42, GARBAGE], (target) => a.buildImage('/etc', { target })),
      ...each('platform', ['', 'amd64', 'linux/amd64,linux/arm64', 42], (platform) =>
        a.buildImage('/etc', { platform }),
      ),
      ...['com.docker.compose.project', 'containerd.io/restart.status', 'nerdctl/x', 'lima-runtime.app'].map((name) => [
        `labels.${name}`,
        name,
        () => a.buildImage('/etc', { labels: { [name]: 'x' } }),
      ]),
      ...each('secrets', ['x', 42, null, ['a']], (secrets) => a.buildImage('/etc', { secrets })),
      ...each('secrets.a', [42, null, {}, ['x'], 'x'.repeat(500 * 1024 + 1)], (s) =>
        a.buildImage('/etc', { secrets: { a: s } }),
      ),
      ...['a,src=/etc/shadow', '', 'a b', '../x'].map((name) => [
        `secrets.${name}`,
        name,
        () => a.buildImage('/etc', { secrets: { [name]: 'x' } }),
      ]),
      ...each('noCache', NOT_FLAGS, (noCache) => a.buildImage('/etc', { noCache })),
      ...each('pull', NOT_FLAGS, (pull) => a.buildImage('/etc', { pull })),
      ...each('credentials', ['all', 42], (credentials) => a.buildImage('/etc', { credentials })),
      ...each('network', ['host'], (network) => a.buildImage('/etc', { network })),
      ...each('archive', [undefined, null, 42, {}, [], '', 'a\0b', GARBAGE], (archive) => a.loadImage(archive)),
      ...each('images', [undefined, null, 42, {}, []], (images) => a.saveImage(images)),
      ...each('images[0]', NOT_IMAGES, (v) => a.saveImage([v])),
      ...each(
        'images[0]',
        NOT_IMAGES.filter((v) => typeof v === 'string'),
        (v) => a.saveImage(v),
      ),
    ]
  })

  refused('networks, volumes, prune', (a) => {
    const each = (field, values, call) => values.map((v) => [field, v, () => call(v)])
    const labelled = (call) => [
      ...each('labels', [null, 'a=b', []], call),
      ...ENGINES_LABELS.map((key) => [`labels.${key}`, key, () => call({ [key]: 'x' })]),
      ...each('labels.a', [1, null, GARBAGE], (value) => call({ a: value })),
    ]
    return [
      ...each('name', [...NOT_NAMES, 'x'], (name) => a.createNetwork(name)),
      ...each('options', [null, 'x', 42, []], (o) => a.createNetwork('never-made', o)),
      ...each('driver', ['', 42, 'a\0b', GARBAGE], (driver) => a.createNetwork('never-made', { driver })),
      ...each('internal', NOT_FLAGS, (internal) => a.createNetwork('never-made', { internal })),
      ...each('attachable', NOT_FLAGS, (attachable) => a.createNetwork('never-made', { attachable })),
      ...labelled((labels) => a.createNetwork('never-made', { labels })),
      ...each('id', NOT_NAMES, (id) => a.removeNetwork(id)),
      ...each('containerId', NOT_NAMES, (id) => a.connectContainerToNetwork(id, 'bridge')),
      ...each('networkId', NOT_NAMES, (id) => a.connectContainerToNetwork('some-container', id)),
      ...each('containerId', NOT_NAMES, (id) => a.disconnectContainerFromNetwork(id, 'bridge')),
      ...each('networkId', NOT_NAMES, (id) => a.disconnectContainerFromNetwork('some-container', id)),
      ...each('name', [...NOT_NAMES, 'x'], (name) => a.createVolume(name)),
      ...each('options', [null, 'x', 42, []], (o) => a.createVolume('never-made', o)),
      ...each('driver', ['', 42, 'a\0b', GARBAGE], (driver) => a.createVolume('never-made', { driver })),
      ...labelled((labels) => a.createVolume('never-made', { labels })),
      ...each('name', NOT_NAMES, (name) => a.removeVolume(name)),
      ...each('force', NOT_FLAGS, (force) => a.removeVolume('some-volume', force)),
      ...each('options', [null, 'x', 42, []], (o) => a.prune(o)),
      ...['containers', 'images', 'volumes', 'networks'].flatMap((key) =>
        each(key, ['yes', 1], (v) => a.prune({ [key]: v })),
      ),
      ...each('scope', ['all', '', 42, GARBAGE], (scope) => a.prune({ scope })),
    ]
  })

  refused('signal and timeoutMs of every method', (a) => {
    const mine = { name: 'never-made', image: ctx.backend.image, archive: '/dev/null' }
    return Object.values(CALLS).flatMap((call) => [
      ...[0, -1, NaN, Infinity, 2 ** 31, '1000', {}].map((v) => [
        'timeoutMs',
        v,
        () => call(a, mine, { timeoutMs: v }),
      ]),
      ...[{}, 'x', 42, new AbortController()].map((v) => ['signal', v, () => call(a, mine, { signal: v })]),
    ])
  })

  test('what has no JSON form is refused, too', async () => {
    const loop = config({})
    loop.self = loop
    await fails(ctx.adapter.startContainer(loop), 'INVALID_ARGUMENT', { field: 'config' })
    await fails(ctx.adapter.startContainer(config({ labels: { a: 10n } })), 'INVALID_ARGUMENT')
    const trap = Object.defineProperty(config({}), 'env', {
      enumerable: true,
      get() {
        throw new Error('from a getter')
      },
    })
    const error = await fails(ctx.adapter.startContainer(trap), 'INVALID_ARGUMENT')
    assert.match(error.message, /from a getter/)
  })

  test('options of the adapter', () => {
    for (const appName of [42, {}, '']) {
      assert.throws(
        () => ctx.backend.adapter({ appName }),
        (e) => e.code === 'INVALID_ARGUMENT' && e.details.field === 'appName',
      )
    }
  })
})

function shown(value) {
  const text =
    typeof value === 'string'
      ? JSON.stringify(value.slice(0, 40))
      : String(value && typeof value === 'object' ? Object.keys(value).slice(0, 3) : value)
  return text
}
