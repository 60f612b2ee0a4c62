//! Direct messages on their way: who waits for which answer, and for its turn.
//!
//! libp2p counts streams both ways against one limit for each connection, and ends those beyond it without a word. So a peer is
//! sent half as many at once, which leaves the other half to what it asks itself; further ones wait for their turn, as long as an
//! answer may take. One that counts as several takes as many of those places.
//!
//! A peer refuses messages that come faster than it lets them, and holds it against whoever sent them. So this end keeps to the
//! same limits ([`RateLimiter::mirror`]): what would be refused waits for its turn too, and in its order. When the peer counts a message
//! only its answer tells, and a line that stands still delivers all at once; so until then it counts as if it came last.
//!
//! Bounds: for each peer, [`MAX_WAITING`]; and bytes, of all messages without an answer yet, [`MAX_BYTES`]. Of these one peer may have as many
//! as are free besides (the dynamic threshold of Choudhury and Hahne, 1998): so peers that take nothing leave room for messages to
//! others, however many they are. Each message is waited for by a caller.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use libp2p::{
    PeerId,
    request_response::{OutboundFailure, OutboundRequestId},
};
use tokio::sync::oneshot;

use super::{
    codec::{Progress, Step},
    protocol::{Answer, Told},
};
use crate::{
    config::RequestResponseConfig,
    error::ProtocolError,
    platform::Instant,
    traffic::{Cost, Limits, Protocol, RateLimiter},
};

/// Messages to one peer that wait for their turn; a further one is refused as busy.
const MAX_WAITING: usize = 1024;
/// Bytes of messages without an answer, if four of the largest are not larger.
const MAX_BYTES: usize = 64 << 20;
/// Who does not answer a message is blamed where no more bytes than these were under way to it when the message went, itself included. What counts as
/// written may still stand in the connection's own buffers (over QUIC and WebTransport up to 2 MiB of all messages), and a slow line takes its time for that.
const LITTLE: u64 = 200 << 10;
/// What a message counts beside its bytes.
const OVERHEAD: usize = 256;

/// What the caller of a direct message waits for.
pub(crate) type Reply = oneshot::Sender<Result<Option<Told>, ProtocolError>>;

/// Requests without an answer yet.
#[derive(Debug)]
pub(crate) struct Requests {
    /// To one peer.
    at_once: usize,
    /// Bytes that are left of all.
    free: usize,
    patience: Duration,
    limits: Limits,
    /// What peers are sent of late, by the limits that they hold this node to.
    limiter: RateLimiter,
    sent: HashMap<OutboundRequestId, Sent>,
    peers: HashMap<PeerId, Peer>,
}

#[derive(Debug)]
struct Sent {
    peer: PeerId,
    at: Instant,
    progress: Progress,
    counts: Counts,
    /// Whether little was under way to the peer.
    had_little: bool,
    /// How long what the peer sends had not been read here before.
    unheard: Duration,
    reply: Reply,
}

/// A message for a peer.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) frame: Vec<u8>,
    pub(crate) names_peers: bool,
    /// As how many it counts.
    pub(crate) items: u64,
}

/// What a message counts as in the limits: its bytes, as how many, and whether it names peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    bytes: usize,
    items: u64,
    names_peers: bool,
}

impl Counts {
    /// How many it takes of the places for messages under way to one peer: one that counts as several is worked at for as long there, and a peer
    /// has room for as many questions as it may be sent messages.
    fn places(self, at_once: usize) -> usize {
        usize::try_from(self.items).map_or(at_once, |items| items.clamp(1, at_once))
    }

    /// The limits that it is under, and what it costs there.
    fn costs(self) -> impl Iterator<Item = (Protocol, Cost)> {
        let (bytes, items) = (self.bytes as u64, self.items);
        let discovery = self.names_peers.then_some(Protocol::Discovery);
        let protocols = [Some(Protocol::Message), discovery].into_iter().flatten();
        protocols.map(move |protocol| (protocol, Cost { items, bytes }))
    }
}

