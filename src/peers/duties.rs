//! Whom the application will need, and when: connections to them are made before, and kept until it is over.
//!
//! A validator whose turn comes, or a committee that signs in a minute, is to be there when the time has come, and not to be looked for then. The
//! application knows that time; this node knows how to dial. A state machine without I/O, beside [`Dialing`](super::Dialing), which keeps up as many connections as are wanted: what
//! is announced here is dialled whether more peers are wanted or not.
//!
//! From [`AHEAD`] before a duty begins until it ends its peers are **on duty**: none of them makes room for others, and each that is not connected is
//! dialled, at pauses that double from the first to the last of [`PAUSE`], or when it said that it may be asked again, however often it is announced. Where somebody answers, and does not
//! let us in, they double up to [`TURNED_AWAY`], as often as any other dial of this node comes again: on a chain anybody can register the address of a stranger, whom all its nodes would call
//! upon for as long as a duty lasts. Of who is in several duties the time goes from the first one's beginning to the last one's end. Then all is as before: who was dialled for its duty alone may be let go.
//!
//! Bounds: a duty begins within [`HORIZON`] and lasts [`LONGEST`] at most; so many peers as the owner says are expected or on duty at once, with [`ADDRESSES`] addresses
//! each, the last ones that were told of.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId};

use super::Due;
use crate::platform::Instant;

/// How long before its duty a peer is dialled.
pub const AHEAD: Duration = Duration::from_secs(30);
/// The furthest beginning of a duty.
pub const HORIZON: Duration = Duration::from_secs(3600);
/// The longest duty.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// Peers of all duties together, however many a node may have.
pub const MAX_ON_DUTY: usize = 256;
/// The first and the longest pause between two dials of one peer.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// The longest pause where it was there, and did not let us in.
const TURNED_AWAY: Duration = Duration::from_secs(60);
/// Addresses of one peer.
const ADDRESSES: usize = 16;

/// See the module's documentation.
#[derive(Debug)]
pub struct Duties {
    own: PeerId,
    most: usize,
    peers: BTreeMap<PeerId, Needed>,
}

/// A duty can't be prepared for; nothing of it was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DutyError {
    /// It begins too late.
    #[error("announce it within {} minutes of its beginning", HORIZON.as_secs() / 60)]
    TooFar,
    /// It lasts no time, or too long.
    #[error("let it last up to {} minutes, and announce the rest later", LONGEST.as_secs() / 60)]
    Length,
    /// There would be more peers than may be.
    #[error(
        "{0} peers at most may be expected at once, in all duties ({MAX_ON_DUTY}, and half of network.max_peers)"
    )]
    Peers(usize),
}

/// A peer of a duty.
#[derive(Debug)]
struct Needed {
    addresses: Vec<Multiaddr>,
    from: Instant,
    until: Instant,
    is_on_duty: bool,
    /// On duty it is dialled from then on.
    due: Instant,
    pause: Duration,
    is_dialled: bool,
    /// Whether it has let us in.
    is_in: bool,
    /// Whether its connection is there by such a dial.
    is_ours: bool,
}

/// A peer whose duty is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relieved {
    /// Who.
    pub peer: PeerId,
    /// Whether it was dialled for its duty alone.
    pub dialled: bool,
    /// Whether such a dial is under way.
    pub dialling: bool,
}

impl Duties {
    /// None yet, of `most` peers at once; never dials `own`.
    pub fn new(own: PeerId, most: usize) -> Self {
        Self {
            own,
            most: most.min(MAX_ON_DUTY),
            peers: BTreeMap::new(),
        }
    }

    /// The application needs peers, each with what it knows of where they are, for the time that `lasts`, after `begins_in`.
    ///
    /// # Errors
    /// It is too far away, too long, or of too many.
    pub fn expect(
        &mut self,
        peers: impl IntoIterator<Item = Due>,
        begins_in: Duration,
        lasts: Duration,
        now: Instant,
    ) -> Result<(), DutyError> {
        if begins_in > HORIZON {
            return Err(DutyError::TooFar);
        }
        if lasts.is_zero() || lasts > LONGEST {
            return Err(DutyError::Length);
        }
        let others = peers.into_iter().filter(|due| due.peer != self.own);
        let mut named: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for due in others {
            named.entry(due.peer).or_default().extend(due.addresses);
        }
        // Whose duty is over takes no place, also before that was noted.
        let others = self
            .peers
            .iter()
            .filter(|(peer, needed)| needed.until > now && !named.contains_key(peer));
        if named.len() + others.count() > self.most {
            return Err(DutyError::Peers(self.most));
        }
        let from = now + begins_in.saturating_sub(AHEAD);
        let until = now + begins_in + lasts;
        for (peer, addresses) in named {
            let needed = self.peers.entry(peer).or_insert(Needed {
                addresses: Vec::new(),
                from,
                until,
                is_on_duty: false,
                due: now,
                pause: PAUSE.0,
                is_dialled: false,
                is_in: false,
                is_ours: false,
            });
            let is_over = needed.until <= now;
            needed.from = if is_over { from } else { needed.from.min(from) };
            needed.until = needed.until.max(until);
            needed.is_at(addresses);
        }
        Ok(())
    }

