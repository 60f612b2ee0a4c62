//! A long item on its way to a peer that has asked for it, a piece at a time.
//!
//! All who are sent an item share its bytes, and who reads none has little of it waiting. Bounds: one of them for each peer, and a piece in
//! its stream beyond what the lanes have room for.

use bytes::Bytes;

use crate::{lanes::Outgoing, propagation::wire};

/// An item over so many bytes goes out in pieces of so many.
pub(super) const LONG: usize = 64 << 10;

/// What of it is not gone.
#[derive(Debug)]
pub(super) struct Long(Bytes);

impl Long {
    /// What goes out first of an item that is one; the rest is put where it is found by [`Self::go_on`].
    pub(super) fn begin(data: Bytes, rest: &mut Option<Self>) -> Outgoing {
        let head = wire::head_of_item(data.len());
        let first = rest.insert(Self(data)).piece(head);
        Outgoing { items: 1, ..first }
    }

    /// What goes out next.
    pub(super) fn go_on(rest: &mut Option<Self>) -> Option<Outgoing> {
        let next = rest.as_mut()?.piece(Vec::new());
        if next.frames > 0 {
            *rest = None;
        }
        Some(next)
    }

    fn piece(&mut self, mut head: Vec<u8>) -> Outgoing {
        let next = self.0.split_to(self.0.len().min(LONG));
        head.extend_from_slice(&next);
        Outgoing {
            bytes: head.into(),
            frames: usize::from(self.0.is_empty()),
            items: 0,
            payload: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        platform::test,
        propagation::wire::{Items, Kind},
    };

    #[test]
    fn the_pieces_of_an_item_are_its_frame() {
        for length in [LONG + 1, 2 * LONG, 3 * LONG + 7] {
            let data = Bytes::from(vec![7; length]);
            let mut rest = None;
            let first = Long::begin(data.clone(), &mut rest);
            assert_eq!((first.frames, first.items), (0, 1));
            let mut bytes = first.bytes.to_vec();
            while let Some(next) = Long::go_on(&mut rest) {
                assert!(next.bytes.len() <= LONG);
                assert_eq!((next.frames, next.items), (usize::from(rest.is_none()), 0));
                bytes.extend(next.bytes);
            }
            let frame = Kind::Items(Items::plain(vec![data])).into_frame();
            assert_eq!(frame, bytes);
        }
    }
}
