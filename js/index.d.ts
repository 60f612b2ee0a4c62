/// <reference lib="esnext.disposable" />

import type { Config } from './config.js'

export type * from './config.js'

/**
 * Selkie: one node of a blockchain's network, in a page, a worker or Node.
 *
 * ```js
 * const node = await createNode({ network: 'selkie-dev', bootstrap })
 * node.addEventListener('peer:connect', (event) => console.log(event.detail.peerId))
 * for await (const block of node.blocks.subscribe()) console.log(block.id)
 * ```
 *
 * State changes are events, data comes through async iterators. Bytes are `Uint8Array`, heights
 * are `bigint`, ids are strings, times are milliseconds since 1970.
 *
 * An `AbortSignal` ends the waiting: the promise rejects with the signal's reason. A dial is given up
 * then, and its peer let go; what was already sent to the network is not taken back.
 *
 * This file is written by hand and is the contract of the package.
 */

/** Starts a node. Resolves once it has an identity and is dialling its bootstrap peers. */
export function createNode(options: NodeOptions): Promise<SelkieNode>

/**
 * Deletes what the built-in chains (`network.application`) have stored in this browser of a network: of all that have its id, or of the one with
 * the genesis that is given. Identities and address books stay. It is for a network that has begun anew with the same genesis: a node follows nothing that
 * leaves what was final before, and says so as `trouble` of `sync:progress`.
 *
 * Rejects with a {@link StorageError}, of code `storage-locked` as long as a node runs on it; one with `run: 'page'` that has crashed is on it
 * until its page is reloaded. In Node, and with `storage: 'memory'`, a chain stores nothing: a new node begins anew.
 */
export function clearStorage(network: string | NetworkId): Promise<void>

export interface NodeOptions {
  /** The network to join: its id, or its id with the genesis hash that peers must share. */
  network: string | NetworkId
  /**
   * Your own chain's rules, in place of the built-in ones of `network.application`: an object; or the URL of a module whose default
   * export is one, or a function that makes one or promises to. With `run: 'worker'` give the URL, as
   * `new URL('./chain.js', import.meta.url)`: the module is loaded and runs in the worker. No bundler looks into it, so it has to
   * stand alone or to import by whole addresses. Or the name of a chain that is built in, as `network.application`, or that a build of your
   * own has registered ({@link NodeOptions.wasm}); of the built-in ones such a build has the ledgers only where its crate asks for the
   * feature `ledger` of `selkie`.
   */
  application?: Application | URL | string
  /** Multiaddrs of peers to dial first, such as `/ip4/192.0.2.1/tcp/4001/ws/p2p/12D3Koo…`. */
  bootstrap?: readonly string[]
  /**
   * Where the identity and the address book are kept, and what a built-in chain stores (that in IndexedDB only, else in memory). **Default:** `'indexeddb'` in browsers, `'memory'` (a new identity
   * each time) in Node, where `{ directory }` keeps it in a file that only its owner may read. By default a browser that lets
   * this page keep or lock nothing (plain http that is not localhost, a sandboxed frame) starts with an identity that lives as long as the node,
   * which `identity:ephemeral` tells; with `'indexeddb'` given, that is a {@link StorageError}.
   */
  storage?: Storage
  /**
   * What to do when another tab or process runs a node on the stored identity: reject with
   * {@link IdentityInUseError}; wait until that node has stopped, or `signal` ends the waiting; or run with an identity that
   * lives as long as the node, which `identity:ephemeral` tells. `'wait'` is for what mounts before its predecessor has stopped: React's
   * StrictMode, hot reloading, a change of routes. **Default:** `'error'`.
   */
  identityInUse?: 'wait' | 'error' | 'ephemeral'
  /**
   * Whether the node runs on the calling thread or in a worker of its own. Only a page can use
   * WebRTC; a worker keeps the page smooth. **Default:** `'page'`.
   */
  run?: 'page' | 'worker'
  /**
   * Gives up starting. Has no effect on a node that has started: that takes `node.stop()`. On the calling thread a start that
   * is under way can't be cut short: `createNode` rejects at once, and the identity stays in use until the start has ended.
   */
  signal?: AbortSignal
  /**
   * Any other setting, in the shape and with the names of the TOML file. Options above win.
   * With `config.identity`, `storage` is not used, and no address book kept.
   */
  config?: NodeConfig
  /**
   * The WebAssembly, when it is not to be found beside the package's JavaScript: `selkie_bg.wasm`, or of a ledger `ledger_bg.wasm`; or one
   * of your own, a crate on top of `selkie` that registers its chains, with the glue that belongs to it.
   */
  wasm?: WasmSource | WasmBuild
  /**
   * What the WebAssembly says of its work, up to this level: to the console of the thread that the node runs on, at once, and as `log` events. Nodes of one
   * thread share their WebAssembly (`wasm`), and its log: each hears the lines of all. `'debug'` and `'trace'` have those of all its libraries and slow the node
   * down. The package's own WebAssembly is built without a line of it, and then this is a {@link ConfigError}: give a build of your own
   * ({@link NodeOptions.wasm}) whose crate does not ask for the feature `silent` of `selkie`. **Default:** no such lines.
   */
  log?: LogLevel
  /** Called as the WebAssembly arrives; `total` is absent when the server does not tell. */
  onProgress?: (progress: { loaded: number; total?: number }) => void
}

