//! Bans: who is kept out until when.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use libp2p::PeerId;

use crate::platform::{Instant, SystemTime};

/// The longest ban for a while.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ban {
    /// Who is kept out.
    pub peer_id: PeerId,
    /// Until when, by the host's date as it is now; `None`: for ever, by `security.blacklist_config.peers`.
    pub until: Option<SystemTime>,
}

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

    /// Keeps a peer out from now on, for as long as is usual.
    pub fn ban(&mut self, peer: PeerId, now: Instant) {
        self.ban_for(peer, self.duration, now);
    }

    /// Keeps a peer out from now on, for so long, ten years at most.
    pub fn ban_for(&mut self, peer: PeerId, duration: Duration, now: Instant) {
        if let Some(end) = self.until.remove(&peer) {
            self.ends.remove(&(end, peer));
        } else if self.until.len() >= self.max_bans
            && let Some((_, first)) = self.ends.pop_first()
        {
            self.until.remove(&first);
        }
        let end = now + duration.min(LONGEST);
        self.until.insert(peer, end);
        self.ends.insert((end, peer));
    }

    /// Lets a peer in again. False where it was not kept out for a while; one that is so for ever stays.
    pub fn lift(&mut self, peer: &PeerId) -> bool {
        let end = self.until.remove(peer);
        end.is_some_and(|end| self.ends.remove(&(end, *peer)))
    }

    /// Who is kept out now for a while, and for how long still; the one that ends first in front.
    pub fn for_a_while(&self, now: Instant) -> impl Iterator<Item = (PeerId, Duration)> {
        let left = move |(end, peer): &(Instant, PeerId)| {
            let left = end.saturating_duration_since(now);
            (!left.is_zero()).then_some((*peer, left))
        };
        self.ends.iter().filter_map(left)
    }

    /// All who are kept out now, those for ever first.
    pub fn all(&self, now: Instant, date: SystemTime) -> Vec<Ban> {
        let mut always: Vec<_> = self.always.iter().copied().collect();
        always.sort();
        let always = always.into_iter().map(|peer_id| Ban {
            peer_id,
            until: None,
        });
        let others = self.for_a_while(now).map(|(peer_id, left)| Ban {
            peer_id,
            until: Some(date.checked_add(left).unwrap_or(date)),
        });
        always.chain(others).collect()
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

    #[test]
    fn bans_are_listed_and_lifted() {
        let (now, date) = (crate::platform::now(), SystemTime::UNIX_EPOCH);
        let minute = Duration::from_secs(60);
        let [for_ever, first, second] = [(); 3].map(|()| PeerId::random());
        let mut bans = Bans::new(HashSet::from([for_ever]), minute, 9);
        bans.ban_for(second, Duration::MAX, now);
        bans.ban(first, now);
        let ban = |peer_id, until| Ban { peer_id, until };
        let all = [
            ban(for_ever, None),
            ban(first, Some(date + minute)),
            ban(second, Some(date + LONGEST)),
        ];
        assert_eq!(bans.all(now, date), all);
        let later: Vec<_> = bans.for_a_while(now + minute).collect();
        assert_eq!(later, [(second, LONGEST - minute)]);
        assert!(bans.lift(&second) && !bans.holds(&second, now));
        assert!(!bans.lift(&second) && !bans.lift(&for_ever));
        assert!(bans.holds(&for_ever, now));
        assert_eq!((bans.until.len(), bans.ends.len()), (1, 1));
    }
}
