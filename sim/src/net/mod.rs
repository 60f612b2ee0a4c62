//! The network between the nodes: hosts with an address and a line, and paths between them.
//!
//! A path has a latency, jitter and loss; a host's line a bandwidth each way, which all of its connections share. What goes over them
//! are streams of bytes, as TCP's (`pipe.rs`), and a libp2p transport makes connections of two (`transport.rs`). Paths can be cut, in one
//! direction too, groups of hosts parted, hosts put into a black hole or without power, and hosts may take no connections from outside, as
//! behind a NAT. Each of these says how things are from now on; who has several reasons for one keeps count of them itself.
//!
//! There is one network a thread, which is the simulation's, as there is one clock.

mod host;
mod pipe;
mod transport;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    time::Duration,
};

use selkie_sim_host::{Random, clock};

use host::Host;
pub use host::{Line, Sent};
pub use transport::transport;

use crate::executor::Node;

/// How bytes go from one place to another.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Path {
    /// One way.
    pub latency: Duration,
    /// Up to so much more, at random; bytes of one stream stay in order.
    pub jitter: Duration,
    /// The part of packets that is lost.
    pub loss: f64,
}

/// What a packet carries of a stream, in bytes, on an Ethernet.
const SEGMENT: usize = 1460;
/// What it has beside, for TCP and IP.
const HEADERS: usize = 40;

/// See the module's documentation.
#[derive(Default)]
struct Network {
    hosts: Vec<Host>,
    by_address: HashMap<Ipv4Addr, Node>,
    /// Between regions, from one to another.
    paths: Vec<Vec<Path>>,
    /// Between two hosts, instead of that of their regions.
    special: BTreeMap<(Node, Node), Path>,
    /// From one host to another nothing comes.
    cuts: BTreeSet<(Node, Node)>,
    random: Option<Random>,
}

thread_local! {
    static NETWORK: RefCell<Network> = RefCell::default();
}

/// A network without hosts, of regions with these paths from each to each.
pub fn begin(paths: Vec<Vec<Path>>, random: Random) {
    NETWORK.set(Network {
        paths,
        random: Some(random),
        ..Network::default()
    });
}

/// One more host, in this region. Its address is public, in a network (IPv4 /16) of its own, or in that of another host.
pub fn add_host(region: usize, line: Line, beside: Option<Node>) -> Ipv4Addr {
    with(|network| {
        let node = network.hosts.len();
        let byte = |number: usize| u8::try_from(number % 256).unwrap_or(0);
        let neighbour = beside.and_then(|beside| network.hosts.get(beside));
        let address = if let Some(neighbour) = neighbour {
            let [a, b, ..] = neighbour.address.octets();
            // Above those of its founders.
            Ipv4Addr::new(a, b, 128 + byte(node / 256 % 128), byte(node))
        } else {
            // Of 1,024 networks in turn, from 32.0.0.0 on: nothing there is private.
            let (net, rest) = (node % 1024, node / 1024);
            Ipv4Addr::new(32 + byte(net / 256), byte(net), byte(rest), 1)
        };
        network.by_address.insert(address, node);
        network.hosts.push(Host::new(address, region, line));
        address
    })
}

/// Nothing comes from one to the other any more, or does again.
pub fn cut(from: Node, to: Node, is_cut: bool) {
    with(|network| {
        if is_cut {
            network.cuts.insert((from, to));
        } else {
            network.cuts.remove(&(from, to));
        }
    });
}

/// Only hosts of one group reach each other; all are in group 0 at first.
pub fn part(node: Node, group: usize) {
    with(|network| {
        if let Some(host) = network.hosts.get_mut(node) {
            host.group = group;
        }
    });
}

/// Whether the host takes connections from others. One that does not answers none, as a NAT.
pub fn take_inbound(node: Node, takes: bool) {
    with(|network| {
        if let Some(host) = network.hosts.get_mut(node) {
            host.takes_inbound = takes;
        }
    });
}

/// Another line, from now on.
pub fn set_line(node: Node, line: Line) {
    with(|network| {
        if let Some(host) = network.hosts.get_mut(node) {
            host.line = line;
        }
    });
}

