//! Nodes in virtual time.

use std::{
    cell::{Cell, RefCell},
    net::Ipv4Addr,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
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
    executor::{self, Node},
    net::{self, Line, Path},
    record,
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
    /// The thread can't be started.
    #[error("the simulation's thread can't be started: {0}")]
    Thread(#[from] std::io::Error),
}

static HAS_RUN: AtomicBool = AtomicBool::new(false);

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
    if HAS_RUN.swap(true, Ordering::SeqCst) {
        return Err(Failure::Second);
    }
    tell_of_panics(seed);
    let thread = std::thread::Builder::new().name("simulation".to_owned());
    let thread = thread.stack_size(STACK).spawn(move || {
        let traps_entropy = selkie_sim_host::begin(seed).map_err(Failure::Host)?;
        let mut simulation = Simulation::new(seed, traps_entropy);
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut simulation)));
        match outcome {
            Ok(outcome) => {
                simulation.end();
                Ok(outcome)
            }
            Err(panic) => {
                // What panicked once may panic again while it is taken apart.
                executor::abandon();
                resume_unwind(panic)
            }
        }
    })?;
    match thread.join() {
        Ok(outcome) => outcome,
        Err(panic) => resume_unwind(panic),
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
    work_takes: Rc<Cell<Duration>>,
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
        let work_takes = Rc::new(Cell::new(Duration::from_micros(100)));
        plug_in(Rc::new(Skin {
            work_takes: Rc::clone(&work_takes),
        }));
        net::begin(vec![vec![Path::default()]], Random::new(random.next_u64()));
        Self {
            seed,
            random,
            traps_entropy,
            work_takes,
            nodes: Vec::new(),
        }
    }

    /// Regions with these paths from each to each, before the first node is added; one region without any latency at first.
    pub fn regions(&mut self, paths: Vec<Vec<Path>>) {
        net::begin(paths, Random::new(self.random.next_u64()));
    }

    /// How long work takes that a node does off its task, such as checking a batch of items. **Default:** 100 us.
    pub fn work_takes(&mut self, duration: Duration) {
        self.work_takes.set(duration);
    }

    /// Tasks take turns in random order from now on, instead of first come, first served.
    pub fn shuffle(&mut self) {
        executor::shuffle(Random::new(self.random.next_u64()));
    }

    /// A host for a node, with a key of its own.
    pub fn add(&mut self, region: usize, line: Line) -> Node {
        let node = self.nodes.len();
        let ip = net::add_host(region, line);
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
    work_takes: Rc<Cell<Duration>>,
}

impl Host for Skin {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        executor::spawn(executor::running(), task);
    }

    fn work_takes(&self) -> Duration {
        self.work_takes.get()
    }

    fn transport(&self) -> Boxed<Box<dyn Bytes>> {
        net::transport()
    }
}

fn address(ip: Ipv4Addr) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Tcp(PORT))
}