#[derive(Debug, Default)]
struct Peer {
    /// Places that those under way take ([`Counts::places`]).
    under_way: usize,
    /// What those count as, by limit.
    unanswered: HashMap<Protocol, Cost>,
    waiting: VecDeque<Waiting>,
    /// What those that wait and those under way count.
    taken: usize,
    /// How long what it sends was not read here.
    unheard: Duration,
    /// Somebody will say when the turn of the first has come ([`Turn::At`]).
    called: bool,
}

/// Whether a message may go.
#[derive(Debug)]
pub(crate) enum Turn {
    /// This one; the caller calls [`Requests::sent`].
    Now(Vec<u8>, Counts, Reply),
    /// One may then; the caller calls [`Requests::turn`]. It is said once.
    At(Instant),
    /// None, until another one is asked or ends.
    None,
}

#[derive(Debug)]
struct Waiting {
    frame: Vec<u8>,
    counts: Counts,
    reply: Reply,
    until: Instant,
}

/// What a message of so many bytes counts.
fn weight(bytes: usize) -> usize {
    bytes.saturating_add(OVERHEAD)
}

impl Peer {
    fn pop(&mut self, free: &mut usize) -> Option<Waiting> {
        let next = self.waiting.pop_front()?;
        self.give_back(weight(next.frame.len()), free);
        Some(next)
    }

    /// Gives room back to all.
    fn give_back(&mut self, weight: usize, free: &mut usize) {
        self.taken = self.taken.saturating_sub(weight);
        *free += weight;
    }

    /// Forgets those whose callers have lost interest, which is their right.
    fn sweep(&mut self, free: &mut usize) {
        let mut swept = 0;
        self.waiting.retain(|waiting| {
            let is_over = waiting.reply.is_closed();
            if is_over {
                swept += weight(waiting.frame.len());
            }
            !is_over
        });
        self.give_back(swept, free);
    }
}

impl Requests {
    /// None yet.
    pub(crate) fn new(config: &RequestResponseConfig, limits: Limits) -> Self {
        Self {
            at_once: (config.max_concurrent_streams / 2).max(1),
            free: MAX_BYTES.max(4 * weight(config.max_message_size)),
            patience: config.request_timeout,
            limits,
            limiter: RateLimiter::mirror(limits),
            sent: HashMap::new(),
            peers: HashMap::new(),
        }
    }

    /// A message is to go to a connected peer, when [`Requests::next`] says so. One that names peers is under the limit of
    /// [`Protocol::Discovery`] as well.
    pub(crate) fn ask(&mut self, peer: PeerId, message: Message, reply: Reply, now: Instant) {
        let Message {
            frame,
            names_peers,
            items,
        } = message;
        if let Some(too_large) = self.too_large(&frame, names_peers) {
            let _ = reply.send(Err(too_large));
            return;
        }
        let (weight, until) = (weight(frame.len()), now + self.patience);
        let of_peer = self.peers.entry(peer).or_default();
        let is_full = |of_peer: &Peer, free: usize| {
            of_peer.waiting.len() >= MAX_WAITING || of_peer.taken.saturating_add(weight) > free
        };
        if is_full(of_peer, self.free) {
            of_peer.sweep(&mut self.free);
        }
        if is_full(of_peer, self.free) {
            let _ = reply.send(Err(ProtocolError::Busy));
        } else {
            let bytes = frame.len();
            let counts = Counts {
                bytes,
                items,
                names_peers,
            };
            of_peer.taken += weight;
            self.free -= weight;
            of_peer.waiting.push_back(Waiting {
                frame,
                counts,
                reply,
                until,
            });
        }
    }

    /// What is over a peer's burst would be refused for ever.
    fn too_large(&self, frame: &[u8], names_peers: bool) -> Option<ProtocolError> {
        let of_peers = names_peers.then_some(self.limits.discovery.bytes).flatten();
        let rates = self.limits.message.bytes.into_iter().chain(of_peers);
        let limit = usize::try_from(rates.map(|rate| rate.burst).min()?).ok()?;
        let (size, field) = (frame.len(), "what a peer takes at once");
        (size > limit).then_some(ProtocolError::TooLarge { size, limit, field })
    }

