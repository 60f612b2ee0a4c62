//! The task that owns the swarm.
//!
//! One loop: finished checks, commands, the swarm's events, and a tick each second. A connection becomes a peer by the
//! hello: the dialler says its network and genesis on `/selkie/hello/1`, the other side answers with its own or with a
//! refusal. A peer that does not speak that protocol is a plain libp2p peer: it may take part in open gossip topics. Who
//! says nothing within `connection_timeout` is let go.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use futures_timer::Delay;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::transport::ListenerId,
    gossipsub::{self, IdentTopic, MessageAcceptance, MessageId},
    identity::Keypair,
    multiaddr::Protocol,
    relay, request_response as rr,
    swarm::{ConnectionId, dial_opts::{DialOpts, PeerCondition}},
};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use web_time::{Instant, SystemTime};

use super::{
    Config, ConfigError, NetworkError, NetworkEvent, PeerInfo, ProtocolError, TopicItem,
    behaviour::{self, Behaviour},
    config::modern,
    p2p::{Command, Shared, acceptance, addresses_of},
    protocol::{self, Answer, Hello, NetworkMessage},
    requests::Requests,
    validation::{Origin, Pending, Queue},
};
use crate::{
    chain::{Checked, Item, ItemId, ItemKind, Verdict},
    peers::{Judgement, Misdeed, Reputation},
    platform,
    traffic::RateLimiter,
    transport,
};

mod swarm_events;

/// Plain topics joined at once.
const MAX_TOPICS: usize = 256;
/// The longest name of a plain topic, in bytes.
const MAX_TOPIC_NAME: usize = 256;
/// How long a peer that is told to go has to read why.
const FAREWELL: Duration = Duration::from_millis(500);
/// The first and the longest pause between two rounds of dialling the bootstrap peers.
const REDIAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

type ResponseChannel = rr::ResponseChannel<Vec<u8>>;
type DialReply = oneshot::Sender<Result<PeerId, NetworkError>>;

/// See the module's documentation.
pub(crate) struct Task {
    config: Arc<Config>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    swarm: Swarm<Behaviour>,
    hello: Hello,
    peers: HashMap<PeerId, Peer>,
    /// Who waits for a dial to an address without an identity.
    dials: HashMap<ConnectionId, DialReply>,
    /// Listeners that have not told their address yet, and who waits for them.
    starting: (HashSet<ListenerId>, Option<oneshot::Sender<()>>),
    greetings: HashMap<rr::OutboundRequestId, PeerId>,
    farewells: HashMap<rr::InboundRequestId, PeerId>,
    requests: Requests,
    queue: Queue,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// The item kinds of our own topics, and whether a plain topic wants verdicts.
    items: HashMap<gossipsub::TopicHash, ItemKind>,
    topics: HashMap<gossipsub::TopicHash, bool>,
    reputation: Reputation,
    limiter: RateLimiter,
    bootstrap: Option<Redial>,
}

/// A peer with at least one connection, or one being dialled.
#[derive(Default)]
struct Peer {
    connections: usize,
    stage: Stage,
    waiters: Vec<DialReply>,
    /// What is known of it before it is shown to the user.
    info: Option<PeerInfo>,
    /// Why it is about to be gone, in our words.
    farewell: Option<String>,
}

/// How far a peer is.
#[derive(Default, Clone, Copy, PartialEq)]
enum Stage {
    #[default]
    Dialling,
    /// Connected; the hello must be over by then.
    Greeting(Instant),
    /// One of ours, or a plain libp2p peer.
    Ready,
    /// Refused; disconnected by then at the latest.
    Leaving(Instant),
}

/// When to dial the bootstrap peers again if there is nobody.
struct Redial {
    at: Instant,
    pause: Duration,
}

/// Work that was done off the task.
enum Done {
    Checked(Pending, Option<Checked>),
    Answered(ResponseChannel, Answer),
}

