//! Gossipsub behind its guard.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    gossipsub::{self, IdentTopic, MessageAcceptance, MessageId},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};

use super::{
    door::Door,
    handler::{Decoder, Guest, Handler, Order, SMALL, Standing, decoder, unwanted},
    sieve::MAX_TOPICS,
    unread::Unread,
};
use crate::{
    config::Config,
    error::NetworkError,
    platform::{self, Instant},
    traffic::{Cost, Limit, Limits, Protocol, Rate, RateLimiter},
};

/// libp2p's own, which keeps of each peer no more than so many subscriptions.
pub(super) type Inner = gossipsub::Behaviour<
    gossipsub::IdentityTransform,
    gossipsub::MaxCountSubscriptionFilter<gossipsub::AllowAllSubscriptionFilter>,
>;

/// How long an item may wait for a slow peer before it is dropped: a megabyte over a slow line takes seconds, and
/// what is dropped on the way to a mesh peer is not offered to it again. gossipsub's defaults are 5 s for what is
/// published here and 1 s for what is passed on.
const SEND_PATIENCE: Duration = Duration::from_secs(30);
/// How long a connected peer may take to tell its subscriptions before nobody waits for them.
const SUBSCRIPTIONS: Duration = Duration::from_secs(1);
/// Bytes of messages that may wait for one peer to read, if the largest item is not larger.
pub(super) const MAX_UNREAD: usize = 4 << 20;
/// Message ids in one control message: libp2p takes no more than 16 KiB.
const IDS: usize = 500;
/// Useless things that a peer may send without paying: what it sent while a topic was left here is no fault of its own.
const USELESS: Rate = Rate {
    per_second: 10,
    burst: 100,
};

/// See the module's documentation.
pub(crate) struct Gossip {
    inner: Inner,
    door: Arc<Door>,
    members: HashMap<PeerId, Member>,
    max_plain: usize,
    disconnect_at: f64,
    useless: RateLimiter,
    unread: Unread,
    /// The sizes of messages that wait for their verdict.
    judged: HashMap<MessageId, usize>,
    /// libp2p's own, once a connection was there.
    decoder: Option<Decoder>,
    actions: VecDeque<ToSwarm<GossipEvent, Order>>,
}

/// A connected peer.
struct Member {
    connections: HashMap<ConnectionId, ConnectedPoint>,
    standing: watch::Sender<Standing>,
    room: Arc<Semaphore>,
    since: Instant,
    /// Whether it has told subscriptions.
    told: bool,
    /// Whether it is known to sign its messages.
    signs: bool,
}

/// What gossip has to say.
#[derive(Debug)]
pub(crate) enum GossipEvent {
    /// libp2p's own event.
    Plain(gossipsub::Event),
    /// A peer sends what nobody has a reason to send, more often than by accident.
    Useless(PeerId),
    /// A peer broke the rules of frames.
    Broken(PeerId),
    /// A peer signs its messages, which are dropped here; told once a connection.
    Signs(PeerId),
}

