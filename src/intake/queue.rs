//! The queue in front of the chain's checks.
//!
//! Items wait here until one of a bounded number of checks is free: votes first, then questions about blocks, blocks, and transactions.
//! Some checks are kept for votes, which so never wait for the end of another kind's; and after a few checks of votes something else has its turn, so that
//! whoever makes ever new ones does not stop the chain. Questions are asked for each peer in turn, and
//! after a few of them a batch has its turn: whoever has ever new blocks looked at holds up neither transactions nor our own blocks.
//!
//! Bounds: each kind has a room of its own, and each peer a share of it (`protocol.validation.votes`, `blocks`, `transactions`):
//! a flood of one kind takes no room of another, and one peer cannot take it all. What doesn't fit is refused, and told; a peer's
//! lanes are read no further instead ([`Queue::take`]).
//! How many questions about blocks there are is bounded by the cores that ask them.

use libp2p::PeerId;

use super::{Batch, FairQueue, OVERHEAD, Ticket, fair::NoRoom};
use crate::{
    chain::ItemKind,
    config::{Share, ValidationConfig},
    lanes::Taken,
    propagation::blocks::Question,
};

/// Bytes of waiting batches, with their overhead, that are checked with another: so long may a vote wait for the end of a check.
const MERGED: usize = 64 << 10;
/// Checks of votes that begin in a row while something else waits.
const VOTES: usize = 4;
/// Questions that are asked in a row while batches wait.
const QUESTIONS: usize = 3;
/// No limit of its own: how many questions there are is bounded where they arise, and whole blocks' bytes by the lanes' room.
const UNLIMITED: Share = Share {
    all: usize::MAX,
    per_peer: usize::MAX,
};

/// A question, and what the frame took that is done with when it is answered: a whole block's, which waits here.
pub(crate) type Asked = (Question, Option<(PeerId, Taken)>);

/// What is checked at once.
#[derive(Debug)]
pub(crate) enum Work {
    /// Items that came together.
    Batch(Batch),
    /// A question of the propagation of blocks.
    Question(Box<Asked>),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Queue {
    votes: FairQueue<Batch>,
    questions: FairQueue<Asked>,
    /// How many were asked since the last batch was started.
    asked: usize,
    blocks: FairQueue<Batch>,
    transactions: FairQueue<Batch>,
    free: usize,
    for_votes: usize,
    /// How many are not for votes: the most at once, and those under way; and how many of votes have begun since the last of them.
    most_others: usize,
    others: usize,
    votes_in_a_row: usize,
    own_blocks: usize,
}

impl Queue {
    pub(crate) fn new(config: &ValidationConfig) -> Self {
        Self {
            votes: FairQueue::new(config.votes),
            questions: FairQueue::new(UNLIMITED),
            asked: 0,
            blocks: FairQueue::new(config.blocks),
            transactions: FairQueue::new(config.transactions),
            free: config.max_in_flight,
            for_votes: config.reserved_for_votes,
            most_others: config
                .max_in_flight
                .saturating_sub(config.reserved_for_votes),
            others: 0,
            votes_in_a_row: 0,
            own_blocks: 0,
        }
    }

