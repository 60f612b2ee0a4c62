//! The behaviour that moves the bytes: streams on one side, the cores of [`crate::propagation`] on the other.
//!
//! A peer takes part when it has said hello and all streams to it are open ([`lane`]). Votes are sent at once; the stream of
//! blocks gets little at a time, so that what becomes needless meanwhile can be left out; the bulk stream is fed as far as the
//! peer's window goes, in which what the peer acknowledges makes room ([`crate::traffic::Window`]). A batch is acknowledged when the chain has judged it, so that a sender feels how fast its
//! transactions are checked. Of several connections to a peer the newest is used ([`session`]). A peer that opens its streams anew is
//! met anew by the cores, and what is still on its way of before is nobody's fault.
//!
//! Bounds: urgent bytes that wait in a connection ([`feed`]; further votes wait in their log, and leave it when they are the
//! eldest); messages that wait for a peer ([`Scheduler`]; what does not fit is dropped); the windows; the cores'.

mod download;
mod feed;
mod handler;
mod lane;
mod peer;
mod session;
#[cfg(test)]
mod tests;

pub use lane::check_lane;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};

pub(crate) use self::peer::Taken;
use self::{
    download::Download,
    feed::Turns,
    handler::{Handler, Input, Order, Report},
    lane::LaneName,
    peer::{Connection, Peer},
    session::Step as SessionStep,
};
use crate::{
    chain::{ItemId, ItemKind, ShortId, TransactionKey, Verdict},
    config::Config,
    error::NetworkError,
    intake::{Batch, Keeper, Refused, Source, Standing, Way},
    peers::Misdeed,
    platform::{self, Instant},
    platform::{alarm::Alarm, lock::lock},
    propagation::{
        blocks::{AcceptedBlock, Answer, Blocks, Output, Question},
        plumtree::{Accepted, Plumtree, Received},
        pool::{
            Insertion, Mempool, Pooled, Seen,
            sessions::{Output as PoolOutput, Pools, Step, Stepped},
        },
        wire::{self, Acknowledge, Announce, Kind, MAX_IDS},
    },
    traffic::{Budgets, Class, Lane, RateLimiter, Shaper},
};

/// See the module's documentation.
pub(crate) struct Lanes {
    names: Vec<LaneName>,
    max_block_bytes: usize,
    transactions: Plumtree,
    votes: Plumtree,
    blocks: Blocks,
    pools: Pools,
    mempool: Mempool,
    /// Transactions and votes that were here.
    seen: Seen,
    seen_votes: Seen,
    peers: HashMap<PeerId, Peer>,
    upload: Shaper,
    /// The connections ask it before they read.
    download: Arc<Mutex<Shaper>>,
    events: VecDeque<ToSwarm<Event, Order>>,
    alarm: Alarm,
    /// Whom to feed, and when.
    turns: Turns,
    /// For which kinds somebody waits for room.
    wanted: HashSet<ItemKind>,
}

/// What the network task hears of.
#[derive(Debug)]
pub(crate) enum Event {
    /// What is published from now on reaches this peer.
    Ready(PeerId),
    /// The peer does not speak the lanes' protocols.
    Unsupported(PeerId),
    /// Items for the chain to check; [`Lanes::concluded`] is called when that is done.
    Check(Batch),
    /// A question about a block, for the chain; [`Lanes::answered`] is called with the answer.
    Ask(Question),
    /// Work on the comparison of pools; [`Lanes::stepped`] is called with what came of it.
    Work(Step),
    /// A peer's block was not accepted, for this reason.
    Refused(PeerId, String),
    /// There is room for transactions of our own again.
    Room,
    /// A peer has done what it pays for.
    Misdeed(PeerId, Misdeed),
}

/// Tells of transactions in the pool.
fn announcement<'a>(pooled: impl Iterator<Item = &'a Pooled>) -> Announce {
    let mut announce = Announce::default();
    let ids = pooled.map(|pooled| {
        let size = u32::try_from(pooled.data.len()).unwrap_or(u32::MAX);
        announce.sizes.push(size);
        announce.fee_rates.push(pooled.fee_rate);
        pooled.key.short()
    });
    let ids = wire::column(ids);
    Announce { ids, ..announce }
}

