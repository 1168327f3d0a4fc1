import { describe } from 'node:test'
import { noContainerd } from '../support/containerd.mjs'
import { containerdBackend } from './backends/containerd.mjs'
import { contract } from './suite.mjs'

const reason = noContainerd()
if (reason) describe('contract: containerd through sudo', { skip: reason }, () => {})
else contract(containerdBackend({ bridged: true }))
