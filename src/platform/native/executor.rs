//! Connections take turns by the time they have used.
//!
//! A runtime polls what is ready in the order in which it became so. Where many connections send without end, each of them is ready
//! again as soon as it was polled, and one that has a vote to say waits until all of them have had their turn, at each end of its way.
//! So connections do not run as tasks of the runtime: a few workers, one for each of its threads, poll them, and who has used the least time of late
//! goes first, as in the schedulers of Unix that let use decay (4.3BSD). Who uses little waits for the turn that is going on and no more, whatever
//! number of others want all there is, and who wants much gets what nobody else wants. Use is forgotten by half in 70 ms, so nobody waits for ever. A new connection counts as if it
//! had used [`NEWCOMER`], so that those who come again and again are not first. How long a turn takes is up to who has it: what may go on for long asks
//! [`turn_is_over`].
//!
//! Bounds: an entry a connection, which the owner of the connections bounds; O(log n) a turn. What panics is dropped, as a task of the runtime
//! would be; what is left when the runtime ends is dropped with it.

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use libp2p::swarm;
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::{coop, yield_now},
};

use crate::platform::{self, Instant, lock::lock};

/// In which time use decays to 1/e of what it was.
const MEMORY: Duration = Duration::from_millis(100);
/// Less use than this is as good as none.
const LEAST: Duration = Duration::from_millis(1);
/// What a new connection has used, as it were: what 20% of a core come to.
const NEWCOMER: Duration = Duration::from_millis(20);
/// How long a turn takes at most, of who asks; and how long a worker goes on before other tasks of the runtime have their turn.
const TURN: Duration = Duration::from_micros(250);
/// What a turn counts at most: one that took longer was likely interrupted by the host, which is nobody's fault.
const MOST: Duration = Duration::from_millis(1);

/// Runs connections. See the module's documentation.
#[derive(Clone)]
pub struct Executor(Arc<Owner>);

/// What ends the workers with the last of those who may start something.
struct Owner(Arc<Shared>);

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What workers and wakers share.
struct Shared {
    began: Instant,
    queue: Mutex<Queue>,
    /// Something is ready, or the end is near.
    news: Notify,
    /// The runtime has ended, and with it the workers.
    is_dead: AtomicBool,
}

/// Whose turn is next.
#[derive(Default)]
struct Queue {
    ready: BinaryHeap<Reverse<(Use, u64)>>,
    /// All that has not ended, by number.
    tasks: HashMap<u64, Arc<Task>>,
    number: u64,
    has_workers: bool,
    is_closed: bool,
}

/// One connection.
struct Task {
    number: u64,
    shared: Arc<Shared>,
    state: Mutex<State>,
    work: Mutex<Option<Work>>,
}

/// How far a connection is.
struct State {
    stage: Stage,
    used: Use,
}

/// What a connection has used of late, as it would be had it not decayed since the executor began (forward decay: Cormode et al., 2009): so it needs no
/// change while time goes by, and those of all connections compare. In millionths of the logarithm, in units of [`LEAST`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Use(u64);

impl Use {
    const PRECISION: f64 = 1e6;

    /// So much, at this age of the executor.
    fn of(time: Duration, age: Duration) -> Self {
        let units = time.div_duration_f64(LEAST).max(1.0);
        let decays = age.div_duration_f64(MEMORY);
        Self(((units.ln() + decays) * Self::PRECISION) as u64)
    }

