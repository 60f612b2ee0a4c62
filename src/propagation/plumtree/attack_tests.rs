//! What a peer may not have for nothing.

use std::{collections::HashSet, sync::LazyLock};

use proptest::prelude::*;

use super::{links::CHANGES, log::BATCH_BYTES, *};
use crate::{
    platform::test,
    propagation::wire::{Frame, MAX_IDS},
};

fn tree(peer: PeerId, now: Instant) -> Plumtree {
    let mut tree = Plumtree::new(TreeConfig::default(), &[7; 16]);
    tree.connected(peer, now);
    tree
}

fn pool() -> Mempool {
    Mempool::new(Default::default(), &[1; 16])
}

fn item(number: u64, size: usize) -> Accepted {
    let mut data = number.to_le_bytes().to_vec();
    data.resize(size, 0);
    Accepted {
        key: TransactionKey::of(&data),
        data: data.into(),
        fee: 0,
    }
}

/// A frame that goes out.
pub(super) fn frame(bytes: &Bytes) -> Kind {
    let mut bytes = bytes.clone();
    prost::decode_length_delimiter(&mut bytes).expect("its length");
    Frame::read(bytes).expect("right")
}

fn fetch(items: &[&Accepted]) -> Fetch {
    let ids = items.iter().map(|item| item.key.short());
    Fetch {
        ids: wire::column(ids),
    }
}

#[test]
fn a_fetch_that_names_one_item_4096_times_gets_it_once() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    tree.on_link(peer, &Link { push: false }, now);
    let item = item(1, 100_000);
    tree.accepted(None, [item.clone()], now);
    let many = fetch(&vec![&item; 4096]);
    for _ in 0..100 {
        assert_eq!(tree.on_fetch(peer, &many, now), None);
    }
    let answer = tree.next(peer, None, now).expect("it is here");
    assert_eq!((answer.items, answer.payload), (1, 100_000));
    assert!(tree.next(peer, None, now).is_none());
}

#[test]
fn no_more_votes_are_announced_than_a_peer_notes_before_it_comes_for_them() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    tree.on_link(peer, &Link { push: false }, now);
    let items: Vec<_> = (0..60_000).map(|number| item(number, 20)).collect();
    tree.accepted(None, items.clone(), now);
    let announced = |tree: &mut Plumtree, from: u64| {
        let mut told = 0;
        for millis in from..from + 500 {
            let at = now + Duration::from_millis(millis);
            while let Some(out) = tree.next(peer, None, at) {
                let is_told = matches!(frame(&out.bytes), Kind::Announce(_));
                told += if is_told { out.items } else { 0 };
            }
        }
        told
    };
    let noted = TreeConfig::default().max_announced;
    let first = announced(&mut tree, 100);
    assert!((noted / 2..=noted).contains(&first), "{first}");
    for some in items[..first].chunks(MAX_IDS) {
        let some: Vec<_> = some.iter().collect();
        assert_eq!(tree.on_fetch(peer, &fetch(&some), now), None);
    }
    let second = announced(&mut tree, 600);
    assert!((noted / 2..=noted).contains(&second), "{second}");
    // What it does not come for it has from others.
    assert_eq!(announced(&mut tree, 1200), 0);
    let third = announced(&mut tree, 3000);
    assert!((noted / 2..=noted).contains(&third), "{third}");
}

#[test]
fn what_there_was_no_room_for_is_fetched_again() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    let Accepted { key, data, .. } = item(1, 100);
    let batch = vec![(key, data)];
    let came = tree.on_items(peer, batch.clone(), [].into_iter(), |_, _| false, now);
    tree.turned_away(peer, &came.fresh[0], now);
    let later = now + TreeConfig::default().fetch_patience;
    tree.on_time(&pool(), later);
    let asked = tree.next(peer, None, later).expect("a fetch");
    assert_eq!(
        asked.bytes,
        Kind::Fetch(Fetch {
            ids: wire::column([key.short()].into_iter())
        })
        .into_frame()
    );
    let again = tree.on_items(peer, batch, [].into_iter(), |_, _| false, later);
    assert_eq!((again.fresh.len(), again.misdeed), (1, None));
}

