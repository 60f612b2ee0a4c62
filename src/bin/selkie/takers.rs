//! Who gets what a command gives to a network: reaching them, waiting until they have read it, and why they left. What their chains made of it, peers do not say.

use std::{
    collections::HashSet,
    time::{Duration, Instant, SystemTime},
};

use anyhow::bail;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use futures_timer::Delay;
use selkie::{Multiaddr, NetworkError, NetworkEvent, P2PNetworkManager, PeerId, mpsc};

use crate::output::counted;

/// How often is looked whether the peers have read the last items.
const LOOK: Duration = Duration::from_millis(100);
/// How long a peer may take over them.
const PATIENCE: Duration = Duration::from_secs(30);
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

/// How many peers have read the last items, and what became of the others.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    /// Of votes: were handed them.
    pub(crate) have: usize,
    left: usize,
    /// Plain libp2p peers that joined no topic.
    idle: usize,
    /// Took longer than [`PATIENCE`].
    pub(crate) late: usize,
}

impl Drained {
    /// Why the others have not, for a person.
    pub(crate) fn why_not(&self) -> String {
        let seconds = PATIENCE.as_secs();
        let late = format!("took longer than {seconds} seconds");
        let told = [
            (self.left, "left before"),
            (self.idle, "joined no topic and so took nothing"),
            (self.late, late.as_str()),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", counted(count as u64, "peer")));
        match told.collect::<Vec<_>>().join(", ") {
            nobody if nobody.is_empty() => "no peer was there any more".to_owned(),
            told => told,
        }
    }
}

/// Waits until all of these peers, who were there from the first item on, have read the last ones, which would be lost with the connections, or
/// have taken too long. Of one that has left nobody knows what it had read by then. `waiting` is told once for whom it waits.
pub(crate) async fn drain(
    node: &P2PNetworkManager,
    takers: &Takers,
    waiting: impl Fn(String),
) -> Result<Drained, NetworkError> {
    let began = Instant::now();
    let (mut awaited, mut drained, mut told) = (takers.clone(), Drained::default(), false);
    loop {
        let mut flushed = Takers::new();
        for taker in &awaited {
            if node.is_flushed_to(taker.0).await? {
                flushed.insert(*taker);
            }
        }
        // It is the same connection that was asked about.
        let here = connected(node);
        drained.have += flushed.intersection(&here).count();
        drained.left += awaited.difference(&here).count();
        awaited.retain(|taker| here.contains(taker) && !flushed.contains(taker));
        let is_late = began.elapsed() >= MOMENT;
        if is_late {
            let idle = idle(node, &awaited).await?;
            drained.idle += idle.len();
            awaited.retain(|taker| !idle.contains(taker));
        }
        if awaited.is_empty() || began.elapsed() >= PATIENCE {
            drained.late = awaited.len();
            return Ok(drained);
        }
        if is_late && !std::mem::replace(&mut told, true) {
            let peers: Vec<_> = awaited.iter().map(|(peer, _)| peer.to_string()).collect();
            let seconds = PATIENCE.as_secs();
            waiting(format!(
                "waiting for {} to say that it was read, {seconds} s at most; Ctrl-C waits no longer",
                peers.join(", ")
            ));
        }
        Delay::new(LOOK).await;
    }
}

/// Those of them that are there and take nothing.
async fn idle(node: &P2PNetworkManager, takers: &Takers) -> Result<Takers, NetworkError> {
    let mut idle = Takers::new();
    for taker in takers {
        if !node.takes_part(taker.0).await? {
            idle.insert(*taker);
        }
    }
    // Nor does who has left meanwhile.
    let here = connected(node);
    idle.retain(|taker| here.contains(taker));
    Ok(idle)
}

/// What peers have said that let this node go or did not let it in, and how connections ended.
pub(crate) struct Partings {
    events: mpsc::Receiver<NetworkEvent>,
    last: Option<Parting>,
}

struct Parting {
    peer: PeerId,
    reason: String,
    /// In the peer's own words.
    is_told: bool,
}

impl Partings {
    /// Those from now on.
    pub(crate) fn of(node: &P2PNetworkManager) -> Self {
        let parts = |event: &NetworkEvent| {
            matches!(
                event,
                NetworkEvent::PeerRefused { .. } | NetworkEvent::PeerDisconnected { .. }
            )
        };
        Self {
            events: node.subscribe(parts),
            last: None,
        }
    }

    /// Why the last peer left, to be put behind a sentence; nothing where none did.
    pub(crate) fn why(&mut self) -> String {
        while let Some(Some(event)) = self.events.next().now_or_never() {
            let (peer, reason, is_told) = match event {
                NetworkEvent::PeerRefused {
                    peer_id, reason, ..
                } => (peer_id, reason, true),
                NetworkEvent::PeerDisconnected { peer_id, reason } => (peer_id, reason, false),
                _ => continue,
            };
            // The connection's end says less than who ended it.
            let has_told = |last: &Parting| last.is_told && last.peer == peer;
            if is_told || !self.last.as_ref().is_some_and(has_told) {
                self.last = Some(Parting {
                    peer,
                    reason,
                    is_told,
                });
            }
        }
        let last = self.last.as_ref();
        last.map_or_else(String::new, |Parting { peer, reason, .. }| {
            format!("; {peer} is gone: {reason}")
        })
    }
}