impl Task {
    /// The swarm, ready to listen.
    pub(crate) fn new(
        config: Arc<Config>,
        keypair: &Keypair,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, NetworkError> {
        let peer_id = keypair.public().to_peer_id();
        let (relay_transport, relay) = relay::client::new(peer_id);
        let transport = transport::build(keypair, &config, relay_transport, &shared.meter)?;
        let local = transport::local_discovery(&config, peer_id)?;
        let behaviour = Behaviour::new(&config, keypair, relay, local)?;
        let swarm_config = platform::swarm_config()
            .with_idle_connection_timeout(IDLE)
            .with_per_connection_event_buffer_size(256);
        let mut swarm = Swarm::new(transport, behaviour, peer_id, swarm_config);
        for address in &config.network.external_addresses {
            swarm.add_external_address(modern(address));
        }
        let mut items = HashMap::new();
        for kind in ItemKind::ALL {
            let topic = IdentTopic::new(protocol::topic(&config.chain.network_id, kind));
            swarm.behaviour_mut().gossip.subscribe(&topic).map_err(|error| NetworkError::Transport {
                transport: "gossipsub",
                reason: error.to_string(),
            })?;
            items.insert(topic.hash(), kind);
        }
        for peer in &config.network.bootstrap_peers {
            for address in &peer.addresses {
                swarm.behaviour_mut().kad.add_address(&peer.peer_id, modern(address));
            }
        }
        let (scoring, limits) = (&config.security.peer_scoring, &config.security.rate_limits);
        let validation = &config.protocol.validation;
        Ok(Self {
            hello: Hello {
                network_id: config.chain.network_id.clone(),
                genesis: Bytes::copy_from_slice(&config.chain.genesis),
                refusal: String::new(),
            },
            reputation: Reputation::new(scoring.half_life, scoring.disconnect_at, scoring.ban_at, scoring.max_peers),
            limiter: RateLimiter::new(limits.messages_per_second, limits.burst),
            queue: Queue::new(validation.max_in_flight, validation.max_queued_bytes),
            config,
            shared,
            commands,
            swarm,
            peers: HashMap::new(),
            dials: HashMap::new(),
            starting: (HashSet::new(), None),
            greetings: HashMap::new(),
            farewells: HashMap::new(),
            requests: Requests::default(),
            work: FuturesUnordered::new(),
            items,
            topics: HashMap::new(),
            bootstrap: None,
        })
    }

    /// Asks the system for every configured address; the answer comes when all have one.
    pub(crate) fn listen(&mut self) -> Result<oneshot::Receiver<()>, NetworkError> {
        let (sender, receiver) = oneshot::channel();
        for address in &self.config.network.listen_addresses {
            let address = modern(address);
            let listener = self.swarm.listen_on(address.clone());
            let listener = listener.map_err(|error| NetworkError::listen(address.clone(), error))?;
            // A reservation at a relay may take long and may come and go: start does not wait for it.
            if !address.iter().any(|p| p == Protocol::P2pCircuit) {
                self.starting.0.insert(listener);
            }
        }
        self.starting.1 = Some(sender);
        self.listener_started(None);
        Ok(receiver)
    }

    /// Runs until the last handle is gone or `shutdown` is called.
    pub(crate) async fn run(mut self: Box<Self>) {
        let mut tick = Delay::new(TICK).fuse();
        let stopped = loop {
            futures::select! {
                done = self.work.select_next_some() => self.on_done(done),
                command = self.commands.recv().fuse() => match command {
                    Some(Command::Shutdown { reply }) => break Some(reply),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                () = tick => {
                    self.on_tick(Instant::now());
                    tick = Delay::new(TICK).fuse();
                }
            }
        };
        self.close().await;
        self.shared.emit(&NetworkEvent::Stopped);
        self.shared.end();
        if let Some(reply) = stopped {
            let _ = reply.send(());
        }
    }

    /// Closes every connection, so that peers see an end and not a silence.
    async fn close(&mut self) {
        let connected: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let mut patience = Delay::new(FAREWELL).fuse();
        while self.swarm.connected_peers().next().is_some() {
            futures::select! {
                event = self.swarm.select_next_some() => drop(event),
                () = patience => break,
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial { address, reply } => self.dial(modern(&address), reply),
            Command::Disconnect { peer, reason } => self.let_go(peer, reason),
            Command::Publish { topic, data, reply } => {
                let published = self.publish(&topic, data);
                self.shared.state().recorder.sent(published.is_ok());
                let _ = reply.send(published);
            }
            Command::Deliver { item, id } => self.deliver(item, id, None, SystemTime::now()),
            Command::Send { peer, frame, reply } => {
                let id = self.swarm.behaviour_mut().message.send_request(&peer, frame);
                self.requests.sent(id, reply);
            }
            Command::Handle { item, peer, reply } => {
                self.check(item, peer, Origin::Handed(reply));
            }
            Command::JoinTopic { topic, validate, reply } => {
                let _ = reply.send(self.join(&topic, validate));
            }
            Command::LeaveTopic { topic } => {
                let topic = IdentTopic::new(topic);
                if self.topics.remove(&topic.hash()).is_some() {
                    self.swarm.behaviour_mut().gossip.unsubscribe(&topic);
                }
            }
            Command::Report { message_id, source, acceptance } => {
                if matches!(acceptance, MessageAcceptance::Reject) {
                    self.note(source, Misdeed::InvalidItem);
                }
                self.report(&MessageId::from(message_id), &source, acceptance);
            }
            Command::AddPeer(peer) => {
                for address in addresses_of(&peer) {
                    self.swarm.behaviour_mut().kad.add_address(&peer.peer_id, modern(&address));
                    self.swarm.add_peer_address(peer.peer_id, modern(&address));
                }
            }
            Command::KeepBootstrapped => {
                let pause = REDIAL.0;
                self.bootstrap = Some(Redial { at: Instant::now() + pause, pause });
            }
            // The loop has taken it already.
            Command::Shutdown { reply } => drop(reply),
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Checked(pending, checked) => self.on_checked(pending, checked),
            Done::Answered(channel, answer) => {
                // An error says that the peer is gone.
                let _ = self.swarm.behaviour_mut().message.send_response(channel, answer.encode());
            }
        }
    }

    fn on_tick(&mut self, now: Instant) {
        let meter = &self.shared.meter;
        let bytes = meter.sent() + meter.received();
        self.shared.state().recorder.traffic(bytes, now);
        let late: Vec<_> = self
            .peers
            .iter()
            .filter_map(|(id, peer)| match peer.stage {
                Stage::Greeting(end) if end <= now => Some((*id, "it did not say hello in time")),
                Stage::Leaving(end) if end <= now => Some((*id, "it was refused")),
                _ => None,
            })
            .collect();
        for (peer, reason) in late {
            if reason == "it did not say hello in time" {
                self.note(peer, Misdeed::NoAnswer);
                self.refuse(peer, reason.to_owned());
            }
            self.let_go(peer, reason.to_owned());
        }
        self.redial(now);
    }

    fn redial(&mut self, now: Instant) {
        let Some(redial) = &mut self.bootstrap else { return };
        if !self.peers.is_empty() {
            redial.pause = REDIAL.0;
            redial.at = now + redial.pause;
        } else if redial.at <= now {
            redial.pause = (redial.pause * 2).min(REDIAL.1);
            redial.at = now + redial.pause;
            for peer in self.config.network.bootstrap_peers.clone() {
                let addresses = peer.addresses.iter().map(modern).collect();
                // Failures arrive as events.
                let _ = self.swarm.dial(DialOpts::peer_id(peer.peer_id).addresses(addresses).build());
            }
        }
    }

    fn dial(&mut self, address: Multiaddr, reply: DialReply) {
        let target = address.to_string();
        let known = address.iter().last().and_then(|p| if let Protocol::P2p(id) = p { Some(id) } else { None });
        let Some(peer) = known else {
            let options = DialOpts::unknown_peer_id().address(address).build();
            let connection = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => drop(self.dials.insert(connection, reply)),
                Err(error) => {
                    let reason = swarm_events::dial_reason(&error);
                    let _ = reply.send(Err(NetworkError::Dial { target, reason }));
                }
            }
            return;
        };
        let entry = self.peers.entry(peer).or_default();
        if entry.stage == Stage::Ready {
            let _ = reply.send(Ok(peer));
            return;
        }
        entry.waiters.push(reply);
        if entry.stage != Stage::Dialling || entry.waiters.len() > 1 {
            return;
        }
        let options = DialOpts::peer_id(peer).addresses(vec![address]).condition(PeerCondition::Always).build();
        if let Err(error) = self.swarm.dial(options) {
            self.dial_failed(peer, &swarm_events::dial_reason(&error));
        }
    }

    /// Nobody is there: whoever waits is told, and the entry goes.
    fn dial_failed(&mut self, peer: PeerId, reason: &str) {
        if self.peers.get(&peer).is_some_and(|peer| peer.connections == 0)
            && let Some(gone) = self.peers.remove(&peer)
        {
            for waiter in gone.waiters {
                let (target, reason) = (peer.to_string(), reason.to_owned());
                let _ = waiter.send(Err(NetworkError::Dial { target, reason }));
            }
        }
    }

    fn publish(&mut self, topic: &str, data: Bytes) -> Result<(), NetworkError> {
        let limit = self.config.protocol.gossipsub_config.max_transmit_size;
        let (name, size) = (IdentTopic::new(topic), data.len());
        match self.swarm.behaviour_mut().gossip.publish(name, data) {
            Ok(_) => Ok(()),
            Err(gossipsub::PublishError::Duplicate) => Err(ProtocolError::Duplicate.into()),
            Err(gossipsub::PublishError::MessageTooLarge) => Err(ProtocolError::TooLarge { size, limit }.into()),
            Err(gossipsub::PublishError::AllQueuesFull(_)) => Err(NetworkError::Busy),
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => {
                Err(NetworkError::NoPeers { topic: topic.to_owned() })
            }
            Err(other) => Err(ProtocolError::Network(other.to_string()).into()),
        }
    }

    fn join(&mut self, topic: &str, validate: bool) -> Result<(), NetworkError> {
        let wrong = |problem: &str| Err(ConfigError::new("topic", topic, problem).into());
        let name = IdentTopic::new(topic);
        if topic.is_empty() || topic.len() > MAX_TOPIC_NAME {
            return wrong("give a name of 1 to 256 bytes");
        }
        if self.items.contains_key(&name.hash()) {
            return wrong("this topic carries the chain's items; subscribe to those");
        }
        if self.topics.len() >= MAX_TOPICS && !self.topics.contains_key(&name.hash()) {
            return wrong("256 topics are joined already; leave one first");
        }
        if let Err(error) = self.swarm.behaviour_mut().gossip.subscribe(&name) {
            return wrong(&error.to_string());
        }
        self.topics.insert(name.hash(), validate);
        Ok(())
    }

    /// Takes an item from a peer into the queue; false where there is no room.
    fn check(&mut self, item: Item, source: PeerId, origin: Origin) -> bool {
        self.shared.state().recorder.received();
        let pending = Pending { item, source, received_at: SystemTime::now(), origin };
        let taken = match self.queue.push(pending) {
            Ok(()) => true,
            Err(Pending { item, source, origin, .. }) => {
                let reason = "too many items wait for a check (protocol.validation.max_queued_bytes)".to_owned();
                self.conclude(origin, item.kind(), source, Verdict::Ignore, reason);
                false
            }
        };
        self.start_checks();
        taken
    }

    fn start_checks(&mut self) {
        while let Some(pending) = self.queue.start() {
            let application = Arc::clone(&self.shared.application);
            let item = pending.item.clone();
            let check = platform::offload(move || {
                let checked = item.check(&*application);
                if checked.verdict == Verdict::Accept {
                    application.deliver(&item);
                }
                checked
            });
            self.work.push(check.map(|checked| Done::Checked(pending, checked)).boxed());
        }
    }

    fn on_checked(&mut self, pending: Pending, checked: Option<Checked>) {
        let Pending { item, source, received_at, origin } = pending;
        self.queue.done(item.data().len());
        self.start_checks();
        let kind = item.kind();
        let Some(Checked { id, verdict, reason, .. }) = checked else {
            let reason = "the application failed while checking it; see its log".to_owned();
            return self.conclude(origin, kind, source, Verdict::Ignore, reason);
        };
        // What did not come by gossip goes on by gossip, unless it is known there already.
        if verdict == Verdict::Accept && !matches!(origin, Origin::Gossip(_)) {
            let topic = protocol::topic(&self.config.chain.network_id, kind);
            if let Err(NetworkError::Protocol(ProtocolError::Duplicate)) = self.publish(&topic, item.data().clone()) {
                if let Origin::Handed(reply) = origin {
                    let _ = reply.send(Err(ProtocolError::Duplicate));
                }
                return;
            }
        }
        self.conclude(origin, kind, source, verdict, reason);
        if verdict == Verdict::Accept {
            self.deliver(item, id, Some(source), received_at);
        }
    }

    /// Tells everyone whom a verdict concerns.
    fn conclude(&mut self, origin: Origin, kind: ItemKind, source: PeerId, verdict: Verdict, reason: String) {
        if verdict == Verdict::Reject {
            self.note(source, Misdeed::InvalidItem);
        }
        if verdict != Verdict::Accept {
            self.shared.emit(&NetworkEvent::ItemRefused { kind, source, reason: reason.clone() });
        }
        match origin {
            Origin::Gossip(id) => self.report(&id, &source, acceptance(verdict)),
            Origin::Direct => {}
            Origin::Handed(reply) => {
                let _ = reply.send(match verdict {
                    Verdict::Accept => Ok(()),
                    Verdict::Ignore => Err(ProtocolError::Ignored { kind, reason }),
                    Verdict::Reject => Err(ProtocolError::Rejected { kind, reason }),
                });
            }
        }
    }

    fn deliver(&self, item: Item, id: ItemId, source: Option<PeerId>, received_at: SystemTime) {
        self.shared.emit(&NetworkEvent::ItemAccepted { item, id, source, received_at });
    }

    /// False from gossipsub says that the message has left its cache meanwhile, which is no fault.
    fn report(&mut self, id: &MessageId, source: &PeerId, acceptance: MessageAcceptance) {
        let _ = self.swarm.behaviour_mut().gossip.report_message_validation_result(id, source, acceptance);
    }

    /// A misdeed: the score, and what follows from it.
    fn note(&mut self, peer: PeerId, misdeed: Misdeed) {
        let now = Instant::now();
        let (score, judgement) = self.reputation.note(peer, misdeed, now);
        let reason = misdeed.reason();
        if let Some(info) = self.shared.state().peers.get_mut(&peer) {
            info.reputation = score;
        }
        self.shared.emit(&NetworkEvent::PeerScored { peer_id: peer, reason, score });
        match judgement {
            Judgement::Stay => {}
            Judgement::Disconnect => self.let_go(peer, format!("its reputation is used up: {reason}")),
            Judgement::Ban => {
                self.swarm.behaviour_mut().gate.bans.ban(peer, now);
                self.let_go(peer, format!("it is banned: {reason}"));
            }
        }
    }

    /// Says that a peer is not let in, and fails whoever waits for it.
    fn refuse(&mut self, peer: PeerId, reason: String) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        entry.farewell = Some(reason.clone());
        for waiter in std::mem::take(&mut entry.waiters) {
            let _ = waiter.send(Err(NetworkError::Dial { target: peer.to_string(), reason: reason.clone() }));
        }
        self.shared.emit(&NetworkEvent::PeerRefused { peer_id: peer, reason });
    }

    /// Closes all connections to a peer for a reason.
    fn let_go(&mut self, peer: PeerId, reason: String) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.farewell.get_or_insert(reason);
            // An error says that it is gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    /// One listener told its address (`Some`), or there may be none to wait for.
    fn listener_started(&mut self, listener: Option<ListenerId>) {
        listener.map(|id| self.starting.0.remove(&id));
        if self.starting.0.is_empty()
            && let Some(waiter) = self.starting.1.take()
        {
            let _ = waiter.send(());
        }
    }
}

/// Connections are kept as long as the peer answers pings, so libp2p's own idle timeout is put out of reach: 20 days,
/// just under what a browser's timer can hold.
const IDLE: Duration = Duration::from_secs(20 * 86_400);
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_secs(1);
