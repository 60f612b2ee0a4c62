//! Whose chain is followed, and its headers.

use std::{collections::HashSet, hash::BuildHasher, time::Duration};

use bytes::Bytes;
use libp2p::PeerId;

use super::{
    BENCH, DISTRUST, Event, Job, MAX_RETRY, Sync,
    branch::Branch,
    job::{Fault, Judged},
    peers::{Peer, What},
    wire::{self, GetHeaders, Kind, Status},
};
use crate::{
    chain::{BlockPlace, SyncHeader},
    lanes::Action,
    peers::Misdeed,
    platform::Instant,
    traffic::{Class, Cost},
};

/// So many blocks may come by themselves, if they do so soon.
pub(super) const FEW: u64 = 2;
/// After so long without an answer another peer is asked for headers too.
const HEADERS_LATE: Duration = Duration::from_secs(2);
/// Peers that are asked for the same headers.
const MAX_ASKED: usize = 3;
/// The most that headers in vain cost at once: who pays is read again before its next answer is late.
const MAX_IN_VAIN: u64 = 4096;

/// Who pays for the headers of a branch that ends and never was better.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payers {
    /// Whoever has sent some.
    All,
    /// This one, by whose fault it ends, for its own.
    One(PeerId),
    /// It has become the chain, or ends by this node's own doing.
    Nobody,
}

impl Sync {
    /// A peer says what it has.
    pub(super) fn on_status(&mut self, from: PeerId, status: &Status, now: Instant) {
        let (Some(place), Some(peer)) = (status.place(), self.peers.get_mut(&from)) else {
            return;
        };
        match peer.says(place, status.base, now) {
            Some(true) => self.weigh(from, now),
            Some(false) => {}
            None => self.misdeed(from, Misdeed::TooManyMessages),
        }
    }

    /// A block that propagation brought has no parent here: who sent it has more than we.
    pub(super) fn on_orphan(&mut self, source: PeerId, place: BlockPlace, now: Instant) {
        let Some(peer) = self.peers.get_mut(&source) else {
            return;
        };
        let base = peer.status.as_ref().map_or(0, |(_, base)| *base);
        if peer.height() < place.height {
            peer.status = Some((place, base));
            peer.lacks_from = None;
        }
        // It did not come by itself.
        let since = now.checked_sub(self.config.patience).unwrap_or(now);
        self.ahead.insert(source, since);
        self.seeks = true;
    }

    /// Whether a peer has what we do not, by what it says.
    fn weigh(&mut self, peer: PeerId, now: Instant) {
        let height = self.peers.get(&peer).map_or(0, Peer::height);
        if self.tip().is_some_and(|tip| height > tip.height) {
            self.seeks |= self.ahead.is_empty();
            self.ahead.entry(peer).or_insert(now);
        } else {
            self.ahead.remove(&peer);
            self.unknown.insert(peer);
        }
    }

    /// It was looked up what peers say that they have: what of it is here.
    pub(super) fn on_looked(&mut self, held: &[BlockPlace], now: Instant) {
        let held: HashSet<_> = held.iter().collect();
        for id in std::mem::take(&mut self.looked) {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            let place = peer.status.as_ref().map(|(place, _)| place);
            if place.is_some_and(|place| !held.contains(place)) {
                let since = *peer.apart_since.get_or_insert(now);
                self.ahead.entry(id).or_insert(since);
                self.seeks = true;
            } else {
                peer.apart_since = None;
            }
        }
    }

    /// Finds a chain to follow, and asks for its headers.
    pub(super) fn follow(&mut self, now: Instant) {
        if self.rests(now) || self.judging.is_some() {
            return;
        }
        self.end_branch();
        match &self.branch {
            Some(branch) if !branch.is_complete && branch.len() < self.config.max_headers => {
                self.extend_branch(now);
            }
            Some(_) => {}
            // To look among many is for now and then.
            None if std::mem::take(&mut self.seeks) => self.seek(now),
            None => {}
        }
    }

    /// A branch that has been appended whole makes room for the next; what peers have besides is looked at anew.
    fn end_branch(&mut self) {
        let Some(branch) = &self.branch else {
            return;
        };
        if !branch.is_complete || branch.best.is_some() && branch.len() > 0 {
            return;
        }
        tracing::debug!(
            height = branch.head.height,
            better = branch.best.is_some(),
            "the branch is at its end"
        );
        self.drop_branch(Payers::All);
        self.progress.rest();
        self.reweigh();
        self.tell_status();
    }

