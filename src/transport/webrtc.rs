//! The browser's own WebRTC as a libp2p transport: dialling `/webrtc-direct` addresses.
//!
//! WebRTC-direct reaches a node that has no certificate of a CA, from a page that was loaded over https
//! ([libp2p/specs webrtc-direct](https://github.com/libp2p/specs/blob/master/webrtc/webrtc-direct.md)). No server
//! carries the offer and the answer: the page makes up the answer that the node would give, out of the address
//! and its certificate's hash, and both use one random word as ICE's user and password, which the node reads
//! off the first packet. DTLS then proves the hash, and Noise over the data channel with the number 0 proves
//! both peers' identities, bound to both certificates.
//!
//! It is written here because `libp2p-webrtc-websys` 0.5 begins to listen to a data channel only when it is polled
//! (what came before is lost), drops the fifth channel that a peer opens at once, resets a stream with more than
//! 16 KiB unread, leaves closures attached that it has freed, and panics in a worker. The streams' framing and the Noise
//! handshake are `libp2p-webrtc-utils`'.
//!
//! `connection.rs` multiplexes, `channel.rs` makes bytes of messages, `numbers.rs` says how many channels there may be. Workers and Node have no
//! `RTCPeerConnection`; the transport isn't built there.

mod channel;
mod connection;
mod numbers;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Either, Pending, select},
    pin_mut,
};
use js_sys::{Array, Object, Reflect};
use libp2p::{
    Multiaddr, PeerId,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    identity::Keypair,
};
use libp2p_webrtc_utils::{Fingerprint, noise, parse_webrtc_dial_addr};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    RtcCertificate, RtcConfiguration, RtcPeerConnection, RtcSdpType, RtcSessionDescriptionInit,
};

use crate::platform;

pub use channel::{LINGER, MAX_UNREAD, MAX_UNSENT};
pub use connection::{Connection, MAX_WAITING, Stream};
pub use numbers::{MAX_OURS, RESET_TIME};

/// Dials `/ip4` or `/ip6`, `/udp/<port>/webrtc-direct/certhash/<hash>`, with `/p2p/<peer>` or not. All other addresses,
/// and listening, are [`MultiaddrNotSupported`](TransportError::MultiaddrNotSupported).
#[derive(Clone, Debug)]
pub struct Transport {
    keypair: Keypair,
}

impl Transport {
    /// A transport that proves this identity.
    pub const fn new(keypair: Keypair) -> Self {
        Self { keypair }
    }
}

impl libp2p::core::Transport for Transport {
    type Output = (PeerId, Connection);
    type Error = Error;
    type ListenerUpgrade = Pending<Result<Self::Output, Error>>;
    type Dial = BoxFuture<'static, Result<Self::Output, Error>>;

    fn listen_on(&mut self, _: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Error>> {
        Err(TransportError::MultiaddrNotSupported(addr))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Error>> {
        let dialable = |(to, _): &(SocketAddr, _)| to.port() != 0 && !to.ip().is_unspecified();
        match parse_webrtc_dial_addr(&addr).filter(dialable) {
            Some((to, _)) if to.ip().is_loopback() && in_firefox() => {
                Err(TransportError::Other(Error::FirefoxLoopback))
            }
            Some((to, fingerprint)) if opts.role.is_dialer() => {
                let dial = connect(self.keypair.clone(), to, fingerprint);
                Ok(SendWrapper::new(dial).boxed())
            }
            _ => Err(TransportError::MultiaddrNotSupported(addr)),
        }
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Error>> {
        Poll::Pending
    }
}

/// Why no WebRTC connection came up, or did not last.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The browser threw.
    #[error(
        "the browser refused WebRTC ({0}); an extension or a policy may forbid it, or too many connections are open"
    )]
    Refused(String),
    /// ICE or DTLS failed.
    #[error(
        "no WebRTC connection came up; check that a node listens there by UDP, that no firewall is between, and that \
         the certhash is the node's: it belongs to its identity key"
    )]
    Unreachable,
    /// The connection failed, or was closed, after it was up.
    #[error("the connection broke: the peer or the network is gone; dial again")]
    Broken,
    /// Firefox gathers no loopback candidates (<https://bugzilla.mozilla.org/show_bug.cgi?id=1659672>).
    #[error(
        "Firefox makes no WebRTC connection to its own machine; dial the node's /ws address or one of its others"
    )]
    FirefoxLoopback,
    /// The other side is not who it has to be.
    #[error("the handshake failed ({0}); check that the address is a libp2p node's")]
    Handshake(String),
}

