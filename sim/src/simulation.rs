//! Nodes in virtual time.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::Ipv4Addr,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    rc::Rc,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Waker},
    time::Duration,
};

use futures::future::BoxFuture;
use libp2p::{Multiaddr, core::transport::Boxed, multiaddr::Protocol};
use selkie::{
    Application, Config, Keypair, NetworkError, P2PNetworkManager, PeerId,
    platform::simulated::{Bytes, Host, plug_in},
};
use selkie_sim_host::{Random, clock};

use crate::{
    executor::{self, Node, Pulse},
    net::{self, Line, Path},
    record,
    script::Script,
};

/// At which every node listens.
const PORT: u16 = 4001;

/// Why there is no simulation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Another one ran in this process.
    #[error(
        "this process has run a simulation already, and what libp2p counts globally would make another one differ from run to \
         run: start a process for each (cargo nextest does, for each test)"
    )]
    Second,
    /// It would not be repeatable.
    #[error("{0}")]
    Host(&'static str),
    /// A task holds the thread up.
    #[error(
        "{} has not come back for {patience:?}, at {at:?} of virtual time: it waits for something outside of the simulation \
         (`block_on`, a lock, another thread, a file), or goes round for ever", of(*node)
    )]
    Stuck {
        /// Whose task, if a node's.
        node: Option<Node>,
        /// When it was polled.
        at: Duration,
        /// How long was waited.
        patience: Duration,
    },
    /// The thread can't be started.
    #[error("the simulation's thread can't be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl Failure {
    /// Its name, which is the same for all failures of a kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Host(_) => "host",
            Self::Stuck { .. } => "stuck",
            Self::Thread(_) => "thread",
        }
    }
}

fn of(node: Option<Node>) -> String {
    node.map_or("a task of no node".to_owned(), |node| {
        format!("a task of node {node}")
    })
}

/// How long a task may take, in real time, before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

static HAS_RUN: AtomicBool = AtomicBool::new(false);
/// Where the run panicked.
static PANICKED_AT: OnceLock<String> = OnceLock::new();

thread_local! {
    /// Where this thread panicked last.
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The file and line of the panic in which this process's simulation ended.
pub fn panicked_at() -> Option<&'static str> {
    PANICKED_AT.get().map(String::as_str)
}

/// Runs a simulation: on a thread of its own, the only one of this process.
///
/// # Errors
/// See [`Failure`].
///
/// # Panics
/// As the simulation does.
pub fn simulate<T: Send + 'static>(
    seed: u64,
    run: impl FnOnce(&mut Simulation) -> T + Send + 'static,
) -> Result<T, Failure> {
    simulate_within(PATIENCE, seed, run)
}

/// The same, with another patience for tasks that don't come back than a minute of real time.
///
/// # Errors
/// See [`Failure`].
///
/// # Panics
/// As the simulation does.
pub fn simulate_within<T: Send + 'static>(
    patience: Duration,
    seed: u64,
    run: impl FnOnce(&mut Simulation) -> T + Send + 'static,
) -> Result<T, Failure> {
    if HAS_RUN.swap(true, Ordering::SeqCst) {
        return Err(Failure::Second);
    }
    tell_of_panics(seed);
    let thread = std::thread::Builder::new().name("simulation".to_owned());
    let (ends, ended) = mpsc::channel::<()>();
    let thread = thread.stack_size(STACK).spawn(move || {
        // Dropped at the end, whatever that is.
        let _ends = ends;
        selkie_sim_host::begin(seed).map_err(Failure::Host)?;
        if !sets_virtual_timers(futures_timer::Delay::new) {
            return Err(Failure::Host(NOT_PATCHED));
        }
        let traps_entropy = selkie_sim_host::trap::set();
        let mut simulation = Simulation::new(seed, traps_entropy);
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut simulation)));
        match outcome {
            Ok(outcome) => {
                simulation.end();
                Ok(outcome)
            }
            Err(panic) => {
                if let Some(place) = LAST_PANIC.take() {
                    let _ = PANICKED_AT.set(place);
                }
                // What panicked once may panic again while it is taken apart.
                executor::abandon();
                resume_unwind(panic)
            }
        }
    })?;
    let mut watch = Watch::default();
    while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK) {
        let pulse = executor::pulse();
        if watch.still(pulse) >= patience {
            // Nothing ends that thread but the process's end.
            let Pulse { node, at, .. } = pulse;
            return Err(Failure::Stuck { node, at, patience });
        }
    }
    match thread.join() {
        Ok(outcome) => outcome,
        Err(panic) => resume_unwind(panic),
    }
}

