//! RLP, Ethereum's serialisation, as far as a block is cut into transactions by it.
//!
//! The format is in appendix B of Ethereum's yellow paper; a block is
//! `[header, [transaction, ...], [uncle, ...]]`, with withdrawals and whatever later forks
//! append after that. A transaction is a list (the legacy form) or a string that holds a
//! type and a payload (EIP-2718); the string's content is the form in which it travels alone.

use std::ops::Range;

use bytes::Bytes;

use super::input::Input;
use super::{BlockFileError, MAX_ETHEREUM_BLOCK};

/// Bytes that the shortest transaction takes, a list of nine items. It keeps the list of places a
/// small multiple of the block.
const MIN_TRANSACTION: usize = 10;

/// What stands in front of an item's payload.
struct Head {
    list: bool,
    /// Bytes of the head itself; 0 for a byte that is its own payload.
    size: usize,
    /// Bytes of the payload, not yet known to be there.
    payload: usize,
}

impl Head {
    fn read(data: &[u8]) -> Option<Self> {
        let (&first, rest) = data.split_first()?;
        let (list, short) = match first {
            0x00..=0x7f => {
                return Some(Self {
                    list: false,
                    size: 0,
                    payload: 1,
                });
            }
            0x80..=0xbf => (false, first - 0x80),
            0xc0..=0xff => (true, first - 0xc0),
        };
        let Some(length_size) = short.checked_sub(55).filter(|&size| size > 0) else {
            return Some(Self {
                list,
                size: 1,
                payload: usize::from(short),
            });
        };
        // The length's bytes are a big-endian number.
        let length_size = usize::from(length_size);
        let payload = rest
            .get(..length_size)?
            .iter()
            .try_fold(0usize, |length, &byte| {
                length.checked_mul(256)?.checked_add(usize::from(byte))
            })?;
        Some(Self {
            list,
            size: 1 + length_size,
            payload,
        })
    }

    /// Bytes of the whole item.
    fn total(&self) -> Option<usize> {
        self.size.checked_add(self.payload)
    }
}

/// Walks over the items that fill a slice of `data`.
struct Items<'a> {
    data: &'a [u8],
    place: Range<usize>,
}

impl Items<'_> {
    /// The next item: whether it is a list, where all of it stands, and where its payload.
    fn next(&mut self) -> Option<(bool, Range<usize>, Range<usize>)> {
        let head = Head::read(self.data.get(self.place.clone())?)?;
        let start = self.place.start;
        let end = start
            .checked_add(head.total()?)
            .filter(|&end| end <= self.place.end)?;
        self.place.start = end;
        Some((head.list, start..end, start + head.size..end))
    }

    /// The next item's payload, if that item is a list.
    fn next_list(&mut self) -> Option<Range<usize>> {
        let (list, _, payload) = self.next()?;
        list.then_some(payload)
    }
}

/// Where the payload of the one list that fills `data` stands.
pub(super) fn only_list(data: &[u8]) -> Option<Range<usize>> {
    let mut items = Items {
        data,
        place: 0..data.len(),
    };
    let payload = items.next_list()?;
    items.place.is_empty().then_some(payload)
}

/// Where the transactions of a block stand, each as it travels alone. `None` if this is no block.
pub(super) fn transactions(block: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut parts = Items {
        data: block,
        place: only_list(block)?,
    };
    parts.next_list()?;
    let mut list = Items {
        data: block,
        place: parts.next_list()?,
    };
    parts.next_list()?;
    while !parts.place.is_empty() {
        parts.next()?;
    }
    let mut transactions = Vec::new();
    while !list.place.is_empty() {
        let (is_list, whole, payload) = list.next()?;
        let place = if is_list { whole } else { payload };
        if place.len() < MIN_TRANSACTION {
            return None;
        }
        transactions.push(place);
    }
    Some(transactions)
}

/// The list whose payload is these bytes in a row.
pub(super) fn list_of(parts: [&[u8]; 2]) -> Vec<u8> {
    let payload = parts.concat();
    let length = payload.len().to_be_bytes();
    let zeros = length.iter().take_while(|&&byte| byte == 0).count();
    let mut list = match u8::try_from(payload.len()) {
        Ok(length @ 0..=55) => vec![0xc0 + length],
        _ => (0xf7u8..)
            .skip(length.len() - zeros)
            .take(1)
            .chain(length.into_iter().skip(zeros))
            .collect(),
    };
    list.extend(payload);
    list
}

/// Whether these first bytes of a file look like a block: a list that begins with a list, the
/// header, both too long for the short form.
pub(super) fn begins_block(prefix: &[u8]) -> bool {
    let long_list = |data| Head::read(data).filter(|head| head.list && head.size > 1);
    long_list(prefix)
        .and_then(|head| prefix.get(head.size..).and_then(long_list))
        .is_some()
}

/// Reads the next of the blocks that stand in a row, and where it begins; `None` at the end.
pub(super) fn block(input: &mut Input) -> Result<Option<(u64, Bytes)>, BlockFileError> {
    let offset = input.offset();
    let mut block = input.up_to(1)?;
    let length_size = match block.as_slice() {
        [] => return Ok(None),
        [first @ 0xf8..=0xff] => usize::from(first - 0xf7),
        _ => return Err(input.malformed(offset, "a block, which is a list of RLP")),
    };
    block.extend(input.exactly(length_size, "the length of a block")?);
    let payload = Head::read(&block)
        .filter(|head| {
            head.total()
                .is_some_and(|total| total <= MAX_ETHEREUM_BLOCK)
        })
        .map(|head| head.payload)
        .ok_or_else(|| {
            let expected = format!("a block of at most {MAX_ETHEREUM_BLOCK} bytes");
            input.malformed(offset, expected)
        })?;
    block.extend(input.exactly(payload, "a block")?);
    Ok(Some((offset, block.into())))
}
