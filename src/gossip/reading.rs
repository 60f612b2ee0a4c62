//! What the streams of all peers share: the topics that are taken, how fast is read, and the room for it.
//!
//! A peer pays for all that it sends, out of its own pace. What passes of it is let in at the pace of all together: one
//! frame after the other, so that this is never over by more than one ([`Door::enter`]). Where it is used up, a known peer
//! has its share beside it: the same pace divided by the known peers. So many who use up the common pace hold up nobody
//! else, and no more than twice that pace is let in.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
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
    joined: Mutex<Arc<HashSet<String>>>,
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
    frames: BTreeMap<u64, Coming>,
}

#[derive(Debug)]
struct Coming {
    since: Instant,
    /// Bytes that are here.
    got: Arc<AtomicUsize>,
    gives_way: oneshot::Sender<()>,
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

/// How fast peers are read: each, all together under this node's own id, and the share of each known one.
#[derive(Debug)]
struct Paces {
    own: PeerId,
    each: RateLimiter,
    all: RateLimiter,
    shares: RateLimiter,
    known: HashSet<PeerId>,
    /// The most that one frame costs of `each`.
    most_items: u64,
}

impl Paces {
    /// When more may be let in from a peer.
    fn lets_in(&self, peer: &PeerId, now: Instant) -> Admission {
        let all = self.all.ready(&self.own, Protocol::Gossip, now);
        if !self.known.contains(peer) {
            return all;
        }
        match (all, self.shares.ready(peer, Protocol::Gossip, now)) {
            (Admission::At(all), Admission::At(share)) => Admission::At(all.min(share)),
            _ => Admission::Now,
        }
    }
}

/// Frames of the longest kind that may be on their way at once.
const LONG_FRAMES: usize = 4;
/// Seconds' worth of messages that may come at once.
const BURST: u64 = 20;
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
                items: rate(messages, BURST),
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
                shares: pace(1),
                known: HashSet::new(),
                most_items: messages * BURST / 2,
            }),
            reading: Arc::default(),
            room: Arc::new(Semaphore::new(LONG_FRAMES * longest.div_ceil(1024))),
            longest,
        }
    }

    pub(crate) fn join(&self, topic: &str) {
        Arc::make_mut(&mut lock(&self.joined)).insert(topic.to_owned());
    }

    pub(crate) fn leave(&self, topic: &str) {
        Arc::make_mut(&mut lock(&self.joined)).remove(topic);
    }

    /// A peer is known, and has a share.
    pub(crate) fn know(&self, peer: PeerId) {
        lock(&self.paces).known.insert(peer);
    }

    pub(crate) fn forget(&self, peer: &PeerId) {
        let mut paces = lock(&self.paces);
        paces.each.forget(peer);
        paces.shares.forget(peer);
        paces.known.remove(peer);
    }

    /// When a peer may be read again.
    pub(crate) fn ready(&self, peer: &PeerId, now: Instant) -> Admission {
        let paces = lock(&self.paces);
        let each = paces.each.ready(peer, Protocol::Gossip, now);
        each.later(paces.lets_in(peer, now))
    }

    /// Lets in what passed of a frame, and counts it; or says when to ask again.
    pub(super) fn enter(&self, peer: PeerId, mut cost: Cost, now: Instant) -> Admission {
        let mut paces = lock(&self.paces);
        let own = paces.own;
        let lets_in = paces.lets_in(&peer, now);
        if lets_in != Admission::Now {
            return lets_in;
        }
        if paces.all.ready(&own, Protocol::Gossip, now) == Admission::Now {
            paces.all.charge(own, Protocol::Gossip, cost, now);
        } else {
            // Each of so many has as many times less.
            let many = paces.known.len() as u64;
            cost.items = cost.items.saturating_mul(many);
            cost.bytes = cost.bytes.saturating_mul(many);
            paces.shares.charge(peer, Protocol::Gossip, cost, now);
        }
        Admission::Now
    }

    /// A frame of this length begins to come, and has the room that it needs; `got` counts what is here of it. The future
    /// ends when it is to give it up.
    pub(super) fn turn(
        &self,
        length: usize,
        got: &Arc<AtomicUsize>,
        now: Instant,
    ) -> (Option<Turn>, BoxFuture<'static, ()>) {
        if length <= SMALL {
            return (None, future::pending().boxed());
        }
        let (gives_way, hurried) = oneshot::channel();
        let mut reading = lock(&self.reading);
        let number = reading.next;
        reading.next += 1;
        let coming = Coming {
            since: now,
            got: Arc::clone(got),
            gives_way,
        };
        reading.frames.insert(number, coming);
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

    /// Somebody waits for room: the frame that comes slowest, by bytes a second, gives it up, unless it has only begun.
    pub(super) fn hurry(&self, now: Instant) {
        let mut reading = lock(&self.reading);
        let slowest = reading
            .frames
            .iter()
            .filter_map(|(number, coming)| {
                let taken = now.saturating_duration_since(coming.since);
                let got = coming.got.load(Ordering::Relaxed) as u128;
                (taken >= GRACE).then(|| (got * 1_000_000_000 / taken.as_nanos(), *number))
            })
            .min();
        if let Some(frame) = slowest.and_then(|(_, number)| reading.frames.remove(&number)) {
            // An error says that it has come meanwhile.
            let _ = frame.gives_way.send(());
        }
    }

    /// Sifts what was read, and counts it for the peer; what passes has to [`Door::enter`].
    pub(crate) fn sift(
        &self,
        peer: PeerId,
        frame: &[u8],
        now: Instant,
    ) -> Result<Sifted, Malformed> {
        let joined = Arc::clone(&lock(&self.joined));
        let sifted = sieve::sift(frame, &joined);
        let items = 1 + sifted.as_ref().map_or(0, |sifted| sifted.items);
        let mut paces = lock(&self.paces);
        let cost = Cost {
            items: items.min(paces.most_items),
            bytes: frame.len() as u64,
        };
        paces.each.charge(peer, Protocol::Gossip, cost, now);
        sifted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    #[test]
    fn the_frame_that_comes_slowest_gives_way_and_a_new_one_does_not() {
        let door = Door::new(&GossipsubConfig::default(), PeerId::random());
        let now = Instant::now();
        let got = |bytes| Arc::new(AtomicUsize::new(bytes));
        let (steady, comes) = door.turn(1 << 20, &got(900 << 10), now);
        let (slow, gives_way) = door.turn(1 << 20, &got(1 << 10), now + GRACE / 2);
        let (new, stays) = door.turn(1 << 20, &got(0), now + 2 * GRACE);
        let (small, never) = door.turn(SMALL, &got(0), now);
        assert!(small.is_none() && never.now_or_never().is_none());
        door.hurry(now + GRACE / 2);
        door.hurry(now + 2 * GRACE);
        assert!(gives_way.now_or_never().is_some());
        assert!(lock(&door.reading).frames.len() == 2, "one at a time");
        door.hurry(now + 2 * GRACE);
        assert!(comes.now_or_never().is_some() && stays.now_or_never().is_none());
        drop((steady, slow, new));
        assert!(lock(&door.reading).frames.is_empty());
    }

    #[test]
    fn a_frame_of_millions_of_entries_holds_up_nobody() {
        let door = Door::new(&GossipsubConfig::default(), PeerId::random());
        let (attacker, honest, now) = (PeerId::random(), PeerId::random(), Instant::now());
        assert!(
            door.sift(attacker, &[0x12, 0].repeat(2_000_000), now)
                .is_err()
        );
        assert!(
            door.sift(attacker, &[0x12, 0].repeat(10_000), now)
                .is_ok_and(|sifted| sifted.passed == 0)
        );
        assert_eq!(door.ready(&honest, now), Admission::Now);
        assert!(matches!(door.ready(&attacker, now), Admission::At(_)));
    }

    #[test]
    fn many_who_use_up_the_common_pace_hold_up_no_known_peer() {
        let door = Door::new(&GossipsubConfig::default(), PeerId::random());
        let (honest, now) = (PeerId::random(), Instant::now());
        door.know(honest);
        let full = Cost {
            items: 1783,
            bytes: 64 << 10,
        };
        let attackers = [(); 100].map(|()| PeerId::random());
        attackers.iter().for_each(|attacker| door.know(*attacker));
        let stranger = PeerId::random();
        while door.enter(stranger, full, now) == Admission::Now {}
        assert!(matches!(door.ready(&stranger, now), Admission::At(at) if at <= now + GRACE));
        for again in [Admission::Now, Admission::At(now)] {
            for attacker in &attackers {
                let entered = door.enter(*attacker, full, now);
                assert_eq!(entered == Admission::Now, again == Admission::Now);
            }
        }
        // Four frames of a message a second, from now on.
        let mut now = now;
        for _ in 0..240 {
            now += Duration::from_millis(250);
            for attacker in &attackers {
                door.enter(*attacker, full, now);
            }
            let one = Cost {
                items: 2,
                bytes: 500,
            };
            assert_eq!(door.enter(honest, one, now), Admission::Now);
        }
        door.forget(&honest);
        assert!(matches!(door.ready(&honest, now), Admission::At(at) if at <= now + GRACE));
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