    /// Takes a batch in.
    ///
    /// # Errors
    /// The batch, and a sentence that says what left no room for it.
    #[expect(
        clippy::result_large_err,
        reason = "the batch goes back to who brought it, and seldom"
    )]
    pub(crate) fn push(&mut self, batch: Batch) -> Result<(), (Batch, String)> {
        let (kind, from, cost) = (batch.kind, batch.source.peer(), batch.cost());
        let pushed = self.of(kind).push(from, cost, batch);
        if kind == ItemKind::Block && from.is_none() {
            self.own_blocks += 1;
        }
        pushed.map_err(|(batch, no_room)| (batch, reason(kind, no_room)))
    }

    /// Takes a batch in that came over a peer's lanes. Where there is no room for it, says whose limit that is; then the peer is to be read no further until
    /// [`Queue::relieved`] names it. So nothing of it is lost, and it feels how fast the checks go.
    ///
    /// # Errors
    /// The batch, and a sentence that says what left no room for it, where peers have brought too much for that.
    #[expect(
        clippy::result_large_err,
        reason = "the batch goes back to who brought it, and seldom"
    )]
    pub(crate) fn take(
        &mut self,
        from: PeerId,
        batch: Batch,
    ) -> Result<Option<NoRoom>, (Batch, String)> {
        let (kind, cost) = (batch.kind, batch.cost());
        let taken = self.of(kind).take(from, cost, batch);
        taken.map_err(|batch| (batch, reason(kind, NoRoom::All)))
    }

    /// The next peer whose lanes may be read on for items of this kind.
    pub(crate) fn relieved(&mut self, kind: ItemKind) -> Option<PeerId> {
        self.of(kind).relieved()
    }

    /// Whether a peer's item of this size would be taken in.
    pub(crate) fn fits(&mut self, kind: ItemKind, from: Option<PeerId>, size: usize) -> bool {
        self.of(kind).fits(&from, size.saturating_add(OVERHEAD))
    }

    /// Takes a question in.
    pub(crate) fn ask(&mut self, asked: Asked) {
        self.questions.enter(asked.0.peer(), 1, asked);
    }

    /// The next work, if a check is free for it; the caller calls [`Queue::ended`] after it, and [`Queue::done`] for each batch.
    pub(crate) fn start(&mut self) -> Option<Work> {
        if self.free == 0 {
            return None;
        }
        // Where votes take all checks, there is never more than the free one.
        let is_due = self.votes_in_a_row >= VOTES && self.others < self.most_others;
        let due = is_due.then(|| self.other()).flatten();
        let next = due.or_else(|| self.vote()).or_else(|| {
            let may_begin = self.free > self.for_votes;
            may_begin.then(|| self.other()).flatten()
        })?;
        self.free -= 1;
        Some(next)
    }

    fn vote(&mut self) -> Option<Work> {
        let batch = self.votes.pop()?;
        self.votes_in_a_row += 1;
        Some(Work::Batch(batch))
    }

    fn other(&mut self) -> Option<Work> {
        let batch_first = self.asked >= QUESTIONS;
        let batch = batch_first.then(|| self.batch()).flatten();
        let other = batch.or_else(|| self.question()).or_else(|| self.batch())?;
        (self.votes_in_a_row, self.others) = (0, self.others + 1);
        Some(other)
    }

    /// More batches that may go with one of this kind which is about to be checked: to hand over many little ones costs
    /// more than most checks. They need no check of their own.
    pub(crate) fn more(&mut self, kind: ItemKind) -> Vec<Batch> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        if kind == ItemKind::Block {
            return batches;
        }
        let waiting = self.of(kind);
        while bytes < MERGED
            && let Some(batch) = waiting.pop_if(|batch| batch.cost() < MERGED)
        {
            bytes += batch.cost();
            batches.push(batch);
        }
        batches
    }

    /// A check, of votes or not, has ended: another one may begin.
    pub(crate) fn ended(&mut self, of_votes: bool) {
        self.free += 1;
        self.others = self.others.saturating_sub(usize::from(!of_votes));
    }

    /// A batch is done with: its room is free.
    pub(crate) fn done(&mut self, ticket: &Ticket) {
        let from = ticket.source.peer();
        if ticket.kind == ItemKind::Block && from.is_none() {
            self.own_blocks = self.own_blocks.saturating_sub(1);
        }
        self.of(ticket.kind).done(from, ticket.cost);
    }

    /// What waits of our own items of a kind, or is being checked, in bytes with their overhead.
    pub(crate) fn own(&self, kind: ItemKind) -> usize {
        match kind {
            ItemKind::Vote => self.votes.taken_by(&None),
            ItemKind::Block => self.blocks.taken_by(&None),
            ItemKind::Transaction => self.transactions.taken_by(&None),
        }
    }

    /// How many batches of our own blocks wait or are being checked.
    pub(crate) fn own_blocks(&self) -> usize {
        self.own_blocks
    }

    /// The next batch that is no vote.
    fn batch(&mut self) -> Option<Work> {
        let batch = self.blocks.pop().or_else(|| self.transactions.pop())?;
        self.asked = 0;
        Some(Work::Batch(batch))
    }

    fn question(&mut self) -> Option<Work> {
        let asked = self.questions.pop()?;
        self.questions.done(asked.0.peer(), 1);
        self.asked += 1;
        Some(Work::Question(Box::new(asked)))
    }

    fn of(&mut self, kind: ItemKind) -> &mut FairQueue<Batch> {
        match kind {
            ItemKind::Vote => &mut self.votes,
            ItemKind::Block => &mut self.blocks,
            ItemKind::Transaction => &mut self.transactions,
        }
    }
}

