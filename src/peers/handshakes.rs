//! Handshakes: connections that came from outside and have not proved who they are yet.
//!
//! Until then only the address is known, so places are shared out by address: 300 silent sockets of one host must not keep
//! others out (ProvableHQ/snarkOS#3311, status-im/nim-eth#111). When all places are taken, the oldest handshake of the most crowded
//! address gives way to a newcomer from a less crowded one; so an address can only ever crowd itself out. A newcomer from
//! an address that is itself the most crowded replaces that one's oldest handshake, if it is past [`Handshakes::GRACE`]: an honest
//! handshake takes less, so silent sockets give way, and a burst of honest nodes behind one address don't push each other out.
//! Whoever commands as many addresses as there are places can still wear newcomers out, at the price of a connection each.
//!
//! A state machine without I/O: `T` is what ends a handshake; the driver is `transport/door.rs`. Bounds: the limit in all, of which
//! one address may have some. A newcomer costs the same however many there are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::Multiaddr;

use super::AddressGroup;
use crate::platform::Instant;

/// A handshake among [`Handshakes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandshakeId(u64);

/// Why a newcomer is turned away before it is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many connections of this address have not proved who they are yet")]
pub struct Crowded;

/// See the module's documentation.
#[derive(Debug)]
pub struct Handshakes<T> {
    most: usize,
    most_per_address: usize,
    next: u64,
    groups: BTreeMap<AddressGroup, BTreeMap<HandshakeId, (Instant, T)>>,
    whose: BTreeMap<HandshakeId, AddressGroup>,
    /// The groups by their size, the most crowded last; of two that are as crowded, the one whose handshake has taken longest.
    crowds: BTreeSet<(usize, Reverse<HandshakeId>, AddressGroup)>,
}

impl<T> Handshakes<T> {
    /// So old must a handshake be to give way to another from the same address.
    pub const GRACE: Duration = Duration::from_secs(1);

    /// Room for `most` handshakes, of which `most_per_address` from one address; each at least 1.
    pub fn new(most: usize, most_per_address: usize) -> Self {
        Self {
            most: most.max(1),
            most_per_address: most_per_address.max(1),
            next: 0,
            groups: BTreeMap::new(),
            whose: BTreeMap::new(),
            crowds: BTreeSet::new(),
        }
    }

    /// Handshakes under way.
    pub fn len(&self) -> usize {
        self.whose.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.whose.is_empty()
    }

    /// A newcomer from this address: its id, and the end of the handshake that gives way to it, if one has to.
    ///
    /// # Errors
    /// [`Crowded`]: it is to be dropped.
    pub fn enter(
        &mut self,
        remote: &Multiaddr,
        end: T,
        now: Instant,
    ) -> Result<(HandshakeId, Option<T>), Crowded> {
        let group = AddressGroup::of(remote);
        let ended = match self.who_gives_way(group, now)? {
            Some(id) => self.take(id),
            None => None,
        };
        let id = HandshakeId(self.next);
        self.next += 1;
        self.change(group, |handshakes| {
            handshakes.insert(id, (now, end));
        });
        self.whose.insert(id, group);
        Ok((id, ended))
    }

    /// A handshake is over, or its connection is gone.
    pub fn leave(&mut self, id: HandshakeId) {
        self.take(id);
    }

    fn who_gives_way(
        &self,
        group: AddressGroup,
        now: Instant,
    ) -> Result<Option<HandshakeId>, Crowded> {
        let own = self.groups.get(&group);
        let count = own.map_or(0, BTreeMap::len);
        if count < self.most_per_address {
            if self.len() < self.most {
                return Ok(None);
            }
            if let Some((most, Reverse(oldest), _)) = self.crowds.last()
                && *most > count
            {
                return Ok(Some(*oldest));
            }
        }
        let oldest = own.and_then(BTreeMap::first_key_value);
        match oldest {
            Some((id, (began, _))) if now.saturating_duration_since(*began) >= Self::GRACE => {
                Ok(Some(*id))
            }
            _ => Err(Crowded),
        }
    }

    fn take(&mut self, id: HandshakeId) -> Option<T> {
        let group = self.whose.remove(&id)?;
        let taken = self.change(group, |handshakes| handshakes.remove(&id));
        taken.map(|(_, end)| end)
    }

