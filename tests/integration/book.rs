//! What a node knows of others over a restart, and whom it keeps out.

use std::{path::Path, time::Duration};

use libp2p::Multiaddr;
use selkie::{
    Config, Keypair, NetworkError, NetworkEvent, NetworkMessage, P2PNetworkManager, PeerId,
    PeerInfo,
    peers::{AddressBook, AsMap, Banned, Grouping},
    storage::{KeptAddressBook, Opened, keep_address_book},
};

use crate::support::*;

/// A node that keeps its address book in a file.
async fn keeping(path: &Path) -> (Node, KeptAddressBook) {
    let keypair = Keypair::generate_ed25519();
    let manager = P2PNetworkManager::with(listening(TCP), keypair, selkie::chain::Opaque).await;
    let manager = manager.expect("the configuration is right");
    let kept = keep_address_book(&manager, path).expect("it has not started");
    (Node::started(manager).await, kept)
}

#[tokio::test]
async fn a_node_that_restarts_finds_its_peers_without_a_bootstrap_peer() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep/peers.book");
    let seed = Node::start(listening(TCP)).await;
    // It waits to be dialled: who dialled us has proved nothing, and near addresses that nobody proved are not dialled again.
    let mut config = listening(TCP);
    config.protocol.kademlia_config.wanted_peers = 0;
    let mut other = Node::start(config).await;
    soon("the dial", other.dial(seed.address()))
        .await
        .expect("it is up");
    let (mut first, kept) = keeping(&path).await;
    assert_eq!(kept.opened, Opened::New);
    soon("the dial", first.dial(seed.address()))
        .await
        .expect("it is up");
    // The seed names the other, which is dialled.
    first.connected(other.id()).await;
    other.connected(first.id()).await;
    soon("the end", first.shutdown()).await;
    soon("the last writing", kept.written()).await;
    soon("the end", seed.shutdown()).await;
    let (mut again, kept) = keeping(&path).await;
    assert_eq!(kept.opened, Opened::Loaded);
    again.connected(other.id()).await;
}

/// A map in which all of IPv4 is one provider's: of Bitcoin Core's own tests.
const AS_MAP: &str = "fb03ec0fb03fc0fe00fb03ec0fb03fc0fe00fb03ec0fb0fffffeff000000";

#[tokio::test]
async fn a_node_with_a_map_counts_by_it_and_places_its_last_book_anew() {
    let map = || AsMap::read(&hex::decode(AS_MAP).expect("hex")).expect("a map");
    let (own, known) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (own_id, known) = (own.public().to_peer_id(), known.public().to_peer_id());
    let now = selkie::platform::now();
    let dials = |_: &Multiaddr| true;
    let mut book = AddressBook::new(own_id, dials, Grouping::default(), [7; 32], now);
    let home: Multiaddr = "/ip4/1.2.3.4/tcp/1".parse().expect("an address");
    book.reached(known, &home, now);
    let book = book.save(&[], now, selkie::platform::date());
    let mut config = listening(TCP);
    config.protocol.kademlia_config.wanted_peers = 0;
    let start = async || {
        let node = P2PNetworkManager::with(config.clone(), own.clone(), selkie::chain::Opaque);
        node.await.expect("the configuration is right")
    };
    let network = |node: &P2PNetworkManager| node.known_peers()[0].network.to_string();
    let plain = start().await;
    plain.load_address_book(&book).expect("a book");
    assert_eq!(network(&plain), "1.2.0.0/16");
    let late = plain.use_as_map(map()).expect_err("the book is there");
    assert!(
        late.to_string().contains("before the address book"),
        "{late}"
    );
    let mapped = start().await;
    mapped.use_as_map(map()).expect("it has none");
    mapped.use_as_map(map()).expect_err("it has one");
    mapped.load_address_book(&book).expect("a book");
    assert_eq!(network(&mapped), "AS1");
    let again = start().await;
    again.use_as_map(map()).expect("it has none");
    again
        .load_address_book(&mapped.save_address_book())
        .expect("a book");
    assert_eq!(network(&again), "AS1");
    let started = Node::started(start().await).await;
    let late = started.use_as_map(map());
    assert!(matches!(late, Err(NetworkError::AlreadyStarted)));
}

