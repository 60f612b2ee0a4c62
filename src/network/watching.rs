//! Drives the watching of the state ([`crate::sync::watch`]): looks which state is trusted whenever that may be another one, asks, and hands out what is verified.
//!
//! It begins with the first watch and ends with the node, beside whose task it runs, whoever opened the watch. The chain is asked after each block and vote that it has taken, and each step of sync; one look is under
//! way at a time, and what happens meanwhile leads to one more.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::{self, BoxFuture, Either},
    stream::FuturesUnordered,
};
use tokio::sync::{
    mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};

use super::{
    NetworkEvent, mpsc,
    questions::Questions,
    shared::Command,
    state_watch::{Feeder, StateWatch},
};
use crate::{
    chain::{ItemKind, StateBatch, StateRequest, StateRoot, rules},
    error::ProtocolError,
    platform::{self, Delay},
    sync::watch::{Action, Outcome, Question, Source, WatchId, Watches},
};

/// So many events are taken at once.
const MOST_HEARD: usize = 1024;

/// Runs it until the node ends.
pub(crate) type Watcher = fn(Questions, Inbox) -> BoxFuture<'static, ()>;

/// What it hears of.
pub(crate) struct Inbox {
    pub(super) orders: Receiver<Order>,
    pub(super) events: mpsc::Receiver<NetworkEvent>,
    /// Random.
    pub(super) secret: [u8; 16],
}

/// What it is told.
pub(crate) enum Order {
    /// Keys are to be watched, which can be; `None` where as many watches are open as may be.
    Open {
        keys: Vec<Bytes>,
        reply: oneshot::Sender<Option<StateWatch>>,
    },
    /// Another state may be trusted, by an answer to somebody else's question.
    Look,
}

/// Which events matter here.
pub(super) fn wants(event: &NetworkEvent) -> bool {
    match event {
        NetworkEvent::ItemAccepted { item, .. } => item.kind() != ItemKind::Transaction,
        NetworkEvent::SyncProgress { .. }
        | NetworkEvent::SnapshotTaken { .. }
        | NetworkEvent::Woke { .. } => true,
        event => is_of_peers(event),
    }
}

fn is_of_peers(event: &NetworkEvent) -> bool {
    matches!(
        event,
        NetworkEvent::PeerConnected(_) | NetworkEvent::PeerDisconnected { .. }
    )
}

/// See [`Watcher`].
pub(crate) fn run(questions: Questions, inbox: Inbox) -> BoxFuture<'static, ()> {
    Watching::new(questions, &inbox.secret).serve(inbox).boxed()
}

/// What came of asking somebody.
struct Answered {
    number: u64,
    source: Source,
    outcome: Outcome,
    /// The state that is trusted since then.
    trusted: Option<StateRoot>,
}

/// See the module's documentation.
struct Watching {
    questions: Questions,
    core: Watches,
    feeders: BTreeMap<WatchId, Feeder>,
    /// Watches that were let go. One id each, so no more than there are watches, which are bounded.
    closes: (UnboundedSender<WatchId>, UnboundedReceiver<WatchId>),
    asks: FuturesUnordered<BoxFuture<'static, Answered>>,
    /// The one that is under way, and whether another one is wanted after it.
    looks: FuturesUnordered<BoxFuture<'static, Option<StateRoot>>>,
    looks_again: bool,
}

impl Watching {
    fn new(questions: Questions, secret: &[u8; 16]) -> Self {
        Self {
            questions,
            core: Watches::new(secret),
            feeders: BTreeMap::new(),
            closes: unbounded_channel(),
            asks: FuturesUnordered::new(),
            looks: FuturesUnordered::new(),
            looks_again: false,
        }
    }

    async fn serve(mut self, mut inbox: Inbox) {
        loop {
            self.act().await;
            let now = platform::now();
            let deadline = self.core.next_deadline();
            let mut time = match deadline {
                Some(at) => Either::Left(Delay::new(at.saturating_duration_since(now)).fuse()),
                None => Either::Right(future::pending().fuse()),
            };
            futures::select! {
                event = inbox.events.recv().fuse() => match event {
                    Some(event) => self.hear(event, &mut inbox.events),
                    None => return,
                },
                order = inbox.orders.recv().fuse() => match order {
                    Some(Order::Open { keys, reply }) => self.open(keys, reply).await,
                    Some(Order::Look) => self.look(),
                    None => return,
                },
                closed = self.closes.1.recv().fuse() => {
                    if let Some(id) = closed {
                        self.close(id);
                    }
                }
                state = self.looks.select_next_some() => {
                    self.trusted(state);
                    if std::mem::take(&mut self.looks_again) {
                        self.look();
                    }
                }
                answered = self.asks.select_next_some() => {
                    self.trusted(answered.trusted);
                    let Answered { number, source, outcome, .. } = answered;
                    self.core.answered(number, source, outcome, platform::now());
                }
                () = time => self.core.on_time(platform::now()),
            }
        }
    }

    async fn open(&mut self, keys: Vec<Bytes>, reply: oneshot::Sender<Option<StateWatch>>) {
        // Who has ended a watch before has room for another one.
        while let Ok(id) = self.closes.1.try_recv() {
            self.close(id);
        }
        // Where nobody watches nobody looks.
        let state = look(self.questions.clone()).await;
        self.trusted(state);
        if self.core.is_empty() {
            self.meet();
        }
        let watch = self.core.open(keys, platform::now()).map(|id| {
            let (feeder, watch) = StateWatch::new(id, self.closes.0.clone());
            self.feeders.insert(id, feeder);
            watch
        });
        // What nobody takes any more closes itself.
        let _ = reply.send(watch);
    }

