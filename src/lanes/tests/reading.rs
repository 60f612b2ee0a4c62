//! Whether a peer is heard before the core knows of it, and how often its streams are asked for: by orders, and over whole
//! connections, of swarms that are polled by hand.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use libp2p::{
    Swarm, Transport as _,
    core::{transport::MemoryTransport, upgrade::Version},
    identity::Keypair,
    noise,
    swarm::{
        self, ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError,
        dial_opts::DialOpts,
        handler::{ConnectionEvent, DialUpgradeError},
    },
    yamux,
};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::platform::test;

#[test]
fn nothing_is_read_before_our_own_streams_are_open() {
    let mut driven = Driven::new();
    let reads = |driven: &mut Driven| {
        let (orders, _) = driven.drain();
        let mut orders = orders.iter();
        orders.any(|(_, order)| matches!(order, Order::Read(true)))
    };
    assert!(!reads(&mut driven));
    driven.report(1, Report::Begun);
    assert!(!reads(&mut driven), "the peer's are, and ours are not");
    driven.report(1, Report::Open(1));
    assert!(reads(&mut driven));
}

/// Whether anybody was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Tasks = Arc<Mutex<Vec<BoxFuture<'static, ()>>>>;

/// Two nodes, and the tasks of their connection.
struct Pair {
    nodes: [Swarm<Lanes<Probe>>; 2],
    tasks: Tasks,
}

impl Pair {
    fn connected() -> Self {
        let tasks = Tasks::default();
        let nodes = [(); 2].map(|()| node(&tasks));
        let mut pair = Self { nodes, tasks };
        let any = "/memory/0".parse().expect("an address");
        pair.nodes[0].listen_on(any).expect("a port is free");
        pair.settle();
        let peer = pair.peer(0);
        let address = pair.nodes[0].listeners().next().cloned();
        let address = address.expect("it listens");
        let dial = DialOpts::peer_id(peer).addresses(vec![address]);
        pair.nodes[1].dial(dial.build()).expect("it can be dialled");
        pair.settle();
        pair
    }

    fn peer(&self, node: usize) -> PeerId {
        *self.nodes[node].local_peer_id()
    }

    fn core(&mut self, node: usize) -> &mut Probe {
        &mut self.nodes[node].behaviour_mut().core
    }

    /// A node has heard the other's hello.
    fn greet(&mut self, node: usize) {
        let other = self.peer(1 - node);
        self.nodes[node].behaviour_mut().greeted(other);
        self.settle();
    }

    /// Until nobody has anything left to do.
    fn settle(&mut self) {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        while woken.0.swap(false, Ordering::Relaxed) {
            for node in &mut self.nodes {
                while node.poll_next_unpin(&mut cx).is_ready() {}
            }
            lock(&self.tasks).retain_mut(|task| task.poll_unpin(&mut cx).is_pending());
        }
    }
}

fn node(tasks: &Tasks) -> Swarm<Lanes<Probe>> {
    let keypair = Keypair::generate_ed25519();
    let transport = MemoryTransport::new()
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(&keypair).expect("a key"))
        .multiplex(yamux::Config::default())
        .boxed();
    let tasks = Arc::clone(tasks);
    let config = swarm::Config::with_executor(move |task| lock(&tasks).push(task))
        .with_idle_connection_timeout(Duration::from_secs(60));
    let lanes = Lanes::new(&Config::default(), Probe::default(), Links::default());
    let peer = keypair.public().to_peer_id();
    Swarm::new(transport, lanes.expect("right"), peer, config)
}

#[test]
fn what_a_peer_sends_before_our_own_streams_are_open_waits_for_them() {
    let mut pair = Pair::connected();
    pair.greet(1);
    assert_eq!(pair.core(1).met, ["joined"]);
    let other = pair.peer(0);
    pair.core(1).waiting[Class::Transaction.place()] = 1;
    pair.core(1).actions.push_back(Action::Feed(other));
    pair.settle();
    assert_eq!(pair.core(1).waiting, [0; Class::ALL.len()], "it is sent");
    assert!(pair.core(0).met.is_empty());
    pair.greet(0);
    assert_eq!(pair.core(0).met, ["joined"]);
    // The probe's frame is a thousand times the number 3, and so as many frames of three bytes as that makes.
    assert_eq!(pair.core(0).heard, FRAME / 4);
}

proptest! {
    /// However late the peer answers, it has no more to answer than one stream for each lane, and an attempt ends once.
    #[test]
    fn who_lets_us_wait_for_streams_is_asked_for_one_of_each(steps in vec(0..4_usize, 1..60)) {
        let mut driven = Driven::new();
        let address = "/memory/1".parse().expect("an address");
        let mut handler = driven.lanes.handler(ConnectionId::new_unchecked(1), (driven.peer, Endpoint::Dialer), &address);
        let mut cx = Context::from_waker(Waker::noop());
        let (mut epoch, mut asked, mut ended) = (0, [false; Lane::ALL.len()], Vec::new());
        for step in steps {
            match Lane::ALL.get(step) {
                None => {
                    epoch += 1;
                    handler.on_behaviour_event(Order::Open(epoch));
                }
                Some(&lane) if std::mem::take(&mut asked[step]) => {
                    let error = StreamUpgradeError::Timeout;
                    let late = DialUpgradeError { info: lane, error };
                    handler.on_connection_event(ConnectionEvent::DialUpgradeError(late));
                }
                Some(_) => {}
            }
            while let Poll::Ready(event) = handler.poll(&mut cx) {
                match event {
                    ConnectionHandlerEvent::OutboundSubstreamRequest { protocol } => {
                        let lane = *protocol.info();
                        prop_assert!(!std::mem::replace(&mut asked[lane.place()], true));
                    }
                    ConnectionHandlerEvent::NotifyBehaviour(Report::Broken(of)) => {
                        prop_assert!(of == epoch && !ended.contains(&epoch));
                        ended.push(epoch);
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
    }
}
