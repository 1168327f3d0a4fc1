/**
 * Two screens for an app that brings its own container runtime, as custom elements without a framework. Importing this
 * module registers them. Colours and shapes are CSS custom properties (`--runtime-accent`, `--runtime-on-accent`,
 * `--runtime-text`, `--runtime-muted`, `--runtime-surface`, `--runtime-line`, `--runtime-track`, `--runtime-error`,
 * `--runtime-done`, `--runtime-radius`, `--runtime-font`); the scheme follows the system unless `theme="light"` or `theme="dark"` is set.
 *
 * @packageDocumentation
 * @module lima-runtime/ui
 */

export type RuntimeType = 'docker' | 'containerd' | 'lima'
export type UserEngine = 'containerd' | 'docker'

/** One runtime, as `detectAvailableRuntimes()` reports it. */
export interface RuntimeDetail {
  type: RuntimeType
  state: 'ready' | 'stopped' | 'installable' | 'unavailable'
  version?: string
  endpoint?: string
  /** Why it cannot be used; shown and read out. */
  reason?: string
  /** What would make it available; shown after the reason. */
  hint?: string
  /** What runs containers in it, where it is the application's own. */
  engine?: UserEngine
  /** Bytes to download before it can be used. */
  downloadBytes?: number
  /** The parts of that, which are named. */
  downloads?: { component: string; bytes?: number }[]
  /** The most bytes it takes while it runs. */
  memoryBytes?: number
  diskBytes?: number
  lastStartMs?: number
}

/** What `detectAvailableRuntimes()` answers. */
export interface Detection {
  docker: boolean
  containerd: boolean
  lima: boolean
  current: RuntimeType | 'none'
  details: RuntimeDetail[]
}

/** What `onProgress` reports. */
export interface SetupProgress {
  phase: 'resolve' | 'download' | 'verify' | 'extract' | 'create' | 'boot' | 'provision' | 'ready' | 'stop' | 'delete'
  /** What is downloaded or set up. */
  component?: string
  message: string
  /** 0–100. Without it the bar shows that work goes on, but not how far. */
  percent?: number
  /** Bytes. */
  transferred?: number
  total?: number
  bytesPerSecond?: number
  etaSeconds?: number
}

/**
 * A `RuntimeError`, or the plain object that crosses Electron's IPC. `details.logTail` is shown as the log. A table of
 * strings may have words of its own for a code; then message and hint are shown with the log.
 */
export interface SetupError {
  code?: string
  message: string
  hint?: string
  details?: Record<string, unknown>
}

export interface SetupState {
  status: 'idle' | 'running' | 'ready' | 'failed' | 'cancelled'
  /** Milliseconds since the Unix epoch. */
  startedAt?: number
  progress?: SetupProgress
  error?: SetupError
}

/** A set-up that outlives the element that shows it. */
export interface SetupSession {
  readonly state: SetupState
  /** Calls `listener` at every change; returns the function that stops this. */
  subscribe(listener: () => void): () => void
  /** Starts, or starts again after an end. Does nothing while one runs. */
  start(): void
  /** Aborts the run. What was downloaded is kept by the runtime. */
  cancel(): void
}

/**
 * A set-up outside any element: it continues while the screen is closed and opened again.
 *
 * @param run what Continue does, for example `(options) => window.kai.runtime.start(options)`. It ends as `cancelled`
 *   when it rejects with the code `ABORTED`, as `failed` when it rejects with anything else. `options` holds functions
 *   alone, which cross Electron's bridge; `signal` says the same as `onCancel`, for what runs on this side of it.
 */
export function createSetupSession(
  run: (
    options: { onProgress: (progress: SetupProgress) => void; onCancel: (cancel: () => void) => void },
    signal: AbortSignal,
  ) => Promise<unknown>,
): SetupSession

/**
 * `<runtime-mode-selector>`: user mode (Lima, or containerd where there is no Lima) or development mode (Docker). It says
 * which engine user mode has, and what is still to be downloaded for each.
 * A mode that cannot be used stays reachable by keyboard, and its reason is read out.
 *
 * Events: `runtime-change` (`detail: { runtime }`), when the person chooses.
 * Slot: the default one, below the modes. Parts: `option`, `badge`, `dialog`, `button`, `primary`.
 */
export class RuntimeModeSelector extends HTMLElement {
  /** Until this is set, the element says that it is looking. */
  detection: Detection | undefined
  /** The chosen runtime. Until the person chooses: the one in use, else the first usable one. */
  value: RuntimeType | undefined
  /** How many containers run in the runtime in use: `confirm` asks before they are left behind. Default: 0. */
  running: number
  /** A Continue button awaits this: asks before running containers are left behind. False when the person stays. */
  confirm(): Promise<boolean>
}

/**
 * `<runtime-setup-progress>`: the first start, step by step, with cancel, retry and the details of an error.
 *
 * Attributes: `runtime` (which one is set up, for the steps; default: `lima`); `engine` (which one it has, for their names;
 * default: `containerd`); `docker-available` offers "Use Docker
 * instead" after a failure, `open-logs` "Open the logs".
 * Events: `runtime-ready`; `runtime-use-docker`; `runtime-open-logs` (`detail: { error }`).
 * Slots: the default one, above the steps; `actions`, beside the buttons after a failure or a cancel; `ready`, below the
 * end. Parts: `bar`, `fill`, `error`, `dialog`, `button`, `primary`.
 *
 * Escape asks before it cancels. An error takes the focus, and gives it back to where it was when the person tries again.
 */
export class RuntimeSetupProgress extends HTMLElement {
  session: SetupSession | undefined
}

/**
 * Every text, in English; keys name the place. `{name}` marks a value. A table may also have `error.<code>`, which
 * replaces an error's own message.
 */
export const en: Readonly<Record<string, string>>
/** The same texts in Traditional Chinese. */
export const zhHant: Readonly<Record<string, string>>
export type Strings = typeof en

/**
 * Replaces texts on every element, now and later.
 *
 * @param locale for numbers, sizes and times, for example `zh-TW`; stays as it is when left out (at first `en`).
 */
export function setStrings(strings: Partial<Strings>, locale?: string): void
