/**
 * A browser's address books: bytes in IndexedDB, of each network's one, in a database of their own. So nothing that is wrong there, or has
 * no room, stands in the way of the key. Whoever has the network's identity has its book (`identity-browser.ts`), and nobody else looks at it.
 *
 * The database stays open: a page that goes has no time to open it. Who wants to delete it has it closed.
 */

import type { BookStore } from './platform.js'
import { openDatabase, transact } from './indexed-db.js'

const DATABASE = 'selkie/book'
const STORE = 'book'

export class BrowserBook implements BookStore {
  readonly #network: string
  #database: IDBDatabase | undefined

  constructor(network: string) {
    this.#network = network
  }

  load(): Promise<unknown> {
    return this.#ask('readonly', (store) => store.get(this.#network))
  }

  async save(bytes: Uint8Array) {
    await this.#ask('readwrite', (store) => store.put(bytes, this.#network))
  }

  close() {
    this.#database?.close()
    this.#database = undefined
  }

  async #ask(mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest) {
    const database = (this.#database ??= await this.#open())
    return transact(database, STORE, mode, 'relaxed', ask)
  }

  async #open() {
    const database = await openDatabase(DATABASE, STORE)
    const gone = () => {
      database.close()
      if (this.#database === database) this.#database = undefined
    }
    database.onversionchange = gone
    database.onclose = gone
    return database
  }
}
