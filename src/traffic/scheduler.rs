//! One peer's outgoing queue: votes, then requests for blocks and blocks, then fair shares of the rest.
//!
//! Votes, requests for blocks and blocks have strict priority, in this order. The other classes share what is left by deficit round robin (Shreedhar and
//! Varghese, "Efficient Fair Queueing using Deficit Round Robin", SIGCOMM 1995): each class in turn may send its quantum
//! of bytes, and what its next message is too large for is saved for its next turn. Where the paper walks round after
//! round until a large message is paid for, the rounds in which nobody can send are granted at once, so that each
//! operation takes the same few steps whatever the sizes.
//!
//! Whatever goes to a peer passes here, what is made when there is room for it too, so that the turns are kept. A class that has to
//! wait for a limit of its own holds up no other.
//!
//! Bounds: every class has a limit of its own in bytes and in messages ([`QueueLimits`]), so that a flood in one takes no
//! room from another. A message that does not fit is handed back; [`Class`] says what its sender does then.

use std::collections::VecDeque;

use super::class::{Class, Lane};

/// The limits of one class in one peer's queue, and its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Bytes that may wait. A larger message never fits, so this is at least the largest message of the class.
    pub max_bytes: usize,
    /// Messages that may wait.
    pub max_items: usize,
    /// Bytes for each turn of the round robin (0 counts as 1); without meaning for votes, blocks and their requests.
    pub quantum: usize,
}

/// The limits of each class in one peer's queue.
///
/// | class | bytes | messages | share of the bulk |
/// | --- | --- | --- | --- |
/// | `vote` | 8 MiB | 4,096 | |
/// | `block` | 1 MiB | 4,096 | |
/// | `block_request` | 1 MiB | 1,024 | |
/// | `transaction` | 8 MiB | 16,384 | 2/3 |
/// | `sync` | 8 MiB | 1,024 | 1/3 |
///
/// These are the defaults: at most 26 MiB for a peer that reads nothing. Blocks themselves are made as the peer reads, a piece at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Limits of [`Class::Vote`].
    pub vote: QueueLimits,
    /// Limits of [`Class::Block`].
    pub block: QueueLimits,
    /// Limits of [`Class::BlockRequest`].
    pub block_request: QueueLimits,
    /// Limits of [`Class::Transaction`].
    pub transaction: QueueLimits,
    /// Limits of [`Class::Sync`].
    pub sync: QueueLimits,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        let limits = |max_bytes, max_items, quantum| QueueLimits {
            max_bytes,
            max_items,
            quantum,
        };
        Self {
            vote: limits(8 << 20, 4096, 0),
            block: limits(1 << 20, 4096, 0),
            block_request: limits(1 << 20, 1024, 0),
            transaction: limits(8 << 20, 16_384, 16 << 10),
            sync: limits(8 << 20, 1024, 8 << 10),
        }
    }
}

/// The class's queue has no room; the message comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// See the module's documentation. `T` is whatever the driver writes: the scheduler only knows its size.
#[derive(Debug)]
pub struct Scheduler<T> {
    vote: Queue<T>,
    block: Queue<T>,
    block_request: Queue<T>,
    /// The classes that take turns.
    bulk: [Queue<T>; 2],
    /// Whose turn it is, as a place in `bulk`.
    turn: usize,
}

#[derive(Debug)]
struct Queue<T> {
    class: Class,
    limits: QueueLimits,
    waiting: VecDeque<(usize, T)>,
    bytes: usize,
    /// Bytes that the class may send in its turn.
    deficit: usize,
}

impl<T> Queue<T> {
    fn new(class: Class, limits: QueueLimits) -> Self {
        Self {
            class,
            limits,
            waiting: VecDeque::new(),
            bytes: 0,
            deficit: 0,
        }
    }

    fn push(&mut self, size: usize, item: T) -> Result<(), Full<T>> {
        let bytes = self.bytes.checked_add(size);
        match bytes.filter(|bytes| *bytes <= self.limits.max_bytes) {
            Some(bytes) if self.waiting.len() < self.limits.max_items => {
                self.bytes = bytes;
                self.waiting.push_back((size, item));
                Ok(())
            }
            _ => Err(Full(item)),
        }
    }

