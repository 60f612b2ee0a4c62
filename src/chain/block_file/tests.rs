//! Block files of each format: whole, torn, and garbage.

use std::io::{Cursor, Write};

use proptest::prelude::*;

use super::bitcoin::MAGIC;
use super::*;
use crate::chain::bitcoin::{Bitcoin, MAX_BLOCK_SIZE};
use crate::chain::{ItemKind, Verdict};
use crate::platform::test;

const BLOCK_413567: &[u8] = include_bytes!("../../../testdata/block-413567.raw");
const CHAIN_0_TO_438: &[u8] = include_bytes!("../../../testdata/chain-0-438.dat");
const BLOCK_17034870: &[u8] = include_bytes!("../../../testdata/block-17034870.rlp");

fn read(data: &[u8]) -> Result<Vec<Item>, BlockFileError> {
    BlockFile::new("test", Cursor::new(data.to_vec()))?.collect()
}

/// Where and for want of what reading failed.
fn malformed(outcome: Result<Vec<Item>, BlockFileError>) -> (u64, String) {
    match outcome {
        Err(BlockFileError::Malformed {
            file,
            offset,
            expected,
        }) if file == "test" => (offset, expected),
        other => panic!("expected a malformed file, not {other:?}"),
    }
}

fn count(items: &[Item], kind: ItemKind) -> usize {
    items.iter().filter(|item| item.kind() == kind).count()
}

fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap();
    [
        &kind.to_le_bytes()[..],
        &length.to_le_bytes(),
        &[0, 0],
        data,
    ]
    .concat()
}

fn snappy(data: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(data).unwrap();
    encoder.into_inner().unwrap()
}

/// The Ethereum block as two records, a header's and a body's.
fn era1_records() -> [Vec<u8>; 2] {
    let parts = &BLOCK_17034870[rlp::only_list(BLOCK_17034870).unwrap()];
    // The header is a list whose length has two bytes.
    let size = 3 + usize::from(u16::from_be_bytes([parts[1], parts[2]]));
    let (header, body) = parts.split_at(size);
    [
        record(3, &snappy(header)),
        record(4, &snappy(&rlp::list_of([body, &[]]))),
    ]
}

#[test]
fn a_raw_block_yields_its_transactions_then_itself() {
    let file = BlockFile::new("test", BLOCK_413567).unwrap();
    assert_eq!(file.format(), Format::BitcoinBlock);
    let items: Vec<_> = file.collect::<Result<_, _>>().unwrap();
    assert_eq!(items.len(), 1557, "all but the coinbase, and the block");
    let (block, transactions) = items.split_last().unwrap();
    assert_eq!(block.data(), BLOCK_413567);
    assert_eq!(count(transactions, ItemKind::Transaction), 1556);
    for item in &items {
        assert_eq!(item.check(&Bitcoin).verdict, Verdict::Accept);
    }
    let id = block.check(&Bitcoin).id.to_string();
    assert_eq!(
        id,
        "0000000000000000025aff8be8a55df8f89c77296db6198f272d6577325d4069"
    );
}

#[test]
fn a_block_file_yields_a_linked_chain() {
    let file = BlockFile::new("test", CHAIN_0_TO_438).unwrap();
    assert_eq!(file.format(), Format::BitcoinBlockFile);
    let items: Vec<_> = file.collect::<Result<_, _>>().unwrap();
    assert_eq!(count(&items, ItemKind::Block), 439);
    assert_eq!(count(&items, ItemKind::Transaction), 7);
    let mut previous = vec![0; 32];
    for item in items.iter().filter(|item| item.kind() == ItemKind::Block) {
        assert_eq!(&item.data()[4..36], previous);
        let checked = item.check(&Bitcoin);
        assert_eq!(checked.verdict, Verdict::Accept, "{}", checked.reason);
        previous = checked.id.as_bytes().iter().rev().copied().collect();
    }
    previous.reverse();
    let last = hex::encode(previous);
    assert_eq!(
        last,
        "0000000025c6b644f8add734be7e666fa4afa43ca0204d623a0c0b1fd2104c7a"
    );
}

/// The items of a file, and what was left out.
fn read_all(data: &[u8]) -> (Vec<Item>, u64) {
    let mut file = BlockFile::new("test", Cursor::new(data.to_vec())).expect("a format");
    let items = file
        .by_ref()
        .collect::<Result<_, _>>()
        .expect("whole blocks");
    (items, file.skipped())
}

