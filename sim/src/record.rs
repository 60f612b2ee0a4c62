//! What has happened, as one hash: two runs of one seed have the same, bit by bit.

use std::{cell::RefCell, collections::VecDeque, time::Duration};

use selkie_sim_host::clock;
use sha2::{Digest, Sha256};

use crate::executor::Node;

/// Events that are shown where something panics.
const LAST: usize = 20;

#[derive(Default)]
struct Record {
    hash: Sha256,
    last: VecDeque<Last>,
}

/// When, where and what.
type Last = (Duration, Node, String);

thread_local! {
    static RECORD: RefCell<Record> = RefCell::default();
}

/// These bytes have come from one node to another.
pub(crate) fn piece(from: Node, to: Node, bytes: &[u8]) {
    RECORD.with_borrow_mut(|record| record.note(b'p', from, &to.to_le_bytes(), bytes));
}

/// Something happened at a node, or to it, in words.
pub(crate) fn event(node: Node, words: &str) {
    RECORD.with_borrow_mut(|record| {
        record.note(b'e', node, &[], words.as_bytes());
        if record.last.len() == LAST {
            record.last.pop_front();
        }
        record
            .last
            .push_back((clock::now(), node, words.to_owned()));
    });
}

/// All of it so far.
pub(crate) fn so_far() -> String {
    RECORD.with_borrow(|record| hex::encode(record.hash.clone().finalize()))
}

/// The last events.
pub(crate) fn last() -> Vec<Last> {
    RECORD.with(|record| {
        let record = record.try_borrow().ok();
        record.map_or_else(Vec::new, |record| record.last.iter().cloned().collect())
    })
}

impl Record {
    fn note(&mut self, kind: u8, node: Node, more: &[u8], bytes: &[u8]) {
        let nanoseconds = |moment: Duration| moment.as_nanos().to_le_bytes();
        self.hash.update([kind]);
        self.hash.update(nanoseconds(clock::now()));
        self.hash.update(node.to_le_bytes());
        self.hash.update(more);
        self.hash.update(bytes.len().to_le_bytes());
        self.hash.update(bytes);
    }
}
