//! What the streams of all peers share: the topics that are taken, how fast is read ([`Paces`]), and the room for it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p::PeerId;

use super::{
    paces::Paces,
    sieve::{self, Sifted},
};
use crate::{
    config::GossipsubConfig,
    fields::Malformed,
    frames::LongFrames,
    platform::{Instant, lock::lock},
    traffic::{Admission, Cost},
};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Reading {
    joined: Mutex<Arc<HashSet<String>>>,
    paces: Mutex<Paces>,
    pub(super) room: LongFrames,
    /// The longest frame, in bytes.
    pub(super) longest: usize,
}

/// Frames of the longest kind that may be on their way at once.
const LONG_FRAMES: usize = 4;
/// How long a long frame has its room at least, whoever waits: a slow line is nobody's fault, and nobody waits for an answer.
const GRACE: Duration = Duration::from_secs(2);

impl Reading {
    pub(super) fn new(config: &GossipsubConfig) -> Self {
        // The length in front, and names and control entries beside the largest item.
        let longest = config.max_transmit_size + (16 << 10);
        let room = LONG_FRAMES * longest.div_ceil(1024);
        Self {
            joined: Mutex::default(),
            paces: Mutex::new(Paces::new(config)),
            room: LongFrames::new(room, room, GRACE),
            longest,
        }
    }

    /// Whether this node takes part in some topic.
    pub(super) fn has_joined(&self) -> bool {
        !lock(&self.joined).is_empty()
    }

    pub(super) fn join(&self, topic: &str) {
        Arc::make_mut(&mut lock(&self.joined)).insert(topic.to_owned());
    }

    pub(super) fn leave(&self, topic: &str) {
        Arc::make_mut(&mut lock(&self.joined)).remove(topic);
    }

    /// A peer is known, and has a share.
    pub(super) fn know(&self, peer: PeerId) {
        lock(&self.paces).know(peer);
    }

    /// A peer is gone.
    pub(super) fn forget(&self, peer: &PeerId, now: Instant) {
        lock(&self.paces).forget(peer, now);
    }

    /// When a peer may be read again.
    pub(super) fn ready(&self, peer: &PeerId, now: Instant) -> Admission {
        lock(&self.paces).ready(peer, now)
    }

    /// A frame of so many bytes begins to be read: they are the peer's, whether or not they come.
    pub(super) fn begin(&self, peer: PeerId, bytes: usize, now: Instant) {
        let bytes = bytes as u64;
        lock(&self.paces).charge(peer, Cost { items: 1, bytes }, now);
    }

    /// When a frame that has waited since then may be let in.
    pub(super) fn lets_in(
        &self,
        peer: &PeerId,
        cost: Cost,
        since: Instant,
        now: Instant,
    ) -> Admission {
        lock(&self.paces).lets_in(peer, cost, since, now)
    }

    /// Counts what was let in.
    pub(super) fn count(&self, peer: PeerId, cost: Cost, since: Instant, now: Instant) {
        lock(&self.paces).count(peer, cost, since, now);
    }

    /// Lets in what passed of a frame, and counts it; or says when to ask again.
    pub(super) fn enter(
        &self,
        peer: PeerId,
        cost: Cost,
        since: Instant,
        now: Instant,
    ) -> Admission {
        let mut paces = lock(&self.paces);
        let lets_in = paces.lets_in(&peer, cost, since, now);
        if lets_in == Admission::Now {
            paces.count(peer, cost, since, now);
        }
        lets_in
    }

    /// Sifts what was read, and counts what is in it for the peer; what passes has to be let in.
    ///
    /// # Errors
    /// What it is not.
    pub(super) fn sift(
        &self,
        peer: PeerId,
        frame: &[u8],
        now: Instant,
    ) -> Result<Sifted, Malformed> {
        let joined = Arc::clone(&lock(&self.joined));
        let sifted = sieve::sift(frame, &joined);
        let items = sifted.as_ref().map_or(0, |sifted| sifted.items);
        lock(&self.paces).charge(peer, Cost { items, bytes: 0 }, now);
        sifted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    #[test]
    fn a_frame_of_millions_of_entries_holds_up_nobody() {
        let reading = Reading::new(&GossipsubConfig::default());
        let (attacker, honest, now) = (PeerId::random(), PeerId::random(), crate::platform::now());
        assert!(
            reading
                .sift(attacker, &[0x12, 0].repeat(2_000_000), now)
                .is_err()
        );
        assert!(
            reading
                .sift(attacker, &[0x12, 0].repeat(10_000), now)
                .is_ok_and(|sifted| sifted.passed == 0)
        );
        assert_eq!(reading.ready(&honest, now), Admission::Now);
        assert!(matches!(reading.ready(&attacker, now), Admission::At(_)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_hour_and_no_flood_locks_a_peer_out(
            steps in proptest::collection::vec((0..3_usize, 0..4_000_000_u64, 0..600_usize, 0..10_000_usize), 1..40),
        ) {
            let reading = Reading::new(&GossipsubConfig::default());
            reading.join("ours");
            let peers = [(); 3].map(|()| PeerId::random());
            let mut now = crate::platform::now();
            for (peer, millis, messages, size) in steps {
                now += Duration::from_millis(millis);
                if let Admission::At(moment) = reading.ready(&peers[peer], now) {
                    prop_assert!(moment > now && moment <= now + Duration::from_secs(3600));
                    now = moment;
                }
                prop_assert_eq!(reading.ready(&peers[peer], now), Admission::Now);
                let frame = [&[0x0a, 0].repeat(messages)[..], &vec![0x12; size]].concat();
                reading.begin(peers[peer], frame.len(), now);
                let _ = reading.sift(peers[peer], &frame, now);
            }
        }
    }
}
