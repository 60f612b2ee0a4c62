/** What the key and the address book have in common in IndexedDB: a database with one object store each. */

export function openDatabase(name: string, store: string): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1)
    request.onupgradeneeded = () => request.result.createObjectStore(store)
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })
}

/** One request in one transaction; resolves when that is done, of a `strict` one when it has reached the disk. */
export async function transact(
  database: IDBDatabase,
  store: string,
  mode: IDBTransactionMode,
  durability: IDBTransactionDurability,
  ask: (store: IDBObjectStore) => IDBRequest,
): Promise<unknown> {
  const transaction = database.transaction(store, mode, { durability })
  const request = ask(transaction.objectStore(store))
  // What a page writes as it goes is not left to the end of this turn.
  transaction.commit?.()
  await new Promise((resolve, reject) => {
    transaction.oncomplete = resolve
    transaction.onabort = () => reject(transaction.error)
  })
  return request.result
}
