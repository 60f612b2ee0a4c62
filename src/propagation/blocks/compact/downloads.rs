//! Blocks on their way to us: whom to ask for what, and when to ask somebody else.
//!
//! A peer that has a block becomes a source of it. The first one is asked. Where no byte of an answer has come for a moment ([`Downloads::patience`]),
//! up to `max_parallel` others are asked at once, and so on, so that who tells of blocks and sends none holds nobody up; who answers slowly and will be done in
//! time is left alone (`pace.rs`). Who has sent nothing for `give_up_after` is dropped and pays, and who had let us wait is asked after others.
//!
//! Its time runs from when the request goes out ([`Downloads::next_request`]), which may stand behind a block that the peer is being sent: a request is unread, or
//! kept back by us, or sent ([`super::download::Request`]), and then answered or given up. Who reads nothing for `give_up_after` pays as who says nothing; for what we keep back nobody does. And a peer's time is one:
//! it answers in the order in which it was asked, so while an answer comes, what it was asked for after that is not given up, and has not begun to wait when the answer is here, be it
//! of a block that came another way meanwhile. An answer that lasts too long takes the rest with it, so who lets drip gains nothing by what it was asked besides.
//! An answer that comes when its source is none any more, given up or replaced, is still worth what it brings: it makes the peer a source again.
//!
//! What a source goes through:
//!
//! ```text
//! header checked -> idle -> asked for the compact form, matched -> asked for missing transactions -> joined, checked
//!                      \--> asked for the whole block <---- a collision or a lie <----------/
//! ```
//!
//! Bounds: blocks in progress, for each peer and in all (`downloads/places.rs`); sources of a block; bytes of payload.

mod places;

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;

use super::actions::{Action, Actions, BlockCheck, HeaderCheck, Matched, Matching};
use super::choice::Form;
use super::compact_block::CompactBlock;
use super::config::CompactConfig;
use super::download::{Download, Request, Source, State};
use super::message::{Announcement, BlockMessage, GetBlock, Transactions, WholeBlock};
use super::pace::Manner;
use super::peers::{Awaited, Counts, Peers};
use super::reconstruction::Reconstruction;
use super::waiting::Waiting;
use crate::chain::Block;
use crate::chain::{Checked, ItemId, Verdict};
use crate::peers::Misdeed;
use crate::platform::Instant;

/// How many round trips longer than the configured patience a peer may say nothing, and how long one counts at most: it is the peer that answers a ping.
const ROUND_TRIPS: u32 = 2;
const MOST_ROUND_TRIP: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Downloads {
    config: CompactConfig,
    pub(super) peers: Peers,
    blocks: BTreeMap<ItemId, Download>,
    waiting: Waiting,
    /// Downloads that have begun since blocks were last taken up: others that told of these wait for no place.
    begun: Vec<ItemId>,
}

/// Of each peer whose answer comes, which request it is to, and by when it has to be here.
type Answering = BTreeMap<PeerId, (u64, Instant)>;

impl Downloads {
    pub(super) fn new(config: CompactConfig) -> Self {
        Self {
            config,
            peers: Peers::default(),
            blocks: BTreeMap::new(),
            waiting: Waiting::default(),
            begun: Vec::new(),
        }
    }

    pub(super) fn gone(&mut self, peer: &PeerId, now: Instant, out: &mut Actions) {
        self.peers.gone(peer);
        self.waiting.gone(peer);
        for download in self.blocks.values_mut() {
            download.remove(peer);
        }
        self.advance_all(now, out);
    }

    /// A peer says that it has a block. `accepted`: how many the chain has accepted here.
    pub(super) fn announced(
        &mut self,
        peer: PeerId,
        announcement: Announcement,
        accepted: u64,
        now: Instant,
        out: &mut Actions,
    ) {
        let Announcement { id, header } = announcement;
        let state = State::Header {
            header,
            compact: None,
        };
        let told = self.peers.told(&peer);
        let counts = Some(Counts { told, accepted });
        if self.admit(peer, &id, counts, state, now, out) {
            self.check_header(peer, id, now, out);
        }
    }

    /// Whether there is something to ask a peer for.
    pub(super) fn has_request(&self, peer: &PeerId) -> bool {
        self.peers.is_to_be_asked(peer) && self.first_request(peer).is_some()
    }