#[tokio::test]
async fn what_is_no_book_costs_the_book_and_not_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("peers.book");
    let (node, kept) = keeping(&path).await;
    soon("the end", node.shutdown()).await;
    soon("the last writing", kept.written()).await;
    let whole = std::fs::read(&path).expect("it was written");
    let mut damaged = whole.clone();
    *damaged.last_mut().expect("it is not empty") ^= 1;
    let rows: [(&[u8], &str); 4] = [
        (b"", "empty"),
        (&whole[..whole.len() - 1], "only a part"),
        (&damaged, "damaged"),
        (b"something else", "no address book"),
    ];
    for (bytes, why) in rows {
        std::fs::write(&path, bytes).expect("it can be written");
        loses(&path, why).await;
    }
    let file = std::fs::File::create(&path).expect("it can be written");
    // A hole: a gigabyte that takes no room.
    file.set_len(1 << 30).expect("it can be large");
    loses(&path, "larger than").await;
    std::fs::remove_file(&path).expect("it was replaced");
    std::fs::create_dir(&path).expect("a folder in its place");
    let (node, kept) = keeping(&path).await;
    assert!(matches!(kept.opened, Opened::Lost { .. }));
    soon("the end", node.shutdown()).await;
    soon("the last try", kept.written()).await;
}

/// A start with such a file: it is put aside, and replaced.
async fn loses(path: &Path, why: &str) {
    let length = |path: &Path| std::fs::metadata(path).expect("it is there").len();
    let before = length(path);
    let (node, kept) = keeping(path).await;
    let aside = format!("{}.lost", path.display());
    assert_eq!(length(Path::new(&aside)), before, "{why}");
    match &kept.opened {
        Opened::Lost { reason } => assert!(reason.contains(why), "{reason}"),
        other => panic!("{why}: {other:?}"),
    }
    soon("the end", node.shutdown()).await;
    soon("the last writing", kept.written()).await;
    let (_, kept) = keeping(path).await;
    assert_eq!(kept.opened, Opened::Loaded, "{why}");
}

#[tokio::test]
async fn a_ban_by_the_user_outlives_a_restart_and_can_be_lifted() {
    let (mut node, mut peer) = (
        Node::start(listening(TCP)).await,
        Node::start(listening(TCP)).await,
    );
    connect(&mut peer, &mut node).await;
    let hour = Duration::from_secs(3600);
    soon("the ban", node.ban(peer.id(), Some(hour)))
        .await
        .expect("it runs");
    let reason = node.disconnected(peer.id()).await;
    assert!(reason.contains("banned by this node's user"), "{reason}");
    soon("the end", node.shutdown()).await;
    let again = P2PNetworkManager::new(listening(TCP)).await;
    let again = again.expect("the configuration is right");
    again
        .load_address_book(&node.save_address_book())
        .expect("a book");
    let again = Node::started(again).await;
    let [ban] = again.bans()[..] else {
        panic!("one ban")
    };
    assert!(ban.who == peer.id().into() && ban.until.is_some());
    peer.disconnected(node.id()).await;
    let told = soon("the dial", peer.dial(again.address())).await;
    let told = told.expect_err("it is banned").to_string();
    assert!(told.contains("you are banned here for 3"), "{told}");
    soon("the dial", peer.dial(again.address()))
        .await
        .expect_err("it has heard of it");
    assert!(again.unban(peer.id()) && !again.unban(peer.id()));
    soon("the dial", peer.dial(again.address()))
        .await
        .expect("it is let in again");
    let late = again.load_address_book(&again.save_address_book());
    assert_eq!(late.expect_err("too late").code(), "already-started");
}