#[test]
fn what_there_was_no_room_for_is_fetched_of_others_where_its_sender_leaves() {
    let now = crate::platform::now();
    let [ann, bob, cid] = [(); 3].map(|()| PeerId::random());
    let Accepted { key, data, .. } = item(1, 100);
    let ids = Fetch {
        ids: wire::column([key.short()].into_iter()),
    };
    // Before it is turned away, after that, or long before.
    for (leaves_after, gone) in [(false, &[ann][..]), (true, &[ann]), (true, &[ann, bob])] {
        let mut tree = tree(ann, now);
        tree.connected(bob, now);
        tree.connected(cid, now);
        let mut columns = Columns::default();
        columns.push(key.short(), data.len(), 7);
        let announce = Announce::from(columns);
        tree.on_announce(bob, &announce, |_, held| held, now);
        let batch = vec![(key, data.clone())];
        let came = tree.on_items(ann, batch, [].into_iter(), |_, _| false, now);
        // Or while it is checked.
        tree.on_announce(cid, &announce, |_, held| held, now);
        if leaves_after {
            tree.turned_away(ann, &came.fresh[0], now);
        }
        gone.iter().for_each(|peer| tree.disconnected(*peer, now));
        if !leaves_after {
            tree.turned_away(ann, &came.fresh[0], now);
        }
        let later = now + TreeConfig::default().fetch_patience;
        tree.on_time(&pool(), later);
        let asked = [bob, cid].map(|peer| {
            let out = tree.next(peer, None, later);
            out.is_some_and(|out| frame(&out.bytes) == Kind::Fetch(ids.clone()))
        });
        assert_eq!(asked.iter().filter(|asked| **asked).count(), 1);
    }
}

