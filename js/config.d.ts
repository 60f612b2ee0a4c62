/**
 * The configuration's fields, with the names of the TOML file. Written from the Rust sources by
 * config-types.mjs: change those.
 */

/** A length of time: `'10s'`, `'1m 30s'`, `'500ms'`. */
export type Time = string

/** Everything a node is told. Each part has defaults. */
export interface Config {
  /** Addresses, peers and times. */
  network?: NetworkConfig
  /** Which chain this is. */
  chain?: ChainOptions
  /** How the protocols behave. */
  protocol?: ProtocolConfig
  /** What peers may do. */
  security?: SecurityConfig
}

/** Addresses, peers and times. */
export interface NetworkConfig {
  /** Where to listen. **Default:** nowhere (a browser can't; a native node then only dials). */
  listen_addresses?: readonly string[]
  /** Addresses at which others reach this node, told to peers. **Default:** none. */
  external_addresses?: readonly string[]
  /** Peers to connect to first; written out with an entry for each address. **Default:** none. */
  bootstrap_peers?: readonly string[]
  /**
   * The most distinct peers at once, at most half of them plain libp2p peers; a further one takes
   * the place of the least useful of those that came by themselves
   * (`security.connection_limits.low_watermark`), or is told that the node is full. **Default:**
   * 50.
   */
  max_peers?: number
  /** How long a dial, an upgrade, a hello or the answer to a ping may take. **Default:** 10 s. */
  connection_timeout?: Time
  /**
   * How long a peer may be silent, on top of `connection_timeout`: it is pinged four times as
   * often, and let go where none is answered. **Default:** 60 s.
   */
  keepalive_interval?: Time
}

/** Which chain this is: compared with each peer at first contact. */
export interface ChainOptions {
  /** The network's name: 1 to 64 of `a-z 0-9 . _ -`. */
  network_id?: string
  /** Hash of the chain's first block, in hex, at most 64 bytes. **Default:** empty. */
  genesis?: string
  /**
   * Whose rules check the items: `opaque`, `bitcoin`, `ledger`, `ledger-light`, or the name of a
   * chain that the WebAssembly has registered. **Default:** `opaque`.
   */
  application?: string
}

/** How the protocols behave. */
export interface ProtocolConfig {
  /** Gossip of blocks, transactions and votes. */
  gossipsub_config?: GossipsubConfig
  /** The distributed hash table that finds peers. */
  kademlia_config?: KademliaConfig
  /** What peers tell each other about themselves. */
  identify_config?: IdentifyConfig
  /** Messages to one peer. */
  request_response_config?: RequestResponseConfig
  /** Checking of received items. */
  validation?: ValidationConfig
  /** How items travel between Selkie's nodes. */
  propagation?: PropagationConfig
  /** How blocks that were missed are fetched, and served. */
  sync?: SyncConfig
}

/** Gossipsub v1.0 to v1.3 (libp2p/specs): the mesh and its limits. */
export interface GossipsubConfig {
  /** Peers in a topic's mesh (D). **Default:** 6. */
  mesh_n?: number
  /** Fewer, and more are sought (D_lo). **Default:** 5. */
  mesh_n_low?: number
  /** More, and some are let go (D_hi). **Default:** 12. */
  mesh_n_high?: number
  /** Time between two heartbeats. **Default:** 700 ms. */
  heartbeat_interval?: Time
  /**
   * The largest gossip message, in bytes; items have limits of their own (`PropagationConfig`).
   * **Default:** 4 MiB, so that every Bitcoin block fits.
   */
  max_transmit_size?: number
  /** How long an item's id is remembered, against duplicates. **Default:** 120 s. */
  duplicate_cache_time?: Time
  /** Messages queued per peer; further ones are dropped, and told. **Default:** 1,024. */
  queue_length?: number
  /**
   * Plain libp2p peers with which gossip is spoken; further ones stay connected without.
   * **Default:** 12.
   */
  max_plain_peers?: number
  /**
   * Messages a second that are read from all peers together, on average, and 20 times as many at
   * once; half of both from one peer. Who sends more is read more slowly. **Default:** 1,000.
   */
  max_messages_per_second?: number
  /**
   * The same for bytes, twice as many at once. gossipsub keeps what it has read for some seconds,
   * so that this is what it holds in memory too. **Default:** 4 MiB.
   */
  max_bytes_per_second?: number
}

