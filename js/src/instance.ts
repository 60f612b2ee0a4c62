/**
 * The WebAssembly in being, with the glue that wasm-bindgen made for it, which is loaded where the node runs: of the package's builds one
 * has its glue among the package's JavaScript; the other's, and that of a build of the user's, is imported by its address. The two belong
 * together: what one build imports no other glue has. And both are of the version that this package is, for what it calls is private
 * and may change with any.
 *
 * It ends by a panic, of which it tells with its words, and by whatever else cuts it off: no memory, no stack, an exception of JavaScript that
 * it does not expect. The package's glue tells of these too (watch.ts), that of a build of the user's only where the node is called. Nobody
 * else's errors are looked at: other WebAssembly on the page may trap as it likes.
 */

import type { Glue } from './engine.js'
import { words } from './application.js'
import { LoadError } from './errors.js'
import { importModule } from './import-module.js'
import { version } from './version.js'

export type GlueModule = typeof import('./selkie.js')

/** What glues failed by as they started, by their `init`: it does not say so twice, and the instance is no use. */
const failed = new WeakMap<GlueModule['default'], unknown>()

/** `crashed` is called, maybe several times, once nothing of the instance runs any more, with words for what was the end of it. */
export async function instantiate(
  module: WebAssembly.Module,
  glue: GlueModule | string,
  crashed: (words: string) => void,
): Promise<Glue> {
  const isImported = typeof glue === 'string'
  try {
    const { default: init, WasmNode, onException } = isImported ? await imported(glue) : glue
    if (typeof WasmNode?.start !== 'function') throw new TypeError('it has no node')
    await start(init, module)
    const theirs = WasmNode.version?.() ?? 'an older version'
    if (theirs !== version) {
      throw new TypeError(
        `it is of selkie ${theirs}, and this package is ${version}: make them one`,
      )
    }
    // A panic is told from within, before the exception that it ends with: what comes of it waits until that has left.
    const told = (words: string) => queueMicrotask(() => crashed(words))
    WasmNode.onPanic(told)
    onException?.((error) => told(words(error)))
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
