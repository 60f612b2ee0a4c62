//! What a peer is sent of a block that is here, a piece at a time as it reads.
//!
//! A peer reads as slowly as it likes, and what it has asked for waits for it. So nothing is encoded before it goes out: what waits is
//! which part of which block ([`Part`]), and what is on its way is a cursor over the block itself ([`Sending`]), which many peers share.
//! A message's last field is what makes it long, and all that stands before that is known beforehand.

use std::sync::Arc;

use bytes::Bytes;
use prost::encoding::encoded_len_varint;

use super::rows::put_number;
use super::wire;
use crate::chain::{Block, BlockParts, ItemId};

/// A part of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The compact form.
    Compact,
    /// All of it.
    Whole,
    /// The transactions at these places.
    Transactions(Places),
}

impl Part {
    /// Its name, for a trace.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Compact => "compact block",
            Self::Whole => "whole block",
            Self::Transactions(_) => "missing transactions",
        }
    }
}

/// Places in a block, a bit for each, since many of them may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places(Vec<u64>);

impl FromIterator<usize> for Places {
    fn from_iter<I: IntoIterator<Item = usize>>(places: I) -> Self {
        let mut words = Vec::new();
        for place in places {
            let word = place / 64;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            if let Some(word) = words.get_mut(word) {
                *word |= 1 << (place % 64);
            }
        }
        Self(words)
    }
}

impl Places {
    /// The first one that is not before this.
    fn from(&self, place: usize) -> Option<usize> {
        let first = place / 64;
        let mut mask = u64::MAX << (place % 64);
        for (word, bits) in self.0.iter().enumerate().skip(first) {
            let bits = bits & std::mem::replace(&mut mask, u64::MAX);
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
        }
        None
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(self.from(0), |place| self.from(place + 1))
    }
}

/// What is served of a block. Whoever is being sent some of it has hold of it, also when the block is kept no more.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) block: Block,
    /// `None`: the chain's blocks are opaque.
    pub(super) parts: Option<BlockParts>,
    /// Whether the parts are slices of the block, and no memory of their own.
    pub(super) are_slices: bool,
    /// The message of its compact form; `None` where it has none.
    pub(super) compact: Option<Bytes>,
}

impl Served {
    /// Bytes of memory.
    pub(super) fn weight(&self) -> usize {
        let transactions = self.parts.as_ref().map(|parts| parts.transactions.len());
        let copies = if self.are_slices { 1 } else { 2 };
        let compact = self.compact.as_ref().map_or(0, Bytes::len);
        self.block.data.len() * copies + transactions.unwrap_or(0) * size_of::<Bytes>() + compact
    }
}

/// A part of a block on its way: the message that it makes, as far as that is not gone.
#[derive(Debug)]
pub struct Sending {
    served: Arc<Served>,
    part: Part,
    /// Bytes of the message in all.
    length: usize,
    /// What comes before the rest.
    head: Vec<u8>,
    /// At which place is the byte string that goes out now, and how much of it is gone. `None`: all are.
    place: Option<usize>,
    gone: usize,
}

impl Sending {
    /// `None` where the block does not have this part.
    pub(super) fn new(id: &ItemId, served: Arc<Served>, part: Part) -> Option<Self> {
        let (head, body) = match &part {
            Part::Compact => (Vec::new(), served.compact.as_ref()?.len()),
            Part::Whole => {
                let length = served.block.data.len();
                (wire::head_of_whole(id, length), length)
            }
            Part::Transactions(places) => {
                let mut row = 0;
                for place in places.iter() {
                    let length = served.parts.as_ref()?.transactions.get(place)?.len();
                    row += encoded_len_varint(length as u64) + length;
                }
                (wire::head_of_transactions(id, row), row)
            }
        };
        let place = match &part {
            Part::Transactions(places) => places.from(0),
            _ => Some(0),
        };
        Some(Self {
            served,
            part,
            length: head.len() + body,
            head,
            place,
            gone: 0,
        })
    }

