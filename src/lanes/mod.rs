//! The behaviour that moves the bytes: streams on one side, whatever speaks over them ([`Core`]) on the other.
//!
//! A peer takes part when it has said hello and all streams to it are open ([`lane`]). Votes are sent at once; the stream of
//! blocks gets little at a time, so that what becomes needless meanwhile can be left out; the bulk stream is fed as far as the
//! peer's window goes, in which what the peer acknowledges makes room ([`crate::traffic::Window`]). A frame is acknowledged when
//! the core is done with it (a batch of items when the chain has judged it), so that a sender feels how fast that goes. Every frame, in or out, is charged to the
//! limits of its class. What comes on the urgent lane overtakes what connections tell of the others ([`express`]). Of several connections to a peer the newest is used ([`session`]). A peer that opens its streams anew is
//! met anew by the core, and what is still on its way of before is nobody's fault.
//!
//! What a peer sends is not read at times: its lane waits for the core, or for room, or its whole connection stands ([`Links`]). Meanwhile it pays for
//! no silence, and afterwards it has as much more time for what it was asked ([`Core::unheard`]). So have all where this node comes late to what it has to
//! do: a tab or a machine with more work than it can do has not read what they sent, and would else hold its own slowness against them. One account
//! says how much of all that is excused ([`excuses`]).
//!
//! Bounds: long frames of all peers together ([`long`]), the rest of what comes for each lane ([`handler`]); urgent bytes that wait in a connection ([`feed`]); messages that wait for a peer ([`crate::traffic::Scheduler`]; what
//! does not fit is dropped, and that is told); the windows; the core's.

mod acknowledge;
mod core;
mod download;
mod excuses;
mod express;
mod feed;
mod frames;
mod handler;
mod lane;
mod long;
mod peer;
mod session;
#[cfg(test)]
mod tests;

pub use lane::check_lane;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};

pub(crate) use self::{
    core::{Action, Coming, Core, Decode, Decoded, Outgoing},
    excuses::Whose,
    feed::BLOCK_ROOM,
    peer::Taken,
};
use self::{
    download::Download,
    excuses::{Excuses, Unheard},
    express::Arrivals,
    feed::{MAX_WORK, Turns},
    frames::Content,
    handler::{Handler, Order},
    lane::LaneName,
    long::Rooms,
    peer::{Connection, Peer},
    session::Step as SessionStep,
};
use crate::{
    config::Config,
    debts::Debts,
    error::NetworkError,
    peers::{Account, Misdeed},
    platform::{self, Instant},
    platform::{alarm::Alarm, lock::lock},
    traffic::{Budgets, Class, Full, Lane, RateLimiter, Shaper},
    transport::links::Links,
};

/// Frames that the cores are given before others than the connections have a turn. Where many peers send without end, there is always another.
const MAX_CAME: usize = 128;
/// How late this node may come to what it has to do: a machine with other work is as late as that now and then.
const BEHIND: Duration = Duration::from_millis(100);
/// It has something to do at least so often while it waits for anything, by which it knows how late it comes to that.
const PULSE: Duration = Duration::from_secs(1);
/// As what a longer delay counts. Whose host slept has lost its peers, or they answer soon.
const MOST_BEHIND: Duration = Duration::from_secs(10);

/// See the module's documentation.
pub(crate) struct Lanes<C: Core> {
    /// Whom the frames are for. After a call of its own methods the behaviour is to be polled.
    pub(crate) core: C,
    names: Vec<LaneName>,
    peers: HashMap<PeerId, Peer>,
    /// Of those who are gone.
    excused: Debts<Excuses>,
    upload: Shaper,
    /// The connections ask it before they read.
    download: Arc<Mutex<Shaper>>,
    /// For the long frames that are read, and are not done with.
    rooms: Rooms,
    /// What connections tell of themselves.
    links: Links,
    /// What they tell of their urgent lanes.
    arrivals: Arrivals<Content<C>>,
    events: VecDeque<ToSwarm<Event<C::Event>, Order>>,
    alarm: Alarm,
    /// When this is to be polled at the latest.
    due: Option<Instant>,
    /// Whom to feed, and when.
    turns: Turns,
    /// Bytes that were made for peers since others had a turn.
    work: usize,
    /// Frames that came since then.
    came: usize,
}

