import { describe } from 'node:test'
import { noBundledDocker } from '../support/bundled-docker.mjs'
import { bundledDockerBackend } from './backends/bundled-docker.mjs'
import { contract } from './suite.mjs'

// Minutes, for what the other backends of Docker have shown of the adapter.
const wanted = process.env.LIMA_RUNTIME_TEST_BUNDLED === '1'
const reason = wanted ? noBundledDocker() : 'LIMA_RUNTIME_TEST_BUNDLED is not 1'
if (reason) describe('contract: bundled Docker', { skip: reason }, () => {})
else contract(bundledDockerBackend())
