//! Compact blocks in one node: a state machine without I/O.
//!
//! A block comes in by [`CompactBlocks::accepted`] (made here, or received by another way) or from a peer, step by step:
//!
//! 1. a peer tells of it, by an announcement or a compact block: [`Action::CheckHeader`];
//! 2. the header is good, so a compact block is matched with the pool ([`Action::Match`]), missing transactions are asked for,
//!    and what is complete is put together: [`Action::Join`];
//! 3. the chain has joined it, so the header commits to its transactions: it goes in compact form to the peers that want
//!    new blocks unasked, and is judged: [`Action::CheckBlock`];
//! 4. it is accepted: the peer that brought it may become one of our own high-bandwidth peers, all others that do not
//!    have the block are told of it, and it is kept a while to be served.
//!
//! BIP-152 demands the order in 3: a compact block is passed on after header and commitments were checked, and may be
//! before the rest was. Nobody gets a whole block that is not accepted.
//!
//! Who pays: a peer that sends a wrong header, a wrong whole block, or an answer that does not fit its own compact block;
//! one that is silent; one that tells or asks twice. Nobody pays for a block that was joined and refused.
//!
//! Bounds: one entry per connected peer, as many as the driver connects; the rest is in [`CompactConfig`].

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use libp2p::PeerId;
use siphasher::sip::SipHasher24;

use super::actions::{Action, Actions, BlockCheck, HeaderCheck, Join, Matched};
use super::choice::{Choice, Form, Offer};
use super::compact_block::CompactBlock;
use super::config::CompactConfig;
use super::downloads::Downloads;
use super::high_bandwidth::{Change, HighBandwidth};
use super::message::{BlockMessage, GetBlock, MissingTransactions};
use super::part::{Part, Sending};
use super::peers::Awaited;
use super::recent::{Dealings, Kept, Recent};
use crate::chain::Block;
use crate::chain::{BlockParts, Checked, ItemId, Verdict};
use crate::keyed::Keyed;
use crate::order;
use crate::peers::Misdeed;
use crate::platform::Instant;

/// The hook that chooses in which form a block goes to a peer.
type Choose = Box<dyn Fn(&Offer<'_>) -> Choice + Send>;

/// How soon who wants a block comes for it. Who has it already says nothing when it is told of it, and holds up our next ones so long.
const COMES_WITHIN: Duration = Duration::from_secs(2);

/// How a peer tells of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// By what it was asked for.
    Answer,
    /// By an announcement, which says that its chain has accepted the block: once, also after [`Word::Block`], which may have come before that.
    Announcement,
    /// By a compact or a whole block that nobody asked for.
    Block,
}

impl Word {
    fn of_block(asked: bool) -> Self {
        if asked { Self::Answer } else { Self::Block }
    }
}

/// Compact blocks in one node.
pub struct CompactBlocks {
    config: CompactConfig,
    /// Turns a block's identity into its nonce. Secret: who knows nonces beforehand can make short ids collide.
    nonces: SipHasher24,
    choose: Choose,
    downloads: Downloads,
    recent: Recent,
    /// Who sends us new blocks unasked.
    high_bandwidth: HighBandwidth,
    /// Who wants new blocks from us unasked.
    wanting: BTreeSet<PeerId>,
}

