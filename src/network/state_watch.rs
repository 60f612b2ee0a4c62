//! The end of a watch that its reader holds.
//!
//! Only the newest values count: what a slow reader has not read yet is put together with what comes, so nothing grows but what the keys' values take.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::{Stream, task::AtomicWaker};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    chain::StateRoot,
    platform::lock::lock,
    sync::watch::{StateChange, WatchId},
};

/// Verified values of keys as they change ([`crate::P2PNetworkManager::watch_state`]). Dropping it ends the watch.
#[derive(Debug)]
pub struct StateWatch {
    slot: Arc<Slot>,
    id: WatchId,
    /// One word goes through it, at the end.
    closes: UnboundedSender<WatchId>,
}

/// The other end; the reader is told of its drop.
#[derive(Debug)]
pub(super) struct Feeder(Arc<Slot>);

#[derive(Debug, Default)]
struct Slot {
    content: Mutex<Content>,
    reader: AtomicWaker,
}

#[derive(Debug, Default)]
struct Content {
    unread: Option<StateChange>,
    verified: Option<StateRoot>,
    is_over: bool,
}

impl StateWatch {
    pub(super) fn new(id: WatchId, closes: UnboundedSender<WatchId>) -> (Feeder, Self) {
        let slot = Arc::<Slot>::default();
        (Feeder(Arc::clone(&slot)), Self { slot, id, closes })
    }

    /// What has changed since the last call: at first all keys, as soon as they are verified. Changes that came meanwhile come as one, with the newest
    /// values; a key that has changed and changed back is named with what it had before. `None`: the node has ended. A call that is dropped loses nothing.
    pub async fn recv(&mut self) -> Option<StateChange> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// The newest state in which all keys were verified, whether or not any had changed; `None`: none was yet.
    pub fn verified(&self) -> Option<StateRoot> {
        lock(&self.slot.content).verified.clone()
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<StateChange>> {
        self.slot.reader.register(cx.waker());
        let mut content = lock(&self.slot.content);
        match content.unread.take() {
            None if !content.is_over => Poll::Pending,
            unread => Poll::Ready(unread),
        }
    }
}

impl Stream for StateWatch {
    type Item = StateChange;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<StateChange>> {
        self.poll(cx)
    }
}

impl Drop for StateWatch {
    fn drop(&mut self) {
        // A node that has ended watches nothing.
        let _ = self.closes.send(self.id);
    }
}

impl Feeder {
    /// All keys are verified in this state, and these have changed.
    pub(super) fn verified(&self, change: StateChange) {
        let mut content = lock(&self.0.content);
        content.verified = Some(change.at.clone());
        if change.values.is_empty() && content.unread.is_none() {
            return;
        }
        let unread = content.unread.get_or_insert_default();
        unread.at = change.at;
        unread.values.extend(change.values);
        drop(content);
        self.0.reader.wake();
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        lock(&self.0.content).is_over = true;
        self.0.reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt;
    use tokio::sync::mpsc;

    use super::*;
    use crate::platform::test;

    fn change(height: u64, values: &[(&'static str, &'static str)]) -> StateChange {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let values = values.iter().map(|(key, value)| (bytes(key), bytes(value)));
        let (at, values) = (
            StateRoot {
                height,
                root: bytes("root"),
            },
            values.collect(),
        );
        StateChange { at, values }
    }

    #[test]
    fn a_slow_reader_gets_the_newest_of_all_and_then_the_end() {
        let (closes, mut closed) = mpsc::unbounded_channel();
        let (feeder, mut watch) = StateWatch::new(7, closes);
        assert_eq!(
            (watch.recv().now_or_never(), watch.verified()),
            (None, None)
        );
        feeder.verified(change(1, &[("a", "1"), ("b", "1")]));
        feeder.verified(change(2, &[("b", "2")]));
        feeder.verified(change(3, &[]));
        let read = watch.recv().now_or_never().expect("it waits");
        assert_eq!(read, Some(change(3, &[("a", "1"), ("b", "2")])));
        // Nobody knows what was read last: what has changed and changed back is told.
        feeder.verified(change(4, &[("b", "3")]));
        feeder.verified(change(4, &[("b", "2")]));
        let read = watch.recv().now_or_never().expect("it waits");
        assert_eq!(read, Some(change(4, &[("b", "2")])));
        // What changes nothing is no news.
        feeder.verified(change(4, &[]));
        assert_eq!(watch.recv().now_or_never(), None);
        assert_eq!(watch.verified().expect("it was").height, 4);
        feeder.verified(change(5, &[("a", "5")]));
        drop(feeder);
        let last = watch.recv().now_or_never().expect("it waits");
        assert_eq!(last, Some(change(5, &[("a", "5")])));
        assert_eq!(watch.recv().now_or_never(), Some(None));
        drop(watch);
        assert_eq!(closed.try_recv(), Ok(7));
    }
}
