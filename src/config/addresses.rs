//! Which addresses are of use: what can be listened at, and what others can dial.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use libp2p::{Multiaddr, multiaddr::Protocol};

use super::{Config, TlsConfig, modern};
use crate::{error::ConfigError, peers::begins_with_a_name, transport};

/// # Errors
/// The first address that could not serve.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let network = &config.network;
    for (index, address) in network.listen_addresses.iter().enumerate() {
        let wrong = |problem: &str| {
            let field = format!("network.listen_addresses[{index}]");
            Err(ConfigError::new(&field, address, problem))
        };
        if begins_with_a_name(address) && !transport::listens_on(address) {
            return wrong(
                "a name is no interface: listen at an IP address, and give the name in network.external_addresses; \
                 with TLS a node listens at /dns4/<name>/tcp/443/tls/ws",
            );
        }
        if address.iter().last() == Some(Protocol::P2pCircuit)
            && !transport::listens_on(&modern(address))
        {
            return wrong("a place at a relay is <the relay's address>/p2p/<its id>/p2p-circuit");
        }
        if !transport::listens_on(&modern(address)) {
            return wrong(
                "no transport here listens at such an address; give one like /ip4/0.0.0.0/tcp/30303 or /ip4/0.0.0.0/udp/30303/quic-v1",
            );
        }
        if transport::needs_certificate(address) && config.security.tls_config.certificate.is_none()
        {
            return wrong(
                "TLS needs a certificate: give security.tls_config.certificate and security.tls_config.key, or listen at …/ws",
            );
        }
        let earlier = network.listen_addresses.iter().take(index);
        if let Some(other) = earlier.into_iter().find(|other| collide(other, address)) {
            return wrong(&format!("{other} has this port already; give another one"));
        }
    }
    for (index, address) in network.external_addresses.iter().enumerate() {
        if let Some(problem) = undiallable(address) {
            let field = format!("network.external_addresses[{index}]");
            return Err(ConfigError::new(&field, address, problem));
        }
    }
    for (index, peer) in network.bootstrap_peers.iter().enumerate() {
        let field = format!("network.bootstrap_peers[{index}]");
        if peer.addresses.is_empty() {
            let problem = "give at least one address: /ip4/…/tcp/…/p2p/ID";
            return Err(ConfigError::new(&field, peer.peer_id, problem));
        }
        for address in &peer.addresses {
            if let Some(problem) = undiallable(address) {
                return Err(ConfigError::new(&field, address, problem));
            }
        }
    }
    check_prologue(config)?;
    check_certificate(&config.security.tls_config)
}

/// A certificate has a key. What is in the files is looked at where they are used ([`TlsConfig::check_files`]).
fn check_certificate(TlsConfig { certificate, key }: &TlsConfig) -> Result<(), ConfigError> {
    let alone = |given: &Path, missing: &str| {
        let problem = "one is of no use without the other; give both files, or none";
        let value = format!("none, beside {}", given.display());
        Err(ConfigError::new(missing, value, problem))
    };
    match (certificate, key) {
        (Some(certificate), None) => alone(certificate, "security.tls_config.key"),
        (None, Some(key)) => alone(key, "security.tls_config.certificate"),
        _ => Ok(()),
    }
}

/// A prologue makes a closed network of those transports only whose handshake it binds.
fn check_prologue(config: &Config) -> Result<(), ConfigError> {
    if !config.security.noise_config.is_closed() {
        return Ok(());
    }
    let network = &config.network;
    let listed = |list: &'static str, addresses: &[Multiaddr]| {
        let numbered = addresses.iter().cloned().enumerate();
        let named = numbered.map(|(index, address)| (format!("network.{list}[{index}]"), address));
        named.collect::<Vec<_>>()
    };
    let bootstrap = network.bootstrap_peers.iter().enumerate();
    let bootstrap = bootstrap.flat_map(|(index, peer)| {
        let field = format!("network.bootstrap_peers[{index}]");
        peer.addresses
            .iter()
            .map(move |address| (field.clone(), address.clone()))
    });
    let unbound = |p: Protocol<'_>| {
        matches!(
            p,
            Protocol::Quic | Protocol::QuicV1 | Protocol::WebRTCDirect | Protocol::WebTransport
        )
    };
    let mut addresses = listed("listen_addresses", &network.listen_addresses)
        .into_iter()
        .chain(listed("external_addresses", &network.external_addresses))
        .chain(bootstrap);
    match addresses.find(|(_, address)| address.iter().any(unbound)) {
        Some((field, address)) => Err(ConfigError::new(
            &field,
            address,
            "security.noise_config.prologue binds TCP, WebSocket and circuits only; remove this address or the prologue",
        )),
        None => Ok(()),
    }
}

