export { manageLifecycle } from './lifecycle'
export { registerRuntimeIpc } from './register'
