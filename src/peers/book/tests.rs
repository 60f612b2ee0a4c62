use proptest::{collection::vec, prelude::*};

use super::*;
use crate::peers::{Alarm, as_map::tests::map};
use crate::platform::{self, test};

fn address(text: &str) -> Multiaddr {
    text.parse().expect("an address")
}

/// Host `host` of network `network`.
fn at(network: u8, host: u16) -> Multiaddr {
    let [high, low] = host.to_be_bytes();
    address(&format!("/ip4/50.{network}.{high}.{low}/tcp/1"))
}

fn network(network: u8) -> NetworkGroup {
    Grouping::default().of(&at(network, 1))
}

pub(super) fn peer(number: u64) -> PeerId {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    PeerId::from_bytes(&[0, 8, a, b, c, d, e, f, g, h]).expect("a short id")
}

fn every(_: &Multiaddr) -> bool {
    true
}

fn book() -> (AddressBook, Instant) {
    let now = platform::now();
    (
        AddressBook::new(peer(u64::MAX), every, Grouping::default(), [7; 32], now),
        now,
    )
}

fn second(now: Instant, seconds: u64) -> Instant {
    now + Duration::from_secs(seconds)
}

/// Dials of a peer led to it.
fn reach(book: &mut AddressBook, peer: PeerId, address: &Multiaddr, now: Instant) {
    book.connected(peer, address, true, now);
    book.reached(peer, address, now);
}

#[test]
fn who_was_told_of_is_dialled_once_and_again_after_a_pause() {
    let (mut book, now) = book();
    assert!(book.told(network(1), peer(1), &[at(1, 1)], now));
    let candidate = Candidate {
        peer: peer(1),
        addresses: vec![at(1, 1)],
        proven: Vec::new(),
    };
    assert_eq!(book.choose(now), Some(candidate));
    assert_eq!(book.choose(now), None, "it is being dialled");
    let mut now = now;
    for pause in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
        book.failed(peer(1), true, now);
        assert_eq!(book.choose(second(now, pause - 1)), None, "{pause}");
        now = second(now, pause);
        assert!(book.choose(now).is_some(), "{pause}");
    }
}

#[test]
fn what_cannot_be_is_not_kept() {
    let (mut book, now) = book();
    let long = format!(
        "/dns4/{}.example/tcp/1",
        "a".repeat(AddressPolicy::MAX_BYTES)
    );
    assert!(
        !book.told(network(1), peer(u64::MAX), &[at(1, 1)], now),
        "own id"
    );
    assert!(!book.told(network(1), peer(1), &[], now));
    assert!(!book.told(
        network(1),
        peer(1),
        &[address(&long), Multiaddr::empty()],
        now
    ));
    book.reached(peer(1), &address(&long), now);
    book.reached(peer(u64::MAX), &at(1, 1), now);
    assert_eq!(book.counts(), (0, 0));
    // What is not known changes nothing.
    book.failed(peer(1), true, now);
    book.refused(&peer(1), now);
    book.gone(peer(1), now);
    book.forget(&peer(1));
    assert_eq!((book.choose(now), book.feeler(now)), (None, None));
}

#[test]
fn a_source_that_tells_without_end_reaches_few_places() {
    let (mut book, now) = book();
    for number in 0..20_000 {
        let [a, b, ..] = number_bytes(number);
        book.told(network(1), peer(number), &[at(a, b.into())], now);
    }
    let (flooded, _) = book.counts();
    // 8 of 125 buckets, with 32 places each.
    assert!((200..=256).contains(&flooded), "{flooded}");
    // Others find room still.
    let mut found = 0;
    for number in 0..100 {
        let source = network(number as u8 + 2);
        let known = book.told(
            source,
            peer(1_000_000 + number),
            &[at(9, number as u16)],
            now,
        );
        found += usize::from(known);
    }
    assert!(found >= 85, "{found}");
}

