/** The entry for Node: files are read, identities are files, workers are threads. */

import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { Worker, type TransferListItem } from 'node:worker_threads'
import type { NetworkId } from '../index.js'
import { RemoteEngine, type Port } from './bridge.js'
import { createNodeOn } from './create.js'
import { LoadError, StorageError } from './errors.js'
import { openFileIdentity } from './identity-nodejs.js'
import { compileBytes, loadModule, type LoadOptions, type WasmSource } from './loader.js'
import { networkNamed } from './options.js'
import { pageEngine } from './page.js'
import * as selkie from './selkie.js'

export const createNode = createNodeOn({
  defaultStorage: 'memory',
  builds: {
    selkie: () => ({ glue: selkie, module: () => new URL('./selkie_bg.wasm', import.meta.url) }),
    ledger: () => ({
      glue: new URL('./ledger.js', import.meta.url).href,
      module: () => new URL('./ledger_bg.wasm', import.meta.url),
    }),
  },
  async engine(run, { glue, module }, options) {
    const load = () => loadFileOrModule(module(), options)
    if (run === 'page') return pageEngine(load, glue)
    const worker = new Worker(new URL('./worker-nodejs.js', import.meta.url), { name: 'selkie' })
    return RemoteEngine.open(threadPort(worker), load(), glue, options.signal)
  },
  async openIdentity(storage, _network, waits, signal) {
    if (typeof storage === 'object') return openFileIdentity(storage.directory, waits, signal)
    throw new StorageError(
      'storage',
      "Node has no IndexedDB; pass storage: { directory: 'path' } or 'memory'",
    )
  },
})

/** A chain stores nothing here; what is asked is done. */
export async function clearStorage(network: string | NetworkId): Promise<void> {
  networkNamed(network)
}

export * from './public-errors.js'

/** `fetch` of Node does not read files. */
async function loadFileOrModule(source: WasmSource, options: LoadOptions) {
  if (!(source instanceof URL) || source.protocol !== 'file:') return loadModule(source, options)
  const path = fileURLToPath(source)
  let bytes
  try {
    bytes = await readFile(path, { signal: options.signal })
  } catch (cause) {
    options.signal?.throwIfAborted()
    throw new LoadError(
      'load',
      `can't read ${path}: ${cause}; install the package again, or pass the file's bytes as \`wasm\``,
      { cause },
    )
  }
  return compileBytes(bytes, options, path)
}

function threadPort(worker: Worker): Port {
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer as TransferListItem[]),
    onMessage: (listener) => worker.on('message', listener),
    onFailure: (listener) => {
      worker.on('error', (error) => listener(String(error)))
      worker.on('messageerror', (error) => listener(`a message can not be read: ${error}`))
      worker.on('exit', (code) => listener(`it exited with code ${code}`))
    },
    close: async () => void (await worker.terminate()),
  }
}
