/** The browser: a page or a worker of its own, IndexedDB, and files by `fetch`. */

import { RemoteEngine, type Port } from './bridge.js'
import type { ErrorSource } from './engine.js'
import { StorageError } from './errors.js'
import { openBrowserIdentity } from './identity-browser.js'
import type { Scope } from './lifecycle.js'
import { loadModule } from './loader.js'
import { pageEngine } from './page.js'
import type { OwnBuilds, Platform } from './platform.js'

export function browserPlatform(builds: OwnBuilds, startWorker: () => Worker): Platform {
  return {
    defaultStorage: 'indexeddb',
    builds,
    scope: scope(),
    async engine(run, { glue, module }, options) {
      const load = () => loadModule(module(), options)
      if (run === 'page') return pageEngine(load, glue, scope())
      return RemoteEngine.open(workerPort(startWorker()), load(), glue, options.signal)
    },
    async openIdentity(storage, ...network) {
      if (storage === 'indexeddb') return openBrowserIdentity(...network)
      throw new StorageError(
        'storage',
        "a browser has no directories; pass storage: 'indexeddb' or 'memory'",
      )
    },
  }
}

/** The global scope, where it is one that hears of anything: uncaught errors, the network, the page's life. */
function scope(): (ErrorSource & Scope) | undefined {
  return typeof globalThis.addEventListener === 'function' ? globalThis : undefined
}

function workerPort(worker: Worker): Port {
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer),
    onMessage: (listener) => worker.addEventListener('message', ({ data }) => listener(data)),
    onFailure: (listener) =>
      // Without a message the script itself could not be loaded.
      worker.addEventListener('error', ({ message }) =>
        listener(message || "its script did not load; does the page's policy allow workers?"),
      ),
    close: async () => worker.terminate(),
  }
}
