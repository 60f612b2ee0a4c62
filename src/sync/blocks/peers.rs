//! What is known of a peer: what it says it has, what it was asked for, and how fast it answers.
//!
//! How much is asked of it at once follows BBR (Cardwell et al., 2016): twice its bandwidth times its least round trip. The bandwidth
//! is the best of the last answers, each over the time since it was asked for; so the window doubles while it is what limits, and
//! stands where the line is full.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Range,
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use super::{
    BENCH, STATUS_EVERY,
    wire::{self, MAX_REQUESTS},
};
use crate::{
    chain::{BlockPlace, ItemId},
    platform::Instant,
    traffic::{Pace, Rate},
};

/// How often a peer may say what it has: once a second, and some more at once.
const STATUSES: Rate = Rate {
    per_second: 1,
    burst: 16,
};
/// The least and the most bytes that are asked of a peer at once.
const MIN_WINDOW: usize = 128 << 10;
const MAX_WINDOW: usize = 8 << 20;
/// Answers by which the bandwidth is known.
const SAMPLES: usize = 8;
/// What a peer is thought to need that has not answered yet.
const UNKNOWN_ROUND_TRIP: Duration = Duration::from_secs(1);
/// Who sends less than this, in bytes a second, counts as one that does not answer.
const MIN_RATE: usize = 4 << 10;
/// Who is busy is asked again after so long at first.
const BUSY: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its tip and the lowest height that it serves.
    pub(super) status: Option<(BlockPlace, u64)>,
    pub(super) link: Link,
    /// By their numbers.
    pub(super) requests: BTreeMap<u64, Request>,
    /// Not asked before.
    pub(super) benched_until: Option<Instant>,
    /// How many times one after the other it was too busy.
    busy: u32,
    /// What it has was of no use to the chain, when that was asked last.
    pub(super) is_strange: bool,
    /// Since when what it says that it has is not here, though it is no further: others' chains go on too.
    pub(super) apart_since: Option<Instant>,
    /// It does not have the present branch's blocks from this height on.
    pub(super) lacks_from: Option<u64>,
    statuses: Pace,
    /// What goes out to it next: requests, refusals.
    pub(super) outbox: VecDeque<Bytes>,
    /// What it was told that we have, and when.
    pub(super) told: Option<(BlockPlace, Instant)>,
    /// Answers to requests below this number, if they are not open any more, may still come.
    former: u64,
}

/// What a peer was asked.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) what: What,
    /// Nothing else was asked of the peer then: the time to its first bytes is a round trip.
    is_first: bool,
    pub(super) asked_at: Instant,
    /// When it had ended what it was asked before, or was asked.
    began_at: Instant,
    /// What the peer had sent in all when it was asked.
    delivered: u64,
    /// What comes is of no use any more.
    pub(super) given_up: bool,
    /// It has paid for not answering.
    pub(super) has_paid: bool,
    /// Others were asked too, because it is late.
    pub(super) hedged: bool,
    /// Bytes that have come.
    pub(super) received: usize,
    /// How long what the peer sends was not read here.
    unheard: Duration,
}

#[derive(Debug)]
pub(super) enum What {
    /// Headers after one of these places.
    Headers(Vec<BlockPlace>),
    Blocks(Bodies),
}

/// Blocks that were asked for.
#[derive(Debug)]
pub(super) struct Bodies {
    /// Those that have not come: their places in the request, and their heights.
    pub(super) open: HashMap<ItemId, (usize, u64)>,
    /// Bytes after which the answer was to end.
    pub(super) max_bytes: usize,
    /// About how many bytes they are together, and how many are thought to come.
    pub(super) estimate: usize,
    pub(super) reserve: usize,
    /// A block of which pieces have come, and its size.
    partial: Option<(usize, BytesMut)>,
    /// Blocks that have come and are being looked at.
    pub(super) unread: usize,
    /// How many were dealt with, once the answer is over.
    pub(super) ended: Option<usize>,
    /// The chain has panicked over one of them.
    pub(super) has_failed: bool,
}

/// How fast a peer answers.
#[derive(Debug, Default)]
pub(super) struct Link {
    round_trip: Option<Duration>,
    /// Bytes a second.
    rates: VecDeque<f64>,
    delivered: u64,
}

impl Peer {
    /// `former`: answers to requests below this number may still come, of an earlier session.
    pub(super) fn new(former: u64) -> Self {
        Self {
            status: None,
            link: Link::default(),
            requests: BTreeMap::new(),
            benched_until: None,
            busy: 0,
            is_strange: false,
            apart_since: None,
            lacks_from: None,
            statuses: Pace::new(STATUSES),
            outbox: VecDeque::new(),
            told: None,
            former,
        }
    }