#[test]
fn who_has_moved_is_told_again_and_asked_again() {
    let ([ann, bob], now) = ([PeerId::random(), PeerId::random()], crate::platform::now());
    let later = now + Duration::from_secs(1);
    let [mut here, mut there] = [bob, ann].map(|peer| tree(peer, now));
    let items: Vec<_> = (0..5000).map(|number| item(number, 20)).collect();
    here.accepted(None, items.clone(), now);
    // All of it is pushed, and lost on the way.
    while here.next(bob, None, later).is_some() {}
    here.moved(bob, true, later);
    there.moved(ann, false, later);
    let mut came = HashSet::new();
    let fetches = |there: &mut Plumtree, now| {
        there.on_time(&pool(), now);
        let next = std::iter::from_fn(|| there.next(ann, None, now));
        let frames = next.map(|out| frame(&out.bytes));
        frames
            .filter(|kind| matches!(kind, Kind::Fetch(_)))
            .collect::<Vec<_>>()
    };
    for out in std::iter::from_fn(|| here.next(bob, None, later)) {
        match frame(&out.bytes) {
            Kind::Announce(told) => {
                there.on_announce(ann, &told, |_, _| false, later);
            }
            Kind::Link(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let now = later + TreeConfig::default().fetch_patience;
    let lost = fetches(&mut there, now);
    assert!(!lost.is_empty(), "and lost too");
    there.moved(ann, false, now);
    loop {
        let asked = fetches(&mut there, now);
        if asked.is_empty() {
            break;
        }
        for kind in asked {
            let Kind::Fetch(fetch) = kind else { continue };
            assert_eq!(here.on_fetch(bob, &fetch, now), None);
        }
        for out in std::iter::from_fn(|| here.next(bob, None, now)) {
            if let Kind::Items(batch) = frame(&out.bytes) {
                let keyed = |data: Bytes| (TransactionKey::of(&data), data);
                let batch = batch.items.into_iter().map(keyed).collect();
                let received = there.on_items(ann, batch, [].into_iter(), |_, _| false, now);
                assert_eq!(received.misdeed, None);
                came.extend(received.fresh.into_iter().map(|fresh| fresh.key));
            }
        }
    }
    assert_eq!(came.len(), items.len());
    assert!(items.iter().all(|item| came.contains(&item.key)));
    let much_later = now + Duration::from_secs(10);
    assert!(
        there.on_time(&pool(), much_later).is_empty(),
        "nobody is blamed"
    );
}

#[test]
fn who_asks_again_and_again_waits_for_it() {
    let (peer, mut now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    tree.on_link(peer, &Link { push: false }, now);
    let item = item(1, 1 << 20);
    tree.accepted(None, [item.clone()], now);
    let mut served = 0;
    let end = now + Duration::from_secs(10);
    while now < end {
        assert_eq!(tree.on_fetch(peer, &fetch(&[&item]), now), None);
        match tree.next(peer, None, now) {
            Some(answer) => served += answer.payload as u64,
            None => now = tree.sends_at(&peer, now).expect("it will be served"),
        }
    }
    assert!(
        (10 * SERVED.per_second..12 * SERVED.per_second).contains(&served),
        "{served}"
    );
}

#[test]
fn who_asks_for_what_is_not_here_waits_for_it_too() {
    let (peer, mut now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    let ids = (0..MAX_IDS as u64).map(|n| ShortId::new(n.to_le_bytes()));
    let nothing = Fetch {
        ids: wire::column(ids),
    };
    let (mut looked_for, end) = (0, now + Duration::from_secs(4));
    while now < end {
        assert_eq!(tree.on_fetch(peer, &nothing, now), None);
        match tree.next(peer, None, now) {
            Some(answer) => match frame(&answer.bytes) {
                Kind::Items(batch) => looked_for += batch.missing.len() as u64 / 8,
                other => panic!("{other:?}"),
            },
            None => now = tree.sends_at(&peer, now).expect("it will be answered"),
        }
    }
    let most = SERVED.per_second / MISSING as u64;
    assert!((4 * most..6 * most).contains(&looked_for), "{looked_for}");
}

#[test]
fn links_are_not_changed_without_end() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    let change = |tree: &mut Plumtree, push| tree.on_link(peer, &Link { push }, now);
    let allowed = (0..100).take_while(|n| change(&mut tree, n % 2 == 0).is_none());
    assert_eq!(allowed.count(), 16);
    assert_eq!(change(&mut tree, true), Some(Misdeed::TooManyMessages));
}

#[test]
fn a_link_that_is_asked_for_as_it_is_changes_nothing() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    tree.peers.get_mut(&peer).expect("it is here").duplicates = 7;
    assert_eq!(tree.on_link(peer, &Link { push: true }, now), None);
    assert_eq!(tree.peers[&peer].duplicates, 7);
}

/// Pushes so many items that are here already.
fn push_known(tree: &mut Plumtree, from: PeerId, count: u64, now: Instant) -> Cost {
    let batch = (0..count).map(|number| {
        let Accepted { key, data, .. } = item(number, 1000);
        (key, data)
    });
    let batch = batch.collect();
    let received = tree.on_items(from, batch, std::iter::empty(), |_, _| true, now);
    received.needless
}

/// How often a peer is told to announce.
fn told_to_announce(tree: &mut Plumtree, peer: PeerId, now: Instant) -> usize {
    let frames = std::iter::from_fn(|| tree.next(peer, None, now));
    let is_told = |out: &Outgoing| frame(&out.bytes) == Kind::Link(Link { push: false });
    frames.filter(is_told).count()
}

#[test]
fn who_pushes_on_what_is_here_pays_for_it_and_is_told_again() {
    let (peer, mut now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    let (mut told, mut needless, mut due) = (0, 0, 0);
    for _ in 0..800 {
        if !tree.peers[&peer].pushes {
            due += 15 * 1000;
        }
        needless += push_known(&mut tree, peer, 1, now).bytes;
        now += Duration::from_millis(10);
        told += told_to_announce(&mut tree, peer, now);
    }
    assert!((2..=8).contains(&told), "{told}");
    assert_eq!(needless, due);
    // The two looks take 20 items and two seconds at most.
    assert!(due >= 15 * 1000 * (800 - 220), "{due}");
}

#[test]
fn who_asks_to_push_again_pays_all_the_same_for_what_is_here() {
    let (peer, start) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, start);
    let mut needless = 0;
    for step in 0..1000_u32 {
        let now = start + Duration::from_millis(10) * step;
        if step % 50 == 0 {
            for push in [false, true] {
                assert_eq!(tree.on_link(peer, &Link { push }, now), None);
            }
        }
        // However often it leaves and comes again, once it was told.
        if step % 50 == 25 && step > 500 {
            tree.disconnected(peer, now);
            tree.connected(peer, now);
        }
        needless += push_known(&mut tree, peer, 1, now).bytes;
        told_to_announce(&mut tree, peer, now);
    }
    assert!(needless >= 15 * 1000 * 500, "{needless}");
}

#[test]
fn nobody_keeps_the_links_of_others_from_being_judged() {
    let change = |tree: &mut Plumtree, peer, push, now| {
        tree.on_link(peer, &Link { push }, now);
    };
    // It asks to push again, as often as it may, and under ever new names; or pushes on although it was told.
    for (flips, renews) in [(true, false), (true, true), (false, false)] {
        let (honest, start) = (PeerId::random(), crate::platform::now());
        let mut tree = tree(honest, start);
        let mut flood = honest;
        let told_after = (0..2000).find(|step| {
            let now = start + Duration::from_millis(10) * *step;
            if *step == 0 || renews && step % 140 == 0 {
                flood = PeerId::random();
                tree.connected(flood, now);
            }
            if flips && !tree.peers[&flood].pushes {
                change(&mut tree, flood, true, now);
            }
            push_known(&mut tree, flood, 16, now);
            told_to_announce(&mut tree, flood, now);
            push_known(&mut tree, honest, 1, now);
            told_to_announce(&mut tree, honest, now) > 0
        });
        assert!(told_after.is_some(), "{flips} {renews}");
    }
}

#[test]
fn a_link_is_changed_no_oftener_than_its_peer_bears() {
    let (peer, start) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, start);
    let mut bears = Pace::new(CHANGES);
    let mut changes = 0;
    // What is here is pushed, and what had to be fetched is answered, in turn.
    for round in 0..400_u64 {
        let now = start + Duration::from_millis(60) * u32::try_from(round).expect("small");
        let fetched = (0..16).map(|n| item((round / 2 + 1) << 32 | n, 1000));
        let fetched: Vec<_> = fetched.collect();
        tree.on_time(&pool(), now);
        while let Some(out) = tree.next(peer, None, now) {
            if let Kind::Link(_) = frame(&out.bytes) {
                assert!(bears.admits(1, now), "{round}");
                changes += 1;
            }
        }
        if round % 2 == 0 {
            push_known(&mut tree, peer, 16, now);
            let mut columns = Columns::default();
            fetched
                .iter()
                .for_each(|item| columns.push(item.key.short(), 1000, 0));
            tree.on_announce(peer, &columns.into(), |_, _| false, now);
        } else {
            let batch = fetched.into_iter().map(|item| (item.key, item.data));
            let batch = batch.collect();
            let received = tree.on_items(peer, batch, std::iter::empty(), |_, _| false, now);
            assert_eq!(received.misdeed, None);
        }
    }
    assert!(changes >= 10, "it is changed all the same: {changes}");
}

/// An announcement of as many ids as there may be, from this number on.
fn many(from: u64) -> Announce {
    let mut columns = Columns::default();
    let ids = (from..from + MAX_IDS as u64).map(|n| ShortId::new(n.to_le_bytes()));
    ids.for_each(|id| columns.push(id, 20, 0));
    Announce::from(columns)
}

#[test]
fn announcing_to_no_use_costs_its_work() {
    const FRAMES: u64 = 300;
    let now = crate::platform::now();
    // A second of the limit of its class is free, once.
    let least = (FRAMES * MAX_IDS as u64 - STALE.burst - 32_768) * NEEDLESS;
    // What is known, what is not here and noted already, and ever new ids, too many to be noted.
    for (is_known, is_new) in [(true, 0), (false, 0), (false, MAX_IDS as u64)] {
        let peer = PeerId::random();
        let mut tree = tree(peer, now);
        let tell = |tree: &mut Plumtree, frames: u64| {
            let tell = |frame| tree.on_announce(peer, &many(frame * is_new), |_, _| is_known, now);
            let costs = (0..frames).map(tell);
            costs.map(|cost| cost.items).sum::<u64>()
        };
        let needless = tell(&mut tree, FRAMES);
        assert!(needless >= least, "{needless} of {least}");
        tree.disconnected(peer, now);
        tree.connected(peer, now);
        let again = tell(&mut tree, 10);
        assert!(again >= MAX_IDS as u64 * NEEDLESS, "{again}");
    }
}

#[test]
fn of_two_misdeeds_in_one_frame_the_dearer_one_is_paid_for() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    let large = item(1, tree.config.max_item + 1);
    let other = item(2, 100);
    let mut columns = Columns::default();
    columns.push(other.key.short(), 101, 7);
    tree.on_announce(peer, &columns.into(), |_, _| false, now);
    let batch = [large, other].map(|item| (item.key, item.data)).to_vec();
    let received = tree.on_items(peer, batch, [].into_iter(), |_, _| false, now);
    assert_eq!(received.misdeed, Some(Misdeed::InvalidMessage));
}

#[test]
fn not_to_have_what_one_announced_costs_its_work_and_no_reputation() {
    const BURST: u64 = 3 * MAX_IDS as u64;
    let (peer, mut now) = (PeerId::random(), crate::platform::now());
    let (mut tree, pool) = (tree(peer, now), pool());
    let few = Rate {
        per_second: 1,
        burst: BURST,
    };
    tree.peers.get_mut(&peer).expect("here").record.stale = Pace::new(few);
    let (mut absent, mut needless) = (0, 0);
    for round in 0..8 {
        let news = many(round * MAX_IDS as u64);
        let cost = tree.on_announce(peer, &news, |_, _| false, now);
        assert_eq!(cost, Cost::default(), "all are noted");
        now += TreeConfig::default().fetch_patience;
        tree.on_time(&pool, now);
        while let Some(out) = tree.next(peer, None, now) {
            let Kind::Fetch(fetch) = frame(&out.bytes) else {
                continue;
            };
            let missing: Vec<_> = wire::ids(&fetch.ids).expect("ids").collect();
            absent += missing.len() as u64;
            let received = tree.on_items(peer, Vec::new(), missing.into_iter(), |_, _| false, now);
            assert_eq!(received.misdeed, None);
            needless += received.needless.items;
        }
        assert!(needless == 0 || absent > BURST, "as after an overload");
    }
    assert_eq!(absent, 8 * MAX_IDS as u64);
    // What one answer says counts together.
    assert!(needless >= (absent - BURST - 64) * NEEDLESS, "{needless}");
}

#[test]
fn announcing_each_item_once_costs_nothing_however_many_come() {
    let (peer, mut now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    let same = many(0);
    let tell = |tree: &mut Plumtree, frames, now| {
        for _ in 0..frames {
            let cost = tree.on_announce(peer, &same, |_, _| true, now);
            assert_eq!(cost, Cost::default());
        }
    };
    // A whole pool, of before it came.
    tell(&mut tree, 64, now);
    // What others push, told twice a second; and the streams are others now and then.
    for round in 0..8 {
        now += Duration::from_millis(500);
        tree.learnt += 50 * MAX_IDS as u64;
        tell(&mut tree, 50, now);
        tell(&mut tree, if round % 4 == 0 { 10 } else { 0 }, now);
    }
}

#[test]
fn what_was_not_here_counts_when_it_comes() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    push_known(&mut tree, peer, 3, now);
    assert_eq!(tree.learnt, 0);
    let Accepted { key, data, .. } = item(1, 20);
    tree.on_items(
        peer,
        vec![(key, data)],
        std::iter::empty(),
        |_, _| false,
        now,
    );
    (0..2).for_each(|_| tree.claim(&item(2, 20).key));
    assert_eq!(tree.learnt, 2);
}

#[test]
fn a_crowd_that_comes_and_goes_is_not_walked_for_each() {
    let now = crate::platform::now();
    let peers: Vec<_> = (0..u64::from(PLACES) + 2)
        .map(|_| PeerId::random())
        .collect();
    let mut tree = Plumtree::new(TreeConfig::default(), &[7; 16]);
    peers.iter().for_each(|peer| tree.connected(*peer, now));
    let mut walks = 0;
    for peer in peers.iter().cycle().take(200) {
        tree.disconnected(*peer, now);
        let used = tree.used.len();
        tree.connected(*peer, now);
        walks += usize::from(tree.used.len() < used);
    }
    assert!(walks <= 200 / WORTH_CLEARING, "{walks}");
}

#[test]
fn a_peer_that_comes_anew_takes_no_second_place() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    for _ in 0..1000 {
        tree.connected(peer, now);
    }
    let free = tree.places.len() + tree.used.len();
    assert_eq!(free, usize::from(PLACES) - 1);
}

