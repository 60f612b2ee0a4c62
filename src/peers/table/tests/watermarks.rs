//! Who makes room for others, and who does not.

use proptest::prelude::*;

use super::{super::watermarks::EVERY, *};
use crate::platform::{self, test};

/// A full node of so many peers that all came by themselves, and who they are, the eldest first.
fn full(low_watermark: usize, now: Instant) -> (Table, Vec<PeerId>) {
    let mut table = table(60);
    table.limits.low_watermark = low_watermark;
    let peers = (0..60)
        .map(|number| friend(&mut table, number, now))
        .collect();
    (table, peers)
}

fn wants_in(table: &mut Table, number: usize, now: Instant) -> Result<(), &'static str> {
    let peer = PeerId::random();
    table.connected(connection(number), from(peer, Direction::Inbound), now);
    table.greeted(&peer, now)
}

/// Who was told to make room.
fn parted(table: &mut Table) -> Vec<PeerId> {
    let actions = actions(table).into_iter();
    let parted = actions.filter_map(|action| match action {
        Action::Part(peer) => Some(peer),
        _ => None,
    });
    parted.collect()
}

#[test]
fn who_comes_to_a_full_node_takes_the_place_of_the_least_useful() {
    let now = platform::now();
    let (mut table, peers) = full(0, now);
    wants_in(&mut table, 100, now).expect("somebody makes room");
    assert_eq!(
        parted(&mut table),
        peers[59..],
        "the youngest of one network"
    );
    // Not again at once, and never more than there is place for.
    assert_eq!(wants_in(&mut table, 101, now), Err(FULL));
    wants_in(&mut table, 102, now + EVERY).expect("somebody makes room");
    assert_eq!(parted(&mut table), peers[58..59]);
    assert_eq!(table.taken(), 60);
}

#[test]
fn whom_this_node_chooses_waits_for_no_newcomers_turn_and_the_users_make_no_room() {
    let now = platform::now();
    let (mut table, peers) = full(0, now);
    let (others, users) = peers.split_at(30);
    users.iter().for_each(|peer| table.is_users(*peer, true));
    wants_in(&mut table, 100, now).expect("somebody makes room");
    let dialled = PeerId::random();
    assert_eq!(table.admits(&dialled, Direction::Outbound, now), Ok(()));
    let protected = PeerId::random();
    table.protect(protected, "friend").expect("protected");
    for (number, peer, direction) in [
        (101, dialled, Direction::Outbound),
        (102, protected, Direction::Inbound),
    ] {
        table.connected(connection(number), from(peer, direction), now);
    }
    assert_eq!(table.greeted(&protected, now), Ok(()));
    let made_room = parted(&mut table);
    assert_eq!(made_room.len(), 3, "one for each, at once");
    assert!(made_room.iter().all(|peer| others.contains(peer)));
}

#[test]
fn who_makes_room_is_here_until_it_has_read_why_or_was_too_slow_for_that() {
    let now = platform::now();
    let (mut table, peers) = full(58, now);
    wants_in(&mut table, 100, now).expect("they make room");
    let [quick, slow] = [59, 58].map(|number| (peers[number], connection(number)));
    assert_eq!(parted(&mut table), [quick.0, slow.0]);
    table.on_time(now + HELLO - Duration::from_millis(1));
    actions(&mut table);
    let stages = [quick, slow].map(|(peer, _)| table.stage(&peer));
    assert_eq!(stages, [Some(Stage::Leaving); 2]);
    assert!(table.is_shown(&quick.0) && table.free() == 1);
    table.told(&quick.0, now);
    table.on_time(now + FAREWELL);
    assert_eq!(actions(&mut table), [Action::Close(quick.0)]);
    table.on_time(now + HELLO);
    assert_eq!(actions(&mut table), [Action::Close(slow.0)]);
    for (peer, connection) in [quick, slow] {
        table.closed(&peer, connection, String::new());
        let (reason, shown) = (MADE_ROOM.to_owned(), true);
        let gone = Action::Gone {
            peer,
            reason,
            shown,
        };
        assert_eq!(actions(&mut table), [gone]);
    }
}

#[test]
fn down_to_the_low_watermark_and_whom_this_node_dials_too() {
    let now = platform::now();
    let (mut table, _) = full(50, now);
    let peer = PeerId::random();
    table
        .admits(&peer, Direction::Outbound, now)
        .expect("a place");
    assert_eq!(parted(&mut table).len(), 10);
    assert_eq!(table.free(), 10);
}

