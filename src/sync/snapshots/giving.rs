//! Giving in a node: which snapshots are made for others, and how long they are kept.
//!
//! All nodes make snapshots of the same heights, the multiples of `make_every`, so that who takes one has as many sources as there are nodes that are so
//! far. The chain is asked for the newest of those heights as soon as it is past it, and again at each height and whenever it is listed what there is,
//! until that block is final; where it fails, again after a while, [`FIRST_REST`] at first. While blocks are fetched it is left in peace. Those of other heights were made by hand.
//!
//! Of those that there are the newest `keep` stay, and of the newest [`MAX_OFFERS`] those that somebody is fetching.
//! Bounds: those of [`super::ServingConfig`]; [`MAX_LOADING`] parts that are read at once; one list, one that is made, or some that are forgotten at a time.

use std::{collections::VecDeque, time::Duration};

use super::{
    Offer, Serving, ServingAction, SnapshotsConfig,
    job::{Done, Job},
    node::{Event, Out},
    wire::MAX_OFFERS,
};
use crate::{
    chain::{Snapshot, SnapshotProof, rules::Synced},
    lanes::Action,
    platform::Instant,
    sync::blocks::SyncPhase,
    traffic::{Class, Cost},
};

/// How often the chain is asked which snapshots it has.
const LIST_EVERY: Duration = Duration::from_secs(30);
/// After one could not be made so long none is; each time that it fails again twice as long,
const FIRST_REST: Duration = Duration::from_secs(60);
/// up to this.
const LONGEST_REST: Duration = Duration::from_secs(3600);
/// Parts that are read for peers at once.
const MAX_LOADING: usize = 2;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Giving {
    pub(super) serving: Serving,
    make_every: u64,
    keep: usize,
    chunk_bytes: u32,
    /// The chain's height, and whether it is busy with others' blocks.
    tip: Option<(u64, bool)>,
    /// Up to which of the node's own heights snapshots are made. `None`: it is not known yet which there are.
    made_to: Option<u64>,
    /// At which height of the chain it could not make the next one yet.
    vain_at: Option<u64>,
    /// After a failure none is made until then; how long that rest is.
    rests_until: Option<Instant>,
    rest: Duration,
    /// A list, or a change of what is listed, is under way; from when on another list is due.
    is_listing: bool,
    list_at: Option<Instant>,
    loads: VecDeque<Job>,
    loading: usize,
}

impl Giving {
    pub(super) fn new(config: &SnapshotsConfig, chain: &Synced, out: &mut Out) -> Self {
        let mut giving = Self {
            serving: Serving::new(config.serving.clone()),
            make_every: config.make_every,
            keep: config.keep,
            chunk_bytes: config.chunk_bytes,
            tip: None,
            made_to: None,
            vain_at: None,
            rests_until: None,
            rest: Duration::ZERO,
            is_listing: false,
            list_at: None,
            loads: VecDeque::new(),
            loading: 0,
        };
        if chain.store.is_some() && chain.source.is_some() {
            giving.change(Job::List, out);
        }
        giving
    }

    pub(super) fn chain_is_at(
        &mut self,
        height: u64,
        phase: SyncPhase,
        out: &mut Out,
        now: Instant,
    ) {
        self.tip = Some((height, phase == SyncPhase::Syncing));
        self.make(out, now);
    }

    /// Asks the chain for a snapshot, if it is time for one.
    fn make(&mut self, out: &mut Out, now: Instant) {
        let (Some((height, false)), Some(made_to)) = (self.tip, self.made_to) else {
            return;
        };
        let Some(number) = height.checked_div(self.make_every) else {
            return;
        };
        let due = number.saturating_mul(self.make_every);
        let rests = self.rests_until.is_some_and(|until| now < until);
        if due > made_to && self.vain_at != Some(height) && !self.is_listing && !rests {
            self.vain_at = Some(height);
            self.change(Job::Make(due, self.chunk_bytes), out);
        }
    }

    fn change(&mut self, job: Job, out: &mut Out) {
        self.is_listing = true;
        out.tell(Event::Work(job));
    }

