import { onStrings } from './strings'

/** What both elements share: a shadow root, one style sheet, and a redraw when a property or text changes. */
export abstract class RuntimeElement extends HTMLElement {
  protected readonly root = this.attachShadow({ mode: 'open', delegatesFocus: true })
  /** The element that `draw` fills. */
  protected readonly body = h('div')
  /** Survives every redraw: screen readers may not announce a live region that is inserted together with its text. */
  readonly #status = h('div', { class: 'hidden', role: 'status', 'aria-live': 'polite' })
  #redrawQueued = false
  #stopStrings: (() => void) | undefined

  constructor() {
    super()
    this.root.append(h('style', {}, STYLE), this.body, this.#status)
  }

  connectedCallback(): void {
    this.#stopStrings = onStrings(() => this.redraw())
    this.redraw()
  }

  disconnectedCallback(): void {
    this.#stopStrings?.()
  }

  /** Draws once for all properties that change in one turn. */
  protected redraw(): void {
    if (this.#redrawQueued || !this.isConnected) return
    this.#redrawQueued = true
    queueMicrotask(() => {
      this.#redrawQueued = false
      if (this.isConnected) this.draw()
    })
  }

  protected abstract draw(): void

  /** Announces `text` to screen readers. */
  protected announce(text: string): void {
    if (this.#status.textContent !== text) this.#status.textContent = text
  }

  /** Asks a question in a modal dialog. */
  protected ask(question: string, yes: string, no: string): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (answer: boolean) => {
        resolve(answer)
        // Closing returns the focus.
        dialog.close()
      }
      const gone = () => {
        resolve(false)
        dialog.remove()
      }
      const dialog = h(
        'dialog',
        { 'aria-labelledby': 'question', part: 'dialog', onclose: gone },
        h('p', { id: 'question' }, question),
        h(
          'div',
          { class: 'row' },
          button(no, () => end(false), 'primary'),
          button(yes, () => end(true)),
        ),
      )
      this.root.append(dialog)
      dialog.showModal()
    })
  }

  protected emit(type: string, detail?: unknown): boolean {
    return this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true, cancelable: true }))
  }
}

type Child = Node | string | null | undefined | false
type Attributes = Record<string, string | number | boolean | null | undefined | ((event: Event) => void)>

/** Makes an element with attributes, `on…` listeners and children. Texts become text nodes; no HTML is parsed. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value)
    else if (value === true) element.setAttribute(name, '')
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, String(value))
  }
  element.append(...children.filter((c): c is Node | string => Boolean(c)))
  return element
}

export function button(label: string, run: () => void, kind?: 'primary'): HTMLButtonElement {
  return h('button', { type: 'button', class: kind, part: kind ? `button ${kind}` : 'button', onclick: run }, label)
}

/** Facts in a row. Lines break between facts, not within. */
export function facts(between: string, ...all: (string | number | undefined | false | null)[]): Child[] {
  const spans = all.filter(Boolean).map((fact) => h('span', { class: 'fact' }, String(fact)))
  return spans.flatMap((span, i) => (i > 0 ? [between, span] : [span]))
}

export function define(name: string, element: CustomElementConstructor): void {
  if (!customElements.get(name)) customElements.define(name, element)
}