/// What the network task hears of.
#[derive(Debug)]
pub(crate) enum Event<E> {
    /// What is published from now on reaches this peer.
    Ready(PeerId),
    /// The peer does not speak the lanes' protocols.
    Unsupported(PeerId),
    /// A peer has done what it pays for.
    Misdeed(PeerId, Misdeed),
    /// A peer reads so slowly that a frame for it was dropped.
    Dropped(PeerId, Class),
    /// A peer sends so slowly, while others wait, that a long frame of it was not read.
    Skipped(PeerId, Lane),
    /// Of these peers nothing was heard for so long, by no connection: what was asked of them otherwise than over the lanes has as much more time.
    Unheard(Vec<(PeerId, Duration)>),
    /// The core has something for its owner.
    Core(E),
    /// Many frames came: what else waits has a turn, such as what was checked meanwhile.
    GiveWay,
}

impl<C: Core> Lanes<C> {
    /// Lanes for this core.
    ///
    /// # Errors
    /// [`NetworkError::Transport`] where the network's name makes no protocol's name.
    pub(crate) fn new(config: &Config, core: C, links: Links) -> Result<Self, NetworkError> {
        let limits = config.limits();
        let names = handler::names(|name| config.protocol_name(name))?;
        let budgets = &config.protocol.propagation;
        let now = platform::now();
        let shaper = |limiter, budget| Shaper::new(limiter, Budgets::new(budget, now));
        let download = shaper(RateLimiter::new(limits), budgets.download);
        Ok(Self {
            core,
            names,
            upload: shaper(RateLimiter::mirror(limits), budgets.upload),
            download: Arc::new(Mutex::new(download)),
            rooms: Rooms::new(),
            links,
            arrivals: Arrivals::new(),
            peers: HashMap::new(),
            excused: Debts::default(),
            events: VecDeque::new(),
            alarm: Alarm::default(),
            due: None,
            turns: Turns::default(),
            work: 0,
            came: 0,
        })
    }

