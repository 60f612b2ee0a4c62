/**
 * `createNode`, for any platform: options are checked, the WebAssembly loads, the identity is locked
 * and read, the node starts. Whatever step fails, what the steps before it took is given back, the
 * lock last.
 */

import type { NodeOptions, SelkieNode } from '../index.js'
import { readBook } from './book.js'
import type { Engine } from './engine.js'
import { crashed, selkieError } from './errors.js'
import { openIdentity } from './identity.js'
import { RunningNode } from './node.js'
import { applicationOf, buildOf, checkChoices, nodeConfig } from './options.js'
import { Pending, unlessAborted } from './pending.js'
import type { BookStore, Platform } from './platform.js'

export function createNodeOn(platform: Platform): (options: NodeOptions) => Promise<SelkieNode> {
  return async function createNode(options) {
    const config = nodeConfig(options)
    checkChoices(options)
    const application = applicationOf(options)
    const build = buildOf(options, config.chain.application, platform.builds)
    const { signal, onProgress, run = 'page', log } = options
    const { storage, identityInUse = 'error' } = options
    signal?.throwIfAborted()

    let engine: Engine | undefined
    let release = async () => {}
    try {
      const running = await unlessAborted(
        platform.engine(run, build, { signal, onProgress }),
        signal,
        (late) => late.close(release),
      )
      engine = running
      const pending = new Pending()
      running.crash.listen((message) => pending.fail(crashed(message)))

      if (log !== undefined) await pending.wait(() => running.call('openLog', log), signal)
      let { identity: key } = config
      let ephemeral: string | undefined
      let keeps = false
      let store: BookStore | undefined
      if (key === undefined) {
        const identity = await openIdentity(
          platform,
          () => pending.wait(() => running.call('generateIdentity'), signal),
          { storage, identityInUse, signal },
          config.chain.network_id,
        )
        key = identity.key
        release = identity.release
        ephemeral = identity.ephemeral
        keeps = identity.place === 'indexeddb'
        store = identity.book
      }

      const kept = store && (await unlessAborted(readBook(store), signal, async () => {}))
      const identified = { ...config, identity: key }
      const start = () => running.call('start', identified, application, keeps, kept?.bytes)
      const peerId = await pending.wait(start, signal)
      let lost = kept?.lost
      if (kept?.bytes) lost = await pending.wait(() => running.call('bookLost'), signal)
      const { scope } = platform
      const book = store && { store, lost }
      const parts = { engine: running, pending, peerId, ephemeral, book, scope, release }
      return new RunningNode({ ...parts, logs: log !== undefined })
    } catch (error) {
      // The error to tell is the one that came first, whatever else goes wrong on the way back.
      await engine?.close(release).catch(() => {})
      signal?.throwIfAborted()
      throw selkieError(error)
    }
  }
}
