//! What the handle and its task share: the state that both see, and the commands that go from one to the other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use crate::{
    chain::{Application, Item, ItemId, TransactionKey, Verdict},
    error::{NetworkError, ProtocolError},
    network::{NetworkEvent, mpsc, requests::Reply},
    observe::Recorder,
    peers::PeerInfo,
    platform::lock::lock,
    propagation::{blocks::AcceptedBlock, plumtree::Accepted},
    transport::meter::Meter,
};

/// Events that wait for one subscriber; the oldest are dropped and counted.
const EVENTS: usize = 65_536;
/// Subscribers of events at once.
const MAX_SUBSCRIBERS: usize = 256;

/// What the handle and the task both see.
pub(crate) struct Shared {
    pub(crate) application: Arc<dyn Application>,
    pub(crate) meter: Meter,
    state: Mutex<State>,
}

/// Behind one lock, which is held for moments only and never across an await.
#[derive(Default)]
pub(crate) struct State {
    /// Peers that are connected and past the hello.
    pub(crate) peers: HashMap<PeerId, PeerInfo>,
    pub(crate) connections: usize,
    pub(crate) listeners: Vec<Multiaddr>,
    pub(crate) recorder: Recorder,
    subscribers: Vec<Subscriber>,
    ended: bool,
}

/// Which events a subscriber wants.
type Wants = Box<dyn Fn(&NetworkEvent) -> bool + Send>;

/// Who is told of the events it wants.
struct Subscriber {
    wants: Wants,
    sender: mpsc::Sender<NetworkEvent>,
}

impl Shared {
    pub(crate) fn new(application: impl Application) -> Self {
        Self {
            application: Arc::new(application),
            meter: Meter::default(),
            state: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Events from now on, at most `max_unread` bytes of them unread; none where there is no place left.
    pub(crate) fn subscribe(
        &self,
        wants: Wants,
        max_unread: usize,
    ) -> mpsc::Receiver<NetworkEvent> {
        let (sender, receiver) = mpsc::channel(EVENTS, max_unread);
        let mut state = self.state();
        state
            .subscribers
            .retain(|subscriber| !subscriber.sender.is_closed());
        if !state.ended && state.subscribers.len() < MAX_SUBSCRIBERS {
            state.subscribers.push(Subscriber { wants, sender });
        }
        receiver
    }

    /// Tells all subscribers.
    pub(crate) fn emit(&self, event: NetworkEvent) {
        self.emit_all(vec![event]);
    }

    /// Whether anybody listens: if not, events of many items need not be made.
    pub(crate) fn has_subscribers(&self) -> bool {
        !self.state().subscribers.is_empty()
    }

    /// Tells all subscribers of several events, in order.
    pub(crate) fn emit_all(&self, events: Vec<NetworkEvent>) {
        let mut state = self.state();
        // The last one gets the events themselves: most often it is the only one.
        let Some(last) = state.subscribers.pop() else {
            return;
        };
        state.subscribers.retain(|to| {
            let wanted = events.iter().filter(|event| (to.wants)(event));
            to.sender.send_all(wanted.cloned())
        });
        let wanted = events.into_iter().filter(|event| (last.wants)(event));
        if last.sender.send_all(wanted) {
            state.subscribers.push(last);
        }
    }

    /// The task is over: every subscription ends.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.peers.clear();
        state.listeners.clear();
        state.connections = 0;
        state.subscribers.clear();
    }
}

/// Transactions of our own that the chain has accepted, on their way to the task.
pub(crate) struct Submission {
    pub(crate) transactions: Vec<(Item, Accepted, ItemId)>,
    /// For each, in order.
    pub(crate) reply: oneshot::Sender<Result<Vec<bool>, NetworkError>>,
}

/// What the handle asks of the task.
pub(crate) enum Command {
    Dial {
        address: Multiaddr,
        reply: oneshot::Sender<Result<PeerId, NetworkError>>,
    },
    Disconnect {
        peer: PeerId,
        reason: String,
    },
    Submit {
        item: Item,
        fee: u64,
        /// Of a block: what propagation wants to know of it.
        block: Option<AcceptedBlock>,
        reply: oneshot::Sender<Result<(), NetworkError>>,
    },
    /// Takes transactions out of the pool.
    Remove {
        keys: Vec<TransactionKey>,
    },
    Publish {
        topic: String,
        data: bytes::Bytes,
        reply: oneshot::Sender<Result<(), NetworkError>>,
    },
    Deliver {
        item: Item,
        id: ItemId,
    },
    Send {
        peer: PeerId,
        frame: Vec<u8>,
        reply: Reply,
    },
    Handle {
        item: Item,
        peer: PeerId,
        reply: oneshot::Sender<Result<(), ProtocolError>>,
    },
    JoinTopic {
        topic: String,
        validate: bool,
        reply: oneshot::Sender<Result<(), NetworkError>>,
    },
    LeaveTopic {
        topic: String,
    },
    Report {
        message_id: Vec<u8>,
        source: PeerId,
        verdict: Verdict,
    },
    AddPeer(PeerInfo),
    KeepBootstrapped,
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}
