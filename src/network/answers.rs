//! Questions of peers about state: they wait for room, then for the application, and their answers for who asked.
//!
//! An answer may have megabytes, and a peer may take none of it. So before a question is answered there is room for the longest
//! answer there may be; once the answer is there, it holds what it has, until it is written. Accounts, and the peers in each, have the room in
//! turns, and an answer that is not read gives way to who waits (`traffic/room.rs`), or ends when the request times out
//! (`protocol.request_response_config.request_timeout`). A question whose asker gave up is not answered, wherever it waits. One that is
//! not begun within half of that time is told to come later: silence would be held against this node.
//!
//! Where as many wait as may, a further one takes the place of the latest of the account that has most, of its peer that has most, which is
//! told to come later too. It is refused where it would be that one itself. So who asks much keeps nobody else out,
//! however many names it has (longest queue drop: Suter et al., 1998).
//!
//! Bounds: questions, of all peers together and of each (`protocol.validation.queries`), of which one about many keys counts as several, so that each
//! holds 9 KiB at most while it waits; bytes of answers, of all together
//! (`protocol.request_response_config.max_bytes`) and of each peer (`max_connection_bytes`); answers that the application
//! works at (`protocol.validation.max_queries_in_flight`).

use std::{collections::HashMap, hash::Hash, pin::pin, sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{self, BoxFuture, Either},
};
use libp2p::{
    PeerId,
    request_response::{InboundRequestId, ResponseChannel},
};
use tokio::sync::{Semaphore, oneshot};

use super::{
    codec::{Frame, GRACE},
    protocol::Told,
};
use crate::{
    config::{RequestResponseConfig, Share, ValidationConfig},
    frames::{LongFrames, Place},
    intake::NoRoom,
    peers::Account,
    platform::Delay,
};

/// See the module's documentation. A question has an id, and a way back; a later one has a larger id.
#[derive(Debug)]
pub(crate) struct Answers<Q = InboundRequestId> {
    limits: Share,
    questions: HashMap<Q, Question>,
    /// As how many they count.
    waiting: usize,
    /// With those that were given up, and are not done yet.
    all: usize,
    /// How many of them each account has, and each peer.
    accounts: HashMap<Account, usize>,
    peers: HashMap<PeerId, usize>,
    /// The longest answer.
    longest: usize,
    room: LongFrames,
    at_work: Arc<Semaphore>,
    /// How long a question may wait until it is begun.
    patience: Duration,
}

/// A question whose asker waits.
#[derive(Debug)]
struct Question {
    asker: (PeerId, Account),
    /// As how many it counts.
    counts: usize,
    /// Ends its waiting: it is told to come later, or nothing where this is dropped. Closed once it waits no more.
    waits: oneshot::Sender<()>,
}

/// What became of a question.
#[derive(Debug)]
pub(crate) struct Answered<Q = InboundRequestId, C = ResponseChannel<Frame>> {
    id: Q,
    channel: C,
    end: End,
}

/// How a question ends.
#[derive(Debug)]
pub(crate) enum End {
    /// With an answer and its place; without state where there is none, or the application failed.
    Found(Place, Option<Told>),
    /// It was not begun in time, or gave its place to another.
    Late,
    /// Nobody waits for it.
    GaveUp,
}

