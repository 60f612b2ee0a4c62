//! Who comes to a transport, of whom some are turned away before anything is done for them.
//!
//! Bounds: so many are turned away in one go ([`MAX_TURNED_AWAY`]); then others have their turn.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{FutureExt, future::BoxFuture};
use libp2p::{Multiaddr, Transport, core::transport::TransportEvent};

use super::Boxed;

/// A connection on its way, until its peer has proved who it is.
pub(super) type Connecting = BoxFuture<'static, io::Result<<Boxed as Transport>::Output>>;
/// The same, as the transport within makes it.
pub(super) type Upgrade = <Boxed as Transport>::ListenerUpgrade;

/// How many newcomers are turned away before others get their turn.
const MAX_TURNED_AWAY: usize = 64;

/// What a transport tells next. `admit` is asked of each newcomer, by where it comes from, and says how its handshake goes on, or nothing: then it is dropped as
/// it came, and not told of.
pub(super) fn poll_admitted<F: FnOnce(Upgrade) -> Connecting>(
    inner: &mut Boxed,
    cx: &mut Context<'_>,
    mut admit: impl FnMut(&Multiaddr) -> Option<F>,
) -> Poll<TransportEvent<Connecting, io::Error>> {
    for _ in 0..MAX_TURNED_AWAY {
        let event = ready!(Pin::new(&mut *inner).poll(cx));
        let TransportEvent::Incoming {
            send_back_addr: remote,
            ..
        } = &event
        else {
            return Poll::Ready(event.map_upgrade(FutureExt::boxed));
        };
        if let Some(goes_on) = admit(remote) {
            return Poll::Ready(event.map_upgrade(goes_on));
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}
