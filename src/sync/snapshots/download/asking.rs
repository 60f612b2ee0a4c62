//! What is asked of whom, and asked again.

use libp2p::PeerId;

use super::{Action, Download, Guess, LEAST_RATE, LEAST_RATE_FOR, Pending, Stage, TICK};
use crate::{
    chain::SnapshotId,
    peers::Misdeed,
    platform::Instant,
    sync::snapshots::{
        fetch::Fetch,
        source::Source,
        wire::{Message, Part},
    },
};

/// Those of whom a part is asked at the same time.
const MAX_ASKERS: usize = 3;
/// A part is asked for a second time of who would bring it so many times sooner,
const SOONER: f64 = 1.5;
/// and by so many seconds.
const SOONER_BY: f64 = 0.05;
/// The order of wanted chunks follows what partial sources have so often at most.
const RANK: std::time::Duration = std::time::Duration::from_secs(1);

impl Download {
    /// Asks all for what there is room for, the fastest first.
    pub(super) fn fill_all(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Fetching { .. }) {
            return;
        }
        let room = |source: &Source| source.has_room(self.config.max_window, now);
        let idle = self.peers.iter().filter(|(_, source)| room(source));
        let mut idle: Vec<_> = idle
            .map(|(peer, it)| (it.pace.hoped(false, now), *peer))
            .collect();
        idle.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        for (_, peer) in idle {
            self.fill(peer, now);
        }
    }

    /// Asks one for what there is room for.
    pub(super) fn fill(&mut self, peer: PeerId, now: Instant) {
        loop {
            let Stage::Fetching { fetch, .. } = &self.stage else {
                return;
            };
            let Some(source) = self.peers.get(&peer) else {
                return;
            };
            let Some(have) = source.offers.get(&fetch.id) else {
                return;
            };
            if !source.has_room(self.config.max_window, now) {
                return;
            }
            let most = self.config.max_bytes_in_flight;
            let part = fetch.choose(have.as_ref(), most);
            let Some(part) = part.or_else(|| self.slowest(fetch, &peer, source, now)) else {
                return;
            };
            if !self.ask(peer, part, now) {
                return;
            }
        }
    }

    /// The part that comes last of all that a source would bring sooner than those who are asked for it.
    pub(super) fn slowest(
        &self,
        fetch: &Fetch,
        peer: &PeerId,
        source: &Source,
        now: Instant,
    ) -> Option<Part> {
        let open = fetch.under_way.iter().filter(|(part, it)| {
            it.askers.len() < MAX_ASKERS
                && !it.askers.contains(peer)
                && source.has(&fetch.id, **part)
        });
        let sooner = open.filter_map(|(part, it)| {
            let askers = it.askers.iter().filter_map(|peer| self.peers.get(peer));
            let times = askers.map(|asker| asker.seconds_to_bring(*part, now));
            let theirs = times.min_by(f64::total_cmp)?;
            let ours = source.seconds_for(it.missing_bytes(), now);
            (theirs > ours * SOONER + SOONER_BY).then_some((theirs, *part))
        });
        sooner
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, part)| part)
    }

    pub(super) fn ask(&mut self, peer: PeerId, part: Part, now: Instant) -> bool {
        let Stage::Fetching { fetch, .. } = &mut self.stage else {
            return false;
        };
        let Some(source) = self.peers.get_mut(&peer) else {
            return false;
        };
        let Some((range, values)) = fetch.ask(part, peer) else {
            return false;
        };
        let message = source.ask((fetch.id, part), range, values, now);
        self.actions.push_back(Action::Send(peer, message));
        true
    }

    /// A part is complete: whoever is still asked for it need not send it.
    pub(super) fn needless(&mut self, part: Part) {
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for peer in peers {
            self.drop_requests(&peer, |asked| asked == part);
        }
    }

    pub(super) fn drop_all_requests(&mut self) {
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for peer in peers {
            self.drop_requests(&peer, |_| true);
        }
    }

    /// What a peer was asked for is asked of it no more, and it is told so.
    pub(super) fn drop_requests(&mut self, peer: &PeerId, which: impl Fn(Part) -> bool) {
        for number in self.release(peer, which) {
            let cancel = Message::Cancel(number);
            self.actions.push_back(Action::Send(*peer, cancel));
        }
    }

    pub(super) fn release(&mut self, peer: &PeerId, which: impl Fn(Part) -> bool) -> Vec<u32> {
        let source = self.peers.get_mut(peer);
        let cancelled = source.map(|it| it.cancel(|asked| which(asked.part)));
        let cancelled = cancelled.unwrap_or_default();
        if let Stage::Fetching { fetch, .. } = &mut self.stage {
            for (_, part) in &cancelled {
                fetch.release(*part, peer);
            }
        }
        cancelled.into_iter().map(|(number, _)| number).collect()
    }

    /// A peer does not have a snapshot any more.
    pub(super) fn withdrawn(&mut self, peer: &PeerId, id: &SnapshotId) {
        if self.current() == Some(*id) {
            self.drop_requests(peer, |_| true);
        }
        self.unlist(peer, id);
    }

    pub(super) fn unlist(&mut self, peer: &PeerId, id: &SnapshotId) {
        if let Some(candidate) = self.candidates.get_mut(id) {
            candidate.offerers.remove(peer);
            if candidate.offerers.is_empty() {
                self.candidates.remove(id);
            }
        }
    }

    /// Once all chunks are with the sink, it is to say whether that is the state.
    pub(super) fn complete(&mut self) {
        if let Stage::Fetching { fetch, .. } = &self.stage
            && fetch.done.is_full()
        {
            let snapshot = fetch.snapshot.clone();
            self.drop_all_requests();
            self.actions.push_back(Action::Finish(snapshot.clone()));
            self.stage = Stage::Finishing(Pending::new(snapshot));
        }
    }

    /// The order of the wanted chunks, where what partial sources have has changed.
    pub(super) fn rank(&mut self, now: Instant) {
        let Stage::Fetching { fetch, .. } = &mut self.stage else {
            return;
        };
        if self.unranked && now >= self.ranked + RANK {
            (self.unranked, self.ranked) = (false, now);
            let id = fetch.id;
            let offers = self.peers.values().filter_map(|it| it.offers.get(&id));
            fetch.rank(offers.filter_map(Option::as_ref));
        }
    }

    /// What is owed by who sends nothing is asked of others.
    pub(super) fn take_back(&mut self, now: Instant) {
        let stalled = |source: &Source| source.is_stalled(self.config.patience, now);
        let stalled = self.peers.iter().filter(|(_, source)| stalled(source));
        for peer in stalled.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.drop_requests(&peer, |_| true);
            self.misdeed(
                peer,
                Misdeed::NoAnswer,
                "it sends nothing of a snapshot that it offers",
            );
            if let Some(source) = self.peers.get_mut(&peer) {
                source.rest(now);
            }
        }
    }

    /// What the sink could not take, it is asked again.
    pub(super) fn ask_sink_again(&mut self, now: Instant) {
        let is_due = |at: &mut Option<Instant>| at.take_if(|at| now >= *at).is_some();
        let due = match &mut self.stage {
            Stage::Offering(it) => {
                is_due(&mut it.again_at).then(|| Action::Offer(it.snapshot.clone()))
            }
            Stage::Finishing(it) => {
                is_due(&mut it.again_at).then(|| Action::Finish(it.snapshot.clone()))
            }
            Stage::Fetching { fetch, .. } => {
                let due = fetch.applying.iter_mut().filter_map(|(index, it)| {
                    is_due(&mut it.again_at).then(|| it.apply(fetch.id, *index))
                });
                self.actions.extend(due);
                None
            }
            Stage::Searching | Stage::Trusting(_) | Stage::Over => None,
        };
        self.actions.extend(due);
    }

    /// Where nobody has the snapshot any more, another one is looked for: soon, if there is one and nothing is lost by it.
    pub(super) fn look_for_sources(&mut self, now: Instant) {
        let best = self.best(now);
        let Stage::Fetching { fetch, lost, .. } = &mut self.stage else {
            return;
        };
        if self.candidates.contains_key(&fetch.id) {
            *lost = None;
            return;
        }
        let lost = *lost.get_or_insert(now);
        let wait = match best {
            Some(_) if fetch.done.count() == 0 => self.config.settle,
            _ => self.config.search,
        };
        if now >= lost + wait {
            self.since = lost;
            self.stage = Stage::Searching;
        }
    }

    /// A snapshot that hardly comes is given up. The time that the sink takes, and that in which nobody has it, do not count.
    pub(super) fn give_up_unsent(&mut self, now: Instant) {
        let Stage::Fetching {
            fetch,
            lost,
            measured: (since, before),
        } = &mut self.stage
        else {
            return;
        };
        if lost.is_some() || fetch.waits_for_sink() {
            *since = (*since + TICK).min(now);
        }
        if now < *since + LEAST_RATE_FOR {
            return;
        }
        let id = fetch.id;
        let least = LEAST_RATE * LEAST_RATE_FOR.as_secs();
        let came = fetch.came().saturating_sub(*before);
        (*since, *before) = (now, fetch.came());
        if came < least {
            self.settle(&id, Guess::Unsent);
            self.abandon();
        }
    }
}
