//! Who takes what a command gives to a network: reaching them, and waiting until they have it.

use std::{
    collections::HashSet,
    time::{Duration, Instant, SystemTime},
};

use anyhow::bail;
use futures::{StreamExt, stream::FuturesUnordered};
use futures_timer::Delay;
use selkie::{Multiaddr, NetworkError, P2PNetworkManager, PeerId};

/// How often is looked whether the peers have the last items.
const LOOK: Duration = Duration::from_millis(100);
/// How long a peer may take over them.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// After that it is said who is waited for; and a plain libp2p peer that has joined no topic by then is waited for no more: it takes nothing.
const MOMENT: Duration = Duration::from_secs(1);

/// Connects to the peers; one will do. Returns at which addresses none was reached, and why.
///
/// # Errors
/// None was reached at all; why at each.
pub(crate) async fn reach(
    node: &P2PNetworkManager,
    to: Vec<Multiaddr>,
) -> anyhow::Result<Vec<(Multiaddr, NetworkError)>> {
    let dial = |address: Multiaddr| async move { (node.dial(address.clone()).await, address) };
    let mut dials: FuturesUnordered<_> = to.into_iter().map(dial).collect();
    let (mut reached, mut unreached) = (false, Vec::new());
    while let Some((dialled, address)) = dials.next().await {
        match dialled {
            Ok(_) => reached = true,
            Err(error) => unreached.push((address, error)),
        }
    }
    let mut problems: Vec<_> = unreached
        .iter()
        .map(|(_, error)| error.to_string())
        .collect();
    if !node.config.network.bootstrap_peers.is_empty() {
        match node.connect_bootstrap_peers().await {
            Ok(()) => reached = true,
            Err(error) => problems.push(error.to_string()),
        }
    }
    if !reached && !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }
    Ok(unreached)
}

/// Peers, and since when each is connected.
pub(crate) type Takers = HashSet<(PeerId, Option<SystemTime>)>;

/// Those that are there now.
pub(crate) fn connected(node: &P2PNetworkManager) -> Takers {
    let peers = node.get_connected_peers().into_iter();
    peers
        .map(|peer| (peer.peer_id, peer.connected_at))
        .collect()
}

/// Waits until all of these peers, who were there from the first item on, have the last ones, which would be lost with the connections, or
/// have taken too long; returns how many have. Of one that has left nobody knows what it had taken by then. `waiting` is told once for whom it waits.
pub(crate) async fn drain(
    node: &P2PNetworkManager,
    takers: &Takers,
    waiting: impl Fn(String),
) -> Result<usize, NetworkError> {
    let began = Instant::now();
    let (mut awaited, mut have, mut told) = (takers.clone(), 0, false);
    loop {
        let mut flushed = Takers::new();
        for taker in &awaited {
            if node.is_flushed_to(taker.0).await? {
                flushed.insert(*taker);
            }
        }
        // It is the same connection that was asked about.
        let here = connected(node);
        have += flushed.intersection(&here).count();
        awaited.retain(|taker| here.contains(taker) && !flushed.contains(taker));
        let is_late = began.elapsed() >= MOMENT;
        if is_late {
            awaited = taking_part(node, awaited).await?;
        }
        if awaited.is_empty() || began.elapsed() >= PATIENCE {
            return Ok(have);
        }
        if is_late && !std::mem::replace(&mut told, true) {
            let peers: Vec<_> = awaited.iter().map(|(peer, _)| peer.to_string()).collect();
            let seconds = PATIENCE.as_secs();
            waiting(format!(
                "waiting for {} to say that it was taken, {seconds} s at most; Ctrl-C waits no longer",
                peers.join(", ")
            ));
        }
        Delay::new(LOOK).await;
    }
}

/// Those of them that items go to.
async fn taking_part(node: &P2PNetworkManager, takers: Takers) -> Result<Takers, NetworkError> {
    let mut taking = Takers::new();
    for taker in takers {
        if node.takes_part(taker.0).await? {
            taking.insert(taker);
        }
    }
    Ok(taking)
}
