//! Direct messages on their way: who waits for which answer, and for its turn.
//!
//! libp2p counts streams both ways against one limit for each connection, and ends those beyond it without a word. So a peer is
//! sent half as many at once, which leaves the other half to what it asks itself; further ones wait for their turn.
//! Bounds: [`MAX_WAITING`] for each peer, and each is waited for by a caller.

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
use crate::{chain::StateResponse, error::ProtocolError, platform::Instant};

/// Messages to one peer that wait for their turn; a further one is refused as busy.
const MAX_WAITING: usize = 1024;

/// What the caller of a direct message waits for.
pub(crate) type Reply = oneshot::Sender<Result<Option<StateResponse>, ProtocolError>>;

/// Requests without an answer yet.
#[derive(Debug)]
pub(crate) struct Requests {
    /// To one peer.
    at_once: usize,
    sent: HashMap<OutboundRequestId, (PeerId, Instant, Reply)>,
    peers: HashMap<PeerId, Peer>,
}

#[derive(Debug, Default)]
struct Peer {
    under_way: usize,
    waiting: VecDeque<(Vec<u8>, Reply)>,
}

impl Requests {
    /// None yet. `max_streams` of both directions may be open on one connection.
    pub(crate) fn new(max_streams: usize) -> Self {
        Self {
            at_once: (max_streams / 2).max(1),
            sent: HashMap::new(),
            peers: HashMap::new(),
        }
    }

    /// A message is to go to a peer, when [`Requests::next`] says so.
    pub(crate) fn ask(&mut self, peer: PeerId, frame: Vec<u8>, reply: Reply) {
        let of_peer = self.peers.entry(peer).or_default();
        if of_peer.waiting.len() >= MAX_WAITING {
            // Who waits no more has lost interest, which is its right.
            of_peer.waiting.retain(|(_, reply)| !reply.is_closed());
        }
        if of_peer.waiting.len() >= MAX_WAITING {
            let _ = reply.send(Err(ProtocolError::Busy));
        } else {
            of_peer.waiting.push_back((frame, reply));
        }
    }

    /// The next message for a peer, if it may go now; the caller calls [`Requests::sent`].
    pub(crate) fn next(&mut self, peer: &PeerId) -> Option<(Vec<u8>, Reply)> {
        let of_peer = self.peers.get_mut(peer)?;
        if of_peer.under_way >= self.at_once {
            return None;
        }
        let mut waiting = std::iter::from_fn(|| of_peer.waiting.pop_front());
        let next = waiting.find(|(_, reply)| !reply.is_closed());
        if next.is_none() && of_peer.under_way == 0 {
            self.peers.remove(peer);
        }
        next
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

    #[test]
    fn what_waits_is_bounded_and_who_lost_interest_makes_room() {
        let (mut requests, peer) = (Requests::new(1), PeerId::random());
        let mut answers: Vec<_> = (0..MAX_WAITING)
            .map(|_| {
                let (reply, answer) = oneshot::channel();
                requests.ask(peer, Vec::new(), reply);
                answer
            })
            .collect();
        let (reply, mut answer) = oneshot::channel();
        requests.ask(peer, Vec::new(), reply);
        assert!(matches!(answer.try_recv(), Ok(Err(ProtocolError::Busy))));
        answers.truncate(1);
        let (reply, _answer) = oneshot::channel();
        requests.ask(peer, vec![7], reply);
        let next = |requests: &mut Requests| requests.next(&peer).map(|(frame, _)| frame);
        assert_eq!(next(&mut requests), Some(Vec::new()));
        assert_eq!(next(&mut requests), Some(vec![7]));
        assert_eq!(next(&mut requests), None);
        assert!(requests.peers.is_empty(), "nothing is kept");
    }
}
