//! How large the messages of late are, and what became of each: its verdict is awaited, it was sent on, or it was not.
//!
//! Bounds: [`MAX_MESSAGES`]; of older ones nothing is known, and gossipsub has forgotten them too.

use std::collections::{HashMap, VecDeque};

use libp2p::gossipsub::{MessageId, TopicHash};

/// More than gossipsub keeps to hand on, at a thousand a second.
const MAX_MESSAGES: usize = 1 << 16;

/// What became of a message.
#[derive(Debug, PartialEq)]
pub(super) enum Fate {
    /// It came on this topic, and waits for its verdict.
    Awaits(TopicHash),
    /// Whoever takes part was sent it, if anybody does.
    Sent,
    /// Nobody was sent it: it was not accepted, or nobody had room.
    Unsent,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    sizes: HashMap<MessageId, (usize, Fate)>,
    order: VecDeque<MessageId>,
}

impl Sizes {
    /// A message is new, or its fate another one.
    pub(super) fn insert(&mut self, id: MessageId, size: usize, fate: Fate) {
        if self.sizes.insert(id.clone(), (size, fate)).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_MESSAGES
            && let Some(eldest) = self.order.pop_front()
        {
            self.sizes.remove(&eldest);
        }
    }

    pub(super) fn get(&self, id: &MessageId) -> Option<usize> {
        self.sizes.get(id).map(|(size, _)| *size)
    }

    pub(super) fn awaits_verdict(&self, id: &MessageId) -> bool {
        let known = self.sizes.get(id);
        known.is_some_and(|(_, fate)| matches!(fate, Fate::Awaits(_)))
    }

    /// Whether a message was sent on, ours or another's.
    pub(super) fn is_sent(&self, id: &MessageId) -> bool {
        let known = self.sizes.get(id);
        known.is_some_and(|(_, fate)| *fate == Fate::Sent)
    }

    /// The verdict on a message is in: its size, and its topic where this is the first one. Until it is told otherwise it is not sent.
    pub(super) fn judged(&mut self, id: &MessageId) -> Option<(usize, TopicHash)> {
        let (size, fate) = self.sizes.get_mut(id)?;
        let Fate::Awaits(topic) = fate else {
            return None;
        };
        let judged = (*size, topic.clone());
        *fate = Fate::Unsent;
        Some(judged)
    }
}
