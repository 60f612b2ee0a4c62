//! A running node, and its events since the start.

use std::{fmt::Write, ops::Deref, time::Duration};

use libp2p::{Multiaddr, PeerId, identity::Keypair};

use super::{PATIENCE, soon, within};
use crate::{
    chain::{Application, Item, ItemId, ItemKind, Opaque},
    config::Config,
    network::{NetworkEvent, P2PNetworkManager, mpsc},
    platform::Delay,
};

/// How often is looked where nothing tells.
const LOOK: Duration = Duration::from_millis(1);

/// A running node, which is its [`manager`](Self::manager) wherever that is wanted, and its events since the start. It ends when it is dropped.
#[derive(Debug)]
pub struct Node {
    /// The handle.
    pub manager: P2PNetworkManager,
    /// Its events from now on. Those that a wait has passed are kept for the next ones, and are not among these.
    pub events: mpsc::Receiver<NetworkEvent>,
    /// Events that came before the one that was waited for; the next waits look here first.
    passed: Vec<NetworkEvent>,
}

impl Deref for Node {
    type Target = P2PNetworkManager;

    fn deref(&self) -> &P2PNetworkManager {
        &self.manager
    }
}

impl Node {
    /// A node for the default application.
    ///
    /// # Panics
    /// As [`Self::with`].
    pub async fn start(config: Config) -> Self {
        Self::with(config, Opaque).await
    }

    /// A node with a new identity for an application.
    ///
    /// # Panics
    /// The configuration is wrong, or it can't listen.
    pub async fn with(config: Config, application: impl Application) -> Self {
        let key = Keypair::generate_ed25519();
        let manager = P2PNetworkManager::with(config, key, application).await;
        Self::started(manager.expect("the configuration is right")).await
    }

    /// Starts a node.
    ///
    /// # Panics
    /// It can't listen, or was started before.
    pub async fn started(manager: P2PNetworkManager) -> Self {
        let events = manager.subscribe_events();
        soon("the start", manager.start())
            .await
            .expect("it listens");
        Self {
            manager,
            events,
            passed: Vec::new(),
        }
    }

    /// Who it is.
    pub fn id(&self) -> PeerId {
        self.manager.local_peer_id
    }

    /// Where it listens, with its identity at the end.
    ///
    /// # Panics
    /// It listens nowhere.
    pub fn address(&self) -> Multiaddr {
        self.manager
            .listeners()
            .into_iter()
            .next()
            .expect("it listens")
    }

    /// The first event since the start, and not seen here before, that `wanted` makes something of.
    ///
    /// # Panics
    /// There is none within [`PATIENCE`], or the node ends before: `what` was awaited, and what was heard instead is said.
    pub async fn event<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(NetworkEvent) -> Option<T>,
    ) -> T {
        for index in 0..self.passed.len() {
            if let Some(value) = wanted(self.passed[index].clone()) {
                self.passed.remove(index);
                return value;
            }
        }
        let next = async {
            while let Some(event) = self.events.recv().await {
                if let Some(value) = wanted(event.clone()) {
                    return value;
                }
                self.passed.push(event);
            }
            panic!("the node ended before {what}");
        };
        let Some(value) = within(PATIENCE, next).await else {
            panic!("waited in vain for {what}; heard so far:{}", self.heard())
        };
        value
    }

    /// What it has said that nobody has waited for, and how much of it was lost.
    fn heard(&mut self) -> String {
        let lost = match self.events.missed() {
            0 => String::new(),
            missed => format!("\n  ({missed} events were lost, since too many were unread)"),
        };
        self.passed.iter().fold(lost, |mut text, event| {
            // Writing to a string doesn't fail.
            let _ = write!(text, "\n  {event}");
            text
        })
    }

    /// What it has said by now that nobody has waited for, in order.
    pub fn rest(&mut self) -> Vec<NetworkEvent> {
        let more = std::iter::from_fn(|| self.events.try_recv());
        self.passed.drain(..).chain(more).collect()
    }

    /// The next accepted item: what, its identity, and who brought it; `None`: it is its own.
    ///
    /// # Panics
    /// As [`Self::event`]; and where some were lost, since too many events were unread.
    pub async fn item(&mut self) -> (Item, ItemId, Option<PeerId>) {
        let mut lost = self.events.missed_kinds();
        let lost = lost.find(|(name, _)| ItemKind::ALL.iter().any(|kind| kind.name() == *name));
        assert_eq!(lost, None, "events of items were lost");
        self.event("an item", |event| match event {
            NetworkEvent::ItemAccepted {
                item, id, source, ..
            } => Some((item, id, source)),
            _ => None,
        })
        .await
    }

    /// Has a connection, whoever has the other end: that one may know it before.
    ///
    /// # Panics
    /// It has none within [`PATIENCE`].
    pub async fn has_connection(&self) {
        let has = async {
            while self.connections().is_empty() {
                Delay::new(LOOK).await;
            }
        };
        soon("a connection", has).await;
    }

    /// A peer is connected, and past the hello.
    ///
    /// # Panics
    /// As [`Self::event`].
    pub async fn connected(&mut self, peer: PeerId) {
        self.event("a connection", |event| match event {
            NetworkEvent::PeerConnected(info) if info.peer_id == peer => Some(()),
            _ => None,
        })
        .await;
    }

    /// Why a peer is gone.
    ///
    /// # Panics
    /// As [`Self::event`].
    pub async fn disconnected(&mut self, peer: PeerId) -> String {
        self.event("a disconnect", |event| match event {
            NetworkEvent::PeerDisconnected { peer_id, reason } if peer_id == peer => Some(reason),
            _ => None,
        })
        .await
    }

    /// Why a peer was refused.
    ///
    /// # Panics
    /// As [`Self::event`].
    pub async fn refused(&mut self, peer: PeerId) -> String {
        self.event("a refusal", |event| match event {
            NetworkEvent::PeerRefused {
                peer_id, reason, ..
            } if peer_id == peer => Some(reason),
            _ => None,
        })
        .await
    }

    /// Its chain has the block of this height, beyond which no peer says to have more.
    ///
    /// # Panics
    /// As [`Self::event`].
    pub async fn synced_to(&mut self, height: u64) {
        self.event("the last block", |event| match event {
            NetworkEvent::SyncProgress { done, total, .. } => {
                (done == height && total == height).then_some(())
            }
            _ => None,
        })
        .await;
    }

    /// The height of the state that its chain took in place of the blocks before.
    ///
    /// # Panics
    /// As [`Self::event`]; or it took none.
    pub async fn took_state(&mut self) -> u64 {
        self.event("a state", |event| match event {
            NetworkEvent::SnapshotTaken { height } => Some(height),
            NetworkEvent::NoSnapshot { reason } => panic!("{reason}"),
            _ => None,
        })
        .await
    }

    /// Why its chain took no state, and goes on with blocks.
    ///
    /// # Panics
    /// As [`Self::event`]; or it took one.
    pub async fn took_no_state(&mut self) -> String {
        self.event("the word that it is blocks", |event| match event {
            NetworkEvent::NoSnapshot { reason } => Some(reason),
            NetworkEvent::SnapshotTaken { height } => panic!("height {height}"),
            _ => None,
        })
        .await
    }

    /// What a peer did wrong, and its score now.
    ///
    /// # Panics
    /// As [`Self::event`].
    pub async fn scored(&mut self, peer: PeerId) -> (&'static str, f64) {
        self.event("a score", |event| match event {
            NetworkEvent::PeerScored {
                peer_id,
                reason,
                score,
            } if peer_id == peer => Some((reason, score)),
            _ => None,
        })
        .await
    }
}