export interface NetworkId {
  id: string
  /** The genesis hash in hex, 64 bytes at most, which all peers must share. **Default:** empty. */
  genesis?: string
  /**
   * Which built-in rules check the items. **Default:** `'opaque'`: any item that is not empty. `'ledger'` is a small account chain with
   * the development keys of its network, for trying out; it is synced, and kept where the identity is, if that is IndexedDB. Of
   * `'ledger-light'` only the headers are here, and what `node.state.get` gives was proven against a final one. For these two another
   * WebAssembly is loaded, larger by what they need.
   */
  application?: 'opaque' | 'bitcoin' | 'ledger' | 'ledger-light'
}

/**
 * What a chain says about items on their way through the network, as the trait of the same name does in Rust.
 *
 * Each call returns a value or a promise, and has `protocol.validation.application_timeout` (10 s) for it. One that throws, rejects,
 * is late, or answers in a wrong shape has failed: the item is ignored, nobody pays, and `application:error` tells of it. What comes too
 * late is not heard. Calls come many at a time, and those whose answer is a value follow each other without a pause, so such
 * a call should be quick; of calls whose answer is a promise, those for one batch of items are under way together, and at most
 * `protocol.validation.max_in_flight` batches. The bytes are the application's own: it may keep, change or transfer them.
 *
 * Do not await the node's own `submit` in a call: that waits for a place among the checks, and each call has one of them until it ends. Where
 * all of them wait so, the deadline ends them.
 */
export interface Application {
  /** Identifies and checks a transaction. `hash` is the SHA-256 of its bytes, which the network knows already. */
  checkTransaction(bytes: Uint8Array, hash: Uint8Array): Checked | PromiseLike<Checked>
  /** The same for a block. */
  checkBlock(bytes: Uint8Array, hash: Uint8Array): Checked | PromiseLike<Checked>
  /** The same for a consensus vote. */
  checkVote(bytes: Uint8Array, hash: Uint8Array): Checked | PromiseLike<Checked>
  /**
   * Checks a block's header alone, before the block is fetched: its `id`, which is needed here, is the block's. It should cost a
   * forger more than it costs us. **Default:** ignored; blocks are announced by their id alone.
   */
  checkHeader?(header: Uint8Array): Checked | PromiseLike<Checked>
  /**
   * Takes a well-formed block apart, into views of its own bytes (`block.subarray()`). **Default:** undefined, blocks travel
   * whole.
   */
  splitBlock?(block: Uint8Array): BlockParts | undefined | PromiseLike<BlockParts | undefined>
  /**
   * Puts a block together, byte for byte the inverse of `splitBlock`. Undefined where the parts make no block, and where the header
   * does not commit to exactly these transactions.
   */
  joinBlock?(
    header: Uint8Array,
    transactions: Uint8Array[],
  ): Uint8Array | undefined | PromiseLike<Uint8Array | undefined>
  /** Takes an accepted item, once, before subscribers see it. One that it fails to take is ignored. */
  deliver?(item: { kind: ItemKind; data: Uint8Array }): unknown
  /** Answers a peer's question about state, at a height or the latest. Undefined: this node serves no such state. */
  query?(
    key: Uint8Array,
    height: bigint | undefined,
  ): StateAnswer | undefined | PromiseLike<StateAnswer | undefined>
  /**
   * The stake behind a peer, in the chain's own unit, as far as it has proven that it is its: the eight peers of the largest keep their
   * places when a full node lets others go. Asked when a peer has come, and again every ten minutes. **Default:** 0n.
   */
  stakeOf?(peerId: string): bigint | PromiseLike<bigint>
}

/** The answer to a check. */
export interface Checked {
  /** `'ignore'` drops the item, and nobody pays; `'reject'` also counts against the peer that sent it. */
  verdict: 'accept' | 'ignore' | 'reject'
  /** The chain's own id of the item, 1 to 64 bytes in the order in which they are shown. **Default:** the SHA-256 of its bytes. */
  id?: Uint8Array
  /** The fee that it pays, in the chain's smallest unit. **Default:** nobody can say, and it counts as 0. */
  fee?: bigint | number
  /** For a person: why it was not accepted; 1,000 characters are kept. */
  reason?: string
}

/** A block taken apart. */
export interface BlockParts {
  /** What identifies the block and commits to the rest. */
  header: Uint8Array
  /** Its transactions in their order, each in its exact bytes. */
  transactions: Uint8Array[]
}

