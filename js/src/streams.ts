/**
 * A stream of a protocol of one's own: the engine's, by its number, as two web streams.
 *
 * Nothing moves that nobody asks for: each read of the user's is one of the engine's, and a write is done when the network had room for
 * it. So an end that is slow holds up the other one, and costs no memory here. A stream is reset as a whole, so an
 * error of one direction is one of both.
 */

import type { ProtocolStream } from '../index.js'
import type { Engine } from './engine.js'
import { argument, SelkieError } from './errors.js'
import type { Pending } from './pending.js'

/** What one write copies at most. */
const PIECE = 64 * 1024

export class Duplex implements ProtocolStream {
  readonly peer: string
  readonly protocol: string
  readonly readable: ReadableStream<Uint8Array>
  readonly writable: WritableStream<Uint8Array>
  readonly #engine: Engine
  readonly #pending: Pending
  readonly #id: number
  #reading!: ReadableStreamDefaultController<Uint8Array>
  #writing!: WritableStreamDefaultController
  #isRead = false
  #isWritten = false

  constructor(engine: Engine, pending: Pending, id: number, peer: string, protocol: string) {
    this.#engine = engine
    this.#pending = pending
    this.#id = id
    this.peer = peer
    this.protocol = protocol
    this.readable = new ReadableStream<Uint8Array>(
      {
        start: (controller) => void (this.#reading = controller),
        pull: () => this.#pull(),
        cancel: () => this.#ended({ read: true }),
      },
      { highWaterMark: 0 },
    )
    this.writable = new WritableStream<Uint8Array>({
      start: (controller) => void (this.#writing = controller),
      write: (chunk) => this.#write(chunk),
      close: () => this.#close(),
      abort: (reason) => this.fail(reason),
    })
  }

  /** Ends it in order, as far as that is not done: what was written arrives, and nobody reads any more. */
  async end() {
    // A writer that somebody has kept can't be closed here.
    await (this.writable.locked ? this.#close() : this.writable.close()).catch(() => {})
    this.fail(new SelkieError('reset', 'the stream is over: its handler has ended'))
  }

  /** Resets it, unless it is over. */
  fail(reason: unknown) {
    this.#reading.error(reason)
    this.#writing.error(reason)
    this.#ended({ read: true, written: true })
  }

  async #pull() {
    const piece = await this.#ask(() => this.#engine.call('read', this.#id))
    if (this.#isRead) return
    if (piece !== undefined) return this.#reading.enqueue(piece)
    this.#reading.close()
    this.#ended({ read: true })
  }

  async #write(chunk: Uint8Array) {
    if (!(chunk instanceof Uint8Array)) {
      const error = argument('what is written to a stream is a Uint8Array')
      this.fail(error)
      throw error
    }
    for (let begin = 0; begin < chunk.length; begin += PIECE) {
      const piece = chunk.subarray(begin, begin + PIECE)
      await this.#ask(() => this.#engine.call('write', this.#id, piece))
    }
  }

  async #close() {
    if (this.#isWritten) return
    await this.#ask(() => this.#engine.call('closeWrite', this.#id))
    this.#ended({ written: true })
  }

  async #ask<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await this.#pending.wait(work)
    } catch (error) {
      this.fail(error)
      throw error
    }
  }

  /** What has ended both ways, the engine may forget. */
  #ended({ read = this.#isRead, written = this.#isWritten }) {
    if (this.#isRead && this.#isWritten) return
    this.#isRead = read
    this.#isWritten = written
    if (read && written) this.#engine.call('reset', this.#id).catch(() => {})
  }
}