    /// It says what it has; whether that is another tip. `None`: it says so too often.
    pub(super) fn says(&mut self, place: BlockPlace, base: u64, now: Instant) -> Option<bool> {
        if !self.statuses.admits(1, now) {
            return None;
        }
        let is_new = self.status.as_ref().is_none_or(|(old, _)| *old != place);
        if is_new {
            self.lacks_from = None;
        }
        self.status = Some((place, base));
        Some(is_new)
    }

    /// When it is told that this is our tip. `None`: it was.
    pub(super) fn is_told_at(&self, tip: &BlockPlace, now: Instant) -> Option<Instant> {
        match &self.told {
            Some((told, _)) if told == tip => None,
            Some((_, at)) => Some(now.max(*at + STATUS_EVERY)),
            None => Some(now),
        }
    }

    /// What was under way to it and from it may be lost; requests from this number on will be new ones.
    pub(super) fn moved(&mut self, number: u64) {
        self.outbox.clear();
        self.told = None;
        self.forgo_all(number);
    }

    /// No answer is waited for any more; requests from this number on will be new ones.
    pub(super) fn forgo_all(&mut self, number: u64) {
        self.requests.clear();
        self.former = number;
    }

    /// An answer is waited for no more.
    pub(super) fn forgo(&mut self, number: u64) {
        self.requests.remove(&number);
        self.former = self.former.max(number.saturating_add(1));
    }

    /// The answer with headers that it was asked for is lost, and waited for no more. False: it was asked for none.
    pub(super) fn loses_headers(&mut self) -> bool {
        let headers = |(number, request): (&u64, &Request)| {
            matches!(request.what, What::Headers(_)).then_some(*number)
        };
        let Some(number) = self.requests.iter().find_map(headers) else {
            return false;
        };
        self.forgo(number);
        true
    }

    /// Whether an answer that nobody waits for may have been asked for.
    pub(super) fn is_former(&self, number: u64) -> bool {
        number < self.former
    }

    pub(super) fn height(&self) -> u64 {
        self.status.as_ref().map_or(0, |(place, _)| place.height)
    }

    pub(super) fn is_benched(&self, now: Instant) -> bool {
        self.benched_until.is_some_and(|until| now < until)
    }

    /// Whether it has not shown what it says that it has, and is not asked for now. Who is only busy may have it.
    pub(super) fn is_doubted(&self, now: Instant) -> bool {
        self.is_benched(now) && self.busy == 0
    }

    pub(super) fn bench(&mut self, until: Instant) {
        self.benched_until = Some(self.benched_until.map_or(until, |other| other.max(until)));
    }

    /// It is too busy: each time it is left alone twice as long, until it answers.
    pub(super) fn is_too_busy(&mut self, now: Instant) {
        // What it was asked together counts once.
        if !self.is_benched(now) {
            let time = BUSY.saturating_mul(2_u32.saturating_pow(self.busy));
            self.bench(now + time.min(BENCH));
            self.busy += 1;
        }
    }

