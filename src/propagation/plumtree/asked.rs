//! What a peer has asked for and is to be sent: each once, in the order in which it asked.
//!
//! Bounds: so many at once as its user says.

use std::collections::{HashSet, VecDeque};

use crate::{chain::ShortId, keyed::Keyed};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Asked {
    order: VecDeque<ShortId>,
    /// Those of them that were not sent meanwhile.
    ids: HashSet<ShortId, Keyed>,
}

impl Asked {
    pub(super) fn new(keyed: &Keyed) -> Self {
        Self {
            order: VecDeque::new(),
            ids: HashSet::with_hasher(keyed.clone()),
        }
    }

    /// One more, unless it is there already; false where there are so many.
    pub(super) fn add(&mut self, id: ShortId, most: usize) -> bool {
        if self.order.len() >= most {
            return false;
        }
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        true
    }

    /// The next one.
    pub(super) fn front(&mut self) -> Option<ShortId> {
        while let Some(id) = self.order.front().copied() {
            if self.ids.contains(&id) {
                return Some(id);
            }
            self.order.pop_front();
        }
        None
    }

    /// It is sent.
    pub(super) fn remove(&mut self, id: ShortId) {
        if self.ids.remove(&id) && self.order.front() == Some(&id) {
            self.order.pop_front();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}
