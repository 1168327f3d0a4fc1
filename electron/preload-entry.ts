export { exposeRuntime } from './expose'
