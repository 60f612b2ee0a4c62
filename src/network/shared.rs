//! What the handle and its task share: the state that both see, and the commands that go from one to the other.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use libp2p::{Multiaddr, PeerId, StreamProtocol, swarm::ConnectionId};
use tokio::sync::{mpsc as tokio_mpsc, oneshot};

use crate::{
    chain::{Item, ItemKind, TransactionKey, Verdict, rules::Rules},
    config::Config,
    error::{NetworkError, ProtocolError},
    intake::Outcomes,
    network::{
        NetworkEvent, TopicInfo, mpsc,
        requests::{Message, Reply},
        streams::{Serve, StreamReply},
        watching::Order,
    },
    observe::Recorder,
    order,
    peers::{
        AddressBook, Banned, Bans, ConnectionInfo, DutyError, EclipseSign, Grouping, Limits,
        Neighbours, PeerInfo, Reputation, Table,
    },
    platform::{
        self,
        lock::{Guard, lock},
    },
    sync::SyncStatus,
    transport::meter::Meter,
};

/// Events that wait for one subscriber; the oldest are dropped and counted.
const EVENTS: usize = 65_536;
/// Subscribers of events at once.
const MAX_SUBSCRIBERS: usize = 256;

/// The table of peers: the task changes it, the gate asks it, the handle shows it. Locked for moments only.
pub(crate) type SharedTable = Arc<Mutex<Table>>;

/// What the handle and the task both see.
pub(crate) struct Shared {
    pub(crate) table: SharedTable,
    /// How networks are counted, everywhere.
    pub(crate) grouping: Grouping,
    pub(crate) rules: Arc<dyn Rules>,
    book: Mutex<AddressBook>,
    pub(crate) meter: Meter,
    state: Mutex<State>,
    /// What watches the state, once it does.
    watching: Mutex<Option<tokio_mpsc::Sender<Order>>>,
}

/// Behind one lock, which is held for moments only and never across an await.
#[derive(Default)]
pub(crate) struct State {
    /// Those that are open.
    pub(crate) connections: BTreeMap<ConnectionId, Box<ConnectionInfo>>,
    pub(crate) listeners: Vec<Multiaddr>,
    pub(crate) local: Neighbours,
    pub(crate) recorder: Recorder,
    /// How far sync is; `None` where the chain does not sync, or nobody has looked yet.
    pub(crate) sync: Option<SyncStatus>,
    pub(crate) eclipse_signs: Vec<EclipseSign>,
    subscribers: Vec<Subscriber>,
    ended: bool,
}

impl State {
    /// The open connections, the eldest first. Their numbers are from when their dials began.
    pub(super) fn connections(&self) -> Vec<ConnectionInfo> {
        let connections = self.connections.values().map(Box::as_ref);
        let mut connections: Vec<_> = connections.cloned().collect();
        order::sort_by_key(&mut connections, |connection| connection.connected_at);
        connections
    }
}

/// Which events a subscriber wants.
type Wants = Box<dyn Fn(&NetworkEvent) -> bool + Send>;

/// Who is told of the events it wants.
struct Subscriber {
    wants: Wants,
    sender: mpsc::Sender<NetworkEvent>,
    /// A part of the node, which takes nobody's place.
    is_own: bool,
}

impl Shared {
    /// `secret` is random.
    pub(crate) fn new(
        rules: Arc<dyn Rules>,
        config: &Config,
        book: AddressBook,
        secret: &[u8; 16],
    ) -> Self {
        Self {
            table: Arc::new(Mutex::new(table(config, book.grouping(), secret))),
            grouping: book.grouping().clone(),
            book: Mutex::new(book),
            rules,
            meter: Meter::default(),
            state: Mutex::default(),
            watching: Mutex::default(),
        }
    }

    /// The way to what watches the state, which is begun where it does not run.
    pub(crate) fn watching(
        &self,
        begin: impl FnOnce() -> tokio_mpsc::Sender<Order>,
    ) -> tokio_mpsc::Sender<Order> {
        let mut watching = lock(&self.watching);
        let running = watching.take().filter(|orders| !orders.is_closed());
        watching.insert(running.unwrap_or_else(begin)).clone()
    }

    /// Another state may be trusted; whoever watches looks.
    pub(crate) fn look_again(&self) {
        if let Some(orders) = &*lock(&self.watching) {
            // It looks at each order: where there is no room for this one, others make it look.
            let _ = orders.try_send(Order::Look);
        }
    }