/**
 * How peers are found: Kademlia (Maymounkov and Mazieres, 2002; libp2p/specs kad-dht), and mDNS.
 */
export interface KademliaConfig {
  /** Answer other nodes' lookups. `null`: yes if this node listens. **Default:** `null`. */
  server?: boolean | null
  /** How long one lookup may take. **Default:** 30 s. */
  query_timeout?: Time
  /**
   * Peers that this node looks for and dials by itself: bootstrap peers once more, those of the
   * local network, those that the DHT names; at most half of `network.max_peers`. 0: only whom the
   * user dials. **Default:** 8, as in Bitcoin.
   */
  wanted_peers?: number
  /** Local discovery by mDNS, where a listen address is not loopback. **Default:** true. */
  mdns?: boolean
}

/** Identify (libp2p/specs): what peers tell each other about themselves. */
export interface IdentifyConfig {
  /**
   * Name and version of this software as peers see it, at most 64 bytes. **Default:**
   * `selkie/VERSION`.
   */
  agent_version?: string
  /** How often it is repeated. **Default:** 5 min. */
  interval?: Time
}

/** Messages to one peer, and their answers. */
export interface RequestResponseConfig {
  /**
   * How long an answer may take; and how long our own items wait for peers that take nothing,
   * before `NetworkError::Busy` says so. **Default:** 10 s.
   */
  request_timeout?: Time
  /**
   * The largest message, in bytes; the same in all nodes of a network, since the hello compares it.
   * **Default:** 4 MiB + 1 KiB.
   */
  max_message_size?: number
  /**
   * Messages under way at once on one connection, those of both sides together; of one's own half
   * as many, and further ones wait. Nodes do not tell each other of this: one that has more here
   * than twice the other's `validation.queries.per_peer` asks it more questions about state at once
   * than it takes, and what is over that is refused. Over TCP and WebSocket each lets a peer have
   * 256 KiB more here that is not read yet. **Default:** 32.
   */
  max_concurrent_streams?: number
  /**
   * Bytes of messages that are being read or wait for this node on one connection; further ones are
   * read when there is room. At least `max_message_size`. As many, of answers about state, one peer
   * may have that it has not read yet; one that is looked for counts as the largest message.
   * **Default:** two of the largest messages, 8 MiB + 2 KiB.
   */
  max_connection_bytes?: number
  /**
   * The same for all connections together, of messages over 64 KiB, in which peers, or public
   * addresses, take turns; the slowest gives way to who waits. As many, of answers about state, all
   * together. **Default:** eight of the largest messages, 32 MiB + 8 KiB.
   */
  max_bytes?: number
}

/** Checking of items, off the network task, and answering of questions about state. */
export interface ValidationConfig {
  /** Checks that run at once. **Default:** 4. */
  max_in_flight?: number
  /** Of these, how many are kept for votes; less than all. **Default:** 1. */
  reserved_for_votes?: number
  /**
   * Bytes of votes that wait for a check or are in one, 128 more counted for each; a further one is
   * refused, and that is told. What comes over a peer's lanes waits instead, and they are read no
   * further; all together so may twice as much wait. One peer may have as many as its lane is read
   * ahead, at least. **Default:** 32 MiB, of one peer 16 MiB.
   */
  votes?: Share
  /**
   * The same of whole blocks that came by gossip or directly. **Default:** 32 MiB, of one peer 8
   * MiB.
   */
  blocks?: Share
  /** The same of transactions. **Default:** 64 MiB, of one peer 16 MiB. */
  transactions?: Share
  /**
   * Questions about state that wait for an answer of the application; a further one is refused,
   * with a sentence. Eight keys count as one; each has 9 KiB at most. **Default:** 128, of one peer
   * 16.
   */
  queries?: Share
  /**
   * Questions about state that the application answers at once, beside the checks, those included
   * whose askers gave up meanwhile. **Default:** 2.
   */
  max_queries_in_flight?: number
  /**
   * How long an application that is written in JavaScript may take for an answer; a later one is
   * not heard. One in Rust runs to its end. Gossip keeps a message for 3.5 s by default: what is
   * accepted later is not passed on to plain peers. **Default:** 10 s.
   */
  application_timeout?: Time
  /**
   * Bytes of items that one event subscriber may leave unread; the oldest are dropped and counted.
   * **Default:** 32 MiB.
   */
  max_unread_bytes?: number
}

