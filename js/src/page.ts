/**
 * The WebAssembly on the calling thread: one instance of each build, shared by all nodes of the page.
 *
 * So one node's crash is the end of all of that build, and of any that would come later: a new instance takes a
 * new page. A worker has an instance of its own.
 */

import { crashAll, LocalEngine, type Glue } from './engine.js'
import { crashed } from './errors.js'
import { instantiate, type GlueModule } from './instance.js'

interface Instance {
  glue: Promise<Glue> | undefined
  isBroken: boolean
  /** The nodes that run on it. */
  engines: Set<LocalEngine>
}

/** By the glue. */
const instances = new Map<GlueModule | string, Instance>()

export async function pageEngine(
  load: () => Promise<WebAssembly.Module>,
  glue: GlueModule | string,
): Promise<LocalEngine> {
  const instance: Instance = instances.get(glue) ?? {
    glue: undefined,
    isBroken: false,
    engines: new Set(),
  }
  instances.set(glue, instance)
  if (instance.isBroken) {
    throw crashed(
      "a node crashed on this page before; reload it, in Node start a new process, or use run: 'worker'",
    )
  }
  if (instance.glue === undefined) {
    const module = await load()
    instance.glue ??= instantiate(module, glue, (words) => {
      instance.isBroken = true
      crashAll(instance.engines, words)
    })
  }
  try {
    const engine = new LocalEngine(await instance.glue, instance.engines)
    engine.crash.listen(() => (instance.isBroken = true))
    return engine
  } catch (error) {
    instance.glue = undefined
    throw error
  }
}