impl CompactBlocks {
    /// A node with no peers and no blocks. `seed` is random and secret; `choose` is [`super::choose`] or one that
    /// knows more.
    pub fn new(
        config: CompactConfig,
        seed: [u8; 16],
        choose: impl Fn(&Offer<'_>) -> Choice + Send + 'static,
    ) -> Self {
        Self {
            nonces: SipHasher24::new_with_key(&seed),
            choose: Box::new(choose),
            downloads: Downloads::new(config.clone()),
            recent: Recent::new(
                config.max_recent_blocks,
                config.max_recent_bytes,
                config.max_seen,
                Keyed::new(&seed),
            ),
            high_bandwidth: HighBandwidth::default(),
            wanting: BTreeSet::new(),
            config,
        }
    }

    /// A peer's first connection; `outbound` if we dialled it.
    pub fn peer_connected(&mut self, peer: PeerId, outbound: bool) {
        self.downloads.peers.connected(peer, outbound);
    }

    /// A peer's last connection ended: forgets it, and asks others for what it was asked for.
    pub fn peer_gone(&mut self, peer: &PeerId, now: Instant) -> Vec<Action> {
        let mut out = Actions::default();
        self.wanting.remove(peer);
        self.high_bandwidth.gone(peer);
        self.recent.gone(peer);
        self.downloads.gone(peer, now, &mut out);
        self.downloads.take_up(now, &mut out);
        out.into_vec()
    }

    /// Tells a peer of those of so many of the newest blocks that the chain has accepted that it `wants`.
    pub fn tell_newest(
        &mut self,
        peer: PeerId,
        count: usize,
        wants: impl Fn(&ItemId) -> bool,
    ) -> Vec<Action> {
        let mut out = Actions::default();
        self.recent.tell_newest(peer, count, wants, &mut out);
        out.into_vec()
    }

    /// A message that told a peer of a block did not go out, since the peer reads too slowly; whether it is to be told again,
    /// by [`CompactBlocks::tell_missed`].
    pub fn missed(&mut self, peer: PeerId, id: &ItemId) -> bool {
        self.recent.missed(peer, id)
    }

    /// Tells a peer of one block that it missed, if there is one that is still kept.
    pub fn tell_missed(&mut self, peer: PeerId) -> Vec<Action> {
        let mut out = Actions::default();
        self.recent.tell_missed(peer, &mut out);
        out.into_vec()
    }

    /// A valid block is here by another way than this: made here, or `from` a peer. `parts` is what
    /// [`crate::Application::split_block`] says; `novel_bytes` are those of its transactions that were not in our pool
    /// ([`Offer::novel_bytes`]).
    pub fn accepted(
        &mut self,
        id: ItemId,
        block: Block,
        parts: Option<BlockParts>,
        novel_bytes: usize,
        from: Option<PeerId>,
        now: Instant,
    ) -> Vec<Action> {
        let mut out = Actions::default();
        self.take((id, block, parts, novel_bytes), from, now, &mut out);
        self.downloads.take_up(now, &mut out);
        out.into_vec()
    }

    /// A ping of a peer took so long: so much later it answers what it is asked for.
    pub fn measured(&mut self, peer: &PeerId, round_trip: Duration) {
        self.downloads.peers.measured(peer, round_trip);
    }

    /// Whether there is something to ask a peer for.
    pub fn has_request(&self, peer: &PeerId) -> bool {
        self.downloads.has_request(peer)
    }

    /// What a peer is to be asked for ([`Action::Ask`]), if there is anything: to be called when it can go out, since the peer's time to
    /// answer runs from then on. What is not wanted any more is not asked for.
    pub fn next_request(&mut self, peer: &PeerId, now: Instant) -> Option<BlockMessage> {
        self.downloads.next_request(peer, now)
    }

    /// What a peer is to be asked for waits until then behind something that the peer reads meanwhile, or for this node's own limits: if it is too
    /// late in the end, less than [`CompactConfig::give_up_after`] after that, the peer does not pay for it.
    pub fn kept_back(&mut self, peer: &PeerId, until: Instant) {
        self.downloads.kept_back(peer, until);
    }

    /// So many bytes of a long message of a peer are here, of so many.
    pub fn comes(&mut self, peer: &PeerId, coming: (usize, usize), now: Instant) -> Vec<Action> {
        let mut out = Actions::default();
        self.downloads.comes(peer, coming, now, &mut out);
        out.into_vec()
    }

    /// A long message of a peer came too slowly while others waited, and is lost: nobody pays for that, and others are asked.
    pub fn skipped(&mut self, peer: &PeerId, now: Instant) -> Vec<Action> {
        let mut out = Actions::default();
        self.downloads.skipped(peer, now, &mut out);
        out.into_vec()
    }

    /// What a peer sends was not read here for so long: it has as much more time before it pays.
    pub fn unheard(&mut self, peer: &PeerId, time: Duration, now: Instant) {
        self.downloads.unheard(peer, time, now);
    }

    /// A message from a peer. One of a peer that is not connected is ignored.
    pub fn receive(&mut self, peer: PeerId, message: BlockMessage, now: Instant) -> Vec<Action> {
        let mut out = Actions::default();
        if self.downloads.peers.is_outbound(&peer).is_none() {
            return out.into_vec();
        }
        match message {
            BlockMessage::Announcement(announcement) => {
                // It is told of what the chain has accepted there.
                self.settled(peer, &announcement.id);
                if self.is_news(peer, &announcement.id, Word::Announcement, &mut out) {
                    let accepted = self.recent.count();
                    self.downloads
                        .announced(peer, announcement, accepted, now, &mut out);
                }
            }
            BlockMessage::Compact(compact) => {
                let kinds = [Awaited::Compact];
                let asked = self.downloads.answers(&peer, compact.id(), &kinds, now);
                if self.is_news(peer, compact.id(), Word::of_block(asked), &mut out) {
                    self.downloads.compact(peer, compact, asked, now, &mut out);
                }
            }
            BlockMessage::Whole(whole) => {
                let kinds = [Awaited::Whole, Awaited::Compact, Awaited::Missing];
                let asked = self.downloads.answers(&peer, &whole.id, &kinds, now);
                if self.is_news(peer, &whole.id, Word::of_block(asked), &mut out) {
                    self.downloads.whole(peer, whole, asked, now, &mut out);
                }
            }
            BlockMessage::Transactions(transactions) => {
                let is_wanted = !self.recent.is_accepted(&transactions.id);
                self.downloads
                    .transactions(peer, transactions, is_wanted, now, &mut out);
            }
            BlockMessage::NotFound(id) => {
                let accepted = self.recent.count();
                self.downloads.not_found(peer, &id, accepted, now, &mut out);
            }
            BlockMessage::GetBlock(request) => self.serve_block(peer, request, &mut out),
            BlockMessage::GetTransactions(request) => {
                self.serve_transactions(peer, request, &mut out);
            }
            BlockMessage::HighBandwidth(true) => {
                self.wanting.insert(peer);
            }
            BlockMessage::HighBandwidth(false) => {
                self.wanting.remove(&peer);
            }
            BlockMessage::Settled(id) => self.settled(peer, &id),
        }
        self.downloads.take_up(now, &mut out);
        out.into_vec()
    }

    /// What came of [`Action::Match`].
    pub fn matched(&mut self, matched: Matched, now: Instant) -> Vec<Action> {
        let mut out = Actions::default();
        self.downloads.matched(matched, now, &mut out);
        self.downloads.take_up(now, &mut out);
        out.into_vec()
    }

    /// The answer to [`Action::CheckHeader`].
    pub fn header_checked(
        &mut self,
        check: HeaderCheck,
        checked: &Checked,
        now: Instant,
    ) -> Vec<Action> {
        let mut out = Actions::default();
        self.downloads
            .header_checked(&check, checked, now, &mut out);
        self.downloads.take_up(now, &mut out);
        out.into_vec()
    }

    /// The answer to [`Action::Join`]: the block, or `None` where the chain refuses.
    pub fn joined(&mut self, join: Join, block: Option<Block>, now: Instant) -> Vec<Action> {
        let mut out = Actions::default();
        let Join {
            id,
            peer,
            header,
            transactions,
            lacked,
        } = join;
        let Some(block) = block else {
            self.downloads.refused(&id, peer, false, now, &mut out);
            self.downloads.take_up(now, &mut out);
            return out.into_vec();
        };
        if self.recent.is_accepted(&id) {
            return out.into_vec();
        }
        if self.recent.get(&id).is_none() {
            let parts = BlockParts {
                header,
                transactions,
            };
            let compact = self.make_compact(&id, &parts, &lacked);
            let lacked = lacked.iter();
            let lacked = lacked.filter_map(|index| parts.transactions.get(*index));
            let novel = lacked.map(Bytes::len).sum();
            self.keep(
                Kept::new(id.clone(), block.clone(), Some(parts), compact, novel),
                &mut out,
            );
            self.offer(&id, &mut out);
        }
        out.push(Action::CheckBlock(BlockCheck {
            id,
            peer,
            block,
            whole: false,
        }));
        out.into_vec()
    }

    /// The answer to [`Action::CheckBlock`]; with [`Verdict::Accept`], `parts` is what
    /// [`crate::Application::split_block`] says, and `novel_bytes` as in [`CompactBlocks::accepted`]. A block that cannot be
    /// checked now is answered by [`Verdict::Ignore`].
    pub fn block_checked(
        &mut self,
        check: BlockCheck,
        checked: &Checked,
        parts: Option<BlockParts>,
        novel_bytes: usize,
        now: Instant,
    ) -> Vec<Action> {
        let mut out = Actions::default();
        let BlockCheck {
            id,
            peer,
            block,
            whole,
        } = check;
        match checked.verdict {
            Verdict::Accept if checked.id == id => {
                self.take((id, block, parts, novel_bytes), Some(peer), now, &mut out);
            }
            // Bytes that were sent under this identity say nothing about the block itself, unless they are the block.
            Verdict::Ignore if whole && checked.id != id => {
                self.downloads.drop_source(&id, &peer, now, &mut out);
            }
            Verdict::Ignore => {
                self.withdraw(&id, &mut out);
                for teller in self.downloads.finish(&id) {
                    out.settled(teller, &id, "the chain does not want the block now");
                }
            }
            Verdict::Accept | Verdict::Reject => {
                if !whole {
                    self.withdraw(&id, &mut out);
                }
                self.downloads.refused(&id, peer, whole, now, &mut out);
            }
        }
        self.downloads.take_up(now, &mut out);
        out.into_vec()
    }

    /// When to call [`CompactBlocks::on_time`]; `None` while nothing is waited for.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.downloads.next_deadline()
    }

