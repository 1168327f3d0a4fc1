// Every asynchronous method of the adapters, called with right arguments and the caller's options. Of a stream: its first step.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { tempDir } from '../support/tempdir.mjs'

const types = readFileSync(new URL('../../index.d.ts', import.meta.url), 'utf8')

/** The methods that an interface or class of index.d.ts declares, each with the names of its parameters. */
function methodsOf(declaration) {
  const from = types.indexOf(`${declaration} {`)
  if (from < 0) throw new Error(`index.d.ts has no ${declaration}`)
  const body = types.slice(from, types.indexOf('\n}', from))
  return [...body.matchAll(/^ {2}(\w+)\((.*)\): /gm)].map(([, method, parameters]) => {
    const flat = parameters.replace(/\{[^{}]*\}|\([^()]*\)/g, '')
    return [method, [...flat.matchAll(/(\w+)\??:/g)].map(([, name]) => name)]
  })
}

export const METHODS = Object.fromEntries([
  ...methodsOf('interface IContainerRuntime'),
  ...methodsOf('abstract class ContainerAdapter'),
])

/** Made by whoever calls: an ordinary user could not remove root's. */
function context() {
  const dir = tempDir('context')
  writeFileSync(join(dir, 'Dockerfile'), 'FROM scratch\nCOPY Dockerfile /\n')
  return dir
}

/** No engine is asked, or not Docker. */
const NOT_ASKED = ['getRuntimeType', 'restricted', 'isPrivate']
/** What a parameter of this name gets; another one gets a name. */
const OTHERS = { force: false, timeout: 0, networkId: 'bridge' }

/** `mine` names what a call may work on. */
const plain =
  ([method, parameters]) =>
  (adapter, mine, options) => {
    const value = (name) => (['options', 'progress'].includes(name) ? options : (OTHERS[name] ?? mine.name))
    return adapter[method](...parameters.map(value))
  }

export const CALLS = {
  ...Object.fromEntries(
    Object.entries(METHODS)
      .filter(([method]) => !NOT_ASKED.includes(method))
      .map((entry) => [entry[0], plain(entry)]),
  ),
  createContainer: (a, { name, image }, o) => a.createContainer({ name, image }, o),
  startContainer: (a, { name, image }, o) => a.startContainer({ name, image }, o),
  updateContainer: (a, { name }, o) => a.updateContainer(name, { restart: 'no' }, o),
  killContainer: (a, { name }, o) => a.killContainer(name, 'SIGTERM', o),
  listContainers: (a, _, o) => a.listContainers({ all: true, ...o }),
  getContainerLogs: (a, { name }, o) => a.getContainerLogs(name, { tail: 1, ...o }),
  streamContainerStats: (a, { name }, o) => a.streamContainerStats(name, o).next(),
  execInContainer: (a, { name }, o) => a.execInContainer(name, ['true'], o),
  spawnInContainer: (a, { name }, o) => a.spawnInContainer(name, ['true'], o),
  watchContainers: (a, _, o) => a.watchContainers(o).next(),
  events: (a, _, o) => a.events(o).next(),
  pullImage: (a, { image }, o) => a.pullImage(image, undefined, o),
  imageExists: (a, { image }, o) => a.imageExists(image, o),
  tagImage: (a, { image, name }, o) => a.tagImage(image, name, o),
  loadImage: (a, { archive }, o) => a.loadImage(archive, o),
  saveImage: (a, { image }, o) => a.saveImage(image, o),
  inspectImage: (a, { image }, o) => a.inspectImage(image, o),
  imageHistory: (a, { image }, o) => a.imageHistory(image, o),
  pushImage: (a, { image }, o) => a.pushImage(image, undefined, o),
  buildImage: (a, _, o) => a.buildImage(context(), o),
  composeUp: (a, { name, image }, o) => a.composeUp({ name, services: { a: { image } } }, o),
  composeDown: (a, { name }, o) => a.composeDown({ name, services: {} }, o),
  composePs: (a, { name }, o) => a.composePs({ name }, o),
  copyToContainer: (a, { name }, o) => a.copyToContainer(name, '/etc/hostname', '/tmp', o),
  copyFromContainer: (a, { name }, o) => a.copyFromContainer(name, '/tmp', o),
  commitContainer: (a, { name }, o) => a.commitContainer(name, { reference: 'contract/never:made', ...o }),
  prune: (a, _, o) => a.prune({ networks: true, scope: 'app', ...o }),
}
