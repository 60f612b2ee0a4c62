//! Gossipsub behind its guard.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    gossipsub::{self, IdentTopic, MessageAcceptance, MessageId, TopicHash},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};

use super::{
    handler::{Decoder, Fault, Guest, Handler, Order, Speaker, Standing, decoder, unwanted},
    inner::{self, Inner},
    members::Members,
    reading::Reading,
    sizes::{Fate, Sizes},
    unread::Unread,
};
use crate::{
    config::Config,
    error::NetworkError,
    order,
    peers::Account,
    platform::{self, Instant, alarm::Alarm},
    traffic::{Cost, Limits, Protocol, RateLimiter, USELESS},
};

/// Bytes of messages that may wait for one peer to read, if two of the largest items are not larger.
pub(super) const MAX_UNREAD: usize = 4 << 20;
/// Bytes that may wait for all together, if twice what may wait for one is not more: each leaves as much free as it has, so that half of it is
/// for one.
const MAX_UNREAD_TOGETHER: usize = 16 << 20;
/// As much may wait for one that has neither said hello nor shown that it speaks none: whoever connects takes no place yet.
const UNREAD_BY_STRANGER: usize = 128 << 10;

/// Own messages of which is remembered that they found all queues full.
const MAX_UNSENT: usize = 64;

/// The score of whom nothing is held against. libp2p keeps for a while what it has of those that are gone, and looks at all of that each
/// second, but not of who has more than none: so who comes under ever new names leaves nothing behind.
const NOTHING: f64 = f64::MIN_POSITIVE;

/// See the module's documentation.
pub(crate) struct Gossip {
    own: PeerId,
    inner: Inner,
    reading: Arc<Reading>,
    members: Members,
    max_plain: usize,
    disconnect_at: f64,
    kept_for: Duration,
    useless: RateLimiter,
    unread: Unread,
    sizes: Sizes,
    /// Messages of our own that libp2p knows and nobody has, the last first: at most [`MAX_UNSENT`].
    unsent: VecDeque<MessageId>,
    /// Peers that are connected and whose score counts.
    scored: BTreeSet<PeerId>,
    /// Whether somebody waits for [`GossipEvent::Room`].
    awaited: bool,
    /// libp2p's own, once a connection was there.
    decoder: Option<Decoder>,
    actions: VecDeque<ToSwarm<GossipEvent, Order>>,
    alarm: Alarm,
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
    /// A peer sent a frame so slowly that it was given up, which is no fault.
    Slow(PeerId),
    /// A peer signs its messages, which are dropped here; told once a connection.
    Signs(PeerId),
    /// A peer does not read: so many messages to it were dropped.
    Lost(PeerId, usize),
    /// Peers have read what they were waited for.
    Room,
}

