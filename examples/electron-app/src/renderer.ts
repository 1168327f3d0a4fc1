// The page: choose a runtime, watch it being set up, then work with containers. It knows `window.kai` and nothing else.
import type { ContainerInfo } from 'lima-runtime'
import type { ApiStatus, Close, RuntimeApi, RuntimeApiError } from 'lima-runtime/electron/preload'
import {
  createSetupSession,
  type RuntimeModeSelector,
  type RuntimeSetupProgress,
  type RuntimeType,
  type UserEngine,
} from 'lima-runtime/ui'
import { openCharts } from './chart'
import { type Begin, openScreen, type TerminalScreen } from './terminal'

declare global {
  interface Window {
    kai: RuntimeApi
    /** Tells where a file lies that was dropped or chosen, and the main process that it was. */
    files: { path(file: File): string }
  }
}

const { kai } = window
const find = <E extends Element = HTMLElement>(selector: string): E => {
  const found = document.querySelector<E>(selector)
  if (!found) throw new Error(`${selector} is not on the page`)
  return found
}

// ---- Setting up -----------------------------------------------------------------------------------------------------

const selector = find<RuntimeModeSelector>('runtime-mode-selector')
const progress = find<RuntimeSetupProgress>('runtime-setup-progress')
/** The runtime that this window's person chose; without one the window joins what another began. */
let wanted: RuntimeType | undefined
const session = createSetupSession((options) =>
  wanted ? kai.runtime.switch(wanted, options) : kai.runtime.start(options),
)
progress.session = session

type Screen = 'choose' | 'setup' | 'app'
let screen: Screen | undefined
let looked: Promise<void> | undefined

function show(next: Screen): void {
  if (screen === next) return
  screen = next
  for (const id of ['choose', 'setup', 'app']) find(`#${id}`).hidden = id !== next
  if (next === 'app') void openApp()
}

async function choose(): Promise<void> {
  show('choose')
  // The last detection may be outdated, above all the number of running containers.
  selector.detection = undefined
  const detection = await kai.runtime.detect()
  if (detection.current !== 'none') selector.running = (await kai.container.list({ filters: ours })).length
  selector.detection = detection
}

/** Names the steps after what is set up. */
function name(runtime: RuntimeType, engine: UserEngine | undefined): void {
  for (const [attribute, value] of Object.entries({ runtime, engine: engine ?? 'containerd' }))
    if (progress.getAttribute(attribute) !== value) progress.setAttribute(attribute, value)
}

/** After a failure: offers Docker as soon as it answers, since the person may start it meanwhile. */
async function offerDocker(): Promise<void> {
  const { docker } = await kai.runtime.detect()
  progress.toggleAttribute('docker-available', docker)
  if (!docker && session.state.status === 'failed') setTimeout(offerDocker, 2_000)
}

function setUp(runtime: RuntimeType | undefined): void {
  wanted = runtime
  if (runtime) name(runtime, selector.detection?.details.find((detail) => detail.type === runtime)?.engine)
  show('setup')
  session.start()
}

find('#continue').addEventListener('click', async () => {
  await looked?.catch(() => undefined)
  if (await selector.confirm()) setUp(selector.value)
})
for (const id of ['#back', '#change'])
  find(id).addEventListener('click', () => {
    looked = choose()
  })
progress.addEventListener('runtime-use-docker', () => setUp('docker'))
session.subscribe(() => {
  if (session.state.status === 'failed') void offerDocker()
})

const ENGINES: Record<UserEngine, string> = { containerd: 'containerd', docker: 'a Docker Engine' }

/** Another window, or the app's launch, may be ahead of this one. */
function follow({ state, runtime, target, engine, explanation }: ApiStatus): void {
  const place = engine && engine !== runtime ? `${runtime}, with ${ENGINES[engine]}` : runtime
  find('#runtime').textContent =
    state === 'ready' ? [`Running on ${place}.`, explanation].filter(Boolean).join(' ') : ''
  if (state === 'starting' && target) name(target, engine)
  if (state === 'ready') show('app')
  else if (state === 'starting' && session.state.status !== 'running' && screen !== 'app') setUp(undefined)
  else if (screen === undefined && state !== 'starting') void choose()
}

