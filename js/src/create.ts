/**
 * `createNode`, for any platform: options are checked, the WebAssembly loads, the identity is locked
 * and read, the node starts. Whatever step fails, what the steps before it took is given back.
 */

import type { NodeOptions, SelkieNode } from '../index.js'
import { crashed, selkieError } from './errors.js'
import { openIdentity } from './identity.js'
import { RunningNode } from './node.js'
import { checkChoices, nodeConfig } from './options.js'
import { Pending } from './pending.js'
import type { Platform } from './platform.js'

export function createNodeOn(platform: Platform): (options: NodeOptions) => Promise<SelkieNode> {
  return async function createNode(options) {
    const config = nodeConfig(options)
    checkChoices(options)
    const { signal, onProgress, wasm, run = 'page' } = options
    const { storage = platform.defaultStorage, identityInUse = 'error' } = options
    signal?.throwIfAborted()

    const undo: (() => Promise<void>)[] = []
    try {
      const engine = await platform.engine(run, wasm, { signal, onProgress })
      undo.push(async () => engine.close())
      const pending = new Pending()
      engine.crash.listen((message) => pending.fail(crashed(message)))

      const generate = () => pending.wait(() => engine.call('generateIdentity'), signal)
      const { key, release } = config.identity
        ? { key: config.identity, release: async () => {} }
        : await openIdentity(
            platform,
            generate,
            { storage, identityInUse },
            config.chain?.['network_id'] as string,
          )
      undo.push(release)

      const start = () => engine.call('start', { ...config, identity: key })
      const peerId = await pending.wait(start, signal)
      return new RunningNode({ engine, pending, peerId, release })
    } catch (error) {
      // The error to tell is the one that came first, whatever else goes wrong on the way back.
      for (const step of undo.reverse()) await step().catch(() => {})
      signal?.throwIfAborted()
      throw selkieError(error)
    }
  }
}