impl Gossip {
    /// # Errors
    /// [`NetworkError::Transport`]: libp2p's own, against the configuration.
    pub(crate) fn new(config: &Config, own: PeerId) -> Result<Self, NetworkError> {
        let gossip = &config.protocol.gossipsub_config;
        let reading = Arc::new(Reading::new(gossip));
        let max_unread = MAX_UNREAD.max(2 * reading.longest);
        Ok(Self {
            own,
            inner: inner::build(config, reading.longest)?,
            members: Members::default(),
            max_plain: gossip.max_plain_peers,
            disconnect_at: config.security.peer_scoring.disconnect_at,
            kept_for: inner::kept_for(gossip),
            useless: RateLimiter::new(Limits::default()),
            unread: Unread::new(
                max_unread,
                gossip.queue_length,
                MAX_UNREAD_TOGETHER.max(2 * max_unread),
            ),
            sizes: Sizes::default(),
            unsent: VecDeque::new(),
            scored: BTreeSet::new(),
            awaited: false,
            decoder: None,
            actions: VecDeque::new(),
            alarm: Alarm::default(),
            reading,
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
        if !self.reading.has_joined() {
            self.members
                .peers()
                .into_iter()
                .for_each(|peer| self.speak_to(peer));
        }
        self.reading.join(topic.hash().as_str());
        self.inner.subscribe(topic)
    }

    /// Takes part no longer.
    pub(crate) fn unsubscribe(&mut self, topic: &IdentTopic) {
        self.reading.leave(topic.hash().as_str());
        self.inner.unsubscribe(topic);
    }

    /// Whether messages of our own may be published without a loss to a peer that reads; if not, [`GossipEvent::Room`]
    /// tells when, within a second.
    pub(crate) fn has_room(&mut self) -> bool {
        self.awaited = !self.unread.has_room();
        !self.awaited
    }

    /// Sends a message of our own.
    ///
    /// # Errors
    /// libp2p's own; all queues are full where nobody who takes part has room for it, or may have it as a stranger. That is said before libp2p
    /// hears of the message, which would take the next attempt for a copy. Where it found its queues full by itself, that is said of each
    /// attempt until it has forgotten the message (`duplicate_cache_time`): nobody has it.
    pub(crate) fn publish(
        &mut self,
        topic: IdentTopic,
        data: Bytes,
    ) -> Result<MessageId, gossipsub::PublishError> {
        use gossipsub::PublishError::{AllQueuesFull, Duplicate};
        let (size, topic, now) = (data.len(), topic.hash(), platform::now());
        let mut takers = self.takers(&topic, size, now);
        // libp2p publishes to no others.
        let least = inner::publish_threshold(self.disconnect_at);
        takers.retain(|peer| {
            self.inner
                .peer_score(peer)
                .is_none_or(|score| score >= least)
        });
        let may_have = |peer| !self.is_too_new(peer, size) && self.unread.fits(peer, size);
        if !takers.is_empty() && !takers.iter().any(may_have) {
            return Err(AllQueuesFull(takers.len()));
        }
        let id = match self.inner.publish(topic.clone(), data.clone()) {
            Ok(id) => id,
            Err(error @ (AllQueuesFull(_) | Duplicate)) => {
                let id = inner::message_id(topic.as_str(), &data);
                let is_unsent = self.unsent.contains(&id);
                if !is_unsent && matches!(error, AllQueuesFull(_)) {
                    self.keep_unsent(id);
                }
                return Err(if is_unsent {
                    AllQueuesFull(takers.len())
                } else {
                    error
                });
            }
            Err(error) => return Err(error),
        };
        self.unsent.retain(|unsent| *unsent != id);
        self.unread.earn(size);
        let count = takers.len();
        if !self.sent(takers, &id, size, now) {
            self.sizes.insert(id.clone(), size, Fate::Unsent);
            self.keep_unsent(id);
            return Err(AllQueuesFull(count));
        }
        self.sizes.insert(id.clone(), size, Fate::Sent);
        Ok(id)
    }

    /// libp2p knows a message of our own that nobody has.
    fn keep_unsent(&mut self, id: MessageId) {
        self.unsent.truncate(MAX_UNSENT - 1);
        self.unsent.push_front(id);
    }

    /// A message came by gossip, and is accepted by another way: it is passed on, if it was not yet. False: nobody gets it from here, since it
    /// was not accepted when it came, has left the cache, or found no room.
    pub(crate) fn pass_on(&mut self, topic: &IdentTopic, data: &[u8]) -> bool {
        let id = inner::message_id(topic.hash().as_str(), data);
        if self.sizes.awaits_verdict(&id) {
            let own = self.own;
            self.report_message_validation_result(&id, &own, MessageAcceptance::Accept);
        }
        self.sizes.is_sent(&id)
    }

    /// Whether all that was sent is with its peers, or with this one. Linear in peers: for the end of a node.
    pub(crate) fn is_flushed(&mut self, to: Option<&PeerId>) -> bool {
        let is_meant = |peer: &PeerId| to.is_none_or(|to| to == peer);
        for peer in self.unread.peers().into_iter().filter(is_meant) {
            self.look_at(peer);
        }
        !self.unread.peers().iter().any(is_meant)
    }

    /// Whether a peer takes part in some topic, and is spoken to.
    pub(crate) fn takes_part(&self, peer: &PeerId) -> bool {
        self.members.takes_part(peer)
    }

    /// The peers that take part in a topic, and those of them in its mesh; both in the order of their ids.
    pub(crate) fn who_takes(&self, topic: &TopicHash) -> (Vec<PeerId>, Vec<PeerId>) {
        let mut peers = self.members.takers(topic);
        order::sort(&mut peers);
        let mut mesh: Vec<_> = self.inner.mesh_peers(topic).copied().collect();
        order::sort(&mut mesh);
        (peers, mesh)
    }

    /// Who takes part in a topic, to which there is something to send: whether they have read is looked at where it matters.
    fn takers(&mut self, topic: &TopicHash, size: usize, now: Instant) -> Vec<PeerId> {
        let takers = self.members.takers(topic);
        for peer in &takers {
            self.look_if_full(*peer, size, now);
        }
        takers
    }

    /// Looks whether a peer has read, where it has no room for a message otherwise.
    fn look_if_full(&mut self, peer: PeerId, size: usize, now: Instant) {
        let most = if self.members.is_stranger(&peer) {
            UNREAD_BY_STRANGER
        } else {
            usize::MAX
        };
        if self.unread.is_full(&peer, size, most, now) {
            self.look_at(peer);
        }
    }

    /// A message was sent to peers: who has no room for it loses it. False: all of them do.
    fn sent(&mut self, peers: Vec<PeerId>, id: &MessageId, size: usize, now: Instant) -> bool {
        let mut is_kept = peers.is_empty();
        for peer in peers {
            if self.loses_as_stranger(peer, size, now) || !self.unread.add(peer, size, now) {
                self.drop_from_queue(peer, id);
            } else {
                is_kept = true;
            }
        }
        is_kept
    }

    /// Whether a message is more than a peer may leave unread of which nothing is known yet.
    fn is_too_new(&self, peer: &PeerId, size: usize) -> bool {
        self.members.is_stranger(peer)
            && self.unread.bytes(peer).saturating_add(size) > UNREAD_BY_STRANGER
    }

    /// Whether a message is lost for a peer for that.
    fn loses_as_stranger(&mut self, peer: PeerId, size: usize, now: Instant) -> bool {
        let is_too_new = self.is_too_new(&peer, size);
        if is_too_new {
            self.unread.lose(peer, now);
        }
        is_too_new
    }

    fn drop_from_queue(&mut self, peer: PeerId, id: &MessageId) {
        let connection = self
            .members
            .get(&peer)
            .and_then(|member| member.connections.keys().next());
        let said = self
            .decoder
            .as_ref()
            .and_then(|decoder| unwanted(decoder, std::slice::from_ref(id)));
        if let (Some(&connection), Some(said)) = (connection, said) {
            self.inner
                .on_connection_handler_event(peer, connection, said);
        }
    }

    /// Looks whether the peers that are waited for have read.
    fn look(&mut self) {
        for peer in self.unread.waited() {
            self.look_at(peer);
        }
    }

    fn look_at(&mut self, peer: PeerId) {
        let member = self.members.get(&peer);
        let is_connected = member.is_some_and(|member| !member.connections.is_empty());
        if !is_connected || inner::has_read(&mut self.inner, peer) {
            self.unread.clear(&peer);
        }
    }

    /// The verdict on a message; false where it has left the cache meanwhile.
    pub(crate) fn report_message_validation_result(
        &mut self,
        id: &MessageId,
        source: &PeerId,
        acceptance: MessageAcceptance,
    ) -> bool {
        let now = platform::now();
        let judged = self.sizes.judged(id);
        let passed = judged.filter(|_| matches!(acceptance, MessageAcceptance::Accept));
        let takers = passed.map(|(size, topic)| (size, self.takers(&topic, size, now)));
        let known = self
            .inner
            .report_message_validation_result(id, source, acceptance);
        if let Some((size, mut takers)) = takers.filter(|_| known) {
            takers.retain(|peer| peer != source);
            if self.sent(takers, id, size, now) {
                self.sizes.insert(id.clone(), size, Fate::Sent);
            }
        }
        known
    }

    /// How long after a message came its verdict finds it here, at least.
    pub(crate) fn kept_for(&self) -> Duration {
        self.kept_for
    }

    /// Whether a message came, lately, and has no verdict yet.
    pub(crate) fn awaits_verdict(&self, id: &MessageId) -> bool {
        self.sizes.awaits_verdict(id)
    }

    /// A peer's reputation is its score; what is less than half of what it takes to be let go counts for nothing. libp2p's does not fade as
    /// reputation does: of those that [`Self::scored`] names it is to be set again from time to time.
    pub(crate) fn set_score(&mut self, peer: &PeerId, reputation: f64) {
        let counts = reputation <= self.disconnect_at / 2.0;
        if counts && self.members.get(peer).is_some() {
            self.scored.insert(*peer);
        } else {
            self.scored.remove(peer);
        }
        let score = if counts { reputation } else { NOTHING };
        self.inner.set_application_score(peer, score);
    }

    /// The connected peers whose score counts.
    pub(crate) fn scored(&self) -> Vec<PeerId> {
        self.scored.iter().copied().collect()
    }

    /// A peer is known to be one of ours, or plain libp2p. False: there is no place for it, and no gossip with it.
    pub(crate) fn admit(&mut self, peer: PeerId, selkie: bool) -> bool {
        match self.members.admit(&peer, selkie, self.max_plain) {
            Some((Standing::Denied, is_new)) => {
                if is_new {
                    self.close(peer);
                }
                false
            }
            Some((standing, _)) => {
                self.reading.know(peer);
                if standing == Standing::Plain {
                    self.speak_to(peer);
                }
                true
            }
            None => true,
        }
    }

    /// Whether a plain peer is spoken to: it has items from nowhere else, and may publish some without taking part.
    pub(crate) fn hosts_plain(&self) -> bool {
        self.members.hosts_plain()
    }

    /// Whether a peer has connected so lately that its subscriptions, or who it is, may be on their way.
    pub(crate) fn awaits_newcomers(&self, now: Instant) -> bool {
        self.members.awaits_newcomers(now)
    }

    /// There may be something to say to a peer from now on.
    fn speak_to(&mut self, peer: PeerId) {
        let Some(member) = self.members.get_mut(&peer) else {
            return;
        };
        if std::mem::replace(&mut member.spoken_to, true) {
            return;
        }
        let speak = |connection: &ConnectionId| ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(*connection),
            event: Order::Speak,
        };
        self.actions.extend(member.connections.keys().map(speak));
    }

    /// A connection's handler, by libp2p's.
    fn handler(&mut self, speaker: Speaker, guest: Guest) -> Handler {
        self.decoder = self.decoder.take().or_else(|| decoder(&speaker));
        let member = self.members.get(&guest.peer);
        let speaks = member.is_some_and(|member| member.spoken_to);
        Handler::new(Some(speaker), speaks, guest)
    }

    /// Ends the gossip with a peer, whose connections stay.
    fn close(&mut self, peer: PeerId) {
        self.unread.clear(&peer);
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

    /// Notes what libp2p says of a peer.
    fn note(&mut self, event: &gossipsub::Event) {
        match event {
            gossipsub::Event::Subscribed { peer_id, topic } => {
                self.members.takes(*peer_id, topic, true);
            }
            gossipsub::Event::Unsubscribed { peer_id, topic } => {
                self.members.takes(*peer_id, topic, false);
            }
            gossipsub::Event::Message {
                message_id,
                message,
                ..
            } => {
                let (size, topic) = (message.data.len(), message.topic.clone());
                let fate = Fate::Awaits(topic);
                self.sizes.insert(message_id.clone(), size, fate);
            }
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                self.members.never_hears(peer_id)
            }
            _ => {}
        }
    }

    fn on_time(&mut self, now: Instant) {
        if self.unread.on_time(now) {
            self.look();
        }
        for (peer, count) in self.unread.lost(now) {
            self.tell(GossipEvent::Lost(peer, count));
        }
        if self.awaited && self.unread.has_room() {
            self.awaited = false;
            self.tell(GossipEvent::Room);
        }
    }

    fn tell(&mut self, event: GossipEvent) {
        self.actions.push_back(ToSwarm::GenerateEvent(event));
    }
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
        let account = Account::of(peer, remote);
        let guest = self.members.guest(peer, account, &self.reading);
        if self.members.is_denied(&peer) {
            return Ok(Handler::new(None, false, guest));
        }
        let speaker = self
            .inner
            .handle_established_inbound_connection(connection, peer, local, remote)?;
        Ok(self.handler(speaker, guest))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let account = Account::of(peer, address);
        let guest = self.members.guest(peer, account, &self.reading);
        if self.members.is_denied(&peer) {
            return Ok(Handler::new(None, false, guest));
        }
        let speaker = self
            .inner
            .handle_established_outbound_connection(connection, peer, address, role, port)?;
        Ok(self.handler(speaker, guest))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let mut comes = None;
        match &event {
            FromSwarm::ConnectionEstablished(established) => {
                comes = Some(established.peer_id).filter(|_| established.other_established == 0);
                if let Some(member) = self.members.get_mut(&established.peer_id) {
                    let endpoint = established.endpoint.clone();
                    member
                        .connections
                        .insert(established.connection_id, endpoint);
                }
                if self.members.is_denied(&established.peer_id) {
                    return;
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                let denied = self.members.is_denied(&closed.peer_id);
                if let Some(member) = self.members.get_mut(&closed.peer_id) {
                    member.connections.remove(&closed.connection_id);
                }
                if closed.remaining_established == 0 {
                    self.members.remove(&closed.peer_id);
                    self.scored.remove(&closed.peer_id);
                    self.reading.forget(&closed.peer_id, platform::now());
                    self.useless.forget(&closed.peer_id, platform::now());
                    self.unread.clear(&closed.peer_id);
                }
                if denied {
                    return;
                }
            }
            FromSwarm::AddressChange(change) if self.members.is_denied(&change.peer_id) => return,
            _ => {}
        }
        self.inner.on_swarm_event(event);
        // Who has less kept it from before.
        if let Some(peer) = comes.filter(|peer| self.inner.peer_score(peer) == Some(0.0)) {
            self.set_score(&peer, 0.0);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        mut heard: THandlerOutEvent<Self>,
    ) {
        let denied = self.members.is_denied(&peer);
        let Some(member) = self.members.get_mut(&peer) else {
            return;
        };
        if heard.signed && !std::mem::replace(&mut member.signs, true) {
            self.tell(GossipEvent::Signs(peer));
        }
        match heard.fault {
            Some(Fault::Broken) => self.tell(GossipEvent::Broken(peer)),
            Some(Fault::Slow) => self.tell(GossipEvent::Slow(peer)),
            None => {}
        }
        // More than the burst at once is over the limit all the same.
        let items = heard.useless.min(USELESS.burst + 1);
        let cost = Cost { items, bytes: 0 };
        let now = platform::now();
        let gossip = Protocol::Gossip;
        if items > 0 && self.useless.admits(peer, gossip, cost, now).is_err() {
            self.tell(GossipEvent::Useless(peer));
        }
        if let Some(said) = heard.said.take().filter(|_| !denied) {
            let wanted = heard.wants.iter().filter_map(|id| self.sizes.get(id)).sum();
            self.look_if_full(peer, wanted, now);
            self.speak_to(peer);
            self.inner
                .on_connection_handler_event(peer, connection, said);
            for id in heard.wants {
                if let Some(size) = self.sizes.get(&id)
                    && (self.loses_as_stranger(peer, size, now)
                        || !self.unread.count(peer, size, now))
                {
                    self.drop_from_queue(peer, &id);
                }
            }
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            if let Poll::Ready(action) = self.inner.poll(cx) {
                if let ToSwarm::GenerateEvent(event) = &action {
                    self.note(event);
                }
                let action = action.map_out(GossipEvent::Plain).map_in(Order::Inner);
                return Poll::Ready(action);
            }
            let Some(deadline) = self.unread.deadline() else {
                if self.awaited && self.unread.has_room() {
                    self.on_time(platform::now());
                    continue;
                }
                return Poll::Pending;
            };
            if self.alarm.poll_until(deadline, cx).is_pending() {
                return Poll::Pending;
            }
            self.on_time(platform::now());
        }
    }
}

#[cfg(test)]
mod tests;
