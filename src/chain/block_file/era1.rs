//! Ethereum's `era1` files: e2store records with the blocks before the merge, 8,192 to a file.
//!
//! A record is a type (2 bytes), a length (4 bytes), two zero bytes, all little-endian, and the data. Of
//! each block there are a header, a body and receipts, in RLP under snappy's frame format, and
//! its total difficulty; accumulator and index follow at the end. Headers and bodies are joined
//! to blocks in RLP, the same bytes that a peer of Ethereum would send; other records are
//! passed over unread.
//!
//! Source: <https://github.com/eth-clients/e2store-format-specs/blob/main/formats/era1.md>.

use std::io::Read;

use bytes::Bytes;
use snap::read::FrameDecoder;

use super::input::Input;
use super::{BlockFileError, MAX_ETHEREUM_BLOCK, rlp};

/// The record that every e2store file begins with.
pub(super) const VERSION: [u8; 8] = [b'e', b'2', 0, 0, 0, 0, 0, 0];

const COMPRESSED_HEADER: u16 = 0x03;
const COMPRESSED_BODY: u16 = 0x04;

/// Reads up to the next body, and where its record begins; `None` at the end.
pub(super) fn block(input: &mut Input) -> Result<Option<(u64, Bytes)>, BlockFileError> {
    let mut header: Option<Bytes> = None;
    loop {
        let offset = input.offset();
        let head = input.up_to(8)?;
        if head.is_empty() {
            return match header {
                None => Ok(None),
                Some(_) => Err(input.malformed(offset, "the body that belongs to a header")),
            };
        }
        let [t0, t1, l0, l1, l2, l3, 0, 0] = *head else {
            return Err(input.malformed(offset, "a record's type, its length and two zero bytes"));
        };
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        match (u16::from_le_bytes([t0, t1]), header.take()) {
            (COMPRESSED_HEADER, None) => header = Some(list(input, offset, length, "a header")?.0),
            (COMPRESSED_HEADER, Some(_)) => {
                return Err(input.malformed(offset, "the body that belongs to a header"));
            }
            (COMPRESSED_BODY, Some(header)) => {
                let (_, parts) = list(input, offset, length, "a body")?;
                let block = rlp::list_of([&header, &parts]);
                if block.len() > MAX_ETHEREUM_BLOCK {
                    return Err(too_large(input, offset, "a block"));
                }
                return Ok(Some((offset, block.into())));
            }
            (COMPRESSED_BODY, None) => {
                return Err(input.malformed(offset, "the header that belongs to a body"));
            }
            (_, unused) => {
                header = unused;
                input.skip(u64::from(length), "a record")?;
            }
        }
    }
}

/// The data of a record, decompressed: one list of RLP, and the items in it.
fn list(
    input: &mut Input,
    offset: u64,
    length: u32,
    what: &str,
) -> Result<(Bytes, Bytes), BlockFileError> {
    let length = usize::try_from(length)
        .ok()
        .filter(|&length| length <= MAX_ETHEREUM_BLOCK)
        .ok_or_else(|| too_large(input, offset, what))?;
    let compressed = input.exactly(length, what)?;
    let mut data = Vec::new();
    FrameDecoder::new(compressed.as_slice())
        .take(u64::try_from(MAX_ETHEREUM_BLOCK + 1).unwrap_or(u64::MAX))
        .read_to_end(&mut data)
        .map_err(|error| input.malformed(offset, format!("{what} in snappy frames ({error})")))?;
    if data.len() > MAX_ETHEREUM_BLOCK {
        return Err(too_large(input, offset, what));
    }
    let items = rlp::only_list(&data)
        .ok_or_else(|| input.malformed(offset, format!("{what}, which is a list of RLP")))?;
    let data = Bytes::from(data);
    let items = data.slice(items);
    Ok((data, items))
}

fn too_large(input: &Input, offset: u64, what: &str) -> BlockFileError {
    input.malformed(
        offset,
        format!("{what} of at most {MAX_ETHEREUM_BLOCK} bytes"),
    )
}
