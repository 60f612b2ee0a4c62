//! A peer's bytes as a Bitcoin block and as a transaction: a verdict, always with a reason for a refusal.
//!
//! Random headers have no proof of work, which is checked first. So the bytes also follow the
//! header of a real block, where they reach the decoder.

#![no_main]

use libfuzzer_sys::fuzz_target;
use selkie::chain::bitcoin::Bitcoin;
use selkie::{Item, ItemKind, Verdict};

const BLOCK: &[u8] = include_bytes!("../../testdata/block-413567.raw");

fuzz_target!(|data: &[u8]| {
    let (header, _) = BLOCK.split_at(80);
    let items = [
        Item::new(ItemKind::Transaction, data.to_vec()),
        Item::new(ItemKind::Block, data.to_vec()),
        Item::new(ItemKind::Block, [header, data].concat()),
    ];
    for item in items {
        let checked = item.check(&Bitcoin);
        assert_eq!(
            checked.verdict == Verdict::Accept,
            checked.reason.is_empty()
        );
    }
});
