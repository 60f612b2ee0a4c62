//! The handle to a running node.
//!
//! [`P2PNetworkManager`] is cheap to clone; every method takes `&self`. The swarm lives in one task (`task.rs`) that is
//! reached by a bounded channel, so a caller that outruns the network waits. When the last handle is dropped, or on
//! [`P2PNetworkManager::shutdown`], the task ends in order. Here is a node's life; its items (`items.rs`), the chain's state (`state.rs`), plain topics
//! (`topics.rs`), protocols of one's own (`streams.rs`), peers (`peers.rs`), its address book and bans (`book.rs`) and figures (`figures.rs`) have files of their own.

mod book;
mod figures;
mod items;
mod peers;
mod state;
mod streams;
mod topics;

use std::sync::{Arc, Mutex};

use libp2p::{PeerId, identity::Keypair};
use tokio::sync::{mpsc as tokio_mpsc, oneshot};

use super::{
    NetworkEvent, mpsc,
    shared::{Command, Shared, Submission, seed},
    task::Task,
};
use crate::{
    chain::{
        Application, ItemKind, Opaque,
        rules::{Rules, Synchronous},
    },
    peers::{AddressBook, Grouping},
    platform, transport,
};
use crate::{
    config::Config,
    error::NetworkError,
    platform::lock::{Guard, lock},
};

/// Commands that wait for the task; a caller waits where there is no room.
const COMMANDS: usize = 256;

/// Batches of our own items of each kind that wait for the task, which takes one when the network has room for it.
const SUBMISSIONS: usize = 4;

