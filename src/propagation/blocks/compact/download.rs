//! One block on its way to us, and the peers that have it.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;

use super::choice::Form;
use super::compact_block::CompactBlock;
use super::config::CompactConfig;
use super::pace::{Manner, Pace};
use super::peers::Counts;
use super::reconstruction::Reconstruction;

use crate::platform::Instant;

/// So many patiences a source whose answer comes is left alone: 5 s. A liar that sends just enough holds a block up no longer, and a line so
/// slow shares what is left with another.
pub(super) const ALONE: u32 = 10;
/// How many times `give_up_after` a peer has to answer while its answer comes, and what it is asked for has to go out.
const MOST_TIMES: u32 = 3;

/// A block in progress.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) began: Instant,
    /// The header, once the chain has accepted one. A second peer's need not be checked if it is the same.
    pub(super) header: Option<Bytes>,
    /// The peers that say they have the block, in the order in which they said so.
    pub(super) sources: Vec<Source>,
}

/// A peer that says it has the block.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) peer: PeerId,
    /// Whether we dialled it.
    pub(super) outbound: bool,
    /// Where it announced the block, which honest peers do after their chain accepted it: how many there were by then.
    pub(super) announced: Option<Counts>,
    /// Whether the compact form was asked for, or is no use; if so the whole block is next.
    pub(super) compact_is_spent: bool,
    /// When it came into this state, or what it is asked for went out, and how its answer comes.
    pub(super) since: Instant,
    pub(super) pace: Pace,
    pub(super) state: State,
    /// Where it is asked.
    pub(super) request: Request,
}

/// How far a request to a peer has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// It has not gone out, since the peer reads nothing.
    Unread,
    /// It has not gone out: until then, or later, it waited behind what the peer read, or for this node's own limits.
    Behind(Instant),
    /// It went out, after so many others to this peer. Its time runs from then on.
    Sent(u64),
}

/// Where things stand with a source.
#[derive(Debug)]
pub(super) enum State {
    /// Its header is being checked. It may have sent the compact block along.
    Header {
        header: Bytes,
        compact: Option<CompactBlock>,
    },
    /// Its compact block, of so many bytes, is being matched with the pool.
    Matching(usize),
    /// It can be asked.
    Idle,
    /// It is asked for the block in this form: the compact one, or the whole block.
    AskedBlock(Form),
    /// It is asked for missing transactions.
    AskedMissing(Reconstruction),
    /// The block that it was asked for, or that was joined, is being checked.
    Checking,
    /// The whole block that it sent unasked is being checked. It may be anything, so it holds nobody up.
    CheckingUnasked,
}

impl Source {
    pub(super) fn new(
        peer: PeerId,
        outbound: bool,
        announced: Option<Counts>,
        state: State,
        now: Instant,
    ) -> Self {
        Self {
            peer,
            outbound,
            announced,
            compact_is_spent: false,
            since: now,
            pace: Pace::new(now),
            state,
            request: Request::Unread,
        }
    }

    /// Comes into another state, out of the one that is returned. Whose frame was lost here is excused on: what it is asked next comes behind the rest of that.
    pub(super) fn enter(&mut self, state: State, now: Instant) -> State {
        self.request = Request::Unread;
        self.begins(now);
        std::mem::replace(&mut self.state, state)
    }

    /// Its time begins.
    pub(super) fn begins(&mut self, now: Instant) {
        let is_excused = self.pace.is_excused;
        (self.since, self.pace) = (now, Pace::new(now));
        self.pace.is_excused = is_excused;
    }

    /// What it is to be asked for, if anything, is kept back until then by other than its not reading.
    pub(super) fn is_kept_back(&mut self, until: Instant) -> bool {
        let is_to_be_asked = self.is_to_be_asked();
        if is_to_be_asked {
            self.request = Request::Behind(match self.request {
                Request::Behind(before) => before.max(until),
                Request::Unread | Request::Sent(_) => until,
            });
        }
        is_to_be_asked
    }

    /// What it sends was not read here for so long: it has as much more time.
    pub(super) fn is_unheard(&mut self, time: Duration, now: Instant) {
        let counted = self.pace.counted.iter_mut();
        for at in counted.chain([&mut self.since]) {
            *at = now.min(*at + time);
        }
    }

    /// When it is given up, whatever else it was asked for.
    pub(super) fn ends_at(&self, give_up_after: Duration) -> Instant {
        if !self.is_asked() {
            return self.since + give_up_after;
        }
        let most = self.since + give_up_after * MOST_TIMES;
        if self.is_to_be_asked() || self.pace.is_moving() {
            return most;
        }
        most.min(self.pace.counted.unwrap_or(self.since) + give_up_after)
    }

    /// The header that is being checked.
    pub(super) fn header(&self) -> Option<&Bytes> {
        match &self.state {
            State::Header { header, .. } => Some(header),
            _ => None,
        }
    }

