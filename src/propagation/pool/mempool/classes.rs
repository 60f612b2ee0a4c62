//! Queues of the pool's places, one for each class of fee rates and each source of transactions.
//!
//! Four classes to each doubling, like the buckets of an HdrHistogram; in a class each source has a queue in order of arrival. The
//! links between neighbours are the slab's; here are only the ends. A source is looked for in its class one by one: there are
//! few most often, and 256 at most.

use std::cmp::Reverse;

use super::Place;
use crate::{platform::Instant, propagation::source::Source};

/// Who has more than this part of a class makes room for its newcomers itself.
const MUCH: usize = 4;

/// A class of fee rates; a higher one pays more.
pub(super) type Class = u8;

/// The queues of each class.
#[derive(Debug)]
pub(super) struct Classes(Box<[Payers]>);

/// Who pays as much.
#[derive(Debug, Default)]
pub(super) struct Payers {
    /// Of each source that has something here, in no order.
    queues: Vec<Queue>,
    /// What they cost.
    pub(super) bytes: usize,
}

/// The entries of one source in one class, in order of arrival.
#[derive(Debug)]
pub(super) struct Queue {
    source: Source,
    pub(super) eldest: Place,
    pub(super) youngest: Place,
    /// When the eldest came.
    since: Instant,
    /// What they cost.
    bytes: usize,
}

impl Classes {
    pub(super) fn new() -> Self {
        Self((0..=Class::MAX).map(|_| Payers::default()).collect())
    }

    /// A source's queue in a class.
    pub(super) fn get(&self, class: Class, source: Source) -> Option<&Queue> {
        let mut queues = self.payers(class)?.queues.iter();
        queues.find(|queue| queue.source == source)
    }

    /// All of a class.
    pub(super) fn payers(&self, class: Class) -> Option<&Payers> {
        self.0.get(usize::from(class))
    }

    /// The classes that are not empty, the lowest first.
    pub(super) fn taken(&self) -> impl DoubleEndedIterator<Item = (Class, &Payers)> {
        let all = (0..=Class::MAX).filter_map(|class| Some((class, self.payers(class)?)));
        all.filter(|(_, payers)| !payers.queues.is_empty())
    }

    /// Puts a place, taken at this moment, at the end of its queue.
    pub(super) fn push(
        &mut self,
        class: Class,
        source: Source,
        (place, at): (Place, Instant),
        cost: usize,
    ) {
        let Some(payers) = self.0.get_mut(usize::from(class)) else {
            return;
        };
        payers.bytes += cost;
        let mut queues = payers.queues.iter_mut();
        if let Some(queue) = queues.find(|queue| queue.source == source) {
            queue.youngest = place;
            queue.bytes += cost;
        } else {
            payers.queues.push(Queue {
                source,
                eldest: place,
                youngest: place,
                since: at,
                bytes: cost,
            });
        }
    }

    /// Takes out a place that had these neighbours, of which the younger came at that moment.
    pub(super) fn unlink(
        &mut self,
        class: Class,
        source: Source,
        neighbours: (Option<Place>, Option<(Place, Instant)>),
        cost: usize,
    ) {
        let Some(payers) = self.0.get_mut(usize::from(class)) else {
            return;
        };
        let mut queues = payers.queues.iter().enumerate();
        let place = queues.find(|(_, queue)| queue.source == source);
        let Some((place, _)) = place else {
            return;
        };
        payers.bytes -= cost;
        if let (None, None) = neighbours {
            payers.queues.swap_remove(place);
        } else if let Some(queue) = payers.queues.get_mut(place) {
            let (elder, younger) = neighbours;
            queue.bytes -= cost;
            match (elder, younger) {
                (None, Some((younger, at))) => (queue.eldest, queue.since) = (younger, at),
                (Some(elder), None) => queue.youngest = elder,
                _ => {}
            }
        }
    }
}

impl Payers {
    /// The eldest of each source.
    pub(super) fn eldest(&self) -> impl Iterator<Item = Place> {
        self.queues.iter().map(|queue| queue.eldest)
    }

    /// Who leaves for a newcomer of this source: the eldest of all if it came before this moment, else the eldest of the source that has
    /// most. A source that has much already ([`MUCH`]) pushes out nobody for being old.
    pub(super) fn gives_way(&self, newcomer: Source, old: Option<Instant>) -> Option<Place> {
        let own = self.queues.iter().find(|queue| queue.source == newcomer);
        let has_much = own.is_some_and(|own| own.bytes > self.bytes / MUCH);
        let old = old.filter(|_| !has_much);
        let due = self.queues.iter().max_by_key(|queue| {
            let is_old = old.is_some_and(|old| queue.since < old);
            (is_old.then_some(Reverse(queue.since)), queue.bytes)
        });
        due.map(|queue| queue.eldest)
    }
}

/// The class of a fee rate: its highest bit and the two below, so at most 251.
pub(super) fn class_of(fee_rate: u64) -> Class {
    let shift = fee_rate.max(1).ilog2().saturating_sub(2);
    let class = u64::from(shift) * 4 + (fee_rate >> shift);
    Class::try_from(class).unwrap_or(Class::MAX)
}
