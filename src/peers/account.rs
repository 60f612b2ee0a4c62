//! Who counts as one where all share something: names are free, addresses are not.
//!
//! What comes from one public address, or by circuits through relays, has one account, whatever identities it shows. A peer on this host or
//! in a private network has its own, since behind such an address may stand a whole test network, a reverse proxy or an office; so has one
//! that was dialled by a domain name. Those who come by circuits have nothing in common but that a relay's owner could be all of them: they
//! share what there is, and none of them pays for what another did.

use libp2p::{Multiaddr, PeerId};

use super::{AddressGroup, Scope, begins_with_a_name};
use crate::traffic::Payer;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Account {
    /// All who come from there.
    Address(AddressGroup),
    /// This peer only.
    Peer(PeerId),
}

impl Account {
    /// The account of a peer at this remote address.
    pub(crate) fn of(peer: PeerId, remote: &Multiaddr) -> Self {
        if Scope::of_remote(remote) < Scope::Public || begins_with_a_name(remote) {
            Self::Peer(peer)
        } else {
            Self::Address(AddressGroup::of(remote))
        }
    }
}

impl Payer for Account {
    fn is_crowd(&self) -> bool {
        *self == Self::Address(AddressGroup::Elsewhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn new_names_at_one_address_make_no_new_account() {
        let [one, two] = [PeerId::random(), PeerId::random()];
        let circuit = format!("/ip4/1.2.3.4/tcp/5/p2p/{one}/p2p-circuit");
        // What comes by a circuit has no more than the peer's name.
        let (comes, named) = (
            format!("/p2p/{one}"),
            "/dns4/a.example/tcp/5/wss".to_owned(),
        );
        let rows = [
            ("/ip4/1.2.3.4/tcp/5".to_owned(), true),
            ("/ip6/2001:200::1/udp/5/quic-v1".to_owned(), true),
            (circuit.clone(), true),
            (comes.clone(), true),
            (named, false),
            ("/ip4/127.0.0.1/tcp/5".to_owned(), false),
            ("/ip4/192.168.1.2/tcp/5".to_owned(), false),
            ("/memory/5".to_owned(), false),
        ];
        for (remote, shared) in rows {
            let by_circuit = remote.starts_with("/p2p") || remote.ends_with("p2p-circuit");
            let remote = remote.parse().expect("an address");
            let account = Account::of(one, &remote);
            assert_eq!(account == Account::of(two, &remote), shared, "{remote}");
            assert_eq!(account.is_crowd(), by_circuit, "{remote}");
        }
        let [by, through] = [comes, circuit].map(|text| text.parse().expect("an address"));
        assert_eq!(Account::of(one, &by), Account::of(two, &through));
    }
}
