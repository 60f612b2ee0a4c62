//! How large the messages of late are, and on which topic those came that wait for their verdict.
//!
//! Bounds: [`MAX_MESSAGES`]; of older ones nothing is known, and gossipsub has forgotten them too.

use std::collections::{HashMap, VecDeque};

use libp2p::gossipsub::{MessageId, TopicHash};

/// More than gossipsub keeps to hand on, at a thousand a second.
const MAX_MESSAGES: usize = 1 << 16;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    sizes: HashMap<MessageId, (usize, Option<TopicHash>)>,
    order: VecDeque<MessageId>,
}

impl Sizes {
    /// A message; `topic` where it waits for its verdict.
    pub(super) fn insert(&mut self, id: MessageId, size: usize, topic: Option<TopicHash>) {
        if self.sizes.insert(id.clone(), (size, topic)).is_none() {
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
        self.sizes.get(id).is_some_and(|(_, topic)| topic.is_some())
    }

    /// Whether a message is our own, or its verdict is in.
    pub(super) fn is_judged(&self, id: &MessageId) -> bool {
        self.sizes.get(id).is_some_and(|(_, topic)| topic.is_none())
    }

    /// The verdict on a message is in: its size, and its topic where this is the first one.
    pub(super) fn judged(&mut self, id: &MessageId) -> Option<(usize, TopicHash)> {
        let (size, topic) = self.sizes.get_mut(id)?;
        Some((*size, topic.take()?))
    }
}
