//! What JavaScript pulls of a node: its state events, and items by subscription.
//!
//! A slow reader grows no memory: the queues are bounded, and what was dropped from one is told with what comes next. Bounds:
//! [`MAX_SUBSCRIPTIONS`]; a pull moves [`MAX_ITEMS`] items and about [`MAX_BYTES`] at most.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use tokio::sync::{Mutex, Semaphore};
use wasm_bindgen::JsValue;

use super::convert;
use crate::{
    NetworkEvent, P2PNetworkManager,
    chain::ItemKind,
    error::NetworkError,
    mpsc::{self, Weigh},
};

/// Subscriptions at once; more is a leak in the caller.
pub(super) const MAX_SUBSCRIPTIONS: usize = 200;
/// What one pull moves to JavaScript at most: each costs a message to the page, where the node is in a worker.
const MAX_ITEMS: u32 = 64;
const MAX_BYTES: usize = 64 << 10;

/// What is no data, for the one reader of it.
pub(super) struct StateEvents {
    queue: mpsc::Receiver<NetworkEvent>,
    /// Taken from the queue, and told after the loss of those before it.
    taken: Option<NetworkEvent>,
}

/// The readers of items, by their numbers.
#[derive(Default)]
pub(super) struct Subscriptions {
    open: RefCell<HashMap<u32, Rc<Subscription>>>,
    last: Cell<u32>,
}

/// One reader of items. Ends when `over` closes.
pub(super) struct Subscription {
    wanted: Wanted,
    events: Mutex<mpsc::Receiver<NetworkEvent>>,
    over: Semaphore,
}

/// What a reader wants.
pub(super) enum Wanted {
    Items(ItemKind),
    Topic { name: String, validate: bool },
}

impl StateEvents {
    pub(super) fn new(queue: mpsc::Receiver<NetworkEvent>) -> Self {
        Self { queue, taken: None }
    }

    /// The next one, or that some were dropped before it; undefined after the end.
    pub(super) async fn next(&mut self) -> JsValue {
        loop {
            let event = match self.taken.take() {
                Some(event) => Some(event),
                None => self.queue.recv().await,
            };
            let missed: Vec<_> = self.queue.missed_kinds().collect();
            if !missed.is_empty() {
                self.taken = event;
                return convert::lagged(&missed);
            }
            let Some(event) = event else {
                return JsValue::UNDEFINED;
            };
            if let Some(event) = convert::state_event(&event) {
                return event;
            }
        }
    }
}

impl Subscriptions {
    /// One more reader of a node's: its number.
    pub(super) fn open(&self, manager: &P2PNetworkManager, wanted: Wanted) -> Result<u32, JsValue> {
        let mut open = self.open.borrow_mut();
        if open.len() >= MAX_SUBSCRIPTIONS {
            let message = "200 subscriptions are open; end some (return() or an AbortSignal)";
            return Err(convert::failure("too-many-subscriptions", false, message));
        }
        let id = self.last.get().wrapping_add(1);
        self.last.set(id);
        let events = match &wanted {
            Wanted::Items(kind) => {
                let kind = *kind;
                manager.subscribe(move |event| {
                    matches!(event, NetworkEvent::ItemAccepted { item, .. } if item.kind() == kind)
                })
            }
            Wanted::Topic { name, .. } => {
                let topic = name.clone();
                manager.subscribe(move |event| {
                    matches!(event, NetworkEvent::TopicMessage(message) if message.topic == topic)
                })
            }
        };
        let subscription = Subscription {
            wanted,
            events: Mutex::new(events),
            over: Semaphore::new(0),
        };
        open.insert(id, Rc::new(subscription));
        Ok(id)
    }

    pub(super) fn get(&self, id: u32) -> Option<Rc<Subscription>> {
        self.open.borrow().get(&id).cloned()
    }

    /// Ends one; the topic that it was of, if it was of one.
    pub(super) fn end(&self, id: u32) -> Option<String> {
        let ended = self.open.borrow_mut().remove(&id)?;
        ended.over.close();
        match &ended.wanted {
            Wanted::Topic { name, .. } => Some(name.clone()),
            Wanted::Items(_) => None,
        }
    }

    pub(super) fn end_all(&self) {
        for (_, subscription) in self.open.borrow_mut().drain() {
            subscription.over.close();
        }
    }

    /// Takes part in a topic, or no more, as its readers want it together.
    pub(super) async fn settle(
        self: Rc<Self>,
        manager: P2PNetworkManager,
        topic: String,
    ) -> Result<(), NetworkError> {
        // Looked at no sooner than it is told: so the last one to tell is the one who knows all.
        let mut validate = None;
        for subscription in self.open.borrow().values() {
            match &subscription.wanted {
                Wanted::Topic { name, validate: by } if *name == topic => {
                    *validate.get_or_insert(false) |= by;
                }
                _ => {}
            }
        }
        match validate {
            Some(validate) => manager.subscribe_topic(topic, validate).await,
            None => manager.unsubscribe_topic(topic).await,
        }
    }
}

impl Subscription {
    /// The next items, as many as there are within the limits of a pull; undefined after the end.
    pub(super) async fn next(&self) -> JsValue {
        let read = async {
            let mut events = self.events.lock().await;
            let (items, mut bytes) = (js_sys::Array::new(), 0);
            let mut next = events.recv().await;
            while let Some(event) = next {
                let missed = events.missed();
                let item = match &event {
                    NetworkEvent::TopicMessage(message) => convert::topic_item(message, missed),
                    event => convert::item(event, missed).unwrap_or(JsValue::UNDEFINED),
                };
                items.push(&item);
                bytes += event.weight();
                let room = items.length() < MAX_ITEMS && bytes < MAX_BYTES;
                next = if room { events.try_recv() } else { None };
            }
            if items.length() == 0 {
                return JsValue::UNDEFINED;
            }
            items.into()
        };
        // The semaphore has no permits: its future ends only when the subscription does.
        let over = async {
            let _ = self.over.acquire().await;
            JsValue::UNDEFINED
        };
        futures::future::select(Box::pin(read), Box::pin(over))
            .await
            .factor_first()
            .0
    }
}