    /// Those that have waited for their turn for too long wait no more.
    pub(crate) fn on_time(&mut self, now: Instant) {
        let free = &mut self.free;
        self.peers.retain(|_, of_peer| {
            of_peer.sweep(free);
            while of_peer
                .waiting
                .front()
                .is_some_and(|first| first.until <= now)
                && let Some(late) = of_peer.pop(free)
            {
                let _ = late.reply.send(Err(ProtocolError::Unsent));
            }
            of_peer.under_way > 0 || !of_peer.waiting.is_empty()
        });
    }

    /// The next message for a peer, if it may go now.
    pub(crate) fn next(&mut self, peer: &PeerId, now: Instant) -> Turn {
        let Some(of_peer) = self.peers.get_mut(peer) else {
            return Turn::None;
        };
        let is_over = |first: &Waiting| first.reply.is_closed();
        while of_peer.waiting.front().is_some_and(is_over) {
            of_peer.pop(&mut self.free);
        }
        if let Some(first) = of_peer.waiting.front() {
            let places = first.counts.places(self.at_once);
            if of_peer.under_way + places > self.at_once {
                return Turn::None;
            }
            let mut at = now;
            for (protocol, cost) in first.counts.costs() {
                let unanswered = of_peer.unanswered.get(&protocol).copied();
                let costs = (cost, unanswered.unwrap_or_default());
                match self.limiter.goes_at(peer, protocol, costs, now) {
                    Some(goes_at) => at = at.max(goes_at),
                    // An answer asks for the next turn.
                    None => return Turn::None,
                }
            }
            if at > now {
                return if std::mem::replace(&mut of_peer.called, true) {
                    Turn::None
                } else {
                    Turn::At(at)
                };
            }
        }
        if let Some(first) = of_peer.pop(&mut self.free) {
            return Turn::Now(first.frame, first.counts, first.reply);
        }
        if of_peer.under_way == 0 {
            self.peers.remove(peer);
        }
        Turn::None
    }

    /// A message that names peers went without waiting for its turn: later ones wait the longer.
    pub(crate) fn told(&mut self, peer: PeerId, bytes: usize, now: Instant) {
        let counts = Counts {
            bytes,
            items: 1,
            names_peers: true,
        };
        for (protocol, cost) in counts.costs() {
            self.limiter.charge(peer, protocol, cost, now);
        }
    }

    /// The time has come that [`Turn::At`] named.
    pub(crate) fn turn(&mut self, peer: &PeerId) {
        if let Some(of_peer) = self.peers.get_mut(peer) {
            of_peer.called = false;
        }
    }

    /// A peer is not connected: nothing waits for it. What it was sent counts on, as [`RateLimiter::forget`] has it.
    pub(crate) fn gone(&mut self, peer: &PeerId, now: Instant) {
        self.limiter.forget(peer, now);
        while let Some(of_peer) = self.peers.get_mut(peer)
            && let Some(waiting) = of_peer.pop(&mut self.free)
        {
            let _ = waiting.reply.send(Err(ProtocolError::NotConnected(*peer)));
        }
    }

    /// What a peer sends was not read here for so long: its answers may be as much later.
    pub(crate) fn unheard(&mut self, peer: &PeerId, time: Duration) {
        if let Some(of_peer) = self.peers.get_mut(peer) {
            of_peer.unheard = of_peer.unheard.saturating_add(time);
        }
    }

    /// A request that counts so much was sent.
    pub(crate) fn sent(
        &mut self,
        (id, progress): (OutboundRequestId, Progress),
        (peer, counts): (PeerId, Counts),
        reply: Reply,
        now: Instant,
    ) {
        let weight = weight(counts.bytes);
        let of_peer = self.peers.entry(peer).or_default();
        of_peer.under_way += counts.places(self.at_once);
        for (protocol, cost) in counts.costs() {
            let unanswered = of_peer.unanswered.entry(protocol).or_default();
            unanswered.items += cost.items;
            unanswered.bytes += cost.bytes;
        }
        let under_way = of_peer.unanswered.get(&Protocol::Message);
        let had_little = under_way.is_none_or(|cost| cost.bytes <= LITTLE);
        of_peer.taken += weight;
        self.free = self.free.saturating_sub(weight);
        let (at, unheard) = (now, of_peer.unheard);
        self.sent.insert(
            id,
            Sent {
                peer,
                at,
                progress,
                counts,
                had_little,
                unheard,
                reply,
            },
        );
    }

