//! Whose items go out next, and when our own may be made, while others flood.

use std::collections::HashSet;

use bytes::Buf;

use super::*;
use crate::{platform::test, propagation::wire::Frame};

fn item(number: u64) -> Accepted {
    let mut data = number.to_le_bytes().to_vec();
    data.resize(250, 0);
    Accepted {
        key: TransactionKey::of(&data),
        data: data.into(),
        fee: 0,
    }
}

/// The frames in what goes out.
fn frames(mut out: Outgoing) -> Vec<Kind> {
    let mut frames = Vec::new();
    while out.bytes.has_remaining() {
        let length = prost::decode_length_delimiter(&mut out.bytes).expect("a length");
        frames.push(Frame::read(out.bytes.split_to(length)).expect("right"));
    }
    frames
}

/// The items in what goes out.
fn items(out: Outgoing) -> Vec<Bytes> {
    let frames = frames(out).into_iter();
    let items = frames.filter_map(|frame| match frame {
        Kind::Items(batch) => Some(batch.items),
        _ => None,
    });
    items.flatten().collect()
}

/// All items that go out to a peer now.
fn pushed(tree: &mut Plumtree, to: PeerId, now: Instant) -> Vec<Bytes> {
    let all = std::iter::from_fn(|| tree.next(to, None, now));
    all.flat_map(items).collect()
}

