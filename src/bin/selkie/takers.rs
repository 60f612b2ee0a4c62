//! Who takes what a command gives to a network: reaching them, and waiting until they have it.

use std::{
    collections::HashSet,
    time::{Duration, Instant, SystemTime},
};

use futures::{StreamExt, stream::FuturesUnordered};
use futures_timer::Delay;
use selkie::{Multiaddr, NetworkError, P2PNetworkManager, PeerId};

/// How often is looked whether the peers have the last items.
const LOOK: Duration = Duration::from_millis(100);
/// How long a peer may take over them.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Connects to the peers; one will do.
pub(crate) async fn reach(
    node: &P2PNetworkManager,
    to: Vec<Multiaddr>,
) -> Result<(), NetworkError> {
    let mut dials: FuturesUnordered<_> = to.into_iter().map(|address| node.dial(address)).collect();
    let mut outcome = Ok(());
    let mut reached = false;
    while let Some(dialled) = dials.next().await {
        match dialled {
            Ok(_) => reached = true,
            Err(error) => outcome = Err(error),
        }
    }
    if !node.config.network.bootstrap_peers.is_empty() {
        match node.connect_bootstrap_peers().await {
            Ok(()) => reached = true,
            Err(error) => outcome = Err(error),
        }
    }
    if reached { Ok(()) } else { outcome }
}

/// Peers, and since when each is connected.
pub(crate) type Takers = HashSet<(PeerId, Option<SystemTime>)>;

pub(crate) fn takers(node: &P2PNetworkManager) -> Takers {
    let peers = node.get_connected_peers().into_iter();
    peers
        .map(|peer| (peer.peer_id, peer.connected_at))
        .collect()
}

/// Waits until the peers have the last items, which would be lost with the connections; false where they take too long, or
/// none of those that were `fed` from the first item on is left: nobody knows what one that has left had taken by then, and one that came
/// later has not got all of it.
pub(crate) async fn drain(
    node: &P2PNetworkManager,
    fed: Option<&Takers>,
) -> Result<bool, NetworkError> {
    let Some(fed) = fed else {
        return Ok(true);
    };
    let began = Instant::now();
    while !fed.is_disjoint(&takers(node)) && began.elapsed() < PATIENCE {
        // One that leaves meanwhile is waited for no more.
        if node.is_flushed().await? && !fed.is_disjoint(&takers(node)) {
            return Ok(true);
        }
        Delay::new(LOOK).await;
    }
    Ok(false)
}
