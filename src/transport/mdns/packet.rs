//! What peers say on the local network, and how it is written (RFC 1035, 6762, 6763; libp2p/specs discovery/mdns).
//!
//! A packet says of one peer where it is: a PTR record of the service names it by a name that chance has made, and TXT records of
//! that name have an address each, `dnsaddr=/ip4/…/p2p/ID`. rust-libp2p writes those beside the answers, js-libp2p among them; both are read. Of a packet's
//! addresses those count that are the sender's own: what it says of other hosts, they say themselves.
//!
//! Bounds: packets of [`MAX_BYTES`], of which [`MAX_WORDS`] texts are read and [`MAX_ADDRESSES`] addresses are taken. Records are decoded by
//! `hickory-proto`, into a few times a packet's length.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::{
    ProtoError,
    op::{Message, MessageType, OpCode, Query},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{PTR, TXT},
    },
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::peers::{Neighbour, Neighbours};

/// The longest packet (RFC 6762, 17).
pub(super) const MAX_BYTES: usize = 9000;
/// Addresses that are said of one peer: a node has five an interface.
const MAX_ADDRESSES: usize = 8;
/// Texts that are looked at.
const MAX_WORDS: usize = 64;
/// The longest text of a TXT record.
const MAX_TEXT: usize = 255;
/// All peers' service.
const SERVICE: &str = "_p2p._udp.local.";
/// Asks for the names of services (RFC 6763, 9).
const SERVICES: &str = "_services._dns-sd._udp.local.";
/// What a packet has in it that says or asks of the service, length and all; the question for all services has none.
const MARKS: [&[u8]; 2] = [b"\x04_p2p\x04_udp", b"\x07_dns-sd\x04_udp"];
/// How long others are to believe an answer, in seconds.
const TTL: u32 = Neighbours::LIFETIME.as_secs() as u32;

/// What a packet is about.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Packet {
    /// Who is there?
    Asks {
        /// And, which services are there?
        services: bool,
    },
    /// A peer is.
    Says(Neighbour),
}

/// Whether a packet may be of interest, so that others' are not decoded.
pub(super) fn is_marked(packet: &[u8]) -> bool {
    let has = |mark: &[u8]| {
        let mut places = packet.windows(mark.len());
        places.any(|place| place.eq_ignore_ascii_case(mark))
    };
    MARKS.into_iter().any(has)
}

/// Reads a packet that this host sent; `None` where it says nothing of peers.
pub(super) fn read(packet: &[u8], host: Ipv4Addr) -> Option<Packet> {
    let message = Message::from_vec(packet).ok()?;
    let (service, services) = (name(SERVICE).ok()?, name(SERVICES).ok()?);
    if message.metadata.message_type == MessageType::Query {
        let asks = |of: &Name| message.queries.iter().any(|query| query.name() == of);
        let asks_services = asks(&services);
        return (asks_services || asks(&service)).then_some(Packet::Asks {
            services: asks_services,
        });
    }
    let called = message
        .answers
        .iter()
        .find_map(|record| match &record.data {
            RData::PTR(PTR(called)) if record.name == service => Some(called),
            _ => None,
        })?;
    let records = message.answers.iter().chain(&message.additionals);
    let texts = records.filter_map(|record| match &record.data {
        RData::TXT(text) if record.name == *called => Some(&text.txt_data),
        _ => None,
    });
    let said = texts.flatten().take(MAX_WORDS);
    let mut said = said.filter_map(|text| address(text, host)).peekable();
    let (peer, _) = *said.peek()?;
    let theirs = said.filter(|(other, _)| *other == peer);
    let mut addresses: Vec<_> = theirs.map(|(_, address)| address).collect();
    addresses.truncate(MAX_ADDRESSES);
    Some(Packet::Says(Neighbour {
        peer,
        host: IpAddr::V4(host),
        addresses,
    }))
}

/// The question who is there.
pub(super) fn question() -> Result<Vec<u8>, ProtoError> {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name(SERVICE)?, RecordType::PTR));
    message.to_vec()
}

/// Says that there is such a service. A packet of its own: js-libp2p reads the last PTR record of a packet only.
pub(super) fn service() -> Result<Vec<u8>, ProtoError> {
    let mut message = response();
    message.add_answer(pointer(name(SERVICES)?, name(SERVICE)?));
    message.to_vec()
}

