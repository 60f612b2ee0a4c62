//! Discovery on the local network, in a network of its own: a kernel namespace with one cable that leads nowhere, so
//! that nothing leaves the test and nothing foreign comes in.

use std::process::Command;

use selkie::{DiscoveryError, NetworkMessage, PeerId, PeerInfo};

use crate::support::*;

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "SELKIE_TEST_INSIDE_NAMESPACE";

const NETWORK: &str = "ip link set lo up && ip link add lan type veth peer name end \
    && ip addr add 10.77.0.1/24 dev lan && ip link set lan up && ip link set end up \
    && ip route add 224.0.0.0/4 dev lan";

#[tokio::test]
async fn peers_on_the_local_network_find_each_other() {
    if std::env::var_os(INSIDE).is_some() {
        return find_each_other().await;
    }
    let namespace = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--net", "sh", "-ec", script]);
        unshare
    };
    match namespace(NETWORK).output() {
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
    let name = "local_network::peers_on_the_local_network_find_each_other";
    let script = format!("{NETWORK} && exec \"$0\" --exact {name} --nocapture");
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
