//! Places, and room for others: the least useful make it, and who is protected stays.
//!
//! `max_peers` is the high watermark. Where so many have a place and one more of ours wants one, or this node itself wants to dial somebody, the least useful of those that
//! came by themselves are let go (`peers/trimming.rs`), down to the low watermark; a plain peer has nobody let go. That is looked at
//! once every [`EVERY`] at most for who comes by itself, whenever this node chooses somebody: whoever comes meanwhile is told that the node is full. So whoever
//! comes again and again costs little work, and drives out one peer, or one such batch, a second.
//!
//! Who goes is told why by a hello, and is let go when it has answered that, or has had as long as a newcomer has for its own. Until then it counts as one of the newcomers
//! ([`Stage::Leaving`]): its place is free at once, and it is here all the same, within their bound. It stays away by itself for a minute at least.
//!
//! Bounds: [`MAX_PROTECTED`] peers are protected, each with [`MAX_TAGS`] tags of [`MAX_TAG`] bytes; of the user's, as many as are dialled at need (`peers/dialing.rs`).

use super::*;
use crate::peers::{
    dialing::MOST,
    trimming::{Inbound, least_useful},
};

/// How often somebody has to go at most.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// Peers that are protected at once.
pub const MAX_PROTECTED: usize = 1024;
/// Tags of one peer.
pub const MAX_TAGS: usize = 16;
/// The longest tag, in bytes.
pub const MAX_TAG: usize = 64;

/// Why a peer is let go that had a place.
pub const MADE_ROOM: &str =
    "all places are taken (network.max_peers), and it made room for others as the least useful";

/// Who is protected, by which tags.
pub(super) type Protected = BTreeMap<PeerId, BTreeSet<String>>;

/// A peer can't be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtectError {
    /// The tag is empty or too long.
    #[error("give a tag of 1 to {} bytes", MAX_TAG)]
    Tag,
    /// The peer has as many tags as it may.
    #[error(
        "it is protected by {} tags already; unprotect it by one that is not needed any more",
        MAX_TAGS
    )]
    Tags,
    /// As many peers are protected as may be.
    #[error("{} peers are protected already; unprotect one", MAX_PROTECTED)]
    Peers,
}

impl Table {
    /// Places that nobody has.
    pub fn free(&self) -> usize {
        self.limits.max_peers.saturating_sub(self.taken())
    }

    /// Places that somebody has.
    pub fn taken(&self) -> usize {
        self.ours + self.plain
    }

    /// Whether there is a place for one more peer of ours.
    pub fn has_place(&self) -> bool {
        self.free() > 0
    }

    /// Whether there are places for so many more; where there were too few, the least useful have made room if it is time for that.
    pub fn makes_place(&mut self, few: usize, now: Instant) -> bool {
        if self.free() < few && self.trims_at.is_none_or(|at| now >= at) {
            self.trims_at = Some(now + EVERY);
            self.trim(few, now);
        }
        self.free() >= few
    }

    /// The same for whom this node chooses: that waits for no newcomers' turn, which they could take each time.
    pub fn makes_place_for_ours(&mut self, few: usize, now: Instant) -> bool {
        if self.free() < few {
            self.trim(few, now);
        }
        self.free() >= few
    }

    /// The same for who came: who makes room for nobody waits for no turn either.
    pub(super) fn makes_place_for(&mut self, id: &PeerId, now: Instant) -> bool {
        if self.keeps_place(id) {
            self.makes_place_for_ours(1, now)
        } else {
            self.makes_place(1, now)
        }
    }

    /// The user knows it, and has not dismissed it: it makes no room for others, whoever dialled. So many there are at most as [`Dialing`] keeps, who says
    /// which of them gives way to another.
    ///
    /// [`Dialing`]: crate::peers::Dialing
    pub fn is_users(&mut self, id: PeerId, is_users: bool) {
        if !is_users {
            self.users.remove(&id);
        } else if self.users.len() < MOST {
            self.users.insert(id);
        }
    }

    /// Whether that is said of it.
    #[cfg(test)]
    pub(crate) fn is_of_users(&self, id: &PeerId) -> bool {
        self.users.contains(id)
    }

