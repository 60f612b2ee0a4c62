use std::{cell::RefCell, future::poll_fn, pin::Pin, rc::Rc};

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{
    Multiaddr,
    core::{
        Endpoint,
        transport::{DialOpts, ListenerId, PortUse, Transport, TransportEvent},
    },
    multiaddr::Protocol,
};
use selkie::platform::simulated::Bytes;

use super::*;
use crate::executor;

const MS: Duration = Duration::from_millis(1);
/// 8 Mbit/s.
const MEGABYTE: Line = Line {
    up: 1_000_000,
    down: 0,
};

/// On a thread in virtual time. No libp2p swarm is here, so several in a process are alike.
fn virtually(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        selkie_sim_host::begin(1).expect("a fresh thread");
        test();
        executor::clear();
        clear();
    });
    thread.join().expect("it passes");
}

/// So many hosts, all at the same distance.
fn hosts(count: usize, path: Path, line: Line) -> Vec<Multiaddr> {
    begin(vec![vec![path]], Random::new(2));
    let addresses = (0..count).map(|_| add_host(0, line));
    addresses
        .map(|ip| Multiaddr::from(ip).with(Protocol::Tcp(4001)))
        .collect()
}

type Connection = Box<dyn Bytes>;

/// What comes to a listener is handed on.
fn listen(node: Node, address: Multiaddr, took: impl Fn(Connection) + 'static) {
    let mut transport = executor::as_node(Some(node), transport);
    transport
        .listen_on(ListenerId::next(), address)
        .expect("it is free");
    executor::spawn(Some(node), async move {
        loop {
            let event = poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await;
            if let TransportEvent::Incoming { upgrade, .. } = event {
                took(upgrade.await.expect("a connection"));
            }
        }
    });
}

async fn dial(node: Node, address: Multiaddr) -> std::io::Result<Connection> {
    let mut transport = executor::as_node(Some(node), transport);
    let options = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::New,
    };
    transport
        .dial(address, options)
        .expect("an address of TCP")
        .await
}

/// What has come to a sink, and when its end did.
#[derive(Clone, Default)]
struct Sink(Rc<RefCell<(Vec<u8>, Option<Duration>)>>);

impl Sink {
    /// Reads all that comes to this host.
    fn open(node: Node, address: Multiaddr) -> Self {
        let sink = Self::default();
        let same = sink.clone();
        listen(node, address, move |mut connection| {
            let sink = same.clone();
            executor::spawn(Some(node), async move {
                let mut all = Vec::new();
                let ended = connection.read_to_end(&mut all).await;
                sink.0.borrow_mut().0.extend(all);
                if ended.is_ok() {
                    sink.0.borrow_mut().1 = Some(now());
                }
            });
        });
        sink
    }

    fn ended(&self) -> Option<Duration> {
        self.0.borrow().1
    }
}

fn send(from: Node, to: Multiaddr, bytes: Vec<u8>) {
    executor::spawn(Some(from), async move {
        let mut connection = dial(from, to).await.expect("it is there");
        if connection.write_all(&bytes).await.is_ok() {
            let _ = connection.close().await;
        }
    });
}

fn some_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    Random::new(9).fill(&mut bytes);
    bytes
}

fn path(latency: Duration) -> Path {
    Path {
        latency,
        ..Path::default()
    }
}

#[test]
fn a_transfer_takes_what_its_line_and_its_window_take() {
    virtually(|| {
        let places = hosts(2, path(50 * MS), MEGABYTE);
        let sink = Sink::open(1, places[1].clone());
        send(0, places[1].clone(), some_bytes(1_000_000));
        executor::run_until(Duration::from_secs(10));
        assert_eq!(sink.0.borrow().0, some_bytes(1_000_000));
        let ended = sink.ended().expect("all is there");
        // The line takes 1.03 s with headers; before, a round trip and a half to connect and some to open the window.
        assert!(ended > 1_150 * MS && ended < 1_600 * MS, "{ended:?}");
        let on_line = sent(0);
        assert!(on_line > 1_027_000 && on_line < 1_040_000, "{on_line}");
    });
}

