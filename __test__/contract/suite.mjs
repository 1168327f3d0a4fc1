// The behaviour every backend keeps to, written once: `contract(backend)` from a file of the backend's own.
import { after, before, describe } from 'node:test'
import { badInput } from './bad-input.mjs'
import { behindOurBack } from './behind-our-back.mjs'
import { build } from './build.mjs'
import { cancellation } from './cancellation.mjs'
import { completeness } from './completeness.mjs'
import { compose } from './compose.mjs'
import { containers } from './containers.mjs'
import { events } from './events.mjs'
import { exec } from './exec.mjs'
import { files } from './files.mjs'
import { images } from './images.mjs'
import { Context } from './kit.mjs'
import { life } from './life.mjs'
import { logs } from './logs.mjs'
import { networks } from './networks.mjs'
import { ports } from './ports.mjs'
import { processes } from './processes.mjs'
import { prune } from './prune.mjs'
import { service } from './service.mjs'
import { settings } from './settings.mjs'
import { stats } from './stats.mjs'
import { system } from './system.mjs'
import { testcontainers } from './testcontainers.mjs'
import { volumes } from './volumes.mjs'

export function contract(backend) {
  describe(`contract: ${backend.name}`, { concurrency: 1 }, () => {
    const ctx = new Context(backend)
    before(() => ctx.open())
    after(() => backend.stop())
    const subjects = [
      system,
      containers,
      settings,
      ports,
      logs,
      exec,
      processes,
      life,
      files,
      images,
      build,
      compose,
      networks,
      volumes,
      testcontainers,
      stats,
      events,
      service,
      badInput,
      cancellation,
      prune,
      behindOurBack,
      // Last: it looks back at what the others called.
      completeness,
    ]
    const wanted = process.env.LIMA_RUNTIME_TEST_SUBJECTS?.split(',')
    // A title has commas, its beginning has none.
    const isWanted = ({ title }) => wanted?.some((begins) => title.startsWith(begins)) ?? true
    for (const subject of subjects) if (isWanted(subject)) subject(ctx)
  })
}
