use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use libp2p::PeerId;
use proptest::prelude::*;

use super::tests::{accepted, chain, coins, genesis, grow, header, ledger, store, transfer, vote};
use super::*;
use crate::{
    chain::{Snapshot, SnapshotChunk, SyncVerdict},
    platform::test,
    storage::{Batch, KeyRange, MemoryStore, Page, Table, Write},
};

const CHUNK: u32 = 16 << 10;

/// A ledger of so many accounts more, and its newest snapshot.
fn made(accounts: u64) -> (Ledger, Snapshot) {
    let ledger = ledger();
    for (nonce, number) in (0..accounts).enumerate() {
        let (from, nonce) = (1 + (nonce % 4) as u8, nonce as u64 / 4);
        let mut to = [7; 32];
        to[..8].copy_from_slice(&number.to_be_bytes());
        let key = super::tests::key(from);
        let paid = Transfer::new(&genesis().hash(), &key, Address::new(to), 5, 1, nonce);
        accepted(&ledger, &Item::Transaction(Transaction::new(paid.encode())));
        if number % 200 == 199 {
            grow(&ledger);
        }
    }
    grow(&ledger);
    let snapshot = ledger
        .make_snapshot(None, CHUNK)
        .expect("made")
        .expect("there is a block");
    (ledger, snapshot)
}

fn chunk(ledger: &Ledger, snapshot: &Snapshot, index: u32) -> Bytes {
    let source = ledger.snapshot_source().expect("it has snapshots");
    source
        .load_snapshot_chunk(snapshot, index)
        .expect("it is there")
}

/// Gives it all chunks in this order and asks for the end.
fn take(ledger: &Ledger, from: &Ledger, snapshot: &Snapshot, order: &[u32]) -> SyncVerdict {
    let sink = ledger.snapshot_sink().expect("it takes snapshots");
    assert_eq!(sink.offer_snapshot(snapshot, None), SyncVerdict::Accept);
    for index in order {
        let bytes = chunk(from, snapshot, *index);
        let sender = PeerId::random();
        assert_eq!(
            sink.apply_snapshot_chunk(*index, &bytes, &sender),
            SyncVerdict::Accept
        );
    }
    sink.finish_snapshot(snapshot)
}

#[test]
fn a_snapshot_is_listed_served_and_taken_in_any_order() {
    let (maker, snapshot) = made(1000);
    assert_eq!(snapshot.check(), Ok(()));
    let source = maker.snapshot_source().expect("it has snapshots");
    assert_eq!(source.list_snapshots(), std::slice::from_ref(&snapshot));
    let hashes = source.load_snapshot_hashes(&snapshot).expect("it is there");
    assert_eq!(blake3::hash(&hashes), snapshot.root);
    assert!(snapshot.chunks() > 2);
    for (index, hash) in (0..snapshot.chunks()).zip(hashes.chunks(32)) {
        let bytes = chunk(&maker, &snapshot, index);
        assert_eq!(Some(bytes.len()), snapshot.chunk_length(index));
        assert_eq!(&blake3::hash(&bytes).as_bytes()[..], hash);
    }
    let follower = ledger();
    let backwards: Vec<_> = (0..snapshot.chunks()).rev().collect();
    assert_eq!(
        take(&follower, &maker, &snapshot, &backwards),
        SyncVerdict::Accept
    );
    assert_eq!(follower.tip().id, maker.tip().id);
    assert_eq!(coins(&follower), 4_000_000);
    let sink = follower.snapshot_sink().expect("it takes snapshots");
    assert!(
        sink.stored_snapshot_chunks(&snapshot).is_empty(),
        "nothing is left"
    );
    assert!(
        matches!(sink.offer_snapshot(&snapshot, None), SyncVerdict::Ignore(_)),
        "it is there"
    );
    accepted(&follower, &grow(&maker));
    let base = follower.chain_store().expect("it syncs").base();
    assert_eq!(base, snapshot.height + 1, "its own block did not come");
}

