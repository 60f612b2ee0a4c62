//! One peer's link: how far the peer has read on in the log, what it has asked for, and what goes over to it next.

use std::time::Duration;

use super::{
    MISSING, MOVES, PACKED, SERVED, STALE,
    asked::Asked,
    lateness::Lateness,
    lessons::BELIEVED_ANYHOW,
    links::{ANEW, CHANGES},
    log::{BATCH_BYTES, Batch, Log, Marks, bit},
    long::{LONG, Long},
    owed::Owed,
    reader::{Reader, Step},
};
use bytes::Bytes;

use crate::{
    chain::ShortId,
    lanes::Outgoing,
    platform::Instant,
    propagation::{
        announce::Columns,
        pool::Mempool,
        source::Place,
        wire::{self, Items, Kind, MAX_BATCH, MAX_IDS},
    },
    traffic::{Admission, Pace},
};

/// How much later than the pushes an announcement goes out, so that they are there first.
pub(super) const ANNOUNCE_DELAY: Duration = Duration::from_millis(10);
/// A link over which nothing was fetched for so long is quiet: others bring its peer what there is, and what it is told here is for
/// the day when they do not.
const ATTENTION: Duration = Duration::from_secs(2);
/// Quiet links share the pace of so many attentive ones, so that what a crowd costs does not grow with it; but none waits longer
/// than [`QUIET`].
const ATTENTIVE: u32 = 8;
pub(super) const QUIET: Duration = Duration::from_secs(1);
/// So long at most it is held against a peer that is gone that its link was late, or was to announce.
const HELD: Duration = Duration::from_secs(60);

/// A peer, and how far it has got.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) place: Option<Place>,
    /// Whether whole items are pushed on this link, both ways.
    pub(super) pushes: bool,
    /// Where in the log the first batches are that it was to get, and how far it has read.
    pub(super) since: Marks,
    pub(super) reader: Reader,
    /// Which of the log's batches that were fetched is the next that it is told of before its turn; and which was the first.
    pub(super) told: u64,
    pub(super) told_from: u64,
    /// Where the log ended when something was last gone before the peer had read it.
    pub(super) catches_up_at: Marks,
    /// Whether it is we who let it wait, since it has not come for what it was told of.
    pub(super) held_back: bool,
    /// Reads what it is told of beside, since that was before it came or may be lost.
    pub(super) again: Option<Reader>,
    /// When it may be sent something again.
    pub(super) next_at: Instant,
    /// What it was told of and has not come for, of late; and since when that is counted.
    pub(super) untaken: usize,
    pub(super) told_since: Instant,
    /// When it came, or fetched something last.
    pub(super) attentive_at: Instant,
    /// Whether it is to be told how its link is, before all else.
    pub(super) tells_link: bool,
    /// Whether its streams are others since it last said how it is there.
    pub(super) agrees_anew: bool,
    /// Until when what is here already and comes over its link is not counted; and what had to be fetched from it.
    pub(super) settles_at: Instant,
    pub(super) rescues_from: Instant,
    /// What it is being sent of a long item that it has asked for.
    pub(super) long: Option<Long>,
    /// What it has fetched, and what it wants after a comparison of pools, which can wait: each once.
    pub(super) serve: Asked,
    pub(super) wants: Asked,
    pub(super) record: Record,
    /// What it was asked for and has not answered; it may come another way meanwhile.
    pub(super) owed: Owed,
    /// Of what it pushed lately: what was new here and what was not.
    pub(super) fresh: u32,
    pub(super) duplicates: u32,
    /// What had to be fetched from it.
    pub(super) rescued: u32,
    /// Whether its link was to announce by that, and whether to push, which is counted once more to be sure.
    pub(super) doubted: [bool; 2],
    /// How often it is believed yet that it would have pushed something, since it has pushed something else (`lessons.rs`).
    pub(super) believed: u32,
    /// Of all that became known here: how much it may not announce any more without paying, since it has, or others have long since.
    pub(super) heard: u64,
}

