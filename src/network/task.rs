//! The task that owns the swarm.
//!
//! One loop: finished checks, commands, the swarm's events, and a tick each second; then what the table of peers wants done. It
//! routes, and decides nothing: how far a peer is and whether it stays is `peers/table.rs`'s business, whom to dial
//! `discovery.rs`'s. A connection becomes a peer by the hello: the dialler says its network and genesis on
//! `/selkie/hello/1`, the other side answers with its own or with a refusal. It is ready once its lanes are open, so that what
//! is published next reaches it. A peer that does not speak the hello is a plain libp2p peer: it may take part in open gossip
//! topics. Who says nothing within `connection_timeout`, or later leaves all pings unanswered, is let go.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::transport::ListenerId,
    gossipsub::{self, IdentTopic, MessageAcceptance, MessageId},
    identity::Keypair,
    multiaddr::Protocol,
    relay, request_response as rr,
    swarm::ConnectionId,
};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

use super::{
    NetworkEvent, TopicInfo, TopicItem,
    answers::{Answered, Answers},
    behaviour::Behaviour,
    circuits::Circuits,
    codec,
    discovery::Discovery,
    guarded::Guarded,
    hello::{Hello, Limits},
    protocol::{self, Answer, NetworkMessage},
    requests::Requests,
    shared::{Command, Shared, Submission, seed},
    starting::{NO_INTERFACE, Started, Starting},
};
use crate::{
    chain::{Item, ItemKind, Verdict},
    config::{Config, modern},
    error::{NetworkError, ProtocolError},
    gossip::{GossipEvent, MAX_TOPIC_NAME},
    intake::{DeliveredBlocks, Intake, Source},
    lanes::Taken,
    order,
    peers::{AddressPolicy, Alarm, Banned, Misdeed, PeerInfo, Stage},
    platform::{self, Delay, Instant, SystemTime},
    propagation::{blocks::Answer as BlockAnswer, pool::sessions::Stepped},
    sync::core as sync_core,
    traffic::RateLimiter,
    transport::{self, links::Links},
};

mod connections;
mod exchange;
mod gossip;
mod hello;
mod identify;
mod items;
mod lanes;
mod lingering;
mod local;
mod message;
mod ping;
mod stakes;
mod streams;
mod swarm;
mod sync;

use exchange::OwnRecord;
use gossip::{Unpublished, acceptance};
use lingering::Lingering;
use stakes::Stakes;

/// Plain topics joined at once.
const MAX_TOPICS: usize = 256;
/// How long at most what was accepted is still sent when the node ends.
const FLUSH: Duration = Duration::from_secs(3);
/// How often it is looked whether it is.
const GLANCE: Duration = Duration::from_millis(20);
/// How long peers have to read what is written, before connections are closed.
const LINGER: Duration = Duration::from_millis(200);
/// How long the end of all connections may take.
const CLOSING: Duration = Duration::from_millis(500);

/// Events of a connection that wait for the task.
const CONNECTION_EVENTS: usize = 256;
/// What the task tells a connection that waits for its turn: above that it waits for that one, and all others with it.
const ORDERS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// Why an address is one no longer.
const EXPIRED: &str = "no network interface here has this address any more";
/// Handlers of protocols that failed and wait until that is told.
const FAILURES: usize = 64;
/// How often it is told that listeners can't accept.
const TROUBLE: Duration = Duration::from_secs(60);

/// Our own items that wait for the task, of each kind.
type Submissions = [mpsc::Receiver<Submission>; ItemKind::ALL.len()];
type ResponseChannel = rr::ResponseChannel<codec::Frame>;

