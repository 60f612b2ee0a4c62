/**
 * The WebAssembly in being, with the glue that wasm-bindgen made for it, which is loaded where the node runs: of the package's builds one
 * has its glue among the package's JavaScript; the other's, and that of a build of the user's, is imported by its address. The two belong
 * together: what one build imports no other glue has. And both are of the version that this package is, for what it calls is private
 * and may change with any.
 */

import type { Glue } from './engine.js'
import { words } from './application.js'
import { LoadError } from './errors.js'
import { importModule } from './import-module.js'
import { version } from './version.js'

export type GlueModule = typeof import('./selkie.js')

/** What glues failed by as they started, by their `init`: it does not say so twice, and the instance is no use. */
const failed = new WeakMap<GlueModule['default'], unknown>()

export async function instantiate(
  module: WebAssembly.Module,
  glue: GlueModule | string,
): Promise<Glue> {
  const isImported = typeof glue === 'string'
  try {
    const { default: init, WasmNode } = isImported ? await imported(glue) : glue
    if (typeof WasmNode?.start !== 'function') throw new TypeError('it has no node')
    await start(init, module)
    const theirs = WasmNode.version?.() ?? 'an older version'
    if (theirs !== version) {
      throw new TypeError(
        `it is of selkie ${theirs}, and this package is ${version}: make them one`,
      )
    }
    return WasmNode
  } catch (cause) {
    const what = isImported ? `load the glue ${glue}` : 'start the WebAssembly'
    const right = isImported
      ? "what wasm-bindgen --target web writes for this very WebAssembly, whose crate depends on selkie: for a ledger the package's own ledger.js and ledger_bg.wasm"
      : 'selkie_bg.wasm of this very version of the package, no copy of another; with selkie/inline it is ledger_bg.wasm'
    throw new LoadError('load', `can't ${what}: ${words(cause)}; it is ${right}`, { cause })
  }
}

async function imported(glue: string): Promise<GlueModule> {
  return (await importModule(glue)) as GlueModule
}

async function start(init: GlueModule['default'], module: WebAssembly.Module) {
  let isNew = false
  const options = {
    // Asked for where there is no instance yet.
    get module_or_path() {
      isNew = true
      return module
    },
  }
  try {
    await init(options)
  } catch (cause) {
    failed.set(init, cause)
    throw cause
  }
  if (isNew) failed.delete(init)
  else if (failed.has(init)) throw failed.get(init)
}
