//! Transactions, blocks and votes on their way: state machines without I/O.
//!
//! `Propagation` is what the lanes (`crate::lanes`) have to do with: it hands each frame to the core whose it is, and says
//! what goes out next. The cores are the trees of votes and of transactions (`plumtree`), [`blocks`], and the comparison of pools
//! (`pool::sessions`); they share the pool of transactions. A transaction is named by its [`TransactionKey`] here: two chains'
//! ideas of an identity may leave bytes out (Bitcoin's txid leaves out signatures), and a block that is put together again needs all.

mod announce;
pub mod blocks;
mod config;
mod frame;
mod output;
pub(crate) mod plumtree;
pub mod pool;
mod source;
pub(crate) mod wire;

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

pub use config::{PropagationConfig, ReconcileConfig, TreeConfig};
pub use wire::{FrameError, check_frame};

use self::{
    blocks::{AcceptedBlock, Answer, Blocks, Question},
    frame::{Decoder, Input, TreeInput},
    output::{Output, Part},
    plumtree::{Accepted, Fresh, Plumtree, Received},
    pool::{
        Mempool, Pieces, Seen,
        sessions::{Pools, Step, Stepped},
    },
    wire::Kind,
};
use crate::{
    chain::{ItemKind, ShortId, TransactionKey, Verdict},
    lanes::{Action, Coming, Core, Decode, Outgoing, Taken},
    peers::Misdeed,
    platform::Instant,
    traffic::{Class, Lane},
};

/// See the module's documentation.
pub(crate) struct Propagation {
    transactions: Plumtree,
    votes: Plumtree,
    blocks: Blocks,
    pools: Pools,
    mempool: Mempool,
    /// Transactions and votes that were here.
    seen: Seen,
    seen_votes: Seen,
    max_block_bytes: usize,
    actions: VecDeque<Action<Event>>,
    /// For which kinds somebody waits for room, and whether peers have read on since that was looked at.
    wanted: HashSet<ItemKind>,
    read_on: bool,
}

/// What the network task hears of.
#[derive(Debug)]
pub(crate) enum Event {
    /// Items for the chain to check; [`Propagation::concluded`] is called when that is done.
    Check(Unchecked),
    /// A question about a block, for the chain; [`Propagation::answered`] is called with the answer. Where it is about a whole one, with
    /// what that took of the peer's lane, which is given back to the lanes then.
    Ask(Question, Option<(PeerId, Taken)>),
    /// Work on the comparison of pools; [`Propagation::stepped`] is called with what came of it.
    Work(Step),
    /// A peer reads so slowly that so many batches of votes or transactions were gone before it had read them.
    Overtaken(PeerId, u64),
    /// There is room for votes or transactions of our own again, or perhaps for blocks.
    Room,
}

/// Votes or transactions that a peer sent and that are new here.
#[derive(Debug)]
pub(crate) struct Unchecked {
    pub(crate) kind: ItemKind,
    pub(crate) from: PeerId,
    pub(crate) items: Vec<Fresh>,
    /// What they took of the peer's lane, which is given back to the lanes when they are judged.
    pub(crate) took: Taken,
}

impl Propagation {
    /// `seeds` are random and secret.
    pub(crate) fn new(config: &PropagationConfig, seeds: [[u8; 16]; 4]) -> Self {
        let [tables, compact, coded, salts] = seeds;
        let seen = || Seen::new(config.mempool.max_seen, &tables);
        Self {
            transactions: Plumtree::new(config.transactions.clone(), &tables),
            votes: Plumtree::new(config.votes.clone(), &tables),
            blocks: Blocks::new(config, [compact, coded]),
            pools: Pools::new(config.reconcile.clone(), salts),
            mempool: Mempool::new(config.mempool.clone(), &tables),
            seen: seen(),
            seen_votes: seen(),
            max_block_bytes: config.blocks.max_block_bytes,
            actions: VecDeque::new(),
            wanted: HashSet::new(),
            read_on: false,
        }
    }

    /// A ping of a peer took so long.
    pub(crate) fn measured(&mut self, peer: &PeerId, round_trip: Duration) {
        self.blocks.measured(peer, round_trip);
    }

