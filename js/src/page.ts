/**
 * The WebAssembly on the calling thread: one instance, shared by all nodes of the page.
 *
 * So one node's crash is the end of all, and of any that would come later: a new instance takes a
 * new page. A worker has an instance of its own.
 */

import { LocalEngine, type ErrorSource } from './engine.js'
import { crashed } from './errors.js'
import init, { WasmNode } from './selkie.js'

let instance: Promise<unknown> | undefined
let broken = false
/** The nodes that run on it. */
const engines = new Set<LocalEngine>()

export async function pageEngine(
  load: () => Promise<WebAssembly.Module>,
  uncaught?: ErrorSource,
): Promise<LocalEngine> {
  if (broken) {
    throw crashed("a node crashed on this page before; reload it, or use run: 'worker'")
  }
  if (instance === undefined) {
    const module = await load()
    instance ??= init({ module_or_path: module })
  }
  try {
    await instance
  } catch (error) {
    instance = undefined
    throw error
  }
  const engine = new LocalEngine(WasmNode, uncaught, engines)
  engine.crash.listen(() => (broken = true))
  return engine
}
