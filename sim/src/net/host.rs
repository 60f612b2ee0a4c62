//! A host: its address, its line, and who listens there.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use serde::Serialize;

use super::{
    now, on_wire,
    pipe::{Stream, WeakStream},
    transport::Listener,
};
use crate::executor::Node;

/// The first port that is given to a connection outwards.
const FIRST_PORT: u16 = 32_768;
/// Connections after which it is looked which have ended.
const SWEEP: usize = 64;

/// A host's bandwidth in bytes a second; 0 is without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Outwards.
    pub up: u64,
    /// Inwards.
    pub down: u64,
}

/// What a host has put on its line, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// All of it.
    pub line: u64,
    /// Of that, packets' headers.
    pub headers: u64,
    /// Of that, packets that were sent again, their headers with them.
    pub again: u64,
}

pub(super) struct Host {
    pub(super) address: Ipv4Addr,
    pub(super) region: usize,
    pub(super) line: Line,
    pub(super) group: usize,
    pub(super) takes_inbound: bool,
    /// All that it sends is lost, and what is sent to it.
    pub(super) is_dark: bool,
    pub(super) has_power: bool,
    pub(super) listeners: BTreeMap<u16, Listener>,
    pub(super) sent: Sent,
    /// When all that is on its way through the line will be through.
    pub(super) up_free: Duration,
    down_free: Duration,
    port: u16,
    /// Those that were dialled from here, with their peers.
    connections: Vec<(Node, Node, WeakStream)>,
    sweep_at: usize,
}

impl Host {
    pub(super) fn new(address: Ipv4Addr, region: usize, line: Line) -> Self {
        Self {
            address,
            region,
            line,
            group: 0,
            takes_inbound: true,
            is_dark: false,
            has_power: true,
            listeners: BTreeMap::new(),
            sent: Sent::default(),
            up_free: Duration::ZERO,
            down_free: Duration::ZERO,
            port: FIRST_PORT,
            connections: Vec::new(),
            sweep_at: SWEEP,
        }
    }

    /// A port for a connection outwards.
    pub(super) fn next_port(&mut self) -> u16 {
        let port = self.port;
        self.port = port.checked_add(1).unwrap_or(FIRST_PORT);
        port
    }

    /// So many bytes of a stream go through the line outwards, after all others: when the last is out.
    pub(super) fn send(&mut self, bytes: usize) -> Duration {
        let wire = count(on_wire(bytes));
        self.sent.headers += wire - count(bytes);
        self.put(wire)
    }

    /// The same, once more.
    pub(super) fn send_again(&mut self, bytes: usize) {
        let wire = count(on_wire(bytes));
        self.sent.again += wire;
        self.put(wire);
    }

    fn put(&mut self, wire: u64) -> Duration {
        self.sent.line += wire;
        self.up_free = self.up_free.max(now()) + takes(wire, self.line.up);
        self.up_free
    }

    /// The same inwards.
    pub(super) fn receive(&mut self, bytes: usize) -> Duration {
        self.down_free = self.down_free.max(now()) + takes(count(on_wire(bytes)), self.line.down);
        self.down_free
    }

    pub(super) fn connected(&mut self, from: Node, to: Node, stream: &Stream) {
        if self.connections.len() >= self.sweep_at {
            self.connections.retain(|(_, _, stream)| stream.is_alive());
            self.sweep_at = SWEEP.max(self.connections.len() * 2);
        }
        self.connections.push((from, to, stream.downgrade()));
    }

    pub(super) fn streams(&self, wanted: impl Fn((Node, Node)) -> bool) -> Vec<Stream> {
        let connections = self.connections.iter();
        connections
            .filter(|(from, to, _)| wanted((*from, *to)))
            .filter_map(|(_, _, stream)| stream.upgrade())
            .collect()
    }
}

fn takes(bytes: u64, bandwidth: u64) -> Duration {
    if bandwidth == 0 {
        return Duration::ZERO;
    }
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(bandwidth);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
