//! The door before all transports of a skin: what is dialled, who may knock, and how long either may take.
//!
//! - **Outwards** each address, whoever wants it dialled, is put to the [`AddressPolicy`]: libp2p's behaviours dial what they learnt
//!   by themselves, and none can take an address away from another, so the policy stands where all dials pass. A closed network
//!   has no transports over UDP, which is said.
//!   An address at which another peer answers than the one it ends with has failed, and libp2p goes on with the peer's others: by itself it
//!   looks only once one has answered, so whoever answers first, at an address that a stranger told, would undo the whole dial.
//! - **Inwards** a connection gets one of the places of [`Handshakes`] until it has proved who it is. Who gets none is dropped before a
//!   byte is read; who gives way, or takes longer than the time-out, is dropped where it stands. All that a connection is by then
//!   hangs on its handshake's future, on every transport: TCP's socket with TLS, HTTP's upgrade, multistream, Noise and Yamux
//!   half done; QUIC's connection; WebTransport's session. One limit thus covers them all.
//! - **Handshakes take turns**: what one computes to prove and to check identities takes some tenths of a millisecond, and a crowd that comes
//!   at once has as many tasks, among which votes would wait for their own. So one handshake at a time goes on, as far as it can without
//!   waiting, and whatever else there is to do comes between two of them. (Over UDP what follows the first of it is computed where this door does not see it.)

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt, TryFutureExt,
    future::{AbortHandle, AbortRegistration, Abortable, Either, select},
};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol,
};
use tokio::sync::Semaphore;

use super::{
    Boxed,
    newcomers::{Connecting, Upgrade, poll_admitted},
};
use crate::{
    peers::{AddressPolicy, Crowded, HandshakeId, Handshakes, RefusedAddress},
    platform::{self, Delay, lock::lock},
};

/// The policy, shared by all that learn addresses and the one place that dials them.
pub type SharedPolicy = Arc<Mutex<AddressPolicy>>;

type Places = Arc<Mutex<Handshakes<AbortHandle>>>;
type Output = <Boxed as Transport>::Output;

/// Why a node of a closed network does not dial by QUIC, WebTransport or WebRTC.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "security.noise_config.prologue closes this node's network, which TCP and WebSocket keep and nothing over UDP; \
     dial a /tcp/… address of it"
)]
struct Unbound;

/// See the module's documentation.
pub struct Door {
    inner: Boxed,
    policy: SharedPolicy,
    places: Places,
    /// Of handshakes that are under way.
    turns: Arc<Semaphore>,
    patience: Duration,
    is_closed: bool,
}

impl Door {
    /// The transports of an open network, or of a closed one, behind a door. Dials and handshakes may take `patience` each.
    pub fn new(
        inner: Boxed,
        policy: SharedPolicy,
        places: Handshakes<AbortHandle>,
        patience: Duration,
        is_closed: bool,
    ) -> Self {
        Self {
            inner,
            policy,
            places: Arc::new(Mutex::new(places)),
            turns: Arc::new(Semaphore::new(1)),
            patience,
            is_closed,
        }
    }
}

