//! Runs the tasks of all nodes on one thread, in an order that follows from the seed.
//!
//! A task belongs to the node whose task started it, or to nobody, as the scenario's own. Those that can go on are polled one after
//! the other, first come first served or in random order; when none can, time goes on to the next moment for which something
//! waits. Work takes no virtual time, unless a node is given a slow CPU: then it is busy for so long after each poll, and its
//! other tasks wait.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    mem::ManuallyDrop,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use selkie_sim_host::{Random, clock, is_virtual};

/// Which of the nodes, from 0.
pub type Node = usize;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Polls at one moment after which the run ends: somebody wakes itself for ever, and time stands still.
const MAX_POLLS: u64 = 20_000_000;

/// A task that can go on, unless it has ended since.
struct Woken {
    task: usize,
    queued: AtomicBool,
    foreign: Arc<Foreign>,
}

/// The other thread that woke a task, if one did: the simulation ends with the next step it takes.
type Foreign = OnceLock<String>;

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !is_virtual() {
            // That thread is not the one to panic: the simulation is.
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("without a name");
            let _ = self.foreign.set(name.to_owned());
            return;
        }
        if !self.queued.swap(true, Ordering::Relaxed) {
            // At the end of the thread there is no queue any more.
            let _ = READY.try_with(|ready| ready.borrow_mut().push_back(Arc::clone(self)));
        }
    }
}

struct Kept {
    owner: Option<Node>,
    /// `None` while it is polled.
    future: Option<Task>,
}

/// A node's CPU.
#[derive(Clone, Copy, Default)]
struct Cpu {
    /// What each poll takes.
    poll: Duration,
    busy_until: Duration,
}

#[derive(Default)]
struct Executor {
    tasks: HashMap<usize, Kept>,
    started: usize,
    running: Option<Node>,
    cpus: HashMap<Node, Cpu>,
    skews: HashMap<Node, i64>,
    order: Option<Random>,
    polls: u64,
    foreign: Arc<Foreign>,
}

thread_local! {
    static EXECUTOR: RefCell<Executor> = RefCell::default();
    static READY: RefCell<VecDeque<Arc<Woken>>> = RefCell::default();
}

/// From now on tasks that can go on take turns in random order.
pub fn shuffle(random: Random) {
    EXECUTOR.with_borrow_mut(|executor| executor.order = Some(random));
}

/// The node whose task is running.
pub fn running() -> Option<Node> {
    // In a panic's hook it may be borrowed.
    EXECUTOR.with(|executor| executor.try_borrow().ok()?.running)
}

/// What has been polled so far.
pub fn polls() -> u64 {
    EXECUTOR.with_borrow(|executor| executor.polls)
}

/// Starts a task of this node, or of nobody.
pub fn spawn(owner: Option<Node>, future: impl Future<Output = ()> + 'static) {
    let future: Task = Box::pin(future);
    let woken = EXECUTOR.with_borrow_mut(|executor| {
        executor.started += 1;
        let task = executor.started;
        let queued = AtomicBool::new(false);
        let foreign = Arc::clone(&executor.foreign);
        let woken = Arc::new(Woken {
            task,
            queued,
            foreign,
        });
        let future = Some(future);
        executor.tasks.insert(task, Kept { owner, future });
        woken
    });
    woken.wake();
}

/// Ends all tasks of a node where they stand.
pub fn kill(node: Node) {
    let mut killed: Vec<_> = EXECUTOR.with_borrow_mut(|executor| {
        let tasks = &mut executor.tasks;
        tasks
            .extract_if(|_, kept| kept.owner == Some(node))
            .collect()
    });
    killed.sort_unstable_by_key(|(task, _)| *task);
    // In the order in which they were started. What they hold may start tasks and wake others while it is dropped.
    as_node(Some(node), || drop(killed));
}

/// What each poll of this node's tasks takes from now on.
pub fn slow_down(node: Node, poll: Duration) {
    EXECUTOR.with_borrow_mut(|executor| executor.cpus.entry(node).or_default().poll = poll);
}

/// This node's date is so many nanoseconds ahead from now on.
pub fn skew(node: Node, nanoseconds: i64) {
    EXECUTOR.with_borrow_mut(|executor| executor.skews.insert(node, nanoseconds));
}

/// Calls as if a task of this node did.
pub fn as_node<T>(node: Option<Node>, call: impl FnOnce() -> T) -> T {
    let before = enter(node);
    let outcome = call();
    enter(before);
    outcome
}