    /// A block that the chain has accepted and that did not come by the lanes; one that is known here goes no further.
    pub(crate) fn publish_block(&mut self, block: AcceptedBlock, now: Instant) {
        if self.blocks.knows(&block.id) {
            return;
        }
        let keys = block.keys.clone();
        let outputs = self.blocks.accepted(block, &self.mempool, now);
        self.removed(&keys);
        self.put_out(outputs);
    }

    /// The transactions in the pool, for a question that is about them: taken when its turn comes, so that few are held at once.
    pub(crate) fn pieces(&self, question: &Question) -> Pieces {
        match question {
            Question::Match(_) => self.mempool.pieces(),
            _ => Pieces::default(),
        }
    }

    /// What the chain says to a question.
    pub(crate) fn answered(&mut self, answer: Answer, now: Instant) {
        let confirmed = answer.accepted().map(|(block, _)| block.keys.clone());
        let outputs = self.blocks.answered(answer, &self.mempool, now);
        self.removed(&confirmed.unwrap_or_default());
        self.put_out(outputs);
    }

    /// What came of work on the comparison of pools.
    pub(crate) fn stepped(&mut self, stepped: Stepped, now: Instant) {
        let outputs = self.pools.stepped(stepped, &self.mempool, now);
        self.put_out(outputs);
    }

    /// Transactions that are of no use any more leave the pool: a block has confirmed them, or the application has replaced them.
    pub(crate) fn removed(&mut self, keys: &[TransactionKey]) {
        for key in keys {
            self.mempool.remove(key);
            self.transactions.withdraw(key);
            self.seen.accept(key.short());
        }
    }

    /// Whether votes or transactions of our own may be made, beside so many bytes that are `coming` already; if not,
    /// [`Event::Room`] tells when.
    pub(crate) fn has_room(&mut self, kind: ItemKind, coming: usize) -> bool {
        let room = self.tree(kind).has_room(coming);
        if !room {
            self.wanted.insert(kind);
        }
        room
    }

    /// Whether a block of our own may be made, beside so many that are `coming` with their bytes: peers come for those that they were
    /// told of. If not, [`Event::Room`] tells when to ask again.
    pub(crate) fn has_block_room(&mut self, coming: (usize, usize), now: Instant) -> bool {
        let room = self.blocks.has_room(coming, now);
        if !room {
            self.wanted.insert(ItemKind::Block);
        }
        room
    }

    /// Whether a copy of a vote or of a transaction is being checked.
    pub(crate) fn checks(&self, kind: ItemKind, key: &TransactionKey) -> bool {
        match kind {
            ItemKind::Vote => self.votes.checks(key),
            _ => self.transactions.checks(key),
        }
    }

    /// Whether a vote or a transaction is here, or was accepted, confirmed or rejected lately. What the log of transactions
    /// holds may have left the pool since.
    pub(crate) fn knows(&self, kind: ItemKind, key: &TransactionKey) -> bool {
        let id = key.short();
        match kind {
            ItemKind::Vote => self.seen_votes.contains(id) || self.votes.holds(key),
            _ => self.mempool.contains_short(id) || self.seen.contains(id),
        }
    }

    /// Whether the pool had no room for a transaction lately.
    pub(crate) fn crowded_out(&self, kind: ItemKind, key: &TransactionKey) -> bool {
        kind == ItemKind::Transaction && self.mempool.unwanted().is_crowded_out(key.short())
    }

    /// A vote or a transaction that did not come over the lanes is being checked from now on, until it is concluded.
    pub(crate) fn claim(&mut self, kind: ItemKind, key: &TransactionKey) {
        self.tree(kind).claim(key);
    }

