// The example app in a real Chromium: its page and preload script, its main process as an ordinary user's program, real
// engines, and the release server for the download. The whole way with the pointer, and with the keyboard alone.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { chromium } from 'playwright-core'
import { bundle } from '../../examples/electron-app/browser/run.mjs'
import { root } from '../../scripts/run.mjs'
import { TEST_USER } from '../../scripts/setup.mjs'
import { dockerGate } from '../support/docker-gate.mjs'
import { sharedEngine } from '../support/engine.mjs'
import { noGuest, startGuest } from '../support/guest.mjs'
import { busyboxArchive } from '../support/images.mjs'
import { makeOwned, orphans } from '../support/owned.mjs'
import { killWhoLivesAt, runAsRoot } from '../support/process.mjs'
import {
  dockerUrl,
  imageUrl,
  limaFiles,
  limaUrl,
  manifestOf,
  mirrored,
  nerdctlFullArchive,
  nerdctlUrl,
  noise,
  PLATFORM,
  tarball,
} from '../support/release-files.mjs'
import { startReleaseServer } from '../support/release-server.mjs'
import { tempDir } from '../support/tempdir.mjs'
import { waitFor } from '../support/wait.mjs'

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'
const axe = readFileSync(join(root, 'node_modules/axe-core/axe.min.js'), 'utf8')
const { api } = sharedEngine()
const GUEST = PLATFORM.replace('darwin', 'linux')
const screens = process.env.LIMA_RUNTIME_SCREENS
const SLOW = 300_000
const KIND = 'app'
// A limactl whose guest is of namespaces of this machine, with a real sshd and a real containerd.
const VM = `#!/bin/sh\nexec '${process.execPath}' '${join(root, 'tests/support/limactl.mjs')}' "$@"\n`
// As limactl ends where it cannot make an instance (docs/reference/lima.md#exit-code): a fatal line, exit code 1.
const NO_VM = `#!/bin/sh
case "$1" in
  --version|-v) echo "limactl version 1.2.1" ;;
  *) echo '{"level":"fatal","msg":"this machine starts no VM"}' >&2; exit 1 ;;
esac
`

/** Lima refuses root, so the app is another user's. */
function ordinary() {
  if (process.getuid?.() !== 0) return {}
  const id = (flag) => Number(spawnSync('id', [flag, TEST_USER], { encoding: 'utf8' }).stdout)
  return { uid: id('-u'), gid: id('-g') }
}

/** Runs `$@` where there are no more user namespaces, which a rootless engine needs. */
const NO_NAMESPACES = [
  ...['unshare', '--user', '--map-current-user', '--keep-caps', 'sh', '-ec'],
  ...['echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --inh-caps=-all "$@"', 'sh'],
]

/** What to start the app under, so that User mode is Lima. Who can make no namespace has no rootless engine, either. */
function withoutRootless() {
  const [file, ...args] = [...NO_NAMESPACES, 'true']
  return spawnSync(file, args, { ...ordinary(), cwd: '/' }).status === 0 ? NO_NAMESPACES : []
}

/** Whether that user may read this checkout, and run this Node. */
function reachable() {
  const script = `require('node:fs').accessSync(${JSON.stringify(join(root, 'dist/index.cjs'))})`
  return spawnSync(process.execPath, ['-e', script], { ...ordinary(), cwd: '/' }).status === 0
}

const skip = !existsSync(CHROMIUM)
  ? `no Chromium at ${CHROMIUM}`
  : process.platform === 'win32'
    ? 'Lima does not run on Windows'
    : process.getuid?.() === 0 && !ordinary().uid
      ? `no user ${TEST_USER}; run \`node scripts/setup.mjs test\``
      : reachable()
        ? false
        : `${TEST_USER} may not read this checkout`

