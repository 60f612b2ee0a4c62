//! One connection's gossip: libp2p's handler speaks, and this one listens for it.
//!
//! libp2p's handler decodes whatever arrives as fast as it arrives. Here a frame's length is looked at first; it is read when
//! the peer's pace allows and there is room for it, within [`PATIENCE`], then sifted, and only what is left is given
//! to libp2p's own decoder. A frame keeps its room until the behaviour has taken what came of it. Of those that are still coming
//! the slowest one gives way to who waits for room ([`Door::hurry`]): so slow senders hold up nobody for long. What is left
//! of it is skipped, and the stream read on: who sent one frame too slowly is heard again with the next.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    AsyncRead, AsyncReadExt, FutureExt, StreamExt,
    future::{self, Either, Ready, ready},
    io::Cursor,
    stream::{self, BoxStream},
};
use libp2p::{
    PeerId, Stream,
    core::{InboundUpgrade, UpgradeInfo},
    gossipsub::MessageId,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, NetworkBehaviour, SubstreamProtocol,
        THandlerInEvent, THandlerOutEvent,
        handler::{ConnectionEvent, FullyNegotiatedInbound},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    door::{Door, GRACE},
    inner::Inner,
    sieve::{self, Sifted},
};
use crate::{
    network::codec::{read_exactly, read_length},
    platform::{self, Delay},
    traffic::{Admission, Cost},
};

/// Frames up to here are read from everybody and need no room of the node's, in bytes.
pub(super) const SMALL: usize = 64 << 10;
/// How long a frame may take once it has begun.
const PATIENCE: Duration = Duration::from_secs(60);
/// Streams that a peer may open on a connection, one after the other; libp2p's own limit.
const MAX_STREAMS: usize = 5;

type Speaker = <Inner as NetworkBehaviour>::ConnectionHandler;
type Upgrade = <Speaker as ConnectionHandler>::InboundProtocol;
type Info = <Upgrade as UpgradeInfo>::Info;
/// What libp2p's handler tells its behaviour.
pub(super) type Said = THandlerOutEvent<Inner>;

/// How a peer stands with gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not known yet.
    Stranger,
    /// One of ours.
    Ours,
    /// Plain libp2p, with a place.
    Plain,
    /// It does not speak gossipsub.
    Deaf,
    /// It found no place, and is not spoken to.
    Denied,
}

/// A peer's part in what its streams need.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub(super) peer: PeerId,
    pub(super) door: Arc<Door>,
    /// For this connection's frames, in KiB.
    pub(super) room: Arc<Semaphore>,
    pub(super) standing: watch::Receiver<Standing>,
}

/// What a connection brought.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// For libp2p's behaviour.
    pub(super) said: Option<Said>,
    /// What it takes until it is dropped.
    _places: Vec<OwnedSemaphorePermit>,
    /// What it is to be let in for.
    pub(super) cost: Cost,
    /// Messages and entries that nobody has a reason to send.
    pub(super) useless: u64,
    /// Whether there were signed messages.
    pub(super) signed: bool,
    /// The messages that it asks for.
    pub(super) wants: Vec<MessageId>,
    /// Why a frame was not heard.
    pub(super) fault: Option<Fault>,
}

/// Why a frame is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The peer broke the rules of frames; its stream is read no further.
    Broken,
    /// It did not come in time, or others waited for its room: a slow line is nobody's fault.
    Slow,
}

impl Heard {
    fn of(said: Said) -> Self {
        Self {
            said: Some(said),
            ..Self::default()
        }
    }

    fn not(fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::default()
        }
    }
}

/// From the behaviour.
#[derive(Debug)]
pub(crate) enum Order {
    /// To libp2p's handler.
    Inner(THandlerInEvent<Inner>),
    /// Neither speak nor listen any more.
    Close,
}

/// See the module's documentation.
pub(crate) struct Handler {
    /// `None`: nothing is spoken.
    speaker: Option<Speaker>,
    ears: Option<BoxStream<'static, Heard>>,
    guest: Guest,
    streams: usize,
}

impl Handler {
    pub(super) fn new(speaker: Option<Speaker>, guest: Guest) -> Self {
        Self {
            speaker,
            ears: None,
            guest,
            streams: 0,
        }
    }
}

/// An incoming stream as it is, once its protocol is agreed on. `None` agrees on nothing.
pub(crate) struct Knock(Option<Upgrade>);

impl UpgradeInfo for Knock {
    type Info = Info;
    type InfoIter = Vec<Info>;

    fn protocol_info(&self) -> Vec<Info> {
        let names = |upgrade: &Upgrade| upgrade.protocol_info().into_iter().collect();
        self.0.as_ref().map_or_else(Vec::new, names)
    }
}

impl InboundUpgrade<Stream> for Knock {
    type Output = Option<(Stream, Upgrade, Info)>;
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, info: Info) -> Self::Future {
        ready(Ok(self.0.map(|upgrade| (stream, upgrade, info))))
    }
}