    /// The chain has judged votes or transactions. `from` is who brought them, by whatever way; `None`: they are our own. The refused ones
    /// come with their verdicts.
    pub(crate) fn concluded(
        &mut self,
        kind: ItemKind,
        from: Option<PeerId>,
        accepted: Vec<Accepted>,
        refused: impl Iterator<Item = (TransactionKey, Verdict)>,
        now: Instant,
    ) {
        if kind == ItemKind::Transaction {
            let source = self.transactions.source(from);
            for Accepted { key, data, fee } in accepted.iter().cloned() {
                self.mempool.insert_of(source, (key, data, fee), now);
            }
        } else {
            let items = accepted.iter();
            items.for_each(|item| self.seen_votes.accept(item.key.short()));
        }
        for (key, verdict) in refused {
            match verdict {
                Verdict::Reject => self.seen(kind).reject(key.short()),
                // A vote may be about a block that is on its way.
                Verdict::Ignore if kind == ItemKind::Transaction && from.is_some() => {
                    self.mempool.ignore(key, now);
                }
                _ => {}
            }
            self.tree(kind).refused(&key);
        }
        if !accepted.is_empty() {
            self.tree(kind).accepted(from, accepted, now);
            let class = match kind {
                ItemKind::Vote => Class::Vote,
                _ => Class::Transaction,
            };
            self.actions.push_back(Action::News(class));
        }
    }

    /// Votes or transactions of a peer found no room in front of the chain's checks: they are fetched again, from it or from others.
    pub(crate) fn turned_away(
        &mut self,
        kind: ItemKind,
        from: PeerId,
        items: &[Fresh],
        now: Instant,
    ) {
        let tree = self.tree(kind);
        for fresh in items {
            tree.turned_away(from, fresh, now);
        }
    }

    fn tree(&mut self, kind: ItemKind) -> &mut Plumtree {
        match kind {
            ItemKind::Vote => &mut self.votes,
            _ => &mut self.transactions,
        }
    }

    fn seen(&mut self, kind: ItemKind) -> &mut Seen {
        match kind {
            ItemKind::Vote => &mut self.seen_votes,
            _ => &mut self.seen,
        }
    }

    /// All cores, and the pool that they share.
    fn parts(&mut self) -> ([&mut dyn Part; 4], &mut Mempool) {
        let Self {
            votes,
            blocks,
            transactions,
            pools,
            mempool,
            ..
        } = self;
        ([votes, blocks, transactions, pools], mempool)
    }

    fn tell(&mut self, event: Event) {
        self.actions.push_back(Action::Tell(event));
    }

    /// Does what cores want, as far as it is not for others to do.
    fn put_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            let action = match output {
                Output::Send(id, class, frame) => Action::Send(id, class, Outgoing::one(frame)),
                Output::Dropped(id, class) => Action::Dropped(id, class),
                Output::Feed(id) => Action::Feed(id),
                Output::Compare(id, message) => {
                    let frame = Kind::Reconcile(message.to_bytes().into()).into_frame();
                    Action::Send(id, Class::Transaction, Outgoing::one(frame))
                }
                Output::Announce(id, told) => {
                    let outgoing = Outgoing::from(Kind::Announce(told));
                    Action::Send(id, Class::Transaction, outgoing)
                }
                Output::Await(id, awaited, now) => {
                    self.transactions.awaits(id, awaited, now);
                    continue;
                }
                Output::Serve(id, keys) => {
                    self.transactions.serve(id, &keys);
                    Action::Feed(id)
                }
                Output::Ask(question) => Action::Tell(Event::Ask(question, None)),
                Output::Work(step) => Action::Tell(Event::Work(step)),
                Output::Overtaken(id, batches) => Action::Tell(Event::Overtaken(id, batches)),
                Output::Surcharge(id, class, cost) => Action::Surcharge(id, class, cost),
                Output::Misdeed(id, misdeed) => Action::Misdeed(id, misdeed),
            };
            self.actions.push_back(action);
        }
    }

    /// A frame of a tree.
    fn on_tree(
        &mut self,
        kind: ItemKind,
        from: PeerId,
        input: TreeInput,
        now: Instant,
    ) -> Received {
        let Self {
            transactions,
            votes,
            mempool,
            seen,
            seen_votes,
            ..
        } = self;
        let unwanted = mempool.unwanted();
        // What is not taken, and what is not asked for.
        let is_known = |id: ShortId, held: bool| match kind {
            ItemKind::Vote => held || seen_votes.contains(id),
            // What the log holds may have left the pool since.
            _ => mempool.contains_short(id) || seen.contains(id) || unwanted.is_refused(id, now),
        };
        let is_unasked = |id: ShortId, held: bool| {
            let is_expired = kind == ItemKind::Transaction && unwanted.is_unasked(id, now);
            is_known(id, held) || is_expired
        };
        let tree = match kind {
            ItemKind::Vote => votes,
            _ => transactions,
        };
        match input {
            TreeInput::Items {
                batch,
                missing,
                spared,
            } => match (wire::ids(&missing), wire::ids(&spared)) {
                (Ok(missing), Ok(spared)) => {
                    let is_known = |key: &TransactionKey, held| is_known(key.short(), held);
                    tree.on_spared(from, spared, now);
                    tree.on_items(from, batch, missing, is_known, now)
                }
                _ => Received::misdeed(Misdeed::InvalidMessage),
            },
            TreeInput::Announce(announce) => {
                Received::from(tree.on_announce(from, &announce, is_unasked, now))
            }
            TreeInput::Fetch(fetch) => Received::from(tree.on_fetch(from, &fetch, now)),
            TreeInput::Link(link) => Received::from(tree.on_link(from, &link, now)),
        }
    }
}

