// `npm run lint:workflows`: what zizmor finds in .github/workflows, which publish the package.
import { join } from 'node:path'
import { root, run } from './run.mjs'
import { wheels } from './wheels.mjs'

const VERSION = '1.32.0'

const zizmor = join(wheels(`zizmor-${VERSION}`, [`zizmor==${VERSION}`]), 'bin/zizmor')
run(zizmor, ['--offline', '--no-progress', '.github/workflows'], { cwd: root })
