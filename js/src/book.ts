/**
 * The node's address book over restarts: what it knows of its peers, kept where its identity is and under that one's lock.
 *
 * What is kept is read before the start; what is wrong with it costs the book and not the start. It is written at pauses that double, since a page may be gone
 * after a minute, when the page is hidden or goes, and at the node's end, and each time the node tells what it has then, in one piece of a megabyte or
 * less. Nobody waits for that but the end.
 */

import { words } from './application.js'
import type { Scope } from './lifecycle.js'
import type { BookStore } from './platform.js'

/** The first and the longest pause between two writings, in ms. */
const PAUSE = { first: 5_000, longest: 300_000 }

/** What was kept, or why it can't be had. */
export interface Found {
  bytes?: Uint8Array
  lost?: string
}

export async function readBook(store: BookStore): Promise<Found> {
  try {
    const found = await store.load()
    if (found === undefined) return {}
    return found instanceof Uint8Array ? { bytes: found } : { lost: 'it is no address book' }
  } catch (error) {
    return { lost: words(error) }
  }
}

export class BookKeeper {
  readonly #store: BookStore
  readonly #take: () => Promise<Uint8Array>
  readonly #failed: (reason: string) => void
  #writing: Promise<void> | undefined

  /** `take` gives the book as it is; `failed` is told why one is not kept. */
  constructor(store: BookStore, take: () => Promise<Uint8Array>, failed: (reason: string) => void) {
    this.#store = store
    this.#take = take
    this.#failed = failed
  }

  /** Writes it now and then, until the signal says that the node is over. */
  keep(scope: Scope | undefined, over: AbortSignal) {
    let timer: ReturnType<typeof setTimeout>
    const later = (pause: number) => {
      timer = setTimeout(() => {
        void this.write()
        later(Math.min(pause * 2, PAUSE.longest))
      }, pause)
    }
    later(PAUSE.first)
    over.addEventListener('abort', () => clearTimeout(timer), { once: true })
    const now = () => void this.write()
    scope?.addEventListener('pagehide', now, { signal: over })
    scope?.document?.addEventListener('visibilitychange', now, { signal: over })
  }

  /** Writes it, unless that is under way; resolves when it is done, however. */
  write(): Promise<void> {
    this.#writing ??= this.#write().finally(() => (this.#writing = undefined))
    return this.#writing
  }

  async #write() {
    let bytes
    try {
      bytes = await this.#take()
    } catch {
      // The node is over, and whoever ended it tells so.
      return
    }
    try {
      await this.#store.save(bytes)
    } catch (error) {
      this.#failed(words(error))
    }
  }
}