impl Error {
    /// What a thrown value says for itself.
    fn thrown(thrown: JsValue) -> Self {
        Self::Refused(match thrown.dyn_ref::<js_sys::Error>() {
            Some(error) => error.message().into(),
            None => format!("{thrown:?}"),
        })
    }
}

/// Dropping the future gives the dial up and closes what there is.
async fn connect(
    keypair: Keypair,
    to: SocketAddr,
    theirs: Fingerprint,
) -> Result<(PeerId, Connection), Error> {
    let peer = peer_connection().await.map_err(Error::thrown)?;
    let mut connection = Connection::new(peer.clone());
    // Before the offer, so that the offer speaks of data channels at all.
    let handshake = connection.handshake_stream()?;
    let ours = describe(&peer, to, theirs).await.map_err(Error::thrown)?;
    let ours = ours.ok_or_else(|| Error::Refused("its offer has no fingerprint".to_owned()))?;
    let proof = noise::outbound(keypair, handshake, theirs, ours);
    pin_mut!(proof);
    let proved = match select(proof, connection.failure()).await {
        Either::Left((proved, _)) => proved,
        Either::Right(_) => return Err(Error::Unreachable),
    };
    let peer_id = proved.map_err(|error| Error::Handshake(error.to_string()))?;
    Ok((peer_id, connection))
}

/// With a certificate whose fingerprint is a SHA-256, as the specification wants.
async fn peer_connection() -> Result<RtcPeerConnection, JsValue> {
    let algorithm = Object::new();
    for (name, value) in [
        ("name", "ECDSA"),
        ("namedCurve", "P-256"),
        ("hash", "SHA-256"),
    ] {
        Reflect::set(&algorithm, &name.into(), &value.into())?;
    }
    let made = RtcPeerConnection::generate_certificate_with_object(&algorithm)?;
    let certificate: RtcCertificate = JsFuture::from(made).await?.unchecked_into();
    let config = RtcConfiguration::new();
    config.set_certificates(&Array::of1(&certificate));
    RtcPeerConnection::new_with_configuration(&config)
}

/// Tells the browser both descriptions; returns its certificate's fingerprint.
async fn describe(
    peer: &RtcPeerConnection,
    to: SocketAddr,
    theirs: Fingerprint,
) -> Result<Option<Fingerprint>, JsValue> {
    let word = random_word().map_err(|error| JsValue::from(error.to_string()))?;
    let offer = JsFuture::from(peer.create_offer()).await?;
    let offer = Reflect::get(&offer, &"sdp".into())?
        .as_string()
        .unwrap_or_default();
    let description = RtcSessionDescriptionInit::new(RtcSdpType::Offer);
    description.set_sdp(&with_credentials(&offer, &word));
    JsFuture::from(peer.set_local_description(&description)).await?;
    let description = RtcSessionDescriptionInit::new(RtcSdpType::Answer);
    description.set_sdp(&answer(to, theirs, &word));
    JsFuture::from(peer.set_remote_description(&description)).await?;
    let local = peer.local_description();
    Ok(local.and_then(|local| fingerprint(&local.sdp())))
}

/// ICE's user and password of one connection: the prefix that the specification wants, and 256 random bits.
fn random_word() -> io::Result<String> {
    let mut bytes = [0; 32];
    platform::random(&mut bytes)?;
    Ok(format!("libp2p+webrtc+v1/{}", hex::encode(bytes)))
}