fn number_bytes(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

#[test]
fn one_network_has_few_places_among_the_tried() {
    let (mut book, now) = book();
    for number in 0..2000 {
        let address = at(1, number as u16);
        reach(&mut book, peer(number), &address, now);
        book.gone(peer(number), now);
    }
    let (_, tried) = book.counts();
    assert!((30..=40).contains(&tried), "{tried}");
}

#[test]
fn the_book_is_bounded() {
    let (mut book, now) = book();
    let mut number = 0;
    for source in 0..=255 {
        for _ in 0..100 {
            number += 1;
            let [a, b, c, ..] = number_bytes(number);
            let address = at(a, u16::from_be_bytes([b, c]));
            book.told(
                network(source),
                peer(number),
                std::slice::from_ref(&address),
                now,
            );
            if number % 4 == 0 {
                reach(&mut book, peer(number), &address, now);
                book.gone(peer(number), now);
            }
        }
    }
    let (new, tried) = book.counts();
    assert!(
        (3000..=4000).contains(&new) && (800..=1000).contains(&tried),
        "{new} {tried}"
    );
    assert_eq!(book.peers().count(), new + tried);
}

#[test]
fn no_two_of_one_network_are_chosen_while_there_are_others() {
    let (mut book, now) = book();
    for number in 0..200_u64 {
        // A hundred of the first network, one of each of a hundred others.
        let of = if number < 100 { 1 } else { number as u8 };
        let source = network(number as u8);
        book.told(source, peer(number), &[at(of, number as u16)], now);
        if number % 2 == 0 {
            reach(&mut book, peer(number), &at(of, number as u16), now);
            book.gone(peer(number), now);
        }
    }
    let mut networks = BTreeSet::new();
    let later = second(now, 60);
    let known: BTreeSet<_> = book.peers().map(|known| known.network).collect();
    for _ in 0..known.len() {
        let candidate = book.choose(later).expect("one of another network");
        let fresh = networks.insert(Grouping::default().of(&candidate.addresses[0]));
        assert!(fresh, "{candidate:?}");
    }
    // None but the crowd's is left.
    let more = book.choose(later).expect("better than none");
    assert_eq!(Grouping::default().of(&more.addresses[0]), network(1));
}

#[test]
fn with_a_map_no_two_of_one_provider_are_chosen_while_there_are_others() {
    let (grouping, now) = (Grouping::default(), platform::now());
    // All odd networks up to 31 are one provider's.
    let provider: Vec<_> = (0..16)
        .map(|of| format!("50.{}.0.0/16", of * 2 + 1))
        .collect();
    let provider: Vec<_> = provider.iter().map(|net| (net.as_str(), 7)).collect();
    grouping.give(map(&provider)).expect("the first");
    let own = peer(u64::MAX);
    let mut book = AddressBook::new(own, every, grouping.clone(), [7; 32], now);
    for number in 0..32_u64 {
        let home = at(number as u8, 1);
        reach(&mut book, peer(number), &home, now);
        book.gone(peer(number), now);
    }
    let later = second(now, 60);
    let chosen: Vec<_> = std::iter::from_fn(|| book.choose(later)).collect();
    let networks = chosen.iter().map(|known| grouping.of(&known.addresses[0]));
    let networks: Vec<_> = networks.collect();
    let first: BTreeSet<_> = networks.iter().take(17).collect();
    assert_eq!(
        first.len(),
        17,
        "sixteen networks, and one of the provider's"
    );
    assert!(
        networks[17..]
            .iter()
            .all(|of| *of == NetworkGroup::System(7))
    );
}

/// Dials whom the book chooses, as long as it does: who is where it was dialled is connected. How many are.
fn dial_all(book: &mut AddressBook, is_there: impl Fn(&Multiaddr) -> bool, now: Instant) -> usize {
    let mut places = 0;
    while let Some(Candidate {
        peer, addresses, ..
    }) = book.choose(now)
    {
        match addresses.iter().find(|address| is_there(address)) {
            Some(address) => {
                book.connected(peer, address, true, now);
                places += 1;
            }
            None => book.failed(peer, true, now),
        }
    }
    places
}

#[test]
fn one_host_takes_one_place_whatever_networks_its_peers_are_said_to_be_in() {
    let (mut book, now) = book();
    for number in 1..=8 {
        let host = at(66, number);
        let lie = at(number as u8, 9);
        book.told(
            network(number as u8),
            peer(number.into()),
            &[lie, host],
            now,
        );
    }
    let host = |address: &Multiaddr| Grouping::default().of(address) == network(66);
    assert_eq!(dial_all(&mut book, host, now), 1);
    // None of the others was dialled where it is, so it is not its fault.
    assert!(book.peers().all(|known| known.failures == 0));
}

#[test]
fn peers_that_change_their_certificates_take_one_place_a_network() {
    let (mut book, now) = book();
    let hash = "uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g";
    let tab = |network: u64, host: u64| {
        let place = format!("/ip4/50.{network}.0.{host}/udp/1/webrtc-direct");
        address(&format!("{place}/certhash/{hash}"))
    };
    for number in 1..=8 {
        let source = |number: u64| network(number as u8);
        book.told(source(number), peer(number), &[tab(66, number)], now);
        book.told(source(number + 8), peer(number + 8), &[tab(number, 1)], now);
    }
    let mut networks = BTreeSet::new();
    for _ in 0..9 {
        let candidate = book.choose(now).expect("there is another network");
        book.connected(candidate.peer, &candidate.addresses[0], true, now);
        networks.insert(Grouping::default().of(&candidate.addresses[0]));
    }
    assert_eq!(networks.len(), 9);
}

#[test]
fn nobody_is_kept_away_by_what_strangers_say_of_its_network() {
    let (mut book, now) = book();
    book.connected(peer(9), &at(66, 1), true, now);
    for number in 1..=8 {
        let lie = at(66, number);
        let source = network(number as u8);
        book.told(
            source,
            peer(number.into()),
            &[lie, at(number as u8, 1)],
            now,
        );
    }
    let honest = |address: &Multiaddr| Grouping::default().of(address) != network(66);
    assert_eq!(dial_all(&mut book, honest, now), 8);
}

#[test]
fn what_is_seen_of_the_internet_is_counted_by_network() {
    let (mut book, now) = book();
    for number in 1..=6 {
        let home = at(number as u8 % 2, number);
        book.connected(peer(number.into()), &home, true, now);
    }
    // Who came by itself, who is near, and who is behind a relay.
    book.connected(peer(7), &at(9, 1), false, now);
    book.connected(peer(8), &address("/ip4/10.0.0.1/tcp/1"), true, now);
    let circuit = format!("/ip4/50.8.0.1/tcp/1/p2p/{}/p2p-circuit", peer(1));
    book.connected(peer(9), &address(&circuit), true, now);
    for number in 10..13 {
        book.told(network(1), peer(number), &[at(number as u8, 1)], now);
    }
    book.told(network(1), peer(13), &[address("/ip4/10.0.0.2/tcp/1")], now);
    let mut seen = Outlook {
        dialled: 6,
        chosen: 4,
        networks: 2,
        missed: 0,
        anchors_lost: false,
    };
    let is_users = |of: &PeerId| [peer(1), peer(2)].contains(of);
    assert_eq!(
        book.outlook(is_users),
        seen,
        "what is only told counts for nothing"
    );
    // One that was reached, and one that was dialled in vain; none of one's own networks twice.
    let home = at(20, 1);
    book.told(network(1), peer(20), &[at(21, 1)], now);
    reach(&mut book, peer(20), &home, now);
    book.gone(peer(20), now);
    book.failed(peer(10), true, now);
    seen.missed = 2;
    assert_eq!(book.outlook(is_users), seen);
    book.told(network(1), peer(11), &[at(11, 1)], second(now, 600));
    seen.missed = 1;
    assert_eq!(book.outlook(is_users), seen, "that was ten minutes ago");
}

#[test]
fn a_network_whose_peers_are_all_connected_is_no_sign() {
    let (mut book, now) = book();
    // Two peers at each of four providers, each with an address of either kind.
    for number in 0..8 {
        let six = format!("/ip6/2a01:{}::{number}/tcp/1", 100 + number / 2);
        let home = at(number as u8 / 2, number);
        book.told(
            network(9),
            peer(number.into()),
            &[home.clone(), address(&six)],
            now,
        );
        reach(&mut book, peer(number.into()), &home, now);
    }
    // A stranger names peers in many other networks, which nobody has tried.
    for number in 10..40 {
        book.told(network(9), peer(number), &[at(number as u8, 1)], now);
    }
    let outlook = book.outlook(|_| false);
    assert_eq!(
        (outlook.chosen, outlook.networks, outlook.missed),
        (8, 4, 0)
    );
    let mut alarm = Alarm::new(None, now);
    for ten in 0..30 {
        assert_eq!(alarm.look(outlook, second(now, ten * 10)), None);
    }
}

#[test]
fn who_fails_at_some_of_its_addresses_does_not_take_all_turns() {
    let (mut book, now) = book();
    let held = |host: u64| address(&format!("/ip6/2a01:4f8::{host}/tcp/1"));
    for number in 1..=8 {
        let home = at(number as u8, 1);
        book.told(network(9), peer(number), &[home.clone(), held(number)], now);
        reach(&mut book, peer(number), &home, now);
        book.gone(peer(number), now);
    }
    book.connected(peer(99), &held(99), true, now);
    book.told(network(9), peer(100), &[at(100, 1)], now);
    let found = (6..360).any(|ten| {
        let now = second(now, ten * 10);
        let chosen = book.choose(now);
        if let Some(chosen) = &chosen {
            book.failed(chosen.peer, true, now);
        }
        chosen.is_some_and(|chosen| chosen.peer == peer(100))
    });
    assert!(found, "within an hour");
    assert!(
        book.peers()
            .all(|known| known.failures <= u32::from(known.peer_id == peer(100)))
    );
    // Once it is reached it begins anew.
    let later = second(now, 7200);
    reach(&mut book, peer(1), &at(1, 1), later);
    book.gone(peer(1), later);
    book.failed(peer(1), false, later);
    assert_eq!(book.entries[&peer(1)].due, book.time + 60);
}

#[test]
fn who_could_not_be_dialled_everywhere_is_tried_again_when_a_network_is_free() {
    let (mut book, now) = book();
    book.connected(peer(99), &at(2, 99), true, now);
    book.told(network(9), peer(1), &[at(1, 1), at(2, 1)], now);
    let mut now = now;
    for pause in [60, 120, 240, 480, 960, 1920, 3600] {
        let chosen = book.choose(now).expect("it is its turn");
        assert_eq!(chosen.addresses, [at(1, 1)]);
        book.failed(peer(1), true, now);
        assert_eq!(book.choose(second(now, pause - 1)), None);
        now = second(now, pause);
    }
    assert!(book.choose(now).is_some());
    book.failed(peer(1), true, now);
    book.gone(peer(99), second(now, 1));
    assert_eq!(book.choose(second(now, 59)), None, "not at once");
    let chosen = book.choose(second(now, 60)).expect("it need not wait");
    assert_eq!(chosen.addresses, [at(1, 1), at(2, 1)]);
}

#[test]
fn who_knocks_here_in_vain_is_no_worse_known_for_that() {
    let (mut book, now) = book();
    book.told(network(9), peer(1), &[at(1, 1)], now);
    for _ in 0..3 {
        book.connected(peer(1), &at(1, 1), false, now);
        book.refused(&peer(1), now);
        book.gone(peer(1), now);
    }
    let failures = |book: &AddressBook| book.peers().map(|known| known.failures).sum::<u32>();
    assert_eq!(failures(&book), 0);
    book.connected(peer(1), &at(1, 1), true, now);
    book.refused(&peer(1), now);
    assert_eq!(failures(&book), 1, "this one was dialled");
}

#[test]
fn who_came_by_itself_holds_no_network_and_is_not_dialled() {
    let (mut book, now) = book();
    book.told(network(9), peer(1), &[at(1, 1)], now);
    book.connected(peer(1), &at(1, 1), false, now);
    assert_eq!(book.choose(now), None);
    book.told(network(9), peer(2), &[at(1, 2)], now);
    assert!(book.choose(now).is_some(), "its network is free");
    assert_eq!(book.counts(), (2, 0), "who dials us proves nothing");
}

#[test]
fn a_tried_peer_keeps_its_place_if_it_answers_and_loses_it_if_not() {
    for answers in [true, false] {
        let (mut book, now) = book();
        let place =
            |book: &AddressBook, number: u64| book.places.tried_place(&peer(number), network(1));
        let wanted = place(&book, 0);
        let rival = (1..)
            .find(|number| place(&book, *number) == wanted)
            .expect("one");
        let [first, second_] = [peer(0), peer(rival)];
        let [home, other] = [at(1, 0), at(1, rival as u16)];
        reach(&mut book, first, &home, now);
        book.gone(first, now);
        reach(&mut book, second_, &other, now);
        assert!(book.contests.is_empty(), "it was there a moment ago");
        book.gone(second_, now);
        let later = second(now, FRESH);
        reach(&mut book, second_, &other, later);
        let tested = book.feeler(later).map(|candidate| candidate.peer);
        assert_eq!(tested, Some(first), "it is tested first");
        if answers {
            reach(&mut book, first, &home, later);
        } else {
            book.failed(first, true, later);
        }
        let winner = if answers { first } else { second_ };
        assert_eq!(book.places.at(wanted), Some(winner));
        assert!(book.contests.is_empty());
        assert_eq!(book.counts(), (1, 1), "the other is a new one");
    }
}

#[test]
fn an_offline_node_does_not_burn_its_book() {
    let (mut book, mut now) = book();
    book.told(network(2), peer(1), &[at(1, 1)], now);
    for _ in 0..100 {
        assert!(book.choose(now).is_some());
        book.failed(peer(1), false, now);
        now = second(now, 60);
    }
    let entry = book.entries.get(&peer(1)).expect("it is known");
    assert!(entry.failures == 0 && !entry.is_terrible(book.time));
}

#[test]
fn terrible_peers_make_room_and_others_do_not() {
    let (mut book, mut now) = book();
    let place = |book: &AddressBook, number: u64| {
        book.places.new_place(&peer(number), network(1), network(2))
    };
    let wanted = place(&book, 0);
    let rival = (1..)
        .find(|number| place(&book, *number) == wanted)
        .expect("one");
    assert!(book.told(network(2), peer(0), &[at(1, 0)], now));
    assert!(!book.told(network(2), peer(rival), &[at(1, 1)], now));
    for _ in 0..3 {
        book.failed(peer(0), true, now);
        now = second(now, 600);
    }
    assert!(
        book.told(network(2), peer(rival), &[at(1, 1)], now),
        "three dials in vain"
    );
    now = second(now, 31 * 86_400);
    assert!(
        book.told(network(2), peer(0), &[at(1, 0)], now),
        "nobody told of it for a month"
    );
    // One that was reached needs ten, over a week.
    reach(&mut book, peer(5), &at(5, 5), now);
    book.gone(peer(5), now);
    let terrible = |book: &AddressBook| {
        let entry = book.entries.get(&peer(5)).expect("known");
        entry.is_terrible(book.time)
    };
    for day in 0..8 {
        for _ in 0..2 {
            book.failed(peer(5), true, second(now, day * 86_400));
        }
        book.wake(second(now, day * 86_400 + 600));
        assert_eq!(terrible(&book), day > 6, "day {day}");
    }
}

#[test]
fn no_teller_has_the_last_word_about_addresses() {
    let (mut book, now) = book();
    reach(&mut book, peer(1), &at(1, 1), now);
    for host in 100..1000 {
        book.told(network(2), peer(1), &[at(3, host)], now);
        book.told(network(2), peer(2), &[at(3, host)], now);
    }
    let known = book.candidate(&peer(1)).expect("known");
    assert_eq!((known.addresses.len(), known.proven), (8, vec![at(1, 1)]));
    assert_eq!(known.addresses[0], at(1, 1));
    // Its own word replaces theirs.
    book.says(network(2), peer(2), &[at(4, 1), at(4, 2)], now);
    let known = book.candidate(&peer(2)).expect("known");
    assert_eq!(known.addresses, [at(4, 1), at(4, 2)]);
    for host in 0..20 {
        book.reached(peer(1), &at(1, host), now);
    }
    let known = book.candidate(&peer(1)).expect("known");
    assert_eq!(known.proven, [at(1, 19), at(1, 18), at(1, 17)]);
}

#[test]
fn a_tab_is_given_what_it_can_dial() {
    let now = platform::now();
    let dials = |address: &Multiaddr| address.to_string().ends_with("ws");
    let mut book = AddressBook::new(peer(0), dials, Grouping::default(), [7; 32], now);
    let both = [
        address("/ip4/1.2.3.4/tcp/1"),
        address("/ip4/1.2.3.4/tcp/2/ws"),
    ];
    book.told(network(1), peer(1), &both[..1], now);
    book.told(network(2), peer(2), &both, now);
    let candidate = book.choose(now).expect("one");
    assert_eq!(
        (candidate.peer, candidate.addresses),
        (peer(2), vec![both[1].clone()])
    );
    assert_eq!(book.choose(now), None);
    let shown = book
        .peers()
        .find(|known| known.peer_id == peer(2))
        .expect("known");
    assert_eq!(shown.addresses, both, "all are kept, for others");
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn a_hundred_thousand_steps_take_no_longer_at_the_end() {
    let (mut book, mut now) = book();
    for number in 0..100_000_u64 {
        let [a, b, c, d, ..] = number_bytes(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let address = at(a, u16::from_be_bytes([b, c]));
        book.told(network(d), peer(number), &[address], now);
        if let Some(candidate) = book.choose(now) {
            book.failed(candidate.peer, false, now);
        }
        now += Duration::from_millis(10);
    }
    assert!(book.links.is_empty() && book.held.is_empty());
}

proptest! {
    // What is shelved is found by drawing hundreds of times after each step.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, what is shelved is what may be dialled, and each place knows its peer.
    #[test]
    fn the_indexes_say_what_the_entries_are(steps in vec((0u8..10, 0u64..12, 0u8..4, 0u64..200), 0..200)) {
        let (mut book, mut now) = book();
        for (what, who, of, later) in steps {
            now = second(now, later);
            let (peer, home) = (peer(who), at(of, who as u16));
            match what {
                0 | 1 => drop(book.told(network(of), peer, &[home], now)),
                2 => drop(book.choose(now)),
                3 => drop(book.feeler(now)),
                4 => reach(&mut book, peer, &home, now),
                5 => book.failed(peer, of < 3, now),
                6 => book.gone(peer, now),
                7 => book.connected(peer, &home, false, now),
                8 => book.refused(&peer, now),
                _ => book.forget(&peer),
            }
            book.wake(now);
            let ready: BTreeSet<_> = book.entries.keys().filter(|peer| book.is_ready(peer)).copied().collect();
            let mut shelved = BTreeSet::new();
            for _ in 0..400 {
                shelved.extend(book.tried.draw(&mut book.random));
                shelved.extend(book.new.draw(&mut book.random));
            }
            prop_assert_eq!(&shelved, &ready);
            let all_idle = book.entries.iter().filter(|(peer, _)| !book.links.contains_key(peer)).count();
            prop_assert_eq!(book.waiting.len() + ready.len(), all_idle);
            for (peer, entry) in &book.entries {
                prop_assert_eq!(book.places.at(entry.place), Some(*peer));
                prop_assert!(entry.addresses.len() <= ADDRESSES);
            }
            let (new, tried) = book.counts();
            prop_assert_eq!(new + tried, book.entries.len());
            let held: usize = book.held.values().sum();
            let linked = book.links.values().flat_map(|link| link.networks());
            prop_assert_eq!(held, linked.count());
        }
    }
}
