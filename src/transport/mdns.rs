//! The search for peers on the local network: mDNS (RFC 6762) as libp2p/specs discovery/mdns has it, over IPv4.
//!
//! It is ours, since there is no way to put a guard before `libp2p-mdns`: its socket takes packets from everywhere, what they say
//! goes into lists without a bound and is believed as long as the packet wants, and all of that is walked through in the swarm's
//! polls. Any packet is worth as little as who sent it, and nobody had to show who that is. So here:
//!
//! - **Only from the link.** The socket is bound to the group's address, which no router forwards, so that what is sent to this host
//!   alone does not arrive (on Unix; elsewhere systems can't bind so), and hears the group on its own interface only (but for Android, where
//!   the system gives it that of all). The sender must be in the interface's own network. That is our own rule: RFC 6762, 11, takes what came to the group from
//!   anybody. It costs neighbours where an address has no network (/32, as on point-to-point links and in some clouds), where two
//!   networks share a link, and where a reflector repeats packets between links under its own address. The sender's
//!   port is not asked for: libp2p's own does not send from 5353, and who is on the link may choose.
//! - **Only of itself.** A host says where it is, not where others are (`packet.rs`). What remains goes through the address policy as any peer's
//!   word does, and is dialled with its back-off.
//! - **So much a second.** Each interface reads at a pace ([`PACE`]); what comes faster the system drops. It answers once in [`ANSWER`].
//! - **Not where votes are.** Packets are read by a task of its own. The swarm gets what was decoded, one after the other, from a queue of
//!   [`MAX_WAITING`], and what does not fit is dropped: it is said again. Who is there is kept in [`Neighbours`](crate::peers::Neighbours).
//!
//! Nodes of rust-libp2p and js-libp2p read each other and this one. Those of go-libp2p are read, and read neither: they want an SRV and an A
//! record of each that is named.
//!
//! Against who is on the link and forges its neighbours' addresses none of this protects the search itself: it may hide others.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::{Either, select};
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};
use tokio::sync::{mpsc, watch};

mod interfaces;
mod packet;
mod search;

pub use packet::check_mdns;

use self::search::Search;
use crate::{peers::Neighbour, platform, traffic::Rate};

/// What an interface reads: a packet costs 1, [`DECODED`] if it is about peers.
const PACE: Rate = Rate {
    per_second: 1000,
    burst: 1000,
};
/// What it costs to decode a packet.
const DECODED: u64 = 40;
/// How often an interface answers (RFC 6762, 6).
const ANSWER: Duration = Duration::from_secs(1);
/// Words of neighbours that wait for the swarm.
const MAX_WAITING: usize = 64;

/// See the module's documentation.
pub struct Behaviour {
    own: BTreeSet<Multiaddr>,
    /// Where this node listens; whenever it is told, others are asked anew. Its end ends the search.
    listening: watch::Sender<Vec<Multiaddr>>,
    heard: mpsc::Receiver<Neighbour>,
}

impl Behaviour {
    /// Begins the search, for others than `own`, as a task of the current runtime.
    ///
    /// # Errors
    /// The system does not tell its interfaces, or has no randomness.
    pub fn new(own: PeerId) -> io::Result<Self> {
        let (listening, mut addresses) = watch::channel(Vec::new());
        let (sender, heard) = mpsc::channel(MAX_WAITING);
        let mut search = Search::new(own, sender)?;
        platform::spawn(async move {
            while changed(&mut addresses, &mut search).await {
                search.listens(addresses.borrow_and_update().clone());
            }
        });
        Ok(Self {
            own: BTreeSet::new(),
            listening,
            heard,
        })
    }

    /// Asks anew who is there, once a second at most.
    pub fn ask(&self) {
        self.listening.send_modify(|_| {});
    }
}

/// Searches until this node listens elsewhere; false: it has ended.
async fn changed(addresses: &mut watch::Receiver<Vec<Multiaddr>>, search: &mut Search) -> bool {
    let changed = pin!(addresses.changed());
    match select(changed, poll_fn(|cx| search.poll(cx))).await {
        Either::Left((changed, _)) => changed.is_ok(),
        Either::Right((never, _)) => match never {},
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Neighbour;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let changed = match event {
            FromSwarm::NewListenAddr(new) => self.own.insert(new.addr.clone()),
            FromSwarm::ExpiredListenAddr(expired) => self.own.remove(expired.addr),
            _ => false,
        };
        if changed {
            let own = self.own.iter().cloned().collect();
            self.listening.send_replace(own);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Neighbour, THandlerInEvent<Self>>> {
        match ready!(self.heard.poll_recv(cx)) {
            Some(neighbour) => Poll::Ready(ToSwarm::GenerateEvent(neighbour)),
            // The search has ended with the runtime.
            None => Poll::Pending,
        }
    }
}
