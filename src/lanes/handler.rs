//! One connection's lanes: opens the streams, cuts them into frames, decodes them off the network task.
//!
//! Bounds: bulk bytes that were read and are not done with ([`MAX_UNDONE`], then it stops reading, which the sender feels);
//! the behaviour keeps to what it is told was written. A stream that breaks the rules is reported and read no further.

use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll},
};

use bytes::Bytes;
use libp2p::{
    StreamProtocol,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};

use super::{
    download::Download,
    lane::{self, LaneName, LaneUpgrade, Reader, Writer},
};
use crate::{
    chain::TransactionKey,
    network::codec::is_garbage,
    propagation::{
        blocks::{coded, compact::BlockMessage},
        pool::reconcile,
        wire::{Frame, Kind},
    },
    traffic::{Cost, Lane},
};

/// Bulk bytes that a peer may have under way here.
pub(super) const MAX_UNDONE: u64 = 8 << 20;
/// Frames that go to the behaviour at once, and their bytes: a vote waits for no more.
const MAX_FRAMES: usize = 64;
const MAX_FRAMES_BYTES: usize = 64 << 10;

/// What the behaviour tells a connection.
#[derive(Debug)]
pub(crate) enum Order {
    /// Open all streams.
    Open,
    /// Send these bytes, whole frames.
    Send(Lane, Bytes),
    /// So many bytes of the bulk stream are done with.
    Done(usize),
}

/// What a connection tells the behaviour.
#[derive(Debug)]
pub(crate) enum Report {
    /// All streams to the peer are open.
    Open,
    /// The peer does not speak the lanes' protocols.
    Unsupported,
    /// Frames, and what they took on the stream.
    Frames(Lane, Vec<(Input, usize)>),
    /// So many bytes are written.
    Written(Lane, usize),
    /// The peer broke the rules of a stream.
    Garbage(String),
    /// The streams broke.
    Broken,
}

/// A frame, as far as it can be understood alone.
#[derive(Debug)]
pub(crate) enum Input {
    /// A batch, with the keys computed.
    Items {
        batch: Vec<(TransactionKey, Bytes)>,
        missing: Bytes,
    },
    /// Of compact blocks.
    Block(BlockMessage),
    Coded(coded::Frame),
    /// Of the reconciliation of pools.
    Reconcile(reconcile::Message),
    /// Any other.
    Other(Kind),
}