#[test]
fn a_place_that_was_used_knows_nothing_of_its_former_peer() {
    let (source, now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(source, now);
    let items: Vec<_> = (0..10).map(|number| item(number, 100)).collect();
    // Each of these says that it has all, and goes.
    for _ in 0..PLACES {
        let peer = PeerId::random();
        tree.connected(peer, now);
        let batch = items.iter().map(|item| (item.key, item.data.clone()));
        let received = tree.on_items(
            peer,
            batch.collect(),
            std::iter::empty(),
            |_, held| held,
            now,
        );
        if !received.fresh.is_empty() {
            tree.accepted(Some(peer), items.clone(), now);
        }
        tree.disconnected(peer, now);
    }
    for place in [tree.place(), tree.place()] {
        let entry = tree.log.get(items[0].key.short()).expect("it is here");
        assert!(place.is_some() && entry.known & bit(place) == 0);
    }
}

#[test]
fn who_asks_for_much_is_not_packed_all_of_it() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    tree.on_link(peer, &Link { push: false }, now);
    let data: Bytes = (0..75_000)
        .flat_map(|n| format!("{n:08} pays, ").into_bytes())
        .collect();
    let key = TransactionKey::of(&data);
    let item = Accepted { key, data, fee: 0 };
    tree.accepted(None, [item.clone()], now);
    let (mut packed, mut plain) = (0, 0);
    for _ in 0..60 {
        assert_eq!(tree.on_fetch(peer, &fetch(&[&item]), now), None);
        let answer = tree.next(peer, None, now).expect("it is here");
        if answer.bytes.len() < item.data.len() {
            packed += item.data.len();
        } else {
            plain += item.data.len();
        }
    }
    let burst = usize::try_from(PACKED.burst).expect("small");
    assert!(
        (burst..burst + item.data.len()).contains(&packed),
        "{packed}"
    );
    assert!(plain > 40 << 20, "{plain}");
}