impl<Q: Copy + Eq + Hash + Ord + Send + 'static> Answers<Q> {
    /// No questions yet.
    pub(crate) fn new(validation: &ValidationConfig, messages: &RequestResponseConfig) -> Self {
        let longest = messages.max_message_size;
        let kib = |bytes: usize| bytes.max(longest).div_ceil(1024);
        let room = kib(messages.max_bytes);
        let most = kib(messages.max_connection_bytes);
        Self {
            limits: validation.queries,
            questions: HashMap::new(),
            waiting: 0,
            all: 0,
            accounts: HashMap::new(),
            peers: HashMap::new(),
            longest,
            room: LongFrames::new(room, most, GRACE),
            at_work: Arc::new(Semaphore::new(validation.max_queries_in_flight)),
            patience: messages.request_timeout / 2,
        }
    }

    /// A question that counts as so many is to be answered by this work, which begins when it is polled; what it gives goes to [`Answers::done`].
    ///
    /// # Errors
    /// The way back, and whose limit leaves no room.
    pub(crate) fn ask<C: Send + 'static>(
        &mut self,
        asker: (PeerId, Account),
        (id, counts): (Q, usize),
        channel: C,
        work: impl Future<Output = Option<Told>> + Send + 'static,
    ) -> Result<BoxFuture<'static, Answered<Q, C>>, (C, NoRoom)> {
        let (peer, _) = asker;
        // One alone is answered in any case.
        let counts = counts.min(self.limits.per_peer);
        if self.peers.get(&peer).copied().unwrap_or_default() + counts > self.limits.per_peer {
            return Err((channel, NoRoom::Peer));
        }
        let (waits, given_up) = oneshot::channel();
        let question = Question {
            asker,
            counts,
            waits,
        };
        self.note(id, question);
        let mut gone = Vec::new();
        while self.waiting > self.limits.all {
            let goes = self.greatest().unwrap_or(id);
            let question = self.forget(&goes);
            if goes == id {
                // Nobody has to go for one that is refused.
                gone.into_iter()
                    .for_each(|(id, question)| self.note(id, question));
                return Err((channel, NoRoom::All));
            }
            gone.extend(question.map(|question| (goes, question)));
        }
        for (_, question) in gone {
            // What has just begun goes on.
            let _ = question.waits.send(());
        }
        self.all += 1;
        let (room, at_work) = (self.room.clone(), Arc::clone(&self.at_work));
        let (longest, patience) = (self.longest, self.patience);
        let turn = async move {
            let turn = pin!(async {
                let place = room.enter(asker, longest).await;
                (place, at_work.acquire_owned().await)
            });
            match future::select(turn, Delay::new(patience)).await {
                Either::Left((turn, _)) => Some(turn),
                Either::Right(_) => None,
            }
        };
        let answered = async move {
            let end = match future::select(given_up, turn.boxed()).await {
                Either::Right((Some((place, Ok(_at_work))), given_up)) => {
                    drop(given_up);
                    End::Found(place, work.await)
                }
                Either::Left((Ok(()), _)) | Either::Right((None, _)) => End::Late,
                _ => End::GaveUp,
            };
            Answered { id, channel, end }
        };
        Ok(answered.boxed())
    }

    /// The latest question that still waits, of who has most. Linear in questions.
    fn greatest(&self) -> Option<Q> {
        let waiting = self.questions.iter();
        let waiting = waiting.filter(|(_, question)| !question.waits.is_closed());
        let greatest = waiting.max_by_key(|(id, question)| {
            let (peer, account) = &question.asker;
            (self.accounts.get(account), self.peers.get(peer), **id)
        });
        greatest.map(|(id, _)| *id)
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn gave_up(&mut self, id: &Q) {
        drop(self.forget(id));
    }

    /// Counts a question.
    fn note(&mut self, id: Q, question: Question) {
        let (peer, account) = question.asker;
        *self.accounts.entry(account).or_default() += question.counts;
        *self.peers.entry(peer).or_default() += question.counts;
        self.waiting += question.counts;
        self.questions.insert(id, question);
    }

    /// Counts a question no more.
    fn forget(&mut self, id: &Q) -> Option<Question> {
        let question = self.questions.remove(id)?;
        let (peer, account) = question.asker;
        less(&mut self.accounts, &account, question.counts);
        less(&mut self.peers, &peer, question.counts);
        self.waiting = self.waiting.saturating_sub(question.counts);
        Some(question)
    }

    /// A question is over: the way back, and how it ended.
    pub(crate) fn done<C>(&mut self, answered: Answered<Q, C>) -> (C, End) {
        self.gave_up(&answered.id);
        self.all = self.all.saturating_sub(1);
        (answered.channel, answered.end)
    }

    /// Questions that are not done.
    pub(crate) fn len(&self) -> usize {
        self.all
    }
}