    /// Of what was ahead some is here now: whether all of it is, is looked up.
    pub(super) fn reweigh(&mut self) {
        let (Some(chain), None) = (&self.chain, &self.branch) else {
            return;
        };
        let (tip, peers, unknown) = (chain.tip.height, &self.peers, &mut self.unknown);
        self.ahead.retain(|id, _| {
            let is_ahead = peers.get(id).is_some_and(|peer| peer.height() > tip);
            if !is_ahead {
                unknown.insert(*id);
            }
            is_ahead
        });
    }

    /// Chooses a leader by lot among those that are ahead, and asks it what it has.
    fn seek(&mut self, now: Instant) {
        let Some(chain) = &self.chain else {
            return;
        };
        let patience = self.config.patience;
        let (tip, locator) = (chain.tip.height, chain.locator.clone());
        let can_lead = |(id, since): (&PeerId, &Instant)| {
            let peer = self.peers.get(id)?;
            let (place, base) = peer.status.as_ref()?;
            // No header comes by itself.
            let is_time = !chain.keeps_blocks
                || place.height > tip.saturating_add(FEW)
                || now >= *since + patience;
            let reaches = *base <= tip.saturating_add(1);
            (is_time && reaches && peer.is_free(now)).then_some(*id)
        };
        let lot = |id: &PeerId| self.lot.hash_one((self.lots, *id));
        let asked = self.asked_for_headers();
        if !self.is_late(&asked, now) {
            return;
        }
        let is_new = |id: &PeerId| !asked.iter().any(|(other, _)| other == id);
        let leaders = self.ahead.iter().filter_map(can_lead).filter(is_new);
        if let Some(leader) = leaders.min_by_key(lot) {
            self.lots += 1;
            self.ask_one_for_headers(leader, locator, now);
        }
    }

    /// Asks the leader for headers after the branch's last one; another one too where it is late.
    fn extend_branch(&mut self, now: Instant) {
        let Some(branch) = &self.branch else {
            return;
        };
        let asked = self.asked_for_headers();
        if !self.is_late(&asked, now) {
            return;
        }
        let (leader, head) = (branch.leader, branch.head.clone());
        let is_asked_anyway = |id: &PeerId| branch.is_outgrown && *id == leader;
        let reaches = |id: &PeerId| {
            let peer = self.peers.get(id);
            let has_more = |peer: &&Peer| peer.height() > head.height || is_asked_anyway(id);
            peer.filter(|peer| !peer.is_benched(now) && has_more(peer))
        };
        let is_asked = |id: &PeerId| asked.iter().any(|(other, _)| other == id);
        let is_free = |id: &PeerId| reaches(id).is_some_and(|peer| peer.is_free(now));
        let is_fit = |id: &PeerId| is_free(id) && !is_asked(id);
        let lot = |id: &PeerId| self.lot.hash_one((self.lots, *id));
        let mut others = self.ahead.keys().copied();
        let next = if is_fit(&leader) {
            Some(leader)
        } else {
            others.clone().filter(is_fit).min_by_key(lot)
        };
        let is_known = asked.is_empty()
            && reaches(&leader).is_none()
            && !others.any(|id| reaches(&id).is_some());
        if let Some(next) = next {
            self.ask_one_for_headers(next, vec![head], now);
        } else if is_known && let Some(branch) = &mut self.branch {
            // As far as anybody knows.
            branch.is_complete = true;
        }
    }

    /// Who is asked for headers, and since when.
    fn asked_for_headers(&self) -> Vec<(PeerId, Instant)> {
        let since = |id: &PeerId| Some((*id, self.peers.get(id)?.seeks_since()?));
        self.asked.iter().filter_map(since).collect()
    }

    /// Whether another one may be asked beside those.
    fn is_late(&self, asked: &[(PeerId, Instant)], now: Instant) -> bool {
        let is_late = |(_, at): &(PeerId, Instant)| now >= *at + HEADERS_LATE;
        asked.len() < MAX_ASKED && asked.iter().all(is_late)
    }