/** An answer about state. */
export interface StateAnswer {
  /** The height that it is about. */
  height: bigint | number
  /** Empty where the key has none. */
  value: Uint8Array
  /** In the chain's own form. **Default:** empty. */
  proof?: Uint8Array
}

/** How much a line matters, the gravest first. */
export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace'

export type Storage = 'indexeddb' | 'memory' | { directory: string }

export type WasmSource =
  URL | string | Response | ArrayBuffer | ArrayBufferView<ArrayBuffer> | WasmModule

/** `WebAssembly.Module`, where the types of the platform have it: those of Node alone have not. */
export type WasmModule = typeof globalThis extends {
  WebAssembly: { Module: { prototype: infer Module } }
}
  ? Module
  : never

/** What `EventTarget` takes, of a browser's types or of Node's. */
export type NodeListener<E> =
  ((event: CustomEvent<E>) => void) | Extract<AnyListener, { handleEvent: unknown }> | null
export type AnyListener = Parameters<EventTarget['addEventListener']>[1]
export type ListenOptions = Parameters<EventTarget['addEventListener']>[2]

/**
 * What `wasm-bindgen --target web` makes of a crate that depends on `selkie`, of the version that this package has, and registers its
 * chains: `examples/chain-in-a-tab` in the repository.
 */
export interface WasmBuild {
  /** The JavaScript, which is imported where the node runs. No bundler looks into it. */
  glue: URL
  /** The WebAssembly. **Default:** beside the glue: `chain_bg.wasm` of `chain.js`. */
  module?: WasmSource
}

/** The node's configuration, as in the TOML file. */
export interface NodeConfig extends Config {
  /** A private key in libp2p's protobuf encoding. */
  identity?: Uint8Array
}

export interface AbortOptions {
  signal?: AbortSignal
}

export interface SelkieNode extends EventTarget, AsyncDisposable {
  readonly peerId: string
  /** Why its identity is not kept, where it was to be: what `identity:ephemeral` tells once, for who listens late. */
  readonly ephemeral: string | undefined
  readonly blocks: ItemChannel
  readonly transactions: TransactionChannel
  readonly votes: ItemChannel
  readonly gossip: Gossip
  readonly state: State
  readonly sync: Sync

  /** Dials a multiaddr; resolves to the peer's id once it has shown that it is of this network, or that it is a plain libp2p peer. */
  dial(address: string, options?: AbortOptions): Promise<string>
  disconnect(peerId: string, options?: AbortOptions): Promise<void>
  /**
   * Handles a protocol of your own from now on: `handler` is called with each stream that a peer opens, and the stream ends when what it
   * returns has settled. Where that rejects, or a write is not done by then (await them), the stream is reset, and `protocol:error` tells of it. The name is a slash and
   * printable ASCII without blanks, 64 bytes at most, as `/my-chain/light/1`; those of this node's own protocols (`/selkie/`, `/ipfs/`,
   * `/libp2p/`, `/meshsub/`, `/floodsub/`) are not for use, and 16 are handled at once. The signal ends that; streams that are open go on.
   *
   * A peer has at most 16 streams open here, all peers together 1,024; any beyond those, and over 100 a second (200 at once), are reset.
   */
  handle(protocol: string, handler: StreamHandler, options?: AbortOptions): Promise<void>
  /**
   * Opens a stream of a protocol to a connected peer. Rejects with the code `not-connected`, `unsupported` (the peer does not handle it), `busy`
   * (16 to it are open), `timeout` (no answer within `network.connection_timeout`) or `broken` (the connection ended). The signal gives up the
   * opening; the stream ends by its own means.
   */
  open(peerId: string, protocol: string, options?: AbortOptions): Promise<ProtocolStream>
  /** The connected peers that have shown what they are, each once. */
  peers(options?: AbortOptions): Promise<Peer[]>
  /** A peer's score and what led to it, connected or not. At `security.peer_scoring.disconnect_at` it is let go, at `ban_at` banned. */
  score(peerId: string, options?: AbortOptions): Promise<Score>
  /** The address book: whom the node knows of, at most 5,000 peers. */
  book(options?: AbortOptions): Promise<KnownPeer[]>
  /** Who is kept out now, the first to end in front; those of `security.blacklist_config.peers` before all. */
  bans(options?: AbortOptions): Promise<Ban[]>
  /**
   * Lets a peer go and keeps it out, or all at an address (`203.0.113.7`) or in a network (`203.0.113.0/24`), until the node ends or the ban does. Such
   * are not dialled either. A ban that there is gets the new end. Where a peer is that this tab dials by a name or through a relay, a page can't know, and a ban
   * of its network does not reach it: ban it by its id.
   */
  ban(who: string, options?: BanOptions): Promise<void>
  /**
   * Lets it in again, a peer with its score forgiven down to `disconnect_at`. False where it was not banned for a while. A ban of its address may keep
   * it out still (`bans`, and `banned` in `score`), and it may stay away by itself for as long as it was told that the ban lasts.
   */
  unban(who: string, options?: AbortOptions): Promise<boolean>
  /**
   * Keeps a peer's place, connected or not, when a full node (`network.max_peers`) lets the least useful go, until `unprotect` has taken away each tag that it was
   * protected by, or the node ends. A tag says what for: 1 to 64 bytes, 16 a peer, and 1,024 peers. Misdeeds, silence and bans end a connection all the same.
   */
  protect(peerId: string, tag: string, options?: AbortOptions): Promise<void>
  /**
   * Tells of a duty: peers that the application will need after `inMs` (an hour at most) for `forMs` (an hour at most), each by its id or by an address that ends in
   * it. From 30 s before its beginning, or now where that is sooner, to its end they are dialled where they are not connected, wanted or not, and again where they are lost;
   * and they make no room for others, as by `protect`. Then those that were dialled for it alone are let go, as far as the node has the
   * peers that it wants. One that is named by its id alone is dialled where the address book knows it to be. What an address says counts as a
   * stranger's word, since a chain has it from whoever registered there: private ones are dialled only where nobody from further away was met, and what did not answer not again for
   * a minute; `bootstrap` and `dial` are for those that you vouch for. Whom you disconnect meanwhile is not dialled again. In all duties
   * together there are 256 peers at most, and half of `network.max_peers`. Who is there, `peers()` says.
   */
  expectDuty(peers: readonly string[], when: DutyOptions): Promise<void>
  /** Takes a tag of `protect` away. Whether the peer is still protected by another. */
  unprotect(peerId: string, tag: string, options?: AbortOptions): Promise<boolean>
  /** All connections, the eldest first: also those on which that is not over, and each of a peer that has two for a while. */
  connections(options?: AbortOptions): Promise<Connection[]>
  metrics(options?: AbortOptions): Promise<Metrics>
  /**
   * Ends the node in order: connections close, iterators end (without the items that wait in the
   * node for a reader), the identity is set free. The last events come before it resolves, and `node:stop` is the last of all. It
   * takes 10 s at most: a node that has not ended by then is left to itself, `node:stop` has the error, and with `run: 'page'` the
   * identity stays in use until the node, or the page, is over. What its chain was given is stored then, or this rejects with a {@link StorageError}.
   */
  stop(): Promise<void>

