/**
 * A browser's store: the raw key in IndexedDB, under a Web Lock of the same name.
 *
 * The browser lets go of the lock when a tab closes or crashes, so no lock is ever left behind. Each
 * network has a key of its own, so that a peer can't tell one user's networks belong together. Who has the lock has the network's address book too.
 */

import { BrowserBook } from './book-browser.js'
import { StorageError } from './errors.js'
import { checkedKey, inUse, NoStorageError } from './identity.js'
import { openDatabase, transact } from './indexed-db.js'
import type { IdentityStore } from './platform.js'

const DATABASE = 'selkie'
const STORE = 'identity'

export async function openBrowserIdentity(
  network: string,
  waits = false,
  signal?: AbortSignal,
): Promise<IdentityStore> {
  if (globalThis.indexedDB === undefined || globalThis.navigator?.locks === undefined) {
    throw new NoStorageError(
      'storage',
      "this place has no IndexedDB and Web Locks (they take https or localhost); pass storage: 'memory'",
    )
  }
  const place = `this browser's storage for the network ${network}`
  const unlock = await lock(
    `selkie/identity/${network}`,
    waits ? { signal } : { ifAvailable: true },
  )
  if (unlock === undefined) throw inUse(place)
  const book = new BrowserBook(network)
  return {
    book,
    async load() {
      const found = await withStore('readonly', (store) => store.get(network))
      return found === undefined ? undefined : checkedKey(found, place)
    },
    async save(key) {
      await withStore('readwrite', (store) => store.put(key, network))
    },
    async unlock() {
      book.close()
      unlock()
    },
  }
}

/** Resolves to what unlocks, or to nothing where another tab holds the lock. */
function lock(
  name: string,
  options: { signal: AbortSignal | undefined } | { ifAvailable: true },
): Promise<(() => void) | undefined> {
  return new Promise((resolve, reject) => {
    navigator.locks
      .request(name, options as LockOptions, (held) => {
        if (held === null) return resolve(undefined)
        return new Promise<void>((unlock) => resolve(unlock))
      })
      .catch((cause) => reject(failed('Web Locks', cause)))
  })
}

/** A page without an origin of its own (a sandboxed frame) has them and may use none; any other failure may hide a key that is there. */
function failed(what: string, cause: unknown): StorageError {
  const message = `${what} failed: ${cause}; allow this site to store data, or pass storage: 'memory'`
  const isForbidden = Object(cause).name === 'SecurityError'
  return new (isForbidden ? NoStorageError : StorageError)('storage', message, { cause })
}

/** One request in one transaction; resolves when the transaction has reached the disk. */
async function withStore(
  mode: IDBTransactionMode,
  ask: (store: IDBObjectStore) => IDBRequest,
): Promise<unknown> {
  let database: IDBDatabase | undefined
  try {
    database = await openDatabase(DATABASE, STORE)
    return await transact(database, STORE, mode, 'strict', ask)
  } catch (cause) {
    throw failed('IndexedDB', cause)
  } finally {
    database?.close()
  }
}
