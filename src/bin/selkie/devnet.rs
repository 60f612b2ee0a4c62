//! `selkie devnet`: a small network in one process, to look at and to join.
//!
//! The nodes listen on loopback over every transport and are meshed as a ring with one random chord each, so that a
//! node has four neighbours on average and an item takes several hops; the links take turns with the
//! transports. The replayed files are fed one after the other, round and round, by one node.
//!
//! A node does not take up what it remembers, so that in a network of usual memory a round would be seen once. Here nodes
//! remember as much as half a round of blocks at most, and of transactions less than lies between a block and its return: what
//! comes round again is new again, on each node. A tab that joins should do the same and is told so at `/api/node`. So
//! short a memory is for small networks: it must outlast an item's way through the whole network, or the item goes in circles.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use futures::{
    FutureExt, StreamExt,
    future::{join_all, try_join_all},
    stream::select_all,
};
use futures_timer::Delay;
use libp2p::multiaddr::Protocol;
use selkie::{
    Config, ItemKind, Keypair, Multiaddr, NetworkEvent, P2PNetworkManager, PeerId,
    chain::block_file::BlockFile, propagation::PropagationConfig,
};
use serde_json::{Value, json};

use crate::{
    feed::{self, Feed, Step},
    interrupt::Interrupt,
    output::{Output, Tone, counted, object, remark},
    settings::{Chain, loopback},
    takers::Takers,
    web_server::{self, Folders, Site, find},
};

/// The hash of Bitcoin's first block, as it is shown.
const BITCOIN_GENESIS: &str = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
/// How long plain gossip remembers an item; see the module's documentation.
const MEMORY: Duration = Duration::from_secs(5);
/// How long a transaction may wait for a block that takes it up: longer than a large one is fed.
const POOLED: Duration = Duration::from_secs(120);
/// Blocks after which a round is a long one.
const MANY_BLOCKS: usize = 10_000;
/// The least that a log of transactions holds, in bytes.
const LEAST_LOG: usize = 16 << 10;
/// Time between two status lines.
const STATUS: Duration = Duration::from_secs(10);
/// What is replayed if nobody says: blocks of 2013 to 2016, from 100 transactions to 1,557.
const REPLAYED: [&str; 5] = [
    "testdata/block-227835.raw",
    "testdata/block-277647.raw",
    "testdata/block-227836.raw",
    "testdata/block-370661.raw",
    "testdata/block-413567.raw",
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many nodes
    #[arg(default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// The dashboard's port on 127.0.0.1; 0: any that is free
    #[arg(long, default_value_t = 8420)]
    port: u16,
    /// Replay this block file (repeatable: one after the other, round and round) [default: Bitcoin blocks of the
    /// repository's testdata]
    #[arg(long, value_name = "FILE")]
    replay: Vec<PathBuf>,
    /// Blocks per second at most; 0: as many as the network takes
    #[arg(long, default_value = "1", value_parser = feed::rate)]
    rate: f64,
    /// Transactions per second at most; 0: as many as the network takes
    #[arg(long, default_value = "100", value_parser = feed::rate)]
    transaction_rate: f64,
    /// The network's name
    #[arg(long, value_name = "NAME", default_value = "selkie-dev")]
    network_id: String,
    /// Print one JSON object per line; the last one has `type` `end`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    folders: Folders,
}

pub(crate) async fn run(args: Args, interrupt: Interrupt) -> anyhow::Result<()> {
    let output = Output::new(args.json);
    let outcome = network(args, &interrupt, &output).await;
    output.concluded(outcome, &interrupt).await
}