    fn ask_one_for_headers(&mut self, id: PeerId, locator: Vec<BlockPlace>, now: Instant) {
        let number = self.number();
        let frame = Kind::GetHeaders(GetHeaders::new(number, &locator)).into_frame();
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.ask(number, What::Headers(locator), frame, now);
            self.asked.insert(id);
            self.feed(id);
        }
    }

    /// Headers have come.
    pub(super) fn on_headers(&mut self, from: PeerId, answer: wire::Headers, now: Instant) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let bytes = answer.headers.iter().map(Bytes::len).sum();
        peer.heard(answer.number, bytes, now);
        let Some(request) = self.ended(from, answer.number, now) else {
            return;
        };
        let What::Headers(anchors) = request.what else {
            return self.lies(from, Misdeed::InvalidMessage, now);
        };
        // A branch goes on at its head alone; what was sought before it began is of no use.
        let is_wanted = match &self.branch {
            Some(branch) => anchors.first() == Some(&branch.head),
            None => true,
        };
        if request.given_up || !is_wanted || self.judging.is_some() {
            return;
        }
        let Some((place, base)) = answer
            .tip
            .as_ref()
            .and_then(|tip| Some((tip.place()?, tip.base)))
        else {
            return;
        };
        let most = wire::MAX_HEADERS;
        let is_full = answer.headers.len() >= most || bytes >= wire::MAX_HEADERS_BYTES;
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.status = Some((place.clone(), base));
        }
        self.judging = Some(from);
        self.promised = Some((place, is_full));
        let headers = answer.headers;
        self.actions
            .push_back(Action::Tell(Event::Work(Job::Headers { anchors, headers })));
    }

    /// The chain has judged headers.
    pub(super) fn on_judged(&mut self, from: PeerId, judged: Judged, now: Instant) {
        let promised = self.promised.take();
        let Judged {
            anchor,
            accepted,
            fault,
            is_better,
            chain,
        } = judged;
        if let Some(chain) = chain {
            self.is_outdated = self.is_busy;
            self.on_chain(chain);
        }
        let refused = self.blame.find(&accepted, from);
        match fault {
            Some(Fault::Broken) => return self.lies(from, Misdeed::InvalidMessage, now),
            Some(Fault::Useless(reason)) => {
                let next = self.tip().map_or(0, |tip| tip.height.saturating_add(1));
                let what = format!("the chain of peers is of no use here: {reason}");
                let tip = self.tip().map_or(0, |tip| tip.height);
                let is_confirmed = self.others_than(from).any(|peer| peer.height() > tip);
                if let Some(peer) = self.peers.get_mut(&from) {
                    peer.is_strange = true;
                }
                let count = self.peers.values().filter(|peer| peer.is_strange).count();
                self.doubt((from, count), next, is_confirmed, what);
                self.abandon(from, &reason, now);
                return self.tell_status();
            }
            Some(Fault::Later(reason)) => {
                if self.rested >= MAX_RETRY {
                    // It may be this chain that it can't judge.
                    self.bench(from, BENCH, now);
                    self.drop_branch(Payers::One(from));
                } else if !self.keeps_blocks() {
                    // What waited may wait no longer, or be the chain.
                    self.drop_branch(Payers::Nobody);
                }
                return self.rest(reason, now);
            }
            Some(Fault::Rejected(header, reason)) => {
                return self.refuse(header.place(), from, &reason, now);
            }
            None => {}
        }
        if let Some((place, reason)) = refused {
            return self.refuse(place, from, &reason, now);
        }
        let (Some((end, is_full)), true) = (promised, self.peers.contains_key(&from)) else {
            return;
        };
        let last = accepted.last().map(SyncHeader::place).or(anchor.clone());
        // That the branch ends where it does is no lie, whatever it said before.
        let is_known = self
            .branch
            .as_ref()
            .is_some_and(|branch| branch.head == end);
        let is_false = last.is_some() || !is_known && self.is_ahead_of_us(&end);
        if last.as_ref() != Some(&end) && !is_full && is_false {
            // Its headers do not lead to what it says is its tip.
            return self.lies(from, Misdeed::FalseAnnouncement, now);
        }
        let is_complete = !is_full || last.as_ref() == Some(&end);
        let keeps_blocks = self.keeps_blocks();
        if let Some(peer) = self.peers.get_mut(&from).filter(|_| !accepted.is_empty()) {
            peer.is_strange = false;
        }
        if !keeps_blocks && !accepted.is_empty() && last.as_ref() == self.tip() {
            // They are the chain already. Those of a branch that is no better wait in the store, and the branch is followed.
            let height = self.tip().map_or(0, |tip| tip.height);
            self.drop_branch(Payers::Nobody);
            self.progress.at(height, now);
            self.seeks = !is_complete;
            if is_complete {
                self.ahead.remove(&from);
                self.progress.rest();
            }
            return self.tell_status();
        }
        let branch = match (&mut self.branch, anchor) {
            (Some(branch), Some(anchor)) if branch.head == anchor => Some(branch),
            (Some(branch), None) => {
                branch.is_complete = true;
                None
            }
            (None, Some(anchor)) if !accepted.is_empty() => {
                Some(self.branch.insert(Branch::new(from, anchor, now)))
            }
            _ => None,
        };
        let Some(branch) = branch else {
            // It has nothing for us, until it says that it has another tip.
            self.ahead.remove(&from);
            return;
        };
        branch.leader = from;
        branch.extend(&accepted, from);
        if let Some(last) = accepted.last() {
            branch.best = (is_better && keeps_blocks).then(|| last.clone());
            branch.was_better |= branch.best.is_some();
        }
        branch.is_outgrown = false;
        branch.is_complete = is_complete;
        branch.moved_at = now;
        if is_complete {
            self.ahead.remove(&from);
        }
        let is_stuck = branch.best.is_none() && branch.len() >= self.config.max_headers;
        if is_stuck {
            let reason = "it forks too far below its end to be followed";
            self.drop_branch(Payers::All);
            return self.abandon(from, reason, now);
        }
        self.choose_sources(now);
        self.tell_status();
    }

    fn is_ahead_of_us(&self, place: &BlockPlace) -> bool {
        self.tip().is_some_and(|tip| place.height > tip.height)
    }

    /// The chain has rejected a block or a header of a peer's chain.
    pub(super) fn refuse(&mut self, place: BlockPlace, from: PeerId, reason: &str, now: Instant) {
        let what = format!(
            "block {} at height {} is rejected: {reason}",
            place.id, place.height
        );
        let height = place.height;
        let supporters = self.blame.refuse(place, from, reason);
        let count = supporters.len();
        self.doubt((from, count), height, count > 1, what);
        self.abandon(from, reason, now);
        self.tell_status();
    }

    /// The chain does not take what a peer has. Where others do not confirm that they have it too, and it was not so with each of them, it is its
    /// own alone; else something may be wrong with us, until our chain is as high. Told is with how many of all that is so: what one peer alone has is no reason
    /// to do anything that can't be undone.
    fn doubt(
        &mut self,
        (peer, count): (PeerId, usize),
        height: u64,
        is_confirmed: bool,
        what: String,
    ) {
        let is_alone = self.others_than(peer).all(|other| other.is_strange);
        let all = self.peers.len().max(count);
        let who = match count {
            0 | 1 => format!(
                "only one peer says so, {peer}, of {all} that are here: it may be wrong, or lie"
            ),
            _ => format!("{count} of {all} peers that are here say so, {peer} the last"),
        };
        let what = format!("{what} ({who})");
        if is_confirmed || is_alone {
            tracing::warn!(what, "the chain does not take what peers have");
            self.trouble = Some((height, what));
        } else {
            tracing::debug!(what, "one peer alone has what the chain does not take");
        }
    }

    /// Other peers that have said what they have.
    fn others_than(&self, peer: PeerId) -> impl Iterator<Item = &Peer> {
        let others = self.peers.iter().filter(move |(id, _)| **id != peer);
        others
            .map(|(_, other)| other)
            .filter(|other| other.status.is_some())
    }

    /// Headers of a branch that never was better have cost work for nothing: as much more is charged to those who sent them, by which
    /// they are read more slowly. No more, as who lost a race honestly does the same.
    pub(super) fn charge_in_vain(&mut self, payers: Payers) {
        let never = |branch: &&Branch| !branch.was_better;
        let Some(branch) = self.branch.as_ref().filter(never) else {
            return;
        };
        for (sender, headers) in branch.senders() {
            match payers {
                Payers::All => {}
                Payers::One(peer) if peer == sender => {}
                Payers::One(_) | Payers::Nobody => continue,
            }
            let cost = Cost {
                items: headers.min(MAX_IN_VAIN),
                bytes: 0,
            };
            let action = Action::Surcharge(sender, Class::Sync, cost);
            self.actions.push_back(action);
        }
    }

    /// A peer's chain is not followed for some time.
    pub(super) fn abandon(&mut self, leader: PeerId, reason: &str, now: Instant) {
        tracing::debug!(%leader, reason, "its chain is not followed");
        self.ahead.remove(&leader);
        if let Some(peer) = self.peers.get_mut(&leader) {
            peer.bench(now + BENCH);
            // When it is asked again it is by what it says then.
            peer.status = None;
        }
        self.drop_branch(Payers::One(leader));
    }

    /// A peer has lied: it is not asked any more for long.
    pub(super) fn lies(&mut self, peer: PeerId, misdeed: Misdeed, now: Instant) {
        self.misdeed(peer, misdeed);
        self.ahead.remove(&peer);
        self.give_up(peer, |_| true);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.bench(now + DISTRUST);
            known.forgo_all(self.next_number);
        }
        self.asked.remove(&peer);
        if self
            .branch
            .as_ref()
            .is_some_and(|branch| branch.leader == peer)
        {
            self.drop_branch(Payers::One(peer));
        }
        self.choose_sources(now);
    }
}
