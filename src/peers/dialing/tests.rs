use proptest::{collection::vec, prelude::*};

use super::*;
use crate::platform::{self, test};

fn address(port: u16) -> Multiaddr {
    format!("/ip4/192.0.2.1/tcp/{port}")
        .parse()
        .expect("an address")
}

const ALL: usize = usize::MAX;
/// Neighbours at once.
const ANY: usize = usize::MAX;

fn second(now: Instant, seconds: u64) -> Instant {
    now + Duration::from_secs(seconds)
}

#[test]
fn each_node_has_an_order_of_its_own() {
    let (peers, now) = ([(); 20].map(|()| PeerId::random()), platform::now());
    let order = |seed| {
        let mut dialing = Dialing::new(PeerId::random(), &[seed; 16]);
        for peer in peers {
            dialing.told(Teller::LocalNetwork, peer, address(1), now);
        }
        let due = dialing.due(ALL, ANY, second(now, 60));
        due.into_iter().map(|due| due.peer).collect::<Vec<_>>()
    };
    assert_eq!(order(1).len(), 20);
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

#[test]
fn the_users_newest_peers_and_addresses_are_kept() {
    let (mut dialing, now) = (Dialing::new(PeerId::random(), &[7; 16]), platform::now());
    let [connected, newest] = [(); 2].map(|()| PeerId::random());
    dialing.told(Teller::User, connected, address(1), now);
    dialing.connected(&connected);
    for _ in 0..2 * USERS {
        dialing.told(Teller::User, PeerId::random(), address(1), now);
    }
    for port in 0..100 {
        dialing.told(Teller::User, newest, address(port), now);
    }
    assert_eq!(dialing.targets.len(), USERS);
    assert!(dialing.targets.contains_key(&connected));
    let addresses = &dialing.targets[&newest].addresses;
    let newest: Vec<_> = (84..100).map(address).collect();
    assert!(addresses.iter().map(|(_, address)| address).eq(&newest));
}

#[test]
fn several_entries_of_one_peer_are_one_dial_of_all_addresses() {
    let (own, seed, now) = (PeerId::random(), PeerId::random(), platform::now());
    let mut dialing = Dialing::new(own, &[7; 16]);
    for port in [1, 2, 1] {
        dialing.told(Teller::User, seed, address(port), now);
        dialing.told(Teller::User, own, address(port), now);
    }
    let due = Due {
        peer: seed,
        addresses: vec![address(1), address(2)],
    };
    assert_eq!(dialing.due(ALL, ANY, now), [due]);
    assert!(
        dialing.due(ALL, ANY, second(now, 100)).is_empty(),
        "it is being dialled"
    );
}

#[test]
fn failures_make_pauses_that_have_an_end() {
    let (seed, mut now) = (PeerId::random(), platform::now());
    let mut dialing = Dialing::new(PeerId::random(), &[7; 16]);
    dialing.told(Teller::User, seed, address(1), now);
    for pause in [1, 2, 4, 8, 16, 20, 20] {
        assert_eq!(dialing.due(ALL, ANY, now).len(), 1);
        dialing.failed(&seed, now);
        now = second(now, pause);
        assert!(
            dialing
                .due(ALL, ANY, now - Duration::from_millis(1))
                .is_empty()
        );
    }
    dialing.connected(&seed);
    assert!(dialing.due(ALL, ANY, second(now, 100)).is_empty());
    dialing.gone(&seed, now);
    assert_eq!(
        dialing.due(ALL, ANY, second(now, 1)).len(),
        1,
        "it starts anew"
    );
    dialing.connected(&seed);
    dialing.refused(&seed);
    dialing.gone(&seed, now);
    assert!(dialing.due(ALL, ANY, second(now, 59)).is_empty());
    assert_eq!(dialing.due(ALL, ANY, second(now, 60)).len(), 1);
    dialing.connected(&seed);
    dialing.dismissed(&seed);
    dialing.gone(&seed, now);
    assert!(dialing.due(ALL, ANY, second(now, 10_000)).is_empty());
}

/// It is dialled and has no place for us.
fn finds_no_place(dialing: &mut Dialing, peer: &PeerId, now: Instant) {
    assert_eq!(dialing.due(ALL, ANY, now).len(), 1);
    dialing.connected(peer);
    dialing.is_full(peer);
    dialing.refused(peer);
    dialing.gone(peer, now);
}

#[test]
fn who_is_full_is_asked_again_soon_and_each_time_later() {
    let (seed, mut now) = (PeerId::random(), platform::now());
    let mut dialing = Dialing::new(PeerId::random(), &[7; 16]);
    dialing.told(Teller::User, seed, address(1), now);
    for whole in [2, 4, 8, 16, 32, 60, 60] {
        finds_no_place(&mut dialing, &seed, now);
        let early = second(now, whole / 2) - Duration::from_millis(1);
        assert!(dialing.due(ALL, ANY, early).is_empty(), "{whole}");
        now = second(now, whole);
    }
    // It has let us in meanwhile.
    assert_eq!(dialing.due(ALL, ANY, now).len(), 1);
    dialing.connected(&seed);
    dialing.ready(&seed);
    dialing.gone(&seed, now);
    now = second(now, 1);
    finds_no_place(&mut dialing, &seed, now);
    // What it says itself counts more.
    now = second(now, 2);
    assert_eq!(dialing.due(ALL, ANY, now).len(), 1);
    dialing.connected(&seed);
    dialing.waits(&seed, Duration::from_secs(300));
    dialing.refused(&seed);
    dialing.gone(&seed, now);
    assert!(dialing.due(ALL, ANY, second(now, 299)).is_empty());
    assert_eq!(dialing.due(ALL, ANY, second(now, 300)).len(), 1);
}

#[test]
fn a_wake_ends_the_pauses_of_failures_and_of_no_refusals() {
    let (peers, now) = ([(); 3].map(|()| PeerId::random()), platform::now());
    let [full, banning, silent] = peers;
    let mut dialing = Dialing::new(PeerId::random(), &[7; 16]);
    let due = |dialing: &mut Dialing, now| {
        let due = dialing.due(ALL, ANY, now).into_iter();
        due.map(|due| due.peer).collect::<Vec<_>>()
    };
    for peer in peers {
        dialing.told(Teller::User, peer, address(1), now);
    }
    assert_eq!(due(&mut dialing, now).len(), 3);
    for peer in [full, banning] {
        dialing.connected(&peer);
    }
    dialing.is_full(&full);
    for peer in [full, banning] {
        dialing.refused(&peer);
        dialing.gone(&peer, now);
    }
    dialing.failed(&silent, now);
    dialing.woke(now);
    assert_eq!(due(&mut dialing, now), [silent]);
    // Who is not reached any more turns nobody away.
    assert_eq!(due(&mut dialing, second(now, 2)), [full]);
    for peer in [full, silent] {
        dialing.failed(&peer, second(now, 2));
    }
    dialing.woke(second(now, 2));
    assert_eq!(due(&mut dialing, second(now, 2)).len(), 2);
}

#[test]
fn of_many_that_a_full_peer_turned_away_each_comes_at_its_own_moment() {
    let (seed, now) = (PeerId::random(), platform::now());
    let seed_of = |node: u128| node.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let mut tenths = [0; 10];
    for node in 1..=256 {
        let mut dialing = Dialing::new(PeerId::random(), &seed_of(node).to_le_bytes());
        dialing.told(Teller::User, seed, address(1), now);
        finds_no_place(&mut dialing, &seed, now);
        let comes = |tenth: &usize| {
            let at = now + Duration::from_millis(1000 + 100 * (*tenth as u64 + 1));
            !dialing.due(ALL, ANY, at).is_empty()
        };
        let tenth = (0..10).find(comes).expect("within two seconds");
        tenths[tenth] += 1;
    }
    assert!(!tenths.contains(&0), "{tenths:?}");
}

#[test]
fn who_was_let_go_stays_away_until_the_user_asks_for_it() {
    let (seed, now) = (PeerId::random(), platform::now());
    let mut dialing = Dialing::new(PeerId::random(), &[7; 16]);
    dialing.told(Teller::User, seed, address(1), now);
    dialing.connected(&seed);
    dialing.dismissed(&seed);
    dialing.gone(&seed, now);
    // It comes by itself, and goes again.
    dialing.connected(&seed);
    dialing.gone(&seed, now);
    dialing.dials(&seed);
    dialing.failed(&seed, now);
    assert!(dialing.due(ALL, ANY, second(now, 10_000)).is_empty());
    dialing.wanted(&seed, now);
    assert_eq!(dialing.due(ALL, ANY, now).len(), 1);
}

#[test]
fn neighbours_are_dialled_again_until_they_are_not_found_any_more() {
    let (peer, now) = (PeerId::random(), platform::now());
    let mut dialing = Dialing::new(PeerId::random(), &[7; 16]);
    dialing.told(Teller::LocalNetwork, peer, address(1), now);
    assert_eq!(dialing.due(ALL, ANY, now).len(), 1);
    dialing.connected(&peer);
    dialing.gone(&peer, second(now, 95));
    assert_eq!(
        dialing.due(ALL, ANY, second(now, 96)).len(),
        1,
        "its record has not expired"
    );
    dialing.failed(&peer, second(now, 96));
    dialing.told(
        Teller::LocalNetwork,
        PeerId::random(),
        address(2),
        second(now, 361),
    );
    let due = dialing.due(ALL, ANY, second(now, 361));
    assert!(due.iter().all(|due| due.peer != peer), "forgotten: {due:?}");
}

#[test]
fn neighbours_are_bounded() {
    let (mut dialing, now) = (Dialing::new(PeerId::random(), &[7; 16]), platform::now());
    let peer = PeerId::random();
    for port in 0..100 {
        dialing.told(Teller::LocalNetwork, peer, address(port), now);
    }
    assert_eq!(
        dialing
            .due(ALL, ANY, now)
            .first()
            .map(|due| due.addresses.len()),
        Some(ADDRESSES)
    );
    for _ in 0..1000 {
        dialing.told(Teller::LocalNetwork, PeerId::random(), address(1), now);
    }
    assert_eq!(dialing.targets.len(), FOUND);
}

#[test]
fn so_many_are_dialled_as_are_wanted_the_users_first() {
    let (mut dialing, now) = (Dialing::new(PeerId::random(), &[7; 16]), platform::now());
    let seed = PeerId::random();
    for _ in 0..20 {
        dialing.told(Teller::LocalNetwork, PeerId::random(), address(1), now);
    }
    dialing.told(Teller::User, seed, address(1), now);
    let due = dialing.due(3, ANY, now);
    assert_eq!((due.len(), dialing.dialling()), (3, 3));
    assert_eq!(due.first().map(|due| due.peer), Some(seed));
    assert!(dialing.due(0, ANY, now).is_empty());
    assert_eq!(dialing.due(ALL, ANY, now).len(), 18);
}

#[test]
fn who_was_let_go_is_not_dialled_because_others_name_it() {
    let (mut dialing, now) = (Dialing::new(PeerId::random(), &[7; 16]), platform::now());
    let peer = PeerId::random();
    dialing.dismissed(&peer);
    dialing.told(Teller::LocalNetwork, peer, address(1), now);
    assert!(dialing.due(ALL, ANY, now).is_empty());
    dialing.wanted(&peer, now);
    assert_eq!(dialing.due(ALL, ANY, now).len(), 1);
}

#[test]
fn many_that_do_not_answer_keep_nobody_out() {
    let (mut dialing, begin) = (Dialing::new(PeerId::random(), &[7; 16]), platform::now());
    let neighbour = PeerId::random();
    for _ in 0..100 {
        dialing.told(Teller::User, PeerId::random(), address(1), begin);
    }
    dialing.told(Teller::LocalNetwork, neighbour, address(1), begin);
    // Each dial hangs for ten seconds.
    let (mut hanging, mut dialled) = (Vec::new(), Vec::new());
    for seconds in 0..300 {
        let now = second(begin, seconds);
        hanging.retain(|(at, peer)| {
            let hangs = *at + Duration::from_secs(10) > now;
            if !hangs {
                dialing.failed(peer, now);
            }
            hangs
        });
        for due in dialing.due(8 - hanging.len(), ANY, now) {
            hanging.push((now, due.peer));
            dialled.push(due.peer);
        }
    }
    assert!(dialled.contains(&neighbour));
}

#[test]
fn a_neighbours_word_takes_no_place_of_the_users() {
    let (mut dialing, now) = (Dialing::new(PeerId::random(), &[7; 16]), platform::now());
    let seed = PeerId::random();
    dialing.told(Teller::User, seed, address(1), now);
    for port in 100..120 {
        dialing.told(Teller::LocalNetwork, seed, address(port), now);
    }
    let due = dialing.due(ALL, ANY, now);
    let addresses = &due.first().expect("it is due").addresses;
    assert_eq!(
        (addresses.len(), addresses.first()),
        (17, Some(&address(1)))
    );
    assert_eq!(addresses.last(), Some(&address(119)));
}

#[test]
fn the_index_says_what_the_targets_are() {
    let now = platform::now();
    let peers: Vec<_> = (0..6).map(|_| PeerId::random()).collect();
    let step = (0_usize..8, 0..peers.len(), 0_u64..400);
    proptest!(|(steps in vec(step, 0..200))| {
        let (mut dialing, mut at) = (Dialing::new(PeerId::random(), &[7; 16]), now);
        for (what, who, later) in steps {
            at = second(at, later % 100);
            let peer = &peers[who];
            let tellers = [Teller::User, Teller::LocalNetwork];
            match what {
                0..2 => {
                    dialing.told(tellers[what], *peer, address(1), at);
                }
                2 => drop(dialing.due(2, ANY, at)),
                3 => dialing.connected(peer),
                4 => dialing.gone(peer, at),
                5 => dialing.failed(peer, at),
                6 => dialing.dismissed(peer),
                _ => dialing.wanted(peer, at),
            }
            let mut index = Index::new(dialing.index.order.clone());
            for (peer, target) in &dialing.targets {
                index.add(*peer, target);
            }
            dialing.index.queues.retain(|_, queue| !queue.is_empty());
            dialing.index.counts.retain(|_, count| *count > 0);
            prop_assert_eq!(&dialing.index.queues, &index.queues);
            prop_assert_eq!(&dialing.index.told, &index.told);
            prop_assert_eq!(&dialing.index.counts, &index.counts);
            dialing.index.dialling.retain(|_, count| *count > 0);
            prop_assert_eq!(&dialing.index.dialling, &index.dialling);
        }
    });
}

#[test]
fn neighbours_that_do_not_answer_leave_places_to_others() {
    let (mut now, seed) = (platform::now(), PeerId::random());
    let mut dialing = Dialing::new(PeerId::random(), &[7; 16]);
    for port in 1..=100 {
        dialing.told(Teller::LocalNetwork, PeerId::random(), address(port), now);
    }
    for _ in 0..10 {
        let due = dialing.due(8, 4, now);
        assert_eq!(due.len(), 4, "the others are for the book");
        assert!(dialing.due(4, 4, now).is_empty());
        for due in due {
            dialing.failed(&due.peer, now);
        }
        now = second(now, 20);
    }
    assert_eq!(dialing.due(8, 4, now).len(), 4);
    dialing.told(Teller::User, seed, address(1), now);
    assert_eq!(dialing.due(8, 4, now)[0].peer, seed);
}

#[test]
fn only_the_users_word_is_the_users() {
    let (now, peer) = (platform::now(), PeerId::random());
    let mut dialing = Dialing::new(PeerId::random(), &[7; 16]);
    dialing.told(Teller::LocalNetwork, peer, address(1), now);
    dialing.told(Teller::User, peer, address(2), now);
    assert_eq!(dialing.addresses(&peer), [address(1), address(2)]);
    assert_eq!(dialing.users_addresses(&peer), [address(2)]);
    let gone = PeerId::random();
    dialing.told(Teller::LocalNetwork, gone, address(1), now);
    for peer in [peer, gone] {
        dialing.left(&peer);
    }
    assert!(dialing.knows(&peer) && !dialing.knows(&gone));
}