    /// Bytes of the message in all.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.head.is_empty() && self.place.is_none()
    }

    /// The next bytes, about as many as there is room for.
    pub fn piece(&mut self, room: usize) -> Vec<u8> {
        let mut piece = std::mem::take(&mut self.head);
        while let Some(place) = self.place
            && piece.len() < room
        {
            let string = match &self.part {
                Part::Compact => self.served.compact.as_ref(),
                Part::Whole => Some(&self.served.block.data),
                Part::Transactions(_) => {
                    let parts = self.served.parts.as_ref();
                    parts.and_then(|parts| parts.transactions.get(place))
                }
            };
            let string = string.map(Bytes::as_ref).unwrap_or_default();
            let is_in_row = matches!(self.part, Part::Transactions(_));
            if is_in_row && self.gone == 0 {
                put_number(&mut piece, string.len());
            }
            // At least one, so that no length is written twice.
            let most = room.saturating_sub(piece.len()).max(1);
            let rest = string.get(self.gone..).unwrap_or_default();
            let taken = rest.get(..most).unwrap_or(rest);
            piece.extend_from_slice(taken);
            self.gone += taken.len();
            if self.gone >= string.len() {
                self.gone = 0;
                self.place = match &self.part {
                    Part::Transactions(places) => places.from(place + 1),
                    _ => None,
                };
            }
        }
        piece
    }

    /// What it has hold of, and how much that is, for whoever counts what is kept no more: those of the same block are alike.
    pub(in crate::propagation::blocks) fn holds(&self) -> (usize, usize) {
        (Arc::as_ptr(&self.served).addr(), self.served.weight())
    }

    /// Whether so many have hold of it, and nobody else.
    pub(in crate::propagation::blocks) fn is_held_by(&self, holders: usize) -> bool {
        Arc::strong_count(&self.served) == holders
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        platform::test,
        propagation::blocks::compact::{
            BlockMessage, CompactBlock, Transactions, WholeBlock, test_chain::block,
        },
    };

    proptest! {
        #[test]
        fn the_pieces_of_a_part_are_the_message_whatever_the_room(
            lengths in prop::collection::vec(1..400_usize, 1..150),
            chosen in prop::collection::btree_set(0..150_usize, 1..150),
            rooms in prop::collection::vec(0..300_usize, 1..20),
        ) {
            let transactions: Vec<_> = lengths.iter().map(|length| Bytes::from(vec![7; *length])).collect();
            let (id, block, parts) = block(&transactions);
            let compact = CompactBlock::new(id.clone(), &parts, 1, 100, |_, _| true);
            let compact = BlockMessage::Compact(compact.expect("it has one"));
            let served = Arc::new(Served {
                block: block.clone(),
                parts: Some(parts),
                are_slices: true,
                compact: Some(compact.encode().into()),
            });
            let places = || chosen.iter().copied().filter(|place| *place < transactions.len());
            let missing = places().map(|place| transactions[place].clone()).collect();
            let missing = BlockMessage::Transactions(Transactions { id: id.clone(), transactions: missing });
            let whole = BlockMessage::Whole(WholeBlock { id: id.clone(), data: block.data });
            for (part, message) in [
                (Part::Compact, compact),
                (Part::Whole, whole),
                (Part::Transactions(places().collect()), missing),
            ] {
                if places().next().is_none() && part.name() == "missing transactions" {
                    continue;
                }
                let mut sending = Sending::new(&id, Arc::clone(&served), part).expect("it is there");
                let (length, mut bytes) = (sending.length(), Vec::new());
                let mut rooms = rooms.iter().cycle();
                while !sending.is_over() {
                    bytes.extend(sending.piece(1 + rooms.next().expect("endless")));
                }
                prop_assert_eq!(length, bytes.len());
                prop_assert_eq!(bytes, message.encode());
            }
        }
    }

    #[test]
    fn a_part_that_a_block_does_not_have_is_not_sent() {
        let served = |parts| {
            Arc::new(Served {
                block: Block::new("a block"),
                parts,
                are_slices: true,
                compact: None,
            })
        };
        let id = ItemId::sha256(b"a block");
        let opaque = served(None);
        assert!(Sending::new(&id, Arc::clone(&opaque), Part::Compact).is_none());
        let some = Part::Transactions([0].into_iter().collect());
        assert!(Sending::new(&id, opaque, some).is_none());
        let (id, _, parts) = block(&[vec![7; 9].into()]);
        let more = Part::Transactions([0, 1].into_iter().collect());
        assert!(Sending::new(&id, served(Some(parts)), more).is_none());
    }
}
