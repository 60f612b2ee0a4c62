use super::{
    super::{
        Ledger,
        address::Address,
        tests::{accepted, chain, genesis, grow, header, key, transfer, vote},
    },
    *,
};
use crate::{
    chain::Verdict,
    platform::test,
    storage::{MemoryStore, Store},
};

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(1 << 24, &LIGHT_SCHEMA).expect("made"))
}

fn light() -> LightLedger {
    LightLedger::open(genesis(), store()).expect("opened")
}

fn headers(of: &Ledger, from: u64) -> Vec<Bytes> {
    ChainStore::headers(of, from, usize::MAX, usize::MAX)
}

fn follow(light: &LightLedger, of: &Ledger) {
    let new = headers(of, light.tip().height + 1);
    assert_eq!(light.append_headers(&new), (new.len(), SyncVerdict::Accept));
}

/// Three of four vote for a block, and all of these hear it.
fn finalize(block: &Item, ledgers: &[&dyn Application]) {
    for voter in 101..=103 {
        let vote = vote(voter, block);
        for ledger in ledgers {
            let checked = vote.check(*ledger);
            assert_eq!(checked.verdict, Verdict::Accept, "{}", checked.reason);
            ledger.deliver(&vote);
        }
    }
}

fn account(number: u8) -> StateRequest {
    let address = Address::of(&key(number));
    StateRequest {
        key: Bytes::copy_from_slice(address.as_bytes()),
        height: None,
    }
}

#[test]
fn headers_are_taken_kept_and_found_again() {
    let (maker, _) = chain(150);
    let store = store();
    let light = LightLedger::open(genesis(), Arc::clone(&store) as Arc<dyn Store>);
    let light = light.expect("opened");
    let all = headers(&maker, 1);
    for some in [&all[..1], &all[1..64], &all[64..65], &all[65..]] {
        assert_eq!(
            light.append_headers(some),
            (some.len(), SyncVerdict::Accept)
        );
    }
    let again = LightLedger::open(genesis(), store).expect("opened");
    for light in [&light, &again] {
        assert_eq!(light.tip(), ChainStore::tip(&maker));
        for height in [0, 1, 63, 64, 65, 128, 150, 151] {
            assert_eq!(light.id_at(height), ChainStore::id_at(&maker, height));
        }
        assert_eq!(light.base(), 151, "nothing is served");
    }
    let late = light.append_headers(&all[149..]);
    assert!(matches!(late, (0, SyncVerdict::Ignore(_))), "{late:?}");
    let other = Genesis {
        network: "other".to_owned(),
        ..genesis()
    };
    let refused = LightLedger::open(other, Arc::clone(&again.0.store));
    assert!(matches!(refused, Err(LedgerError::OtherGenesis { .. })));
}

#[test]
fn a_header_of_nobody_is_named_and_nothing_of_what_came_with_it_is_kept() {
    let (maker, _) = chain(5);
    let light = light();
    let mut forged = headers(&maker, 1);
    for at in [4, 2] {
        let mut bytes = forged[at].to_vec();
        bytes[Header::LENGTH - 1] ^= 1;
        forged[at] = bytes.into();
        let answer = light.append_headers(&forged[..=at]);
        assert!(
            matches!(&answer, (place, SyncVerdict::Reject(_)) if *place == at),
            "{answer:?}"
        );
    }
    assert_eq!(light.tip().height, 0);
    let orphan = light.append_headers(&headers(&maker, 2));
    assert!(matches!(orphan, (0, SyncVerdict::Retry(_))), "{orphan:?}");
    follow(&light, &maker);
}

#[test]
fn a_longer_branch_takes_over_and_none_that_leaves_what_is_final() {
    let (one, other) = (super::super::tests::ledger(), super::super::tests::ledger());
    accepted(&other, &transfer(1, 2, 5, 1, 0));
    for _ in 0..70 {
        grow(&one);
    }
    let blocks: Vec<_> = (0..75).map(|_| grow(&other)).collect();
    let light = light();
    follow(&light, &one);
    let shorter = light.append_headers(&headers(&other, 1)[..70]);
    assert!(
        matches!(shorter, (0, SyncVerdict::Ignore(_))),
        "{shorter:?}"
    );
    let longer = headers(&other, 1);
    assert_eq!(light.append_headers(&longer), (75, SyncVerdict::Accept));
    assert_eq!(light.tip(), ChainStore::tip(&other));
    finalize(&blocks[69], &[&light, &other]);
    assert_eq!(light.final_height(), 70);
    for _ in 0..10 {
        grow(&one);
    }
    let (_, refused) = light.append_headers(&headers(&one, 1));
    assert!(matches!(refused, SyncVerdict::Ignore(_)), "{refused:?}");
    assert_eq!(light.tip(), ChainStore::tip(&other));
}

