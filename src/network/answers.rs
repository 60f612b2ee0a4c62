//! Questions of peers about state: they wait for room, then for the application, and their answers for who asked.
//!
//! An answer may have megabytes, and a peer may take none of it. So before a question is answered there is room for the longest
//! answer there may be; once the answer is there, it holds what it has, until it is written. Accounts have the room in turns, and
//! an answer that is not read gives way to who waits (`traffic/room.rs`), or ends when the request times out
//! (`protocol.request_response_config.request_timeout`). A question whose asker gave up is not answered, wherever it waits. One that is
//! not begun within half of that time is told to come later: silence would be held against this node.
//!
//! Bounds: questions, of all peers together and of each (`protocol.validation.queries`); bytes of answers, of all together
//! (`protocol.request_response_config.max_bytes`) and of each account (`max_connection_bytes`); answers that the application
//! works at (`protocol.validation.max_queries_in_flight`).

use std::{collections::HashMap, hash::Hash, pin::pin, sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{self, AbortHandle, BoxFuture, Either},
};
use libp2p::{
    PeerId,
    request_response::{InboundRequestId, ResponseChannel},
};
use tokio::sync::Semaphore;

use super::{
    codec::{Frame, GRACE},
    room::{LongFrames, Place},
};
use crate::{
    chain::StateResponse,
    config::{RequestResponseConfig, Share, ValidationConfig},
    intake::NoRoom,
    peers::Account,
    platform::Delay,
};

/// See the module's documentation. A question has an id, and a way back.
#[derive(Debug)]
pub(crate) struct Answers<Q = InboundRequestId> {
    limits: Share,
    /// Questions of each peer.
    peers: HashMap<PeerId, usize>,
    all: usize,
    /// Ends the waiting of those whose askers gave up.
    waiting: HashMap<Q, AbortHandle>,
    /// The longest answer.
    longest: usize,
    room: LongFrames,
    at_work: Arc<Semaphore>,
    /// How long a question may wait until it is begun.
    patience: Duration,
}

/// What became of a question.
#[derive(Debug)]
pub(crate) struct Answered<Q = InboundRequestId, C = ResponseChannel<Frame>> {
    id: Q,
    peer: PeerId,
    channel: C,
    end: End,
}

/// How a question ends.
#[derive(Debug)]
pub(crate) enum End {
    /// With an answer and its place; without state where there is none, or the application failed.
    Found(Place, Option<StateResponse>),
    /// It was not begun in time.
    Late,
    /// Nobody waits for it.
    GaveUp,
}