    /// Time has passed: asks others in place of silent peers.
    pub fn on_time(&mut self, now: Instant) -> Vec<Action> {
        let mut out = Actions::default();
        self.downloads.on_time(now, &mut out);
        out.into_vec()
    }

    /// The peers that were asked to send new blocks unasked, who delivered last first.
    pub fn high_bandwidth_peers(&self) -> impl Iterator<Item = &PeerId> {
        self.high_bandwidth.peers()
    }

    /// Whether the chain has accepted this block, as far back as [`CompactConfig::max_seen`] reaches.
    pub fn is_accepted(&self, id: &ItemId) -> bool {
        self.recent.is_accepted(id)
    }

    /// A block that the chain has accepted and that is still kept, with its parts if the chain's blocks have some.
    pub fn block(&self, id: &ItemId) -> Option<(&Block, Option<&BlockParts>)> {
        let kept = self.recent.accepted(id)?;
        let served = &kept.served;
        Some((&served.block, served.parts.as_ref()))
    }

    /// What [`Action::Serve`] tells to send; `None` where the block is kept no more, or does not have this part any more.
    pub fn serve(&self, id: &ItemId, part: Part) -> Option<Sending> {
        self.recent.serve(id, part)
    }

    /// Whether one more block of our own would be kept until peers have fetched it, beside so many that are `coming`, with their
    /// bytes. Whoever was told of one and has not come for it in `COMES_WITHIN` is not waited for: who has it says nothing.
    pub fn has_room(&self, coming: (usize, usize), now: Instant) -> bool {
        let config = &self.config;
        let (count, bytes) = self.recent.unfetched(COMES_WITHIN, now);
        let count = count.saturating_add(coming.0);
        let bytes = bytes.saturating_add(coming.1);
        count == 0 || (count < config.max_recent_blocks / 2 && bytes < config.max_recent_bytes / 2)
    }

