//! The handle to a running node.
//!
//! [`P2PNetworkManager`] is cheap to clone; every method takes `&self`. The swarm lives in one task (`task.rs`) that is
//! reached by a bounded channel, so a caller that outruns the network waits. When the last handle is dropped, or on
//! [`P2PNetworkManager::shutdown`], the task ends in order.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId, gossipsub::MessageAcceptance, identity::Keypair, multiaddr::Protocol,
};
use tokio::sync::{mpsc as tokio_mpsc, oneshot};
use web_time::SystemTime;

use super::{
    Block, Config, ConfigError, DiscoveryError, NetworkError, NetworkEvent, NetworkMessage,
    PeerInfo, ProtocolError, StateRequest, StateResponse, Transaction, mpsc, requests::Reply,
    task::Task,
};
use crate::{
    chain::{Application, Checked, Item, ItemId, Opaque, Verdict},
    observe::{ConnectionMetrics, MessageMetrics, PeerMetrics, Recorder},
    platform,
    transport::meter::Meter,
};

/// Commands that wait for the task; a caller waits where there is no room.
const COMMANDS: usize = 256;
/// Events that wait for one subscriber; the oldest are dropped and counted.
const EVENTS: usize = 4096;
/// Subscribers of events at once.
pub(crate) const MAX_SUBSCRIBERS: usize = 256;

/// A node: connects to peers, gossips items, answers questions.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use selkie::{NetworkConfig, NetworkEvent, NetworkMessage, P2PNetworkManager, Transaction};
/// let node = P2PNetworkManager::new(NetworkConfig {
///     listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
///     ..Default::default()
/// }).await?;
/// let mut events = node.subscribe_events();
/// node.start().await?;
/// node.dial("/ip4/203.0.113.1/tcp/30303".parse()?).await?;
/// node.broadcast_message(NetworkMessage::Transaction(Transaction::new("pay Ann 5"))).await?;
/// while let Some(event) = events.recv().await {
///     println!("{event}");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct P2PNetworkManager {
    /// This node's identity.
    pub local_peer_id: PeerId,
    /// The configuration that it runs with.
    pub config: Arc<Config>,
    shared: Arc<Shared>,
    /// The task before `start`.
    idle: Arc<Mutex<Option<Box<Task>>>>,
    commands: tokio_mpsc::Sender<Command>,
}

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
    pub(crate) subscribers: Vec<Subscriber>,
    ended: bool,
}

/// Who is told of the events it wants.
pub(crate) struct Subscriber {
    wants: Box<dyn Fn(&NetworkEvent) -> bool + Send>,
    sender: mpsc::Sender<NetworkEvent>,
}

impl Shared {
    /// No code panics while it holds the lock, so a poisoned one is sound.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all subscribers.
    pub(crate) fn emit(&self, event: &NetworkEvent) {
        let tell = |to: &Subscriber| {
            if (to.wants)(event) {
                to.sender.send(event.clone())
            } else {
                !to.sender.is_closed()
            }
        };
        self.state().subscribers.retain(tell);
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
        acceptance: MessageAcceptance,
    },
    AddPeer(PeerInfo),
    KeepBootstrapped,
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

impl P2PNetworkManager {
    /// A node with a new identity for the default application, [`Opaque`]. Nothing is sent before [`Self::start`].
    ///
    /// # Errors
    /// [`NetworkError::Config`] names the field that is wrong; [`NetworkError::Transport`] where one can't be set up.
    pub async fn new(config: impl Into<Config>) -> Result<Self, NetworkError> {
        Self::with(config, Keypair::generate_ed25519(), Opaque).await
    }

    /// A node with an identity and a chain's application.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub async fn with(
        config: impl Into<Config>,
        keypair: Keypair,
        application: impl Application,
    ) -> Result<Self, NetworkError> {
        let config = Arc::new(config.into());
        config.check()?;
        let shared = Arc::new(Shared {
            application: Arc::new(application),
            meter: Meter::default(),
            state: Mutex::default(),
        });
        let (commands, inbox) = tokio_mpsc::channel(COMMANDS);
        let task = Task::new(Arc::clone(&config), &keypair, Arc::clone(&shared), inbox)?;
        let idle = Arc::new(Mutex::new(Some(Box::new(task))));
        Ok(Self {
            local_peer_id: keypair.public().to_peer_id(),
            config,
            shared,
            idle,
            commands,
        })
    }