/// What it has had and done lately, which it does not shed by leaving.
#[derive(Debug)]
pub(super) struct Record {
    /// How late what it pushes comes, while its link pushes.
    pub(super) lateness: Lateness,
    /// How we have said last that its link is to be, if we have: what it says itself does not change that.
    pub(super) said: Option<bool>,
    /// Bytes that it was sent for its asking, and those that were packed for it alone.
    pub(super) served: Pace,
    pub(super) packed: Pace,
    /// How often it has changed the link, and what was counted was forgotten for that; and how often it has changed its streams.
    pub(super) changes: Pace,
    pub(super) anew: Pace,
    pub(super) moves: Pace,
    /// Ids that it announced to no use.
    pub(super) stale: Pace,
    /// What it is believed though it has pushed nothing (`lessons.rs`).
    pub(super) believed: Pace,
}

impl Record {
    pub(super) fn new() -> Self {
        Self {
            lateness: Lateness::default(),
            said: None,
            served: Pace::new(SERVED),
            packed: Pace::new(PACKED),
            changes: Pace::new(CHANGES),
            anew: Pace::new(ANEW),
            moves: Pace::new(MOVES),
            stale: Pace::new(STALE),
            believed: Pace::new(BELIEVED_ANYHOW),
        }
    }

    /// Until when it is kept of a peer that is gone, if there is anything in it.
    pub(super) fn rests_at(&self, now: Instant) -> Option<Instant> {
        let Self {
            lateness,
            said,
            served,
            packed,
            changes,
            anew,
            moves,
            stale,
            believed,
        } = self;
        let paces = [served, packed, changes, anew, moves, stale, believed].into_iter();
        let is_held = lateness.is_late() || *said == Some(false);
        let held = is_held.then_some(now + HELD);
        paces.filter_map(Pace::rests_at).chain(held).max()
    }
}

impl Peer {
    /// Whether it may live by what it is told here.
    pub(super) fn is_attentive(&self, now: Instant) -> bool {
        now.duration_since(self.attentive_at) < ATTENTION
    }

    /// Nothing is counted until then, and what was says nothing any more.
    pub(super) fn settle(&mut self, settles_at: Instant) {
        self.settles_at = self.settles_at.max(settles_at);
        self.rescues_from = self.rescues_from.max(settles_at);
        (self.fresh, self.duplicates, self.rescued) = (0, 0, 0);
    }

    /// Another link pushes from now on, or no more: nothing is counted until then. What was counted stays, else who has its link changed
    /// time and again would keep all others as they are; and what has to be fetched where one link less pushes had to be before.
    pub(super) fn wait_for(&mut self, push: bool, settles_at: Instant) {
        self.settles_at = self.settles_at.max(settles_at);
        if push {
            self.rescues_from = self.rescues_from.max(settles_at);
        }
    }

    /// It has announced so many ids to no use, or did not have them, where so many items in all have become known: how many of these it pays for.
    pub(super) fn stale(&mut self, ids: u64, learnt: u64, now: Instant) -> u64 {
        // Each item may be announced once, and long after it came.
        self.heard = self.heard.max(learnt.saturating_sub(STALE.burst));
        let free = ids.min(learnt.saturating_sub(self.heard));
        self.heard += free;
        let rest = ids - free;
        if self.record.stale.admits(rest, now) {
            0
        } else {
            rest
        }
    }

    /// Whether it has asked for something.
    pub(super) fn asks(&self) -> bool {
        !self.serve.is_empty() || !self.wants.is_empty()
    }

    /// What it is sent next of what it has asked for.
    fn asks_next(&mut self) -> Option<ShortId> {
        self.serve.front().or_else(|| self.wants.front())
    }

    fn is_sent(&mut self, id: ShortId) {
        self.serve.remove(id);
        self.wants.remove(id);
    }
}

impl Record {
    /// A batch for this peer alone, packed as far as its pace goes: that is work.
    fn batch(&mut self, items: Vec<Bytes>, bytes: usize, now: Instant) -> Items {
        if self.packed.ready(now) != Admission::Now {
            return Items::plain(items);
        }
        self.packed.charge(bytes as u64, now);
        Items::packed(items)
    }
}

