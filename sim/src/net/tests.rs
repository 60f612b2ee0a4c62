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
    let addresses = (0..count).map(|_| add_host(0, line, None));
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
                let mut room = vec![0; 64 << 10];
                while let Ok(count) = connection.read(&mut room).await {
                    if count == 0 {
                        sink.0.borrow_mut().1 = Some(now());
                        break;
                    }
                    sink.0.borrow_mut().0.extend(&room[..count]);
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
        let on_line = sent(0).line;
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

/// Writes until it can't, and tells how much it could, and why it could no more.
fn pour(from: Node, to: Multiaddr) -> Rc<RefCell<(usize, Option<std::io::Error>)>> {
    let poured = Rc::new(RefCell::new((0, None)));
    let told = Rc::clone(&poured);
    executor::spawn(Some(from), async move {
        let mut connection = dial(from, to).await.expect("it is there");
        let bytes = some_bytes(10_000);
        loop {
            match connection.write(&bytes).await {
                Ok(count) => told.borrow_mut().0 += count,
                Err(error) => {
                    told.borrow_mut().1 = Some(error);
                    // It is held, as by somebody who has not looked.
                    std::future::pending::<()>().await;
                }
            }
        }
    });
    poured
}

#[test]
fn acknowledgements_do_not_cross_a_cut_so_a_sender_that_is_heard_stalls_and_goes_on_later() {
    virtually(|| {
        let places = hosts(2, path(20 * MS), MEGABYTE);
        let sink = Sink::open(1, places[1].clone());
        send(0, places[1].clone(), some_bytes(3_000_000));
        executor::run_until(500 * MS);
        // What the sender sends arrives, and it hears nothing of that.
        cut(1, 0, true);
        executor::run_until(2_000 * MS);
        let stalled = sink.0.borrow().0.len();
        executor::run_until(4_000 * MS);
        assert_eq!(sink.0.borrow().0.len(), stalled, "its window is full");
        assert!(stalled > 300_000 && stalled < 2_900_000, "{stalled}");
        cut(1, 0, false);
        executor::run_until(Duration::from_secs(40));
        assert_eq!(sink.0.borrow().0, some_bytes(3_000_000));
        assert!(sink.ended().is_some());
    });
}

#[test]
fn who_is_never_acknowledged_gives_up_after_a_quarter_of_an_hour() {
    for cut_off in [(1, 0), (0, 1)] {
        virtually(move || {
            let places = hosts(2, path(20 * MS), MEGABYTE);
            let sink = Sink::open(1, places[1].clone());
            let poured = pour(0, places[1].clone());
            executor::run_until(Duration::from_secs(1));
            cut(cut_off.0, cut_off.1, true);
            executor::run_until(Duration::from_secs(10 * 60));
            assert!(poured.borrow().1.is_none(), "{cut_off:?}");
            executor::run_until(Duration::from_secs(20 * 60));
            let error = poured.borrow().1.as_ref().map(std::io::Error::kind);
            assert_eq!(error, Some(std::io::ErrorKind::TimedOut), "{cut_off:?}");
            assert!(sink.ended().is_none(), "nobody tells the receiver");
        });
    }
}

#[test]
fn a_lost_packet_holds_up_what_is_behind_it_and_nothing_before_it() {
    virtually(|| {
        let lossy = Path {
            loss: 0.05,
            ..path(100 * MS)
        };
        let places = hosts(80, lossy, Line::default());
        // Ten packets, which are one piece.
        let sinks: Vec<_> = (0..40)
            .map(|pair| {
                let sink = Sink::open(pair + 40, places[pair + 40].clone());
                send(pair, places[pair + 40].clone(), some_bytes(10 * SEGMENT));
                sink
            })
            .collect();
        executor::run_until(350 * MS);
        let came = || sinks.iter().map(|sink| sink.0.borrow().0.len() / SEGMENT);
        assert!(came().any(|packets| packets > 0 && packets < 10));
        assert!(came().any(|packets| packets == 10));
        executor::run_until(Duration::from_secs(60));
        assert!(came().all(|packets| packets == 10));
        // One in twenty, and that many of them again.
        let again: u64 = (0..40).map(|node| sent(node).again).sum();
        let packets = again / 1500;
        assert!(packets > 8 && packets < 50, "{packets} of 400");
    });
}

#[test]
fn single_packets_are_lost_as_often_as_those_of_long_pieces() {
    virtually(|| {
        begin(vec![vec![path(MS)]], Random::new(3));
        let (mut single, mut long) = (0, 0);
        with(|network| {
            for _ in 0..1_000 {
                single += (0..45)
                    .filter(|_| network.losses(1, 0.01).is_some())
                    .count();
                long += network.losses(45, 0.01).map_or(0, |(_, lost)| lost);
            }
            assert_eq!(network.losses(45, 0.0), None);
            assert_eq!(network.losses(3, 1.0), Some((0, 3)));
        });
        assert!(single.abs_diff(long) < 100 && long > 350, "{single} {long}");
    });
}

#[test]
fn a_black_hole_takes_all_both_ways_and_gives_it_back() {
    virtually(|| {
        let places = hosts(3, path(20 * MS), MEGABYTE);
        let sink = Sink::open(1, places[1].clone());
        send(0, places[1].clone(), some_bytes(500_000));
        executor::run_until(300 * MS);
        black_hole(1, true);
        let before = sink.0.borrow().0.len();
        send(2, places[1].clone(), vec![7; 9]);
        executor::run_until(Duration::from_secs(5));
        assert_eq!(sink.0.borrow().0.len(), before);
        black_hole(1, false);
        executor::run_until(Duration::from_secs(40));
        assert_eq!(sink.0.borrow().0.len(), 500_009);
    });
}

#[test]
fn a_host_without_power_says_nothing_and_later_knows_of_no_connection() {
    virtually(|| {
        let places = hosts(2, path(20 * MS), MEGABYTE);
        let sink = Sink::open(1, places[1].clone());
        let poured = pour(0, places[1].clone());
        executor::run_until(Duration::from_secs(1));
        power(1, false);
        executor::kill(1);
        let before = poured.borrow().0;
        executor::run_until(Duration::from_secs(30));
        assert!(poured.borrow().1.is_none(), "nobody has told the sender");
        assert!(poured.borrow().0 - before < 1_000_000);
        power(1, true);
        executor::run_until(Duration::from_secs(100));
        let error = poured.borrow().1.as_ref().map(std::io::Error::kind);
        assert_eq!(error, Some(std::io::ErrorKind::ConnectionReset));
        // The other way: who reads hears nothing at all.
        let listener = Sink::open(0, places[0].clone());
        let _ = pour(1, places[0].clone());
        executor::run_until(Duration::from_secs(101));
        power(1, false);
        executor::kill(1);
        executor::run_until(Duration::from_secs(4_000));
        assert!(listener.ended().is_none() && sink.ended().is_none());
        assert!(!listener.0.borrow().0.is_empty());
    });
}

#[test]
fn hosts_are_in_networks_of_their_own_or_beside_another() {
    virtually(|| {
        begin(vec![vec![Path::default()]], Random::new(2));
        let mut all = BTreeSet::new();
        let mut add = |beside| {
            let address = add_host(0, Line::default(), beside);
            assert!(all.insert(address), "{address} twice");
            address.octets()
        };
        let first = add(None);
        for node in 1..1_500 {
            let [a, b, ..] = add((node % 2 == 1).then_some(0));
            assert_eq!([a, b] == first[..2], node % 2 == 1 || node == 1_024);
        }
        assert_eq!(first, [32, 0, 0, 1]);
    });
}
