//! One connection's gossip: libp2p's handler speaks, and this one listens for it.
//!
//! libp2p's handler decodes whatever arrives as fast as it arrives. Here a frame's length is looked at first; it is read when
//! the peer's pace allows and there is room for it, within [`PATIENCE`], then sifted, and only what is left is given
//! to libp2p's own decoder. A frame keeps its room until the behaviour has taken what came of it. Of those that are still coming
//! the one that has come longest gives way to who waits for room ([`Door::hurry`]): so slow senders hold up nobody for long.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
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
    traffic::Admission,
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
    /// For this peer's frames, in KiB.
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
    /// Messages and entries that nobody has a reason to send.
    pub(super) useless: u64,
    /// Whether there were signed messages.
    pub(super) signed: bool,
    /// The messages that it asks for.
    pub(super) wants: Vec<MessageId>,
    /// Why the peer is heard no longer on that stream.
    pub(super) fault: Option<Fault>,
}

/// Why a stream is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The peer broke the rules of frames.
    Broken,
    /// A frame did not come in time, or others waited for its room: a slow line is nobody's fault.
    Slow,
}

impl Heard {
    fn of(said: Said) -> Self {
        Self {
            said: Some(said),
            ..Self::default()
        }
    }

    fn end(fault: Fault) -> Self {
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
    let Sifted {
        frame,
        useless,
        signed,
        wants,
        ..
    } = door.sift(peer, frame, platform::now()).ok()?;
    let mut heard = Heard {
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
                    let fault = match error.kind() {
                        io::ErrorKind::InvalidData => Fault::Broken,
                        io::ErrorKind::TimedOut => Fault::Slow,
                        _ => return None,
                    };
                    Some((Heard::end(fault), None))
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
        let Some(length) = read_length(&mut self.stream).await? else {
            return Ok(None);
        };
        if length > self.guest.door.longest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let places = self.room(length).await?;
        let (turn, gives_way) = self.guest.door.turn(length, platform::now());
        let end = future::select(Delay::new(PATIENCE), gives_way);
        let read = read_exactly(&mut self.stream, length).boxed();
        let frame = match future::select(read, end).await {
            Either::Left((frame, _)) => frame?,
            Either::Right(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        drop(turn);
        let decoder = (self.upgrade.clone(), self.info.clone());
        let heard = heard(&decoder, &self.guest.door, self.guest.peer, &frame);
        let mut heard = heard.ok_or(io::ErrorKind::InvalidData)?;
        heard._places = places;
        Ok(Some(heard))
    }

    /// Room for a frame: the peer's own, and for a long one the node's, which is for those whose kind is known.
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
