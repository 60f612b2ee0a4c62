/**
 * A stream of a protocol of one's own: the engine's, by its number, as two web streams.
 *
 * One piece is read before anybody asks for it, so that the end and a reset are heard though nobody reads; beyond that nothing moves
 * that nobody asks for, and a write is done when the network had room for it. So an end that is slow holds up the
 * other one, and costs a piece here. A stream is reset as a whole, so an error of one direction is one of both; and what was not sent
 * to its end has no end: it is reset.
 */

import type { ProtocolStream } from '../index.js'
import type { Engine } from './engine.js'
import { argument, SelkieError } from './errors.js'
import type { Pending } from './pending.js'

/** What one write copies at most. */
const PIECE = 64 * 1024

const UNSENT =
  'its handler ended before what it had written was sent, so the stream was reset; await each write, or the close'

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
  #isPulling = false
  /** Chunks that wait, or are being sent. */
  #unsent = 0
  #closing: Promise<void> | undefined
  /** Why it is over before its end, and whether it was not given up here. */
  #reason: unknown
  #isBroken = false

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
      { highWaterMark: 1 },
    )
    this.writable = new WritableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#writing = controller
          // The sink's own `abort` is called when the write that is under way has ended only. The writable fails by itself.
          const { signal } = controller
          signal.addEventListener('abort', () => this.#reset(signal.reason))
        },
        write: (chunk) => this.#write(chunk),
        close: () => {
          // It comes when all has been sent; what is written from now on is refused, and counts for nothing.
          this.#unsent = 0
          return this.#close()
        },
      },
      {
        highWaterMark: 1,
        // Asked also of what is then refused, since the stream is closing.
        size: () => {
          if (!this.#closing) this.#unsent += 1
          return 1
        },
      },
    )
    void this.#watch()
  }

  /** Ends it in order, as far as that is not done: nobody reads any more. Throws where something written is not sent. */
  async end() {
    if (this.#unsent > 0 && !this.#isWritten) throw new SelkieError('reset', UNSENT)
    // A writer that somebody has kept can't be closed here, nor can what is closing already. A failure has reset it.
    await this.#close().catch(() => {})
    this.abort(new SelkieError('reset', 'the stream is over: its handler has ended'))
  }

  abort(reason: unknown = new SelkieError('reset', 'the stream was given up')) {
    this.#writing.error(reason)
    this.#reset(reason)
  }

  /** Whether this is what the stream itself failed by, and no failure of who has it. */
  failedBy(error: unknown): boolean {
    return this.#isBroken && error === this.#reason
  }

  #reset(reason: unknown) {
    this.#reason ??= reason
    this.#reading.error(reason)
    this.#ended({ read: true, written: true })
  }

  /** Hears of the end of the connection, whoever reads or writes just then, and of the node's. */
  async #watch() {
    const over = await this.#ask(() => this.#engine.call('connectionEnd', this.#id)).then(
      () => new SelkieError('reset', 'the stream was reset: its connection has ended'),
      () => undefined,
    )
    if (over === undefined) return
    if (!this.#isWritten) {
      // What has come may be read still.
      this.#isBroken ||= this.#reason === undefined
      this.#reason ??= over
      this.#writing.error(over)
      this.#ended({ written: true })
    }
    // Who waits for more need not be told: asked again, the engine says so.
    if (this.#isPulling && !this.#isRead) await this.#pull().catch(() => {})
  }

  async #pull() {
    this.#isPulling = true
    const piece = await this.#ask(() => this.#engine.call('read', this.#id))
    this.#isPulling = false
    if (this.#isRead) return
    if (piece !== undefined) return this.#reading.enqueue(piece)
    this.#reading.close()
    this.#ended({ read: true })
  }

  async #write(chunk: Uint8Array) {
    if (!(chunk instanceof Uint8Array)) {
      const error = argument('what is written to a stream is a Uint8Array')
      this.abort(error)
      throw error
    }
    if (this.#closing) throw new SelkieError('reset', 'the stream is over: its handler has ended')
    for (let begin = 0; begin < chunk.length; begin += PIECE) {
      const piece = chunk.subarray(begin, begin + PIECE)
      await this.#ask(() => this.#engine.call('write', this.#id, piece))
    }
    this.#unsent -= 1
  }

  #close(): Promise<void> {
    this.#closing ??= (async () => {
      if (this.#isWritten) return
      await this.#ask(() => this.#engine.call('closeWrite', this.#id))
      this.#ended({ written: true })
    })()
    return this.#closing
  }

  async #ask<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await this.#pending.wait(work)
    } catch (error) {
      this.#isBroken ||= this.#reason === undefined
      // All that waits is told the same.
      const reason = this.#reason ?? error
      this.abort(reason)
      throw reason
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
