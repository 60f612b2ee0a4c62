//! A peer that may be dialled: where it is, by whose word, and when it is its turn.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};

use super::{ADDRESSES, Due, PAUSE, Teller};
use crate::platform::Instant;

#[derive(Debug)]
pub(super) struct Target {
    /// In the order in which they were told of, each with its most trusted teller.
    pub(super) addresses: Vec<(Teller, Multiaddr)>,
    pub(super) state: State,
    pub(super) pause: Duration,
    pub(super) teller: Teller,
    /// When it was last told of.
    pub(super) told: Instant,
    /// Whether it was dialled, or connected, before.
    pub(super) tried: bool,
    /// How long it is left alone once it has turned us away, where that is known.
    pub(super) waits: Option<Duration>,
    /// Whether it turned us away, or we it, when it was last dialled.
    pub(super) was_refused: bool,
    /// How often in a row it did for being full.
    pub(super) fulls: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    Due(Instant),
    Dialling,
    Connected,
    /// The user let it go.
    Away,
}

impl Target {
    pub(super) fn failed(&mut self, now: Instant) {
        (self.state, self.tried) = (State::Due(now + self.pause), true);
        self.pause = (self.pause * 2).min(PAUSE.1);
        self.was_refused = false;
    }

    pub(super) fn is_at(&mut self, teller: Teller, address: Multiaddr) {
        let known = self
            .addresses
            .iter_mut()
            .find(|(_, known)| *known == address);
        if let Some((before, _)) = known {
            *before = teller.min(*before);
            return;
        }
        let (users, others): (Vec<_>, Vec<_>) = self
            .addresses
            .iter()
            .partition(|(of, _)| *of == Teller::User);
        if teller == Teller::User && users.len() >= ADDRESSES {
            let eldest = self
                .addresses
                .iter()
                .position(|(of, _)| *of == Teller::User);
            eldest.map(|place| self.addresses.remove(place));
        } else if teller != Teller::User && others.len() >= ADDRESSES {
            let least = self.addresses.iter().map(|(of, _)| *of).max();
            let eldest = self.addresses.iter().position(|(of, _)| Some(*of) == least);
            match eldest {
                Some(place) if least >= Some(teller) => drop(self.addresses.remove(place)),
                _ => return,
            }
        }
        self.addresses.push((teller, address));
    }

    pub(super) fn may_be_forgotten(&self) -> bool {
        self.teller != Teller::User && self.state != State::Connected
    }

    pub(super) fn due(&self, peer: PeerId) -> Due {
        let addresses = self.addresses.iter();
        Due {
            peer,
            addresses: addresses.map(|(_, address)| address.clone()).collect(),
        }
    }
}
