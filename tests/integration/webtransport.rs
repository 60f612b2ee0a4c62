//! The WebTransport listener against clients that are none of libp2p's. That browsers get through is in
//! tests/browser/join.test.mjs.

use std::net::{Ipv4Addr, SocketAddr};

use libp2p::{Multiaddr, multiaddr::Protocol};
use wtransport::{ClientConfig, Connection, Endpoint, error::ConnectingError, tls::Sha256Digest};

use crate::support::*;

const WEBTRANSPORT: &str = "/ip4/127.0.0.1/udp/0/quic-v1/webtransport";
const PATH: &str = "/.well-known/libp2p-webtransport?type=noise";

/// The port and the certificates' hashes of a node's address.
fn reached_at(address: &Multiaddr) -> (u16, Vec<Sha256Digest>) {
    let mut port = 0;
    let mut hashes = Vec::new();
    for part in address.iter() {
        match part {
            Protocol::Udp(number) => port = number,
            Protocol::Certhash(hash) => {
                let digest: [u8; 32] = hash.digest().try_into().expect("a SHA-256");
                hashes.push(Sha256Digest::new(digest));
            }
            _ => {}
        }
    }
    (port, hashes)
}

async fn session(node: &Node, path: &str) -> Result<Connection, ConnectingError> {
    let (port, hashes) = reached_at(&node.address());
    let config = ClientConfig::builder()
        .with_bind_address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .with_server_certificate_hashes(hashes)
        .build();
    let client = Endpoint::client(config).expect("a client");
    let connecting = client.connect(format!("https://127.0.0.1:{port}{path}"));
    soon("an answer", connecting).await
}

#[tokio::test]
async fn the_address_has_the_hash_of_today_and_of_tomorrow() {
    let node = Node::start(listening(WEBTRANSPORT)).await;
    let (_, hashes) = reached_at(&node.address());
    assert_eq!(hashes.len(), 2);
    assert_ne!(hashes[0].as_ref(), hashes[1].as_ref());
    // The client takes the certificate by its hash alone.
    session(&node, PATH).await.expect("a session");
}

#[tokio::test]
async fn only_libp2ps_path_is_served() {
    let node = Node::start(listening(WEBTRANSPORT)).await;
    for path in [
        "/",
        "/.well-known/libp2p-webtransport",
        "/.well-known/libp2p-webtransport?type=tls",
    ] {
        let refused = session(&node, path).await;
        assert!(
            matches!(refused, Err(ConnectingError::SessionRejected)),
            "{path}: {refused:?}"
        );
    }
    assert_eq!(node.connection_metrics().active_connections, 0);
}

#[tokio::test]
async fn who_opens_a_session_and_says_nothing_is_let_go() {
    let mut config = listening(WEBTRANSPORT);
    config.network.connection_timeout = std::time::Duration::from_millis(300);
    let node = Node::start(config).await;
    let mute = session(&node, PATH).await.expect("a session");
    soon("the end", mute.closed()).await;
    assert_eq!(node.connection_metrics().active_connections, 0);
}

#[tokio::test]
async fn who_speaks_no_noise_is_let_go() {
    let node = Node::start(listening(WEBTRANSPORT)).await;
    for words in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 70_000], &[]] {
        let stranger = session(&node, PATH).await.expect("a session");
        let opening = stranger.open_bi().await.expect("room for a stream");
        let (mut send, _receive) = opening.await.expect("a stream");
        // It may be let go before it has said all.
        let _ = send.write_all(words).await;
        let _ = send.finish().await;
        soon("the end", stranger.closed()).await;
    }
    assert_eq!(node.connection_metrics().active_connections, 0);
}