/** How much there may be, and how much of it from one peer. */
export interface Share {
  /** Of all peers together. */
  all: number
  /** Of each peer. */
  per_peer: number
}

/** How transactions, blocks and votes travel between nodes that speak Selkie's lanes. */
export interface PropagationConfig {
  /** Transactions: in batches, over few links. */
  transactions?: TreeConfig
  /** Votes: at once, over more links. Its defaults are `TreeConfig::votes`. */
  votes?: TreeConfig
  /** Blocks whose transactions are mostly known: in compact form. */
  blocks?: CompactConfig
  /** Large blocks whose transactions are not: in coded chunks. */
  coded?: CodedConfig
  /** The pool of accepted transactions. */
  mempool?: MempoolConfig
  /** Comparing pools with peers. */
  reconcile?: ReconcileConfig
  /** What may be sent on the lanes. Votes do not wait for it. */
  upload?: BudgetConfig
  /** What may be read on the lanes. Votes do not wait for it. */
  download?: BudgetConfig
}

/** How the items of one kind are pushed, announced and fetched. */
export interface TreeConfig {
  /**
   * Links on which whole items are pushed at first; the nodes prune them to a tree. **Default:** 4;
   * votes: 8.
   */
  push_peers?: number
  /**
   * Time between two batches to one peer, within which single items wait for company. **Default:**
   * 5 ms; votes: none.
   */
  push_interval?: Time
  /**
   * Time between two announcements to one peer. Who has fetched nothing for two seconds is told
   * less often where there are many peers, up to once a second. **Default:** 20 ms; votes: 5 ms.
   */
  announce_interval?: Time
  /**
   * How long an announced item may come by itself before it is fetched, at least: as long as pushes
   * turn out to take, up to 64 times this. **Default:** 40 ms; votes: 20 ms.
   */
  fetch_patience?: Time
  /** How long a peer has to send what is fetched from it. **Default:** 2 s. */
  fetch_timeout?: Time
  /** Announced items of one peer that have not arrived. **Default:** 32,768. */
  max_announced?: number
  /**
   * Bytes asked of one peer at once, 8 MiB at most: an item counts as 256 at least, and a peer
   * takes 32,768 ids at once. **Default:** 1 MiB.
   */
  max_requested_bytes?: number
  /**
   * The largest item, in bytes; the same in all nodes of a network, since the hello compares it.
   * **Default:** 4 MiB; votes: 64 KiB.
   */
  max_item?: number
  /**
   * Bytes of accepted items that are kept for peers to read on; what all had time for leaves first,
   * then the eldest of whoever brought most. **Default:** 8 MiB; votes: 4 MiB.
   */
  max_log_bytes?: number
}