/// Says where a peer is, of whose addresses those count that are this host's; `None` where there are none. `called` is 32 to 63 letters
/// and digits, of no meaning.
pub(super) fn answer(
    called: &str,
    peer: PeerId,
    addresses: &[Multiaddr],
    host: Ipv4Addr,
) -> Result<Option<Vec<u8>>, ProtoError> {
    let service = name(SERVICE)?;
    let called = name(&format!("{called}.{SERVICE}"))?;
    let mut message = response();
    let own = addresses.iter().filter(|address| is_at(address, host));
    let texts = own.filter_map(|address| {
        let address = address.clone().with_p2p(peer).ok()?;
        let text = format!("dnsaddr={address}");
        (text.len() <= MAX_TEXT).then_some(text)
    });
    for text in texts.take(MAX_ADDRESSES) {
        let text = RData::TXT(TXT::new(vec![text]));
        let mut record = Record::from_rdata(called.clone(), TTL, text);
        record.mdns_cache_flush = true;
        message.add_additional(record);
    }
    if message.additionals.is_empty() {
        return Ok(None);
    }
    message.add_answer(pointer(service, called));
    message.to_vec().map(Some)
}

fn response() -> Message {
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    message.metadata.authoritative = true;
    message
}

fn pointer(from: Name, to: Name) -> Record {
    Record::from_rdata(from, TTL, RData::PTR(PTR(to)))
}

/// Reads what anybody may send, for fuzzing: who is said to be there, and where.
#[doc(hidden)]
pub fn check_mdns(packet: &[u8], host: Ipv4Addr) -> Option<Neighbour> {
    match read(packet, host)? {
        Packet::Says(neighbour) => Some(neighbour),
        Packet::Asks { .. } => None,
    }
}

fn name(name: &str) -> Result<Name, ProtoError> {
    Name::from_ascii(name)
}

/// A peer and where it is, if that is this host.
fn address(text: &[u8], host: Ipv4Addr) -> Option<(PeerId, Multiaddr)> {
    let text = std::str::from_utf8(text.strip_prefix(b"dnsaddr=")?).ok()?;
    let mut address: Multiaddr = text.parse().ok()?;
    let Some(Protocol::P2p(peer)) = address.pop() else {
        return None;
    };
    is_at(&address, host).then_some((peer, address))
}

