/** What differs between a browser and Node, and nothing else. */

import type { NodeOptions } from '../index.js'
import type { Engine } from './engine.js'
import type { GlueModule } from './instance.js'
import type { Scope } from './lifecycle.js'
import type { LoadOptions, WasmSource } from './loader.js'

export interface Platform {
  /** Where the network's and the page's changes are told, if anywhere. */
  scope?: Scope | undefined
  defaultStorage: NonNullable<NodeOptions['storage']>
  builds: OwnBuilds
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

/** The WebAssembly that the package brings: with the ledgers that are built in, and, smaller, without. */
export type OwnBuilds = Record<'selkie' | 'ledger', () => Build>

/** A WebAssembly, and the glue that belongs to it: where it is imported from, or itself, if the package's JavaScript brings it. */
export interface Build {
  glue: GlueModule | string
  module: () => WasmSource
}

/** A place for one key and its address book, locked by whoever holds this object. */
export interface IdentityStore {
  readonly book: BookStore
  load(): Promise<Uint8Array | undefined>
  save(key: Uint8Array): Promise<void>
  unlock(): Promise<void>
}

/** A place for one address book. */
export interface BookStore {
  /** The bytes that were saved, or whatever lies there; undefined where nothing does. */
  load(): Promise<unknown>
  save(bytes: Uint8Array): Promise<void>
}