/** The limits of compact blocks. */
export interface CompactConfig {
  /**
   * The largest block, in bytes; the same in all nodes of a network, since the hello compares it.
   * **Default:** 4 MiB.
   */
  max_block_bytes?: number
  /**
   * Blocks that are fetched at a time; another one waits. A quarter of the places is for blocks of
   * which a peer tells that we dialled; a peer that dialled us leaves as many of the others as it
   * holds. **Default:** 8.
   */
  max_in_progress?: number
  /**
   * Blocks in progress of which one peer has told; what else it tells of waits, 16 of one peer and
   * 256 in all. **Default:** 4.
   */
  max_in_progress_per_peer?: number
  /**
   * Peers noted as having a block in progress; further ones are not, but an outbound peer takes the
   * place of an inbound one. **Default:** 16.
   */
  max_sources?: number
  /**
   * Peers that are asked for the same block at a time, where the first one is silent or slow; who
   * is silent does not count. **Default:** 3.
   */
  max_parallel?: number
  /**
   * Bytes of compact blocks, and of what they were matched with, that are held for blocks in
   * progress. Without room a compact block is dropped, and the whole block asked for. **Default:**
   * 32 MiB.
   */
  max_held_bytes?: number
  /**
   * How long a peer that was asked for a block may send nothing before others are asked as well,
   * beside two round trips to it. **Default:** 500 ms.
   */
  patience?: Time
  /**
   * How long a peer has to answer, before it pays; three times as long while its answer comes. Who
   * will be done in so long a time is asked alone. **Default:** 20 s.
   */
  give_up_after?: Time
  /**
   * Blocks that are kept to be served; the oldest goes first. While half as many, or half the
   * bytes, are our own and nobody has fetched them, no further ones of our own are taken.
   * **Default:** 16.
   */
  max_recent_blocks?: number
  /**
   * Bytes of blocks that are kept to be served; a block over half of it may not be. **Default:** 32
   * MiB.
   */
  max_recent_bytes?: number
  /**
   * Identities of accepted blocks that are remembered, so as not to fetch them again; the oldest
   * goes first. **Default:** 4,096.
   */
  max_seen?: number
  /**
   * Bytes of transactions that a compact block brings along, apart from the first one. **Default:**
   * 10,000.
   */
  max_prefill_bytes?: number
}

/**
 * The limits of coded broadcast in one node. What a broadcast costs beside its chunks is below 8
 * KiB, and 256 bytes for each peer.
 */
export interface CodedConfig {
  /**
   * Peers that take part; further ones tell of blocks, and are told of them, in another way.
   * **Default:** 128.
   */
  max_peers?: number
  /**
   * The largest block, in bytes; an announcement of a larger one is refused. At most `MAX_BLOCK`
   * counts. **Default:** 4 MiB.
   */
  max_block_bytes?: number
  /**
   * Broadcasts under way or still served. Without a place the one that was begun first makes room
   * of those that all peers have, or that were served for `give_up_after`; if there is none, a new
   * one is refused. **Default:** 16.
   */
  max_broadcasts?: number
  /**
   * Bytes of chunks of all broadcasts: each counts with all its chunks, twice its block, from the
   * start. Without room, as for `max_broadcasts`. Unfinished ones of which the same peer was the
   * first to tell have half of it, or one of them all. **Default:** 32 MiB, four of the largest
   * blocks.
   */
  max_bytes?: number
  /**
   * Bytes of chunks of a broadcast that are kept before the chain has checked the header; further
   * ones are dropped. **Default:** 512 KiB.
   */
  max_early_bytes?: number
  /**
   * Unfinished broadcasts of which the same peer was the first to tell; a further one is refused.
   * As many of its own a node begins before peers have them. **Default:** 4.
   */
  max_introduced?: number
  /**
   * How often a peer may be the first to tell of a broadcast, on average; each has the chain check
   * a header. What comes sooner is refused: the peer tells of the block in another way.
   * **Default:** every 250 ms.
   */
  introduce_every?: Time
  /** How many broadcasts a peer may be the first to tell of at once. **Default:** 16. */
  introduce_burst?: number
  /**
   * How long a peer that was asked for chunks may send none before they are asked of others.
   * **Default:** 500 ms.
   */
  patience?: Time
  /** How long a broadcast may bring no new chunk before it is abandoned. **Default:** 4 s. */
  give_up_after?: Time
  /**
   * How long a broadcast may take in all before it is abandoned, and how long one is served once it
   * is finished. **Default:** 30 s.
   */
  lifetime?: Time
  /**
   * How long a peer is doubted that was the first to tell of a broadcast that came to nothing: what
   * it tells of is taken up only when another peer tells of it too. **Default:** 60 s.
   */
  doubt?: Time
}

