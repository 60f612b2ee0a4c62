//! Files of blocks that other software wrote, read back as items that the network can carry.
//!
//! A replay turns each block into what its network saw: first the transactions, then the block.
//! Four formats are told apart by their content, never by the file's name:
//!
//! * a raw Bitcoin block: its header has proof of work, which nothing else has by chance;
//! * Bitcoin Core's `blk*.dat`: mainnet's magic, a length, a block, repeated, in the order in which
//!   Core received them. Real ones have gaps of zeros, as Core allocates ahead, and torn blocks, where it was stopped
//!   while writing: all whole blocks are yielded, and [`BlockFile::skipped`] counts what belonged to none;
//! * Ethereum's `era1`: e2store records, of which the headers and bodies are taken and
//!   joined to blocks (<https://github.com/eth-clients/e2store-format-specs>);
//! * Ethereum blocks in RLP, one or several in a row, as `geth export` writes them.
//!
//! The coinbase of a Bitcoin block is not yielded by itself: it is valid in its block only,
//! and no node passes it on. Ethereum's transactions come in the form of EIP-2718 in which nodes exchange
//! them. Apart from the places of the transactions nothing is looked at: whether a block is
//! valid is for the [`Application`](super::Application) to say.
//!
//! A reader holds one block at a time, of at most 4,000,000 bytes for Bitcoin and 10 MiB for
//! Ethereum (decompressed), however large the file is; items share the block's memory. Lengths
//! in the file are checked against these limits before they are believed, and memory grows with
//! what was read, not with what was announced.

mod bitcoin;
mod era1;
mod input;
mod rlp;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;

use self::input::Input;
use super::Item;
use super::bitcoin::{has_proof_of_work, propagated_transactions};
use crate::chain::{Block, Transaction};

/// Largest Ethereum block in bytes of RLP: `MAX_BLOCK_SIZE` in EIP-7934.
const MAX_ETHEREUM_BLOCK: usize = 10 * 1024 * 1024;

/// Bytes that are enough to tell the formats apart: a Bitcoin header.
const PREFIX: usize = 80;

/// How a file's blocks are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// One Bitcoin block in wire serialisation.
    BitcoinBlock,
    /// Bitcoin Core's `blk*.dat`.
    BitcoinBlockFile,
    /// Ethereum's `era1`.
    Era1,
    /// Ethereum blocks in RLP.
    EthereumRlp,
}

impl Format {
    fn of(prefix: &[u8]) -> Option<Self> {
        if prefix.starts_with(&bitcoin::MAGIC) {
            Some(Self::BitcoinBlockFile)
        } else if prefix.starts_with(&era1::VERSION) {
            Some(Self::Era1)
        } else if has_proof_of_work(prefix) {
            Some(Self::BitcoinBlock)
        } else if rlp::begins_block(prefix) {
            Some(Self::EthereumRlp)
        } else {
            None
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BitcoinBlock => "a raw Bitcoin block",
            Self::BitcoinBlockFile => "a Bitcoin Core block file",
            Self::Era1 => "an Ethereum era1 file",
            Self::EthereumRlp => "Ethereum blocks in RLP",
        })
    }
}

/// Why a file cannot be read as blocks. Each ends the reading of that file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockFileError {
    /// The file cannot be opened.
    #[error("cannot open {file}: {source}; check the path and that you may read it")]
    Open {
        /// The path as given.
        file: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// Reading failed half-way.
    #[error("cannot read {file} at byte {offset}: {source}; check the disk, then try again")]
    Read {
        /// The file's name.
        file: String,
        /// How many bytes could be read.
        offset: u64,
        /// What the operating system says.
        source: io::Error,
    },
    /// None of the formats.
    #[error(
        "{file} holds no blocks that can be read: expected at byte 0 a Bitcoin mainnet block or \
         blk*.dat file, an Ethereum era1 file or an Ethereum block in RLP (Bitcoin Core scrambles its \
         files since version 28: start it with -blocksxor=0 and a new data directory, or undo xor.dat)"
    )]
    Unrecognised {
        /// The file's name.
        file: String,
    },
    /// The file breaks its own format.
    #[error(
        "{file} at byte {offset}: expected {expected}; the file is damaged or cut short, copy it again \
         from its source"
    )]
    Malformed {
        /// The file's name.
        file: String,
        /// Where, from the beginning of the file. In an era1 file: where the record begins.
        offset: u64,
        /// What should have been there.
        expected: String,
    },
}