/// Why nobody could dial this; `None` where somebody may.
fn undiallable(address: &Multiaddr) -> Option<&'static str> {
    for protocol in address {
        match protocol {
            Protocol::Ip4(ip) if ip.is_unspecified() => return Some(UNSPECIFIED),
            Protocol::Ip6(ip) if ip.is_unspecified() => return Some(UNSPECIFIED),
            Protocol::Tcp(0) | Protocol::Udp(0) => {
                return Some("port 0 can't be dialled; give the port that is listened at");
            }
            _ => {}
        }
    }
    address
        .is_empty()
        .then_some("give an address such as /ip4/203.0.113.1/tcp/30303")
}

const UNSPECIFIED: &str =
    "this IP address stands for any and can't be dialled; give the one at which others reach it";

/// Whether two listeners want one port of one interface.
fn collide(one: &Multiaddr, other: &Multiaddr) -> bool {
    let (Some(one), Some(other)) = (Socket::of(one), Socket::of(other)) else {
        return false;
    };
    let overlap = one.ip == other.ip || one.ip.is_unspecified() || other.ip.is_unspecified();
    one.udp == other.udp
        && one.port == other.port
        && one.ip.is_ipv4() == other.ip.is_ipv4()
        && overlap
}

/// What a listener binds; none where the system chooses the port.
struct Socket {
    ip: IpAddr,
    udp: bool,
    port: u16,
}