/** How much the pool holds, and how long. */
export interface MempoolConfig {
  /** Bytes of transactions, and `OVERHEAD` for each. **Default:** 24 MiB. */
  max_bytes?: number
  /** How long a transaction stays that no block takes up. **Default:** 1 h. */
  max_age?: Time
  /**
   * How long a transaction stays among equal payers whatever others bring: until enough blocks were
   * made that might have taken it up, so some intervals between them. After that it may leave for
   * who comes now. **Default:** 5 min, for blocks each minute or so.
   */
  old_after?: Time
  /**
   * Ids of confirmed transactions that are remembered at least, up to twice as many, and as many of
   * rejected ones: a copy of such a one is not taken up. An eighth as many of each of those that
   * are not taken for a while: there was no room for them, the chain ignores them, they expired.
   * **Default:** 229,376, with which a table of 2^18 places is full.
   */
  max_seen?: number
}

/** When pools are compared, and what of them. */
export interface ReconcileConfig {
  /** Time between two comparisons with one peer that we begin. **Default:** 60 s. */
  interval?: Time
  /**
   * Transactions that came later are still on their way by themselves, and left out. **Default:** 5
   * s.
   */
  min_age?: Time
}

/** The limits of one direction. */
export interface BudgetConfig {
  /**
   * Bytes a second of all peers together; a node's configuration wants 200,000 at least.
   * **Default:** `null`, no limit.
   */
  global?: number | null
  /** Bytes a second of each peer. **Default:** `null`, no limit. */
  per_peer?: number | null
  /**
   * Peers with an account; beyond them the one that sent longest ago starts anew. **Default:**
   * 1,024.
   */
  max_peers?: number
}

/**
 * How blocks that a node has missed are fetched, and served to others. Where the chain has no
 * `ChainStore` none of it is of use.
 */
export interface SyncConfig {
  /**
   * Headers that are known ahead of the last block; a fork that begins further below its end is not
   * followed. **Default:** 32,768.
   */
  max_headers?: number
  /**
   * Bytes of blocks that are here or asked for, and wait for those before them. **Default:** 64
   * MiB.
   */
  max_buffer_bytes?: number
  /** Bytes of blocks that are made ready for peers and not sent. **Default:** 32 MiB. */
  max_serving_bytes?: number
  /** How long a peer may send nothing of what it was asked for. **Default:** 10 s. */
  request_timeout?: Time
  /**
   * How long a block or two that a peer has more may come by themselves before they are fetched.
   * **Default:** 1 s.
   */
  patience?: Time
  /** A state in place of the blocks before it. */
  snapshots?: SnapshotsConfig
}

/**
 * How a node takes a snapshot of the chain's state in place of the blocks before it, makes them,
 * and serves them.
 */
export interface SnapshotsConfig {
  /**
   * Whether one is taken where peers are far ahead (`download.min_gain`). It needs a chain that
   * takes them (`snapshot_sink`), and something to trust: the chain's `TrustVerifier` or a
   * checkpoint. Otherwise, and where nobody has one, it is blocks. **Default:** true.
   */
  take?: boolean
  /**
   * Whether one may take the place of blocks that are here: they are gone then, with their
   * certificates. Otherwise one is taken by a node that began with nothing but its genesis, until
   * it is first as far as its peers. **Default:** false.
   */
  replace_blocks?: boolean
  /**
   * A chain that makes snapshots (`snapshot_source`) is asked for one of each height that is a
   * multiple of this, once that block is final. Nodes that have the same here, and in
   * `chunk_bytes`, make the same snapshots, and are sources of one another's. 0: never.
   * **Default:** 10,000.
   */
  make_every?: number
  /**
   * So many of the newest are kept, and those beyond that somebody is fetching (`serving.in_use`),
   * of the newest four. **Default:** 2.
   */
  keep?: number
  /**
   * Bytes of a chunk of those. **Default:** 1,008 KiB: with its key it fits in 1 MiB of a store
   * whose pages are powers of two, as redb's are, and a chunk of 1 MiB takes two there.
   */
  chunk_bytes?: number
  /** Taking one. */
  download?: DownloadConfig
  /** Serving them. */
  serving?: ServingConfig
}

