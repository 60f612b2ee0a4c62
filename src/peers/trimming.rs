//! Whom a full node lets go, so that others find a place: of those that dialled it, the least useful.
//!
//! After Bitcoin Core's `SelectNodeToEvict` (src/node/eviction.cpp): an attacker has many connections, and can be good at one thing, but hardly at
//! all of them at once, and better than those that have been here for long. So these stay:
//!
//! - whom this node has dialled, and whom its user protects: neither is put up at all;
//! - of [`BY_NETWORK`] networks, chosen by a secret lot, one peer each: nobody can know where to be;
//! - the [`BY_LATENCY`] of the shortest round trip ever measured: to be near costs hosts;
//! - of each kind of item the [`BY_USE`] who last brought one that was new and right;
//! - the [`BY_STAKE`] of the largest stake, where the chain knows of any;
//! - of the others half, by age: those that are connected longest. Of that half a half is kept for whose network says nothing of where they are, behind
//!   relays or a near proxy: they share it without being a crowd, and were driven out by whoever has a few networks.
//!
//! Of those that are left the youngest of the most crowded network goes, and so on, as many as are to go. So small nodes, all of whose peers are among the
//! best in something, let nobody go.
//!
//! A function without state, of which nothing is chance: the same peers and the same lot give the same answer. It looks at each peer a few times, so its owner
//! (`table/watermarks.rs`) calls it once a second at most. `docs/adr/0024` says why so.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    hash::BuildHasher,
    time::Duration,
};

use libp2p::PeerId;

use super::NetworkGroup;
use crate::{chain::ItemKind, keyed::Keyed, order, platform::Instant};

/// How many peers stay since they are of a network that the lot favours,
const BY_NETWORK: usize = 4;
/// since they are near,
const BY_LATENCY: usize = 8;
/// since they brought something of a kind not long ago,
const BY_USE: usize = 4;
/// since others have staked on them.
const BY_STAKE: usize = 8;

/// A peer that may be let go.
#[derive(Clone, Debug)]
pub(super) struct Inbound {
    /// Who.
    pub(super) peer: PeerId,
    /// Whence.
    pub(super) network: NetworkGroup,
    /// The how many-th peer of all that ever came it is.
    pub(super) age: u64,
    /// The shortest round trip that was measured.
    pub(super) round_trip: Option<Duration>,
    /// When it last brought an item of each kind that was new and right.
    pub(super) brought: [Option<Instant>; ItemKind::ALL.len()],
    /// What stands behind it, in the chain's own unit.
    pub(super) stake: u64,
}

/// Of these the least useful, at most so many, the one to go first in front.
pub(super) fn least_useful(mut peers: Vec<Inbound>, most: usize, lot: &Keyed) -> Vec<PeerId> {
    protect_networks(&mut peers, lot);
    protect(&mut peers, BY_LATENCY, |peer| peer.round_trip.map(Reverse));
    for kind in 0..ItemKind::ALL.len() {
        protect(&mut peers, BY_USE, |peer| {
            peer.brought.get(kind).copied().flatten()
        });
    }
    let staked = peers.iter().filter(|peer| peer.stake > 0).count();
    protect(&mut peers, staked.min(BY_STAKE), |peer| peer.stake);
    protect_eldest(&mut peers);
    youngest_of_most_crowded(peers, most)
}

/// Takes those of the highest merit out, so many at most, and the elder first of equals.
fn protect<M: Ord>(peers: &mut Vec<Inbound>, most: usize, merit: impl Fn(&Inbound) -> M) {
    let most = most.min(peers.len());
    if most < peers.len() {
        order::sort_by_key(peers, |peer| (Reverse(merit(peer)), peer.age));
    }
    peers.drain(..most);
}

/// Takes the eldest of each of some networks out.
fn protect_networks(peers: &mut Vec<Inbound>, lot: &Keyed) {
    let mut drawn: Vec<_> = peers.iter().map(|peer| (peer.network, peer.age)).collect();
    order::sort(&mut drawn);
    drawn.dedup_by_key(|(network, _)| *network);
    order::sort_by_key(&mut drawn, |(network, _)| lot.hash_one(network));
    drawn.truncate(BY_NETWORK);
    peers.retain(|peer| !drawn.contains(&(peer.network, peer.age)));
}

/// Takes the eldest out, half of all: at first those whose network says nothing of where they are, as far as they are a half of that.
fn protect_eldest(peers: &mut Vec<Inbound>) {
    let half = peers.len() / 2;
    let (far, mut others): (Vec<_>, Vec<_>) =
        peers.drain(..).partition(|peer| peer.network.is_far());
    let reserved = others.len().min(half / 2);
    protect(&mut others, reserved, |peer| Reverse(peer.age));
    peers.extend(far.into_iter().chain(others));
    protect(peers, half - reserved, |peer| Reverse(peer.age));
}

