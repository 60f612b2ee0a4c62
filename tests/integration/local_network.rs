//! Discovery on the local network, in a network of its own: a kernel namespace with one cable that leads nowhere, so
//! that nothing leaves the test and nothing foreign comes in.

use std::process::Command;

use selkie::DiscoveryError;

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
    // Who is found is connected, and asked again it is there still.
    b.connected(a.id()).await;
    assert_eq!(b.discover_local_peers().await.expect("mDNS is on").len(), 1);
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
