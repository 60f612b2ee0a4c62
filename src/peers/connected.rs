//! Who is connected from where: how near each peer is, and how many connections one address has.
//!
//! One host must not take all places of a node with as many identities as it likes. So public addresses have a limit
//! of connections that they may open ([`AddressGroup::of_public`]). It is no way to keep others out who share one, behind a provider's
//! NAT: who has not said hello makes room for who comes from there. A state machine without I/O. Bounds: the connections that there are
//! (`peers/table.rs`); of one address twice the limit, since who makes room is counted until it is gone.

use std::{collections::HashMap, net::IpAddr};

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};

use super::{Account, AddressGroup, Grouping, NetworkGroup, Scope, ip_of};

/// See the module's documentation.
#[derive(Debug)]
pub struct Connected {
    most_per_address: usize,
    grouping: Grouping,
    by_peer: HashMap<PeerId, Vec<Connection>>,
    by_address: HashMap<AddressGroup, usize>,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    scope: Scope,
    ip: Option<IpAddr>,
    account: Account,
    network: NetworkGroup,
    /// The address whose count it is part of.
    counted: Option<AddressGroup>,
}

impl Connected {
    /// Nobody yet; a public address may open `most_per_address` connections. `grouping` says of which network a peer is that tells of others.
    pub fn new(most_per_address: usize, grouping: Grouping) -> Self {
        Self {
            most_per_address,
            grouping,
            by_peer: HashMap::new(),
            by_address: HashMap::new(),
        }
    }