    /// Whether it may be asked for anything more now.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        !self.is_benched(now) && self.requests.len() < MAX_REQUESTS
    }

    /// The heights at which it has the branch's blocks, by what it says.
    pub(super) fn heights(&self) -> Range<u64> {
        let Some((place, base)) = &self.status else {
            return 0..0;
        };
        let end = place.height.saturating_add(1);
        let end = self.lacks_from.map_or(end, |from| end.min(from));
        *base..end.max(*base)
    }

    /// Whether it says that it has the branch's block of this height.
    pub(super) fn has(&self, height: u64) -> bool {
        self.heights().contains(&height)
    }

    /// Bytes of blocks that may be asked of it now.
    pub(super) fn room(&self) -> usize {
        let asked = self.bodies().map(|(_, bodies)| bodies.estimate);
        self.link.window().saturating_sub(asked.sum())
    }

    fn bodies(&self) -> impl Iterator<Item = (&Request, &Bodies)> {
        self.requests
            .values()
            .filter_map(|request| match &request.what {
                What::Blocks(bodies) => Some((request, bodies)),
                What::Headers(_) => None,
            })
    }

    /// Bytes that answers of it may still bring.
    pub(super) fn expects(&self) -> usize {
        let open = self.bodies().filter(|(request, _)| !request.given_up);
        let rest = |(request, bodies): (&Request, &Bodies)| {
            bodies.reserve.saturating_sub(request.received)
        };
        open.map(rest).sum()
    }

    /// Since when it is asked for headers.
    pub(super) fn seeks_since(&self) -> Option<Instant> {
        let headers =
            |request: &&Request| matches!(request.what, What::Headers(_)) && !request.given_up;
        let asked = self.requests.values().find(headers);
        asked.map(|request| request.asked_at)
    }

    /// It did not answer in time, and has paid for it: what it was asked has that time once more to come, and is forgotten then.
    pub(super) fn waits_anew(&mut self, now: Instant) {
        for request in self.requests.values_mut() {
            (request.began_at, request.unheard) = (now, Duration::ZERO);
            request.has_paid = true;
        }
    }

    /// Whether it is asked for the block of this identity already.
    pub(super) fn is_asked(&self, id: &ItemId) -> bool {
        self.bodies()
            .any(|(request, bodies)| !request.given_up && bodies.open.contains_key(id))
    }

    /// It is asked something.
    pub(super) fn ask(&mut self, number: u64, what: What, frame: Bytes, now: Instant) {
        let request = Request {
            what,
            is_first: self.requests.is_empty(),
            asked_at: now,
            began_at: now,
            delivered: self.link.delivered,
            given_up: false,
            has_paid: false,
            hedged: false,
            received: 0,
            unheard: Duration::ZERO,
        };
        self.requests.insert(number, request);
        self.outbox.push_back(frame);
    }

    /// What it sends was not read here for so long.
    pub(super) fn unheard(&mut self, time: Duration) {
        for request in self.requests.values_mut() {
            request.unheard = request.unheard.saturating_add(time);
        }
    }

    /// Bytes of an answer have come.
    pub(super) fn heard(&mut self, number: u64, bytes: usize, now: Instant) {
        let Some(request) = self.requests.get_mut(&number) else {
            return;
        };
        if request.received == 0 && request.is_first {
            let took = now.saturating_duration_since(request.asked_at);
            let least = self.link.round_trip.map_or(took, |least| least.min(took));
            self.link.round_trip = Some(least);
        }
        request.received += bytes;
        self.busy = 0;
        self.link.delivered += bytes as u64;
    }

    /// An answer is over.
    pub(super) fn ended(&mut self, number: u64, now: Instant) -> Option<Request> {
        let request = self.requests.remove(&number)?;
        self.link.ended(&request, now);
        for other in self.requests.values_mut() {
            (other.began_at, other.unheard) = (other.began_at.max(now), Duration::ZERO);
        }
        Some(request)
    }

    /// The answer that takes too long by far: the first one, since the others wait for it.
    pub(super) fn overdue(&self, timeout: Duration, now: Instant) -> Option<u64> {
        let is_overdue = |(number, request): (&u64, &Request)| {
            let waits = !request.is_over();
            let grace = Duration::from_secs_f64(request.received as f64 / MIN_RATE as f64);
            let took = now.saturating_duration_since(request.began_at);
            (waits && took > timeout + grace + request.unheard).then_some(*number)
        };
        self.requests.iter().find_map(is_overdue)
    }

    /// Answers of blocks that are later than they should be, for which nobody else was asked yet.
    pub(super) fn late(&self, now: Instant) -> Vec<u64> {
        let mut before = 0;
        let mut late = Vec::new();
        for (number, request) in &self.requests {
            let What::Blocks(bodies) = &request.what else {
                continue;
            };
            before += bodies.estimate.saturating_sub(request.received);
            let expected = self.link.expected(before) * 2 + LATE;
            let waits = !request.given_up && !request.hedged && !request.is_over();
            if waits && now.saturating_duration_since(request.began_at) > expected {
                late.push(*number);
            }
        }
        late
    }
}

/// What is late by no more than this is not late.
const LATE: Duration = Duration::from_millis(100);

impl Request {
    fn is_over(&self) -> bool {
        matches!(&self.what, What::Blocks(bodies) if bodies.ended.is_some())
    }
}

impl Bodies {
    pub(super) fn new(
        asked: &[(ItemId, u64)],
        max_bytes: usize,
        (estimate, reserve): (usize, usize),
    ) -> Self {
        let open = asked.iter().enumerate();
        Self {
            open: open
                .map(|(place, (id, height))| (id.clone(), (place, *height)))
                .collect(),
            max_bytes,
            estimate,
            reserve,
            partial: None,
            unread: 0,
            ended: None,
            has_failed: false,
        }
    }

