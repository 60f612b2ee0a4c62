//! One connection's lanes: opens the streams, cuts them into frames, decodes them off the network task.
//!
//! Nothing that a peer sends is read faster than it is dealt with. Bounds, of each lane: reports that the behaviour has not handled
//! ([`MAX_UNHANDLED`]), and bytes, unpacked and with what they cost beside ([`Size`]), that are not done with ([`MAX_UNDONE`], of votes
//! [`MAX_UNDONE_VOTES`]: those wait better where others overtake them, with who sends them);
//! above either the lane is read no further, which the sender feels; and a long frame waits for its room on the node ([`super::long`]).
//! The behaviour hears when a lane is held up so, or for this node's own budget, since the peer's answers may stand there. Nor is it read before our own streams are open, so that no
//! frame is lost to cores that do not know the peer yet; nor the urgent one while what it must not overtake is on its way ([`super::express`]). What waits to be written the behaviour bounds, which is told
//! what was. A stream that breaks the rules is reported and read no further. One attempt to open the streams is made at a time, and
//! comes to one end: all open, unsupported, or broken.

use std::{
    collections::VecDeque,
    error::Error,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use libp2p::{
    PeerId, Stream, StreamProtocol,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};

use super::{
    acknowledge::Acknowledge,
    core::{Coming, Decode, Decoded},
    download::Download,
    excuses::Whose,
    express::Express,
    lane::{self, LaneName, LaneUpgrade, Read, Reader, Writer},
    long::{Long, Rooms},
};
use crate::{
    frames::Place,
    peers::Account,
    platform::{self, Instant},
    traffic::{Class, Cost, Lane, Load, MAX_UNDONE, Pace, Rate},
    transport::links::Link,
};

/// Reports of frames on each lane that wait for the behaviour.
pub(super) const MAX_UNHANDLED: usize = 8;
/// Bytes of the urgent lane that are not done with.
const MAX_UNDONE_VOTES: usize = 512 << 10;
/// How often a lane's stream may take the place of another: 16 at once and one a minute, each counting its seconds. An honest peer
/// waits longer each time (`session.rs`), and to meet a peer anew is work.
const REPLACEMENTS: Rate = Rate {
    per_second: 1,
    burst: 16 * REPLACEMENT,
};
const REPLACEMENT: u64 = 60;
/// What a frame costs here beside its bytes, about, and an item in it.
const FRAME_OVERHEAD: usize = 256;
const ITEM_OVERHEAD: usize = 64;
/// Frames that go to the behaviour at once, and their bytes: a vote waits for no more.
pub(super) const MAX_FRAMES: usize = 64;
const MAX_FRAMES_BYTES: usize = 64 << 10;

/// A longer frame of blocks is waited for, so what is here of it is told, so often at most.
const LONG: usize = 16 << 10;
const TELL_EVERY: Duration = Duration::from_millis(100);

/// What the behaviour tells a connection.
#[derive(Debug)]
pub(crate) enum Order {
    /// Open all streams, anew, under this epoch.
    Open(u64),
    /// Whether to read the peer's streams.
    Read(bool),
    /// That the peer has opened its streams, at first or anew, is dealt with.
    Met,
    /// Send these bytes, whole frames.
    Send(Lane, Bytes),
    /// What was read of each lane is dealt with so far.
    Handled([Handled; Lane::ALL.len()]),
}

/// What has become of a lane's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handled {
    /// Reports that were handled.
    pub(super) reports: usize,
    /// Bytes ([`Size::held`]) that are done with.
    pub(super) bytes: usize,
}

/// How large a frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// On the stream, with its length in front.
    pub(super) wire: usize,
    /// In memory, unpacked, with what it costs beside.
    pub(super) held: usize,
}

