import { describe } from 'node:test'
import { noContainerd } from '../support/containerd.mjs'
import { containerdBackend } from './backends/containerd.mjs'
import { contract } from './suite.mjs'

const reason = noContainerd()
if (reason) describe('contract: containerd by nerdctl alone', { skip: reason }, () => {})
else contract(containerdBackend({ alone: true }))
