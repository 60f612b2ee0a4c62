//! What the streams of all peers share: the topics that are taken, how fast is read, and the room for it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{self, BoxFuture},
};
use libp2p::PeerId;
use tokio::sync::{Semaphore, oneshot};

use super::{
    handler::SMALL,
    sieve::{self, Sifted},
};
use crate::{
    config::GossipsubConfig,
    fields::Malformed,
    platform::{Instant, lock::lock},
    traffic::{Admission, Cost, Limit, Limits, Protocol, Rate, RateLimiter},
};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Door {
    joined: Mutex<HashSet<String>>,
    paces: Mutex<Paces>,
    reading: Arc<Mutex<Reading>>,
    /// For long frames, in KiB.
    pub(crate) room: Arc<Semaphore>,
    /// The longest frame, in bytes.
    pub(crate) longest: usize,
}

/// Long frames that are coming, the first one first.
#[derive(Debug, Default)]
struct Reading {
    next: u64,
    frames: BTreeMap<u64, (Instant, oneshot::Sender<()>)>,
}

/// A long frame that is coming, until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    number: u64,
    reading: Arc<Mutex<Reading>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.reading).frames.remove(&self.number);
    }
}

/// How fast peers are read: each, and all together under this node's own id.
#[derive(Debug)]
struct Paces {
    own: PeerId,
    each: RateLimiter,
    all: RateLimiter,
}

/// Frames of the longest kind that may be on their way at once.
const LONG_FRAMES: usize = 4;
/// How long a long frame may come at least, whoever waits.
pub(super) const GRACE: Duration = Duration::from_secs(2);

impl Door {
    pub(crate) fn new(config: &GossipsubConfig, own: PeerId) -> Self {
        let (messages, bytes) = (
            u64::from(config.max_messages_per_second),
            config.max_bytes_per_second,
        );
        // One peer may have half.
        let pace = |share: u64| {
            let rate = |per_second: u64, times: u64| {
                let burst = per_second * times / share;
                let per_second = per_second.div_ceil(share);
                Some(Rate { per_second, burst })
            };
            let gossip = Limit {
                items: rate(messages, 20),
                bytes: rate(bytes, 2),
            };
            RateLimiter::new(Limits {
                gossip,
                ..Limits::default()
            })
        };
        // The length in front, and names and control entries beside the largest item.
        let longest = config.max_transmit_size + (16 << 10);
        Self {
            joined: Mutex::default(),
            paces: Mutex::new(Paces {
                own,
                each: pace(2),
                all: pace(1),
            }),
            reading: Arc::default(),
            room: Arc::new(Semaphore::new(LONG_FRAMES * longest.div_ceil(1024))),
            longest,
        }
    }

    pub(crate) fn join(&self, topic: &str) {
        lock(&self.joined).insert(topic.to_owned());
    }

    pub(crate) fn leave(&self, topic: &str) {
        lock(&self.joined).remove(topic);
    }

    pub(crate) fn forget(&self, peer: &PeerId) {
        lock(&self.paces).each.forget(peer);
    }

    /// When a peer may be read again.
    pub(crate) fn ready(&self, peer: &PeerId, now: Instant) -> Admission {
        let paces = lock(&self.paces);
        let each = paces.each.ready(peer, Protocol::Gossip, now);
        each.later(paces.all.ready(&paces.own, Protocol::Gossip, now))
    }

    /// A frame of this length begins to come, and has the room that it needs. The future ends when it is to give it up.
    pub(super) fn turn(
        &self,
        length: usize,
        now: Instant,
    ) -> (Option<Turn>, BoxFuture<'static, ()>) {
        if length <= SMALL {
            return (None, future::pending().boxed());
        }
        let (sender, hurried) = oneshot::channel();
        let mut reading = lock(&self.reading);
        let number = reading.next;
        reading.next += 1;
        reading.frames.insert(number, (now, sender));
        let turn = Turn {
            number,
            reading: Arc::clone(&self.reading),
        };
        let gives_way = async {
            if hurried.await.is_err() {
                future::pending().await
            }
        };
        (Some(turn), gives_way.boxed())
    }

    /// Somebody waits for room: the frame that has come longest gives it up, unless it has only begun.
    pub(super) fn hurry(&self, now: Instant) {
        let mut reading = lock(&self.reading);
        if let Some(first) = reading.frames.first_entry()
            && now.saturating_duration_since(first.get().0) >= GRACE
        {
            let (_, frame) = first.remove();
            // An error says that it has come meanwhile.
            let _ = frame.send(());
        }
    }

    /// Sifts what was read, and counts it.
    pub(crate) fn sift(
        &self,
        peer: PeerId,
        frame: &[u8],
        now: Instant,
    ) -> Result<Sifted, Malformed> {
        let sifted = sieve::sift(frame, &lock(&self.joined));
        let cost = Cost {
            items: 1 + sifted.as_ref().map_or(0, |sifted| sifted.items),
            bytes: frame.len() as u64,
        };
        let mut paces = lock(&self.paces);
        let own = paces.own;
        paces.each.charge(peer, Protocol::Gossip, cost, now);
        paces.all.charge(own, Protocol::Gossip, cost, now);
        sifted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    #[test]
    fn the_frame_that_comes_longest_gives_way_and_a_new_one_does_not() {
        let door = Door::new(&GossipsubConfig::default(), PeerId::random());
        let now = Instant::now();
        let (first, gives_way) = door.turn(1 << 20, now);
        let (second, stays) = door.turn(1 << 20, now + GRACE);
        let (small, never) = door.turn(SMALL, now);
        assert!(small.is_none() && never.now_or_never().is_none());
        door.hurry(now + GRACE / 2);
        door.hurry(now + GRACE);
        assert!(gives_way.now_or_never().is_some());
        door.hurry(now + GRACE);
        assert!(stays.now_or_never().is_none());
        drop((first, second));
        assert!(lock(&door.reading).frames.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_hour_and_no_flood_locks_a_peer_out(
            steps in proptest::collection::vec((0..3_usize, 0..4_000_000_u64, 0..600_usize, 0..10_000_usize), 1..40),
        ) {
            let own = PeerId::random();
            let door = Door::new(&GossipsubConfig::default(), own);
            door.join("ours");
            let peers = [(); 3].map(|()| PeerId::random());
            let mut now = Instant::now();
            for (peer, millis, messages, size) in steps {
                now += Duration::from_millis(millis);
                if let Admission::At(moment) = door.ready(&peers[peer], now) {
                    prop_assert!(moment > now && moment <= now + Duration::from_secs(3600));
                    now = moment;
                }
                prop_assert_eq!(door.ready(&peers[peer], now), Admission::Now);
                let frame = [&[0x0a, 0].repeat(messages)[..], &vec![0x12; size]].concat();
                let _ = door.sift(peers[peer], &frame, now);
            }
        }
    }
}