impl Core for Propagation {
    type Decoder = Decoder;
    type Event = Event;
    const CLASSES: &'static [Class] = &[
        Class::Vote,
        Class::BlockRequest,
        Class::Block,
        Class::Transaction,
    ];
    /// What is asked for is for this node itself.
    const AWAITED: &'static [Class] = &[Class::Vote, Class::Block, Class::Transaction];

    fn decoder(&self) -> Decoder {
        Decoder {
            max_block_bytes: self.max_block_bytes,
        }
    }

    fn joined(&mut self, peer: PeerId, outbound: bool, now: Instant) {
        let (parts, _) = self.parts();
        let outputs = parts
            .into_iter()
            .flat_map(|part| part.joined(peer, outbound, now));
        let outputs = outputs.collect();
        self.put_out(outputs);
    }

    fn moved(&mut self, peer: PeerId, outbound: bool, now: Instant) {
        let (parts, _) = self.parts();
        let outputs = parts
            .into_iter()
            .flat_map(|part| part.moved(peer, outbound, now));
        let outputs = outputs.collect();
        self.put_out(outputs);
    }

    fn gone(&mut self, peer: PeerId, now: Instant) {
        let (parts, _) = self.parts();
        let outputs = parts.into_iter().flat_map(|part| part.gone(peer, now));
        let outputs = outputs.collect();
        self.put_out(outputs);
    }

    fn frame(&mut self, from: PeerId, frame: Input, took: Taken, now: Instant) {
        let outputs = match frame {
            Input::Block(message) => {
                self.read_on |= self.wanted.contains(&ItemKind::Block);
                let mut outputs = self.blocks.on_block(from, message, now);
                if let Some(question) = output::take_whole(&mut outputs) {
                    self.put_out(outputs);
                    return self.tell(Event::Ask(question, Some((from, took))));
                }
                outputs
            }
            Input::Coded(frame) => self.blocks.on_coded(from, frame, now),
            Input::Reconcile(message) => self.pools.on_message(from, message, &self.mempool, now),
            Input::Tree(kind, input) => {
                let Received {
                    fresh,
                    misdeed,
                    needless,
                } = self.on_tree(kind, from, input, now);
                if needless.items > 0 {
                    let class = match kind {
                        ItemKind::Vote => Class::Vote,
                        _ => Class::Transaction,
                    };
                    let action = Action::Surcharge(from, class, needless);
                    self.actions.push_back(action);
                }
                let misdeed = misdeed.map(|misdeed| Action::Misdeed(from, misdeed));
                self.actions.extend(misdeed);
                if !fresh.is_empty() {
                    return self.tell(Event::Check(Unchecked {
                        kind,
                        from,
                        items: fresh,
                        took,
                    }));
                }
                Vec::new()
            }
        };
        self.put_out(outputs);
        self.actions.push_back(Action::Done(from, took));
    }

    fn comes(&mut self, from: PeerId, lane: Lane, coming: Coming, now: Instant) {
        if lane == Lane::Block {
            let outputs = self.blocks.comes(from, coming, now);
            self.put_out(outputs);
        }
    }

    fn skipped(&mut self, from: PeerId, lane: Lane, length: usize, now: Instant) {
        match lane {
            Lane::Urgent => self.votes.skipped(from, length),
            Lane::Block => {
                let outputs = self.blocks.skipped(from, length, now);
                self.put_out(outputs);
            }
            Lane::Bulk => {
                self.transactions.skipped(from, length);
                let outputs = self.pools.skipped(from, length, now);
                self.put_out(outputs);
            }
        }
    }

    fn unheard(&mut self, peer: PeerId, time: Duration, now: Instant) {
        let (parts, _) = self.parts();
        parts
            .into_iter()
            .for_each(|part| part.unheard(&peer, time, now));
    }

    fn next(&mut self, to: PeerId, class: Class, room: usize, now: Instant) -> Option<Outgoing> {
        let next = match class {
            Class::Vote => self.votes.next(to, None, now),
            Class::Transaction => self.transactions.next(to, Some(&self.mempool), now),
            Class::BlockRequest => return self.blocks.next_request(&to, now),
            Class::Block => return self.blocks.next(&to, room, now),
            _ => None,
        };
        self.read_on |= next.is_some();
        next
    }

    fn withheld(&mut self, to: PeerId, class: Class, until: Instant) {
        if class == Class::BlockRequest {
            self.blocks.kept_back(&to, until);
        }
    }

    /// Trees send what they have when there is room, and comparisons come again: only blocks are told of once.
    fn dropped(&mut self, to: PeerId, class: Class, outgoing: Outgoing) {
        let mut frame = outgoing.bytes;
        if class == Class::Block
            && prost::decode_length_delimiter(&mut frame).is_ok()
            && let Ok(decoded) = self.decoder().decode(Lane::Block, frame)
            && let Input::Block(message) = decoded.frame
        {
            self.blocks.dropped(to, &message);
        }
    }

    fn next_at(&self, to: &PeerId, class: Class, now: Instant) -> Option<Instant> {
        match class {
            Class::Vote => self.votes.sends_at(to, now),
            Class::Transaction => self.transactions.sends_at(to, now),
            Class::BlockRequest => self.blocks.has_request(to).then_some(now),
            Class::Block => self.blocks.serves(to).then_some(now),
            _ => None,
        }
    }

    fn is_settled(&self, peer: Option<&PeerId>, now: Instant) -> bool {
        let mut trees = [&self.votes, &self.transactions].into_iter();
        self.actions.is_empty()
            && self.blocks.is_settled(peer)
            && trees.all(|tree| tree.is_taken(peer, now))
    }

    fn action(&mut self) -> Option<Action<Event>> {
        if self.actions.is_empty() {
            for tree in [&mut self.votes, &mut self.transactions] {
                self.actions.extend(tree.touched().map(Action::Feed));
            }
            let news = self.blocks.take_news().into_iter();
            self.actions.extend(news.map(Action::Feed));
            if std::mem::take(&mut self.read_on) {
                let wanted = std::mem::take(&mut self.wanted);
                let (there, missing): (HashSet<_>, _) = wanted
                    .into_iter()
                    .partition(|kind| *kind == ItemKind::Block || self.tree(*kind).has_room(0));
                self.wanted = missing;
                if !there.is_empty() {
                    self.tell(Event::Room);
                }
            }
        }
        self.actions.pop_front()
    }

    fn on_time(&mut self, now: Instant) {
        let (parts, pool) = self.parts();
        let outputs = parts.into_iter().flat_map(|part| part.on_time(pool, now));
        let outputs = outputs.collect();
        self.put_out(outputs);
        self.mempool.expire(now);
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let (parts, pool) = self.parts();
        let deadlines = parts.into_iter().filter_map(Part::next_deadline);
        deadlines.chain(pool.next_deadline()).min()
    }
}

#[cfg(test)]
mod tests;
