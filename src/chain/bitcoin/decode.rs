//! Bitcoin's wire format, as far as the rules in the parent module need it.
//!
//! One cursor walks the bytes once and hands out slices of them: nothing is copied, and nothing
//! is allocated by a count that the bytes merely claim, because every element takes bytes that
//! must be there. Memory is therefore a small multiple of the input, whose size the caller
//! bounds by [`MAX_BLOCK_SIZE`] beforehand.
//!
//! Sources: the block and transaction layout in Bitcoin Core's `primitives/block.h` and
//! `primitives/transaction.h`, the witness form in BIP-144, minimal compact sizes in
//! `serialize.h` (`ReadCompactSize`).

use sha2::{Digest, Sha256};
use std::ops::Range;

/// Largest serialised block in bytes, witnesses included: `MAX_BLOCK_SERIALIZED_SIZE` in Bitcoin
/// Core's `consensus/consensus.h`.
pub(crate) const MAX_BLOCK_SIZE: usize = 4_000_000;

/// Bytes of a block header.
pub(crate) const HEADER_SIZE: usize = 80;

/// A double SHA-256 in the order in which it is computed; people see it reversed.
pub(super) type Hash = [u8; 32];

/// The bytes stop being a block or transaction at `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {offset}")]
pub(crate) struct Malformed {
    pub(crate) offset: usize,
    pub(crate) expected: &'static str,
}

/// SHA-256 twice over the parts as if they stood in a row.
pub(super) fn double_sha256(parts: &[&[u8]]) -> Hash {
    let mut first = Sha256::new();
    for part in parts {
        first.update(part);
    }
    Sha256::digest(first.finalize()).into()
}

/// The fields of a block header that can be checked without the chain before it.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) hash: Hash,
    pub(super) merkle_root: Hash,
    pub(super) bits: u32,
}

impl Header {
    /// Reads the header at the start of `data`; what follows is not looked at.
    pub(super) fn decode(data: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(data);
        let bytes: &[u8; HEADER_SIZE] = reader.array("a block header of 80 bytes")?;
        let mut fields = Reader::new(bytes);
        fields.take(4 + 32, "the version and the previous block's hash")?;
        let merkle_root = *fields.array("the Merkle root")?;
        fields.take(4, "the time")?;
        Ok(Self {
            hash: double_sha256(&[bytes]),
            merkle_root,
            bits: u32::from_le_bytes(*fields.array("the target")?),
        })
    }
}

/// One input of a transaction.
#[derive(Debug)]
pub(super) struct Input<'a> {
    /// The output that is spent: a transaction id and a 4-byte index.
    pub(super) outpoint: &'a [u8; 36],
    pub(super) script: &'a [u8],
}

impl Input<'_> {
    /// Whether it spends nothing, as only a coinbase may: id zero, index all ones.
    pub(super) fn is_null(&self) -> bool {
        const NOTHING: [u8; 36] = {
            let mut outpoint = [0; 36];
            outpoint.split_at_mut(32).1.copy_from_slice(&[0xff; 4]);
            outpoint
        };
        *self.outpoint == NOTHING
    }
}

/// One output of a transaction.
#[derive(Debug)]
pub(super) struct Output<'a> {
    /// In satoshi. Bitcoin's is signed; a negative one shows up here as far too large.
    pub(super) value: u64,
    pub(super) script: &'a [u8],
}

/// A transaction, still in the bytes that it came in.
#[derive(Debug)]
pub(super) struct RawTransaction<'a> {
    /// All of it, as on the wire.
    pub(super) bytes: &'a [u8],
    pub(super) inputs: Vec<Input<'a>>,
    pub(super) outputs: Vec<Output<'a>>,
    /// The witness stacks; empty where it has none.
    pub(super) witness: &'a [u8],
    version: &'a [u8],
    /// Inputs and outputs with their counts: what the id covers besides version and lock time.
    body: &'a [u8],
    lock_time: &'a [u8],
}

impl<'a> RawTransaction<'a> {
    /// Reads a transaction that must fill `data` to its last byte.
    pub(super) fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(data);
        let transaction = reader.transaction()?;
        reader.end("the end of the transaction")?;
        Ok(transaction)
    }

    /// The id: witnesses are left out, so that nobody can change it by changing a signature.
    pub(super) fn id(&self) -> Hash {
        double_sha256(&[self.version, self.body, self.lock_time])
    }

    /// The hash over everything, witnesses included (BIP-141's wtxid).
    pub(super) fn witness_id(&self) -> Hash {
        double_sha256(&[self.bytes])
    }

    /// Bytes that only the witness form has: marker, flag and stacks.
    pub(super) fn witness_size(&self) -> usize {
        let stripped = self.version.len() + self.body.len() + self.lock_time.len();
        self.bytes.len() - stripped
    }

    /// Whether it has the form of a coinbase: a single input that spends nothing.
    pub(super) fn is_coinbase(&self) -> bool {
        matches!(self.inputs.as_slice(), [input] if input.is_null())
    }
}