/// A frame of a tree's lane.
fn on_tree(
    tree: &mut Plumtree,
    from: PeerId,
    input: Input,
    is_known: impl Fn(ShortId) -> bool,
    now: Instant,
) -> Received {
    match input {
        Input::Items { batch, missing } => match wire::ids(&missing) {
            Ok(missing) => tree.on_items(from, batch, missing, |key| is_known(key.short()), now),
            Err(_) => Received::misdeed(Misdeed::InvalidMessage),
        },
        Input::Other(Kind::Announce(announce)) => {
            Received::from(tree.on_announce(from, &announce, is_known, now))
        }
        Input::Other(Kind::Fetch(fetch)) => Received::from(tree.on_fetch(from, &fetch)),
        Input::Other(Kind::Link(link)) => Received::from(tree.on_link(from, &link, now)),
        // What belongs to another lane.
        _ => Received::misdeed(Misdeed::InvalidMessage),
    }
}

impl Lanes {
    /// `seeds` are random and secret.
    ///
    /// # Errors
    /// [`NetworkError::Transport`] where the network's name makes no protocol's name.
    pub(crate) fn new(config: &Config, seeds: [[u8; 16]; 4]) -> Result<Self, NetworkError> {
        let [tables, compact, coded, salts] = seeds;
        let limits = config.security.rate_limits.limits();
        let names = handler::names(|name| config.protocol_name(name))?;
        let config = &config.protocol.propagation;
        let now = platform::now();
        let shaper = |limiter, budget| Shaper::new(limiter, Budgets::new(budget, now));
        let download = shaper(RateLimiter::new(limits), config.download);
        Ok(Self {
            names,
            max_block_bytes: config.blocks.max_block_bytes,
            upload: shaper(RateLimiter::mirror(limits), config.upload),
            download: Arc::new(Mutex::new(download)),
            blocks: Blocks::new(config, [compact, coded]),
            pools: Pools::new(config.reconcile.clone(), salts),
            mempool: Mempool::new(config.mempool.clone(), &tables),
            seen: Seen::new(config.mempool.max_seen, &tables),
            seen_votes: Seen::new(config.mempool.max_seen, &tables),
            transactions: Plumtree::new(config.transactions.clone(), &tables),
            votes: Plumtree::new(config.votes.clone(), &tables),
            peers: HashMap::new(),
            events: VecDeque::new(),
            alarm: Alarm::default(),
            turns: Turns::default(),
            wanted: HashSet::new(),
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

    fn handler(&self, peer: PeerId) -> Handler {
        let download = Download::new(peer, Arc::clone(&self.download));
        Handler::new(self.names.clone(), self.max_block_bytes, download)
    }

    /// How many peers take part.
    pub(crate) fn open_peers(&self) -> usize {
        let open = |peer: &&Peer| peer.session.open().is_some();
        self.peers.values().filter(open).count()
    }

    /// A block that the chain has accepted and that did not come by the lanes; false where it is known here.
    pub(crate) fn publish_block(&mut self, block: AcceptedBlock) -> bool {
        if self.knows_block(&block.id) {
            return false;
        }
        let keys = block.keys.clone();
        let outputs = self.blocks.accepted(block, &self.mempool);
        self.removed(&keys);
        self.put_out(outputs);
        true
    }

    /// Whether the chain has accepted this block here, lately.
    pub(crate) fn knows_block(&self, id: &ItemId) -> bool {
        self.blocks.knows(id)
    }

    /// What the chain says to a question.
    pub(crate) fn answered(&mut self, answer: Answer, now: Instant) {
        let confirmed = answer.accepted().map(|(block, _)| block.keys.clone());
        let refused = answer.refused();
        let outputs = self.blocks.answered(answer, &self.mempool, now);
        self.removed(&confirmed.unwrap_or_default());
        self.put_out(outputs);
        if let Some((peer, reason)) = refused {
            self.tell(Event::Refused(peer, reason));
        }
    }

    /// What came of work on the comparison of pools.
    pub(crate) fn stepped(&mut self, stepped: Stepped, now: Instant) {
        let outputs = self.pools.stepped(stepped, &self.mempool, now);
        self.compare(outputs);
    }

    /// Transactions that are of no use any more leave the pool: a block has confirmed them, or the application has replaced them.
    pub(crate) fn removed(&mut self, keys: &[TransactionKey]) {
        for key in keys {
            self.mempool.remove(key);
            self.seen.accept(key.short());
        }
    }

    /// Adds to the pool what the chain has accepted.
    fn pool(&mut self, item: Accepted, now: Instant) {
        let Accepted { key, data, fee } = item;
        let seen = &mut self.seen;
        let evicted = |id| seen.accept(id);
        let inserted = self.mempool.insert_evicting(key, data, fee, now, evicted);
        if inserted != Insertion::Inserted {
            self.seen.accept(key.short());
        }
    }

    /// Does what the comparison of pools wants.
    fn compare(&mut self, outputs: Vec<PoolOutput>) {
        for output in outputs {
            match output {
                PoolOutput::Send(id, message) => {
                    self.send(id, Kind::Reconcile(message.to_bytes().into()));
                }
                PoolOutput::Announce(id, keys) => {
                    for keys in keys.chunks(MAX_IDS) {
                        let pooled = keys.iter().filter_map(|key| self.mempool.get(key));
                        let announce = announcement(pooled);
                        // They may have left meanwhile.
                        if !announce.ids.is_empty() {
                            self.send(id, Kind::Announce(announce));
                        }
                    }
                }
                PoolOutput::Serve(id, keys) => {
                    self.transactions.serve(id, &keys);
                    self.turns.now(id);
                }
                PoolOutput::Work(step) => self.tell(Event::Work(step)),
                PoolOutput::Misdeed(peer, misdeed) => self.tell(Event::Misdeed(peer, misdeed)),
            }
        }
    }

    /// Queues a frame among a peer's transactions.
    fn send(&mut self, id: PeerId, kind: Kind) {
        let output = Output::Send(id, Class::Transaction, kind.into_frame());
        self.put_out(vec![output]);
    }

    fn put_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(id, class, frame) => {
                    self.turns.now(id);
                    if let Some(peer) = self.peers.get_mut(&id)
                        && peer.queue.push(class, frame.len(), frame).is_err()
                    {
                        tracing::debug!(%id, ?class, "the peer reads too slowly: a message is dropped");
                    }
                }
                Output::Ask(question) => self.tell(Event::Ask(question)),
                Output::Misdeed(id, misdeed) => {
                    let peer = self.peers.get(&id);
                    let is_excused = peer.is_some_and(|peer| peer.is_excused(platform::now()));
                    if misdeed != Misdeed::InvalidMessage || !is_excused {
                        self.tell(Event::Misdeed(id, misdeed));
                    }
                }
            }
        }
    }

