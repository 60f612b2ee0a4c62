/**
 * The key that makes a node the same peer tomorrow, and that only one node may use at a time.
 *
 * Two nodes with one key look to their peers like one that connects twice: each kicks the other out.
 * So a store is locked for as long as the node runs. Where the lock is taken the second node is told
 * so, or gets a key of its own that is never stored, by the user's choice. Each platform has a store
 * (identity-browser.ts, identity-nodejs.ts); this file has the order of events, which is the same.
 */

import type { NodeOptions } from '../index.js'
import { IdentityInUseError, StorageError } from './errors.js'
import type { IdentityStore, Platform } from './platform.js'

export interface Identity {
  key: Uint8Array
  release(): Promise<void>
}

/** Far above any key in libp2p's protobuf encoding (RSA of 8192 bits takes 4.7 KB). */
const MAX_KEY_BYTES = 16 * 1024

export async function openIdentity(
  platform: Pick<Platform, 'openIdentity'>,
  generate: () => Promise<Uint8Array>,
  { storage, identityInUse }: Required<Pick<NodeOptions, 'storage' | 'identityInUse'>>,
  network: string,
): Promise<Identity> {
  const ephemeral = async () => ({ key: await generate(), release: async () => {} })
  if (storage === 'memory') return ephemeral()

  let store: IdentityStore
  try {
    store = await platform.openIdentity(storage, network)
  } catch (error) {
    if (error instanceof IdentityInUseError && identityInUse === 'ephemeral') return ephemeral()
    throw error
  }
  try {
    let key = await store.load()
    if (key === undefined) {
      key = await generate()
      await store.save(key)
    }
    return { key, release: () => store.unlock() }
  } catch (error) {
    await store.unlock().catch(() => {})
    throw error
  }
}

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
    `another node runs on the identity in ${place}; stop it, or pass identityInUse: 'ephemeral' for one that is not kept${remedy}`,
  )
}