/// Another path between two hosts, both ways, from now on; or that of their regions again.
pub fn set_path(one: Node, other: Node, path: Option<Path>) {
    with(|network| {
        for pair in [(one, other), (other, one)] {
            match path {
                Some(path) => network.special.insert(pair, path),
                None => network.special.remove(&pair),
            };
        }
    });
}

/// Ends all connections between two hosts, as a firewall that lost its table.
pub fn reset(one: Node, other: Node) {
    let streams =
        with(|network| network.streams(|pair| pair == (one, other) || pair == (other, one)));
    for stream in streams {
        stream.break_off();
    }
}

/// Whether all that is sent to this host or by it is lost, and nobody is told.
pub fn black_hole(node: Node, is_dark: bool) {
    with(|network| {
        if let Some(host) = network.hosts.get_mut(node) {
            host.is_dark = is_dark;
        }
    });
}

/// Whether the host has power. One that loses it tells nobody, whatever its process does while it ends; once it has power again, it
/// knows of no connection, and resets those over which something comes.
pub fn power(node: Node, has_power: bool) {
    let had = with(|network| {
        let host = network.hosts.get_mut(node)?;
        Some(std::mem::replace(&mut host.has_power, has_power))
    });
    if had == Some(true) && !has_power {
        let streams = with(|network| network.streams(|(one, other)| one == node || other == node));
        for stream in streams {
            stream.vanish(node);
        }
    }
}

/// What this host has put on its line.
pub fn sent(node: Node) -> Sent {
    with(|network| {
        let host = network.hosts.get(node);
        host.map(|host| host.sent).unwrap_or_default()
    })
}

/// Forgets all hosts.
pub fn clear() {
    let network = NETWORK.take();
    drop(network);
}

fn with<T>(call: impl FnOnce(&mut Network) -> T) -> T {
    NETWORK.with_borrow_mut(call)
}

impl Network {
    /// How bytes go from one host to another now; `None` where they don't.
    fn path(&self, from: Node, to: Node) -> Option<Path> {
        let (source, target) = (self.hosts.get(from)?, self.hosts.get(to)?);
        if from == to {
            return Some(Path::default());
        }
        let reaches = |host: &Host| host.has_power && !host.is_dark;
        if source.group != target.group
            || self.cuts.contains(&(from, to))
            || !reaches(source)
            || !reaches(target)
        {
            return None;
        }
        Some(self.usual_path(from, to))
    }

    /// As [`Self::path`], cuts aside.
    fn usual_path(&self, from: Node, to: Node) -> Path {
        if let Some(path) = self.special.get(&(from, to)) {
            return *path;
        }
        let region = |node: Node| self.hosts.get(node).map_or(0, |host| host.region);
        let row = self.paths.get(region(from));
        row.and_then(|row| row.get(region(to)))
            .copied()
            .unwrap_or_default()
    }

    fn chance(&mut self, part: f64) -> bool {
        part > 0.0 && self.unit() < part
    }

    fn unit(&mut self) -> f64 {
        self.random.as_mut().map_or(0.0, Random::unit)
    }

    /// Of so many packets in a row: the first that is lost, and how many are.
    fn losses(&mut self, packets: usize, loss: f64) -> Option<(usize, usize)> {
        let mut lost = (0..packets).filter(|_| self.chance(loss));
        let first = lost.next()?;
        Some((first, 1 + lost.count()))
    }

    /// How long bytes take on this path, this time.
    fn delay(&mut self, path: Path) -> Duration {
        if path.jitter.is_zero() {
            return path.latency;
        }
        path.latency + path.jitter.mul_f64(self.unit())
    }

    fn streams(&mut self, wanted: impl Fn((Node, Node)) -> bool) -> Vec<pipe::Stream> {
        let hosts = self.hosts.iter_mut();
        hosts.flat_map(|host| host.streams(&wanted)).collect()
    }
}

/// So many bytes of a stream on the wire.
fn on_wire(bytes: usize) -> usize {
    bytes + packets(bytes) * HEADERS
}

/// In how many packets they go; the end of a stream has one too.
fn packets(bytes: usize) -> usize {
    bytes.div_ceil(SEGMENT).max(1)
}

/// The moment.
fn now() -> Duration {
    clock::now()
}

#[cfg(test)]
mod tests;
