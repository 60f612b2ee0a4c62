//! Direct messages on their way: who waits for which answer, and for its turn.
//!
//! libp2p counts streams both ways against one limit for each connection, and ends those beyond it without a word. So a peer is
//! sent half as many at once, which leaves the other half to what it asks itself; further ones wait for their turn, as long as an
//! answer may take.
//!
//! A peer refuses messages that come faster than it lets them, and holds it against whoever sent them. So this end keeps to the
//! same limits ([`RateLimiter::mirror`]): what would be refused waits for its turn too, and in its order.
//! Bounds: for each peer, [`MAX_WAITING`] and [`MAX_WAITING_BYTES`]; each is waited for by a caller.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use libp2p::{
    PeerId,
    request_response::{OutboundFailure, OutboundRequestId},
};
use tokio::sync::oneshot;

use super::protocol::Answer;
use crate::{
    chain::StateResponse,
    config::RequestResponseConfig,
    error::ProtocolError,
    platform::Instant,
    traffic::{Cost, Limits, Protocol, RateLimiter, Refusal},
};

/// Messages to one peer that wait for their turn; a further one is refused as busy.
const MAX_WAITING: usize = 1024;
/// And their bytes, if the largest message is not larger.
const MAX_WAITING_BYTES: usize = 16 << 20;

/// What the caller of a direct message waits for.
pub(crate) type Reply = oneshot::Sender<Result<Option<StateResponse>, ProtocolError>>;

/// Requests without an answer yet.
#[derive(Debug)]
pub(crate) struct Requests {
    /// To one peer.
    at_once: usize,
    max_bytes: usize,
    patience: Duration,
    /// What peers are sent of late, by the limits that they hold this node to.
    limiter: RateLimiter,
    sent: HashMap<OutboundRequestId, (PeerId, Instant, Reply)>,
    peers: HashMap<PeerId, Peer>,
}

#[derive(Debug, Default)]
struct Peer {
    under_way: usize,
    waiting: VecDeque<Waiting>,
    /// Of those that wait.
    bytes: usize,
    /// Somebody will say when the turn of the first has come ([`Turn::At`]).
    called: bool,
}

/// Whether a message may go.
#[derive(Debug)]
pub(crate) enum Turn {
    /// This one; the caller calls [`Requests::sent`].
    Now(Vec<u8>, Reply),
    /// One may then; the caller calls [`Requests::turn`]. It is said once.
    At(Instant),
    /// None, until another one is asked or ends.
    None,
}

#[derive(Debug)]
struct Waiting {
    frame: Vec<u8>,
    /// What it has yet to be counted as before it goes.
    dues: Vec<(Protocol, Cost)>,
    reply: Reply,
    until: Instant,
}

impl Peer {
    fn pop(&mut self) -> Option<Waiting> {
        let next = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(next.frame.len());
        Some(next)
    }
}

impl Requests {
    /// None yet.
    pub(crate) fn new(config: &RequestResponseConfig, limits: Limits) -> Self {
        Self {
            at_once: (config.max_concurrent_streams / 2).max(1),
            max_bytes: MAX_WAITING_BYTES.max(config.max_message_size),
            patience: config.request_timeout,
            limiter: RateLimiter::mirror(limits),
            sent: HashMap::new(),
            peers: HashMap::new(),
        }
    }

