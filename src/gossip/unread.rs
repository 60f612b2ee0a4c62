//! What may wait for a peer that does not read, in bytes.
//!
//! gossipsub's queue to a peer is limited in messages, and each holds its own copy. It lets nobody look into it, but drops from it
//! what the peer says it does not want. So the messages of late are noted with their sizes, and when they are more than
//! a queue may hold, the oldest are no longer wanted by anybody: of a peer that reads they are long gone, and of
//! one that does not they are dropped.
//!
//! Bounds: ids of [`Unread::MAX_MESSAGES`] messages.

use std::collections::VecDeque;

use libp2p::gossipsub::MessageId;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Unread {
    max_bytes: usize,
    bytes: usize,
    messages: VecDeque<(MessageId, usize)>,
}

impl Unread {
    /// The most messages that are noted: a queue holds fewer, so the oldest can't be in one.
    pub(super) const MAX_MESSAGES: usize = 1 << 16;

    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            bytes: 0,
            messages: VecDeque::new(),
        }
    }

    /// A message goes to peers: those that are not to wait for anybody any more. Half of the room is made at
    /// once, so that this is seldom.
    pub(super) fn note(&mut self, id: MessageId, size: usize) -> Vec<MessageId> {
        self.messages.push_back((id, size));
        self.bytes += size;
        if self.messages.len() > Self::MAX_MESSAGES {
            self.pop();
        }
        let mut old = Vec::new();
        if self.bytes > self.max_bytes {
            while self.bytes > self.max_bytes / 2 && self.messages.len() > 1 {
                old.extend(self.pop());
            }
        }
        old
    }

    fn pop(&mut self) -> Option<MessageId> {
        let (id, size) = self.messages.pop_front()?;
        self.bytes -= size;
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn what_waits_is_bounded_and_the_newest_stays() {
        let mut unread = Unread::new(1000);
        let mut waiting = VecDeque::new();
        for number in 0..500_u16 {
            let size = usize::from(number % 7) * 140;
            let id = MessageId::new(&number.to_be_bytes());
            waiting.push_back((id.clone(), size));
            let old = unread.note(id, size);
            waiting.retain(|(id, _)| !old.contains(id));
            let bytes: usize = waiting.iter().map(|(_, size)| size).sum();
            assert!(bytes <= 1000 && bytes == unread.bytes && !waiting.is_empty());
        }
    }
}
