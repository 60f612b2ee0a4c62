//! Bitcoin blocks, one alone or in the frames of Bitcoin Core's `blk*.dat` (`SaveBlockToDisk` in
//! Core's `node/blockstorage.cpp`).

use bytes::Bytes;

use super::BlockFileError;
use super::input::Input;
use crate::chain::bitcoin::MAX_BLOCK_SIZE;

/// What each block in a `blk*.dat` file begins with: mainnet's `pchMessageStart` in Bitcoin Core's
/// `kernel/chainparams.cpp`.
pub(super) const MAGIC: [u8; 4] = [0xf9, 0xbe, 0xb4, 0xd9];

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

/// A frame of `blk*.dat`: the magic, the block's length in little-endian order, the block.
pub(super) fn framed_block(input: &mut Input) -> Result<Option<(u64, Bytes)>, BlockFileError> {
    let offset = input.offset();
    let magic = input.up_to(MAGIC.len())?;
    if magic.is_empty() {
        return Ok(None);
    }
    if magic.iter().all(|&byte| byte == 0) {
        return input.zeros_to_end().map(|()| None);
    }
    if magic != MAGIC {
        return Err(input.malformed(offset, "the magic f9beb4d9 before the next block"));
    }
    let length = u32::from_le_bytes(input.array("the length of a block")?);
    match usize::try_from(length) {
        Ok(length) if length <= MAX_BLOCK_SIZE => {
            let start = input.offset();
            Ok(Some((start, input.exactly(length, "a block")?.into())))
        }
        _ => {
            let expected = format!("a length of at most {MAX_BLOCK_SIZE}, not {length}");
            Err(input.malformed(offset + 4, expected))
        }
    }
}