    /// Whether every peer that was told of a block from here, or this one, has said that it has it, or wants nothing more of it.
    pub fn is_settled(&self, peer: Option<&PeerId>) -> bool {
        self.recent.is_settled(peer)
    }

    /// A peer has a block, or wants nothing more of it. Who waited for it until it is accepted is told then, since it may have given it up.
    pub fn settled(&mut self, peer: PeerId, id: &ItemId) {
        if let Some(kept) = self.recent.get(id) {
            kept.deal(peer, |dealings| {
                (dealings.settled, dealings.knows) = (true, true);
                dealings.gave_up |= std::mem::take(&mut dealings.owed);
            });
        }
    }

    /// A block that was to go to a peer in chunks is announced to it instead, if it is still kept, and the peer was not told of it meanwhile.
    pub fn announce(&mut self, peer: PeerId, id: &ItemId) -> Vec<Action> {
        let mut out = Actions::default();
        let kept = self.recent.get(id).filter(|kept| kept.accepted.is_some());
        if let Some(kept) = kept {
            let dealings = kept.dealings(&peer);
            if !dealings.settled && !dealings.heard {
                kept.announce(peer, "it does not get it in chunks", &mut out);
            }
        }
        out.into_vec()
    }

    /// How many blocks are in progress.
    pub fn in_progress(&self) -> usize {
        self.downloads.in_progress()
    }