/// Reads the transactions of a block that must fill `data` to its last byte.
pub(super) fn transactions(data: &[u8]) -> Result<Vec<RawTransaction<'_>>, Malformed> {
    let mut reader = Reader::new(data);
    reader.take(HEADER_SIZE, "a block header of 80 bytes")?;
    let transactions = reader.list(
        "the number of transactions, at least one",
        Reader::transaction,
    )?;
    reader.end("the end of the block")?;
    Ok(transactions)
}

/// Where in the serialised block `data` the transactions stand that can travel alone: all but
/// the coinbase, which is valid within its block only.
pub(crate) fn propagated_transactions(data: &[u8]) -> Result<Vec<Range<usize>>, Malformed> {
    // They stand in a row and end with the block, so their places follow from their sizes.
    let mut end = data.len();
    let mut places = Vec::new();
    for transaction in transactions(data)?.iter().rev() {
        let start = end - transaction.bytes.len();
        if !transaction.is_coinbase() {
            places.push(start..end);
        }
        end = start;
    }
    places.reverse();
    Ok(places)
}

/// A cursor that never leaves its bytes.
struct Reader<'a> {
    data: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, rest: data }
    }

    fn offset(&self) -> usize {
        self.data.len() - self.rest.len()
    }

    fn expected(&self, expected: &'static str) -> Malformed {
        Malformed {
            offset: self.offset(),
            expected,
        }
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.expected(what))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<&'a [u8; N], Malformed> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| self.expected(what))?;
        self.rest = rest;
        Ok(taken)
    }

    /// What was read since `earlier`, which is an older `rest` of this cursor.
    fn since(&self, earlier: &'a [u8]) -> &'a [u8] {
        let read = earlier.len() - self.rest.len();
        earlier.split_at(read).0
    }

    /// A compact size in its shortest form, as Core insists: otherwise the same block had many
    /// serialisations.
    fn compact_size(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let refused = self.expected(what);
        let &[first] = self.array(what)?;
        let (value, least) = match first {
            0xfd => (u64::from(u16::from_le_bytes(*self.array(what)?)), 0xfd),
            0xfe => (u64::from(u32::from_le_bytes(*self.array(what)?)), 0x1_0000),
            0xff => (u64::from_le_bytes(*self.array(what)?), 0x1_0000_0000),
            small => (u64::from(small), 0),
        };
        if value < least {
            return Err(refused);
        }
        Ok(value)
    }

    /// A compact size, then as many bytes.
    fn string(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let length = self.compact_size(what)?;
        // What a 32-bit wasm can't count is missing there as it is elsewhere: at the same byte.
        self.take(usize::try_from(length).unwrap_or(usize::MAX), what)
    }

    /// A compact size that is not zero, then as many elements. The list grows by what was read,
    /// never by what the count promises.
    fn list<T>(
        &mut self,
        what: &'static str,
        element: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let refused = self.expected(what);
        let count = self.compact_size(what)?;
        if count == 0 {
            return Err(refused);
        }
        (0..count).map(|_| element(self)).collect()
    }

    fn transaction(&mut self) -> Result<RawTransaction<'a>, Malformed> {
        let start = self.rest;
        let version = self.take(4, "a transaction's version")?;
        // BIP-144: a zero in the place of the number of inputs announces witnesses.
        let segwit = self.rest.first() == Some(&0);
        if segwit {
            let refused = self.expected("at least one input, or the segwit marker and flag 00 01");
            if self.take(2, "the segwit marker and flag")? != [0, 1] {
                return Err(refused);
            }
        }
        let body = self.rest;
        let inputs = self.list("the number of inputs, at least one", Self::input)?;
        let outputs = self.list("the number of outputs, at least one", Self::output)?;
        let body = self.since(body);
        let witness = self.rest;
        if segwit {
            let refused = self.expected("a witness, as the segwit flag is set");
            let mut empty = true;
            for _ in &inputs {
                let elements = self.compact_size("the number of witness elements")?;
                for _ in 0..elements {
                    self.string("a witness element")?;
                }
                empty &= elements == 0;
            }
            if empty {
                return Err(refused);
            }
        }
        let witness = self.since(witness);
        let lock_time = self.take(4, "a transaction's lock time")?;
        Ok(RawTransaction {
            bytes: self.since(start),
            inputs,
            outputs,
            witness,
            version,
            body,
            lock_time,
        })
    }

    fn input(&mut self) -> Result<Input<'a>, Malformed> {
        let outpoint = self.array("the output that an input spends")?;
        let script = self.string("an input's script")?;
        self.take(4, "an input's sequence number")?;
        Ok(Input { outpoint, script })
    }

    fn output(&mut self) -> Result<Output<'a>, Malformed> {
        let value = u64::from_le_bytes(*self.array("an output's value")?);
        let script = self.string("an output's script")?;
        Ok(Output { value, script })
    }

    fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.expected(what))
        }
    }
}
