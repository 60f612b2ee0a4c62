use super::tests::{accepted, block_of, chain, coins, grow, header, ledger, transfer, vote};
use super::*;
use crate::{
    chain::{BlockPlace, SyncVerdict},
    platform::test,
    storage::{Batch, KeyRange, MemoryStore, Page, Table},
};

fn store_of(ledger: &Ledger) -> Arc<dyn ChainStore> {
    ledger.chain_store().expect("it syncs")
}

fn block(item: &Item) -> Block {
    Block::new(item.data().clone())
}

fn head(item: &Item) -> Bytes {
    item.data().slice(..Header::LENGTH)
}

fn place(item: &Item) -> BlockPlace {
    BlockPlace {
        height: header(item).height,
        id: ItemId::new(&header(item).id()).expect("short"),
    }
}

#[test]
fn what_one_ledger_serves_another_takes() {
    let (maker, blocks) = chain(8);
    let (from, follower) = (store_of(&maker), ledger());
    let to = store_of(&follower);
    assert_eq!((from.base(), to.tip().height), (0, 0));
    assert_eq!(from.id_at(0), to.id_at(0), "the genesis");
    assert_eq!(from.tip(), place(&blocks[7]));
    let headers = from.headers(1, 100, usize::MAX);
    assert_eq!(headers, blocks.iter().map(head).collect::<Vec<_>>());
    assert_eq!(from.headers(3, 2, usize::MAX), headers[2..4]);
    assert_eq!(from.headers(3, 100, 1), headers[2..3], "one at least");
    assert!(from.headers(9, 100, usize::MAX).is_empty());
    assert_eq!(to.append_headers(&headers), (8, SyncVerdict::Accept));
    let read = from.read_header(&headers[7]).expect("a header");
    assert!(to.is_better(&read));
    let late = to.append(&block(&blocks[1]));
    assert!(matches!(late, SyncVerdict::Retry(_)), "{late:?}");
    for item in &blocks {
        let id = from.id_at(header(item).height).expect("it is there");
        let served = from.block(&id).expect("it is there");
        assert_eq!(
            to.read_block(&served).map(|read| read.place()),
            Some(place(item))
        );
        assert_eq!(to.append(&served), SyncVerdict::Accept);
        assert!(
            matches!(to.append(&served), SyncVerdict::Ignore(_)),
            "twice"
        );
    }
    assert_eq!(follower.tip(), maker.tip());
    assert_eq!(to.block(&place(&blocks[4]).id), Some(block(&blocks[4])));
}

#[test]
fn forged_headers_and_blocks_are_told_from_early_ones() {
    let (_, blocks) = chain(4);
    let to = store_of(&ledger());
    let headers: Vec<_> = blocks.iter().map(head).collect();
    let early = to.append_headers(&headers[1..]);
    assert!(matches!(early, (0, SyncVerdict::Retry(_))), "{early:?}");
    let mut forged = headers.clone();
    forged[2] = forged[2].iter().map(|byte| byte ^ 1).collect();
    let refused = to.append_headers(&forged);
    assert!(
        matches!(refused, (2, SyncVerdict::Reject(_))),
        "{refused:?}"
    );
    let mut other = blocks[0].data().to_vec();
    *other.last_mut().expect("not empty") ^= 1;
    let other = Block::new(other);
    assert_eq!(
        to.read_block(&other),
        None,
        "not what the header commits to"
    );
    assert!(matches!(to.append(&other), SyncVerdict::Reject(_)));
    assert_eq!(to.append(&block(&blocks[0])), SyncVerdict::Accept);
}

#[test]
fn a_longer_branch_takes_the_place_of_a_shorter_one_but_of_no_final_one() {
    let (ours, ours_made) = chain(3);
    let (theirs, mut longer) = chain(1);
    for nonce in 0..3 {
        accepted(&theirs, &transfer(4, 1, 9, 3, nonce));
        longer.push(grow(&theirs));
    }
    assert_eq!(ours_made[0], longer[0], "they part after the first");
    let store = store_of(&ours);
    let headers: Vec<_> = longer[1..].iter().map(head).collect();
    assert_eq!(store.append_headers(&headers), (3, SyncVerdict::Accept));
    assert!(store.is_better(&store.read_header(&headers[2]).expect("a header")));
    for item in &longer[1..] {
        assert_eq!(store.append(&block(item)), SyncVerdict::Accept);
    }
    assert_eq!(ours.tip(), theirs.tip());
    assert_eq!(coins(&ours), 4_000_000);
    assert_eq!(store.block(&place(&ours_made[1]).id), None);
    // Back again, if it were not final.
    (101..=103).for_each(|voter| accepted(&ours, &vote(voter, &longer[2])));
    let refused = store.append(&block(&ours_made[1]));
    assert!(matches!(refused, SyncVerdict::Ignore(_)), "{refused:?}");
    let refused = store.append_headers(&[head(&ours_made[1])]);
    assert!(
        matches!(refused, (0, SyncVerdict::Ignore(_))),
        "{refused:?}"
    );
}