#[test]
fn who_leaves_and_comes_back_has_had_what_it_had() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    let changes = |tree: &mut Plumtree, now| {
        let change = |push| tree.on_link(peer, &Link { push }, now);
        let changes = [true, false].into_iter().cycle().take(100);
        changes.map(change).filter(Option::is_none).count()
    };
    let most = usize::try_from(CHANGES.burst).expect("small");
    assert_eq!(changes(&mut tree, now), most);
    for _ in 0..10 {
        tree.disconnected(peer, now);
        tree.connected(peer, now);
        assert_eq!(changes(&mut tree, now), 0);
    }
    tree.disconnected(peer, now);
    let later = now + Duration::from_secs(60);
    tree.connected(peer, later);
    assert_eq!(changes(&mut tree, later), most);
}

#[test]
fn who_has_announced_some_of_each_batch_is_not_packed_all_of_them() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let mut tree = tree(peer, now);
    let interval = TreeConfig::default().push_interval;
    let (mut packed, mut plain) = (0, 0);
    let rounds = 8_u32;
    for round in 0..rounds {
        let now = now + interval * round;
        // So many fill a batch each, and the first of each is known.
        let (fills, each) = (33, 33 * 53);
        let items = (0..each).map(|number| {
            let start = usize::try_from(round * each + number).expect("small") * 300;
            let data = TEXT.slice(start..start + 1000);
            let key = TransactionKey::of(&data);
            Accepted { key, data, fee: 0 }
        });
        let items: Vec<_> = items.collect();
        tree.accepted(None, items.clone(), now);
        let mut columns = Columns::default();
        for first in items.iter().step_by(fills) {
            columns.push(first.key.short(), 1000, 0);
        }
        tree.on_announce(peer, &columns.into(), |_, held| held, now);
        while let Some(out) = tree.next(peer, None, now) {
            if out.bytes.len() < out.payload / 2 {
                packed += out.payload;
            } else {
                plain += out.payload;
            }
        }
    }
    let burst = usize::try_from(PACKED.burst).expect("small");
    let gained = (interval * rounds).as_secs_f64() * PACKED.per_second as f64;
    let most = burst + gained as usize;
    assert!(
        (burst..most + BATCH_BYTES * 2).contains(&packed),
        "{packed} of {most}"
    );
    assert!(plain > 4 << 20, "{plain}");
}

