use proptest::prelude::*;

use super::tally::WINDOW;
use super::*;
use crate::chain::{ItemKind, Verdict};
use crate::platform::test;
use crate::storage::MemoryStore;

/// The key of this number.
pub(super) fn key(number: u8) -> Keypair {
    let secret = libp2p::identity::ed25519::SecretKey::try_from_bytes([number; 32]);
    secret.expect("32 bytes are a secret").into()
}

fn address(number: u8) -> Address {
    Address::of(&key(number))
}

/// Who makes blocks in these tests.
pub(super) const PROPOSER: u8 = 100;

/// Accounts 1 to 4 have coins; 100 proposes; 101 to 104 vote.
pub(super) fn genesis() -> Genesis {
    Genesis {
        network: "test".to_owned(),
        accounts: (1..=4).map(|number| (address(number), 1_000_000)).collect(),
        proposers: vec![address(PROPOSER)],
        voters: (101..=104).map(address).collect(),
        minimum_fee: 1,
    }
}

pub(super) fn ledger() -> Ledger {
    Ledger::open(genesis(), store()).expect("opened")
}

pub(super) fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(1 << 28, &SCHEMA).expect("made"))
}

pub(super) fn transfer(from: u8, to: u8, amount: u64, fee: u64, nonce: u64) -> Item {
    let transfer = Transfer::new(
        &genesis().hash(),
        &key(from),
        address(to),
        amount,
        fee,
        nonce,
    );
    Item::new(ItemKind::Transaction, transfer.encode())
}

/// As the intake does: checks, and delivers what is accepted.
fn offer(ledger: &Ledger, item: &Item) -> Checked {
    let checked = item.check(ledger);
    assert_eq!(
        checked.verdict == Verdict::Accept,
        checked.reason.is_empty()
    );
    if checked.verdict == Verdict::Accept {
        ledger.deliver(item);
    }
    checked
}

pub(super) fn accepted(ledger: &Ledger, item: &Item) {
    let checked = offer(ledger, item);
    assert_eq!(checked.verdict, Verdict::Accept, "{}", checked.reason);
}

/// A block on top of the ledger, which is not in it yet.
fn propose(ledger: &Ledger) -> Item {
    let time = 1000 * (ledger.tip().height + 1);
    Item::Block(ledger.propose(&key(PROPOSER), time).expect("proposed"))
}

/// The same, put into it.
pub(super) fn grow(ledger: &Ledger) -> Item {
    let block = propose(ledger);
    accepted(ledger, &block);
    block
}

pub(super) fn vote(voter: u8, block: &Item) -> Item {
    let header = header(block);
    let vote = HeaderVote::new(&genesis().hash(), &key(voter), header.height, header.id());
    Item::new(ItemKind::Vote, vote.encode())
}

pub(super) fn header(block: &Item) -> Header {
    Header::decode(&block.data()[..Header::LENGTH]).expect("a header")
}

fn balance(ledger: &Ledger, number: u8) -> u64 {
    ledger.account(&address(number)).expect("read").balance
}

pub(super) fn coins(ledger: &Ledger) -> u64 {
    let leaves = ledger
        .0
        .stored
        .tree()
        .leaves(ledger.head().root, None, usize::MAX);
    let accounts = leaves.expect("read").into_iter();
    let accounts = accounts.map(|leaf| Account::decode(&leaf.value).expect("an account"));
    accounts.map(|account| account.balance).sum()
}

#[test]
fn coins_move_and_the_proposer_has_the_fees() {
    let ledger = ledger();
    accepted(&ledger, &transfer(1, 9, 300, 7, 0));
    accepted(&ledger, &transfer(1, 2, 50, 2, 1));
    let block = grow(&ledger);
    assert_eq!(header(&block).count, 2);
    assert_eq!(balance(&ledger, 1), 1_000_000 - 300 - 7 - 50 - 2);
    assert_eq!((balance(&ledger, 2), balance(&ledger, 9)), (1_000_050, 300));
    assert_eq!(balance(&ledger, PROPOSER), 9);
    assert_eq!(ledger.account(&address(1)).expect("read").nonce, 2);
    assert_eq!(coins(&ledger), 4_000_000);
    assert_eq!(
        header(&grow(&ledger)).count,
        0,
        "what was executed waits no more"
    );
}