impl Gossip {
    /// Unsigned, since items carry their own proof; identified by topic and content, so that a
    /// copy is a copy whoever sent it; passed on only after the verdict.
    pub(crate) fn new(config: &Config, own: PeerId) -> Result<Self, NetworkError> {
        let wrong = |reason: String| NetworkError::Transport {
            transport: "gossipsub",
            reason,
        };
        let gossip = &config.protocol.gossipsub_config;
        let door = Arc::new(Door::new(gossip, own));
        let longest = door.longest;
        let built = gossipsub::ConfigBuilder::default()
            .validation_mode(gossipsub::ValidationMode::Anonymous)
            .validate_messages()
            .message_id_fn(|message| {
                gossipsub::MessageId::from(message_id(message.topic.as_str(), &message.data))
            })
            .mesh_n(gossip.mesh_n)
            .mesh_n_low(gossip.mesh_n_low)
            .mesh_n_high(gossip.mesh_n_high)
            .mesh_outbound_min(
                (gossip.mesh_n / 2)
                    .min(gossip.mesh_n_low.saturating_sub(1))
                    .min(2),
            )
            .heartbeat_interval(gossip.heartbeat_interval)
            .max_transmit_size(longest)
            .duplicate_cache_time(gossip.duplicate_cache_time)
            .connection_handler_queue_len(gossip.queue_length)
            .publish_queue_duration(SEND_PATIENCE)
            .forward_queue_duration(SEND_PATIENCE)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let subscriptions = gossipsub::MaxCountSubscriptionFilter {
            filter: gossipsub::AllowAllSubscriptionFilter::default(),
            max_subscribed_topics: MAX_TOPICS,
            max_subscriptions_per_request: MAX_TOPICS,
        };
        let mut inner = Inner::new_with_subscription_filter(
            gossipsub::MessageAuthenticity::Anonymous,
            built,
            subscriptions,
        )
        .map_err(|error| wrong(error.to_owned()))?;
        let disconnect_at = config.security.peer_scoring.disconnect_at;
        let (params, thresholds) = scores(disconnect_at);
        inner.with_peer_score(params, thresholds).map_err(wrong)?;
        let limits = Limits {
            gossip: Limit {
                items: Some(USELESS),
                bytes: None,
            },
            ..Limits::default()
        };
        Ok(Self {
            inner,
            door,
            members: HashMap::new(),
            max_plain: gossip.max_plain_peers,
            disconnect_at,
            useless: RateLimiter::new(limits),
            unread: Unread::new(longest.max(MAX_UNREAD)),
            judged: HashMap::new(),
            decoder: None,
            actions: VecDeque::new(),
        })
    }

    /// Takes part in a topic.
    ///
    /// # Errors
    /// libp2p's own.
    pub(crate) fn subscribe(
        &mut self,
        topic: &IdentTopic,
    ) -> Result<bool, gossipsub::SubscriptionError> {
        self.door.join(topic.hash().as_str());
        self.inner.subscribe(topic)
    }

    /// Takes part no longer.
    pub(crate) fn unsubscribe(&mut self, topic: &IdentTopic) {
        self.door.leave(topic.hash().as_str());
        self.inner.unsubscribe(topic);
    }

    /// Sends a message of our own.
    ///
    /// # Errors
    /// libp2p's own.
    pub(crate) fn publish(
        &mut self,
        topic: IdentTopic,
        data: impl Into<Vec<u8>>,
    ) -> Result<MessageId, gossipsub::PublishError> {
        let data = data.into();
        let size = data.len();
        let id = self.inner.publish(topic, data)?;
        self.sent(id.clone(), size);
        Ok(id)
    }

    /// A message goes to peers; so older ones may wait no longer for those that do not read.
    fn sent(&mut self, id: MessageId, size: usize) {
        let old = self.unread.note(id, size);
        for ids in old.chunks(IDS) {
            for (&peer, member) in &self.members {
                let connection = member.connections.keys().next();
                let said = self
                    .decoder
                    .as_ref()
                    .and_then(|decoder| unwanted(decoder, ids));
                if let (Some(&connection), Some(said)) = (connection, said) {
                    self.inner
                        .on_connection_handler_event(peer, connection, said);
                }
            }
        }
    }

    /// The verdict on a message; false where it has left the cache meanwhile.
    pub(crate) fn report_message_validation_result(
        &mut self,
        id: &MessageId,
        source: &PeerId,
        acceptance: MessageAcceptance,
    ) -> bool {
        let size = self.judged.remove(id);
        if let (Some(size), MessageAcceptance::Accept) = (size, &acceptance) {
            self.sent(id.clone(), size);
        }
        self.inner
            .report_message_validation_result(id, source, acceptance)
    }

    /// A peer's reputation is its score; what is less than half of what it takes to be let go counts for nothing.
    pub(crate) fn set_score(&mut self, peer: &PeerId, reputation: f64) {
        let counts = reputation <= self.disconnect_at / 2.0;
        let score = if counts { reputation } else { 0.0 };
        self.inner.set_application_score(peer, score);
    }

    /// A peer is known to be one of ours, or plain libp2p. False: there is no place for it, and no gossip with it.
    pub(crate) fn admit(&mut self, peer: PeerId, selkie: bool) -> bool {
        let plain = |member: &&Member| *member.standing.borrow() == Standing::Plain;
        let full = self.members.values().filter(plain).count() >= self.max_plain;
        let Some(member) = self.members.get_mut(&peer) else {
            return true;
        };
        let before = *member.standing.borrow();
        let standing = match before {
            Standing::Deaf | Standing::Denied | Standing::Plain if !selkie => before,
            _ if selkie => Standing::Ours,
            _ if full => Standing::Denied,
            _ => Standing::Plain,
        };
        member.standing.send_replace(standing);
        if standing == Standing::Denied && before != Standing::Denied {
            self.close(peer);
        }
        standing != Standing::Denied
    }