/// Runs the network until the command is to end.
async fn network(args: Args, interrupt: &Interrupt, output: &Output) -> anyhow::Result<()> {
    let files = if args.replay.is_empty() {
        known_files()
    } else {
        args.replay
    };
    let chain = if files.is_empty() {
        Chain::Bitcoin
    } else {
        Chain::of(&feed::formats(&files)?)
    };
    // First, since it is what fails most often.
    let listener =
        web_server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)), false).await?;
    let round = Round::of(&files)?;
    if round.blocks == 1 {
        remark(
            "one block travels once: the nodes remember it until others follow; give more by --replay",
        );
    }
    let config = config(args.network_id, chain, round)?;
    let made = (0..args.nodes).map(|_| chain.node(config.clone(), Keypair::generate_ed25519()));
    let nodes = try_join_all(made).await?;
    let work = async {
        let links = mesh(&nodes).await?;
        let site = Site::new(args.folders, chain, hosts(&nodes), false);
        let url = web_server::serve(listener, site)?;
        let sentence = format!(
            "{url} shows a network of {} nodes and {links} links; Ctrl-C ends it",
            nodes.len()
        );
        let object = json!({"type": "web", "url": url, "nodes": nodes.len(), "links": links});
        output.result(Tone::Strong, sentence, object)?;
        let feed = Feed {
            files,
            blocks_per_second: args.rate,
            transactions_per_second: args.transaction_rate,
            repeat: true,
            patience: None,
        };
        // The last, since guests come to the first.
        if let Some(node) = nodes.last().filter(|_| round.blocks > 0) {
            tokio::spawn(replay(feed, node.clone()));
        }
        watch(output, &nodes).await
    };
    let outcome = interrupt.unless(work).await;
    join_all(nodes.iter().map(P2PNetworkManager::shutdown)).await;
    outcome.unwrap_or(Ok(()))?;
    let last = async {
        output.room().await;
        output.result(Tone::Faint, "the network has ended", json!({"type": "end"}))?;
        output.finish().await
    };
    // Who does not read misses the last lines.
    Ok(interrupt.unless_late(last).await.unwrap_or(Ok(()))?)
}

/// The repository's blocks, where they are at hand.
fn known_files() -> Vec<PathBuf> {
    let files: Vec<_> = REPLAYED.into_iter().filter_map(find).collect();
    if files.is_empty() {
        remark("no blocks are replayed: no testdata folder is near; give block files by --replay");
    }
    files
}

fn config(network_id: String, chain: Chain, round: Round) -> anyhow::Result<Config> {
    let mut config = Config::default();
    config.network.listen_addresses = loopback(&config);
    config.chain.network_id = network_id;
    if chain == Chain::Bitcoin {
        config.chain.genesis = hex::decode(BITCOIN_GENESIS).context("the genesis hash is hex")?;
    }
    config.protocol.gossipsub_config.duplicate_cache_time = MEMORY;
    // The links are those of the mesh; guests look for others themselves.
    config.protocol.kademlia_config.wanted_peers = 0;
    round.remember(&mut config.protocol.propagation);
    Ok(config)
}

/// What comes by in a round of the replayed files.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Round {
    blocks: usize,
    /// Transactions that travel by themselves, and their bytes.
    transactions: usize,
    bytes: usize,
    /// Of those the most that one block takes up.
    most_transactions: usize,
    most_bytes: usize,
    /// The largest transaction, in bytes.
    largest: usize,
}

impl Round {
    /// Reads the files, up to so many blocks that a usual memory does not reach round.
    fn of(files: &[PathBuf]) -> anyhow::Result<Self> {
        let mut round = Self::default();
        let (mut transactions, mut bytes) = (0, 0);
        for file in files {
            for item in BlockFile::open(file)? {
                let item = item?;
                if item.kind() == ItemKind::Block {
                    round.blocks += 1;
                    round.most_transactions = round.most_transactions.max(transactions);
                    round.most_bytes = round.most_bytes.max(bytes);
                    (transactions, bytes) = (0, 0);
                    if round.blocks >= MANY_BLOCKS {
                        return Ok(round);
                    }
                } else {
                    round.transactions += 1;
                    round.bytes += item.data().len();
                    round.largest = round.largest.max(item.data().len());
                    transactions += 1;
                    bytes += item.data().len();
                }
            }
        }
        Ok(round)
    }