/** The limits of taking a snapshot, and what is known of the right one. */
export interface DownloadConfig {
  /**
   * Peers whose offers are kept; further ones are not listened to. Their offers take at most 80 KiB
   * each. **Default:** 128.
   */
  max_peers?: number
  /**
   * The largest snapshot that is taken, in bytes; larger ones are not offered to the sink.
   * **Default:** 64 GiB.
   */
  max_snapshot_bytes?: number
  /**
   * Bytes of chunks that are asked for, or here and not applied: each counts whole from its first
   * request until the sink has taken it. One chunk is taken whatever this says. **Default:** 64
   * MiB.
   */
  max_bytes_in_flight?: number
  /** Bytes that one source is asked for at a time. **Default:** 32 MiB. */
  max_window?: number
  /**
   * A snapshot has to be so many blocks above what is here; fewer are quicker by blocks.
   * **Default:** 1,000.
   */
  min_gain?: number
  /** How long offers are collected before the first snapshot is chosen. **Default:** 1 s. */
  settle?: Time
  /**
   * How long to wait for somebody who has a snapshot of use, at the beginning and where nobody has
   * the chosen one any more. Then it is blocks. **Default:** 10 s.
   */
  search?: Time
  /**
   * How long to wait for the header that says whether an offered snapshot is right. **Default:** 60
   * s.
   */
  trust?: Time
  /**
   * How long a source that was asked may send nothing before others are asked; it pays for no
   * answer. **Default:** 2 s.
   */
  patience?: Time
  /**
   * How often the sink may say `Retry` in a row, once a second, before it is our error.
   * **Default:** 10.
   */
  max_retries?: number
  /** How many snapshots the sink may reject before it is blocks. **Default:** 4. */
  max_rejected?: number
  /**
   * The state that is known to be the chain's: who offers another one for this height lies.
   * **Default:** none.
   */
  checkpoint?: Checkpoint | null
}

/** A state that somebody vouches for: whoever wrote the configuration. */
export interface Checkpoint {
  /** The height. */
  height: number
  /** The state root after its block; in hex. */
  state_root: string
}

/** The limits of serving snapshots. */
export interface ServingConfig {
  /** Peers that are served; further ones are told of no snapshot and refused. **Default:** 128. */
  max_peers?: number
  /** Requests of one peer that wait; further ones are refused. **Default:** 64. */
  max_requests?: number
  /** Chunks that are here, or being loaded, for one peer. **Default:** 2. */
  max_loads_per_peer?: number
  /**
   * Bytes of chunks that are here, or being loaded, for all. One chunk is loaded whatever this
   * says. **Default:** 32 MiB.
   */
  max_bytes?: number
  /** Groups of 16 KiB in a piece; at most `MAX_PIECE_GROUPS` count. **Default:** 4. */
  piece_groups?: number
  /**
   * How long a peer may read nothing of what is loaded for it before its requests are refused.
   * **Default:** 20 s.
   */
  patience?: Time
  /**
   * How long after the last request for a snapshot it is kept for who fetches it, though newer ones
   * are enough. **Default:** 60 s.
   */
  in_use?: Time
}

/** What peers may do. */
export interface SecurityConfig {
  /** The encryption of TCP and WebSocket connections. */
  noise_config?: NoiseConfig
  /** The certificate that browsers want of a WebSocket listener with TLS. */
  tls_config?: TlsConfig
  /** The price of misbehaviour. */
  peer_scoring?: PeerScoringConfig
  /** How much a peer may ask. */
  rate_limits?: RateLimitConfig
  /** Who is kept out, and for how long. */
  blacklist_config?: BlacklistConfig
  /** How many connections an address may have. */
  connection_limits?: ConnectionLimitsConfig
}