/// See the module's documentation.
pub(crate) struct Task {
    config: Arc<Config>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    submissions: Submissions,
    swarm: Swarm<Guarded<Behaviour>>,
    hello: Hello,
    discovery: Discovery,
    alarm: Alarm,
    starting: Starting,
    circuits: Circuits,
    /// The listeners' addresses as configured.
    configured: HashMap<ListenerId, Multiaddr>,
    /// Addresses that went away since the last tick; one may come again at once, with another certificate.
    expired: Vec<Multiaddr>,
    /// When it was last told that a listener can't accept.
    troubled: Option<Instant>,
    /// Hellos that say to a peer that it has to go, until they are answered.
    goodbyes: HashSet<rr::OutboundRequestId>,
    farewells: HashMap<rr::InboundRequestId, PeerId>,
    requests: Requests,
    own_record: OwnRecord,
    /// Whom this node's record is on its way to, and how many others' it asked for.
    tellings: HashMap<rr::OutboundRequestId, (PeerId, usize)>,
    /// Peers for which messages wait, each when the next may go.
    turns: FuturesUnordered<BoxFuture<'static, PeerId>>,
    intake: Intake,
    /// The checks ask it which blocks the application has got.
    delivered: Arc<DeliveredBlocks>,
    answers: Answers,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    stakes: Stakes,
    /// The item kinds of our own topics, and whether a plain topic wants verdicts.
    items: HashMap<gossipsub::TopicHash, ItemKind>,
    topics: HashMap<gossipsub::TopicHash, bool>,
    /// The item kinds that some peer has by gossip only.
    bridged: Vec<ItemKind>,
    lingering: Lingering,
    /// What handlers of protocols failed at.
    failures: (mpsc::Sender<NetworkEvent>, mpsc::Receiver<NetworkEvent>),
    /// Messages on plain topics that wait for somebody's subscription, or for peers that read.
    held: Vec<Unpublished>,
    limiter: RateLimiter,
    /// Since when there has been no room for our own items of each kind.
    stalled: [Option<Instant>; ItemKind::ALL.len()],
    /// When deadlines were last looked at, by two clocks: one of them may stand still while the host sleeps.
    ticked: (Instant, SystemTime),
    /// When it was last looked whether connections live, since the host slept or the network is another.
    woke: Option<Instant>,
}

/// Work that was done off the task.
enum Done {
    /// Batches of items were checked.
    Judged(items::Checks),
    /// A question about a block, answered, and what its frame took.
    BlockAnswered(Box<Option<BlockAnswer>>, Option<(PeerId, Taken)>),
    /// A peer's question about state.
    Answered(Answered),
    /// Work on the comparison of pools; `None` where it failed.
    Stepped(Option<Stepped>),
    /// Sync's work for the chain; `None`: the host is ending.
    Synced(Option<sync_core::Done>),
}

impl Task {
    /// The swarm, ready to listen.
    pub(crate) fn new(
        config: Arc<Config>,
        keypair: &Keypair,
        shared: Arc<Shared>,
        (commands, submissions): (mpsc::Receiver<Command>, Submissions),
    ) -> Result<Self, NetworkError> {
        let peer_id = keypair.public().to_peer_id();
        let (circuits_transport, circuits) = relay::client::new(peer_id);
        let policy = AddressPolicy::new(peer_id, transport::TAKES_NAMES, &seed()?);
        let policy = Arc::new(Mutex::new(policy));
        let executor = platform::Executor::default();
        let links = Links::default();
        let transport = transport::build(
            keypair,
            &config,
            circuits_transport,
            &shared.meter,
            &links,
            Arc::clone(&policy),
            &executor,
        )?;
        let local = transport::local_discovery(&config, peer_id)?;
        let rules = &shared.rules;
        let sync = rules.sync(&config.protocol, (seed()?, u32::from_le_bytes(seed()?)));
        let behaviour = Behaviour::new(
            &config,
            keypair,
            circuits,
            local,
            (policy, Arc::clone(&shared.table), shared.grouping.clone()),
            sync,
            links,
        )?;
        let swarm_config = executor
            .swarm_config()
            .with_idle_connection_timeout(IDLE)
            .with_per_connection_event_buffer_size(CONNECTION_EVENTS)
            .with_notify_handler_buffer_size(ORDERS);
        let mut swarm = Swarm::new(transport, Guarded::new(behaviour), peer_id, swarm_config);
        for address in &config.network.external_addresses {
            swarm.add_external_address(modern(address));
        }
        let mut items = HashMap::new();
        for kind in ItemKind::ALL {
            let topic = IdentTopic::new(protocol::topic(&config.chain.network_id, kind));
            items.insert(topic.hash(), kind);
        }
        for peer in &config.network.bootstrap_peers {
            for address in peer.addresses.iter().map(modern) {
                let behaviour = swarm.behaviour_mut();
                behaviour.gate.vouch(&address);
                behaviour.routing.vouch(&peer.peer_id, address);
            }
        }
        let validation = &config.protocol.validation;
        let limits = config.limits();
        Ok(Self {
            hello: Hello {
                network_id: config.chain.network_id.clone(),
                genesis: Bytes::copy_from_slice(&config.chain.genesis),
                refusal: String::new(),
                limits: Some(Limits::new(&config.protocol)),
                sync: swarm.behaviour().lanes.core.version(),
                wait: 0,
            },
            limiter: RateLimiter::new(limits),
            intake: Intake::new(&config, &seed()?),
            delivered: Arc::new(DeliveredBlocks::new(
                config.protocol.propagation.blocks.max_seen,
                &seed()?,
            )),
            answers: Answers::new(validation, &config.protocol.request_response_config),
            discovery: Discovery::new(peer_id, &config, Arc::clone(&shared), &seed()?),
            alarm: Alarm::new(shared.rules.block_interval(), platform::now()),
            requests: Requests::new(&config.protocol.request_response_config, limits),
            own_record: OwnRecord::new(keypair.clone(), platform::now()),
            tellings: HashMap::new(),
            turns: FuturesUnordered::new(),
            config,
            shared,
            commands,
            submissions,
            swarm,
            starting: Starting::default(),
            circuits: Circuits::default(),
            configured: HashMap::new(),
            expired: Vec::new(),
            troubled: None,
            goodbyes: HashSet::new(),
            farewells: HashMap::new(),
            work: FuturesUnordered::new(),
            stakes: Stakes::default(),
            items,
            topics: HashMap::new(),
            bridged: Vec::new(),
            lingering: Lingering::default(),
            failures: mpsc::channel(FAILURES),
            held: Vec::new(),
            stalled: [None; ItemKind::ALL.len()],
            ticked: (platform::now(), platform::date()),
            woke: None,
        })
    }

