//! Queues of the pool's places, one for each class of fee rates.
//!
//! Four classes to each doubling, like the buckets of an HdrHistogram; a class is a queue in order of arrival. The links
//! between neighbours are the slab's; here are only the ends.

use super::Place;

/// A class of fee rates; a higher one pays more.
pub(super) type Class = u8;

/// A queue for each class.
#[derive(Debug)]
pub(super) struct Classes {
    queues: Box<[Option<Queue>]>,
}

/// The entries of one class, in order of arrival.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) eldest: Place,
    pub(super) youngest: Place,
    /// What they cost.
    pub(super) bytes: usize,
}

impl Classes {
    pub(super) fn new() -> Self {
        Self {
            queues: (0..=Class::MAX).map(|_| None).collect(),
        }
    }

    pub(super) fn get(&self, class: Class) -> Option<&Queue> {
        self.queues.get(usize::from(class))?.as_ref()
    }

    /// The classes that are not empty, the lowest first.
    pub(super) fn taken(&self) -> impl DoubleEndedIterator<Item = (Class, &Queue)> {
        (0..=Class::MAX).filter_map(|class| Some((class, self.get(class)?)))
    }

    /// Puts a place at the end of its class.
    pub(super) fn push(&mut self, class: Class, place: Place, cost: usize) {
        let Some(queue) = self.queues.get_mut(usize::from(class)) else {
            return;
        };
        let queue = queue.get_or_insert(Queue {
            eldest: place,
            youngest: place,
            bytes: 0,
        });
        queue.youngest = place;
        queue.bytes += cost;
    }

    /// Takes out a place that had these neighbours.
    pub(super) fn unlink(
        &mut self,
        class: Class,
        neighbours: (Option<Place>, Option<Place>),
        cost: usize,
    ) {
        let Some(place) = self.queues.get_mut(usize::from(class)) else {
            return;
        };
        match (neighbours, place) {
            ((None, None), place) => *place = None,
            ((elder, younger), Some(queue)) => {
                queue.bytes -= cost;
                queue.eldest = elder.map_or(younger, |_| None).unwrap_or(queue.eldest);
                queue.youngest = younger.map_or(elder, |_| None).unwrap_or(queue.youngest);
            }
            (_, None) => {}
        }
    }
}

/// The class of a fee rate: its highest bit and the two below, so at most 251.
pub(super) fn class_of(fee_rate: u64) -> Class {
    let shift = fee_rate.max(1).ilog2().saturating_sub(2);
    let class = u64::from(shift) * 4 + (fee_rate >> shift);
    Class::try_from(class).unwrap_or(Class::MAX)
}