#[test]
fn chunks_that_come_together_are_taken_up_to_the_first_that_is_none() {
    let (maker, snapshot) = made(700);
    let ledger = ledger();
    let sink = ledger.snapshot_sink().expect("it takes snapshots");
    assert_eq!(sink.offer_snapshot(&snapshot, None), SyncVerdict::Accept);
    let right = |index| SnapshotChunk {
        index,
        bytes: chunk(&maker, &snapshot, index),
        sender: PeerId::random(),
    };
    let mut chunks: Vec<_> = (0..3).map(right).collect();
    chunks[1].bytes = chunks[1].bytes.slice(1..);
    let (count, verdict) = sink.apply_snapshot_chunks(&chunks);
    assert!(
        count == 1 && matches!(verdict, SyncVerdict::Reject(_)),
        "{count}, {verdict:?}"
    );
    assert_eq!(sink.stored_snapshot_chunks(&snapshot), [0]);
    chunks[1] = right(1);
    let taken = sink.apply_snapshot_chunks(&chunks[1..]);
    assert_eq!(taken, (2, SyncVerdict::Accept));
    assert_eq!(sink.stored_snapshot_chunks(&snapshot), [0, 1, 2]);
}

#[test]
fn chunks_outlast_a_restart_and_another_snapshot_takes_their_place() {
    let (maker, snapshot) = made(700);
    let store = store();
    {
        let ledger = Ledger::open(genesis(), store.clone()).expect("opened");
        let early = take(&ledger, &maker, &snapshot, &[1]);
        assert!(matches!(early, SyncVerdict::Retry(_)), "{early:?}");
    }
    let ledger = Ledger::open(genesis(), store).expect("opened");
    let sink = ledger.snapshot_sink().expect("it takes snapshots");
    assert_eq!(sink.stored_snapshot_chunks(&snapshot), [1]);
    let rest: Vec<_> = (0..snapshot.chunks()).filter(|index| *index != 1).collect();
    let (next_maker, next) = made(720);
    assert_eq!(sink.offer_snapshot(&next, None), SyncVerdict::Accept);
    assert!(sink.stored_snapshot_chunks(&snapshot).is_empty());
    let all: Vec<_> = rest.iter().copied().chain([1]).collect();
    assert_eq!(take(&ledger, &next_maker, &next, &all), SyncVerdict::Accept);
    assert_eq!(ledger.tip().id, next_maker.tip().id);
}

#[test]
fn what_is_no_snapshot_of_a_ledger_is_told() {
    let (maker, snapshot) = made(400);
    let ledger = ledger();
    let before = ledger.tip();
    let sink = ledger.snapshot_sink().expect("it takes snapshots");
    let offer = |other: Snapshot| sink.offer_snapshot(&other, None);
    let other = Snapshot {
        format: 2,
        ..snapshot.clone()
    };
    assert!(matches!(offer(other), SyncVerdict::Ignore(_)));
    let other = Snapshot {
        size: MAX_SNAPSHOT + 1,
        ..snapshot.clone()
    };
    assert!(matches!(offer(other), SyncVerdict::Ignore(_)));
    let other = Snapshot {
        state_root: Bytes::from_static(b"short"),
        ..snapshot.clone()
    };
    assert!(matches!(offer(other), SyncVerdict::Reject(_)));
    let peer = PeerId::random();
    let bytes = chunk(&maker, &snapshot, 0);
    let unasked = sink.apply_snapshot_chunk(0, &bytes, &peer);
    assert!(matches!(unasked, SyncVerdict::Reject(_)), "{unasked:?}");

    // All chunks were what the offer said, and the offer lied about the state.
    for lie in [
        Snapshot {
            state_root: Bytes::from_static(&[9; 32]),
            ..snapshot.clone()
        },
        Snapshot {
            height: snapshot.height + 1,
            ..snapshot.clone()
        },
    ] {
        let sink = ledger.snapshot_sink().expect("it takes snapshots");
        assert_eq!(sink.offer_snapshot(&lie, None), SyncVerdict::Accept);
        for index in 0..lie.chunks() {
            let bytes = chunk(&maker, &snapshot, index);
            assert_eq!(
                sink.apply_snapshot_chunk(index, &bytes, &peer),
                SyncVerdict::Accept
            );
        }
        let end = sink.finish_snapshot(&lie);
        assert!(matches!(end, SyncVerdict::Reject(_)), "{end:?}");
        assert_eq!(ledger.tip(), before);
    }
}

fn finalized(ledger: &Ledger, block: &Item) {
    (101..=103).for_each(|voter| accepted(ledger, &vote(voter, block)));
}