    /// Asks the system for every configured address; the answer comes when all have one, or it is clear that some will not.
    pub(crate) fn listen(&mut self) -> Result<oneshot::Receiver<Started>, NetworkError> {
        let mut listeners = Vec::new();
        for address in &self.config.network.listen_addresses {
            let address = modern(address);
            // A place at a relay is asked for by a connection to it.
            self.swarm.behaviour_mut().gate.vouch(&address);
            let listener = self.swarm.listen_on(address.clone());
            let listener =
                listener.map_err(|error| NetworkError::listen(address.clone(), error))?;
            // A reservation at a relay may take long and may come and go: start does not wait for it.
            if address.iter().any(|p| p == Protocol::P2pCircuit) {
                self.circuits.asked(address, listener);
            } else {
                self.configured.insert(listener, address.clone());
                listeners.push((listener, address));
            }
        }
        let (starting, started) = Starting::begin(listeners, platform::now());
        self.starting = starting;
        Ok(started)
    }

    /// Runs until the last handle is gone or `shutdown` is called, and what was accepted is sent. Whatever ends it, every subscriber is told, and every
    /// call that waits returns.
    pub(crate) async fn run(mut self: Box<Self>) {
        let shared = Arc::clone(&self.shared);
        let served = platform::guarded(self.serve()).await;
        let (last, stopped) = match served {
            Ok(stopped) => (NetworkEvent::Stopped, stopped),
            Err(reason) => (NetworkEvent::Crashed { reason }, None),
        };
        shared.emit(last);
        let failure = std::mem::take(&mut self.starting).into_failure();
        // What crashed once may crash again while it is taken apart.
        let _ = platform::guard(move || drop(self));
        if let Some((waiter, error)) = failure {
            let _ = waiter.send(Err(error));
        }
        if let Some(reply) = stopped {
            let _ = reply.send(());
        }
    }