    /// The table of peers. To be let go before the state is locked.
    pub(crate) fn peers(&self) -> Guard<'_, Table> {
        lock(&self.table)
    }

    /// The address book. To be let go before anything else is locked.
    pub(crate) fn book(&self) -> Guard<'_, AddressBook> {
        lock(&self.book)
    }

    /// The address book and the bans as bytes.
    pub(crate) fn saved_book(&self) -> Vec<u8> {
        let now = platform::now();
        let bans: Vec<_> = self.peers().bans().for_a_while(now).collect();
        self.book().save(&bans, now, platform::date())
    }

    pub(crate) fn state(&self) -> Guard<'_, State> {
        lock(&self.state)
    }

    /// Events from now on, at most `max_unread` bytes of them unread; none where there is no place left.
    pub(crate) fn subscribe(
        &self,
        wants: Wants,
        max_unread: usize,
    ) -> mpsc::Receiver<NetworkEvent> {
        self.subscribe_as(false, wants, max_unread)
    }

    /// The same for a part of the node, of which there is one of its kind.
    pub(crate) fn subscribe_own(
        &self,
        wants: fn(&NetworkEvent) -> bool,
        max_unread: usize,
    ) -> mpsc::Receiver<NetworkEvent> {
        self.subscribe_as(true, Box::new(wants), max_unread)
    }

    fn subscribe_as(
        &self,
        is_own: bool,
        wants: Wants,
        max_unread: usize,
    ) -> mpsc::Receiver<NetworkEvent> {
        let (sender, receiver) = mpsc::channel(EVENTS, max_unread);
        let mut state = self.state();
        state
            .subscribers
            .retain(|subscriber| !subscriber.sender.is_closed());
        let others = state.subscribers.iter().filter(|to| !to.is_own).count();
        if !state.ended && (is_own || others < MAX_SUBSCRIBERS) {
            state.subscribers.push(Subscriber {
                wants,
                sender,
                is_own,
            });
        }
        receiver
    }

    /// Tells all subscribers.
    pub(crate) fn emit(&self, event: NetworkEvent) {
        self.emit_all(vec![event]);
    }

    /// Tells all subscribers of several events, in order. Only the task does, so that nobody misses what is told meanwhile.
    pub(crate) fn emit_all(&self, events: Vec<NetworkEvent>) {
        // Taken out of the lock, since a subscriber's `wants` may call the node.
        let mut told = std::mem::take(&mut self.state().subscribers);
        // The last one gets the events themselves: most often it is the only one.
        let Some(last) = told.pop() else {
            return;
        };
        told.retain(|to| {
            to.tell(|wants| {
                events
                    .iter()
                    .filter(|event| wants(event))
                    .cloned()
                    .collect()
            })
        });
        if last.tell(|wants| events.into_iter().filter(|event| wants(event)).collect()) {
            told.push(last);
        }
        let mut state = self.state();
        if !state.ended {
            // Who subscribed meanwhile comes behind.
            told.append(&mut state.subscribers);
            bound(&mut told);
            state.subscribers = told;
        }
    }

    /// The task is over: every subscription ends.
    pub(crate) fn end(&self) {
        self.peers().clear();
        let mut state = self.state();
        state.ended = true;
        state.listeners.clear();
        state.local = Neighbours::default();
        state.eclipse_signs.clear();
        state.connections.clear();
        // Dropped outside of the lock, since a subscriber's `wants` may hold a handle of the node.
        let subscribers = std::mem::take(&mut state.subscribers);
        drop(state);
        drop(subscribers);
    }
}

/// The latest beyond the bound have no place.
fn bound(subscribers: &mut Vec<Subscriber>) {
    let mut others = 0;
    subscribers.retain(|subscriber| {
        others += usize::from(!subscriber.is_own);
        subscriber.is_own || others <= MAX_SUBSCRIBERS
    });
}

impl Subscriber {
    /// Sends what it wants of some events. False: it is gone, or its `wants` has panicked, which it is told.
    fn tell(&self, wanted: impl FnOnce(&Wants) -> Vec<NetworkEvent>) -> bool {
        match platform::guard(|| wanted(&self.wants)) {
            Ok(events) => self.sender.send_all(events),
            Err(reason) => {
                self.sender.send_all([NetworkEvent::Crashed { reason }]);
                false
            }
        }
    }
}

/// An empty table of peers, as the configuration wants it.
fn table(config: &Config, grouping: &Grouping, secret: &[u8; 16]) -> Table {
    let network = &config.network;
    let scoring = &config.security.peer_scoring;
    let blacklist = &config.security.blacklist_config;
    let always = blacklist.peers.iter();
    let always = always.filter_map(|peer| peer.parse().ok()).collect();
    Table::new(
        Limits {
            max_peers: network.max_peers,
            low_watermark: config.security.connection_limits.low_watermark,
            hello: network.connection_timeout,
            silence: network.keepalive_interval + network.connection_timeout,
        },
        Reputation::new(
            scoring.half_life,
            scoring.disconnect_at,
            scoring.ban_at,
            scoring.max_peers,
        ),
        Bans::new(always, blacklist.ban_duration, blacklist.max_bans),
        grouping.clone(),
        secret,
    )
}

/// Random numbers that no peer knows.
pub(crate) fn seed<const N: usize>() -> Result<[u8; N], NetworkError> {
    let mut seed = [0; N];
    platform::random(&mut seed).map_err(|error| NetworkError::Transport {
        transport: "random numbers",
        reason: error.to_string(),
    })?;
    Ok(seed)
}