    /// Whether a plain peer is spoken to: it has items from nowhere else, and may publish some without taking part.
    pub(crate) fn hosts_plain(&self) -> bool {
        let plain = |member: &Member| *member.standing.borrow() == Standing::Plain;
        self.members.values().any(plain)
    }

    /// Whether a peer has connected so lately that its subscriptions may be on their way.
    pub(crate) fn awaits_subscriptions(&self, now: Instant) -> bool {
        let late = |member: &Member| {
            let fresh = now.saturating_duration_since(member.since) < SUBSCRIPTIONS;
            let spoken_to = !matches!(*member.standing.borrow(), Standing::Deaf | Standing::Denied);
            fresh && spoken_to && !member.told
        };
        self.members.values().any(late)
    }

    /// Ends the gossip with a peer, whose connections stay.
    fn close(&mut self, peer: PeerId) {
        let Some(member) = self.members.get(&peer) else {
            return;
        };
        let mut left = member.connections.len();
        for (&connection_id, endpoint) in &member.connections {
            left -= 1;
            // For libp2p's behaviour it is gone.
            let closed = FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id: peer,
                connection_id,
                endpoint,
                cause: None,
                remaining_established: left,
            });
            self.inner.on_swarm_event(closed);
            self.actions.push_back(ToSwarm::NotifyHandler {
                peer_id: peer,
                handler: NotifyHandler::One(connection_id),
                event: Order::Close,
            });
        }
    }

    fn member(&mut self, peer: PeerId) -> &mut Member {
        let kib = self.door.longest.div_ceil(1024).max(SMALL / 1024);
        self.members.entry(peer).or_insert_with(|| Member {
            connections: HashMap::new(),
            standing: watch::Sender::new(Standing::Stranger),
            room: Arc::new(Semaphore::new(kib)),
            since: platform::now(),
            told: false,
            signs: false,
        })
    }

    fn guest(&mut self, peer: PeerId) -> Guest {
        let door = Arc::clone(&self.door);
        let member = self.member(peer);
        Guest {
            peer,
            door,
            room: Arc::clone(&member.room),
            standing: member.standing.subscribe(),
        }
    }

    fn is_denied(&self, peer: &PeerId) -> bool {
        let denied = |member: &Member| *member.standing.borrow() == Standing::Denied;
        self.members.get(peer).is_some_and(denied)
    }

    /// Notes what libp2p says of a peer.
    fn note(&mut self, event: &gossipsub::Event) {
        match event {
            gossipsub::Event::Subscribed { peer_id, .. } => {
                if let Some(member) = self.members.get_mut(peer_id) {
                    member.told = true;
                }
            }
            gossipsub::Event::Message {
                message_id,
                message,
                ..
            } => {
                // Who gives no verdict at all loses nothing by it: gossipsub forgets the messages within seconds.
                if self.judged.len() >= Unread::MAX_MESSAGES {
                    self.judged.clear();
                }
                self.judged.insert(message_id.clone(), message.data.len());
            }
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                if let Some(member) = self.members.get_mut(peer_id)
                    && *member.standing.borrow() != Standing::Denied
                {
                    member.standing.send_replace(Standing::Deaf);
                }
            }
            _ => {}
        }
    }
}

/// gossipsub's peer score, of which only our own reputation and what gossipsub sees for itself (broken promises,
/// grafts while it was told to wait) count. Many peers at one address are none of its business.
fn scores(disconnect_at: f64) -> (gossipsub::PeerScoreParams, gossipsub::PeerScoreThresholds) {
    let params = gossipsub::PeerScoreParams {
        topics: HashMap::new(),
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: 0.0,
        ip_colocation_factor_whitelist: HashSet::new(),
        behaviour_penalty_weight: -1.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: 0.9,
        slow_peer_weight: 0.0,
        // Identities that come and go leave nothing behind for long; what they did is remembered by the reputation.
        retain_score: Duration::from_secs(60),
        ..Default::default()
    };
    let thresholds = gossipsub::PeerScoreThresholds {
        gossip_threshold: disconnect_at / 2.0,
        publish_threshold: disconnect_at * 0.75,
        graylist_threshold: disconnect_at,
        ..Default::default()
    };
    (params, thresholds)
}

