//! The channel on which a subscriber receives events: bounded by count and by payload bytes.
//!
//! A reader that falls behind never grows memory and never holds up the network: when the queue is full, the oldest entry of
//! the kind of which there is most is dropped and counted, and [`Receiver::missed`] says how many. So a flood of one kind pushes out
//! what is of that kind: of those that have less than an even share of the room, nothing is lost. Entries come in the order in which they were
//! sent, whatever their kinds. Entries above a queue's byte limit by themselves are never admitted.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use futures::Stream;

use crate::platform::lock::lock;

/// What a queue counts of its entries.
pub trait Weigh {
    /// The payload's size in bytes; 0 for entries without one.
    fn weight(&self) -> usize;

    /// The name of its kind, of which there are few.
    fn kind(&self) -> &'static str;
}

/// The receiving end. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Mutex<Queue<T>>>,
}

/// The sending end, kept by the network task.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    shared: Arc<Mutex<Queue<T>>>,
}

#[derive(Debug)]
struct Queue<T> {
    kinds: Vec<Kind<T>>,
    entries: usize,
    bytes: usize,
    max_entries: usize,
    max_bytes: usize,
    /// How many were sent: the next one's place among all.
    sent: u64,
    closed: bool,
    reader: Option<Waker>,
}

/// What waits of one kind.
#[derive(Debug)]
struct Kind<T> {
    name: &'static str,
    /// Each with its place among all.
    entries: VecDeque<(u64, T)>,
    bytes: usize,
    missed: u64,
}

/// A channel for at most `max_entries` entries of together at most `max_bytes`.
pub(crate) fn channel<T: Weigh>(max_entries: usize, max_bytes: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Queue {
        kinds: Vec::new(),
        entries: 0,
        bytes: 0,
        max_entries,
        max_bytes,
        sent: 0,
        closed: false,
        reader: None,
    };
    let shared = Arc::new(Mutex::new(queue));
    (
        Sender {
            shared: Arc::clone(&shared),
        },
        Receiver { shared },
    )
}

impl<T: Weigh> Sender<T> {
    /// Queues entries, dropping others where there is no room. False: the receiver is gone.
    pub(crate) fn send_all(&self, entries: impl IntoIterator<Item = T>) -> bool {
        let mut queue = lock(&self.shared);
        if queue.closed {
            return false;
        }
        let before = queue.sent;
        entries.into_iter().for_each(|entry| queue.push(entry));
        if queue.sent != before
            && let Some(reader) = queue.reader.take()
        {
            drop(queue);
            reader.wake();
        }
        true
    }

    /// Whether the receiver is gone.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.shared).closed
    }
}

impl<T: Weigh> Queue<T> {
    fn push(&mut self, entry: T) {
        let weight = entry.weight();
        if weight > self.max_bytes {
            self.kind(entry.kind()).missed += 1;
            return;
        }
        while self.entries >= self.max_entries || self.bytes + weight > self.max_bytes {
            let is_full = self.entries >= self.max_entries;
            let most = self.kinds.iter().enumerate().max_by_key(|(_, kind)| {
                if is_full {
                    kind.entries.len()
                } else {
                    kind.bytes
                }
            });
            let Some((most, _)) = most else {
                break;
            };
            if self.pop(most).is_none() {
                break;
            }
            if let Some(kind) = self.kinds.get_mut(most) {
                kind.missed += 1;
            }
        }
        let place = self.sent;
        self.sent += 1;
        self.entries += 1;
        self.bytes += weight;
        let kind = self.kind(entry.kind());
        kind.bytes += weight;
        kind.entries.push_back((place, entry));
    }

    fn kind(&mut self, name: &'static str) -> &mut Kind<T> {
        let known = self.kinds.iter().position(|kind| kind.name == name);
        let at = known.unwrap_or_else(|| {
            self.kinds.push(Kind {
                name,
                entries: VecDeque::new(),
                bytes: 0,
                missed: 0,
            });
            self.kinds.len() - 1
        });
        &mut self.kinds[at]
    }

    /// The one that was sent first.
    fn pop_first(&mut self) -> Option<T> {
        let first = |kind: &Kind<T>| kind.entries.front().map(|(place, _)| *place);
        let kinds = self.kinds.iter().enumerate();
        let (_, at) = kinds
            .filter_map(|(at, kind)| Some((first(kind)?, at)))
            .min()?;
        self.pop(at)
    }

    /// The oldest of a kind.
    fn pop(&mut self, at: usize) -> Option<T> {
        let kind = self.kinds.get_mut(at)?;
        let (_, entry) = kind.entries.pop_front()?;
        let weight = entry.weight();
        kind.bytes -= weight;
        self.bytes -= weight;
        self.entries -= 1;
        Some(entry)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared);
        queue.closed = true;
        if let Some(reader) = queue.reader.take() {
            drop(queue);
            reader.wake();
        }
    }
}

impl<T: Weigh> Receiver<T> {
    /// The next entry; `None` once the node has ended and the queue is empty.
    pub async fn recv(&mut self) -> Option<T> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next entry if one waits.
    pub fn try_recv(&mut self) -> Option<T> {
        lock(&self.shared).pop_first()
    }

    /// How many entries were dropped since the last call, because this reader was too slow.
    pub fn missed(&mut self) -> u64 {
        let mut queue = lock(&self.shared);
        let kinds = queue.kinds.iter_mut();
        kinds.map(|kind| std::mem::take(&mut kind.missed)).sum()
    }

