export * from './preload.js'
