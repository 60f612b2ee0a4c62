//! Which addresses a node keeps and dials: those that its user gave, and of what peers tell only what can do no harm.
//!
//! A stranger's address is an order to this node, or to the browser it runs in, to send bytes somewhere: to a router's web
//! page with a path that reboots it, to a cloud's secrets, to every port of a neighbour (whose provider then reports a port
//! scan: OffchainLabs/prysm#5663, spacemeshos/go-spacemesh#5510). So, of all that was learnt and not configured:
//!
//! - **Scope**: an address reaches at least as far as the one over which it was told. A public peer names public addresses
//!   only; one on the same network may name private ones too, one on this host also loopback. That way networks on one
//!   host and in one LAN work. What comes without a teller (kad's own lookups) is judged as if the most public peer that
//!   this node ever met had told it.
//! - **Shape**: TCP, WebSocket, QUIC, WebTransport, WebRTC-direct, memory, and circuits through a relay at such an address. No path of
//!   WebSocket or HTTP, no server name, no port 0, no other peer's id at the end.
//! - **Names**: a tab takes `/wss` (or `/tls/ws`) at a domain name, which is all that most nodes can offer it: the
//!   certificate proves the name before a byte of HTTP is sent, so no router and no printer hears of it. All else is refused, since
//!   a name leads where its owner points it, a private network included. Native nodes take none: nodes tell them IP addresses.
//! - **Number and length**: [`AddressPolicy::MAX_ADDRESSES`] a peer and telling, [`AddressPolicy::MAX_BYTES`] each.
//! - **Ourselves**: neither this node's id nor its own addresses.
//! - **Once a while**: a learnt address is not dialled again for [`AddressPolicy::BACK_OFF`] unless a peer answered there, so that
//!   repeating a hint makes no traffic.
//!
//! How it is used: what a user configures or dials goes to [`vouch`](AddressPolicy::vouch) first, and so does where a peer was reached before. What an application knows of peers that it
//! needs is none of these, since a chain has it from whoever registered there. What a peer
//! tells (identify, exchange, a DHT's answer that has a teller), and what somebody on the local network says, goes through [`learnt`](AddressPolicy::learnt), and only what comes back is
//! kept, shown or added to a routing table; what is kept is [noted](AddressPolicy::note). Whatever then dials asks [`admit_dial`](AddressPolicy::admit_dial): the transport does
//! so for every dial on either skin (`transport/door.rs`), whoever asks for it, since libp2p lets no behaviour take an
//! address away from another.
//!
//! A state machine without I/O. Bounds: [`AddressPolicy::MAX_VOUCHED`] addresses vouched for, as many told at less than public scope (of which those
//! go first whose host told most), and [`AddressPolicy::MAX_TRIED`] that were dialled and have not answered, and where the last [`AddressPolicy::MAX_ANSWERED`] peers did; of each the oldest is forgotten first. Own addresses are as many as the node listens on.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use self::told::Told;
use super::{Scope, begins_with_a_name, ip_of};
use crate::{keyed::Keyed, platform::Instant, remembered::Remembered};

mod told;

/// Why an address is not kept, or not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedAddress {
    /// It is no place on a network that a peer could be at.
    #[error("no peer can be at this address")]
    Nowhere,
    /// Loopback, link-local or private, told from further away.
    #[error("this is not a public address, and nobody near told it")]
    TooNear,
    /// A name, where only an IP address is taken.
    #[error("a stranger's name may lead anywhere; only IP addresses are taken")]
    Name,
    /// Not one of the forms that a peer may tell: a path, a server name, port 0, an unknown transport.
    #[error("a peer may not tell an address of this form")]
    Shape,
    /// Over [`AddressPolicy::MAX_BYTES`].
    #[error("the address is too long")]
    TooLong,
    /// It is this node's own, or ends in another peer's id.
    #[error("the address is another's or this node's own")]
    NotTheirs,
    /// It was dialled within the last [`AddressPolicy::BACK_OFF`], and no peer has answered there.
    #[error("it was tried a moment ago, and no peer has answered there")]
    Recently,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct AddressPolicy {
    own: PeerId,
    own_addresses: HashSet<Multiaddr>,
    takes_names: bool,
    vouched: Remembered<Multiaddr>,
    /// Learnt from near and kept, at less than public scope.
    told: Told,
    /// Learnt, dialled, not answered yet: until when each is left alone.
    tried: HashMap<Multiaddr, Instant, Keyed>,
    /// The most public peer that was ever met.
    met: Option<Scope>,
    /// Where peers answered that were dialled last.
    answered: VecDeque<(PeerId, IpAddr)>,
}

