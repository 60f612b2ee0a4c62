//! A chain whose nodes lose their power, and with it what their disks had not kept yet. One test, since a process has one simulation.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use selkie::{
    Config, Item, NetworkEvent, PeerInfo,
    chain::ledger::{Genesis, HeaderVote, Ledger, SCHEMA, development_key},
};
use selkie_sim::{
    Simulation,
    disk::Disk,
    net::{self, Line, Path},
    simulate,
};

const NETWORK: &str = "power";
/// The first proposes, the others vote.
const NODES: usize = 5;
const STEP: Duration = Duration::from_millis(200);
/// So long a write is not kept yet: longer than a step, so that most nodes have some to lose.
const FLUSH: Duration = Duration::from_millis(300);

/// Who voted at which height, and for which blocks, as others saw it.
type Votes = Rc<RefCell<BTreeMap<(Vec<u8>, u64), BTreeSet<[u8; 32]>>>>;

/// The nodes of a chain, and what is under them.
struct Chain {
    disks: Vec<Disk>,
    ledgers: Vec<Ledger>,
    votes: Votes,
}

impl Chain {
    fn new(simulation: &mut Simulation) -> Self {
        let latency = Duration::from_millis(30);
        simulation.regions(vec![vec![Path {
            latency,
            ..Path::default()
        }]]);
        let disks = (0..NODES).map(|_| Disk::new(FLUSH));
        let disks: Vec<Disk> = disks.collect();
        let chain = Self {
            ledgers: disks.iter().map(open).collect(),
            disks,
            votes: Votes::default(),
        };
        for _ in 0..NODES {
            simulation.add(0, Line::default());
        }
        (0..NODES).for_each(|node| chain.start(node, simulation));
        chain
    }

    fn start(&self, node: usize, simulation: &mut Simulation) {
        let mut config = Config::default();
        let ledger = self.ledgers[node].clone();
        config.chain.network_id = NETWORK.to_owned();
        config.chain.genesis = ledger.genesis_hash().to_vec();
        let others = (0..NODES).filter(|other| *other != node);
        config.network.bootstrap_peers = others
            .map(|other| {
                let address = simulation.address(other).to_string();
                address.parse::<PeerInfo>().expect("an address")
            })
            .collect();
        let manager = simulation.start(node, config, ledger).expect("it starts");
        let (mut events, votes) = (manager.subscribe_events(), Rc::clone(&self.votes));
        drop(manager);
        simulation.spawn(async move {
            while let Some(event) = events.recv().await {
                if let NetworkEvent::ItemAccepted {
                    item: Item::Vote(vote),
                    source: Some(_),
                    ..
                } = event
                {
                    let vote = HeaderVote::decode(&vote.data).expect("it was accepted");
                    let voter = (vote.voter.as_bytes().to_vec(), vote.height);
                    votes.borrow_mut().entry(voter).or_default().insert(vote.id);
                }
            }
        });
    }

    /// Its host has no power for a while. Returns how many writes its disk has lost.
    fn lose_power(&mut self, node: usize, simulation: &mut Simulation) -> usize {
        net::power(node, false);
        simulation.crash(node);
        let lost = self.disks[node].lose_power(simulation.random());
        simulation.run_for(3 * STEP);
        net::power(node, true);
        self.ledgers[node] = open(&self.disks[node]);
        self.start(node, simulation);
        lost
    }

    /// The proposer makes a block, and whoever has not voted for its newest block does.
    fn go_on(&self, simulation: &mut Simulation) {
        let key = |role: String| development_key(NETWORK, &role);
        let time = u64::try_from(simulation.now().as_millis()).expect("a date");
        let block = self.ledgers[0].propose(&key("proposer".to_owned()), time);
        self.submit(0, Item::Block(block.expect("it may")), simulation);
        simulation.run_for(STEP);
        for node in 1..NODES {
            let key = key(format!("voter {}", node - 1));
            if let Some(vote) = self.ledgers[node].vote(&key).expect("it is kept") {
                self.submit(node, Item::Vote(vote), simulation);
            }
        }
        simulation.run_for(STEP);
    }

    /// Whoever has just started has nobody to tell it.
    fn submit(&self, node: usize, item: Item, simulation: &mut Simulation) {
        let manager = simulation.node(node).expect("it runs").clone();
        simulation.run_on(node, || {
            let submitted = async move { drop(manager.submit(item).await) };
            ((), submitted)
        });
    }
}

fn open(disk: &Disk) -> Ledger {
    let store = disk.open(&SCHEMA).expect("it is whole");
    Ledger::open(Genesis::development(NETWORK), Arc::new(store)).expect("it is a chain")
}

#[test]
fn whoever_loses_writes_votes_once_for_a_height_and_has_the_same_chain_in_the_end() {
    let outcome = simulate(11, |simulation| {
        let mut chain = Chain::new(simulation);
        simulation.run_for(Duration::from_secs(3));
        let (mut lost, mut last_final) = (0, vec![0; NODES]);
        for step in 0..60 {
            chain.go_on(simulation);
            if step % 3 == 0 {
                let node = simulation.random().index(NODES);
                let pause = simulation.random().below(100);
                simulation.run_for(Duration::from_millis(pause));
                lost += chain.lose_power(node, simulation);
            }
            for (node, last) in last_final.iter_mut().enumerate() {
                *last = chain.ledgers[node].tip().final_height.max(*last);
            }
        }
        simulation.run_for(Duration::from_secs(60));
        chain.go_on(simulation);
        simulation.run_for(Duration::from_secs(10));
        let tips: Vec<_> = chain.ledgers.iter().map(Ledger::tip).collect();
        let votes = chain.votes.borrow().clone();
        (lost, last_final, tips, votes)
    });
    let (lost, last_final, tips, votes) = outcome.expect("the first of this process");
    assert!(lost > 10, "{lost} writes were lost");
    let twice: Vec<_> = votes
        .iter()
        .filter(|(_, blocks)| blocks.len() > 1)
        .collect();
    assert!(twice.is_empty(), "voted twice: {twice:?}");
    assert!(tips.iter().all(|tip| *tip == tips[0]), "{tips:?}");
    assert!(tips[0].final_height > 20, "{tips:?}");
    assert!(
        last_final
            .iter()
            .all(|height| *height <= tips[0].final_height)
    );
}