/// Whether an address is at this host, and not beyond it.
fn is_at(address: &Multiaddr, host: Ipv4Addr) -> bool {
    let mut parts = address.iter();
    parts.next() == Some(Protocol::Ip4(host)) && parts.all(|part| part != Protocol::P2pCircuit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    const CALLED: &str = "0123456789abcdef0123456789abcdef";

    fn addresses<const N: usize>(texts: [&str; N]) -> Vec<Multiaddr> {
        let addresses = texts.iter().map(|text| text.parse());
        addresses.collect::<Result<_, _>>().expect("addresses")
    }

    fn written(peer: PeerId, addresses: &[Multiaddr]) -> Vec<u8> {
        let packet = answer(CALLED, peer, addresses, HOST).expect("it fits");
        packet.expect("there are some")
    }

    #[test]
    fn what_is_written_is_read() {
        let peer = PeerId::random();
        let own = addresses(["/ip4/10.77.0.1/tcp/7", "/ip4/10.77.0.1/udp/7/quic-v1"]);
        let packet = written(peer, &own);
        assert!(is_marked(&packet));
        let neighbour = Neighbour {
            peer,
            host: HOST.into(),
            addresses: own,
        };
        assert_eq!(read(&packet, HOST), Some(Packet::Says(neighbour)));
        let question = question().expect("it is short");
        assert!(is_marked(&question));
        let asks = |services| Some(Packet::Asks { services });
        assert_eq!(read(&question, HOST), asks(false));
        let mut services = Message::new(0, MessageType::Query, OpCode::Query);
        let asked = name(SERVICES).expect("a name");
        services.add_query(Query::query(asked, RecordType::PTR));
        let services = services.to_vec().expect("it is short");
        assert!(is_marked(&services));
        assert_eq!(read(&services, HOST), asks(true));
        assert_eq!(read(&service().expect("it is short"), HOST), None);
        assert_eq!(answer(CALLED, peer, &[], HOST).expect("it is short"), None);
    }

    /// What rust-libp2p's own mDNS (0.49) writes: a PTR, its TXT records beside the answers, no name but one label.
    #[test]
    fn libp2p_s_own_are_read() {
        let peer = PeerId::random();
        let text = format!("dnsaddr=/ip4/10.77.0.1/tcp/7/p2p/{peer}");
        let mut packet = b"\xab\xcd\x84\x00\x00\x00\x00\x01\x00\x00\x00\x01".to_vec();
        packet.extend(
            b"\x04_p2p\x04_udp\x05local\x00\x00\x0c\x00\x01\x00\x00\x01\x68\x00\x05\x03abc\x00",
        );
        packet.extend(b"\x03abc\x00\x00\x10\x80\x01\x00\x00\x01\x68\x00");
        packet.push(u8::try_from(text.len() + 1).expect("it is short"));
        packet.push(u8::try_from(text.len()).expect("it is short"));
        packet.extend(text.as_bytes());
        let neighbour = Neighbour {
            peer,
            host: HOST.into(),
            addresses: addresses(["/ip4/10.77.0.1/tcp/7"]),
        };
        assert_eq!(read(&packet, HOST), Some(Packet::Says(neighbour)));
    }

    /// As js-libp2p reads an answer (`gotResponse` of its `peer-discovery-mdns`): of all PTR records the last, and all texts.
    fn read_by_js(packet: &[u8]) -> Option<Vec<String>> {
        let message = Message::from_vec(packet).expect("it is right");
        let is_pointer = |record: &&Record| matches!(record.data, RData::PTR(_));
        let last = message.answers.iter().rfind(is_pointer)?;
        let records = message.answers.iter().chain(&message.additionals);
        let texts = records.filter_map(|record| match &record.data {
            RData::TXT(text) => Some(&text.txt_data),
            _ => None,
        });
        let texts = texts.flatten().map(|text| String::from_utf8_lossy(text));
        let texts: Vec<_> = texts
            .filter_map(|text| text.strip_prefix("dnsaddr=").map(str::to_owned))
            .collect();
        (last.name.to_string() == SERVICE && !texts.is_empty()).then_some(texts)
    }

    #[test]
    fn js_libp2p_reads_what_is_written() {
        let peer = PeerId::random();
        let packet = written(peer, &addresses(["/ip4/10.77.0.1/tcp/7"]));
        let text = format!("/ip4/10.77.0.1/tcp/7/p2p/{peer}");
        assert_eq!(read_by_js(&packet), Some(vec![text]));
        assert_eq!(read_by_js(&service().expect("it is short")), None);
    }

    #[test]
    fn nobody_speaks_for_another_host() {
        let peer = PeerId::random();
        let relay = PeerId::random();
        let packet = written(peer, &addresses(["/ip4/10.77.0.1/tcp/7"]));
        assert_eq!(read(&packet, Ipv4Addr::new(10, 77, 0, 2)), None);
        let circuit = format!("/ip4/10.77.0.1/tcp/7/p2p/{relay}/p2p-circuit");
        for beyond in [
            "/ip4/1.1.1.1/tcp/80",
            "/dns4/router/tcp/80",
            "/ip6/::1/tcp/7",
            &circuit,
        ] {
            let packet = answer(CALLED, peer, &addresses([beyond]), HOST);
            assert_eq!(packet.expect("it is short"), None, "{beyond}");
            let text = format!("dnsaddr={beyond}/p2p/{peer}");
            assert_eq!(address(text.as_bytes(), HOST), None, "{beyond}");
        }
    }

    #[test]
    fn a_full_packet_names_few_addresses() {
        let peer = PeerId::random();
        let many: Vec<_> = (1..=40)
            .map(|port| format!("dnsaddr=/ip4/10.77.0.1/tcp/{port}/p2p/{peer}"))
            .collect();
        let mut message = Message::from_vec(&written(peer, &addresses(["/ip4/10.77.0.1/tcp/7"])))
            .expect("it is right");
        message.additionals[0].data = RData::TXT(TXT::new(many));
        for _ in 0..100 {
            message.answers.push(message.answers[0].clone());
        }
        let packet = message.to_vec().expect("it fits");
        let said = check_mdns(&packet, HOST).expect("it says so");
        assert_eq!(said.addresses.len(), MAX_ADDRESSES);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(
            noise in prop::collection::vec(any::<u8>(), 0..600),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            check_mdns(&noise, HOST);
            let own = addresses(["/ip4/10.77.0.1/tcp/7", "/ip4/10.77.0.1/udp/7/quic-v1"]);
            let mut packet = written(PeerId::random(), &own);
            for (place, byte) in changes {
                let place = place.index(packet.len());
                packet[place] = byte;
            }
            if let Some(said) = check_mdns(&packet, HOST) {
                prop_assert!(said.addresses.len() <= MAX_ADDRESSES);
                prop_assert!(said.addresses.iter().all(|address| is_at(address, HOST)));
            }
        }
    }
}