    /// The loop. Returns who asked for the end, if anybody did.
    async fn serve(&mut self) -> Option<oneshot::Sender<()>> {
        let mut tick = Delay::new(TICK).fuse();
        let stopped = loop {
            let rooms = self.rooms();
            futures::select! {
                done = self.work.select_next_some() => {
                    self.on_done(done);
                    give_way().await;
                }
                (peer, stake) = self.stakes.asked.select_next_some() => self.on_stake(peer, stake),
                command = self.commands.recv().fuse() => match command {
                    Some(Command::Shutdown { reply }) => break Some(reply),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                peer = self.turns.select_next_some() => {
                    self.requests.turn(&peer);
                    self.send_requests(peer);
                }
                failure = self.failures.1.recv().fuse() => {
                    // This task holds a sender of them itself.
                    failure.into_iter().for_each(|failure| self.shared.emit(failure));
                }
                submission = next(&mut self.submissions, rooms).fuse() => {
                    self.on_submission(submission);
                    give_way().await;
                }
                () = tick => {
                    self.on_tick(platform::now());
                    tick = Delay::new(TICK).fuse();
                }
            }
            self.act();
            if self.starting.failed() {
                break None;
            }
        };
        if self.swarm.connected_peers().next().is_some() {
            self.flush().await;
        }
        self.close().await;
        if let Err(error) = self.shared.rules.flush().await {
            tracing::error!(%error, "what the chain was given last is not kept");
            self.shared.emit(NetworkEvent::ApplicationFailed {
                call: "flush",
                reason: error.to_string(),
                count: 1,
            });
        }
        stopped
    }

    /// Goes on until peers have what was accepted, for [`FLUSH`] at most; nothing new of our own is taken.
    async fn flush(&mut self) {
        let end = platform::now() + FLUSH;
        let mut until = None;
        let mut glance = Delay::new(GLANCE).fuse();
        while until.is_none_or(|until| platform::now() < until) {
            futures::select! {
                done = self.work.select_next_some() => self.on_done(done),
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                () = glance => {
                    let now = platform::now();
                    if until.is_none() && (now >= end || self.is_flushed(None, now)) {
                        until = Some(now + LINGER);
                    }
                    glance = Delay::new(GLANCE).fuse();
                }
            }
            self.act();
        }
    }

    /// Whether peers, or this one, have all that was accepted, as far as they say so. One that takes no part has nothing.
    fn is_flushed(&mut self, to: Option<&PeerId>, now: Instant) -> bool {
        let stage = to.map(|peer| self.shared.peers().stage(peer));
        let behaviour = self.swarm.behaviour_mut();
        let by_lanes = match (to, stage.flatten()) {
            (None, _) => behaviour.lanes.is_flushed(now),
            (Some(peer), Some(Stage::Ready)) => behaviour.lanes.is_flushed_to(peer, now),
            (Some(peer), Some(Stage::Plain)) => behaviour.gossip.takes_part(peer),
            _ => false,
        };
        // Questions of peers may wait as long as they like.
        let nothing_else = self.work.len() <= self.answers.len();
        by_lanes && nothing_else && behaviour.gossip.is_flushed(to)
    }

    /// Closes every connection, so that peers see an end and not a silence, and every listener, whose port is free then: a dial that is under way holds on to
    /// its transport, and ends only some time after the swarm.
    async fn close(&mut self) {
        let connected: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let mut patience = Delay::new(CLOSING).fuse();
        while self.swarm.connected_peers().next().is_some() {
            futures::select! {
                event = self.swarm.select_next_some() => drop(event),
                () = patience => break,
            }
        }
        for (listener, _) in self.configured.drain() {
            self.swarm.remove_listener(listener);
        }
        // They end as they are looked at, some at the second time.
        let end = platform::now() + CLOSING;
        while platform::now() < end && self.swarm.next().now_or_never().is_some() {}
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial { address, reply } => {
                self.discovery
                    .dial(&mut self.swarm, modern(&address), reply, platform::now());
            }
            Command::DialSeed { peer, reply } => {
                self.discovery
                    .dial_seed(&mut self.swarm, &peer, reply, platform::now());
            }
            Command::Disconnect { peer, reply } => {
                if self.shared.peers().stage(&peer).is_some() {
                    self.discovery.parts(peer, reply);
                } else {
                    // It went by itself meanwhile.
                    let _ = reply.send(());
                }
            }
            Command::Remove { keys } => {
                let propagation = &mut self.swarm.behaviour_mut().lanes.core.propagation;
                propagation.removed(&keys);
            }
            Command::Publish { topic, data, reply } => {
                self.publish_or_hold(Unpublished::new(topic, data, reply, platform::now()));
            }
            Command::Send {
                peer,
                message,
                reply,
            } => {
                self.requests.ask(peer, message, reply, platform::now());
                self.send_requests(peer);
            }
            Command::Unverified { height, reason } => {
                self.shared
                    .emit(NetworkEvent::StateUnverified { height, reason });
            }
            Command::Handle { item, peer, reply } => {
                // The reply says what became of it.
                let _ = self.offer(item, Source::Handed(peer, reply));
            }
            Command::JoinTopic {
                topic,
                validate,
                reply,
            } => {
                let _ = reply.send(self.join(&topic, validate));
            }
            Command::LeaveTopic { topic } => {
                let topic = IdentTopic::new(topic);
                if self.topics.remove(&topic.hash()).is_some() {
                    self.swarm.behaviour_mut().gossip.unsubscribe(&topic);
                }
            }
            Command::Topics { reply } => {
                let _ = reply.send(self.topics());
            }
            Command::Report {
                message_id,
                source,
                verdict,
            } => {
                let id = MessageId::from(message_id);
                // The first verdict counts, and of what did not come there is none.
                if self.swarm.behaviour().gossip.awaits_verdict(&id) {
                    if verdict == Verdict::Reject {
                        self.note(source, Misdeed::InvalidItem);
                    }
                    self.report(&id, &source, acceptance(verdict));
                }
            }
            Command::Forged { peer } => self.note(peer, Misdeed::FalseProof),
            Command::AddPeer(peer) => {
                for address in peer.dial_addresses().map(|address| modern(&address)) {
                    let behaviour = self.swarm.behaviour_mut();
                    behaviour.gate.vouch(&address);
                    behaviour.routing.vouch(&peer.peer_id, address.clone());
                    self.discovery.added(peer.peer_id, address, platform::now());
                }
            }
            Command::Blacklist { peers, reply } => {
                let mut book = self.shared.book();
                peers.iter().for_each(|peer| book.forget(peer));
                drop(book);
                self.shared.peers().blacklist(peers);
                let _ = reply.send(());
            }
            Command::ExpectDuty {
                peers,
                begins_in,
                lasts,
                reply,
            } => {
                let (time, now) = ((begins_in, lasts), platform::now());
                let expected = self.discovery.expects(&mut self.swarm, &peers, time, now);
                let _ = reply.send(expected);
            }
            Command::Ban {
                who,
                duration,
                reply,
            } => {
                self.shared.peers().ban(who, duration, platform::now());
                if let Banned::Peer(peer) = who {
                    self.shared.book().forget(&peer);
                }
                let _ = reply.send(());
            }
            Command::Serve {
                protocol,
                serve,
                reply,
            } => {
                let streams = &mut self.swarm.behaviour_mut().streams;
                let _ = reply.send(streams.handle(protocol, serve));
            }
            Command::Unserve { protocol } => {
                self.swarm.behaviour_mut().streams.unhandle(&protocol);
            }
            Command::OpenStream {
                peer,
                protocol,
                reply,
            } => {
                let streams = &mut self.swarm.behaviour_mut().streams;
                streams.open(peer, protocol, reply);
            }
            Command::Beside(work) => platform::spawn(work),
            Command::Wake => self.wake(platform::now()),
            Command::AskNeighbours => self.ask_neighbours(),
            Command::IsFlushed { to, reply } => {
                let _ = reply.send(self.is_flushed(to.as_ref(), platform::now()));
            }
            Command::TakesPart { peer, kind, reply } => {
                let _ = reply.send(self.shared.peers().takes_part(&peer, kind));
            }
            // The loop has taken it already.
            Command::Shutdown { reply } => drop(reply),
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Judged(checks) => self.on_judged(checks),
            Done::BlockAnswered(answer, took) => self.on_block_answered(*answer, took),
            Done::Stepped(stepped) => {
                let propagation = &mut self.swarm.behaviour_mut().lanes.core.propagation;
                let now = platform::now();
                stepped
                    .into_iter()
                    .for_each(|stepped| propagation.stepped(stepped, now));
            }
            Done::Answered(answered) => self.on_answered(answered),
            Done::Synced(done) => self.on_synced(done),
        }
    }

