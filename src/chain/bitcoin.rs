//! Bitcoin as an example application: real blocks and transactions travel as themselves, under
//! the ids that every block explorer shows, and forged ones stop at the first honest node.
//!
//! What is checked is what a node can know from the bytes alone, the "context-free" rules of
//! Bitcoin Core's `CheckBlock` and `CheckTransaction`:
//!
//! * sizes and weight, minimal encoding, nothing left over at the end;
//! * the header's proof of work against its own target, and the target against mainnet's limit.
//!   It comes first, so that a forged block costs its maker more than it costs us. Whether the
//!   target is the one that the chain demands at that height cannot be told without the headers
//!   before it: forging a block here is as cheap as mining was in 2009, which is dear enough
//!   for an example and too cheap for a wallet;
//! * the Merkle root, with the check for CVE-2012-2459 (a repeated tail of transactions gives the
//!   same root), and BIP-141's commitment to the witnesses, without which a peer could change
//!   signatures under a block's unchanged id;
//! * of each transaction: inputs and outputs present, no output spent twice (CVE-2018-17144), values
//!   in range, a coinbase first in its block and nowhere else.
//!
//! Scripts, signatures and amounts need the outputs that are spent, which a node that passes it on
//! does not have; nor are blocks linked to each other here.
//!
//! Everything is linear in the item's size, which is bounded by 4,000,000 bytes, apart from a sort of
//! one transaction's inputs.

mod decode;
mod parts;
mod proof_of_work;

pub(crate) use decode::{MAX_BLOCK_SIZE, Malformed, propagated_transactions};
pub(crate) use proof_of_work::has_proof_of_work;

use std::time::Duration;

use bytes::Bytes;

use self::decode::{Hash, Header, RawTransaction, double_sha256};
use super::{Application, BlockParts, Checked, ItemId};
use crate::chain::{Block, Transaction, Vote};

/// Largest weight of a block (BIP-141): `MAX_BLOCK_WEIGHT` in Core's `consensus/consensus.h`.
/// A byte weighs 4, a byte of witness 1.
const MAX_BLOCK_WEIGHT: usize = 4_000_000;

/// All the money there will ever be, in satoshi: `MAX_MONEY` in Core's `consensus/amount.h`.
const MAX_MONEY: u64 = 21_000_000 * 100_000_000;

/// Length in bytes that a coinbase's script may have: `CheckTransaction` in Core's
/// `consensus/tx_check.cpp`.
const COINBASE_SCRIPT: std::ops::RangeInclusive<usize> = 2..=100;

/// The first block under BIP-141's rules: `SegwitHeight` in Core's `kernel/chainparams.cpp`.
const SEGWIT_HEIGHT: u32 = 481_824;

/// How the output begins whose script commits to the witnesses (BIP-141): `OP_RETURN`, a push of
/// 36 bytes, the tag. The commitment follows.
const WITNESS_COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// How the coinbase's witness begins, which holds the reserved value of the commitment: one
/// element, of 32 bytes.
const WITNESS_RESERVED_VALUE: [u8; 2] = [0x01, 0x20];

/// Bitcoin mainnet, checked as far as single blocks and transactions can be.
///
/// An item's id is the double SHA-256 of the header or, without witnesses, of the transaction, in
/// the reversed order in which Bitcoin shows hashes. A rejected item is named by the SHA-256 of all its
/// bytes instead, so that a bad body never speaks for the honest block with the same header.
///
/// The fee is never known: it is the difference between inputs and outputs, and how much an
/// input holds stands in another transaction, which a node that passes it on does not have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bitcoin;

impl Application for Bitcoin {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        checked(&transaction.data, check_transaction(&transaction.data))
    }

    fn check_block(&self, block: &Block) -> Checked {
        checked(&block.data, check_block(&block.data))
    }

    fn check_vote(&self, vote: &Vote) -> Checked {
        Checked::reject(&vote.data, "Bitcoin has no votes")
    }

    fn block_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(600))
    }

    fn check_header(&self, header: &Bytes) -> Checked {
        checked(header, parts::check_header(header))
    }

    fn split_block(&self, block: &Block) -> Option<BlockParts> {
        parts::split(&block.data).ok()
    }

    fn join_block(&self, header: &Bytes, transactions: &[Bytes]) -> Option<Block> {
        parts::join(header, transactions).ok()
    }
}