    fn pop(&mut self) -> Option<(Class, usize, T)> {
        let (size, item) = self.waiting.pop_front()?;
        self.bytes -= size;
        // Who has nothing to send saves nothing.
        self.deficit = if self.waiting.is_empty() {
            0
        } else {
            self.deficit.saturating_sub(size)
        };
        Some((self.class, size, item))
    }

    fn head(&self) -> Option<usize> {
        self.waiting.front().map(|(size, _)| *size)
    }

    fn may_send(&self) -> bool {
        self.head().is_some_and(|size| size <= self.deficit)
    }

    /// Turns until the next message is paid for.
    fn turns(&self) -> Option<usize> {
        let missing = self.head()?.saturating_sub(self.deficit);
        Some(missing.div_ceil(self.limits.quantum.max(1)))
    }

    fn grant(&mut self, turns: usize) {
        if !self.waiting.is_empty() {
            let bytes = self.limits.quantum.max(1).saturating_mul(turns);
            self.deficit = self.deficit.saturating_add(bytes);
        }
    }
}

impl<T> Scheduler<T> {
    /// An empty queue; it takes memory only for what waits.
    pub fn new(config: &SchedulerConfig) -> Self {
        Self {
            vote: Queue::new(Class::Vote, config.vote),
            block: Queue::new(Class::Block, config.block),
            block_request: Queue::new(Class::BlockRequest, config.block_request),
            bulk: [
                Queue::new(Class::Transaction, config.transaction),
                Queue::new(Class::Sync, config.sync),
            ],
            turn: 0,
        }
    }

    /// Queues a message of `size` bytes, behind those of its class.
    ///
    /// # Errors
    /// [`Full`] with the message where its class has no room.
    pub fn push(&mut self, class: Class, size: usize, item: T) -> Result<(), Full<T>> {
        self.queue_mut(class).push(size, item)
    }

    /// Takes the next message of this lane, with its class and size, from a class that has something and of which `may` says that
    /// it may go now; one that may not holds up no other. A driver with one stream for all lanes asks them in their order.
    pub fn pop(
        &mut self,
        lane: Lane,
        mut may: impl FnMut(Class) -> bool,
    ) -> Option<(Class, usize, T)> {
        let mut may = |queue: &Queue<T>| !queue.waiting.is_empty() && may(queue.class);
        match lane {
            Lane::Urgent => may(&self.vote).then(|| self.vote.pop())?,
            Lane::Block if may(&self.block_request) => self.block_request.pop(),
            Lane::Block => may(&self.block).then(|| self.block.pop())?,
            Lane::Bulk => {
                let open = self.bulk.each_ref().map(may);
                self.next_bulk(open)?.pop()
            }
        }
    }

    /// Bytes of a class that wait.
    pub fn bytes(&self, class: Class) -> usize {
        self.queue(class).bytes
    }

    /// Whether nothing of a class waits.
    pub fn is_empty(&self, class: Class) -> bool {
        self.queue(class).waiting.is_empty()
    }

    /// The class whose turn it is and who can pay, of those that are `open`.
    fn next_bulk(&mut self, open: [bool; 2]) -> Option<&mut Queue<T>> {
        let is_open = |place: usize| open.get(place).copied().unwrap_or_default();
        if !is_open(self.turn) || !self.bulk.get(self.turn).is_some_and(Queue::may_send) {
            let queues = self.bulk.iter().zip(open);
            let turns = queues.filter_map(|(queue, open)| queue.turns().filter(|_| open));
            let turns = turns.min()?;
            for (queue, _) in self.bulk.iter_mut().zip(open).filter(|(_, open)| *open) {
                queue.grant(turns.saturating_sub(1));
            }
            // After those rounds one of them can pay within the next.
            for _ in 0..self.bulk.len() {
                self.turn = (self.turn + 1) % self.bulk.len();
                if !is_open(self.turn) {
                    continue;
                }
                let queue = self.bulk.get_mut(self.turn)?;
                queue.grant(1);
                if queue.may_send() {
                    break;
                }
            }
        }
        self.bulk.get_mut(self.turn)
    }