    /// Whether votes or transactions of our own may be made, beside so many bytes that are `coming` already; if not,
    /// [`Event::Room`] tells when.
    pub(crate) fn has_room(&mut self, kind: ItemKind, coming: usize) -> bool {
        let room = kind == ItemKind::Block || self.tree(kind).has_room(coming);
        if !room {
            self.wanted.insert(kind);
        }
        room
    }

    /// The chain has judged votes or transactions, whichever way they came.
    pub(crate) fn concluded(
        &mut self,
        kind: ItemKind,
        way: Way,
        accepted: Vec<Accepted>,
        refused: &[Refused],
        now: Instant,
    ) {
        let is_rejected = |refused: &&Refused| refused.verdict == Verdict::Reject;
        let rejected = refused.iter().filter(is_rejected);
        if kind == ItemKind::Transaction {
            let items = accepted.iter().cloned();
            items.for_each(|item| self.pool(item, now));
            rejected.for_each(|refused| self.seen.reject(refused.key.short()));
        } else {
            let items = accepted.iter();
            items.for_each(|item| self.seen_votes.accept(item.key.short()));
            rejected.for_each(|refused| self.seen_votes.reject(refused.key.short()));
        }
        let tree = self.tree(kind);
        refused
            .iter()
            .for_each(|refused| tree.refused(&refused.key));
        let from = match way {
            Way::Lanes(peer, _) => Some(peer),
            _ => None,
        };
        if !accepted.is_empty() {
            tree.accepted(from, accepted, now);
            self.turns.news(kind);
        }
        self.given_back(way);
    }

    /// Votes or transactions found no room in front of the chain's checks: they may come again.
    pub(crate) fn turned_away(&mut self, batch: &Batch) {
        let tree = self.tree(batch.kind);
        batch
            .items
            .iter()
            .for_each(|fresh| tree.refused(&fresh.key));
        self.given_back(batch.source.way());
    }

    /// What items took on a peer's bulk stream is done with.
    fn given_back(&mut self, way: Way) {
        if let Way::Lanes(peer, taken) = way {
            self.done(peer, taken);
        }
    }