#[test]
fn a_transfer_is_executed_once_and_in_its_network_only() {
    let ledger = ledger();
    let paid = transfer(1, 2, 5, 1, 0);
    accepted(&ledger, &paid);
    grow(&ledger);
    let replayed = offer(&ledger, &paid);
    assert_eq!(replayed.verdict, Verdict::Ignore, "{}", replayed.reason);
    // In a block of a proposer who does not care.
    let block = block_of(&ledger, &[paid.data().clone()]);
    let refused = offer(&ledger, &block);
    assert_eq!(refused.verdict, Verdict::Reject);
    assert!(
        refused.reason.contains("sent 1 already"),
        "{}",
        refused.reason
    );
    let elsewhere = Genesis {
        network: "other".to_owned(),
        ..genesis()
    };
    let foreign = Transfer::new(&elsewhere.hash(), &key(1), address(2), 5, 1, 1);
    let foreign = Item::new(ItemKind::Transaction, foreign.encode());
    assert_eq!(offer(&ledger, &foreign).verdict, Verdict::Reject);
}

/// A block of the proposer's with these transfers, whatever they are worth; its state root is the parent's.
pub(super) fn block_of(ledger: &Ledger, transfers: &[Bytes]) -> Item {
    let tip = ledger.tip();
    let header = Header {
        height: tip.height + 1,
        parent: tip.id,
        state_root: tip.state_root,
        transfers_root: header::transfers_root(transfers),
        count: u32::try_from(transfers.len()).expect("few"),
        time: 1000 * (tip.height + 1),
        proposer: address(PROPOSER),
        signature: [0; 64],
    };
    let header = header.sign(&genesis().hash(), &key(PROPOSER));
    Item::new(
        ItemKind::Block,
        [header.encode(), transfers.concat()].concat(),
    )
}

#[test]
fn what_is_wrong_with_a_transfer_is_said_and_only_lies_are_paid_for() {
    let ledger = ledger();
    let verdict = |item: &Item| {
        let checked = item.check(&ledger);
        assert!(!checked.reason.is_empty());
        checked.verdict
    };
    assert_eq!(
        verdict(&transfer(1, 2, 1_000_000, 1, 0)),
        Verdict::Ignore,
        "too much"
    );
    assert_eq!(
        verdict(&transfer(1, 2, u64::MAX, u64::MAX, 0)),
        Verdict::Ignore,
        "too much by far"
    );
    assert_eq!(
        verdict(&transfer(8, 2, 1, 1, 0)),
        Verdict::Ignore,
        "no account"
    );
    assert_eq!(verdict(&transfer(1, 2, 1, 0, 0)), Verdict::Ignore, "no fee");
    assert_eq!(
        verdict(&transfer(1, 2, 1, 1, NONCE_WINDOW)),
        Verdict::Ignore,
        "too early"
    );
    let good = transfer(1, 2, 1, 1, 0);
    for at in [0, 1, 33, 65, 72, 88, 89, 152] {
        let mut forged = good.data().to_vec();
        forged[at] ^= 1;
        let checked = Item::new(ItemKind::Transaction, forged).check(&ledger);
        assert_ne!(checked.verdict, Verdict::Accept, "byte {at}");
    }
    let mut forged = good.data().to_vec();
    forged[152] ^= 1;
    assert_eq!(
        verdict(&Item::new(ItemKind::Transaction, forged)),
        Verdict::Reject
    );
    for length in [0, 1, 152, 154] {
        let cut = good.data().iter().copied().chain([0]).take(length);
        let cut = Item::new(ItemKind::Transaction, cut.collect::<Vec<_>>());
        assert_eq!(verdict(&cut), Verdict::Reject, "{length} bytes");
    }
}

