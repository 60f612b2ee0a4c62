//! Connections that have not proved who they are: silent ones, and such that stop half way, over each transport. Each is
//! let go in time, and as many as one host likes to open keep no newcomer out.

use std::{net::SocketAddr, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{
    Multiaddr, Transport as _,
    core::transport::{DialOpts, MemoryTransport, PortUse},
    multiaddr::Protocol,
};
use selkie::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use crate::support::*;

const WS: &str = "/ip4/127.0.0.1/tcp/0/ws";
/// All of a WebSocket's request but the empty line.
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: selkie\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// Where a node listens, as a socket's address.
pub fn socket_address(node: &Node) -> SocketAddr {
    let address = node.address();
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port) | Protocol::Udp(port))) => {
            (ip, port).into()
        }
        other => panic!("{other:?} is no socket"),
    }
}

/// A node that is patient only with whom nobody else needs a place.
fn with_few_places(address: &str) -> Config {
    let mut config = listening(address);
    config.network.connection_timeout = Duration::from_secs(600);
    config.security.connection_limits.handshakes = 6;
    config.security.connection_limits.handshakes_per_address = 6;
    config
}

/// Tries until it is let in, as any node does.
async fn gets_in(node: &Node) {
    let newcomer = Node::start(Config::default()).await;
    soon("a way in", async {
        while newcomer.dial(node.address()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// What comes until the end.
async fn ended(mut socket: TcpStream) -> Vec<u8> {
    let mut came = Vec::new();
    // However it ends.
    let _ = socket.read_to_end(&mut came).await;
    came
}

#[tokio::test]
async fn who_stops_half_way_is_let_go() {
    let multistream = "\x13/multistream/1.0.0\n";
    let noise = format!("{multistream}\x07/noise\n");
    let steps = [
        (TCP, String::new()),
        (TCP, "\x13/multi".to_owned()),
        (TCP, multistream.to_owned()),
        (TCP, noise.clone()),
        (TCP, format!("{noise}\0\x20abc")),
        (WS, String::new()),
        (WS, "GET / HTTP".to_owned()),
        (WS, UPGRADE.to_owned()),
        (WS, format!("{UPGRADE}\r\n")),
        (WS, format!("{UPGRADE}\r\n\u{2}\u{7f}")),
    ];
    for (address, said) in steps {
        let mut config = listening(address);
        config.network.connection_timeout = Duration::from_millis(200);
        let node = Node::start(config).await;
        let mut socket = TcpStream::connect(socket_address(&node))
            .await
            .expect("a port");
        socket.write_all(said.as_bytes()).await.expect("it listens");
        soon(&format!("the end after {said:?}"), ended(socket)).await;
        assert_eq!(node.connection_metrics().active_connections, 0);
    }
}

/// The room for a WebSocket message is taken when its header has come, which costs the other side ten bytes. One that is longer
/// than anybody needs is not listened to, however right its beginning is.
#[tokio::test]
async fn a_websocket_message_of_a_megabyte_is_not_listened_to() {
    let node = Node::start(listening(WS)).await;
    let mut socket = TcpStream::connect(socket_address(&node))
        .await
        .expect("a port");
    let upgrade = format!("{UPGRADE}\r\n");
    socket
        .write_all(upgrade.as_bytes())
        .await
        .expect("it listens");
    // Binary, whole, of 1 MiB, masked with zeros.
    let mut message = vec![0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0];
    message.extend(b"\x13/multistream/1.0.0\n");
    message.resize(14 + (1 << 20), 0);
    socket.write_all(&message).await.expect("it listens");
    let answer = soon("the end", ended(socket)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(!answer.contains("multistream"), "{answer}");
}

#[tokio::test]
async fn who_stops_half_way_in_memory_is_let_go() {
    for said in ["", "\x13/multi", "\x13/multistream/1.0.0\n\x07/noise\n"] {
        let mut config = listening("/memory/0");
        config.network.connection_timeout = Duration::from_millis(200);
        let node = Node::start(config).await;
        let options = DialOpts {
            role: libp2p::core::Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let address: Multiaddr = node.address().iter().take(1).collect();
        let dialled = MemoryTransport::new()
            .dial(address, options)
            .expect("an address");
        let mut channel = dialled.await.expect("it listens");
        channel
            .write_all(said.as_bytes())
            .await
            .expect("it listens");
        channel.flush().await.expect("it listens");
        let mut answer = Vec::new();
        let ended = channel.read_to_end(&mut answer);
        let _ = soon(&format!("the end after {said:?}"), ended).await;
    }
}

#[tokio::test]
async fn silent_sockets_of_one_host_keep_no_newcomer_out() {
    for address in [TCP, WS] {
        let node = Node::start(with_few_places(address)).await;
        let to = socket_address(&node);
        let mut silent = Vec::new();
        for _ in 0..12 {
            silent.push(TcpStream::connect(to).await.expect("a port"));
        }
        for _ in 0..6 {
            gets_in(&node).await;
        }
        let first = silent.remove(0);
        soon("the first to give way", ended(first)).await;
    }
}

/// The first packet of a dial to a node by QUIC, which goes through sockets between; and what comes back.
async fn begun(dialler: &Node, to: SocketAddr) -> HalfOpen {
    let bind = || UdpSocket::bind("127.0.0.1:0");
    let (near, far) = (bind().await.expect("a port"), bind().await.expect("a port"));
    far.connect(to).await.expect("loopback");
    let port = near.local_addr().expect("it is bound").port();
    let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1")
        .parse()
        .expect("an address");
    let dial = dialler.manager.clone();
    let dial = tokio::spawn(async move { dial.dial(address).await.map(drop) });
    let mut packet = vec![0; 2048];
    let (length, client) = soon("the dial", near.recv_from(&mut packet))
        .await
        .expect("a packet");
    far.send(&packet[..length]).await.expect("sent");
    let length = soon("an answer", far.recv(&mut packet))
        .await
        .expect("a packet");
    packet.truncate(length);
    HalfOpen {
        near,
        far,
        client,
        answer: packet,
        dial,
    }
}

struct HalfOpen {
    near: UdpSocket,
    far: UdpSocket,
    client: SocketAddr,
    answer: Vec<u8>,
    dial: tokio::task::JoinHandle<Result<(), selkie::NetworkError>>,
}

impl HalfOpen {
    /// The dialler shows where it is; the rest of what it is told is lost.
    async fn go_on(&self) {
        let back = self.near.send_to(&self.answer, self.client).await;
        back.expect("sent");
        let mut packet = [0; 2048];
        let answered = async {
            loop {
                let mut answer = [0; 2048];
                tokio::select! {
                    sent = self.near.recv(&mut packet) => {
                        let length = sent.expect("a packet");
                        self.far.send(&packet[..length]).await.expect("sent");
                    }
                    _ = self.far.recv(&mut answer) => return,
                }
            }
        };
        soon("the node's part of the handshake", answered).await;
    }
}

/// A packet may name an address that is not its sender's: what it is answered with tells nothing and takes no place, but where to go on.
#[tokio::test]
async fn a_first_packet_of_quic_takes_no_place() {
    let mut config = with_few_places(QUIC);
    config.security.connection_limits.handshakes = 1;
    config.security.connection_limits.handshakes_per_address = 1;
    let node = Node::start(config).await;
    let dialler = Node::start(Config::default()).await;
    let mut begun_dials = Vec::new();
    for _ in 0..8 {
        let begun = begun(&dialler, socket_address(&node)).await;
        // A long header of version 1 (RFC 9000, 17.2), a Retry.
        assert_eq!(begun.answer[0] >> 4, 0b1111);
        begun_dials.push(begun);
        // It would be turned away if there were no place.
        let newcomer = Node::start(Config::default()).await;
        let dialled = soon("a way in", newcomer.dial(node.address())).await;
        assert_eq!(dialled.expect("there is room"), node.id());
    }
    begun_dials.iter().for_each(|begun| begun.dial.abort());
}

/// They show where they are, and then are silent, and never read.
#[tokio::test]
async fn half_open_quic_keeps_no_newcomer_out() {
    let node = Node::start(with_few_places(QUIC)).await;
    let mut config = Config::default();
    config.network.connection_timeout = Duration::from_secs(600);
    let dialler = Node::start(config).await;
    let mut half_open = Vec::new();
    for _ in 0..6 {
        let begun = begun(&dialler, socket_address(&node)).await;
        begun.go_on().await;
        half_open.push(begun);
    }
    for _ in 0..3 {
        gets_in(&node).await;
    }
    half_open.iter().for_each(|begun| begun.dial.abort());
}

/// A burst of honest nodes behind one address: nobody has to give way to another.
#[tokio::test]
async fn dozens_of_nodes_on_one_host_start_at_once() {
    let node = Node::start(listening(TCP)).await;
    let mut nodes = Vec::new();
    for _ in 0..40 {
        nodes.push(Node::start(Config::default()).await);
    }
    let dials = nodes.iter().map(|other| other.dial(node.address()));
    for dialled in soon("all of them", futures::future::join_all(dials)).await {
        assert_eq!(dialled.expect("there is room"), node.id());
    }
}

/// Clients of WebRTC that send a first packet, each from a port of its own, and no more.
#[cfg(feature = "webrtc")]
async fn first_packets(to: SocketAddr, count: usize) -> Vec<UdpSocket> {
    let mut sockets = Vec::new();
    for number in 0..count {
        let word = format!("libp2p+webrtc+v1/{number:032}");
        let name = format!("{word}:{word}");
        let padded = name.len().next_multiple_of(4);
        let length = u16::try_from(padded + 4).expect("short");
        // A STUN binding request (RFC 8489) with a USERNAME.
        let mut packet = vec![0, 1];
        packet.extend(length.to_be_bytes());
        packet.extend([0x21, 0x12, 0xa4, 0x42]);
        packet.extend([7; 12]);
        packet.extend([0, 6]);
        packet.extend(u16::try_from(name.len()).expect("short").to_be_bytes());
        packet.extend(name.as_bytes());
        packet.resize(20 + 4 + padded, 0);
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        socket.send_to(&packet, to).await.expect("sent");
        sockets.push(socket);
    }
    sockets
}

/// WebRTC's own tasks end for nobody who gives up: they must be none of the node's runtime, which goes on.
#[cfg(feature = "webrtc")]
#[tokio::test]
async fn half_open_webrtc_keeps_no_newcomer_out_and_leaves_no_tasks() {
    const WEBRTC: &str = "/ip4/127.0.0.1/udp/0/webrtc-direct";
    let node = Node::start(with_few_places(WEBRTC)).await;
    let _silent = first_packets(socket_address(&node), 4).await;
    // It dials from its listening socket.
    let newcomer = Node::start(listening(WEBRTC)).await;
    let dialled = soon("the dial", newcomer.dial(node.address())).await;
    assert_eq!(dialled.expect("there is room"), node.id());
    newcomer.shutdown().await;
    node.shutdown().await;
    let metrics = tokio::runtime::Handle::current().metrics();
    soon("the end of all tasks", async {
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// What one host begins takes its share of the pace only, so that who comes from another one is let in at its first packet, which is the only one that counts.
#[cfg(feature = "webrtc")]
#[tokio::test]
async fn a_flood_of_first_packets_from_one_host_keeps_out_nobody_from_another() {
    let node = Node::start(listening("/ip4/127.0.0.1/udp/0/webrtc-direct")).await;
    let to = socket_address(&node);
    let flood = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            pace.tick().await;
            drop(first_packets(to, 64).await);
        }
    });
    // All that may begin at once, several times.
    drop(first_packets(to, 2000).await);
    for _ in 0..3 {
        let newcomer = Node::start(listening("/ip4/127.0.0.2/udp/0/webrtc-direct")).await;
        let dialled = soon("the dial", newcomer.dial(node.address())).await;
        assert_eq!(dialled.expect("there is room"), node.id());
        newcomer.shutdown().await;
    }
    flood.abort();
    node.shutdown().await;
}
