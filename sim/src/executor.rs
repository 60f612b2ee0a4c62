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
        Arc,
        atomic::{AtomicBool, Ordering},
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
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        assert!(
            is_virtual(),
            "a task of the simulation was woken by another thread, so this run can't be repeated"
        );
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
        let woken = Arc::new(Woken { task, queued });
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
/// Where tasks wake each other for ever and time stands still.
pub fn run_until(end: Duration) {
    let mut at_this_moment = 0_u64;
    loop {
        while let Some(woken) = pop() {
            poll(&woken);
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
    EXECUTOR.with_borrow_mut(|executor| {
        let skew = node.and_then(|node| executor.skews.get(&node));
        clock::skew(skew.copied().unwrap_or(0));
        std::mem::replace(&mut executor.running, node)
    })
}