#[test]
fn a_block_that_turns_out_wrong_undoes_nothing() {
    let (ours, _) = chain(3);
    let (theirs, _) = chain(1);
    // What its transfer does is not in its state root.
    let wrong = block_of(&theirs, &[transfer(4, 1, 9, 3, 0).data().clone()]);
    let before = ours.tip();
    let refused = store_of(&ours).append(&block(&wrong));
    assert!(matches!(refused, SyncVerdict::Reject(_)), "{refused:?}");
    assert_eq!(ours.tip(), before);
    assert_eq!(coins(&ours), 4_000_000);
    grow(&ours);
}

#[test]
fn a_branch_that_leaves_the_chain_too_far_below_is_told_so() {
    let (ours, made) = chain(1);
    for _ in 0..HISTORY {
        grow(&ours);
    }
    let theirs = ledger();
    accepted(&theirs, &made[0]);
    accepted(&theirs, &transfer(4, 1, 9, 3, 0));
    let near = grow(&theirs);
    let store = store_of(&ours);
    let headers = [head(&near)];
    assert_eq!(store.append_headers(&headers), (1, SyncVerdict::Accept));
    grow(&ours);
    let told = |verdict: SyncVerdict| match verdict {
        SyncVerdict::Ignore(reason) => assert!(reason.contains("257 blocks below"), "{reason}"),
        other => panic!("{other:?}"),
    };
    let (0, refused) = store.append_headers(&headers) else {
        panic!("it is too far below");
    };
    told(refused);
    told(store.append(&block(&near)));
    assert_eq!(ours.tip().height, HISTORY + 2);
}

#[test]
fn a_certificate_makes_a_header_final_for_who_has_nothing_else() {
    let (maker, blocks) = chain(3);
    let trusting = ledger().trust_verifier().expect("it verifies");
    let here = maker.trust_verifier().expect("it verifies");
    let last = head(&blocks[2]);
    assert!(matches!(
        here.is_final(&last, &Bytes::new()),
        SyncVerdict::Retry(_)
    ));
    (101..=103).for_each(|voter| accepted(&maker, &vote(voter, &blocks[2])));
    let proof = maker.certificate(3).expect("read").expect("final").encode();
    let proof = Bytes::from(proof);
    assert_eq!(trusting.is_final(&last, &proof), SyncVerdict::Accept);
    assert_eq!(here.is_final(&last, &Bytes::new()), SyncVerdict::Accept);
    assert_eq!(
        here.is_final(&head(&blocks[0]), &Bytes::new()),
        SyncVerdict::Accept
    );
    let other = trusting.is_final(&head(&blocks[1]), &proof);
    assert!(matches!(other, SyncVerdict::Reject(_)), "{other:?}");
    let cut = trusting.is_final(&last, &proof.slice(..proof.len() - 1));
    assert!(matches!(cut, SyncVerdict::Reject(_)), "{cut:?}");
    let root = trusting.state_root(&last).expect("it has one");
    assert_eq!(root[..], header(&blocks[2]).state_root);
    assert_eq!(trusting.state_root(&Bytes::new()), None);
}

#[test]
fn nobody_is_told_to_clear_what_keeps_nothing() {
    let told = |store: &dyn Store| match super::sync::final_elsewhere(store) {
        Judgement::Useless(reason) => reason,
        other => panic!("{other:?}"),
    };
    let memory = MemoryStore::new(1 << 20, &SCHEMA).expect("there is room");
    assert!(told(&memory).contains("start this node anew"));
    assert!(told(&Kept(memory)).contains("selkie ledger reset"));
}

/// A store that outlasts the process, for all that anybody knows.
struct Kept(MemoryStore);

impl Store for Kept {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.0.get(table, key)
    }

    fn range(&self, table: Table, range: KeyRange<'_>) -> Result<Page, StoreError> {
        self.0.range(table, range)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.0.commit(batch)
    }
}