    /// What a peer is to be asked for next: it goes out now, and the peer's time runs.
    pub(super) fn next_request(&mut self, peer: &PeerId, now: Instant) -> Option<BlockMessage> {
        if !self.peers.is_to_be_asked(peer) {
            return None;
        }
        let Some((id, source)) = self.first_request(peer) else {
            self.peers.set_to_be_asked(peer, false);
            return None;
        };
        let id = id.clone();
        let (message, awaited) = match &source.state {
            State::AskedMissing(reconstruction) => {
                let missing = reconstruction.missing()?;
                (BlockMessage::GetTransactions(missing), Awaited::Missing)
            }
            State::AskedBlock(form) => {
                let awaited = match form {
                    Form::Compact => Awaited::Compact,
                    _ => Awaited::Whole,
                };
                let (id, form) = (id.clone(), *form);
                (BlockMessage::GetBlock(GetBlock { id, form }), awaited)
            }
            _ => return None,
        };
        let is_wanted = |id: &ItemId| self.blocks.contains_key(id);
        let turn = self.peers.await_answer(peer, &id, awaited, is_wanted)?;
        let source = self.source(&id, peer)?;
        source.begins(now);
        source.request = Request::Sent(turn);
        Some(message)
    }

    /// What a peer was first to be asked for, of what has not gone out.
    fn first_request(&self, peer: &PeerId) -> Option<(&ItemId, &Source)> {
        let blocks = self.blocks.iter();
        let requests = blocks.filter_map(|(id, it)| Some((id, it.to_be_asked(peer)?)));
        requests.min_by_key(|(_, source)| source.since)
    }

    /// What a peer is to be asked for waits until then behind what it reads meanwhile, or for this node's own limits: that is no fault of the peer.
    pub(super) fn kept_back(&mut self, peer: &PeerId, until: Instant) {
        if self.peers.is_to_be_asked(peer) {
            let sources = self.blocks.values_mut();
            let sources = sources.filter_map(|download| download.source(peer));
            let mut held_up = false;
            for source in sources {
                held_up |= source.is_kept_back(until);
            }
            if held_up {
                self.peers.reads(peer, true);
            }
        }
    }

    /// Whether a message of a peer answers what it was asked for, though that may not be wanted any more. What it was asked for after that has not
    /// begun to wait.
    pub(super) fn answers(
        &mut self,
        peer: &PeerId,
        id: &ItemId,
        kinds: &[Awaited],
        now: Instant,
    ) -> bool {
        let Some(turn) = self.peers.take_awaited(peer, id, kinds) else {
            return false;
        };
        self.peers.let_wait(peer, false);
        let sources = self.blocks.values_mut();
        let sources = sources.filter_map(|download| download.source(peer));
        for source in sources.filter(|source| source.turn() > Some(turn)) {
            source.begins(now);
        }
        true
    }

    /// So many bytes of a long frame of a peer are here, of so many: it is on the answer to what it was asked for first.
    pub(super) fn comes(
        &mut self,
        peer: &PeerId,
        coming: (usize, usize),
        now: Instant,
        out: &mut Actions,
    ) {
        let patience = self.patience(peer);
        let Some((id, in_time, source)) = self.asked_first(peer) else {
            return;
        };
        source.pace.comes(coming, in_time, patience, now);
        if source.pace.manner == Manner::Silent {
            self.peers.let_wait(peer, true);
        }
        self.advance(&id, now, out);
    }

    /// A long frame of a peer is lost, most likely the answer to what it was asked for first. It pays nothing, and others are asked at once. It
    /// gives a whole block but once, and that may have been something else, so it is waited for as one that is silent; short of that it may be
    /// asked for more.
    pub(super) fn skipped(&mut self, peer: &PeerId, now: Instant, out: &mut Actions) {
        let Some((id, _, source)) = self.asked_first(peer) else {
            return;
        };
        source.pace.loses();
        self.peers.let_wait(peer, true);
        if !self.peers.awaits(peer, &id, Awaited::Whole)
            && let Some(source) = self.source(&id, peer)
        {
            source.enter(State::Idle, now);
        }
        self.advance(&id, now, out);
    }

    /// What a peer sends was not read here for so long. Others are asked when it is silent as ever; it has as much longer until it is given up.
    pub(super) fn unheard(&mut self, peer: &PeerId, time: Duration, now: Instant) {
        for download in self.blocks.values_mut() {
            if let Some(source) = download.source(peer).filter(|source| source.is_asked()) {
                source.is_unheard(time, now);
            }
        }
    }

