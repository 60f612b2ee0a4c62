/**
 * The node that the user holds: the engine's calls under their public names and types.
 *
 * State changes come as DOM events, in order, pulled from the engine one by one. Whatever can wait
 * goes through {@link Pending}, so that the node's end, in order or by a crash, settles it.
 */

import type {
  AbortOptions,
  Ban,
  BanOptions,
  Connection,
  DutyOptions,
  Gossip,
  GossipMessage,
  Item,
  ItemChannel,
  ItemKind,
  KnownPeer,
  Metrics,
  NodeEvents,
  Outcome,
  Peer,
  Score,
  SelkieNode,
  State,
  StateChange,
  StateOptions,
  StreamHandler,
  SubscribeOptions,
  Sync,
  SyncStatus,
  Topic,
  TransactionChannel,
  UnvalidatedMessage,
} from '../index.js'
import { words } from './application.js'
import { BookKeeper } from './book.js'
import type { Answer, Calls, Engine, Method } from './engine.js'
import { argument, revive, SelkieError, selkieError, stopped } from './errors.js'
import { unlessAborted, type Pending } from './pending.js'
import type { BookStore } from './platform.js'
import type { NodeEvent } from './selkie.js'
import { Duplex } from './streams.js'
import { Subscription } from './subscription.js'
import { watchLifecycle, type Moment, type Scope } from './lifecycle.js'

/** How long a node may take to stop, in ms. In order it takes up to 4 s, in which peers get what was accepted. */
const STOP = 10_000

/** What a started node is made of. */
export interface Parts {
  engine: Engine
  pending: Pending
  peerId: string
  /** Why its identity is not the stored one. */
  ephemeral: string | undefined
  /** Where its address book is kept, if anywhere, and why the last one is not there. */
  book: { store: BookStore; lost: string | undefined } | undefined
  /** Where the network's and the page's changes are told. */
  scope: Scope | undefined
  /** Whether the engine reads a log. */
  logs: boolean
  /** Lets go of the identity, for another node to use. */
  release(): Promise<void>
}