#[tokio::test]
async fn a_new_blacklist_lets_go_who_is_on_it_and_in_who_no_longer_is() {
    let mut node = Node::start(listening(TCP)).await;
    let mut guest = Node::start(listening(TCP)).await;
    connect(&mut guest, &mut node).await;
    node.blacklist([guest.id()]).await.expect("it runs");
    let reason = node.disconnected(guest.id()).await;
    assert!(reason.contains("banned by this node's user"), "{reason}");
    guest.disconnected(node.id()).await;
    let ban = node.bans().remove(0);
    assert_eq!((ban.who, ban.until), (guest.id().into(), None));
    let refused = soon("the dial", node.dial(guest.address())).await;
    refused.expect_err("nor is it dialled");
    assert!(!node.unban(guest.id()), "it is not for a while");
    node.blacklist([]).await.expect("it runs");
    assert!(node.bans().is_empty());
    connect(&mut node, &mut guest).await;

    let crowd = (0..100_001_u32).map(|number| {
        let id = [&[0, 4][..], &number.to_be_bytes()].concat();
        PeerId::from_bytes(&id).expect("a short id")
    });
    let error = node.blacklist(crowd).await.expect_err("they are too many");
    assert!(error.to_string().contains("100000"), "{error}");
    node.shutdown().await;
    let error = node.blacklist([]).await.expect_err("it has ended");
    assert!(matches!(error, NetworkError::NotRunning), "{error}");
}

#[tokio::test]
async fn a_banned_network_is_let_go_and_kept_out_both_ways_until_the_ban_is_lifted() {
    let (mut node, mut peer) = (
        Node::start(listening(TCP)).await,
        Node::start(listening(TCP)).await,
    );
    connect(&mut peer, &mut node).await;
    let here: Banned = "127.0.0.1".parse().expect("an address");
    soon("the ban", node.ban(here, None))
        .await
        .expect("it runs");
    let reason = node.disconnected(peer.id()).await;
    assert!(reason.contains("network is banned"), "{reason}");
    peer.disconnected(node.id()).await;
    let [ban] = node.bans()[..] else {
        panic!("one ban")
    };
    assert!(ban.who == here && ban.by_user && ban.until.is_some());
    soon("the dial", peer.dial(node.address()))
        .await
        .expect_err("it is banned");
    let told = soon("the dial", node.dial(peer.address())).await;
    let told = told.expect_err("it is banned").to_string();
    assert!(told.contains("its network is banned"), "{told}");
    assert!(node.unban(here) && node.bans().is_empty());
    soon("the dial", peer.dial(node.address()))
        .await
        .expect("it is let in again");
}

#[tokio::test]
async fn a_networks_ban_reaches_whom_this_node_dials_by_name() {
    let (mut node, mut peer) = (
        Node::start(listening(TCP)).await,
        Node::start(listening(TCP)).await,
    );
    let address: String = peer.address().to_string();
    let named = address.replace("/ip4/127.0.0.1/", "/dns4/localhost/");
    let named: Multiaddr = named.parse().expect("an address");
    soon("the dial", node.dial(named.clone()))
        .await
        .expect("it is there");
    node.connected(peer.id()).await;
    let here: Banned = "127.0.0.0/8".parse().expect("a network");
    soon("the ban", node.ban(here, None))
        .await
        .expect("it runs");
    let reason = node.disconnected(peer.id()).await;
    assert!(reason.contains("network is banned"), "{reason}");
    peer.disconnected(node.id()).await;
    let told = soon("the dial", node.dial(named)).await;
    let told = told.expect_err("it is banned").to_string();
    assert!(told.contains("its network is banned"), "{told}");
    assert!(node.unban(here) && node.kept_out_by(&peer.id()).is_empty());
}

#[tokio::test]
async fn whom_an_exchange_names_is_dialled_where_peers_are_wanted() {
    let mut loner = Config::default();
    loner.protocol.kademlia_config.wanted_peers = 0;
    let mut node = Node::start(listening(TCP)).await;
    let named = Node::start(listening(TCP)).await;
    let teller = Node::start(loner).await;
    soon("the dial", teller.dial(node.address()))
        .await
        .expect("it is up");
    let info = PeerInfo {
        addresses: vec![named.address()],
        ..PeerInfo::new(named.id())
    };
    let exchange = NetworkMessage::PeerExchange(vec![info]);
    soon("the exchange", teller.send_message(node.id(), exchange))
        .await
        .expect("it is taken");
    node.connected(named.id()).await;
    let known = node.known_peers();
    assert!(known.iter().any(|peer| peer.peer_id == named.id()));
    assert!(
        known.iter().all(|peer| peer.peer_id != teller.id()),
        "it listens nowhere"
    );
    node.event("its discovery", |event| {
        matches!(event, NetworkEvent::PeersDiscovered(_)).then_some(())
    })
    .await;
}