    /// Whether a block that it sent, or whose parts it did, is being checked.
    pub(super) fn is_checked(&self) -> bool {
        matches!(self.state, State::Checking | State::CheckingUnasked)
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether we wait for it.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.state, State::AskedBlock(_) | State::AskedMissing(_))
    }

    /// Whether it is to be asked for something that has not gone out.
    pub(super) fn is_to_be_asked(&self) -> bool {
        self.is_asked() && self.turn().is_none()
    }

    /// Where it was asked and that has gone out: after how many others.
    pub(super) fn turn(&self) -> Option<u64> {
        match self.request {
            Request::Sent(turn) => Some(turn),
            Request::Unread | Request::Behind(_) => None,
        }
    }

    /// Whether it answers, may well do so soon, or what it sent is looked at.
    fn is_at_work(&self) -> bool {
        let is_waited_for = self.turn().is_some() && self.pace.manner != Manner::Silent;
        !self.is_idle() && (!self.is_asked() || is_waited_for)
    }

    /// Bytes of payload that are held for it.
    pub(super) fn weight(&self) -> usize {
        match &self.state {
            State::Header { compact, .. } => compact.as_ref().map_or(0, CompactBlock::weight),
            State::Matching(weight) => *weight,
            State::AskedMissing(reconstruction) => reconstruction.weight(),
            State::Idle | State::AskedBlock(_) | State::Checking | State::CheckingUnasked => 0,
        }
    }
}

impl Download {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            header: None,
            sources: Vec::new(),
        }
    }

    pub(super) fn source(&mut self, peer: &PeerId) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.peer == *peer)
    }

    pub(super) fn has(&self, peer: &PeerId) -> bool {
        self.sources.iter().any(|source| source.peer == *peer)
    }

    /// A source that is to be asked for something that has not gone out.
    pub(super) fn to_be_asked(&self, peer: &PeerId) -> Option<&Source> {
        let mut sources = self.sources.iter();
        sources.find(|source| source.peer == *peer && source.is_to_be_asked())
    }

    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.sources.retain(|source| source.peer != *peer);
    }

    /// Adds a source. Where there are `max_sources`, one that `replaces` others takes the place of the last inbound one that was not asked, or
    /// else that could not be, or is silent; any other is not added.
    pub(super) fn add(&mut self, source: Source, max_sources: usize, replaces: bool) -> bool {
        if self.sources.len() >= max_sources {
            let places = self.sources.iter().enumerate();
            let spare = places.filter(|(_, it)| !it.outbound && !it.is_at_work());
            let spare = spare.max_by_key(|(at, it)| (it.is_idle(), it.is_to_be_asked(), *at));
            let Some((spare, _)) = spare.filter(|_| replaces) else {
                return false;
            };
            self.sources.remove(spare);
        }
        self.sources.push(source);
        true
    }

    /// Whether a block that was joined or asked for is being checked.
    pub(super) fn is_checking(&self) -> bool {
        let mut sources = self.sources.iter();
        sources.any(|source| matches!(source.state, State::Checking))
    }

    /// Whether any block is being checked, one that came unasked too.
    pub(super) fn is_checking_any(&self) -> bool {
        self.sources.iter().any(Source::is_checked)
    }

    /// Whether a compact block is being matched with the pool.
    fn is_matching(&self) -> bool {
        let mut sources = self.sources.iter();
        sources.any(|source| matches!(source.state, State::Matching(_)))
    }

    /// The sources that were asked and have not answered.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.is_asked())
    }

    /// How many sources were asked and let us wait in this manner. Whoever takes [`ALONE`] is slow, however it comes.
    fn asked_who_are(&self, manner: Manner, config: &CompactConfig, now: Instant) -> usize {
        let manner_of = |source: &Source| match source.pace.manner {
            Manner::Coming if source.since + config.patience * ALONE <= now => Manner::Slow,
            manner => manner,
        };
        let asked = self.asked();
        asked.filter(|source| manner_of(source) == manner).count()
    }

    /// Whether one more source may be asked now. While a block is checked none is: it is most likely the right one. Nor while a compact
    /// block is matched, which may be all that is needed.
    pub(super) fn may_ask(&self, config: &CompactConfig, now: Instant) -> bool {
        !self.is_matching() && self.may_ask_missing(config, now)
    }

    /// As [`Download::may_ask`], for the transactions that a compact block lacks. Nobody is asked beside who will be done in time. One is asked
    /// first; where it is slow or silent, up to `max_parallel` are, of whom those do not count who are silent, and when it has taken too long the
    /// slow ones neither.
    pub(super) fn may_ask_missing(&self, config: &CompactConfig, now: Instant) -> bool {
        let count = |manner| self.asked_who_are(manner, config, now);
        if self.is_checking() || count(Manner::Coming) > 0 {
            return false;
        }
        let [waiting, slow, silent] = [Manner::Waiting, Manner::Slow, Manner::Silent].map(count);
        let is_late = self.began + config.give_up_after <= now;
        let at_work = if is_late { waiting } else { waiting + slow };
        let places = if slow + silent > 0 {
            config.max_parallel
        } else {
            1
        };
        at_work < places
    }

    /// Whether a source that has just answered may be asked for the rest.
    pub(super) fn may_go_on(&self, config: &CompactConfig) -> bool {
        let asked = self.asked();
        let at_work = asked.filter(|source| source.pace.manner != Manner::Silent);
        at_work.count() < config.max_parallel
    }

    /// The next source to ask, in the order in which they told of the block; but first those on the side, outbound or
    /// inbound, of which nobody is asked: who holds one side alone holds up nothing. Otherwise first who has not let us wait lately, and outbound
    /// peers, since nobody chooses for us whom we dial.
    pub(super) fn next_source(
        &mut self,
        lets_wait: impl Fn(&PeerId) -> bool,
    ) -> Option<&mut Source> {
        let asked = |outbound| self.asked().any(|source| source.outbound == outbound);
        let (outbound, inbound) = (asked(true), asked(false));
        let idle = self.sources.iter_mut().filter(|source| source.is_idle());
        idle.min_by_key(|source| {
            let side_is_asked = if source.outbound { outbound } else { inbound };
            (side_is_asked, lets_wait(&source.peer), !source.outbound)
        })
    }
}