export class RunningNode extends EventTarget implements SelkieNode {
  readonly peerId: string
  readonly ephemeral: string | undefined
  readonly blocks: ItemChannel = this.#channel('block')
  readonly transactions: TransactionChannel = {
    ...this.#channel('transaction'),
    submitAll: async (list, { signal }: AbortOptions = {}) => {
      const outcomes: Outcome[] = []
      for (const piece of pieces(list)) {
        try {
          for (const one of await this.#ask(signal, 'submitAll', piece)) {
            outcomes.push('id' in one ? one : { error: revive(one) })
          }
        } catch (error) {
          // Of what went before, some may be sent: that is to be told.
          if (outcomes.length === 0 || !(error instanceof SelkieError)) throw error
          for (const _ of piece) outcomes.push({ error })
        }
      }
      return outcomes
    },
  }
  readonly votes: ItemChannel = this.#channel('vote')
  readonly gossip: Gossip = {
    publish: async (topic, bytes, { signal }: AbortOptions = {}) => {
      await this.#ask(signal, 'publish', checkText('topic', topic), checkBytes('bytes', bytes))
    },
    subscribe: ((topic: string, { validate = false, signal }: SubscribeOptions = {}) => {
      checkText('topic', topic)
      return this.#subscribe(
        () => this.#engine.call('subscribeTopic', topic, validate),
        (item) => this.#message(item as GossipMessage & { token: string }, validate),
        signal,
      )
    }) as Gossip['subscribe'],
    topics: async ({ signal }: AbortOptions = {}) => (await this.#ask(signal, 'topics')) as Topic[],
  }
  readonly state: State = {
    get: async (key, { at, peer, signal }: StateOptions = {}) => {
      checkBytes('key', key)
      if (at !== undefined && (typeof at !== 'bigint' || BigInt.asUintN(64, at) !== at)) {
        throw argument(`the height is ${String(at)}; give a bigint from 0n to 2n ** 64n - 1n`)
      }
      if (peer !== undefined) checkText('peer', peer)
      return this.#ask(signal, 'requestState', peer, key, at)
    },
    watch: (keys, { signal }: AbortOptions = {}) => {
      const checked = checkKeys(keys)
      return this.#subscribe(
        () => this.#engine.call('watchState', checked),
        (change) => change as StateChange,
        signal,
      )
    },
  }
  readonly sync: Sync = {
    status: async ({ signal }: AbortOptions = {}) =>
      (await this.#ask(signal, 'syncStatus')) as SyncStatus | undefined,
  }
  readonly #engine: Engine
  readonly #pending: Pending
  readonly #release: () => Promise<void>
  readonly #keeper: BookKeeper | undefined
  /** Aborted when the node is over. */
  readonly #over = new AbortController()
  /** Resolves when the last event is told; to whether the node has ended by itself or by stop(). */
  readonly #told: Promise<boolean>
  /** Who handles which protocol. */
  readonly #handlers = new Map<string, StreamHandler>()
  #accepting: Promise<void> | undefined
  #stopping: Promise<void> | undefined
  #finished: Promise<void> | undefined

  constructor({ engine, pending, peerId, ephemeral, book, scope, logs, release }: Parts) {
    super()
    this.#engine = engine
    this.#pending = pending
    this.#release = release
    this.peerId = peerId
    this.ephemeral = ephemeral
    // After the code that awaits createNode has had its turn to add listeners.
    this.#told = new Promise<void>((resolve) => setTimeout(resolve)).then(() => {
      if (ephemeral !== undefined) this.#emit('identity:ephemeral', { reason: ephemeral })
      if (book?.lost !== undefined) this.#emit('book:lost', { reason: book.lost })
      if (logs) void this.#tellLog().catch(() => {})
      return this.#pump()
    })
    this.#told.then((ended) => (ended ? this.stop() : undefined)).catch(() => {})
    this.#keeper =
      book &&
      new BookKeeper(
        book.store,
        () => this.#ask(undefined, 'saveBook'),
        (reason) => this.#emit('book:lost', { reason }),
      )
    this.#keeper?.keep(scope, this.#over.signal)
    if (scope) watchLifecycle(scope, (moment) => this.#lives(moment), this.#over.signal)
    // The crash is what there is to tell; a lock that can't be removed comes after it.
    engine.crash.listen(() => void this.#finish(pending.end).catch(() => {}))
  }

  async dial(address: string, { signal }: AbortOptions = {}) {
    const abort = new AbortController()
    try {
      return await this.#ask(signal, 'dial', checkText('address', address), abort.signal)
    } finally {
      // Where the node still dials, it gives that up.
      abort.abort()
    }
  }

  async disconnect(peerId: string, { signal }: AbortOptions = {}) {
    await this.#ask(signal, 'disconnect', checkText('peerId', peerId))
  }

  async handle(protocol: string, handler: StreamHandler, { signal }: AbortOptions = {}) {
    checkText('protocol', protocol)
    if (typeof handler !== 'function') {
      throw argument(`the handler is ${describe(handler)}; give a function`)
    }
    if (this.#handlers.has(protocol)) {
      throw argument(`${protocol} is handled already; end that first, by its signal`)
    }
    this.#handlers.set(protocol, handler)
    const end = () => {
      this.#handlers.delete(protocol)
      this.#ask(undefined, 'unhandle', protocol).catch(() => {})
    }
    try {
      await this.#ask(signal, 'handle', protocol)
    } catch (error) {
      end()
      throw error
    }
    signal?.addEventListener('abort', end, { once: true, signal: this.#over.signal })
    this.#accepting ??= this.#accept().catch(() => {})
  }

  async open(peerId: string, protocol: string, { signal }: AbortOptions = {}) {
    checkText('peerId', peerId)
    checkText('protocol', protocol)
    const abort = new AbortController()
    let opening: Promise<number> | undefined
    const open = () => (opening = this.#engine.call('open', peerId, protocol, abort.signal))
    try {
      const id = await this.#pending.wait(open, signal)
      return this.#duplex(id, peerId, protocol)
    } catch (error) {
      // It may be open all the same.
      opening?.then((id) => this.#engine.call('reset', id)).catch(() => {})
      throw error
    } finally {
      abort.abort()
    }
  }

  async peers({ signal }: AbortOptions = {}) {
    return (await this.#ask(signal, 'peers')) as Peer[]
  }

  async score(peerId: string, { signal }: AbortOptions = {}) {
    return (await this.#ask(signal, 'score', checkText('peerId', peerId))) as Score
  }

  async book({ signal }: AbortOptions = {}) {
    return (await this.#ask(signal, 'book')) as KnownPeer[]
  }

  async bans({ signal }: AbortOptions = {}) {
    return (await this.#ask(signal, 'bans')) as Ban[]
  }

  async ban(who: string, { forMs, signal }: BanOptions = {}) {
    if (forMs !== undefined && !(typeof forMs === 'number' && forMs > 0)) {
      throw argument(`forMs is ${String(forMs)}; give milliseconds, or leave it out`)
    }
    await this.#ask(signal, 'ban', checkText('who', who), forMs)
  }

  async unban(who: string, { signal }: AbortOptions = {}) {
    return this.#ask(signal, 'unban', checkText('who', who))
  }

  async protect(peerId: string, tag: string, { signal }: AbortOptions = {}) {
    await this.#ask(signal, 'protect', checkText('peerId', peerId), checkText('tag', tag))
  }

  async unprotect(peerId: string, tag: string, { signal }: AbortOptions = {}) {
    return this.#ask(signal, 'unprotect', checkText('peerId', peerId), checkText('tag', tag))
  }

  async expectDuty(
    peers: readonly string[],
    { inMs = 0, forMs, signal }: Partial<DutyOptions> = {},
  ) {
    if (!Array.isArray(peers)) throw argument(`the peers are ${describe(peers)}; give an array`)
    const named = peers.map((peer, index) => checkText(`peers[${index}]`, peer))
    const [begins, lasts] = [checkTime('inMs', inMs), checkTime('forMs', forMs)]
    await this.#ask(signal, 'expectDuty', named, begins, lasts)
  }

  async connections({ signal }: AbortOptions = {}) {
    return (await this.#ask(signal, 'connections')) as Connection[]
  }

  async metrics({ signal }: AbortOptions = {}) {
    return (await this.#ask(signal, 'metrics')) as Metrics
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  async #stop() {
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(), STOP)
    let error: SelkieError | undefined
    let isLate = false
    // With those in it that are connected now.
    const kept = this.#keeper?.write()
    try {
      if (!this.#pending.end) {
        await this.#ask(late.signal, 'stop')
        await this.#pending.wait(() => this.#told, late.signal)
      }
      // A storage that hangs keeps nobody from stopping.
      if (kept) await unlessAborted(kept, late.signal, async () => {}).catch(() => {})
    } catch (reason) {
      isLate = late.signal.aborted
      const message = `the node has not stopped within ${STOP / 1000} s; it is left to itself, and its identity stays in use`
      error = isLate ? new SelkieError('timeout', message, { fatal: true }) : selkieError(reason)
    } finally {
      clearTimeout(timer)
    }
    try {
      await this.#finish(error)
    } catch (last) {
      // The error to tell is the one that came first.
      throw error ?? last
    }
    if (error !== undefined && !isLate) throw error
  }

  #finish(error?: SelkieError): Promise<void> {
    this.#finished ??= (async () => {
      this.#over.abort()
      this.#pending.fail(stopped())
      try {
        const closed = this.#engine.close(this.#release)
        // Who is late once may be for ever.
        if (error?.code === 'timeout') closed.catch(() => {})
        else await closed
      } finally {
        this.#emit('node:stop', error ? { error } : {})
      }
    })()
    return this.#finished
  }

  async #pump(): Promise<boolean> {
    try {
      for (;;) {
        const event = await this.#ask(undefined, 'nextEvent')
        if (event === undefined) return true
        this.#tell(event)
      }
    } catch {
      // The node ended in another way, and whoever ended it tells so.
      return false
    }
  }

  /** Tells the log's lines until the node ends. */
  async #tellLog() {
    for (;;) {
      const events = await this.#ask(undefined, 'nextLog')
      if (events === undefined) return
      for (const event of events) this.#tell(event)
    }
  }

  #tell({ type, ...detail }: NodeEvent) {
    // Peers that were found together come together; here each is an event.
    const each = type === 'peer:discovered' ? (detail['peers'] as Peer[]) : [detail]
    for (const detail of each) this.#emit(type, detail)
  }

  /** Hands the streams that peers open to their handlers, until the node ends. */
  async #accept() {
    for (;;) {
      const arrival = await this.#ask(undefined, 'nextStream')
      if (arrival === undefined) return
      const { protocol, peer, stream } = arrival
      void this.#serve(this.#duplex(stream, peer, protocol))
    }
  }

  async #serve(stream: Duplex) {
    const { protocol, peer } = stream
    const handler = this.#handlers.get(protocol)
    // It is handled no more.
    if (handler === undefined) return stream.abort()
    try {
      await handler(stream)
      await stream.end()
    } catch (error) {
      stream.abort(error)
      // What the peer or the connection has broken off is no failure of the handler's.
      if (this.#pending.end || stream.failedBy(error)) return
      this.#emit('protocol:error', { protocol, peerId: peer, reason: words(error) })
    }
  }

  #duplex(id: number, peer: string, protocol: string): Duplex {
    return new Duplex(this.#engine, this.#pending, id, peer, protocol)
  }

  /** The network or the page has changed: is over what may have ended connections, they are looked at at once. */
  #lives(moment: Moment) {
    this.#emit(moment, {})
    const isOver = moment === 'network:online' || moment === 'node:resume'
    if (isOver) this.#ask(undefined, 'wake').catch(() => {})
  }

  #emit<K extends keyof NodeEvents>(type: K, detail: NodeEvents[K]): void
  #emit(type: string, detail: object): void
  #emit(type: string, detail: object) {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }

  #ask<M extends Method>(
    signal: AbortSignal | undefined,
    method: M,
    ...args: Parameters<Calls[M]>
  ): Answer<M> {
    return this.#pending.wait(() => this.#engine.call(method, ...args), signal)
  }

  #subscribe<T>(open: () => Promise<number>, shape: (item: unknown) => T, signal?: AbortSignal) {
    return new Subscription(this.#engine, this.#pending, open, shape, signal)
  }

  #channel(kind: ItemKind): ItemChannel {
    return {
      subscribe: ({ signal }: AbortOptions = {}) =>
        this.#subscribe(
          () => this.#engine.call('subscribe', kind),
          (item) => item as Item,
          signal,
        ),
      submit: async (bytes, { signal }: AbortOptions = {}) =>
        this.#ask(signal, 'submit', kind, checkBytes(kind, bytes)),
    }
  }

  #message(
    { token, ...message }: GossipMessage & { token: string },
    validate: boolean,
  ): GossipMessage | UnvalidatedMessage {
    if (!validate) return message
    return { ...message, report: (verdict) => this.#ask(undefined, 'report', token, verdict) }
  }
}