// ---- Containers -----------------------------------------------------------------------------------------------------

const ours = { label: ['lima-runtime.app=lima-runtime-example'] }
let live: Close | undefined
const watching: Close[] = []

async function openApp(): Promise<void> {
  live?.()
  unwatch()
  closeTerminal()
  find('#details').hidden = true
  changed()
  live = await kai.system.events({ filters: { type: ['container'] } }, changed, changed)
}

let settled: ReturnType<typeof setTimeout> | undefined

/** Docker reports an end slightly before its list shows it: refresh now, and again when things have settled. */
function changed(): void {
  clearTimeout(settled)
  settled = setTimeout(refresh, 500)
  void refresh()
}

/** Runs a button's action and shows what went wrong. */
async function run(work: () => Promise<unknown>): Promise<void> {
  find('#alert').textContent = ''
  try {
    await work()
  } catch (error) {
    const { message, hint } = error as RuntimeApiError
    find('#alert').textContent = [message, hint].filter(Boolean).join(' ')
  }
}

let asked = 0

async function refresh(): Promise<void> {
  const mine = ++asked
  const containers = await kai.container.list({ all: true, filters: ours }).catch(() => [])
  // Answers may overtake each other: the newest counts.
  if (mine !== asked) return
  const focused = document.activeElement?.id
  find('tbody').replaceChildren(...containers.map(row))
  if (focused) document.getElementById(focused)?.focus()
}

function row({ id, name, state }: ContainerInfo): HTMLElement {
  const button = (label: string, work: () => Promise<unknown>) => {
    const element = document.createElement('button')
    element.id = `${label}-${id}`
    element.textContent = label
    element.setAttribute('aria-label', `${label} ${name}`)
    element.addEventListener('click', () => void run(work))
    return element
  }
  const cell = (...children: (string | Node)[]) => {
    const element = document.createElement('td')
    element.append(...children)
    return element
  }
  const line = document.createElement('tr')
  line.dataset.name = name
  line.append(
    cell(name),
    cell(state),
    cell(
      button('Show', () => details(id, name)),
      ' ',
      ...(state === 'running' ? [button('Terminal', () => shell(id, name)), ' '] : []),
      state === 'running'
        ? button('Stop', () => kai.container.stop(id, 1))
        : button('Remove', () => kai.container.remove(id, true)),
    ),
  )
  return line
}

/** What a terminal does and a page cannot: colours, the cursor's moves. */
const CONTROL = new RegExp(`${String.fromCharCode(27)}\\[[\\d;?]*[A-Za-z]|\r`, 'g')
/** Pieces of a followed log that stay on the page. */
const LOG_PIECES = 2000
/** Counts what is shown, and what a terminal is opened on: what comes later than the next one is closed. */
let shown = 0
let shownContainer: { id: string; name: string } | undefined
let opening = 0

function unwatch(): void {
  shown++
  for (const close of watching.splice(0)) close()
}

async function details(id: string, name: string): Promise<void> {
  unwatch()
  const mine = shown
  const watch = async (begun: Promise<Close>) => {
    const close = await begun
    if (mine === shown) watching.push(close)
    else close()
  }
  const log = find('#log')
  log.textContent = ''
  find('#stats').textContent = ''
  find('#copied').textContent = ''
  shownContainer = { id, name }
  find('#shown').textContent = `Log of ${name}`
  find('#details').hidden = false
  const charts = openCharts(find('#charts'))
  watching.push(charts.close)
  const logs = kai.container.logs(id, { follow: true, tail: 100 }, (text) => {
    if (mine !== shown) return
    log.append(text.replace(CONTROL, ''))
    while (log.childNodes.length > LOG_PIECES) log.firstChild?.remove()
    log.scrollTop = log.scrollHeight
  })
  const stats = kai.container.watchStats(id, (stats) => {
    if (mine !== shown) return
    const { cpu, memory } = stats
    const [used, limit] = [memory.used, memory.limit].map((bytes) => (bytes / 1e6).toFixed(1))
    find('#stats').textContent = `${cpu.toFixed(1)} % CPU, ${used} MB of ${limit} MB`
    charts.add(stats)
  })
  await Promise.all([watch(logs), watch(stats)])
}