    fn queue(&self, class: Class) -> &Queue<T> {
        let [transaction, sync] = &self.bulk;
        match class {
            Class::Vote => &self.vote,
            Class::Block => &self.block,
            Class::BlockRequest => &self.block_request,
            Class::Transaction => transaction,
            Class::Sync => sync,
        }
    }

    fn queue_mut(&mut self, class: Class) -> &mut Queue<T> {
        let [transaction, sync] = &mut self.bulk;
        match class {
            Class::Vote => &mut self.vote,
            Class::Block => &mut self.block,
            Class::BlockRequest => &mut self.block_request,
            Class::Transaction => transaction,
            Class::Sync => sync,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    /// All lanes on one stream.
    fn pop<T>(scheduler: &mut Scheduler<T>) -> Option<(Class, usize, T)> {
        Lane::ALL
            .into_iter()
            .find_map(|lane| scheduler.pop(lane, |_| true))
    }

    fn is_empty<T>(scheduler: &Scheduler<T>) -> bool {
        Class::ALL.iter().all(|class| scheduler.is_empty(*class))
    }

    fn scheduler<T>() -> Scheduler<T> {
        Scheduler::new(&SchedulerConfig::default())
    }

    #[test]
    fn votes_then_requests_for_blocks_then_blocks_then_the_rest() {
        let mut scheduler = scheduler();
        for (number, class) in Class::ALL.into_iter().rev().enumerate() {
            scheduler.push(class, 100, number).expect("room");
        }
        let first = pop(&mut scheduler);
        assert_eq!(first, Some((Class::Vote, 100, 4)));
        assert!(scheduler.is_empty(Class::Vote) && !scheduler.is_empty(Class::Block));
        scheduler.push(Class::Vote, 50, 5).expect("room");
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut scheduler))
            .map(|(class, ..)| class)
            .collect();
        assert_eq!(
            order.get(..3),
            Some([Class::Vote, Class::BlockRequest, Class::Block].as_slice())
        );
        assert_eq!(order.len(), 5);
        assert!(is_empty(&scheduler));
    }

    #[test]
    fn a_flood_in_one_class_takes_no_room_from_another() {
        let mut scheduler = scheduler();
        let mut floods = 0;
        while scheduler.push(Class::Transaction, 1000, "flood").is_ok() {
            floods += 1;
        }
        assert_eq!(floods, (8 << 20) / 1000);
        assert_eq!(scheduler.bytes(Class::Transaction), floods * 1000);
        assert_eq!(
            scheduler.push(Class::Transaction, 1000, "one more"),
            Err(Full("one more"))
        );
        for class in Class::ALL {
            let fits = scheduler.push(class, 1000, "other").is_ok();
            assert_eq!(fits, class != Class::Transaction);
        }
        let mut small = 0;
        while scheduler.push(Class::Sync, 0, "nothing").is_ok() {
            small += 1;
        }
        assert_eq!(small, 1023, "messages without bytes are counted too");
    }

    #[test]
    fn a_class_that_may_not_go_holds_up_no_other() {
        let mut scheduler = scheduler();
        for class in Class::ALL {
            scheduler.push(class, 1000, class).expect("room");
        }
        let is_held = |class| matches!(class, Class::Block | Class::Transaction);
        let mut popped = Vec::new();
        for lane in Lane::ALL {
            let next = || scheduler.pop(lane, |class| !is_held(class));
            popped.extend(std::iter::from_fn(next).map(|(class, ..)| class));
        }
        let expected: Vec<_> = Class::ALL
            .into_iter()
            .filter(|class| !is_held(*class))
            .collect();
        assert_eq!(popped.len(), 3);
        assert!(expected.iter().all(|class| popped.contains(class)));
        for class in [Class::Block, Class::Transaction] {
            let next = scheduler.pop(class.lane(), |_| true);
            assert_eq!(next, Some((class, 1000, class)));
        }
    }

    #[test]
    fn a_large_message_waits_for_its_turns_and_starves_nobody() {
        let mut scheduler = scheduler();
        let large = 8 << 20;
        scheduler.push(Class::Sync, large, 0).expect("room");
        for number in 0..2000 {
            scheduler
                .push(Class::Transaction, 1024, number)
                .expect("room");
        }
        assert_eq!(
            scheduler.pop(Lane::Bulk, |_| true).map(|(class, ..)| class),
            Some(Class::Transaction),
            "the small ones need not wait until the large one is paid for"
        );
        let before = std::iter::from_fn(|| scheduler.pop(Lane::Bulk, |_| true))
            .take_while(|(class, ..)| *class != Class::Sync)
            .count();
        assert!(before == 1999, "{before}");
        assert_eq!(scheduler.pop(Lane::Bulk, |_| true), None);
    }