    /// A peer has said hello: it may take part.
    pub(crate) fn greeted(&mut self, id: PeerId) {
        let step = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.session.greeted());
        self.go_on(id, step, platform::now());
    }

    /// How many peers take part.
    pub(crate) fn open_peers(&self) -> usize {
        let open = |peer: &&Peer| peer.session.open().is_some();
        self.peers.values().filter(open).count()
    }

    /// Whether all that was published is with every peer that takes part, or with this one. Linear in peers: for the end of a node.
    pub(crate) fn is_flushed(&self, now: Instant) -> bool {
        let mut open = self.peers.iter();
        self.is_calm()
            && self.core.is_settled(None, now)
            && open.all(|(id, peer)| peer.session.open().is_none() || self.has_all(id, peer, now))
    }

    /// The same of a peer, which takes part.
    pub(crate) fn is_flushed_to(&self, id: &PeerId, now: Instant) -> bool {
        let peer = self.peers.get(id);
        let peer = peer.filter(|peer| peer.session.open().is_some());
        self.is_calm()
            && self.core.is_settled(Some(id), now)
            && peer.is_some_and(|peer| self.has_all(id, peer, now))
    }

    fn is_calm(&self) -> bool {
        self.turns.is_empty() && self.events.is_empty()
    }

    fn has_all(&self, id: &PeerId, peer: &Peer, now: Instant) -> bool {
        let mut classes = C::AWAITED.iter();
        let nothing_waits = classes.all(|class| {
            peer.queue.is_empty(*class) && self.core.next_at(id, *class, now).is_none()
        });
        nothing_waits && peer.is_idle()
    }

    /// A connection to a peer at this remote address.
    fn handler(
        &mut self,
        connection: ConnectionId,
        (peer, endpoint): (PeerId, Endpoint),
        remote: &Multiaddr,
    ) -> Handler<C::Decoder> {
        let download = Download::new(peer, Arc::clone(&self.download));
        let (rooms, who) = (self.rooms.clone(), (peer, Account::of(peer, remote)));
        let decoder = self.core.decoder();
        let link = self.links.of(connection, (peer, endpoint), remote);
        let express = self.arrivals.of(peer, connection);
        Handler::new(
            self.names.clone(),
            decoder,
            download,
            rooms,
            who,
            link,
            express,
        )
    }

    /// Does what a peer's session wants.
    fn go_on(
        &mut self,
        id: PeerId,
        steps: impl IntoIterator<Item = SessionStep<ConnectionId>>,
        now: Instant,
    ) {
        for step in steps {
            match step {
                SessionStep::Open(connection, epoch) => {
                    self.order(id, connection, Order::Open(epoch));
                }
                SessionStep::Joined => {
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.moved();
                        // All are read from now on: it may have told by one of them already what it tells by another.
                        if peer.connections.len() > 1 {
                            peer.excuses.move_on(now);
                        }
                    }
                    self.join(id, now);
                    self.read(id, true);
                    self.tell(Event::Ready(id));
                }
                SessionStep::Moved => {
                    let Some(peer) = self.peers.get_mut(&id) else {
                        continue;
                    };
                    peer.moved();
                    peer.excuses.move_on(now);
                    let outbound = peer.outbound;
                    self.core.moved(id, outbound, now);
                    self.turns.now(id);
                }
                SessionStep::Left => {
                    self.read(id, false);
                    self.leave(id, now);
                }
            }
        }
        self.hear(id, now);
    }

    /// Whether all that a peer sends stands here unread, which excuses its silence.
    pub(crate) fn is_unheard(&self, id: &PeerId, now: Instant) -> bool {
        let peer = self.peers.get(id);
        peer.is_some_and(|peer| peer.excuses.covers_all(now))
    }

    /// Of what is read of a peer, or by which connection it answers, something may have changed.
    fn hear(&mut self, id: PeerId, now: Instant) {
        let unheard = self.peers.get_mut(&id).and_then(|peer| peer.hear(now));
        if let Some(Unheard { time, all }) = unheard {
            self.core.unheard(id, time, now);
            if all {
                self.tell(Event::Unheard(vec![(id, time)]));
            }
        }
    }

    /// Notes that this node comes late to what it has to do: what peers sent meanwhile may wait to be read, so that all have more
    /// time.
    fn look_how_late(&mut self, now: Instant) {
        let is_late = |due: &mut Instant| now.saturating_duration_since(*due) >= BEHIND;
        let Some(due) = self.due.take_if(is_late) else {
            return;
        };
        let late = now.saturating_duration_since(due);
        let late = late.min(MOST_BEHIND);
        let mut all = Vec::new();
        for (id, peer) in &mut self.peers {
            if let Some(Unheard { time, .. }) = peer.excuses.behind(late, now) {
                self.core.unheard(*id, time, now);
                all.push((*id, time));
            }
        }
        if !all.is_empty() {
            self.tell(Event::Unheard(all));
        }
    }

    /// The peer takes part from now on.
    fn join(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.begin_anew();
        self.core.joined(id, peer.outbound, now);
        self.turns.now(id);
    }

    /// The peer takes part no more, or anew in a moment.
    fn leave(&mut self, id: PeerId, now: Instant) {
        self.core.gone(id, now);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.excuses.move_on(now);
        }
    }

    /// A peer's streams can't go on; others are opened in a while.
    fn end(&mut self, id: PeerId, now: Instant) {
        let step = self.peers.get_mut(&id).and_then(|peer| {
            let (connection, epoch) = peer.session.open()?;
            peer.session.broken(connection, epoch, now)
        });
        self.go_on(id, step, now);
    }

    /// Has a peer's streams read, or not.
    fn read(&mut self, id: PeerId, reads: bool) {
        let peer = self.peers.get(&id);
        let connections = peer.into_iter().flat_map(|peer| &peer.connections);
        for connection in connections.map(|one| one.id).collect::<Vec<_>>() {
            self.order(id, connection, Order::Read(reads));
        }
    }

    fn order(&mut self, peer_id: PeerId, connection: ConnectionId, event: Order) {
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection),
            event,
        });
    }

    fn tell(&mut self, event: Event<C::Event>) {
        self.events.push_back(ToSwarm::GenerateEvent(event));
    }

    fn on_time(&mut self, now: Instant) {
        self.core.on_time(now);
        for id in self.turns.due(now) {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            peer.wakes_at = None;
            let step = peer.session.on_time(now);
            self.turns.now(id);
            self.go_on(id, step, now);
        }
    }

    /// Does what the core wants.
    fn act(&mut self, now: Instant) {
        while let Some(action) = self.core.action() {
            match action {
                Action::Send(id, class, outgoing) => {
                    self.turns.now(id);
                    let size = outgoing.bytes.len();
                    if let Some(peer) = self.peers.get_mut(&id)
                        && let Err(Full(outgoing)) = peer.queue.push(class, size, outgoing)
                    {
                        self.core.dropped(id, class, outgoing);
                        self.tell(Event::Dropped(id, class));
                    }
                }
                Action::Dropped(id, class) => self.tell(Event::Dropped(id, class)),
                Action::Feed(id) => self.turns.now(id),
                Action::News(class) => self.turns.news(class),
                Action::Done(id, taken) => self.done(id, taken),
                Action::Surcharge(id, class, cost) => {
                    let mut download = lock(&self.download);
                    download.surcharge(id, class, cost, now);
                    // Who is gone owes it.
                    if !self.peers.contains_key(&id) {
                        download.forget(&id, now);
                    }
                }
                Action::Misdeed(id, misdeed) => {
                    let peer = self.peers.get(&id);
                    if !peer.is_some_and(|peer| peer.excuses.covers(misdeed, now)) {
                        self.tell(Event::Misdeed(id, misdeed));
                    }
                }
                Action::Tell(event) => self.tell(Event::Core(event)),
            }
        }
    }
}