    /// Listens on the configured addresses and begins to serve. Returns once every listener is up.
    ///
    /// # Errors
    /// [`NetworkError::Listen`] names the address that can't be listened on; [`NetworkError::AlreadyStarted`].
    pub async fn start(&self) -> Result<(), NetworkError> {
        let mut task = self.idle().take().ok_or(NetworkError::AlreadyStarted)?;
        let listening = task.listen().inspect_err(|_| self.shared.end())?;
        platform::spawn(task.run());
        listening.await.map_err(|_| NetworkError::NotRunning)
    }

    /// Ends the node in order: closes every connection, then all subscriptions. Returns when it has ended.
    pub async fn shutdown(&self) {
        if self.idle().take().is_some() {
            return self.shared.end();
        }
        let (reply, ended) = oneshot::channel();
        if self
            .commands
            .send(Command::Shutdown { reply })
            .await
            .is_ok()
        {
            let _ = ended.await;
        }
    }

    /// Sends a message to one connected peer; returns when the peer has taken it (which is not a verdict).
    ///
    /// # Errors
    /// [`ProtocolError`] as [`NetworkError::Protocol`]: refused, timed out, too large, not spoken there.
    pub async fn send_message(
        &self,
        peer_id: PeerId,
        message: NetworkMessage,
    ) -> Result<(), NetworkError> {
        self.request(peer_id, &message)
            .await
            .map(drop)
            .map_err(NetworkError::from)
    }

    /// Sends a message to all: items are checked by the application and gossiped, a peer exchange goes to each peer
    /// directly. Returns when the message is in the send queues; waits where the network is busy.
    ///
    /// # Errors
    /// [`NetworkError::NoPeers`] where nobody takes part, [`NetworkError::Busy`] where all queues are full (the item
    /// is then only offered to peers by the next heartbeats), [`NetworkError::Protocol`] where the chain does not accept the item.
    pub async fn broadcast_message(&self, message: NetworkMessage) -> Result<(), NetworkError> {
        match message.into_item() {
            Ok(item) => self.submit(item).await.map(drop),
            Err(NetworkMessage::PeerExchange(peers)) => self.exchange_peers(peers).await,
            Err(_) => Err(ProtocolError::NotBroadcastable.into()),
        }
    }

    /// Checks an item of our own and gossips it; returns its identity. It is also delivered here, with no source.
    ///
    /// # Errors
    /// As [`Self::broadcast_message`].
    pub async fn submit(&self, item: Item) -> Result<ItemId, NetworkError> {
        let limit = self.config.protocol.gossipsub_config.max_transmit_size;
        let (kind, data) = (item.kind(), item.data().clone());
        if data.len() > limit {
            return Err(ProtocolError::TooLarge {
                size: data.len(),
                limit,
            }
            .into());
        }
        let application = Arc::clone(&self.shared.application);
        let checked = platform::offload(move || (item.check(&*application), item)).await;
        let (
            Checked {
                id,
                verdict,
                reason,
                ..
            },
            item,
        ) = checked.ok_or(NetworkError::NotRunning)?;
        match verdict {
            Verdict::Accept => {}
            Verdict::Ignore => return Err(ProtocolError::Ignored { kind, reason }.into()),
            Verdict::Reject => return Err(ProtocolError::Rejected { kind, reason }.into()),
        }
        let topic = super::protocol::topic(&self.config.chain.network_id, kind);
        self.publish_topic(topic, data).await?;
        self.command(Command::Deliver {
            item,
            id: id.clone(),
        })
        .await?;
        Ok(id)
    }

    /// What happens from now on. A reader that falls behind loses the oldest events, counted by
    /// [`mpsc::Receiver::missed`]. At most 256 subscribers at once; a further one's stream ends at once.
    pub fn subscribe_events(&self) -> mpsc::Receiver<NetworkEvent> {
        self.subscribe(|_| true)
    }

