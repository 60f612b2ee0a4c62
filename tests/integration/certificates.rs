//! Certificates: those of which addresses have the hash, after a new start; and those of a CA, for WebSocket with TLS.

use std::{fs, path::PathBuf};

use futures::StreamExt;
use libp2p::{
    Swarm, SwarmBuilder, Transport,
    core::upgrade::Version,
    identify,
    multiaddr::Protocol,
    noise, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, websocket, yamux,
};
use rcgen::{CertificateParams, KeyPair};
use selkie::{Config, Keypair, Multiaddr, NetworkEvent, P2PNetworkManager, PeerId, chain::Opaque};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

/// Starts a node, asks where it listens, and ends it.
async fn address_of(identity: &Keypair, listen: &str) -> Multiaddr {
    let manager = P2PNetworkManager::with(listening(listen), identity.clone(), Opaque).await;
    let node = Node::started(manager.expect("the configuration is right")).await;
    let address = node.address();
    node.shutdown().await;
    address
}

fn hashes(address: &Multiaddr) -> Vec<Protocol<'static>> {
    let parts = address.iter().map(Protocol::acquire);
    parts
        .filter(|part| matches!(part, Protocol::Certhash(_)))
        .collect()
}

/// A new start changes no address; another identity has another one.
async fn outlasts_a_restart(listen: &str, count: usize) {
    let identity = Keypair::generate_ed25519();
    let before = address_of(&identity, listen).await;
    assert_eq!(hashes(&before).len(), count, "{before}");
    let after = address_of(&identity, listen).await;
    assert_eq!(hashes(&after), hashes(&before));
    let other = address_of(&Keypair::generate_ed25519(), listen).await;
    assert_ne!(hashes(&other), hashes(&before));
}

#[tokio::test]
async fn a_webtransport_address_outlasts_a_restart() {
    outlasts_a_restart("/ip4/127.0.0.1/udp/0/quic-v1/webtransport", 2).await;
}

/// Its old address is dialled too: the hash is the certificate's that is shown.
#[cfg(feature = "webrtc")]
#[tokio::test]
async fn a_webrtc_address_outlasts_a_restart() {
    const LISTEN: &str = "/ip4/127.0.0.1/udp/0/webrtc-direct";
    outlasts_a_restart(LISTEN, 1).await;
    let identity = Keypair::generate_ed25519();
    let before = address_of(&identity, LISTEN).await;
    let manager = P2PNetworkManager::with(listening(LISTEN), identity, Opaque).await;
    let listener = Node::started(manager.expect("the configuration is right")).await;
    // The port is the system's choice.
    let now = listener.address();
    let mut moved: Multiaddr = now.iter().take(3).collect();
    for hash in hashes(&before) {
        moved.push(hash);
    }
    moved.push(Protocol::P2p(listener.id()));
    let dialler = Node::start(listening(LISTEN)).await;
    let peer = soon("the dial", dialler.dial(moved)).await;
    assert_eq!(peer.expect("its certificate has that hash"), listener.id());
}

/// A certificate for this host and its key, in PEM; and what those trust who trust it.
pub struct Pair {
    certificate: String,
    key: String,
    trusted: websocket::tls::Certificate,
}

impl Pair {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.self_signed(&key).expect("a certificate");
        let text = |tag: &str, der: &[u8]| pem::encode(&pem::Pem::new(tag, der));
        Self {
            certificate: text("CERTIFICATE", certificate.der()),
            key: text("PRIVATE KEY", &key.serialize_der()),
            trusted: websocket::tls::Certificate::new(certificate.der().to_vec()),
        }
    }
}

/// Where a node has its certificate.
pub struct Files {
    folder: TempDir,
}

impl Files {
    pub fn with(pair: &Pair) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Self { folder };
        files.write(pair);
        files
    }

    fn write(&self, pair: &Pair) {
        fs::write(self.certificate(), &pair.certificate).expect("written");
        fs::write(self.key(), &pair.key).expect("written");
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    pub fn listening(&self, address: &str) -> Config {
        let mut config = listening(address);
        config.security.tls_config.certificate = Some(self.certificate());
        config.security.tls_config.key = Some(self.key());
        config
    }
}

