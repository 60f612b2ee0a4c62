//! Reputation: what a peer has done, halved over time.
//!
//! After Lighthouse's peer manager: typed misdeeds with a price, an exponential decay, and two thresholds. A peer
//! at the first is disconnected, at the second banned. Bounds: `max_peers` scores; the one nearest to
//! zero is forgotten first, since it says least.
//!
//! All scores fade at the same rate, so that their order never changes by itself: what a score stood at when it was noted, and
//! when that was, give its [`Rank`] once for all, and to forget one costs no look at the others.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::PeerId;

use crate::platform::Instant;

/// What a peer did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// It sent an item that the chain rejects.
    InvalidItem,
    /// It sent bytes that are no message, or one over a limit.
    InvalidMessage,
    /// It asked more often than it may.
    TooManyMessages,
    /// It did not answer in time.
    NoAnswer,
    /// It announced an item as another than it is: its size, or what it pays.
    FalseAnnouncement,
    /// It offered a snapshot that is not the chain's, or sent bytes that are not the snapshot's. Both are proven, and come of no mistake.
    FalseSnapshot,
    /// It answered a question about state with what its own proof does not show. That is proven, and comes of no mistake.
    FalseProof,
}

impl Misdeed {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::InvalidItem,
        Self::InvalidMessage,
        Self::TooManyMessages,
        Self::NoAnswer,
        Self::FalseAnnouncement,
        Self::FalseSnapshot,
        Self::FalseProof,
    ];

    /// The price.
    pub fn price(self) -> f64 {
        match self {
            Self::InvalidItem | Self::InvalidMessage => 10.0,
            Self::TooManyMessages => 1.0,
            Self::NoAnswer => 2.0,
            Self::FalseAnnouncement => 5.0,
            Self::FalseSnapshot | Self::FalseProof => 50.0,
        }
    }

    /// Notes it where nothing dearer is noted: of several in one frame one is paid for.
    pub(crate) fn note(self, noted: &mut Option<Self>) {
        if noted.is_none_or(|noted| noted.price() < self.price()) {
            *noted = Some(self);
        }
    }

    /// For a person: what it did.
    pub fn reason(self) -> &'static str {
        match self {
            Self::InvalidItem => "it sent an item that the chain rejects",
            Self::InvalidMessage => "it sent an invalid message",
            Self::TooManyMessages => "it sends more often than it may",
            Self::NoAnswer => "it did not answer in time",
            Self::FalseAnnouncement => "it announced an item as another than it is",
            Self::FalseSnapshot => "it offered or sent a false snapshot",
            Self::FalseProof => "it answered about the state with a false proof",
        }
    }
}

/// What a peer did wrong, and how often since it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deed {
    /// What.
    pub misdeed: Misdeed,
    /// How often.
    pub count: u32,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing yet.
    Stay,
    /// Close its connections.
    Disconnect,
    /// Close its connections and keep it out.
    Ban,
}

/// The scores of peers: 0 is neutral, below is worse.
#[derive(Debug)]
pub struct Reputation {
    half_life: Duration,
    disconnect_at: f64,
    ban_at: f64,
    max_peers: usize,
    scores: BTreeMap<PeerId, Box<Score>>,
    /// The scores, the one nearest to zero first.
    ranks: BTreeSet<(Rank, PeerId)>,
    /// When the first score was noted.
    began: Option<Instant>,
}

#[derive(Debug)]
struct Score {
    value: f64,
    at: Instant,
    rank: Rank,
    /// How often it did what, in the order of [`Misdeed::ALL`].
    counts: [u32; Misdeed::ALL.len()],
}

/// How many half-lives a score takes to fade to one, counted from the first score of all.
#[derive(Clone, Copy, Debug)]
struct Rank(f64);

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}

impl Reputation {
    /// Scores with this half-life and these thresholds, for at most `max_peers` peers.
    pub fn new(half_life: Duration, disconnect_at: f64, ban_at: f64, max_peers: usize) -> Self {
        Self {
            half_life,
            disconnect_at,
            ban_at,
            max_peers,
            scores: BTreeMap::new(),
            ranks: BTreeSet::new(),
            began: None,
        }
    }

    /// A peer's score now.
    pub fn score(&self, peer: &PeerId, now: Instant) -> f64 {
        self.scores
            .get(peer)
            .map_or(0.0, |score| self.decayed(score, now))
    }

    /// What has led to a peer's score, older things too that count for little by now.
    pub fn deeds(&self, peer: &PeerId) -> Vec<Deed> {
        let counts = self.scores.get(peer).into_iter().flat_map(|score| {
            let all = Misdeed::ALL.into_iter().zip(score.counts);
            all.map(|(misdeed, count)| Deed { misdeed, count })
        });
        counts.filter(|deed| deed.count > 0).collect()
    }

    /// Notes a misdeed: the new score and what follows.
    pub fn note(&mut self, peer: PeerId, misdeed: Misdeed, now: Instant) -> (f64, Judgement) {
        let value = self.score(&peer, now) - misdeed.price();
        let before = self.scores.get(&peer);
        let mut counts = before.map_or([0; Misdeed::ALL.len()], |before| before.counts);
        let counted = Misdeed::ALL.into_iter().zip(&mut counts);
        for (_, count) in counted.filter(|(of, _)| *of == misdeed) {
            *count = count.saturating_add(1);
        }
        self.set(peer, value, counts, now);
        let judgement = if value <= self.ban_at {
            Judgement::Ban
        } else if value <= self.disconnect_at {
            Judgement::Disconnect
        } else {
            Judgement::Stay
        };
        (value, judgement)
    }