#[test]
fn a_block_that_lies_anywhere_is_rejected() {
    let ledger = ledger();
    accepted(&ledger, &transfer(1, 2, 5, 1, 0));
    let block = propose(&ledger);
    for at in 0..block.data().len() {
        let mut forged = block.data().to_vec();
        forged[at] ^= 1;
        let checked = Item::new(ItemKind::Block, forged).check(&ledger);
        assert_eq!(checked.verdict, Verdict::Reject, "byte {at}");
    }
    for length in [0, 212, 213, block.data().len() - 1] {
        let cut = Item::new(ItemKind::Block, block.data().slice(..length));
        assert_eq!(
            cut.check(&ledger).verdict,
            Verdict::Reject,
            "{length} bytes"
        );
    }
    // Signed, and all the same a lie about the state.
    let lie = block_of(&ledger, &[transfer(1, 2, 5, 1, 0).data().clone()]);
    let refused = offer(&ledger, &lie);
    assert_eq!(refused.verdict, Verdict::Reject);
    assert!(refused.reason.contains("root"), "{}", refused.reason);
    let stranger = Ledger::open(genesis(), store()).expect("opened");
    assert!(matches!(
        stranger.propose(&key(1), 1),
        Err(LedgerError::NoProposer(_))
    ));
    accepted(&ledger, &block);
}

#[test]
fn blocks_split_and_join_byte_for_byte() {
    let ledger = ledger();
    for count in 0..20_u64 {
        for nonce in 0..count {
            accepted(
                &ledger,
                &transfer(1, 2, 1, 1, count * (count - 1) / 2 + nonce),
            );
        }
        let Item::Block(block) = grow(&ledger) else {
            unreachable!()
        };
        let parts = ledger.split_block(&block).expect("well-formed");
        assert_eq!(parts.transactions.len() as u64, count);
        assert_eq!(
            ledger
                .join_block(&parts.header, &parts.transactions)
                .as_ref(),
            Some(&block)
        );
        let mut others = parts.transactions.clone();
        others.reverse();
        assert_eq!(
            ledger.join_block(&parts.header, &others).is_some(),
            count < 2
        );
        others.pop();
        assert_eq!(
            ledger.join_block(&parts.header, &others).is_some(),
            count == 0
        );
    }
}

#[test]
fn the_fee_and_the_identities_are_the_ledgers_own() {
    let ledger = ledger();
    let paid = transfer(1, 2, 5, 17, 0);
    assert_eq!(paid.check(&ledger).fee, Some(17));
    assert_eq!(paid.check(&ledger).id, ItemId::sha256(paid.data()));
    accepted(&ledger, &paid);
    let block = propose(&ledger);
    let id = ItemId::new(&header(&block).id()).expect("short");
    assert_eq!(block.check(&ledger).id, id);
    let alone = block.data().slice(..Header::LENGTH);
    let checked = ledger.check_header(&alone);
    assert_eq!((checked.verdict, checked.id), (Verdict::Accept, id));
    assert_eq!(ledger.check_header(&Bytes::new()).verdict, Verdict::Reject);
}

/// A chain of some blocks with transfers in them, from the proposer's own node.
pub(super) fn chain(blocks: u64) -> (Ledger, Vec<Item>) {
    let ledger = ledger();
    let mut made = Vec::new();
    for height in 0..blocks {
        for from in 1..=3 {
            accepted(&ledger, &transfer(from, from + 1, height + 1, 1, height));
        }
        made.push(grow(&ledger));
    }
    (ledger, made)
}

#[test]
fn votes_of_more_than_two_thirds_make_a_block_final() {
    let (ledger, blocks) = chain(3);
    let block = &blocks[2];
    accepted(&ledger, &vote(101, block));
    assert_eq!(
        offer(&ledger, &vote(101, block)).verdict,
        Verdict::Ignore,
        "it is known"
    );
    assert_eq!(
        offer(&ledger, &vote(1, block)).verdict,
        Verdict::Reject,
        "no voter"
    );
    let forged = vote(102, block)
        .data()
        .iter()
        .map(|byte| byte ^ 1)
        .collect::<Vec<_>>();
    assert_eq!(
        offer(&ledger, &Item::new(ItemKind::Vote, forged)).verdict,
        Verdict::Reject
    );
    accepted(&ledger, &vote(102, block));
    assert_eq!(ledger.tip().final_height, 0);
    accepted(&ledger, &vote(104, block));
    assert_eq!(ledger.tip().final_height, 3);
    assert_eq!(
        offer(&ledger, &vote(103, block)).verdict,
        Verdict::Ignore,
        "it is decided"
    );

    let certificate = ledger.certificate(3).expect("read").expect("it is final");
    let bytes = certificate.encode();
    assert_eq!(Certificate::decode(&bytes), Ok(certificate.clone()));
    let header = header(block);
    assert_eq!(certificate.verify(&genesis(), &header), Ok(()));
    assert!(
        certificate
            .verify(&genesis(), &self::header(&blocks[1]))
            .is_err()
    );
    for at in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[at] ^= 1;
        let forged = Certificate::decode(&forged);
        let passes = forged.is_ok_and(|forged| forged.verify(&genesis(), &header).is_ok());
        assert!(!passes, "byte {at}");
    }
    let mut twice = certificate.clone();
    twice.votes[1] = twice.votes[0];
    assert_eq!(
        twice.verify(&genesis(), &header),
        Err(CertificateError::Vote(1))
    );
    let mut few = certificate;
    few.votes.pop();
    assert_eq!(
        few.verify(&genesis(), &header),
        Err(CertificateError::TooFew {
            votes: 2,
            voters: 4
        })
    );
}

