// `npm run bench -- exec`: processes in a container, against dockerode and against the engines' own programs, on a dockerd and a
// containerd of their own. All sides of a ratio are measured in the same run and in turn. containerd needs
// LIMA_RUNTIME_TEST_NERDCTL. `--quick` takes a quarter of the rounds and a tenth of the bytes.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { onContainerd, onDockerd } from '../engines.mjs'
import { atMost, figure, inTurn, say } from '../report.mjs'

const quick = process.argv.includes('--quick')
const ROUNDS = quick ? 10 : 40
const BYTES = quick ? 10_000_000 : 100_000_000
const TRUE = ['true']
/** Raw: else the terminal would make two bytes of each newline. */
const PRINT = ['sh', '-c', `stty raw 2>/dev/null; head -c ${BYTES} /dev/zero`]
const figures = []

export async function run() {
  const { default: Docker } = await import('dockerode')
  const docker = await onDockerd(async (engine, adapter, id) => {
    const container = new Docker({ socketPath: engine.socket }).getContainer(id)
    await compare('Docker', adapter, id, {
      dockerode: (argv, Tty) => dockerode(container, argv, Tty),
      // Its client takes a terminal only from one.
      'docker exec': (argv) => program('docker', ['-H', `unix://${engine.socket}`, 'exec', id, ...argv]),
    })
  })
  const containerd = await onContainerd((engine, adapter, id) =>
    compare('containerd', adapter, id, {
      'nerdctl exec': async (argv) => (await engine.nerdctl(['exec', id, ...argv])).length,
    }),
  )
  return { figures, left: [docker, containerd].filter(Boolean) }
}

async function compare(engine, adapter, id, others) {
  const ours = async (argv, tty) => {
    const process = await adapter.spawnInContainer(id, argv, { tty, stdin: false })
    let size = 0
    process.stdout.on('data', (chunk) => {
      size += chunk.length
    })
    process.stderr?.resume()
    const { exitCode } = await process.exited
    if (exitCode !== 0) throw new Error(`exit code ${exitCode}`)
    return size
  }
  for (const [name, other] of Object.entries(others)) {
    say(`${engine}: against ${name}`)
    const goals = [atMost(name === 'dockerode' ? 0.9 : 0.2)]
    const [mine, its] = await inTurn(
      ROUNDS,
      () => ours(TRUE, false),
      () => other(TRUE, false),
    )
    figures.push(figure(`${engine}: a process, \`true\``, 'ms', mine, its, { against: name, goals }))
    for (const tty of name === 'dockerode' ? [false, true] : [false]) {
      const whole = async (print) => {
        const size = await print(PRINT, tty)
        if (size !== BYTES) throw new Error(`${name}: ${size} bytes`)
      }
      const [mine, its] = await inTurn(
        3,
        () => whole(ours),
        () => whole(other),
      )
      const what = `${BYTES / 1e6} MB out${tty ? ' of a terminal' : ''}`
      figures.push(figure(`${engine}: ${what}`, 'ms', mine, its, { against: name }))
    }
  }
}

/** As its documentation has it: streams taken apart, then the exit code asked for. */
async function dockerode(container, Cmd, Tty) {
  const exec = await container.exec({ Cmd, Tty, AttachStdout: true, AttachStderr: true })
  const stream = await exec.start({ Tty })
  let size = 0
  const count = (chunk) => {
    size += chunk.length
  }
  if (Tty) {
    stream.on('data', count)
  } else {
    const [out, err] = [new PassThrough().on('data', count), new PassThrough().resume()]
    container.modem.demuxStream(stream, out, err)
  }
  await once(stream, 'end')
  const { ExitCode } = await exec.inspect()
  if (ExitCode) throw new Error(`dockerode: exit code ${ExitCode}`)
  return size
}

async function program(file, args) {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let size = 0
  child.stdout.on('data', (chunk) => {
    size += chunk.length
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${file} ended with ${code}`)
  return size
}