    /// Lets nodes forget before the round is over.
    fn remember(self, propagation: &mut PropagationConfig) {
        let usual = PropagationConfig::default();
        let blocks = (self.blocks / 2).max(1);
        propagation.blocks.max_seen = blocks.min(usual.blocks.max_seen);
        propagation.blocks.max_recent_blocks = blocks.min(usual.blocks.max_recent_blocks);
        // Between a transaction and its return come at least those of the other blocks. Up to twice as many are remembered.
        let between = self.transactions - self.most_transactions;
        propagation.mempool.max_seen = (between / 4).clamp(1, usual.mempool.max_seen);
        propagation.mempool.max_age = POOLED;
        let between = self.bytes - self.most_bytes;
        let log = (between / 4).max(self.largest);
        let tree = &mut propagation.transactions;
        tree.max_log_bytes = log.clamp(LEAST_LOG, usual.transactions.max_log_bytes);
    }
}

/// The nodes that tabs are told to join: two that are no neighbours, or what there is.
fn hosts(nodes: &[P2PNetworkManager]) -> Vec<P2PNetworkManager> {
    let other = nodes.get(nodes.len() / 2).filter(|_| nodes.len() > 1);
    nodes.first().into_iter().chain(other).cloned().collect()
}

/// Starts the nodes and links them; returns how many links there are.
async fn mesh(nodes: &[P2PNetworkManager]) -> anyhow::Result<usize> {
    try_join_all(nodes.iter().map(P2PNetworkManager::start)).await?;
    let links = links(nodes.len(), &RandomState::new());
    let dials = links.iter().enumerate().filter_map(|(turn, (from, to))| {
        let (from, addresses) = (nodes.get(*from)?, nodes.get(*to)?.listeners());
        Some(from.dial(in_turn(&addresses, turn)?))
    });
    Ok(try_join_all(dials).await?.len())
}

/// A ring, and a chord from each node: pairs of places, the lower one first.
fn links(count: usize, random: &impl BuildHasher) -> BTreeSet<(usize, usize)> {
    let chord = |from: usize| {
        let bound = u64::try_from(count).ok()?;
        usize::try_from(random.hash_one(from).checked_rem(bound)?).ok()
    };
    let next = |from: usize| (from + 1).checked_rem(count);
    let ends = (0..count).flat_map(|from| [next(from), chord(from)].map(|to| (from, to)));
    ends.filter_map(|(from, to)| Some((from, to?)))
        .filter(|(from, to)| from != to)
        .map(|(from, to)| (from.min(to), from.max(to)))
        .collect()
}

/// Transports take turns, but for those that are there for browsers: between two native nodes WebRTC-direct is the
/// slowest, and WebTransport can't be dialled.
fn in_turn(addresses: &[Multiaddr], turn: usize) -> Option<Multiaddr> {
    let for_browsers = |address: &Multiaddr| {
        let mut protocols = address.iter();
        protocols.any(|p| matches!(p, Protocol::WebRTCDirect | Protocol::WebTransport))
    };
    let mut usual = addresses
        .iter()
        .filter(|address| !for_browsers(address))
        .cycle();
    usual.nth(turn).cloned()
}

/// Feeds a file until the network ends.
async fn replay(feed: Feed, node: P2PNetworkManager) {
    let mut refused = false;
    let mut takers = Takers::of(&node);
    let fed = feed.run(&node, &mut takers, |_, step| {
        if let (Step::Refused(error), false) = (step, refused) {
            refused = true;
            remark(error);
        }
        Ok(())
    });
    if let Err(error) = fed.await
        && !node.listeners().is_empty()
    {
        remark(format_args!("the replay ended: {error}"));
    }
}

/// What has reached the first node since the last status line.
#[derive(Default)]
struct Status {
    blocks: u64,
    transactions: u64,
    refused: u64,
}

