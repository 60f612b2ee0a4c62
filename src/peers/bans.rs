//! Bans: who is kept out until when.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use libp2p::PeerId;

use crate::platform::Instant;

/// Peers kept out: some for ever (by config), at most `max_bans` for a while. When full, the ban that ends
/// first is dropped.
#[derive(Debug)]
pub struct Bans {
    always: HashSet<PeerId>,
    until: BTreeMap<PeerId, Instant>,
    /// The same, the one that ends first in front.
    ends: BTreeSet<(Instant, PeerId)>,
    duration: Duration,
    max_bans: usize,
}

impl Bans {
    /// Keeps `always` out; other bans last `duration`.
    pub fn new(always: HashSet<PeerId>, duration: Duration, max_bans: usize) -> Self {
        Self {
            always,
            until: BTreeMap::new(),
            ends: BTreeSet::new(),
            duration,
            max_bans,
        }
    }

    /// Keeps a peer out from now on.
    pub fn ban(&mut self, peer: PeerId, now: Instant) {
        if let Some(end) = self.until.remove(&peer) {
            self.ends.remove(&(end, peer));
        } else if self.until.len() >= self.max_bans
            && let Some((_, first)) = self.ends.pop_first()
        {
            self.until.remove(&first);
        }
        let end = now + self.duration;
        self.until.insert(peer, end);
        self.ends.insert((end, peer));
    }

    /// Whether a peer is kept out now.
    pub fn holds(&self, peer: &PeerId, now: Instant) -> bool {
        self.always.contains(peer) || self.until.get(peer).is_some_and(|end| *end > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn a_ban_ends_and_the_table_is_bounded() {
        let now = crate::platform::now();
        let minute = Duration::from_secs(60);
        let for_ever = PeerId::random();
        let mut bans = Bans::new(HashSet::from([for_ever]), minute, 2);
        let peers = [PeerId::random(), PeerId::random(), PeerId::random()];
        for (seconds, peer) in (0..).zip(peers) {
            bans.ban(peer, now + Duration::from_secs(seconds));
        }
        assert!(!bans.holds(&peers[0], now), "the first to end made room");
        assert!(bans.holds(&peers[1], now) && bans.holds(&peers[2], now));
        assert!(!bans.holds(&peers[1], now + minute * 2));
        assert!(bans.holds(&for_ever, now + minute * 1000));
        bans.ban(peers[2], now + minute);
        assert!(bans.holds(&peers[2], now + minute * 3 / 2), "it is longer");
        assert_eq!((bans.until.len(), bans.ends.len()), (2, 2));
    }
}
