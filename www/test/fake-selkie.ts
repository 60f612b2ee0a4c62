// A stand-in for the package, for tests of the page alone: it speaks the same interface, reaches no
// network, and does what the test says in `fake` events on the window. An address with port 1 in it
// refuses, one with port 2 answers and is gone before it is seen, the first time, one with port 3 never answers; every other one connects. The root element tells the settings it was given. It is built in under SELKIE_FAKE=1 only;
// what it has of a node the compiler compares with the package's types.

import type * as selkie from 'selkie'
import type {
  AbortOptions,
  ErrorCode,
  Item,
  ItemKind,
  Metrics,
  NodeEvents,
  NodeOptions,
  Outcome,
  Peer,
  SelkieNode,
  TransactionChannel,
} from 'selkie'
import { parseHex, randomBytes, toHex } from '../src/bytes'

/** What a test may ask for. */
export type Command =
  | { do: 'items'; kind: 'block' | 'transaction'; count: number }
  | { do: 'forge' }
  | ({ do: 'log' } & NodeEvents['log'])
  | { do: 'sync'; done: number; total: number; trouble?: string }
  | { do: 'leave' }
  | { do: 'crash' }

export class SelkieError extends Error implements selkie.SelkieError {
  readonly fatal: boolean

  constructor(
    readonly code: ErrorCode,
    message: string,
    { fatal = false }: { fatal?: boolean } = {},
  ) {
    super(message)
    this.fatal = fatal
  }
}

/** The headers of Bitcoin's first blocks with their ids, so that the page has something to check. */
const HEADERS: readonly (readonly [id: string, header: string])[] = [
  [
    '000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f',
    '0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c',
  ],
  [
    '00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048',
    '010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299',
  ],
]

const PEERS = [
  '12D3KooWGzBhKQ3sYyWmJxVvXh1yQ4rTzNqfPbUe8dLkA5nCwMtE',
  '12D3KooWLr7pHd2nXvEo9cUyTbSgQkMzJ4fWaRqBhN6iPxDs3tVu',
  '12D3KooWSn5uYx8kFmZaLeQ2hCvTgRj7WbPqDdNi4oGyXrHs1wKt',
]

class Channel implements TransactionChannel {
  readonly #kind: ItemKind
  #waiting: Item[] = []
  #wake: () => void = () => {}
  #failure: Error | undefined

  constructor(kind: ItemKind) {
    this.#kind = kind
  }

  push(id: string, data: Uint8Array): void {
    const [source = ''] = PEERS
    this.#waiting.push({ kind: this.#kind, id, data, source, receivedAt: Date.now(), missed: 0 })
    this.#wake()
  }

  fail(error: Error): void {
    this.#failure = error
    this.#wake()
  }