  addEventListener<K extends keyof NodeEvents>(
    type: K,
    listener: NodeListener<NodeEvents[K]>,
    options?: ListenOptions,
  ): void
  addEventListener(type: string, listener: AnyListener, options?: ListenOptions): void
  removeEventListener<K extends keyof NodeEvents>(
    type: K,
    listener: NodeListener<NodeEvents[K]>,
    options?: Parameters<EventTarget['removeEventListener']>[2],
  ): void
  removeEventListener(
    type: string,
    listener: AnyListener,
    options?: Parameters<EventTarget['removeEventListener']>[2],
  ): void
}

/** What each event carries as `detail`. */
export interface NodeEvents {
  'peer:connect': Peer & { address: string }
  'peer:disconnect': { peerId: string; reason: string }
  /**
   * A peer was turned away, or turned us away: another network, another genesis, a ban, no place; or it let us go so that others find a place, and
   * `peer:disconnect` follows.
   */
  'peer:refused': { peerId: string; address?: string; reason: string }
  'peer:identify': { peerId: string; agent: string; protocols: string[] }
  'peer:discovered': Pick<Peer, 'peerId' | 'addresses'>
  'peer:score': { peerId: string; reason: string; score: number }
  /** This node's identity is not the stored one, and will be another next time, nor is its address book kept; why. Told once, at the start. */
  'identity:ephemeral': { reason: string }
  /** The address book that was kept can't be read, and a new one has begun; or this one could not be written, which is tried again. */
  'book:lost': { reason: string }
  'dial:error': { address?: string; peerId?: string; message: string }
  /** A peer's item goes no further: the chain's rules turned it down, or a limit did before they were asked. */
  'item:refused': { kind: ItemKind; source: string; reason: string }
  /**
   * Gossip does not work with a peer as it should, and its connection stays: it signs its messages, messages to it were dropped since it
   * reads too slowly, or votes and transactions were gone before it had read them, one of its own was given up since it came too slowly or is not passed on since its check took too long, or all places for plain
   * peers are taken. `reason` says which.
   */
  'gossip:impaired': { peerId: string; reason: string }
  /**
   * Your `application` failed at a call: it threw, rejected, answered too late or in a wrong shape. An item that it was asked about is
   * ignored. `count` calls failed since this was told last; `call` and `reason` are of the first. At the node's end `call` is `flush` where what the chain was
   * given last can't be kept.
   */
  'application:error': { call: string; reason: string; count: number }
  /** Your handler of a protocol failed, or ended before what it wrote was sent; the stream of this peer was reset. Not told of what the peer reset. */
  'protocol:error': { protocol: string; peerId: string; reason: string }
  /**
   * Signs that all to whom this node speaks may be one attacker's: all that there are now, told when they change; an empty list: they are over.
   * Dial peers that you know otherwise.
   */
  'eclipse:suspected': { signs: EclipseSign[] }
  /** How far the chain is, some times a second while it is synced. Of a chain that keeps its blocks, as the next four. */
  'sync:progress': SyncProgress
  /**
   * The chain is as far as its peers' (`SyncPhase`): told once, and again after it was behind by more than a few blocks, or alone.
   */
  'sync:done': { height: bigint }
  /** The chain's state is fetched in place of the blocks before it, some times a second. */
  'snapshot:progress': SnapshotProgress
  /** The state at this height is here: blocks after it follow. */
  'snapshot:taken': { height: bigint }
  /** There is no snapshot to begin with: blocks are fetched. */
  'snapshot:none': { reason: string }
  /**
   * For a while no peer has answered what the keys have that are watched (`state.watch`): what was told of them is of an older state. Told once for a watch,
   * until one answers. `height` is that of the state that is asked for; undefined: none is trusted yet.
   */
  'state:unverified': { height?: bigint; reason: string }
  /**
   * What has no event of its own, in a sentence: an address at which this node listens (`'info'`), or no longer does (`'warn'`). Other levels, and further
   * lines of these, come where {@link NodeOptions.log} asks for them: a line is the module that says it, what it says and of what, cut at 1,000 bytes. A thousand
   * wait for a page that is too slow, and `lagged` tells of those that were dropped; the last ones of a node that ends are in the console only.
   */
  log: { level: LogLevel; message: string }
  /**
   * Events came faster than they were taken, and this many were dropped since the last one that was delivered; `kinds` tells how many of each type. What
   * there is most of is dropped, the oldest first, so that a flood of one type pushes out none of another.
   */
  lagged: { missed: number; kinds: Record<string, number> }
  /**
   * The browser says that there is no network. Connections stay until they end, which may be unseen: what is sent meanwhile may be lost.
   */
  'network:offline': Record<string, never>
  /** There is one again. Each connection is looked at at once: who does not answer is let go within 10 s, and whom the node waits to dial is dialled. */
  'network:online': Record<string, never>
  /** The browser stops the page with all its timers, or keeps it for the way back. Peers may give this node up meanwhile. */
  'node:freeze': Record<string, never>
  /** The page goes on after that; connections are looked at as with `network:online`. */
  'node:resume': Record<string, never>
  /** The machine slept, or timers stood still, for more than a minute; connections are looked at as with `network:online`. */
  'node:wake': { sleptMs: number }
  /** The node ended: stopped in order, or `error` says why it could not go on. */
  'node:stop': { error?: SelkieError }
}

