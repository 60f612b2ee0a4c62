//! Listeners on their way up, and who waits for them.
//!
//! A listener is up once it has told its first address. One that stands for all of this host's addresses (`0.0.0.0`, `::`) tells
//! none where no interface has one of that kind: IPv6 is off, a container has no network. Nobody waits longer than
//! [`PATIENCE`] for such a one; it stays, and tells its address when an interface comes. A node that listens nowhere though it
//! was to, or one of whose listeners ends before it is up, has not started.
//!
//! A state machine without I/O. Bounds: the addresses of the configuration.

use std::time::Duration;

use libp2p::{Multiaddr, core::transport::ListenerId};
use tokio::sync::oneshot;

use crate::{error::NetworkError, platform::Instant};

/// How long a start waits for listeners to tell their addresses.
const PATIENCE: Duration = Duration::from_secs(3);
/// Why an address for all interfaces is none.
pub(crate) const NO_INTERFACE: &str =
    "no network interface here has such an address; the node will listen once one comes up";

/// What came of a start.
pub(crate) type Started = Result<(), NetworkError>;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Starting {
    /// Not up yet, in the configuration's order.
    waiting: Vec<(ListenerId, Multiaddr)>,
    /// Whether a listener is up, or none is wanted.
    listens: bool,
    until: Option<Instant>,
    waiter: Option<oneshot::Sender<Started>>,
    failure: Option<NetworkError>,
}

impl Starting {
    /// The answer comes when all of these listeners are up, or it is clear that some will not be.
    pub(crate) fn begin(
        listeners: Vec<(ListenerId, Multiaddr)>,
        now: Instant,
    ) -> (Self, oneshot::Receiver<Started>) {
        let (waiter, started) = oneshot::channel();
        let mut starting = Self {
            listens: listeners.is_empty(),
            waiting: listeners,
            until: Some(now + PATIENCE),
            waiter: Some(waiter),
            failure: None,
        };
        starting.tell();
        (starting, started)
    }

    /// A listener has told an address.
    pub(crate) fn came_up(&mut self, listener: ListenerId) {
        self.listens = true;
        self.waiting.retain(|(id, _)| *id != listener);
        self.tell();
    }

    /// A listener has ended. The address that it was to have, if it has told none.
    pub(crate) fn ended(&mut self, listener: ListenerId, reason: &str) -> Option<Multiaddr> {
        let index = self.waiting.iter().position(|(id, _)| *id == listener)?;
        let (_, address) = self.waiting.remove(index);
        self.fail(address.clone(), reason);
        Some(address)
    }

    /// Those that have told no address in time, each once.
    pub(crate) fn late(&mut self, now: Instant) -> Vec<Multiaddr> {
        if self.until.is_none_or(|until| now < until) {
            return Vec::new();
        }
        self.until = None;
        let late = std::mem::take(&mut self.waiting);
        let late: Vec<_> = late.into_iter().map(|(_, address)| address).collect();
        match late.first() {
            Some(first) if !self.listens => self.fail(first.clone(), NO_INTERFACE),
            _ => self.tell(),
        }
        late
    }

    /// Whether the start has failed, and the node is to end.
    pub(crate) fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Who waits for the start, and why it has failed: to be told when all is taken apart.
    pub(crate) fn into_failure(self) -> Option<(oneshot::Sender<Started>, NetworkError)> {
        self.waiter.zip(self.failure)
    }

    /// After the start a listener's end is no failure of it.
    fn fail(&mut self, address: Multiaddr, reason: &str) {
        if self.waiter.is_some() {
            let reason = reason.to_owned();
            self.failure
                .get_or_insert(NetworkError::Listen { address, reason });
        }
    }

    fn tell(&mut self) {
        if self.waiting.is_empty()
            && self.failure.is_none()
            && let Some(waiter) = self.waiter.take()
        {
            // Who no longer waits for the start does not stop it.
            let _ = waiter.send(Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{self, test};

    fn address(text: &str) -> Multiaddr {
        text.parse().expect("an address")
    }

    fn two() -> ([ListenerId; 2], Starting, oneshot::Receiver<Started>) {
        let ids = [ListenerId::next(), ListenerId::next()];
        let [all, one] = ["/ip6/::/tcp/0", "/ip4/127.0.0.1/tcp/0"].map(address);
        let listeners = vec![(ids[0], all), (ids[1], one)];
        let (starting, started) = Starting::begin(listeners, platform::now());
        (ids, starting, started)
    }

    #[test]
    fn a_start_waits_for_all_its_listeners() {
        let (ids, mut starting, mut started) = two();
        starting.came_up(ids[1]);
        starting.came_up(ids[1]);
        assert!(started.try_recv().is_err(), "the other is to come");
        starting.came_up(ids[0]);
        assert!(matches!(started.try_recv(), Ok(Ok(()))));
        assert_eq!(starting.ended(ids[0], "gone"), None);
        assert!(!starting.failed(), "it was up");
        assert!(starting.late(platform::now() + PATIENCE * 2).is_empty());
        let (_, mut none) = Starting::begin(Vec::new(), platform::now());
        assert!(matches!(none.try_recv(), Ok(Ok(()))), "none to wait for");
    }

    #[test]
    fn a_listener_without_an_interface_is_not_waited_for() {
        let (ids, mut starting, mut started) = two();
        starting.came_up(ids[1]);
        assert!(starting.late(platform::now()).is_empty());
        let later = platform::now() + PATIENCE;
        assert_eq!(starting.late(later), [address("/ip6/::/tcp/0")]);
        assert!(matches!(started.try_recv(), Ok(Ok(()))), "the other is up");
        assert!(starting.late(later).is_empty(), "it is told once");
    }

    #[test]
    fn a_node_that_listens_nowhere_has_not_started() {
        let (_, mut starting, mut started) = two();
        assert_eq!(starting.late(platform::now() + PATIENCE).len(), 2);
        assert!(starting.failed() && started.try_recv().is_err());
        let (waiter, error) = starting.into_failure().expect("it failed");
        assert!(error.to_string().contains("/ip6/::/tcp/0"), "{error}");
        assert!(error.to_string().contains(NO_INTERFACE), "{error}");
        waiter.send(Err(error)).expect("it waits");
    }

    #[test]
    fn a_listener_that_ends_before_it_is_up_fails_the_start() {
        let (ids, mut starting, mut started) = two();
        starting.came_up(ids[0]);
        let ended = starting.ended(ids[1], "the socket broke");
        assert_eq!(ended, Some(address("/ip4/127.0.0.1/tcp/0")));
        starting.came_up(ids[0]);
        assert!(starting.failed() && started.try_recv().is_err());
    }
}
