//! Connections between hosts, as a libp2p transport.
//!
//! A connection takes a round trip, as TCP's; a packet of it that is lost, or comes on no path, is sent again after 1, 2, 4 s and
//! so on ([`FIRST_RETRY`]), for whoever dials to give up on. A host at which nobody listens refuses at once.

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io,
    net::Ipv4Addr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{FutureExt, channel::oneshot, future::BoxFuture};
use libp2p::{
    Multiaddr,
    core::transport::{
        Boxed, DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent,
    },
    multiaddr::Protocol,
};
use selkie::platform::simulated::Bytes;
use selkie_sim_host::clock;

use super::{now, pipe, with};
use crate::executor::{self, Node};

const FIRST_RETRY: Duration = Duration::from_secs(1);
/// As often at most; who dials gives up long before.
const MAX_RETRIES: u32 = 6;

/// What both ends of a connection get.
type Output = Box<dyn Bytes>;
type Event = TransportEvent<Ready<io::Result<Output>>, io::Error>;
type Shared = Arc<Mutex<Inbox>>;

/// The way of the node that runs now to others.
pub fn transport() -> Boxed<Output> {
    let node = executor::running().expect("a transport belongs to a node");
    Simulated {
        node,
        inbox: Shared::default(),
    }
    .boxed()
}

/// What a transport will hear.
#[derive(Default)]
struct Inbox {
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

impl Inbox {
    fn put(inbox: &Shared, event: Event) {
        let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.events.push_back(event);
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }
}

/// Who listens at a port.
#[derive(Clone)]
pub(super) struct Listener {
    id: ListenerId,
    inbox: Shared,
}

/// See the module's documentation.
struct Simulated {
    node: Node,
    inbox: Shared,
}

impl Transport for Simulated {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Output>>;
    type Dial = BoxFuture<'static, io::Result<Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        let Some((_, port)) = place(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let inbox = Arc::clone(&self.inbox);
        let listener = Listener { id, inbox };
        let listens = with(|network| {
            let host = network.hosts.get_mut(self.node)?;
            let is_free = !host.listeners.contains_key(&port);
            is_free.then(|| {
                host.listeners.insert(port, listener);
                host.address
            })
        });
        let Some(ip) = listens else {
            return Err(TransportError::Other(io::ErrorKind::AddrInUse.into()));
        };
        let listen_addr = at(ip, port);
        Inbox::put(
            &self.inbox,
            TransportEvent::NewAddress {
                listener_id: id,
                listen_addr,
            },
        );
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let removed = with(|network| {
            let host = network.hosts.get_mut(self.node)?;
            let mut listeners = host.listeners.iter();
            let port = *listeners.find(|(_, listener)| listener.id == id)?.0;
            host.listeners.remove(&port)
        });
        let was_there = removed.is_some();
        if was_there {
            Inbox::put(
                &self.inbox,
                TransportEvent::ListenerClosed {
                    listener_id: id,
                    reason: Ok(()),
                },
            );
        }
        was_there
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some((ip, port)) = place(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let from = self.node;
        Ok(async move {
            let (answer, answered) = oneshot::channel();
            let own_port = with(|network| {
                let host = network.hosts.get_mut(from)?;
                let listens = host.listeners.keys().next().copied();
                match options.port_use {
                    PortUse::Reuse => listens.or_else(|| Some(host.next_port())),
                    PortUse::New => Some(host.next_port()),
                }
            });
            let to = with(|network| network.by_address.get(&ip).copied());
            // Nobody answers where there is no host.
            if let Some(to) = to {
                let dial = Dial {
                    from,
                    own_port: own_port.unwrap_or(0),
                    to,
                    port,
                    retries: 0,
                    answer,
                };
                dial.knock();
                answered
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            } else {
                std::future::pending().await
            }
        }
        .boxed())
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        match inbox.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                inbox.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Its listeners end with it.
impl Drop for Simulated {
    fn drop(&mut self) {
        let removed = with(|network| {
            let host = network.hosts.get_mut(self.node)?;
            let listeners = std::mem::take(&mut host.listeners);
            let (own, others) = listeners
                .into_iter()
                .partition(|(_, listener)| Arc::ptr_eq(&listener.inbox, &self.inbox));
            host.listeners = others;
            Some::<std::collections::BTreeMap<u16, Listener>>(own)
        });
        drop(removed);
    }
}

/// A connection that is being made.
struct Dial {
    from: Node,
    own_port: u16,
    to: Node,
    port: u16,
    retries: u32,
    answer: oneshot::Sender<io::Result<Output>>,
}

impl Dial {
    /// The first packet.
    fn knock(self) {
        match packet(self.from, self.to) {
            Some(delay) => {
                clock::call_at(now() + delay, || self.open());
            }
            None => self.retry(),
        }
    }

    fn retry(mut self) {
        // Who gives up has dropped the receiver.
        if self.retries < MAX_RETRIES && !self.answer.is_canceled() {
            let pause = FIRST_RETRY * (1 << self.retries);
            self.retries += 1;
            clock::call_at(now() + pause, || self.knock());
        }
    }

    /// It is there.
    fn open(self) {
        let host = with(|network| {
            let host = network.hosts.get(self.to)?;
            host.takes_inbound
                .then(|| host.listeners.get(&self.port).cloned())
        });
        let (Some(listener), Some(delay)) = (host, packet(self.to, self.from)) else {
            return self.retry();
        };
        clock::call_at(now() + delay, move || match listener {
            Some(listener) => self.opened(listener),
            None => drop(
                self.answer
                    .send(Err(io::ErrorKind::ConnectionRefused.into())),
            ),
        });
    }

    /// The answer is back.
    fn opened(self, listener: Listener) {
        let (ours, theirs) = pipe::connection(self.from, self.to);
        let stream = ours.stream();
        let third = with(|network| {
            if let Some(host) = network.hosts.get_mut(self.from) {
                host.connected(self.from, self.to, &stream);
            }
            network.usual_path(self.from, self.to).latency
        });
        // Who has given up in the meantime drops its end, and the other finds out.
        drop(self.answer.send(Ok(Box::new(ours))));
        clock::call_at(now() + third, move || {
            let address = |node: Node, port| {
                with(|network| network.hosts.get(node).map(|host| at(host.address, port)))
            };
            let (Some(local_addr), Some(send_back_addr)) = (
                address(self.to, self.port),
                address(self.from, self.own_port),
            ) else {
                return;
            };
            Inbox::put(
                &listener.inbox,
                TransportEvent::Incoming {
                    listener_id: listener.id,
                    upgrade: ready(Ok(Box::new(theirs))),
                    local_addr,
                    send_back_addr,
                },
            );
        });
    }
}

/// How long one packet takes, or `None` where it is lost.
fn packet(from: Node, to: Node) -> Option<Duration> {
    with(|network| {
        let path = network.path(from, to)?;
        (!network.chance(path.loss)).then(|| network.delay(path))
    })
}

fn at(ip: Ipv4Addr, port: u16) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Tcp(port))
}

/// Where an address is, if it is one of TCP.
fn place(address: &Multiaddr) -> Option<(Ipv4Addr, u16)> {
    let mut parts = address.iter();
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (
            Some(Protocol::Ip4(ip)),
            Some(Protocol::Tcp(port)),
            None | Some(Protocol::P2p(_)),
            None,
        ) => Some((ip, port)),
        _ => None,
    }
}