    /// Who is on duty from now on.
    pub fn begin(&mut self, now: Instant) -> Vec<PeerId> {
        let waiting = self.peers.iter_mut();
        let begin = waiting.filter(|(_, needed)| !needed.is_on_duty && needed.from <= now);
        let begin = begin.map(|(peer, needed)| {
            needed.is_on_duty = true;
            *peer
        });
        begin.collect()
    }

    /// Who is on duty no more. It is forgotten, unless it was named again after its end, for later.
    pub fn end(&mut self, now: Instant) -> Vec<Relieved> {
        let mut relieved = Vec::new();
        self.peers.retain(|peer, needed| {
            let is_over = needed.until <= now;
            if is_over || needed.is_on_duty && needed.from > now {
                relieved.push(Relieved {
                    peer: *peer,
                    dialled: needed.is_ours,
                    dialling: needed.is_dialled,
                });
                (needed.is_on_duty, needed.is_dialled, needed.is_ours) = (false, false, false);
            }
            !is_over
        });
        relieved
    }

    /// Whom to dial now, of those that are not here, nor dialled by somebody else, so that up to `most` are being dialled; one of [`Self::connected`] and
    /// [`Self::failed`] follows.
    pub fn due(
        &mut self,
        most: usize,
        is_here: impl Fn(&PeerId) -> bool,
        now: Instant,
    ) -> Vec<Due> {
        let dialled = self.peers.values().filter(|needed| needed.is_dialled);
        let most = most.saturating_sub(dialled.count());
        let due = self.peers.iter_mut().filter(|(peer, needed)| {
            let may_be = needed.is_on_duty && !needed.is_dialled;
            may_be && needed.due <= now && !is_here(peer)
        });
        let due = due.take(most).map(|(peer, needed)| {
            needed.is_dialled = true;
            Due {
                peer: *peer,
                addresses: needed.addresses.clone(),
            }
        });
        due.collect()
    }

    /// It is connected, whoever dialled; `outbound`: this node.
    pub fn connected(&mut self, peer: &PeerId, outbound: bool, now: Instant) {
        if let Some(needed) = self.peers.get_mut(peer) {
            needed.due = now;
            needed.is_ours |= outbound && needed.is_dialled;
            needed.is_dialled = false;
        }
    }

    /// It has let us in.
    pub fn ready(&mut self, peer: &PeerId) {
        if let Some(needed) = self.peers.get_mut(peer) {
            (needed.is_in, needed.pause) = (true, PAUSE.0);
        }
    }

    /// A dial of it failed.
    pub fn failed(&mut self, peer: &PeerId, now: Instant) {
        if let Some(needed) = self.peers.get_mut(peer)
            && needed.is_dialled
        {
            needed.is_dialled = false;
            needed.rests(PAUSE.1, now);
        }
    }

    /// Its last connection ended.
    pub fn gone(&mut self, peer: &PeerId, now: Instant) {
        if let Some(needed) = self.peers.get_mut(peer) {
            needed.is_ours = false;
            let was_in = std::mem::take(&mut needed.is_in);
            needed.rests(if was_in { PAUSE.1 } else { TURNED_AWAY }, now);
        }
    }

    /// Before that time asking it again is of no use, it says.
    pub fn waits(&mut self, peer: &PeerId, time: Duration, now: Instant) {
        if let Some(needed) = self.peers.get_mut(peer) {
            needed.due = needed.due.max(now + time);
        }
    }

    /// Whether it is on duty.
    pub fn is_on_duty(&self, peer: &PeerId) -> bool {
        let needed = self.peers.get(peer);
        needed.is_some_and(|needed| needed.is_on_duty)
    }
}

impl Needed {
    /// It is left alone for a pause, and the next time for a longer one.
    fn rests(&mut self, longest: Duration, now: Instant) {
        self.due = self.due.max(now + self.pause);
        self.pause = (self.pause * 2).min(longest).max(self.pause);
    }

    fn is_at(&mut self, addresses: Vec<Multiaddr>) {
        for address in addresses {
            self.addresses.retain(|known| *known != address);
            self.addresses.push(address);
        }
        let surplus = self.addresses.len().saturating_sub(ADDRESSES);
        self.addresses.drain(..surplus);
    }
}

#[cfg(test)]
mod tests;