    /// The application needs it, from now on or no more (`peers/duties.rs`, which says of how many): until then it makes no room for others.
    pub fn is_on_duty(&mut self, id: PeerId, is_on_duty: bool) {
        if is_on_duty {
            self.on_duty.insert(id);
        } else {
            self.on_duty.remove(&id);
        }
    }

    /// Whether it makes no room for others: it is protected, the user's, or on duty.
    pub fn keeps_place(&self, id: &PeerId) -> bool {
        self.protected.contains_key(id) || self.users.contains(id) || self.on_duty.contains(id)
    }

    fn trim(&mut self, few: usize, now: Instant) {
        let low = match self.limits.low_watermark {
            0 => self.limits.max_peers,
            low => low,
        };
        let surplus = self.taken().saturating_sub(low);
        let most = surplus.max(few.saturating_sub(self.free()));
        let candidates = self.peers.iter().filter_map(|(id, peer)| {
            let may_go = matches!(peer.stage, Stage::Ready | Stage::Plain)
                && peer.info.direction == Some(Direction::Inbound)
                && !self.keeps_place(id);
            may_go.then_some(Inbound {
                peer: *id,
                network: peer.network,
                age: peer.age,
                round_trip: peer.nearest,
                brought: peer.brought,
                stake: peer.stake,
            })
        });
        for peer in least_useful(candidates.collect(), most, &self.lot) {
            self.part(peer, now);
        }
    }

    fn part(&mut self, id: PeerId, now: Instant) {
        // A plain peer knows no words for it.
        if self.stage(&id) != Some(Stage::Ready) {
            return self.let_go(id, MADE_ROOM.to_owned());
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.farewell.get_or_insert_with(|| MADE_ROOM.to_owned());
        }
        self.set_stage(&id, Stage::Leaving);
        self.set_deadline(&id, Some(now + self.limits.hello));
        self.actions.push_back(Action::Part(id));
    }

    /// It brought an item that was new here, and right.
    pub fn brought(&mut self, id: &PeerId, kind: ItemKind, now: Instant) {
        let brought = self.peers.get_mut(id).map(|peer| &mut peer.brought);
        let kinds = ItemKind::ALL.into_iter().zip(brought.into_iter().flatten());
        for (_, at) in kinds.filter(|(of, _)| *of == kind) {
            *at = Some(now);
        }
    }

    /// When it last did.
    #[cfg(test)]
    pub(crate) fn last_brought(&self, id: &PeerId, kind: ItemKind) -> Option<Instant> {
        let brought = self.peers.get(id)?.brought;
        let mut kinds = ItemKind::ALL.into_iter().zip(brought);
        kinds.find_map(|(of, at)| at.filter(|_| of == kind))
    }

    /// What stands behind it, in the chain's own unit.
    pub fn staked(&mut self, id: &PeerId, stake: u64) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.stake = stake;
        }
    }

    /// It makes no room for others, connected or not, until each of its tags is taken away.
    ///
    /// # Errors
    /// The tag is none, or it is one too many.
    pub fn protect(&mut self, id: PeerId, tag: &str) -> Result<(), ProtectError> {
        if tag.is_empty() || tag.len() > MAX_TAG {
            return Err(ProtectError::Tag);
        }
        if self.protected.len() >= MAX_PROTECTED && !self.protected.contains_key(&id) {
            return Err(ProtectError::Peers);
        }
        let tags = self.protected.entry(id).or_default();
        if tags.len() >= MAX_TAGS && !tags.contains(tag) {
            return Err(ProtectError::Tags);
        }
        tags.insert(tag.to_owned());
        Ok(())
    }

    /// Takes a tag away; whether it is still protected by another.
    pub fn unprotect(&mut self, id: &PeerId, tag: &str) -> bool {
        let Some(tags) = self.protected.get_mut(id) else {
            return false;
        };
        tags.remove(tag);
        if tags.is_empty() {
            self.protected.remove(id);
        }
        self.protected.contains_key(id)
    }
}