    fn close(&mut self, id: WatchId) {
        self.feeders.remove(&id);
        self.core.close(id);
    }

    /// This has happened, and what waits behind it: of many comings and goings it learns at once.
    fn hear(&mut self, first: NetworkEvent, waiting: &mut mpsc::Receiver<NetworkEvent>) {
        let (mut meets, mut looks) = (false, false);
        let more = std::iter::from_fn(|| waiting.try_recv()).take(MOST_HEARD);
        for event in std::iter::once(first).chain(more) {
            match event {
                NetworkEvent::Woke { .. } => self.core.woke(platform::now()),
                event if is_of_peers(&event) => meets = true,
                _ => looks = true,
            }
        }
        if meets && !self.core.is_empty() {
            self.meet();
        }
        if looks {
            self.look();
        }
    }

    /// Learns who can be asked, which is a walk over all peers.
    fn meet(&mut self) {
        let table = self.questions.shared.peers();
        let peers = table.shown().filter(|peer| peer.selkie);
        let peers: Vec<_> = peers.map(|peer| peer.peer_id).collect();
        drop(table);
        self.core.peers(peers, platform::now());
    }

    fn look(&mut self) {
        if !self.looks.is_empty() {
            self.looks_again = true;
        } else if !self.core.is_empty() {
            self.looks.push(look(self.questions.clone()).boxed());
        }
    }

    fn trusted(&mut self, state: Option<StateRoot>) {
        if let Some(state) = state {
            self.core.trusted(state, platform::now());
        }
    }

    async fn act(&mut self) {
        while let Some(action) = self.core.action() {
            match action {
                Action::Ask(number, source, question) => {
                    let asked = ask(self.questions.clone(), number, source, question);
                    self.asks.push(asked.boxed());
                }
                Action::Verified(id, change) => {
                    if let Some(feeder) = self.feeders.get(&id) {
                        feeder.verified(change);
                    }
                }
                Action::Unverified(height, reason) => {
                    let told = Command::Unverified { height, reason };
                    // A node that has ended says so by itself.
                    let _ = self.questions.tell(told).await;
                }
            }
        }
    }
}

async fn look(questions: Questions) -> Option<StateRoot> {
    let chain = Arc::clone(&questions.shared.rules);
    let look = async move { chain.trusted_state().await };
    rules::run(&*questions.shared.rules, look).await.flatten()
}

async fn ask(questions: Questions, number: u64, source: Source, question: Question) -> Answered {
    let mut trusted = None;
    let outcome = match (source, question) {
        (Source::Peer(peer), Question::Newest(key, known)) => {
            let request = StateRequest { key, height: None };
            match questions.state(peer, request).await {
                Ok(answer) => {
                    trusted = look(questions).await;
                    shown(answer.height, trusted.as_ref(), known)
                }
                Err(error) => failed(&error),
            }
        }
        (Source::Peer(peer), Question::Batch(batch)) => {
            let values = questions.batch(peer, batch).await;
            values.map_or_else(|error| failed(&error), Outcome::Proven)
        }
        (Source::Here, Question::Batch(batch)) => here(&questions, batch).await,
        (Source::Here, Question::Newest(..)) => Outcome::Failed(String::new()),
    };
    Answered {
        number,
        source,
        outcome,
        trusted,
    }
}

/// What an answer about the newest state is worth that holds: what is trusted now somebody else may have shown meanwhile.
fn shown(height: u64, trusted: Option<&StateRoot>, known: Option<u64>) -> Outcome {
    let is_newer = Some(height) > known && trusted.is_some_and(|state| state.height >= height);
    if is_newer {
        Outcome::Learnt
    } else if Some(height) == known {
        Outcome::Known
    } else {
        Outcome::Failed("it knows of no newer final state".to_owned())
    }
}

fn failed(error: &ProtocolError) -> Outcome {
    let reason = error.to_string();
    match error {
        ProtocolError::Busy | ProtocolError::Unsent => Outcome::Held(reason),
        _ => Outcome::Failed(reason),
    }
}

/// What this node's own chain has.
async fn here(questions: &Questions, batch: StateBatch) -> Outcome {
    let chain = Arc::clone(&questions.shared.rules);
    let prove = async move {
        let proven = chain.prove_state(&batch).await?;
        Some(proven.values)
    };
    let proven = rules::run(&*questions.shared.rules, prove).await.flatten();
    proven.map_or_else(
        || Outcome::Failed("this node does not have the state".to_owned()),
        Outcome::Proven,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn only_who_shows_a_newer_state_itself_has_taught_it() {
        let at = |height| {
            let root = Bytes::from_static(b"root");
            StateRoot { height, root }
        };
        let now = at(9);
        let old = |outcome| matches!(outcome, Outcome::Failed(_));
        assert_eq!(shown(9, Some(&now), Some(7)), Outcome::Learnt);
        assert_eq!(shown(9, Some(&now), None), Outcome::Learnt);
        // A header has taught it meanwhile.
        assert_eq!(shown(7, Some(&now), Some(7)), Outcome::Known);
        assert!(old(shown(6, Some(&now), Some(7))));
        // The chain did not take it for final.
        assert!(old(shown(9, Some(&at(7)), Some(7))) && old(shown(9, None, None)));
    }
}
