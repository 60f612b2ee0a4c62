//! A Bitcoin block taken apart and put together again, and the check of its header alone: what compact blocks
//! asks of a chain.
//!
//! A block is 80 bytes of header, the number of transactions as a compact size, and the transactions in a row, with
//! their witnesses. Apart from that number the parts hold every byte, and its one allowed form follows from how many
//! there are; so a block that is joined from its parts is the same block to the last byte.
//!
//! What is joined has passed the checks of the Merkle root and of the witnesses, as BIP-152 demands before a
//! compact block is passed on. Proof of work was looked at before, with the header; the rest of the rules comes after.

use bytes::Bytes;

use super::decode::{self, HEADER_SIZE, Hash, Header, MAX_BLOCK_SIZE, Malformed, RawTransaction};
use super::{Invalid, check_commitments, check_size, proof_of_work};
use crate::chain::Block;
use crate::chain::BlockParts;

/// Checks the proof of work of a header that stands alone and returns the block's id.
pub(super) fn check_header(data: &[u8]) -> Result<Hash, Invalid> {
    let header = whole_header(data)?;
    proof_of_work::check(&header)?;
    Ok(header.hash)
}

/// The header and the transactions of a block, as slices of its memory.
pub(super) fn split(data: &Bytes) -> Result<BlockParts, Invalid> {
    check_size(data)?;
    let transactions = decode::transactions(data)?;
    let (header, _) = data
        .split_at_checked(HEADER_SIZE)
        .ok_or(Invalid::NoCoinbase)?;
    Ok(BlockParts {
        header: data.slice_ref(header),
        transactions: transactions
            .iter()
            .map(|transaction| data.slice_ref(transaction.bytes))
            .collect(),
    })
}

/// The block that has this header and these transactions, if the header commits to them.
pub(super) fn join(header: &[u8], transactions: &[Bytes]) -> Result<Block, Invalid> {
    let fields = whole_header(header)?;
    let size = transactions
        .iter()
        .map(Bytes::len)
        .fold(HEADER_SIZE, usize::saturating_add);
    if size > MAX_BLOCK_SIZE {
        return Err(Invalid::TooLarge(size));
    }
    let decoded = transactions
        .iter()
        .map(|data| RawTransaction::decode(data))
        .collect::<Result<Vec<_>, _>>()?;
    let (coinbase, others) = decoded.split_first().ok_or(Invalid::NoCoinbase)?;
    check_commitments(&fields, coinbase, others)?;
    let mut block = Vec::with_capacity(size + 9);
    block.extend_from_slice(header);
    write_compact_size(&mut block, transactions.len());
    for transaction in transactions {
        block.extend_from_slice(transaction);
    }
    check_size(&block)?;
    Ok(Block::new(block))
}

/// A header with nothing after it.
fn whole_header(data: &[u8]) -> Result<Header, Invalid> {
    let header = Header::decode(data)?;
    if data.len() > HEADER_SIZE {
        let end = Malformed {
            offset: HEADER_SIZE,
            expected: "the end of the header",
        };
        return Err(end.into());
    }
    Ok(header)
}