#[test]
fn what_turns_out_not_to_be_final_is_taken_off() {
    let (one, other) = (super::super::tests::ledger(), super::super::tests::ledger());
    accepted(&other, &transfer(1, 2, 5, 1, 0));
    let blocks: Vec<_> = (0..66).map(|_| (grow(&one), grow(&other)).1).collect();
    let light = light();
    follow(&light, &one);
    finalize(&blocks[64], &[&other]);
    let request = light.provable(account(1));
    let answer = other.query(&request).expect("it is final");
    assert_eq!(answer.height, 65);
    assert_eq!(
        light.check_state(&request, &answer),
        Some(SyncVerdict::Accept)
    );
    assert_eq!(light.tip().height, 64, "the 65th was another");
    assert_eq!(
        light.append_headers(&headers(&other, 1)),
        (66, SyncVerdict::Accept)
    );
    assert_eq!(light.final_height(), 65);
}

#[test]
fn only_answers_that_are_proven_hold() {
    let (maker, mut blocks) = chain(3);
    let light = light();
    accepted(&maker, &transfer(4, 9, 300, 7, 0));
    blocks.push(grow(&maker));
    let request = light.provable(account(4));
    assert_eq!(maker.query(&request), None, "nothing is final yet");
    follow(&light, &maker);
    let early = StateRequest {
        height: Some(3),
        ..account(4)
    };
    let answer = maker.query(&early).expect("it is here");
    let verdict = light.check_state(&early, &answer);
    assert!(
        matches!(verdict, Some(SyncVerdict::Retry(_))),
        "{verdict:?}"
    );

    finalize(&blocks[3], &[&maker, &light]);
    assert_eq!(
        light.check_state(&early, &answer),
        Some(SyncVerdict::Accept)
    );
    let latest = maker.query(&request).expect("it is final");
    assert_eq!(latest.height, 4);
    assert_eq!(
        light.check_state(&request, &latest),
        Some(SyncVerdict::Accept)
    );
    assert_ne!(answer.value, latest.value);
    // Who has no header at all trusts it as well.
    let new = LightLedger::open(genesis(), store()).expect("opened");
    assert_eq!(
        new.check_state(&request, &latest),
        Some(SyncVerdict::Accept)
    );

    let forgeries = [
        StateResponse {
            value: answer.value.clone(),
            ..latest.clone()
        },
        StateResponse {
            height: 3,
            ..latest.clone()
        },
        StateResponse {
            proof: Bytes::new(),
            ..latest.clone()
        },
        StateResponse {
            proof: answer.proof.clone(),
            ..latest.clone()
        },
    ];
    for forged in &forgeries {
        let verdict = light.check_state(&request, forged);
        assert!(
            matches!(verdict, Some(SyncVerdict::Reject(_))),
            "{verdict:?}"
        );
    }
    let other_height = StateResponse {
        height: 2,
        ..answer.clone()
    };
    let verdict = light.check_state(&early, &other_height);
    assert!(
        matches!(verdict, Some(SyncVerdict::Reject(_))),
        "{verdict:?}"
    );
    // Any byte of it may be wrong.
    for at in 0..latest.proof.len() {
        let mut proof = latest.proof.to_vec();
        proof[at] ^= 1;
        let forged = StateResponse {
            proof: proof.into(),
            ..latest.clone()
        };
        let verdict = light.check_state(&request, &forged);
        assert!(matches!(verdict, Some(SyncVerdict::Reject(_))), "byte {at}");
    }
}

#[test]
fn who_has_another_block_at_a_height_is_no_liar() {
    let (ours, blocks) = chain(2);
    let (theirs, _) = chain(1);
    accepted(&theirs, &transfer(3, 2, 1, 1, theirs.tip().height));
    grow(&theirs);
    let light = light();
    follow(&light, &ours);
    finalize(&blocks[1], &[&ours, &light]);
    let question = StateRequest {
        height: Some(2),
        ..account(3)
    };
    let answer = theirs.query(&question).expect("it has a block there");
    let judges: [&dyn Application; 2] = [&ours, &light];
    for judge in judges {
        let verdict = judge.check_state(&judge.provable(question.clone()), &answer);
        assert!(
            matches!(verdict, Some(SyncVerdict::Ignore(_))),
            "{verdict:?}"
        );
    }
}

#[test]
fn an_answer_that_is_far_behind_is_none() {
    let (maker, blocks) = chain(40);
    let light = light();
    follow(&light, &maker);
    let request = light.provable(account(1));
    finalize(&blocks[4], &[&maker, &light]);
    let old = maker.query(&request).expect("it is final");
    finalize(&blocks[39], &[&maker, &light]);
    let verdict = light.check_state(&request, &old);
    assert!(
        matches!(verdict, Some(SyncVerdict::Ignore(_))),
        "{verdict:?}"
    );
}

#[test]
fn transfers_are_passed_on_by_their_signatures_and_blocks_are_not() {
    let light = light();
    let paid = transfer(1, 2, 5, 1, 0).check(&light);
    assert_eq!((paid.verdict, paid.fee), (Verdict::Accept, Some(1)));
    let mut forged = transfer(1, 2, 5, 1, 0).data().to_vec();
    forged[150] ^= 1;
    let forged = Item::new(crate::chain::ItemKind::Transaction, forged);
    assert_eq!(forged.check(&light).verdict, Verdict::Reject);
    let (_, blocks) = chain(1);
    assert_eq!(blocks[0].check(&light).verdict, Verdict::Ignore);
    assert_eq!(header(&blocks[0]).height, 1);
}
