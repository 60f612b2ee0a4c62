/**
 * The key that makes a node the same peer tomorrow, and that only one node may use at a time.
 *
 * Two nodes with one key look to their peers like one that connects twice: each kicks the other out.
 * So a store is locked for as long as the node runs. Where the lock is taken the second node is told
 * so, waits for its turn, or gets a key of its own that is never stored, by the user's choice. Such a key
 * it gets too where the platform's own choice of a place does not work here. Each platform has a store
 * (identity-browser.ts, identity-nodejs.ts); this file has the order of events, which is the same.
 */

import type { NodeOptions } from '../index.js'
import { IdentityInUseError, StorageError } from './errors.js'
import { unlessAborted } from './pending.js'
import type { BookStore, IdentityStore, Platform } from './platform.js'

export interface Identity {
  key: Uint8Array
  /** Where it is kept. */
  place: NonNullable<NodeOptions['storage']>
  /** Why it is not the stored one, where it was to be. */
  ephemeral?: string
  /** Where its address book is kept; one that is not stored has none. */
  book?: BookStore
  release(): Promise<void>
}

export interface Wanted {
  /** **Default:** the platform's. */
  storage: NodeOptions['storage']
  identityInUse: NonNullable<NodeOptions['identityInUse']>
  signal: AbortSignal | undefined
}

/** Far above any key in libp2p's protobuf encoding (RSA of 8192 bits takes 4.7 KB). */
const MAX_KEY_BYTES = 16 * 1024

type Opener = Pick<Platform, 'openIdentity' | 'defaultStorage'>

/**
 * An abort ends the waiting at once. What is under way in the storage then ends by itself, and the lock is held until it has: else
 * a key could be written under another node.
 */
export function openIdentity(
  platform: Opener,
  generate: () => Promise<Uint8Array>,
  wanted: Wanted,
  network: string,
): Promise<Identity> {
  const opening = open(platform, generate, wanted, network)
  return unlessAborted(opening, wanted.signal, (late) => late.release())
}

async function open(
  platform: Opener,
  generate: () => Promise<Uint8Array>,
  { storage, identityInUse, signal }: Wanted,
  network: string,
): Promise<Identity> {
  const place = storage ?? platform.defaultStorage
  const memory = async () => ({
    key: await generate(),
    place: 'memory' as const,
    release: async () => {},
  })
  if (place === 'memory') return memory()

  try {
    return await stored(platform.openIdentity(place, network, identityInUse === 'wait', signal))
  } catch (error) {
    const isTaken = error instanceof IdentityInUseError && identityInUse === 'ephemeral'
    // Who has named a place wants that one.
    const isMissing = error instanceof NoStorageError && storage === undefined
    if (isTaken || isMissing) return { ...(await memory()), ephemeral: error.message }
    throw error
  }

  async function stored(opening: Promise<IdentityStore>): Promise<Identity> {
    const store = await opening
    try {
      signal?.throwIfAborted()
      let key = await store.load()
      if (key === undefined) {
        key = await generate()
        await store.save(key)
      }
      return { key, place, book: store.book, release: () => store.unlock() }
    } catch (error) {
      await store.unlock().catch(() => {})
      throw error
    }
  }
}

/** This place keeps nothing, whatever it is given. */
export class NoStorageError extends StorageError {}

/** What a store found, if it can be a key at all; the node then decodes it. */
export function checkedKey(found: unknown, place: string): Uint8Array {
  if (found instanceof Uint8Array && found.length > 0 && found.length <= MAX_KEY_BYTES) return found
  throw new StorageError(
    'storage',
    `${place} holds no identity key; delete it to get a new identity, or restore it from a backup`,
  )
}

/** `lock`: a file that can be deleted where nobody holds it in truth. */
export function inUse(place: string, lock?: string): IdentityInUseError {
  const remedy = lock === undefined ? '' : `; where none does, delete ${lock}`
  return new IdentityInUseError(
    'identity-in-use',
    `another node runs on the identity in ${place}; stop it, or pass identityInUse: 'wait' for your turn, or 'ephemeral' for one that is not kept${remedy}`,
  )
}
