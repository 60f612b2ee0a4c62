/**
 * The promises that wait for the node, so that none waits for ever.
 *
 * Each wait ends by its answer, by its caller's `AbortSignal`, or by the node's end, whichever is
 * first. (A `Promise.race` against one long-lived promise would keep a reaction in memory for every
 * call ever made; a set of rejections holds those that are pending, and no more.)
 */

import { selkieError, type SelkieError } from './errors.js'

export class Pending {
  readonly #rejections = new Set<(error: SelkieError) => void>()
  #end: SelkieError | undefined

  /** Why nothing can be waited for any more. */
  get end(): SelkieError | undefined {
    return this.#end
  }

  wait<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#end) return reject(this.#end)
      if (signal?.aborted) return reject(signal.reason)
      const abort = () => fail(signal?.reason)
      const done = () => {
        this.#rejections.delete(fail)
        signal?.removeEventListener('abort', abort)
      }
      const fail = (error: unknown) => {
        done()
        reject(error)
      }
      this.#rejections.add(fail)
      signal?.addEventListener('abort', abort, { once: true })
      work().then(
        (value) => {
          done()
          resolve(value)
        },
        (error) => fail(selkieError(error)),
      )
    })
  }

  /** Rejects all that waits, and whatever is asked for later. */
  fail(error: SelkieError) {
    if (this.#end) return
    this.#end = error
    for (const reject of [...this.#rejections]) reject(error)
  }
}

/**
 * What a work comes to, or the signal's reason at once. The work goes on then: what it comes to late
 * is given to `undo`.
 */
export function unlessAborted<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
  undo: (late: T) => Promise<void>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal?.reason)
    if (signal?.aborted) abort()
    else signal?.addEventListener('abort', abort, { once: true })
    work
      .finally(() => signal?.removeEventListener('abort', abort))
      .then((value) => {
        if (signal?.aborted) undo(value).catch(() => {})
        else resolve(value)
      }, reject)
  })
}