    pub(super) fn done(&mut self, done: Done, out: &mut Out, now: Instant) {
        match done {
            Done::Listed(listed) => self.on_listed(listed, out, now),
            Done::Made(height, made) => {
                self.is_listing = false;
                match made {
                    Ok(Some(_)) => {
                        self.made_to = self.made_to.max(Some(height));
                        (self.rests_until, self.rest) = (None, Duration::ZERO);
                        self.change(Job::List, out);
                    }
                    Ok(None) => {}
                    Err(reason) => {
                        self.rest = (self.rest * 2).clamp(FIRST_REST, LONGEST_REST);
                        self.rests_until = Some(now + self.rest);
                        out.tell(Event::Failed("make_snapshot", reason));
                    }
                }
            }
            Done::Forgotten(forgotten) => {
                self.is_listing = false;
                if let Err(reason) = forgotten {
                    out.tell(Event::Failed("forget_snapshot", reason));
                }
                self.make(out, now);
            }
            Done::Loaded(id, part, loaded) => {
                self.loading = self.loading.saturating_sub(1);
                self.serving.loaded(id, part, loaded, now);
            }
            _ => {}
        }
    }

    fn on_listed(
        &mut self,
        mut listed: Vec<(Snapshot, Option<SnapshotProof>)>,
        out: &mut Out,
        now: Instant,
    ) {
        self.is_listing = false;
        self.list_at = Some(now + LIST_EVERY);
        self.vain_at = None;
        listed.sort_by_key(|(snapshot, _)| std::cmp::Reverse(snapshot.height));
        let heights = listed.iter().map(|(snapshot, _)| snapshot.height);
        let mut own = heights.filter(|height| height.is_multiple_of(self.make_every));
        let newest = own.next().unwrap_or(0);
        self.made_to = self.made_to.max(Some(newest));
        let mut kept = 0;
        let serving = &self.serving;
        let stays = |(snapshot, _): &(Snapshot, _)| {
            let stays =
                kept < self.keep || kept < MAX_OFFERS && serving.in_use(&snapshot.id(), now);
            kept += usize::from(stays);
            stays
        };
        let (listed, too_many): (Vec<_>, Vec<_>) = listed.into_iter().partition(stays);
        let offers = listed.iter().map(|(snapshot, _)| {
            let snapshot = snapshot.clone();
            (
                Offer {
                    snapshot,
                    have: None,
                },
                None,
            )
        });
        self.serving.offer(offers);
        for (snapshot, proof) in listed {
            if let Some(proof) = proof {
                self.serving.prove(&snapshot.id(), proof);
            }
        }
        if too_many.is_empty() {
            return self.make(out, now);
        }
        let too_many = too_many.into_iter().map(|(snapshot, _)| snapshot);
        self.change(Job::Forget(too_many.collect()), out);
    }

    /// Does what the state machine wants.
    pub(super) fn drive(&mut self, out: &mut Out) {
        while let Some(wanted) = self.serving.action() {
            self.serve(wanted, out);
        }
        while self.loading < MAX_LOADING
            && let Some(job) = self.loads.pop_front()
        {
            self.loading += 1;
            out.tell(Event::Work(job));
        }
    }

    fn serve(&mut self, wanted: ServingAction, out: &mut Out) {
        match wanted {
            ServingAction::Load {
                snapshot,
                part,
                hash,
            } => self.loads.push_back(Job::Load {
                snapshot,
                part,
                hash,
            }),
            ServingAction::Feed(peer) => out.act(Action::Feed(peer)),
            ServingAction::Surcharge(peer, bytes) => {
                let cost = Cost {
                    items: 0,
                    bytes: bytes as u64,
                };
                out.act(Action::Surcharge(peer, Class::Sync, cost));
            }
            ServingAction::Misdeed { peer, misdeed, why } => {
                tracing::debug!(%peer, why, "a peer that is served a snapshot");
                out.misdeed(peer, misdeed);
            }
            ServingAction::Damaged(snapshot) => {
                let reason = format!(
                    "the snapshot of height {} is damaged and not served any more; make it anew",
                    snapshot.height
                );
                out.tell(Event::Failed("load_snapshot_chunk", reason));
            }
        }
    }

    pub(super) fn on_time(&mut self, out: &mut Out, now: Instant) {
        self.serving.on_time(now);
        if !self.is_listing && self.list_at.take_if(|at| now >= *at).is_some() {
            self.change(Job::List, out);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        // What is being listed sets the next time itself.
        let list = self.list_at.filter(|_| !self.is_listing);
        [self.serving.next_deadline(), list]
            .into_iter()
            .flatten()
            .min()
    }
}
