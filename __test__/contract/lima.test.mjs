import { describe } from 'node:test'
import { noRealLima } from '../support/real-lima.mjs'
import { limaBackend } from './backends/lima.mjs'
import { contract } from './suite.mjs'

const reason = noRealLima()
if (reason) describe('contract: Lima', { skip: reason }, () => {})
else contract(limaBackend())