/// A node: connects to peers, gossips items, answers questions.
///
/// Natively [`Self::new`], [`Self::with`] and [`Self::start`] are called within a tokio runtime, which the node's task then runs on; a
/// browser needs none. All other calls may come from anywhere. The task ends with the last handle: one that the node itself holds, in its application, in a
/// subscriber's filter or in a protocol's handler ([`Self::handle`]), is one too, and keeps it running until [`Self::shutdown`]. Hold a `std::sync::Weak` of your own
/// there, or shut down.
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
    /// For each of [`ItemKind::ALL`].
    submissions: [tokio_mpsc::Sender<Submission>; ItemKind::ALL.len()],
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
        let rules = Synchronous::new(Arc::new(application));
        Self::under(config, keypair, Arc::new(rules)).await
    }

    /// As [`Self::with`], whatever the chain's rules are written in.
    pub(crate) async fn under(
        config: impl Into<Config>,
        keypair: Keypair,
        rules: Arc<dyn Rules>,
    ) -> Result<Self, NetworkError> {
        let config = Arc::new(config.into());
        config.check()?;
        let local_peer_id = keypair.public().to_peer_id();
        let grouping = Grouping::default();
        let (dials, now) = (transport::dials, platform::now());
        let book = AddressBook::new(local_peer_id, dials, grouping, seed()?, now);
        let shared = Arc::new(Shared::new(rules, &config, book, &seed()?));
        let (commands, inbox) = tokio_mpsc::channel(COMMANDS);
        let channel = || tokio_mpsc::channel(SUBMISSIONS);
        let (votes, blocks, transactions) = (channel(), channel(), channel());
        let submissions = [votes.0, blocks.0, transactions.0];
        let inboxes = (inbox, [votes.1, blocks.1, transactions.1]);
        let task = Task::new(Arc::clone(&config), &keypair, Arc::clone(&shared), inboxes)?;
        let idle = Arc::new(Mutex::new(Some(Box::new(task))));
        Ok(Self {
            local_peer_id,
            config,
            shared,
            idle,
            commands,
            submissions,
        })
    }

    /// Listens on the configured addresses and begins to serve. Returns once every listener is up, within 3 s: those by then
    /// without an address (`::` where IPv6 is off) are told by [`NetworkEvent::NotListening`], and [`Self::listeners`] are the others.
    ///
    /// # Errors
    /// [`NetworkError::Listen`] names the address that can't be listened on, the first one where none of them has an interface;
    /// the node has ended then. [`NetworkError::AlreadyStarted`]; [`NetworkError::NotRunning`] once it has ended.
    pub async fn start(&self) -> Result<(), NetworkError> {
        let Some(mut task) = self.idle().take() else {
            self.running()?;
            return Err(NetworkError::AlreadyStarted);
        };
        let listening = task.listen()?;
        platform::spawn(task.run());
        listening.await.map_err(|_| NetworkError::NotRunning)?
    }

    /// Whether all that was accepted so far is with the peers that are connected: nothing of it is still checked here or waits in a
    /// queue; each peer has read and checked the transactions that it was sent; and each that was told of a block has said that it
    /// has it, or wants nothing more of it. Votes and messages on topics are not acknowledged: they count once the
    /// connection has taken them. Where no peer is sent items whole, those announced less than about 2 s ago (`fetch_timeout`; longer
    /// where pushes take long) are waited for, since peers may come for them. Who has left is not waited for. Where a peer read so slowly that votes or transactions
    /// were gone before, the answer is no until [`NetworkEvent::GossipImpaired`] has told so and the peer has read what there was then.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`].
    pub async fn is_flushed(&self) -> Result<bool, NetworkError> {
        self.ask(|reply| Command::IsFlushed { to: None, reply })
            .await
    }

    /// The same of one peer, whatever others have not yet; no where it is not connected, or takes no part: a peer of Selkie's whose lanes are not open
    /// yet, or a plain libp2p peer that has joined no topic. A plain one that has joined some has what its connection has taken.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`].
    pub async fn is_flushed_to(&self, peer: PeerId) -> Result<bool, NetworkError> {
        let to = Some(peer);
        self.ask(|reply| Command::IsFlushed { to, reply }).await
    }

    /// Whether a peer is connected that items of a kind go to: one of Selkie's, or a plain libp2p peer that has joined their topic
    /// (`/selkie/<network-id>/<kind>/1`). One that has not yet may do so at any time.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`].
    pub async fn takes_part(&self, peer: PeerId, kind: ItemKind) -> Result<bool, NetworkError> {
        self.ask(|reply| Command::TakesPart { peer, kind, reply })
            .await
    }

    /// Looks at once whether connections live, and dials again whom it waits to dial: for a host that was asleep or has another network,
    /// and knows it. Peers that do not answer within `connection_timeout` are let go. The node does so by itself where its timers show that it slept
    /// for over 70 s ([`NetworkEvent::Woke`]). Asked again within that time, it does nothing.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`].
    pub async fn wake(&self) -> Result<(), NetworkError> {
        self.command(Command::Wake).await
    }

    /// Ends the node in order: waits until peers have what was accepted ([`Self::is_flushed`]), three seconds at most, and 200 ms
    /// more for what is written and not acknowledged; closes every connection, has the chain keep what it was given
    /// ([`crate::Application::flush`]), then ends all subscriptions. Returns when it has ended. What the chain can't keep is told before
    /// the end, as [`NetworkEvent::ApplicationFailed`] at the call `flush`.
    pub async fn shutdown(&self) {
        if let Some(idle) = self.idle().take() {
            return drop(idle);
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

    /// What happens from now on. A reader that falls behind loses the oldest events, counted by
    /// [`mpsc::Receiver::missed`]. At most 256 subscribers at once; a further one's stream ends at once.
    pub fn subscribe_events(&self) -> mpsc::Receiver<NetworkEvent> {
        self.subscribe(|_| true)
    }

    /// As [`Self::subscribe_events`], for the events that `wants` says yes to; others neither take room nor count as
    /// missed. `wants` runs in the network task: make it quick. If it panics, this subscription ends with
    /// [`NetworkEvent::Crashed`], and the node goes on.
    pub fn subscribe(
        &self,
        wants: impl Fn(&NetworkEvent) -> bool + Send + 'static,
    ) -> mpsc::Receiver<NetworkEvent> {
        self.shared.subscribe(
            Box::new(wants),
            self.config.protocol.validation.max_unread_bytes,
        )
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

    fn running(&self) -> Result<(), NetworkError> {
        if self.idle().is_some() || self.commands.is_closed() {
            return Err(NetworkError::NotRunning);
        }
        Ok(())
    }

    fn idle(&self) -> Guard<'_, Option<Box<Task>>> {
        lock(&self.idle)
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
