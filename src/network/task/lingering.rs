//! How long this node takes part in the topics of items.
//!
//! Who takes part in a topic, or does no more, tells every peer, and gossipsub keeps that for each, without bound, until it
//! reads. A peer that joins and leaves the topic as fast as it can would have us tell all others as often. So a topic is
//! left only when it was not needed for [`LINGER`]: a peer costs each other two short messages a minute at most.

use std::{collections::HashMap, time::Duration};

use crate::{chain::ItemKind, platform::Instant};

/// How long a topic is kept that nobody needs.
const LINGER: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    /// Until when each is kept.
    kept: HashMap<ItemKind, Instant>,
}

impl Lingering {
    /// Whether to take part in a kind's topic, which is needed now or not. To be asked every second or so.
    pub(super) fn takes_part(&mut self, kind: ItemKind, needed: bool, now: Instant) -> bool {
        if needed {
            self.kept.insert(kind, now + LINGER);
        }
        self.kept.get(&kind).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn who_joins_and_leaves_has_us_join_once() {
        let (mut lingering, mut now) = (Lingering::default(), crate::platform::now());
        let kind = ItemKind::Vote;
        assert!(!lingering.takes_part(kind, false, now), "not needed yet");
        for toggle in 0..10_000 {
            assert!(lingering.takes_part(kind, toggle % 2 == 0, now));
            now += Duration::from_millis(4);
        }
        assert!(!lingering.takes_part(ItemKind::Block, false, now));
        assert!(lingering.takes_part(kind, false, now + LINGER / 2));
        assert!(!lingering.takes_part(kind, false, now + LINGER));
    }
}