#[test]
fn all_that_a_comparison_wants_is_sent_and_what_is_fetched_first() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let config = TreeConfig {
        max_announced: 64,
        ..TreeConfig::default()
    };
    let mut tree = Plumtree::new(config, &[7; 16]);
    tree.connected(peer, now);
    tree.on_link(peer, &Link { push: false }, now);
    let items: Vec<_> = (0..2000).map(|number| item(number, 1000)).collect();
    tree.accepted(None, items.clone(), now);
    let keys: Vec<_> = items.iter().map(|item| item.key).collect();
    tree.serve(peer, &keys);
    // Its limit may be another one than ours.
    let fetched: Vec<_> = items[1000..1900].iter().collect();
    assert_eq!(tree.on_fetch(peer, &fetch(&fetched), now), None);
    let mut sent = Vec::new();
    while let Some(out) = tree.next(peer, None, now) {
        if let Kind::Items(batch) = frame(&out.bytes) {
            sent.extend(batch.items.iter().map(|data| TransactionKey::of(data)));
        }
    }
    assert_eq!(sent.len(), 2000, "each once");
    assert!(fetched.iter().all(|item| sent[..1000].contains(&item.key)));
}

#[test]
fn who_sends_what_a_comparison_wanted_pays_nothing_for_it_once() {
    use reconcile::{Action, Initiator, Message, Responder, Snapshot};
    let (peer, now) = (PeerId::random(), crate::platform::now());
    for pushes in [true, false] {
        let mut tree = tree(peer, now);
        tree.on_link(peer, &Link { push: pushes }, now);
        let keys = |count| (0..count).map(|number| item(number, 1000).key).collect();
        let snapshot = |count| Snapshot::new(keys(count), Vec::new()).expect("few");
        let (mut here, request) = Initiator::new(snapshot(0), 1, now);
        let Message::Request(request) = request else {
            panic!("{request:?}");
        };
        let (_, actions) = Responder::new(snapshot(10), 2, request, now);
        for action in actions {
            let Action::Send(message) = action else {
                panic!("{action:?}");
            };
            for action in here.on_message(message) {
                if let Action::Await(awaited) = action {
                    tree.awaits(peer, awaited, now);
                }
            }
        }
        // All of it is here by the time that it comes.
        assert_eq!(push_known(&mut tree, peer, 10, now), Cost::default());
        assert_eq!(tree.peers[&peer].duplicates, 0);
        let again = push_known(&mut tree, peer, 10, now);
        assert_eq!(again.items, if pushes { 0 } else { 10 * NEEDLESS });
        assert_eq!(tree.peers[&peer].duplicates, 10);
    }
}