#[test]
fn what_comes_to_a_batch_of_which_a_peer_was_sent_some_is_sent_to_it_too() {
    let ([source, peer], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
    tree.connected(source, now);
    tree.connected(peer, now);
    tree.accepted(Some(source), [item(0), item(1)], now);
    // The peer has one of the two already.
    let copy = vec![(item(0).key, item(0).data)];
    tree.on_items(peer, copy, [].into_iter(), |_, _| true, now);
    assert_eq!(pushed(&mut tree, peer, now), [item(1).data]);
    // And the next one comes at once.
    tree.accepted(Some(source), [item(2)], now);
    let later = now + TreeConfig::default().push_interval;
    assert_eq!(pushed(&mut tree, peer, later), [item(2).data]);
}

#[test]
fn only_what_came_by_the_tree_shows_how_long_that_takes() {
    let [ann, bob] = [(); 2].map(|()| PeerId::random());
    let (start, config) = (crate::platform::now(), TreeConfig::default());
    let late = start + config.fetch_patience * 4;
    // Pushed by a link that is to announce, by who announced it, of what the chain does not take, and by the tree.
    for (pushes, told, accepted, shows) in [
        (false, false, true, false),
        (true, true, true, false),
        (true, false, false, false),
        (true, false, true, true),
    ] {
        let mut tree = Plumtree::new(config.clone(), &[1; 16]);
        for peer in [ann, bob] {
            tree.connected(peer, start);
        }
        tree.on_link(bob, &Link { push: pushes }, start);
        for number in 0..10 {
            let Accepted { key, data, .. } = item(number);
            let mut columns = Columns::default();
            columns.push(key.short(), data.len(), 0);
            let announce = columns.into();
            tree.on_announce(ann, &announce, |_, held| held, start);
            if told {
                tree.on_announce(bob, &announce, |_, held| held, start);
            }
            let batch = vec![(key, data)];
            tree.on_items(bob, batch, [].into_iter(), |_, held| held, late);
            if accepted {
                tree.accepted(Some(bob), [item(number)], late);
            } else {
                tree.refused(&key);
            }
        }
        let patience = tree.fetches.patience(late);
        assert_eq!(
            patience > config.fetch_patience,
            shows,
            "{pushes} {told} {accepted}"
        );
    }
}

#[test]
fn who_is_pushed_nothing_any_more_has_another_link_push() {
    let [ann, bob] = [(); 2].map(|()| PeerId::random());
    let now = crate::platform::now();
    for leaves in [false, true] {
        let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
        for peer in [ann, bob] {
            tree.connected(peer, now);
        }
        tree.on_link(ann, &Link { push: false }, now);
        let last = |tree: &mut Plumtree| {
            if leaves {
                tree.gone(bob, now);
            } else {
                tree.on_link(bob, &Link { push: false }, now);
            }
        };
        last(&mut tree);
        assert!(
            !tree.peers[&ann].pushes,
            "who tells of nothing new is no help"
        );
        // Who does is, whether before or after.
        if !leaves {
            tree.connected(bob, now);
        }
        tree.on_announce(ann, &announcement(1..2), |_, held| held, now);
        let Accepted { key, data, .. } = item(1);
        let (by, batch) = (if leaves { ann } else { bob }, vec![(key, data)]);
        if leaves {
            assert_eq!(fetch(&mut tree, ann, now), 1);
        }
        tree.on_items(by, batch, [].into_iter(), |_, held| held, now);
        tree.accepted(Some(by), [item(1)], now);
        if !leaves {
            last(&mut tree);
        }
        assert!(tree.peers[&ann].pushes && tree.touched().any(|peer| peer == ann));
        let told = tree.next(ann, None, now).expect("it is told so");
        let push = Kind::Link(Link { push: true });
        assert_eq!(super::attack_tests::frame(&told.bytes), push);
    }
}

/// What this node tells a peer next: what it pushes, announces, and would have pushed.
fn told(tree: &mut Plumtree, to: PeerId, now: Instant) -> [usize; 3] {
    let mut told = [0; 3];
    while let Some(out) = tree.next(to, None, now) {
        let mut bytes = out.bytes;
        while !bytes.is_empty() {
            let length = prost::decode_length_delimiter(&mut bytes).expect("a length");
            let frame = bytes.split_to(length);
            match crate::propagation::wire::Frame::read(frame).expect("right") {
                Kind::Items(batch) => {
                    told[0] += batch.items.len();
                    told[2] += wire::ids(&batch.spared).expect("ids").count();
                }
                Kind::Announce(announce) => {
                    told[1] += wire::ids(&announce.ids).expect("ids").count()
                }
                _ => {}
            }
        }
    }
    told
}

/// How much a peer is asked for, once it has been waited for.
fn fetch(tree: &mut Plumtree, from: PeerId, now: Instant) -> usize {
    let due = now + tree.config.fetch_patience;
    tree.on_time(&Mempool::new(Default::default(), &[1; 16]), due);
    let next = std::iter::from_fn(|| tree.next(from, None, due));
    let frames = next.map(|out| super::attack_tests::frame(&out.bytes));
    let asked = frames.map(|frame| match frame {
        Kind::Fetch(fetch) => wire::ids(&fetch.ids).expect("ids").count(),
        _ => 0,
    });
    asked.sum()
}

#[test]
fn what_the_chain_does_not_take_shows_nothing() {
    let [ann, bob] = [(); 2].map(|()| PeerId::random());
    let now = crate::platform::now();
    for takes in [false, true] {
        let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
        for peer in [ann, bob] {
            tree.connected(peer, now);
        }
        tree.on_link(ann, &Link { push: false }, now);
        tree.on_announce(ann, &announcement(0..20), |_, held| held, now);
        assert_eq!(fetch(&mut tree, ann, now), 20);
        for number in 0..20 {
            let batch = vec![(item(number).key, item(number).data)];
            let came = tree.on_items(ann, batch, [].into_iter(), |_, held| held, now);
            assert_eq!(came.fresh.len(), 1);
            if takes {
                tree.accepted(Some(ann), [item(number)], now);
            } else {
                tree.refused(&item(number).key);
            }
        }
        tree.count_rescues(now + Duration::from_secs(5));
        assert_eq!(tree.peers[&ann].rescued, if takes { 20 } else { 0 });
        // Who made it up is asked to push by nobody.
        tree.on_link(bob, &Link { push: false }, now);
        assert_eq!(tree.peers[&ann].pushes, takes);
    }
}

#[test]
fn what_there_was_no_room_for_did_not_have_to_be_fetched() {
    let ([ann, bob], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
    for peer in [ann, bob] {
        tree.connected(peer, now);
    }
    let mut batch = vec![(item(1).key, item(1).data)];
    let came = tree.on_items(ann, batch.clone(), [].into_iter(), |_, held| held, now);
    tree.turned_away(ann, &came.fresh[0], now);
    assert_eq!(fetch(&mut tree, ann, now), 1);
    tree.on_items(ann, batch.split_off(0), [].into_iter(), |_, held| held, now);
    tree.accepted(Some(ann), [item(1)], now);
    tree.count_rescues(now + Duration::from_secs(5));
    let peer = &tree.peers[&ann];
    assert!(peer.rescued == 0 && peer.owed.is_empty());
    let later = now + TreeConfig::default().announce_interval;
    assert_eq!(told(&mut tree, bob, later), [1, 0, 0], "it is pushed on");
}

/// An item comes from a peer.
fn comes(tree: &mut Plumtree, from: PeerId, number: u64, now: Instant) -> usize {
    let Accepted { key, data, .. } = item(number);
    let came = tree.on_items(from, vec![(key, data)], [].into_iter(), |_, held| held, now);
    came.fresh.len()
}

#[test]
fn who_pushes_nothing_is_not_believed_for_long_that_it_would_have() {
    let ([ann, liar], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
    for peer in [ann, liar] {
        tree.connected(peer, now);
    }
    tree.on_link(ann, &Link { push: false }, now);
    let lies = |tree: &mut Plumtree, numbers: std::ops::Range<u64>, at| {
        for number in numbers {
            let key = item(number).key.short();
            tree.rescues.fetched(key, ann, at, at);
            tree.on_spared(liar, [key].into_iter(), at + Duration::from_millis(50));
        }
    };
    // However often it leaves and comes again.
    for round in 0..10 {
        lies(&mut tree, round * 100..(round + 1) * 100, now);
        tree.disconnected(liar, now);
        tree.connected(liar, now);
    }
    tree.count_rescues(now + Duration::from_secs(1));
    assert_eq!(tree.peers[&ann].rescued, 1000 - 16);
    // Nor long after, whatever it has pushed.
    let later = now + Duration::from_secs(60);
    assert_eq!(comes(&mut tree, liar, 2000, later), 1);
    tree.accepted(Some(liar), [item(2000)], later);
    let patience = tree.fetches.patience(later);
    tree.on_spared(
        liar,
        (500..600).map(|number| item(number).key.short()),
        later,
    );
    assert_eq!(tree.fetches.patience(later), patience);
    // It has earned as much as it had at first, and a minute has brought one more.
    lies(&mut tree, 3000..3100, later);
    tree.count_rescues(later + Duration::from_secs(1));
    assert_eq!(tree.peers[&ann].rescued, 1000 - 16 + 100 - 17);
}

#[test]
fn an_answer_that_comes_after_a_push_is_none_itself_on_a_link_that_pushes_too() {
    let ([ann, bob], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
    for peer in [ann, bob] {
        tree.connected(peer, now);
    }
    tree.on_announce(ann, &announcement(0..20), |_, held| held, now);
    assert_eq!(fetch(&mut tree, ann, now), 20);
    for number in 0..20 {
        assert_eq!(comes(&mut tree, bob, number, now), 1);
    }
    for number in 0..20 {
        assert_eq!(comes(&mut tree, ann, number, now), 0);
    }
    assert!(tree.peers[&ann].duplicates == 0 && tree.peers[&ann].owed.is_empty());
    // What more comes is a duplicate.
    assert_eq!(comes(&mut tree, ann, 0, now), 0);
    assert_eq!(tree.peers[&ann].duplicates, 1);
}

#[test]
fn a_push_that_comes_while_the_fetched_item_is_checked_is_late_for_whose_it_is() {
    let ([ann, bob], start) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
    for peer in [ann, bob] {
        tree.connected(peer, start);
    }
    tree.on_link(ann, &Link { push: false }, start);
    tree.on_announce(ann, &announcement(0..20), |_, held| held, start);
    assert_eq!(fetch(&mut tree, ann, start), 20);
    let late = start + late_after(&tree.config);
    for number in 0..20 {
        assert_eq!(comes(&mut tree, ann, number, start), 1);
        assert_eq!(comes(&mut tree, bob, number, late), 0);
        tree.accepted(Some(ann), [item(number)], late);
    }
    assert!(
        !tree.peers[&ann].record.lateness.is_late() && tree.peers[&bob].record.lateness.is_late()
    );
    assert_eq!(tree.peers[&bob].duplicates, 0);
    tree.count_rescues(late + Duration::from_secs(5));
    assert_eq!(tree.peers[&ann].rescued, 0, "they need not have been");
}

#[test]
fn who_has_moved_is_told_again_of_what_was_fetched() {
    let ([ann, bob], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    for pushes in [true, false] {
        let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
        for peer in [ann, bob] {
            tree.connected(peer, now);
        }
        tree.on_link(ann, &Link { push: false }, now);
        tree.on_link(bob, &Link { push: pushes }, now);
        tree.on_announce(ann, &announcement(0..10), |_, held| held, now);
        assert_eq!(fetch(&mut tree, ann, now), 10);
        for number in 0..10 {
            comes(&mut tree, ann, number, now);
        }
        tree.accepted(Some(ann), (0..10).map(item), now);
        let later = now + tree.config.announce_interval;
        assert!(tree.next(bob, None, later).is_some(), "and it is lost");
        tree.moved(bob, false, later);
        let later = later + tree.config.announce_interval + ANNOUNCE_DELAY;
        assert!(told(&mut tree, bob, later)[1] >= 10, "{pushes}");
    }
}

#[test]
fn two_ends_that_differ_about_their_link_agree_once_they_have_moved() {
    let ([ann, bob], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    for moves in [&[ann, bob][..], &[ann], &[bob]] {
        let mut trees = [bob, ann].map(|peer| {
            let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
            tree.connected(peer, now);
            (peer, tree)
        });
        let [(_, anns), (_, bobs)] = &mut trees;
        anns.change(bob, false, now);
        assert!(anns.next(bob, None, now).is_some(), "and it is lost");
        for (here, tree, there) in [(ann, anns, bob), (bob, bobs, ann)] {
            if moves.contains(&here) {
                tree.moved(there, true, now);
            }
        }
        for _ in 0..3 {
            let said = trees.each_mut().map(|(peer, tree)| {
                let said = tree.next(*peer, None, now)?;
                match super::attack_tests::frame(&said.bytes) {
                    Kind::Link(link) => Some(link),
                    _ => None,
                }
            });
            for ((peer, tree), said) in trees.iter_mut().zip(said.iter().rev()) {
                if let Some(link) = said {
                    assert_eq!(tree.on_link(*peer, link, now), None);
                }
            }
        }
        let [one, other] = trees.map(|(peer, tree)| tree.peers[&peer].pushes);
        assert_eq!(one, other, "{}", moves.len());
    }
}

#[test]
fn an_answer_that_comes_once_another_one_is_asked_was_fetched_all_the_same() {
    let ([ann, bob, cid], now) = ([(); 3].map(|()| PeerId::random()), crate::platform::now());
    let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
    for peer in [ann, bob, cid] {
        tree.connected(peer, now);
    }
    // The first is followed by another one, the second by nobody.
    tree.on_link(ann, &Link { push: false }, now);
    tree.on_announce(ann, &announcement(0..2), |_, held| held, now);
    assert_eq!(fetch(&mut tree, ann, now), 2);
    tree.on_announce(bob, &announcement(0..1), |_, held| held, now);
    let late = now + tree.config.fetch_patience + tree.config.fetch_timeout;
    assert_eq!(
        tree.on_time(&Mempool::new(Default::default(), &[1; 16]), late)
            .len(),
        1
    );
    for number in 0..2 {
        assert_eq!(comes(&mut tree, ann, number, late), 1);
        tree.accepted(Some(ann), [item(number)], late);
    }
    let later = late + tree.config.announce_interval + ANNOUNCE_DELAY;
    assert_eq!(told(&mut tree, cid, later), [0, 2, 0]);
    tree.count_rescues(late + Duration::from_secs(5));
    assert!(tree.peers[&ann].rescued == 2 && tree.peers[&ann].owed.is_empty());
}

#[test]
fn who_gets_a_place_is_told_of_what_its_last_holder_brought() {
    let (gone, now) = (PeerId::random(), crate::platform::now());
    for moves in [false, true] {
        let mut tree = Plumtree::new(TreeConfig::votes(), &[1; 16]);
        let crowd = (1..PLACES).map(|_| PeerId::random()).collect::<Vec<_>>();
        crowd
            .iter()
            .chain([&gone])
            .for_each(|peer| tree.connected(*peer, now));
        tree.accepted(Some(gone), (0..10).map(item), now);
        let place = tree.peers[&gone].place;
        tree.disconnected(gone, now);
        crowd[..WORTH_CLEARING]
            .iter()
            .for_each(|peer| tree.disconnected(*peer, now));
        let newcomers = (0..=WORTH_CLEARING).map(|_| PeerId::random());
        let came = newcomers
            .inspect(|peer| tree.connected(*peer, now))
            .collect::<Vec<_>>();
        let mut came = came.into_iter();
        let heir = came
            .find(|peer| tree.peers[peer].place == place)
            .expect("one of them");
        if moves {
            let later = now + Duration::from_millis(100);
            while tree.next(heir, None, later).is_some() {}
            tree.moved(heir, true, later);
        }
        let later = now + Duration::from_millis(200);
        assert_eq!(told(&mut tree, heir, later)[1], 10);
    }
}

#[test]
fn what_was_fetched_is_told_once_to_who_has_moved() {
    let ([ann, bob], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
    tree.connected(ann, now);
    tree.on_link(ann, &Link { push: false }, now);
    let fetched = |tree: &mut Plumtree, numbers: std::ops::Range<u64>, at| {
        tree.on_announce(ann, &announcement(numbers.clone()), |_, held| held, at);
        fetch(tree, ann, at);
        for number in numbers.clone() {
            comes(tree, ann, number, at);
        }
        tree.accepted(Some(ann), numbers.map(item), at);
    };
    // Before it comes and after.
    fetched(&mut tree, 0..10, now);
    let mut later = now + Duration::from_millis(100);
    tree.connected(bob, later);
    fetched(&mut tree, 10..20, later);
    for _ in 0..2 {
        later += Duration::from_millis(100);
        assert_eq!(told(&mut tree, bob, later), [0, 20, 0]);
        tree.moved(bob, false, later);
    }
}

#[test]
fn what_goes_out_counts_as_much_here_as_there() {
    let ([ann, bob], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
    for peer in [ann, bob] {
        tree.connected(peer, now);
    }
    tree.on_announce(bob, &announcement(0..5), |_, held| held, now);
    for number in 0..10 {
        comes(&mut tree, ann, number, now);
    }
    tree.accepted(Some(ann), (0..10).map(item), now);
    let pushed = tree
        .next(bob, None, now)
        .expect("some, and word of the rest");
    assert_eq!(pushed.items, 10);
    let ids = wire::column((8..12).map(|number| item(number).key.short()));
    tree.on_fetch(bob, &Fetch { ids }, now);
    let answer = tree.next(bob, None, now).expect("the half of it");
    assert_eq!(answer.items, 4);
}

/// The first of what only the first has in [`who_pushes`].
const OWN: u64 = 1 << 32;

/// The first of three pushes an item every so many times 10 ms, so many times 10 ms late; the others announce what is late, the last only half of
/// that. Each sends what it is asked for, if it `answers` by then. In each step there is something `else`. Whose links push in the end, or once the first one's
/// does not any more.
fn who_pushes(
    config: &TreeConfig,
    (every, times): (u64, u64),
    late: impl Fn(u64) -> u64,
    answers: impl Fn(usize, u64) -> bool,
    mut other: impl FnMut(&mut Plumtree, [PeerId; 3], u64, Instant),
) -> [bool; 3] {
    let peers = [(); 3].map(|()| PeerId::random());
    let [ann, bob, cid] = peers;
    let (start, pool) = (
        crate::platform::now(),
        Mempool::new(Default::default(), &[1; 16]),
    );
    let mut tree = Plumtree::new(config.clone(), &[1; 16]);
    peers.iter().for_each(|peer| tree.connected(*peer, start));
    for peer in [bob, cid] {
        tree.on_link(peer, &Link { push: false }, start);
    }
    let bring = |tree: &mut Plumtree, from, number, now| {
        if comes(tree, from, number, now) > 0 {
            tree.accepted(Some(from), [item(number)], now);
        }
    };
    let numbers = (0..times).chain(OWN..OWN + 4);
    let ids = numbers.map(|number| (item(number).key.short(), number));
    let (numbers, mut coming, mut asked) = (ids.collect::<HashMap<_, _>>(), Vec::new(), Vec::new());
    for step in 0..times * every {
        let now = start + Duration::from_millis(10) * u32::try_from(step).expect("small");
        tree.on_time(&pool, now);
        for (from, number) in std::mem::take(&mut asked) {
            bring(&mut tree, from, number, now);
        }
        if step % every == 0 {
            let number = step / every;
            let by = late(number);
            coming.push((step + by, number));
            let tell = if by == 0 {
                0
            } else {
                1 + usize::from(number % 2 == 0)
            };
            for peer in [bob, cid].into_iter().take(tell) {
                let told = announcement(number..number + 1);
                tree.on_announce(peer, &told, |_, held| held, now);
            }
        }
        for (_, number) in coming.extract_if(.., |(at, _)| *at <= step) {
            bring(&mut tree, ann, number, now);
        }
        other(&mut tree, peers, step, now);
        for (place, peer) in peers.into_iter().enumerate() {
            let out = std::iter::from_fn(|| tree.next(peer, None, now));
            for frame in out.flat_map(frames) {
                if let Kind::Fetch(fetch) = frame {
                    let ids = wire::ids(&fetch.ids).expect("ids");
                    let ids = ids.filter(|_| answers(place, step));
                    asked.extend(ids.map(|id| (peer, numbers[&id])));
                }
            }
        }
        if !tree.peers[&ann].pushes {
            break;
        }
    }
    peers.map(|peer| tree.peers.get(&peer).is_some_and(|peer| peer.pushes))
}

/// Nothing else happens.
fn nothing(_: &mut Plumtree, _: [PeerId; 3], _: u64, _: Instant) {}

#[test]
fn a_link_that_is_late_more_often_than_not_swaps_with_one_that_is_ahead() {
    for (part, swaps) in [(1, false), (2, false), (3, true)] {
        let late = |number| if number % 4 < part { 24 } else { 0 };
        let pushes = who_pushes(&TreeConfig::default(), (5, 400), late, |_, _| true, nothing);
        assert_eq!(pushes, [!swaps, swaps, false], "{part}");
    }
}

#[test]
fn who_only_announces_takes_no_links_place() {
    let pushes = who_pushes(
        &TreeConfig::default(),
        (10, 300),
        |_| 30,
        |_, _| false,
        nothing,
    );
    assert_eq!(pushes, [true, false, false]);
}

#[test]
fn a_link_that_is_late_but_now_and_then_swaps_all_the_same() {
    // Later and later, so that nothing has to be fetched.
    let late = |number: u64| {
        if number % 970 < 950 {
            100.min(number / 10)
        } else {
            0
        }
    };
    let pushes = who_pushes(
        &TreeConfig::votes(),
        (1, 6 * 970),
        late,
        |_, _| true,
        nothing,
    );
    assert!(!pushes[0], "{pushes:?}");
}

#[test]
fn a_link_that_is_very_late_with_half_swaps() {
    let late = |number: u64| {
        if number % 4 < 2 {
            100.min(number / 10)
        } else {
            0
        }
    };
    let pushes = who_pushes(&TreeConfig::votes(), (1, 3000), late, |_, _| true, nothing);
    assert!(!pushes[0], "{pushes:?}");
}

#[test]
fn who_says_time_and_again_how_its_link_is_to_be_swaps_once_it_is_late() {
    let flips = |tree: &mut Plumtree, [ann, ..]: [PeerId; 3], step, now| {
        if step == 0 {
            // Its link pushes, and it has nothing.
            tree.connected(PeerId::random(), now);
        }
        if step % 900 == 0 {
            tree.on_link(ann, &Link { push: false }, now);
            tree.on_link(ann, &Link { push: true }, now);
        }
    };
    let config = TreeConfig::default();
    let [ann, bob, cid] = who_pushes(&config, (10, 600), |_| 100, |_, _| true, flips);
    assert!(!ann && (bob || cid));
}

/// Whether the link of the first ends that pushes all a second late, where nothing is asked for before, and what is by second 4 at the earliest.
fn is_cut(other: impl FnMut(&mut Plumtree, [PeerId; 3], u64, Instant)) -> bool {
    let answers = |place, step| place == 0 || step >= 400;
    let config = TreeConfig::default();
    let [ann, bob, cid] = who_pushes(&config, (10, 600), |_| 100, answers, other);
    !ann && (bob || cid)
}

#[test]
fn what_a_late_peer_alone_has_makes_it_not_ahead_of_itself() {
    assert!(is_cut(|tree, [ann, ..], step, now| {
        if step == 110 {
            let told = announcement(OWN..OWN + 4);
            tree.on_announce(ann, &told, |_, held| held, now);
        }
        if step == 450 {
            let again = (OWN..OWN + 4).map(|number| comes(tree, ann, number, now));
            assert_eq!(
                again.sum::<usize>(),
                0,
                "it was asked for it, and sends it again"
            );
        }
    }));
}

#[test]
fn who_was_ahead_and_is_gone_or_pushes_by_now_keeps_no_late_link() {
    assert!(is_cut(|tree, [_, bob, _], step, now| {
        if step == 800 {
            tree.gone(bob, now);
        }
    }));
    assert!(is_cut(|tree, [_, bob, _], step, now| {
        if step == 800 {
            tree.on_link(bob, &Link { push: true }, now);
        }
    }));
}

#[test]
fn who_should_push_and_only_announces_gives_way() {
    let [ann, bob] = [(); 2].map(|()| PeerId::random());
    let (start, pool) = (
        crate::platform::now(),
        Mempool::new(Default::default(), &[1; 16]),
    );
    let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
    for peer in [ann, bob] {
        tree.connected(peer, start);
    }
    tree.on_link(bob, &Link { push: false }, start);
    let ids = (0..400).map(|number| (item(number).key.short(), number));
    let (numbers, mut asked) = (ids.collect::<HashMap<_, _>>(), Vec::new());
    let gives_way = (0..4000_u64).any(|step| {
        let now = start + Duration::from_millis(10) * u32::try_from(step).expect("small");
        tree.on_time(&pool, now);
        // The one tells of it at once, and the other when that is asked already.
        for (peer, after) in [(ann, 0), (bob, 6)] {
            if step >= after && (step - after) % 10 == 0 {
                let number = (step - after) / 10;
                let told = announcement(number..number + 1);
                tree.on_announce(peer, &told, |_, held| held, now);
            }
        }
        for (_, number) in asked.extract_if(.., |(at, _)| *at <= step) {
            if comes(&mut tree, ann, number, now) > 0 {
                tree.accepted(Some(ann), [item(number)], now);
            }
        }
        let out = std::iter::from_fn(|| tree.next(ann, None, now));
        for frame in out.flat_map(frames) {
            if let Kind::Fetch(fetch) = frame {
                let ids = wire::ids(&fetch.ids).expect("ids");
                asked.extend(ids.map(|id| (step + 190, numbers[&id])));
            }
        }
        while tree.next(bob, None, now).is_some() {}
        tree.peers[&bob].pushes && !tree.peers[&ann].pushes
    });
    assert!(gives_way);
}

#[test]
fn two_ends_whose_words_have_crossed_agree_soon() {
    let ([ann, bob], start) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let pool = Mempool::new(Default::default(), &[1; 16]);
    let mut trees = [bob, ann].map(|peer| {
        let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
        tree.connected(peer, start);
        (peer, tree)
    });
    let [(_, anns), (_, bobs)] = &mut trees;
    anns.change(bob, true, start);
    bobs.change(ann, false, start);
    let (mut fetched, mut now) = (Vec::new(), start);
    for step in 0..300 {
        now += Duration::from_millis(20);
        let [(_, anns), _] = &mut trees;
        anns.accepted(None, [item(step)], now);
        let said = trees.each_mut().map(|(peer, tree)| {
            tree.on_time(&pool, now);
            let out = std::iter::from_fn(|| tree.next(*peer, None, now));
            out.flat_map(frames).collect::<Vec<_>>()
        });
        for ((peer, tree), said) in trees.iter_mut().zip(said.into_iter().rev()) {
            for frame in said {
                match frame {
                    Kind::Link(link) => {
                        assert_eq!(tree.on_link(*peer, &link, now), None);
                    }
                    Kind::Announce(told) => {
                        tree.on_announce(*peer, &told, |_, held| held, now);
                    }
                    Kind::Fetch(fetch) => {
                        fetched.push(step);
                        tree.on_fetch(*peer, &fetch, now);
                    }
                    Kind::Items(batch) => {
                        let keyed = |data: Bytes| (TransactionKey::of(&data), data);
                        let items = batch.items.into_iter().map(keyed).collect();
                        let came = tree.on_items(*peer, items, [].into_iter(), |_, held| held, now);
                        let fresh = came.fresh.into_iter().map(|fresh| Accepted {
                            key: fresh.key,
                            data: fresh.data,
                            fee: 0,
                        });
                        tree.accepted(Some(*peer), fresh, now);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    let [one, other] = trees.map(|(peer, tree)| tree.peers[&peer].pushes);
    assert!(one && other);
    assert!(!fetched.is_empty() && fetched.iter().all(|step| *step < 200));
}

#[test]
fn how_a_link_is_is_told_however_often_its_peer_moves() {
    let (peer, now) = (PeerId::random(), crate::platform::now());
    let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
    tree.connected(peer, now);
    for _ in 0..10 {
        tree.moved(peer, true, now);
        let out = tree.next(peer, None, now).expect("before all else");
        assert_eq!(frames(out), [Kind::Link(Link { push: true })]);
    }
}

#[test]
fn where_nobody_with_a_place_tells_of_anything_one_without_is_to_push() {
    let now = crate::platform::now();
    let config = TreeConfig {
        push_peers: 1,
        ..TreeConfig::default()
    };
    let mut tree = Plumtree::new(config, &[1; 16]);
    let [first, last] = [(); 2].map(|()| PeerId::random());
    tree.connected(first, now);
    (1..PLACES).for_each(|_| tree.connected(PeerId::random(), now));
    tree.connected(last, now);
    tree.gone(first, now);
    assert!(tree.peers[&last].place.is_none() && tree.peers[&last].pushes);
    let pushing = tree.peers.values().filter(|peer| peer.pushes);
    assert!(!tree.detached && pushing.count() == 1);
}

#[test]
fn of_what_is_of_no_use_any_more_nobody_is_told() {
    let ([ann, bob, cid], now) = ([(); 3].map(|()| PeerId::random()), crate::platform::now());
    let mut tree = Plumtree::new(TreeConfig::default(), &[1; 16]);
    for peer in [ann, bob] {
        tree.connected(peer, now);
    }
    tree.on_link(bob, &Link { push: false }, now);
    tree.accepted(None, (0..10).map(item), now);
    (0..3).for_each(|number| tree.withdraw(&item(number).key));
    tree.connected(cid, now);
    let later = now + tree.config.announce_interval + ANNOUNCE_DELAY;
    assert_eq!(told(&mut tree, ann, later), [7, 0, 0]);
    for peer in [bob, cid] {
        assert_eq!(told(&mut tree, peer, later), [0, 7, 0]);
    }
    // Who was told before gets it.
    let ids = wire::column([item(0).key.short()].into_iter());
    tree.on_fetch(bob, &Fetch { ids }, later);
    assert_eq!(told(&mut tree, bob, later), [1, 0, 0]);
}

fn announcement(numbers: std::ops::Range<u64>) -> Announce {
    let mut columns = Columns::default();
    for number in numbers {
        let Accepted { key, data, .. } = item(number);
        columns.push(key.short(), data.len(), 0);
    }
    columns.into()
}

#[test]
fn what_was_fetched_is_announced_to_all_at_once_and_pushed_to_nobody() {
    let [ann, bob, cid] = [(); 3].map(|()| PeerId::random());
    let (start, config) = (crate::platform::now(), TreeConfig::default());
    let mut tree = Plumtree::new(config.clone(), &[1; 16]);
    for peer in [ann, bob, cid] {
        tree.connected(peer, start);
    }
    tree.on_link(ann, &Link { push: false }, start);
    tree.on_announce(ann, &announcement(0..10), |_, held| held, start);
    let due = start + config.fetch_patience;
    tree.on_time(&Mempool::new(Default::default(), &[1; 16]), due);
    assert!(tree.next(ann, None, due).is_some(), "it is asked");
    let fresh = item(10);
    for (from, numbers) in [(ann, 0..10), (cid, 10..11)] {
        let batch = numbers.map(item).map(|item| (item.key, item.data));
        tree.on_items(from, batch.collect(), [].into_iter(), |_, held| held, due);
    }
    tree.accepted(Some(ann), (0..10).map(item), due);
    tree.accepted(Some(cid), [fresh], due);
    let later = due + config.announce_interval + ANNOUNCE_DELAY;
    assert_eq!(told(&mut tree, bob, later), [1, 10, 0]);
    assert_eq!(told(&mut tree, cid, later), [0, 10, 0]);
    assert_eq!(told(&mut tree, ann, later), [0, 1, 0], "it had told of ten");
}

#[test]
fn what_a_peer_has_announced_is_not_pushed_to_it_and_it_learns_when_it_would_have_been() {
    let [ann, bob] = [(); 2].map(|()| PeerId::random());
    let (start, config) = (crate::platform::now(), TreeConfig::default());
    let [mut tree, mut other] = [1, 2].map(|seed| {
        let mut tree = Plumtree::new(config.clone(), &[seed; 16]);
        for peer in [ann, bob] {
            tree.connected(peer, start);
        }
        tree
    });
    // Before it is here and after.
    tree.on_announce(bob, &announcement(0..5), |_, held| held, start);
    let came = (0..10).map(item).map(|item| (item.key, item.data));
    tree.on_items(ann, came.collect(), [].into_iter(), |_, held| held, start);
    tree.accepted(Some(ann), (0..10).map(item), start);
    tree.on_announce(bob, &announcement(5..8), |_, held| held, start);
    assert_eq!(told(&mut tree, bob, start), [2, 0, 8]);

    // What was fetched need not have been, and it shows how late pushes are; of what was not it says nothing.
    let late = start + config.fetch_patience * 4;
    other.on_link(ann, &Link { push: false }, start);
    for number in 0..10 {
        other
            .rescues
            .fetched(item(number).key.short(), ann, start, start);
    }
    let spared = |numbers: std::ops::Range<u64>| numbers.map(|number| item(number).key.short());
    other.on_spared(bob, spared(20..40), late);
    assert_eq!(other.fetches.patience(late), config.fetch_patience);
    other.on_spared(bob, spared(0..8), late);
    assert_eq!(other.fetches.patience(late), config.fetch_patience * 5);
    other.count_rescues(late + Duration::from_secs(5));
    assert_eq!(other.peers[&ann].rescued, 2);
}

#[test]
fn a_vote_waits_for_few_of_a_flood_of_others() {
    let ([flooder, peer], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let mut tree = Plumtree::new(TreeConfig::votes(), &[1; 16]);
    tree.connected(flooder, now);
    tree.connected(peer, now);
    tree.accepted(Some(flooder), (0..10_000).map(item), now);
    let first = tree.next(peer, None, now).expect("some of the flood");
    assert!(first.items <= 20, "{}", first.items);
    tree.accepted(None, [item(20_000)], now);
    let next = tree.next(peer, None, now).expect("our own");
    assert_eq!(items(next)[0], item(20_000).data);
}

#[test]
fn a_flood_of_a_peers_keeps_nobody_from_making_its_own() {
    let ([flooder, peer], now) = ([(); 2].map(|()| PeerId::random()), crate::platform::now());
    let config = TreeConfig {
        max_log_bytes: 256 << 10,
        ..TreeConfig::default()
    };
    let mut tree = Plumtree::new(config, &[1; 16]);
    tree.connected(flooder, now);
    tree.connected(peer, now);
    tree.accepted(Some(flooder), (0..10_000).map(item), now);
    assert!(tree.has_room(0), "nobody has read any of the flood");
    let mut own = 0;
    while tree.has_room(0) {
        tree.accepted(None, [item(20_000 + own)], now);
        own += 1;
    }
    assert!((100..400).contains(&own), "{own}");
    let came = pushed(&mut tree, peer, now + Duration::from_millis(5));
    let came: HashSet<_> = came.into_iter().collect();
    assert!((0..own).all(|number| came.contains(&item(20_000 + number).data)));
    assert!(tree.has_room(0));
}

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A tree to which as many as have a place of their own brought more than its log takes, of which the last peer has read all.
fn full(config: TreeConfig) -> (Plumtree, Vec<PeerId>, PeerId, Instant) {
    let mut now = crate::platform::now();
    let mut tree = Plumtree::new(config, &[1; 16]);
    let reader = PeerId::random();
    tree.connected(reader, now);
    let crowd: Vec<_> = (1..PLACES).map(|_| PeerId::random()).collect();
    for (peer, first) in crowd.iter().zip((0..).step_by(200)) {
        tree.connected(*peer, now);
        tree.accepted(Some(*peer), (first..first + 200).map(item), now);
        while tree.next(reader, None, now).is_some() {}
        now += Duration::from_millis(5);
    }
    (tree, crowd, reader, now)
}

#[test]
fn what_was_brought_before_takes_no_room_from_who_brings_something_now() {
    for pause in [Duration::ZERO, HOUR] {
        let (mut tree, crowd, reader, now) = full(TreeConfig::votes());
        let later = now + pause;
        tree.accepted(Some(crowd[7]), (100_000..101_000).map(item), later);
        assert_eq!(pushed(&mut tree, reader, later).len(), 1000);
        assert!(!tree.overtaken.has_news());
    }
}

#[test]
fn a_long_item_does_not_leave_for_the_next_short_one() {
    let (mut tree, crowd, reader, now) = full(TreeConfig::default());
    let data = Bytes::from(vec![1; 1 << 20]);
    let key = TransactionKey::of(&data);
    let long = Accepted { key, data, fee: 0 };
    tree.accepted(Some(crowd[1]), [long], now + HOUR);
    tree.accepted(Some(crowd[2]), [item(100_000)], now + HOUR);
    assert!(tree.holds(&key) && tree.holds(&item(100_000).key));
    while tree.next(reader, None, now + HOUR).is_some() {}
    assert!(!tree.overtaken.has_news());
}

#[test]
fn who_has_left_takes_no_share_of_what_we_may_make() {
    let (mut tree, _, _, now) = full(TreeConfig::votes());
    let share = TreeConfig::votes().max_log_bytes / 8;
    assert!(!tree.has_room(share), "many share it");
    tree.accepted(None, [item(100_000)], now + HOUR);
    assert!(tree.has_room(share), "we alone");
}