/// `sha256(topic || data)[..20]`: docs/wire.md tells implementers to use the same.
fn message_id(topic: &str, data: &[u8]) -> Vec<u8> {
    let digest = Sha256::new()
        .chain_update(topic)
        .chain_update(data)
        .finalize();
    digest.into_iter().take(20).collect()
}

impl NetworkBehaviour for Gossip {
    type ConnectionHandler = Handler;
    type ToSwarm = GossipEvent;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let guest = self.guest(peer);
        if self.is_denied(&peer) {
            return Ok(Handler::new(None, guest));
        }
        let speaker = self
            .inner
            .handle_established_inbound_connection(connection, peer, local, remote)?;
        self.decoder = self.decoder.take().or_else(|| decoder(&speaker));
        Ok(Handler::new(Some(speaker), guest))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let guest = self.guest(peer);
        if self.is_denied(&peer) {
            return Ok(Handler::new(None, guest));
        }
        let speaker = self
            .inner
            .handle_established_outbound_connection(connection, peer, address, role, port)?;
        self.decoder = self.decoder.take().or_else(|| decoder(&speaker));
        Ok(Handler::new(Some(speaker), guest))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionEstablished(established) => {
                let member = self.member(established.peer_id);
                let endpoint = established.endpoint.clone();
                member
                    .connections
                    .insert(established.connection_id, endpoint);
                if self.is_denied(&established.peer_id) {
                    return;
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                let denied = self.is_denied(&closed.peer_id);
                if let Some(member) = self.members.get_mut(&closed.peer_id) {
                    member.connections.remove(&closed.connection_id);
                }
                if closed.remaining_established == 0 {
                    self.members.remove(&closed.peer_id);
                    self.door.forget(&closed.peer_id);
                    self.useless.forget(&closed.peer_id);
                }
                if denied {
                    return;
                }
            }
            FromSwarm::AddressChange(change) if self.is_denied(&change.peer_id) => return,
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        mut heard: THandlerOutEvent<Self>,
    ) {
        let denied = self.is_denied(&peer);
        let Some(member) = self.members.get_mut(&peer) else {
            return;
        };
        let mut told = Vec::new();
        if heard.signed && !std::mem::replace(&mut member.signs, true) {
            told.push(GossipEvent::Signs(peer));
        }
        if heard.broken {
            told.push(GossipEvent::Broken(peer));
        }
        // More than the burst at once is over the limit all the same.
        let items = heard.useless.min(USELESS.burst + 1);
        let cost = Cost { items, bytes: 0 };
        let now = platform::now();
        if items > 0
            && self
                .useless
                .admits(peer, Protocol::Gossip, cost, now)
                .is_err()
        {
            told.push(GossipEvent::Useless(peer));
        }
        self.actions
            .extend(told.into_iter().map(ToSwarm::GenerateEvent));
        if let Some(said) = heard.said.take().filter(|_| !denied) {
            self.inner
                .on_connection_handler_event(peer, connection, said);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(action) = self.actions.pop_front() {
            return Poll::Ready(action);
        }
        self.inner.poll(cx).map(|action| {
            if let ToSwarm::GenerateEvent(event) = &action {
                self.note(event);
            }
            action.map_out(GossipEvent::Plain).map_in(Order::Inner)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use libp2p::swarm::behaviour::ConnectionEstablished;
    use proptest::prelude::*;

    use super::{super::handler::heard, *};
    use crate::platform::test;

    fn gossip() -> (Gossip, IdentTopic) {
        let mut config = Config::default();
        config.protocol.gossipsub_config.heartbeat_interval = Duration::from_millis(10);
        let mut gossip = Gossip::new(&config, PeerId::random()).expect("right");
        let topic = IdentTopic::new("ours");
        gossip.subscribe(&topic).expect("allowed");
        (gossip, topic)
    }

    fn connect(gossip: &mut Gossip, number: usize) -> (PeerId, ConnectionId) {
        let (peer_id, connection_id) = (PeerId::random(), ConnectionId::new_unchecked(number));
        let address: Multiaddr = "/memory/1".parse().expect("an address");
        gossip
            .handle_established_inbound_connection(connection_id, peer_id, &address, &address)
            .expect("let in");
        gossip.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id,
            connection_id,
            endpoint: &ConnectedPoint::Listener {
                local_addr: address.clone(),
                send_back_addr: address,
            },
            failed_addresses: &[],
            other_established: 0,
        }));
        (peer_id, connection_id)
    }

    fn hear(gossip: &mut Gossip, (peer, connection): (PeerId, ConnectionId), frame: &[u8]) {
        let decoder = gossip.decoder.clone().expect("a connection was there");
        if let Some(heard) = heard(&decoder, &gossip.door, peer, frame) {
            gossip.on_connection_handler_event(peer, connection, heard);
        }
    }

    fn drain(gossip: &mut Gossip) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| gossip.poll(&mut cx).is_ready().then_some(())).count()
    }

    #[test]
    fn plain_peers_have_places_and_ours_need_none() {
        let (mut gossip, _) = gossip();
        gossip.max_plain = 2;
        let peers: Vec<_> = (0..4)
            .map(|number| connect(&mut gossip, number).0)
            .collect();
        assert!(!gossip.hosts_plain());
        assert!(gossip.admit(peers[0], false) && gossip.admit(peers[1], false));
        assert!(!gossip.admit(peers[2], false) && gossip.admit(peers[3], true));
        assert!(gossip.hosts_plain());
        assert_eq!(gossip.inner.all_peers().count(), 3);
        // It stays denied, and what it says is not heard.
        assert!(!gossip.admit(peers[2], false));
        let connection = ConnectionId::new_unchecked(2);
        hear(
            &mut gossip,
            (peers[2], connection),
            &[0x0a, 6, 0x08, 1, 0x12, 2, b'h', b'i'],
        );
        drain(&mut gossip);
        assert!(gossip.awaits_subscriptions(platform::now()));
        assert!(!gossip.members[&peers[2]].told);
    }

    /// A control message of gossipsub's for topic `ours`, or nearly one.
    fn control() -> impl Strategy<Value = Vec<u8>> {
        let backoff = prop_oneof![
            Just(u64::MAX),
            Just(i64::MAX as u64),
            any::<u64>(),
            0..90_u64
        ];
        let prune = backoff.prop_map(|backoff| {
            let mut prune = vec![0x0a, 4, b'o', b'u', b'r', b's', 0x18];
            prost::encoding::encode_varint(backoff, &mut prune);
            [&[0x22, prune.len() as u8][..], &prune].concat()
        });
        let graft = Just([&[0x1a, 6, 0x0a, 4][..], b"ours"].concat());
        let have = proptest::collection::vec(any::<u8>(), 0..20).prop_map(|id| {
            let entry = [&[0x0a, 4][..], b"ours", &[0x12, id.len() as u8], &id].concat();
            [&[0x0a, entry.len() as u8][..], &entry].concat()
        });
        let want = proptest::collection::vec(any::<u8>(), 0..20)
            .prop_map(|id| [&[0x12, id.len() as u8 + 2, 0x0a, id.len() as u8][..], &id].concat());
        let any = proptest::collection::vec(any::<u8>(), 0..40);
        let control = prop_oneof![prune, graft, have, want, any];
        control.prop_map(|control| [&[0x1a, control.len() as u8][..], &control].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_order_of_control_messages_ends_the_node(
            steps in proptest::collection::vec((0..3_usize, control(), any::<bool>()), 1..200),
        ) {
            let (mut gossip, topic) = gossip();
            let peers: Vec<_> = (0..3).map(|number| connect(&mut gossip, number)).collect();
            for peer in &peers {
                hear(&mut gossip, *peer, &[0x0a, 8, 0x08, 1, 0x12, 4, b'o', b'u', b'r', b's']);
            }
            for (number, (peer, frame, leaves)) in steps.into_iter().enumerate() {
                hear(&mut gossip, peers[peer], &frame);
                if leaves {
                    gossip.unsubscribe(&topic);
                    gossip.subscribe(&topic).expect("allowed");
                }
                let _ = gossip.publish(topic.clone(), number.to_be_bytes());
                drain(&mut gossip);
            }
        }
    }
}
