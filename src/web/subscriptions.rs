//! What JavaScript pulls of a node: its state events, and by subscription items and what changes of the chain's state.
//!
//! A slow reader grows no memory: the queues are bounded, and what was dropped from one is told with what comes next. Bounds:
//! [`MAX_SUBSCRIPTIONS`]; a pull moves [`MAX_ITEMS`] items and about [`MAX_BYTES`] at most.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use js_sys::Array;
use tokio::sync::{Mutex, Semaphore};
use wasm_bindgen::JsValue;

use super::convert;
use crate::{
    NetworkEvent, P2PNetworkManager, StateWatch,
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

/// The readers, by their numbers.
#[derive(Default)]
pub(super) struct Subscriptions {
    open: RefCell<HashMap<u32, Rc<Subscription>>>,
    last: Cell<u32>,
}

/// One reader. Ends when `over` closes.
pub(super) struct Subscription {
    /// The topic that it is of, if it is of one, and whether it validates.
    topic: Option<(String, bool)>,
    source: Source,
    over: Semaphore,
}

/// Where it reads.
enum Source {
    Items(Mutex<mpsc::Receiver<NetworkEvent>>),
    State(Mutex<StateWatch>),
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
        self.has_room()?;
        let (topic, events) = match wanted {
            Wanted::Items(kind) => {
                let events = manager.subscribe(move |event| {
                    matches!(event, NetworkEvent::ItemAccepted { item, .. } if item.kind() == kind)
                });
                (None, events)
            }
            Wanted::Topic { name, validate } => {
                let topic = name.clone();
                let events = manager.subscribe(move |event| {
                    matches!(event, NetworkEvent::TopicMessage(message) if message.topic == topic)
                });
                (Some((name, validate)), events)
            }
        };
        Ok(self.keep(topic, Source::Items(Mutex::new(events))))
    }

    /// One that reads what changes of the state: its number.
    pub(super) fn watch(&self, watch: StateWatch) -> Result<u32, JsValue> {
        self.has_room()?;
        Ok(self.keep(None, Source::State(Mutex::new(watch))))
    }

    fn has_room(&self) -> Result<(), JsValue> {
        if self.open.borrow().len() < MAX_SUBSCRIPTIONS {
            return Ok(());
        }
        let message = "200 subscriptions are open; end some (return() or an AbortSignal)";
        Err(convert::failure("too-many-subscriptions", false, message))
    }

    fn keep(&self, topic: Option<(String, bool)>, source: Source) -> u32 {
        let id = self.last.get().wrapping_add(1);
        self.last.set(id);
        let over = Semaphore::new(0);
        let subscription = Subscription {
            topic,
            source,
            over,
        };
        self.open.borrow_mut().insert(id, Rc::new(subscription));
        id
    }

    pub(super) fn get(&self, id: u32) -> Option<Rc<Subscription>> {
        self.open.borrow().get(&id).cloned()
    }

    /// Ends one; the topic that it was of, if it was of one.
    pub(super) fn end(&self, id: u32) -> Option<String> {
        let ended = self.open.borrow_mut().remove(&id)?;
        ended.over.close();
        ended.topic.as_ref().map(|(name, _)| name.clone())
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
            if let Some((name, by)) = &subscription.topic
                && *name == topic
            {
                *validate.get_or_insert(false) |= by;
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
            let items = match &self.source {
                Source::Items(events) => read(&mut *events.lock().await).await,
                Source::State(watch) => {
                    let change = watch.lock().await.recv().await;
                    change.iter().map(convert::state_change).collect()
                }
            };
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

/// As many as there are within the limits of a pull; none after the end.
async fn read(events: &mut mpsc::Receiver<NetworkEvent>) -> Array {
    let (items, mut bytes) = (Array::new(), 0);
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
    items
}