    fn tree(&mut self, kind: ItemKind) -> &mut Plumtree {
        match kind {
            ItemKind::Vote => &mut self.votes,
            _ => &mut self.transactions,
        }
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
                    }
                    self.join(id, now);
                    self.read(id, true);
                    self.tell(Event::Ready(id));
                }
                SessionStep::Moved => {
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.moved();
                    }
                    self.transactions.moved(&id, now);
                    self.votes.moved(&id, now);
                }
                SessionStep::Left => {
                    self.read(id, false);
                    self.leave(id, now);
                }
            }
        }
    }

    /// The peer takes part from now on.
    fn join(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.begin_anew();
        let outbound = peer.outbound;
        self.blocks.joined(id, outbound, now);
        self.pools.joined(id, outbound, now);
        self.turns.now(id);
        self.transactions.connected(id, now);
        self.votes.connected(id, now);
    }

    /// The peer takes part no more, or anew in a moment.
    fn leave(&mut self, id: PeerId, now: Instant) {
        self.transactions.disconnected(id);
        self.votes.disconnected(id);
        self.pools.gone(&id);
        let outputs = self.blocks.gone(&id, now);
        self.put_out(outputs);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.excuse(now);
        }
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

    fn tell(&mut self, event: Event) {
        self.events.push_back(ToSwarm::GenerateEvent(event));
    }

    /// A frame of a peer is done with: its connection may read on, and the peer send more.
    fn done(&mut self, id: PeerId, taken: Taken) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if taken.lane == Lane::Bulk {
            peer.done += taken.size.wire;
        }
        if let Some(handled) = peer.handled(taken.connection, taken.lane) {
            handled.bytes += taken.size.held;
        }
        self.turns.now(id);
    }

    fn on_report(&mut self, id: PeerId, connection: ConnectionId, report: Report, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        match report {
            // The other side's streams carry what it sends, whichever connection it has chosen.
            Report::Frames(lane, frames) => {
                if lane == Lane::Bulk {
                    peer.read += frames.iter().map(|(_, size)| size.wire).sum::<usize>();
                }
                for (input, size) in frames {
                    let taken = Taken {
                        connection,
                        lane,
                        size,
                    };
                    self.on_frame(id, input, taken, now);
                }
                let peer = self.peers.get_mut(&id);
                if let Some(handled) = peer.and_then(|peer| peer.handled(connection, lane)) {
                    handled.reports += 1;
                }
            }
            Report::Garbage(reason) => {
                tracing::debug!(%id, reason, "a broken frame");
                self.tell(Event::Misdeed(id, Misdeed::InvalidMessage));
            }
            Report::Unsupported => self.tell(Event::Unsupported(id)),
            Report::Open(epoch) => {
                let step = peer.session.opened(connection, epoch, now);
                self.go_on(id, step, now);
            }
            Report::Broken(epoch) => {
                let step = peer.session.broken(connection, epoch, now);
                self.go_on(id, step, now);
            }
            // It knows nothing of us any more: it is to be told all again.
            Report::Renewed if peer.session.open().is_some() => {
                self.leave(id, now);
                self.join(id, now);
            }
            Report::Renewed => {}
            Report::Written(epoch, ..) if !peer.session.is_current(connection, epoch) => {}
            Report::Written(_, Lane::Urgent, bytes) => {
                peer.urgent = peer.urgent.saturating_sub(bytes);
            }
            Report::Written(_, Lane::Block, bytes) => {
                peer.block = peer.block.saturating_sub(bytes);
            }
            Report::Written(_, Lane::Bulk, bytes) => peer.window.on_written(bytes, now),
        }
    }

    fn on_frame(&mut self, from: PeerId, input: Input, taken: Taken, now: Instant) {
        let kind = match taken.lane {
            Lane::Urgent => ItemKind::Vote,
            Lane::Block => ItemKind::Block,
            Lane::Bulk => ItemKind::Transaction,
        };
        let Self {
            transactions,
            votes,
            blocks,
            pools,
            mempool,
            seen,
            seen_votes,
            ..
        } = self;
        let was_vote = |id| seen_votes.contains(id);
        let is_known = |id| mempool.contains_short(id) || seen.contains(id);
        let received = match (input, kind) {
            (Input::Other(Kind::Acknowledge(acknowledge)), ItemKind::Vote) => {
                Received::from(self.on_acknowledge(from, &acknowledge, now))
            }
            (Input::Block(message), ItemKind::Block) => {
                let outputs = blocks.on_block(from, message, mempool, now);
                self.put_out(outputs);
                return self.done(from, taken);
            }
            (Input::Coded(frame), ItemKind::Block) => {
                let outputs = blocks.on_coded(from, frame, now);
                self.put_out(outputs);
                return self.done(from, taken);
            }
            (Input::Reconcile(message), ItemKind::Transaction) => {
                let outputs = pools.on_message(from, message, mempool, now);
                self.compare(outputs);
                return self.done(from, taken);
            }
            (input, ItemKind::Transaction) => on_tree(transactions, from, input, is_known, now),
            (input, ItemKind::Vote) => on_tree(votes, from, input, was_vote, now),
            (_, ItemKind::Block) => Received::misdeed(Misdeed::InvalidMessage),
        };
        if let Some(misdeed) = received.misdeed {
            self.tell(Event::Misdeed(from, misdeed));
        }
        if received.needless.items > 0 {
            let mut download = lock(&self.download);
            download.surcharge(from, taken.lane.class(), received.needless, now);
        }
        if received.fresh.is_empty() {
            self.done(from, taken);
        } else {
            self.tell(Event::Check(Batch {
                kind,
                source: Source::Lanes(from, taken),
                items: received.fresh,
            }));
        }
    }

    fn on_acknowledge(
        &mut self,
        from: PeerId,
        Acknowledge { read, done }: &Acknowledge,
        now: Instant,
    ) -> Option<Misdeed> {
        let peer = self.peers.get_mut(&from)?;
        let is_due = peer.window.on_acknowledged(*read, *done, now);
        (!is_due).then_some(Misdeed::TooManyMessages)
    }

    fn on_time(&mut self, now: Instant) {
        let late = self
            .transactions
            .on_time(now)
            .into_iter()
            .chain(self.votes.on_time(now));
        for (peer, misdeed) in late.collect::<Vec<_>>() {
            self.tell(Event::Misdeed(peer, misdeed));
        }
        let outputs = self.blocks.on_time(now);
        self.put_out(outputs);
        let outputs = self.pools.on_time(&self.mempool, now);
        self.compare(outputs);
        // What has waited too long may be sent again by its maker.
        self.mempool.expire(now);
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

    /// Notes whom the cores have something for.
    fn gather(&mut self) {
        for tree in [&mut self.votes, &mut self.transactions] {
            tree.touched().for_each(|id| self.turns.now(id));
        }
        if self.blocks.take_news() {
            self.peers.keys().for_each(|id| self.turns.now(*id));
        }
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let trees = [
            self.transactions.next_deadline(),
            self.votes.next_deadline(),
            self.blocks.next_deadline(),
            self.pools.next_deadline(),
            self.mempool.next_deadline(),
        ];
        let turns = [self.turns.next()];
        trees.into_iter().chain(turns).flatten().min()
    }
}

