//! Bytes as a block file: items, then an end or one error; never more bytes out than came in,
//! except from an era1 file, which is compressed.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use selkie::ItemKind;
use selkie::chain::block_file::{BlockFile, Format};

fuzz_target!(|data: &[u8]| {
    let Ok(mut file) = BlockFile::new("fuzz", Cursor::new(data.to_vec())) else {
        return;
    };
    let mut blocks = 0;
    for item in file.by_ref().flatten() {
        if item.kind() == ItemKind::Block {
            blocks += item.data().len();
        }
    }
    assert!(file.next().is_none());
    assert!(file.format() == Format::Era1 || blocks <= data.len());
});
