//! What a node keeps back of what it would send, or changes: the script of one that means harm on the wire.
//!
//! The node is Selkie's own and whole; what its lanes would hand to a peer passes by here, and frames are told apart by their fields, as
//! `docs/propagation.md`, `docs/blocks.md` and `docs/coded.md` name them.

use std::time::Duration;

use bytes::Bytes;
use selkie_sim_host::clock;

/// What becomes of the frames that a node would send to peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// From a moment on it keeps back all that carries items, so that it tells of them only.
    Announce {
        /// When.
        from: Duration,
    },
    /// From a moment on the last byte of each coded chunk is another, so that it is not the announced one.
    SpoilChunks {
        /// When.
        from: Duration,
    },
}

impl Script {
    /// What goes out for a frame, its length in front.
    pub(crate) fn sent_for(self, frame: Bytes) -> Option<Bytes> {
        let (Self::Announce { from } | Self::SpoilChunks { from }) = self;
        if clock::now() < from {
            return Some(frame);
        }
        let carries = Carries::of(&frame);
        match self {
            Self::Announce { .. } => carries.is_none().then_some(frame),
            Self::SpoilChunks { .. } if carries == Some(Carries::Chunk) => Some(spoilt(&frame)),
            Self::SpoilChunks { .. } => Some(frame),
        }
    }
}

/// The same frame with another last byte: a chunk's data comes last in it.
fn spoilt(frame: &[u8]) -> Bytes {
    let mut bytes = frame.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes.into()
}

/// What a frame carries of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    /// One or more, whole or in parts.
    Items,
    /// A coded chunk of a block.
    Chunk,
}

impl Carries {
    /// `None` where it tells of items only, or is about none.
    fn of(frame: &[u8]) -> Option<Self> {
        const ITEMS: u64 = 1;
        const BLOCK: u64 = 6;
        const CODED: u64 = 7;
        const TRANSACTIONS: u64 = 5;
        const WHOLE: u64 = 6;
        const CHUNK: u64 = 3;
        let (_, frame) = number(frame)?;
        let (kind, inner) = field(frame)?;
        let inner = || field(inner).map(|(kind, _)| kind);
        match kind {
            ITEMS => Some(Self::Items),
            BLOCK => matches!(inner(), Some(TRANSACTIONS | WHOLE)).then_some(Self::Items),
            CODED => (inner() == Some(CHUNK)).then_some(Self::Chunk),
            _ => None,
        }
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
        let (items, chunk) = (Some(Carries::Items), Some(Carries::Chunk));
        // A length, the field of the frame, its length, the field within, its length.
        for (frame, carries) in [
            ([4, 0x0a, 2, 0x0a, 0], items),
            ([4, 0x12, 2, 0x0a, 0], None),
            ([4, 0x32, 2, 0x0a, 0], None),
            ([4, 0x32, 2, 0x2a, 0], items),
            ([4, 0x32, 2, 0x32, 0], items),
            ([4, 0x32, 2, 0x3a, 0], None),
            ([4, 0x3a, 2, 0x12, 0], None),
            ([4, 0x3a, 2, 0x1a, 0], chunk),
        ] {
            assert_eq!(Carries::of(&frame), carries, "{frame:x?}");
            for end in 0..2 {
                assert_eq!(Carries::of(&frame[..end]), None, "cut short");
            }
        }
    }

    #[test]
    fn a_script_keeps_back_or_changes_from_its_moment_on_what_it_is_about() {
        let [items, tells, chunk] =
            [0x0a, 0x12, 0x3a].map(|frame| Bytes::from(vec![6, frame, 4, 0x1a, 2, 0x2a, 0]));
        let announce = |from| Script::Announce { from };
        let spoil = |from| Script::SpoilChunks { from };
        let later = Duration::from_secs(1);
        for frame in [&items, &tells, &chunk] {
            for script in [announce(later), spoil(later)] {
                assert_eq!(script.sent_for(frame.clone()).as_ref(), Some(frame));
            }
        }
        let now = Duration::ZERO;
        let sent = |script: Script| [&items, &tells, &chunk].map(|it| script.sent_for(it.clone()));
        assert_eq!(sent(announce(now)), [None, Some(tells.clone()), None]);
        let spoilt = Bytes::from(vec![6, 0x3a, 4, 0x1a, 2, 0x2a, 1]);
        assert_eq!(
            sent(spoil(now)),
            [Some(items.clone()), Some(tells.clone()), Some(spoilt)]
        );
    }
}
