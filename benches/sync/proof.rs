//! A proof of one account among many in a ledger in memory: its bytes, and how long decoding and checking it takes.

use std::{sync::Arc, time::Instant};

use selkie::{
    Application, StateRequest,
    chain::ledger::{self, Address, CHUNK_ACCOUNT, Genesis, Header, Ledger, RestoreError, SCHEMA},
    storage::MemoryStore,
};
use sha2::{Digest, Sha256};

use crate::support::{Figure, full_or, quantile};

const ACCOUNTS: u32 = 1_000_000;
/// Of so many accounts one is proved.
const STEP: usize = 100;
/// Bytes, and microseconds.
const MOST_BYTES: f64 = 800.0;
const MOST_TIME: f64 = 15.0;

pub fn measure() -> Vec<Figure> {
    let accounts = full_or(ACCOUNTS, 2000);
    eprintln!("a ledger of {accounts} accounts");
    let key = |number: u32| -> [u8; 32] { Sha256::digest(number.to_be_bytes()).into() };
    let mut keys: Vec<_> = (0..accounts).map(key).collect();
    // As they stand in the state.
    keys.sort_by_cached_key(|key| Sha256::digest(key));
    // Which root they have the first attempt tells.
    let wrong = restored(&keys, [0; 32]).expect_err("it has another root");
    let root = hex::decode(wrong).expect("a root");
    let root = root.try_into().expect("32 bytes");
    let ledger = restored(&keys, root).expect("it is right");
    let (mut sizes, mut times) = (Vec::new(), Vec::new());
    for key in keys.iter().step_by(STEP) {
        let request = StateRequest {
            key: key.to_vec().into(),
            height: None,
        };
        let answer = ledger.query(&request).expect("it is there");
        let begin = Instant::now();
        let account = ledger::verify(&root, &Address::new(*key), &answer.value, &answer.proof);
        times.push(begin.elapsed().as_secs_f64() * 1e6);
        assert_eq!(account.expect("proven").balance, 1);
        sizes.push(answer.proof.len() as f64);
    }
    let figure = |what: &str, unit, value: f64, target| Figure {
        name: format!("a proof among 1,000,000 accounts, {what}"),
        value: value.into(),
        unit,
        baseline: None,
        baseline_name: "",
        target,
    };
    vec![
        figure("median", "bytes", quantile(&mut sizes, 0.5), None),
        figure("p99", "bytes", quantile(&mut sizes, 0.99), None),
        figure(
            "longest",
            "bytes",
            quantile(&mut sizes, 1.0),
            Some(0.0..=MOST_BYTES),
        ),
        figure(
            "verified, median",
            "us",
            quantile(&mut times, 0.5),
            Some(0.0..=MOST_TIME),
        ),
        figure("verified, p99", "us", quantile(&mut times, 0.99), None),
    ]
}

/// A ledger with the state of these accounts, under a header that nobody has signed; or the root that they have.
fn restored(keys: &[[u8; 32]], state_root: [u8; 32]) -> Result<Ledger, String> {
    let store = MemoryStore::new(8 << 30, &SCHEMA).expect("a store");
    let ledger = Ledger::open(Genesis::development("bench"), Arc::new(store)).expect("a ledger");
    let mut header = vec![0; Header::LENGTH];
    // Version and height, the parent behind them, and the state's root.
    header[0] = 1;
    header[8] = 1;
    header[41..73].copy_from_slice(&state_root);
    let header = Header::decode(&header).expect("a header");
    let mut restore = ledger.restore(header).expect("it is above the genesis");
    for some in keys.chunks(50_000) {
        let mut chunk = Vec::with_capacity(some.len() * CHUNK_ACCOUNT);
        for key in some {
            chunk.extend_from_slice(key);
            chunk.extend(1_u64.to_be_bytes());
            chunk.extend(0_u64.to_be_bytes());
        }
        restore.add(&chunk).expect("in order");
    }
    match restore.finish() {
        Ok(_) => Ok(ledger),
        Err(RestoreError::Root { found, .. }) => Err(found),
        Err(error) => panic!("{error}"),
    }
}
