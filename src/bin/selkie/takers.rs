//! Who gets what a command gives to a network: reaching them, waiting until they have it, and why they left.
//!
//! Selkie's peers say that they have read transactions, and that they have a block or want nothing more of it. Of votes, and of plain libp2p peers, no more
//! is known than that the connection has taken the bytes: they were handed over. What their chains made of it, peers do not say. A plain peer gets nothing of what
//! went before it had joined the topic; so who takes part is asked before the first item of each kind goes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant, SystemTime},
};

use anyhow::bail;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use futures_timer::Delay;
use selkie::{ItemKind, Multiaddr, NetworkError, NetworkEvent, P2PNetworkManager, PeerId, mpsc};

use crate::output::counted;

/// How often is looked whether the peers have the last items.
const LOOK: Duration = Duration::from_millis(100);
/// How long a peer may take over them.
const PATIENCE: Duration = Duration::from_secs(30);
/// So long the first item waits for plain libp2p peers to join its topic; and after so long it is said who is waited for, and nobody is who takes part no more.
const MOMENT: Duration = Duration::from_secs(1);
/// Of so many peers that are gone it is known why.
const PARTINGS: usize = 16;

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

/// A peer, and since when it is connected: another connection may have brought it other things.
type Taker = (PeerId, Option<SystemTime>);

/// Those that are there now, and whether each is one of Selkie's.
fn connected(node: &P2PNetworkManager) -> HashMap<Taker, bool> {
    let peers = node.get_connected_peers().into_iter();
    peers
        .map(|peer| ((peer.peer_id, peer.connected_at), peer.selkie))
        .collect()
}

/// Who was there before the first item went, what goes to each of them, and why peers went.
pub(crate) struct Takers {
    peers: HashMap<Taker, Part>,
    /// The kinds of items that have gone.
    kinds: Vec<ItemKind>,
    partings: Partings,
}

/// What part a peer takes.
#[derive(Clone)]
struct Part {
    is_selkie: bool,
    /// Items of each kind went to it from the first on.
    takes_all: bool,
}

/// Who was there before an item went that may be the first of its kind, and what part each took in that.
pub(crate) struct Before(HashMap<Taker, Part>);

/// How many peers have the last items, and what became of the others.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    /// They say that they have read them.
    pub(crate) read: usize,
    /// They were handed them, and acknowledge nothing.
    pub(crate) handed: usize,
    left: usize,
    /// Plain libp2p peers that had not joined a topic of these items before the first of its kind went.
    missed: usize,
    /// Took longer than [`PATIENCE`].
    pub(crate) late: usize,
}

impl Drained {
    /// Whether not even one has them, as far as is known.
    pub(crate) fn is_nobodys(&self) -> bool {
        self.read == 0 && self.handed == 0
    }