impl Socket {
    fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let ip = match parts.next()? {
            Protocol::Ip4(ip) => ip.into(),
            Protocol::Ip6(ip) => ip.into(),
            // With TLS: all interfaces.
            Protocol::Dns4(_) => Ipv4Addr::UNSPECIFIED.into(),
            Protocol::Dns6(_) => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let (udp, port) = match parts.next()? {
            Protocol::Tcp(port) => (false, port),
            Protocol::Udp(port) => (true, port),
            _ => return None,
        };
        (port != 0).then_some(Self { ip, udp, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    fn complaint(change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config = Config::default();
        change(&mut config);
        config.check().err().map(|error| error.to_string())
    }

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        let parsed = texts.iter().map(|text| text.parse().expect("an address"));
        parsed.collect()
    }

    /// Also where the crates of the bases are smaller ones (`tools/lean`).
    #[test]
    fn bases_are_read_and_written() {
        let certificate = "uEiAdRO-wqjSwOUkp7mp0MlZlLGhzJviRmECTPHyzwlcFow";
        for other in [
            certificate,
            "mEiAdRO+wqjSwOUkp7mp0MlZlLGhzJviRmECTPHyzwlcFow",
            "f12201d44efb0aa34b0394929ee6a743256652c687326f8919840933c7cb3c25705a3",
            "bciqb2rhpwcvdjmbzjeu642tugjlgkldiomtpremyicjty7ftyjlqliy",
            "zQmQJuVyXA2D1dzyGwEwLYJBLFUdUBiHy9yyQrY7ngkbg7k",
        ] {
            let read = addresses(&[&format!("/certhash/{other}")]);
            assert_eq!(read[0].to_string(), format!("/certhash/{certificate}"));
        }
        for text in [
            "/p2p/12D3KooWR7EfNv5SLtgjMRjUwR8AvNu3hP4fLrtSa9fmHHXKYWNG",
            "/onion/timaq4ygg2iegci7:80",
            "/onion3/vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd:1234",
            "/garlic32/fvyrmqvxe2yeialcpsu7xlbs6xefgd5rsa6mjwycewdrpeq2jcaq",
            &format!("/garlic64/{}", "j~-4".repeat(129)),
        ] {
            assert_eq!(addresses(&[text])[0].to_string(), text);
        }
        for wrong in [
            "/certhash/",
            "/certhash/x00",
            "/certhash/u",
            "/certhash/uEiC",
            "/certhash/uEi!",
            &format!("/certhash/{certificate}A"),
            "/p2p/12D3KooW0",
            "/onion/timaq4ygg2iegci1:80",
            "/onion3/vww6ybal4bd7szmg:1234",
        ] {
            assert!(wrong.parse::<Multiaddr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_nobody_can_dial_is_named() {
        for (address, problem) in [
            ("/ip4/0.0.0.0/tcp/30303", "stands for any"),
            ("/ip6/::/udp/30303/quic-v1", "stands for any"),
            ("/ip4/203.0.113.1/tcp/0", "port 0"),
        ] {
            let external =
                complaint(|config| config.network.external_addresses = addresses(&[address]));
            let external = external.expect("nobody can dial it");
            assert!(
                external.contains("network.external_addresses[0]") && external.contains(problem),
                "{external}"
            );
        }
        let right = [
            "/ip4/203.0.113.1/tcp/30303",
            "/dns4/example.org/tcp/443/wss",
        ];
        assert_eq!(
            complaint(|config| config.network.external_addresses = addresses(&right)),
            None
        );
    }

    #[test]
    fn a_name_with_tls_takes_the_port_of_all_interfaces() {
        let collides = |name: &str, ip: &str| {
            let [name, ip] = [name, ip].map(|text| text.parse().expect("an address"));
            collide(&name, &ip)
        };
        let ip4 = "/dns4/example.org/tcp/443/tls/ws";
        assert!(collides(ip4, "/ip4/127.0.0.1/tcp/443"));
        assert!(collides(ip4, "/dns4/example.com/tcp/443/wss"));
        assert!(!collides(ip4, "/ip6/::1/tcp/443"));
        assert!(!collides(ip4, "/ip4/127.0.0.1/tcp/444"));
        assert!(collides(
            "/dns6/example.org/tcp/443/wss",
            "/ip6/::1/tcp/443"
        ));
    }

    #[test]
    fn a_place_at_a_relay_names_the_relay() {
        let listens = |address: String| {
            complaint(|config| config.network.listen_addresses = addresses(&[&address]))
        };
        let relay = libp2p::PeerId::random();
        for address in [
            "/p2p-circuit".to_owned(),
            format!("/p2p/{relay}/p2p-circuit"),
            "/ip4/203.0.113.1/tcp/1/p2p-circuit".to_owned(),
        ] {
            let problem = listens(address).expect("nobody knows where");
            assert!(problem.contains("/p2p/<its id>/p2p-circuit"), "{problem}");
        }
        let right = format!("/ip4/203.0.113.1/tcp/1/p2p/{relay}/p2p-circuit");
        assert_eq!(listens(right), None);
    }

    #[test]
    fn a_prologue_is_for_transports_that_it_binds() {
        let closed = |address: &str| {
            complaint(|config| {
                config.security.noise_config.prologue = Some("secret".to_owned());
                config.network.listen_addresses = addresses(&[address]);
            })
        };
        let unbound = closed("/ip4/127.0.0.1/udp/1/quic-v1").expect("QUIC has no such thing");
        assert!(unbound.contains("network.listen_addresses[0]"), "{unbound}");
        let joins = |address: &str| {
            complaint(|config| {
                config.security.noise_config.prologue = Some("secret".to_owned());
                let peer = crate::PeerInfo::new(libp2p::PeerId::random());
                config.network.bootstrap_peers = vec![crate::PeerInfo {
                    addresses: addresses(&["/ip4/127.0.0.1/tcp/1", address]),
                    ..peer
                }];
            })
        };
        for address in [
            "/ip4/127.0.0.1/udp/1/quic-v1",
            "/ip4/127.0.0.1/udp/1/webrtc-direct",
            "/ip4/127.0.0.1/udp/1/quic-v1/webtransport",
        ] {
            let unbound = joins(address).expect("it has no such thing either");
            assert!(unbound.contains("network.bootstrap_peers[0]"), "{unbound}");
        }
        assert_eq!(joins("/ip4/127.0.0.1/tcp/2/ws"), None);
    }
}
