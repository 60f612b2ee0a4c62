//! Where peers say that they are, signed by themselves and passed on by others.

use std::time::{Duration, SystemTime};

use selkie::{Keypair, Multiaddr, NetworkEvent, peers::SignedRecord};

use crate::{
    proto::Proto,
    raw_peer::{RawPeer, framed},
    support::*,
};

#[tokio::test]
async fn the_record_of_a_peer_that_was_reached_is_passed_on_to_who_wants_peers() {
    // It dials nobody by itself, so that what it is told is all that brings the others together.
    let mut alone = listening(TCP);
    alone.protocol.kademlia_config.wanted_peers = 0;
    let mut told_of = Node::start(alone).await;
    let mut teller = Node::start(listening(TCP)).await;
    connect(&mut teller, &mut told_of).await;
    let has_signed = || teller.known_peers().iter().any(|known| known.signed);
    soon("its record", async {
        while !has_signed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut asker = Node::start(listening(TCP)).await;
    soon("the dial", asker.dial(teller.address()))
        .await
        .expect("it is up");
    let (id, address) = (told_of.id(), told_of.address());
    let found = asker.event("the record", |event| match event {
        NetworkEvent::PeersDiscovered(found) => found.into_iter().find(|found| found.peer_id == id),
        _ => None,
    });
    let found = found.await;
    assert_eq!(found.to_string(), address.to_string());
    asker.connected(id).await;
}

#[tokio::test]
async fn records_that_are_forged_old_or_too_large_have_their_outcome() {
    let mut config = listening(TCP);
    config.security.peer_scoring.disconnect_at = -1000.0;
    config.security.peer_scoring.ban_at = -2000.0;
    let mut node = Node::start(config).await;
    let mut peer = RawPeer::hostile().await;
    peer.join(&node).await;
    node.connected(peer.id).await;
    let address: Multiaddr = "/ip4/127.0.0.1/tcp/7".parse().expect("an address");
    let today = SystemTime::now();
    let sign = |date| {
        let key = Keypair::generate_ed25519();
        let record = SignedRecord::sign(&key, std::slice::from_ref(&address), 0, date);
        record.expect("it signs").bytes.to_vec()
    };
    let mut forged = sign(today);
    *forged.last_mut().expect("bytes") ^= 1;
    let old = sign(today - SignedRecord::LIFE - Duration::from_secs(60));
    let anothers = sign(today);
    let large = vec![7; SignedRecord::MAX_BYTES + 1];
    let telling = |records: &[&[u8]], id: &[u8]| {
        let exchange = records.iter().fold(Proto::new(), |exchange, record| {
            exchange.bytes(1, Proto::new().bytes(1, id).bytes(3, record))
        });
        framed(Proto::new().bytes(5, exchange).as_ref())
    };
    let id = peer.id.to_bytes();
    let many = vec![&anothers[..]; 17];
    let wrong: [(&[&[u8]], &str); 4] = [
        (&[&forged], "not signed by that peer"),
        (&[b"nonsense"], "no peer's record"),
        (&[&large], "over the limit of 1024"),
        (&many, "17 is over the limit of 16"),
    ];
    for (records, words) in wrong {
        peer.message(node.id(), telling(records, &id));
        let answer = peer.answer().await.expect("it is told");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains(words), "{answer}");
        let scored = node.scored(peer.id).await;
        assert_eq!(scored.0, "it sent an invalid message", "{words}");
    }
    // One that is too old, and one that nobody asked this peer for.
    for record in [&old, &anothers] {
        peer.message(node.id(), telling(&[record], &id));
        peer.answer().await.expect("it is taken");
    }
    unblamed(&mut node);
    assert!(node.known_peers().iter().all(|known| !known.signed));
}
