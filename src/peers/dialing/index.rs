//! The targets by what is asked of them, so that each step finds its own however many there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::BuildHasher,
};

use libp2p::PeerId;

use super::{
    Teller,
    target::{State, Target},
};
use crate::{keyed::Keyed, platform::Instant};

/// Peers, the longest due first; alike ones in this node's own order.
pub(super) type Queue = BTreeSet<(Instant, u64, PeerId)>;

/// The targets by what is asked of them.
#[derive(Debug)]
pub(super) struct Index {
    /// Those that wait for their turn, by who told of them and whether they were tried.
    pub(super) queues: BTreeMap<(Teller, bool), Queue>,
    /// Those that may be forgotten, by when they were last told of.
    pub(super) told: BTreeSet<(Instant, PeerId)>,
    /// How many such a teller told of.
    pub(super) counts: BTreeMap<Teller, usize>,
    /// How many of them are being dialled.
    pub(super) dialling: BTreeMap<Teller, usize>,
    /// This node's own order.
    pub(super) order: Keyed,
}

impl Index {
    pub(super) fn new(order: Keyed) -> Self {
        Self {
            queues: BTreeMap::new(),
            told: BTreeSet::new(),
            counts: BTreeMap::new(),
            dialling: BTreeMap::new(),
            order,
        }
    }

    pub(super) fn add(&mut self, peer: PeerId, target: &Target) {
        *self.counts.entry(target.teller).or_default() += 1;
        match target.state {
            State::Due(at) => {
                let queue = self.queues.entry((target.teller, target.tried));
                let place = (at, self.order.hash_one(peer), peer);
                queue.or_default().insert(place);
            }
            State::Dialling => *self.dialling.entry(target.teller).or_default() += 1,
            State::Connected | State::Away => {}
        }
        if target.may_be_forgotten() {
            self.told.insert((target.told, peer));
        }
    }

    /// What [`Self::add`] did.
    pub(super) fn remove(&mut self, peer: PeerId, target: &Target) {
        if let Some(count) = self.counts.get_mut(&target.teller) {
            *count -= 1;
        }
        match target.state {
            State::Due(at) => {
                let queue = self.queues.get_mut(&(target.teller, target.tried));
                let place = (at, self.order.hash_one(peer), peer);
                queue.map(|queue| queue.remove(&place));
            }
            State::Dialling => {
                if let Some(count) = self.dialling.get_mut(&target.teller) {
                    *count -= 1;
                }
            }
            State::Connected | State::Away => {}
        }
        self.told.remove(&(target.told, peer));
    }

    /// Who has its turn next.
    pub(super) fn next(&self, least: Teller, now: Instant) -> Option<PeerId> {
        let queues = self.queues.iter();
        let first = queues
            .filter(|((teller, _), _)| *teller <= least)
            .filter_map(|((teller, _), queue)| {
                let (at, order, peer) = queue.first()?;
                (*at <= now).then(|| (*at + teller.handicap(), *order, *peer))
            });
        first.min().map(|(_, _, peer)| peer)
    }
}