    /// A message is to go to a connected peer, when [`Requests::next`] says so. One that names peers is under the limit of
    /// [`Protocol::Discovery`] as well.
    pub(crate) fn ask(
        &mut self,
        peer: PeerId,
        (frame, names_peers): (Vec<u8>, bool),
        reply: Reply,
        now: Instant,
    ) {
        let (max_bytes, until) = (self.max_bytes, now + self.patience);
        let of_peer = self.peers.entry(peer).or_default();
        let is_full = |of_peer: &Peer| {
            of_peer.waiting.len() >= MAX_WAITING || of_peer.bytes + frame.len() > max_bytes
        };
        if is_full(of_peer) {
            // Who waits no more has lost interest, which is its right.
            of_peer.waiting.retain(|waiting| !waiting.reply.is_closed());
            of_peer.bytes = of_peer
                .waiting
                .iter()
                .map(|waiting| waiting.frame.len())
                .sum();
        }
        if is_full(of_peer) {
            let _ = reply.send(Err(ProtocolError::Busy));
        } else {
            let bytes = frame.len() as u64;
            let mut dues = vec![(Protocol::Message, Cost { items: 1, bytes: 0 })];
            dues.extend(names_peers.then_some((Protocol::Discovery, Cost { items: 1, bytes })));
            of_peer.bytes += frame.len();
            of_peer.waiting.push_back(Waiting {
                frame,
                dues,
                reply,
                until,
            });
        }
    }

    /// Those that have waited for their turn for too long wait no more.
    pub(crate) fn on_time(&mut self, now: Instant) {
        self.peers.retain(|_, of_peer| {
            while of_peer
                .waiting
                .front()
                .is_some_and(|first| first.until <= now)
                && let Some(late) = of_peer.pop()
            {
                let _ = late.reply.send(Err(ProtocolError::Timeout));
            }
            of_peer.under_way > 0 || !of_peer.waiting.is_empty()
        });
    }

    /// The next message for a peer, if it may go now.
    pub(crate) fn next(&mut self, peer: &PeerId, now: Instant) -> Turn {
        let Some(of_peer) = self.peers.get_mut(peer) else {
            return Turn::None;
        };
        if of_peer.under_way >= self.at_once {
            return Turn::None;
        }
        while let Some(first) = of_peer.waiting.front_mut() {
            while !first.reply.is_closed()
                && let Some(&(protocol, cost)) = first.dues.last()
            {
                let admission = self.limiter.admits(*peer, protocol, cost, now);
                if let Err(Refusal::TooSoon { retry_at }) = admission {
                    return if std::mem::replace(&mut of_peer.called, true) {
                        Turn::None
                    } else {
                        Turn::At(retry_at)
                    };
                }
                first.dues.pop();
            }
            if let Some(Waiting { frame, reply, .. }) = of_peer.pop()
                && !reply.is_closed()
            {
                return Turn::Now(frame, reply);
            }
        }
        if of_peer.under_way == 0 {
            self.peers.remove(peer);
        }
        Turn::None
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
            && let Some(waiting) = of_peer.pop()
        {
            let _ = waiting.reply.send(Err(ProtocolError::NotConnected(*peer)));
        }
    }

    /// A request was sent.
    pub(crate) fn sent(&mut self, id: OutboundRequestId, peer: PeerId, reply: Reply, now: Instant) {
        self.peers.entry(peer).or_default().under_way += 1;
        self.sent.insert(id, (peer, now, reply));
    }

    /// An answer came: tells the caller, and says how long it took and whether it was a message at all.
    pub(crate) fn answered(
        &mut self,
        id: OutboundRequestId,
        frame: &[u8],
        now: Instant,
    ) -> Option<(Duration, bool)> {
        let (at, reply) = self.ended(id)?;
        let answer = Answer::decode(frame);
        let valid = answer.is_ok();
        // A caller that no longer waits has lost interest, which is its right.
        let _ = reply.send(match answer {
            Ok(Answer::Received) => Ok(None),
            Ok(Answer::State(state)) => Ok(Some(state)),
            Ok(Answer::Refused(reason)) => Err(ProtocolError::Refused(reason)),
            Err(error) => Err(error.into()),
        });
        Some((now.saturating_duration_since(at), valid))
    }

    /// No answer will come.
    pub(crate) fn failed(
        &mut self,
        id: OutboundRequestId,
        failure: &OutboundFailure,
        protocol: &str,
    ) {
        if let Some((_, reply)) = self.ended(id) {
            let _ = reply.send(Err(match failure {
                OutboundFailure::Timeout => ProtocolError::Timeout,
                OutboundFailure::UnsupportedProtocols => {
                    ProtocolError::Unsupported(protocol.to_owned())
                }
                other => ProtocolError::Broken(other.to_string()),
            }));
        }
    }

