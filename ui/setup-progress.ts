import { button, define, facts, h, RuntimeElement } from './element'
import type { RuntimeType, SetupError, SetupProgress, SetupSession, SetupState } from './index.mjs'
import { bytes, duration, errorText, part, percent, type Strings, text } from './strings'

type Phase = SetupProgress['phase']
type Key = Exclude<keyof Strings, `error.${string}`>
type Stage = [key: Key, ...phases: Phase[]]

const DOWNLOAD_STAGE: Stage = ['stageDownload', 'resolve', 'download', 'verify', 'extract']
const STAGES: Record<RuntimeType, Stage[]> = {
  lima: [DOWNLOAD_STAGE, ['stageCreate', 'create'], ['stageBoot', 'boot'], ['stageProvision', 'provision', 'ready']],
  containerd: [DOWNLOAD_STAGE, ['stageStart', 'create', 'boot', 'provision', 'ready']],
  docker: [['stageConnect', 'resolve', 'boot', 'ready']],
}
const PHASE_TEXTS: Partial<Record<Phase, Key>> = {
  ...{ resolve: 'doResolve', download: 'doDownload', verify: 'doVerify', extract: 'doExtract' },
  ...{ create: 'doCreate', boot: 'doBoot', provision: 'doProvision' },
}

/** `<runtime-setup-progress>`; documented in index.d.mts. */
export class RuntimeSetupProgress extends RuntimeElement {
  static readonly observedAttributes = ['docker-available', 'engine', 'open-logs', 'runtime']

  #session: SetupSession | undefined
  #unsubscribe: (() => void) | undefined
  #shownStatus: SetupState['status'] | undefined
  #timer: ReturnType<typeof setInterval> | undefined
  /** The element of the page that had the focus before an alert took it. */
  #returnFocus: HTMLElement | undefined
  #askingToCancel = false
  // Parts that change while it runs. They are updated in place, which keeps the focus and the bar's animation.
  #parts:
    | {
        stages: HTMLElement
        now: HTMLElement
        bar: HTMLElement
        fill: HTMLElement
        message: HTMLElement
        numbers: HTMLElement
      }
    | undefined
  #stage = -1
  #announcedStage = -1

  get session(): SetupSession | undefined {
    return this.#session
  }

  set session(session: SetupSession | undefined) {
    this.#unsubscribe?.()
    this.#session = session
    this.#shownStatus = undefined
    if (this.isConnected) this.#watch()
    this.redraw()
  }

  override connectedCallback(): void {
    this.#watch()
    this.#shownStatus = undefined
    super.connectedCallback()
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback()
    this.#unsubscribe?.()
    clearInterval(this.#timer)
  }

  attributeChangedCallback(): void {
    this.#shownStatus = undefined
    this.redraw()
  }

  #watch(): void {
    this.#unsubscribe?.()
    this.#unsubscribe = this.#session?.subscribe(() => this.redraw())
  }