/// Why a block or transaction is not valid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Invalid {
    #[error("{0} bytes are more than the {MAX_BLOCK_SIZE} that a block may have")]
    TooLarge(usize),
    #[error("a weight of {0} is more than the {MAX_BLOCK_WEIGHT} that a block may have")]
    TooHeavy(usize),
    #[error("not in Bitcoin's format: {0}")]
    Malformed(#[from] Malformed),
    #[error("the target {0:#010x} is negative, zero, or easier than mainnet allows")]
    Target(u32),
    #[error("the header's hash does not meet its target {0:#010x}: no proof of work")]
    ProofOfWork(u32),
    #[error("the Merkle root does not belong to these transactions")]
    MerkleRoot,
    #[error("a run of transactions is repeated, which leaves the Merkle root the same")]
    RepeatedTransactions,
    #[error("the first transaction is not a coinbase")]
    NoCoinbase,
    #[error("a coinbase stands where only other transactions may")]
    MisplacedCoinbase,
    #[error("a coinbase script of {0} bytes; 2 to 100 are allowed")]
    CoinbaseScript(usize),
    #[error("an input spends nothing, as only a coinbase may")]
    NullInput,
    #[error("two inputs spend the same output")]
    SpentTwice,
    #[error("outputs of more than the {MAX_MONEY} satoshi that can exist, or of less than none")]
    Money,
    #[error("witnesses that the coinbase does not commit to, or not the ones it commits to")]
    Witness,
}

fn checked(data: &[u8], result: Result<Hash, Invalid>) -> Checked {
    match result {
        Ok(mut id) => {
            id.reverse();
            Checked::accept(ItemId::new(&id).expect("a hash is shorter than the longest id"))
        }
        Err(invalid) => Checked::reject(data, invalid.to_string()),
    }
}

/// Checks a transaction that travels alone and returns its id.
fn check_transaction(data: &[u8]) -> Result<Hash, Invalid> {
    check_size(data)?;
    let transaction = RawTransaction::decode(data)?;
    if transaction.is_coinbase() {
        return Err(Invalid::MisplacedCoinbase);
    }
    check_weight(data.len(), transaction.witness_size())?;
    check_form(&transaction)?;
    Ok(transaction.id())
}

/// Checks a block and returns its id.
fn check_block(data: &[u8]) -> Result<Hash, Invalid> {
    check_size(data)?;
    let header = Header::decode(data)?;
    proof_of_work::check(&header)?;
    let transactions = decode::transactions(data)?;
    let (coinbase, others) = transactions.split_first().ok_or(Invalid::NoCoinbase)?;
    if !coinbase.is_coinbase() {
        return Err(Invalid::NoCoinbase);
    }
    if others.iter().any(RawTransaction::is_coinbase) {
        return Err(Invalid::MisplacedCoinbase);
    }
    let witness_size = transactions.iter().map(RawTransaction::witness_size).sum();
    check_weight(data.len(), witness_size)?;
    transactions.iter().try_for_each(check_form)?;
    check_commitments(&header, coinbase, others)?;
    Ok(header.hash)
}