    /// What a peer was asked for first and has not answered: the block, and when it is given up.
    fn asked_first(&mut self, peer: &PeerId) -> Option<(ItemId, Instant, &mut Source)> {
        let give_up_after = self.config.give_up_after;
        let asked = self.blocks.iter_mut().filter_map(|(id, download)| {
            let in_time = download.began + give_up_after;
            let source = download.source(peer)?;
            Some((source.turn()?, (id.clone(), in_time, source)))
        });
        asked.min_by_key(|(turn, _)| *turn).map(|(_, first)| first)
    }

    /// A peer sends a compact block, asked or not.
    pub(super) fn compact(
        &mut self,
        peer: PeerId,
        compact: CompactBlock,
        asked: bool,
        now: Instant,
        out: &mut Actions,
    ) {
        let (id, header) = (compact.id().clone(), compact.header().clone());
        // Without room for it, it says at least who has the block.
        let compact = Some(compact).filter(|compact| self.has_room_for(compact.weight()));
        let state = State::Header { header, compact };
        let is_source = if let Some(source) = self.source(&id, &peer).filter(|_| asked) {
            // Otherwise what it sent before is looked at.
            let is_free = source.is_asked() || source.is_idle();
            if is_free {
                source.enter(state, now);
            }
            is_free
        } else if asked {
            self.readmit(peer, &id, state, now)
        } else {
            self.admit(peer, &id, None, state, now, out)
        };
        if is_source {
            self.check_header(peer, id, now, out);
        }
    }

    /// A peer sends a whole block, asked or not.
    pub(super) fn whole(
        &mut self,
        peer: PeerId,
        whole: WholeBlock,
        asked: bool,
        now: Instant,
        out: &mut Actions,
    ) {
        let WholeBlock { id, data } = whole;
        let is_taken = if let Some(source) = self.source(&id, &peer).filter(|_| asked) {
            let is_first = !source.is_checked();
            if is_first {
                source.enter(State::Checking, now);
            }
            is_first
        } else if asked {
            self.readmit(peer, &id, State::Checking, now)
        } else {
            let busy = self.blocks.get(&id).is_some_and(Download::is_checking_any);
            let state = if busy {
                State::Idle
            } else {
                State::CheckingUnasked
            };
            self.admit(peer, &id, None, state, now, out) && !busy
        };
        if is_taken {
            out.push(Action::CheckBlock(BlockCheck {
                id,
                peer,
                block: Block::new(data),
                whole: true,
            }));
        }
    }

    /// A peer sends the transactions that a compact block left open, of a block that is wanted or not.
    pub(super) fn transactions(
        &mut self,
        peer: PeerId,
        transactions: Transactions,
        is_wanted: bool,
        now: Instant,
        out: &mut Actions,
    ) {
        let id = transactions.id.clone();
        if !self.answers(&peer, &id, &[Awaited::Missing], now) {
            let why = "it sent transactions that nobody asked for";
            return out.blame(peer, Misdeed::InvalidMessage, why);
        }
        let Some(source) = self.source(&id, &peer) else {
            // The compact block went with the source, but the peer has the block, and gives it whole.
            if is_wanted
                && !self.peers.awaits(&peer, &id, Awaited::Whole)
                && self.readmit(peer, &id, State::Idle, now)
            {
                self.advance(&id, now, out);
            }
            return;
        };
        let State::AskedMissing(reconstruction) = &mut source.state else {
            return;
        };
        match reconstruction.supply(transactions) {
            Ok(()) => {
                if let State::AskedMissing(reconstruction) = source.enter(State::Checking, now) {
                    out.join(peer, reconstruction);
                }
            }
            Err(error) if error.is_peers_fault() => {
                let why = "it sent other transactions than were asked for";
                out.blame(peer, Misdeed::InvalidMessage, why);
                self.drop_source(&id, &peer, now, out);
            }
            Err(_) => {
                source.compact_is_spent = true;
                let why = "its compact block makes a block that is too large";
                self.ask(&id, &peer, why, now, out);
            }
        }
    }

    /// A peer has not what it was asked for. `accepted`: how many blocks the chain has accepted here.
    pub(super) fn not_found(
        &mut self,
        peer: PeerId,
        id: &ItemId,
        accepted: u64,
        now: Instant,
        out: &mut Actions,
    ) {
        let kinds = [Awaited::Compact, Awaited::Missing, Awaited::Whole];
        if !self.answers(&peer, id, &kinds, now) {
            return;
        }
        if let Some(source) = self.asked_source(id, &peer) {
            let announced = source.announced;
            if announced.is_some_and(|then| !self.may_be_gone(&peer, then, accepted)) {
                let why = "it announced a block and does not have it";
                out.blame(peer, Misdeed::NoAnswer, why);
            }
            self.drop_source(id, &peer, now, out);
        }
    }

