//! Nodes of a measurement, all with links that are known.

use futures::{StreamExt, stream};
use selkie::{Application, Config, Keypair, Multiaddr, P2PNetworkManager};
use tokio::runtime::{Builder, Runtime};

pub const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";
/// Peers that join at once: a node that starts among a thousand meets no more.
pub const JOINING: usize = 16;

pub fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A node that runs.
pub async fn started(config: Config, application: impl Application) -> P2PNetworkManager {
    let node = P2PNetworkManager::with(config, Keypair::generate_ed25519(), application)
        .await
        .expect("a node");
    node.start().await.expect("it starts");
    node
}

/// Of a node that looks for no peers.
pub fn config(listen: Option<&str>) -> Config {
    let mut config = Config::default();
    let listen = listen.map(|listen| listen.parse().expect("an address"));
    config.network.listen_addresses = listen.into_iter().collect();
    config.protocol.kademlia_config.wanted_peers = 0;
    config.protocol.kademlia_config.mdns = false;
    config
}

/// A node for so many peers, which looks for none.
pub async fn node(
    listen: Option<&str>,
    max_peers: usize,
    application: impl Application,
) -> P2PNetworkManager {
    let mut config = config(listen);
    config.network.max_peers = max_peers;
    started(config, application).await
}

/// So many nodes with one peer each.
pub async fn nodes<A: Application + Clone>(
    count: usize,
    hub: &Multiaddr,
    application: A,
) -> Vec<P2PNetworkManager> {
    let join = |_| {
        let (hub, application) = (hub.clone(), application.clone());
        async move {
            let node = node(None, 8, application).await;
            node.dial(hub).await.expect("there is a place");
            node
        }
    };
    let joining = stream::iter(0..count).map(join);
    joining.buffer_unordered(JOINING).collect().await
}
