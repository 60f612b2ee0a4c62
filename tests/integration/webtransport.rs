//! The WebTransport listener against clients that are none of libp2p's. That browsers get through is in
//! tests/browser/join.test.mjs.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;

use libp2p::{
    Multiaddr, core::upgrade::OutboundConnectionUpgrade, identity::Keypair, multiaddr::Protocol,
    noise,
};
use tokio::io::{AsyncReadExt, join};
use tokio_util::compat::TokioAsyncReadCompatExt;
use wtransport::{ClientConfig, Connection, Endpoint, error::ConnectingError, tls::Sha256Digest};

use crate::support::*;

const WEBTRANSPORT: &str = "/ip4/127.0.0.1/udp/0/quic-v1/webtransport";
const PATH: &str = "/.well-known/libp2p-webtransport?type=noise";

/// The port and the certificates' hashes of a node's address.
fn reached_at(address: &Multiaddr) -> (u16, Vec<Sha256Digest>) {
    let mut port = 0;
    let mut hashes = Vec::new();
    for part in address {
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

/// A bare QUIC connection that keeps itself alive and offers what the test says.
async fn quic(node: &Node, offered: impl FnOnce(&mut quinn::TransportConfig)) -> quinn::Connection {
    let (port, hashes) = reached_at(&node.address());
    let config = ClientConfig::builder()
        .with_bind_default()
        .with_server_certificate_hashes(hashes)
        .build();
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_millis(50)));
    offered(&mut transport);
    let mut config = config.quic_config().clone();
    config.transport_config(Arc::new(transport));
    let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let client = quinn::Endpoint::client(client).expect("a client");
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connecting = client
        .connect_with(config, server, "selkie")
        .expect("an address");
    soon("a connection", connecting).await.expect("it listens")
}

fn impatient() -> selkie::Config {
    let mut config = listening(WEBTRANSPORT);
    config.network.connection_timeout = Duration::from_millis(300);
    config
}

/// Keep-alives of both sides notwithstanding.
#[tokio::test]
async fn who_stops_half_way_is_let_go() {
    let node = Node::start(impatient()).await;
    let silent = quic(&node, |_| {}).await;
    let without_streams = quic(&node, |offered| {
        offered.max_concurrent_uni_streams(0u32.into());
    })
    .await;
    let half_settings = quic(&node, |_| {}).await;
    let mut control = half_settings.open_uni().await.expect("room for a stream");
    control.write_all(&[0, 4, 8]).await.expect("it reads");
    let half_request = quic(&node, |_| {}).await;
    let (mut request, _receive) = half_request.open_bi().await.expect("room for a stream");
    request.write_all(&[1, 0x44, 0]).await.expect("it reads");
    let long_request = quic(&node, |_| {}).await;
    let (mut request, _receive) = long_request.open_bi().await.expect("room for a stream");
    request
        .write_all(&[1, 0xbf, 0xff, 0xff, 0xff])
        .await
        .expect("it reads");
    for connection in [
        silent,
        without_streams,
        half_settings,
        half_request,
        long_request,
    ] {
        soon("the end", connection.closed()).await;
    }
    for words in [
        &[0x40][..],
        &[0x40, 0x41],
        &[0x40, 0x41, 0, 0],
        &[0x40, 0x41, 0, 0, 0x20, 1],
    ] {
        let half_noise = session(&node, PATH).await.expect("a session");
        let quic = half_noise.quic_connection();
        let (mut send, _receive) = quic.open_bi().await.expect("room for a stream");
        send.write_all(words).await.expect("it reads");
        soon("the end", half_noise.closed()).await;
    }
    assert_eq!(node.connection_metrics().active_connections, 0);
}

/// Streams that begin with nothing hold up none that begins as it should.
#[tokio::test]
async fn before_it_is_trusted_a_client_has_three_streams() {
    let node = Node::start(listening(WEBTRANSPORT)).await;
    let session = session(&node, PATH).await.expect("a session");
    let quic = session.quic_connection();
    let mut opened = Vec::new();
    // The request is the third.
    for _ in 0..2 {
        opened.push(quic.open_bi().await.expect("room for a stream"));
    }
    assert!(
        quic.open_bi().now_or_never().is_none(),
        "no more before it is trusted"
    );
    let (send, _) = &mut opened[0];
    send.write_all(&[0x40]).await.expect("it reads");
    let (send, _) = &mut opened[1];
    send.write_all(&[0x40, 0x41, 0, 0xff, 0xff])
        .await
        .expect("it reads");
    send.write_all(&[7; 1000]).await.expect("it reads");
    send.finish().expect("it is open");
    soon("the end for what is no Noise", session.closed()).await;
}

#[tokio::test]
async fn who_is_refused_before_its_end_reads_why() {
    let node = Node::start(listening(WEBTRANSPORT)).await;
    let session = session(&node, PATH).await.expect("a session");
    let stream = async || {
        let opening = session.open_bi().await.expect("room for a stream");
        opening.await.expect("a stream")
    };
    let (send, receive) = stream().await;
    let noise = noise::Config::new(&Keypair::generate_ed25519()).expect("a key");
    let proving = noise.upgrade_outbound(join(receive, send).compat(), "/noise");
    let _proved = soon("Noise", proving).await.expect("it is a node");
    let (mut send, mut receive) = stream().await;
    let protocol = "/selkie/selkie-dev/message/1
";
    let mut words = b"/multistream/1.0.0
"
    .to_vec();
    words.push(protocol.len() as u8);
    words.extend(protocol.bytes());
    // 102,400 bytes are to come.
    words.extend([0x80, 0xa0, 0x06]);
    words.extend([0; 1000]);
    send.write_all(&words).await.expect("it reads");
    let mut answer = Vec::new();
    let read = soon("the end", receive.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        read.is_ok() && answer.contains("say hello"),
        "{read:?} {answer}"
    );
}

#[tokio::test]
async fn half_open_sessions_keep_no_newcomer_out() {
    let mut config = listening(WEBTRANSPORT);
    config.network.connection_timeout = Duration::from_secs(600);
    config.security.connection_limits.handshakes = 4;
    config.security.connection_limits.handshakes_per_address = 4;
    let node = Node::start(config).await;
    let mut half_open = Vec::new();
    for _ in 0..4 {
        half_open.push(quic(&node, |_| {}).await);
    }
    soon("a newcomer", async {
        while session(&node, PATH).await.is_err() {}
    })
    .await;
    soon("the first to give way", half_open.remove(0).closed()).await;
}