/// Runs all tasks until this moment.
///
/// # Panics
/// Where tasks wake each other for ever and time stands still, and where another thread woke one.
pub fn run_until(end: Duration) {
    let _running = Running::begin();
    let foreign = EXECUTOR.with_borrow(|executor| Arc::clone(&executor.foreign));
    let mut at_this_moment = 0_u64;
    loop {
        if let Some(thread) = foreign.get() {
            panic!("a task was woken by another thread ({thread}), so this run can't be repeated");
        }
        BEATS.fetch_add(1, Ordering::Relaxed);
        AT.store(nanoseconds(clock::now()), Ordering::Relaxed);
        while let Some(woken) = pop() {
            poll(&woken);
            BEATS.fetch_add(1, Ordering::Relaxed);
            at_this_moment += 1;
            assert!(
                at_this_moment < MAX_POLLS,
                "{MAX_POLLS} polls and time has not moved: tasks wake each other for ever"
            );
        }
        at_this_moment = 0;
        match clock::next() {
            Some(next) if next <= end => clock::advance(next),
            _ => return clock::advance(end),
        }
    }
}

/// Steps of the simulation, by which others see that it goes on.
static BEATS: AtomicU64 = AtomicU64::new(0);
static RUNS: AtomicBool = AtomicBool::new(false);
/// The moment in nanoseconds, and whose task runs, from 1.
static AT: AtomicU64 = AtomicU64::new(0);
static WHOSE: AtomicUsize = AtomicUsize::new(0);

fn nanoseconds(moment: Duration) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)
}

/// As long as tasks may run.
struct Running;

impl Running {
    fn begin() -> Self {
        RUNS.store(true, Ordering::Relaxed);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNS.store(false, Ordering::Relaxed);
    }
}

/// How far the simulation of this process is, as other threads see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// Steps so far, where it takes any now.
    pub(crate) beats: Option<u64>,
    pub(crate) at: Duration,
    pub(crate) node: Option<Node>,
}

pub(crate) fn pulse() -> Pulse {
    let runs = RUNS.load(Ordering::Relaxed);
    Pulse {
        beats: runs.then(|| BEATS.load(Ordering::Relaxed)),
        at: Duration::from_nanos(AT.load(Ordering::Relaxed)),
        node: WHOSE.load(Ordering::Relaxed).checked_sub(1),
    }
}

/// Ends all tasks, and forgets what waits.
pub fn clear() {
    let executor = EXECUTOR.take();
    let mut tasks: Vec<_> = executor.tasks.into_iter().collect();
    tasks.sort_unstable_by_key(|(task, _)| *task);
    drop(tasks);
    clock::clear();
    // Tasks that were started while others were dropped.
    drop(EXECUTOR.take());
    drop(READY.take());
}

/// Leaves all tasks as they are, for ever: after a panic nothing of them is touched any more.
pub(crate) fn abandon() {
    let _ = ManuallyDrop::new((EXECUTOR.take(), READY.take()));
    let _ = ManuallyDrop::new(clock::take());
}

fn pop() -> Option<Arc<Woken>> {
    READY.with_borrow_mut(|ready| {
        EXECUTOR.with_borrow_mut(|executor| match &mut executor.order {
            Some(random) if ready.len() > 1 => ready.swap_remove_back(random.index(ready.len())),
            _ => ready.pop_front(),
        })
    })
}

fn poll(woken: &Arc<Woken>) {
    let taken = EXECUTOR.with_borrow_mut(|executor| {
        let kept = executor.tasks.get_mut(&woken.task)?;
        let owner = kept.owner;
        if let Some(cpu) = owner.and_then(|node| executor.cpus.get_mut(&node)) {
            let now = clock::now();
            if now < cpu.busy_until {
                return Some(Err(cpu.busy_until));
            }
            cpu.busy_until = now + cpu.poll;
        }
        executor.polls += 1;
        Some(Ok((kept.future.take()?, owner)))
    });
    let (mut future, owner) = match taken {
        // It has ended, or its node.
        None => return,
        Some(Err(busy_until)) => {
            // It stays queued, so that others who wake it don't queue it again.
            let woken = Arc::clone(woken);
            clock::call_at(busy_until, move || {
                READY.with_borrow_mut(|ready| ready.push_back(woken));
            });
            return;
        }
        Some(Ok(taken)) => taken,
    };
    woken.queued.store(false, Ordering::Relaxed);
    let waker = Waker::from(Arc::clone(woken));
    let polled = as_node(owner, || {
        future.as_mut().poll(&mut Context::from_waker(&waker))
    });
    match polled {
        Poll::Ready(()) => {
            EXECUTOR.with_borrow_mut(|executor| executor.tasks.remove(&woken.task));
            as_node(owner, || drop(future));
        }
        Poll::Pending => EXECUTOR.with_borrow_mut(|executor| {
            if let Some(kept) = executor.tasks.get_mut(&woken.task) {
                kept.future = Some(future);
            }
        }),
    }
}