/// Where the second frame of the chain begins.
fn second_frame() -> usize {
    let length: [u8; 4] = CHAIN_0_TO_438[4..8].try_into().unwrap();
    8 + usize::try_from(u32::from_le_bytes(length)).unwrap()
}

#[test]
fn gaps_of_zeros_are_passed_over() {
    let whole = read_all(CHAIN_0_TO_438);
    let (first, rest) = CHAIN_0_TO_438.split_at(second_frame());
    for gap in [1, 8, 100_000] {
        let zeros = vec![0; gap];
        assert_eq!(read_all(&[first, &zeros, rest, &zeros].concat()), whole);
    }
    assert_eq!(whole.1, 0);
}

#[test]
fn torn_frames_are_left_out_and_counted() {
    let (whole, _) = read_all(CHAIN_0_TO_438);
    let (first, rest) = CHAIN_0_TO_438.split_at(second_frame());
    let torn_block = &rest[..100];
    let absurd = [&MAGIC[..], &u32::MAX.to_le_bytes()].concat();
    let empty = [&MAGIC[..], &4u32.to_le_bytes(), &[0; 4]].concat();
    for torn in [
        torn_block,
        &MAGIC[..],
        &MAGIC[..3],
        b"nonsense",
        &absurd,
        &empty,
    ] {
        let told = torn.iter().filter(|byte| **byte != 0).count() as u64;
        for file in [
            [first, torn, rest].concat(),
            [CHAIN_0_TO_438, torn].concat(),
        ] {
            let (items, skipped) = read_all(&file);
            assert!(items == whole, "{torn:?}");
            assert_eq!(skipped, told, "{torn:?}");
        }
    }
}

#[test]
fn a_block_file_without_a_whole_block_is_an_error() {
    let cut = [&MAGIC[..], &100u32.to_le_bytes(), &[0; 60]].concat();
    let none = "at least one whole block".to_owned();
    assert_eq!(malformed(read(&cut)), (68, none));
}

#[test]
fn damaged_blocks_are_named_by_place() {
    let mut trailing = BLOCK_413567.to_vec();
    trailing.push(0);
    assert_eq!(
        malformed(read(&trailing)),
        (999_887, "the end of the block".to_owned())
    );
    trailing.resize(MAX_BLOCK_SIZE + 1, 0);
    assert_eq!(malformed(read(&trailing)).0, 4_000_000);
}

#[test]
fn cut_files_yield_what_is_whole_then_an_error() {
    for length in (300..CHAIN_0_TO_438.len()).step_by(97) {
        let (items, _) = read_all(&CHAIN_0_TO_438[..length]);
        assert!(!items.is_empty() && items.len() < 446);
    }
    for length in (80..BLOCK_413567.len()).step_by(4_999) {
        malformed(read(&BLOCK_413567[..length]));
    }
    for length in (10..BLOCK_17034870.len()).step_by(499) {
        malformed(read(&BLOCK_17034870[..length]));
    }
}

#[test]
fn ethereum_blocks_are_cut_by_their_rlp() {
    let two = [BLOCK_17034870, BLOCK_17034870].concat();
    let file = BlockFile::new("test", Cursor::new(two)).unwrap();
    assert_eq!(file.format(), Format::EthereumRlp);
    let items: Vec<_> = file.collect::<Result<_, _>>().unwrap();
    assert_eq!(items.len(), 2 * 185);
    assert_eq!(items.last().unwrap().data(), BLOCK_17034870);
    // 148 transactions have type 2, the others are legacy ones: lists.
    let typed = items[..184]
        .iter()
        .filter(|item| item.data()[0] == 2)
        .count();
    let legacy = items[..184]
        .iter()
        .filter(|item| item.data()[0] >= 0xc0)
        .count();
    assert_eq!((typed, legacy), (148, 36));
}