/// What a connection tells the behaviour.
#[derive(Debug)]
pub(crate) enum Report<F> {
    /// All streams of this epoch to the peer are open.
    Open(u64),
    /// The peer has opened its first stream here: by this connection it will answer.
    Begun,
    /// The peer has opened streams anew: nothing of its former ones is left there.
    Renewed,
    /// The peer does not speak the lanes' protocols.
    Unsupported,
    /// Frames of a lane.
    Frames(Lane, Vec<(Frame<F>, Size)>),
    /// Some of a long frame of a lane is here.
    Comes(Lane, Coming),
    /// A long frame of so many bytes on the stream came too slowly while others waited: it is lost.
    GaveWay(Lane, usize),
    /// All of such a frame has been passed over.
    Skipped(Lane, usize),
    /// Whose doing it is that a lane is held up from now on, if it is: it is not read since what came is not done with, or waits for room or for a budget.
    Held(Lane, Option<Whose>),
    /// Whether the whole connection stands from now on.
    Stands(bool),
    /// So many bytes are written, of this epoch's.
    Written(u64, Lane, usize),
    /// The peer broke the rules of a stream.
    Garbage(String),
    /// The streams of this epoch broke, or did not open.
    Broken(u64),
}

impl<F> Report<F> {
    /// Whether all that it may bring is room for what waits to be sent.
    pub(super) fn makes_room_alone(&self) -> bool {
        match self {
            Self::Written(..) => true,
            Self::Frames(_, frames) => {
                let is_acknowledge =
                    |(frame, _): &(Frame<F>, Size)| matches!(frame, Frame::Acknowledge(_));
                frames.iter().all(is_acknowledge)
            }
            _ => false,
        }
    }
}

/// Whose a frame is.
#[derive(Debug)]
pub(crate) enum Frame<F> {
    /// The lanes' own.
    Acknowledge(Acknowledge),
    /// The core's, and the place of a long one.
    Core(F, Option<Place>),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Handler<D: Decode> {
    names: Vec<LaneName>,
    decoder: D,
    download: Download,
    rooms: Rooms,
    who: (PeerId, Account),
    /// What its connection tells of itself.
    link: Option<Arc<Link>>,
    /// By which reports of the urgent lane go ahead.
    express: Express<D::Frame>,
    inbound: [Inbound; Lane::ALL.len()],
    outbound: [Outbound; Lane::ALL.len()],
    /// The number of the last attempt to open the streams, and whether it has come to its end.
    epoch: u64,
    settled: bool,
    /// Whether the peer's streams are read.
    reads: bool,
    /// How often the peer has opened its streams.
    generation: u32,
    reports: VecDeque<Report<D::Frame>>,
}

/// A lane on which the peer sends.
#[derive(Debug)]
struct Inbound {
    reader: Option<Reader>,
    /// Not handled, or not done with; and the bytes of it above which nothing is read.
    open: Handled,
    most: usize,
    /// Whether it waits for this node's budget.
    throttled: bool,
    /// What the behaviour was told of whose doing it is that it is held up.
    held: Option<Whose>,
    replacements: Pace,
    /// How often the peer has opened it.
    accepted: u32,
    /// What was told of a frame that comes, and when.
    told: Option<(Coming, Instant)>,
}

/// A lane on which we send.
#[derive(Debug, Default)]
struct Outbound {
    writer: Option<Writer>,
    /// The stream is to be asked for.
    wanted: bool,
    /// It was asked for, and there is no answer yet.
    asked: bool,
}

impl Inbound {
    fn new(lane: Lane) -> Self {
        Self {
            reader: None,
            open: Handled::default(),
            most: match lane {
                Lane::Urgent => MAX_UNDONE_VOTES,
                Lane::Block | Lane::Bulk => MAX_UNDONE,
            },
            throttled: false,
            held: None,
            replacements: Pace::new(REPLACEMENTS),
            accepted: 0,
            told: None,
        }
    }

    /// What is to be told of a long frame that comes.
    fn news(&mut self) -> Option<Coming> {
        let coming = self.reader.as_ref()?.coming()?;
        let (told, at) = self.told.unzip();
        if coming.length < LONG || told == Some(coming) {
            return None;
        }
        let now = platform::now();
        if at.is_some_and(|at| now.saturating_duration_since(at) < TELL_EVERY) {
            return None;
        }
        self.told = Some((coming, now));
        Some(coming)
    }

