//! Peers that the application needs at a time.

use std::{collections::BTreeSet, time::Duration};

use selkie::{Config, NetworkError, NetworkEvent, PeerInfo};

use crate::support::*;

/// It dials nobody by itself.
fn content() -> Config {
    let mut config = listening(TCP);
    config.protocol.kademlia_config.wanted_peers = 0;
    config
}

fn known(node: &Node) -> PeerInfo {
    PeerInfo {
        addresses: vec![node.address()],
        ..PeerInfo::new(node.id())
    }
}

const SOON: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn who_was_dialled_for_a_duty_alone_is_let_go_when_that_is_over() {
    let mut node = Node::start(content()).await;
    let (needed, mut friend, mut guest) = (
        Node::start(content()).await,
        Node::start(content()).await,
        Node::start(content()).await,
    );
    // One whom the user dialled, and one who came by itself.
    connect(&mut node, &mut friend).await;
    connect(&mut guest, &mut node).await;
    let peers = [&needed, &friend, &guest].map(known).to_vec();
    let expected = node.expect_duty(peers, SOON, SECOND);
    soon("the answer", expected).await.expect("it is near");
    node.connected(needed.id()).await;
    let reason = node.disconnected(needed.id()).await;
    assert!(reason.contains("duty is over"), "{reason}");
    let here = node.get_connected_peers();
    let here: BTreeSet<_> = here.iter().map(|peer| peer.peer_id).collect();
    assert_eq!(here, BTreeSet::from([friend.id(), guest.id()]));
}

#[tokio::test]
async fn who_is_needed_is_dialled_and_again_until_it_is_back_when_it_is_lost() {
    let mut node = Node::start(content()).await;
    let mut friend = Node::start(content()).await;
    connect(&mut node, &mut friend).await;
    let key = selkie::Keypair::generate_ed25519();
    let up = async |address: Option<selkie::Multiaddr>| {
        let mut config = content();
        let without_id = address.map(|address| address.iter().take(2).collect());
        if let Some(address) = without_id {
            config.network.listen_addresses = vec![address];
        }
        let node =
            selkie::P2PNetworkManager::with(config, key.clone(), selkie::chain::Opaque).await;
        Node::started(node.expect("the configuration is right")).await
    };
    let mut needed = up(None).await;
    let (peer, address) = (known(&needed), needed.address());
    let expected = node.expect_duty(vec![peer], SOON, HOUR);
    soon("the answer", expected).await.expect("it is near");
    node.connected(needed.id()).await;
    needed.connected(node.id()).await;
    soon("the end", needed.shutdown()).await;
    node.disconnected(needed.id()).await;
    // It is not up again yet.
    node.event("a dial in vain", |event| match event {
        NetworkEvent::DialFailed { .. } => Some(()),
        _ => None,
    })
    .await;
    let mut again = up(Some(address)).await;
    node.connected(again.id()).await;
    again.connected(node.id()).await;
    // Whom the user does not want is not wanted for a duty either.
    soon("the parting", node.disconnect(again.id()))
        .await
        .expect("it is here");
    let here = node.get_connected_peers();
    assert!(here.iter().all(|peer| peer.peer_id == friend.id()));
}

#[tokio::test]
async fn a_committees_word_alone_leads_to_no_private_place() {
    let mut node = Node::start(content()).await;
    let mut needed = Node::start(content()).await;
    // It has met nobody of this host.
    let expected = node.expect_duty(vec![known(&needed)], SOON, HOUR);
    soon("the answer", expected).await.expect("it is near");
    let reason = node
        .event("a dial in vain", |event| match event {
            NetworkEvent::DialFailed { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await;
    assert!(reason.contains("not a public address"), "{reason}");
    assert!(needed.get_connected_peers().is_empty());
    // The user's word goes.
    node.add_peer(known(&needed)).await.expect("it runs");
    node.connected(needed.id()).await;
    needed.connected(node.id()).await;
}

#[tokio::test]
async fn a_duty_that_is_too_much_is_refused() {
    let node = Node::start(content()).await;
    let somebody = || PeerInfo::new(selkie::Keypair::generate_ed25519().public().to_peer_id());
    let many = |count: usize| (0..count).map(|_| somebody()).collect::<Vec<_>>();
    let rows = [
        (many(26), SOON, SECOND, "25 peers at most"),
        (many(1), HOUR * 2, SECOND, "within 60 minutes"),
        (many(1), Duration::MAX, SECOND, "within 60 minutes"),
        (many(1), SOON, HOUR * 2, "up to 60 minutes"),
        (many(1), SOON, Duration::ZERO, "up to 60 minutes"),
    ];
    for (peers, begins_in, lasts, why) in rows {
        let refused = node.expect_duty(peers, begins_in, lasts).await;
        let refused = refused.expect_err(why);
        assert!(matches!(refused, NetworkError::Argument(_)), "{why}");
        assert!(refused.to_string().contains(why), "{refused}");
    }
    let most = node.expect_duty(many(25), SOON, SECOND).await;
    most.expect("as many as may be");
    soon("the end", node.shutdown()).await;
    let refused = node.expect_duty(many(1), SOON, SECOND).await;
    assert!(matches!(refused, Err(NetworkError::NotRunning)));
}
