import { dockerBackend } from './backends/docker.mjs'
import { contract } from './suite.mjs'

contract(dockerBackend())