#[test]
fn a_plain_peer_has_nobody_let_go_and_is_let_go_without_a_word() {
    let now = platform::now();
    let (mut table, plain) = (table(60), PeerId::random());
    for number in 0..59 {
        friend(&mut table, number, now);
    }
    table.connected(connection(59), from(plain, Direction::Inbound), now);
    table.never_greets(plain, now);
    let other = PeerId::random();
    table.connected(connection(60), from(other, Direction::Inbound), now);
    table.never_greets(other, now);
    assert_eq!(table.stage(&other), Some(Stage::Ending));
    actions(&mut table);
    wants_in(&mut table, 61, now).expect("the plain one makes room");
    assert_eq!(actions(&mut table)[0], Action::Close(plain));
}

#[test]
fn who_is_protected_or_of_use_makes_no_room() {
    let now = platform::now();
    let (mut table, peers) = full(0, now);
    for peer in &peers[40..58] {
        table.protect(*peer, "validator").expect("protected");
    }
    table.brought(&peers[58], ItemKind::Vote, now);
    table.staked(&peers[59], 7);
    wants_in(&mut table, 100, now).expect("somebody makes room");
    assert_eq!(parted(&mut table), [peers[39]]);
    for peer in &peers {
        table.protect(*peer, "all").expect("protected");
    }
    assert_eq!(wants_in(&mut table, 101, now + EVERY), Err(FULL));
    assert!(table.unprotect(&peers[40], "validator"), "by the other tag");
    assert!(!table.unprotect(&peers[40], "all"));
    assert!(!table.unprotect(&peers[40], "all"));
}

#[test]
fn who_is_on_duty_makes_no_room_until_that_is_over() {
    let now = platform::now();
    let (mut table, peers) = full(0, now);
    for peer in &peers {
        table.is_on_duty(*peer, true);
        assert!(table.keeps_place(peer));
    }
    assert_eq!(wants_in(&mut table, 100, now), Err(FULL));
    table.is_on_duty(peers[40], false);
    table.is_on_duty(peers[40], false);
    assert!(!table.keeps_place(&peers[40]));
    for peer in &peers {
        table.is_on_duty(*peer, false);
    }
    wants_in(&mut table, 101, now + EVERY).expect("somebody makes room");
}

#[test]
fn protection_has_its_bounds() {
    let (mut table, peer) = (table(1), PeerId::random());
    for tag in [String::new(), "t".repeat(MAX_TAG + 1)] {
        assert_eq!(table.protect(peer, &tag), Err(ProtectError::Tag));
    }
    for tag in 0..MAX_TAGS {
        table.protect(peer, &tag.to_string()).expect("one more");
    }
    assert_eq!(table.protect(peer, "t"), Err(ProtectError::Tags));
    table.protect(peer, "0").expect("it has it");
    for _ in 1..MAX_PROTECTED {
        table.protect(PeerId::random(), "t").expect("one more");
    }
    assert_eq!(
        table.protect(PeerId::random(), "t"),
        Err(ProtectError::Peers)
    );
    assert_eq!(table.protected.len(), MAX_PROTECTED);
}

/// One of the network of this number.
fn of(network: usize, peer: PeerId, direction: Direction) -> PeerInfo {
    let address = format!("/ip4/50.{network}.0.1/tcp/1");
    PeerInfo {
        addresses: vec![address.parse().expect("an address")],
        ..from(peer, direction)
    }
}