#[test]
fn a_key_votes_once_at_a_height_even_after_a_restart() {
    let store = store();
    let ledger = Ledger::open(genesis(), store.clone()).expect("opened");
    assert_eq!(
        ledger.vote(&key(101)).expect("read"),
        None,
        "nothing to vote for"
    );
    let block = grow(&ledger);
    let cast = ledger.vote(&key(101)).expect("written").expect("a vote");
    assert_eq!(Item::Vote(cast.clone()), vote(101, &block));
    accepted(&ledger, &Item::Vote(cast.clone()));
    assert_eq!(ledger.vote(&key(101)).expect("read"), None);
    assert_eq!(ledger.vote(&key(1)).expect("read"), None, "no voter");
    drop(ledger);
    let again = Ledger::open(genesis(), store).expect("opened");
    // Nobody may have heard it.
    assert_eq!(again.vote(&key(101)).expect("read"), Some(cast));
    assert!(again.vote(&key(102)).expect("read").is_some());
}

#[test]
fn a_vote_is_given_again_as_long_as_it_is_for_the_same_block() {
    let ledger = ledger();
    let stored = &ledger.0.stored;
    let votes = |height, id| stored.votes(&address(101), height, &[id; 32]);
    for (height, id, may) in [
        (5, 1, true),
        (5, 1, true),
        (5, 2, false),
        (4, 1, false),
        (6, 2, true),
        (5, 1, false),
    ] {
        assert_eq!(votes(height, id), Ok(may), "{id} at {height}");
    }
    // An older record does not say for which it was.
    let mut batch = crate::storage::Batch::default();
    let voter = address(101).as_bytes().to_vec();
    let table = crate::storage::Table::new("voted");
    batch.put(table, voter, 7_u64.to_be_bytes().to_vec());
    stored.store.commit(&batch).expect("written");
    assert_eq!((votes(7, 1), votes(8, 1)), (Ok(false), Ok(true)));
}

#[test]
fn what_the_votes_decide_takes_the_place_of_what_came_first() {
    let (ledger, _) = chain(2);
    let (other, _) = chain(2);
    accepted(&other, &transfer(4, 1, 99, 1, 0));
    let decided = propose(&other);
    let first = grow(&ledger);
    grow(&ledger);
    assert_ne!(first, decided);
    for voter in 101..=103 {
        accepted(&ledger, &vote(voter, &decided));
    }
    assert_eq!(ledger.tip().height, 2, "back before the fork");
    assert_eq!(
        offer(&ledger, &first).verdict,
        Verdict::Ignore,
        "it is decided against"
    );
    accepted(&ledger, &decided);
    assert_eq!((ledger.tip().height, ledger.tip().final_height), (3, 3));
    assert_eq!(ledger.tip().state_root, header(&decided).state_root);
    assert_eq!(ledger.height_of(&header(&first).id()).expect("read"), None);
    assert_eq!(coins(&ledger), 4_000_000);
}