    /// What a peer did counts for no more than lets it be disconnected: it may begin again, and one small misdeed is no ban.
    /// The score now.
    pub fn forgive(&mut self, peer: PeerId, now: Instant) -> f64 {
        let value = self.score(&peer, now).max(self.disconnect_at);
        if let Some(score) = self.scores.get(&peer) {
            self.set(peer, value, score.counts, now);
        }
        value
    }

    fn set(&mut self, peer: PeerId, value: f64, counts: [u32; Misdeed::ALL.len()], now: Instant) {
        if let Some(before) = self.scores.remove(&peer) {
            self.ranks.remove(&(before.rank, peer));
        } else if self.scores.len() >= self.max_peers
            && let Some((_, least)) = self.ranks.pop_first()
        {
            self.scores.remove(&least);
        }
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began).as_secs_f64();
        let rank = Rank(value.abs().log2() + age / self.half_life.as_secs_f64());
        self.scores.insert(
            peer,
            Box::new(Score {
                value,
                at: now,
                rank,
                counts,
            }),
        );
        self.ranks.insert((rank, peer));
    }

    fn decayed(&self, score: &Score, now: Instant) -> f64 {
        let age = now.saturating_duration_since(score.at).as_secs_f64();
        score.value * (-age / self.half_life.as_secs_f64()).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn reputation() -> Reputation {
        Reputation::new(Duration::from_secs(600), -20.0, -50.0, 3)
    }

    #[test]
    fn whatever_a_peer_did_is_told() {
        let (mut reputation, peer, now) = (reputation(), PeerId::random(), crate::platform::now());
        let next = |misdeed| match misdeed {
            Misdeed::InvalidItem => Some(Misdeed::InvalidMessage),
            Misdeed::InvalidMessage => Some(Misdeed::TooManyMessages),
            Misdeed::TooManyMessages => Some(Misdeed::NoAnswer),
            Misdeed::NoAnswer => Some(Misdeed::FalseAnnouncement),
            Misdeed::FalseAnnouncement => Some(Misdeed::FalseSnapshot),
            Misdeed::FalseSnapshot => Some(Misdeed::FalseProof),
            Misdeed::FalseProof => None,
        };
        let mut kind = Some(Misdeed::InvalidItem);
        while let Some(misdeed) = kind {
            assert!(Misdeed::ALL.contains(&misdeed), "{misdeed:?}");
            reputation.note(peer, misdeed, now);
            kind = next(misdeed);
        }
    }

    #[test]
    fn misdeeds_add_up_and_fade() {
        let (mut reputation, peer, now) = (reputation(), PeerId::random(), crate::platform::now());
        assert_eq!(
            reputation.note(peer, Misdeed::InvalidItem, now),
            (-10.0, Judgement::Stay)
        );
        assert_eq!(
            reputation.note(peer, Misdeed::InvalidItem, now),
            (-20.0, Judgement::Disconnect)
        );
        let later = now + Duration::from_secs(600);
        assert!((reputation.score(&peer, later) + 10.0).abs() < 1e-9);
        for _ in 0..4 {
            reputation.note(peer, Misdeed::InvalidMessage, later);
        }
        assert_eq!(
            reputation.note(peer, Misdeed::NoAnswer, later).1,
            Judgement::Ban
        );
        let deed = |misdeed, count| Deed { misdeed, count };
        let right = [
            deed(Misdeed::InvalidItem, 2),
            deed(Misdeed::InvalidMessage, 4),
            deed(Misdeed::NoAnswer, 1),
        ];
        assert_eq!(reputation.deeds(&peer), right);
        assert_eq!(reputation.deeds(&PeerId::random()), []);
    }

    #[test]
    fn who_is_forgiven_is_not_banned_for_the_next_trifle() {
        let (mut reputation, peer, now) = (reputation(), PeerId::random(), crate::platform::now());
        reputation.note(peer, Misdeed::FalseProof, now);
        assert_eq!(reputation.forgive(peer, now), -20.0);
        let next = reputation.note(peer, Misdeed::TooManyMessages, now);
        assert_eq!(next, (-21.0, Judgement::Disconnect));
        assert_eq!(
            reputation.deeds(&peer).len(),
            2,
            "what it did is remembered"
        );
        let good = PeerId::random();
        reputation.note(good, Misdeed::InvalidItem, now);
        assert_eq!(
            reputation.forgive(good, now),
            -10.0,
            "nothing was to be forgiven"
        );
        assert_eq!(reputation.forgive(PeerId::random(), now), 0.0);
        assert_eq!((reputation.scores.len(), reputation.ranks.len()), (2, 2));
    }

    proptest! {
        #[test]
        fn the_table_is_bounded_and_the_worst_are_remembered(deeds in proptest::collection::vec((0usize..10, 0u64..100), 1..100)) {
            let mut reputation = reputation();
            let peers: Vec<_> = (0..10).map(|_| PeerId::random()).collect();
            let mut now = crate::platform::now();
            for (peer, seconds) in deeds {
                now += Duration::from_secs(seconds);
                let (score, _) = reputation.note(peers[peer], Misdeed::NoAnswer, now);
                prop_assert!(score < 0.0 && reputation.scores.len() <= 3);
                prop_assert_eq!(reputation.score(&peers[peer], now), score);
                // The ranks say what the scores say, now as well.
                let ranked = reputation.ranks.iter().map(|(_, peer)| reputation.score(peer, now));
                let ranked: Vec<_> = ranked.collect();
                prop_assert!(ranked.len() == reputation.scores.len());
                prop_assert!(ranked.is_sorted_by(|a, b| a.abs() <= b.abs() + 1e-9));
            }
        }
    }
}