impl Input {
    /// How many items it holds, or speaks of.
    fn items(&self) -> usize {
        match self {
            Self::Items { batch, .. } => batch.len(),
            Self::Other(kind) => kind.ids(),
            Self::Block(_) | Self::Coded(_) | Self::Reconcile(_) => 1,
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Handler {
    names: Vec<LaneName>,
    max_block_bytes: usize,
    download: Download,
    /// Streams that are to be asked for.
    to_open: VecDeque<LaneName>,
    readers: [Option<Reader>; 3],
    writers: [Option<Writer>; 3],
    reports: VecDeque<Report>,
    /// Bulk bytes read, and done with.
    read: u64,
    done: u64,
}

impl Handler {
    /// Blocks have at most `max_block_bytes` here.
    pub(super) fn new(names: Vec<LaneName>, max_block_bytes: usize, download: Download) -> Self {
        Self {
            names,
            max_block_bytes,
            download,
            to_open: VecDeque::new(),
            readers: [None, None, None],
            writers: [None, None, None],
            reports: VecDeque::new(),
            read: 0,
            done: 0,
        }
    }

    fn opened(&mut self, lane: Lane, writer: Writer) {
        if let Some(place) = self.writers.get_mut(lane.place()) {
            *place = Some(writer);
        }
        if self.writers.iter().all(Option::is_some) {
            self.reports.push_back(Report::Open);
        }
    }

    fn poll_write(&mut self, lane: Lane, cx: &mut Context<'_>) -> Option<Report> {
        let writer = self.writers.get_mut(lane.place())?;
        match writer.as_mut()?.poll_write(cx) {
            Poll::Ready(Ok(0)) | Poll::Pending => None,
            Poll::Ready(Ok(count)) => Some(Report::Written(lane, count)),
            Poll::Ready(Err(_)) => {
                *writer = None;
                Some(Report::Broken)
            }
        }
    }

    fn poll_read(&mut self, lane: Lane, cx: &mut Context<'_>) -> Option<Report> {
        let (mut frames, mut bytes) = (Vec::new(), 0);
        let slot = self.readers.get_mut(lane.place())?;
        let failure = loop {
            let full = lane == Lane::Bulk && self.read - self.done > MAX_UNDONE;
            let room = frames.len() < MAX_FRAMES && bytes < MAX_FRAMES_BYTES;
            let Some(reader) = slot.as_mut().filter(|_| room && !full) else {
                break None;
            };
            if self.download.poll_ready(lane, cx).is_pending() {
                break None;
            }
            match reader.poll_next(cx) {
                Poll::Pending => break None,
                Poll::Ready(Ok(Some((frame, size)))) => match input(frame, self.max_block_bytes) {
                    Ok(input) => {
                        let cost = Cost {
                            items: input.items() as u64,
                            bytes: size as u64,
                        };
                        self.download.charge(lane, cost);
                        self.read += if lane == Lane::Bulk { size as u64 } else { 0 };
                        bytes += size;
                        frames.push((input, size));
                    }
                    Err(error) => break Some(io::Error::new(io::ErrorKind::InvalidData, error)),
                },
                Poll::Ready(Ok(None)) => break Some(io::ErrorKind::BrokenPipe.into()),
                Poll::Ready(Err(error)) => break Some(error),
            }
        };
        if let Some(error) = failure {
            *slot = None;
            self.reports.push_back(if is_garbage(&error) {
                Report::Garbage(error.to_string())
            } else {
                Report::Broken
            });
        }
        if frames.is_empty() {
            return self.reports.pop_front();
        }
        Some(Report::Frames(lane, frames))
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Report;
    type InboundProtocol = LaneUpgrade;
    type OutboundProtocol = LaneUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<LaneUpgrade> {
        SubstreamProtocol::new(LaneUpgrade(self.names.clone()), ())
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Open => self.to_open = self.names.iter().cloned().collect(),
            Order::Send(lane, bytes) => {
                if let Some(Some(writer)) = self.writers.get_mut(lane.place()) {
                    writer.push(bytes);
                }
            }
            Order::Done(bytes) => self.done += bytes as u64,
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, LaneUpgrade, LaneUpgrade>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (lane, stream),
                ..
            }) => {
                // A second stream of a lane takes the first one's place.
                if let Some(place) = self.readers.get_mut(lane.place()) {
                    *place = Some(Reader::new(stream));
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (lane, stream),
                ..
            }) => self.opened(lane, Writer::new(stream)),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.reports.push_back(match error {
                    StreamUpgradeError::NegotiationFailed => Report::Unsupported,
                    _ => Report::Broken,
                });
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<LaneUpgrade, (), Report>> {
        if let Some(lane) = self.to_open.pop_front() {
            let protocol = SubstreamProtocol::new(LaneUpgrade(vec![lane]), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        if let Some(report) = self.reports.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        for lane in Lane::ALL {
            // Local work first: out before in, what is urgent before the rest.
            let report = self
                .poll_write(lane, cx)
                .or_else(|| self.poll_read(lane, cx));
            if let Some(report) = report {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
            }
        }
        Poll::Pending
    }
}

/// Decodes a frame; keys are computed here, on the connection's own task.
fn input(
    frame: Bytes,
    max_block_bytes: usize,
) -> Result<Input, Box<dyn std::error::Error + Send + Sync>> {
    Ok(match Frame::read(frame)? {
        Kind::Items(batch) => Input::Items {
            batch: batch
                .items
                .into_iter()
                .map(|data| (TransactionKey::of(&data), data))
                .collect(),
            missing: batch.missing,
        },
        Kind::Block(message) => Input::Block(BlockMessage::decode(message, max_block_bytes)?),
        Kind::Coded(frame) => Input::Coded(coded::Frame::decode(frame)?),
        Kind::Reconcile(message) => Input::Reconcile(reconcile::Message::from_bytes(&message)?),
        other => Input::Other(other),
    })
}

/// The lanes' names on a network, given how its protocols are named.
pub(super) fn names<E>(
    name: impl Fn(&str) -> Result<StreamProtocol, E>,
) -> Result<Vec<LaneName>, E> {
    Lane::ALL
        .into_iter()
        .map(|lane| Ok(LaneName(lane, name(lane::name(lane))?)))
        .collect()
}