impl Transport for Door {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = Connecting;
    type Dial = Connecting;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Connecting, TransportError<io::Error>> {
        let allowed = lock(&self.policy).admit_dial(&address, platform::now());
        allowed.map_err(|refused| TransportError::Other(io::Error::other(refused)))?;
        if self.is_closed && address.iter().any(|part| matches!(part, Protocol::Udp(_))) {
            return Err(TransportError::Other(io::Error::other(Unbound)));
        }
        let dialled = timely(self.inner.dial(address.clone(), options)?, self.patience);
        let policy = Arc::clone(&self.policy);
        let met = move |output: Output| {
            is_meant(&address, output.0)?;
            lock(&policy).answered(&address);
            Ok(output)
        };
        Ok(dialled.and_then(async move |output| met(output)).boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Connecting, io::Error>> {
        let Self {
            inner,
            places,
            turns,
            patience,
            ..
        } = self.get_mut();
        poll_admitted(inner, cx, |remote| match Place::of(places, turns, remote) {
            Ok((place, ended)) => Some(|handshake: Upgrade| {
                let handshake = timely(place.keeps(handshake.boxed()), *patience);
                let handshake = Abortable::new(handshake, ended);
                async move {
                    let entered = handshake.await;
                    entered.unwrap_or_else(|_| Err(io::Error::other(Crowded)))
                }
                .boxed()
            }),
            Err(Crowded) => {
                tracing::debug!(%remote, "{Crowded}: turned a newcomer away");
                None
            }
        })
    }
}

/// A handshake's place, given back when it is over or dropped.
struct Place {
    places: Places,
    turns: Arc<Semaphore>,
    id: HandshakeId,
}

impl Place {
    /// One for a handshake from there, and what ends when it is given to another.
    fn of(
        places: &Places,
        turns: &Arc<Semaphore>,
        remote: &Multiaddr,
    ) -> Result<(Self, AbortRegistration), Crowded> {
        let (end, ended) = AbortHandle::new_pair();
        let (id, gives_way) = lock(places).enter(remote, end, platform::now())?;
        if let Some(end) = gives_way {
            tracing::debug!(%remote, "a handshake gave way to a newcomer");
            end.abort();
        }
        let place = Self {
            places: Arc::clone(places),
            turns: Arc::clone(turns),
            id,
        };
        Ok((place, ended))
    }

    /// Has a handshake go on by turns, and keeps this place for it meanwhile.
    async fn keeps(self, mut handshake: Connecting) -> io::Result<Output> {
        loop {
            let turn = self.turns.acquire().await;
            let polled = futures::poll!(&mut handshake);
            drop(turn);
            if let Poll::Ready(entered) = polled {
                return entered;
            }
            futures::pending!();
            // Something has come of it, or it would not have been woken.
            lock(&self.places).goes_on(self.id, platform::now());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places).leave(self.id);
    }
}

/// Whether this node itself dials no such address, or not now, so that the failure says nothing of who is there.
pub fn is_refused_here(error: &TransportError<io::Error>) -> bool {
    let TransportError::Other(error) = error else {
        return true;
    };
    // Each box of libp2p's packs the error into one more.
    let mut packed = error.get_ref();
    while let Some(error) = packed {
        if error.is::<RefusedAddress>() || error.is::<Unbound>() {
            return true;
        }
        packed = error.downcast_ref().and_then(io::Error::get_ref);
    }
    false
}

/// What is made of a connection in time.
fn timely(
    connecting: impl Future<Output = io::Result<Output>> + Send + 'static,
    patience: Duration,
) -> Connecting {
    async move {
        match select(connecting.boxed(), Delay::new(patience)).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
    .boxed()
}

/// Whether the peer that answered is the one that the address ends with.
fn is_meant(address: &Multiaddr, answered: PeerId) -> io::Result<()> {
    match address.iter().last() {
        Some(Protocol::P2p(meant)) if meant != answered => Err(io::Error::other(format!(
            "another peer answers there: {answered}"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
        task::Waker,
    };

    use libp2p::core::{
        Endpoint,
        transport::{PortUse, dummy::DummyTransport},
    };

    use super::*;
    use crate::platform::test;

    #[test]
    fn who_answers_is_who_was_meant() {
        let [meant, relay, other] = [(); 3].map(|()| PeerId::random());
        let address = |text: String| text.parse::<Multiaddr>().expect("an address");
        let direct = address(format!("/ip4/192.0.2.1/tcp/1/p2p/{meant}"));
        let circuit = address(format!(
            "/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{meant}"
        ));
        for address in [&direct, &circuit] {
            is_meant(address, meant).expect("the one");
            let error = is_meant(address, other).expect_err("another");
            assert!(error.to_string().contains(&other.to_string()));
        }
        is_meant(&address("/ip4/192.0.2.1/tcp/1".to_owned()), other).expect("anybody");
    }

    #[test]
    fn what_this_node_does_not_dial_says_nothing_of_the_peer() {
        let mut policy = AddressPolicy::new(PeerId::random(), true, &[1; 16]);
        let near = "/ip4/10.0.0.1/tcp/1"
            .parse::<Multiaddr>()
            .expect("an address");
        let udp = "/ip4/1.2.3.4/udp/1/quic-v1".parse().expect("an address");
        policy.vouch(&udp);
        let door = Door::new(
            Transport::boxed(DummyTransport::new()),
            Arc::new(Mutex::new(policy)),
            Handshakes::new(2, 2),
            Duration::from_secs(1),
            true,
        );
        let mut door = Transport::boxed(door);
        for address in [near, udp] {
            let options = DialOpts {
                role: Endpoint::Dialer,
                port_use: PortUse::Reuse,
            };
            let refused = door.dial(address.clone(), options).err();
            let refused = refused.map(|error| error.map(io::Error::other));
            assert!(is_refused_here(&refused.expect("refused")), "{address}");
        }
        let silent = TransportError::Other(io::ErrorKind::TimedOut.into());
        assert!(!is_refused_here(&silent));
    }

    #[test]
    fn one_handshake_at_a_time_goes_on() {
        let policy = AddressPolicy::new(PeerId::random(), true, &[1; 16]);
        let door = Door::new(
            Transport::boxed(DummyTransport::new()),
            Arc::new(Mutex::new(policy)),
            Handshakes::new(2, 2),
            Duration::from_secs(1),
            false,
        );
        let remote = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
        let enter = |()| Place::of(&door.places, &door.turns, &remote).expect("room");
        let [(first, _), (second, _)] = [(); 2].map(enter);
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&polls);
        let silent = poll_fn(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Poll::Pending
        });
        let second = Arc::new(Mutex::new(second.keeps(silent.boxed()).boxed()));
        let poll = |handshake: &Mutex<Connecting>| {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(lock(handshake).poll_unpin(&mut cx).is_pending());
        };
        let other = Arc::clone(&second);
        let busy = poll_fn(move |_| {
            poll(&other);
            Poll::Ready(Err(io::ErrorKind::Other.into()))
        });
        let done = first.keeps(busy.boxed()).now_or_never();
        assert!(done.is_some_and(|entered| entered.is_err()));
        assert_eq!(polls.load(Ordering::Relaxed), 0, "it was another's turn");
        poll(&second);
        assert_eq!(polls.load(Ordering::Relaxed), 1);
    }
}
