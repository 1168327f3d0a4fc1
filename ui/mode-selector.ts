import { define, facts, h, RuntimeElement } from './element'
import type { Detection, RuntimeDetail, RuntimeType } from './index.mjs'
import { bytes, duration, list, number, part, text } from './strings'

interface Option {
  runtime: RuntimeType
  label: string
  description: string
  recommended: boolean
  detail: RuntimeDetail | undefined
}

/** `<runtime-mode-selector>`; documented in index.d.mts. */
export class RuntimeModeSelector extends RuntimeElement {
  running = 0
  #detection: Detection | undefined
  #value: RuntimeType | undefined
  #chosen = false

  get detection(): Detection | undefined {
    return this.#detection
  }

  set detection(detection: Detection | undefined) {
    this.#detection = detection
    if (!this.#chosen) this.#value = detection && initial(detection)
    this.redraw()
  }

  get value(): RuntimeType | undefined {
    return this.#value
  }

  set value(value: RuntimeType | undefined) {
    this.#chosen = value !== undefined
    this.#value = value
    this.redraw()
  }

  /** Asks before running containers are left behind; true when the person wants the chosen runtime. */
  async confirm(): Promise<boolean> {
    const { current } = this.#detection ?? {}
    if (!this.running || !current || current === 'none' || this.#value === current) return true
    return this.ask(text('askSwitch', { count: number(this.running) }), text('askSwitchYes'), text('askSwitchNo'))
  }

  protected draw(): void {
    const focused = (this.root.activeElement as HTMLInputElement | null)?.value
    this.body.replaceChildren(this.#body())
    if (focused) this.root.querySelector<HTMLInputElement>(`input[value="${CSS.escape(focused)}"]`)?.focus()
  }

  #body(): HTMLElement {
    const detection = this.#detection
    if (!detection) {
      this.announce(text('detecting'))
      return h('p', { 'aria-busy': 'true' }, text('detecting'))
    }
    this.announce('')
    return h(
      'fieldset',
      {},
      h('legend', {}, text('modeLegend')),
      ...choices(detection).map((o) => this.#option(o, detection)),
      h('p', { class: 'muted' }, text('switchNote')),
      h('slot'),
    )
  }

  #option(option: Option, detection: Detection): HTMLElement {
    const { runtime, detail } = option
    const unusable = detail?.state === 'unavailable' || !detail
    const reason = unusable ? text('notFound', { reason: detail?.reason ?? text('unknownReason') }) : ''
    const why = [reason, unusable && detail?.hint].filter(Boolean).join('. ')
    const { version, memoryBytes, diskBytes, lastStartMs } = detail ?? {}
    const input = h('input', {
      type: 'radio',
      name: 'mode',
      id: runtime,
      value: runtime,
      'aria-describedby': `${runtime}-what ${runtime}-why ${runtime}-facts`,
      // Not `disabled`, so that a screen reader can reach it and read the reason.
      'aria-disabled': unusable && 'true',
      onchange: () => {
        if (unusable) {
          this.announce(why)
          for (const other of this.root.querySelectorAll<HTMLInputElement>('input'))
            other.checked = other.value === this.#value
          return
        }
        this.#chosen = true
        this.#value = runtime
        this.emit('runtime-change', { runtime })
      },
    })
    input.checked = runtime === this.#value
    return h(
      'div',
      { class: unusable ? 'option off' : 'option', part: 'option' },
      input,
      h(
        'div',
        {},
        h('label', { for: runtime }, option.label),
        option.recommended && h('span', { class: 'badge', part: 'badge' }, text('recommended')),
        detection.current === runtime && h('span', { class: 'badge' }, text('current')),
      ),
      h('p', { class: 'text what', id: `${runtime}-what` }, option.description),
      h('p', { class: 'text why', id: `${runtime}-why` }, why),
      h(
        'p',
        { class: 'text muted', id: `${runtime}-facts` },
        ...facts(
          ' ',
          version && text('found', { version }),
          fetched(detail),
          memoryBytes && diskBytes && text('uses', { memory: bytes(memoryBytes, 1024), disk: bytes(diskBytes, 1024) }),
          lastStartMs && text('lastStart', { time: duration(lastStartMs / 1000) }),
          runtime === 'docker' && text('dockerLicence'),
        ),
      ),
    )
  }
}

/** What a start still fetches, also of a runtime that is there but for its engine. */
function fetched(detail: RuntimeDetail | undefined): string | undefined {
  if (!detail || detail.state === 'unavailable') return undefined
  const { type, state, downloadBytes, downloads } = detail
  if (!downloadBytes) return type === 'docker' || state === 'ready' ? text('noDownload') : undefined
  const size = bytes(downloadBytes)
  if (!downloads?.length) return text('willDownload', { size })
  return text('willDownloadParts', { size, parts: list(downloads.map(({ component }) => part(component))) })
}

/** containerd where it runs without a VM; Lima on macOS. */
function userRuntime(detection: Detection): RuntimeType {
  const usable = (type: RuntimeType) => detection.details.some((d) => d.type === type && d.state !== 'unavailable')
  return usable('containerd') && !(usable('lima') && detection.current === 'lima') ? 'containerd' : 'lima'
}

const DESCRIPTIONS = {
  lima: { containerd: 'modeUserLima', docker: 'modeUserLimaDocker' },
  plain: { containerd: 'modeUserContainerd', docker: 'modeUserDocker' },
} as const

function choices(detection: Detection): Option[] {
  const detail = (type: RuntimeType) => detection.details.find((d) => d.type === type)
  const user = userRuntime(detection)
  return [
    {
      runtime: user,
      label: text('modeUser'),
      description: text(DESCRIPTIONS[user === 'lima' ? 'lima' : 'plain'][detail(user)?.engine ?? 'containerd']),
      recommended: true,
      detail: detail(user),
    },
    {
      runtime: 'docker',
      label: text('modeDevelopment'),
      description: text('modeDevelopmentText'),
      recommended: false,
      detail: detail('docker'),
    },
  ]
}

/** The runtime in use, else the first usable one. */
function initial(detection: Detection): RuntimeType | undefined {
  const offered = choices(detection)
  const usable = offered.filter((o) => o.detail && o.detail.state !== 'unavailable')
  return (usable.find((o) => o.runtime === detection.current) ?? usable[0])?.runtime
}

define('runtime-mode-selector', RuntimeModeSelector)