/// How often a quiet link is told of what there is, among so many. `share`, from 0 to 1, keeps a crowd that came at once from being
/// told at once.
pub(super) fn quiet_interval(interval: Duration, links: usize, share: f64) -> Duration {
    let links = u32::try_from(links).unwrap_or(u32::MAX);
    let crowded = interval.saturating_mul((links / ATTENTIVE).max(1));
    let most = crowded.min(QUIET.max(interval));
    most.mul_f64(1.0 - share / 4.0).max(interval)
}

/// When a quiet link is told that is due at this moment: with all others that are due within the same `step` since the node `began`. For each it would have to wake,
/// and its connections with it; and that costs more than to tell one more.
pub(super) fn together(due: Instant, began: Instant, step: Duration) -> Instant {
    let step = step.as_nanos().max(1);
    let over = due.saturating_duration_since(began).as_nanos() % step;
    let wait = (step - over) % step;
    due + Duration::from_nanos(u64::try_from(wait).unwrap_or(0))
}

/// The answer to what a peer has asked for, as far as one frame goes. A long item has a frame of its own, which goes out piece by piece where
/// there is a `pool`, and is not packed for that: who reads little of it has little. It is not looked for in the tree of votes, whose lane has
/// no room for what goes on.
pub(super) fn answer(peer: &mut Peer, log: &Log, pool: Option<&Mempool>, now: Instant) -> Outgoing {
    let (mut items, mut missing, mut bytes) = (Vec::new(), Vec::new(), 0);
    while bytes < BATCH_BYTES
        && items.len() < MAX_BATCH
        && missing.len() < MAX_IDS
        && let Some(id) = peer.asks_next()
    {
        let logged = log.get(id).map(|entry| &entry.data);
        let found = logged.or_else(|| Some(&pool?.get_short(id)?.data));
        let is_first = items.is_empty() && missing.is_empty();
        if !is_first && found.is_some_and(|data| data.len() > LONG) {
            break;
        }
        peer.is_sent(id);
        match found {
            Some(data) => {
                bytes += data.len();
                items.push(data.clone());
            }
            None => missing.push(id),
        }
    }
    let count = items.len() + missing.len();
    let served = bytes + missing.len() * MISSING;
    peer.record.served.charge(served as u64, now);
    if let [data] = &items[..]
        && data.len() > LONG
        && pool.is_some()
    {
        return Long::begin(data.clone(), &mut peer.long);
    }
    let mut batch = peer.record.batch(items, bytes, now);
    batch.missing = wire::column(missing.into_iter());
    Outgoing {
        bytes: Kind::Items(batch).into_frame(),
        frames: 1,
        items: count,
        payload: bytes,
    }
}

/// What a peer has not been pushed yet, and does not have; of what it has announced it is told that it would have been pushed now. A long
/// item, which is a batch of its own, goes alone, so that all who are pushed it share its bytes.
pub(super) fn push(peer: &mut Peer, log: &Log, now: Instant) -> Option<Outgoing> {
    let (mut frames, mut spared, mut items, mut payload) = (Vec::new(), Vec::new(), 0, 0);
    let known = bit(peer.place);
    let record = &mut peer.record;
    peer.reader.read(log, |batch| {
        if batch.told().is_some() {
            return Step::Read;
        }
        if payload >= log.batch_bytes() || spared.len() + batch.entries.len() > MAX_IDS {
            return Step::Enough;
        }
        let is_alone = frames.is_empty() && spared.is_empty();
        if !is_alone && batch.bytes() > LONG {
            return Step::Later;
        }
        let unknown = || batch.entries.iter().filter(|entry| entry.is_for(known));
        let count = unknown().count();
        let frame = if count == batch.entries.len() {
            payload += batch.bytes();
            batch.frame()
        } else {
            let announced = batch
                .entries
                .iter()
                .filter(|entry| entry.known & known != 0);
            spared.extend(announced.map(|entry| entry.id));
            if count == 0 {
                return Step::Read;
            }
            let bytes = unknown().map(|entry| entry.data.len()).sum::<usize>();
            payload += bytes;
            let items = unknown().map(|entry| entry.data.clone()).collect();
            Kind::Items(record.batch(items, bytes, now)).into_frame()
        };
        items += count;
        frames.push(frame);
        Step::Read
    });
    let spared_count = spared.len();
    if !spared.is_empty() {
        let spared = wire::column(spared.into_iter());
        let batch = Items {
            spared,
            ..Items::default()
        };
        frames.push(Kind::Items(batch).into_frame());
    }
    // All that the receiver counts.
    items += spared_count;
    let count = frames.len();
    // A full batch is the only one most often, and is sent as it is.
    let bytes = if frames.len() == 1 {
        frames.pop()?
    } else {
        frames.concat().into()
    };
    (count > 0).then_some(Outgoing {
        bytes,
        frames: count,
        items,
        payload,
    })
}

