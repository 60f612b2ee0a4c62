/**
 * What wasm-bindgen makes of `src/web/`, as far as the facade uses it. Private: it may change with
 * any release, and nothing outside this folder sees it.
 */

import type { ErrorReport } from './errors.js'

export class WasmNode {
  private constructor()
  static start(
    config: object,
    application: object | undefined,
    keeps: boolean,
    book: Uint8Array | undefined,
  ): Promise<WasmNode>
  static generateIdentity(): Uint8Array
  static version(): string
  /** A reader of the log; where no line of it is compiled in there is none. */
  static openLog?: (level: string) => WasmLog
  /** What is called when this instance panics, in place of whoever was before, with the panic's words. */
  static onPanic(listener: (words: string) => void): void
  peerId(): string
  dial(address: string, abort: AbortSignal): Promise<string>
  disconnect(peerId: string): Promise<void>
  nextEvent(): Promise<NodeEvent | undefined>
  subscribe(kind: string): number
  subscribeTopic(topic: string, validate: boolean): Promise<number>
  next(subscription: number): Promise<unknown[] | undefined>
  unsubscribe(subscription: number): void
  report(token: string, verdict: string): Promise<void>
  submit(kind: string, bytes: Uint8Array): Promise<string>
  submitAll(transactions: Uint8Array[]): Promise<({ id: string } | ErrorReport)[]>
  publish(topic: string, bytes: Uint8Array): Promise<void>
  requestState(
    peerId: string | undefined,
    key: Uint8Array,
    height: bigint | undefined,
  ): Promise<{ height: bigint; value: Uint8Array; proof: Uint8Array }>
  watchState(keys: Uint8Array[]): Promise<number>
  handle(protocol: string): Promise<void>
  unhandle(protocol: string): Promise<void>
  nextStream(): Promise<{ protocol: string; peer: string; stream: number } | undefined>
  open(peerId: string, protocol: string, abort: AbortSignal): Promise<number>
  read(stream: number): Promise<Uint8Array | undefined>
  write(stream: number, bytes: Uint8Array): Promise<void>
  closeWrite(stream: number): Promise<void>
  reset(stream: number): void
  /** Resolves when the stream's connection has ended, and rejects where the stream is over. */
  connectionEnd(stream: number): Promise<void>
  peers(): unknown
  score(peerId: string): unknown
  book(): unknown
  saveBook(): Uint8Array
  bookLost(): string | undefined
  bans(): unknown
  ban(who: string, time: number | undefined): Promise<void>
  unban(who: string): boolean
  protect(peerId: string, tag: string): void
  unprotect(peerId: string, tag: string): boolean
  expectDuty(peers: string[], inMs: number, forMs: number): Promise<void>
  connections(): unknown
  topics(): Promise<unknown>
  metrics(): unknown
  syncStatus(): unknown
  wake(): Promise<void>
  stop(): Promise<void>
}

export interface WasmLog {
  /** The next lines, and what was dropped before them; undefined after the end. */
  next(): Promise<NodeEvent[] | undefined>
  end(): void
}

/** An event with its detail's fields. */
export type NodeEvent = { type: string } & Record<string, unknown>

export default function init(options: { module_or_path: WebAssembly.Module }): Promise<unknown>

/** The package's own glue has it (watch.ts). */
export const onException: typeof import('./watch.js').onException | undefined