/// Why there is no room for items of a kind, for a person.
fn reason(kind: ItemKind, no_room: NoRoom) -> String {
    let (whose, limit) = match no_room {
        NoRoom::Peer => ("of this peer ", "per_peer"),
        NoRoom::All => ("", "all"),
    };
    format!("too many {kind}s {whose}wait for a check (protocol.validation.{kind}s.{limit})")
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;

    use super::*;
    use crate::{
        chain::ItemId, intake::Source, platform::test, propagation::blocks::compact::HeaderCheck,
    };

    fn batch(kind: ItemKind, from: PeerId, size: usize) -> Batch {
        Batch::one(kind, Source::Direct(from), vec![7; size].into())
    }

    fn queue(max_in_flight: usize, reserved_for_votes: usize) -> Queue {
        let share = Share {
            all: 1000,
            per_peer: 1000,
        };
        Queue::new(&ValidationConfig {
            max_in_flight,
            reserved_for_votes,
            votes: share,
            blocks: share,
            transactions: share,
            ..ValidationConfig::default()
        })
    }

    fn kind(work: Work) -> (ItemKind, Ticket) {
        match work {
            Work::Batch(batch) => {
                let (ticket, _) = batch.apart();
                (ticket.kind, ticket)
            }
            Work::Question(_) => unreachable!("none was asked"),
        }
    }

    #[test]
    fn votes_go_first_and_keep_a_check_for_themselves() {
        let (mut queue, peer) = (queue(3, 1), PeerId::random());
        for kind in [
            ItemKind::Transaction,
            ItemKind::Transaction,
            ItemKind::Block,
        ] {
            assert!(queue.push(batch(kind, peer, 10)).is_ok());
        }
        let started: Vec<_> = std::iter::from_fn(|| queue.start()).map(kind).collect();
        let kinds: Vec<_> = started.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [ItemKind::Block, ItemKind::Transaction]);
        assert!(queue.push(batch(ItemKind::Vote, peer, 10)).is_ok());
        let vote = queue.start().map(kind);
        assert_eq!(vote.map(|(kind, _)| kind), Some(ItemKind::Vote));
        assert!(queue.start().is_none(), "all are busy");
        queue.ended(true);
        assert!(queue.start().is_none(), "the free one is for votes");
        queue.ended(false);
        let last = queue.start().map(kind);
        assert_eq!(last.map(|(kind, _)| kind), Some(ItemKind::Transaction));
    }

    #[test]
    fn a_flood_of_votes_holds_up_the_rest_by_a_few_checks() {
        let (mut queue, flooder) = (queue(4, 1), PeerId::random());
        let share = Share {
            all: 1 << 20,
            per_peer: 1 << 20,
        };
        queue.votes = FairQueue::new(share);
        let refill = |queue: &mut Queue| {
            assert!(queue.push(batch(ItemKind::Vote, flooder, 100)).is_ok());
        };
        for _ in 0..100 {
            refill(&mut queue);
        }
        // Votes have all checks.
        let mut running: VecDeque<_> = (0..4).map(|_| queue.start().is_some()).collect();
        queue.ask((header(PeerId::random()), None));
        for kind in [ItemKind::Block, ItemKind::Transaction] {
            assert!(queue.push(batch(kind, PeerId::random(), 10)).is_ok());
        }
        // One ends after the other, and each time there is one more vote.
        let mut began = Vec::new();
        while began.len() < 12 {
            queue.ended(running.pop_front().expect("four run"));
            refill(&mut queue);
            let what = match queue.start().expect("something waits") {
                Work::Question(_) => "question",
                Work::Batch(batch) if batch.kind == ItemKind::Vote => "vote",
                Work::Batch(_) => "batch",
            };
            running.push_back(what == "vote");
            began.push(what);
        }
        let in_turn = ["question", "vote", "vote", "vote", "vote", "batch"];
        assert_eq!(began[..6], in_turn);
        assert_eq!(
            began[6..],
            ["vote", "vote", "vote", "vote", "batch", "vote"]
        );
    }

    fn header(peer: PeerId) -> Question {
        Question::Header(HeaderCheck {
            id: ItemId::sha256(b"a block"),
            header: Bytes::from_static(b"a header"),
            peer,
        })
    }

    #[test]
    fn who_has_ever_new_headers_looked_at_holds_up_nobody() {
        let (mut queue, [flooder, honest]) = (queue(9, 0), [(); 2].map(|()| PeerId::random()));
        for _ in 0..6 {
            queue.ask((header(flooder), None));
        }
        queue.ask((header(honest), None));
        assert!(queue.push(batch(ItemKind::Block, honest, 10)).is_ok());
        assert!(queue.push(batch(ItemKind::Transaction, honest, 10)).is_ok());
        let order: Vec<_> = std::iter::from_fn(|| queue.start())
            .map(|work| match work {
                Work::Question(asked) => asked.0.peer(),
                Work::Batch(_) => None,
            })
            .collect();
        let (flooder, honest) = (Some(flooder), Some(honest));
        assert_eq!(
            order,
            [
                flooder, honest, flooder, None, flooder, flooder, flooder, None, flooder
            ]
        );
    }

    #[test]
    fn a_flood_of_one_kind_takes_no_room_of_another() {
        let (mut queue, peer) = (queue(1, 0), PeerId::random());
        assert!(queue.push(batch(ItemKind::Transaction, peer, 800)).is_ok());
        let (_, reason) = queue
            .push(batch(ItemKind::Transaction, peer, 800))
            .expect_err("no room");
        assert_eq!(
            reason,
            "too many transactions of this peer wait for a check (protocol.validation.transactions.per_peer)"
        );
        let (_, reason) = queue
            .push(batch(ItemKind::Transaction, PeerId::random(), 800))
            .expect_err("no room");
        assert_eq!(
            reason,
            "too many transactions wait for a check (protocol.validation.transactions.all)"
        );
        assert!(queue.push(batch(ItemKind::Vote, peer, 800)).is_ok());
        let (_, vote) = queue.start().map(kind).expect("it waits");
        queue.ended(true);
        let (_, transaction) = queue.start().map(kind).expect("it waits");
        assert!(
            queue.push(batch(ItemKind::Vote, peer, 800)).is_err(),
            "not done"
        );
        queue.done(&vote);
        queue.done(&transaction);
        assert!(queue.push(batch(ItemKind::Vote, peer, 800)).is_ok());
        assert!(queue.push(batch(ItemKind::Transaction, peer, 800)).is_ok());
    }

    #[test]
    fn a_batch_of_a_lane_counts_as_what_its_frame_holds() {
        let (mut queue, peer) = (queue(1, 0), PeerId::random());
        let padded = |held| {
            let source = Source::Lanes(peer, Taken::holding(held));
            Batch::one(ItemKind::Transaction, source, vec![7; 8].into())
        };
        assert_eq!(padded(0).cost(), 8 + OVERHEAD);
        let taken = queue.take(peer, padded(900)).map_err(|_| "no room");
        assert_eq!(taken, Ok(None));
        let taken = queue.take(peer, padded(900)).map_err(|_| "no room");
        assert_eq!(taken, Ok(Some(NoRoom::Peer)), "it is read no further");
        let Some(Work::Batch(batch)) = queue.start() else {
            panic!("it waits");
        };
        assert_eq!(batch.apart().0.cost, 900);
    }

    #[test]
    fn little_batches_are_checked_together_and_large_ones_alone() {
        let (mut queue, kind) = (queue(1, 0), ItemKind::Transaction);
        for _ in 0..5 {
            assert!(queue.push(batch(kind, PeerId::random(), 10)).is_ok());
        }
        assert!(queue.start().is_some());
        assert_eq!(queue.more(kind).len(), 4);
        assert!(queue.more(ItemKind::Block).is_empty());
    }
}
