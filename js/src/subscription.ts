/**
 * A stream of items as an async iterator that pulls.
 *
 * A `next()` that finds nothing here asks the node, which hands over what it has, 64 items or 64 KiB
 * at most: that is the reader's credit. Between calls nothing moves to JavaScript; the node keeps a
 * bounded queue and counts what it drops (`missed`). So a slow reader costs a queue, never the page's
 * memory. Calls of `next()` that overlap take turns.
 *
 * It ends by `return()` (which leaving a `for await` loop calls), by its signal, whose reason the
 * `next()` under way rejects with, when the node stops, and by a crash, which `next()` throws once.
 */

import type { Engine } from './engine.js'
import { StoppedError } from './errors.js'
import type { Pending } from './pending.js'

const END: IteratorReturnResult<undefined> = { done: true, value: undefined }

export class Subscription<T> implements AsyncIterableIterator<T> {
  readonly #engine: Engine
  readonly #pending: Pending
  readonly #handle: Promise<number>
  readonly #shape: (item: unknown) => T
  readonly #signal: AbortSignal | undefined
  /** What was handed over and not read yet. */
  #items: unknown[] = []
  #turn: Promise<unknown> = Promise.resolve()
  /** Forgets the caller's signal, which may outlive all this and would keep it. */
  #unhear = () => {}
  #ended = false
  /** The signal ended it, and no `next()` has said so yet. */
  #aborted = false

  /** `open` is called at once, so that no item is missed before the first `next()`. */
  constructor(
    engine: Engine,
    pending: Pending,
    open: () => Promise<number>,
    shape: (item: unknown) => T,
    signal?: AbortSignal,
  ) {
    this.#engine = engine
    this.#pending = pending
    this.#shape = shape
    this.#signal = signal
    this.#handle = signal?.aborted ? Promise.reject(signal.reason) : pending.wait(open)
    // The first next() throws it; without a reader there is nobody to tell.
    this.#handle.catch(() => {})
    if (signal?.aborted) this.#abort()
    else if (signal) this.#hear(signal)
  }

  [Symbol.asyncIterator]() {
    return this
  }

  next(): Promise<IteratorResult<T>> {
    const turn = this.#turn.then(() => this.#pull())
    this.#turn = turn.catch(() => {})
    return turn
  }

  async return(): Promise<IteratorResult<T>> {
    this.#close()
    return END
  }

  async #pull(): Promise<IteratorResult<T>> {
    if (this.#ended && !this.#aborted) return END
    try {
      if (this.#items.length === 0 || this.#aborted) {
        const items = await this.#pending.wait(
          async () => this.#engine.call('next', await this.#handle),
          this.#signal,
        )
        this.#items = items ?? []
      }
      if (this.#items.length > 0 && !this.#ended) {
        return { done: false, value: this.#shape(this.#items.shift()) }
      }
      this.#close()
    } catch (error) {
      this.#close()
      this.#aborted = false
      if (!(error instanceof StoppedError)) throw error
    }
    return END
  }

  /** Until the subscription ends, or the node, whether or not anybody reads on. */
  #hear(signal: AbortSignal) {
    signal.addEventListener('abort', this.#abort, { once: true })
    const closed = new Promise<void>((resolve) => {
      this.#unhear = () => {
        signal.removeEventListener('abort', this.#abort)
        resolve()
      }
    })
    this.#pending.wait(() => closed).catch(this.#unhear)
  }

  readonly #abort = () => {
    this.#aborted = true
    this.#close()
  }

  #close() {
    if (this.#ended) return
    this.#ended = true
    this.#items = []
    this.#unhear()
    // Also when the subscription is still being opened. That it fails once the node has ended is
    // what was wanted.
    this.#pending
      .wait(async () => this.#engine.call('unsubscribe', await this.#handle))
      .catch(() => {})
  }
}