    fn has_room(&self) -> bool {
        self.open.reports < MAX_UNHANDLED && self.open.bytes <= self.most
    }

    /// How long a long frame may be: one fits always.
    fn fits(&self) -> usize {
        match self.open.bytes {
            0 => usize::MAX,
            bytes => self.most.saturating_sub(bytes),
        }
    }

    /// Its stream is read no more. What is to be told where a frame gave way on it whose rest comes no more.
    fn end<F>(&mut self, lane: Lane) -> Option<Report<F>> {
        let reader = self.reader.take()?;
        reader.passes().then_some(Report::Skipped(lane, 0))
    }

    /// Whose doing it is that it is held up, where that was told otherwise.
    fn holds(&mut self) -> Option<Option<Whose>> {
        let waits = self.reader.as_ref().and_then(Reader::held);
        let throttled = self.throttled.then_some(Whose::Ours);
        let full = (self.open.bytes > self.most).then_some(Whose::Peers);
        let held = waits.max(throttled).max(full);
        (std::mem::replace(&mut self.held, held) != held).then_some(held)
    }
}

impl<D: Decode> Handler<D> {
    pub(super) fn new(
        names: Vec<LaneName>,
        decoder: D,
        download: Download,
        rooms: Rooms,
        who: (PeerId, Account),
        link: Option<Arc<Link>>,
        express: Express<D::Frame>,
    ) -> Self {
        Self {
            names,
            decoder,
            download,
            rooms,
            who,
            link,
            express,
            inbound: Lane::ALL.map(Inbound::new),
            outbound: Default::default(),
            epoch: 0,
            settled: true,
            reads: false,
            generation: 0,
            reports: VecDeque::new(),
        }
    }

    /// The attempt to open the streams has come to an end.
    fn settle(&mut self, report: Report<D::Frame>) {
        if !std::mem::replace(&mut self.settled, true) {
            self.reports.push_back(report);
        }
    }

    fn opened(&mut self, lane: Lane, stream: Stream) {
        if let Some(outbound) = self.outbound.get_mut(lane.place()) {
            outbound.asked = false;
            // One that comes when its attempt has failed waits for the next one.
            outbound.writer = Some(Writer::new(stream));
        }
        if self.outbound.iter().all(|lane| lane.writer.is_some()) {
            self.settle(Report::Open(self.epoch));
        }
    }

    fn accepted(&mut self, lane: Lane, stream: Stream) {
        let Some(inbound) = self.inbound.get_mut(lane.place()) else {
            return;
        };
        self.reports.extend(inbound.end(lane));
        if inbound.accepted > 0 && !inbound.replacements.admits(REPLACEMENT, platform::now()) {
            let reason = "it opens streams without end".to_owned();
            self.reports.push_back(Report::Garbage(reason));
            return;
        }
        let long = Long::new(self.rooms.of(lane), self.who);
        inbound.reader = Some(Reader::new(stream, Some(long)));
        inbound.accepted = inbound.accepted.saturating_add(1);
        if inbound.accepted > self.generation {
            self.generation = inbound.accepted;
            self.express.began();
            self.reports.push_back(match self.generation {
                1 => Report::Begun,
                _ => Report::Renewed,
            });
        }
    }

    fn poll_write(&mut self, lane: Lane, cx: &mut Context<'_>) -> Option<Report<D::Frame>> {
        let writer = &mut self.outbound.get_mut(lane.place())?.writer;
        match writer.as_mut()?.poll_write(cx) {
            Poll::Ready(Ok(0)) | Poll::Pending => None,
            Poll::Ready(Ok(count)) => Some(Report::Written(self.epoch, lane, count)),
            Poll::Ready(Err(_)) => {
                *writer = None;
                Some(Report::Broken(self.epoch))
            }
        }
    }