#[test]
fn snapshots_are_of_final_blocks_and_stay_until_they_are_forgotten() {
    let (maker, blocks) = chain(2);
    assert_eq!(
        ledger().make_snapshot(None, CHUNK).expect("read"),
        None,
        "there is no block"
    );
    assert!(matches!(
        maker.make_snapshot(None, 1000),
        Err(LedgerError::Snapshot(_))
    ));
    finalized(&maker, &blocks[0]);
    let first = maker
        .make_snapshot(None, CHUNK)
        .expect("made")
        .expect("one");
    assert_eq!(first.height, 1);
    assert_eq!(first.state_root[..], header(&blocks[0]).state_root);
    let again = maker.make_snapshot(Some(1), CHUNK).expect("made");
    assert_eq!(again.expect("the same"), first);
    let early = maker.make_snapshot(Some(2), CHUNK).expect("read");
    assert_eq!(early, None, "it is not final");
    let source = maker.snapshot_source().expect("it has snapshots");
    assert_eq!(source.list_snapshots(), std::slice::from_ref(&first));
    for nonce in 2..5 {
        accepted(&maker, &transfer(1, 2, 1, 1, nonce));
        let block = grow(&maker);
        finalized(&maker, &block);
        source
            .make_snapshot(nonce + 1, CHUNK)
            .expect("made")
            .expect("one");
    }
    let heights = || -> Vec<_> {
        let made = source.list_snapshots();
        made.iter().map(|made| made.height).collect()
    };
    assert_eq!(heights(), [1, 3, 4, 5]);
    source.forget_snapshot(&first).expect("written");
    assert_eq!(heights(), [3, 4, 5]);
    assert_eq!(source.load_snapshot_chunk(&first, 0), None);
    assert_eq!(source.load_snapshot_hashes(&first), None);
}

#[test]
fn two_that_have_come_to_a_height_by_other_ways_make_the_same_snapshot() {
    let (maker, first) = made(700);
    // One has every block, and went on; the other began with a state.
    let taken = ledger();
    let order: Vec<_> = (0..first.chunks()).collect();
    assert_eq!(take(&taken, &maker, &first, &order), SyncVerdict::Accept);
    let mut at = None;
    for nonce in 175..180 {
        accepted(&maker, &transfer(1, 2, 1, 1, nonce));
        let block = grow(&maker);
        accepted(&taken, &block);
        if nonce == 177 {
            finalized(&maker, &block);
            at = Some(header(&block).height);
        }
        if nonce == 179 {
            finalized(&maker, &block);
            finalized(&taken, &block);
        }
    }
    let wanted = at.expect("a height");
    let here = maker.make_snapshot(at, CHUNK).expect("made").expect("one");
    let there = taken.make_snapshot(at, CHUNK).expect("made").expect("one");
    assert_eq!((here.id(), here.height), (there.id(), wanted));
    for index in 0..here.chunks() {
        assert_eq!(chunk(&maker, &here, index), chunk(&taken, &here, index));
    }
    // The one has seen the votes for that block, the other those for a later one: both can show it.
    let trust = ledger().trust_verifier().expect("it has voters");
    for source in [&maker, &taken] {
        let shown = source.prove_snapshot(&here).expect("it is final");
        let verdict = trust.is_final(&shown.header, &shown.proof);
        assert_eq!(verdict, SyncVerdict::Accept);
    }
    let shown = taken.prove_snapshot(&here).expect("it is final");
    assert_eq!(
        shown.proof.len(),
        43 + 3 * 66 + 2 * Header::LENGTH,
        "with two headers"
    );
    for cut in [Header::LENGTH, 1] {
        let short = shown.proof.slice(..shown.proof.len() - cut);
        let verdict = trust.is_final(&shown.header, &short);
        assert!(matches!(verdict, SyncVerdict::Reject(_)), "{verdict:?}");
    }
    let mut swapped = shown.proof.to_vec();
    let at = swapped.len() - 2 * Header::LENGTH;
    swapped[at..].rotate_left(Header::LENGTH);
    let verdict = trust.is_final(&shown.header, &swapped.into());
    assert!(matches!(verdict, SyncVerdict::Reject(_)), "{verdict:?}");
}