    /// The same by kind, those alone of which some were: for events [`NetworkEvent::name`](crate::NetworkEvent::name). Both calls count anew
    /// from here.
    pub fn missed_kinds(&mut self) -> impl Iterator<Item = (&'static str, u64)> + use<T> {
        let mut queue = lock(&self.shared);
        let missed = |kind: &mut Kind<T>| (kind.name, std::mem::take(&mut kind.missed));
        let missed: Vec<_> = queue.kinds.iter_mut().map(missed).collect();
        missed.into_iter().filter(|(_, count)| *count > 0)
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(entry) = self.try_recv() {
            return Poll::Ready(Some(entry));
        }
        let mut queue = lock(&self.shared);
        // Sent between the two locks.
        if queue.entries > 0 {
            cx.waker().wake_by_ref();
        } else if queue.closed {
            return Poll::Ready(None);
        }
        queue.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T: Weigh> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_recv(cx)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared);
        queue.closed = true;
        queue.kinds.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use futures::FutureExt;
    use proptest::prelude::*;

    impl Weigh for usize {
        fn weight(&self) -> usize {
            *self
        }

        fn kind(&self) -> &'static str {
            "number"
        }
    }

    /// A name, a weight and a number.
    #[derive(Clone, Debug, PartialEq)]
    struct Named(&'static str, usize, usize);

    impl Weigh for Named {
        fn weight(&self) -> usize {
            self.1
        }

        fn kind(&self) -> &'static str {
            self.0
        }
    }

    #[test]
    fn a_flood_pushes_out_its_own_kind_and_the_order_stays() {
        for (max_entries, max_bytes) in [(10, 1000), (1000, 100)] {
            let (sender, mut receiver) = channel(max_entries, max_bytes);
            let flood = |numbers: std::ops::Range<usize>| numbers.map(|at| Named("flood", 10, at));
            sender.send_all([Named("state", 10, 0)]);
            sender.send_all(flood(1..100));
            sender.send_all([Named("state", 10, 100)]);
            sender.send_all(flood(101..103));
            let missed: Vec<_> = receiver.missed_kinds().collect();
            assert_eq!(missed, [("flood", 93)]);
            assert_eq!(receiver.missed_kinds().count(), 0);
            let rest: Vec<_> = std::iter::from_fn(|| receiver.try_recv()).collect();
            let order: Vec<_> = rest.iter().map(|Named(_, _, at)| *at).collect();
            assert_eq!(order, [0, 94, 95, 96, 97, 98, 99, 100, 101, 102]);
        }
    }

    #[test]
    fn the_oldest_go_first_and_are_counted() {
        let (sender, mut receiver) = channel::<usize>(10, 100);
        for weight in [60, 30, 20] {
            assert!(sender.send_all([weight]));
        }
        assert_eq!(receiver.missed(), 1);
        assert_eq!(
            (
                receiver.try_recv(),
                receiver.try_recv(),
                receiver.try_recv()
            ),
            (Some(30), Some(20), None)
        );
        assert!(sender.send_all([101]), "a giant is not admitted");
        assert_eq!(
            (receiver.try_recv(), receiver.missed(), receiver.missed()),
            (None, 1, 0)
        );
    }

    #[test]
    fn the_end_is_seen_on_both_sides() {
        let (sender, mut receiver) = channel::<usize>(10, 100);
        sender.send_all([1]);
        drop(sender);
        assert_eq!(receiver.recv().now_or_never(), Some(Some(1)));
        assert_eq!(receiver.recv().now_or_never(), Some(None));
        let (sender, receiver) = channel::<usize>(10, 100);
        drop(receiver);
        assert!(sender.is_closed() && !sender.send_all([1]));
    }

    proptest! {
        #[test]
        fn limits_hold_and_nothing_is_lost_uncounted(weights in proptest::collection::vec(0usize..50, 0..200)) {
            let (sender, mut receiver) = channel::<usize>(16, 100);
            for weight in &weights {
                sender.send_all([*weight]);
                let queue = lock(&sender.shared);
                prop_assert!(queue.entries <= 16 && queue.bytes <= 100);
                let entries = queue.kinds.iter().flat_map(|kind| &kind.entries);
                prop_assert_eq!(queue.bytes, entries.map(|(_, weight)| weight).sum::<usize>());
            }
            let missed = receiver.missed() as usize;
            let mut rest = Vec::new();
            while let Some(weight) = receiver.try_recv() { rest.push(weight); }
            prop_assert_eq!(&weights[missed..], rest.as_slice());
        }

        #[test]
        fn what_has_less_than_its_share_is_kept_and_all_come_in_order(
            sent in proptest::collection::vec((0usize..4, 0usize..20), 0..300),
        ) {
            let names = ["a", "b", "c", "d"];
            let (sender, mut receiver) = channel(40, 200);
            let sent: Vec<_> = sent.into_iter().enumerate()
                .map(|(at, (name, weight))| Named(names[name], weight, at)).collect();
            for entry in &sent {
                sender.send_all([entry.clone()]);
                let queue = lock(&sender.shared);
                prop_assert!(queue.entries <= 40 && queue.bytes <= 200);
            }
            let missed: Vec<_> = receiver.missed_kinds().collect();
            let rest: Vec<_> = std::iter::from_fn(|| receiver.try_recv()).collect();
            prop_assert!(rest.is_sorted_by_key(|Named(_, _, at)| *at));
            for name in names {
                let of = |list: &[Named]| -> Vec<Named> {
                    list.iter().filter(|entry| entry.0 == name).cloned().collect()
                };
                let (all, kept) = (of(&sent), of(&rest));
                let lost = missed.iter().find(|(of, _)| *of == name).map_or(0, |(_, count)| *count as usize);
                prop_assert_eq!(&all[lost..], kept.as_slice());
                let bytes: usize = all.iter().map(Weigh::weight).sum();
                // With the largest one that may come, still no more than an even share.
                if all.len() < 40 / 4 && bytes + 20 <= 200 / 4 {
                    prop_assert_eq!(lost, 0);
                }
            }
        }
    }
}
