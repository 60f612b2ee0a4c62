//! Discovery on the local network, in a network of its own: a kernel namespace with one cable that leads nowhere, so
//! that nothing leaves the test and nothing foreign comes in.

use std::{process::Command, time::Duration};

use futures::FutureExt;
use selkie::{
    DiscoveryError, NetworkError, NetworkEvent, NetworkMessage, P2PNetworkManager, PeerId, PeerInfo,
};

use tokio::{
    net::{TcpListener, UdpSocket},
    time::timeout,
};

use crate::support::*;

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "SELKIE_TEST_INSIDE_NAMESPACE";
/// Set in the process that runs at the other end of the cable.
const FAR_END: &str = "SELKIE_TEST_FAR_END";

/// No interface is up, not even loopback.
const DARK: &str = "true";
const NETWORK: &str = "ip link set lo up && ip link add lan type veth peer name end \
    && ip addr add 10.77.0.1/24 dev lan && ip link set lan up && ip link set end up \
    && ip route add 224.0.0.0/4 dev lan";
/// Two hosts and a cable between them. The second host's processes are entered by `$PID`; the loop waits for its network.
const TWO_HOSTS: &str = "ip link set lo up && ip link add lan type veth peer name end \
    && { unshare --net sleep 120 >/dev/null 2>&1 & } && export PID=$! && trap 'kill $PID' EXIT \
    && until [ \"$(readlink /proc/$PID/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do sleep 0.01; done \
    && ip link set end netns $PID \
    && nsenter --target $PID --net sh -ec 'ip link set lo up && ip addr add 10.77.0.2/24 dev end \
        && ip link set end up && ip route add 224.0.0.0/4 dev end' \
    && ip addr add 10.77.0.1/24 dev lan && ip link set lan up && ip route add 224.0.0.0/4 dev lan";

/// Two cables, at whose other end another host is that has an address of the first one's network too.
const TWO_LINKS: &str = "ip link set lo up && ip link add lan type veth peer name end \
    && ip link add guests type veth peer name guest \
    && { unshare --net sleep 120 >/dev/null 2>&1 & } && export PID=$! && trap 'kill $PID' EXIT \
    && until [ \"$(readlink /proc/$PID/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do sleep 0.01; done \
    && ip link set guest netns $PID \
    && nsenter --target $PID --net sh -ec 'ip link set lo up && ip addr add 10.78.0.2/24 dev guest \
        && ip addr add 10.77.0.9/32 dev guest && ip link set guest up && ip route add 224.0.0.0/4 dev guest' \
    && ip addr add 10.77.0.1/24 dev lan && ip link set lan up && ip link set end up \
    && ip addr add 10.78.0.1/24 dev guests && ip link set guests up";

#[tokio::test]
async fn peers_on_the_local_network_find_each_other() {
    let name = "local_network::peers_on_the_local_network_find_each_other";
    within(NETWORK, name, find_each_other()).await;
}

#[tokio::test]
async fn who_is_on_the_link_says_where_it_is_and_no_more() {
    let name = "local_network::who_is_on_the_link_says_where_it_is_and_no_more";
    within(NETWORK, name, hear_lies()).await;
}

#[tokio::test]
async fn nobody_is_heard_from_another_link() {
    let name = "local_network::nobody_is_heard_from_another_link";
    within(TWO_LINKS, name, hear_one_link(name)).await;
}

#[tokio::test]
async fn a_start_without_an_interface_ends() {
    let name = "local_network::a_start_without_an_interface_ends";
    within(DARK, name, start_in_the_dark()).await;
}

#[tokio::test]
async fn a_lost_cable_is_found_again() {
    let name = "local_network::a_lost_cable_is_found_again";
    within(TWO_HOSTS, name, lose_the_cable(name)).await;
}