    /// Whether a peer need not have a block any more that it told of then: where many were accepted since, also where it was asked before that. Where
    /// it has told of many, but this node is behind and has few of them, its word is taken for that, but not for ever: anybody may tell of any.
    fn may_be_gone(&mut self, peer: &PeerId, then: Counts, accepted: u64) -> bool {
        let kept = self.config.surely_kept();
        let told = self.peers.told(peer).saturating_sub(then.told);
        accepted.saturating_sub(then.accepted) >= kept || told >= kept && self.peers.take_word(peer)
    }

    /// The chain's word about a header.
    pub(super) fn header_checked(
        &mut self,
        check: &HeaderCheck,
        checked: &Checked,
        now: Instant,
        out: &mut Actions,
    ) {
        let HeaderCheck { id, header, peer } = check;
        let sources = self
            .blocks
            .get(id)
            .map_or(&[][..], |download| &download.sources);
        let waiting = sources
            .iter()
            .filter(|source| source.header() == Some(header));
        let mut peers: Vec<_> = waiting.map(|source| source.peer).collect();
        let wrong = match checked.verdict {
            Verdict::Accept if checked.id == *id => None,
            Verdict::Accept => Some("the header that it sent has another identity"),
            Verdict::Reject => Some("the chain rejects the header that it sent"),
            // Opaque blocks are told apart by their whole.
            Verdict::Ignore if header.is_empty() => None,
            Verdict::Ignore => {
                for peer in &peers {
                    self.drop_source(id, peer, now, out);
                }
                return;
            }
        };
        if let Some(why) = wrong {
            // The sender is no source any more if the block came from elsewhere meanwhile; it pays all the same.
            if !peers.contains(peer) {
                peers.push(*peer);
            }
            for peer in &peers {
                out.blame(*peer, Misdeed::InvalidItem, why);
                self.drop_source(id, peer, now, out);
            }
            return;
        }
        if let Some(download) = self.blocks.get_mut(id)
            && !header.is_empty()
        {
            download.header = Some(header.clone());
        }
        for peer in peers {
            self.header_accepted(id, peer, now, out);
        }
        self.advance(id, now, out);
    }

    /// The chain refuses a block: from now on it is the peer's fault, if it was a whole one.
    pub(super) fn refused(
        &mut self,
        id: &ItemId,
        peer: PeerId,
        whole: bool,
        now: Instant,
        out: &mut Actions,
    ) {
        if whole {
            let why = "the chain rejects the block that it sent, or it was another one";
            out.blame(peer, Misdeed::InvalidItem, why);
            self.drop_source(id, &peer, now, out);
        } else {
            let source = self.source(id, &peer);
            if let Some(source) = source.filter(|source| matches!(source.state, State::Checking)) {
                source.compact_is_spent = true;
                let why = "the joined block was refused: a short id collided, or it lied";
                self.ask(id, &peer, why, now, out);
            }
        }
    }

    /// A block is here, or of no use: ends its download. The peers that said they have it.
    pub(super) fn finish(&mut self, id: &ItemId) -> Vec<PeerId> {
        let mut peers = self.sources(id);
        self.blocks.remove(id);
        peers.extend(self.waiting.finish(id));
        peers
    }

    /// The peers that said they have a block in progress.
    pub(super) fn sources(&self, id: &ItemId) -> Vec<PeerId> {
        let sources = self.blocks.get(id).map(|download| &download.sources);
        let sources = sources.into_iter().flatten();
        sources.map(|source| source.peer).collect()
    }

    pub(super) fn in_progress(&self) -> usize {
        self.blocks.len()
    }