/** The peers that it dialled are in few networks, though it knows of others; no block comes; its last peers are all gone after a restart. */
export type EclipseSign = 'few-networks' | 'stale-tip' | 'anchors-lost'

/** How far sync is. */
export interface SyncProgress {
  /** The chain's height. */
  done: bigint
  /** The height that it goes to, as far as is known; the same where nothing is fetched, which alone does not say that it is the tip. */
  total: bigint
  /** Blocks a second, of late. */
  rate: number
  /** How long the rest will take at that rate, where it can be said. */
  etaSeconds?: number
  /** Why it does not go on. */
  trouble?: string
}

/** How much of a snapshot is here. */
export interface SnapshotProgress {
  /** The height whose state it is. */
  height: bigint
  /** The chunks that the chain has taken. */
  done: number
  /** All of them. */
  total: number
  /** Bytes a second that come now. */
  rate: number
  /** How long the rest will take at that rate, where it can be said. */
  etaSeconds?: number
}

export type ItemKind = 'block' | 'transaction' | 'vote'

export interface ItemChannel {
  /**
   * The items that arrive from now on, after the chain's rules have passed them. For a slow reader the node holds as many as
   * `config.protocol.validation.max_unread_bytes` says, by default 32 MiB in each subscription that nobody reads, and then drops
   * the oldest, which the next item's `missed` tells. Leaving a `for await` loop ends the subscription, and so does the signal.
   */
  subscribe(options?: AbortOptions): AsyncIterableIterator<Item>
  /** Checks an item by the chain's rules and hands it to the network; resolves to its id. */
  submit(bytes: Uint8Array, options?: AbortOptions): Promise<string>
}

export interface TransactionChannel extends ItemChannel {
  /**
   * Submits many, which is much cheaper than one by one; resolves to what became of each, in their order. Rejects where that holds for
   * all, as with the code `no-peers`. Waits where the network is busy. An abort leaves some of them sent.
   */
  submitAll(list: readonly Uint8Array[], options?: AbortOptions): Promise<Outcome[]>
}