#[test]
fn a_snapshot_leaves_with_its_block_and_with_what_is_restored_over_it() {
    let (maker, _) = chain(2);
    let open = maker
        .make_snapshot(None, CHUNK)
        .expect("made")
        .expect("one");
    assert_eq!(open.height, 2, "nothing is final");
    let (theirs, _) = chain(1);
    for _ in 0..2 {
        accepted(&theirs, &transfer(3, 2, 1, 1, theirs.tip().height));
        grow(&theirs);
    }
    let store = maker.chain_store().expect("it syncs");
    for height in 2..=3 {
        let block = theirs.block(height).expect("read").expect("it is there");
        assert_eq!(store.append(&block), SyncVerdict::Accept);
    }
    assert_eq!(maker.tip(), theirs.tip());
    assert_eq!(maker.list_snapshots(), [], "its block is gone");
    assert_eq!(maker.load_snapshot_chunk(&open, 0), None);
    maker.make_snapshot(None, CHUNK).expect("made");
    assert_eq!(maker.list_snapshots().len(), 1);
    grow(&theirs);
    let next = theirs
        .make_snapshot(None, CHUNK)
        .expect("made")
        .expect("one");
    assert_eq!(take(&maker, &theirs, &next, &[0]), SyncVerdict::Accept);
    let chunks = maker
        .0
        .stored
        .store
        .range(Table::new("chunks"), KeyRange::default());
    assert!(maker.list_snapshots().is_empty());
    assert!(chunks.expect("read").entries.is_empty());
}

#[test]
fn what_was_taken_of_a_snapshot_goes_when_it_is_abandoned() {
    let (maker, snapshot) = made(700);
    let store = store();
    let ledger = Ledger::open(genesis(), store.clone()).expect("opened");
    let sink = ledger.snapshot_sink().expect("it takes snapshots");
    assert_eq!(sink.unfinished_snapshot(), None);
    sink.abandon_snapshot().expect("there is nothing");
    let early = take(&ledger, &maker, &snapshot, &[1]);
    assert!(matches!(early, SyncVerdict::Retry(_)), "{early:?}");
    assert_eq!(sink.unfinished_snapshot(), Some(snapshot.clone()));
    sink.abandon_snapshot().expect("written");
    assert_eq!(sink.unfinished_snapshot(), None);
    for table in ["incoming", "arrived", "offer"] {
        let left = store.range(Table::new(table), KeyRange::default());
        assert!(left.expect("read").entries.is_empty(), "{table}");
    }
}

#[test]
fn of_a_final_block_that_is_too_old_no_snapshot_is_made() {
    let (maker, blocks) = chain(1);
    (101..=103).for_each(|voter| accepted(&maker, &vote(voter, &blocks[0])));
    for _ in 0..HISTORY {
        grow(&maker);
    }
    let made = maker
        .make_snapshot(None, CHUNK)
        .expect("it is kept")
        .expect("one");
    assert_eq!(made.height, 1);
    let (maker, blocks) = chain(1);
    (101..=103).for_each(|voter| accepted(&maker, &vote(voter, &blocks[0])));
    for _ in 0..=HISTORY {
        grow(&maker);
    }
    let refused = maker.make_snapshot(None, CHUNK);
    assert_eq!(refused, Err(LedgerError::NotKept { height: 1 }));
}

type Happens = Box<dyn FnOnce() + Send>;
type IsIt = fn(&Write) -> bool;

/// A store in which something happens once, before what is written or after it, where that is this.
struct Disturbed {
    store: Arc<MemoryStore>,
    before: Mutex<Option<Happens>>,
    /// Such a write is done, and said to have failed.
    unsure: Mutex<Option<IsIt>>,
    /// So many of the next ranges can't be read after that.
    blind: AtomicUsize,
}

impl Disturbed {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            store: store(),
            before: Mutex::default(),
            unsure: Mutex::default(),
            blind: AtomicUsize::new(0),
        })
    }
}

impl Store for Disturbed {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.store.get(table, key)
    }

    fn range(&self, table: Table, range: KeyRange<'_>) -> Result<Page, StoreError> {
        let is_over = lock(&self.unsure).is_none();
        let less = |blind: usize| blind.checked_sub(1).filter(|_| is_over);
        if self.blind.fetch_update(SeqCst, SeqCst, less).is_ok() {
            return Err(nobody_knows());
        }
        self.store.range(table, range)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut writes = batch.writes().iter();
        if writes.any(|write| matches!(write, Write::Put(table, ..) if table.name() == "chunks")) {
            let before = lock(&self.before).take();
            before.into_iter().for_each(|happens| happens());
        }
        self.store.commit(batch)?;
        let mut unsure = lock(&self.unsure);
        if unsure.is_some_and(|is_it| batch.writes().iter().any(is_it)) {
            *unsure = None;
            return Err(nobody_knows());
        }
        Ok(())
    }
}

fn nobody_knows() -> StoreError {
    StoreError::Failed {
        place: "the store".to_owned(),
        reason: "nobody knows".to_owned(),
    }
}

