//! Answers about state that peers have not read yet.
//!
//! An answer may have megabytes, and a peer may take none of it until libp2p gives it up (after
//! `protocol.request_response_config.request_timeout`). So each holds room until it is written or given up, and before a question is
//! answered there has to be room for the longest answer there may be, which is held while the application thinks about it.
//! A question for which there is none waits with those that came before it; a peer's own hold up nobody else's.
//!
//! Bounds: bytes, of all peers together and of each.

use std::collections::HashMap;

use libp2p::{PeerId, request_response::InboundRequestId};

use crate::config::{RequestResponseConfig, Share};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Answers<Q = InboundRequestId> {
    room: Share,
    longest: usize,
    /// Who has asked what, and the bytes that are held for it.
    held: HashMap<Q, (PeerId, usize)>,
    peers: HashMap<PeerId, usize>,
    all: usize,
}

impl<Q: std::hash::Hash + Eq> Answers<Q> {
    /// None yet.
    pub(crate) fn new(config: &RequestResponseConfig) -> Self {
        Self {
            room: Share {
                all: config.max_bytes,
                per_peer: config.max_connection_bytes,
            },
            longest: config.max_message_size,
            held: HashMap::new(),
            peers: HashMap::new(),
            all: 0,
        }
    }

    /// Whether a question of a peer may be answered now.
    pub(crate) fn has_room(&self, peer: &PeerId) -> bool {
        let of_peer = self.peers.get(peer).copied().unwrap_or_default();
        of_peer.saturating_add(self.longest) <= self.room.per_peer
            && self.all.saturating_add(self.longest) <= self.room.all
    }

    /// A question is being answered.
    pub(crate) fn begin(&mut self, question: Q, peer: PeerId) {
        self.hold(question, peer, self.longest);
    }

    /// The answer has so many bytes, and goes out.
    pub(crate) fn send(&mut self, question: Q, bytes: usize) {
        if let Some(&(peer, held)) = self.held.get(&question) {
            self.hold(question, peer, bytes.min(held));
        }
    }

    /// Nothing is held for it any more; whose question it was.
    pub(crate) fn end(&mut self, question: &Q) -> Option<PeerId> {
        let (peer, bytes) = self.held.remove(question)?;
        self.all -= bytes;
        if let Some(of_peer) = self.peers.get_mut(&peer) {
            *of_peer -= bytes;
            if *of_peer == 0 {
                self.peers.remove(&peer);
            }
        }
        Some(peer)
    }

    fn hold(&mut self, question: Q, peer: PeerId, bytes: usize) {
        // One that was begun already begins anew.
        self.end(&question);
        let bytes = bytes.max(1);
        self.held.insert(question, (peer, bytes));
        *self.peers.entry(peer).or_default() += bytes;
        self.all += bytes;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    fn answers() -> Answers<usize> {
        Answers::new(&RequestResponseConfig {
            max_message_size: 10,
            max_connection_bytes: 25,
            max_bytes: 50,
            ..RequestResponseConfig::default()
        })
    }

    #[test]
    fn what_is_not_read_holds_its_room_until_it_is_or_is_given_up() {
        let (mut answers, [one, two]) = (answers(), [(); 2].map(|()| PeerId::random()));
        answers.begin(1, one);
        answers.begin(2, one);
        assert!(!answers.has_room(&one) && answers.has_room(&two));
        answers.send(1, 3);
        assert!(answers.has_room(&one), "it was a short one");
        answers.begin(3, one);
        assert!(!answers.has_room(&one));
        assert_eq!(answers.end(&2), Some(one));
        assert!(answers.has_room(&one));
        assert_eq!(answers.end(&2), None, "once");
    }

    proptest! {
        #[test]
        fn nobody_holds_more_than_the_limits_and_nothing_stays(steps in proptest::collection::vec((0usize..6, 0usize..20, 0u8..3), 1..200)) {
            let peers: Vec<_> = (0..6).map(|_| PeerId::random()).collect();
            let mut answers = answers();
            for (question, (peer, bytes, step)) in steps.iter().copied().enumerate() {
                match step {
                    0 if answers.has_room(&peers[peer]) => answers.begin(question, peers[peer]),
                    1 => answers.send(bytes, peer),
                    _ => {
                        answers.end(&bytes);
                    }
                }
                prop_assert!(answers.all <= 50 && answers.peers.values().all(|held| *held <= 25));
            }
            for question in 0..steps.len() {
                answers.end(&question);
            }
            prop_assert!(answers.all == 0 && answers.held.is_empty() && answers.peers.is_empty());
        }
    }
}