/** What became of a transaction: its id, or why it was not sent. */
export type Outcome = { id: string; error?: undefined } | { id?: undefined; error: SelkieError }

export interface Item {
  kind: ItemKind
  /** The id as the chain shows it. */
  id: string
  data: Uint8Array
  /** The peer that handed it to us; empty for an item that this node submitted. */
  source: string
  receivedAt: number
  /** How many items were dropped between the one before and this one. */
  missed: number
}

/** Plain gossipsub topics, open to any libp2p peer. */
export interface Gossip {
  publish(topic: string, bytes: Uint8Array, options?: AbortOptions): Promise<void>
  /**
   * With `validate`, a message goes on to other peers only once `report('accept')` was called; one
   * without a verdict, as those that a loop leaves unread, goes no further. A topic with several
   * readers waits for verdicts as long as one of them validates; the first verdict on a message
   * counts.
   */
  subscribe(
    topic: string,
    options: SubscribeOptions & { validate: true },
  ): AsyncIterableIterator<UnvalidatedMessage>
  subscribe(topic: string, options?: SubscribeOptions): AsyncIterableIterator<GossipMessage>
  /** The topics that this node takes part in, by name, with who else does. */
  topics(options?: AbortOptions): Promise<Topic[]>
}

export interface Topic {
  topic: string
  /** Whether a subscription of it validates. */
  validate: boolean
  /** The connected peers that take part too. */
  peers: string[]
  /** Those of them to which whole messages are sent, and not only announced. */
  mesh: string[]
}

export interface SubscribeOptions extends AbortOptions {
  validate?: boolean
}

export interface GossipMessage {
  topic: string
  data: Uint8Array
  source: string
  missed: number
}

export interface UnvalidatedMessage extends GossipMessage {
  /** `'ignore'` drops the message; `'reject'` also counts against the peer that sent it. */
  report(verdict: 'accept' | 'ignore' | 'reject'): Promise<void>
}

export interface State {
  /**
   * Asks a peer for a value of the chain's state. Of a ledger the answer was checked: a peer whose proof is false pays for it, and another is asked
   * (code `forged` where all are); where nothing is known here that it could be checked against, that is the code `unproven`. Questions go no faster than a peer may send messages (`security.rate_limits`: 100 a second on
   * average); up to 1,024 further ones to one peer wait for their turn, as long as an answer may take, and then fail with the code
   * `timeout`; any beyond those fail with the code `busy` at once.
   */
  get(key: Uint8Array, options?: StateOptions): Promise<StateValue>
  /**
   * Watches keys: yields what they have now, and then what changes, each time as it is verified in a state that is trusted here, as that after the newest final
   * block is. Nothing is polled: for each new state one question about all keys goes to one peer (none where this node has the state itself), and a peer
   * whose answer is false pays for it, and another is asked. Where nobody answers, `state:unverified` says so, and it goes on when somebody does.
   *
   * Only the newest counts: changes that are not read come as one, with the newest values (of a key that changed back too), so a slow reader costs no memory. 1 to 64 keys, of 1,024 bytes at
   * most; of a ledger an address' 32 bytes. The first `next()` rejects with the code `not-offered` where the chain proves nothing of a key: the ledgers do of
   * addresses, chains in JavaScript of none. 64 watches are open at most (code `busy`). Ends as other subscriptions do.
   */
  watch(keys: readonly Uint8Array[], options?: AbortOptions): AsyncIterableIterator<StateChange>
}

/** What has changed of the keys that are watched. */
export interface StateChange {
  /** The height of the state in which all keys were verified: those that are not in `values` have what they had. */
  height: bigint
  /** The root of that state. */
  root: Uint8Array
  /** What has changed since the change before, and at first all keys, in the order of the keys' bytes. */
  values: StateEntry[]
}

export interface StateEntry {
  key: Uint8Array
  /** Empty where the key has none. */
  value: Uint8Array
}

export interface StateOptions extends AbortOptions {
  /** The height. **Default:** the peer's latest; of a ledger the newest that is final. */
  at?: bigint
  /** The peer to ask. **Default:** any that is connected; where it refuses, as who serves no state does, has left, is busy or answers what does not hold, up to three others. */
  peer?: string
}

export interface StateValue {
  height: bigint
  value: Uint8Array
  proof: Uint8Array
}

export interface Sync {
  /** How far the chain is. Undefined: it keeps no blocks, or the node has just started. */
  status(options?: AbortOptions): Promise<SyncStatus | undefined>
}

/** `waiting`: nobody has more, and too little is known to say that this is the tip; `syncing`: peers have more; `synced`: as far as they. */
export type SyncPhase = 'waiting' | 'syncing' | 'synced'