/// Runs a part of the test of this name in a network, and with files, of its own, which the script sets up.
pub async fn within(network: &str, name: &str, part: impl Future<Output = ()>) {
    if std::env::var_os(INSIDE).is_some() {
        return part.await;
    }
    let namespace = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--net", "--mount", "sh", "-ec", script]);
        unshare
    };
    match namespace(network).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            return println!(
                "skipped: no network namespace: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Err(error) => return println!("skipped: no unshare command: {error}"),
    }
    let this = std::env::current_exe().expect("a test is a file");
    let script = format!("{network} && exec \"$0\" --exact {name} --nocapture");
    let inside = namespace(&script)
        .arg(this)
        .env(INSIDE, "1")
        .output()
        .expect("it started before");
    assert!(
        inside.status.success(),
        "{}{}",
        String::from_utf8_lossy(&inside.stdout),
        String::from_utf8_lossy(&inside.stderr)
    );
}

async fn find_each_other() {
    let a = Node::start(listening("/ip4/10.77.0.1/tcp/0")).await;
    let mut b = Node::start(listening("/ip4/10.77.0.1/tcp/0")).await;
    let found = b.discover_local_peers().await.expect("mDNS is on");
    let ids: Vec<_> = found.iter().map(|peer| peer.peer_id).collect();
    assert_eq!(ids, [a.id()]);
    // Who is found is connected, and asked again it is there still; and nobody else is, however well known: neither a peer that
    // was dialled nor one that another peer tells of.
    b.connected(a.id()).await;
    let mut far = Node::start(listening(TCP)).await;
    connect(&mut b, &mut far).await;
    let claims = vec![PeerInfo {
        addresses: vec!["/ip4/10.77.0.9/tcp/1".parse().expect("an address")],
        ..PeerInfo::new(PeerId::random())
    }];
    let claims = NetworkMessage::PeerExchange(claims);
    let (found, told) = futures::join!(b.discover_local_peers(), far.send_message(b.id(), claims));
    told.expect("b listens to it");
    let ids: Vec<_> = found
        .expect("mDNS is on")
        .iter()
        .map(|peer| peer.peer_id)
        .collect();
    assert_eq!(ids, [a.id()]);
    // Who has ended found nobody, which is not the same as that nobody is there.
    let (asked, ()) = futures::join!(b.discover_local_peers(), b.shutdown());
    let ended = asked.expect_err("it has ended");
    assert!(
        matches!(ended, DiscoveryError::Network(NetworkError::NotRunning)),
        "{ended}"
    );
}

/// A packet of mDNS, as libp2p's own writes it, in which a peer is at some addresses, for the longest time that there is.
fn says(peer: PeerId, addresses: &[String]) -> Vec<u8> {
    let count = u8::try_from(addresses.len()).expect("few");
    let mut packet = vec![0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, count];
    packet.extend(b"\x04_p2p\x04_udp\x05local\x00\x00\x0c\x00\x01\xff\xff\xff\xff");
    packet.extend(b"\x00\x05\x03abc\x00");
    for address in addresses {
        let text = format!("dnsaddr={address}/p2p/{peer}");
        let length = u8::try_from(text.len()).expect("short");
        packet.extend(b"\x03abc\x00\x00\x10\x80\x01\xff\xff\xff\xff\x00");
        packet.extend([length + 1, length]);
        packet.extend(text.as_bytes());
    }
    packet
}

/// Says lies of a place, and then that a peer is at another one.
async fn lie(of: &str, honest: PeerId, place: &String) {
    let group = ("224.0.0.251", 5353);
    let socket = UdpSocket::bind("10.77.0.1:0").await.expect("a port");
    // To this host alone, as it may come from anywhere, from its network and from another. A host may refuse to take it, which is as well.
    for from in ["10.77.0.1:0", "127.0.0.1:0"] {
        let socket = UdpSocket::bind(from).await.expect("a port");
        let packet = says(PeerId::random(), &[of.to_owned()]);
        let _ = socket.send_to(&packet, ("10.77.0.1", 5353)).await;
    }
    // A path of HTTP, a server's name, nobody's port, and other hosts.
    let lies = [
        format!("{of}/x-parity-ws/%2Freboot%3Fnow"),
        format!("{of}/tls/sni/router/ws"),
        "/ip4/10.77.0.1/tcp/0".to_owned(),
        "/ip4/10.77.0.7/tcp/80".to_owned(),
        "/ip4/1.1.1.1/tcp/80".to_owned(),
    ];
    for packet in [
        says(PeerId::random(), &lies),
        says(honest, std::slice::from_ref(place)),
    ] {
        socket.send_to(&packet, group).await.expect("it is sent");
    }
}

