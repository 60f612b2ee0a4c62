use proptest::prelude::*;

use super::*;
use crate::{
    peers::{as_map::tests::map, book::tests::peer},
    platform::{self, test},
};

fn address(text: String) -> Multiaddr {
    text.parse().expect("an address")
}

fn at(number: u64) -> Multiaddr {
    let [a, b, c, ..] = number.to_le_bytes();
    address(format!("/ip4/50.{a}.{b}.{c}/tcp/1"))
}

fn every(_: &Multiaddr) -> bool {
    true
}

fn date(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A book with so many told of, a quarter of them tried, the first two connected.
fn book(peers: u64, now: Instant) -> AddressBook {
    let mut book = AddressBook::new(peer(u64::MAX), every, Grouping::default(), [7; 32], now);
    for number in 0..peers {
        let source = Grouping::default().of(&at(number >> 4));
        book.told(source, peer(number), &[at(number)], now);
        if number % 4 == 0 {
            book.connected(peer(number), &at(number), true, now);
            book.reached(peer(number), &at(number), now);
            if number > 4 {
                book.gone(peer(number), now);
            }
        }
    }
    book
}

/// A ban by the user.
fn banned(who: PeerId, left: Duration) -> Kept {
    Kept {
        who: who.into(),
        left,
        by_user: true,
    }
}

fn load(
    bytes: &[u8],
    now: Instant,
    date: SystemTime,
) -> Result<(AddressBook, Vec<Kept>), BookError> {
    AddressBook::load(
        bytes,
        peer(u64::MAX),
        every,
        Grouping::default(),
        [8; 32],
        now,
        date,
    )
}

#[test]
fn a_book_is_the_same_after_a_restart() {
    let now = platform::now();
    let mut before = book(300, now);
    let hour = Duration::from_secs(3600);
    let network = Kept {
        who: "2001:db8::/32".parse().expect("a network"),
        left: hour * 2,
        by_user: false,
    };
    let bans = vec![banned(peer(1), hour), network];
    let bytes = before.save(&bans, now, date(1_000_000));
    let (mut after, kept) = load(&bytes, now, date(1_000_000)).expect("a book");
    assert_eq!(kept, bans);
    assert_eq!(after.counts(), before.counts());
    assert!(after.entries.values().eq(before.entries.values()));
    // Those that were connected come first.
    let first: Vec<_> = (0..2).filter_map(|_| after.choose(now)).collect();
    let mut first: Vec<_> = first.into_iter().map(|candidate| candidate.peer).collect();
    first.sort();
    assert_eq!(first, [peer(0), peer(4)]);
}

#[test]
fn a_book_of_another_map_is_placed_anew() {
    let now = platform::now();
    let mapped = Grouping::default();
    let seven = map(&[("50.0.0.0/9", 7)]);
    mapped.give(seven).expect("the first");
    let load = |bytes: &[u8], grouping: &Grouping| {
        let grouping = grouping.clone();
        let loaded = AddressBook::load(
            bytes,
            peer(u64::MAX),
            every,
            grouping,
            [8; 32],
            now,
            date(0),
        );
        loaded.expect("a book").0
    };
    let is_where_it_belongs = |book: &AddressBook| {
        for (id, entry) in &book.entries {
            let place = match entry.place.is_tried {
                true => book.places.tried_place(id, entry.group),
                false => book.places.new_place(id, entry.group, entry.source),
            };
            assert_eq!((entry.place, book.places.at(place)), (place, Some(*id)));
            let home = book.grouping.of(&entry.addresses[0].address);
            assert_eq!(entry.group, home);
        }
    };
    let reached = |book: &AddressBook| {
        let entries = book.entries.values();
        entries.filter(|entry| entry.reached.is_some()).count()
    };
    let mut before = book(300, now);
    let saved = before.save(&[], now, date(0));
    let mut after = load(&saved, &mapped);
    is_where_it_belongs(&after);
    let tried = after.peers().filter(|known| {
        let network = known.network == NetworkGroup::System(7);
        known.reached && network
    });
    // One network's tried ones have two buckets: of 43 some stand among the new ones again, and hardly one is lost.
    assert!((20..=40).contains(&tried.count()));
    assert_eq!(reached(&before), 75);
    assert!(reached(&after) >= 70, "{}", reached(&after));
    let first = after.choose(now).expect("an anchor").peer;
    assert!([peer(0), peer(4)].contains(&first));
    after.failed(first, false, now);
    let saved = after.save(&[], now, date(0));
    let again = load(&saved, &mapped);
    assert!(again.entries.values().eq(after.entries.values()));
    let without = load(&saved, &Grouping::default());
    is_where_it_belongs(&without);
    assert_eq!(reached(&without), reached(&after));
}

#[test]
fn anchors_are_lost_when_all_of_them_have_failed_and_not_by_a_node_that_is_offline() {
    let now = platform::now();
    let bytes = book(300, now).save(&[], now, date(0));
    let minute = |count: u64| now + Duration::from_secs(60 * count);
    let lost = |first: bool, second: bool| {
        let (mut after, _) = load(&bytes, now, date(0)).expect("a book");
        // Offline at first: they are dialled again before all others.
        for count in 0..3 {
            for _ in 0..2 {
                let anchor = after.choose(minute(count)).expect("an anchor").peer;
                assert!([peer(0), peer(4)].contains(&anchor), "{count}");
                after.failed(anchor, false, minute(count));
            }
        }
        for answers in [first, second] {
            let anchor = after.choose(minute(3)).expect("an anchor");
            if answers {
                after.connected(anchor.peer, &anchor.addresses[0], true, minute(3));
            } else {
                after.failed(anchor.peer, true, minute(3));
            }
        }
        after.outlook(|_| false).anchors_lost
    };
    assert!(lost(false, false));
    assert!(!lost(true, false) && !lost(false, true) && !lost(true, true));
}

#[test]
fn anchors_outlast_starts_without_a_network_but_not_forever() {
    let now = platform::now();
    let anchors = |book: &AddressBook| {
        let mut anchors = book.anchors.clone();
        anchors.sort();
        anchors
    };
    let again = |book: &mut AddressBook, day: u64| {
        let bytes = book.save(&[], now, date(day * 86_400));
        let loaded = load(&bytes, now, date(day * 86_400));
        loaded.expect("a book").0
    };
    let both = [peer(0), peer(4)];
    let mut first = book(300, now);
    let mut offline = again(&mut first, 0);
    let mut second = again(&mut offline, 0);
    assert_eq!(anchors(&second), both);
    // One of them is reached when it is saved, and the other is still to be dialled.
    let reached = second.choose(now).expect("an anchor");
    second.connected(reached.peer, &reached.addresses[0], true, now);
    assert_eq!(anchors(&again(&mut second, 0)), both);
    // Its network is lost before it ends.
    let other = second.choose(now).expect("the other");
    second.connected(other.peer, &other.addresses[0], true, now);
    second.save(&[], now, date(0));
    for peer in both {
        second.gone(peer, now);
    }
    assert_eq!(anchors(&again(&mut second, 0)), both);
    let bytes = second.save(&[], now, date(0));
    let mut book = load(&bytes, now, date(2 * 86_400)).expect("a book").0;
    assert_eq!(anchors(&book), both);
    let bytes = book.save(&[], now, date(2 * 86_400));
    let book = load(&bytes, now, date(4 * 86_400)).expect("a book").0;
    assert_eq!(anchors(&book), []);
}

#[test]
fn near_anchors_and_those_of_long_ago_are_no_loss() {
    let now = platform::now();
    let near = |number: u64| {
        let text = format!("/ip4/192.168.0.{number}/tcp/1");
        text.parse::<Multiaddr>().expect("an address")
    };
    let mut home = book(0, now);
    for number in 1..=2 {
        home.connected(peer(number), &near(number), true, now);
        home.reached(peer(number), &near(number), now);
    }
    let near = home.save(&[], now, date(0));
    let far = book(300, now).save(&[], now, date(0));
    for (bytes, age, anchors, is_lost) in [
        (&near, 60, 2, false),
        (&far, 60, 2, true),
        (&far, 30 * 86_400, 0, false),
    ] {
        let (mut after, _) = load(bytes, now, date(age)).expect("a book");
        assert_eq!(after.anchors.len(), anchors);
        for anchor in after.anchors.clone() {
            after.failed(anchor, true, now);
        }
        assert_eq!(after.outlook(|_| false).anchors_lost, is_lost, "{age}");
    }
}

#[test]
fn bans_run_on_while_the_node_is_away_and_no_date_prolongs_them() {
    let now = platform::now();
    let bans = vec![banned(peer(1), Duration::from_secs(3600))];
    let bytes = book(1, now).save(&bans, now, date(1_000_000));
    let left = |seconds| {
        let (_, bans) = load(&bytes, now, date(seconds)).expect("a book");
        bans.first().map(|kept| kept.left.as_secs())
    };
    assert_eq!(left(1_000_600), Some(3000));
    assert_eq!(left(1_003_600), None);
    for earlier in [0, 5, 999_999] {
        assert_eq!(left(earlier), Some(3600), "a date that went back");
    }
}

#[test]
fn the_longest_bans_are_kept() {
    let now = platform::now();
    let (short, long) = (Duration::from_secs(60), Duration::from_secs(3650 * 86_400));
    let mut bans: Vec<_> = (0..10_000)
        .map(|number| banned(peer(number), short))
        .collect();
    bans.push(banned(peer(10_000), long));
    let bytes = book(1, now).save(&bans, now, date(0));
    let (_, kept) = load(&bytes, now, date(0)).expect("a book");
    assert_eq!(kept.len(), BANS);
    assert!(kept.contains(&banned(peer(10_000), long)));
}

#[test]
fn long_addresses_crowd_nobody_out() {
    let now = platform::now();
    let mut book = book(20_000, now);
    let known: Vec<_> = book.entries.keys().copied().collect();
    let (_, tried) = book.counts();
    assert!(tried > 800, "{tried}");
    // Of the longest that there may be, of each tried peer five and of some new ones eight.
    let long = |number: usize| {
        let name = "a".repeat(AddressPolicy::MAX_BYTES - 20);
        let long = address(format!("/dns4/{number}.{name}.example/tcp/1"));
        assert!((200..=AddressPolicy::MAX_BYTES).contains(&long.len()));
        long
    };
    for (number, peer) in known.iter().enumerate() {
        let is_tried = book.entries[peer].place.is_tried;
        let count = if is_tried { 5 } else { 7 };
        if is_tried || number % 10 == 0 {
            let told: Vec<_> = (0..count).map(long).collect();
            book.told(NetworkGroup::Fleeting, *peer, &told, now);
        }
    }
    let bytes = book.save(&[], now, date(0));
    let (after, _) = load(&bytes, now, date(0)).expect("a book");
    assert_eq!(after.counts().1, tried);
    assert!(after.counts().0 > 2000, "{:?}", after.counts());
}

#[test]
fn those_that_can_be_dialled_are_kept_first() {
    let now = platform::now();
    let dials = |address: &Multiaddr| address.to_string().ends_with("ws");
    let mut book = AddressBook::new(peer(u64::MAX), dials, Grouping::default(), [7; 32], now);
    let told: Vec<_> = (1..8)
        .map(|port| address(format!("/ip4/50.1.2.3/tcp/{port}")))
        .chain([address("/ip4/50.1.2.3/tcp/9/ws".to_owned())])
        .collect();
    book.told(NetworkGroup::Fleeting, peer(1), &told, now);
    let bytes = book.save(&[], now, date(0));
    let loaded = AddressBook::load(
        &bytes,
        peer(u64::MAX),
        dials,
        Grouping::default(),
        [8; 32],
        now,
        date(0),
    );
    let (mut after, _) = loaded.expect("a book");
    let candidate = after.choose(now).expect("it can be dialled");
    assert_eq!(candidate.addresses, told[7..]);
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn a_full_book_is_at_most_a_megabyte() {
    let now = platform::now();
    let mut book = book(20_000, now);
    let hash = "uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g";
    let known: Vec<_> = book.entries.keys().copied().collect();
    let whole = book.save(&[], now, date(0));
    let (reloaded, _) = load(&whole, now, date(0)).expect("a book");
    assert_eq!(
        reloaded.entries.len(),
        known.len(),
        "with few addresses all fit"
    );
    for peer in known {
        let wide = (1..8).map(|port| {
            address(format!(
                "/ip4/50.1.2.3/udp/{port}/quic-v1/webtransport/certhash/{hash}/certhash/{hash}"
            ))
        });
        book.told(NetworkGroup::Fleeting, peer, &wide.collect::<Vec<_>>(), now);
    }
    let (_, tried) = book.counts();
    let bytes = book.save(&[], now, date(0));
    assert!(bytes.len() < 1_001_000, "{}", bytes.len());
    let (reloaded, _) = load(&bytes, now, date(0)).expect("a book");
    assert_eq!(reloaded.counts().1, tried, "the tried ones are kept first");
    let bans: Vec<_> = (0..20_000)
        .map(|number| banned(peer(number), Duration::MAX))
        .collect();
    let bytes = book.save(&bans, now, date(0));
    assert!(bytes.len() < MAX_BOOK_BYTES);
    assert_eq!(load(&bytes, now, date(0)).expect("a book").1.len(), BANS);
}

#[test]
fn what_is_no_book_has_a_name() {
    let now = platform::now();
    let error = |bytes: &[u8]| load(bytes, now, date(0)).expect_err("no book");
    assert_eq!(error(&[]), BookError::Empty);
    assert_eq!(error(&vec![0; MAX_BOOK_BYTES + 1]), BookError::TooLarge);
    assert_eq!(error(b"nonsense"), BookError::Malformed);
    let bytes = book(50, now).save(&[], now, date(0));
    for length in 1..bytes.len() {
        let torn = error(&bytes[..length]);
        let right = matches!(torn, BookError::Malformed | BookError::Damaged);
        assert!(right, "{length}: {torn}");
    }
    let envelope = Envelope::decode(&*bytes).expect("one");
    let other = |change: fn(&mut Envelope)| {
        let mut envelope = envelope.clone();
        change(&mut envelope);
        error(&envelope.encode_to_vec())
    };
    assert_eq!(
        other(|envelope| envelope.version = 2),
        BookError::Version(2)
    );
    assert_eq!(
        other(|envelope| envelope.version = 0),
        BookError::Version(0)
    );
    assert_eq!(
        other(|envelope| envelope.content[9] ^= 1),
        BookError::Damaged
    );
    assert_eq!(
        other(|envelope| envelope.checksum.clear()),
        BookError::Damaged
    );
    let with = |change: fn(&mut Content)| {
        let mut content = Content::decode(&*envelope.content).expect("one");
        change(&mut content);
        let content = content.encode_to_vec();
        let checksum = Sha256::digest(&content).to_vec();
        let envelope = Envelope {
            version: VERSION,
            checksum,
            content,
        };
        load(&envelope.encode_to_vec(), now, date(0)).map(|(book, _)| book.entries.len())
    };
    let none = Err(BookError::Malformed);
    assert_eq!(with(|content| content.key.clear()), none);
    let many = |what| Err(BookError::TooMany(what));
    let absurd: fn(&mut Content) = |content| content.peers = vec![Peer::default(); 5001];
    assert_eq!(with(absurd), many("peers"));
    let absurd: fn(&mut Content) = |content| content.bans = vec![Ban::default(); BANS + 1];
    assert_eq!(with(absurd), many("bans"));
    let absurd: fn(&mut Content) = |content| content.anchors = vec![Vec::new(); 3];
    assert_eq!(with(absurd), many("anchors"));
    let absurd: fn(&mut Content) = |content| content.peers[0].addresses = vec![vec![4]; 9];
    assert_eq!(with(absurd), many("addresses of a peer"));
    let absurd: fn(&mut Content) = |content| content.peers[0].addresses = vec![vec![4; 257]];
    assert_eq!(with(absurd), many("bytes of an address"));
    let absurd: fn(&mut Content) = |content| content.peers[0].id = vec![4; 65];
    assert_eq!(with(absurd), many("bytes of an id"));
    // What is wrong with one peer costs that one.
    let (all, own) = (with(|_| {}).expect("a book"), Ok::<_, BookError>(0));
    let rest = own.map(|lost: usize| all - 1 - lost);
    let wrong: [fn(&mut Content); 5] = [
        |content| content.peers[0].id.clear(),
        |content| content.peers[0].group.clear(),
        |content| content.peers[0].addresses.clear(),
        |content| content.peers[0].addresses = vec![vec![255; 9]],
        |content| content.peers[0].id = peer(u64::MAX).to_bytes(),
    ];
    for change in wrong {
        assert_eq!(with(change), rest);
    }
    let twice: fn(&mut Content) = |content| content.peers.push(content.peers[0].clone());
    assert_eq!(with(twice), Ok(all));
    let absurd: fn(&mut Content) = |content| {
        (content.time, content.date) = (u64::MAX, u64::MAX);
        for peer in &mut content.peers {
            (peer.heard, peer.due, peer.failures) = (u64::MAX, u64::MAX, u32::MAX);
            (peer.reached, peer.proven) = (Some(u64::MAX), u32::MAX);
        }
    };
    assert_eq!(with(absurd), Ok(all));
}

proptest! {
    #[test]
    fn any_bytes_are_a_book_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512), at in 0usize..4000, to: u8) {
        let now = platform::now();
        let _ = load(&bytes, now, date(0));
        let mut whole = book(40, now).save(&[banned(peer(1), Duration::from_secs(9))], now, date(9));
        let place = at % whole.len();
        whole[place] = to;
        let _ = load(&whole, now, date(0));
        // Past the checksum too.
        let mut envelope = Envelope::decode(&*book(40, now).save(&[], now, date(9))).expect("one");
        let place = at % envelope.content.len();
        envelope.content[place] = to;
        envelope.checksum = Sha256::digest(&envelope.content).to_vec();
        if let Ok((mut book, _)) = load(&envelope.encode_to_vec(), now, date(0)) {
            book.choose(now);
            book.save(&[], now, date(1));
        }
    }
}
