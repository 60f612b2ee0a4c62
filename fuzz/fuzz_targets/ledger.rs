//! Bytes from a peer, or from a snapshot, as each of the ledger's records, and as a proof against a root: what decodes has one encoding, an
//! item gets a verdict with a reason, and a restoration of lies leaves the ledger as it was.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use selkie::chain::ledger::{
    Address, Account, Certificate, Genesis, Header, HeaderVote, Ledger, Proof, SCHEMA, Transfer, verify,
};
use selkie::chain::{ProvenState, StateBatch, StateRoot, SyncVerdict};
use selkie::storage::MemoryStore;
use selkie::{Application, Item, ItemKind, Verdict};

static LEDGER: LazyLock<Ledger> = LazyLock::new(|| {
    let genesis = Genesis {
        network: "fuzz".to_owned(),
        accounts: vec![(Address::new([1; 32]), 1000)],
        proposers: vec![Address::new([2; 32])],
        voters: vec![Address::new([3; 32])],
        minimum_fee: 1,
    };
    let store = MemoryStore::new(1 << 24, &SCHEMA).expect("made");
    Ledger::open(genesis, Arc::new(store)).expect("opened")
});

fuzz_target!(|data: &[u8]| {
    if let Ok(transfer) = Transfer::decode(data) {
        assert_eq!(transfer.encode(), data);
    }
    if let Ok(header) = Header::decode(data) {
        assert_eq!(header.encode(), data);
        if let Ok(mut restore) = LEDGER.restore(header) {
            let _ = restore.add(data);
        }
    }
    if let Ok(vote) = HeaderVote::decode(data) {
        assert_eq!(vote.encode(), data);
    }
    if let Ok(certificate) = Certificate::decode(data) {
        assert_eq!(certificate.encode(), data);
    }
    if let Ok(proof) = Proof::decode(data) {
        assert_eq!(proof.encode(), data);
    }
    if let Ok(account) = Account::decode(data) {
        assert_eq!(account.encode().map(|bytes| bytes.to_vec()).as_deref(), Some(data));
    }
    let tip = LEDGER.tip();
    assert!(verify(&tip.state_root, &Address::new([1; 32]), b"", data).is_err());
    let at = StateRoot { height: 0, root: tip.state_root.to_vec().into() };
    let batch = StateBatch { at, keys: vec![vec![1; 32].into(), vec![9; 32].into()] };
    let answer = ProvenState { values: vec![Default::default(); 2], proof: data.to_vec().into() };
    assert_ne!(LEDGER.verify_state(&batch, &answer), SyncVerdict::Accept);
    for kind in ItemKind::ALL {
        let item = Item::new(kind, data.to_vec());
        let checked = item.check(&*LEDGER);
        assert_eq!(checked.verdict == Verdict::Accept, checked.reason.is_empty());
    }
    assert_eq!(LEDGER.tip(), tip);
});
