//! What is known of each peer across broadcasts.

use std::collections::{BTreeMap, VecDeque};

use libp2p::PeerId;

use super::announcement::{Announcement, BroadcastId};
use super::config::CodedConfig;
use crate::chain::ItemId;
use crate::debts::Debts;
use crate::peers::Misdeed;
use crate::platform::Instant;

/// The most chunks that a peer is asked for at a time. Fewer leave its uplink idle for a round trip; more pile up at
/// the first peer to have something, while others idle.
const WINDOW: usize = 8;
/// A peer with a smaller window has let us wait: it is asked only for what nobody else has.
const SLOW: usize = 4;
/// The most broadcasts of one block, with different roots, that a node takes part in.
pub(super) const MAX_BROADCASTS_OF_BLOCK: usize = 3;
/// Broadcasts noted as talked about with a peer; the oldest is forgotten first.
const MAX_SHARED: usize = 32;
/// Broadcasts that a peer is still to be told to leave us out of; the oldest is forgotten first.
const MAX_REFUSALS: usize = 32;
/// Chunks of a broadcast that is over here: as many as a block has may be on their way.
const MAX_STRAYS: usize = super::MAX_CHUNKS;

/// The peers that take part, and those that have no place.
#[derive(Debug)]
pub(super) struct Peers {
    max: usize,
    peers: BTreeMap<PeerId, Box<Peer>>,
    /// Of those without a place: what they are still to be told to leave us out of.
    surplus: BTreeMap<PeerId, VecDeque<BroadcastId>>,
    /// Of those who are gone.
    gone: Debts<Account>,
}

#[derive(Debug)]
struct Peer {
    window: usize,
    account: Account,
    shared: VecDeque<Shared>,
    refusals: VecDeque<BroadcastId>,
}

/// What is held against a peer, which it does not shed by leaving.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    doubted_until: Option<Instant>,
    /// When the peer would be even, had it told of new broadcasts at the allowed rate: GCRA's arrival time.
    even_at: Option<Instant>,
}

/// A broadcast that the peer may send chunks of.
#[derive(Debug)]
struct Shared {
    id: BroadcastId,
    block: ItemId,
    /// The peer has announced it.
    by_peer: bool,
    strays: usize,
}