    /// As [`Self::subscribe_events`], for the events that `wants` says yes to; others neither take room nor count as
    /// missed. `wants` runs in the network task: make it quick, and don't call the node from it.
    pub fn subscribe(
        &self,
        wants: impl Fn(&NetworkEvent) -> bool + Send + 'static,
    ) -> mpsc::Receiver<NetworkEvent> {
        let (sender, receiver) =
            mpsc::channel(EVENTS, self.config.protocol.validation.max_unread_bytes);
        let mut state = self.shared.state();
        state
            .subscribers
            .retain(|subscriber| !subscriber.sender.is_closed());
        if !state.ended && state.subscribers.len() < MAX_SUBSCRIBERS {
            state.subscribers.push(Subscriber {
                wants: Box::new(wants),
                sender,
            });
        }
        receiver
    }

    /// The peers found on the local network so far (by mDNS), each once.
    ///
    /// # Errors
    /// [`DiscoveryError::Unavailable`] in a browser, and where only loopback is listened on or mDNS is configured off.
    pub async fn discover_local_peers(&self) -> Result<Vec<PeerInfo>, DiscoveryError> {
        if !self.config.uses_mdns() {
            return Err(DiscoveryError::Unavailable(
                "listen on an address that is not loopback and set protocol.kademlia_config.mdns; browsers have none",
            ));
        }
        // Answers to a fresh node's first query arrive within moments; RFC 6762 spreads them over 120 ms.
        let mut events = self.subscribe_events();
        let mut found: HashMap<PeerId, PeerInfo> = HashMap::new();
        let mut patience = futures_timer::Delay::new(std::time::Duration::from_secs(2));
        while let futures::future::Either::Left((Some(event), _)) =
            futures::future::select(Box::pin(events.recv()), &mut patience).await
        {
            if let NetworkEvent::PeersDiscovered(peers) = event {
                found.extend(peers.into_iter().map(|peer| (peer.peer_id, peer)));
            }
        }
        found.extend(
            self.get_connected_peers()
                .into_iter()
                .map(|peer| (peer.peer_id, peer)),
        );
        Ok(found.into_values().collect())
    }