    #[test]
    fn sizes_without_sense_do_not_overflow() {
        let limits = QueueLimits {
            max_bytes: usize::MAX,
            max_items: 10,
            quantum: 0,
        };
        let mut scheduler = Scheduler::new(&SchedulerConfig {
            transaction: limits,
            sync: limits,
            ..SchedulerConfig::default()
        });
        for class in [Class::Transaction, Class::Sync] {
            for size in [usize::MAX - 1, 1, 0] {
                scheduler.push(class, size, ()).expect("room");
            }
            assert_eq!(scheduler.push(class, 1, ()), Err(Full(())));
        }
        let popped = std::iter::from_fn(|| scheduler.pop(Lane::Bulk, |_| true)).count();
        assert_eq!((popped, is_empty(&scheduler)), (6, true));
    }

    fn bulk_class() -> impl Strategy<Value = Class> {
        proptest::sample::select(Class::ALL.get(3..).unwrap_or_default())
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_the_order_of_its_class(
            steps in proptest::collection::vec((proptest::sample::select(Class::ALL.as_slice()), 0usize..100_000, any::<bool>()), 1..300),
        ) {
            let mut scheduler = scheduler();
            let mut expected: Vec<VecDeque<_>> = vec![VecDeque::new(); Class::ALL.len()];
            let check = |scheduler: &mut Scheduler<usize>, expected: &mut Vec<VecDeque<(usize, usize)>>| {
                let Some((class, size, item)) = pop(scheduler) else {
                    return expected.iter().all(VecDeque::is_empty);
                };
                let waiting = |class: Class| !expected[class as usize].is_empty();
                let strict = match class {
                    Class::Vote => true,
                    Class::BlockRequest => !waiting(Class::Vote),
                    Class::Block => !waiting(Class::Vote) && !waiting(Class::BlockRequest),
                    _ => !Class::ALL.iter().take(3).any(|class| waiting(*class)),
                };
                strict && expected[class as usize].pop_front() == Some((size, item))
            };
            for (number, (class, size, take)) in steps.into_iter().enumerate() {
                if scheduler.push(class, size, number).is_ok() {
                    expected[class as usize].push_back((size, number));
                }
                let bytes: usize = expected[class as usize].iter().map(|(size, _)| size).sum();
                prop_assert_eq!(scheduler.bytes(class), bytes);
                prop_assert!(!take || check(&mut scheduler, &mut expected));
            }
            while !is_empty(&scheduler) {
                prop_assert!(check(&mut scheduler, &mut expected));
            }
            prop_assert!(check(&mut scheduler, &mut expected));
        }

        /// The paper's theorem: while two classes both have something to send, their shares differ by less than a turn and
        /// a largest message.
        #[test]
        fn shares_follow_the_quanta(sizes in proptest::collection::vec((bulk_class(), 1usize..50_000), 400)) {
            let config = SchedulerConfig::default();
            let limits = [config.transaction, config.sync];
            let mut scheduler = Scheduler::new(&SchedulerConfig {
                transaction: QueueLimits { max_bytes: usize::MAX, ..config.transaction },
                sync: QueueLimits { max_bytes: usize::MAX, ..config.sync },
                ..config
            });
            for (class, size) in &sizes {
                scheduler.push(*class, *size, ()).expect("room");
            }
            let mut sent = [0; 2];
            while Class::ALL[3..].iter().all(|class| scheduler.bytes(*class) > 0) {
                let (class, size, ()) = scheduler.pop(Lane::Bulk, |_| true).expect("something waits");
                sent[class as usize - 3] += size;
                let turns = |place: usize| sent[place] as f64 / limits[place].quantum as f64;
                let slack = |place: usize| 50_000.0 / limits[place].quantum as f64;
                prop_assert!((turns(0) - turns(1)).abs() <= 1.0 + slack(0).max(slack(1)));
            }
        }
    }
}