#[test]
fn era1_records_become_the_same_block() {
    let [header, body] = era1_records();
    let ignored = record(6, &[0; 32]);
    let era1 = [&era1::VERSION[..], &header, &ignored, &body, &ignored].concat();
    let file = BlockFile::new("test", Cursor::new(era1)).unwrap();
    assert_eq!(file.format(), Format::Era1);
    let items: Vec<_> = file.collect::<Result<_, _>>().unwrap();
    assert_eq!(items, read(BLOCK_17034870).unwrap());
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn era1_records_out_of_order_or_too_large_are_refused() {
    let [header, body] = era1_records();
    let file = |records: &[&[u8]]| [&era1::VERSION[..], &records.concat()].concat();
    let second = 8 + u64::try_from(header.len()).unwrap();
    let lonely = "the body that belongs to a header".to_owned();
    assert_eq!(malformed(read(&file(&[&header]))), (second, lonely.clone()));
    assert_eq!(
        malformed(read(&file(&[&header, &header]))),
        (second, lonely)
    );
    let headless = "the header that belongs to a body".to_owned();
    assert_eq!(malformed(read(&file(&[&body]))), (8, headless));
    assert_eq!(
        malformed(read(&file(&[]))),
        (8, "at least one whole block".to_owned())
    );

    let bomb = record(3, &snappy(&vec![0; MAX_ETHEREUM_BLOCK + 1]));
    assert!(bomb.len() < MAX_ETHEREUM_BLOCK / 10);
    let bound = "a header of at most 10485760 bytes".to_owned();
    assert_eq!(malformed(read(&file(&[&bomb]))), (8, bound.clone()));
    let announced = [3, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
    assert_eq!(malformed(read(&file(&[&announced]))), (8, bound));

    let era1 = file(&[&header, &body]);
    for length in (9..era1.len()).step_by(499) {
        malformed(read(&era1[..length]));
    }
}

#[test]
fn other_files_are_not_recognised() {
    for data in [
        &b""[..],
        b"\0",
        b"MZ",
        &[0; 80],
        b"# Not a block, but a page about blocks.",
    ] {
        assert!(matches!(
            read(data),
            Err(BlockFileError::Unrecognised { .. })
        ));
    }
}

#[test]
fn failures_of_the_disk_say_where() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("no more"))
        }
    }
    let file = BlockFile::new("test", CHAIN_0_TO_438[..1000].chain(Broken)).unwrap();
    let error = file.last().unwrap().unwrap_err();
    assert!(
        error.to_string().starts_with("cannot read test at byte"),
        "{error}"
    );
    let missing = BlockFile::open("no such file").unwrap_err();
    assert!(
        missing.to_string().starts_with("cannot open no such file"),
        "{missing}"
    );
}

// A browser has no files.
#[core::prelude::v1::test]
fn every_file_of_testdata_is_read_whole() {
    let files = [
        ("block-227835.raw", 121, 1),
        ("block-227836.raw", 99, 1),
        ("block-277647.raw", 212, 1),
        ("block-370661.raw", 707, 1),
        ("block-413567.raw", 1556, 1),
        ("chain-0-438.dat", 7, 439),
        ("block-17034870.rlp", 184, 1),
    ];
    for (name, transactions, blocks) in files {
        let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
        let file = BlockFile::open(path).unwrap();
        let format = file.format();
        let items: Vec<_> = file.collect::<Result<_, _>>().unwrap();
        assert_eq!(count(&items, ItemKind::Transaction), transactions, "{name}");
        assert_eq!(count(&items, ItemKind::Block), blocks, "{name}");
        if format == Format::BitcoinBlock {
            for item in &items {
                let checked = item.check(&Bitcoin);
                assert_eq!(
                    checked.verdict,
                    Verdict::Accept,
                    "{name}: {}",
                    checked.reason
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_end_in_order(
        prefix in prop::sample::select(vec![
            MAGIC.to_vec(),
            [&MAGIC[..], &200u32.to_le_bytes()].concat(),
            era1::VERSION.to_vec(),
            [&era1::VERSION[..], &[3, 0, 64, 0, 0, 0, 0, 0]].concat(),
            vec![0xf9, 0x01, 0x00, 0xf9],
            BLOCK_413567[..80].to_vec(),
            Vec::new(),
        ]),
        data in prop::collection::vec(any::<u8>(), 0..512),
    ) {
        let data = [prefix, data].concat();
        if let Ok(file) = BlockFile::new("test", Cursor::new(data)) {
            prop_assert!(file.take(1000).count() < 1000);
        }
    }
}