#[test]
fn what_was_asked_for_in_vain_excuses_nothing_else() {
    let ([peer, other], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let mut tree = tree(peer, now);
    tree.connected(other, now);
    let asked: Vec<_> = (1000..1060).map(|number| item(number, 100)).collect();
    let mut columns = Columns::default();
    asked
        .iter()
        .for_each(|item| columns.push(item.key.short(), 100, 0));
    tree.on_announce(peer, &columns.into(), |_, _| false, now);
    let late = now + TreeConfig::default().fetch_patience;
    tree.on_time(&pool(), late);
    let out = tree.next(peer, None, late).expect("a fetch");
    assert!(matches!(frame(&out.bytes), Kind::Fetch(_)));
    let batch = asked.iter().map(|item| (item.key, item.data.clone()));
    tree.on_items(other, batch.collect(), [].into_iter(), |_, _| false, late);
    // What it was not asked for is a duplicate, and so is an answer a minute later.
    push_known(&mut tree, peer, 10, late);
    assert_eq!(tree.peers[&peer].duplicates, 10);
    let batch = |some: &[Accepted]| {
        some.iter()
            .map(|item| (item.key, item.data.clone()))
            .collect()
    };
    tree.on_items(peer, batch(&asked[..50]), [].into_iter(), |_, _| true, late);
    assert_eq!(tree.peers[&peer].duplicates, 10);
    let later = late + Duration::from_secs(61);
    tree.on_items(
        peer,
        batch(&asked[50..55]),
        [].into_iter(),
        |_, _| true,
        later,
    );
    assert_eq!(tree.peers[&peer].duplicates, 15);
}

/// Of which every piece is worth packing, and another than those before.
static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
    (0..300_000_u32)
        .flat_map(|n| format!("{n:08} pays, ").into_bytes())
        .collect()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_out_is_what_a_peer_takes(
        sizes in proptest::collection::vec(prop_oneof![20usize..400, Just(2048), Just(BATCH_BYTES - 1), Just(wire::MAX_ITEM)], 1..6),
        known in any::<u8>(),
    ) {
        let items: Vec<_> = sizes.iter().enumerate().map(|(start, &size)| {
            let data = TEXT.slice(start..start + size);
            Accepted { key: TransactionKey::of(&data), data, fee: 0 }
        }).collect();
        let [pushed, knows, asks] = [(); 3].map(|()| PeerId::random());
        let now = crate::platform::now();
        let roomy = TreeConfig { max_log_bytes: 64 << 20, ..TreeConfig::default() };
        let mut tree = Plumtree::new(roomy.clone(), &[7; 16]);
        for peer in [pushed, knows, asks] {
            tree.connected(peer, now);
        }
        tree.on_link(asks, &Link { push: false }, now);
        tree.accepted(None, items.clone(), now);
        for (place, item) in items.iter().enumerate().filter(|(place, _)| known >> place & 1 == 1) {
            let place_of = tree.peers.get(&knows).and_then(|peer| peer.place);
            prop_assert!(tree.log.mark(item.key.short(), place_of), "{place}");
        }
        tree.on_fetch(asks, &fetch(&items.iter().collect::<Vec<_>>()), now);
        for (peer, all) in [(pushed, true), (knows, false), (asks, true)] {
            // A long item goes in a batch of its own, with the next push.
            let pause = if peer == asks { Duration::ZERO } else { roomy.push_interval };
            let (mut came, mut at) = (0, now);
            while let Some(out) = tree.next(peer, None, at) {
                at += pause;
                let mut bytes = out.bytes;
                while !bytes.is_empty() {
                    let length = prost::decode_length_delimiter(&mut bytes).expect("its length");
                    came += Frame::read(bytes.split_to(length)).expect("right").ids();
                }
            }
            prop_assert!(!all || came == items.len(), "{came}");
        }
    }
}
