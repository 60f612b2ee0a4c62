//! When a node says that it is synced.

use super::*;
use crate::platform::test;

/// What the first node has said of itself, each phase once.
fn phases(network: &Network) -> Vec<SyncPhase> {
    let statuses = network.nodes[0].statuses.iter();
    let mut phases: Vec<_> = statuses.map(|status| status.phase).collect();
    phases.dedup();
    phases
}

/// A node that has so many blocks of a chain, with peers that have so many of it.
fn among(chain: &SmallChain, own: u64, others: &[u64]) -> Network {
    let mut network = Network::new(31);
    let node = network.node(chain.fork(own));
    for other in others {
        let other = network.node(chain.fork(*other));
        network.link(node, other, millis(25), MEGABYTE);
    }
    network
}

use SyncPhase::{Synced, Syncing, Waiting};

/// A peer that says that it is at this place, and nothing else.
fn says(network: &mut Network, place: &BlockPlace) {
    let peer = network.other(Box::new(|_, _| Vec::new()));
    network.link(0, peer, millis(25), MEGABYTE);
    network.tell(peer, 0, Kind::Status(wire::Status::new(place, 0)));
}

#[test]
fn alone_or_with_those_who_are_behind_a_node_says_nothing_of_the_tip() {
    let chain = SmallChain::of(100, 300);
    for others in [&[][..], &[0], &[50], &[10, 20, 30, 97]] {
        let mut network = among(&chain, 100, &[]);
        for height in others {
            says(&mut network, &chain.fork(*height).tip());
        }
        network.run_for(seconds(60));
        assert_eq!(phases(&network), [Waiting], "{others:?}");
    }
}

#[test]
fn who_has_as_much_is_believed_after_a_while_and_three_at_once() {
    let chain = SmallChain::of(100, 300);
    for (others, soon) in [
        (&[100][..], false),
        (&[99, 20], false),
        (&[98, 99, 100], true),
    ] {
        let mut network = among(&chain, 100, others);
        let is_synced = |network: &Network| phases(network).contains(&Synced);
        let took = network.run_until(seconds(60), is_synced).expect("it is");
        assert_eq!(took < seconds(2), soon, "{took:?} with {others:?}");
        network.run_for(seconds(60));
        assert_eq!(phases(&network), [Waiting, Synced]);
    }
}

#[test]
fn a_chain_that_grows_faster_than_peers_tell_of_it_is_synced_all_the_same() {
    let chain = SmallChain::of(100, 300);
    let mut network = among(&chain, 100, &[100]);
    for number in 0..120 {
        let next = block(&network.chain(1).tip(), number, b"one more");
        network.offer(1, &next, None);
        network.offer(0, &next, Some(1));
        network.run_for(millis(100));
    }
    assert_eq!(phases(&network), [Waiting, Synced]);
}

#[test]
fn who_has_more_is_followed_first() {
    let chain = SmallChain::of(3000, 300);
    let mut network = among(&chain, 100, &[100, 100, 100, 3000]);
    let took = network.run_until(seconds(60), |network| phases(network).contains(&Synced));
    assert!(took.is_some());
    assert_eq!(network.chain(0).tip().height, 3000);
    // At first the three may be all that has spoken.
    let phases = phases(&network);
    let ends: [&[SyncPhase]; 2] = [&[Syncing, Waiting, Synced], &[Syncing, Synced]];
    assert!(ends.iter().any(|end| phases.ends_with(end)), "{phases:?}");
}

#[test]
fn who_is_synced_stays_so_while_it_is_a_block_behind_and_leaves_with_its_last_peer() {
    let chain = SmallChain::of(100, 300);
    let mut network = among(&chain, 100, &[100]);
    network.run_for(seconds(10));
    assert_eq!(phases(&network), [Waiting, Synced]);
    let next = block(&chain.tip(), 0, b"the next");
    network.offer(1, &next, None);
    network.run_for(seconds(10));
    assert_eq!(network.chain(0).tip().height, 101);
    assert_eq!(phases(&network), [Waiting, Synced]);
    network.unlink(0, 1);
    network.run_for(seconds(1));
    assert_eq!(phases(&network), [Waiting, Synced, Waiting]);
    // It comes back with more than is fetched between two looks.
    let many = network.chain(0).fork(101);
    many.grow(3000, 0, 300);
    let other = network.node(many);
    network.link(0, other, millis(25), MEGABYTE);
    network.run_for(seconds(20));
    assert_eq!(phases(&network)[3..], [Syncing, Waiting, Synced]);
}

#[test]
fn a_claim_alone_holds_up_a_new_node_only_as_long_as_it_is_believed_and_a_synced_one_not_at_all() {
    let chain = SmallChain::of(100, 300);
    let far = BlockPlace {
        height: 1_000_000,
        id: ItemId::sha256(b"far"),
    };
    let mut network = among(&chain, 100, &[100]);
    says(&mut network, &far);
    network.run_for(seconds(9));
    assert_eq!(phases(&network), [Waiting, Syncing]);
    network.run_for(seconds(20));
    assert_eq!(phases(&network).last(), Some(&Synced));
    let mut network = among(&chain, 100, &[100]);
    network.run_for(seconds(10));
    says(&mut network, &far);
    network.run_for(seconds(60));
    assert_eq!(phases(&network), [Waiting, Synced]);
}