fn less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: &K, by: usize) {
    if let Some(count) = counts.get_mut(of) {
        *count = count.saturating_sub(by);
        if *count == 0 {
            counts.remove(of);
        }
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
        let ask =
            |answers: &mut Answers<usize>, who, id| answers.ask(who, (id, 1), (), async { None });
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
                let asked = answers.ask(who, (id, 1), (), async { None }).expect("room");
                answer(&mut answers, asked)
            })
            .collect();
        let counts = Arc::clone(&asked);
        let work = async move {
            counts.fetch_add(1, Ordering::Relaxed);
            None
        };
        let mut waits = answers.ask(who, (7, 1), (), work).expect("room");
        assert!((&mut waits).now_or_never().is_none());
        answers.gave_up(&7);
        drop(held);
        assert!(answer(&mut answers, waits).is_none());
        assert_eq!((asked.load(Ordering::Relaxed), answers.len()), (0, 0));
        assert!(answers.peers.is_empty() && answers.questions.is_empty());
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
        let mut begun = answers.ask(asker(), (1, 1), (), never).expect("room");
        assert!((&mut begun).now_or_never().is_none());
        let late = answers
            .ask(asker(), (2, 1), (), async { None })
            .expect("room");
        let late = futures::executor::block_on(late);
        assert!(matches!(answers.done(late).1, End::Late));
        assert!(
            (&mut begun).now_or_never().is_none(),
            "what has begun stays"
        );
        assert_eq!((answers.len(), answers.questions.len()), (1, 1));
    }

    #[core::prelude::v1::test]
    fn questions_are_counted_for_each_and_for_all() {
        let mut answers = answers(3);
        let askers = [(); 3].map(|()| asker());
        let mut asked = Vec::new();
        for (number, who) in askers.iter().flat_map(|who| [who; 4]).enumerate() {
            match answers.ask(*who, (number, 1), (), async { None }) {
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

    #[core::prelude::v1::test]
    fn one_about_many_keys_counts_as_several() {
        let mut answers = answers(5);
        let ask = |answers: &mut Answers<usize>, who, id, counts| {
            answers.ask(who, (id, counts), (), async { None })
        };
        let (one, two, three) = (asker(), asker(), asker());
        let first = ask(&mut answers, one, 0, 4).expect("room");
        assert!(ask(&mut answers, one, 1, 2).is_err(), "it has its share");
        let second = ask(&mut answers, two, 2, 4).expect("room");
        // Of all together there is none left: the latest of who has most gives way.
        let third = ask(&mut answers, three, 3, 1).expect("room");
        let given_up = futures::executor::block_on(second);
        assert!(matches!(answers.done(given_up).1, End::Late));
        for asked in [first, third] {
            drop(answer(&mut answers, asked));
        }
        assert_eq!(answers.waiting, 0);
        // Whose share is less is answered all the same.
        let whole = ask(&mut answers, one, 4, 8).expect("alone");
        assert_eq!(answers.waiting, 5);
        drop(answer(&mut answers, whole));
        assert!(answers.peers.is_empty() && answers.accounts.is_empty() && answers.waiting == 0);
    }

    #[core::prelude::v1::test]
    fn for_one_that_is_refused_nobody_has_to_go() {
        let mut answers = answers(4);
        let crowd = Account::Peer(PeerId::random());
        let ask = |answers: &mut Answers<usize>, who, id, counts| {
            answers.ask(who, (id, counts), (), async { None })
        };
        // Two of one account have five of the eight, and three others one each.
        let two = [0, 1].map(|_| (PeerId::random(), crowd));
        let mut asked: Vec<_> = (0..5)
            .map(|id| ask(&mut answers, two[id % 2], id, 1).expect("room"))
            .collect();
        asked.extend((5..8).map(|id| ask(&mut answers, asker(), id, 1).expect("room")));
        let refused = ask(&mut answers, asker(), 8, 4);
        assert!(matches!(refused, Err(((), NoRoom::All))));
        assert_eq!((answers.questions.len(), answers.waiting), (8, 8));
        for asked in asked {
            assert!(answer(&mut answers, asked).is_some());
        }
    }

    #[core::prelude::v1::test]
    fn a_crowd_at_one_address_keeps_nobody_else_out() {
        let mut answers = answers(4);
        let ask =
            |answers: &mut Answers<usize>, who, id| answers.ask(who, (id, 1), (), async { None });
        let remote = "/ip4/1.2.3.4/tcp/5".parse().expect("an address");
        let crowd = [(); 8].map(|()| {
            let peer = PeerId::random();
            (peer, Account::of(peer, &remote))
        });
        let mut held = Vec::new();
        for (id, who) in crowd.iter().take(4).enumerate() {
            let asked = ask(&mut answers, *who, id).expect("room");
            held.extend(answer(&mut answers, asked));
        }
        assert_eq!(answers.room.free_kib(), 0, "unread answers have all room");
        let mut waiting: Vec<_> = (10..18)
            .map(|id| ask(&mut answers, crowd[id - 10], id).expect("room"))
            .collect();
        let more = ask(&mut answers, crowd[0], 18).map(drop);
        assert_eq!(more, Err(((), NoRoom::All)));
        let mut honest = ask(&mut answers, asker(), 19).expect("there is room for it");
        let gone = waiting.pop().expect("the latest");
        let gone = futures::executor::block_on(gone);
        assert!(matches!(answers.done(gone).1, End::Late));
        assert!((&mut waiting[0]).now_or_never().is_none(), "it waits on");
        assert!((&mut honest).now_or_never().is_none(), "it waits too");
        drop(held.pop());
        assert!(answer(&mut answers, honest).is_some(), "its turn is first");
        // A neighbour of the crowd takes the place of one that has more than itself.
        for id in 20..22 {
            let asked = ask(&mut answers, crowd[id % 2], id);
            assert_eq!(asked.is_ok(), id == 20, "one place is free");
            waiting.extend(asked);
        }
        let neighbour = (PeerId::random(), crowd[0].1);
        assert!(ask(&mut answers, neighbour, 30).is_ok());
        assert_eq!(answers.questions.len(), 8);
        assert!(!answers.questions.contains_key(&20));
    }
}