/// What a node does over these steps, after each of which is looked whom it let go.
fn life(low: usize, peers: &[PeerId], mut now: Instant, steps: &[(u8, usize, u64)]) -> Vec<Action> {
    const PLACES: usize = 40;
    let mut table = table(PLACES);
    table.limits.low_watermark = low;
    let low = if low == 0 { PLACES } else { low };
    let (mut last, mut all): (Option<Instant>, _) = (None, Vec::new());
    let fill = (0..PLACES).flat_map(|which| [(0, which, 0), (5, which, 0)]);
    for (what, which, millis) in fill.chain(steps.iter().copied()) {
        now += Duration::from_millis(millis);
        let (id, mut few) = (peers[which], 1);
        let had_place = |peer: &&Peer| matches!(peer.stage, Stage::Ready | Stage::Plain);
        let had_place = table.peers.values().map(|peer| &**peer).filter(had_place);
        let had_place: HashSet<_> = had_place.map(|peer| peer.info.peer_id).collect();
        // Those this node chooses wait for no turn.
        let is_chosen = what == 4 || table.protected.contains_key(&id);
        match what {
            0..=4 => {
                let direction = [Direction::Inbound, Direction::Outbound][usize::from(what == 4)];
                if table.stage(&id).is_none() && table.admits(&id, direction, now).is_ok() {
                    table.connected(connection(which), of(which % 7, id, direction), now);
                }
            }
            5..=7 => match table.greeted(&id, now) {
                Ok(()) => table.lanes(id, true, now),
                Err(reason) => table.turn_away(id, reason, now),
            },
            8 => table.never_greets(id, now),
            9 => assert_eq!(table.protect(id, "t"), Ok(())),
            10 => assert!(!table.unprotect(&id, "t")),
            11 => table.brought(&id, ItemKind::ALL[which % 3], now),
            12 => table.staked(&id, millis),
            13 => table.ponged(&id, Duration::from_millis(millis), now),
            14 => table.told(&id, now),
            15 => table.closed(&id, connection(which), String::new()),
            _ => {
                few = which % 4;
                table.makes_place(few, now);
            }
        }
        let done = actions(&mut table);
        let made_room = done.iter().filter_map(|action| match action {
            Action::Part(id) | Action::Close(id) if had_place.contains(id) => table.peers.get(id),
            _ => None,
        });
        let mut made_room = made_room.filter(|peer| peer.farewell.as_deref() == Some(MADE_ROOM));
        if let Some(first) = made_room.next() {
            for peer in std::iter::once(first).chain(made_room) {
                assert_eq!(peer.info.direction, Some(Direction::Inbound));
                assert!(!table.protected.contains_key(&peer.info.peer_id));
            }
            assert!(table.taken() >= low.min(PLACES - few));
            if !is_chosen {
                assert!(last.is_none_or(|last| now >= last + EVERY));
                last = Some(now);
            }
        }
        table.on_time(now);
        let due = actions(&mut table);
        for action in done.iter().chain(&due) {
            if let Action::Close(id) = action {
                let which = peers.iter().position(|peer| peer == id);
                let connection = connection(which.expect("one of these"));
                table.closed(id, connection, String::new());
            }
        }
        agree(&table, PLACES);
        all.extend(done.into_iter().chain(due).chain(actions(&mut table)));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, in whatever order: nobody who is protected and nobody whom this node has dialled makes room, no more do than have to, for who comes by
    /// itself at most once a second, and all that is chance is the secret.
    #[test]
    fn only_those_make_room_that_may(
        low in 0..45_usize,
        steps in proptest::collection::vec((0..17_u8, 0..80_usize, 0..700_u64), 0..300),
    ) {
        let (peers, now): (Vec<_>, _) = ((0..80).map(|_| PeerId::random()).collect(), platform::now());
        let [once, again] = [(); 2].map(|()| life(low, &peers, now, &steps));
        prop_assert!(once == again);
    }

    /// Who comes again and again from a few networks, and is nearer than all, gets a fifth of the places at most.
    #[test]
    fn a_flood_from_few_networks_takes_a_fifth_of_the_places_at_most(networks in 1..4_usize, secret in any::<[u8; 16]>()) {
        const PLACES: usize = 60;
        let (mut table, mut now) = (table(PLACES), platform::now());
        table.lot = Keyed::new(&secret);
        let mut comes = |number: usize, network: usize, millis: u64| {
            now += EVERY;
            let peer = PeerId::random();
            table.connected(connection(number), of(network, peer, Direction::Inbound), now);
            match table.greeted(&peer, now) {
                Ok(()) => table.lanes(peer, true, now),
                Err(reason) => table.turn_away(peer, reason, now),
            }
            table.ponged(&peer, Duration::from_millis(millis), now);
            for action in actions(&mut table) {
                if let Action::Part(peer) | Action::Close(peer) = action {
                    let open = table.peers[&peer].connections[0].id;
                    table.closed(&peer, open, String::new());
                }
            }
            let held = |of: &dyn Fn(usize) -> bool| {
                let networks = table.peers.values().map(|peer| match peer.network {
                    NetworkGroup::Ip4([_, network]) => usize::from(network),
                    _ => unreachable!("all have an address"),
                });
                networks.filter(|network| of(*network)).count()
            };
            (held(&|network| network < PLACES), held(&|network| network >= PLACES))
        };
        for number in 0..PLACES {
            comes(number, number, 50);
        }
        for number in PLACES..PLACES + 150 {
            let (honest, hostile) = comes(number, PLACES + number % networks, 1);
            prop_assert!(honest + hostile == PLACES && hostile <= PLACES / 5, "{hostile}");
        }
    }
}