/// Tells of guests as they come and go, and now and then what the first node has received.
async fn watch(output: &Output, nodes: &[P2PNetworkManager]) -> anyhow::Result<()> {
    let own: BTreeSet<PeerId> = nodes.iter().map(|node| node.local_peer_id).collect();
    let mut guests = BTreeSet::new();
    let mut status = Status::default();
    let numbered = nodes
        .iter()
        .zip(1_usize..)
        .map(|(node, number)| node.subscribe_events().map(move |event| (number, event)));
    let mut events = select_all(numbered);
    let mut next_status = Delay::new(STATUS).fuse();
    loop {
        futures::select! {
            () = next_status => {
                let guests = u64::try_from(guests.len())?;
                output.say(Tone::Faint, status.sentence(guests), status.object(guests))?;
                status = Status::default();
                next_status = Delay::new(STATUS).fuse();
            }
            event = events.next() => {
                let Some((number, event)) = event else {
                    anyhow::bail!("the nodes ended by themselves; --log warn may tell why");
                };
                status.count(number, &event);
                if let Some((tone, sentence)) = guest(&event, number, &own, &mut guests) {
                    let mut object = object(&event);
                    object["node"] = number.into();
                    output.say(tone, sentence, object)?;
                }
            }
        }
    }
}

impl Status {
    fn count(&mut self, number: usize, event: &NetworkEvent) {
        match event {
            NetworkEvent::ItemAccepted { item, .. } if number == 1 => match item.kind() {
                ItemKind::Block => self.blocks += 1,
                ItemKind::Transaction => self.transactions += 1,
                ItemKind::Vote => {}
            },
            NetworkEvent::ItemRefused { .. } => self.refused += 1,
            _ => {}
        }
    }

    fn object(&self, guests: u64) -> Value {
        json!({
            "type": "status",
            "node": 1,
            "blocks": self.blocks,
            "transactions": self.transactions,
            "refused": self.refused,
            "seconds": STATUS.as_secs(),
            "guests": guests,
        })
    }

    fn sentence(&self, guests: u64) -> String {
        let (blocks, transactions) = (
            counted(self.blocks, "block"),
            counted(self.transactions, "transaction"),
        );
        let (seconds, guests) = (STATUS.as_secs(), counted(guests, "guest"));
        let mut sentence =
            format!("node 1 received {blocks} and {transactions} in {seconds} s; {guests}");
        if self.refused > 0 {
            // Writing to a string doesn't fail.
            let _ = write!(sentence, "; refused: {}", counted(self.refused, "item"));
        }
        sentence
    }
}