    /// Changes a group, and its place among the crowds.
    fn change<R>(
        &mut self,
        group: AddressGroup,
        change: impl FnOnce(&mut BTreeMap<HandshakeId, (Instant, T)>) -> R,
    ) -> R {
        let crowd = |handshakes: &BTreeMap<HandshakeId, _>| {
            let (oldest, _) = handshakes.first_key_value()?;
            Some((handshakes.len(), Reverse(*oldest), group))
        };
        let mut handshakes = self.groups.remove(&group).unwrap_or_default();
        crowd(&handshakes).map(|before| self.crowds.remove(&before));
        let changed = change(&mut handshakes);
        if let Some(after) = crowd(&handshakes) {
            self.crowds.insert(after);
            self.groups.insert(group, handshakes);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{self, test};
    use proptest::prelude::*;

    fn address(host: u8) -> Multiaddr {
        format!("/ip4/1.2.3.{host}/tcp/1")
            .parse()
            .expect("an address")
    }

    #[test]
    fn silent_sockets_of_one_host_keep_nobody_out() {
        let (mut handshakes, now) = (Handshakes::new(8, 6), platform::now());
        for number in 0..6 {
            assert_eq!(
                handshakes.enter(&address(1), number, now).expect("room").1,
                None
            );
        }
        assert_eq!(
            handshakes.enter(&address(1), 6, now),
            Err(Crowded),
            "all of them may be honest"
        );
        let later = now + Handshakes::<u32>::GRACE;
        let replaced = handshakes
            .enter(&address(1), 7, later)
            .expect("another of this host");
        assert_eq!(replaced.1, Some(0), "the oldest");
        for (host, ended) in [(2, None), (3, None), (4, Some(1)), (5, Some(2))] {
            let entered = handshakes
                .enter(&address(host), 100, now)
                .expect("a newcomer");
            assert_eq!(entered.1, ended, "host {host}");
        }
        assert_eq!(handshakes.len(), 8);
    }

    #[test]
    fn among_many_addresses_the_oldest_handshake_gives_way() {
        let (mut handshakes, now) = (Handshakes::new(4, 4), platform::now());
        for host in 1..=4 {
            handshakes.enter(&address(host), host, now).expect("room");
        }
        assert_eq!(
            handshakes.enter(&address(9), 9, now).expect("a newcomer").1,
            Some(1)
        );
        assert_eq!(
            handshakes.enter(&address(9), 10, now),
            Err(Crowded),
            "it is as crowded as any"
        );
    }

    #[test]
    fn a_handshake_that_is_over_gives_its_place_back() {
        let (mut handshakes, now) = (Handshakes::new(1, 1), platform::now());
        let (id, _) = handshakes.enter(&address(1), (), now).expect("room");
        handshakes.leave(id);
        handshakes.leave(id);
        assert!(
            handshakes.is_empty() && handshakes.groups.is_empty() && handshakes.crowds.is_empty()
        );
        assert_eq!(
            handshakes.enter(&address(1), (), now).expect("room").1,
            None
        );
    }

    proptest! {
        /// Whatever one address does, others get in; no limit is passed; who gives way is in the most crowded group.
        #[test]
        fn an_address_crowds_out_only_itself(
            steps in proptest::collection::vec((0u8..6, 0u64..800, any::<bool>()), 1..200),
            most in 2usize..12,
            per_address in 1usize..12,
        ) {
            let mut handshakes = Handshakes::new(most, per_address);
            let (mut now, mut open) = (platform::now(), Vec::new());
            for (host, milliseconds, leaves) in steps {
                now += Duration::from_millis(milliseconds);
                let size = |handshakes: &Handshakes<u8>, host| {
                    handshakes.groups.get(&AddressGroup::of(&address(host))).map_or(0, BTreeMap::len)
                };
                let before: Vec<_> = (0..6).map(|host| size(&handshakes, host)).collect();
                let crowd = before.iter().copied().max().unwrap_or_default();
                match handshakes.enter(&address(host), host, now) {
                    Ok((id, ended)) => {
                        open.push(id);
                        if let Some(ended) = ended.filter(|ended| *ended != host) {
                            prop_assert_eq!(before[usize::from(ended)], crowd);
                        }
                    }
                    Err(Crowded) => {
                        let own = before[usize::from(host)];
                        prop_assert!(own == crowd || own == per_address, "a newcomer from a less crowded address");
                    }
                }
                if leaves && !open.is_empty() {
                    handshakes.leave(open.remove(0));
                }
                prop_assert!(handshakes.len() <= most);
                prop_assert!((0..6).all(|host| size(&handshakes, host) <= per_address));
                let counted: usize = handshakes.groups.values().map(BTreeMap::len).sum();
                prop_assert_eq!(counted, handshakes.len());
                prop_assert_eq!(handshakes.crowds.len(), handshakes.groups.len());
            }
        }
    }
}
