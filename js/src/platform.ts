/** What differs between a browser and Node, and nothing else. */

import type { NodeOptions } from '../index.js'
import type { Engine } from './engine.js'
import type { Scope } from './lifecycle.js'
import type { LoadOptions, WasmSource } from './loader.js'

export interface Platform {
  /** Where the network's and the page's changes are told, if anywhere. */
  scope?: Scope | undefined
  defaultStorage: NonNullable<NodeOptions['storage']>
  engine(run: 'page' | 'worker', build: Build, options: LoadOptions): Promise<Engine>
  /**
   * Takes the lock on the stored identity, where another node has it throws `IdentityInUseError`, or waits for it, until the signal
   * ends that.
   */
  openIdentity(
    storage: Exclude<NodeOptions['storage'], 'memory' | undefined>,
    network: string,
    waits: boolean,
    signal: AbortSignal | undefined,
  ): Promise<IdentityStore>
}

/** Which WebAssembly: the package's own, as far as this names no other. */
export interface Build {
  /** The address of the glue that belongs to it. */
  glue?: string | undefined
  module?: WasmSource | undefined
}

/** A place for one key, locked by whoever holds this object. */
export interface IdentityStore {
  load(): Promise<Uint8Array | undefined>
  save(key: Uint8Array): Promise<void>
  unlock(): Promise<void>
}
