// What becomes of each call of a soak: it must settle, with a result or a coded error, and with an error only when the engine
// was away meanwhile. What is not so is a finding.
import { RuntimeError } from 'lima-runtime'
import { waitFor } from '../support/wait.mjs'

/** A program that ended, or said, what it should not have: as right as a coded error while the engine is away. */
export class Unexpected extends Error {
  code = 'UNEXPECTED'
}

const MOST_FINDINGS = 200

export class Calls {
  /** By kind: how many had a result, and how many of each code had none. */
  counts = {}
  /** What is wrong, and how often it was seen. */
  findings = new Map()
  /** When the engine was away, in milliseconds since the start. */
  outages = []
  #stopping = false
  #open = new Set()
  #began = performance.now()

  /** The clock starts again. */
  begin() {
    this.#began = performance.now()
  }

  now() {
    return performance.now() - this.#began
  }

  away() {
    this.outages.push({ from: this.now(), to: Number.POSITIVE_INFINITY })
  }

  back() {
    this.outages.at(-1).to = this.now()
  }

  /** Whether it was away at that time. */
  wasAwayAt(then) {
    return this.outages.some(({ from, to }) => from <= then && then <= to)
  }

  /** Whether the engine was away at any time since then. */
  wasAway(since) {
    return this.outages.some(({ to }) => to >= since)
  }

  /** From here on everything is aborted. */
  stop() {
    this.#stopping = true
  }

  find(what) {
    if (this.findings.has(what) || this.findings.size < MOST_FINDINGS)
      this.findings.set(what, (this.findings.get(what) ?? 0) + 1)
  }

  /** The result of `work`; undefined where it failed, which is judged here. */
  async attempt(kind, work) {
    const from = this.now()
    const call = { kind, from }
    this.#open.add(call)
    try {
      const result = await work()
      this.#count(kind).ok += 1
      return result
    } catch (error) {
      this.failed(kind, error, from)
      return undefined
    } finally {
      this.#open.delete(call)
    }
  }

  /** A call, or a stream, that began then has failed. */
  failed(kind, error, from) {
    const isCoded = error instanceof RuntimeError || error instanceof Unexpected
    const code = isCoded ? error.code : 'no code'
    const { errors } = this.#count(kind)
    errors[code] = (errors[code] ?? 0) + 1
    if (!isCoded) this.find(`${kind}: an error without a code: ${error?.stack ?? error}`)
    else if (code === 'INTERNAL') this.find(`${kind}: ${code}: ${error.message}`)
    else if (code === 'ABORTED' && this.#stopping) return
    else if (!this.wasAway(from)) this.find(`${kind}: failed while the engine was there: ${code}: ${error.message}`)
  }

  /** The kinds of calls that have not settled, and since when, in milliseconds. */
  open() {
    return [...this.#open].map(({ kind, from }) => ({ kind, ms: this.now() - from }))
  }

  /** Resolves once each of these kinds has had another result, or the time is over. */
  async more(kinds, timeoutMs) {
    const had = kinds.map((kind) => this.#count(kind).ok)
    const all = () => kinds.every((kind, i) => this.#count(kind).ok > had[i])
    await waitFor('another result of each kind', all, { timeoutMs }).catch(() => {})
  }

  #count(kind) {
    this.counts[kind] ??= { ok: 0, errors: {} }
    return this.counts[kind]
  }
}