    /// A peer has told of a block, or answered. Whether it is still wanted.
    fn is_news(&mut self, peer: PeerId, id: &ItemId, word: Word, out: &mut Actions) -> bool {
        let asked = word == Word::Answer;
        if !asked {
            self.downloads.peers.tells(&peer);
        }
        let is_accepted = self.recent.is_accepted(id);
        let Some(kept) = self.recent.get(id) else {
            if is_accepted && !asked {
                out.settled(peer, id, "the block was here");
            }
            return !is_accepted;
        };
        let before = kept.dealings(&peer);
        let twice = match word {
            Word::Answer => false,
            Word::Announcement => before.announced,
            Word::Block => before.told,
        };
        kept.deal(peer, |dealings| {
            dealings.told = true;
            dealings.announced |= word == Word::Announcement;
            dealings.knows = true;
            dealings.heard |= is_accepted && !twice;
        });
        if twice {
            out.blame(peer, Misdeed::TooManyMessages, "it told of a block twice");
            return false;
        }
        if is_accepted && !before.heard {
            out.settled(peer, id, "the block was here");
        }
        !is_accepted
    }

    fn serve_block(&mut self, peer: PeerId, request: GetBlock, out: &mut Actions) {
        let GetBlock { id, form } = request;
        let Some(kept) = self.recent.get(&id) else {
            return out.send(peer, BlockMessage::NotFound(id), "the block is not here");
        };
        let whole = form == Form::Whole;
        let twice = kept.deal(peer, |dealings| {
            let asked = if whole {
                &mut dealings.asked_whole
            } else {
                &mut dealings.asked_compact
            };
            let twice = std::mem::replace(asked, true);
            dealings.knows |= !twice;
            dealings.offered |= !twice;
            dealings.settled &= twice;
            twice
        });
        if twice {
            return out.blame(peer, Misdeed::TooManyMessages, "it asked for a block twice");
        }
        let Choice { form, why } = if whole {
            let why = "it asked for the whole block";
            Choice { form, why }
        } else {
            (self.choose)(&kept.as_offer(&peer, self.wanting.contains(&peer), true))
        };
        let form = match form {
            Form::Compact if kept.served.compact.is_some() => Form::Compact,
            Form::Coded => Form::Coded,
            Form::Announcement | Form::Compact | Form::Whole => Form::Whole,
        };
        if form == Form::Compact || kept.accepted.is_some() {
            kept.send(peer, form, why, out);
        } else {
            kept.deal(peer, |dealings| dealings.owed = true);
        }
    }

    fn serve_transactions(
        &mut self,
        peer: PeerId,
        request: MissingTransactions,
        out: &mut Actions,
    ) {
        let MissingTransactions { id, indexes } = request;
        let Some(kept) = self.recent.get(&id) else {
            return out.send(peer, BlockMessage::NotFound(id), "the block is not here");
        };
        let asked = |dealings: &mut Dealings| std::mem::replace(&mut dealings.asked_missing, true);
        if kept.deal(peer, asked) {
            let why = "it asked for missing transactions twice";
            return out.blame(peer, Misdeed::TooManyMessages, why);
        }
        let parts = kept.served.parts.as_ref();
        let count = parts.map_or(0, |parts| parts.transactions.len());
        if indexes.iter().any(|index| *index >= count) {
            let why = "it asked for transactions that the block does not have";
            return out.blame(peer, Misdeed::InvalidMessage, why);
        }
        let part = Part::Transactions(indexes.into_iter().collect());
        kept.serve(peer, part, "it asked for missing transactions", out);
    }

