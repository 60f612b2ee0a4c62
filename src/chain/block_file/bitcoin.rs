//! Bitcoin blocks, one alone or in the frames of Bitcoin Core's `blk*.dat` (`SaveBlockToDisk` in
//! Core's `node/blockstorage.cpp`).

use bytes::Bytes;

use super::BlockFileError;
use super::input::Input;
use crate::chain::bitcoin::{MAX_BLOCK_SIZE, propagated_transactions};

/// What each block in a `blk*.dat` file begins with: mainnet's `pchMessageStart` in Bitcoin Core's
/// `kernel/chainparams.cpp`.
pub(super) const MAGIC: [u8; 4] = [0xf9, 0xbe, 0xb4, 0xd9];
/// The magic and a length.
const HEAD: usize = MAGIC.len() + size_of::<u32>();

/// The file is the block.
pub(super) fn raw_block(input: &mut Input) -> Result<Option<(u64, Bytes)>, BlockFileError> {
    let offset = input.offset();
    let block = input.up_to(MAX_BLOCK_SIZE)?;
    if !input.up_to(1)?.is_empty() {
        let expected = format!("the end of a block, which has at most {MAX_BLOCK_SIZE} bytes");
        return Err(input.malformed(input.offset() - 1, expected));
    }
    Ok((!block.is_empty()).then(|| (offset, block.into())))
}

/// The next frame of `blk*.dat` that holds a whole block: the magic, the block's length in little-endian order, the block.
///
/// As Core does when it reads its files again (`LoadExternalBlockFile`), the magic is searched for, since files have gaps of zeros
/// where Core allocated ahead, and torn frames where it was stopped while writing. Behind a frame that holds no block the
/// search goes on right after that frame's magic: what it covers may be the next, whole one.
pub(super) fn framed_block(input: &mut Input) -> Result<Option<(u64, Bytes)>, BlockFileError> {
    while find_magic(input)? {
        let head = input.ahead(HEAD)?;
        let length = head
            .get(MAGIC.len()..HEAD)
            .and_then(|bytes| bytes.try_into().ok());
        let length = length.map(u32::from_le_bytes).map(usize::try_from);
        if let Some(Ok(length)) = length
            && length <= MAX_BLOCK_SIZE
            && let Some(block) = input.ahead(HEAD + length)?.get(HEAD..HEAD + length)
            && propagated_transactions(block).is_ok()
        {
            let block = Bytes::copy_from_slice(block);
            input.pass(HEAD);
            let start = input.offset();
            input.pass(length);
            return Ok(Some((start, block)));
        }
        input.leave_out(MAGIC.len());
    }
    Ok(None)
}

/// Passes over what comes before the next magic; false where there is none.
fn find_magic(input: &mut Input) -> Result<bool, BlockFileError> {
    loop {
        let ahead = input.ahead(MAGIC.len())?;
        let whole = ahead.windows(MAGIC.len());
        let (junk, found) = match whole.clone().position(|window| window == MAGIC) {
            Some(place) => (place, true),
            // A magic may begin with the last bytes of these.
            None if ahead.len() >= MAGIC.len() => (whole.len(), false),
            None => (ahead.len(), false),
        };
        let ends = ahead.len() < MAGIC.len();
        input.leave_out(junk);
        if found || ends {
            return Ok(found);
        }
    }
}
