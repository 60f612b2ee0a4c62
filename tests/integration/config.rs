//! The configuration: every field at both ends of its range and beyond, fields that do not fit together, and addresses.

use std::{num::NonZeroU64, time::Duration};

use futures::future::join_all;
use selkie::{
    Config, ConfigField, Item, ItemKind, NetworkEvent, P2PNetworkManager, PeerInfo, Quantity,
    chain::ledger::Ledger, sync::snapshots::Checkpoint,
};
use serde_json::{Value, json};

use crate::{
    certificates::{Files, Pair},
    snapshots,
    support::*,
};

/// A configuration in which everything is set that may be left out.
fn full(files: &Files) -> Config {
    let mut config = files.listening(TCP);
    let peer: PeerInfo =
        "/ip4/203.0.113.2/tcp/30303/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
            .parse()
            .expect("a peer");
    config.network.external_addresses = peer.addresses.clone();
    config.security.blacklist_config.peers = vec![peer.peer_id.to_string()];
    config.network.bootstrap_peers = vec![peer];
    config.chain.genesis = vec![7];
    config.protocol.kademlia_config.server = Some(true);
    config.security.noise_config.prologue = Some("secret".to_owned());
    let download = &mut config.protocol.sync.snapshots.download;
    download.checkpoint = Some(Checkpoint {
        height: 7,
        state_root: vec![7],
    });
    let budget = NonZeroU64::new(1_000_000);
    for direction in [
        &mut config.protocol.propagation.upload,
        &mut config.protocol.propagation.download,
    ] {
        (direction.global, direction.per_peer) = (budget, budget);
    }
    config
}

fn tree(config: &Config) -> Value {
    serde_json::to_value(config).expect("a configuration is data")
}

/// Every leaf with its path; a list is one.
fn leaves(path: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(&format!("{path}{dot}{name}"), value, found);
            }
        }
        value => found.push((path.to_owned(), value.clone())),
    }
}

/// The configuration with another value in one place; an error where it can't be one.
fn with(base: &Config, path: &str, value: Quantity) -> Result<Config, serde_json::Error> {
    let mut tree = tree(base);
    let place = path
        .split('.')
        .fold(&mut tree, |place, name| &mut place[name]);
    *place = match value {
        Quantity::Time(time) => json!(format!("{}ns", time.as_nanos())),
        Quantity::Score(score) => json!(score),
        Quantity::Entries(count) => {
            let count = usize::try_from(count).expect("it fits into memory");
            match place.as_array() {
                Some(list) => json!(vec![list[0].clone(); count]),
                None => json!("00".repeat(count)),
            }
        }
        Quantity::Characters(count) => json!("a".repeat(usize::try_from(count).expect("a text"))),
        Quantity::Count(number) | Quantity::Bytes(number) | Quantity::BytesPerSecond(number) => {
            json!(number)
        }
        other => panic!("a new unit: {other:?}"),
    };
    serde_json::from_value(tree)
}

fn below(least: Quantity) -> Option<Quantity> {
    Some(match least {
        Quantity::Count(number) => Quantity::Count(number.checked_sub(1)?),
        Quantity::Bytes(number) => Quantity::Bytes(number.checked_sub(1)?),
        Quantity::BytesPerSecond(number) => Quantity::BytesPerSecond(number.checked_sub(1)?),
        Quantity::Entries(number) => Quantity::Entries(number.checked_sub(1)?),
        Quantity::Characters(number) => Quantity::Characters(number.checked_sub(1)?),
        Quantity::Time(time) => Quantity::Time(time.checked_sub(Duration::from_nanos(1))?),
        Quantity::Score(score) => Quantity::Score(score - 1.0),
        other => panic!("a new unit: {other:?}"),
    })
}

fn above(most: Quantity) -> Quantity {
    match most {
        Quantity::Count(number) => Quantity::Count(number + 1),
        Quantity::Bytes(number) => Quantity::Bytes(number + 1),
        Quantity::BytesPerSecond(number) => Quantity::BytesPerSecond(number + 1),
        Quantity::Entries(number) => Quantity::Entries(number + 1),
        Quantity::Characters(number) => Quantity::Characters(number + 1),
        Quantity::Time(time) => Quantity::Time(time + Duration::from_nanos(1)),
        Quantity::Score(score) => Quantity::Score(score + 1.0),
        other => panic!("a new unit: {other:?}"),
    }
}

