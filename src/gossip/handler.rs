//! One connection's gossip: libp2p's handler speaks, and this one listens for it.
//!
//! libp2p's handler decodes whatever arrives as fast as it arrives. Here a stream is read with care ([`Ears`]), what came is sifted, and
//! only what is left is given to libp2p's own decoder.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    FutureExt, StreamExt,
    future::{Either, Ready, ready},
    io::Cursor,
    stream::BoxStream,
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
    ears::Ears,
    inner::Inner,
    reading::Reading,
    sieve::{self, Sifted},
};
use crate::{frames::Place, peers::Account, platform, traffic::Cost};

/// Streams that a peer may open on a connection, one after the other; libp2p's own limit.
const MAX_STREAMS: usize = 5;

pub(super) type Speaker = <Inner as NetworkBehaviour>::ConnectionHandler;
pub(super) type Upgrade = <Speaker as ConnectionHandler>::InboundProtocol;
pub(super) type Info = <Upgrade as UpgradeInfo>::Info;
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
    pub(super) account: Account,
    pub(super) reading: Arc<Reading>,
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
    pub(super) places: Places,
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

/// Room on the connection, and for a long frame on the node.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) _own: Option<OwnedSemaphorePermit>,
    pub(super) _node: Option<Place>,
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
    pub(super) fn of(said: Said) -> Self {
        Self {
            said: Some(said),
            ..Self::default()
        }
    }

    pub(super) fn not(fault: Fault) -> Self {
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
    /// There may be something to say from now on.
    Speak,
    /// Neither speak nor listen any more.
    Close,
}

/// See the module's documentation.
pub(crate) struct Handler {
    /// `None`: nothing is spoken.
    speaker: Option<Speaker>,
    /// Whether there may be something to say. libp2p's handler opens its stream at once for nothing but which extensions it has, and
    /// buffers of 16 KiB with it.
    speaks: bool,
    ears: Option<BoxStream<'static, Heard>>,
    guest: Guest,
    streams: usize,
}

impl Handler {
    pub(super) fn new(speaker: Option<Speaker>, speaks: bool, guest: Guest) -> Self {
        Self {
            speaker,
            speaks,
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
pub(super) fn decode(upgrade: Upgrade, info: Info, frame: Vec<u8>) -> Option<(Said, Option<Said>)> {
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
    reading: &Reading,
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
    } = reading.sift(peer, frame, platform::now()).ok()?;
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
            Order::Speak => self.speaks = true,
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
                    let ears = Ears::new(stream, (upgrade, info), self.guest.clone());
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
        if let Some(speaker) = self.speaker.as_mut().filter(|_| self.speaks)
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