    /// An answer came: tells the caller, and says how long it took and whether it was a message at all.
    pub(crate) fn answered(
        &mut self,
        id: OutboundRequestId,
        frame: &[u8],
        now: Instant,
    ) -> Option<(Duration, bool)> {
        let Sent { at, reply, .. } = self.ended(id, now)?;
        let answer = Answer::decode(frame);
        let valid = answer.is_ok();
        // A caller that no longer waits has lost interest, which is its right.
        let _ = reply.send(match answer {
            // Nobody asked for peers in a message of a caller's.
            Ok(Answer::Received | Answer::Peers(_)) => Ok(None),
            Ok(Answer::State(state)) => Ok(Some(state)),
            Ok(Answer::Refused(reason)) => Err(ProtocolError::Refused(reason)),
            Err(error) => Err(error.into()),
        });
        Some((now.saturating_duration_since(at), valid))
    }

    /// No answer will come: tells the caller, and says whether the peer is to blame for its silence. It is where it had the message, and half of
    /// the time or more in which it was heard here, and did not begin to answer, and only little was under way to it ([`LITTLE`]).
    pub(crate) fn failed(
        &mut self,
        id: OutboundRequestId,
        failure: &OutboundFailure,
        protocol: &str,
        now: Instant,
    ) -> bool {
        let Some(Sent {
            peer,
            progress,
            had_little,
            unheard,
            reply,
            ..
        }) = self.ended(id, now)
        else {
            return false;
        };
        let (step, is_late) = (progress.get(), matches!(failure, OutboundFailure::Timeout));
        let _ = reply.send(Err(match failure {
            OutboundFailure::Timeout if step == Step::Asking => ProtocolError::Unsent,
            OutboundFailure::Timeout => ProtocolError::Timeout,
            OutboundFailure::UnsupportedProtocols => {
                ProtocolError::Unsupported(protocol.to_owned())
            }
            OutboundFailure::Io(error) => ProtocolError::Broken(error.to_string()),
            other => ProtocolError::Broken(other.to_string()),
        }));
        let of_peer = self.peers.get(&peer);
        let unheard = of_peer.map_or(Duration::ZERO, |of_peer| {
            of_peer.unheard.saturating_sub(unheard)
        });
        let half = self.patience / 2 + unheard;
        let had_it = matches!(step, Step::Asked(at) if now.saturating_duration_since(at) >= half);
        is_late && had_little && had_it
    }

