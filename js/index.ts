export {
  BundledContainerAdapter,
  ContainerAdapter,
  ContainerdAdapter,
  DockerAdapter,
  LimaContainerAdapter,
  LimaContainerAdapter as LimaAdapter,
} from './adapter'
export { BundledRuntimeManager } from './bundled'
export { RuntimeError } from './errors'
export { LimaRuntimeManager } from './lima'
export { ContainerManager } from './manager'