#[test]
fn an_account_is_proven_to_whoever_has_the_header() {
    let (ledger, blocks) = chain(5);
    for (height, block) in (1..).zip(&blocks) {
        for number in [1, 2, 4, PROPOSER, 77] {
            let address = address(number);
            let request = StateRequest {
                key: Bytes::copy_from_slice(address.as_bytes()),
                height: Some(height),
            };
            let answer = ledger.query(&request).expect("it is kept");
            assert_eq!(answer.height, height);
            let root = header(block).state_root;
            let account = verify(&root, &address, &answer.value, &answer.proof).expect("proven");
            assert_eq!(account.encode().is_none(), number == 77);
            let other = ledger.tip().state_root;
            let elsewhere = verify(&other, &address, &answer.value, &answer.proof);
            assert_eq!(elsewhere.is_ok(), root == other);
            assert!(verify(&root, &address, b"0123456789abcdef", &answer.proof).is_err());
            let long = [&answer.proof[..], &[0]].concat();
            assert!(verify(&root, &address, &answer.value, &long).is_err());
        }
    }
    let newest = StateRequest {
        key: Bytes::copy_from_slice(address(1).as_bytes()),
        height: None,
    };
    assert_eq!(ledger.query(&newest).expect("it is there").height, 5);
    let ahead = StateRequest {
        height: Some(6),
        ..newest.clone()
    };
    assert_eq!(ledger.query(&ahead), None);
    let short = StateRequest {
        key: Bytes::from_static(b"short"),
        ..newest
    };
    assert_eq!(ledger.query(&short), None);
}