const NOT_PATCHED: &str = "the crate futures-timer is the real one, whose timers are not virtual: put \
    `futures-timer = { path = \"…/sim/futures-timer\" }` below `[patch.crates-io]` in the Cargo.toml of your workspace \
    (docs/simulation.md, \"As a library\")";

/// Whether a timer that is waited for waits on the virtual clock.
fn sets_virtual_timers<F: Future + Unpin>(make: impl FnOnce(Duration) -> F) -> bool {
    let moment = Duration::from_secs(12_345);
    let mut timer = make(moment);
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(&mut timer).poll(&mut cx).is_pending() && clock::next() == Some(moment)
}

/// Sees whether a simulation takes steps.
#[derive(Default)]
struct Watch {
    last: Option<Pulse>,
    looks: u32,
}

impl Watch {
    /// For how long it has taken none though tasks may run, at least. Looks are counted, not the time: who sleeps meanwhile is not awaited.
    fn still(&mut self, pulse: Pulse) -> Duration {
        let same = pulse.beats.is_some() && self.last == Some(pulse);
        self.looks = if same { self.looks + 1 } else { 0 };
        self.last = Some(pulse);
        LOOK * self.looks
    }
}

/// Whoever panics in a simulation is told with its seed, its moment and what happened last.
fn tell_of_panics(seed: u64) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        if !selkie_sim_host::is_virtual() {
            return;
        }
        let place = panic.location();
        LAST_PANIC.set(place.map(|place| format!("{}:{}", place.file(), place.line())));
        let node = executor::running().map_or("no node".to_owned(), |node| format!("node {node}"));
        eprintln!(
            "seed {seed}, at {:?} of virtual time, {node}; the last events:",
            clock::now()
        );
        for (at, node, words) in record::last() {
            eprintln!("{:>12.6} node {node}: {words}", at.as_secs_f64());
        }
    }));
}

/// The simulation's stack, in bytes: as much as a process has.
const STACK: usize = 8 << 20;

/// See the module's documentation.
pub struct Simulation {
    seed: u64,
    random: Random,
    traps_entropy: bool,
    work: Rc<RefCell<Work>>,
    scripts: Scripts,
    nodes: Vec<Kept>,
}

/// A node, on or off.
struct Kept {
    address: Multiaddr,
    keypair: Keypair,
    running: Option<P2PNetworkManager>,
}

impl Simulation {
    fn new(seed: u64, traps_entropy: bool) -> Self {
        let mut random = Random::new(seed ^ 0x73_69_6d);
        let (work, scripts) = (Rc::default(), Scripts::default());
        plug_in(Rc::new(Skin {
            work: Rc::clone(&work),
            scripts: Rc::clone(&scripts),
        }));
        net::begin(vec![vec![Path::default()]], Random::new(random.next_u64()));
        Self {
            seed,
            random,
            traps_entropy,
            work,
            scripts,
            nodes: Vec::new(),
        }
    }

    /// Regions with these paths from each to each, before the first node is added; one region without any latency at first.
    pub fn regions(&mut self, paths: Vec<Vec<Path>>) {
        net::begin(paths, Random::new(self.random.next_u64()));
    }

    /// How long work takes that a node does off its task, such as checking a batch of items. **Default:** 100 us.
    pub fn work_takes(&mut self, duration: Duration) {
        self.work.borrow_mut().takes = duration;
    }

