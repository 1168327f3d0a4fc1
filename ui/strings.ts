/** Every text the elements show. Replace any of them with `setStrings`; `{name}` marks a value. */
export const en = {
  modeLegend: 'How should containers run?',
  modeDevelopment: 'Development mode',
  modeDevelopmentText: 'Uses the Docker you already have. For people who work with containers themselves.',
  modeUser: 'User mode',
  modeUserLima: 'A small private Linux machine with containerd, installed and kept for you. Nothing else is needed.',
  modeUserLimaDocker:
    'A small private Linux machine with a Docker Engine, installed and kept for you. Nothing else is needed.',
  modeUserContainerd: 'Private containerd, installed and kept for you. Nothing else is needed.',
  modeUserDocker: 'A private Docker Engine, installed and kept for you. Nothing else is needed.',
  recommended: 'Recommended',
  current: 'In use now',
  found: 'Found: version {version}',
  notFound: 'Not available: {reason}',
  unknownReason: 'it was not found',
  willDownload: 'To download once: {size}',
  willDownloadParts: 'To download once: {size} ({parts})',
  noDownload: 'Nothing to download.',
  uses: 'Uses up to {memory} of memory and {disk} of disk',
  lastStart: 'Last start took {time}',
  dockerLicence: 'Docker Desktop needs a paid licence in larger companies.',
  switchNote: 'Containers you have now stay in the runtime they were made in.',
  askSwitch:
    'Containers that run now: {count}. They stay where they are and go on running; you see them again when you switch back.',
  askSwitchYes: 'Switch',
  askSwitchNo: 'Stay',
  detecting: 'Looking for container runtimes…',

  setupHeading: 'Setting up the container runtime',
  readyHeading: 'Ready',
  readyText: 'The container runtime is running.',
  failedHeading: 'The set-up did not finish',
  cancelledHeading: 'The set-up was cancelled',
  cancelledText: 'What was downloaded is kept; the next try goes on from there.',
  stages: 'Steps',
  stageDownload: 'Download',
  stageCreate: 'Create the virtual machine',
  stageBoot: 'Start the virtual machine',
  stageProvision: 'Set up {engine}',
  stageStart: 'Start {engine}',
  stageConnect: 'Connect to Docker',
  stageDone: 'done',

  // What happens within a step. `{message}` is the runtime's own sentence, in English; `{part}` is one of the parts.
  doResolve: '{message}',
  doDownload: '{message}',
  doVerify: '{message}',
  doExtract: '{message}',
  doCreate: '{message}',
  doBoot: '{message}',
  doProvision: '{message}',
  partLima: 'Lima',
  partImage: 'the system image',
  partContainerd: 'containerd',
  partDocker: 'the Docker Engine',
  partAll: 'the runtime',

  progressLabel: 'Progress of the set-up',
  bytes: '{percent} ({done} of {total})',
  rate: '{rate}/s',
  left: 'about {time} left',
  elapsed: '{time} so far',
  cancel: 'Cancel',
  retry: 'Try again',
  begin: 'Continue',
  useDocker: 'Use Docker instead',
  copy: 'Copy details',
  copied: 'Copied',
  notCopied: 'It could not be copied.',
  openLogs: 'Open the logs',
  errorCode: 'Error code',
  log: 'Log',
  askCancel: 'Stop the set-up? What was downloaded is kept.',
  askCancelYes: 'Stop',
  askCancelNo: 'Go on',
}

/**
 * `error.<code>` replaces an error's own message, which is English; `error.<code>.own` where the engine is the application's
 * own, so that nobody looks for another one.
 */
export type Strings = { [K in keyof typeof en]: string } & { [code: `error.${string}`]: string }