/**
 * No configuration takes more in one piece (`MAX_ITEM` in Rust). What is larger is not even copied
 * into the WebAssembly, which ends where there is no memory for it.
 */
const MAX_BYTES = 4 * 1024 * 1024
/** What one call of many items copies at most. */
const PIECE = 1024 * 1024

function checkBytes(name: string, value: Uint8Array): Uint8Array {
  if (!(value instanceof Uint8Array)) {
    throw argument(`${name} is ${describe(value)}; give a Uint8Array`)
  }
  const size = value.byteLength
  if (size <= MAX_BYTES) return value
  throw new SelkieError('too-large', `${size} bytes are over the limit of ${MAX_BYTES} (${name})`)
}

/** Transactions in pieces that are copied one after the other. */
function pieces(list: readonly Uint8Array[]): Uint8Array[][] {
  if (!Array.isArray(list)) throw argument(`the list is ${describe(list)}; give an array`)
  const pieces: Uint8Array[][] = []
  let room = 0
  for (const [index, bytes] of list.entries()) {
    const { byteLength } = checkBytes(`transactions[${index}]`, bytes)
    if (pieces.length === 0 || byteLength > room) {
      pieces.push([])
      room = PIECE
    }
    room -= byteLength
    pieces.at(-1)!.push(bytes)
  }
  return pieces
}

/** What a watch takes, and what Rust would say of the rest. */
const MAX_KEYS = 64

function checkKeys(keys: readonly Uint8Array[]): Uint8Array[] {
  if (!Array.isArray(keys)) throw argument(`the keys are ${describe(keys)}; give an array`)
  if (keys.length === 0 || keys.length > MAX_KEYS) {
    throw argument(`${keys.length} keys; give 1 to ${MAX_KEYS}, and watch others by another call`)
  }
  return keys.map((key, index) => checkBytes(`keys[${index}]`, key))
}

function checkText(name: string, value: string): string {
  if (typeof value === 'string' && value !== '') return value
  throw argument(`${name} is ${describe(value)}; give a string that is not empty`)
}

function checkTime(name: string, value: number | undefined): number {
  if (typeof value === 'number' && value >= 0) return value
  throw argument(`${name} is ${String(value)}; give milliseconds`)
}

function describe(value: unknown): string {
  return value === '' ? 'an empty string' : value === null ? 'null' : `of type ${typeof value}`
}