    /// Why the others have not, for a person.
    pub(crate) fn why_not(&self) -> String {
        let seconds = PATIENCE.as_secs();
        let late = format!("took longer than {seconds} seconds");
        let told = [
            (self.left, "left before"),
            (
                self.missed,
                "had not joined the topics of all of it before it went",
            ),
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

impl Takers {
    /// Nobody yet. Why peers go is heard from now on; so before the node reaches for them.
    pub(crate) fn of(node: &P2PNetworkManager) -> Self {
        Self {
            peers: HashMap::new(),
            kinds: Vec::new(),
            partings: Partings::of(node),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.peers.len()
    }

    /// To be asked before an item goes: who joins its topic later gets nothing of it. `None` where others of its kind have gone before.
    pub(crate) async fn before(
        &self,
        node: &P2PNetworkManager,
        kind: ItemKind,
    ) -> Result<Option<Before>, NetworkError> {
        if self.kinds.contains(&kind) {
            return Ok(None);
        }
        let mut before = HashMap::new();
        for (taker, is_selkie) in connected(node) {
            let takes_all = is_selkie || node.takes_part(taker.0, kind).await?;
            before.insert(
                taker,
                Part {
                    is_selkie,
                    takes_all,
                },
            );
        }
        Ok(Some(Before(before)))
    }

    /// An item has gone.
    pub(crate) fn sent(&mut self, kind: ItemKind, before: Option<Before>) {
        let Some(Before(before)) = before else {
            return;
        };
        if self.kinds.is_empty() {
            self.peers.clone_from(&before);
        }
        self.kinds.push(kind);
        for (taker, part) in &mut self.peers {
            part.takes_all &= before.get(taker).is_some_and(|part| part.takes_all);
        }
    }

    /// Waits until all of these peers have the last items, which would be lost with the connections, or have taken too long. Of one that has left nobody knows
    /// what it had by then. `waiting` is told once for whom it waits.
    pub(crate) async fn drain(
        &self,
        node: &P2PNetworkManager,
        waiting: impl Fn(String),
    ) -> Result<Drained, NetworkError> {
        let began = Instant::now();
        let is_acknowledged = !self.kinds.contains(&ItemKind::Vote);
        let (mut awaited, mut drained, mut told) = (self.peers.clone(), Drained::default(), false);
        loop {
            let (mut flushed, mut absent) = (HashSet::new(), HashSet::new());
            for taker in awaited.keys() {
                if !takes_all(node, taker.0, &self.kinds).await? {
                    absent.insert(*taker);
                } else if node.is_flushed_to(taker.0).await? {
                    flushed.insert(*taker);
                }
            }
            // It is the same connection that was asked about.
            let here = connected(node);
            let is_late = began.elapsed() >= MOMENT;
            awaited.retain(|taker, part| {
                let counter = match here.contains_key(taker) {
                    false => &mut drained.left,
                    true if !part.takes_all => &mut drained.missed,
                    // It is being let go, or has left a topic.
                    true if absent.contains(taker) && is_late => &mut drained.left,
                    true if !flushed.contains(taker) => return true,
                    true if part.is_selkie && is_acknowledged => &mut drained.read,
                    true => &mut drained.handed,
                };
                *counter += 1;
                false
            });
            if awaited.is_empty() || began.elapsed() >= PATIENCE {
                drained.late = awaited.len();
                return Ok(drained);
            }
            if is_late && !std::mem::replace(&mut told, true) {
                let peers: Vec<_> = awaited.keys().map(|(peer, _)| peer.to_string()).collect();
                let seconds = PATIENCE.as_secs();
                waiting(format!(
                    "waiting for {} to have it all, {seconds} s at most; Ctrl-C waits no longer",
                    peers.join(", ")
                ));
            }
            Delay::new(LOOK).await;
        }
    }

    /// Why the peer that left last did, to be put behind a sentence; nothing where none did.
    pub(crate) fn why_gone(&mut self) -> String {
        self.partings.why(|_| true)
    }

    /// The same of those only that were there before the first item went.
    pub(crate) fn why_these_are_gone(&mut self) -> String {
        let peers = &self.peers;
        self.partings
            .why(|peer| peers.keys().any(|(taker, _)| taker == peer))
    }
}

/// Plain libp2p peers say which topics they have joined only once they are connected, and get nothing of what was sent before: waits until items of these
/// kinds go to everybody who is there, but no longer than a moment.
pub(crate) async fn joined(
    node: &P2PNetworkManager,
    kinds: &[ItemKind],
) -> Result<(), NetworkError> {
    let began = Instant::now();
    while began.elapsed() < MOMENT {
        let mut all = true;
        for (peer, _) in connected(node).keys() {
            all &= takes_all(node, *peer, kinds).await?;
        }
        if all {
            break;
        }
        Delay::new(LOOK).await;
    }
    Ok(())
}

/// Whether items of each of these kinds go to a peer.
async fn takes_all(
    node: &P2PNetworkManager,
    peer: PeerId,
    kinds: &[ItemKind],
) -> Result<bool, NetworkError> {
    for kind in kinds {
        if !node.takes_part(peer, *kind).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Why peers are gone: what those have said that let this node go or did not let it in, and how connections ended. Of the latest [`PARTINGS`] peers, and of none
/// that has come back.
struct Partings {
    events: mpsc::Receiver<NetworkEvent>,
    known: Known,
}

/// The latest last, each peer once.
#[derive(Default)]
struct Known(VecDeque<Parting>);

struct Parting {
    peer: PeerId,
    reason: String,
    /// In the peer's own words.
    is_told: bool,
}

impl Partings {
    /// Those from now on.
    fn of(node: &P2PNetworkManager) -> Self {
        let parts = |event: &NetworkEvent| {
            matches!(
                event,
                NetworkEvent::PeerConnected(_)
                    | NetworkEvent::PeerRefused { .. }
                    | NetworkEvent::PeerDisconnected { .. }
            )
        };
        Self {
            events: node.subscribe(parts),
            known: Known::default(),
        }
    }

    fn why(&mut self, is_meant: impl Fn(&PeerId) -> bool) -> String {
        while let Some(Some(event)) = self.events.next().now_or_never() {
            self.known.hear(event);
        }
        self.known.why(is_meant)
    }
}

impl Known {
    fn hear(&mut self, event: NetworkEvent) {
        let (peer, reason, is_told) = match event {
            NetworkEvent::PeerConnected(peer) => {
                return self.0.retain(|known| known.peer != peer.peer_id);
            }
            NetworkEvent::PeerRefused {
                peer_id, reason, ..
            } => (peer_id, reason, true),
            NetworkEvent::PeerDisconnected { peer_id, reason } => (peer_id, reason, false),
            _ => return,
        };
        let before = self.0.iter().position(|known| known.peer == peer);
        let before = before.and_then(|place| self.0.remove(place));
        let parting = match before {
            // The connection's end says less than who ended it.
            Some(before) if before.is_told && !is_told => before,
            _ => Parting {
                peer,
                reason,
                is_told,
            },
        };
        self.0.push_back(parting);
        if self.0.len() > PARTINGS {
            self.0.pop_front();
        }
    }

    fn why(&self, is_meant: impl Fn(&PeerId) -> bool) -> String {
        let last = self.0.iter().rev().find(|known| is_meant(&known.peer));
        last.map_or_else(String::new, |Parting { peer, reason, .. }| {
            format!("; {peer} is gone: {reason}")
        })
    }
}

#[cfg(test)]
mod tests {
    use selkie::PeerInfo;

    use super::*;

    fn refuses(peer_id: PeerId, reason: &str) -> NetworkEvent {
        NetworkEvent::PeerRefused {
            peer_id,
            address: None,
            reason: reason.to_owned(),
        }
    }

    fn leaves(peer_id: PeerId, reason: &str) -> NetworkEvent {
        let reason = reason.to_owned();
        NetworkEvent::PeerDisconnected { peer_id, reason }
    }

    #[test]
    fn why_a_peer_is_gone_is_its_last_word_and_no_others() {
        let (one, other) = (PeerId::random(), PeerId::random());
        let mut known = Known::default();
        let any = |known: &Known| known.why(|_| true);
        assert_eq!(any(&known), "");
        known.hear(refuses(one, "it is full"));
        known.hear(leaves(one, "the connection ended"));
        assert_eq!(any(&known), format!("; {one} is gone: it is full"));
        known.hear(leaves(other, "it was silent"));
        assert_eq!(any(&known), format!("; {other} is gone: it was silent"));
        let of_one = known.why(|peer| *peer == one);
        assert_eq!(of_one, format!("; {one} is gone: it is full"));
        // Who comes back is not gone, and goes for another reason.
        known.hear(NetworkEvent::PeerConnected(PeerInfo::new(one)));
        assert_eq!(known.why(|peer| *peer == one), "");
        known.hear(leaves(one, "it reset the connection"));
        assert_eq!(
            any(&known),
            format!("; {one} is gone: it reset the connection")
        );
        for _ in 0..2 * PARTINGS {
            known.hear(leaves(PeerId::random(), "it ended"));
        }
        assert_eq!(known.0.len(), PARTINGS);
    }
}
