use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use proptest::prelude::*;
use tokio::sync::oneshot;

use super::{batch::Load, *};
use crate::{
    chain::{
        Application, Checked, Item, ItemId, Transaction, Vote,
        rules::{Synchronous, at_once},
    },
    error::NetworkError,
    peers::Misdeed,
    platform::test,
    propagation::plumtree::Fresh,
};

/// Keeps votes and transactions as lanes do.
#[derive(Default)]
struct Shelf(HashMap<(ItemKind, TransactionKey), Standing>);

impl Inventory for Shelf {
    fn standing(&self, kind: ItemKind, key: &TransactionKey) -> Standing {
        let standing = self.0.get(&(kind, *key));
        standing.copied().unwrap_or(Standing::New)
    }

    fn claim(&mut self, kind: ItemKind, key: &TransactionKey) {
        self.0.insert((kind, *key), Standing::Checking);
    }
}

/// A chain for tests: rejects `bad`, ignores `old`, panics over `panic`, over `late` when it is delivered.
#[derive(Default)]
struct Chain(Mutex<Vec<Item>>);

impl Chain {
    fn check(data: &[u8]) -> Checked {
        match data {
            b"bad" => Checked::reject(data, "it is bad"),
            b"old" => Checked::ignore(data, "it is old"),
            b"a tip" => Checked {
                fee: Some(5),
                ..Checked::opaque(data)
            },
            b"panic" => panic!("the chain does not like this"),
            _ => Checked::opaque(data),
        }
    }

    fn delivered(&self) -> usize {
        self.0.lock().map_or(0, |items| items.len())
    }
}

impl Application for Chain {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        Self::check(&transaction.data)
    }

    fn check_vote(&self, vote: &Vote) -> Checked {
        Self::check(&vote.data)
    }

    fn deliver(&self, item: &Item) {
        assert_ne!(&item.data()[..], b"late", "the chain does not like this");
        self.0.lock().expect("unpoisoned").push(item.clone());
    }
}

fn chain() -> Arc<Chain> {
    Arc::default()
}

fn intake() -> Intake {
    Intake::new(&Config::default(), &[7; 16])
}

fn direct() -> Source {
    Source::Direct(PeerId::random())
}

fn gossip(id: u8) -> Source {
    Source::Gossip(PeerId::random(), MessageId::from(vec![id]))
}

fn handed() -> Source {
    Source::Handed(PeerId::random(), oneshot::channel().0)
}

/// What a chain says to a batch.
fn judge<A: Application>(load: Load, chain: &Arc<A>, blocks: &DeliveredBlocks) -> Judged {
    let rules = Synchronous::new(Arc::<A>::clone(chain));
    let judged = at_once(Judged::of(vec![load], &rules, blocks));
    judged.into_iter().next().expect("one for each batch")
}

/// Has everything checked that waits; the verdicts are the inventory's to remember.
fn run(intake: &mut Intake, shelf: &mut Shelf, chain: &Arc<Chain>) -> Vec<(Ticket, Judged)> {
    let blocks = DeliveredBlocks::new(8, &[1; 16]);
    let mut all = Vec::new();
    while let Some(Work::Batch(batch)) = intake.queue.start() {
        let (ticket, load) = batch.apart();
        let judged = judge(load, chain, &blocks);
        for item in &judged.accepted {
            shelf.0.insert((ticket.kind, item.key), Standing::Known);
        }
        for refused in &judged.refused {
            shelf.0.remove(&(ticket.kind, refused.key));
        }
        intake.queue.ended(ticket.kind == ItemKind::Vote);
        intake.queue.done(&ticket);
        all.push((ticket, judged));
    }
    all
}

type Reply = oneshot::Receiver<Result<Outcomes, NetworkError>>;

