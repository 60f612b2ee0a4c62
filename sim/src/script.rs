//! What a node keeps back of what it would send: the script of one that means harm on the wire.
//!
//! The node is Selkie's own and whole; what its lanes would hand to a peer passes by here, and frames are told apart by their fields, as
//! `docs/propagation.md`, `docs/blocks.md` and `docs/coded.md` name them.

use std::time::Duration;

use selkie_sim_host::clock;

/// What a node keeps back of the frames that it would send to peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// From a moment on: all that carries items, so that it tells of them only.
    Announce {
        /// When.
        from: Duration,
    },
}

impl Script {
    /// Whether a frame, its length in front, goes out.
    pub(crate) fn lets_out(self, frame: &[u8]) -> bool {
        let Self::Announce { from } = self;
        clock::now() < from || !carries_items(frame)
    }
}

/// Whether a frame carries items, whole or in parts.
fn carries_items(frame: &[u8]) -> bool {
    const ITEMS: u64 = 1;
    const BLOCK: u64 = 6;
    const CODED: u64 = 7;
    const TRANSACTIONS: u64 = 5;
    const WHOLE: u64 = 6;
    const CHUNK: u64 = 3;
    let Some((_, frame)) = number(frame) else {
        return false;
    };
    let Some((kind, inner)) = field(frame) else {
        return false;
    };
    let inner = || field(inner).map(|(kind, _)| kind);
    match kind {
        ITEMS => true,
        BLOCK => matches!(inner(), Some(TRANSACTIONS | WHOLE)),
        CODED => inner() == Some(CHUNK),
        _ => false,
    }
}

/// A message's first field, where it has a length: its number, and what is in it.
fn field(message: &[u8]) -> Option<(u64, &[u8])> {
    let (key, rest) = number(message)?;
    let (_, inner) = number(rest)?;
    (key & 7 == 2).then_some((key >> 3, inner))
}

/// A varint, and what is behind it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().take(9).position(|byte| byte & 0x80 == 0)?;
    let (number, rest) = bytes.split_at(end + 1);
    let add = |sum, byte: &u8| sum << 7 | u64::from(byte & 0x7f);
    Some((number.iter().rev().fold(0, add), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_carries_items_is_told_from_what_tells_of_them() {
        // A length, the field of the frame, its length, the field within, its length.
        for (frame, carries) in [
            ([4, 0x0a, 2, 0x0a, 0], true),
            ([4, 0x12, 2, 0x0a, 0], false),
            ([4, 0x32, 2, 0x0a, 0], false),
            ([4, 0x32, 2, 0x2a, 0], true),
            ([4, 0x32, 2, 0x32, 0], true),
            ([4, 0x32, 2, 0x3a, 0], false),
            ([4, 0x3a, 2, 0x12, 0], false),
            ([4, 0x3a, 2, 0x1a, 0], true),
        ] {
            assert_eq!(carries_items(&frame), carries, "{frame:x?}");
            for end in 0..2 {
                assert!(!carries_items(&frame[..end]), "cut short");
            }
        }
        let from = Duration::from_secs(1);
        assert!(Script::Announce { from }.lets_out(&[4, 0x0a, 2, 0x0a, 0]));
    }
}
