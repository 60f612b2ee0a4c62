//! The search itself: this host's interfaces, and what is said on each.
//!
//! An interface asks when it is there, at pauses that double until somebody was found or they are [`ASK`], and then every
//! [`ASK`]. It hears itself: so its question is what makes it say where it is.
//!
//! Bounds: an interface an address of this host's; for each two sockets and what the pace lets in.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use hickory_proto::ProtoError;
use if_watch::{IfEvent, tokio::IfWatcher};
use ipnet::{IpNet, Ipv4Net};
use libp2p::{Multiaddr, PeerId};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::ReadBuf, net::UdpSocket, sync::mpsc};

use super::{
    ANSWER, DECODED, PACE,
    packet::{self, MAX_BYTES, Packet},
};
use crate::{
    peers::Neighbour,
    platform::{self, Instant, alarm::Alarm},
    traffic::{Admission, Pace},
};

/// Where mDNS is spoken.
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 251), 5353);
/// The first and the longest pause between two questions.
const ASK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(300));

/// See the module's documentation.
pub(super) struct Search {
    own: PeerId,
    /// This node's name in packets: chance.
    called: String,
    /// Where it listens.
    addresses: Vec<Multiaddr>,
    interfaces: BTreeMap<Ipv4Addr, Interface>,
    watcher: IfWatcher,
    heard: mpsc::Sender<Neighbour>,
    buffer: Box<[u8; MAX_BYTES]>,
}

/// One of this host's addresses.
struct Interface {
    net: Ipv4Net,
    receiver: UdpSocket,
    sender: UdpSocket,
    pace: Pace,
    /// When is the next question, and the pause after it.
    asks_at: Instant,
    pause: Duration,
    /// When is the next answer, if there is one, and the first moment for one.
    answers_at: Option<Instant>,
    rests_until: Instant,
    /// Until there is something to say, and until the pace lets packets in.
    alarm: Alarm,
    patience: Alarm,
}

impl Search {
    pub(super) fn new(own: PeerId, heard: mpsc::Sender<Neighbour>) -> io::Result<Self> {
        let mut called = [0; 16];
        platform::random(&mut called)?;
        Ok(Self {
            own,
            called: hex::encode(called),
            addresses: Vec::new(),
            interfaces: BTreeMap::new(),
            watcher: IfWatcher::new()?,
            heard,
            buffer: Box::new([0; MAX_BYTES]),
        })
    }

    /// This node listens at these addresses from now on.
    pub(super) fn listens(&mut self, addresses: Vec<Multiaddr>) {
        self.addresses = addresses;
        let now = platform::now();
        for interface in self.interfaces.values_mut() {
            interface.is_asked(now);
        }
    }

