// One life of the node behind the page, from `createNode` to its end. It turns the node's events,
// streams and readings into calls of a few hooks and knows nothing of the page; a restart is a
// second session.

import {
  createNode,
  SelkieError,
  type Item,
  type ItemChannel,
  type NodeEvents,
  type Peer,
  type SelkieNode,
  type SyncProgress,
} from 'selkie'
import { sentence } from './address'
import { short } from './format'
import type { Invitation } from './invitation'
import type { Level } from './views/log'

/** What a session tells. None of them is called after `stop`. */
export interface Hooks {
  /** Bytes of the wasm file fetched so far; `total` is zero where the server doesn't say. */
  progress(loaded: number, total: number): void
  block(item: Item): void
  transaction(item: Item): void
  /** The peers there are now: each second, and whenever one came or went. */
  peers(peers: readonly Peer[]): void
  traffic(bytesIn: number, bytesOut: number): void
  /** How far the chain is, if it is one that is synced. */
  sync(progress: SyncProgress): void
  log(level: Level, message: string): void
  /** The node is no more, and not because of `stop`. */
  failed(error: unknown): void
}

/** How often peers and traffic are read, in milliseconds. */
const READING = 1000

/** A running node, and the reading of it. */
export class Session {
  readonly #life = new AbortController()
  readonly #hooks: Hooks
  #node: SelkieNode | undefined
  #reading = false

  constructor(hooks: Hooks) {
    this.#hooks = hooks
  }

  /** Aborted when the session ends, one way or the other. */
  get signal(): AbortSignal {
    return this.#life.signal
  }

  /** Starts the node; resolves to its peer id. */
  async start({ network, config }: Invitation, run: 'page' | 'worker'): Promise<string> {
    const node = await createNode({
      network,
      config,
      // The page dials by itself, to show below the field why a dial failed.
      bootstrap: [],
      run,
      // A second tab is a second node.
      identityInUse: 'ephemeral',
      signal: this.signal,
      onProgress: ({ loaded, total = 0 }) => this.#hooks.progress(loaded, total),
    })
    if (this.signal.aborted) {
      await node.stop()
      this.signal.throwIfAborted()
    }
    this.#node = node
    this.#listen(node)
    void this.#pump(node.blocks, 'block')
    void this.#pump(node.transactions, 'transaction')
    const timer = setInterval(() => void this.#read(), READING)
    this.signal.addEventListener('abort', () => clearInterval(timer))
    return node.peerId
  }

  /** Dials an address; resolves to the peer's id once it is ready. */
  async dial(address: string, signal: AbortSignal): Promise<string> {
    const peerId = await this.#running().dial(address, {
      signal: AbortSignal.any([signal, this.signal]),
    })
    await this.#read()
    return peerId
  }

  /** Publishes a transaction; resolves to its id. */
  submit(bytes: Uint8Array): Promise<string> {
    return this.#running().transactions.submit(bytes, { signal: this.signal })
  }

  /** Ends the node in order. */
  async stop(): Promise<void> {
    this.#life.abort()
    await this.#node?.stop()
  }

  #running(): SelkieNode {
    if (this.#node === undefined || this.signal.aborted) {
      throw new Error('The node is not running yet. Try again in a moment.')
    }
    return this.#node
  }

  #listen(node: SelkieNode): void {
    const on = <K extends keyof NodeEvents>(type: K, told: (detail: NodeEvents[K]) => void): void =>
      node.addEventListener(type, ({ detail }) => told(detail), { signal: this.signal })
    const { log } = this.#hooks
    on('peer:connect', ({ peerId, transport }) => {
      log('info', `Connected to ${short(peerId)} over ${transport}.`)
      void this.#read()
    })
    on('peer:disconnect', ({ peerId, reason }) => {
      log('info', `${short(peerId)} has gone: ${reason}`)
      void this.#read()
    })
    on('peer:refused', ({ peerId, reason }) => log('warn', `Refused ${short(peerId)}: ${reason}`))
    on('peer:identify', ({ peerId, agent }) => log('debug', `${short(peerId)} is ${agent}.`))
    on('peer:discovered', ({ peerId, addresses }) =>
      log('debug', `Heard of ${short(peerId)} at ${addresses.slice(0, 4).join(', ')}.`),
    )
    on('peer:score', ({ peerId, reason, score }) =>
      log('debug', `${short(peerId)} now scores ${score.toFixed(1)}: ${reason}`),
    )
    on('dial:error', ({ address, peerId, message }) =>
      log('warn', `Could not reach ${whom(peerId, address)}: ${message}`),
    )
    on('item:refused', ({ kind, source, reason }) =>
      log('warn', `Refused a ${kind} from ${short(source)}: ${reason}`),
    )
    on('gossip:impaired', ({ peerId, reason }) =>
      log('warn', `Gossip with ${short(peerId)} does not work: ${reason}`),
    )
    on('eclipse:suspected', ({ signs }) =>
      log(
        'warn',
        signs.length === 0
          ? 'Nothing suggests any more that this node is surrounded.'
          : `This node may be surrounded by an attacker: ${signs.join(', ')}.`,
      ),
    )
    on('sync:progress', (progress) => this.#hooks.sync(progress))
    on('lagged', ({ missed }) => log('warn', `The page was too slow for ${missed} events.`))
    on('network:offline', () => log('warn', 'There is no network.'))
    on('network:online', () => log('info', 'There is a network again; asking who is still there.'))
    on('node:wake', ({ sleptMs }) =>
      log('info', `Slept for ${Math.round(sleptMs / 1000)} s; asking who is still there.`),
    )
    on('identity:ephemeral', ({ reason }) =>
      log('info', `This node's identity lasts as long as the page: ${reason}`),
    )
    on('book:lost', ({ reason }) =>
      log('warn', `The address book could not be read or kept: ${reason}`),
    )
    on('log', ({ level, message }) => log(level, message))
    on('node:stop', ({ error }) => this.#fail(error ?? new Error('The node has ended.')))
  }

  async #pump(channel: ItemChannel, kind: 'block' | 'transaction'): Promise<void> {
    try {
      for await (const item of channel.subscribe({ signal: this.signal })) {
        if (item.missed > 0) {
          this.#hooks.log('warn', `The page was too slow for ${item.missed} ${kind}s.`)
        }
        this.#hooks[kind](item)
      }
      if (!this.signal.aborted) throw new Error(`The stream of ${kind}s has ended.`)
    } catch (error) {
      this.#fail(error)
    }
  }

  /** Reads peers and traffic; a reading that is under way is not started twice. */
  async #read(): Promise<void> {
    const node = this.#node
    if (node === undefined || this.#reading || this.signal.aborted) return
    this.#reading = true
    try {
      const [peers, metrics] = await Promise.all([node.peers(), node.metrics()])
      if (this.signal.aborted) return
      this.#hooks.peers(peers)
      this.#hooks.traffic(metrics.messages.bytesReceived, metrics.messages.bytesSent)
    } catch (error) {
      if (error instanceof SelkieError && error.fatal) this.#fail(error)
      else if (!this.signal.aborted) this.#hooks.log('warn', sentence(error))
    } finally {
      this.#reading = false
    }
  }

  #fail(error: unknown): void {
    if (this.signal.aborted) return
    this.#life.abort()
    this.#hooks.failed(error)
  }
}

function whom(peerId: string | undefined, address: string | undefined): string {
  return peerId === undefined ? (address ?? 'a peer') : short(peerId)
}