    fn on_tick(&mut self, now: Instant) {
        let meter = &self.shared.meter;
        let bytes = meter.sent() + meter.received();
        self.shared.state().recorder.traffic(bytes, now);
        // After a night's sleep (a laptop's, a throttled tab's) it is the host that was silent, not its peers.
        let (then, date) = std::mem::replace(&mut self.ticked, (now, platform::date()));
        let slept = now.duration_since(then).saturating_sub(TICK * 2);
        let by_date = self.ticked.1.duration_since(date).unwrap_or_default();
        let mut peers = self.shared.peers();
        if !slept.is_zero() {
            peers.slept(slept);
            self.alarm.slept(slept);
        }
        peers.on_time(now);
        drop(peers);
        if slept.max(by_date) > SLEEP {
            let slept = slept.max(by_date);
            tracing::info!(?slept, "the host slept: connections are looked at");
            self.shared.emit(NetworkEvent::Woke { slept });
            self.wake(now);
        }
        self.look_for_signs(now);
        for address in self.starting.late(now) {
            self.not_listening(address, NO_INTERFACE);
        }
        for address in std::mem::take(&mut self.expired) {
            let listeners = self.shared.state().listeners.clone();
            if !listeners
                .iter()
                .any(|other| place(other) == place(&address))
            {
                self.not_listening(address, EXPIRED);
            }
        }
        for address in self.circuits.due(now) {
            self.swarm.behaviour_mut().gate.vouch(&address);
            match self.swarm.listen_on(address.clone()) {
                Ok(listener) => self.circuits.asked(address, listener),
                Err(_) => self.circuits.failed(&address, now),
            }
        }
        self.look_at_record(now);
        self.ask_for_stakes(now);
        self.discovery.on_time(&mut self.swarm, now);
        self.requests.on_time(now);
        self.score_again(now);
        self.publish_held(|_| true);
        self.bridge();
    }

