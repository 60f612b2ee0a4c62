//! Proof of work: that a header's hash, read as a number, is not above the target that the header
//! itself states. The algorithm is `CheckProofOfWork` in Bitcoin Core's `pow.cpp`.

use super::Invalid;
use super::decode::{Hash, Header};

/// The easiest target of mainnet, as a big-endian number: `powLimit` in Core's
/// `kernel/chainparams.cpp`, 32 zero bits and then ones.
const EASIEST_TARGET: Hash = {
    let mut target = [0xff; 32];
    (target[0], target[1], target[2], target[3]) = (0, 0, 0, 0);
    target
};

pub(super) fn check(header: &Header) -> Result<(), Invalid> {
    let target = target(header.bits)
        .filter(|target| *target != [0; 32] && *target <= EASIEST_TARGET)
        .ok_or(Invalid::Target(header.bits))?;
    let mut number = header.hash;
    number.reverse();
    if number > target {
        return Err(Invalid::ProofOfWork(header.bits));
    }
    Ok(())
}

/// Whether `data` begins with a header under mainnet's proof of work, as nothing but a Bitcoin
/// block does.
pub(crate) fn has_proof_of_work(data: &[u8]) -> bool {
    Header::decode(data).is_ok_and(|header| check(&header).is_ok())
}

/// The 256-bit number, big-endian, that the compact form stands for (Core's
/// `arith_uint256::SetCompact`): three bytes of mantissa, moved so that the number has as many bytes
/// as the first byte says. `None` if it is negative or does not fit into 256 bits.
fn target(bits: u32) -> Option<Hash> {
    let [length, mantissa @ ..] = bits.to_be_bytes();
    if mantissa[0] & 0x80 != 0 {
        return None;
    }
    let mut target = [0; 32];
    for (place, byte) in (1..).zip(mantissa) {
        // Bytes below the first power of 256 are dropped, as Core does.
        if let Some(power) = usize::from(length).checked_sub(place)
            && byte != 0
        {
            *target.get_mut(31usize.checked_sub(power)?)? = byte;
        }
    }
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    /// The number with these leading bytes and `zeros` zero bytes after them.
    fn number(leading: &[u8], zeros: usize) -> Option<Hash> {
        let mut number = [0; 32];
        number[32 - zeros - leading.len()..32 - zeros].copy_from_slice(leading);
        Some(number)
    }

    #[test]
    fn compact_targets_mean_what_core_says() {
        // From Core's arith_uint256_tests.cpp.
        assert_eq!(target(0x1d00_ffff), number(&[0xff, 0xff], 26));
        assert_eq!(target(0x0112_3456), number(&[0x12], 0));
        assert_eq!(target(0x0212_3456), number(&[0x12, 0x34], 0));
        assert_eq!(target(0x0312_3456), number(&[0x12, 0x34, 0x56], 0));
        assert_eq!(target(0x0412_3456), number(&[0x12, 0x34, 0x56], 1));
        assert_eq!(target(0x2012_3456), number(&[0x12, 0x34, 0x56], 29));
        assert_eq!(target(0x0012_3456), number(&[], 0));
        assert_eq!(target(0x0492_3456), None, "negative");
        assert_eq!(target(0xff12_3456), None, "more than 256 bits");
        assert_eq!(target(0x2100_ffff), number(&[0xff, 0xff], 30));
        assert_eq!(target(0x2200_00ff), number(&[0xff], 31));
        assert_eq!(target(0x2300_00ff), None, "more than 256 bits");
    }

    #[test]
    fn targets_out_of_range_are_refused() {
        for bits in [0, 0x1d01_0000, 0x2000_ffff, 0x0180_0001, 0xffff_ffff] {
            let header = Header {
                hash: [0; 32],
                merkle_root: [0; 32],
                bits,
            };
            assert_eq!(check(&header), Err(Invalid::Target(bits)), "{bits:#x}");
        }
        let header = Header {
            hash: [0; 32],
            merkle_root: [0; 32],
            bits: 0x1d00_ffff,
        };
        assert_eq!(check(&header), Ok(()));
    }
}