    /// The chain has accepted a block.
    fn take(
        &mut self,
        (id, block, parts, novel_bytes): (ItemId, Block, Option<BlockParts>, usize),
        from: Option<PeerId>,
        now: Instant,
        out: &mut Actions,
    ) {
        if self.recent.is_accepted(&id) {
            for teller in self.downloads.finish(&id) {
                out.settled(teller, &id, "the block is here");
            }
            return;
        }
        if self.recent.get(&id).is_none() {
            let compact = parts
                .as_ref()
                .and_then(|parts| self.make_compact(&id, parts, &[]));
            self.keep(
                Kept::new(
                    id.clone(),
                    block.clone(),
                    parts.clone(),
                    compact,
                    novel_bytes,
                ),
                out,
            );
        }
        let from = from.filter(|peer| self.downloads.peers.is_outbound(peer).is_some());
        let tellers = self.downloads.finish(&id);
        let tellers = tellers.into_iter().chain(from);
        if let Some(kept) = self.recent.accept(&id, block, parts, now) {
            kept.told_by(tellers);
            kept.settle(out);
            kept.pay_debts(out);
        } else {
            let mut tellers: Vec<_> = tellers.collect();
            order::sort(&mut tellers);
            tellers.dedup();
            for teller in tellers {
                out.settled(teller, &id, "the block is here");
            }
        }
        self.offer(&id, out);
        if let Some(peer) = from
            && let Some(outbound) = self.downloads.peers.is_outbound(&peer)
        {
            self.downloads.peers.delivered(&peer);
            for change in self.high_bandwidth.delivered(peer, outbound) {
                let (peer, on, why) = match change {
                    Change::Ask(peer) => (peer, true, "it was the first to deliver a block"),
                    Change::Release(peer) => (peer, false, "another peer takes its place"),
                };
                out.send(peer, BlockMessage::HighBandwidth(on), why);
            }
        }
    }

    fn make_compact(
        &self,
        id: &ItemId,
        parts: &BlockParts,
        lacked: &[usize],
    ) -> Option<CompactBlock> {
        let nonce = self.nonces.hash(id.as_bytes());
        let prefill = self.config.max_prefill_bytes;
        CompactBlock::new(id.clone(), parts, nonce, prefill, |index, _| {
            lacked.binary_search(&index).is_ok()
        })
    }

    fn keep(&mut self, mut kept: Kept, out: &mut Actions) {
        kept.told_by(self.downloads.sources(&kept.id));
        for gone in self.recent.insert(kept) {
            gone.disappoint(out);
        }
    }

    /// The chain refuses a block that was offered already: whoever comes for it is told so.
    fn withdraw(&mut self, id: &ItemId, out: &mut Actions) {
        if let Some(kept) = self.recent.take_unaccepted(id) {
            kept.disappoint(out);
        }
    }

    /// Offers a block to all peers that do not know that it is here; before it is accepted, the compact form only.
    fn offer(&mut self, id: &ItemId, out: &mut Actions) {
        let Some(kept) = self.recent.get(id) else {
            return;
        };
        for &peer in self.downloads.peers.iter() {
            if kept.dealings(&peer).knows {
                continue;
            }
            let Choice { form, why } =
                (self.choose)(&kept.as_offer(&peer, self.wanting.contains(&peer), false));
            let form = match form {
                Form::Compact if kept.served.compact.is_none() => Form::Announcement,
                form => form,
            };
            if form == Form::Announcement {
                if kept.accepted.is_some() {
                    kept.announce(peer, why, out);
                }
            } else if kept.accepted.is_some() || form == Form::Compact {
                kept.deal(peer, |dealings| {
                    dealings.knows = true;
                    dealings.offered = true;
                    // Chunks say themselves when they have arrived.
                    dealings.sent = form != Form::Coded;
                });
                kept.send(peer, form, why, out);
            }
        }
    }
}