/// Nothing, and more than any clock or memory holds.
fn absurd(unit: Quantity) -> [Quantity; 2] {
    match unit {
        Quantity::Count(_) => [0, u32::MAX.into()].map(Quantity::Count),
        Quantity::Bytes(_) => [0, u64::MAX].map(Quantity::Bytes),
        Quantity::BytesPerSecond(_) => [0, u64::MAX].map(Quantity::BytesPerSecond),
        Quantity::Entries(_) => [0, 200_000].map(Quantity::Entries),
        Quantity::Characters(_) => [0, 1 << 20].map(Quantity::Characters),
        Quantity::Time(_) => [0, u64::MAX].map(|time| Quantity::Time(Duration::from_nanos(time))),
        Quantity::Score(_) => [f64::MIN, f64::MAX].map(Quantity::Score),
        other => panic!("a new unit: {other:?}"),
    }
}

#[test]
fn no_field_is_without_a_range() {
    let files = Files::with(&Pair::new());
    let config = full(&files);
    assert_eq!(config.check(), Ok(()));
    let fields = config.fields();
    let mut found = Vec::new();
    leaves("", &tree(&config), &mut found);
    for (path, value) in &found {
        assert!(!value.is_null(), "give {path} a value in full()");
        let ranged = fields.iter().any(|field| field.path == path);
        assert!(
            ranged || value.is_boolean(),
            "give {path} a range in config/ranges.rs"
        );
    }
    for field in &fields {
        let there = found.iter().any(|(path, _)| field.path == path);
        assert!(there, "{} is no field", field.path);
    }
}

#[test]
fn what_is_out_of_its_range_is_named() {
    let files = Files::with(&Pair::new());
    let config = full(&files);
    for field in config.fields() {
        let ConfigField {
            path, least, most, ..
        } = field;
        let [nothing, everything] = absurd(least);
        let wrong = [
            below(least),
            Some(above(most)),
            Some(nothing),
            Some(everything),
        ];
        for value in wrong.into_iter().flatten() {
            if least <= value && value <= most {
                continue;
            }
            // What is not even a value of its type has been refused by now.
            if let Ok(wrong) = with(&config, path, value) {
                let error = wrong.check().expect_err(&format!("{path} = {value:?}"));
                assert_eq!(error.field, path, "{error}");
            }
        }
    }
}

/// Each end of each range as far as it fits the rest, in a node that meets another one.
#[tokio::test]
async fn a_node_runs_with_any_value_that_is_allowed() {
    let files = Files::with(&Pair::new());
    let full = full(&files);
    let mut allowed = Vec::new();
    for ConfigField {
        path, least, most, ..
    } in full.fields()
    {
        for value in [least, most] {
            let changed = with(&full, path, value).expect("a value of its type");
            // Where another field would have to be changed too, the check says so.
            if changed.check().is_ok() {
                allowed.push((path, value, changed));
            }
        }
    }
    assert!(allowed.len() > 130, "only {} are", allowed.len());
    for some in allowed.chunks(AT_ONCE) {
        let runs = some.iter().cloned();
        join_all(runs.map(|(path, value, config)| run(path, value, config))).await;
    }
}

/// Nodes that run at the same time.
const AT_ONCE: usize = 8;

/// Runs a node with one unusual value, beside one of the same network.
async fn run(path: &str, value: Quantity, mut config: Config) {
    // Nobody is there.
    config.network.bootstrap_peers.clear();
    let mut usual = listening(TCP);
    usual.chain = config.chain.clone();
    usual.security.noise_config = config.security.noise_config.clone();
    let (node, other) = (Node::start(config).await, Node::start(usual).await);
    // With a patience of 10 ms, say, it may fail; what counts is that it ends.
    let _ = soon(path, node.dial(other.address())).await;
    for kind in [ItemKind::Transaction, ItemKind::Block, ItemKind::Vote] {
        let item = Item::new(kind, format!("{path} {value:?}"));
        let _ = soon(path, node.submit(item)).await;
    }
    // It answers still, and so has not died.
    let joined = soon(path, node.subscribe_topic("still-here", false)).await;
    assert!(joined.is_ok(), "{path} = {value:?}: {joined:?}");
    assert_ends_in_order(path, node).await;
    other.shutdown().await;
}

