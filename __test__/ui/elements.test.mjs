// The two elements in a real Chromium: what a person sees, hears and can do with the keyboard.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { chromium } from 'playwright-core'

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'
const root = new URL('../../', import.meta.url)
const bundle = readFileSync(new URL('dist/ui.mjs', root))
const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', root), 'utf8')
const screens = process.env.LIMA_RUNTIME_SCREENS

const PAGE = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Container runtime</title>
<style>html{color-scheme:light dark;background:light-dark(#fff,#1e1f22)}main{max-width:640px;margin:24px auto;padding:0 16px}</style></head>
<body><main><h1 style="position:absolute;clip-path:inset(50%)">Runtime</h1></main><script type="module">
import * as ui from '/ui.mjs'
Object.assign(window, { ui })
</script></body></html>`

const DETECTION = {
  docker: false,
  containerd: false,
  lima: false,
  current: 'none',
  details: [
    { type: 'lima', state: 'installable', downloadBytes: 850e6, memoryBytes: 4 * 2 ** 30, diskBytes: 100 * 2 ** 30 },
    {
      type: 'docker',
      state: 'unavailable',
      reason: 'no socket answers',
      hint: 'Start Docker, or install Docker Desktop, OrbStack or Docker Engine.',
    },
    { type: 'containerd', state: 'unavailable', reason: 'not on this system' },
  ],
}

describe('runtime elements', { skip: existsSync(CHROMIUM) ? false : `no Chromium at ${CHROMIUM}` }, () => {
  let server
  let browser

  before(async () => {
    server = createServer((request, response) => {
      const script = request.url === '/ui.mjs'
      response.setHeader('content-type', script ? 'text/javascript' : 'text/html')
      response.end(script ? bundle : PAGE)
    })
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    browser = await chromium.launch({
      executablePath: CHROMIUM,
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
    })
  })

  after(async () => {
    await browser?.close()
    server?.close()
  })

  async function open(options = {}) {
    const context = await browser.newContext({ viewport: { width: 720, height: 640 }, ...options })
    await context.grantPermissions(['clipboard-read', 'clipboard-write'])
    const page = await context.newPage()
    page.setDefaultTimeout(180_000)
    const errors = []
    page.on('pageerror', (error) => errors.push(error))
    await page.goto(`http://127.0.0.1:${server.address().port}/`)
    await page.waitForFunction(() => window.ui)
    return { page, errors, close: () => context.close() }
  }

  /** User mode with this engine, of which Lima and the image are there already. */
  const withEngine = (engine, rest = {}) => ({
    ...DETECTION,
    details: [
      { type: 'lima', engine, state: 'installable', ...rest },
      { type: 'docker', state: 'ready', version: '28.2.2' },
    ],
  })
  const PARTS = [
    { component: 'lima', bytes: 40e6 },
    { component: 'image', bytes: 200e6 },
    { component: 'docker', bytes: 86e6 },
  ]

  const selector = (page, detection = DETECTION) =>
    page.evaluate((detection) => {
      const element = document.createElement('runtime-mode-selector')
      element.detection = detection
      window.changes = []
      element.addEventListener('runtime-change', (e) => window.changes.push(e.detail.runtime))
      document.querySelector('main').append(element)
    }, detection)

  /** A set-up whose every step the test decides. */
  const setup = (page) =>
    page.evaluate(() => {
      window.runs = []
      window.session = window.ui.createSetupSession(
        ({ onProgress }, signal) =>
          new Promise((resolve, reject) => {
            signal.addEventListener('abort', () => reject({ code: 'ABORTED', message: 'aborted' }))
            window.runs.push({ onProgress, resolve, reject })
          }),
      )
      window.show = () => {
        const element = document.createElement('runtime-setup-progress')
        element.setAttribute('docker-available', '')
        element.session = window.session
        document.querySelector('main').append(element)
      }
      window.show()
    })

  const progress = (page, event) => page.evaluate((event) => window.runs.at(-1).onProgress(event), event)
  const DOWNLOAD = {
    phase: 'download',
    message: 'Downloading the guest image',
    percent: 45,
    transferred: 90e6,
    total: 200e6,
    bytesPerSecond: 5.2e6,
    etaSeconds: 21,
  }

  async function accessible(page) {
    await page.evaluate(axe)
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
    assert.deepEqual(
      violations.map((v) => `${v.id}: ${v.help} ${v.nodes.map((n) => n.target.join(' '))}`),
      [],
    )
  }

  test('the renderer loads at most 15 KB gzipped', () => {
    assert.ok(gzipSync(bundle, { level: 9 }).length <= 15 * 1024, `${gzipSync(bundle, { level: 9 }).length} bytes`)
  })

  test('the selector offers the recommended mode and says why the other cannot be used', async () => {
    const { page, errors, close } = await open()
    await selector(page)
    const user = page.getByRole('radio', { name: 'User mode' })
    const docker = page.getByRole('radio', { name: 'Development mode' })
    assert.equal(await user.isChecked(), true)
    assert.equal(await docker.getAttribute('aria-disabled'), 'true')
    const shown = await page.locator('runtime-mode-selector fieldset').innerText()
    assert.match(shown, /To download once: 850 MB/)
    assert.match(shown, /up to 4 GB of memory and 100 GB of disk/)
    await user.focus()
    await page.keyboard.press('ArrowDown')
    // The focus is on the mode that cannot be used, its reason is read out, and the choice stays.
    assert.equal(await page.evaluate(() => document.activeElement.shadowRoot.activeElement.value), 'docker')
    assert.match(await page.getByRole('status').innerText(), /no socket answers\. Start Docker/)
    const described = await docker.evaluate((input) =>
      input
        .getAttribute('aria-describedby')
        .split(' ')
        .map((id) => input.getRootNode().getElementById(id).textContent)
        .join(' '),
    )
    assert.match(described, /Uses the Docker you already have.*no socket answers.*paid licence/)
    assert.equal(await user.isChecked(), true)
    assert.deepEqual(await page.evaluate(() => window.changes), [])
    assert.deepEqual(errors, [])
    await close()
  })

  test('the selector says which engine User mode has, and what is fetched for each mode', async () => {
    const { page, close } = await open()
    await selector(page, withEngine('docker', { downloadBytes: 326e6, downloads: PARTS }))
    const shown = () => page.locator('runtime-mode-selector fieldset').innerText()
    assert.match(await shown(), /Linux machine with a Docker Engine/)
    assert.match(await shown(), /To download once: 326 MB \(Lima, the system image, and the Docker Engine\)/)
    assert.match(await shown(), /version 28\.2\.2\s+Nothing to download\./)
    await accessible(page)
    const now = (detection) =>
      page.evaluate((d) => Object.assign(document.querySelector('runtime-mode-selector'), { detection: d }), detection)
    // A VM that is there for the other engine.
    await now(withEngine('docker', { state: 'stopped', downloadBytes: 86e6, downloads: PARTS.slice(2) }))
    assert.match(await shown(), /To download once: 86 MB \(the Docker Engine\)/)
    await now(withEngine('containerd', { state: 'ready' }))
    assert.match(await shown(), /Linux machine with containerd/)
    assert.doesNotMatch(await shown(), /To download/)
    // Without a VM.
    const plain = { type: 'containerd', engine: 'docker', state: 'stopped' }
    await now({ ...DETECTION, details: [plain] })
    assert.match(await shown(), /A private Docker Engine/)
    await page.evaluate(() => window.ui.setStrings(window.ui.zhHant, 'zh-TW'))
    await now(withEngine('docker', { downloadBytes: 326e6, downloads: PARTS }))
    assert.match(await shown(), /內含 Docker Engine/)
    assert.match(await shown(), /326 MB（Lima、系統映像檔和 ?Docker Engine）/)
    await accessible(page)
    await close()
  })

  test('the steps of the set-up name the engine', async () => {
    const { page, close } = await open()
    await setup(page)
    const set = (attributes) =>
      page.evaluate((all) => {
        const element = document.querySelector('runtime-setup-progress')
        for (const [name, value] of Object.entries(all)) element.setAttribute(name, value)
      }, attributes)
    await set({ engine: 'docker' })
    await page.evaluate(() => window.session.start())
    await page.waitForFunction(() => window.runs.length === 1)
    await progress(page, { ...DOWNLOAD, phase: 'provision', component: 'docker' })
    await page.getByText('Set up the Docker Engine', { exact: true }).waitFor()
    assert.match(
      await page.locator('runtime-setup-progress [aria-live=polite]').innerText(),
      /^Set up the Docker Engine: /,
    )
    await accessible(page)
    await set({ runtime: 'containerd' })
    await page.getByText('Start the Docker Engine', { exact: true }).waitFor()
    // Nobody is sent to look for a Docker of their own.
    await page.evaluate(() => window.ui.setStrings(window.ui.zhHant, 'zh-TW'))
    await page.evaluate(() => window.runs[0].reject({ code: 'ENGINE_UNREACHABLE', message: 'It does not answer' }))
    await page.getByRole('alert').waitFor()
    assert.match(await page.getByRole('alert').innerText(), /Docker Engine 沒有回應。/)
    await accessible(page)
    await close()
  })

  test('the keyboard alone chooses a mode', async () => {
    const { page, close } = await open()
    await selector(page, {
      ...DETECTION,
      docker: true,
      details: [DETECTION.details[0], { type: 'docker', state: 'ready', version: '28.2.2' }],
    })
    await page.keyboard.press('Tab')
    await page.keyboard.press('ArrowDown')
    assert.deepEqual(await page.evaluate(() => window.changes), ['docker'])
    assert.equal(await page.getByRole('radio', { name: 'Development mode' }).isChecked(), true)
    await close()
  })

  test('a switch away from containers that run is asked about', async () => {
    const { page, close } = await open()
    const ready = (type) => ({ type, state: 'ready', version: '1.2.1', lastStartMs: 14_300 })
    await selector(page, { ...DETECTION, current: 'lima', details: [ready('lima'), ready('docker')] })
    const ask = (value, running) =>
      page.evaluate(
        ([value, running]) => {
          const element = document.querySelector('runtime-mode-selector')
          Object.assign(element, { value, running })
          window.answer = undefined
          element.confirm().then((answer) => (window.answer = answer))
        },
        [value, running],
      )
    const answer = () => page.waitForFunction(() => window.answer !== undefined).then(() => page.evaluate('answer'))
    assert.match(await page.locator('runtime-mode-selector fieldset').innerText(), /Last start took 14 sec/)
    for (const [value, running] of [
      ['docker', 0],
      ['lima', 3],
    ]) {
      await ask(value, running)
      assert.equal(await answer(), true)
    }
    await ask('docker', 3)
    assert.match(await page.getByRole('dialog').innerText(), /run now: 3\. They stay where they are/)
    await accessible(page)
    await page.keyboard.press('Escape')
    assert.equal(await answer(), false)
    await ask('docker', 3)
    await page.getByRole('button', { name: 'Switch' }).click()
    assert.equal(await answer(), true)
    assert.equal(await page.getByRole('dialog').count(), 0)
    await close()
  })

  test('progress: values, texts, one announcement a stage', async () => {
    const { page, close } = await open()
    await setup(page)
    await page.getByRole('button', { name: 'Continue' }).click()
    const bar = page.getByRole('progressbar')
    assert.equal(await bar.getAttribute('aria-valuenow'), null)
    await progress(page, DOWNLOAD)
    await page.waitForFunction(() =>
      document.querySelector('runtime-setup-progress').shadowRoot.querySelector('[aria-valuenow]'),
    )
    assert.equal(await bar.getAttribute('aria-valuenow'), '45')
    assert.equal(await bar.getAttribute('aria-valuetext'), 'Downloading the guest image, 45% (90 MB of 200 MB)')
    const shown = await page.locator('runtime-setup-progress section').innerText()
    assert.match(shown, /45% \(90 MB of 200 MB\) · 5\.2 MB\/s · about 21 sec left/)
    const said = page.locator('runtime-setup-progress [aria-live=polite]')
    assert.equal(await said.innerText(), 'Download: Downloading the guest image')
    await progress(page, { ...DOWNLOAD, percent: 46, message: 'Downloading something else' })
    assert.equal(await said.innerText(), 'Download: Downloading the guest image')
    const current = page.locator('runtime-setup-progress [aria-current=step] .step')
    assert.equal(await current.innerText(), 'Download')
    await progress(page, { phase: 'boot', message: 'Waiting for SSH' })
    await page.waitForFunction(
      () => !document.querySelector('runtime-setup-progress').shadowRoot.querySelector('[aria-valuenow]'),
    )
    assert.equal(await said.innerText(), 'Start the virtual machine: Waiting for SSH')
    assert.equal(await bar.getAttribute('aria-valuetext'), 'Waiting for SSH')
    const steps = () => page.locator('runtime-setup-progress li .step').allInnerTexts()
    assert.deepEqual(
      (await steps()).map((step) => step.replace(/\s+/g, ' ')),
      ['Download (done)', 'Create the virtual machine (done)', 'Start the virtual machine', 'Set up containerd'],
    )
    await page.evaluate(() => document.querySelector('runtime-setup-progress').setAttribute('runtime', 'containerd'))
    await page.getByText('Start containerd', { exact: true }).waitFor()
    assert.equal((await steps()).length, 2)
    await close()
  })

  test('nothing moves for who wants no motion', async () => {
    const { page, close } = await open({ reducedMotion: 'reduce' })
    await setup(page)
    await page.evaluate(() => window.session.start())
    await page.getByRole('progressbar').waitFor()
    const fill = page.locator('runtime-setup-progress [part=fill]')
    const { animationName, transitionProperty } = await fill.evaluate((element) => ({ ...getComputedStyle(element) }))
    assert.deepEqual([animationName, transitionProperty], ['none', 'none'])
    await close()
  })

  test('closed and opened again, it goes on where it is', async () => {
    const { page, close } = await open()
    await setup(page)
    await page.evaluate(() => window.session.start())
    await page.waitForFunction(() => window.runs.length === 1)
    await page.evaluate(() => document.querySelector('runtime-setup-progress').remove())
    await progress(page, DOWNLOAD)
    await page.evaluate(() => window.show())
    await page.getByRole('progressbar').waitFor()
    assert.equal(await page.getByRole('progressbar').getAttribute('aria-valuenow'), '45')
    await close()
  })

  test('with the keyboard alone: begin, ask before cancelling, go on, cancel, try again, ready', async () => {
    const { page, errors, close } = await open()
    await setup(page)
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await page.getByRole('progressbar').waitFor()
    await page.keyboard.press('Tab')
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor()
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor({ state: 'hidden' })
    assert.equal(await page.evaluate(() => window.session.state.status), 'running')
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'The set-up was cancelled' }).waitFor()
    // The focus went to the heading: the next stop is the button below it.
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await page.waitForFunction(() => window.runs.length === 2)
    await page.evaluate(() => window.runs[1].resolve())
    await page.getByRole('heading', { name: 'Ready' }).waitFor()
    assert.deepEqual(errors, [])
    await close()
  })

  test('an error shows its code, hint and log, and can be retried', async () => {
    const { page, close } = await open()
    await setup(page)
    await page.getByRole('button', { name: 'Continue' }).click()
    await page.evaluate(() =>
      window.runs[0].reject({
        code: 'CHECKSUM_MISMATCH',
        message: '<b>The download is not the right file</b>',
        hint: 'Try again on another network.',
        details: { logTail: ['line 1', 'line 2'] },
      }),
    )
    const alert = page.getByRole('alert')
    await alert.waitFor()
    const said = await alert.innerText()
    assert.match(said, /<b>The download is not the right file<\/b>/)
    assert.match(said, /Try again on another network/)
    assert.match(said, /CHECKSUM_MISMATCH/)
    await page.getByText('Log', { exact: true }).click()
    assert.match(await page.locator('runtime-setup-progress pre').innerText(), /line 1\nline 2/)
    await accessible(page)
    await page.getByRole('button', { name: 'Copy details' }).click()
    await page.getByText('Copied').waitFor({ state: 'attached' })
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^CHECKSUM_MISMATCH\n.*"line 2"/s)
    assert.equal(await page.getByRole('button', { name: 'Open the logs' }).count(), 0)
    await page.evaluate(() => {
      const element = document.querySelector('runtime-setup-progress')
      element.setAttribute('open-logs', '')
      element.addEventListener('runtime-open-logs', (event) => (window.opened = event.detail.error.code))
    })
    await page.getByRole('button', { name: 'Open the logs' }).click()
    assert.equal(await page.evaluate(() => window.opened), 'CHECKSUM_MISMATCH')
    await page.getByRole('button', { name: 'Try again' }).click()
    await page.getByRole('progressbar').waitFor()
    await close()
  })

  test('an error takes the focus from the page and gives it back; nothing else takes it', async () => {
    const { page, close } = await open()
    await setup(page)
    await page.evaluate(() => {
      document.querySelector('main').prepend(document.createElement('input'))
      window.session.start()
    })
    await page.locator('input').focus()
    const focused = () => page.evaluate(() => document.activeElement.localName)
    await progress(page, DOWNLOAD)
    assert.equal(await focused(), 'input')
    await page.evaluate(() => window.runs.at(-1).reject({ code: 'DISK_FULL', message: 'no room' }))
    await page.getByRole('alert').waitFor()
    const inside = () => page.evaluate(() => document.activeElement.shadowRoot.activeElement.textContent)
    assert.equal(await inside(), 'The set-up did not finish')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await page.getByRole('progressbar').waitFor()
    assert.equal(await focused(), 'input')
    await page.evaluate(() => window.runs.at(-1).resolve())
    await page.getByRole('heading', { name: 'Ready' }).waitFor()
    assert.equal(await focused(), 'input')
    // Not where the person is looking: so it is said.
    assert.equal(await page.getByRole('status').innerText(), 'The container runtime is running.')
    await close()
  })

  test('another language is one table', async () => {
    const { page, close } = await open()
    await selector(page)
    await page.evaluate(() => window.ui.setStrings(window.ui.zhHant, 'zh-TW'))
    await page.getByRole('radio', { name: '使用者模式' }).waitFor()
    if (screens) await page.screenshot({ path: `${screens}/mode-zh-TW.png`, fullPage: true })
    // Of what the runtime says in English, too.
    await setup(page)
    await page.evaluate(() => window.session.start())
    await page.waitForFunction(() => window.runs.length === 1)
    await progress(page, { ...DOWNLOAD, component: 'image' })
    await page.getByText('正在下載系統映像檔', { exact: true }).waitFor()
    if (screens) await page.screenshot({ path: `${screens}/setup-zh-TW.png`, fullPage: true })
    const error = { code: 'DISK_FULL', message: 'There is no room', hint: 'Free 2 GB.' }
    await page.evaluate((error) => window.runs[0].reject(error), error)
    const said = await page.getByRole('alert').innerText()
    assert.match(said, /磁碟空間不足/)
    assert.doesNotMatch(said, /There is no room|Free 2 GB/)
    if (screens) await page.screenshot({ path: `${screens}/error-zh-TW.png`, fullPage: true })
    await page.getByText('記錄', { exact: true }).click()
    assert.equal(await page.locator('runtime-setup-progress pre').innerText(), 'There is no room\nFree 2 GB.')
    await close()
  })

  test('both language tables have the same keys and values', async () => {
    const { page, close } = await open()
    const holes = await page.evaluate(() => {
      const values = (s) => (s.match(/\{\w+\}/g) ?? []).sort().join()
      const { en, zhHant } = window.ui
      return [...new Set([...Object.keys(en), ...Object.keys(zhHant)])].filter(
        // What is going on is the runtime's own English sentence there, and made of its parts elsewhere.
        (k) =>
          !k.startsWith('error.') &&
          (!en[k] || !zhHant[k] || (en[k] !== '{message}' && values(en[k]) !== values(zhHant[k]))),
      )
    })
    assert.deepEqual(holes, [])
    await close()
  })

  for (const colorScheme of ['light', 'dark']) {
    for (const zoom of [1, 2]) {
      test(`axe finds nothing, ${colorScheme}, ${zoom * 100} %`, async () => {
        const { page, close } = await open({
          colorScheme,
          deviceScaleFactor: zoom,
          viewport: { width: 720 / zoom, height: 640 / zoom },
        })
        await selector(page)
        await accessible(page)
        if (screens) await page.screenshot({ path: `${screens}/mode-${colorScheme}-${zoom * 100}.png`, fullPage: true })
        await page.evaluate(() => document.querySelector('runtime-mode-selector').remove())
        await setup(page)
        await page.evaluate(() => window.session.start())
        await page.waitForFunction(() => window.runs.length === 1)
        await progress(page, DOWNLOAD)
        await page.getByRole('progressbar').waitFor()
        await accessible(page)
        // Nothing is cut off or needs sideways scrolling.
        const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth)
        assert.equal(await fits(), true)
        if (screens)
          await page.screenshot({ path: `${screens}/setup-${colorScheme}-${zoom * 100}.png`, fullPage: true })
        await page.evaluate(() => {
          document.querySelector('runtime-setup-progress').setAttribute('open-logs', '')
          const details = { logTail: ['the last line'] }
          window.runs[0].reject({ code: 'DISK_FULL', message: 'There is no room.', hint: 'Free 2 GB.', details })
        })
        await page.getByRole('alert').waitFor()
        await accessible(page)
        assert.equal(await fits(), true)
        if (screens)
          await page.screenshot({ path: `${screens}/error-${colorScheme}-${zoom * 100}.png`, fullPage: true })
        await close()
      })
    }
  }
})