/// The header commits to the transactions, and the coinbase to their witnesses: exactly these bytes are the block's.
fn check_commitments(
    header: &Header,
    coinbase: &RawTransaction<'_>,
    others: &[RawTransaction<'_>],
) -> Result<(), Invalid> {
    let all = || std::iter::once(coinbase).chain(others);
    if merkle_root(all().map(RawTransaction::id).collect())? != header.merkle_root {
        return Err(Invalid::MerkleRoot);
    }
    let witnesses = all().any(|transaction| transaction.witness_size() > 0);
    check_witnesses(coinbase, others, witnesses)
}

/// Before anything else, so that the work and memory for one item are bounded.
fn check_size(data: &[u8]) -> Result<(), Invalid> {
    if data.len() > MAX_BLOCK_SIZE {
        return Err(Invalid::TooLarge(data.len()));
    }
    Ok(())
}

/// BIP-141's weight: three times the size without witnesses, plus the whole size.
fn check_weight(size: usize, witness_size: usize) -> Result<(), Invalid> {
    let weight = 3 * (size - witness_size) + size;
    if weight > MAX_BLOCK_WEIGHT {
        return Err(Invalid::TooHeavy(weight));
    }
    Ok(())
}

/// The rules for a transaction by itself; that it has inputs and outputs the decoder saw to.
fn check_form(transaction: &RawTransaction<'_>) -> Result<(), Invalid> {
    transaction
        .outputs
        .iter()
        .try_fold(0u64, |sum, output| {
            sum.checked_add(output.value)
                .filter(|&sum| sum <= MAX_MONEY)
        })
        .ok_or(Invalid::Money)?;
    if let [input] = transaction.inputs.as_slice()
        && input.is_null()
    {
        let length = input.script.len();
        return if COINBASE_SCRIPT.contains(&length) {
            Ok(())
        } else {
            Err(Invalid::CoinbaseScript(length))
        };
    }
    let mut spent = Vec::with_capacity(transaction.inputs.len());
    for input in &transaction.inputs {
        if input.is_null() {
            return Err(Invalid::NullInput);
        }
        spent.push(input.outpoint);
    }
    spent.sort_unstable();
    if spent
        .windows(2)
        .any(|pair| matches!(pair, [one, next] if one == next))
    {
        return Err(Invalid::SpentTwice);
    }
    Ok(())
}

/// The root of Bitcoin's Merkle tree: neighbours are hashed together, the last of an odd level with
/// itself. Because of the latter, repeating the tail of the list can leave the root as it was; the two
/// halves of some pair are then equal, which honest ids never are.
fn merkle_root(mut level: Vec<Hash>) -> Result<Hash, Invalid> {
    loop {
        match level.as_slice() {
            [] => return Err(Invalid::NoCoinbase),
            [root] => return Ok(*root),
            _ => {}
        }
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] if left == right => Err(Invalid::RepeatedTransactions),
                [left, right] => Ok(double_sha256(&[left, right])),
                alone => Ok(double_sha256(&[alone.as_flattened(), alone.as_flattened()])),
            })
            .collect::<Result<_, _>>()?;
    }
}