impl Peers {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            peers: BTreeMap::new(),
            surplus: BTreeMap::new(),
            gone: Debts::default(),
        }
    }

    /// False: there is no place for it, or the peer is here already.
    pub(super) fn join(&mut self, peer: PeerId) -> bool {
        if self.contains(&peer) {
            return false;
        }
        if self.peers.len() >= self.max {
            self.surplus.entry(peer).or_default();
            return false;
        }
        self.surplus.remove(&peer);
        let unknown = Peer {
            window: WINDOW,
            account: self.gone.take(&peer).unwrap_or_default(),
            shared: VecDeque::new(),
            refusals: VecDeque::new(),
        };
        self.peers.insert(peer, Box::new(unknown));
        true
    }

    pub(super) fn leave(&mut self, peer: &PeerId, now: Instant) {
        self.surplus.remove(peer);
        if let Some(gone) = self.peers.remove(peer) {
            self.keep(*peer, gone.account, now);
        }
    }

    /// Keeps the account of who is gone, as long as there is anything in it.
    fn keep(&mut self, peer: PeerId, account: Account, now: Instant) {
        if let Some(rests_at) = account.doubted_until.max(account.even_at) {
            self.gone.keep(peer, account, rests_at, now);
        }
    }

    /// Whether the peer takes part.
    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = PeerId> {
        self.peers.keys().copied()
    }

    /// How many chunks the peer may be asked for at a time.
    pub(super) fn window(&self, peer: &PeerId) -> usize {
        self.peers.get(peer).map_or(0, |peer| peer.window)
    }

    /// Whether the peer has let us wait.
    pub(super) fn is_slow(&self, peer: &PeerId) -> bool {
        self.window(peer) < SLOW
    }

    /// The peer sent a chunk that it was asked for.
    pub(super) fn delivered(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.window = WINDOW.min(peer.window + 1);
        }
    }

    /// The peer did not send what it was asked for.
    pub(super) fn stalled(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.window = 1;
        }
    }

    /// The peer, which may be gone meanwhile, was the first to tell of a broadcast that came to nothing.
    pub(super) fn doubt(&mut self, id: PeerId, until: Instant, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.account.doubted_until = Some(until);
        } else {
            let account = Account {
                doubted_until: Some(until),
                ..self.gone.take(&id).unwrap_or_default()
            };
            self.keep(id, account, now);
        }
    }

    pub(super) fn is_doubted(&self, peer: &PeerId, now: Instant) -> bool {
        let until = self
            .peers
            .get(peer)
            .and_then(|peer| peer.account.doubted_until);
        until.is_some_and(|until| now < until)
    }

    /// The peer is the first to tell of a broadcast. False: it does so too often.
    pub(super) fn introduces(&mut self, peer: &PeerId, config: &CodedConfig, now: Instant) -> bool {
        let Some(known) = self.peers.get_mut(peer) else {
            return false;
        };
        let account = &mut known.account;
        let even_at = account.even_at.map_or(now, |at| at.max(now)) + config.introduce_every;
        let conforms = even_at <= now + config.introduce_every * config.introduce_burst;
        if conforms {
            account.even_at = Some(even_at);
        }
        conforms
    }

    /// Notes that the peer and we talk about a broadcast. False: it announces more broadcasts of one block than an
    /// honest peer takes part in.
    pub(super) fn share(&mut self, peer: &PeerId, it: &Announcement, by_peer: bool) -> bool {
        let Some(peer) = self.peers.get_mut(peer) else {
            return true;
        };
        if let Some(shared) = peer.shared.iter_mut().find(|shared| shared.id == it.id()) {
            shared.by_peer |= by_peer;
            return true;
        }
        let of_block = |shared: &&Shared| shared.by_peer && shared.block == *it.block();
        // It may have begun one itself.
        if by_peer && peer.shared.iter().filter(of_block).count() > MAX_BROADCASTS_OF_BLOCK {
            return false;
        }
        peer.shared.push_back(Shared {
            id: it.id(),
            block: it.block().clone(),
            by_peer,
            strays: 0,
        });
        if peer.shared.len() > MAX_SHARED {
            peer.shared.pop_front();
        }
        true
    }

    /// Whether anybody has announced this broadcast but this peer.
    pub(super) fn have_others_announced(&self, peer: &PeerId, id: &BroadcastId) -> bool {
        let mut others = self.peers.keys().filter(|other| *other != peer);
        others.any(|other| self.has_announced(other, id))
    }

    /// Whether the peer has announced this broadcast.
    pub(super) fn has_announced(&self, peer: &PeerId, id: &BroadcastId) -> bool {
        let mut shared = self.peers.get(peer).into_iter().flat_map(|it| &it.shared);
        shared.any(|shared| shared.by_peer && shared.id == *id)
    }

    /// A chunk of no broadcast that is under way: on its way while the broadcast ended, unless the peer made it up.
    pub(super) fn stray(
        &mut self,
        peer: &PeerId,
        id: &BroadcastId,
    ) -> Option<(Misdeed, &'static str)> {
        let peer = self.peers.get_mut(peer)?;
        match peer.shared.iter_mut().find(|shared| shared.id == *id) {
            Some(shared) if shared.strays < MAX_STRAYS => {
                shared.strays += 1;
                None
            }
            Some(_) => Some((
                Misdeed::TooManyMessages,
                "it sends on after a broadcast has ended",
            )),
            None => Some((
                Misdeed::InvalidMessage,
                "it sent a chunk of a broadcast that nobody announced",
            )),
        }
    }

    /// The peer is to be told that we need nothing of a broadcast.
    pub(super) fn refuse(&mut self, peer: &PeerId, id: BroadcastId) {
        if let Some(refusals) = self.refusals(peer)
            && !refusals.contains(&id)
        {
            refusals.push_back(id);
            if refusals.len() > MAX_REFUSALS {
                refusals.pop_front();
            }
        }
    }

    /// The next broadcast that the peer is to be told to leave us out of.
    pub(super) fn refusals(&mut self, peer: &PeerId) -> Option<&mut VecDeque<BroadcastId>> {
        match self.peers.get_mut(peer) {
            Some(peer) => Some(&mut peer.refusals),
            None => self.surplus.get_mut(peer),
        }
    }
}