/// Items of our own, on their way to the intake.
pub(crate) struct Submission {
    pub(crate) kind: ItemKind,
    pub(crate) items: Vec<(TransactionKey, Bytes)>,
    /// What became of each, in order.
    pub(crate) reply: oneshot::Sender<Result<Outcomes, NetworkError>>,
}

/// Where the outcome of a dial goes.
pub(crate) type DialReply = oneshot::Sender<Result<PeerId, NetworkError>>;

/// What the handle asks of the task.
pub(crate) enum Command {
    Dial {
        address: Multiaddr,
        reply: DialReply,
    },
    /// Dials a bootstrap peer at all its addresses, and keeps it in mind.
    DialSeed {
        peer: PeerInfo,
        reply: DialReply,
    },
    /// Lets a peer go; the reply comes when it is gone.
    Disconnect {
        peer: PeerId,
        reply: oneshot::Sender<()>,
    },
    /// Takes transactions out of the pool.
    Remove {
        keys: Vec<TransactionKey>,
    },
    Publish {
        topic: String,
        data: Bytes,
        reply: oneshot::Sender<Result<(), NetworkError>>,
    },
    Send {
        peer: PeerId,
        message: Message,
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
    Topics {
        reply: oneshot::Sender<Vec<TopicInfo>>,
    },
    Report {
        message_id: Vec<u8>,
        source: PeerId,
        verdict: Verdict,
    },
    /// A peer's answer about state was false.
    Forged {
        peer: PeerId,
    },
    /// Nobody answers what watched keys have.
    Unverified {
        height: Option<u64>,
        reason: String,
    },
    AddPeer(PeerInfo),
    /// Keeps these peers out for ever, and no longer those before.
    Blacklist {
        peers: HashSet<PeerId>,
        reply: oneshot::Sender<()>,
    },
    /// Peers will be needed after a while, for a while.
    ExpectDuty {
        peers: Vec<PeerInfo>,
        begins_in: Duration,
        lasts: Duration,
        reply: oneshot::Sender<Result<(), DutyError>>,
    },
    /// Keeps a peer or a network out.
    Ban {
        who: Banned,
        duration: Option<Duration>,
        reply: oneshot::Sender<()>,
    },
    /// Has streams of a protocol served.
    Serve {
        protocol: StreamProtocol,
        serve: Serve,
        reply: oneshot::Sender<Result<(), NetworkError>>,
    },
    Unserve {
        protocol: StreamProtocol,
    },
    OpenStream {
        peer: PeerId,
        protocol: StreamProtocol,
        reply: StreamReply,
    },
    /// Runs beside the node's task, as long as that does.
    Beside(BoxFuture<'static, ()>),
    /// Looks whether connections live.
    Wake,
    /// Asks the local network who is there.
    AskNeighbours,
    /// With every peer, or with this one.
    IsFlushed {
        to: Option<PeerId>,
        reply: oneshot::Sender<bool>,
    },
    TakesPart {
        peer: PeerId,
        kind: ItemKind,
        reply: oneshot::Sender<bool>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chain::Opaque, chain::rules::Synchronous, peers::Direction, platform::test};

    #[test]
    fn the_nodes_own_parts_have_a_place_where_all_are_taken() {
        let rules = Arc::new(Synchronous::new(Arc::new(Opaque)));
        let book = AddressBook::new(
            PeerId::random(),
            |_| true,
            crate::peers::Grouping::default(),
            [7; 32],
            platform::now(),
        );
        let shared = Shared::new(rules, &Config::default(), book, &[7; 16]);
        let heard = |mut events: mpsc::Receiver<NetworkEvent>| events.try_recv().is_some();
        let others: Vec<_> = (0..MAX_SUBSCRIBERS)
            .map(|_| shared.subscribe(Box::new(|_| true), 1 << 10))
            .collect();
        let further = shared.subscribe(Box::new(|_| true), 1 << 10);
        let own = shared.subscribe_own(|_| true, 1 << 10);
        shared.emit(NetworkEvent::Stopped);
        assert!(others.into_iter().all(heard) && heard(own) && !heard(further));
    }

    #[test]
    fn a_dial_that_took_long_is_no_elder_connection() {
        let mut state = State::default();
        let now = platform::date();
        for (number, age) in [(1, 1), (2, 5), (3, 3)] {
            let connection = ConnectionInfo {
                peer_id: PeerId::random(),
                address: Multiaddr::empty(),
                direction: Direction::Outbound,
                connected_at: now - Duration::from_secs(age),
                connected_in: Duration::ZERO,
            };
            let id = ConnectionId::new_unchecked(number);
            state.connections.insert(id, Box::new(connection));
        }
        let ages = state.connections().into_iter().map(|connection| {
            let age = now.duration_since(connection.connected_at);
            age.expect("before now").as_secs()
        });
        assert_eq!(ages.collect::<Vec<_>>(), [5, 3, 1]);
    }
}