// ---- Files ----------------------------------------------------------------------------------------------------------

const drop = find('#drop')
const chosen = find<HTMLInputElement>('#files')
drop.hidden = !('copyTo' in kai.container)

async function put(files: File[]): Promise<void> {
  const into = find<HTMLInputElement>('#into')
  const { id, name } = shownContainer ?? {}
  if (!id || files.length === 0 || !into.reportValidity()) return
  find('#copied').textContent = ''
  for (const path of new Set(files.map((file) => window.files.path(file))))
    await kai.container.copyTo(id, path, into.value)
  const what = files.length === 1 ? files[0]?.name : `${files.length} files`
  find('#copied').textContent = `Copied ${what} into ${into.value} of ${name}.`
}

chosen.addEventListener('change', () => {
  const files = [...(chosen.files ?? [])]
  void run(() => put(files)).then(() => {
    // The same one may be chosen again.
    chosen.value = ''
  })
})
// What is dropped beside the place for it would be opened in place of the page.
for (const type of ['dragover', 'drop']) addEventListener(type, (event) => event.preventDefault())
drop.addEventListener('dragover', () => drop.classList.add('over'))
for (const type of ['dragleave', 'drop']) drop.addEventListener(type, () => drop.classList.remove('over'))
drop.addEventListener('drop', ({ dataTransfer }) => {
  const files = [...(dataTransfer?.files ?? [])]
  void run(() => put(files))
})

// ---- Builds ---------------------------------------------------------------------------------------------------------

const context = find<HTMLInputElement>('#context')
find('#building').hidden = !('build' in kai.image)
let stopBuild = () => {}

async function build(tag: string): Promise<void> {
  const [file, ...others] = context.files ?? []
  if (!file) throw { message: 'The directory is empty.' }
  const directory = window.files.path(file)
  for (const other of others) window.files.path(other)
  const log = find('#build-log')
  const say = (text: string) => {
    log.append(text)
    log.scrollTop = log.scrollHeight
  }
  log.textContent = ''
  log.hidden = find('#stop-build').hidden = false
  find('#built').textContent = `Building ${tag}…`
  try {
    const { id } = await kai.image.build(directory, {
      tags: [tag],
      onCancel: (cancel) => {
        stopBuild = cancel
      },
      onProgress: (progress) => {
        if (progress.type === 'step') say(`${progress.state}: ${progress.name}\n`)
        if (progress.type === 'log') say(progress.text.replace(CONTROL, ''))
      },
    })
    find('#built').textContent = `Built ${tag} (${id.replace('sha256:', '').slice(0, 12)}).`
    find<HTMLInputElement>('[name="image"]').value = tag
  } catch (error) {
    find('#built').textContent = ''
    throw error
  } finally {
    find('#stop-build').hidden = true
  }
}

find<HTMLFormElement>('#build').addEventListener('submit', (event) => {
  event.preventDefault()
  const tag = String(new FormData(event.target as HTMLFormElement).get('tag'))
  void run(() => build(tag))
})
find('#stop-build').addEventListener('click', () => stopBuild())

// ---- Terminals ------------------------------------------------------------------------------------------------------

/** Marks a container whose own process is the shell. */
const SANDBOX = 'lima-runtime-example.sandbox'
const BEST_SHELL = 'command -v bash >/dev/null && exec bash; exec sh'
const aloud = find<HTMLInputElement>('#aloud')
aloud.checked = localStorage.getItem('aloud') === 'true'
let opened: TerminalScreen | undefined
let opener: string | undefined