#[derive(NetworkBehaviour)]
struct Guest {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// A libp2p peer that speaks WebSocket with TLS, and trusts this certificate.
fn guest(trusted: &websocket::tls::Certificate) -> Swarm<Guest> {
    let mut tls = websocket::tls::Config::builder();
    tls.add_trust(trusted).expect("a certificate");
    let tls = tls.finish();
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|key| {
            let tcp = tcp::tokio::Transport::new(tcp::Config::default());
            let mut websocket = websocket::Config::new(tcp);
            websocket.set_tls_config(tls);
            websocket
                .upgrade(Version::V1Lazy)
                .authenticate(noise::Config::new(key).expect("a key"))
                .multiplex(yamux::Config::default())
        })
        .expect("a transport")
        .with_behaviour(|key| Guest {
            identify: identify::Behaviour::new(identify::Config::new(
                "/guest/1".to_owned(),
                key.public(),
            )),
            ping: ping::Behaviour::new(
                ping::Config::new().with_interval(std::time::Duration::from_millis(100)),
            ),
        })
        .expect("a behaviour")
        .with_swarm_config(|config| {
            config.with_idle_connection_timeout(std::time::Duration::from_secs(600))
        })
        .build()
}

/// The node's address with this host's IP address in place of its name.
fn by_ip(address: &Multiaddr) -> Multiaddr {
    let here = Protocol::Ip4(std::net::Ipv4Addr::LOCALHOST);
    std::iter::once(here)
        .chain(address.iter().skip(1))
        .collect()
}

/// Dials; an error says why it did not come up.
async fn join(guest: &mut Swarm<Guest>, address: &Multiaddr) -> Result<PeerId, String> {
    guest.dial(address.clone()).expect("such an address");
    let outcome = async {
        loop {
            match guest.select_next_some().await {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => return Ok(peer_id),
                SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.to_string()),
                _ => {}
            }
        }
    };
    soon("the dial's outcome", outcome).await
}

/// A ping is answered over a connection that never ended.
async fn still_answers(guest: &mut Swarm<Guest>) {
    let answered = async {
        // One may have been answered long before.
        let mut answers = 0;
        while answers < 3 {
            match guest.select_next_some().await {
                SwarmEvent::Behaviour(GuestEvent::Ping(ping)) => {
                    ping.result.expect("it answers");
                    answers += 1;
                }
                SwarmEvent::ConnectionClosed { cause, .. } => panic!("it ended: {cause:?}"),
                _ => {}
            }
        }
    };
    soon("answers to pings", answered).await;
}

#[tokio::test]
async fn websocket_with_tls_is_listened_at_under_a_name() {
    let pair = Pair::new();
    let files = Files::with(&pair);
    let mut node = Node::start(files.listening("/dns4/localhost/tcp/0/tls/ws")).await;
    let told: Vec<_> = node.listeners().iter().map(ToString::to_string).collect();
    assert_eq!(
        told.len(),
        1,
        "one name, whatever interfaces there are: {told:?}"
    );
    assert!(
        told[0].starts_with("/dns4/localhost/tcp/") && told[0].contains("/tls/ws/p2p/"),
        "{told:?}"
    );
    assert!(!told[0].contains("/tcp/0/"), "{told:?}");
    let mut guest = guest(&pair.trusted);
    let joined = join(&mut guest, &by_ip(&node.address())).await;
    assert_eq!(joined, Ok(node.id()));
    let id = *guest.local_peer_id();
    tokio::spawn(async move {
        guest.select_next_some().await;
        guest.for_each(|_| async {}).await
    });
    node.connected(id).await;
    assert_eq!(node.get_connected_peers()[0].transport(), "ws");
}