    fn ended(&mut self, id: OutboundRequestId, now: Instant) -> Option<Sent> {
        let sent = self.sent.remove(&id)?;
        // The task asks for the next turn of this peer then, and forgets it where there is none.
        let of_peer = self.peers.entry(sent.peer).or_default();
        let places = sent.counts.places(self.at_once);
        of_peer.under_way = of_peer.under_way.saturating_sub(places);
        of_peer.give_back(weight(sent.counts.bytes), &mut self.free);
        for (protocol, cost) in sent.counts.costs() {
            let unanswered = of_peer.unanswered.entry(protocol).or_default();
            unanswered.items = unanswered.items.saturating_sub(cost.items);
            unanswered.bytes = unanswered.bytes.saturating_sub(cost.bytes);
            self.limiter.charge(sent.peer, protocol, cost, now);
        }
        Some(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    fn message(frame: Vec<u8>, names_peers: bool) -> Message {
        Message {
            frame,
            names_peers,
            items: 1,
        }
    }

    fn requests() -> Requests {
        let config = RequestResponseConfig {
            max_concurrent_streams: 1,
            ..RequestResponseConfig::default()
        };
        Requests::new(&config, Limits::default())
    }

    #[test]
    fn what_waits_is_bounded_and_who_lost_interest_makes_room() {
        let (mut requests, peer, now) = (requests(), PeerId::random(), crate::platform::now());
        let ask = |requests: &mut Requests, frame| {
            let (reply, answer) = oneshot::channel();
            requests.ask(peer, message(frame, false), reply, now);
            answer
        };
        let mut answers: Vec<_> = (0..MAX_WAITING)
            .map(|_| ask(&mut requests, Vec::new()))
            .collect();
        let mut answer = ask(&mut requests, Vec::new());
        assert!(matches!(answer.try_recv(), Ok(Err(ProtocolError::Busy))));
        answers.truncate(1);
        let _answer = ask(&mut requests, vec![7]);
        let next = |requests: &mut Requests| match requests.next(&peer, now) {
            Turn::Now(frame, ..) => Some(frame),
            Turn::At(_) | Turn::None => None,
        };
        assert_eq!(next(&mut requests), Some(Vec::new()));
        assert_eq!(next(&mut requests), Some(vec![7]));
        assert_eq!(next(&mut requests), None);
        assert!(requests.peers.is_empty(), "nothing is kept");
        assert_eq!(requests.free, MAX_BYTES);
    }

    #[test]
    fn what_is_over_the_burst_is_told_and_not_sent() {
        let mut limits = Limits::default();
        let burst = Some(crate::traffic::Rate {
            per_second: 10,
            burst: 64,
        });
        limits.discovery.bytes = burst;
        let config = RequestResponseConfig::default();
        let (peer, now) = (PeerId::random(), crate::platform::now());
        let ask = |limits, names_peers, bytes| {
            let mut requests = Requests::new(&config, limits);
            let (reply, mut answer) = oneshot::channel();
            requests.ask(peer, message(vec![7; bytes], names_peers), reply, now);
            let goes = matches!(requests.next(&peer, now), Turn::Now(..));
            let told = answer.try_recv();
            let too_large = matches!(told, Ok(Err(ProtocolError::TooLarge { limit: 64, .. })));
            (goes, too_large)
        };
        assert_eq!(ask(limits, true, 65), (false, true));
        assert!(ask(limits, true, 64).0 && ask(limits, false, 65).0);
        limits.message.bytes = burst;
        assert_eq!(ask(limits, false, 65), (false, true));
    }

    #[test]
    fn peers_that_take_nothing_leave_room_for_messages_to_others() {
        let (mut requests, now) = (requests(), crate::platform::now());
        let ask = |requests: &mut Requests, peer, bytes| {
            let (reply, mut answer) = oneshot::channel();
            requests.ask(peer, message(vec![0; bytes], false), reply, now);
            let is_taken = answer.try_recv().is_err();
            is_taken.then_some(answer)
        };
        let mut kept = Vec::new();
        for deaf in [(); 3].map(|()| PeerId::random()) {
            while let Some(answer) = ask(&mut requests, deaf, 1 << 20) {
                kept.push(answer);
            }
        }
        let other = PeerId::random();
        let answer = ask(&mut requests, other, 4 << 20).expect("for who takes something");
        assert!(matches!(requests.next(&other, now), Turn::Now(..)));
        drop((kept, answer));
        requests.on_time(now);
        assert!(requests.peers.is_empty() && requests.free == MAX_BYTES);
    }

    #[test]
    fn who_waits_for_its_turn_is_told_when_its_time_is_up() {
        let (mut requests, peer, now) = (requests(), PeerId::random(), crate::platform::now());
        let (reply, mut answer) = oneshot::channel();
        requests.ask(peer, message(vec![7], false), reply, now);
        let patience = requests.patience;
        requests.on_time(now + patience / 2);
        assert!(answer.try_recv().is_err(), "it has time yet");
        requests.on_time(now + patience);
        assert!(matches!(answer.try_recv(), Ok(Err(ProtocolError::Unsent))));
        assert!(requests.peers.is_empty(), "nothing is kept");
    }

    /// Asks so many at once; returns how many went, and after how long the last did.
    fn flood(names_peers: bool, count: usize) -> (usize, Duration) {
        let (mut requests, peer, start) = (requests(), PeerId::random(), crate::platform::now());
        let mut theirs = RateLimiter::new(Limits::default());
        let (mut answers, mut id) = (Vec::new(), outbound_ids());
        for _ in 0..count {
            let (reply, answer) = oneshot::channel();
            requests.ask(peer, message(vec![7; 64], names_peers), reply, start);
            answers.push(answer);
        }
        let (mut now, mut went) = (start, 0);
        loop {
            match requests.next(&peer, now) {
                Turn::Now(_, counts, reply) => {
                    for (protocol, cost) in counts.costs() {
                        assert_eq!(theirs.admits(peer, protocol, cost, now), Ok(()));
                    }
                    let id = id();
                    requests.sent((id, Progress::default()), (peer, counts), reply, now);
                    requests.answered(id, &[], now);
                    went += 1;
                }
                Turn::At(at) => {
                    assert!(matches!(requests.next(&peer, now), Turn::None), "said once");
                    requests.turn(&peer);
                    now = at;
                }
                Turn::None => {
                    assert!(requests.peers.is_empty(), "nothing is kept");
                    return (went, now - start);
                }
            }
        }
    }

    #[test]
    fn all_go_as_fast_as_the_peer_lets_them_and_no_faster() {
        let messages = flood(false, 1000);
        assert_eq!(messages, (1000, Duration::from_millis(8500)), "150 at once");
        let exchanges = flood(true, 100);
        assert_eq!(exchanges, (100, Duration::from_millis(5200)), "48 at once");
    }

    #[test]
    fn what_a_line_that_stood_still_delivers_at_once_is_not_too_much() {
        let (config, limits) = (RequestResponseConfig::default(), Limits::default());
        let (mut requests, mut theirs) = (Requests::new(&config, limits), RateLimiter::new(limits));
        let (peer, mut now) = (PeerId::random(), crate::platform::now());
        let (mut answers, mut id, mut on_line) = (Vec::new(), outbound_ids(), Vec::new());
        let mut send = |requests: &mut Requests, now| {
            let mut went = Vec::new();
            for _ in 0..8 {
                let (reply, answer) = oneshot::channel();
                requests.ask(peer, message(vec![7; 1 << 20], false), reply, now);
                answers.push(answer);
            }
            requests.turn(&peer);
            while let Turn::Now(_, counts, reply) = requests.next(&peer, now) {
                let id = id();
                requests.sent((id, Progress::default()), (peer, counts), reply, now);
                went.push((id, counts));
            }
            went
        };
        for _ in 0..4 {
            on_line.extend(send(&mut requests, now));
            now += Duration::from_secs(1);
        }
        // What goes in reply to the answers comes without a pause.
        for _ in 0..2 {
            assert!(!on_line.is_empty());
            for (id, counts) in std::mem::take(&mut on_line) {
                for (protocol, cost) in counts.costs() {
                    assert_eq!(theirs.admits(peer, protocol, cost, now), Ok(()));
                }
                requests.answered(id, &[], now);
            }
            now += Duration::from_millis(125);
            on_line.extend(send(&mut requests, now));
        }
    }

    #[test]
    fn nothing_waits_for_a_peer_that_is_gone_nor_does_it_rest_by_that() {
        let (mut requests, peer, now) = (requests(), PeerId::random(), crate::platform::now());
        let ask = |requests: &mut Requests| {
            let (reply, answer) = oneshot::channel();
            requests.ask(peer, message(vec![7], false), reply, now);
            answer
        };
        let answers: Vec<_> = (0..200).map(|_| ask(&mut requests)).collect();
        let mut id = outbound_ids();
        while let Turn::Now(_, counts, reply) = requests.next(&peer, now) {
            let id = id();
            requests.sent((id, Progress::default()), (peer, counts), reply, now);
            requests.answered(id, &[], now);
        }
        requests.gone(&peer, now);
        for mut answer in answers.into_iter().skip(150) {
            let told = answer.try_recv();
            assert!(matches!(told, Ok(Err(ProtocolError::NotConnected(_)))));
        }
        let _again = ask(&mut requests);
        requests.turn(&peer);
        assert!(matches!(requests.next(&peer, now), Turn::At(_)));
    }

    #[test]
    fn nobody_is_blamed_for_silence_to_much() {
        let config = RequestResponseConfig::default();
        let (peer, now) = (PeerId::random(), crate::platform::now());
        let mut requests = Requests::new(&config, Limits::default());
        let (mut answers, mut id) = (Vec::new(), outbound_ids());
        let sizes = [100, 100, 1024, 1];
        let sent = sizes.map(|kib| {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            let (id, progress) = (id(), Progress::default());
            let counts = Counts {
                bytes: kib << 10,
                items: 1,
                names_peers: false,
            };
            requests.sent((id, progress.clone()), (peer, counts), reply, now);
            progress.set(Step::Asked(now));
            id
        });
        let late = now + config.request_timeout;
        let timeout = OutboundFailure::Timeout;
        let blamed = sent.map(|id| requests.failed(id, &timeout, "", late));
        assert_eq!(blamed, [true, true, false, false]);
    }

    #[test]
    fn who_is_not_heard_for_a_time_has_as_much_more() {
        let (config, now) = (RequestResponseConfig::default(), crate::platform::now());
        let peer = PeerId::random();
        let mut requests = Requests::new(&config, Limits::default());
        let (mut answers, mut id) = (Vec::new(), outbound_ids());
        let mut send = |requests: &mut Requests| {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            let (id, progress) = (id(), Progress::default());
            let counts = Counts {
                bytes: 1,
                items: 1,
                names_peers: false,
            };
            requests.sent((id, progress.clone()), (peer, counts), reply, now);
            progress.set(Step::Asked(now));
            id
        };
        let first = send(&mut requests);
        requests.unheard(&peer, config.request_timeout * 2 / 3);
        let second = send(&mut requests);
        let late = now + config.request_timeout;
        let timeout = OutboundFailure::Timeout;
        let blamed = [first, second].map(|id| requests.failed(id, &timeout, "", late));
        assert_eq!(blamed, [false, true]);
    }

    #[test]
    fn silent_is_who_has_the_message_and_half_of_the_time_for_a_first_byte() {
        let (config, now) = (RequestResponseConfig::default(), crate::platform::now());
        let late = now + config.request_timeout;
        let fate = |step, failure| {
            let (mut requests, peer) =
                (Requests::new(&config, Limits::default()), PeerId::random());
            let (reply, mut answer) = oneshot::channel();
            let (id, progress) = (outbound_ids()(), Progress::default());
            let counts = Counts {
                bytes: 1,
                items: 1,
                names_peers: false,
            };
            requests.sent((id, progress.clone()), (peer, counts), reply, now);
            progress.set(step);
            let is_silent = requests.failed(id, &failure, "", late);
            let told = answer
                .try_recv()
                .expect("it is told")
                .expect_err("it failed");
            assert!(!told.is_fatal());
            (
                is_silent,
                matches!(told, ProtocolError::Unsent),
                told.code(),
            )
        };
        let timeout = || OutboundFailure::Timeout;
        let half = Step::Asked(now + config.request_timeout / 2);
        let little = Step::Asked(late);
        assert_eq!(fate(Step::Asking, timeout()), (false, true, "timeout"));
        assert_eq!(fate(half, timeout()), (true, false, "timeout"));
        assert_eq!(fate(little, timeout()), (false, false, "timeout"));
        assert_eq!(fate(Step::Answered, timeout()), (false, false, "timeout"));
        let broken = OutboundFailure::ConnectionClosed;
        assert_eq!(fate(half, broken), (false, false, "broken"));
    }

    /// libp2p numbers requests by itself.
    fn outbound_ids() -> impl FnMut() -> OutboundRequestId {
        let codec = crate::network::codec::FrameCodec::new(1);
        let mut messages = libp2p::request_response::Behaviour::with_codec(
            codec,
            [],
            libp2p::request_response::Config::default(),
        );
        move || messages.send_request(&PeerId::random(), Ok(Vec::new().into()))
    }
}