/// What there is to say of peers that are not the network's own.
fn guest(
    event: &NetworkEvent,
    number: usize,
    own: &BTreeSet<PeerId>,
    guests: &mut BTreeSet<(usize, PeerId)>,
) -> Option<(Tone, String)> {
    match event {
        NetworkEvent::PeerConnected(peer) if !own.contains(&peer.peer_id) => {
            guests.insert((number, peer.peer_id));
            let sentence = format!(
                "{} joined node {number} over {}",
                peer.peer_id,
                peer.transport()
            );
            Some((Tone::Good, sentence))
        }
        NetworkEvent::PeerDisconnected { peer_id, reason }
            if guests.remove(&(number, *peer_id)) =>
        {
            Some((
                Tone::Faint,
                format!("{peer_id} left node {number}: {reason}"),
            ))
        }
        NetworkEvent::PeerRefused {
            peer_id, reason, ..
        } => Some((
            Tone::Bad,
            format!("node {number} refused {peer_id}: {reason}"),
        )),
        NetworkEvent::PeerDisconnected { peer_id, reason } if own.contains(peer_id) => Some((
            Tone::Bad,
            format!("node {number} lost its neighbour {peer_id}: {reason}"),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, path::Path};

    use futures::future::{Either, select};

    use super::*;

    #[test]
    fn every_node_is_linked_and_none_to_itself() {
        for count in 0..20 {
            let links = links(count, &RandomState::new());
            assert!(links.iter().all(|(from, to)| from < to && *to < count));
            assert!(links.len() <= 2 * count);
            let ring = (0..count)
                .filter(|_| count > 1)
                .map(|from| (from, (from + 1) % count));
            assert!(
                ring.map(|(a, b)| (a.min(b), a.max(b)))
                    .all(|link| links.contains(&link))
            );
        }
    }

    #[test]
    fn the_configuration_is_right_for_each_chain() {
        for chain in [Chain::Bitcoin, Chain::Opaque] {
            for round in [Round::default(), round()] {
                let config = config("selkie-dev".to_owned(), chain, round).expect("made");
                assert_eq!(config.check(), Ok(()));
                assert_eq!(config.chain.genesis.is_empty(), chain == Chain::Opaque);
            }
        }
    }

    /// The two smallest blocks of the demonstration.
    fn files() -> Vec<PathBuf> {
        ["block-227835.raw", "block-227836.raw"]
            .map(|name| {
                Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("testdata")
                    .join(name)
            })
            .to_vec()
    }

    fn round() -> Round {
        Round::of(&files()).expect("testdata is in the repository")
    }

    #[test]
    fn a_round_is_counted() {
        let Round {
            blocks,
            transactions,
            most_transactions,
            ..
        } = round();
        assert_eq!(
            (blocks, transactions, most_transactions),
            (2, 121 + 99, 121)
        );
        let none = Round::of(&[]).expect("no files");
        assert_eq!(none, Round::default());
        assert!(Round::of(&["no such file".into()]).is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_comes_round_again_is_new_again() {
        let config = config("selkie-dev".to_owned(), Chain::Bitcoin, round()).expect("made");
        let made = (0..3).map(|_| Chain::Bitcoin.node(config.clone(), Keypair::generate_ed25519()));
        let nodes = try_join_all(made).await.expect("made");
        mesh(&nodes).await.expect("they listen");
        let mut events = nodes[0].subscribe_events();
        let feed = Feed {
            files: files(),
            blocks_per_second: 5.0,
            transactions_per_second: 0.0,
            repeat: true,
            patience: None,
        };
        let feeding = tokio::spawn(replay(feed, nodes[2].clone()));
        let mut seen: HashMap<_, usize> = HashMap::new();
        // Each block, and of the transactions as many as there are, for the third time.
        let three_rounds = async {
            while seen.values().filter(|times| **times >= 3).count() < 2 + 121 + 99 {
                if let Some(NetworkEvent::ItemAccepted { id, .. }) = events.recv().await {
                    *seen.entry(id).or_default() += 1;
                }
            }
        };
        let late = Delay::new(Duration::from_secs(60));
        let outcome = select(Box::pin(three_rounds), late).await;
        assert!(matches!(outcome, Either::Left(_)), "it came to a halt");
        join_all(nodes.iter().map(P2PNetworkManager::shutdown)).await;
        feeding.abort();
    }

    #[test]
    fn nodes_dial_each_other_by_what_nodes_dial() {
        let addresses = [
            "/ip4/127.0.0.1/udp/1/quic-v1/webtransport",
            "/ip4/127.0.0.1/udp/2/quic-v1",
            "/ip4/127.0.0.1/udp/3/webrtc-direct",
            "/ip4/127.0.0.1/tcp/4/ws",
        ]
        .map(|address| address.parse().expect("a multiaddr"));
        let dialled: Vec<_> = (0..3).map(|turn| in_turn(&addresses, turn)).collect();
        let [_, quic, _, websocket] = addresses;
        assert_eq!(
            dialled,
            [Some(quic.clone()), Some(websocket), Some(quic)],
            "only what a native node can dial, in turn"
        );
        assert_eq!(in_turn(&[], 0), None);
    }
}