describe('the example app', { skip, timeout: 900_000 }, () => {
  let browser
  let server
  let gate
  const children = []

  before(async () => {
    server = await startReleaseServer()
    gate = await dockerGate()
    const socket = gate.host.replace('unix://', '')
    chmodSync(join(socket, '..'), 0o755)
    chmodSync(socket, 0o666)
    browser = await chromium.launch({
      executablePath: CHROMIUM,
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
    })
  })

  after(async () => {
    await browser?.close()
    for (const child of children) child.kill('SIGKILL')
    gate?.close()
    await server?.close()
  })

  /** Puts a release on the server, with this limactl: its Lima comes slowly until `fast()`. */
  function publish(dir, limactl = NO_VM) {
    const lima = tarball({
      ...limaFiles({ payload: 6_000_000 }),
      'bin/limactl': { bytes: limactl, mode: 0o755 },
    })
    const [image, nerdctl, docker] = [noise(300_000, 'image'), nerdctlFullArchive(), noise(2_000_000, 'docker')]
    const urls = [limaUrl(), imageUrl(GUEST), nerdctlUrl(GUEST), dockerUrl(GUEST)]
    const put = (rate) => {
      for (const [i, body] of [lima, image, nerdctl, docker].entries())
        server.file(mirrored(urls[i]), { body, etag: `"${i}"`, ...(i === 0 && rate && { rate }) })
    }
    put(SLOW)
    const parts = manifestOf({
      lima: { [PLATFORM]: [{ url: urls[0], body: lima }] },
      image: { [GUEST]: [{ url: urls[1], body: image }] },
      'nerdctl-full': { [GUEST]: [{ url: urls[2], body: nerdctl }] },
      docker: { [GUEST]: [{ url: urls[3], body: docker }] },
    })
    const manifest = join(dir, 'manifest.json')
    writeFileSync(manifest, JSON.stringify(parts), { mode: 0o644 })
    return { manifest, lima: mirrored(urls[0]), size: lima.length, fast: () => put() }
  }

  /** Starts the app; resolves with the address of its page. */
  async function launch(dir, manifest, more = {}, under = []) {
    const { DOCKER_CONTEXT: _, KAI_CONTAINER_RUNTIME: __, ...env } = process.env
    const [file, ...args] = [...under, process.execPath, join(root, 'examples/electron-app/browser/run.mjs')]
    const child = spawn(file, args, {
      ...ordinary(),
      cwd: dir,
      env: {
        ...env,
        ...{ HOME: dir, TMPDIR: dir, EXAMPLE_DATA: join(dir, 'data'), DOCKER_HOST: gate.host },
        ...{ LIMA_RUNTIME_MANIFEST: manifest, LIMA_RUNTIME_MIRROR: server.url },
        // None, so that User mode is Lima here as on a Mac.
        CONTAINERD_ADDRESS: join(dir, 'containerd.sock'),
        ...more,
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    children.push(child)
    const url = await new Promise((resolve, reject) => {
      let said = ''
      child.stdout.on('data', (chunk) => {
        said += chunk
        const [found] = /http:\S+/.exec(said) ?? []
        if (found) resolve(found)
      })
      child.once('exit', (code) => reject(new Error(`the app ended with ${code}`)))
    })
    const quit = async () => {
      const gone = new Promise((resolve) => child.once('exit', (code) => resolve(code)))
      child.kill('SIGTERM')
      return gone
    }
    return { url, quit }
  }

  /** The app's user's, and gone with all that runs in it after the test. */
  function home(t) {
    for (const dir of orphans(KIND)) remove(dir)
    const dir = makeOwned(KIND)
    t.after(() => remove(dir))
    const { uid, gid } = ordinary()
    if (uid) chownSync(dir, uid, gid)
    return dir
  }

  function remove(dir) {
    killWhoLivesAt(dir)
    runAsRoot('rm', '-rf', dir)
  }

  async function open(url) {
    const context = await browser.newContext({ viewport: { width: 900, height: 900 } })
    await context.grantPermissions(['clipboard-read', 'clipboard-write'])
    const page = await context.newPage()
    page.setDefaultTimeout(180_000)
    const errors = []
    page.on('pageerror', (error) => errors.push(String(error)))
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
    await page.goto(url)
    return { page, errors, close: () => context.close() }
  }

  async function accessible(page) {
    // Not by a script tag: the page's policy allows its own scripts alone.
    await page.evaluate(axe)
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
    assert.deepEqual(
      violations.map((v) => `${v.id}: ${v.help} ${v.nodes.map((n) => n.target.join(' '))}`),
      [],
    )
  }

  /** Detection gives an engine a quarter of a second, which may pass on a busy machine: then the page looks again. */
  const offered = (page, name, again = async () => {}) => {
    const mode = page.getByRole('radio', { name })
    const there = async () => {
      await mode.waitFor()
      if ((await mode.getAttribute('aria-disabled')) !== 'true') return true
      await page.reload()
      await again()
      return false
    }
    return waitFor(`${name} offered`, there, { timeoutMs: 180_000 })
  }

  const pointer = (page) => ({
    press: (role, name) => page.getByRole(role, { name }).click(),
    choose: (name) => page.getByRole('radio', { name }).check(),
    type: (label, text) => page.getByLabel(label).fill(text),
    cancel: () => page.getByRole('button', { name: 'Cancel' }).click(),
  })

  /** Tab, arrows, Enter, Escape and letters: nothing else. */
  function keyboard(page) {
    const focused = () =>
      page.evaluate(() => {
        let element = document.activeElement
        while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement
        const label = element?.labels?.[0]?.textContent ?? element?.getAttribute?.('aria-label') ?? element?.textContent
        return (label ?? '').trim()
      })
    const reach = async (name) => {
      const seen = []
      for (let i = 0; i < 30; i++) {
        const at = await focused()
        if (at.startsWith(name)) return
        seen.push(at)
        await page.keyboard.press('Tab')
      }
      assert.fail(`${name} is not reached by Tab: ${seen.join(' | ')}`)
    }
    return {
      async press(_, name) {
        await reach(name)
        await page.keyboard.press('Enter')
      },
      async choose(name) {
        for (let i = 0; i < 10 && !/mode$/.test(await focused()); i++) await page.keyboard.press('Tab')
        for (let i = 0; i < 4 && (await focused()) !== name; i++) await page.keyboard.press('ArrowDown')
        assert.equal(await focused(), name)
      },
      async type(label, text) {
        await reach(label)
        await page.keyboard.press('Control+A')
        await page.keyboard.type(text)
      },
      async cancel() {
        await reach('Cancel')
        await page.keyboard.press('Escape')
        await page.getByRole('dialog').waitFor()
        await reach('Stop')
        await page.keyboard.press('Enter')
      },
    }
  }

  /** From the choice of User mode, through a download that is cancelled and goes on, to a start that fails. */
  async function untilFailure(t, by, page, release, failure) {
    const user = page.getByRole('radio', { name: 'User mode' })
    await user.waitFor()
    await page.getByText('To download once').waitFor()
    await accessible(page)
    await by.choose('User mode')
    await by.press('button', 'Continue')

    const bar = page.getByRole('progressbar')
    await bar.waitFor()
    await waitFor('some of the download', async () => Number(await bar.getAttribute('aria-valuenow')) >= 10)
    assert.match(await bar.getAttribute('aria-valuetext'), /\d+ ?% .*of .*MB/)
    await accessible(page)
    await by.cancel()
    await page.getByRole('heading', { name: 'The set-up was cancelled' }).waitFor()
    await accessible(page)
    const first = server.requests(release.lima)
    const got = first.reduce((sum, { sent }) => sum + sent, 0)
    assert.ok(got < release.size, `${got} of ${release.size}: it was cancelled`)

    release.fast()
    await by.press('button', 'Try again')
    const alert = page.getByRole('alert').filter({ hasText: 'Error code' })
    await alert.waitFor({ timeout: 180_000 })
    const [resumed] = server.requests(release.lima).slice(first.length)
    assert.match(resumed.range, /^bytes=[1-9]\d*-/)
    t.diagnostic(`cancelled after about ${got} of ${release.size} bytes, resumed with ${resumed.range}`)
    assert.match(await alert.innerText(), failure)
    await accessible(page)
  }

  for (const [how, driver] of Object.entries({ pointer, keyboard })) {
    test(`first launch, to a VM that is ready and a container that dies: ${how}`, { skip: noGuest() }, async (t) => {
      const dir = home(t)
      const release = publish(dir, VM)
      server.reset()
      const guest = await startGuest(ordinary())
      t.after(() => guest.stop())
      writeFileSync(join(guest.dir, 'image.tar'), busyboxArchive())
      guest.ctr('images', 'import', join(guest.dir, 'image.tar'))
      const lima = join(dir, 'data/lima')
      const app = await launch(dir, release.manifest)
      const { page, errors, close } = await open(app.url)
      const by = driver(page)
      mkdirSync(lima, { recursive: true })
      writeFileSync(join(lima, 'guest'), guest.enter.join('\n'))
      // The first boot finds no room; then the person makes some.
      writeFileSync(join(lima, 'fault'), 'disk-full')
      if (ordinary().uid) runAsRoot('chown', '-R', `${ordinary().uid}:${ordinary().gid}`, join(dir, 'data'))
      await untilFailure(t, by, page, release, /DISK_FULL/)

      const requests = server.requests().length
      await by.press('button', 'Try again')
      await page.getByText('Running on lima, with containerd.').waitFor({ timeout: 180_000 })
      assert.equal(server.requests().length, requests, 'nothing is fetched twice')
      await accessible(page)

      // A container, by the form where there is a nerdctl for the guest.
      const name = `example-${how}`
      const row = page.locator(`tr[data-name="${name}"]`)
      if (guest.nerdctl) {
        await by.type('Name', name)
        await by.press('button', 'Start')
        await row.getByText('running').waitFor()
        await by.press('button', `Show ${name}`)
        await page.getByRole('log').getByText('line 2').waitFor()
        await page.getByText('% CPU').waitFor()
      } else {
        const labels = { 'lima-runtime.app': 'lima-runtime-example', 'nerdctl/name': name }
        const flags = Object.entries(labels).flatMap(([key, value]) => ['--label', `${key}=${value}`])
        guest.ctr('run', '-d', ...flags, 'docker.io/library/busybox:latest', name, 'sleep', '1000')
        await row.getByText('running').waitFor()
      }
      const [id] = guest.ctr('containers', 'ls', '-q').split('\n')
      guest.ctr('tasks', 'kill', '-s', 'KILL', id)
      await row.getByText('exited').waitFor()
      if (guest.nerdctl) await by.press('button', `Remove ${name}`)
      else {
        guest.ctr('tasks', 'rm', id)
        guest.ctr('containers', 'rm', id)
      }
      await row.waitFor({ state: 'detached' })
      if (guest.nerdctl && how === 'pointer') {
        // containerd keeps no container's input open: the sandbox's terminal has a shell of its own.
        await page.getByLabel('A sandbox').check()
        await by.press('button', 'Start')
        await page.locator('#screen .xterm-rows').getByText('/work #').waitFor()
        await page.keyboard.type('exit 6')
        await page.keyboard.press('Enter')
        await page.getByText('Ended with exit code 6.').waitFor()
        await page.getByRole('button', { name: `Stop ${name}` }).click()
        await by.press('button', `Remove ${name}`)
        await row.waitFor({ state: 'detached' })
      }
      assert.deepEqual(errors, [])
      await close()

      // The VM goes with the app, also one that is only half started; the next launch brings it up.
      const agent = join(lima, 'vms/default/ha.pid')
      const quit = async (app, when) => {
        const began = performance.now()
        assert.equal(await app.quit(), 0)
        const took = performance.now() - began
        t.diagnostic(`${when}: the app ended after ${took.toFixed(0)} ms`)
        assert.equal(existsSync(agent), false, 'the VM is left running')
      }
      await quit(app, 'quit while it runs')
      const second = await launch(dir, release.manifest)
      await waitFor('a boot', () => existsSync(agent))
      await quit(second, 'quit during a start')
      const third = await launch(dir, release.manifest)
      const later = await open(third.url)
      await later.page.getByText('Running on lima, with containerd.').waitFor({ timeout: 180_000 })
      await driver(later.page).press('button', 'Change…')
      await later.page.getByText(/Uses up to .* of memory and .* of disk/).waitFor()
      await later.page.getByText('Last start took').waitFor()
      await later.close()
      await quit(third, 'quit while it runs')
    })
  }

  test('User mode with a Docker Engine: both screens say so, and fetch it alone', async (t) => {
    const dir = home(t)
    const release = publish(dir)
    server.reset()
    release.fast()
    const app = await launch(dir, release.manifest, { EXAMPLE_ENGINE: 'docker' }, withoutRootless())
    const { page, errors, close } = await open(app.url)
    const by = pointer(page)
    await page.getByText('Linux machine with a Docker Engine').waitFor()
    await page.getByText(/To download once: .* \(Lima, the system image, and the Docker Engine\)/).waitFor()
    await accessible(page)
    await by.choose('User mode')
    await by.press('button', 'Continue')
    // This machine starts no VM.
    await page.getByRole('alert').filter({ hasText: 'Error code' }).waitFor({ timeout: 180_000 })
    await accessible(page)
    assert.equal(server.requests(mirrored(dockerUrl(GUEST))).length, 1)
    assert.equal(server.requests(mirrored(nerdctlUrl(GUEST))).length, 0)
    await by.press('button', 'Try again')
    await page.getByText('Set up the Docker Engine').waitFor()
    assert.deepEqual(errors, [])
    await close()
    assert.equal(await app.quit(), 0)
  })

  test('Docker in the place of a VM that does not start', async (t) => {
    const dir = home(t)
    const release = publish(dir)
    server.reset()
    const app = await launch(dir, release.manifest)
    const { page, errors, close } = await open(app.url)
    const by = pointer(page)
    await untilFailure(t, by, page, release, /VM_|UNSUPPORTED/)
    await by.press('button', 'Use Docker instead')
    await page.getByText('Running on docker.').waitFor({ timeout: 180_000 })
    await accessible(page)

    const name = `example-${process.pid}`
    await by.type('Name', name)
    await by.press('button', 'Start')
    const row = page.locator(`tr[data-name="${name}"]`)
    await row.getByText('running').waitFor()
    await by.press('button', `Show ${name}`)
    await page.getByRole('log').getByText('line 2').waitFor()
    await page.getByText('% CPU').waitFor()
    await accessible(page)
    await api('POST', `/containers/${name}/kill`)
    await row.getByText('exited').waitFor()

    // Another window comes in ready, and sees the same; so does a second launch.
    const other = await open(app.url)
    await other.page.locator(`tr[data-name="${name}"]`).getByText('exited').waitFor()
    await by.press('button', `Remove ${name}`)
    await row.waitFor({ state: 'detached' })
    await other.page.locator(`tr[data-name="${name}"]`).waitFor({ state: 'detached' })
    assert.deepEqual([...errors, ...other.errors], [])
    await other.close()
    await close()
    assert.equal(await app.quit(), 0)
    assert.equal(JSON.parse(readFileSync(join(dir, 'data/runtime.json'), 'utf8')).runtime, 'docker')
    const again = await launch(dir, release.manifest)
    const later = await open(again.url)
    await later.page.getByText('Running on docker.').waitFor()
    await later.close()
    assert.equal(await again.quit(), 0)
  })

  test('two windows: what one chooses, the other follows, and changes when it is changed', async (t) => {
    const dir = home(t)
    const release = publish(dir)
    server.reset()
    const app = await launch(dir, release.manifest)
    const [one, two] = [await open(app.url), await open(app.url)]
    for (const { page } of [one, two]) {
      await offered(page, 'Development mode')
      await page.getByText('To download once').waitFor()
    }
    // In the other one User mode is marked, and nothing of it may be fetched.
    await pointer(one.page).choose('Development mode')
    await pointer(one.page).press('button', 'Continue')
    for (const { page } of [one, two]) await page.getByText('Running on docker.').waitFor()
    assert.equal(server.requests().length, 0)

    // Containers that run are not left without a question.
    const name = `example-two-${process.pid}`
    t.after(() => api('DELETE', `/containers/${name}?force=1`).catch(() => {}))
    await pointer(one.page).type('Name', name)
    await pointer(one.page).press('button', 'Start')
    await two.page.locator(`tr[data-name="${name}"]`).getByText('running').waitFor()
    const change = () => pointer(two.page).press('button', 'Change…')
    await change()
    await offered(two.page, 'Development mode', change)
    await pointer(two.page).choose('User mode')
    await pointer(two.page).press('button', 'Continue')
    await two.page.getByRole('dialog').getByText('run now: 1').waitFor()
    await two.page.getByRole('button', { name: 'Stay' }).click()
    assert.equal(server.requests().length, 0)
    await pointer(two.page).choose('Development mode')
    await pointer(two.page).press('button', 'Continue')
    await two.page.locator(`tr[data-name="${name}"]`).getByText('running').waitFor()
    assert.deepEqual([...one.errors, ...two.errors], [])
    for (const { close } of [one, two]) await close()
    assert.equal(await app.quit(), 0)
  })

  test('a terminal in a container, a sandbox with limits, files, a build, and charts', async (t) => {
    const dir = home(t)
    const app = await launch(dir, publish(dir).manifest)
    const { page, errors, close } = await open(app.url)
    const by = pointer(page)
    await offered(page, 'Development mode')
    await by.choose('Development mode')
    await by.press('button', 'Continue')
    await page.getByText('Running on docker.').waitFor()

    // What is on the terminal's lines, which it draws only where they are seen.
    const lines = async () => {
      await page.locator('#screen').scrollIntoViewIfNeeded()
      return page.locator('#screen .xterm-rows > div').allInnerTexts()
    }
    const shows = (what) => waitFor(`${what} on the terminal`, async () => what.test((await lines()).join('\n')))
    const type = async (text) => {
      await page.keyboard.type(text)
      await page.keyboard.press('Enter')
    }
    const prompt = async () => /^\S* #\s*$/.test((await lines()).filter((line) => line.trim()).at(-1))
    // A shell throws away what is typed before its prompt.
    const enter = async (text) => {
      await waitFor('a prompt', prompt)
      await type(text)
    }
    let asked = 0
    const size = async () => {
      const word = `size-${++asked}`
      await enter(`echo ${word} $(stty size)`)
      const answer = new RegExp(`^${word} (\\d+) (\\d+)`, 'm')
      await shows(answer)
      return answer
        .exec((await lines()).join('\n'))
        .slice(1)
        .map(Number)
    }

    const [shell, sandbox] = ['example-shell', 'example-sandbox']
    for (const name of [shell, sandbox]) t.after(() => api('DELETE', `/containers/${name}?force=1`).catch(() => {}))
    await by.type('Name', shell)
    await by.press('button', 'Start')
    await by.press('button', `Terminal ${shell}`)
    await shows(/^\/ #/m)
    await accessible(page)
    await enter('echo $((6 * 7)) $TERM')
    await shows(/^42 xterm-256color/m)
    const [, columns] = await size()
    await page.setViewportSize({ width: 500, height: 900 })
    const fewer = await waitFor('the shell to see the new size', async () => {
      const [, now] = await size()
      return now < columns && now
    })
    t.diagnostic(`${columns} columns, narrower ${fewer}`)
    await page.setViewportSize({ width: 900, height: 900 })
    await waitFor('the shell to see the old size', async () => (await size())[1] === columns)
    await enter('echo begun; cat')
    await shows(/^begun/m)
    await type('typed twice')
    await shows(/^typed twice\s+typed twice/m)
    await page.keyboard.press('Control+C')
    await shows(/^\^C\s+\/ #/m)
    await enter('echo ended with $?')
    await shows(/^ended with 130/m)

    // By the page's own clipboard keys; Tab is the shell's, and there is a way out.
    // Forced: an element of the terminal's lies above its lines, and hears of the pointer.
    const word = page.locator('#screen .xterm-rows').getByText(/^ended with 130/)
    await word.dblclick({ force: true, position: { x: 5, y: 5 } })
    await page.keyboard.press('Control+Shift+C')
    await waitFor('a copy', async () => (await page.evaluate(() => navigator.clipboard.readText())).trim() === 'ended')
    await page.evaluate(() => navigator.clipboard.writeText('echo pasted-$((1 + 1))'))
    await by.press('button', 'Paste')
    await shows(/# echo pasted-/)
    await page.keyboard.press('Enter')
    await shows(/^pasted-2/m)
    await page.keyboard.type('cat /etc/pass')
    await page.keyboard.press('Tab')
    await shows(/cat \/etc\/passwd/)
    await page.keyboard.press('Control+Shift+L')
    assert.equal(await page.evaluate(() => document.activeElement.id), 'close')
    await page.getByLabel('For a screen reader').check()
    await page.locator('#screen .xterm-accessibility').getByText('pasted-2').first().waitFor()
    await accessible(page)
    await page.getByLabel('Terminal input').focus()
    await page.keyboard.press('Control+U')
    await type('exit 7')
    await page.getByText('Ended with exit code 7.').waitFor()
    await page.keyboard.press('Tab')
    assert.notEqual(await page.evaluate(() => document.activeElement.ariaLabel), 'Terminal input')
    await accessible(page)
    await by.press('button', 'Close')
    assert.equal(await page.evaluate(() => document.activeElement.ariaLabel), `Terminal ${shell}`)

    // An image of a directory, which the sandbox is then started from.
    const context = join(dir, 'context')
    mkdirSync(join(context, 'files'), { recursive: true })
    writeFileSync(
      join(context, 'Dockerfile'),
      'FROM busybox:latest\nCOPY files /files\nRUN echo it-is-built >/files/said\n',
    )
    writeFileSync(join(context, 'files/a.txt'), 'of the context\n')
    const image = 'example/built:test'
    t.after(() => api('DELETE', `/images/${image}?force=1`).catch(() => {}))
    await page.getByLabel('Directory with a Dockerfile').setInputFiles(context)
    await by.type('Tag', image)
    await by.press('button', 'Build')
    await page.getByText(/^Built example\/built:test \([0-9a-f]{12}\)\.$/).waitFor()
    await page.locator('#build-log').getByText('it-is-built').waitFor()
    await accessible(page)
    const unasked = await page.evaluate(
      (path) => window.kai.image.build(path).catch(({ code }) => code),
      join(root, 'examples'),
    )
    assert.equal(unasked, 'PERMISSION_DENIED')

    await page.getByLabel('A sandbox').check()
    await accessible(page)
    await by.type('Name', sandbox)
    await by.type('Memory, MB', '64')
    await by.type('Processes', '20')
    await by.press('button', 'Start')
    await shows(/^\/work #/m)
    await enter('cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>&-')
    await shows(/^20$/m)
    assert.equal((await size())[1], columns)
    await by.press('button', `Show ${sandbox}`)
    await page.getByText(/% CPU, .* MB of 64.0 MB/).waitFor()
    // As many plots, with something drawn in the second.
    assert.equal(await page.locator('#charts canvas').count(), 2)
    await waitFor('a line in the chart', () =>
      page.evaluate(() => {
        const canvas = document.querySelectorAll('#charts canvas')[1]
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
        const seen = getComputedStyle(document.querySelector('#charts')).color
        const [r, g, b] = seen.match(/\d+/g).map(Number)
        for (let i = 0; i < data.length; i += 4)
          if (data[i] === r && data[i + 1] === g && data[i + 2] === b && data[i + 3] === 255) return true
        return false
      }),
    )
    // Files by choice and by a drop, and none that a script of the page asks for.
    await by.type('Put files into', '/work')
    const given = { name: 'chosen file.txt', mimeType: 'text/plain', buffer: Buffer.from('as chosen\n') }
    await page.getByLabel('Choose them').setInputFiles(given)
    await page.getByText(`Copied chosen file.txt into /work of ${sandbox}.`).waitFor()
    const dataTransfer = await page.evaluateHandle(() => {
      const transfer = new DataTransfer()
      for (const name of ['one', 'two']) transfer.items.add(new File([`${name}\n`], name))
      return transfer
    })
    await page.dispatchEvent('#drop', 'drop', { dataTransfer })
    await page.getByText(`Copied 2 files into /work of ${sandbox}.`).waitFor()
    const refused = await page.evaluate(
      ([name, path]) => window.kai.container.copyTo(name, path, '/work').catch(({ code }) => code),
      [sandbox, join(root, 'package.json')],
    )
    assert.equal(refused, 'PERMISSION_DENIED')
    await page.getByLabel('Terminal input').focus()
    await enter('cat one two chosen* /files/*; ls | wc -l')
    await shows(/^one\s+two\s+as chosen\s+of the context\s+it-is-built\s+3/m)
    // Away and back: the shell and what it said are still there.
    await enter('export KEPT=kept')
    await shows(/export KEPT=kept/)
    await waitFor('a prompt', prompt)
    await by.press('button', 'Close')
    await by.press('button', `Terminal ${sandbox}`)
    // What the shell prints before dockerd has attached is lost, its prompt too.
    const asks = async () => (await prompt()) || (await page.getByLabel('Terminal input').press('Enter'))
    await waitFor('a prompt', asks, { everyMs: 2_000 })
    await enter('echo $KEPT')
    await shows(/^kept/m)
    assert.equal((await size())[1], columns)
    await page.getByLabel('For a screen reader').uncheck()
    if (screens) {
      await page.getByLabel('Terminal input').focus()
      await enter('ls -l /bin | head -n 4; i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done')
      await waitFor('a prompt', prompt)
      await page.waitForTimeout(5_000)
    }
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme })
      await accessible(page)
      if (screens) await page.screenshot({ path: `${screens}/example-${colorScheme}.png`, fullPage: true })
    }
    await page.getByLabel('Terminal input').focus()
    await enter('exit 5')
    await page.getByText('Ended with exit code 5.').waitFor()
    await page.locator(`tr[data-name="${sandbox}"]`).getByText('exited').waitFor()
    assert.deepEqual(errors, [])
    await close()
    assert.equal(await app.quit(), 0)
  })

  test('nobody gets in without the token, and a wrong host name is refused', async (t) => {
    const dir = home(t)
    const app = await launch(dir, publish(dir).manifest)
    const { origin, searchParams } = new URL(app.url)
    assert.equal((await fetch(`${origin}/electron/events?token=x`)).status, 403)
    assert.equal((await fetch(`${origin}/electron/message`, { method: 'POST', body: '{}' })).status, 403)
    assert.equal((await fetch(`${origin}/../package.json`)).status, 404)
    const named = app.url.replace('127.0.0.1', 'localhost')
    assert.equal((await fetch(named).catch(() => ({ status: 403 }))).status, 403)
    assert.ok(searchParams.get('token').length >= 32)
    assert.equal(await app.quit(), 0)
  })
})

test('what the page loads', async (t) => {
  const dir = tempDir('bundle')
  await bundle(dir)
  const size = (file) => gzipSync(readFileSync(file), { level: 9 }).length
  const [preload, renderer, elements] = [
    size(join(root, 'dist/electron-preload.cjs')),
    size(join(dir, 'renderer.js')),
    size(join(root, 'dist/ui.mjs')),
  ]
  t.diagnostic(
    `gzipped: elements ${elements} bytes, preload script ${preload}; the example's page with the elements ${renderer}`,
  )
  assert.ok(elements + preload <= 15 * 1024, `${elements + preload} bytes`)
})