/// A ledger of 600 accounts and more, in which this happens while its snapshot is made.
fn disturbed(
    happens: impl FnOnce(&Ledger) + Send + 'static,
) -> Result<Option<Snapshot>, LedgerError> {
    let (maker, _) = made(600);
    let store = Disturbed::new();
    let ledger = Ledger::open(genesis(), store.clone()).expect("opened");
    for height in 1..=maker.tip().height {
        let block = maker.block(height).expect("read").expect("it is there");
        accepted(&ledger, &Item::Block(block));
    }
    let same = ledger.clone();
    *lock(&store.before) = Some(Box::new(move || happens(&same)));
    ledger.make_snapshot(None, CHUNK)
}

#[test]
fn a_chain_that_goes_on_while_a_snapshot_is_made_keeps_what_is_read() {
    let snapshot = disturbed(|ledger| {
        let second = ledger.make_snapshot(None, CHUNK);
        assert_eq!(second, Err(LedgerError::Making));
        for _ in 0..HISTORY + 20 {
            grow(ledger);
        }
    });
    let snapshot = snapshot.expect("made").expect("one");
    let (_, undisturbed) = made(600);
    assert_eq!(snapshot.height, undisturbed.height);
    assert_eq!(snapshot.size, undisturbed.size);
    assert_eq!(snapshot.state_root, undisturbed.state_root);
}

#[test]
fn a_snapshot_whose_block_is_taken_off_meanwhile_is_given_up() {
    let refused = disturbed(|ledger| {
        let (theirs, _) = chain(1);
        let mut longer = vec![theirs.block(1).expect("read").expect("it is there")];
        for _ in 0..ledger.tip().height {
            grow(&theirs);
            let newest = theirs.block(theirs.tip().height).expect("read");
            longer.extend(newest);
        }
        let store = ledger.chain_store().expect("it syncs");
        for block in &longer {
            assert_eq!(store.append(block), SyncVerdict::Accept);
        }
        assert_eq!(ledger.tip(), theirs.tip());
    });
    assert!(
        matches!(refused, Err(LedgerError::NotKept { .. })),
        "{refused:?}"
    );
}

#[test]
fn what_was_written_although_that_failed_is_found_and_harmed_by_nothing() {
    let (maker, snapshot) = made(100);
    let store = Disturbed::new();
    let ledger = Ledger::open(genesis(), store.clone()).expect("opened");
    *lock(&store.unsure) =
        Some(|write| matches!(write, Write::Delete(_, key) if key == "restoring"));
    let order: Vec<_> = (0..snapshot.chunks()).collect();
    assert_eq!(
        take(&ledger, &maker, &snapshot, &order),
        SyncVerdict::Accept
    );
    assert!(lock(&store.unsure).is_none(), "it was the one");
    assert_eq!(ledger.tip().id, maker.tip().id);
    assert_eq!(coins(&ledger), 4_000_000);
    let syncs = ledger.chain_store().expect("it syncs");
    for blind in 0..3 {
        let block = grow(&maker);
        store.blind.store(blind, SeqCst);
        let Item::Block(block) = block else {
            panic!("a block");
        };
        *lock(&store.unsure) =
            Some(|write| matches!(write, Write::Put(table, ..) if table.name() == "blocks"));
        let said = syncs.append(&block);
        if blind == 0 {
            // It is found at once.
            assert_eq!(said, SyncVerdict::Accept);
        } else {
            // Nor can what was written be read at once.
            assert!(matches!(said, SyncVerdict::Retry(_)), "{said:?}");
        }
        let mut again = syncs.append(&block);
        for _ in 1..blind {
            again = syncs.append(&block);
        }
        assert!(matches!(again, SyncVerdict::Ignore(_)), "{again:?}");
        assert_eq!(ledger.tip().id, maker.tip().id);
        // What is here all the same keeps nobody from voting for it.
        assert_eq!(ledger.trouble(), None);
        assert_eq!(ledger.flush().now_or_never(), Some(Ok(())));
    }
    let votes = |block: &Item| {
        (101..=103)
            .map(|voter| vote(voter, block))
            .collect::<Vec<_>>()
    };
    accepted(&maker, &transfer(1, 2, 1, 1, 25));
    let decided = grow(&maker);
    accepted(&ledger, &transfer(3, 2, 1, 1, 25));
    grow(&ledger);
    *lock(&store.unsure) = Some(|write| matches!(write, Write::DeleteRange(..)));
    store.blind.store(1, SeqCst);
    votes(&decided)
        .iter()
        .for_each(|vote| accepted(&ledger, vote));
    assert!(lock(&store.unsure).is_none(), "it goes back");
    accepted(&ledger, &decided);
    assert_eq!(ledger.tip().id, maker.tip().id);
}