/** Noise XX (libp2p/specs noise). */
export interface NoiseConfig {
  /**
   * A secret that both sides must know for the handshake to succeed: a closed network. It binds
   * TCP, WebSocket and circuits only, so the node listens and dials on no other transport beside
   * it. **Default:** none.
   */
  prologue?: string | null
}

/**
 * A certificate of a CA, and its key, for listeners at `/tls/ws` or `/wss`: a page that was loaded
 * over https opens no WebSocket without. Natively only. The files are looked at every 2 s, and what
 * is new and right in them is shown to whoever comes from then on; no connection ends for that.
 * Paths are relative to the working directory.
 */
export interface TlsConfig {
  /**
   * The certificate's file in PEM, the host's own first and then those that vouch for it; at most 1
   * MiB. **Default:** none.
   */
  certificate?: string | null
  /** Its private key's file in PEM, without a passphrase. **Default:** none. */
  key?: string | null
}

/** A peer's score: typed events, halved over time (after Lighthouse's peer manager). */
export interface PeerScoringConfig {
  /** The time in which a score moves half way back to zero. **Default:** 600 s. */
  half_life?: Time
  /** At or below it a peer is disconnected. **Default:** -20. */
  disconnect_at?: number
  /** At or below it a peer is banned. **Default:** -50. */
  ban_at?: number
  /**
   * Peers whose score is remembered; the one nearest to zero is forgotten first. **Default:**
   * 10,000.
   */
  max_peers?: number
}

/** How much one peer may ask of this node. */
export interface RateLimitConfig {
  /** Direct messages per second and peer, on average. **Default:** 100. */
  messages_per_second?: number
  /** Direct messages at once above the average. **Default:** 200. */
  burst?: number
  /**
   * Votes per second that are taken from one peer, and passed on to it, on average; a quarter of
   * them at once, so that nobody's have to wait for long behind what came in one go. A peer that
   * sends more is read more slowly. **Default:** 20,000.
   */
  votes_per_second?: number
  /**
   * The same for transactions, and for announcements of such; twice as many at once. **Default:**
   * 1,000,000.
   */
  transactions_per_second?: number
  /**
   * The link's capacity in bytes per second, to which `bandwidth_utilization` relates. **Default:**
   * 125,000,000 (1 Gbit/s).
   */
  link_bytes_per_second?: number
}

/** Who is kept out. */
export interface BlacklistConfig {
  /** Peers that are never let in. **Default:** none. */
  peers?: readonly string[]
  /** How long a ban lasts. **Default:** 1 h. */
  ban_duration?: Time
  /**
   * Bans kept at once. Of more the one that ends first of those for misdeeds is dropped; where all
   * are the user's, none for a misdeed is kept. **Default:** 10,000.
   */
  max_bans?: number
}

/**
 * How many connections others may open, by their address: an IPv4 address, or the first 64 bits of
 * one of IPv6. When all places for handshakes are taken, the longest silent of the most crowded
 * address gives way (see `Handshakes`).
 */
export interface ConnectionLimitsConfig {
  /** Connections at once that have not proved who they are yet. **Default:** 512. */
  handshakes?: number
  /**
   * Of these, the most from one address: enough for a test network of some hundred nodes on one
   * host, all starting at once. **Default:** 256.
   */
  handshakes_per_address?: number
  /**
   * Connections that one public address may have opened. Loopback and private addresses have no
   * limit but `network.max_peers`, since a test network, a reverse proxy or an office may stand
   * behind one. Where there are as many, one whose peer has not said hello gives way to a newcomer
   * from there; it counts until it is gone, so for moments there may be twice as many. How fast an
   * address may open them has no limit. **Default:** 32.
   */
  connections_per_address?: number
  /**
   * Where `network.max_peers` have a place and one more wants one, the least useful of those that
   * came by themselves are let go until so many are left, as far as there are such. 0: one goes for
   * one that comes. **Default:** 0.
   */
  low_watermark?: number
}