impl<C: Core> NetworkBehaviour for Lanes<C> {
    type ConnectionHandler = Handler<C::Decoder>;
    type ToSwarm = Event<C::Event>;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, (peer, Endpoint::Listener), remote))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, (peer, Endpoint::Dialer), remote))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let outbound = established.endpoint.is_dialer();
                let (id, connection) = (established.peer_id, established.connection_id);
                let excused = &mut self.excused;
                let peer = self
                    .peers
                    .entry(id)
                    .or_insert_with(|| Peer::new(outbound, excused.take(&id).unwrap_or_default()));
                peer.connections.push(Connection::new(connection));
                let is_open = peer.session.open().is_some();
                let step = peer.session.connected(connection);
                if is_open {
                    // It may have moved before we do.
                    peer.excuses.move_on(platform::now());
                    self.order(id, connection, Order::Read(true));
                }
                self.go_on(id, step, platform::now());
            }
            FromSwarm::ConnectionClosed(closed) => {
                let (id, connection) = (closed.peer_id, closed.connection_id);
                // What it said last was read.
                self.take_before(id, connection, platform::now());
                let Some(peer) = self.peers.get_mut(&id) else {
                    return;
                };
                peer.disconnected(connection);
                let steps = peer.session.disconnected(connection);
                self.go_on(id, steps, platform::now());
                if closed.remaining_established == 0 {
                    let now = platform::now();
                    if let Some(peer) = self.peers.remove(&id) {
                        self.turns.forget(id, &peer);
                        if let Some(rests_at) = peer.excuses.rests_at() {
                            self.excused.keep(id, peer.excuses, rests_at, now);
                        }
                    }
                    self.upload.forget(&id, now);
                    lock(&self.download).forget(&id, now);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        report: THandlerOutEvent<Self>,
    ) {
        self.on_told(peer, connection, report, platform::now());
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Event<C::Event>, THandlerInEvent<Self>>> {
        let polled = self.poll_next(cx);
        if polled.is_pending() {
            self.arrivals.give_way(cx);
        }
        polled
    }
}

impl<C: Core> Lanes<C> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event<C::Event>, Order>> {
        if self.came >= MAX_CAME {
            self.came = 0;
            return Poll::Ready(ToSwarm::GenerateEvent(Event::GiveWay));
        }
        self.look_how_late(platform::now());
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            let now = platform::now();
            if let Some((peer, connection, report)) = self.arrivals.next(cx) {
                self.on_told(peer, connection, report, now);
            }
            self.act(now);
            if !self.events.is_empty() {
                continue;
            }
            if !self.turns.is_empty() {
                if self.work >= MAX_WORK {
                    self.work = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                self.feed(now);
                continue;
            }
            self.work = 0;
            let deadlines = [self.core.next_deadline(), self.turns.next()];
            let Some(deadline) = deadlines.into_iter().flatten().min() else {
                self.due = None;
                return Poll::Pending;
            };
            let due = deadline.min(now + PULSE);
            if self.alarm.poll_until(due, cx).is_pending() {
                self.due = Some(due);
                return Poll::Pending;
            }
            self.on_time(platform::now());
        }
    }
}
