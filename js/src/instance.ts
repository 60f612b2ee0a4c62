/**
 * The WebAssembly in being: the package's own with its own glue, or a build of the user's with the glue that wasm-bindgen made for
 * that, loaded where the node runs. The two belong together: what one build imports no other glue has.
 */

import type { Glue } from './engine.js'
import { words } from './application.js'
import { LoadError } from './errors.js'
import { importModule } from './import-module.js'
import * as own from './selkie.js'

/** `glue`: the address of another than the package's own. */
export async function instantiate(module: WebAssembly.Module, glue?: string): Promise<Glue> {
  if (glue === undefined) {
    await own.default({ module_or_path: module })
    return own.WasmNode
  }
  try {
    const { default: init, WasmNode } = (await importModule(glue)) as typeof own
    if (typeof WasmNode?.start !== 'function') throw new TypeError('it has no node')
    await init({ module_or_path: module })
    return WasmNode
  } catch (cause) {
    const advice =
      'it is what wasm-bindgen --target web writes for this very WebAssembly, whose crate depends on selkie'
    throw new LoadError('load', `can't load the glue ${glue}: ${words(cause)}; ${advice}`, {
      cause,
    })
  }
}