/// An iterator over the items of a file: of each block the transactions, then the block.
///
/// It ends after the first error.
///
/// ```no_run
/// use selkie::chain::block_file::BlockFile;
///
/// for item in BlockFile::open("testdata/block-413567.raw")? {
///     let item = item?;
///     println!("{} of {} bytes", item.kind(), item.data().len());
/// }
/// # Ok::<(), selkie::chain::block_file::BlockFileError>(())
/// ```
#[derive(Debug)]
pub struct BlockFile {
    input: Input,
    format: Format,
    /// What is left of the block that was read last.
    items: std::vec::IntoIter<Item>,
    /// Whether there was any block; a file without one is an error.
    any: bool,
    ended: bool,
}

impl BlockFile {
    /// Opens a file and tells its format by its first bytes.
    ///
    /// # Errors
    /// If the file cannot be opened or read (in a browser there are none), or its format is unknown.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, BlockFileError> {
        let name = path.as_ref().display().to_string();
        match File::open(path) {
            Ok(file) => Self::new(name, io::BufReader::new(file)),
            Err(source) => Err(BlockFileError::Open { file: name, source }),
        }
    }

    /// Reads what is not a file on disk; `name` stands for the path in errors.
    /// Reads are small: wrap what is slow in a [`BufReader`](io::BufReader).
    ///
    /// # Errors
    /// If reading fails, or the format is unknown.
    pub fn new(
        name: impl Into<String>,
        reader: impl Read + Send + 'static,
    ) -> Result<Self, BlockFileError> {
        let mut input = Input::new(name.into(), Box::new(reader));
        let Some(format) = Format::of(input.ahead(PREFIX)?) else {
            return Err(input.unrecognised());
        };
        Ok(Self {
            input,
            format,
            items: Vec::new().into_iter(),
            any: false,
            ended: false,
        })
    }

    /// The format that was found.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many bytes of the file have been read: for a progress bar.
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// How many bytes have been left out so far because they belong to no whole block, zeros aside; only in
    /// Bitcoin Core's files, as in the others they are an error.
    pub fn skipped(&self) -> u64 {
        self.input.skipped()
    }

    /// Reads the next block and where it begins; `None` at the end.
    fn next_block(&mut self) -> Result<Option<(u64, Bytes)>, BlockFileError> {
        let input = &mut self.input;
        let block = match self.format {
            Format::BitcoinBlock => bitcoin::raw_block(input)?,
            Format::BitcoinBlockFile => bitcoin::framed_block(input)?,
            Format::Era1 => era1::block(input)?,
            Format::EthereumRlp => rlp::block(input)?,
        };
        if block.is_none() && !self.any {
            return Err(input.malformed(input.offset(), "at least one whole block"));
        }
        self.any = true;
        Ok(block)
    }

    /// The items of a block that begins at `offset` of the file.
    fn split(&self, offset: u64, block: Bytes) -> Result<Vec<Item>, BlockFileError> {
        let places = match self.format {
            Format::BitcoinBlock | Format::BitcoinBlockFile => {
                propagated_transactions(&block).map_err(|error| (error.offset, error.expected))
            }
            Format::Era1 | Format::EthereumRlp => rlp::transactions(&block)
                .ok_or((0, "a block [header, [transactions], [uncles], ...] in RLP")),
        };
        let places = places.map_err(|(within, expected)| {
            let within = u64::try_from(within).unwrap_or(u64::MAX);
            self.input
                .malformed(offset.saturating_add(within), expected)
        })?;
        let transactions = places.into_iter().map(|place| block.slice(place));
        let mut items: Vec<_> = transactions
            .map(|data| Item::Transaction(Transaction::new(data)))
            .collect();
        items.push(Item::Block(Block::new(block)));
        Ok(items)
    }
}

impl Iterator for BlockFile {
    type Item = Result<Item, BlockFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(item) = self.items.next() {
            return Some(Ok(item));
        }
        if self.ended {
            return None;
        }
        let items = self.next_block().and_then(|block| {
            block
                .map(|(offset, block)| self.split(offset, block))
                .transpose()
        });
        match items {
            Ok(Some(items)) => {
                self.items = items.into_iter();
                self.items.next().map(Ok)
            }
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for BlockFile {}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use proptest::prelude::*;

    use super::bitcoin::MAGIC;
    use super::*;
    use crate::chain::bitcoin::{Bitcoin, MAX_BLOCK_SIZE};
    use crate::chain::{ItemKind, Verdict};
    use crate::platform::test;

    const BLOCK_413567: &[u8] = include_bytes!("../../testdata/block-413567.raw");
    const CHAIN_0_TO_438: &[u8] = include_bytes!("../../testdata/chain-0-438.dat");
    const BLOCK_17034870: &[u8] = include_bytes!("../../testdata/block-17034870.rlp");

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

    #[test]
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
}