impl<Q: Copy + Eq + Hash + Send + 'static> Answers<Q> {
    /// No questions yet.
    pub(crate) fn new(validation: &ValidationConfig, messages: &RequestResponseConfig) -> Self {
        let longest = messages.max_message_size;
        let kib = |bytes: usize| bytes.max(longest).div_ceil(1024);
        let room = kib(messages.max_bytes);
        let most = kib(messages.max_connection_bytes);
        Self {
            limits: validation.queries,
            peers: HashMap::new(),
            all: 0,
            waiting: HashMap::new(),
            longest,
            room: LongFrames::new(room, most, GRACE),
            at_work: Arc::new(Semaphore::new(validation.max_queries_in_flight)),
            patience: messages.request_timeout / 2,
        }
    }

    /// A question is to be answered by this work, which begins when it is polled; what it gives goes to [`Answers::done`].
    ///
    /// # Errors
    /// The way back, and whose limit leaves no room.
    pub(crate) fn ask<C: Send + 'static>(
        &mut self,
        (peer, account): (PeerId, Account),
        id: Q,
        channel: C,
        work: impl Future<Output = Option<StateResponse>> + Send + 'static,
    ) -> Result<BoxFuture<'static, Answered<Q, C>>, (C, NoRoom)> {
        if self.peers.get(&peer).copied().unwrap_or_default() >= self.limits.per_peer {
            return Err((channel, NoRoom::Peer));
        }
        if self.all >= self.limits.all {
            return Err((channel, NoRoom::All));
        }
        *self.peers.entry(peer).or_default() += 1;
        self.all += 1;
        let (room, at_work) = (self.room.clone(), Arc::clone(&self.at_work));
        let (longest, patience) = (self.longest, self.patience);
        let (turn, gives_up) = future::abortable(async move {
            let turn = pin!(async {
                let place = room.enter(account, longest).await;
                (place, at_work.acquire_owned().await)
            });
            match future::select(turn, Delay::new(patience)).await {
                Either::Left((turn, _)) => Some(turn),
                Either::Right(_) => None,
            }
        });
        self.waiting.insert(id, gives_up);
        let answered = async move {
            let end = match turn.await {
                Ok(Some((place, Ok(_at_work)))) => End::Found(place, work.await),
                Ok(None) => End::Late,
                _ => End::GaveUp,
            };
            Answered {
                id,
                peer,
                channel,
                end,
            }
        };
        Ok(answered.boxed())
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn gave_up(&self, id: &Q) {
        if let Some(waits) = self.waiting.get(id) {
            waits.abort();
        }
    }

    /// A question is over: the way back, and how it ended.
    pub(crate) fn done<C>(&mut self, answered: Answered<Q, C>) -> (C, End) {
        self.waiting.remove(&answered.id);
        self.all = self.all.saturating_sub(1);
        if let Some(count) = self.peers.get_mut(&answered.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.peers.remove(&answered.peer);
            }
        }
        (answered.channel, answered.end)
    }

    /// Questions that are not over.
    pub(crate) fn len(&self) -> usize {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn answers(per_peer: usize) -> Answers<usize> {
        let messages = RequestResponseConfig {
            max_message_size: 10 << 10,
            max_connection_bytes: 20 << 10,
            max_bytes: 40 << 10,
            ..RequestResponseConfig::default()
        };
        let validation = ValidationConfig {
            queries: Share { all: 8, per_peer },
            ..ValidationConfig::default()
        };
        Answers::new(&validation, &messages)
    }

    fn asker() -> (PeerId, Account) {
        let peer = PeerId::random();
        (peer, Account::Peer(peer))
    }

    type Asked = BoxFuture<'static, Answered<usize, ()>>;

    fn answer(answers: &mut Answers<usize>, asked: Asked) -> Option<Place> {
        let answered = futures::executor::block_on(asked);
        match answers.done(answered).1 {
            End::Found(place, _) => Some(place),
            End::Late | End::GaveUp => None,
        }
    }

    #[core::prelude::v1::test]
    fn what_is_not_read_holds_its_room_and_others_have_theirs() {
        let mut answers = answers(4);
        let (one, two) = (asker(), asker());
        let ask = |answers: &mut Answers<usize>, who, id| answers.ask(who, id, (), async { None });
        let mut held = Vec::new();
        for id in 0..2 {
            let asked = ask(&mut answers, one, id).expect("room");
            held.extend(answer(&mut answers, asked));
        }
        let mut waits = ask(&mut answers, one, 2).expect("it may ask");
        assert!((&mut waits).now_or_never().is_none(), "it has its part");
        let other = ask(&mut answers, two, 3).expect("room");
        held.extend(answer(&mut answers, other));
        assert_eq!((held.len(), answers.room.free_kib()), (3, 10));
        held[0].shrink(1);
        held[1].shrink(9 << 10);
        assert_eq!(answers.room.free_kib(), 10, "what waited has it");
        let after = answer(&mut answers, waits);
        assert!(after.is_some(), "it was a short one");
        drop((held, after));
        assert_eq!(answers.room.free_kib(), 40);
    }

    #[core::prelude::v1::test]
    fn whose_asker_gave_up_is_not_answered() {
        let mut answers = answers(4);
        let (who, asked) = (asker(), Arc::new(AtomicUsize::new(0)));
        let held: Vec<_> = (0..2)
            .filter_map(|id| {
                let asked = answers.ask(who, id, (), async { None }).expect("room");
                answer(&mut answers, asked)
            })
            .collect();
        let counts = Arc::clone(&asked);
        let work = async move {
            counts.fetch_add(1, Ordering::Relaxed);
            None
        };
        let mut waits = answers.ask(who, 7, (), work).expect("room");
        assert!((&mut waits).now_or_never().is_none());
        answers.gave_up(&7);
        drop(held);
        assert!(answer(&mut answers, waits).is_none());
        assert_eq!((asked.load(Ordering::Relaxed), answers.len()), (0, 0));
        assert!(answers.peers.is_empty() && answers.waiting.is_empty());
        assert_eq!(answers.room.free_kib(), 40);
    }

    #[core::prelude::v1::test]
    fn what_is_not_begun_in_time_is_told_so() {
        let messages = RequestResponseConfig {
            request_timeout: Duration::from_millis(20),
            ..RequestResponseConfig::default()
        };
        let validation = ValidationConfig {
            max_queries_in_flight: 1,
            ..ValidationConfig::default()
        };
        let mut answers = Answers::<usize>::new(&validation, &messages);
        let never = future::pending();
        let mut begun = answers.ask(asker(), 1, (), never).expect("room");
        assert!((&mut begun).now_or_never().is_none());
        let late = answers.ask(asker(), 2, (), async { None }).expect("room");
        let late = futures::executor::block_on(late);
        assert!(matches!(answers.done(late).1, End::Late));
        assert!(
            (&mut begun).now_or_never().is_none(),
            "what has begun stays"
        );
        assert_eq!((answers.len(), answers.waiting.len()), (1, 1));
    }

    #[core::prelude::v1::test]
    fn questions_are_counted_for_each_and_for_all() {
        let mut answers = answers(3);
        let askers = [(); 3].map(|()| asker());
        let mut asked = Vec::new();
        for (number, who) in askers.iter().flat_map(|who| [who; 4]).enumerate() {
            match answers.ask(*who, number, (), async { None }) {
                Ok(question) => asked.push(question),
                Err(((), no_room)) => {
                    let expected = match number {
                        3 | 7 => NoRoom::Peer,
                        _ => NoRoom::All,
                    };
                    assert_eq!(no_room, expected, "{number}");
                }
            }
        }
        assert_eq!((asked.len(), answers.len()), (8, 8));
        for question in asked {
            drop(answer(&mut answers, question));
        }
        assert!(answers.peers.is_empty() && answers.len() == 0);
    }
}