  async *subscribe({ signal }: { signal?: AbortSignal } = {}): AsyncGenerator<Item> {
    signal?.addEventListener('abort', () => this.#wake())
    while (signal?.aborted !== true) {
      if (this.#failure) throw this.#failure
      const items = this.#waiting
      this.#waiting = []
      yield* items
      if (this.#waiting.length === 0) await new Promise<void>((wake) => (this.#wake = wake))
    }
  }

  async submit(bytes: Uint8Array): Promise<string> {
    if (bytes.length < 8) throw new SelkieError('rejected', 'The chain refused it: too short.')
    return toHex(randomBytes(32))
  }

  submitAll(list: readonly Uint8Array[]): Promise<Outcome[]> {
    return Promise.all(list.map(async (bytes) => ({ id: await this.submit(bytes) })))
  }
}

/** What the page has of a node. */
type Used = Pick<
  SelkieNode,
  'peerId' | 'blocks' | 'transactions' | 'votes' | 'dial' | 'peers' | 'metrics' | 'stop'
>

class Node extends EventTarget implements Used {
  readonly peerId = '12D3KooWTabTabTabTabTabTabTabTabTabTabTabTabTabTabTab'
  readonly blocks = new Channel('block')
  readonly transactions = new Channel('transaction')
  readonly votes = new Channel('vote')
  #peers: Peer[] = []
  #fled = false
  #read = 0
  #in = 0
  #out = 0

  constructor() {
    super()
    addEventListener('fake', (event) => this.#obey((event as CustomEvent<Command>).detail))
  }

  async dial(address: string, { signal }: AbortOptions = {}): Promise<string> {
    if (address.includes('/tcp/1/')) {
      const message =
        'Nobody answers at port 1. Check that the node is running and that the port is right'
      this.#tell('dial:error', { address, message })
      throw new SelkieError('dial', message)
    }
    if (address.includes('/tcp/3/')) {
      return new Promise((_, reject) =>
        signal?.addEventListener('abort', () => reject(signal.reason)),
      )
    }
    if (address.includes('/tcp/2/') && !this.#fled) {
      this.#fled = true
      return PEERS[0] ?? ''
    }
    const transports = ['ws', 'webtransport', 'webrtc-direct']
    for (const [at, peerId] of PEERS.entries()) {
      const transport = transports[at] ?? 'ws'
      const peer: Peer = {
        peerId,
        addresses: [address],
        agent: 'selkie/0.1.0 (native)',
        transport,
        rttMs: at === 2 ? null : 0.8 + 11.6 * at,
        selkie: true,
        direction: at === 2 ? 'inbound' : 'outbound',
        connectedAt: Date.now(),
        reputation: 0,
      }
      this.#peers[at] ??= peer
      this.#tell('peer:connect', { ...peer, address })
    }
    return PEERS[0] ?? ''
  }

  async peers(): Promise<Peer[]> {
    return this.#peers
  }

  async metrics(): Promise<Metrics> {
    this.#read += 1
    if (this.#peers.length > 0) {
      this.#in += 400_000 * (1.2 + Math.sin(this.#read / 3) + Math.sin(this.#read))
      this.#out += 90_000 * (1.5 + Math.cos(this.#read / 2))
    }
    return {
      connections: {
        total: this.#peers.length,
        active: this.#peers.length,
        successRate: 1,
        averageConnectMs: 12,
        bandwidthUtilization: 0,
      },
      messages: {
        sent: this.#read,
        received: this.#read,
        itemsTurnedAway: 0,
        bytesSent: this.#out,
        bytesReceived: Math.max(0, this.#in),
        latencyP99Ms: 4,
        successRate: 1,
      },
      peers: {
        count: this.#peers.length,
        distribution: {},
        uptimeMs: {},
        reputation: {},
        eclipseSigns: [],
      },
    }
  }

  async stop(): Promise<void> {
    this.#peers = []
  }

  #tell<K extends keyof NodeEvents>(type: K, detail: NodeEvents[K]): void {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }

  #obey(command: Command): void {
    switch (command.do) {
      case 'items':
        for (let at = 0; at < command.count; at += 1) this.#item(command.kind, at)
        break
      case 'forge':
        this.blocks.push('00'.repeat(32), parseHex(HEADERS[0]?.[1] ?? ''))
        break
      case 'log':
        this.#tell('log', command)
        break
      case 'sync': {
        const { done, total, trouble } = command
        const progress = { done: BigInt(done), total: BigInt(total), rate: 250, etaSeconds: 12 }
        this.#tell('sync:progress', trouble === undefined ? progress : { ...progress, trouble })
        break
      }
      case 'leave':
        for (const { peerId } of this.#peers.splice(0)) {
          this.#tell('peer:disconnect', { peerId, reason: 'the peer closed the connection.' })
        }
        break
      case 'crash':
        this.blocks.fail(
          new SelkieError('crashed', 'The node crashed. Start it again.', { fatal: true }),
        )
    }
  }

  #item(kind: 'block' | 'transaction', at: number): void {
    if (kind === 'transaction') {
      this.transactions.push(toHex(randomBytes(32)), randomBytes(200 + ((at * 37) % 600)))
      return
    }
    const [id, header] = HEADERS[at % HEADERS.length] ?? ['', '']
    const data = new Uint8Array(285 + ((at * 199_933) % 999_000))
    data.set(parseHex(header))
    this.blocks.push(id, data)
  }
}

export async function createNode({ network, config, onProgress }: NodeOptions): Promise<Used> {
  document.documentElement.dataset['config'] = JSON.stringify(config)
  const total = 1_730_000
  for (const loaded of [0, 600_000, total]) onProgress?.({ loaded, total })
  if (typeof network === 'object' && network.id === 'broken') {
    throw new SelkieError('load', 'The WebAssembly could not be fetched. Reload the page.', {
      fatal: true,
    })
  }
  return new Node()
}