export const zhHant: Strings = {
  modeLegend: '容器要如何執行？',
  modeDevelopment: '開發模式',
  modeDevelopmentText: '使用您已安裝的 Docker。適合自行操作容器的人。',
  modeUser: '使用者模式',
  modeUserLima: '一台小型、專用的 Linux 虛擬機器，內含 containerd，由本程式安裝並維護，不需要其他軟體。',
  modeUserLimaDocker: '一台小型、專用的 Linux 虛擬機器，內含 Docker Engine，由本程式安裝並維護，不需要其他軟體。',
  modeUserContainerd: '專用的 containerd，由本程式安裝並維護，不需要其他軟體。',
  modeUserDocker: '專用的 Docker Engine，由本程式安裝並維護，不需要其他軟體。',
  recommended: '建議',
  current: '目前使用中',
  found: '已找到：版本 {version}',
  notFound: '無法使用：{reason}',
  unknownReason: '找不到',
  willDownload: '需下載一次：{size}',
  willDownloadParts: '需下載一次：{size}（{parts}）',
  noDownload: '不需要下載。',
  uses: '最多使用 {memory} 記憶體與 {disk} 磁碟空間',
  lastStart: '上次啟動花了 {time}',
  dockerLicence: '較大型的公司使用 Docker Desktop 需要付費授權。',
  switchNote: '現有的容器會留在建立它們的執行環境中。',
  askSwitch: '目前有 {count} 個容器正在執行。它們會留在原處並繼續執行；切換回來後即可再看到它們。',
  askSwitchYes: '切換',
  askSwitchNo: '維持現狀',
  detecting: '正在尋找容器執行環境…',

  setupHeading: '正在設定容器執行環境',
  readyHeading: '已就緒',
  readyText: '容器執行環境正在執行。',
  failedHeading: '設定未完成',
  cancelledHeading: '設定已取消',
  cancelledText: '已下載的內容會保留，下次會從中斷處繼續。',
  stages: '步驟',
  stageDownload: '下載',
  stageCreate: '建立虛擬機器',
  stageBoot: '啟動虛擬機器',
  stageProvision: '設定{engine}',
  stageStart: '啟動{engine}',
  stageConnect: '連線至 Docker',
  stageDone: '完成',

  doResolve: '正在確認需要的項目',
  doDownload: '正在下載{part}',
  doVerify: '正在檢查{part}',
  doExtract: '正在安裝{part}',
  doCreate: '正在建立虛擬機器',
  doBoot: '正在啟動',
  doProvision: '正在設定容器',
  partLima: ' Lima',
  partImage: '系統映像檔',
  partContainerd: ' containerd',
  partDocker: ' Docker Engine',
  partAll: '執行環境',

  progressLabel: '設定進度',
  bytes: '{percent}（{done}／{total}）',
  rate: '每秒 {rate}',
  left: '大約還要 {time}',
  elapsed: '已經過 {time}',
  cancel: '取消',
  retry: '再試一次',
  begin: '繼續',
  useDocker: '改用 Docker',
  copy: '複製詳細資料',
  copied: '已複製',
  notCopied: '無法複製。',
  openLogs: '開啟記錄',
  errorCode: '錯誤代碼',
  log: '記錄',
  askCancel: '要停止設定嗎？已下載的內容會保留。',
  askCancelYes: '停止',
  askCancelNo: '繼續設定',

  'error.DOWNLOAD_FAILED': '下載失敗。請檢查網路連線後再試一次。',
  'error.CHECKSUM_MISMATCH': '下載的檔案與預期不符，因此沒有安裝任何內容。請換一個網路再試一次。',
  'error.DISK_FULL': '磁碟空間不足。請清出空間後再試一次。',
  'error.LOCKED': '另一個程式正在設定同一個執行環境。請稍候再試一次。',
  'error.TIMEOUT': '花費的時間過長。請再試一次。',
  'error.VM_START_FAILED': '虛擬機器無法啟動。',
  'error.VM_BROKEN': '虛擬機器已損壞。',
  'error.CONTAINERD_NOT_READY': 'containerd 沒有回應。',
  'error.ENGINE_UNREACHABLE': '無法連線至 Docker。請確認 Docker 已啟動。',
  'error.ENGINE_UNREACHABLE.own': 'Docker Engine 沒有回應。',
  'error.PERMISSION_DENIED': '沒有足夠的權限。',
  'error.NOT_INSTALLED': '尚未安裝可用的容器執行環境。',
  'error.UNSUPPORTED_PLATFORM': '這台電腦不支援此執行環境。',
  'error.ROOT_USER': '無法以系統管理員（root）身分執行。請改用一般使用者。',
  'error.PATH_TOO_LONG': '資料目錄的路徑太長。',
  'error.INTERNAL': '發生內部錯誤。',
}

let table: Strings = en
let language = 'en'
const listeners = new Set<() => void>()

/** Replaces texts on every element, now and later. `locale` formats numbers and times. */
export function setStrings(strings: Partial<Strings>, locale = language): void {
  table = { ...table, ...strings } as Strings
  language = locale
  for (const listener of listeners) listener()
}

export function onStrings(listener: () => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export function text(key: keyof typeof en, values: Record<string, string> = {}): string {
  return table[key].replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all)
}

/** The text for an error's code, if the table has one. */
export function errorText(code: string | undefined, own: boolean): string | undefined {
  return (own && table[`error.${code}.own`]) || table[`error.${code}`]
}

const PARTS: Record<string, keyof typeof en> = {
  ...{ lima: 'partLima', image: 'partImage', nerdctl: 'partContainerd', containerd: 'partContainerd' },
  docker: 'partDocker',
}

/** The name of a part of a runtime, for the middle of a sentence. */
export function part(component: string | undefined): string {
  return text(PARTS[component ?? ''] ?? 'partAll')
}

/** Of names that {@link part} has. */
export function list(names: string[]): string {
  return new Intl.ListFormat(language, { style: 'long', type: 'conjunction' }).format(names.map((name) => name.trim()))
}

const UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte']

/** Use `base` 1024 for memory, which is sized in powers of two: 4 GiB is sold as 4 GB. */
export function bytes(count: number, base = 1000): string {
  const step = Math.min(Math.floor(Math.log(Math.max(count, 1)) / Math.log(base) + 1e-9), UNITS.length - 1)
  const value = count / base ** step
  const digits = step > 1 && value < 10 ? 1 : 0
  return new Intl.NumberFormat(language, {
    style: 'unit',
    unit: UNITS[step] as string,
    unitDisplay: step ? 'short' : 'long',
    maximumFractionDigits: digits,
  }).format(value)
}

export function number(value: number): string {
  return new Intl.NumberFormat(language).format(value)
}

export function percent(value: number): string {
  return new Intl.NumberFormat(language, { style: 'percent' }).format(Math.floor(value) / 100)
}

export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds))
  const part = (value: number, unit: string) =>
    new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: 'short' }).format(value)
  if (s < 60) return part(s, 'second')
  if (s < 3600)
    return s < 600 && s % 60
      ? `${part(Math.floor(s / 60), 'minute')} ${part(s % 60, 'second')}`
      : part(Math.round(s / 60), 'minute')
  return `${part(Math.floor(s / 3600), 'hour')} ${part(Math.floor((s % 3600) / 60), 'minute')}`
}