    fn poll_read(&mut self, lane: Lane, cx: &mut Context<'_>) -> Option<Report<D::Frame>> {
        let (mut frames, mut bytes) = (Vec::new(), 0);
        let mut loads = [None; Class::ALL.len()];
        let reads = self.reads && (lane != Lane::Urgent || self.express.is_free());
        let inbound = self.inbound.get_mut(lane.place())?;
        if let Some(reader) = &mut inbound.reader {
            reader.look_around(cx);
            tell_lost(lane, reader, &mut self.download, &mut self.reports);
        } else {
            inbound.throttled = false;
        }
        let failure = loop {
            let room = frames.len() < MAX_FRAMES && bytes < MAX_FRAMES_BYTES && inbound.has_room();
            let (may_read, fits) = (reads && room, inbound.fits());
            let Some(reader) = inbound.reader.as_mut().filter(|_| may_read) else {
                break None;
            };
            if platform::turn_is_over() {
                cx.waker().wake_by_ref();
                break None;
            }
            // What has room shall not keep it to wait.
            let goes_on = reader.is_under_way();
            let is_first = frames.is_empty();
            if !goes_on && is_first {
                let waits = self.download.poll_ready(lane, cx).is_pending();
                inbound.throttled = waits && self.download.is_throttled(lane);
                if waits {
                    break None;
                }
            }
            let next = reader.poll_next(fits, cx);
            tell_lost(lane, reader, &mut self.download, &mut self.reports);
            match next {
                Poll::Pending => break None,
                Poll::Ready(Ok(Read::Frame(frame, wire, place))) => {
                    match read(&self.decoder, lane, frame, place) {
                        Ok(Decoded { frame, class, cost }) => {
                            let cost = Cost {
                                bytes: cost.bytes.max(wire as u64),
                                ..cost
                            };
                            if let Some(load) = loads.get_mut(class.place()) {
                                let (_, load) = load.get_or_insert((class, Load::default()));
                                *load += Load::of_one(cost, wire);
                            }
                            let held = held(cost);
                            inbound.open.bytes += held;
                            bytes += held;
                            frames.push((frame, Size { wire, held }));
                        }
                        Err(error) => {
                            break Some(io::Error::new(io::ErrorKind::InvalidData, error));
                        }
                    }
                }
                Poll::Ready(Ok(Read::Skipped(wire))) => {
                    self.reports.push_back(Report::Skipped(lane, wire));
                }
                Poll::Ready(Ok(Read::End)) => break Some(io::ErrorKind::BrokenPipe.into()),
                Poll::Ready(Err(error)) => break Some(error),
            }
        };
        if !frames.is_empty() {
            self.download.charge(loads.into_iter().flatten());
        }
        if let Some(error) = failure {
            self.reports.extend(inbound.end(lane));
            // The peer's streams may end, in the middle of a frame too: it opens others when it has more to say.
            if error.kind() == io::ErrorKind::InvalidData {
                let report = Report::Garbage(error.to_string());
                self.reports.push_back(report);
            }
        }
        let holds = inbound.holds();
        self.reports
            .extend(holds.map(|held| Report::Held(lane, held)));
        if frames.is_empty() {
            let coming = if lane == Lane::Block {
                inbound.news()
            } else {
                None
            };
            let report = coming.map(|coming| Report::Comes(lane, coming));
            self.reports.extend(report);
            return self.reports.pop_front();
        }
        inbound.open.reports += 1;
        Some(Report::Frames(lane, frames))
    }
}

impl<D: Decode> ConnectionHandler for Handler<D> {
    type FromBehaviour = Order;
    type ToBehaviour = Report<D::Frame>;
    type InboundProtocol = LaneUpgrade;
    type OutboundProtocol = LaneUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Lane;