impl AddressPolicy {
    /// Addresses of one peer that are taken at once.
    pub const MAX_ADDRESSES: usize = 16;
    /// The longest address that is taken, in bytes. One of WebTransport with two hashes has about 90, with its peer's id 130.
    pub const MAX_BYTES: usize = 256;
    /// How long a learnt address is left alone after a dial that no peer answered.
    pub const BACK_OFF: Duration = Duration::from_secs(60);
    /// Peers that were dialled and have answered whose place is remembered: more than are dialled at once.
    pub const MAX_ANSWERED: usize = 64;
    /// Addresses vouched for that are remembered.
    pub const MAX_VOUCHED: usize = 4096;
    /// Addresses that were dialled and have not answered that are remembered: as many as all peers on duty may have.
    pub const MAX_TRIED: usize = 4096;

    /// Nothing vouched for yet. `takes_names`: whether this skin takes domain names with TLS from peers. `seed` is random and secret.
    pub fn new(own: PeerId, takes_names: bool, seed: &[u8; 16]) -> Self {
        let keyed = Keyed::new(seed);
        Self {
            own,
            own_addresses: HashSet::new(),
            takes_names,
            vouched: Remembered::new(Self::MAX_VOUCHED, keyed.clone()),
            told: Told::new(Self::MAX_VOUCHED, keyed.clone()),
            tried: HashMap::with_hasher(keyed),
            met: None,
            answered: VecDeque::new(),
        }
    }

    /// The user wants this address: configured, dialled or added. It may be anything.
    pub fn vouch(&mut self, address: &Multiaddr) {
        for dialled in dialled(address) {
            self.vouched.insert(dialled);
        }
    }

    /// This node can be reached at this address from now on.
    pub fn owns(&mut self, address: &Multiaddr) {
        self.own_addresses.insert(place(address));
    }

    /// It can't be any more.
    pub fn disowns(&mut self, address: &Multiaddr) {
        self.own_addresses.remove(&place(address));
    }

    /// A connection with an authenticated peer is established, whoever dialled: so far away is it.
    pub fn met(&mut self, peer: Scope) {
        self.met = self.met.max(Some(peer));
    }

    /// Of the addresses that were told of `peer` by one so far away ([`Scope::of_remote`] of the connection), those that may be
    /// kept: without a peer id at the end, each once, in the order told, at most [`Self::MAX_ADDRESSES`]. Those that are kept are to be
    /// [noted](Self::note).
    pub fn learnt<'a>(
        &self,
        teller: Scope,
        peer: &PeerId,
        addresses: impl IntoIterator<Item = &'a Multiaddr>,
    ) -> Vec<Multiaddr> {
        let mut taken = Vec::new();
        for address in addresses.into_iter().take(Self::MAX_ADDRESSES) {
            let Ok(scope) = self.judge(Some(peer), address) else {
                continue;
            };
            let address = without_id(address);
            if scope < teller || taken.contains(&address) {
                continue;
            }
            taken.push(address);
        }
        taken
    }

    /// Of what was [learnt](Self::learnt) from somebody at this host (`None`: from where there are no IP addresses) this is kept, and may be dialled.
    pub fn note(&mut self, host: Option<IpAddr>, learnt: &[Multiaddr]) {
        for address in learnt {
            if self
                .judge(None, address)
                .is_ok_and(|scope| scope < Scope::Public)
            {
                for dialled in dialled(address) {
                    self.told.insert(host, dialled);
                }
            }
        }
    }

    /// Whether an address, however it became known, may be dialled now; if so, it is about to be.
    ///
    /// # Errors
    /// Why not.
    pub fn admit_dial(&mut self, address: &Multiaddr, now: Instant) -> Result<(), RefusedAddress> {
        let key = without_id(address);
        if self.vouched.contains(&key) {
            return Ok(());
        }
        let scope = self.judge(None, address)?;
        let near_enough = self.met.is_some_and(|met| scope >= met);
        if scope < Scope::Public && !near_enough && !self.told.contains(&key) {
            return Err(RefusedAddress::TooNear);
        }
        if self.tried.get(&key).is_some_and(|until| *until > now) {
            return Err(RefusedAddress::Recently);
        }
        self.note_try(key, now);
        Ok(())
    }

    /// A peer answered a dial of this address.
    pub fn answered(&mut self, address: &Multiaddr) {
        self.tried.remove(&without_id(address));
    }

    /// A dial, perhaps of a name, led to this peer at this address. The last [`Self::MAX_ANSWERED`] are remembered.
    pub fn led_to(&mut self, peer: PeerId, address: &Multiaddr) {
        let Some(ip) = ip_of(address) else {
            return;
        };
        self.answered.retain(|(other, _)| *other != peer);
        self.answered.truncate(Self::MAX_ANSWERED - 1);
        self.answered.push_front((peer, ip));
    }

    /// Where a peer answered that was dialled a moment ago by this address: there, or where the name led.
    pub fn place_of(&self, peer: &PeerId, address: &Multiaddr) -> Option<IpAddr> {
        if !begins_with_a_name(address) {
            return ip_of(address);
        }
        let answered = self.answered.iter();
        let mut places = answered.filter(|(other, _)| other == peer);
        places.next().map(|(_, ip)| *ip)
    }

    fn note_try(&mut self, address: Multiaddr, now: Instant) {
        if self.tried.len() >= Self::MAX_TRIED && !self.tried.contains_key(&address) {
            self.tried.retain(|_, until| *until > now);
            if self.tried.len() >= Self::MAX_TRIED {
                // Of those tried at one moment always the same one, so that a simulated node does the same each time.
                let first = self.tried.iter().min_by(|(one, until), (other, later)| {
                    until
                        .cmp(later)
                        .then_with(|| one.as_ref().cmp(other.as_ref()))
                });
                let first = first.map(|(address, _)| address.clone());
                first.map(|address| self.tried.remove(&address));
            }
        }
        self.tried.insert(address, now + Self::BACK_OFF);
    }

    /// The scope of an address of a permitted form; `peer` is who is to be there, if that is known.
    fn judge(&self, peer: Option<&PeerId>, address: &Multiaddr) -> Result<Scope, RefusedAddress> {
        if address.len() > Self::MAX_BYTES {
            return Err(RefusedAddress::TooLong);
        }
        let theirs = match address.iter().last() {
            Some(Protocol::P2p(id)) => id != self.own && peer.is_none_or(|peer| *peer == id),
            _ => peer.is_none_or(|peer| *peer != self.own),
        };
        if !theirs || self.own_addresses.contains(&place(address)) {
            return Err(RefusedAddress::NotTheirs);
        }
        let parts: Vec<_> = without_id(address)
            .into_iter()
            .map(Protocol::acquire)
            .collect();
        permitted(&parts, self.takes_names)
    }
}