  protected draw(): void {
    const state = this.#session?.state ?? { status: 'idle' as const }
    if (state.status === 'running' && this.#shownStatus === 'running') {
      this.#update(state)
      return
    }
    const before = this.#shownStatus
    const focused = (this.getRootNode() as Document | ShadowRoot).activeElement
    const elsewhere = focused instanceof HTMLElement && focused !== this && focused !== document.body
    this.#shownStatus = state.status
    this.#parts = undefined
    this.#stage = this.#announcedStage = -1
    clearInterval(this.#timer)
    this.root.querySelector('dialog')?.remove()
    this.#askingToCancel = false
    this.body.replaceChildren(this.#screen(state))
    if (state.status === 'running') {
      this.#update(state)
      // The elapsed time changes without an event.
      this.#timer = setInterval(() => this.#update(this.#session?.state ?? state), 1000)
    } else this.announce(state.status === 'ready' ? text('readyText') : '')
    // A screen that was just opened does not take the focus from the page.
    if (before !== undefined) this.#focus(before, state.status, elsewhere ? focused : undefined)
    if (before !== undefined && state.status === 'ready') this.emit('runtime-ready')
  }

  /**
   * Focuses the new heading when the person is in this element or must know of a failure; after a failure, returns the
   * focus to where it was.
   */
  #focus(before: SetupState['status'], now: SetupState['status'], elsewhere: HTMLElement | undefined): void {
    const back = this.#returnFocus
    this.#returnFocus = now === 'failed' ? elsewhere : undefined
    if (before === 'failed' && back?.isConnected && back.checkVisibility()) back.focus()
    else if (!elsewhere || now === 'failed') this.root.querySelector<HTMLElement>('h2')?.focus()
  }

  #screen(state: SetupState): HTMLElement {
    const heading = (key: Key) => h('h2', { tabindex: '-1', id: 'heading' }, text(key))
    const start = () => this.#session?.start()
    const useDocker =
      this.hasAttribute('docker-available') && button(text('useDocker'), () => this.emit('runtime-use-docker'))
    const actions = h('slot', { name: 'actions' })
    switch (state.status) {
      case 'idle':
        return h(
          'section',
          {},
          heading('setupHeading'),
          h('slot'),
          h('div', { class: 'row' }, button(text('begin'), start, 'primary')),
        )
      case 'ready':
        return h(
          'section',
          { class: 'ready' },
          heading('readyHeading'),
          h('p', {}, text('readyText')),
          h('slot', { name: 'ready' }),
        )
      case 'cancelled':
        return h(
          'section',
          {},
          heading('cancelledHeading'),
          h('p', {}, text('cancelledText')),
          h('div', { class: 'row' }, button(text('retry'), start, 'primary'), useDocker, actions),
        )
      case 'failed':
        return this.#failure(state.error ?? { message: '' }, heading('failedHeading'), start, useDocker, actions)
      case 'running':
        return this.#running(heading('setupHeading'))
    }
  }