#[tokio::test]
async fn wss_is_the_same_by_its_older_name() {
    let pair = Pair::new();
    let files = Files::with(&pair);
    let node = Node::start(files.listening("/ip4/127.0.0.1/tcp/0/wss")).await;
    assert!(node.address().to_string().contains("/wss/p2p/"));
    let joined = join(&mut guest(&pair.trusted), &node.address()).await;
    assert_eq!(joined, Ok(node.id()));
    let stranger = Pair::new();
    let refused = join(&mut guest(&stranger.trusted), &node.address()).await;
    assert!(refused.is_err_and(|error| error.contains("certificate")));
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_newcomers_and_ends_no_connection() {
    let (old, new) = (Pair::new(), Pair::new());
    let files = Files::with(&old);
    let node = Node::start(files.listening("/ip4/127.0.0.1/tcp/0/tls/ws")).await;
    let address = node.address();
    let mut early = guest(&old.trusted);
    assert_eq!(join(&mut early, &address).await, Ok(node.id()));
    files.write(&new);
    // It is looked at the files every two seconds.
    soon("the new certificate", async {
        while join(&mut guest(&new.trusted), &address).await.is_err() {
            still_answers(&mut early).await;
        }
    })
    .await;
    still_answers(&mut early).await;
    assert!(join(&mut guest(&old.trusted), &address).await.is_err());
}

#[tokio::test]
async fn a_broken_renewal_is_told_and_the_old_certificate_is_kept() {
    let old = Pair::new();
    let files = Files::with(&old);
    let mut node = Node::start(files.listening("/ip4/127.0.0.1/tcp/0/tls/ws")).await;
    let mut early = guest(&old.trusted);
    assert_eq!(join(&mut early, &node.address()).await, Ok(node.id()));
    let refused = |event| match event {
        NetworkEvent::CertificateRefused { reason } => Some(reason),
        _ => None,
    };
    fs::write(files.certificate(), "garbage").expect("written");
    let reason = node.event("a complaint", refused).await;
    assert!(
        reason.contains("security.tls_config.certificate") && reason.contains("cert.pem"),
        "{reason}"
    );
    assert_eq!(
        join(&mut guest(&old.trusted), &node.address()).await,
        Ok(node.id())
    );
    fs::remove_file(files.key()).expect("it was there");
    fs::write(files.certificate(), &old.certificate).expect("written");
    let reason = node.event("another one", refused).await;
    assert!(reason.contains("key.pem"), "{reason}");
    still_answers(&mut early).await;
}

/// What comes to a port with TLS and speaks none, or something else in it, gets no further, and others do.
#[tokio::test]
async fn who_speaks_no_tls_is_let_go() {
    let pair = Pair::new();
    let files = Files::with(&pair);
    let mut config = files.listening("/ip4/127.0.0.1/tcp/0/tls/ws");
    config.network.connection_timeout = std::time::Duration::from_millis(500);
    let node = Node::start(config).await;
    let port = node.address().iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    let port = port.expect("a port");
    for words in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 0xff, 0xff],
        &[0; 70_000],
        b"",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("it listens");
        // It may be let go before it has said all.
        let _ = stream.write_all(words).await;
        let mut answer = Vec::new();
        let _ = soon("the end", stream.read_to_end(&mut answer)).await;
    }
    let plain: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}/ws")
        .parse()
        .expect("an address");
    let dialler = Node::start(Config::default()).await;
    assert!(soon("the dial", dialler.dial(plain)).await.is_err());
    assert_eq!(node.connection_metrics().active_connections, 0);
    assert_eq!(
        join(&mut guest(&pair.trusted), &node.address()).await,
        Ok(node.id())
    );
}

#[tokio::test]
async fn without_a_certificate_that_is_of_use_no_node_starts() {
    let refused = async |config: Config| {
        let made = P2PNetworkManager::with(config, Keypair::generate_ed25519(), Opaque).await;
        made.expect_err("it must not start").to_string()
    };
    let none = refused(listening("/ip4/127.0.0.1/tcp/0/tls/ws")).await;
    assert!(
        none.contains("network.listen_addresses[0]")
            && none.contains("security.tls_config.certificate"),
        "{none}"
    );
    let pair = Pair::new();
    let files = Files::with(&pair);
    let listen = "/dns4/localhost/tcp/0/tls/ws";
    let mut half = files.listening(listen);
    half.security.tls_config.key = None;
    let half = refused(half).await;
    assert!(half.contains("security.tls_config.key"), "{half}");
    fs::write(files.key(), Pair::new().key).expect("written");
    let other = refused(files.listening(listen)).await;
    assert!(
        other.contains("key.pem") && other.contains("does not fit"),
        "{other}"
    );
    fs::remove_file(files.certificate()).expect("it was there");
    let absent = refused(files.listening(listen)).await;
    assert!(
        absent.contains("cert.pem") && absent.contains("give a PEM file"),
        "{absent}"
    );
    // The configuration is right all the same, and who has no such listener starts.
    assert_eq!(files.listening(listen).check(), Ok(()));
    let plain = Node::start(files.listening("/ip4/127.0.0.1/tcp/0/ws")).await;
    plain.shutdown().await;
    let named = refused(listening("/dns4/localhost/tcp/0")).await;
    assert!(named.contains("a name is no interface"), "{named}");
}