fn own(
    intake: &mut Intake,
    shelf: &mut Shelf,
    kind: ItemKind,
    reaches: bool,
    data: &[&'static [u8]],
) -> Reply {
    let (reply, answer) = oneshot::channel();
    let keyed = |data: &&'static [u8]| (TransactionKey::of(data), Bytes::from_static(data));
    let offer = Offer {
        kind,
        items: data.iter().map(keyed).collect(),
        reaches,
    };
    intake.offer_own(offer, shelf, reply);
    answer
}

#[test]
fn what_is_known_goes_no_further_by_any_way() {
    for kind in ItemKind::ALL {
        let (mut intake, mut shelf, chain) = (intake(), Shelf::default(), chain());
        let data = Bytes::from_static(b"an item");
        let offered = intake.offer(kind, direct(), data.clone(), &mut shelf);
        assert!(matches!(offered, Offered::Admitted), "{offered:?}");
        // While it is being checked, gossip's copy waits and all others are known.
        for source in [direct(), handed()] {
            let offered = intake.offer(kind, source, data.clone(), &mut shelf);
            assert!(matches!(offered, Offered::Known(_)), "{offered:?}");
        }
        let offered = intake.offer(kind, gossip(1), data.clone(), &mut shelf);
        assert!(matches!(offered, Offered::Copied), "{offered:?}");
        for (ticket, judged) in run(&mut intake, &mut shelf, &chain) {
            let told = intake.conclude(ticket.kind, &judged);
            let [((_, id), Verdict::Accept)] = &told[..] else {
                panic!("the copy hears of it: {told:?}");
            };
            assert_eq!(*id, MessageId::from(vec![1]));
        }
        // And afterwards.
        for source in [direct(), handed(), gossip(2)] {
            let offered = intake.offer(kind, source, data.clone(), &mut shelf);
            assert!(matches!(offered, Offered::Known(_)), "{offered:?}");
        }
        drop(own(&mut intake, &mut shelf, kind, true, &[b"an item"]));
        assert!(
            run(&mut intake, &mut shelf, &chain)
                .iter()
                .all(|(ticket, judged)| {
                    let Source::Own(own) = &ticket.source else {
                        return false;
                    };
                    matches!(own.refused[..], [Some(ProtocolError::Duplicate)])
                        && judged.count() == 0
                })
        );
        assert_eq!(chain.delivered(), 1, "once");
    }
}

#[test]
fn what_is_too_large_or_nothing_is_refused_by_every_way() {
    let large = (ItemKind::Vote, Bytes::from(vec![1; 70 << 10]));
    let nothing = ItemKind::ALL.map(|kind| (kind, Bytes::new()));
    for (kind, data) in nothing.into_iter().chain([large]) {
        let (mut intake, mut shelf) = (intake(), Shelf::default());
        for source in [direct(), handed(), gossip(1)] {
            let offered = intake.offer(kind, source, data.clone(), &mut shelf);
            assert!(matches!(offered, Offered::Unfit(..)), "{offered:?}");
        }
        let (reply, _) = oneshot::channel();
        let offer = Offer {
            kind,
            items: vec![(TransactionKey::of(&data), data)],
            reaches: true,
        };
        intake.offer_own(offer, &mut shelf, reply);
        let work = intake.queue.start();
        let Some(Work::Batch(batch)) = work else {
            panic!("{work:?}")
        };
        assert!(batch.items.is_empty());
        assert!(shelf.0.is_empty(), "nothing is claimed");
    }
}

#[test]
fn what_gossip_brings_waits_for_room() {
    let (mut intake, mut shelf, chain) = (intake(), Shelf::default(), chain());
    let peer = PeerId::random();
    let vote = |number: u16| {
        let mut vote = number.to_le_bytes().to_vec();
        vote.resize(60 << 10, 0);
        Bytes::from(vote)
    };
    let (mut admitted, mut held, mut refused) = (0, 0, 0);
    for number in 0..2000_u16 {
        let source = Source::Gossip(peer, MessageId::from(number.to_le_bytes().to_vec()));
        match intake.offer(ItemKind::Vote, source, vote(number), &mut shelf) {
            Offered::Admitted => admitted += 1,
            Offered::Held => held += 1,
            Offered::NoRoom(..) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(admitted > 0 && held > 0 && refused > 0);
    assert!(held * (60 << 10) <= HELD.per_peer, "bounded");
    assert!(intake.next_held().is_none(), "there is no room yet");
    let mut judged = 0;
    loop {
        judged += run(&mut intake, &mut shelf, &chain).len();
        let mut again = 0;
        while let Some((kind, source, data)) = intake.next_held() {
            let offered = intake.offer(kind, source, data, &mut shelf);
            assert!(matches!(offered, Offered::Admitted), "{offered:?}");
            again += 1;
        }
        if again == 0 {
            break;
        }
    }
    assert_eq!(judged, admitted + held);
    let mut queues = intake.held.iter();
    assert!(queues.all(|held| held.taken_by(&Some(peer)) == 0));
}

#[test]
fn what_is_held_waits_for_nothing_of_others_and_of_other_kinds() {
    let (mut intake, mut shelf) = (intake(), Shelf::default());
    let [full, roomy] = [PeerId::random(), PeerId::random()];
    let item = |number: u16, size| {
        let mut item = number.to_le_bytes().to_vec();
        item.resize(size, 0);
        Bytes::from(item)
    };
    // One peer's shares of votes and of blocks are used up, and some of each are held.
    for (kind, size) in [(ItemKind::Block, 1 << 20), (ItemKind::Vote, 60 << 10)] {
        let mut numbers = 0..2000;
        let is_held = numbers.any(|number| {
            let source = Source::Gossip(full, MessageId::from(vec![0]));
            let offered = intake.offer(kind, source, item(number, size), &mut shelf);
            matches!(offered, Offered::Held)
        });
        assert!(is_held);
    }
    let source = Source::Gossip(roomy, MessageId::from(vec![1]));
    let vote = Batch::one(ItemKind::Vote, source, item(3000, 8));
    assert!(intake.hold(vote).is_none(), "held behind the others'");
    let next = intake.next_held();
    assert!(next.is_some_and(|(_, source, _)| source.peer() == Some(roomy)));
    assert!(intake.next_held().is_none());
    let Some(Work::Batch(batch)) = intake.queue.start() else {
        panic!("a vote's turn first");
    };
    assert_eq!(batch.kind, ItemKind::Vote);
    intake.queue.done(&batch.apart().0);
    let next = intake.next_held();
    assert!(
        next.is_some_and(|(kind, ..)| kind == ItemKind::Vote),
        "its votes wait for none of its blocks"
    );
}

#[test]
fn what_has_no_room_may_come_again() {
    let (mut intake, mut shelf, chain) = (intake(), Shelf::default(), chain());
    let peer = PeerId::random();
    let vote = |number: u16| {
        let mut vote = number.to_le_bytes().to_vec();
        vote.resize(60 << 10, 0);
        Bytes::from(vote)
    };
    let mut refused = None;
    for number in 0..1000 {
        match intake.offer(
            ItemKind::Vote,
            Source::Direct(peer),
            vote(number),
            &mut shelf,
        ) {
            Offered::Admitted => {}
            Offered::NoRoom(_, reason) => {
                assert!(
                    reason.contains("protocol.validation.votes.per_peer"),
                    "{reason}"
                );
                refused = Some(number);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let number = refused.expect("a peer has a share");
    let offered = intake.offer(ItemKind::Vote, direct(), b"aye"[..].into(), &mut shelf);
    assert!(matches!(offered, Offered::Admitted), "others have theirs");
    run(&mut intake, &mut shelf, &chain);
    let again = intake.offer(
        ItemKind::Vote,
        Source::Direct(peer),
        vote(number),
        &mut shelf,
    );
    assert!(matches!(again, Offered::Admitted), "{again:?}");
}

#[test]
fn rejected_blocks_are_not_checked_again_and_ignored_ones_are() {
    struct Picky;
    impl Application for Picky {
        fn check_block(&self, block: &crate::chain::Block) -> Checked {
            Chain::check(&block.data)
        }
    }
    let (mut intake, mut shelf) = (intake(), Shelf::default());
    for (data, again) in [(&b"bad"[..], false), (b"old", true)] {
        let data = Bytes::copy_from_slice(data);
        let offered = intake.offer(ItemKind::Block, direct(), data.clone(), &mut shelf);
        assert!(matches!(offered, Offered::Admitted));
        let Some(Work::Batch(batch)) = intake.queue.start() else {
            panic!("it waits")
        };
        let (ticket, load) = batch.apart();
        let judged = judge(load, &Arc::new(Picky), &DeliveredBlocks::new(8, &[1; 16]));
        intake.conclude(ticket.kind, &judged);
        intake.queue.ended(ticket.kind == ItemKind::Vote);
        intake.queue.done(&ticket);
        let offered = intake.offer(ItemKind::Block, direct(), data, &mut shelf);
        assert_eq!(matches!(offered, Offered::Admitted), again, "{offered:?}");
    }
}

// A panic in a browser ends the node, and the test with it.
#[core::prelude::v1::test]
fn an_item_over_which_the_application_panics_is_ignored_and_the_rest_goes_on() {
    let (mut intake, mut shelf, chain) = (intake(), Shelf::default(), chain());
    let data: [&[u8]; 4] = [b"one", b"panic", b"late", b"two"];
    drop(own(
        &mut intake,
        &mut shelf,
        ItemKind::Transaction,
        true,
        &data,
    ));
    let checked = run(&mut intake, &mut shelf, &chain);
    let [(_, judged)] = &checked[..] else {
        panic!("one batch")
    };
    assert_eq!((judged.accepted.len(), judged.refused.len()), (2, 2));
    let ignored = |outcome: &Result<ItemId, ProtocolError>| matches!(outcome, Err(ProtocolError::Ignored { reason, .. }) if reason.contains("failed"));
    let ignored: Vec<_> = judged.outcomes.iter().map(ignored).collect();
    assert_eq!(ignored, [false, true, true, false]);
    assert_eq!(chain.delivered(), 2);
    assert_eq!(intake.queue.own(ItemKind::Transaction), 0, "nothing stays");
}

#[test]
fn our_own_are_checked_and_no_more_where_there_is_nobody() {
    let (mut intake, mut shelf, chain) = (intake(), Shelf::default(), chain());
    drop(own(
        &mut intake,
        &mut shelf,
        ItemKind::Vote,
        false,
        &[b"aye", b"bad"],
    ));
    let mut checked = run(&mut intake, &mut shelf, &chain);
    let (_, judged) = checked.first_mut().expect("one batch");
    assert!(chain.delivered() == 0 && judged.events.is_empty());
    judged.withdraw();
    assert!(judged.accepted.is_empty() && judged.refused.len() == 2);
    assert!(matches!(
        judged.outcomes[..],
        [Ok(_), Err(ProtocolError::Rejected { .. })]
    ));
}

#[test]
fn gossips_copies_are_bounded() {
    let (mut intake, mut shelf) = (intake(), Shelf::default());
    let data = Bytes::from_static(b"an item");
    let kind = ItemKind::Transaction;
    intake.offer(kind, direct(), data.clone(), &mut shelf);
    for _ in 0..MAX_COPIES {
        let offered = intake.offer(kind, gossip(1), data.clone(), &mut shelf);
        assert!(matches!(offered, Offered::Copied));
    }
    let offered = intake.offer(kind, gossip(1), data, &mut shelf);
    assert!(matches!(offered, Offered::Known(Source::Gossip(..))));
}

proptest! {
    #[test]
    fn each_accepted_item_is_delivered_once_whoever_brings_it(steps in proptest::collection::vec((0u8..6, 0usize..3, 0u8..5), 1..120)) {
        let (mut intake, mut shelf, chain) = (intake(), Shelf::default(), chain());
        let mut accepted = HashSet::new();
        for (number, kind, way) in steps {
            let (kind, data) = (ItemKind::ALL[kind], Bytes::from(vec![number; 3]));
            let offered = match way {
                0 => intake.offer(kind, direct(), data, &mut shelf),
                1 => intake.offer(kind, gossip(number), data, &mut shelf),
                2 => intake.offer(kind, handed(), data, &mut shelf),
                3 => {
                    let offer = Offer { kind, items: vec![(TransactionKey::of(&data), data)], reaches: true };
                    intake.offer_own(offer, &mut shelf, oneshot::channel().0);
                    continue;
                }
                _ => {
                    for (ticket, judged) in run(&mut intake, &mut shelf, &chain) {
                        accepted.extend(judged.accepted.iter().map(|item| (ticket.kind, item.key)));
                        accepted.extend(judged.block.iter().map(|block| (ticket.kind, block.key)));
                        intake.conclude(ticket.kind, &judged);
                    }
                    continue;
                }
            };
            prop_assert!(!matches!(offered, Offered::Unfit(..) | Offered::NoRoom(..)));
        }
        for (ticket, judged) in run(&mut intake, &mut shelf, &chain) {
            accepted.extend(judged.accepted.iter().map(|item| (ticket.kind, item.key)));
            accepted.extend(judged.block.iter().map(|block| (ticket.kind, block.key)));
            intake.conclude(ticket.kind, &judged);
        }
        prop_assert_eq!(chain.delivered(), accepted.len());
        prop_assert!(intake.copies.count == 0 && intake.checking.is_empty());
    }
}

#[test]
fn an_announcer_pays_for_a_false_fee_of_what_was_accepted_only() {
    let chain = chain();
    let blocks = DeliveredBlocks::new(8, &[1; 16]);
    let misdeed = |items: &[(&'static [u8], Option<u64>)]| {
        let items = items.iter().map(|&(data, promised)| Fresh {
            key: TransactionKey::of(data),
            data: Bytes::from_static(data),
            promised,
        });
        let load = Load {
            kind: ItemKind::Transaction,
            from: Some(PeerId::random()),
            framed: true,
            delivers: true,
            items: items.collect(),
        };
        judge(load, &chain, &blocks).misdeed
    };
    let judged = |data: &'static [u8], promised| misdeed(&[(data, promised)]);
    // 5 for 5 bytes are 1,000 for 1,000.
    assert_eq!(judged(b"a tip", Some(1000)), None);
    assert_eq!(
        judged(b"a tip", Some(1001)),
        Some(Misdeed::FalseAnnouncement)
    );
    // Who ignores an item has not looked at its fee; another chain knows of none.
    for data in [&b"old"[..], b"without"] {
        assert_eq!(judged(data, Some(1001)), None, "{data:?}");
    }
    // Of several the dearest counts, whichever comes last.
    let (bad, false_fee) = ((&b"bad"[..], None), (&b"a tip"[..], Some(1001)));
    for items in [[bad, false_fee], [false_fee, bad]] {
        assert_eq!(misdeed(&items), Some(Misdeed::InvalidItem));
    }
}
