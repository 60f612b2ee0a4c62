/**
 * What the built-in chains store in a browser, deleted. The WebAssembly has one database for each chain and network, under a Web Lock of
 * the same name; nothing of it is needed to take them away.
 */

import type { NetworkId } from '../index.js'
import { StorageError } from './errors.js'
import { networkNamed } from './options.js'

const KINDS = ['ledger', 'light']

/** How long a node that has just ended may hold its database still, as the WebAssembly waits for it. */
const PATIENCE = 2000

export async function clearStorage(network: string | NetworkId): Promise<void> {
  const { id, genesis } = networkNamed(network)
  for (const name of await stored(id, genesis?.toLowerCase())) {
    try {
      await navigator.locks.request(name, { signal: AbortSignal.timeout(PATIENCE) }, () =>
        deleted(name),
      )
    } catch (cause) {
      if (Object(cause).name !== 'TimeoutError') throw failed(cause)
      const message =
        `this browser's database "${name}" is in use: stop the node that runs on it, in whatever tab, and try again; ` +
        "one with run: 'page' that has crashed lets go of it only when its page is reloaded"
      throw new StorageError('storage-locked', message, { cause })
    }
  }
}

/** The names of the databases of a network: of this genesis, or of any. */
async function stored(id: string, genesis: string | undefined): Promise<string[]> {
  try {
    const databases = await indexedDB.databases()
    const isMeant = (name: string) =>
      KINDS.some((kind) => {
        const begins = `selkie/${kind}/${id}/`
        const rest = name.slice(begins.length)
        return name.startsWith(begins) && (genesis ? rest === genesis : /^[0-9a-f]*$/.test(rest))
      })
    return databases.flatMap(({ name }) => (name !== undefined && isMeant(name) ? [name] : []))
  } catch (cause) {
    throw failed(cause)
  }
}

function deleted(name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.deleteDatabase(name)
    request.onsuccess = () => resolve()
    request.onerror = () => reject(request.error)
  })
}

function failed(cause: unknown): StorageError {
  const message = `what is stored can't be cleared: ${cause}; clear this site's data in the browser's settings`
  return new StorageError('storage', message, { cause })
}