    /// Dials all bootstrap peers; returns when the first is connected. From then on the node redials
    /// them whenever it has no peer at all.
    ///
    /// # Errors
    /// The last peer's [`NetworkError::Dial`] where none can be reached; redialling goes on.
    pub async fn connect_bootstrap_peers(&self) -> Result<(), NetworkError> {
        self.command(Command::KeepBootstrapped).await?;
        let peers = &self.config.network.bootstrap_peers;
        let mut dials: FuturesUnordered<_> = peers
            .iter()
            .flat_map(addresses_of)
            .map(|address| self.dial(address))
            .collect();
        let mut outcome = Ok(());
        while let Some(dialled) = dials.next().await {
            match dialled {
                Ok(_) => return Ok(()),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Adds a peer to the routing table and to those that may be dialled. Nothing is dialled now.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`]; [`NetworkError::Config`] where the peer has no address.
    pub async fn add_peer(&self, peer_info: PeerInfo) -> Result<(), NetworkError> {
        if peer_info.addresses.is_empty() {
            let problem = "give at least one address of the peer";
            return Err(ConfigError::new("peer_info.addresses", "[]", problem).into());
        }
        self.command(Command::AddPeer(peer_info)).await
    }

    /// Connects to an address, with or without the peer's identity at its end. Returns when the peer has said hello
    /// and is of our network, or is a plain libp2p peer.
    ///
    /// # Errors
    /// [`NetworkError::Dial`] says for a person what happened.
    pub async fn dial(&self, address: Multiaddr) -> Result<PeerId, NetworkError> {
        self.ask(|reply| Command::Dial { address, reply }).await?
    }

    /// Closes all connections to a peer.
    ///
    /// # Errors
    /// [`NetworkError::NotConnected`], [`NetworkError::NotRunning`].
    pub async fn disconnect(&self, peer: PeerId) -> Result<(), NetworkError> {
        if !self.shared.state().peers.contains_key(&peer) {
            return Err(NetworkError::NotConnected(peer));
        }
        let reason = "disconnected by this node's user".to_owned();
        self.command(Command::Disconnect { peer, reason }).await
    }

    /// The peers that are connected and past the hello.
    pub fn get_connected_peers(&self) -> Vec<PeerInfo> {
        self.shared.state().peers.values().cloned().collect()
    }

    /// The addresses at which this node listens, with the ports that the system chose.
    pub fn listeners(&self) -> Vec<Multiaddr> {
        let with_identity = |address: &Multiaddr| address.clone().with_p2p(self.local_peer_id);
        let state = self.shared.state();
        state
            .listeners
            .iter()
            .map(|a| with_identity(a).unwrap_or_else(|a| a))
            .collect()
    }

    /// Handles a block that a peer sent by other means: checked, delivered and gossiped like one that arrived here.
    ///
    /// # Errors
    /// [`ProtocolError::Rejected`] (the peer then pays), [`ProtocolError::Ignored`], [`ProtocolError::Duplicate`].
    pub async fn handle_block(&self, block: Block, peer_id: PeerId) -> Result<(), ProtocolError> {
        self.handle(Item::Block(block), peer_id).await
    }

    /// Handles a transaction that a peer sent by other means, as [`Self::handle_block`].
    ///
    /// # Errors
    /// As [`Self::handle_block`].
    pub async fn handle_transaction(
        &self,
        transaction: Transaction,
        peer_id: PeerId,
    ) -> Result<(), ProtocolError> {
        self.handle(Item::Transaction(transaction), peer_id).await
    }

    /// Asks a peer about the chain's state. The proof is not checked here: what proves what, the chain knows.
    ///
    /// # Errors
    /// [`ProtocolError::Refused`] where the peer serves no state; timeouts and broken connections.
    pub async fn request_state(
        &self,
        peer_id: PeerId,
        request: StateRequest,
    ) -> Result<StateResponse, ProtocolError> {
        let answer = self
            .request(peer_id, &NetworkMessage::StateRequest(request))
            .await?;
        answer.ok_or_else(|| ProtocolError::Refused("an answer without state".to_owned()))
    }

    /// Takes part in a plain gossipsub topic, whoever else does. With `validate`, each message waits for
    /// [`Self::report`] before it is passed on; else it is passed on at once.
    ///
    /// # Errors
    /// [`NetworkError::Config`] where the name is over 256 bytes, 256 topics are joined, or the topic is one of Selkie's own.
    pub async fn subscribe_topic(
        &self,
        topic: impl Into<String>,
        validate: bool,
    ) -> Result<(), NetworkError> {
        let topic = topic.into();
        self.ask(|reply| Command::JoinTopic {
            topic,
            validate,
            reply,
        })
        .await?
    }

    /// Leaves a plain topic.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`].
    pub async fn unsubscribe_topic(&self, topic: impl Into<String>) -> Result<(), NetworkError> {
        self.command(Command::LeaveTopic {
            topic: topic.into(),
        })
        .await
    }

    /// Publishes on a gossipsub topic, joined or not.
    ///
    /// # Errors
    /// [`NetworkError::NoPeers`], [`NetworkError::Busy`], and duplicates or sizes as [`NetworkError::Protocol`].
    pub async fn publish_topic(
        &self,
        topic: impl Into<String>,
        data: impl Into<bytes::Bytes>,
    ) -> Result<(), NetworkError> {
        let (topic, data) = (topic.into(), data.into());
        self.ask(|reply| Command::Publish { topic, data, reply })
            .await?
    }

    /// The verdict on a message of a topic that was subscribed with `validate`. A rejected message costs `source` reputation.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`].
    pub async fn report(
        &self,
        message_id: Vec<u8>,
        source: PeerId,
        verdict: Verdict,
    ) -> Result<(), NetworkError> {
        let acceptance = acceptance(verdict);
        self.command(Command::Report {
            message_id,
            source,
            acceptance,
        })
        .await
    }

    /// Figures about connections.
    pub fn connection_metrics(&self) -> ConnectionMetrics {
        let state = self.shared.state();
        state.recorder.connections(
            state.connections,
            self.config.security.rate_limits.link_bytes_per_second,
        )
    }

    /// Figures about messages.
    pub fn message_metrics(&self) -> MessageMetrics {
        let meter = &self.shared.meter;
        self.shared
            .state()
            .recorder
            .messages(meter.sent(), meter.received())
    }

    /// Figures about peers.
    pub fn peer_metrics(&self) -> PeerMetrics {
        let (now, state) = (SystemTime::now(), self.shared.state());
        let mut metrics = PeerMetrics {
            peer_count: state.peers.len(),
            ..Default::default()
        };
        for (id, peer) in &state.peers {
            *metrics
                .peer_distribution
                .entry(peer.transport().to_owned())
                .or_default() += 1;
            let since = peer.connected_at.and_then(|at| now.duration_since(at).ok());
            metrics.peer_uptime.insert(*id, since.unwrap_or_default());
            metrics.peer_reputation.insert(*id, peer.reputation);
        }
        metrics
    }

    async fn handle(&self, item: Item, peer: PeerId) -> Result<(), ProtocolError> {
        let asked = self
            .ask(|reply| Command::Handle { item, peer, reply })
            .await;
        asked.map_err(|error| ProtocolError::Network(error.to_string()))?
    }

    async fn request(
        &self,
        peer: PeerId,
        message: &NetworkMessage,
    ) -> Result<Option<StateResponse>, ProtocolError> {
        let (frame, limit) = (
            message.encode(),
            self.config
                .protocol
                .request_response_config
                .max_message_size,
        );
        if frame.len() > limit {
            return Err(ProtocolError::TooLarge {
                size: frame.len(),
                limit,
            });
        }
        if !self.shared.state().peers.contains_key(&peer) {
            return Err(ProtocolError::Network(
                NetworkError::NotConnected(peer).to_string(),
            ));
        }
        let asked = self.ask(|reply| Command::Send { peer, frame, reply }).await;
        asked.map_err(|error| ProtocolError::Network(error.to_string()))?
    }

    async fn exchange_peers(&self, peers: Vec<PeerInfo>) -> Result<(), NetworkError> {
        let to: Vec<_> = self
            .get_connected_peers()
            .into_iter()
            .filter(|peer| peer.selkie)
            .collect();
        if to.is_empty() {
            return Err(NetworkError::NoPeers {
                topic: "peer exchange".to_owned(),
            });
        }
        let message = NetworkMessage::PeerExchange(peers);
        let mut sends: FuturesUnordered<_> = to
            .iter()
            .map(|peer| self.request(peer.peer_id, &message))
            .collect();
        let mut outcome = Ok(());
        let mut taken = false;
        while let Some(sent) = sends.next().await {
            match sent {
                Ok(_) => taken = true,
                Err(error) => outcome = Err(error.into()),
            }
        }
        if taken { Ok(()) } else { outcome }
    }

    async fn command(&self, command: Command) -> Result<(), NetworkError> {
        if self.idle().is_some() {
            return Err(NetworkError::NotRunning);
        }
        self.commands
            .send(command)
            .await
            .map_err(|_| NetworkError::NotRunning)
    }

    fn idle(&self) -> MutexGuard<'_, Option<Box<Task>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, NetworkError> {
        let (reply, answer) = oneshot::channel();
        self.command(command(reply)).await?;
        answer.await.map_err(|_| NetworkError::NotRunning)
    }
}

impl std::fmt::Debug for P2PNetworkManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("P2PNetworkManager")
            .field("local_peer_id", &self.local_peer_id)
            .finish_non_exhaustive()
    }
}

/// A peer's addresses, each with its identity at the end.
pub(crate) fn addresses_of(peer: &PeerInfo) -> impl Iterator<Item = Multiaddr> + '_ {
    peer.addresses
        .iter()
        .map(|address| match address.iter().last() {
            Some(Protocol::P2p(_)) => address.clone(),
            _ => address.clone().with(Protocol::P2p(peer.peer_id)),
        })
}

/// Our word for it in libp2p's.
pub(crate) fn acceptance(verdict: Verdict) -> MessageAcceptance {
    match verdict {
        Verdict::Accept => MessageAcceptance::Accept,
        Verdict::Ignore => MessageAcceptance::Ignore,
        Verdict::Reject => MessageAcceptance::Reject,
    }
}