fn youngest_of_most_crowded(peers: Vec<Inbound>, most: usize) -> Vec<PeerId> {
    let mut networks: BTreeMap<NetworkGroup, Vec<(u64, PeerId)>> = BTreeMap::new();
    for peer in peers {
        networks
            .entry(peer.network)
            .or_default()
            .push((peer.age, peer.peer));
    }
    networks
        .values_mut()
        .for_each(|members| order::sort(members));
    let place = |network: &NetworkGroup, members: &[(u64, PeerId)]| {
        let (youngest, _) = members.last()?;
        Some((members.len(), *youngest, *network))
    };
    let places = networks
        .iter()
        .filter_map(|(network, members)| place(network, members));
    let mut places: BinaryHeap<_> = places.collect();
    let mut gone = Vec::new();
    while gone.len() < most
        && let Some((.., network)) = places.pop()
        && let Some(members) = networks.get_mut(&network)
    {
        gone.extend(members.pop().map(|(_, peer)| peer));
        places.extend(place(&network, members));
    }
    gone
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::platform::{self, test};

    /// A peer of the network of this number, and how long its ping takes.
    fn peer(age: u64, network: u64, millis: Option<u64>) -> Inbound {
        let network = u16::try_from(network).expect("a small number");
        Inbound {
            peer: PeerId::random(),
            network: NetworkGroup::Ip4(network.to_be_bytes()),
            age,
            round_trip: millis.map(Duration::from_millis),
            brought: [None; ItemKind::ALL.len()],
            stake: 0,
        }
    }

    fn lot(key: u8) -> Keyed {
        Keyed::new(&[key; 16])
    }

    #[test]
    fn a_small_node_lets_nobody_go() {
        let peers = (0..12).map(|age| peer(age, age, Some(age))).collect();
        assert!(least_useful(peers, 5, &lot(1)).is_empty());
        assert!(least_useful(Vec::new(), 5, &lot(1)).is_empty());
    }

    #[test]
    fn the_youngest_of_the_most_crowded_network_goes_first() {
        let mut peers: Vec<_> = (0..40).map(|age| peer(age, age, None)).collect();
        peers.extend((40..60).map(|age| peer(age, 200, None)));
        let expected: Vec<_> = peers[57..].iter().rev().map(|peer| peer.peer).collect();
        assert_eq!(least_useful(peers, 3, &lot(1)), expected);
    }

    #[test]
    fn who_is_near_useful_or_staked_on_stays_however_young() {
        let now = platform::now();
        let mut peers: Vec<_> = (0..60).map(|age| peer(age, 7, Some(100))).collect();
        peers[59].round_trip = Some(Duration::from_millis(1));
        peers[58].stake = 5;
        for (kind, place) in (55..58).enumerate() {
            peers[place].brought[kind] = Some(now);
        }
        let good: Vec<_> = peers[55..].iter().map(|peer| peer.peer).collect();
        let gone = least_useful(peers, 60, &lot(1));
        assert!(!gone.is_empty() && !gone.iter().any(|peer| good.contains(peer)));
    }

    /// What says nothing of where somebody is.
    const NOWHERE: [NetworkGroup; 2] = [NetworkGroup::Fleeting, NetworkGroup::Near([127, 0, 0, 1])];

    /// One that is alone in its network.
    fn alone(age: u64) -> Inbound {
        peer(age, 1000 + age, None)
    }

    fn nowhere(age: u64, network: NetworkGroup) -> Inbound {
        Inbound {
            network,
            ..peer(age, 0, None)
        }
    }

    /// Who is left when many come, and for each one goes.
    fn after_many(mut peers: Vec<Inbound>, comes: impl Fn(u64) -> Inbound) -> Vec<Inbound> {
        for age in (0..).skip(peers.len()).take(150) {
            let gone = least_useful(peers.clone(), 1, &lot(1));
            peers.retain(|peer| !gone.contains(&peer.peer));
            peers.push(comes(age));
        }
        peers
    }

    #[test]
    fn who_is_behind_a_relay_or_a_proxy_is_not_driven_out_as_a_crowd() {
        for network in NOWHERE {
            let behind = (40..60).map(|age| nowhere(age, network));
            let peers = (0..40).map(alone).chain(behind).collect();
            let left = after_many(peers, alone);
            let left = left.iter().filter(|peer| peer.network == network);
            // Half of the half by age, of those that are the best in nothing.
            let best = BY_NETWORK + BY_LATENCY + ItemKind::ALL.len() * BY_USE;
            assert!(left.count() >= (60 - best) / 4);
        }
    }

    #[test]
    fn a_flood_from_behind_a_relay_or_a_proxy_takes_a_third_of_the_places_at_most() {
        for network in NOWHERE {
            let left = after_many((0..60).map(alone).collect(), |age| Inbound {
                round_trip: Some(Duration::from_millis(1)),
                ..nowhere(age, network)
            });
            let hostile = left.iter().filter(|peer| peer.network == network);
            assert!(hostile.count() <= 20);
        }
    }

    fn any_peer() -> impl Strategy<Value = (u64, Option<u64>, Option<u64>, u64)> {
        (
            0u64..12,
            any::<Option<u64>>(),
            proptest::option::of(0u64..1000),
            0u64..3,
        )
    }

    proptest! {
        /// Never more than asked for, nobody twice, and never who is best at something.
        #[test]
        fn the_best_of_each_stay(
            drawn in proptest::collection::vec(any_peer(), 0..120), most in 0usize..40, key in any::<u8>(),
        ) {
            let now = platform::now();
            let peers: Vec<_> = (0..).zip(&drawn).map(|(age, (network, millis, brought, stake))| {
                let mut peer = peer(age, *network, millis.map(|millis| millis % 1000));
                peer.brought[0] = brought.map(|seconds| now + Duration::from_secs(seconds));
                peer.stake = *stake;
                peer
            }).collect();
            let gone = least_useful(peers.clone(), most, &lot(key));
            let in_another_order = peers.iter().rev().cloned().collect();
            prop_assert!(least_useful(in_another_order, most, &lot(key)) == gone);
            prop_assert!(gone.len() <= most);
            let set: BTreeSet<_> = gone.iter().collect();
            prop_assert_eq!(set.len(), gone.len());
            let is_gone = |peer: &&Inbound| set.contains(&peer.peer);
            for one in peers.iter().filter(is_gone) {
                let nearer = peers.iter().filter(|other| other.round_trip.is_some() && (one.round_trip.is_none() || other.round_trip <= one.round_trip));
                prop_assert!(one.round_trip.is_none() || nearer.count() > BY_LATENCY);
                let later = peers.iter().filter(|other| other.brought[0] >= one.brought[0]);
                prop_assert!(one.brought[0].is_none() || later.count() > BY_USE);
                let richer = peers.iter().filter(|other| other.stake >= one.stake);
                prop_assert!(one.stake == 0 || richer.count() > BY_STAKE);
                // As many that were not put out have been here longer.
                let elder = peers.iter().filter(|other| other.age < one.age && !is_gone(other));
                let best = BY_NETWORK + BY_LATENCY + ItemKind::ALL.len() * BY_USE + BY_STAKE;
                prop_assert!(elder.count() >= peers.len().saturating_sub(best) / 2);
            }
        }

        /// Whoever floods a node from a few networks, when it has peers of its own from others, drives out its own connections alone.
        #[test]
        fn a_crowd_drives_out_itself(
            honest in 1u64..60, crowd in 80u64..200, networks in 1u64..4, most in 1usize..20, key in any::<u8>(),
        ) {
            // All of theirs are as near as can be, and nothing is known of the others'.
            let mut peers: Vec<_> = (0..honest).map(|age| peer(age, 1000 + age, None)).collect();
            let ours: BTreeSet<_> = peers.iter().map(|peer| peer.peer).collect();
            peers.extend((honest..honest + crowd).map(|age| peer(age, age % networks, Some(1))));
            let gone = least_useful(peers, most, &lot(key));
            prop_assert_eq!(gone.len(), most);
            prop_assert!(gone.iter().all(|peer| !ours.contains(peer)));
        }

        /// However few they are, and whoever was here first: before one that is alone in its network goes, no other has two that may.
        #[test]
        fn nobody_goes_before_a_crowd(
            honest in 1u64..60, crowd in 0u64..60, networks in 1u64..4, most in 1usize..60, is_first: bool, key in any::<u8>(),
        ) {
            let alone = |age| peer(age, 1000 + age, None);
            let crowded = |age| peer(age, age % networks, Some(1));
            let peers: Vec<_> = if is_first {
                (0..crowd).map(crowded).chain((crowd..crowd + honest).map(alone)).collect()
            } else {
                (0..honest).map(alone).chain((honest..honest + crowd).map(crowded)).collect()
            };
            let is_alone = |gone: &PeerId| peers.iter().any(|peer| peer.peer == *gone && peer.round_trip.is_none());
            let gone = least_useful(peers.clone(), most, &lot(key));
            let crowd_after = gone.iter().skip_while(|gone| !is_alone(gone)).filter(|gone| !is_alone(gone));
            prop_assert!(crowd_after.count() <= 3);
        }
    }
}