/// What libp2p makes of a frame: which version the peer speaks, and what it says.
fn decode(upgrade: Upgrade, info: Info, frame: Vec<u8>) -> Option<(Said, Option<Said>)> {
    let opened = upgrade.upgrade_inbound(Cursor::new(frame), info);
    let Ok(Either::Left((mut framed, kind))) = opened.now_or_never()?;
    let said = framed.next().now_or_never()?;
    Some((Said::PeerKind(kind), said.and_then(Result::ok)))
}

/// What of libp2p's handler decodes frames.
pub(super) type Decoder = (Upgrade, Info);

/// The decoder of a handler.
pub(super) fn decoder(speaker: &Speaker) -> Option<Decoder> {
    let (upgrade, ()) = speaker.listen_protocol().into_upgrade();
    let info = upgrade.protocol_info().into_iter().next()?;
    Some((upgrade, info))
}

/// As if a peer had said that it does not want these messages.
pub(super) fn unwanted((upgrade, info): &Decoder, ids: &[MessageId]) -> Option<Said> {
    let mut frame = Vec::new();
    let ids = ids.iter().map(|id| &id.0[..]);
    let rpc = sieve::unwanted(ids);
    prost::encode_length_delimiter(rpc.len(), &mut frame).ok()?;
    frame.extend(rpc);
    decode(upgrade.clone(), info.clone(), frame)?.1
}

/// What a frame brings, sifted; `None` where it is none.
pub(super) fn heard(
    (upgrade, info): &Decoder,
    door: &Door,
    peer: PeerId,
    frame: &[u8],
) -> Option<Heard> {
    let length = frame.len();
    let Sifted {
        frame,
        useless,
        passed,
        signed,
        wants,
        ..
    } = door.sift(peer, frame, platform::now()).ok()?;
    let cost = Cost {
        items: 1 + passed,
        bytes: length as u64,
    };
    let mut heard = Heard {
        cost,
        useless,
        signed,
        wants,
        ..Heard::default()
    };
    if !frame.is_empty() {
        let mut framed = Vec::with_capacity(frame.len() + 5);
        prost::encode_length_delimiter(frame.len(), &mut framed).ok()?;
        framed.extend(frame);
        heard.said = Some(decode(upgrade.clone(), info.clone(), framed)?.1?);
    }
    Some(heard)
}

/// A stream that is listened to.
struct Ears {
    stream: Stream,
    upgrade: Upgrade,
    info: Info,
    guest: Guest,
    /// Bytes that are left of a frame that was given up.
    skips: usize,
}

impl Ears {
    /// All that comes, to the stream's end.
    fn listen(self) -> BoxStream<'static, Heard> {
        let version = decode(self.upgrade.clone(), self.info.clone(), Vec::new());
        let version = version.map(|(version, _)| Heard::of(version));
        let frames = stream::unfold(Some(self), |ears| async move {
            let mut ears = ears?;
            match ears.next().await {
                Ok(None) => None,
                Ok(Some(heard)) => Some((heard, Some(ears))),
                Err(error) => {
                    let broken = error.kind() == io::ErrorKind::InvalidData;
                    broken.then(|| (Heard::not(Fault::Broken), None))
                }
            }
        });
        stream::iter(version).chain(frames).boxed()
    }

    /// The next frame; `None` at the stream's end. `InvalidData` is the peer's fault.
    async fn next(&mut self) -> io::Result<Option<Heard>> {
        while let Admission::At(moment) = self.guest.door.ready(&self.guest.peer, platform::now()) {
            Delay::new(moment.saturating_duration_since(platform::now())).await;
        }
        skip(&mut self.stream, std::mem::take(&mut self.skips)).await?;
        let Some(length) = read_length(&mut self.stream).await? else {
            return Ok(None);
        };
        if length > self.guest.door.longest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let places = self.room(length).await?;
        let got = Arc::default();
        let (turn, gives_way) = self.guest.door.turn(length, &got, platform::now());
        let end = future::select(Delay::new(PATIENCE), gives_way);
        let mut counted = Counted(&mut self.stream, &got);
        let read = read_exactly(&mut counted, length).boxed();
        let frame = match future::select(read, end).await {
            Either::Left((frame, _)) => frame?,
            Either::Right(_) => {
                self.skips = length.saturating_sub(got.load(Ordering::Relaxed));
                return Ok(Some(Heard::not(Fault::Slow)));
            }
        };
        drop(turn);
        let decoder = (self.upgrade.clone(), self.info.clone());
        let heard = heard(&decoder, &self.guest.door, self.guest.peer, &frame);
        let mut heard = heard.ok_or(io::ErrorKind::InvalidData)?;
        let Guest { door, peer, .. } = &self.guest;
        while let Admission::At(moment) = door.enter(*peer, heard.cost, platform::now()) {
            Delay::new(moment.saturating_duration_since(platform::now())).await;
        }
        heard._places = places;
        Ok(Some(heard))
    }

    /// Room for a frame: the connection's own, and for a long one the node's, which is for those whose kind is known.
    async fn room(&mut self, length: usize) -> io::Result<Vec<OwnedSemaphorePermit>> {
        let guest = &mut self.guest;
        let kib = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
        let own = Arc::clone(&guest.room).acquire_many_owned(kib).await;
        let mut places = vec![own.map_err(io::Error::other)?];
        if length > SMALL {
            let known = |standing: &Standing| *standing != Standing::Stranger;
            guest
                .standing
                .wait_for(known)
                .await
                .map_err(io::Error::other)?;
            let mut waits = Arc::clone(&guest.door.room).acquire_many_owned(kib).boxed();
            let place = loop {
                match future::select(waits, Delay::new(GRACE)).await {
                    Either::Left((place, _)) => break place,
                    Either::Right(((), longer)) => {
                        waits = longer;
                        guest.door.hurry(platform::now());
                    }
                }
            };
            places.push(place.map_err(io::Error::other)?);
        }
        Ok(places)
    }
}