/** How far a chain is. */
export interface SyncStatus {
  phase: SyncPhase
  /** Of its last block. */
  height: bigint
  /** The lowest height from which on blocks are here. */
  base: bigint
  /** The height that is being synced to, as a peer says; undefined while no chain of peers is being followed. */
  target?: bigint
  /** Blocks a second, of late. */
  rate: number
  /** How long the rest will take at that rate, where it can be said. */
  etaSeconds?: number
  /** Peers that say which blocks they have, and those of them that are asked for some now. */
  peers: number
  sources: number
  /** The snapshot that is being fetched. */
  snapshot?: SyncSnapshot
  /** Why it does not go on. */
  trouble?: string
}

/** A snapshot on its way. */
export interface SyncSnapshot {
  /** The height whose state it is. */
  height: bigint
  /** The chunks that the chain has taken, and all of them. */
  chunks: number
  totalChunks: number
  bytes: number
  totalBytes: number
  /** Bytes a second that come now. */
  rate: number
  etaSeconds?: number
  /** Peers that are asked for some of it now. */
  sources: number
}

/** Called with a stream that a peer has opened; what it returns may be a promise. */
export type StreamHandler = (stream: ProtocolStream) => unknown

/**
 * A stream of a protocol of one's own: bytes both ways, as fast as both ends read them. What is not read waits at the other end, beyond the
 * connection's window; one piece of 64 KiB is read ahead, so that an end or a reset is heard (`reader.closed`, `writer.closed`) though nobody
 * reads. It is over when both directions have ended: to close `writable` ends one in order, to
 * abort it resets both at once, to cancel `readable` is to read no more. Whatever the other side, or the connection, breaks off is the code `reset` in
 * both; over WebTransport, or once the other direction has ended, it may read as an end, so let a message say where it ends. Read what comes,
 * or cancel it: where what is not read leaves no room for more, streams that nobody reads are reset; and one with unread data keeps its place.
 */
export interface ProtocolStream {
  /** The peer at the other end. */
  readonly peer: string
  readonly protocol: string
  readonly readable: ReadableStream<Uint8Array>
  readonly writable: WritableStream<Uint8Array>
  /**
   * Resets it at once, both ways, also while something else has its reader or its writer. A `pipeTo` with a `signal` waits for
   * the write that is under way, by the Streams standard: this does not (`signal.onabort = () => stream.abort(signal.reason)`).
   */
  abort(reason?: unknown): void
}

export interface Peer {
  peerId: string
  addresses: string[]
  agent: string
  transport: string
  rttMs: number | null
  /** Whether it speaks Selkie's protocols, beside libp2p's. */
  selkie: boolean
  direction: 'inbound' | 'outbound'
  connectedAt: number
  /** Its score now; `node.score` tells what led to it. */
  reputation: number
}

/** A peer's reputation: 0 is neutral, what it did wrong counts down, and half of that is forgotten every `security.peer_scoring.half_life`. */
export interface Score {
  score: number
  /** What it did wrong since it is remembered, older things too that count for little by now. */
  deeds: Deed[]
  /** Whether it is kept out now: itself, or an address at which it is connected or that the book has of it. */
  banned: boolean
}

/** One kind of misdeed. */
export interface Deed {
  reason: string
  /** What each costs. */
  price: number
  count: number
}

/** A peer in the address book. */
export interface KnownPeer {
  peerId: string
  /** Where it is said to be; first where it was reached. */
  addresses: string[]
  /** By which it is counted, such as `203.0.0.0/16`. */
  network: string
  /** Whether this node has dialled it with success. */
  tried: boolean
  /** When somebody told of it, to a day, or it was reached. */
  heardAt: number | null
  /** Dials in vain since. */
  failures: number
  /** Whether this node has a record of where it is that it signed itself. */
  signed: boolean
}

export interface Ban {
  /** A peer's id, an address or a network. */
  who: string
  /** `null`: it has no end. */
  until: number | null
  /** Whether the user wants it so, and not what was done. */
  byUser: boolean
}

export interface BanOptions extends AbortOptions {
  /** For how many milliseconds; ten years at most, also where it is `Infinity`. **Default:** `security.blacklist_config.ban_duration`. */
  forMs?: number
}

/** When peers are needed. */
export interface DutyOptions extends AbortOptions {
  /** After how many milliseconds. **Default:** 0, from now on. */
  inMs?: number
  /** For how many. */
  forMs: number
}

/** One connection to a peer. */
export interface Connection {
  peerId: string
  /** Its other end: what was dialled, or where it came from. */
  address: string
  transport: string
  direction: 'inbound' | 'outbound'
  connectedAt: number
  /** How long it took to authenticate, from the dial on. */
  connectMs: number
}