    /// When to call [`Downloads::on_time`].
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let answering = self.answering();
        let sources = self.blocks.values().flat_map(|it| &it.sources);
        let busy = sources.filter(|source| !source.is_idle());
        let deadlines = busy.flat_map(|source| {
            let patience = self.patience(&source.peer);
            let asked = source.is_asked().then_some(&source.pace);
            let falls_silent = asked.and_then(|pace| pace.ends_at(patience));
            falls_silent
                .into_iter()
                .chain([self.ends_at(source, &answering)])
        });
        deadlines.min()
    }

    /// When a source that is not idle is dropped: behind an answer that comes no sooner than that.
    fn ends_at(&self, source: &Source, answering: &Answering) -> Instant {
        let ends_at = source.ends_at(self.config.give_up_after);
        let before = comes_before(source, answering);
        before.map_or(ends_at, |before| ends_at.max(before))
    }

    fn answering(&self) -> Answering {
        let sources = self.blocks.values().flat_map(|it| &it.sources);
        let mut answering = Answering::new();
        for source in sources.filter(|source| source.pace.has_come()) {
            if let Some(turn) = source.turn() {
                let answer = (turn, source.ends_at(self.config.give_up_after));
                let first = answering.entry(source.peer).or_insert(answer);
                *first = answer.min(*first);
            }
        }
        answering
    }

    /// How long a peer that was asked may send nothing before others are asked too.
    fn patience(&self, peer: &PeerId) -> Duration {
        let round_trip = self.peers.round_trip(peer).min(MOST_ROUND_TRIP);
        self.config.patience + round_trip * ROUND_TRIPS
    }

    /// Notes who is silent, gives up who is for long, asks others, and takes up what waits for a place.
    pub(super) fn on_time(&mut self, now: Instant, out: &mut Actions) {
        let answering = self.answering();
        let mut blocks = std::mem::take(&mut self.blocks);
        for (id, download) in &mut blocks {
            for source in download.sources.iter_mut().filter(|it| it.is_asked()) {
                let ends_at = source.pace.ends_at(self.patience(&source.peer));
                if ends_at.is_some_and(|at| at <= now) {
                    source.pace.manner = Manner::Silent;
                    // Others are asked for it too, but who is on another answer of ours is not silent.
                    if source.is_to_be_asked() {
                        self.peers.reads(&source.peer, false);
                    } else if comes_before(source, &answering).is_none() {
                        self.peers.let_wait(&source.peer, true);
                    }
                }
            }
            download.sources.retain(|source| {
                let over = !source.is_idle() && self.ends_at(source, &answering) <= now;
                if over && source.is_asked() {
                    let give_up_after = self.config.give_up_after;
                    let (pays, why) = match source.request {
                        Request::Behind(until) if now < until + give_up_after => {
                            (false, "it could not be asked in time")
                        }
                        Request::Unread | Request::Behind(_) => {
                            (true, "it reads nothing, and could not be asked")
                        }
                        Request::Sent(_) => (true, "it did not send what it was asked for"),
                    };
                    if pays && !source.pace.is_excused {
                        out.blame(source.peer, Misdeed::NoAnswer, why);
                    }
                    out.settled(source.peer, id, why);
                }
                !over
            });
        }
        self.blocks = blocks;
        self.advance_all(now, out);
        self.take_up(now, out);
    }

    /// Has a source's header checked, unless the chain has accepted it before or is checking it for another source.
    fn check_header(&mut self, peer: PeerId, id: ItemId, now: Instant, out: &mut Actions) {
        let Some(download) = self.blocks.get_mut(&id) else {
            return;
        };
        let Some(header) = download
            .source(&peer)
            .and_then(|source| source.header().cloned())
        else {
            return;
        };
        if download.header.as_ref() == Some(&header) {
            self.header_accepted(&id, peer, now, out);
            self.advance(&id, now, out);
        } else {
            let mut same = download
                .sources
                .iter()
                .filter(|source| source.header() == Some(&header));
            if same.all(|source| source.peer == peer) {
                out.push(Action::CheckHeader(HeaderCheck { id, header, peer }));
            }
        }
    }

    /// A source's header is good: it becomes idle, or its compact block is put to use.
    fn header_accepted(&mut self, id: &ItemId, peer: PeerId, now: Instant, out: &mut Actions) {
        let Some(download) = self.blocks.get_mut(id) else {
            return;
        };
        let checking = download.is_checking();
        let Some(source) = download.source(&peer) else {
            return;
        };
        let State::Header { compact, .. } = source.enter(State::Idle, now) else {
            return;
        };
        if let Some(compact) = compact.filter(|_| !checking) {
            source.enter(State::Matching(compact.weight()), now);
            out.push(Action::Match(Matching {
                peer,
                compact,
                max_block_bytes: self.config.max_block_bytes,
            }));
        }
    }

    /// A source's compact block was matched with the pool: it is joined, or what is missing is asked for.
    pub(super) fn matched(&mut self, matched: Matched, now: Instant, out: &mut Actions) {
        let Matched {
            id,
            peer,
            reconstruction,
        } = matched;
        let source = self.source(&id, &peer);
        let Some(source) = source.filter(|it| matches!(it.state, State::Matching(_))) else {
            return;
        };
        source.enter(State::Idle, now);
        match reconstruction {
            Some(reconstruction) => self.matched_with(&id, peer, reconstruction, now, out),
            None => source.compact_is_spent = true,
        }
        self.advance(&id, now, out);
    }

    fn matched_with(
        &mut self,
        id: &ItemId,
        peer: PeerId,
        reconstruction: Reconstruction,
        now: Instant,
        out: &mut Actions,
    ) {
        let Some(download) = self.blocks.get_mut(id) else {
            return;
        };
        let checking = download.is_checking();
        let may_ask = download.may_ask_missing(&self.config, now);
        let may_go_on = download.may_go_on(&self.config);
        let Some(source) = download.source(&peer).filter(|_| !checking) else {
            return;
        };
        if reconstruction.missing().is_none() {
            source.enter(State::Checking, now);
            return out.join(peer, reconstruction);
        }
        // Who was asked for this compact block goes on; who sent it unasked waits until others are silent.
        let may_ask = may_ask || (source.compact_is_spent && may_go_on);
        if may_ask && self.has_room_for(reconstruction.weight()) {
            if let Some(source) = self.source(id, &peer) {
                source.enter(State::AskedMissing(reconstruction), now);
            }
            let why = "the pool lacks some transactions of its compact block";
            self.peers.set_to_be_asked(&peer, true);
            out.ask(peer, id.clone(), why);
        }
    }

    /// Asks the next sources, if it is time to.
    fn advance(&mut self, id: &ItemId, now: Instant, out: &mut Actions) {
        if let Some(download) = self.blocks.get(id)
            && download.sources.is_empty()
        {
            self.blocks.remove(id);
        }
        while let Some(download) = self.blocks.get_mut(id)
            && download.may_ask(&self.config, now)
        {
            let why = if download.asked().next().is_some() {
                "those who were asked before are silent, or slow"
            } else {
                "it has the block"
            };
            let peers = &self.peers;
            let next = download.next_source(|peer| peers.lets_wait(peer));
            let Some(peer) = next.map(|source| source.peer) else {
                return;
            };
            self.ask(id, &peer, why, now, out);
        }
    }

    fn advance_all(&mut self, now: Instant, out: &mut Actions) {
        let ids: Vec<_> = self.blocks.keys().cloned().collect();
        for id in ids {
            self.advance(&id, now, out);
        }
    }

    /// Asks a source for the compact form; for the whole block if that is spent, or the blocks are opaque.
    fn ask(
        &mut self,
        id: &ItemId,
        peer: &PeerId,
        why: &'static str,
        now: Instant,
        out: &mut Actions,
    ) {
        let Some(download) = self.blocks.get_mut(id) else {
            return;
        };
        let has_header = download.header.is_some();
        let Some(source) = download.source(peer) else {
            return;
        };
        let form = if has_header && !source.compact_is_spent {
            Form::Compact
        } else {
            Form::Whole
        };
        source.compact_is_spent = true;
        source.enter(State::AskedBlock(form), now);
        self.peers.set_to_be_asked(peer, true);
        out.ask(*peer, id.clone(), why);
    }

    fn source(&mut self, id: &ItemId, peer: &PeerId) -> Option<&mut Source> {
        self.blocks.get_mut(id)?.source(peer)
    }

    fn asked_source(&mut self, id: &ItemId, peer: &PeerId) -> Option<&mut Source> {
        self.source(id, peer).filter(|source| source.is_asked())
    }

    /// A source is of no use: asks the next one.
    pub(super) fn drop_source(
        &mut self,
        id: &ItemId,
        peer: &PeerId,
        now: Instant,
        out: &mut Actions,
    ) {
        if let Some(download) = self.blocks.get_mut(id) {
            download.remove(peer);
        }
        out.settled(*peer, id, "it is asked no more");
        self.advance(id, now, out);
    }

    fn has_room_for(&self, weight: usize) -> bool {
        let sources = self.blocks.values().flat_map(|download| &download.sources);
        let held = sources
            .map(Source::weight)
            .fold(weight, usize::saturating_add);
        held <= self.config.max_held_bytes
    }
}

/// By when an answer of a source's peer has to be here that comes before its own, if one does.
fn comes_before(source: &Source, answering: &Answering) -> Option<Instant> {
    let (turn, ends_at) = answering.get(&source.peer)?;
    (source.turn()? > *turn).then_some(*ends_at)
}
