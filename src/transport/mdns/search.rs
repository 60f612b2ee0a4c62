//! The search itself: this host's interfaces, and what is said on each.
//!
//! An interface asks when it is there, at pauses that double until somebody was found or they are [`ASK`], and then every
//! [`ASK`]. It hears itself: so its question is what makes it say where it is.
//!
//! Bounds: an interface an address and prefix of this host's; for each two sockets and what the pace lets in.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    task::{Context, Poll},
    time::Duration,
};

use hickory_proto::ProtoError;
use if_watch::IfEvent;
use ipnet::{IpNet, Ipv4Net};
use libp2p::{Multiaddr, PeerId};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::ReadBuf, net::UdpSocket, sync::mpsc};

use super::{
    ANSWER, DECODED, PACE,
    interfaces::{Change, Watch},
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
    interfaces: BTreeMap<Ipv4Net, Interface>,
    watch: Watch,
    heard: mpsc::Sender<Neighbour>,
    buffer: Box<[u8; MAX_BYTES]>,
}

/// One of this host's addresses, with its prefix.
struct Interface {
    net: Ipv4Net,
    receiver: UdpSocket,
    sender: UdpSocket,
    pace: Pace,
    /// When is the next question, and the pause after it.
    asks_at: Instant,
    pause: Duration,
    /// The first moment for another question than that.
    asked_until: Instant,
    /// When is the next answer, if there is one, and the first moment for one.
    answers_at: Option<Instant>,
    rests_until: Instant,
    /// Whether it says too that there is such a service.
    names_service: bool,
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
            watch: Watch::new()?,
            heard,
            buffer: Box::new([0; MAX_BYTES]),
        })
    }

    /// This node listens at these addresses from now on: it says so, and asks anew.
    pub(super) fn listens(&mut self, addresses: Vec<Multiaddr>) {
        self.addresses = addresses;
        let now = platform::now();
        for interface in self.interfaces.values_mut() {
            interface.is_asked(now);
            interface.ask(now);
        }
    }

    /// Asks, answers and listens, without end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Infallible> {
        while let Poll::Ready(change) = self.watch.poll(cx) {
            match change {
                Change::Anew => self.interfaces.clear(),
                Change::One(IfEvent::Up(IpNet::V4(net))) => self.is_up(net),
                Change::One(IfEvent::Down(IpNet::V4(net))) => drop(self.interfaces.remove(&net)),
                Change::One(_) => {}
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
        if net.addr().is_loopback() || self.interfaces.contains_key(&net) {
            return;
        }
        match Interface::new(net) {
            Ok(interface) => drop(self.interfaces.insert(net, interface)),
            Err(error) => tracing::warn!(%net, %error, "no search for peers on this interface"),
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
                Some(Packet::Asks { services }) => {
                    interface.is_asked(now);
                    interface.names_service |= services;
                }
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
            // The runtime does not know of a new socket at once that it has room.
            if interface.sender.poll_send_ready(cx).is_pending() {
                return;
            }
            let now = platform::now();
            if interface.asks_at <= now {
                interface.send(packet::question());
                interface.asks_at = now + interface.pause;
                interface.pause = (interface.pause * 2).min(ASK.1);
                interface.asked_until = now + ANSWER;
            }
            if interface.answers_at.is_some_and(|at| at <= now) {
                let host = interface.net.addr();
                let answer = packet::answer(&self.called, self.own, &self.addresses, host);
                let names_service = std::mem::take(&mut interface.names_service);
                if let Some(answer) = answer.transpose() {
                    interface.send(answer);
                    if names_service {
                        interface.send(packet::service());
                    }
                }
                (interface.answers_at, interface.rests_until) = (None, now + ANSWER);
            }
        }
    }
}

impl Interface {
    fn new(net: Ipv4Net) -> io::Result<Self> {
        let address = net.addr();
        let receiver = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        shares(&receiver)?;
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
            asked_until: now,
            answers_at: None,
            rests_until: now,
            names_service: false,
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

    /// Others are to be asked anew, no more often than they answer.
    fn ask(&mut self, now: Instant) {
        self.asks_at = self.asks_at.min(now.max(self.asked_until));
        self.pause = ASK.0;
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
    fn send(&self, packet: Result<Vec<u8>, ProtoError>) {
        let sent = match packet {
            Ok(packet) => self.sender.try_send_to(&packet, GROUP.into()),
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

/// Shares the port with whoever else on this host speaks mDNS, and hears one interface only: on Linux a socket hears the group on each on
/// which anybody on this host has joined it, unless told otherwise, and by the sender's address alone no link is told from another. No
/// `SO_REUSEPORT` there: what is meant for one socket would go to any that has it.
#[cfg(target_os = "linux")]
fn shares(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    socket.set_multicast_all_v4(false)
}

/// As above, where a socket hears the group where it has joined it itself, and shares a port by both options.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn shares(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)
}

/// As above, by one of them; on Android it hears all interfaces.
#[cfg(any(target_os = "android", not(unix)))]
fn shares(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn on_loopback() -> Interface {
        let net = Ipv4Net::new(Ipv4Addr::LOCALHOST, 8).expect("a prefix");
        Interface::new(net).expect("an interface")
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_interface_hears_no_other_link() {
        let interface = on_loopback();
        let receiver = socket2::SockRef::from(&interface.receiver);
        assert!(!receiver.multicast_all_v4().expect("it is known"));
        assert!(!receiver.reuse_port().expect("it is known"));
    }

    #[tokio::test]
    async fn the_first_question_is_sent_and_another_is_asked_for_once_a_second() {
        let (sender, _heard) = mpsc::channel(1);
        let mut search = Search::new(PeerId::random(), sender).expect("interfaces are known");
        let (mut interface, began) = (on_loopback(), platform::now());
        // It hears its own question, and answers.
        poll_fn(|cx| {
            search.listen(&mut interface, cx);
            search.say(&mut interface, cx);
            match interface.rests_until > began {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        assert_eq!(interface.pause, ASK.0 * 2, "the first of all");
        let asked = interface.asked_until;
        interface.asks_at = asked + ASK.1;
        interface.ask(asked - ANSWER);
        assert_eq!((interface.asks_at, interface.pause), (asked, ASK.0));
        interface.ask(asked + ANSWER);
        assert_eq!(interface.asks_at, asked, "it is due");
    }
}
