// Compiling is the test. What index.d.ts says, what the facade is and what applications have must be the same.
import type { EventEmitter } from 'node:events'
import type * as api from 'lima-runtime'
import type * as facade from '../../js/index'
import type * as design from './design'

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : { got: A; wanted: B }
/** As properties, functions are compared strictly; as methods, a narrower argument would pass. */
type Members<T> = { [K in keyof T]: T[K] extends (...args: infer A) => infer R ? (...args: A) => R : T[K] }
/** Without what Node's own class gives, some of which returns `this`. */
type Classes<T> = { [K in keyof T]: T[K] extends { prototype: infer I } ? Members<Omit<I, keyof EventEmitter>> : T[K] }

export const exactly: [
  Same<keyof typeof facade, keyof typeof api>,
  Same<Classes<typeof facade>, Classes<typeof api>>,
  Same<ConstructorParameters<typeof facade.DockerAdapter>, ConstructorParameters<typeof api.DockerAdapter>>,
  Same<ConstructorParameters<typeof facade.ContainerdAdapter>, ConstructorParameters<typeof api.ContainerdAdapter>>,
  Same<ConstructorParameters<typeof facade.LimaRuntimeManager>, ConstructorParameters<typeof api.LimaRuntimeManager>>,
  Same<
    ConstructorParameters<typeof facade.BundledRuntimeManager>,
    ConstructorParameters<typeof api.BundledRuntimeManager>
  >,
  Same<ConstructorParameters<typeof facade.ContainerManager>, ConstructorParameters<typeof api.ContainerManager>>,
  Same<ConstructorParameters<typeof facade.RuntimeError>, ConstructorParameters<typeof api.RuntimeError>>,
  Same<api.ContainerInfo, design.ContainerInfo>,
  Same<api.ContainerStats, design.ContainerStats>,
  Same<api.ImageInfo, design.ImageInfo>,
  Same<api.NetworkInfo, design.NetworkInfo>,
  Same<api.VolumeInfo, design.VolumeInfo>,
  Same<api.PullProgress, design.PullProgress>,
  Same<api.PruneResult, design.PruneResult>,
  Same<api.RuntimeProgress, design.RuntimeProgress>,
  Same<api.RuntimeEvent, design.RuntimeEvent>,
  Same<api.RuntimeType, design.RuntimeType>,
] = [true, true, true, true, true, true, true, true, true, true, true, true, true, true, true, true, true, true]

declare const docker: api.DockerAdapter
declare const ours: api.IContainerRuntime
declare const theirs: design.IContainerRuntime
/** Our adapters where an application wants its interface, and its own implementations where we want ours. */
export const runtimes: [Members<design.IContainerRuntime>, Members<design.IContainerRuntime>, api.IContainerRuntime] = [
  docker,
  ours,
  theirs,
]
export const config: design.ContainerConfig = {} as api.ContainerConfig