  #failure(
    error: SetupError,
    heading: HTMLElement,
    start: () => void,
    useDocker: HTMLElement | false,
    actions: HTMLElement,
  ): HTMLElement {
    const { code, message, hint, details } = error
    const tail = details?.logTail
    const translated = errorText(code, this.getAttribute('runtime') !== 'docker')
    const log = [
      // With a translation, the original text still helps support.
      ...(translated ? [message, hint] : []),
      ...(Array.isArray(tail) ? tail : [tail]),
    ].filter((line) => typeof line === 'string' && line)
    const copy = () => {
      const lines = [code, message, hint, details && JSON.stringify(details, null, 2)]
      const written = navigator.clipboard?.writeText(lines.filter(Boolean).join('\n')) ?? Promise.reject()
      written.then(
        () => this.announce(text('copied')),
        () => this.announce(text('notCopied')),
      )
    }
    return h(
      'section',
      { class: 'error', part: 'error' },
      h(
        'div',
        { role: 'alert' },
        heading,
        h('p', {}, translated ?? message),
        !translated && hint && h('p', {}, hint),
        code && h('p', { class: 'muted' }, `${text('errorCode')}: ${code}`),
      ),
      log.length > 0 &&
        h(
          'details',
          {},
          h('summary', {}, text('log')),
          h('pre', { tabindex: '0', role: 'region', 'aria-label': text('log') }, log.join('\n')),
        ),
      h(
        'div',
        { class: 'row' },
        button(text('retry'), start, 'primary'),
        useDocker,
        button(text('copy'), copy),
        this.hasAttribute('open-logs') && button(text('openLogs'), () => this.emit('runtime-open-logs', { error })),
        actions,
      ),
    )
  }

  #running(heading: HTMLElement): HTMLElement {
    const fill = h('div', { part: 'fill' })
    const bar = h(
      'div',
      {
        class: 'bar',
        part: 'bar',
        role: 'progressbar',
        'aria-label': text('progressLabel'),
        'aria-valuemin': 0,
        'aria-valuemax': 100,
      },
      fill,
    )
    const message = h('p', {})
    const numbers = h('p', { class: 'muted numbers' })
    const now = h('div', { class: 'now' }, message, bar, numbers)
    const stages = h('ol', { 'aria-label': text('stages') })
    this.#parts = { stages, now, bar, fill, message, numbers }
    return h(
      'section',
      {
        'aria-labelledby': 'heading',
        'aria-busy': 'true',
        onkeydown: (event) => {
          if ((event as KeyboardEvent).key !== 'Escape' || this.#askingToCancel) return
          event.preventDefault()
          void this.#askToCancel()
        },
      },
      heading,
      h('slot'),
      stages,
      h(
        'div',
        { class: 'row' },
        button(text('cancel'), () => this.#session?.cancel()),
      ),
    )
  }

  async #askToCancel(): Promise<void> {
    this.#askingToCancel = true
    const stop = await this.ask(text('askCancel'), text('askCancelYes'), text('askCancelNo'))
    this.#askingToCancel = false
    if (stop) this.#session?.cancel()
  }

  #stages(): Stage[] {
    return STAGES[this.getAttribute('runtime') as RuntimeType] ?? STAGES.lima
  }

  #name(stage: Key): string {
    return text(stage, { engine: part(this.getAttribute('engine') ?? 'containerd') })
  }

  #update(state: SetupState): void {
    const parts = this.#parts
    if (!parts || state.status !== 'running') return
    const p = state.progress
    // An unknown phase comes before all stages.
    const stage = Math.max(0, p ? this.#stages().findIndex(([, ...phases]) => phases.includes(p.phase)) : 0)
    const doing = p && PHASE_TEXTS[p.phase]
    const message = doing ? text(doing, { message: p.message, part: part(p.component) }) : (p?.message ?? '')
    if (stage !== this.#stage) {
      this.#stage = stage
      const steps = this.#stages().map(([key], i) =>
        h(
          'li',
          { class: i < stage && 'done', 'aria-current': i === stage && 'step' },
          h(
            'span',
            { class: 'step' },
            this.#name(key),
            i < stage && h('span', { class: 'hidden' }, ` (${text('stageDone')})`),
          ),
          i === stage && parts.now,
        ),
      )
      parts.stages.replaceChildren(...steps)
    }
    // Announces stages only: percentages read out ten times a second would drown everything else.
    if (p && stage !== this.#announcedStage) {
      this.#announcedStage = stage
      const [name] = this.#stages()[stage] as Stage
      this.announce(`${this.#name(name)}: ${message}`)
    }
    parts.message.textContent = message
    const amount =
      p?.percent !== undefined && p.transferred !== undefined && p.total !== undefined
        ? text('bytes', { percent: percent(p.percent), done: bytes(p.transferred), total: bytes(p.total) })
        : p?.percent === undefined
          ? ''
          : percent(p.percent)
    const figures = facts(
      ' · ',
      amount,
      p?.bytesPerSecond && text('rate', { rate: bytes(p.bytesPerSecond) }),
      p?.etaSeconds !== undefined && text('left', { time: duration(p.etaSeconds) }),
      state.startedAt && text('elapsed', { time: duration((Date.now() - state.startedAt) / 1000) }),
    )
    parts.numbers.replaceChildren(h('span', {}, ...figures))
    parts.bar.classList.toggle('unknown', p?.percent === undefined)
    if (p?.percent === undefined) {
      parts.bar.removeAttribute('aria-valuenow')
      parts.fill.style.inlineSize = ''
    } else {
      parts.bar.setAttribute('aria-valuenow', String(Math.floor(p.percent)))
      parts.fill.style.inlineSize = `${p.percent}%`
    }
    parts.bar.setAttribute('aria-valuetext', [message, amount].filter(Boolean).join(', '))
  }
}

define('runtime-setup-progress', RuntimeSetupProgress)
