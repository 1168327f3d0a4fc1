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

declare global {
  interface Window {
    kai: RuntimeApi
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
  for (const close of watching.splice(0)) close()
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
      state === 'running'
        ? button('Stop', () => kai.container.stop(id, 1))
        : button('Remove', () => kai.container.remove(id, true)),
    ),
  )
  return line
}

async function details(id: string, name: string): Promise<void> {
  for (const close of watching.splice(0)) close()
  const log = find('#log')
  log.textContent = ''
  find('#stats').textContent = ''
  find('#shown').textContent = `Log of ${name}`
  find('#details').hidden = false
  watching.push(
    await kai.container.logs(id, { follow: true, tail: 100 }, (text) => {
      log.append(text)
      log.scrollTop = log.scrollHeight
    }),
    await kai.container.watchStats(id, ({ cpu, memory }) => {
      find('#stats').textContent = `${cpu.toFixed(1)} % CPU, ${(memory.used / 1e6).toFixed(1)} MB`
    }),
  )
}

find<HTMLFormElement>('#start').addEventListener('submit', (event) => {
  event.preventDefault()
  const data = new FormData(event.target as HTMLFormElement)
  const command = ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo "line $i"; sleep 1; done']
  void run(() => kai.container.start({ name: String(data.get('name')), image: String(data.get('image')), command }))
})

void kai.runtime.on('state', follow)
