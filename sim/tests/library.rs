//! The simulation as a library: a chain's own application in virtual nodes. One test, since a process has one simulation.

use std::time::Duration;

use selkie::{Application, Checked, Config, PeerInfo, Transaction};
use selkie_sim::{
    Failure,
    net::{Line, Path},
    simulate,
};

/// A chain that takes even transactions only.
struct Even;

impl Application for Even {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        match transaction.data.last() {
            Some(last) if last % 2 == 0 => Checked::opaque(&transaction.data),
            _ => Checked::reject(&transaction.data, "it is odd"),
        }
    }
}

#[test]
fn a_chain_runs_in_virtual_nodes_once_a_process() {
    let accepted = simulate(7, |simulation| {
        let latency = Duration::from_millis(80);
        simulation.regions(vec![vec![Path {
            latency,
            ..Path::default()
        }]]);
        for _ in 0..6 {
            simulation.add(0, Line::default());
        }
        for node in 0..6 {
            let mut config = Config::default();
            let next: PeerInfo = simulation
                .address((node + 1) % 6)
                .to_string()
                .parse()
                .expect("an address");
            config.network.bootstrap_peers = vec![next];
            simulation.start(node, config, Even).expect("it starts");
        }
        simulation.run_for(Duration::from_secs(5));
        let mut events = simulation.node(3).expect("it runs").subscribe_events();
        let publisher = simulation.node(0).expect("it runs").clone();
        simulation.block_on(0, async move {
            let sent = publisher.broadcast_transactions(vec![
                Transaction::new("even: 2"),
                Transaction::new("odd: 3"),
            ]);
            let sent = sent.await.expect("there are peers");
            assert!(sent[0].is_ok() && sent[1].is_err());
        });
        simulation.block_on(3, async move {
            loop {
                let event = events.recv().await.expect("it runs");
                if let selkie::NetworkEvent::ItemAccepted { item, .. } = event {
                    return item.data().clone();
                }
            }
        })
    });
    assert_eq!(&*accepted.expect("the first of this process"), b"even: 2");
    let second = simulate(7, |_| ());
    assert!(matches!(second, Err(Failure::Second)));
}