    /// Asks, answers and listens, without end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Infallible> {
        while let Poll::Ready(Some(event)) = Pin::new(&mut self.watcher).poll_next(cx) {
            match event {
                Ok(IfEvent::Up(IpNet::V4(net))) => self.is_up(net),
                Ok(IfEvent::Down(IpNet::V4(net))) => drop(self.interfaces.remove(&net.addr())),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the interfaces are not known"),
            }
        }
        let mut interfaces = std::mem::take(&mut self.interfaces);
        for interface in interfaces.values_mut() {
            self.listen(interface, cx);
            self.say(interface, cx);
        }
        self.interfaces = interfaces;
        Poll::Pending
    }

    fn is_up(&mut self, net: Ipv4Net) {
        let address = net.addr();
        if address.is_loopback() || self.interfaces.contains_key(&address) {
            return;
        }
        match Interface::new(net) {
            Ok(interface) => drop(self.interfaces.insert(address, interface)),
            Err(error) => tracing::warn!(%address, %error, "no search for peers on this interface"),
        }
    }

    /// Reads what is there, as far as the pace admits.
    fn listen(&mut self, interface: &mut Interface, cx: &mut Context<'_>) {
        while interface.is_willing(cx) {
            let mut buffer = ReadBuf::new(&mut self.buffer[..]);
            let Poll::Ready(received) = interface.receiver.poll_recv_from(cx, &mut buffer) else {
                return;
            };
            let now = platform::now();
            interface.pace.charge(1, now);
            let Ok(SocketAddr::V4(from)) = received else {
                continue;
            };
            let (host, packet) = (*from.ip(), buffer.filled());
            if !interface.net.contains(&host) || !packet::is_marked(packet) {
                continue;
            }
            interface.pace.charge(DECODED, now);
            match packet::read(packet, host) {
                Some(Packet::Asks) => interface.is_asked(now),
                Some(Packet::Says(neighbour)) if neighbour.peer != self.own => {
                    interface.pause = ASK.1;
                    // Where there is no room, it says so again.
                    let _ = self.heard.try_send(neighbour);
                }
                Some(Packet::Says(_)) | None => {}
            }
        }
    }

    /// Asks and answers, where it is time.
    fn say(&self, interface: &mut Interface, cx: &mut Context<'_>) {
        while interface
            .alarm
            .poll_until(interface.speaks_at(), cx)
            .is_ready()
        {
            let now = platform::now();
            if interface.asks_at <= now {
                interface.send(packet::question().map(Some));
                interface.asks_at = now + interface.pause;
                interface.pause = (interface.pause * 2).min(ASK.1);
            }
            if interface.answers_at.is_some_and(|at| at <= now) {
                let host = interface.net.addr();
                interface.send(packet::answer(
                    &self.called,
                    self.own,
                    &self.addresses,
                    host,
                ));
                (interface.answers_at, interface.rests_until) = (None, now + ANSWER);
            }
        }
    }
}

impl Interface {
    fn new(net: Ipv4Net) -> io::Result<Self> {
        let address = net.addr();
        let receiver = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // With whoever else on this host speaks mDNS.
        receiver.set_reuse_address(true)?;
        #[cfg(unix)]
        receiver.set_reuse_port(true)?;
        let place = SocketAddrV4::new(place(), GROUP.port());
        receiver.bind(&place.into())?;
        receiver.join_multicast_v4(GROUP.ip(), &address)?;
        let sender = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        sender.bind(&SocketAddrV4::new(address, 0).into())?;
        sender.set_multicast_if_v4(&address)?;
        sender.set_multicast_loop_v4(true)?;
        sender.set_multicast_ttl_v4(255)?;
        let now = platform::now();
        Ok(Self {
            net,
            receiver: polled(receiver)?,
            sender: polled(sender)?,
            pace: Pace::new(PACE),
            asks_at: now,
            pause: ASK.0,
            answers_at: None,
            rests_until: now,
            alarm: Alarm::default(),
            patience: Alarm::default(),
        })
    }

    /// Whether the pace lets one more packet in; if not, it is asked again when it does.
    fn is_willing(&mut self, cx: &mut Context<'_>) -> bool {
        match self.pace.ready(platform::now()) {
            Admission::Now => true,
            Admission::At(moment) => self.patience.poll_until(moment, cx).is_ready(),
        }
    }

    /// Somebody asks where this node is.
    fn is_asked(&mut self, now: Instant) {
        self.answers_at.get_or_insert(now.max(self.rests_until));
    }

    /// When there is something to say next.
    fn speaks_at(&self) -> Instant {
        let answer = self.answers_at.unwrap_or(self.asks_at);
        answer.min(self.asks_at)
    }

    /// Sends a packet to all on the link, or drops it: it is asked for again.
    fn send(&self, packet: Result<Option<Vec<u8>>, ProtoError>) {
        let sent = match packet {
            Ok(Some(packet)) => self.sender.try_send_to(&packet, GROUP.into()),
            Ok(None) => return,
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = sent {
            let address = self.net.addr();
            tracing::warn!(%address, %error, "a packet of mDNS could not be sent");
        }
    }
}

/// A socket of the runtime's.
fn polled(socket: Socket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// What a socket is bound to that is to hear the group and, where the system allows that, nothing else.
#[cfg(unix)]
fn place() -> Ipv4Addr {
    *GROUP.ip()
}

/// As above.
#[cfg(not(unix))]
fn place() -> Ipv4Addr {
    Ipv4Addr::UNSPECIFIED
}