async fn hear_lies() {
    let mut node = Node::start(listening("/ip4/10.77.0.1/tcp/0")).await;
    let (victim, other) = (
        TcpListener::bind("10.77.0.1:0").await.expect("a port"),
        TcpListener::bind("10.77.0.1:0").await.expect("a port"),
    );
    let place = |listener: &TcpListener| {
        let port = listener.local_addr().expect("bound").port();
        format!("/ip4/10.77.0.1/tcp/{port}")
    };
    let (victims, place) = (place(&victim), place(&other));
    let found = |event| match event {
        NetworkEvent::PeersDiscovered(peers) => Some(peers),
        _ => None,
    };
    // Until it listens; and once more, all of which it hears: what comes last says so.
    let (first, second) = (PeerId::random(), PeerId::random());
    let heard = loop {
        lie(&victims, first, &place).await;
        let heard = node.event("a neighbour", found);
        if let Ok(heard) = timeout(Duration::from_millis(200), heard).await {
            break heard;
        }
    };
    lie(&victims, second, &place).await;
    let again = node.event("another", found).await;
    for (heard, honest) in [(heard, first), (again, second)] {
        let ids: Vec<_> = heard.iter().map(|peer| peer.peer_id).collect();
        assert_eq!(ids, [honest]);
        assert_eq!(heard[0].addresses, [place.parse().expect("an address")]);
    }
    soon("the dial", other.accept())
        .await
        .expect("it is dialled");
    assert!(victim.accept().now_or_never().is_none(), "it is dialled");
    // Whoever makes up peers, one host has so many, and all of it costs others nothing.
    let socket = UdpSocket::bind("10.77.0.1:0").await.expect("a port");
    for number in 0..5000 {
        let packet = says(PeerId::random(), std::slice::from_ref(&place));
        // The system may drop some.
        let _ = socket.try_send_to(&packet, "224.0.0.251:5353".parse().expect("an address"));
        if number % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let found = node.discover_local_peers().await.expect("mDNS is on");
    assert!((3..=32).contains(&found.len()), "{}", found.len());
    let mut friend = Node::start(listening(TCP)).await;
    connect(&mut node, &mut friend).await;
}

/// A guest says that it is a neighbour of the other network, and then who it is, until it is killed.
async fn be_a_guest() {
    loop {
        for host in ["10.77.0.9", "10.78.0.2"] {
            let socket = UdpSocket::bind((host, 0)).await.expect("a port");
            let packet = says(PeerId::random(), &[format!("/ip4/{host}/tcp/7")]);
            let sent = socket.send_to(&packet, ("224.0.0.251", 5353)).await;
            sent.expect("it is sent");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn hear_one_link(name: &str) {
    if std::env::var_os(FAR_END).is_some() {
        return be_a_guest().await;
    }
    let mut node = Node::start(listening("/ip4/0.0.0.0/tcp/0")).await;
    let pid = std::env::var("PID").expect("the script tells");
    let this = std::env::current_exe().expect("a test is a file");
    let mut guest = Command::new("nsenter");
    guest.args(["--target", &pid, "--net"]).arg(this);
    guest
        .args(["--exact", name, "--nocapture"])
        .env(FAR_END, "1");
    let mut guest = guest.spawn().expect("it starts");
    // What comes first of two on one link comes first on another, but for those that are on their way at once.
    for _ in 0..5 {
        let heard = node.event("a neighbour", |event| match event {
            NetworkEvent::PeersDiscovered(peers) => Some(peers),
            _ => None,
        });
        let heard = heard.await;
        let address = heard[0].addresses[0].to_string();
        assert!(address.starts_with("/ip4/10.78.0.2/"), "{address}");
    }
    for process in [guest.id().to_string(), pid] {
        let kill = format!("kill -9 {process}");
        let killed = Command::new("sh").args(["-c", &kill]).status();
        assert!(killed.expect("sh runs").success());
    }
    guest.wait().expect("it was killed");
}

async fn start_in_the_dark() {
    let everywhere = ["/ip4/0.0.0.0/tcp/0", "/ip6/::/udp/0/quic-v1"];
    let started = |addresses: &[&str]| {
        let mut config = listening(addresses[0]);
        let addresses = addresses.iter().map(|text| text.parse());
        config.network.listen_addresses = addresses.collect::<Result<_, _>>().expect("addresses");
        async {
            let node = P2PNetworkManager::new(config).await.expect("it is right");
            let mut events = node.subscribe_events();
            let started = soon("the end of the start", node.start()).await;
            let (listeners, mut dark) = (node.listeners(), Vec::new());
            node.shutdown().await;
            while let Some(event) = events.recv().await {
                if let NetworkEvent::NotListening { address, .. } = event {
                    dark.push(address.to_string());
                }
            }
            (started, listeners, dark)
        }
    };
    let (error, listeners, dark) = started(&everywhere).await;
    let error = error.expect_err("it listens nowhere").to_string();
    assert!(
        error.starts_with("can't listen on /ip4/0.0.0.0/tcp/0: no network interface"),
        "{error}"
    );
    assert!(listeners.is_empty());
    assert_eq!(dark, everywhere);
    // With one that is up it goes on, and says which are not.
    let (outcome, listeners, dark) = started(&["/memory/7", everywhere[1]]).await;
    outcome.expect("it listens at one");
    assert_eq!((listeners.len(), dark), (1, vec![everywhere[1].to_owned()]));
}

/// A node that soon notices that a peer is gone.
async fn impatient() -> Node {
    let mut config = listening("/ip4/0.0.0.0/tcp/0");
    config.network.keepalive_interval = Duration::from_secs(2);
    config.network.connection_timeout = Duration::from_secs(2);
    Node::start(config).await
}

async fn lose_the_cable(name: &str) {
    let mut node = impatient().await;
    if std::env::var_os(FAR_END).is_some() {
        // Until the process is killed.
        return std::future::pending().await;
    }
    let pid = std::env::var("PID").expect("the script tells");
    let this = std::env::current_exe().expect("a test is a file");
    let mut far = Command::new("nsenter");
    far.args(["--target", &pid, "--net"]).arg(this);
    far.args(["--exact", name, "--nocapture"]).env(FAR_END, "1");
    let mut far = far.spawn().expect("it starts");
    let comes = |event| match event {
        NetworkEvent::PeerConnected(peer) => Some(peer.peer_id),
        _ => None,
    };
    let peer = node.event("the far end", comes).await;
    for script in [
        "ip link set lan down",
        "ip link set lan up && ip route add 224.0.0.0/4 dev lan",
    ] {
        let done = Command::new("sh").args(["-ec", script]).status();
        assert!(done.expect("sh runs").success(), "{script}");
        if script.ends_with("down") {
            node.disconnected(peer).await;
        }
    }
    // Neither was told of the other, and both have let go: who was found once is dialled again.
    assert_eq!(node.event("the far end again", comes).await, peer);
    for process in [far.id().to_string(), pid] {
        let kill = format!("kill -9 {process}");
        let killed = Command::new("sh").args(["-c", &kill]).status();
        assert!(killed.expect("sh runs").success());
    }
    far.wait().expect("it was killed");
}

#[tokio::test]
async fn on_loopback_there_is_nothing_to_discover() {
    let node = Node::start(listening(TCP)).await;
    let error = node
        .discover_local_peers()
        .await
        .expect_err("loopback only");
    assert!(matches!(error, DiscoveryError::Unavailable(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("listen on an address that is not loopback")
    );
}