    /// What is left of it.
    fn left(self, age: Duration) -> Duration {
        let decays = age.div_duration_f64(MEMORY);
        let units = (self.0 as f64 / Self::PRECISION - decays).exp();
        LEAST.mul_f64(units.max(1.0))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Ready,
    Running,
    /// Running, and ready again.
    Woken,
}

thread_local! {
    /// When the turn began that goes on on this thread.
    static TURN_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Whether the connection that runs on this thread has done enough: it wakes itself and gives way.
pub fn turn_is_over() -> bool {
    let began = TURN_BEGAN.get();
    began.is_some_and(|began| platform::now().saturating_duration_since(began) >= TURN)
}

impl Executor {
    /// Starts a connection's work on the current tokio runtime.
    pub fn spawn(&self, work: Work) {
        self.0.0.start(work);
    }

    /// libp2p's connections run here.
    pub fn swarm_config(&self) -> swarm::Config {
        let executor = self.clone();
        swarm::Config::with_executor(move |work| executor.spawn(work))
    }
}

impl Default for Executor {
    fn default() -> Self {
        let shared = Shared {
            began: platform::now(),
            queue: Mutex::default(),
            news: Notify::new(),
            is_dead: AtomicBool::new(false),
        };
        Self(Arc::new(Owner(Arc::new(shared))))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        lock(&self.0.queue).is_closed = true;
        self.0.news.notify_one();
    }
}

impl Shared {
    fn start(self: &Arc<Self>, work: Work) {
        if self.is_dead.load(Ordering::SeqCst) {
            return;
        }
        let mut queue = lock(&self.queue);
        queue.number += 1;
        let number = queue.number;
        let state = State {
            stage: Stage::Ready,
            used: Use::of(NEWCOMER, self.age()),
        };
        let used = state.used;
        let task = Task {
            number,
            shared: Arc::clone(self),
            state: Mutex::new(state),
            work: Mutex::new(Some(work)),
        };
        queue.tasks.insert(number, Arc::new(task));
        queue.ready.push(Reverse((used, number)));
        if !std::mem::replace(&mut queue.has_workers, true) {
            for _ in 0..Handle::current().metrics().num_workers() {
                tokio::spawn(Worker(Arc::clone(self)).run());
            }
        }
        drop(queue);
        self.news.notify_one();
    }

    /// Whose turn it is.
    fn next(&self) -> Option<Arc<Task>> {
        let mut queue = lock(&self.queue);
        while let Some(Reverse((_, number))) = queue.ready.pop() {
            if let Some(task) = queue.tasks.get(&number) {
                return Some(Arc::clone(task));
            }
        }
        None
    }

    fn age(&self) -> Duration {
        platform::now().saturating_duration_since(self.began)
    }

    fn has_ended(&self) -> bool {
        let queue = lock(&self.queue);
        queue.is_closed && queue.tasks.is_empty()
    }
}

impl Task {
    /// Has its turn.
    fn run(self: &Arc<Self>) {
        lock(&self.state).stage = Stage::Running;
        let waker = Waker::from(Arc::clone(self));
        let began = platform::now();
        TURN_BEGAN.set(Some(began));
        let is_over = self.poll(&mut Context::from_waker(&waker));
        TURN_BEGAN.set(None);
        if is_over {
            lock(&self.shared.queue).tasks.remove(&self.number);
            return;
        }
        let mut state = lock(&self.state);
        let took = platform::now().saturating_duration_since(began);
        let age = self.shared.age();
        state.used = Use::of(state.used.left(age) + took.min(MOST), age);
        if std::mem::replace(&mut state.stage, Stage::Idle) == Stage::Woken {
            self.make_ready(&mut state);
        }
    }

    /// Whether it has come to its end, or panicked.
    fn poll(&self, cx: &mut Context<'_>) -> bool {
        let mut slot = lock(&self.work);
        let Some(work) = slot.as_mut() else {
            return true;
        };
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
        // Where the runtime has ended meanwhile, nobody polls it again.
        let is_over =
            !matches!(polled, Ok(Poll::Pending)) || self.shared.is_dead.load(Ordering::SeqCst);
        if is_over {
            let ended = slot.take();
            drop(slot);
            let _ = platform::guard(move || drop(ended));
        }
        is_over
    }

    fn make_ready(&self, state: &mut State) {
        state.stage = Stage::Ready;
        let ready = Reverse((state.used, self.number));
        lock(&self.shared.queue).ready.push(ready);
        self.shared.news.notify_one();
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        match state.stage {
            Stage::Idle => self.make_ready(&mut state),
            Stage::Running => state.stage = Stage::Woken,
            Stage::Ready | Stage::Woken => {}
        }
    }
}

/// Polls who is next, again and again.
struct Worker(Arc<Shared>);

impl Worker {
    async fn run(self) {
        let mut began = platform::now();
        while !self.0.has_ended() {
            let Some(task) = self.0.next() else {
                self.0.news.notified().await;
                began = platform::now();
                continue;
            };
            task.run();
            drop(task);
            let spent = platform::now().saturating_duration_since(began);
            // Streams of a task that has used up its budget say that they are not ready.
            if spent >= TURN || !coop::has_budget_remaining() {
                yield_now().await;
                began = platform::now();
            }
        }
        // The others wait for the same.
        self.0.news.notify_one();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Where the runtime ends, nobody polls what is left: it goes, and with it what it holds of sockets and peers.
        if !self.0.has_ended() {
            self.0.is_dead.store(true, Ordering::SeqCst);
        }
        let left = std::mem::take(&mut lock(&self.0.queue).tasks);
        for task in left.into_values() {
            let work = task.work.try_lock().ok().and_then(|mut work| work.take());
            let _ = platform::guard(move || drop(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::{channel::oneshot, future::poll_fn};

    use super::*;

    /// Wants every turn that there is, of a while each, and counts them.
    fn greedy(turns: Arc<AtomicUsize>) -> Work {
        Box::pin(poll_fn(move |cx| {
            let began = platform::now();
            while began.elapsed() < Duration::from_micros(100) {}
            turns.fetch_add(1, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    #[tokio::test]
    async fn who_has_used_little_waits_for_one_turn_however_many_want_all() {
        // Few enough that each uses more than [`LEAST`] also where others have most of the processor.
        const GREEDY: usize = 16;
        let (executor, turns) = (Executor::default(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..GREEDY {
            executor.spawn(greedy(Arc::clone(&turns)));
        }
        // All of them have had a turn, and so have used more than it will have.
        while turns.load(Ordering::Relaxed) < 4 * GREEDY {
            yield_now().await;
        }
        let (asks, mut asked) = tokio::sync::mpsc::unbounded_channel::<oneshot::Sender<usize>>();
        let seen = Arc::clone(&turns);
        executor.spawn(Box::pin(async move {
            while let Some(reply) = asked.recv().await {
                let _ = reply.send(seen.load(Ordering::Relaxed));
            }
        }));
        let mut waited = Vec::new();
        for _ in 0..50 {
            let (reply, answer) = oneshot::channel();
            let before = turns.load(Ordering::Relaxed);
            asks.send(reply).expect("it is there");
            waited.push(answer.await.expect("it answers") - before);
        }
        // The first time it is a newcomer.
        waited.remove(0);
        // A worker's turns before others of the runtime have theirs, and one more; but where the host interrupted its own turn.
        waited.sort_unstable();
        let usual = waited.get(waited.len() * 3 / 4).copied();
        assert!(usual <= Some(8), "turns of others meanwhile: {waited:?}");
    }

    #[tokio::test]
    async fn a_turn_is_over_after_a_while_and_only_a_connection_has_one() {
        let (executor, (tell, told)) = (Executor::default(), oneshot::channel());
        executor.spawn(Box::pin(async move {
            let at_first = turn_is_over();
            let began = platform::now();
            while began.elapsed() < TURN {}
            let _ = tell.send((at_first, turn_is_over()));
        }));
        assert_eq!(told.await, Ok((false, true)));
        assert!(!turn_is_over());
    }

    #[tokio::test]
    async fn a_panic_ends_one_and_no_other() {
        let executor = Executor::default();
        let (done, is_done) = oneshot::channel();
        executor.spawn(Box::pin(async { panic!("as tests do") }));
        executor.spawn(Box::pin(async move {
            yield_now().await;
            let _ = done.send(());
        }));
        is_done.await.expect("the other goes on");
    }

    #[test]
    fn what_is_left_goes_with_the_runtime_and_what_goes_on_outlives_the_executor() {
        struct Gone(Arc<AtomicUsize>);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (gone, executor) = (Arc::new(AtomicUsize::new(0)), Executor::default());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .expect("a runtime");
        let (proceed, may) = oneshot::channel::<()>();
        let held = Gone(Arc::clone(&gone));
        runtime.block_on(async {
            let (told, is_told) = oneshot::channel();
            let left = Gone(Arc::clone(&gone));
            executor.spawn(Box::pin(async move {
                let _left = left;
                std::future::pending::<()>().await;
            }));
            executor.spawn(Box::pin(async move {
                let _held = held;
                let _ = may.await;
                let _ = told.send(());
            }));
            drop(executor);
            let _ = proceed.send(());
            is_told.await.expect("it goes on");
        });
        drop(runtime);
        assert_eq!(gone.load(Ordering::Relaxed), 2);
    }
}