/// What was fetched and a peer has not been told of yet, and does not have; as far as one frame goes.
pub(super) fn tell_fetched(peer: &mut Peer, log: &Log) -> Columns {
    let mut columns = Columns::default();
    if peer.told >= log.told_end() {
        return columns;
    }
    for (number, batch) in log.told_from(peer.told) {
        if columns.len() + batch.entries.len() > MAX_IDS {
            peer.told = number;
            return columns;
        }
        batch.take();
        tell(batch, peer.place, &mut columns);
    }
    peer.told = log.told_end();
    columns
}

/// What a peer has not been told of yet, does not have, and is due, after these; as far as one frame goes. Batches that were fetched are left out
/// from the one with the number `told_from` on: it is told of them before their turn.
pub(super) fn announce(
    mut columns: Columns,
    told_from: u64,
    reader: &mut Reader,
    place: Option<Place>,
    log: &Log,
    is_due: impl Fn(&Batch) -> bool,
) -> Option<Outgoing> {
    reader.read(log, |batch| {
        if batch.told().is_some_and(|told| told >= told_from) {
            return Step::Read;
        }
        let room = MAX_IDS - columns.len();
        if room == 0 {
            return Step::Enough;
        }
        if !is_due(batch) || batch.entries.len() > room {
            return Step::Later;
        }
        tell(batch, place, &mut columns);
        Step::Read
    });
    if columns.is_empty() {
        return None;
    }
    Some(Outgoing::from(Kind::Announce(columns.into())))
}

/// What of a batch the peer in this place does not have.
fn tell(batch: &Batch, place: Option<Place>, columns: &mut Columns) {
    let known = bit(place);
    if batch.is_all_for(known) {
        columns.extend(batch.columns());
        return;
    }
    let entries = batch.entries.iter();
    for entry in entries.filter(|entry| entry.is_for(known)) {
        columns.push(entry.id, entry.data.len(), entry.fee_rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn a_quiet_link_among_few_is_told_as_often_as_any_and_among_many_once_a_second() {
        let interval = Duration::from_millis(20);
        assert_eq!(quiet_interval(interval, 10, 0.0), interval);
        assert_eq!(quiet_interval(interval, 80, 0.0), 10 * interval);
        for links in [1000, usize::MAX] {
            assert_eq!(quiet_interval(interval, links, 0.0), QUIET);
            assert_eq!(quiet_interval(interval, links, 1.0), QUIET * 3 / 4);
        }
        // Who asks for more time between two gets it.
        assert_eq!(quiet_interval(2 * QUIET, 1000, 1.0), 2 * QUIET);
    }

    #[test]
    fn who_is_due_within_one_step_is_told_at_its_end() {
        let (began, step) = (crate::platform::now(), Duration::from_millis(20));
        let at = |micros| began + Duration::from_micros(micros);
        let told = |due| together(at(due), began, step);
        assert_eq!(
            [0, 1, 20_000, 20_001].map(told),
            [0, 20_000, 20_000, 40_000].map(at)
        );
        let year = 365 * 86_400_000_000;
        assert_eq!(told(year + 7), at(year + 20_000));
        assert_eq!(together(began, at(7), step), began);
        assert_eq!(together(at(7), began, Duration::ZERO), at(7));
    }
}