/// Reads, and counts what it has read.
struct Counted<'a, T>(&'a mut T, &'a AtomicUsize);

impl<T: AsyncRead + Unpin> AsyncRead for Counted<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut *self.0).poll_read(cx, buffer);
        if let Poll::Ready(Ok(count)) = read {
            self.1.fetch_add(count, Ordering::Relaxed);
        }
        read
    }
}

/// Reads so many bytes, and keeps none.
///
/// # Errors
/// `UnexpectedEof` where there are fewer.
async fn skip(stream: &mut (impl AsyncRead + Unpin), mut bytes: usize) -> io::Result<()> {
    let mut nowhere = [0; 1024];
    while bytes > 0 {
        let most = bytes.min(nowhere.len());
        let buffer = nowhere.get_mut(..most).unwrap_or_default();
        match stream.read(buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes = bytes.saturating_sub(count),
        }
    }
    Ok(())
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Heard;
    type InboundProtocol = Knock;
    type OutboundProtocol = <Speaker as ConnectionHandler>::OutboundProtocol;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Knock, ()> {
        let speaker = self.speaker.as_ref();
        let upgrade = speaker.map(|speaker| speaker.listen_protocol().into_upgrade().0);
        SubstreamProtocol::new(Knock(upgrade), ())
    }

    fn connection_keep_alive(&self) -> bool {
        let speaker = self.speaker.as_ref();
        speaker.is_some_and(ConnectionHandler::connection_keep_alive)
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Inner(event) => {
                if let Some(speaker) = &mut self.speaker {
                    speaker.on_behaviour_event(event);
                }
            }
            Order::Close => (self.speaker, self.ears) = (None, None),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        let Some(speaker) = &mut self.speaker else {
            return;
        };
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: Some((stream, upgrade, info)),
                ..
            }) => {
                self.streams += 1;
                if self.streams <= MAX_STREAMS {
                    let guest = self.guest.clone();
                    let ears = Ears {
                        stream,
                        upgrade,
                        info,
                        guest,
                        skips: 0,
                    };
                    self.ears = Some(ears.listen());
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(event) => {
                speaker.on_connection_event(ConnectionEvent::FullyNegotiatedOutbound(event));
            }
            ConnectionEvent::DialUpgradeError(event) => {
                speaker.on_connection_event(ConnectionEvent::DialUpgradeError(event));
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Heard>> {
        if let Some(speaker) = &mut self.speaker
            && let Poll::Ready(event) = speaker.poll(cx)
        {
            return Poll::Ready(event.map_custom(Heard::of));
        }
        if let Some(ears) = &mut self.ears {
            match ears.poll_next_unpin(cx) {
                Poll::Ready(Some(heard)) => {
                    return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(heard));
                }
                Poll::Ready(None) => self.ears = None,
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn what_is_left_of_a_frame_that_was_given_up_is_skipped() {
        let (mut bytes, got) = (
            Cursor::new([&[1; 5000][..], &[2; 3]].concat()),
            Arc::default(),
        );
        let some = read_exactly(&mut Counted(&mut bytes, &got), 2000).now_or_never();
        assert_eq!(some.expect("it is there").expect("it is").len(), 2000);
        assert_eq!(got.load(Ordering::Relaxed), 2000);
        let skipped = skip(&mut bytes, 3000).now_or_never().expect("it is there");
        assert!(skipped.is_ok());
        let next = read_exactly(&mut bytes, 3).now_or_never();
        assert_eq!(next.expect("it is there").expect("it is"), [2; 3]);
        let none = skip(&mut bytes, 1).now_or_never().expect("the end");
        assert!(none.is_err());
    }
}