    /// The same on one node, from now on; `None`: as on the others.
    pub fn work_takes_on(&mut self, node: Node, duration: Option<Duration>) {
        let own = &mut self.work.borrow_mut().own;
        match duration {
            Some(duration) => own.insert(node, duration),
            None => own.remove(&node),
        };
    }

    /// Tasks take turns in random order from now on, instead of first come, first served.
    pub fn shuffle(&mut self) {
        executor::shuffle(Random::new(self.random.next_u64()));
    }

    /// A host for a node, with a key of its own, in a network (IPv4 /16) of its own.
    pub fn add(&mut self, region: usize, line: Line) -> Node {
        self.host_at(net::add_host(region, line, None))
    }

    /// The same in the network of another's host.
    pub fn add_beside(&mut self, neighbour: Node, region: usize, line: Line) -> Node {
        self.host_at(net::add_host(region, line, Some(neighbour)))
    }

    fn host_at(&mut self, ip: Ipv4Addr) -> Node {
        let node = self.nodes.len();
        let keypair = executor::as_node(Some(node), Keypair::generate_ed25519);
        self.nodes.push(Kept {
            address: address(ip),
            keypair,
            running: None,
        });
        node
    }

    /// Where others reach this node, its id at the end.
    pub fn address(&self, node: Node) -> Multiaddr {
        let address = self.nodes[node].address.clone();
        address.with(Protocol::P2p(self.peer(node)))
    }

    /// The node has another key from now on: it is to be started anew.
    pub fn rename(&mut self, node: Node) {
        self.nodes[node].keypair = executor::as_node(Some(node), Keypair::generate_ed25519);
    }

    /// A node's key, and the address at which others expect it.
    pub fn host(&self, node: Node) -> (Keypair, Multiaddr) {
        let kept = &self.nodes[node];
        (kept.keypair.clone(), kept.address.clone())
    }

    /// What a node keeps back of what it would send, or changes.
    pub fn script(&mut self, node: Node, script: Script) {
        self.scripts.borrow_mut().insert(node, script);
    }

    /// Makes a node of any kind on its host, and runs its task; it ends by [`Simulation::crash`].
    pub fn run_on<T, F>(&mut self, node: Node, make: impl FnOnce() -> (T, F)) -> T
    where
        F: Future<Output = ()> + 'static,
    {
        let (handle, task) = executor::as_node(Some(node), make);
        executor::spawn(Some(node), task);
        handle
    }

    /// Starts a node on its host, which listens where others expect it, and dials its bootstrap peers.
    ///
    /// # Errors
    /// As [`P2PNetworkManager::with`] and [`P2PNetworkManager::start`].
    pub fn start(
        &mut self,
        node: Node,
        mut config: Config,
        application: impl Application,
    ) -> Result<P2PNetworkManager, NetworkError> {
        let kept = &mut self.nodes[node];
        config.network.listen_addresses = vec![kept.address.clone()];
        let keypair = kept.keypair.clone();
        let manager = self.block_on(node, async move {
            let manager = P2PNetworkManager::with(config, keypair, application).await?;
            manager.start().await?;
            Ok::<_, NetworkError>(manager)
        })?;
        self.nodes[node].running = Some(manager.clone());
        let dials = manager.clone();
        executor::spawn(Some(node), async move {
            // Those that are not reached now are dialled again later.
            let _ = dials.connect_bootstrap_peers().await;
        });
        Ok(manager)
    }

    /// This node's id.
    pub fn peer(&self, node: Node) -> PeerId {
        self.nodes[node].keypair.public().to_peer_id()
    }

    /// A node that runs.
    pub fn node(&self, node: Node) -> Option<&P2PNetworkManager> {
        self.nodes.get(node)?.running.as_ref()
    }

    /// Ends a node's process at once. Its connections end as those of a process that is killed; its host stays.
    pub fn crash(&mut self, node: Node) {
        executor::kill(node);
        let running = self.nodes[node].running.take();
        executor::as_node(Some(node), || drop(running));
    }