/// What is run of sync is that of chains that keep their blocks: here one has some, and another comes for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_syncs_with_any_value_that_is_allowed() {
    let chain = snapshots::ledger(snapshots::memory());
    let blocks = |count| (0..count).for_each(|_| snapshots::grow(&chain));
    blocks(40);
    snapshots::finalize(&chain);
    let made = chain.make_snapshot(None, snapshots::CHUNK);
    assert!(made.expect("written").is_some());
    blocks(10);
    let files = Files::with(&Pair::new());
    let full = full(&files);
    let mut allowed = Vec::new();
    for field in full.fields() {
        let path = field.path;
        if !path.starts_with("protocol.sync.") {
            continue;
        }
        let mut usual = snapshots::config();
        let download = &mut usual.protocol.sync.snapshots.download;
        (download.settle, download.search) = (Duration::ZERO, Duration::from_secs(1));
        if path.contains(".checkpoint.") {
            let known = &full.protocol.sync.snapshots.download.checkpoint;
            download.checkpoint.clone_from(known);
        }
        for value in [field.least, field.most] {
            let changed = with(&usual, path, value).expect("a value of its type");
            if changed.check().is_ok() {
                allowed.push((path, value, changed, chain.clone()));
            }
        }
    }
    assert!(allowed.len() > 40, "only {} are", allowed.len());
    let mut synced = 0;
    for some in allowed.chunks(AT_ONCE) {
        let runs = some.iter().cloned();
        let runs = runs.map(|(path, value, config, chain)| sync(path, value, config, chain));
        synced += join_all(runs)
            .await
            .into_iter()
            .filter(|came| *came)
            .count();
    }
    assert!(synced > allowed.len() / 2, "only {synced} came to the end");
}

/// Two nodes with one unusual value, of which one has this chain and the other nothing; whether that came to have all of it.
async fn sync(path: &str, value: Quantity, config: Config, chain: Ledger) -> bool {
    let source = Node::with(config.clone(), chain).await;
    let mut sink = Node::with(config, snapshots::ledger(snapshots::memory())).await;
    let _ = soon(path, sink.dial(source.address())).await;
    // With an hour's patience, say, it may not get there; what counts is that all goes on.
    let came = tokio::time::timeout(LONGEST_SYNC, sink.synced_to(50))
        .await
        .is_ok();
    for node in [source, sink] {
        let joined = soon(path, node.subscribe_topic("still-here", false)).await;
        assert!(joined.is_ok(), "{path} = {value:?}: {joined:?}");
        assert_ends_in_order(path, node).await;
    }
    came
}

/// Fifty blocks take a few round trips, and a second for a snapshot that nobody has.
const LONGEST_SYNC: Duration = Duration::from_secs(5);

async fn assert_ends_in_order(path: &str, mut node: Node) {
    soon(path, node.shutdown()).await;
    let ended = node.event("its end", |event| match event {
        NetworkEvent::Stopped => Some(Ok(())),
        NetworkEvent::Crashed { reason } => Some(Err(reason)),
        _ => None,
    });
    assert_eq!(ended.await, Ok(()), "{path}");
}

fn complaint(change: impl FnOnce(&mut Config)) -> Option<String> {
    let mut config = Config::default();
    change(&mut config);
    config.check().err().map(|error| error.to_string())
}

