//! Who is on the local network, as far as it says so.
//!
//! A neighbour's word is a packet that anybody on the link can forge, so what is kept of them is little and not for long: who
//! was not heard of for [`Neighbours::LIFETIME`] is no more, however long its packet wants to be believed. Peers are counted by the host that
//! said them, and of those that are too many one of the host that said most gives way, so that who makes up peers leaves room for others'.
//!
//! A state machine without I/O. Bounds: [`Neighbours::MAX`] peers, [`Neighbours::MAX_A_HOST`] that one host says, each with
//! the addresses of one packet; each step looks at all of them.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};

use super::PeerInfo;
use crate::platform::Instant;

/// What somebody on the local network says: that a peer is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// Which peer.
    pub peer: PeerId,
    /// Whence the packet came.
    pub host: IpAddr,
    /// Where the peer is to be reached, without its id.
    pub addresses: Vec<Multiaddr>,
}

/// What becomes of a neighbour's word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Heard {
    /// There is no room for it.
    LeftOut,
    /// It is known.
    Again,
    /// It is known, and was elsewhere.
    Moved,
    /// It is new, and this one gave way for it.
    New(Option<PeerId>),
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Neighbours(BTreeMap<(IpAddr, PeerId), Known>);

#[derive(Debug)]
struct Known {
    addresses: Vec<Multiaddr>,
    heard: Instant,
}

impl Neighbours {
    /// Peers that are known at once.
    pub const MAX: usize = 256;
    /// Those of them that one host says: more nodes than one machine runs for others to find.
    pub const MAX_A_HOST: usize = 32;
    /// How long each is believed, as in libp2p's own mDNS; all are asked every five minutes.
    pub const LIFETIME: Duration = Duration::from_secs(360);

    /// Somebody says that it is there.
    pub fn heard(&mut self, neighbour: Neighbour, now: Instant) -> Heard {
        self.0.retain(|_, known| now < known.heard + Self::LIFETIME);
        let Neighbour {
            peer,
            host,
            addresses,
        } = neighbour;
        let known = Known {
            addresses,
            heard: now,
        };
        if let Entry::Occupied(mut place) = self.0.entry((host, peer)) {
            let stays = place.get().addresses == known.addresses;
            place.insert(known);
            return if stays { Heard::Again } else { Heard::Moved };
        }
        let Some(gave_way) = self.makes_room(host) else {
            return Heard::LeftOut;
        };
        self.0.insert((host, peer), known);
        Heard::New(gave_way)
    }

    /// All of them, each once, in the order of their ids.
    pub fn peers(&self, now: Instant) -> Vec<PeerInfo> {
        let mut peers = BTreeMap::new();
        for ((_, id), known) in &self.0 {
            if now < known.heard + Self::LIFETIME {
                let peer = peers.entry(*id).or_insert_with(|| PeerInfo::new(*id));
                peer.addresses.extend_from_slice(&known.addresses);
            }
        }
        peers.into_values().collect()
    }

    /// Room for one more of a host's, and who gave way for it; `None` where there is none.
    fn makes_room(&mut self, host: IpAddr) -> Option<Option<PeerId>> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (host, _) in self.0.keys() {
            *counts.entry(*host).or_default() += 1;
        }
        let own = counts.get(&host).copied().unwrap_or_default();
        if own >= Self::MAX_A_HOST {
            return None;
        }
        if self.0.len() < Self::MAX {
            return Some(None);
        }
        let (most, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        if count <= own + 1 {
            return None;
        }
        let theirs = self.0.iter().filter(|((host, _), _)| *host == most);
        let eldest = theirs.min_by_key(|(_, known)| known.heard);
        let place = eldest.map(|(place, _)| *place)?;
        self.0.remove(&place);
        let (_, peer) = place;
        let is_elsewhere = self.0.keys().any(|(_, other)| *other == peer);
        Some((!is_elsewhere).then_some(peer))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::platform::{self, test};

    fn peer(number: u8) -> PeerId {
        let bytes = [0x12, 32].into_iter().chain([number; 32]);
        PeerId::from_bytes(&bytes.collect::<Vec<_>>()).expect("a SHA-256")
    }

    fn said(host: u8, peer: PeerId) -> Neighbour {
        let host = Ipv4Addr::new(10, 0, 0, host);
        Neighbour {
            peer,
            host: host.into(),
            addresses: vec![format!("/ip4/{host}/tcp/1").parse().expect("an address")],
        }
    }

    #[test]
    fn who_makes_up_peers_leaves_room_for_others() {
        let (mut neighbours, now) = (Neighbours::default(), platform::now());
        for host in 0..16 {
            for _ in 0..100 {
                neighbours.heard(said(host, PeerId::random()), now);
            }
        }
        assert_eq!(neighbours.peers(now).len(), Neighbours::MAX);
        let honest = PeerId::random();
        let heard = neighbours.heard(said(99, honest), now);
        assert!(matches!(heard, Heard::New(Some(_))), "{heard:?}");
        for host in 0..16 {
            neighbours.heard(said(host, PeerId::random()), now);
        }
        assert_eq!(neighbours.heard(said(99, honest), now), Heard::Again);
    }

    #[test]
    fn who_is_elsewhere_has_moved() {
        let (mut neighbours, now) = (Neighbours::default(), platform::now());
        let mut word = said(1, peer(1));
        neighbours.heard(word.clone(), now);
        assert_eq!(neighbours.heard(word.clone(), now), Heard::Again);
        word.addresses = said(2, peer(1)).addresses;
        assert_eq!(neighbours.heard(word.clone(), now), Heard::Moved);
        assert_eq!(neighbours.heard(word, now), Heard::Again);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn all_that_is_kept_is_bounded_and_ends(
            words in prop::collection::vec((0u8..12, any::<u8>(), 0u64..20), 0..2000),
        ) {
            let (mut neighbours, mut now) = (Neighbours::default(), platform::now());
            for (host, number, seconds) in words {
                now += Duration::from_secs(seconds / 19 * 60);
                let heard = neighbours.heard(said(host, peer(number)), now);
                let host = IpAddr::from(Ipv4Addr::new(10, 0, 0, host));
                let is_known = neighbours.0.contains_key(&(host, peer(number)));
                prop_assert_eq!(is_known, heard != Heard::LeftOut);
                prop_assert!(neighbours.0.len() <= Neighbours::MAX);
                let theirs = neighbours.0.keys().filter(|(other, _)| *other == host);
                prop_assert!(theirs.count() <= Neighbours::MAX_A_HOST);
                if let Heard::New(Some(gone)) = heard {
                    prop_assert!(neighbours.0.keys().all(|(_, peer)| *peer != gone));
                }
            }
            prop_assert!(neighbours.peers(now + Neighbours::LIFETIME).is_empty());
        }
    }
}