async function shell(id: string, name: string): Promise<void> {
  opener = document.activeElement?.id
  const { labels } = await kai.container.details(id)
  await openTerminal(name, labels[SANDBOX] ? attach(id) : spawn(id))
}

function spawn(id: string): Begin {
  return (size, listener) => {
    const options = { tty: true, ...size, env: { TERM: 'xterm-256color' } }
    return kai.container.spawn(id, ['sh', '-c', BEST_SHELL], options, listener)
  }
}

function attach(id: string): Begin {
  return async (size, listener) => {
    try {
      return await kai.container.attach(id, { stdin: true, logs: true }, listener)
    } catch (error) {
      // containerd keeps no container's input open: another shell, within the same limits.
      if ((error as RuntimeApiError).details?.field !== 'stdin') throw error
      return spawn(id)(size, listener)
    }
  }
}

async function openTerminal(name: string, begin: Begin): Promise<void> {
  closeTerminal()
  const mine = opening
  find('#where').textContent = `Terminal in ${name}`
  find('#terminal').hidden = false
  // Its input takes the focus without that, and one that is not seen is not drawn.
  find('#terminal').scrollIntoView({ block: 'nearest' })
  try {
    const screen = await openScreen(find('#screen'), begin, () => find('#close').focus())
    if (mine !== opening) return screen.close()
    opened = screen
    screen.readAloud(aloud.checked)
    // What an attached one has printed comes from a log, which is of whole lines: it has no prompt.
    screen.redraw()
    screen.focus()
    const ended = screen.exited.then(
      ({ exitCode }) => `Ended with exit code ${exitCode}.`,
      ({ message, hint }: RuntimeApiError) => [message, hint].filter(Boolean).join(' '),
    )
    void ended.then((text) => {
      if (opened === screen) find('#ended').textContent = text
    })
  } catch (error) {
    if (mine === opening) closeTerminal()
    throw error
  }
}

function closeTerminal(): void {
  opening++
  opened?.close()
  opened = undefined
  find('#ended').textContent = ''
  find('#terminal').hidden = true
}

find('#close').addEventListener('click', () => {
  closeTerminal()
  document.getElementById(opener ?? '')?.focus()
})
find('#copy').addEventListener('click', () => void run(async () => opened?.copy()))
find('#paste').addEventListener('click', () => void run(async () => opened?.paste()))
aloud.addEventListener('change', () => {
  localStorage.setItem('aloud', String(aloud.checked))
  opened?.readAloud(aloud.checked)
})

// ---- Starting -------------------------------------------------------------------------------------------------------

const sandbox = find<HTMLInputElement>('#sandbox')
sandbox.addEventListener('change', () => {
  const limits = find<HTMLFieldSetElement>('#limits')
  limits.hidden = limits.disabled = !sandbox.checked
})

find<HTMLFormElement>('#start').addEventListener('submit', (event) => {
  event.preventDefault()
  const data = new FormData(event.target as HTMLFormElement)
  const text = (field: string) => String(data.get(field))
  const number = (field: string) => Number(data.get(field))
  const [name, image] = [text('name'), text('image')]
  if (!sandbox.checked) {
    const command = ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo "line $i"; sleep 1; done']
    return void run(() => kai.container.start({ name, image, command }))
  }
  void run(async () => {
    const id = await kai.container.start({
      ...{ name, image, command: ['sh'], tty: true, stdin: true, workdir: text('workdir') },
      ...{ env: { TERM: 'xterm-256color' }, labels: { [SANDBOX]: 'true' } },
      resources: { memory: number('memory') * 1e6, cpus: number('cpus'), pids: number('pids') },
    })
    opener = `Terminal-${id}`
    await openTerminal(name, attach(id))
  })
})

void kai.runtime.on('state', follow)