impl Keeper for Lanes {
    fn standing(&self, kind: ItemKind, key: &TransactionKey) -> Standing {
        let (tree, was_here) = match kind {
            ItemKind::Vote => (&self.votes, self.seen_votes.contains(key.short())),
            _ => (
                &self.transactions,
                self.mempool.contains_short(key.short()) || self.seen.contains(key.short()),
            ),
        };
        if tree.checks(key) {
            Standing::Checking
        } else if was_here || tree.holds(key) {
            Standing::Known
        } else {
            Standing::New
        }
    }

    fn claim(&mut self, kind: ItemKind, key: &TransactionKey) {
        self.tree(kind).claim(key);
    }
}

impl NetworkBehaviour for Lanes {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let outbound = established.endpoint.is_dialer();
                let (id, connection) = (established.peer_id, established.connection_id);
                let peer = self.peers.entry(id).or_insert_with(|| Peer::new(outbound));
                peer.connections.push(Connection {
                    id: connection,
                    handled: Default::default(),
                });
                let is_open = peer.session.open().is_some();
                let step = peer.session.connected(connection);
                if is_open {
                    self.order(id, connection, Order::Read(true));
                }
                self.go_on(id, step, platform::now());
            }
            FromSwarm::ConnectionClosed(closed) => {
                let (id, connection) = (closed.peer_id, closed.connection_id);
                let Some(peer) = self.peers.get_mut(&id) else {
                    return;
                };
                peer.connections.retain(|other| other.id != connection);
                let steps = peer.session.disconnected(connection);
                self.go_on(id, steps, platform::now());
                if closed.remaining_established == 0 {
                    if let Some(peer) = self.peers.remove(&id) {
                        self.turns.forget(id, &peer);
                    }
                    self.upload.forget(&id);
                    lock(&self.download).forget(&id);
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
        self.turns.now(peer);
        self.on_report(peer, connection, report, platform::now());
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            let now = platform::now();
            self.gather();
            if !self.turns.is_empty() {
                self.feed(now);
                let wanted = std::mem::take(&mut self.wanted);
                let (there, missing): (HashSet<_>, _) = wanted
                    .into_iter()
                    .partition(|kind| self.tree(*kind).has_room(0));
                self.wanted = missing;
                if !there.is_empty() {
                    self.tell(Event::Room);
                }
                continue;
            }
            let Some(deadline) = self.next_deadline() else {
                return Poll::Pending;
            };
            if self.alarm.poll_until(deadline, cx).is_pending() {
                return Poll::Pending;
            }
            self.on_time(platform::now());
        }
    }
}