/// Without the peer's id at its end.
pub(crate) fn without_id(address: &Multiaddr) -> Multiaddr {
    let mut bare = address.clone();
    if let Some(Protocol::P2p(_)) = address.iter().last() {
        bare.pop();
    }
    bare
}

/// All that is dialled to reach an address: itself, and of a circuit the relay too, which libp2p dials by an address of its own.
fn dialled(address: &Multiaddr) -> impl Iterator<Item = Multiaddr> {
    let relay = address
        .iter()
        .any(|part| part == Protocol::P2pCircuit)
        .then(|| {
            let parts = address.iter();
            without_id(
                &parts
                    .take_while(|part| *part != Protocol::P2pCircuit)
                    .collect(),
            )
        });
    [without_id(address)].into_iter().chain(relay)
}

/// Without peer ids and certificates' hashes: the same place under another name.
fn place(address: &Multiaddr) -> Multiaddr {
    let named = |part: &Protocol<'_>| matches!(part, Protocol::P2p(_) | Protocol::Certhash(_));
    address.iter().filter(|part| !named(part)).collect()
}

/// Whether strangers may tell an address of this form, and how far it reaches.
fn permitted(parts: &[Protocol<'_>], takes_names: bool) -> Result<Scope, RefusedAddress> {
    use Protocol::{
        Certhash, Dns, Dns4, Dns6, Ip4, Ip6, Memory, P2p, P2pCircuit, QuicV1, Tcp, Tls, Udp,
        WebRTCDirect, WebTransport, Ws, Wss,
    };
    if let [relay @ .., P2p(_), P2pCircuit] = parts {
        // The relay is dialled, so its address counts. A relay behind a relay is none of libp2p's circuits.
        return match relay {
            [.., P2pCircuit] => Err(RefusedAddress::Shape),
            relay => permitted(relay, takes_names),
        };
    }
    let (host, way) = parts.split_first().ok_or(RefusedAddress::Nowhere)?;
    let plain = |path: &str| path == "/";
    let tls = match way {
        [Tcp(1..), Wss(path)] | [Tcp(1..), Tls, Ws(path)] => plain(path),
        _ => false,
    };
    let scope = match host {
        Ip4(ip) => Scope::of_ip((*ip).into()).ok_or(RefusedAddress::Nowhere)?,
        Ip6(ip) => Scope::of_ip((*ip).into()).ok_or(RefusedAddress::Nowhere)?,
        Memory(_) if way.is_empty() => return Ok(Scope::Host),
        Dns(name) | Dns4(name) | Dns6(name) => {
            let taken = takes_names && tls && Scope::of_name(name) == Scope::Public;
            return taken.then_some(Scope::Public).ok_or(RefusedAddress::Name);
        }
        Protocol::Dnsaddr(_) => return Err(RefusedAddress::Name),
        _ => return Err(RefusedAddress::Nowhere),
    };
    let hashes = |parts: &[Protocol<'_>]| {
        parts.len() <= MAX_HASHES && parts.iter().all(|part| matches!(part, Certhash(_)))
    };
    let taken = tls
        || match way {
            [Tcp(1..)] | [Udp(1..), QuicV1] => true,
            [Tcp(1..), Ws(path)] => plain(path),
            [Udp(1..), QuicV1, WebTransport, rest @ ..] | [Udp(1..), WebRTCDirect, rest @ ..] => {
                hashes(rest)
            }
            _ => false,
        };
    taken.then_some(scope).ok_or(RefusedAddress::Shape)
}

/// Hashes of certificates in one address: two are in use at a time.
const MAX_HASHES: usize = 4;

#[cfg(test)]
mod tests;