/// From now on this node's tasks run. Returns whose did.
fn enter(node: Option<Node>) -> Option<Node> {
    WHOSE.store(node.map_or(0, |node| node + 1), Ordering::Relaxed);
    EXECUTOR.with_borrow_mut(|executor| {
        let skew = node.and_then(|node| executor.skews.get(&node));
        clock::skew(skew.copied().unwrap_or(0));
        std::mem::replace(&mut executor.running, node)
    })
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn, rc::Rc, sync::mpsc};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// On a thread in virtual time; returns what a panic there said.
    fn virtually(test: impl FnOnce() + Send + 'static) -> Option<String> {
        let thread = std::thread::spawn(|| {
            selkie_sim_host::begin(1).expect("a fresh thread");
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
            match outcome {
                Ok(()) => clear(),
                Err(_) => abandon(),
            }
            outcome.err().map(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                text.or_else(|| panic.downcast_ref().map(|text: &&str| (*text).to_owned()))
                    .unwrap_or_default()
            })
        });
        thread.join().expect("it is caught")
    }

    /// Counts its polls, and each takes another turn.
    fn count(polls: &Rc<Cell<u32>>, most: u32) -> impl Future<Output = ()> + use<> {
        let polls = Rc::clone(polls);
        poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            if polls.get() >= most {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[test]
    fn a_wake_from_another_thread_ends_the_run_and_says_which() {
        let (hand_over, waker) = mpsc::channel::<Waker>();
        let (told, woken) = mpsc::channel();
        // Of before the simulation, as a pool of threads may be.
        let other = std::thread::Builder::new().name("stranger".to_owned());
        let other = other.spawn(move || {
            waker.recv().expect("a waker").wake();
            told.send(()).expect("somebody waits");
        });
        let said = virtually(move || {
            spawn(
                Some(3),
                poll_fn(move |cx| {
                    hand_over.send(cx.waker().clone()).expect("it waits");
                    Poll::Pending
                }),
            );
            run_until(SECOND);
            woken.recv().expect("it is woken");
            run_until(2 * SECOND);
        });
        let said = said.expect("it ends");
        assert!(said.contains("another thread (stranger)"), "{said}");
        other.expect("it starts").join().expect("it does not panic");
    }

    #[test]
    fn a_killed_nodes_tasks_end_and_those_of_others_go_on() {
        let said = virtually(|| {
            let polls = [0, 1].map(|_| Rc::new(Cell::new(0)));
            for (node, polls) in polls.iter().enumerate() {
                let polls = Rc::clone(polls);
                spawn(Some(node), async move {
                    loop {
                        futures_timer::Delay::new(SECOND).await;
                        polls.set(polls.get() + 1);
                    }
                });
            }
            run_until(SECOND * 7 / 2);
            kill(0);
            run_until(SECOND * 11 / 2);
            assert_eq!(polls.map(|polls| polls.get()), [3, 5]);
            assert_eq!(clock::now(), SECOND * 11 / 2);
        });
        assert_eq!(said, None);
    }

    #[test]
    fn a_slow_nodes_polls_take_time_and_nobody_elses_do() {
        let said = virtually(|| {
            slow_down(0, Duration::from_millis(100));
            let polls = [0, 1].map(|_| Rc::new(Cell::new(0)));
            for (node, polls) in polls.iter().enumerate() {
                spawn(Some(node), count(polls, 1_000));
            }
            run_until(SECOND - Duration::from_millis(1));
            assert_eq!(polls.each_ref().map(|polls| polls.get()), [10, 1_000]);
            slow_down(0, Duration::ZERO);
            run_until(SECOND);
            assert_eq!(polls[0].get(), 1_000);
        });
        assert_eq!(said, None);
    }

    #[test]
    fn a_nodes_date_is_its_own() {
        let said = virtually(|| {
            let date = || std::time::SystemTime::now();
            let true_date = as_node(Some(0), date);
            skew(1, -3_600_000_000_000);
            let moved = true_date.duration_since(as_node(Some(1), date));
            assert_eq!(moved.expect("earlier"), 3_600 * SECOND);
            assert_eq!(as_node(Some(0), date), true_date);
        });
        assert_eq!(said, None);
    }

    #[test]
    fn random_order_follows_from_its_seed() {
        let order = |seed| {
            let (tell, told) = mpsc::channel();
            let said = virtually(move || {
                shuffle(Random::new(seed));
                for task in 0..20 {
                    let tell = tell.clone();
                    spawn(None, async move { tell.send(task).expect("it waits") });
                }
                run_until(Duration::ZERO);
            });
            assert_eq!(said, None);
            told.into_iter().collect::<Vec<i32>>()
        };
        assert_eq!(order(5), order(5));
        assert_ne!(order(5), order(6));
        assert_ne!(order(5), (0..20).collect::<Vec<_>>());
    }
}