/** Colours have a contrast of 4.5:1 to their background in both schemes. */
const STYLE = `
:host {
  --runtime-accent: light-dark(#0b57d0, #a8c7fa);
  --runtime-on-accent: light-dark(#fff, #062e6f);
  --runtime-text: light-dark(#1f1f1f, #e8e8e8);
  --runtime-muted: light-dark(#565b61, #b4bac2);
  --runtime-surface: light-dark(#fff, #1e1f22);
  --runtime-line: light-dark(#747a82, #8b929b);
  --runtime-track: light-dark(#dfe3e8, #3a3d42);
  --runtime-error: light-dark(#b3261e, #f2b8b5);
  --runtime-done: light-dark(#146c2e, #7dd491);
  --runtime-radius: 8px;
  --runtime-font: system-ui, sans-serif;
  display: block;
  color-scheme: light dark;
  color: var(--runtime-text);
  background: var(--runtime-surface);
  font: 1rem/1.5 var(--runtime-font);
}
:host([hidden]) { display: none }
:host([theme=light]) { color-scheme: light }
:host([theme=dark]) { color-scheme: dark }
*, ::before, ::after { box-sizing: border-box }
h2, legend { font-size: 1.25rem; line-height: 1.3; font-weight: 600; margin: 0 0 1rem; padding: 0 }
h2:focus { outline: none }
p { margin: 0 }
fieldset { border: 0; margin: 0; padding: 0; min-width: 0 }
.muted { color: var(--runtime-muted); font-size: .875rem }
.fact { display: inline-block }
.option { display: grid; grid-template-columns: auto 1fr; gap: .25rem .75rem; padding: .875rem 1rem; margin-bottom: .75rem;
  border: 1px solid var(--runtime-line); border-radius: var(--runtime-radius); position: relative }
.option:has(:checked) { border-color: var(--runtime-accent); box-shadow: inset 0 0 0 1px var(--runtime-accent);
  background: color-mix(in srgb, var(--runtime-accent) 6%, transparent) }
.option:not(.off):hover { border-color: var(--runtime-accent) }
.option:focus-within { outline: 3px solid var(--runtime-accent); outline-offset: 2px }
.option.off { border-style: dashed }
.option input { position: relative; z-index: 1; margin: .3rem 0 0; inline-size: 1rem; block-size: 1rem; accent-color: var(--runtime-accent); outline: none }
.option label { font-weight: 600 }
/* All of the card can be pressed. */
.option label::after { content: ""; position: absolute; inset: 0; cursor: pointer }
.option.off label::after { cursor: default }
.option .text { grid-column: 2 }
.option.off label, .option.off .what { color: var(--runtime-muted) }
.option .why { margin-top: .25rem }
.option .fact { display: block }
.badge { display: inline-block; font-size: .8125rem; font-weight: 600; line-height: 1.4; border: 1px solid currentColor; border-radius: 99px;
  padding: 0 .5rem; margin-inline-start: .5rem; color: var(--runtime-accent) }
ol { list-style: none; margin: 0; padding: 0 }
li { display: grid; grid-template-columns: 2rem 1fr; padding-bottom: .75rem; color: var(--runtime-muted); position: relative }
li::before { content: "" / ""; inline-size: 1.25rem; block-size: 1.25rem; margin-top: .125rem; border-radius: 50%; border: 2px solid var(--runtime-line);
  font: 700 .75rem/1rem var(--runtime-font); text-align: center }
li:not(:last-child)::after { content: ""; position: absolute; inset-block: 1.625rem .125rem; inset-inline-start: calc(.625rem - 1px); inline-size: 2px;
  background: var(--runtime-track) }
li.done::before { content: "✓" / ""; color: var(--runtime-surface); background: var(--runtime-done); border-color: var(--runtime-done) }
li[aria-current] { color: var(--runtime-text) }
li[aria-current] .step { font-weight: 600 }
li[aria-current]::before { border-color: var(--runtime-accent); box-shadow: inset 0 0 0 3px var(--runtime-surface); background: var(--runtime-accent) }
.now { grid-column: 2 }
.bar { block-size: .5rem; border-radius: 99px; overflow: hidden; background: var(--runtime-track); margin: .375rem 0 }
.bar > div { block-size: 100%; inline-size: 0; border-radius: 99px; background: var(--runtime-accent); transition: inline-size .2s linear }
.bar.unknown > div { inline-size: 30%; animation: slide 1.6s ease-in-out infinite alternate }
@keyframes slide { from { margin-inline-start: 0 } to { margin-inline-start: 70% } }
.row { display: flex; flex-wrap: wrap; gap: .5rem; margin-top: 1rem }
button { font: inherit; padding: .4rem 1rem; min-block-size: 2.5rem; border-radius: var(--runtime-radius); cursor: pointer;
  border: 1px solid var(--runtime-line); background: transparent; color: inherit }
button:hover { border-color: currentColor; background: color-mix(in srgb, currentColor 8%, transparent) }
button.primary { background: var(--runtime-accent); border-color: var(--runtime-accent); color: var(--runtime-on-accent) }
button.primary:hover { background: color-mix(in srgb, var(--runtime-accent) 88%, var(--runtime-text)) }
button:focus-visible, summary:focus-visible, pre:focus-visible { outline: 3px solid var(--runtime-accent); outline-offset: 2px }
.error { border-inline-start: 4px solid var(--runtime-error); padding-inline-start: 1rem }
.error h2 { color: var(--runtime-error); margin-bottom: .5rem }
.error p + p, details { margin-top: .5rem }
.ready h2::before { content: "✓ " / ""; color: var(--runtime-done) }
summary { cursor: pointer }
.numbers { font-variant-numeric: tabular-nums }
pre { max-block-size: 12rem; overflow: auto; margin: .5rem 0 0; padding: .75rem; font-size: .8125rem; background: var(--runtime-track);
  border-radius: var(--runtime-radius); white-space: pre-wrap; overflow-wrap: anywhere }
dialog { border: 1px solid var(--runtime-line); border-radius: var(--runtime-radius); color: inherit; background: var(--runtime-surface);
  max-inline-size: 26rem; padding: 1.25rem }
dialog::backdrop { background: rgb(0 0 0 / .5) }
.hidden { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
@media (prefers-reduced-motion: reduce) { .bar > div { transition: none } .bar.unknown > div { animation: none; inline-size: 100%; opacity: .5 } }
@media (forced-colors: active) { .bar { border: 1px solid } .bar > div, li[aria-current]::before { background: Highlight } .option:has(:checked) { outline: 2px solid Highlight } }
`
