//! Frames that hold a block or much of one, as they go out.
//!
//! A peer reads as slowly as it likes, and what it has asked for waits for it, so a frame may stay in memory for long. One that says
//! the same to everybody is encoded once and shared, for as long as it is on the way to anybody: who does not read costs no copy.
//! Transactions of a block that a peer asks for are its own choice, and no two answers need be alike: of these
//! [`MAX_CHOSEN`] bytes are on their way at once, whosever they are, beside little ones. Who asks for more is sent the whole block.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use super::compact::{BlockMessage, Transactions};
use crate::{chain::ItemId, propagation::wire::Kind};

/// Bytes of transactions of blocks that are on their way at once.
const MAX_CHOSEN: usize = 16 << 20;
/// An answer of so many bytes at most goes out all the same, once for each peer and block: who lacks little of a block is not sent all of
/// it because others do not read.
const LITTLE: usize = 64 << 10;
/// Frames that are remembered before it is looked which of them are still on their way.
const LEAST_REMEMBERED: usize = 64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// What is said to everybody: which kind of message, of which block.
    shared: HashMap<(&'static str, ItemId), Weak<Vec<u8>>>,
    /// How many there were when those that have arrived were last forgotten.
    remembered: usize,
    /// Bytes of what was chosen that are on their way.
    chosen: Arc<AtomicUsize>,
}

/// Bytes that many are sent.
struct Shared(Arc<Vec<u8>>);

/// Bytes that are counted for as long as they are there.
struct Counted {
    bytes: Vec<u8>,
    count: Arc<AtomicUsize>,
}

impl Frames {
    /// Whether there is room for one more answer of transactions.
    pub(super) fn has_room_for(&self, answer: &Transactions) -> bool {
        let bytes: usize = answer.transactions.iter().map(Bytes::len).sum();
        bytes <= LITTLE || self.chosen.load(Ordering::Relaxed).saturating_add(bytes) <= MAX_CHOSEN
    }

    /// A message as it goes out.
    pub(super) fn encode(&mut self, message: BlockMessage) -> Bytes {
        let id = match &message {
            BlockMessage::Whole(whole) => whole.id.clone(),
            BlockMessage::Compact(compact) => compact.id().clone(),
            BlockMessage::Transactions(_) => {
                let count = Arc::clone(&self.chosen);
                let bytes = encode(message);
                count.fetch_add(bytes.len(), Ordering::Relaxed);
                return Bytes::from_owner(Counted { bytes, count });
            }
            _ => return encode(message).into(),
        };
        let of_block = (message.name(), id);
        let shared = self.shared.get(&of_block).and_then(Weak::upgrade);
        let shared = shared.unwrap_or_else(|| {
            let bytes = Arc::new(encode(message));
            self.remember(of_block, Arc::downgrade(&bytes));
            bytes
        });
        Bytes::from_owner(Shared(shared))
    }

    /// Those that have arrived are forgotten whenever there are twice as many as were left the last time.
    fn remember(&mut self, of_block: (&'static str, ItemId), bytes: Weak<Vec<u8>>) {
        if self.shared.len() >= LEAST_REMEMBERED.max(2 * self.remembered) {
            self.shared.retain(|_, bytes| bytes.strong_count() > 0);
            self.remembered = self.shared.len();
        }
        self.shared.insert(of_block, bytes);
    }
}

fn encode(message: BlockMessage) -> Vec<u8> {
    Kind::Block(message.encode().into()).into_frame().into()
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{platform::test, propagation::blocks::compact::WholeBlock};

    fn whole(number: usize) -> BlockMessage {
        BlockMessage::Whole(WholeBlock {
            id: ItemId::sha256(&number.to_le_bytes()),
            data: vec![7; 1000].into(),
        })
    }

    #[test]
    fn what_is_on_its_way_is_shared_and_what_has_arrived_is_gone() {
        let mut frames = Frames::default();
        let [one, two, other] = [1, 1, 2].map(|number| frames.encode(whole(number)));
        assert_eq!(
            (one.as_ptr(), &one[..]),
            (two.as_ptr(), &encode(whole(1))[..])
        );
        assert_ne!(one.as_ptr(), other.as_ptr());
        drop((one, two));
        assert_eq!(frames.encode(whole(1)), encode(whole(1)));
        (0..10_000).for_each(|number| drop(frames.encode(whole(number))));
        assert!(frames.shared.len() <= LEAST_REMEMBERED);
    }

    #[test]
    fn what_is_chosen_is_counted_until_it_has_arrived() {
        let mut frames = Frames::default();
        let answer = Transactions {
            id: ItemId::sha256(b"a block"),
            transactions: vec![vec![7; 3 << 20].into()],
        };
        let mut sent = Vec::new();
        while frames.has_room_for(&answer) {
            sent.push(frames.encode(BlockMessage::Transactions(answer.clone())));
        }
        assert_eq!(sent.len(), 5);
        let part = sent[0].slice(9..10);
        sent.remove(0);
        assert!(!frames.has_room_for(&answer), "some of it is there");
        drop(part);
        assert!(frames.has_room_for(&answer));
        sent.clear();
        assert_eq!(frames.chosen.load(Ordering::Relaxed), 0);
    }
}