export interface Metrics {
  connections: {
    total: number
    active: number
    successRate: number
    averageConnectMs: number
    bandwidthUtilization: number
  }
  messages: {
    sent: number
    received: number
    /** Items of peers that were refused before the chain's rules were asked: too large, or no room. */
    itemsTurnedAway: number
    bytesSent: number
    bytesReceived: number
    latencyP99Ms: number
    successRate: number
  }
  peers: {
    count: number
    /** Peers by transport. */
    distribution: Record<string, number>
    /** By peer id, as the next one. */
    uptimeMs: Record<string, number>
    reputation: Record<string, number>
    /** What there is now of what `eclipse:suspected` tells. */
    eclipseSigns: EclipseSign[]
  }
}

/**
 * The base of all errors here. `code` is stable, for programs; `message` says what to do next;
 * after a `fatal` one the same node, or the same call, can't succeed.
 *
 * Codes without a class of their own, of an item or a message:
 * - `rejected`, `ignored`: by the chain's rules, as is, or for now.
 * - `too-large`, `empty`: by the limits of the configuration; nothing takes more than 4 MiB in one piece.
 * - `duplicate`: sent or received here before; nothing was sent.
 * - `busy`: the queues are full; try again.
 * - `no-peers`: nobody is there to send it to.
 * - `not-sent`: accepted here, but sent to nobody: who takes part left, has no room or a bad reputation, or sent it before. To submit it
 *   again is a `duplicate`; a transaction or block is offered to the next Selkie peer, a vote is not, and a plain libp2p peer has nothing.
 * - `not-connected`, `broken`: the peer is not there, or its connection or its patience ended on the way.
 * - `forged`, `unproven`: a peer's answer about state is false, or can't be checked here, at least now.
 * - `timeout`, `refused`, `unsupported`, `invalid-message`: the message could not be sent in time or a peer's answer did not come, or the
 *   answer says no (also for a moment), can't be had or is no message.
 * - `not-broadcastable`: a question about state goes to one peer.
 * - `reset`: a stream of a protocol of your own was broken off, by the peer, the connection or this side.
 *
 * Of the node:
 * - `already-started`; `listen`: no such address can be listened at; `transport`: it could not be set up.
 * - `too-many-subscriptions`: end some, or read one in several places.
 * - `network`, `internal`: what has no code of its own; the message says it.
 */
export class SelkieError extends Error {
  constructor(code: ErrorCode, message: string, options?: { fatal?: boolean; cause?: unknown })
  readonly code: ErrorCode
  readonly fatal: boolean
}

/** What an error is, for programs: {@link SelkieError} and the classes below say what each means. */
export type ErrorCode =
  | 'already-started'
  | 'broken'
  | 'busy'
  | 'config'
  | 'crashed'
  | 'dial'
  | 'duplicate'
  | 'empty'
  | 'forged'
  | 'identity'
  | 'identity-in-use'
  | 'ignored'
  | 'internal'
  | 'invalid-address'
  | 'invalid-argument'
  | 'invalid-message'
  | 'invalid-peer-id'
  | 'listen'
  | 'load'
  | 'network'
  | 'no-peers'
  | 'not-broadcastable'
  | 'not-connected'
  | 'not-offered'
  | 'not-running'
  | 'not-sent'
  | 'refused'
  | 'rejected'
  | 'reset'
  | 'stopped'
  | 'storage'
  | 'storage-busy'
  | 'storage-damaged'
  | 'storage-foreign'
  | 'storage-full'
  | 'storage-locked'
  | 'storage-version'
  | 'timeout'
  | 'too-large'
  | 'too-many-subscriptions'
  | 'transport'
  | 'unproven'
  | 'unsupported'

/** `config`: a setting is wrong; the message names it. Fatal. */
export class ConfigError extends SelkieError {}
/** `invalid-argument`, `invalid-address`, `invalid-peer-id`: a call got something of the wrong shape, or that it can't have. */
export class ArgumentError extends SelkieError {}
/** `dial`: a peer could not be reached. */
export class DialError extends SelkieError {}
/** `identity-in-use`: another tab or process runs a node on this identity. */
export class IdentityInUseError extends SelkieError {}
/**
 * `storage`, `identity`: the identity could not be read or kept, or is no key. Of what a chain stores, where it starts and as it stops: `storage-full`, there is no
 * room; `storage-damaged`, what is there is not what was written; `storage-locked`, another tab or worker has it open; `storage-version` and
 * `storage-foreign`, a newer version or somebody else wrote it; `storage-busy`, much waits to be written; `storage`, the browser could not read or write.
 */
export class StorageError extends SelkieError {}
/** `load`: the WebAssembly could not be fetched or compiled, or the application's module has none. */
export class LoadError extends SelkieError {}
/** `stopped`, `not-running`: the node has ended. Fatal. */
export class StoppedError extends SelkieError {}
/** `crashed`: the WebAssembly or its worker died; all that was pending rejects with it. Fatal. */
export class CrashedError extends SelkieError {}