#[test]
fn the_receivers_line_holds_up_too_and_is_shared() {
    virtually(|| {
        let slow = Line {
            up: 0,
            down: 1_000_000,
        };
        let places = hosts(3, path(10 * MS), slow);
        let sink = Sink::open(2, places[2].clone());
        for sender in [0, 1] {
            send(sender, places[2].clone(), some_bytes(500_000));
        }
        executor::run_until(Duration::from_secs(10));
        let ended = sink.ended().expect("both are there");
        assert_eq!(sink.0.borrow().0.len(), 1_000_000);
        assert!(ended > 1_030 * MS && ended < 1_500 * MS, "{ended:?}");
    });
}

#[test]
fn connections_share_their_line_fairly() {
    virtually(|| {
        let places = hosts(3, path(20 * MS), MEGABYTE);
        let sinks = [1, 2].map(|node| Sink::open(node, places[node].clone()));
        for to in [1, 2] {
            send(0, places[to].clone(), some_bytes(1_000_000));
        }
        executor::run_until(Duration::from_secs(10));
        let [one, other] = sinks.map(|sink| sink.ended().expect("all is there"));
        assert!(one.abs_diff(other) < 300 * MS, "{one:?} {other:?}");
    });
}

#[test]
fn loss_costs_time_and_nothing_else() {
    virtually(|| {
        let lossy = Path {
            loss: 0.02,
            ..path(20 * MS)
        };
        let places = hosts(2, lossy, Line::default());
        let sink = Sink::open(1, places[1].clone());
        send(0, places[1].clone(), some_bytes(1_000_000));
        executor::run_until(Duration::from_secs(120));
        let ended = sink.ended().expect("all is there");
        assert_eq!(sink.0.borrow().0, some_bytes(1_000_000));
        assert!(ended > 500 * MS, "{ended:?}");
    });
}

#[test]
fn what_a_cut_holds_up_is_there_once_it_is_mended() {
    virtually(|| {
        let places = hosts(2, path(20 * MS), MEGABYTE);
        let sink = Sink::open(1, places[1].clone());
        send(0, places[1].clone(), some_bytes(500_000));
        executor::run_until(300 * MS);
        cut(0, 1, true);
        executor::run_until(Duration::from_secs(5));
        assert!(sink.ended().is_none());
        cut(0, 1, false);
        executor::run_until(Duration::from_secs(30));
        assert_eq!(sink.0.borrow().0, some_bytes(500_000));
    });
}

#[test]
fn a_reset_ends_both_ends_and_a_part_lets_nobody_in() {
    virtually(|| {
        let places = hosts(2, path(20 * MS), MEGABYTE);
        let sink = Sink::open(1, places[1].clone());
        send(0, places[1].clone(), some_bytes(5_000_000));
        executor::run_until(Duration::from_secs(1));
        reset(1, 0);
        executor::run_until(Duration::from_secs(20));
        let received = sink.0.borrow().0.len();
        assert!(
            sink.ended().is_none() && received > 0 && received < 5_000_000,
            "{received}"
        );
        part(1, 1);
        send(0, places[1].clone(), vec![1]);
        executor::run_until(Duration::from_secs(25));
        assert_eq!(sink.0.borrow().0.len(), received);
        // A dial knocks again.
        part(1, 0);
        executor::run_until(Duration::from_secs(40));
        assert_eq!(sink.0.borrow().0.len(), received + 1);
    });
}

#[test]
fn where_nobody_listens_a_dial_is_refused_and_behind_a_nat_nobody_answers() {
    virtually(|| {
        let places = hosts(2, path(20 * MS), Line::default());
        let refused = Rc::new(RefCell::new(None));
        let set = Rc::clone(&refused);
        let to = places[1].clone();
        executor::spawn(Some(0), async move {
            let refusal = dial(0, to).await.err().map(|error| error.to_string());
            set.replace(Some((refusal, now())));
        });
        executor::run_until(Duration::from_secs(1));
        let (refusal, at) = refused.take().expect("the dial is over");
        let refusal = refusal.expect("nobody listens");
        assert!(
            refusal.contains("refused") && at == 40 * MS,
            "{refusal} {at:?}"
        );
        let sink = Sink::open(1, places[1].clone());
        take_inbound(1, false);
        send(0, places[1].clone(), vec![1]);
        executor::run_until(Duration::from_secs(10));
        assert!(sink.0.borrow().0.is_empty());
    });
}