#[test]
fn limits_that_belong_together_fit_together() {
    type Change = fn(&mut Config);
    let wrong: [(Change, &str, &str); 10] = [
        (
            |config| config.protocol.gossipsub_config.max_transmit_size = 8 << 20,
            "protocol.gossipsub_config.max_transmit_size = 8388608",
            "to 4194304",
        ),
        (
            |config| config.protocol.propagation.transactions.max_item = 16 << 20,
            "protocol.propagation.transactions.max_item = 16777216",
            "to 4194304",
        ),
        (
            |config| config.protocol.gossipsub_config.max_transmit_size = 1 << 20,
            "protocol.gossipsub_config.max_transmit_size = 1048576",
            "at least 4194304, as protocol.propagation.blocks.max_block_bytes has it",
        ),
        (
            |config| config.protocol.propagation.votes.max_log_bytes = 1024,
            "protocol.propagation.votes.max_log_bytes = 1024",
            "at least 131072, for an item of protocol.propagation.votes.max_item",
        ),
        (
            |config| config.protocol.validation.blocks.per_peer = 1 << 20,
            "protocol.validation.blocks.per_peer = 1048576",
            "at least 5242880",
        ),
        (
            |config| config.protocol.propagation.coded.max_bytes = 4 << 20,
            "protocol.propagation.coded.max_bytes = 4194304",
            "at least 8388608",
        ),
        (
            |config| config.protocol.gossipsub_config.mesh_n = 13,
            "protocol.gossipsub_config.mesh_n_high = 12",
            "at least 13",
        ),
        (
            |config| config.protocol.propagation.coded.patience = Duration::from_secs(5),
            "protocol.propagation.coded.give_up_after = 4s",
            "at least 5s",
        ),
        (
            |config| config.security.connection_limits.low_watermark = 51,
            "network.max_peers = 50",
            "at least 51",
        ),
        (
            |config| config.security.peer_scoring.disconnect_at = -60.0,
            "security.peer_scoring.disconnect_at = -60",
            "at least -50",
        ),
    ];
    for (change, named, right) in wrong {
        let complaint = complaint(change).expect(named);
        assert!(
            complaint.contains(named) && complaint.contains(right),
            "{complaint}"
        );
    }
    let nan = complaint(|config| config.security.peer_scoring.ban_at = f64::NAN);
    assert!(nan.expect("no number").contains("ban_at = NaN"));
}

fn listeners(addresses: &[&str]) -> Option<String> {
    let addresses = addresses
        .iter()
        .map(|text| text.parse().expect("an address"));
    complaint(|config| config.network.listen_addresses = addresses.collect())
}

#[test]
fn what_cannot_be_listened_at_is_named() {
    for (address, problem) in [
        ("/dns4/example.org/tcp/1", "a name is no interface"),
        ("/ip4/127.0.0.1/sctp/1", "no transport here"),
        ("/ip4/127.0.0.1/udp/1", "no transport here"),
        ("/ip4/127.0.0.1/tcp/1/wss", "TLS needs a certificate"),
        ("/dns6/example.org/tcp/1/tls/ws", "TLS needs a certificate"),
        ("/dns4/example.org/tcp/1/ws", "a name is no interface"),
        ("/dns/example.org/tcp/1/tls/ws", "a name is no interface"),
        ("/ip4/127.0.0.1/tcp/1/tls", "no transport here"),
        ("/unix/socket", "no transport here"),
    ] {
        let complaint = listeners(&[TCP, address]).expect(address);
        assert!(
            complaint.contains("network.listen_addresses[1]") && complaint.contains(problem),
            "{complaint}"
        );
    }
    let right = [
        "/ip4/0.0.0.0/tcp/1",
        "/ip6/::/tcp/1",
        "/ip4/0.0.0.0/tcp/2/ws",
        "/ip4/0.0.0.0/udp/1/quic",
        "/ip4/0.0.0.0/udp/2/quic-v1/webtransport",
        "/memory/0",
        "/ip4/1.2.3.4/tcp/5/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
    ];
    assert_eq!(listeners(&right), None);
}

#[test]
fn a_port_is_for_one_listener() {
    let twice = [
        "/ip4/0.0.0.0/udp/1/quic-v1",
        "/ip4/127.0.0.1/udp/1/quic-v1/webtransport",
    ];
    assert!(
        listeners(&twice)
            .expect("one port")
            .contains("has this port already")
    );
    let apart = [
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/127.0.0.1/udp/1/quic-v1",
        "/ip4/127.0.0.2/tcp/1",
    ];
    assert_eq!(listeners(&apart), None);
    assert_eq!(listeners(&[TCP, TCP]), None);
}

/// What the check lets through can be listened at.
#[tokio::test]
async fn what_is_right_starts() {
    for address in [
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/127.0.0.1/tcp/0/ws",
        "/ip4/127.0.0.1/udp/0/quic",
        "/ip4/127.0.0.1/udp/0/quic-v1/webtransport",
        "/memory/0",
    ] {
        let node = P2PNetworkManager::new(listening(address))
            .await
            .expect(address);
        soon(address, node.start()).await.expect(address);
        node.shutdown().await;
    }
}