/// BIP-141: the witnesses are those that the coinbase commits to. From segwit's first block on, leaving
/// all of them out is no way around it. Before, miners committed to witnesses that blocks did
/// not yet have; the height is the one that the coinbase itself states (BIP-34), covered by the
/// Merkle root.
fn check_witnesses(
    coinbase: &RawTransaction<'_>,
    others: &[RawTransaction<'_>],
    any: bool,
) -> Result<(), Invalid> {
    let commitment = coinbase.outputs.iter().rev().find_map(|output| {
        output
            .script
            .strip_prefix(&WITNESS_COMMITMENT)?
            .first_chunk::<32>()
    });
    let Some(commitment) = commitment else {
        return if any { Err(Invalid::Witness) } else { Ok(()) };
    };
    if !any && stated_height(coinbase).is_none_or(|height| height < SEGWIT_HEIGHT) {
        return Ok(());
    }
    let reserved = coinbase
        .witness
        .strip_prefix(&WITNESS_RESERVED_VALUE)
        .filter(|value| value.len() == 32)
        .ok_or(Invalid::Witness)?;
    // The coinbase cannot commit to itself: zeros stand in its place.
    let ids = std::iter::once([0; 32]).chain(others.iter().map(RawTransaction::witness_id));
    if double_sha256(&[&merkle_root(ids.collect())?, reserved]) != *commitment {
        return Err(Invalid::Witness);
    }
    Ok(())
}

/// The height that a coinbase's script begins with, as a push of 3 bytes: enough for all blocks
/// from 32,768 to 8,388,607.
fn stated_height(coinbase: &RawTransaction<'_>) -> Option<u32> {
    match coinbase.inputs.first()?.script {
        [3, low, middle, high, ..] => Some(u32::from_le_bytes([*low, *middle, *high, 0])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chain::{Item, ItemKind, Verdict};
    use crate::platform::test;

    const BLOCK: &[u8] = include_bytes!("../../testdata/block-413567.raw");

    /// Bitcoin's first transaction between people, in block 170: one input, two outputs.
    const FIRST_PAYMENT: &str = "0100000001c997a5e56e104102fa209c6a852dd90660a20b2d9c352423edce25857fcd\
        3704000000004847304402204e45e16932b8af514961a1d3a1a25fdf3f4f7732e9d624c6c61548ab5fb8cd41022018\
        1522ec8eca07de4860a4acdd12909d831cc56cbbac4622082221a8768d1d0901ffffffff0200ca9a3b000000004341\
        04ae1a62fe09c5f51b13905f07f06b99a2f7159b2225f374cd378d71302fa28414e7aab37397f554a7df5f142c21c1\
        b7303b8a0626f1baded5c72a704f7e6cd84cac00286bee0000000043410411db93e1dcdb8a016b49840f8c53bc1eb6\
        8a382e97b1482ecad7b148a6909a5cb2e0eaddfb84ccf9744464f82e160bfa9b8b64f9d4c03f999b8643f656b412a3\
        ac00000000";

    fn block(data: &[u8]) -> Checked {
        Bitcoin.check_block(&Block::new(data.to_vec()))
    }

    fn transaction(data: &[u8]) -> Checked {
        Bitcoin.check_transaction(&Transaction::new(data.to_vec()))
    }

    /// A transaction with these inputs' outpoints (each a byte repeated) and outputs' values.
    fn build(inputs: &[u8], values: &[u64]) -> Vec<u8> {
        let mut data = vec![1, 0, 0, 0, u8::try_from(inputs.len()).unwrap()];
        for input in inputs {
            // A null outpoint is zeros and then ones.
            data.extend([*input; 32]);
            data.extend(if *input == 0 { [0xff; 4] } else { [0; 4] });
            data.extend([2, 0x51, 0x51]);
            data.extend([0xff; 4]);
        }
        data.push(u8::try_from(values.len()).unwrap());
        for value in values {
            data.extend(value.to_le_bytes());
            data.push(0);
        }
        data.extend([0; 4]);
        data
    }

    /// A transaction as it is shown, with a witness of one element added.
    fn with_witness(stripped: &[u8], element: &[u8]) -> Vec<u8> {
        let (version, rest) = stripped.split_at(4);
        let (body, lock_time) = rest.split_at(rest.len() - 4);
        let witness = [&[1, u8::try_from(element.len()).unwrap()][..], element].concat();
        [version, &[0, 1], body, &witness, lock_time].concat()
    }

    #[test]
    fn block_413567_is_accepted_under_its_id() {
        let checked = block(BLOCK);
        assert_eq!(checked.verdict, Verdict::Accept, "{}", checked.reason);
        let id = "0000000000000000025aff8be8a55df8f89c77296db6198f272d6577325d4069";
        assert_eq!(checked.id.to_string(), id);
        assert_eq!(checked.fee, None);
        assert_eq!(decode::transactions(BLOCK).unwrap().len(), 1557);
        assert_eq!(propagated_transactions(BLOCK).unwrap().len(), 1556);
    }

    #[test]
    fn a_flipped_byte_anywhere_in_a_block_is_rejected() {
        let mut data = BLOCK.to_vec();
        for place in (0..data.len()).step_by(5003) {
            data[place] ^= 0x01;
            assert_eq!(block(&data).verdict, Verdict::Reject, "at {place}");
            data[place] ^= 0x01;
        }
    }

    #[test]
    fn a_block_cut_anywhere_or_with_bytes_after_it_is_rejected() {
        for length in (0..200).chain((200..BLOCK.len()).step_by(5003)) {
            assert_eq!(
                block(&BLOCK[..length]).verdict,
                Verdict::Reject,
                "at {length}"
            );
        }
        let mut longer = BLOCK.to_vec();
        longer.push(0);
        let end = Malformed {
            offset: BLOCK.len(),
            expected: "the end of the block",
        };
        assert_eq!(check_block(&longer), Err(Invalid::Malformed(end)));
        longer.resize(MAX_BLOCK_SIZE + 1, 0);
        assert_eq!(check_block(&longer), Err(Invalid::TooLarge(4_000_001)));
    }

    #[test]
    fn a_rejected_block_is_not_named_like_the_honest_one() {
        let mut data = BLOCK.to_vec();
        let last = data.len() - 1;
        data[last] ^= 1;
        assert_ne!(block(&data).id, block(BLOCK).id);
    }

    #[test]
    fn every_transaction_of_a_real_block_is_accepted_alone_and_cut_ones_are_not() {
        for place in propagated_transactions(BLOCK).unwrap() {
            let data = &BLOCK[place];
            assert_eq!(transaction(data).verdict, Verdict::Accept);
            assert_eq!(
                transaction(&data[..data.len() - 1]).verdict,
                Verdict::Reject
            );
        }
    }

    #[test]
    fn a_transaction_has_its_well_known_id_with_and_without_witness() {
        let data = hex::decode(FIRST_PAYMENT).unwrap();
        let id = "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16";
        let checked = transaction(&data);
        assert_eq!((checked.id.to_string().as_str(), checked.fee), (id, None));
        assert_eq!(checked.verdict, Verdict::Accept);
        let witnessed = transaction(&with_witness(&data, b"a signature"));
        assert_eq!(
            (witnessed.id.to_string().as_str(), witnessed.verdict),
            (id, Verdict::Accept)
        );
        for length in 0..data.len() {
            assert_eq!(transaction(&data[..length]).verdict, Verdict::Reject);
        }
    }

    #[test]
    fn transactions_that_break_a_rule_are_rejected_by_its_name() {
        assert!(check_transaction(&build(&[1, 2], &[MAX_MONEY])).is_ok());
        let cases = [
            (build(&[1, 1], &[5]), Invalid::SpentTwice),
            (build(&[1], &[MAX_MONEY + 1]), Invalid::Money),
            (build(&[1], &[MAX_MONEY, 1]), Invalid::Money),
            (build(&[1], &[u64::MAX, 2]), Invalid::Money),
            (build(&[0], &[5]), Invalid::MisplacedCoinbase),
            (build(&[0, 1], &[5]), Invalid::NullInput),
        ];
        for (data, invalid) in cases {
            assert_eq!(check_transaction(&data), Err(invalid));
        }
    }

    #[test]
    fn malformed_transactions_are_rejected_with_a_place() {
        let good = build(&[1], &[5]);
        let witness_place = good.len() - 4 + 2;
        let mut idle_witness = with_witness(&good, b"");
        idle_witness.splice(witness_place..witness_place + 2, [0]);
        let mut long_count = good.clone();
        long_count.splice(4..5, [0xfd, 1, 0]);
        let mut many_inputs = good.clone();
        many_inputs.splice(4..5, [0xff; 9]);
        let mut long_script = good.clone();
        long_script.splice(41..42, [0xff; 9]);
        let cases = [
            (Vec::new(), 0, "a transaction's version"),
            (
                build(&[], &[5, 5]),
                4,
                "at least one input, or the segwit marker and flag 00 01",
            ),
            (build(&[1], &[]), 48, "the number of outputs, at least one"),
            (
                idle_witness,
                witness_place,
                "a witness, as the segwit flag is set",
            ),
            (long_count, 4, "the number of inputs, at least one"),
            (many_inputs, 56, "the output that an input spends"),
            (long_script, 50, "an input's script"),
            (
                [good.as_slice(), &[0]].concat(),
                good.len(),
                "the end of the transaction",
            ),
        ];
        for (data, offset, expected) in cases {
            let malformed = Malformed { offset, expected };
            assert_eq!(check_transaction(&data), Err(Invalid::Malformed(malformed)));
        }
    }

    #[test]
    fn a_witness_weighs_a_quarter() {
        assert_eq!(check_weight(1_000_000, 0), Ok(()));
        assert_eq!(
            check_weight(1_000_001, 0),
            Err(Invalid::TooHeavy(4_000_004))
        );
        assert_eq!(check_weight(4_000_000, 4_000_000), Ok(()));
    }

    #[test]
    fn a_repeated_tail_of_transactions_is_found() {
        let [a, b, c] = [[1; 32], [2; 32], [3; 32]];
        let honest = merkle_root(vec![a, b, c]).unwrap();
        let pair = |left: Hash, right: Hash| double_sha256(&[&left, &right]);
        assert_eq!(honest, pair(pair(a, b), pair(c, c)));
        assert_eq!(merkle_root(vec![a]), Ok(a));
        // CVE-2012-2459: without the check, these two would have the root of the honest ones.
        assert_eq!(
            merkle_root(vec![a, b, c, c]),
            Err(Invalid::RepeatedTransactions)
        );
        let six = vec![a, b, c, a, b, a];
        assert!(merkle_root(six.clone()).is_ok());
        let eight = [six.as_slice(), &[b, a]].concat();
        assert_eq!(merkle_root(eight), Err(Invalid::RepeatedTransactions));
    }

    /// A coinbase at segwit's height that commits to the witnesses of `others`.
    fn committing_coinbase(height: u32, others: &[RawTransaction<'_>]) -> Vec<u8> {
        let ids = [[0; 32]]
            .into_iter()
            .chain(others.iter().map(RawTransaction::witness_id));
        let commitment = double_sha256(&[&merkle_root(ids.collect()).unwrap(), &[7; 32]]);
        let script = [&WITNESS_COMMITMENT[..], &commitment].concat();
        let mut data = build(&[0], &[5]);
        let end = data.len() - 4;
        data.splice(end - 1..end, [38].into_iter().chain(script));
        let height = height.to_le_bytes();
        data.splice(41..44, [4, 3, height[0], height[1], height[2]]);
        data
    }

    #[test]
    fn witnesses_are_those_that_the_coinbase_commits_to() {
        let stripped = build(&[1], &[5]);
        let witnessed = with_witness(&stripped, b"signed");
        let forged = with_witness(&stripped, b"forged");
        fn decode(data: &[u8]) -> RawTransaction<'_> {
            RawTransaction::decode(data).unwrap()
        }
        let others = [decode(&witnessed)];
        let check = |coinbase: &[u8], other: &[u8], any| {
            check_witnesses(&decode(coinbase), &[decode(other)], any)
        };

        let stripped_coinbase = committing_coinbase(SEGWIT_HEIGHT, &others);
        let coinbase = with_witness(&stripped_coinbase, &[7; 32]);
        assert_eq!(stated_height(&decode(&coinbase)), Some(SEGWIT_HEIGHT));
        assert_eq!(check(&coinbase, &witnessed, true), Ok(()));
        assert_eq!(check(&coinbase, &forged, true), Err(Invalid::Witness));
        assert_eq!(check(&coinbase, &stripped, true), Err(Invalid::Witness));
        assert_eq!(
            check(&stripped_coinbase, &witnessed, true),
            Err(Invalid::Witness)
        );
        assert_eq!(
            check(&stripped_coinbase, &stripped, false),
            Err(Invalid::Witness)
        );
        // One block earlier the commitment was a promise that nobody had to keep.
        let early = committing_coinbase(SEGWIT_HEIGHT - 1, &others);
        assert_eq!(check(&early, &stripped, false), Ok(()));
        assert_eq!(
            check(&build(&[0], &[5]), &witnessed, true),
            Err(Invalid::Witness)
        );
    }

    #[test]
    fn votes_are_rejected() {
        let checked = Bitcoin.check_vote(&Vote::new(vec![1]));
        assert_eq!(checked.verdict, Verdict::Reject);
        assert_eq!(checked.reason, "Bitcoin has no votes");
    }

    proptest! {
        #[test]
        fn random_bytes_are_rejected(data in prop::collection::vec(any::<u8>(), 0..2048)) {
            for kind in ItemKind::ALL {
                let checked = Item::new(kind, data.clone()).check(&Bitcoin);
                prop_assert_eq!(checked.verdict, Verdict::Reject);
            }
            // Past the proof of work, too, as if somebody had mined it.
            prop_assert!(decode::transactions(&[&BLOCK[..80], &data].concat()).is_err());
        }

        #[test]
        fn a_changed_transaction_has_another_id_or_is_rejected(
            place in 0usize..275,
            flip in 1u8..,
        ) {
            let mut data = hex::decode(FIRST_PAYMENT).unwrap();
            let honest = transaction(&data);
            data[place] ^= flip;
            prop_assert_ne!(transaction(&data).id, honest.id);
        }
    }
}
