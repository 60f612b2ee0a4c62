/** The browser: a page or a worker of its own, IndexedDB, and files by `fetch`. */

import { inFull, isOwn } from './address.js'
import { RemoteEngine, type Port } from './bridge.js'
import { StorageError } from './errors.js'
import { openBrowserIdentity } from './identity-browser.js'
import type { Scope } from './lifecycle.js'
import { loadModule } from './loader.js'
import { pageEngine } from './page.js'
import type { OwnBuilds, Platform } from './platform.js'

/** `worker` is the address of the worker's program, which is one file. */
export function browserPlatform(builds: OwnBuilds, worker: () => URL): Platform {
  return {
    defaultStorage: 'indexeddb',
    builds,
    scope: scope(),
    async engine(run, { glue, module }, options) {
      const load = () => loadModule(module(), options)
      if (run === 'page') return pageEngine(load, glue)
      return RemoteEngine.open(
        workerPort(startWorker(inFull(worker()))),
        load(),
        glue,
        options.signal,
      )
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

/** The global scope, where it is one that hears of anything: the network, the page's life. */
function scope(): Scope | undefined {
  return typeof globalThis.addEventListener === 'function' ? globalThis : undefined
}

/** Programs that import those of other origins, by these: one for all workers, as long as there is the page. */
const imports = new Map<string, string>()

/** A browser starts workers by programs of the page's own origin only, and of the package on another host, such as a CDN, by one that imports it. */
function startWorker(worker: URL): Worker {
  let address = worker.href
  if (!isOwn(worker)) {
    const text = `import ${JSON.stringify(address)}`
    const own = imports.get(address) ?? scriptAddress(text)
    imports.set(address, own)
    address = own
  }
  return new Worker(address, { type: 'module', name: 'selkie' })
}

/** Of a program that stands in memory. */
export function scriptAddress(text: string): string {
  return URL.createObjectURL(new Blob([text], { type: 'text/javascript' }))
}

function workerPort(worker: Worker): Port {
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer),
    onMessage: (listener) => worker.addEventListener('message', ({ data }) => listener(data)),
    onFailure: (listener) => {
      // Without a message the script itself could not be loaded.
      worker.addEventListener('error', ({ message }) =>
        listener(
          message ||
            "its script did not load; does the page's policy allow it by worker-src (of another origin that, and blob:), and that origin that it is used here?",
        ),
      )
      worker.addEventListener('messageerror', () => listener('a message can not be read'))
    },
    close: async () => worker.terminate(),
  }
}