    /// Whole blocks of a frame.
    ///
    /// # Errors
    /// The sender breaks the rules.
    pub(super) fn take(
        &mut self,
        frame: wire::Blocks,
        max_block: usize,
    ) -> Result<Vec<Bytes>, &'static str> {
        let mut blocks = frame.blocks;
        if frame.size > 0 {
            let size = usize::try_from(frame.size).unwrap_or(usize::MAX);
            if size > max_block {
                return Err("a block is longer than a block may be");
            }
            let (whole, mut partial) = self.partial.take().unwrap_or_default();
            if !partial.is_empty() && whole != size || partial.len() + frame.piece.len() > size {
                return Err("a piece does not belong to its block");
            }
            partial.extend_from_slice(&frame.piece);
            if partial.len() == size {
                blocks.push(partial.freeze());
            } else {
                self.partial = Some((size, partial));
            }
        } else if self.partial.is_some() {
            return Err("a block is cut short");
        }
        if blocks.iter().any(|block| block.len() > max_block) {
            return Err("a block is longer than a block may be");
        }
        if let Some(ended) = frame.ended.checked_sub(1) {
            if self.partial.is_some() {
                return Err("an answer ends within a block");
            }
            self.ended = Some(usize::try_from(ended).unwrap_or(usize::MAX));
        }
        self.unread += blocks.len();
        if self.unread > self.open.len() {
            return Err("an answer has more blocks than were asked for");
        }
        Ok(blocks)
    }

    /// What has come of a block that is not whole.
    pub(super) fn partial_bytes(&self) -> usize {
        self.partial
            .as_ref()
            .map_or(0, |(_, partial)| partial.len())
    }

    /// What has come of a block is of no use any more: its bytes.
    pub(super) fn drop_partial(&mut self) -> usize {
        self.partial.take().map_or(0, |(_, partial)| partial.len())
    }

    /// Whether all that will come has been looked at.
    pub(super) fn is_done(&self) -> bool {
        self.ended.is_some() && self.unread == 0
    }
}

impl Link {
    fn rate(&self) -> Option<f64> {
        self.rates.iter().copied().reduce(f64::max)
    }

    /// Bytes that may be asked for at once.
    fn window(&self) -> usize {
        let (Some(rate), Some(round_trip)) = (self.rate(), self.round_trip) else {
            return MIN_WINDOW;
        };
        let bytes = 2.0 * rate * round_trip.as_secs_f64();
        // A float's conversion stops at the ends.
        (bytes as usize).clamp(MIN_WINDOW, MAX_WINDOW)
    }

    /// Bytes of one request: some of them fill the window.
    pub(super) fn share(&self) -> usize {
        (self.window() / 4).clamp(MIN_WINDOW / 4, wire::MAX_ANSWER_BYTES)
    }

    /// The time in which so many bytes come.
    fn expected(&self, bytes: usize) -> Duration {
        let Some(rate) = self.rate() else {
            return UNKNOWN_ROUND_TRIP;
        };
        let round_trip = self.round_trip.unwrap_or(UNKNOWN_ROUND_TRIP);
        // A line may become slower; not for ever.
        let flight = (bytes as f64 / rate.max(1.0)).min(3600.0);
        round_trip + Duration::from_secs_f64(flight)
    }

    /// Its bandwidth, to compare.
    pub(super) fn speed(&self) -> u64 {
        self.rate().unwrap_or_default() as u64
    }

    fn ended(&mut self, request: &Request, now: Instant) {
        let took = now.saturating_duration_since(request.asked_at);
        let bytes = self.delivered.saturating_sub(request.delivered);
        if bytes == 0 || matches!(request.what, What::Headers(_)) {
            return;
        }
        self.rates
            .push_back(bytes as f64 / took.as_secs_f64().max(1e-6));
        if self.rates.len() > SAMPLES {
            self.rates.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn who_was_not_heard_for_a_time_is_overdue_as_much_later() {
        let (mut peer, start) = (Peer::new(0), crate::platform::now());
        let (timeout, unheard) = (Duration::from_secs(10), Duration::from_secs(7));
        let soon = start + timeout + Duration::from_secs(1);
        peer.ask(1, What::Headers(Vec::new()), Bytes::new(), start);
        assert_eq!(peer.overdue(timeout, soon), Some(1));
        peer.unheard(unheard);
        assert_eq!(peer.overdue(timeout, soon), None);
        assert_eq!(peer.overdue(timeout, soon + unheard), Some(1));
        // What was before it has paid is over.
        peer.waits_anew(soon);
        let again = soon + timeout + Duration::from_secs(1);
        assert_eq!(peer.overdue(timeout, again), Some(1));
    }
}
