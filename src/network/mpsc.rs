//! The channel on which a subscriber receives events: bounded by count and by payload bytes.
//!
//! A reader that falls behind never grows memory and never holds up the network: when the queue is full the
//! oldest entries are dropped and counted, and [`Receiver::missed`] says how many. Entries above a queue's
//! byte limit by themselves are never admitted.

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
    entries: VecDeque<T>,
    bytes: usize,
    max_entries: usize,
    max_bytes: usize,
    missed: u64,
    closed: bool,
    reader: Option<Waker>,
}

/// A channel for at most `max_entries` entries of together at most `max_bytes`.
pub(crate) fn channel<T: Weigh>(max_entries: usize, max_bytes: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Queue {
        entries: VecDeque::new(),
        bytes: 0,
        max_entries,
        max_bytes,
        missed: 0,
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
    /// Queues entries, dropping the oldest where there is no room. False: the receiver is gone.
    pub(crate) fn send_all(&self, entries: impl IntoIterator<Item = T>) -> bool {
        let mut queue = lock(&self.shared);
        if queue.closed {
            return false;
        }
        let before = queue.entries.len();
        entries.into_iter().for_each(|entry| queue.push(entry));
        if queue.entries.len() != before
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
            self.missed += 1;
            return;
        }
        while self.entries.len() >= self.max_entries || self.bytes + weight > self.max_bytes {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= oldest.weight();
            self.missed += 1;
        }
        self.bytes += weight;
        self.entries.push_back(entry);
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
        let mut queue = lock(&self.shared);
        let entry = queue.entries.pop_front()?;
        queue.bytes -= entry.weight();
        Some(entry)
    }

    /// How many entries were dropped since the last call, because this reader was too slow.
    pub fn missed(&mut self) -> u64 {
        std::mem::take(&mut lock(&self.shared).missed)
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(entry) = self.try_recv() {
            return Poll::Ready(Some(entry));
        }
        let mut queue = lock(&self.shared);
        // Sent between the two locks.
        if !queue.entries.is_empty() {
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
        queue.entries.clear();
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
                prop_assert!(queue.entries.len() <= 16 && queue.bytes <= 100);
                prop_assert_eq!(queue.bytes, queue.entries.iter().sum::<usize>());
            }
            let missed = receiver.missed() as usize;
            let mut rest = Vec::new();
            while let Some(weight) = receiver.try_recv() { rest.push(weight); }
            prop_assert_eq!(&weights[missed..], rest.as_slice());
        }
    }
}
