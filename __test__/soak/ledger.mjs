// Counted lines: `RUN N`, where RUN is another for every start of the program and N goes up by one. A stream that leaves one
// out is right only if the engine's own log lacks it, too.

/** Prints ten of them a second, for ever. */
export const WRITER = [
  'sh',
  '-c',
  `trap 'exit 0' TERM
run=$(cat /proc/sys/kernel/random/uuid) n=0
while :; do
  for _ in 0 1 2 3 4 5 6 7 8 9; do n=$((n + 1)); echo "$run $n"; done
  sleep 1 &
  wait $!
done`,
]

const parse = (line) => /^([0-9a-f-]{36}) (\d+)$/.exec(line)

export class Ledger {
  lines = 0
  /** The last line of each writer. */
  newest = new Map()
  /** What is wrong for certain. */
  twice = []
  broken = []
  /** What streams left out: `{ writer, run, from, to }`. */
  gaps = []

  /** A reader for one stream of one writer: give it the chunks as they come. */
  reader(writer) {
    let rest = ''
    let last
    return (chunk) => {
      const parts = (rest + chunk).split('\n')
      rest = parts.pop()
      for (const line of parts) {
        const [, run, digits] = parse(line) ?? []
        // Why it could not be started again yet.
        if (!run && line.startsWith('runc create failed: ')) continue
        if (!run) {
          this.broken.push({ writer, line: line.slice(0, 100) })
          continue
        }
        const n = Number(digits)
        this.lines += 1
        if (last?.run === run && n <= last.n) this.twice.push({ writer, run, n })
        if (last && last.run !== run) {
          this.gaps.push({ writer, run: last.run, from: last.n + 1, to: Number.POSITIVE_INFINITY })
          if (n > 1) this.gaps.push({ writer, run, from: 1, to: n - 1 })
        } else if (last && n > last.n + 1) this.gaps.push({ writer, run, from: last.n + 1, to: n - 1 })
        last = { run, n }
        const newest = this.newest.get(writer)
        if (newest?.run !== run || newest.n < n) this.newest.set(writer, last)
      }
    }
  }

  /** How many of these writers have said nothing new since `then`, an earlier copy of `newest`. */
  silent(writers, then) {
    return writers.filter((writer) => this.newest.get(writer) === then.get(writer)).length
  }

  /**
   * The lines that streams left out and the engine has. A gap that reaches to a run's end counts only if the engine has more.
   * @param {(writer: string) => Promise<string>} log all that the engine has of a writer
   */
  async lost(log) {
    const lost = []
    for (const writer of new Set(this.gaps.map((gap) => gap.writer))) {
      const kept = (await log(writer)).split('\n').map(parse).filter(Boolean)
      for (const gap of this.gaps.filter((one) => one.writer === writer))
        for (const [, run, n] of kept)
          if (run === gap.run && Number(n) >= gap.from && Number(n) <= gap.to) lost.push({ writer, run, n: Number(n) })
    }
    return lost
  }
}