    /// Starts a task beside the nodes, which is no node's.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        executor::spawn(None, task);
    }

    /// Runs until a future of this node is done.
    ///
    /// # Panics
    /// Where it never is.
    pub fn block_on<T: 'static>(
        &mut self,
        node: Node,
        future: impl Future<Output = T> + 'static,
    ) -> T {
        let outcome = Rc::new(RefCell::new(None));
        let set = Rc::clone(&outcome);
        executor::spawn(Some(node), async move {
            let value = future.await;
            set.replace(Some(value));
        });
        loop {
            executor::run_until(clock::now());
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
            let next = clock::next().expect("nothing will happen any more, and this is not done");
            executor::run_until(next);
        }
    }

    /// Lets so much time go by.
    pub fn run_for(&mut self, duration: Duration) {
        executor::run_until(clock::now() + duration);
    }

    /// The moment, from the simulation's beginning.
    pub fn now(&self) -> Duration {
        clock::now()
    }

    /// Random numbers for who describes the simulation: those of the nodes are others.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether randomness that a crate takes from the kernel itself would end the run. Else it would show in the hash only.
    pub fn traps_entropy(&self) -> bool {
        self.traps_entropy
    }

    /// Notes that something happened at a node, in words; it counts for the hash.
    pub fn note(&self, node: Node, words: &str) {
        record::event(node, words);
    }

    /// A hash of every byte that was carried and every event, and when: the same in each run of a seed.
    pub fn hash(&self) -> String {
        record::so_far()
    }

    /// Ends all nodes where they stand.
    fn end(&mut self) {
        self.nodes.clear();
        executor::clear();
        net::clear();
    }
}

/// What the crate `selkie` asks of its host.
struct Skin {
    work: Rc<RefCell<Work>>,
    scripts: Scripts,
}

/// Of the nodes that have one.
type Scripts = Rc<RefCell<HashMap<Node, Script>>>;

/// What work takes that nodes do off their tasks.
struct Work {
    takes: Duration,
    /// On these nodes, instead.
    own: HashMap<Node, Duration>,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            takes: Duration::from_micros(100),
            own: HashMap::new(),
        }
    }
}

impl Host for Skin {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        executor::spawn(executor::running(), task);
    }

    fn work_takes(&self) -> Duration {
        let work = self.work.borrow();
        let own = executor::running().and_then(|node| work.own.get(&node));
        own.copied().unwrap_or(work.takes)
    }

    fn sent_for(&self, frame: bytes::Bytes) -> Option<bytes::Bytes> {
        let scripts = self.scripts.borrow();
        let script = executor::running().and_then(|node| scripts.get(&node).copied());
        match script {
            Some(script) => script.sent_for(frame),
            None => Some(frame),
        }
    }

    fn transport(&self) -> Boxed<Box<dyn Bytes>> {
        net::transport()
    }
}

fn address(ip: Ipv4Addr) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Tcp(PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_not_the_clocks_is_told_from_one_that_is() {
        let thread = std::thread::spawn(|| {
            selkie_sim_host::begin(1).expect("a fresh thread");
            assert!(sets_virtual_timers(futures_timer::Delay::new));
            assert!(!sets_virtual_timers(|_| std::future::pending::<()>()));
            assert!(!sets_virtual_timers(|_| std::future::ready(())));
        });
        thread.join().expect("it passes");
    }

    #[test]
    fn who_takes_no_step_while_tasks_may_run_is_still() {
        let pulse = |beats| Pulse {
            beats,
            at: Duration::ZERO,
            node: Some(1),
        };
        let mut watch = Watch::default();
        let still = |watch: &mut Watch, beats| watch.still(pulse(beats));
        for _ in 0..3 {
            assert_eq!(still(&mut watch, None), Duration::ZERO);
        }
        assert_eq!(still(&mut watch, Some(1)), Duration::ZERO);
        assert_eq!(still(&mut watch, Some(1)), LOOK);
        assert_eq!(still(&mut watch, Some(1)), 2 * LOOK);
        assert_eq!(still(&mut watch, Some(2)), Duration::ZERO);
    }
}