#[test]
fn what_broke_off_is_cleared_away_and_a_header_that_is_told_later_counts() {
    let (maker, first) = made(300);
    let store = &maker.0.stored.store;
    let mut batch = Batch::default();
    // Below and above the one that is there.
    for height in [first.height - 1, first.height + 1] {
        let key = [&height.to_be_bytes()[..], &[0; 4]].concat();
        batch.put(Table::new("chunks"), key, "left over");
    }
    store.commit(&batch).expect("written");
    accepted(&maker, &transfer(1, 2, 1, 1, 75));
    grow(&maker);
    grow(&maker);
    let second = maker
        .make_snapshot(None, CHUNK)
        .expect("made")
        .expect("one");
    let chunks = store.range(Table::new("chunks"), KeyRange::default());
    let number = |key: &Bytes| u64::from_be_bytes(key[..8].try_into().expect("8 bytes"));
    let entries = chunks.expect("read").entries;
    let mut heights: Vec<_> = entries.iter().map(|(key, _)| number(key)).collect();
    heights.dedup();
    assert_eq!(heights, [first.height, second.height]);

    let ledger = ledger();
    let sink = ledger.snapshot_sink().expect("it takes snapshots");
    assert_eq!(sink.offer_snapshot(&second, None), SyncVerdict::Accept);
    let peer = PeerId::random();
    for index in 0..second.chunks() {
        let bytes = chunk(&maker, &second, index);
        sink.apply_snapshot_chunk(index, &bytes, &peer);
    }
    let other = Bytes::from_static(&[7; Header::LENGTH]);
    assert_eq!(
        sink.offer_snapshot(&second, Some(&other)),
        SyncVerdict::Accept
    );
    assert_eq!(
        sink.stored_snapshot_chunks(&second).len(),
        second.chunks() as usize
    );
    let end = sink.finish_snapshot(&second);
    assert!(matches!(end, SyncVerdict::Reject(_)), "{end:?}");
}

#[test]
fn a_snapshot_of_a_final_block_is_proven_to_who_knows_the_voters() {
    let (maker, blocks) = chain(2);
    let source = maker.snapshot_source().expect("it has snapshots");
    let open = maker
        .make_snapshot(None, CHUNK)
        .expect("made")
        .expect("one");
    assert_eq!(open.height, 2, "nothing is final");
    assert_eq!(source.prove_snapshot(&open), None);
    (101..=103).for_each(|voter| accepted(&maker, &vote(voter, &blocks[0])));
    let snapshot = source.make_snapshot(1, CHUNK).expect("made").expect("one");
    let shown = source.prove_snapshot(&snapshot).expect("it is final");
    let trust = ledger().trust_verifier().expect("it has voters");
    let verdict = |proof: &Bytes| trust.is_final(&shown.header, proof);
    assert_eq!(verdict(&shown.proof), SyncVerdict::Accept);
    assert_eq!(trust.state_root(&shown.header), Some(snapshot.state_root));
    let mut forged = shown.proof.to_vec();
    forged[60] ^= 1;
    assert!(matches!(verdict(&forged.into()), SyncVerdict::Reject(_)));
    let error = source.make_snapshot(1, 1000).expect_err("no such chunks");
    assert!(error.contains("chunks of 1000 bytes"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_byte_changed_anywhere_is_never_taken(at in any::<prop::sample::Index>(), bit in 0..8) {
        let (maker, snapshot) = made(30);
        let mut bytes = chunk(&maker, &snapshot, 0).to_vec();
        bytes[at.index(snapshot.size as usize)] ^= 1_u8 << bit;
        let ledger = ledger();
        let before = ledger.tip();
        let sink = ledger.snapshot_sink().expect("it takes snapshots");
        prop_assert_eq!(sink.offer_snapshot(&snapshot, None), SyncVerdict::Accept);
        let peer = PeerId::random();
        prop_assert_eq!(sink.apply_snapshot_chunk(0, &bytes.into(), &peer), SyncVerdict::Accept);
        let end = sink.finish_snapshot(&snapshot);
        prop_assert!(matches!(end, SyncVerdict::Reject(_)), "{end:?}");
        prop_assert_eq!(ledger.tip(), before);
    }
}