    /// Whether one more connection that was opened from this address fits, where another of it may be made to go; else why not.
    ///
    /// # Errors
    /// For a person.
    pub fn admits(
        &self,
        remote: &Multiaddr,
        make_room: impl FnOnce(AddressGroup) -> bool,
    ) -> Result<(), &'static str> {
        let Some(group) = AddressGroup::of_public(remote) else {
            return Ok(());
        };
        let (count, most) = (self.by_address.get(&group), self.most_per_address);
        let count = count.copied().unwrap_or_default();
        if count < most || count < most.saturating_mul(2) && make_room(group) {
            return Ok(());
        }
        Err(
            "its address has too many connections already (security.connection_limits.connections_per_address)",
        )
    }

    /// A connection was established; `theirs`: the peer opened it.
    pub fn enter(&mut self, peer: PeerId, id: ConnectionId, remote: &Multiaddr, theirs: bool) {
        let counted = AddressGroup::of_public(remote).filter(|_| theirs);
        if let Some(group) = counted {
            *self.by_address.entry(group).or_default() += 1;
        }
        let scope = Scope::of_remote(remote);
        let connections = self.by_peer.entry(peer).or_default();
        connections.push(Connection {
            id,
            scope,
            ip: ip_of(remote),
            account: Account::of(peer, remote),
            network: self.grouping.of_teller(remote),
            counted,
        });
    }

    /// A connection ended.
    pub fn leave(&mut self, peer: &PeerId, id: ConnectionId) {
        let Some(connections) = self.by_peer.get_mut(peer) else {
            return;
        };
        let Some(index) = connections
            .iter()
            .position(|connection| connection.id == id)
        else {
            return;
        };
        let gone = connections.swap_remove(index);
        if connections.is_empty() {
            self.by_peer.remove(peer);
        }
        let Some(group) = gone.counted else {
            return;
        };
        if let Some(count) = self.by_address.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&group);
            }
        }
    }

    /// The account of a peer, by its first connection.
    pub(crate) fn account(&self, peer: &PeerId) -> Account {
        let first = self.by_peer.get(peer).and_then(|all| all.first());
        first.map_or(Account::Peer(*peer), |connection| connection.account)
    }

    /// Where a peer is, by its first connection.
    pub(crate) fn ip(&self, peer: &PeerId) -> Option<IpAddr> {
        let first = self.by_peer.get(peer).and_then(|all| all.first());
        first.and_then(|connection| connection.ip)
    }

    /// The network from which a peer tells, by its first connection.
    pub(crate) fn network(&self, peer: &PeerId) -> NetworkGroup {
        let first = self.by_peer.get(peer).and_then(|all| all.first());
        first.map_or(NetworkGroup::Fleeting, |connection| connection.network)
    }

    /// How far away a peer is: by its furthest connection, and as far as can be if it has none.
    pub fn scope(&self, peer: &PeerId) -> Scope {
        let connections = self.by_peer.get(peer);
        let scopes = connections
            .into_iter()
            .flatten()
            .map(|connection| connection.scope);
        scopes.max().unwrap_or(Scope::Public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_public_address_takes_no_more_than_its_share() {
        let mut connected = Connected::new(2, Grouping::default());
        let remote = address("/ip4/1.2.3.4/tcp/5");
        let peers = [PeerId::random(), PeerId::random()];
        for (number, peer) in peers.into_iter().enumerate() {
            assert_eq!(connected.admits(&remote, |_| false), Ok(()));
            connected.enter(peer, ConnectionId::new_unchecked(number), &remote, true);
        }
        assert!(connected.admits(&remote, |_| false).is_err());
        assert_eq!(
            connected.admits(&address("/ip4/1.2.3.5/tcp/5"), |_| false),
            Ok(())
        );
        connected.leave(&peers[0], ConnectionId::new_unchecked(7));
        assert!(
            connected.admits(&remote, |_| false).is_err(),
            "no such connection"
        );
        connected.leave(&peers[0], ConnectionId::new_unchecked(0));
        assert_eq!(connected.admits(&remote, |_| false), Ok(()));
        let own = ConnectionId::new_unchecked(9);
        connected.enter(peers[0], own, &remote, false);
        assert_eq!(
            connected.admits(&remote, |_| false),
            Ok(()),
            "what we dialled is not counted"
        );
    }

    #[test]
    fn who_makes_room_is_counted_until_it_is_gone() {
        let mut connected = Connected::new(2, Grouping::default());
        let remote = address("/ip4/1.2.3.4/tcp/5");
        let enter = |connected: &mut Connected, number| {
            connected.admits(&remote, |group| {
                assert_eq!(group, AddressGroup::of(&remote));
                number < 10
            })?;
            let (peer, id) = (PeerId::random(), ConnectionId::new_unchecked(number));
            connected.enter(peer, id, &remote, true);
            Ok::<_, &str>((peer, id))
        };
        let entered: Vec<_> = (0..9).map(|number| enter(&mut connected, number)).collect();
        assert_eq!(entered.iter().filter(|one| one.is_ok()).count(), 4);
        for (peer, id) in entered.into_iter().flatten().take(2) {
            connected.leave(&peer, id);
        }
        assert!(enter(&mut connected, 10).is_err(), "nobody makes room");
        assert!(enter(&mut connected, 9).is_ok());
    }

    #[test]
    fn near_addresses_have_no_limit() {
        let mut connected = Connected::new(1, Grouping::default());
        for remote in ["/ip4/127.0.0.1/tcp/5", "/ip4/10.0.0.1/tcp/5", "/memory/5"] {
            for number in 0..5 {
                let id = ConnectionId::new_unchecked(number);
                connected.enter(PeerId::random(), id, &address(remote), true);
                assert_eq!(connected.admits(&address(remote), |_| false), Ok(()));
            }
        }
    }

    #[test]
    fn a_peer_is_as_far_as_its_furthest_connection() {
        let (mut connected, peer) = (Connected::new(9, Grouping::default()), PeerId::random());
        assert_eq!(connected.scope(&peer), Scope::Public, "nobody knows");
        let [near, far] = [1, 2].map(ConnectionId::new_unchecked);
        connected.enter(peer, near, &address("/ip4/127.0.0.1/tcp/5"), true);
        assert_eq!(connected.scope(&peer), Scope::Host);
        connected.enter(peer, far, &address("/ip4/1.2.3.4/tcp/5"), false);
        assert_eq!(connected.scope(&peer), Scope::Public);
        connected.leave(&peer, far);
        assert_eq!(connected.scope(&peer), Scope::Host);
    }

    proptest! {
        #[test]
        fn nothing_is_left_of_who_is_gone(hosts in proptest::collection::vec((0u8..4, any::<bool>()), 0..40)) {
            let mut connected = Connected::new(3, Grouping::default());
            let mut entered = Vec::new();
            for (number, (host, theirs)) in hosts.into_iter().enumerate() {
                let remote = address(&format!("/ip4/1.2.3.{host}/tcp/5"));
                if theirs && connected.admits(&remote, |_| false).is_err() {
                    continue;
                }
                let (peer, id) = (PeerId::random(), ConnectionId::new_unchecked(number));
                connected.enter(peer, id, &remote, theirs);
                entered.push((peer, id));
                prop_assert!(connected.by_address.values().all(|count| *count <= 3));
            }
            for (peer, id) in entered {
                connected.leave(&peer, id);
            }
            prop_assert!(connected.by_peer.is_empty() && connected.by_address.is_empty());
        }
    }
}
