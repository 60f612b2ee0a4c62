//! Who is connected from where: how near each peer is, and how many connections one address has.
//!
//! One host must not take all places of a node with as many identities as it likes. So public addresses have a limit
//! of connections that they may open; loopback and private ones have none, since behind them may stand a whole test network, a
//! reverse proxy or an office. A state machine without I/O. Bounds: the connections that there are (`peers/table.rs`).

use std::collections::HashMap;

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};

use super::{Account, AddressGroup, Scope};

/// See the module's documentation.
#[derive(Debug)]
pub struct Connected {
    most_per_address: usize,
    by_peer: HashMap<PeerId, Vec<Connection>>,
    by_address: HashMap<AddressGroup, usize>,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    scope: Scope,
    account: Account,
    /// The address whose count it is part of.
    counted: Option<AddressGroup>,
}

impl Connected {
    /// Nobody yet; a public address may open `most_per_address` connections.
    pub fn new(most_per_address: usize) -> Self {
        Self {
            most_per_address,
            by_peer: HashMap::new(),
            by_address: HashMap::new(),
        }
    }

    /// Whether one more connection that was opened from this address fits; else why not.
    pub fn admits(&self, remote: &Multiaddr) -> Result<(), &'static str> {
        let count = counted(remote).and_then(|group| self.by_address.get(&group));
        if count.is_some_and(|count| *count >= self.most_per_address) {
            return Err(
                "its address has too many connections already (security.connection_limits.connections_per_address)",
            );
        }
        Ok(())
    }

    /// A connection was established; `theirs`: the peer opened it.
    pub fn enter(&mut self, peer: PeerId, id: ConnectionId, remote: &Multiaddr, theirs: bool) {
        let counted = counted(remote).filter(|_| theirs);
        if let Some(group) = counted {
            *self.by_address.entry(group).or_default() += 1;
        }
        let scope = Scope::of_remote(remote);
        let connections = self.by_peer.entry(peer).or_default();
        connections.push(Connection {
            id,
            scope,
            account: Account::of(peer, remote),
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

/// The address whose connections are counted together with those of this one, if any are.
fn counted(remote: &Multiaddr) -> Option<AddressGroup> {
    match AddressGroup::of(remote) {
        AddressGroup::Elsewhere => None,
        group => (Scope::of_remote(remote) == Scope::Public).then_some(group),
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
        let mut connected = Connected::new(2);
        let remote = address("/ip4/1.2.3.4/tcp/5");
        let peers = [PeerId::random(), PeerId::random()];
        for (number, peer) in peers.into_iter().enumerate() {
            assert_eq!(connected.admits(&remote), Ok(()));
            connected.enter(peer, ConnectionId::new_unchecked(number), &remote, true);
        }
        assert!(connected.admits(&remote).is_err());
        assert_eq!(connected.admits(&address("/ip4/1.2.3.5/tcp/5")), Ok(()));
        connected.leave(&peers[0], ConnectionId::new_unchecked(7));
        assert!(connected.admits(&remote).is_err(), "no such connection");
        connected.leave(&peers[0], ConnectionId::new_unchecked(0));
        assert_eq!(connected.admits(&remote), Ok(()));
        let own = ConnectionId::new_unchecked(9);
        connected.enter(peers[0], own, &remote, false);
        assert_eq!(
            connected.admits(&remote),
            Ok(()),
            "what we dialled is not counted"
        );
    }

    #[test]
    fn near_addresses_have_no_limit() {
        let mut connected = Connected::new(1);
        for remote in ["/ip4/127.0.0.1/tcp/5", "/ip4/10.0.0.1/tcp/5", "/memory/5"] {
            for number in 0..5 {
                let id = ConnectionId::new_unchecked(number);
                connected.enter(PeerId::random(), id, &address(remote), true);
                assert_eq!(connected.admits(&address(remote)), Ok(()));
            }
        }
    }

    #[test]
    fn a_peer_is_as_far_as_its_furthest_connection() {
        let (mut connected, peer) = (Connected::new(9), PeerId::random());
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
            let mut connected = Connected::new(3);
            let mut entered = Vec::new();
            for (number, (host, theirs)) in hosts.into_iter().enumerate() {
                let remote = address(&format!("/ip4/1.2.3.{host}/tcp/5"));
                if theirs && connected.admits(&remote).is_err() {
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