    /// Tells of signs of an eclipse that come or go.
    fn look_for_signs(&mut self, now: Instant) {
        if !self.alarm.is_due(now) {
            return;
        }
        let outlook = self.discovery.outlook();
        if let Some(signs) = self.alarm.look(outlook, now) {
            let event = NetworkEvent::EclipseSuspected {
                signs: signs.clone(),
            };
            tracing::warn!("{event}");
            self.shared.state().eclipse_signs = signs;
            self.shared.emit(event);
        }
    }

    /// This node does not listen where it was to, or no longer.
    fn not_listening(&mut self, address: Multiaddr, reason: &str) {
        let reason = reason.to_owned();
        tracing::warn!(%address, %reason, "not listening");
        self.shared
            .emit(NetworkEvent::NotListening { address, reason });
    }
}

/// Without the certificates' hashes: the same place.
fn place(address: &Multiaddr) -> Multiaddr {
    let hash = |part: &Protocol<'_>| matches!(part, Protocol::Certhash(_));
    address.iter().filter(|part| !hash(part)).collect()
}

/// However a task ends, in order, by a panic or with its runtime, nobody goes on waiting for its events.
impl Drop for Task {
    fn drop(&mut self) {
        self.shared.end();
    }
}

/// Lets other tasks of this thread run: after work that came in bulk a vote may wait there.
async fn give_way() {
    let mut given = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The next submission of a kind for which there is room. The channels' end is the commands' business.
async fn next(submissions: &mut Submissions, rooms: [bool; ItemKind::ALL.len()]) -> Submission {
    std::future::poll_fn(|cx| {
        for (submissions, room) in submissions.iter_mut().zip(rooms) {
            if room && let Poll::Ready(Some(submission)) = submissions.poll_recv(cx) {
                return Poll::Ready(submission);
            }
        }
        Poll::Pending
    })
    .await
}

/// Connections are kept as long as the peer answers pings, so libp2p's own idle timeout is put out of reach: 20 days,
/// just under what a browser's timer can hold.
const IDLE: Duration = Duration::from_secs(20 * 86_400);
/// A tick that comes so late has slept: the timers of a hidden tab ring once a minute.
const SLEEP: Duration = Duration::from_secs(70);
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
