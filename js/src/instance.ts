/**
 * The WebAssembly in being: the package's own with its own glue, or a build of the user's with the glue that wasm-bindgen made for
 * that, loaded where the node runs. The two belong together: what one build imports no other glue has. And both are of the version that this
 * package is, for what it calls is private and may change with any.
 */

import type { Glue } from './engine.js'
import { words } from './application.js'
import { LoadError } from './errors.js'
import { importModule } from './import-module.js'
import * as own from './selkie.js'
import { version } from './version.js'

/** What glues failed by as they started, by their `init`: it does not say so twice, and the instance is no use. */
const failed = new WeakMap<typeof own.default, unknown>()

/** `glue`: the address of another than the package's own. */
export async function instantiate(module: WebAssembly.Module, glue?: string): Promise<Glue> {
  try {
    const { default: init, WasmNode } = glue === undefined ? own : await imported(glue)
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
    const what = glue === undefined ? 'start the WebAssembly' : `load the glue ${glue}`
    const right =
      glue === undefined
        ? 'selkie_bg.wasm of this very version of the package, no copy of another'
        : 'what wasm-bindgen --target web writes for this very WebAssembly, whose crate depends on selkie'
    throw new LoadError('load', `can't ${what}: ${words(cause)}; it is ${right}`, { cause })
  }
}

async function imported(glue: string): Promise<typeof own> {
  return (await importModule(glue)) as typeof own
}

async function start(init: typeof own.default, module: WebAssembly.Module) {
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