/// The answer that the node at `to` would give, whose certificate has this fingerprint: it has one address (`ice-lite`), takes
/// the passive part in DTLS, and messages of 16 KiB at most. (`libp2p-webrtc-utils` has the same text behind an engine for
/// templates, which would be a hundredth of the package.)
fn answer(to: SocketAddr, theirs: Fingerprint, word: &str) -> String {
    let version = if to.is_ipv4() { "IP4" } else { "IP6" };
    let (ip, port, fingerprint) = (to.ip(), to.port(), theirs.to_sdp_format());
    format!(
        "v=0\n\
         o=- 0 0 IN {version} {ip}\n\
         s=-\n\
         t=0 0\n\
         a=ice-lite\n\
         m=application {port} UDP/DTLS/SCTP webrtc-datachannel\n\
         c=IN {version} {ip}\n\
         a=mid:0\n\
         a=ice-options:ice2\n\
         a=ice-ufrag:{word}\n\
         a=ice-pwd:{word}\n\
         a=fingerprint:sha-256 {fingerprint}\n\
         a=setup:passive\n\
         a=sctp-port:5000\n\
         a=max-message-size:16384\n\
         a=candidate:1467250027 1 UDP 1467250027 {ip} {port} typ host\n\
         a=end-of-candidates\n"
    )
}

/// An offer whose ICE user and password are this word.
fn with_credentials(offer: &str, word: &str) -> String {
    let replaced = |line: &str| match line.split_once(':') {
        Some((name @ ("a=ice-ufrag" | "a=ice-pwd"), _)) => format!("{name}:{word}\r\n"),
        _ => format!("{line}\r\n"),
    };
    offer.lines().map(replaced).collect()
}

/// The SHA-256 fingerprint in a description (RFC 8122).
fn fingerprint(description: &str) -> Option<Fingerprint> {
    let hexes = description
        .lines()
        .find_map(|line| line.strip_prefix("a=fingerprint:sha-256 "))?;
    let bytes = hex::decode(hexes.trim().replace(':', "")).ok()?;
    Some(Fingerprint::raw(bytes.try_into().ok()?))
}

fn in_firefox() -> bool {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into());
    navigator
        .and_then(|navigator| Reflect::get(&navigator, &"userAgent".into()))
        .ok()
        .and_then(|agent| agent.as_string())
        .is_some_and(|agent| agent.contains("Firefox/"))
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const OFFER: &str = "v=0\r\na=ice-ufrag:ab\r\na=ice-pwd:cdef\r\na=ice-options:trickle\r\n\
        a=fingerprint:sha-256 A8:17:77:1E:02:7E:D1:2B:53:92:70:A6:8E:F9:02:CC:21:72:3A:92:5D:F4:97:5F:27:C4:5E:75:D4:F4:31:89\r\n";

    #[test]
    fn only_the_credentials_of_an_offer_are_replaced() {
        let munged = with_credentials(OFFER, "libp2p+webrtc+v1/word");
        assert!(munged.contains("a=ice-ufrag:libp2p+webrtc+v1/word\r\n"));
        assert!(munged.contains("a=ice-pwd:libp2p+webrtc+v1/word\r\n"));
        assert!(munged.starts_with("v=0\r\n") && munged.contains("a=ice-options:trickle\r\n"));
        assert_eq!(munged.lines().count(), OFFER.lines().count());
    }

    #[test]
    fn the_answer_is_that_of_libp2ps_own_crate() {
        let theirs = fingerprint(OFFER).expect("a fingerprint");
        let word = || random_word().expect("random bits");
        for to in ["127.0.0.1:7", "[2001:db8::1]:4001"] {
            let (to, word) = (to.parse().expect("an address"), word());
            let expected = libp2p_webrtc_utils::sdp::answer(to, theirs, &word);
            assert_eq!(answer(to, theirs, &word), expected);
        }
        assert_ne!(word(), word());
    }

    #[test]
    fn a_fingerprint_is_found_or_not_there() {
        let found = fingerprint(OFFER).expect("a fingerprint");
        assert!(found.to_sdp_format().starts_with("A8:17:77:1E"));
        for wrong in [
            "",
            "a=fingerprint:sha-1 A8",
            "a=fingerprint:sha-256",
            "a=fingerprint:sha-256 ZZ",
            "a=fingerprint:sha-256 A8:17",
        ] {
            assert!(fingerprint(wrong).is_none(), "{wrong}");
        }
    }
}
