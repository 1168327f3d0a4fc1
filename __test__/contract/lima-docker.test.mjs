import { describe } from 'node:test'
import { noRealDocker } from '../support/real-lima.mjs'
import { limaDockerBackend } from './backends/lima.mjs'
import { contract } from './suite.mjs'

const reason = noRealDocker()
if (reason) describe('contract: Docker in Lima', { skip: reason }, () => {})
else contract(limaDockerBackend())
