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
mod tests;