/// A compact size in its shortest form, the only one that the decoder takes. No block has more than 2^32 transactions.
fn write_compact_size(block: &mut Vec<u8>, count: usize) {
    if let Ok(small) = u8::try_from(count)
        && small < 0xfd
    {
        block.push(small);
    } else if let Ok(count) = u16::try_from(count) {
        block.push(0xfd);
        block.extend(count.to_le_bytes());
    } else {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        block.push(0xfe);
        block.extend(count.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chain::bitcoin::Bitcoin;
    use crate::chain::{Application, Verdict};
    use crate::platform::test;

    const BLOCK: &[u8] = include_bytes!("../../../testdata/block-413567.raw");
    const CHAIN: &[u8] = include_bytes!("../../../testdata/chain-0-438.dat");

    /// The 440 real blocks: one alone, the others in the frames of `blk*.dat`.
    fn real_blocks() -> Vec<Block> {
        let mut blocks = vec![Block::new(BLOCK)];
        let mut rest = CHAIN;
        while let Some((frame, after)) = rest.split_first_chunk::<8>() {
            let length = u32::from_le_bytes(frame[4..].try_into().unwrap()) as usize;
            blocks.push(Block::new(&after[..length]));
            rest = &after[length..];
        }
        assert_eq!(blocks.len(), 440);
        blocks
    }

    #[test]
    fn real_blocks_come_together_byte_for_byte() {
        for block in real_blocks() {
            let parts = Bitcoin.split_block(&block).unwrap();
            let joined = Bitcoin.join_block(&parts.header, &parts.transactions);
            assert_eq!(joined.as_ref(), Some(&block));
            let header = Bitcoin.check_header(&parts.header);
            assert_eq!(header.verdict, Verdict::Accept, "{}", header.reason);
            assert_eq!(header.id, Bitcoin.check_block(&block).id);
        }
    }

    #[test]
    fn parts_are_slices_of_the_block() {
        let block = Block::new(BLOCK.to_vec());
        let parts = Bitcoin.split_block(&block).unwrap();
        let places = block.data.as_ptr_range();
        assert_eq!(parts.transactions.len(), 1557);
        for part in parts.transactions.iter().chain([&parts.header]) {
            assert!(places.contains(&part.as_ptr()));
        }
    }

    #[test]
    fn transactions_that_the_header_does_not_commit_to_are_not_joined() {
        let block = Block::new(BLOCK);
        let BlockParts {
            header,
            transactions,
        } = Bitcoin.split_block(&block).unwrap();
        let refused = |transactions: &[Bytes]| {
            let joined = join(&header, transactions);
            assert_eq!(
                Bitcoin.join_block(&header, transactions),
                joined.as_ref().ok().cloned()
            );
            joined.expect_err("other transactions")
        };
        let mut swapped = transactions.clone();
        swapped.swap(700, 701);
        assert_eq!(refused(&swapped), Invalid::MerkleRoot);
        assert_eq!(refused(&transactions[..1556]), Invalid::MerkleRoot);
        assert_eq!(refused(&[]), Invalid::NoCoinbase);
        // CVE-2012-2459: the last of an odd number, twice.
        let mut repeated = transactions.clone();
        repeated.extend(transactions.last().cloned());
        assert_eq!(refused(&repeated), Invalid::RepeatedTransactions);
        let mut cut = transactions.clone();
        let last = cut.pop().unwrap();
        cut.push(last.slice(..last.len() - 1));
        assert!(matches!(refused(&cut), Invalid::Malformed(_)));
        cut.pop();
        // Two transactions as one: the same bytes in a row, but not the same parts.
        let pair = [transactions[1555].as_ref(), transactions[1556].as_ref()].concat();
        cut.pop();
        cut.push(pair.into());
        assert!(matches!(refused(&cut), Invalid::Malformed(_)));
        let large = vec![Bytes::from(vec![0; 1_000_000]); 5];
        assert_eq!(refused(&large), Invalid::TooLarge(5_000_080));
    }

    #[test]
    fn headers_have_eighty_bytes_and_proof_of_work() {
        let header = |data: &[u8]| Bitcoin.check_header(&Bytes::copy_from_slice(data));
        assert_eq!(header(&BLOCK[..80]).verdict, Verdict::Accept);
        for wrong in [&[][..], &BLOCK[..79], &BLOCK[..81]] {
            assert_eq!(header(wrong).verdict, Verdict::Reject);
        }
        for place in 0..80 {
            let mut forged = BLOCK[..80].to_vec();
            forged[place] ^= 1;
            assert_eq!(header(&forged).verdict, Verdict::Reject, "at {place}");
        }
        assert_eq!(
            Bitcoin.join_block(&Bytes::from_static(&BLOCK[..81]), &[]),
            None
        );
    }

    #[test]
    fn the_number_of_transactions_has_its_shortest_form() {
        let written = |count| {
            let mut bytes = Vec::new();
            write_compact_size(&mut bytes, count);
            hex::encode(bytes)
        };
        assert_eq!(written(1), "01");
        assert_eq!(written(0xfc), "fc");
        assert_eq!(written(0xfd), "fdfd00");
        assert_eq!(written(0xffff), "fdffff");
        assert_eq!(written(0x1_0000), "fe00000100");
    }

    /// A transaction of one input, one output and scripts of these lengths, with or without a witness.
    fn transaction(seed: u8, script: usize, witness: bool) -> Bytes {
        let length = u8::try_from(script).unwrap();
        let body = [
            &[1][..],
            &[seed; 36],
            &[length],
            &vec![seed; script],
            &[0xff; 4],
            &[1],
            &[seed; 8],
            &[length],
            &vec![seed; script],
        ]
        .concat();
        let stacks: &[u8] = if witness { &[1, 1, seed] } else { &[] };
        let marker: &[u8] = if witness { &[0, 1] } else { &[] };
        [&[1, 0, 0, 0], marker, &body, stacks, &[0; 4]]
            .concat()
            .into()
    }

    proptest! {
        #[test]
        fn garbage_neither_splits_nor_joins(
            header in prop::collection::vec(any::<u8>(), 0..100),
            data in prop::collection::vec(any::<u8>(), 0..2048),
        ) {
            let parts = [Bytes::from(data.clone())];
            prop_assert!(Bitcoin.join_block(&header.clone().into(), &parts).is_none());
            prop_assert_eq!(Bitcoin.check_header(&header.into()).verdict, Verdict::Reject);
            let block = Block::new([&BLOCK[..80], &data].concat());
            prop_assert!(Bitcoin.split_block(&block).is_none());
        }

        #[test]
        fn well_formed_blocks_split_into_their_bytes(
            transactions in prop::collection::vec((any::<u8>(), 0usize..200, any::<bool>()), 1..300),
        ) {
            let transactions: Vec<_> = transactions
                .into_iter()
                .map(|(seed, script, witness)| transaction(seed, script, witness))
                .collect();
            let mut block = BLOCK[..80].to_vec();
            write_compact_size(&mut block, transactions.len());
            block.extend(transactions.concat());
            let parts = Bitcoin.split_block(&Block::new(block)).unwrap();
            prop_assert_eq!(&parts.header[..], &BLOCK[..80]);
            // Nobody mined a block of these: they are no block's.
            prop_assert!(Bitcoin.join_block(&parts.header, &parts.transactions).is_none());
            prop_assert_eq!(parts.transactions, transactions);
        }
    }
}
