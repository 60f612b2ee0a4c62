//! What the book knows of one peer.

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};

use super::{NetworkGroup, places::Place, random::Random};

/// Addresses of one peer, and how many of those at which it was reached are kept.
pub(super) const ADDRESSES: usize = 8;
const PROVEN: usize = 3;
/// How long a peer is left alone after a dial, in seconds: the first time, and at most.
pub(super) const PAUSE: (u64, u64) = (60, 3600);
/// The same after its connection ended, where it was reached before.
const AGAIN: u64 = 10;
/// After how long without a word of it, and after how many dials in vain, a peer gives its place to another.
const FORGET: u64 = 30 * 86_400;
const TRIES: u32 = 3;
/// The same for one that was reached before: so many, and none with success for so long.
const TRIES_AGAIN: u32 = 10;
const LOST: u64 = 7 * 86_400;
/// How long a peer that was never reached is one that may be there, after a dial in vain.
const LATELY: u64 = 600;
/// A word about a peer that is so old is news.
const NEWS: u64 = 86_400;

/// See the module's documentation. Times are the book's, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// Those at which it was reached first, the last one in front.
    pub(super) addresses: Vec<Known>,
    pub(super) group: NetworkGroup,
    /// Who told of it first.
    pub(super) source: NetworkGroup,
    pub(super) place: Place,
    pub(super) heard: u64,
    pub(super) reached: Option<u64>,
    pub(super) tried: Option<u64>,
    /// Dials in vain since it was last reached.
    pub(super) failures: u32,
    /// The same at some of its addresses only, which says nothing of the peer.
    pub(super) in_part: u32,
    /// The networks in which it could not be dialled last time, since others held them.
    pub(super) left_out: Vec<NetworkGroup>,
    /// When it may be dialled again.
    pub(super) due: u64,
    /// The networks of the addresses at which it may be dialled here; of none where it can't be.
    pub(super) networks: Vec<NetworkGroup>,
    /// Of these that of the address at which it was reached, or else may be.
    pub(super) home: Option<NetworkGroup>,
    /// The sequence number of the last record that it signed of itself (0: none is known), and that record.
    pub(super) sequence: u64,
    pub(super) record: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) address: Multiaddr,
    /// Whether the peer was reached there.
    pub(super) proven: bool,
}

/// A peer to be dialled now.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Who.
    pub peer: PeerId,
    /// Where, as far as this node can dial; first where it was reached before.
    pub addresses: Vec<Multiaddr>,
    /// Those of them at which it was reached before.
    pub proven: Vec<Multiaddr>,
}

impl Entry {
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Multiaddr> {
        self.addresses.iter().map(|known| &known.address)
    }

    pub(super) fn candidate(&self, peer: PeerId, dials: fn(&Multiaddr) -> bool) -> Candidate {
        let known = || self.addresses.iter().filter(|known| dials(&known.address));
        let proven = known().filter(|known| known.proven);
        Candidate {
            peer,
            proven: proven.map(|known| known.address.clone()).collect(),
            addresses: known().map(|known| known.address.clone()).collect(),
        }
    }

    /// Somebody says that it is at an address. What it has signed itself counts more, until it is not reached there. Among many that nobody has proved, which one makes room is left to chance: so no teller has the last word.
    pub(super) fn may_be_at(&mut self, address: Multiaddr, random: &mut Random) {
        let has_signed = self.sequence > 0 && self.failures == 0 && !self.addresses.is_empty();
        if has_signed || self.addresses.iter().any(|known| known.address == address) {
            return;
        }
        if self.addresses.len() >= ADDRESSES {
            let proven = self.proven();
            let makes_room = random.below(self.addresses.len().saturating_sub(proven));
            match makes_room {
                Some(place) => drop(self.addresses.remove(proven + place)),
                None => return,
            }
        }
        let proven = false;
        self.addresses.push(Known { address, proven });
    }

    /// It says itself where it is: what others said counts no more.
    pub(super) fn says_it_is_at(&mut self, addresses: impl Iterator<Item = Multiaddr>) {
        self.addresses.truncate(self.proven());
        for address in addresses {
            if self.addresses.len() < ADDRESSES
                && !self.addresses.iter().any(|known| known.address == address)
            {
                let proven = false;
                self.addresses.push(Known { address, proven });
            }
        }
    }

    /// It was dialled there, and is who it was to be.
    pub(super) fn is_at(&mut self, address: Multiaddr) {
        self.addresses.retain(|known| known.address != address);
        let proven = true;
        self.addresses.insert(0, Known { address, proven });
        self.addresses.truncate(ADDRESSES);
        for known in self.addresses.iter_mut().skip(PROVEN) {
            known.proven = false;
        }
    }

    /// Whether this node knows more of it than what others say: it reached it once, or has dialled it in vain lately.
    pub(super) fn may_be_there(&self, time: u64) -> bool {
        let is_late = |tried| time.saturating_sub(tried) < LATELY;
        let was_dialled = self.failures > 0 && self.tried.is_some_and(is_late);
        (self.reached.is_some() || was_dialled) && !self.is_terrible(time)
    }

    fn proven(&self) -> usize {
        self.addresses
            .iter()
            .take_while(|known| known.proven)
            .count()
    }

    /// A word of it came.
    pub(super) fn heard_of(&mut self, time: u64) {
        if self.heard.saturating_add(NEWS) <= time {
            self.heard = time;
        }
    }

    /// A dial failed. Where it `counts` it is the peer's fault, as far as can be told.
    pub(super) fn failed(&mut self, counts: bool, time: u64) {
        self.left_out.clear();
        self.pauses(time);
        self.failures = self.failures.saturating_add(u32::from(counts));
    }

    /// A dial at some of its addresses failed: the others may be right, but such dials are not to take all turns.
    pub(super) fn failed_in_part(&mut self, left_out: Vec<NetworkGroup>, time: u64) {
        self.left_out = left_out;
        self.pauses(time);
        self.in_part = self.in_part.saturating_add(1);
    }

    /// An address of it may be dialled that could not be: soon, though not at once after the last dial.
    pub(super) fn retries(&mut self) {
        let soon = self.tried.unwrap_or(0).saturating_add(PAUSE.0);
        (self.due, self.in_part) = (self.due.min(soon), 0);
        self.left_out.clear();
    }

    /// It is left alone, for longer each time.
    fn pauses(&mut self, time: u64) {
        let (first, most) = PAUSE;
        let pause = first << self.failures.saturating_add(self.in_part).min(16);
        self.tried = Some(time);
        self.due = self.due.max(time.saturating_add(pause.min(most)));
    }

    /// Its connection ended.
    pub(super) fn gone(&mut self, time: u64) {
        let pause = if self.reached.is_some() && self.failures == 0 {
            AGAIN
        } else {
            PAUSE.0
        };
        self.due = self.due.max(time.saturating_add(pause));
    }

    /// Whether it is worth its place no longer, as Bitcoin Core judges.
    pub(super) fn is_terrible(&self, time: u64) -> bool {
        let since = |at: u64| time.saturating_sub(at);
        if self.tried.is_some_and(|tried| since(tried) < PAUSE.0) {
            return false;
        }
        match self.reached {
            _ if since(self.heard) > FORGET => true,
            None => self.failures >= TRIES,
            Some(reached) => self.failures >= TRIES_AGAIN && since(reached) > LOST,
        }
    }
}