    fn ended(&mut self, id: OutboundRequestId) -> Option<(Instant, Reply)> {
        let (peer, at, reply) = self.sent.remove(&id)?;
        if let Some(of_peer) = self.peers.get_mut(&peer) {
            of_peer.under_way = of_peer.under_way.saturating_sub(1);
        }
        Some((at, reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

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
            requests.ask(peer, (frame, false), reply, now);
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
            Turn::Now(frame, _) => Some(frame),
            Turn::At(_) | Turn::None => None,
        };
        assert_eq!(next(&mut requests), Some(Vec::new()));
        assert_eq!(next(&mut requests), Some(vec![7]));
        assert_eq!(next(&mut requests), None);
        assert!(requests.peers.is_empty(), "nothing is kept");
        let _half = ask(&mut requests, vec![0; MAX_WAITING_BYTES / 2 + 1]);
        let mut answer = ask(&mut requests, vec![0; MAX_WAITING_BYTES / 2]);
        assert!(matches!(answer.try_recv(), Ok(Err(ProtocolError::Busy))));
    }

    #[test]
    fn who_waits_for_its_turn_is_told_when_its_time_is_up() {
        let (mut requests, peer, now) = (requests(), PeerId::random(), crate::platform::now());
        let (reply, mut answer) = oneshot::channel();
        requests.ask(peer, (vec![7], false), reply, now);
        let patience = requests.patience;
        requests.on_time(now + patience / 2);
        assert!(answer.try_recv().is_err(), "it has time yet");
        requests.on_time(now + patience);
        assert!(matches!(answer.try_recv(), Ok(Err(ProtocolError::Timeout))));
        assert!(requests.peers.is_empty(), "nothing is kept");
    }

    /// Asks so many at once; returns how many went, and after how long the last did.
    fn flood(names_peers: bool, count: usize) -> (usize, Duration) {
        let (mut requests, peer, start) = (requests(), PeerId::random(), crate::platform::now());
        let mut theirs = RateLimiter::new(Limits::default());
        let mut answers = Vec::new();
        for _ in 0..count {
            let (reply, answer) = oneshot::channel();
            requests.ask(peer, (vec![7; 64], names_peers), reply, start);
            answers.push(answer);
        }
        let (mut now, mut went) = (start, 0);
        loop {
            match requests.next(&peer, now) {
                Turn::Now(frame, _) => {
                    let (message, bytes) = (Cost { items: 1, bytes: 0 }, frame.len() as u64);
                    let exchange = Cost { items: 1, bytes };
                    assert_eq!(theirs.admits(peer, Protocol::Message, message, now), Ok(()));
                    if names_peers {
                        let admitted = theirs.admits(peer, Protocol::Discovery, exchange, now);
                        assert_eq!(admitted, Ok(()));
                    }
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
    fn nothing_waits_for_a_peer_that_is_gone_nor_does_it_rest_by_that() {
        let (mut requests, peer, now) = (requests(), PeerId::random(), crate::platform::now());
        let ask = |requests: &mut Requests| {
            let (reply, answer) = oneshot::channel();
            requests.ask(peer, (vec![7], false), reply, now);
            answer
        };
        let answers: Vec<_> = (0..200).map(|_| ask(&mut requests)).collect();
        while let Turn::Now(..) = requests.next(&peer, now) {}
        requests.gone(&peer, now);
        for mut answer in answers.into_iter().skip(150) {
            let told = answer.try_recv();
            assert!(matches!(told, Ok(Err(ProtocolError::NotConnected(_)))));
        }
        let _again = ask(&mut requests);
        requests.turn(&peer);
        assert!(matches!(requests.next(&peer, now), Turn::At(_)));
    }
}