    fn listen_protocol(&self) -> SubstreamProtocol<LaneUpgrade> {
        SubstreamProtocol::new(LaneUpgrade(self.names.clone()), ())
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Read(reads) => self.reads = reads,
            Order::Met => self.express.met(),
            Order::Open(epoch) => {
                (self.epoch, self.settled) = (epoch, false);
                for lane in &mut self.outbound {
                    lane.writer = None;
                    // Who lets us wait for an answer is not asked again meanwhile.
                    lane.wanted = !lane.asked;
                }
            }
            Order::Send(lane, bytes) => {
                let outbound = self.outbound.get_mut(lane.place());
                if let Some(writer) = outbound.and_then(|lane| lane.writer.as_mut()) {
                    writer.push(bytes);
                }
            }
            Order::Handled(lanes) => {
                for (inbound, handled) in self.inbound.iter_mut().zip(lanes) {
                    let Handled { reports, bytes } = inbound.open;
                    inbound.open.reports = reports.saturating_sub(handled.reports);
                    inbound.open.bytes = bytes.saturating_sub(handled.bytes);
                }
            }
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, LaneUpgrade, LaneUpgrade, (), Lane>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (lane, stream),
                ..
            }) => self.accepted(lane, stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (lane, stream),
                ..
            }) => self.opened(lane, stream),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info: lane }) => {
                if let Some(outbound) = self.outbound.get_mut(lane.place()) {
                    outbound.asked = false;
                }
                self.settle(match error {
                    StreamUpgradeError::NegotiationFailed => Report::Unsupported,
                    _ => Report::Broken(self.epoch),
                });
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<LaneUpgrade, Lane, Report<D::Frame>>> {
        for (name, outbound) in self.names.iter().zip(&mut self.outbound) {
            if std::mem::take(&mut outbound.wanted) {
                outbound.asked = true;
                let protocol = SubstreamProtocol::new(LaneUpgrade(vec![name.clone()]), name.0);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        if let Some(report) = self.reports.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        if let Some(Poll::Ready(stands)) = self.link.as_ref().map(|link| link.poll_stands(cx)) {
            let report = Report::Stands(stands);
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        for lane in Lane::ALL {
            // Local work first: out before in, what is urgent before the rest.
            while let Some(report) = self
                .poll_write(lane, cx)
                .or_else(|| self.poll_read(lane, cx))
            {
                if matches!(report, Report::Frames(Lane::Urgent, _)) {
                    self.express.send(report);
                } else {
                    return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
                }
            }
        }
        Poll::Pending
    }
}

/// Tells of a frame that has given way, and charges it: its stream may end before the rest of it has come.
fn tell_lost<F>(
    lane: Lane,
    reader: &mut Reader,
    download: &mut Download,
    reports: &mut VecDeque<Report<F>>,
) {
    if let Some(length) = reader.take_lost() {
        download.charge_skipped(lane, length);
        reports.push_back(Report::GaveWay(lane, length));
    }
}

/// Reads a frame, which is the lanes' own or the core's.
fn read<D: Decode>(
    decoder: &D,
    lane: Lane,
    frame: Bytes,
    place: Option<Place>,
) -> Result<Decoded<Frame<D::Frame>>, Box<dyn Error + Send + Sync>> {
    let decoded = match Acknowledge::read(&frame).filter(|_| lane == Lane::Urgent) {
        Some(acknowledge) => Decoded {
            frame: Frame::Acknowledge(acknowledge?),
            class: Class::Vote,
            cost: Cost::default(),
        },
        None => {
            let Decoded { frame, class, cost } = decoder.decode(lane, frame)?;
            Decoded {
                frame: Frame::Core(frame, place),
                class,
                cost,
            }
        }
    };
    Ok(decoded)
}

/// What a frame takes up here.
fn held(Cost { items, bytes }: Cost) -> usize {
    let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let items = whole(items).saturating_mul(ITEM_OVERHEAD);
    whole(bytes)
        .saturating_add(items)
        .saturating_add(FRAME_OVERHEAD)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn a_lane_that_waits_for_a_budget_is_told_as_held_up_as_one_that_waits_for_room_is() {
        let mut inbound = Inbound::new(Lane::Bulk);
        assert_eq!(inbound.holds(), None);
        inbound.throttled = true;
        let ours = Some(Some(Whose::Ours));
        assert_eq!((inbound.holds(), inbound.holds()), (ours, None));
        inbound.throttled = false;
        assert_eq!(inbound.holds(), Some(None));
        inbound.open.bytes = MAX_UNDONE + 1;
        assert_eq!(inbound.holds(), Some(Some(Whose::Peers)));
    }
}