#[test]
fn a_state_is_proven_to_who_names_it_and_no_other_is() {
    let (ledger, blocks) = chain(5);
    let at = |height: u64, root: Hash| StateRoot {
        height,
        root: Bytes::copy_from_slice(&root),
    };
    let keys = [1, 77, PROPOSER].map(|number| Bytes::copy_from_slice(address(number).as_bytes()));
    let genesis = ledger.trusted_state().expect("the genesis is");
    assert_eq!(genesis.height, 0, "nobody has voted");
    for voter in 101..=103 {
        accepted(&ledger, &vote(voter, &blocks[3]));
    }
    let root = header(&blocks[3]).state_root;
    assert_eq!(ledger.trusted_state(), Some(at(4, root)));
    let batch = StateBatch {
        at: at(4, root),
        keys: keys.to_vec(),
    };
    let answer = ledger.prove_state(&batch).expect("it is kept");
    assert_eq!(ledger.verify_state(&batch, &answer), SyncVerdict::Accept);
    assert_eq!(answer.values.len(), 3);
    assert!(answer.values[1].is_empty(), "nobody has paid 77");
    // A state that is here at another height, and one that is not here.
    for state in [at(5, root), at(4, [7; 32]), at(6, root)] {
        let keys = keys.to_vec();
        assert_eq!(ledger.prove_state(&StateBatch { at: state, keys }), None);
    }
    for key in [&b"short"[..], &[b"final", &keys[0][..]].concat()] {
        let key = Bytes::copy_from_slice(key);
        assert!(!ledger.is_provable(&key));
        let (at, keys) = (at(4, root), vec![keys[0].clone(), key]);
        assert_eq!(ledger.prove_state(&StateBatch { at, keys }), None);
    }
    assert!(keys.iter().all(|key| ledger.is_provable(key)));
    let rejected = |change: &dyn Fn(&mut ProvenState)| {
        let mut answer = answer.clone();
        change(&mut answer);
        let verdict = ledger.verify_state(&batch, &answer);
        assert!(matches!(verdict, SyncVerdict::Reject(_)), "{verdict:?}");
    };
    rejected(&|answer| answer.values.swap(0, 2));
    rejected(&|answer| answer.values[1] = answer.values[0].clone());
    rejected(&|answer| answer.values[0] = Bytes::new());
    rejected(&|answer| answer.proof = Bytes::new());
    rejected(&|answer| answer.proof = [&answer.proof[..], &[0]].concat().into());
    for length in [1, 2, 100, answer.proof.len() - 1] {
        rejected(&|answer| answer.proof.truncate(length));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_no_proof_of_a_batch(
        proof in proptest::collection::vec(any::<u8>(), 0..512),
        root in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let at = StateRoot { height: 1, root: root.into() };
        let keys = vec![Bytes::copy_from_slice(address(1).as_bytes())];
        let answer = ProvenState { values: vec![Bytes::new()], proof: proof.into() };
        let verdict = proven::verify_batch(&StateBatch { at, keys }, &answer);
        prop_assert!(verdict.is_err());
    }
}

#[test]
fn a_ledger_is_found_again_where_it_was_and_no_others_is() {
    let store = store();
    let (made, blocks) = chain(4);
    {
        let ledger = Ledger::open(genesis(), store.clone()).expect("opened");
        blocks.iter().for_each(|block| accepted(&ledger, block));
    }
    let again = Ledger::open(genesis(), store.clone()).expect("opened");
    assert_eq!(again.tip(), made.tip());
    assert_eq!(
        again.block(2).expect("read").map(Item::Block).as_ref(),
        Some(&blocks[1])
    );
    let other = Genesis {
        minimum_fee: 2,
        ..genesis()
    };
    let refused = Ledger::open(other, store).expect_err("another network's");
    assert!(
        matches!(refused, LedgerError::OtherGenesis { .. }),
        "{refused}"
    );
    let nobody = Genesis {
        proposers: Vec::new(),
        ..genesis()
    };
    assert!(matches!(
        Ledger::open(nobody, self::store()),
        Err(LedgerError::Genesis(_))
    ));
    let twice = Genesis {
        accounts: vec![(address(1), 1); 2],
        ..genesis()
    };
    assert!(Ledger::open(twice, self::store()).is_err());
    let many = Genesis {
        accounts: vec![(address(1), u64::MAX), (address(2), 1)],
        ..genesis()
    };
    assert!(Ledger::open(many, self::store()).is_err());
}

#[test]
fn a_full_store_is_told_and_the_chain_stays_what_it_was() {
    let (_, blocks) = chain(60);
    let small = Arc::new(MemoryStore::new(64 * 1024, &SCHEMA).expect("made"));
    let ledger = Ledger::open(genesis(), small).expect("opened");
    for block in &blocks {
        offer(&ledger, block);
    }
    let tip = ledger.tip();
    assert!(tip.height > 1 && tip.height < 60, "{tip:?}");
    assert!(matches!(ledger.trouble(), Some(StoreError::Full { .. })));
    assert_eq!(tip.id, header(&blocks[tip.height as usize - 1]).id());
    assert_eq!(coins(&ledger), 4_000_000);
    // Whoever has handed one in hears that it is not here.
    let kept = ledger.flush().now_or_never().expect("at once");
    assert!(matches!(kept, Err(StoreError::Full { .. })), "{kept:?}");
}

#[test]
fn blocks_far_ahead_do_not_wait_without_end() {
    let (_, blocks) = chain(WINDOW + 3);
    let ledger = ledger();
    assert_eq!(
        offer(&ledger, &blocks[WINDOW as usize + 1]).verdict,
        Verdict::Ignore
    );
    accepted(&ledger, &blocks[WINDOW as usize]);
    assert_eq!(ledger.tip().height, 0);
    assert_eq!(
        offer(&ledger, &vote(101, &blocks[WINDOW as usize])).verdict,
        Verdict::Ignore
    );
}

#[test]
fn a_full_pool_keeps_what_pays_more() {
    let (mut pool, to) = (pool::Pool::default(), address(1));
    let with = |number: u64, fee| Transfer {
        from: Address::new([7; 32]),
        to,
        amount: 1,
        fee,
        nonce: number,
        signature: [0; 64],
    };
    for number in 0..2 * pool::MAX_POOL as u64 {
        pool.insert(with(number, number));
        pool.insert(with(number, 0));
    }
    assert_eq!(pool.len(), pool::MAX_POOL);
    pool.sent(Address::new([7; 32]), u64::MAX);
    assert_eq!(pool.len(), 0);
}

/// All chunks of a state, of so many accounts each.
fn chunks(ledger: &Ledger, height: u64, most: usize) -> Vec<Vec<u8>> {
    let (mut chunks, mut after) = (Vec::new(), None);
    loop {
        let chunk = ledger
            .state_chunk(height, after.as_ref(), most)
            .expect("read")
            .expect("kept");
        let Some(last) = chunk.rchunks(CHUNK_ACCOUNT).next() else {
            return chunks;
        };
        after = Some(Address::new(last[..32].try_into().expect("an address")));
        chunks.push(chunk);
    }
}

#[test]
fn a_snapshot_makes_the_same_ledger_which_goes_on() {
    let (maker, blocks) = chain(6);
    let store = store();
    let ledger = Ledger::open(genesis(), store.clone()).expect("opened");
    accepted(&ledger, &blocks[0]);
    let mut restore = ledger.restore(header(&blocks[3])).expect("it is ahead");
    assert!(matches!(
        ledger.restore(header(&blocks[4])),
        Err(RestoreError::Busy)
    ));
    assert_eq!(
        offer(&ledger, &blocks[1]).verdict,
        Verdict::Ignore,
        "not meanwhile"
    );
    for chunk in chunks(&maker, 4, 2) {
        restore.add(&chunk).expect("the next");
    }
    assert_eq!(ledger.tip().height, 1, "not before it is whole");
    let tip = restore.finish().expect("it is the state");
    assert_eq!(
        (tip.height, tip.final_height, tip.state_root),
        (4, 4, header(&blocks[3]).state_root)
    );
    assert_eq!(chunks(&ledger, 4, 100), chunks(&maker, 4, 100));
    assert_eq!(
        ledger.state_chunk(1, None, 1),
        Ok(None),
        "what was before is gone"
    );
    accepted(&ledger, &blocks[4]);
    accepted(&ledger, &blocks[5]);
    assert_eq!(ledger.tip().id, maker.tip().id);
    let again = Ledger::open(genesis(), store).expect("opened");
    assert_eq!(again.tip(), ledger.tip());
    assert_eq!(coins(&again), 4_000_000);
    let old = again.restore(header(&blocks[5])).expect_err("it is there");
    assert_eq!(
        old,
        RestoreError::Old {
            here: 6,
            offered: 6
        }
    );
}

#[test]
fn a_snapshot_that_lies_or_breaks_off_leaves_the_ledger_as_it_was() {
    let (maker, blocks) = chain(4);
    let whole = chunks(&maker, 4, usize::MAX).concat();
    let store = store();
    let ledger = Ledger::open(genesis(), store.clone()).expect("opened");
    accepted(&ledger, &blocks[0]);
    let before = (ledger.tip(), chunks(&ledger, 1, 10));
    let mut richer = whole.clone();
    richer[39] ^= 1;
    let rows: Vec<_> = whole.chunks(CHUNK_ACCOUNT).collect();
    let mut swapped = rows.clone();
    swapped.swap(0, 1);
    let nothing = [rows[0], &[&rows[1][..32], &[0; 16]].concat()].concat();
    for lie in [
        richer,
        rows[1..].concat(),
        swapped.concat(),
        [&whole[..], rows[rows.len() - 1]].concat(),
        whole[..whole.len() - 1].to_vec(),
        nothing,
        Vec::new(),
        vec![7; MAX_CHUNK + 1],
    ] {
        let mut restore = ledger.restore(header(&blocks[3])).expect("it is ahead");
        let outcome = restore.add(&lie).and_then(|()| restore.finish().map(drop));
        assert!(outcome.is_err());
        assert_eq!((ledger.tip(), chunks(&ledger, 1, 10)), before);
    }
    // The process dies in the middle.
    let mut restore = ledger.restore(header(&blocks[3])).expect("it is ahead");
    restore.add(rows[0]).expect("the first");
    Box::leak(Box::new(restore));
    let again = Ledger::open(genesis(), store.clone()).expect("opened");
    assert_eq!((again.tip(), chunks(&again, 1, 10)), before);
    blocks[1..].iter().for_each(|block| accepted(&again, block));
    assert_eq!(again.tip(), maker.tip());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However blocks, transfers and votes come, and come again: all nodes end with one root, and no coin is lost or made.
    #[test]
    fn any_order_of_delivery_ends_in_the_same_root(
        transfers in prop::collection::vec((1_u8..6, 1_u8..8, 0_u64..400_000, 1_u64..50), 0..60),
        order in any::<u64>(),
    ) {
        let maker = ledger();
        let (mut nonces, mut items) = ([0_u64; 8], Vec::new());
        for (at, (from, to, amount, fee)) in transfers.into_iter().enumerate() {
            let nonce = &mut nonces[usize::from(from)];
            let item = transfer(from, to, amount, fee, *nonce);
            if offer(&maker, &item).verdict == Verdict::Accept {
                *nonce += 1;
                items.push(item);
            }
            if at % 7 == 6 {
                items.push(grow(&maker));
                for number in 1..6 {
                    nonces[usize::from(number)] = maker.account(&address(number)).expect("read").nonce;
                }
            }
        }
        items.push(grow(&maker));
        for voter in 101..=103 {
            items.push(vote(voter, items.iter().rev().find(|item| matches!(item, Item::Block(_))).expect("one")));
        }
        prop_assert_eq!(coins(&maker), 4_000_000);
        let follower = ledger();
        // A seeded shuffle; what is ignored as too early or too far ahead comes again, as the network sees to it.
        let mut random = order | 1;
        let mut shuffled = items.clone();
        for at in (1..shuffled.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(at, (random >> 33) as usize % (at + 1));
        }
        for item in shuffled.iter().chain(&items) {
            let checked = offer(&follower, item);
            prop_assert!(checked.verdict != Verdict::Reject, "{}", checked.reason);
            prop_assert_eq!(coins(&follower), 4_000_000);
        }
        accepted_votes(&maker, &items);
        prop_assert_eq!(follower.tip(), maker.tip());
        prop_assert!(follower.tip().final_height > 0);
    }

    #[test]
    fn any_bytes_get_a_verdict_with_a_reason(
        bytes in prop::collection::vec(any::<u8>(), 0..500),
        kind in 0..3_usize,
    ) {
        let item = Item::new(ItemKind::ALL[kind], bytes.clone());
        let checked = item.check(&ledger());
        prop_assert_eq!(checked.verdict, Verdict::Reject);
        prop_assert!(!checked.reason.is_empty());
        ledger().deliver(&item);
        if let Ok(certificate) = Certificate::decode(&bytes) {
            prop_assert_eq!(certificate.encode(), bytes);
        }
    }
}

fn accepted_votes(ledger: &Ledger, items: &[Item]) {
    let votes = items.iter().filter(|item| matches!(item, Item::Vote(_)));
    votes.for_each(|vote| accepted(ledger, vote));
}

/// Prints how fast blocks of a few transfers, and one of many, are checked and appended: run it with --release, --ignored and --nocapture.
#[test]
#[ignore = "a figure"]
fn how_fast_blocks_are_appended() {
    let (_, few) = chain(1000);
    let maker = ledger();
    let mut senders = Vec::new();
    for sender in 0..250_u8 {
        let mut seed = [sender; 32];
        seed[31] = 200;
        let secret = libp2p::identity::ed25519::SecretKey::try_from_bytes(seed);
        senders.push(Keypair::from(secret.expect("32 bytes")));
    }
    for (at, sender) in senders.iter().enumerate() {
        let (from, nonce) = (1 + at as u8 % 4, at as u64 / 4);
        let paid = Transfer::new(
            &genesis().hash(),
            &key(from),
            Address::of(sender),
            10_000,
            1,
            nonce,
        );
        accepted(&maker, &Item::new(ItemKind::Transaction, paid.encode()));
    }
    let first = grow(&maker);
    let mut transfers = Vec::new();
    for nonce in 0..40 {
        for (at, sender) in senders.iter().enumerate() {
            let to = Address::new([at as u8; 32]);
            let paid = Transfer::new(&genesis().hash(), sender, to, 1, 1, nonce);
            transfers.push(Item::new(ItemKind::Transaction, paid.encode()));
        }
    }
    let begun = crate::platform::now();
    transfers.iter().for_each(|paid| accepted(&maker, paid));
    println!(
        "{} transfers checked: {:?} each",
        transfers.len(),
        begun.elapsed() / 10_000
    );
    let begun = crate::platform::now();
    let many = propose(&maker);
    println!(
        "a block of {} made: {:?}",
        header(&many).count,
        begun.elapsed()
    );
    accepted(&maker, &many);
    let follower = ledger();
    accepted(&follower, &first);
    let begun = crate::platform::now();
    accepted(&follower, &many);
    println!(
        "taken by who knows none of its transfers: {:?}",
        begun.elapsed()
    );
    let follower = ledger();
    let begun = crate::platform::now();
    few.iter().for_each(|block| accepted(&follower, block));
    println!(
        "1,000 blocks of 3 transfers: {:?} each",
        begun.elapsed() / 1000
    );
}
