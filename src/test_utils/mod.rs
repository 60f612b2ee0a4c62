//! What a chain's tests need: nodes of it on a network in memory, and waiting for what they say (feature `test-utils`).
//!
//! A chain that judges as it should by itself may still fail in a network: an id that is not the same everywhere, a check that takes too long, a
//! block that can't be put together from its parts. Here are whole nodes for such tests, as this crate's own use them. They need no port and no
//! file, and nothing in them sleeps: a test waits for the event that it needs, and fails with what was heard instead where that does not come within
//! [`PATIENCE`].
//!
//! ```toml
//! [dev-dependencies]
//! selkie = { version = "0.1", features = ["test-utils"] }
//! tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
//! ```
//! ```
//! use selkie::{Item, ItemKind, chain::Opaque, test_utils::{in_memory, network_of}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // `Opaque` is where your chain's application goes.
//! let mut nodes = network_of(3, in_memory(), |_| Opaque).await;
//! let payment = Item::new(ItemKind::Transaction, "pay Ann 5");
//! let id = nodes[0].submit(payment.clone()).await.expect("it is valid");
//! for node in &mut nodes {
//!     let (item, named, _) = node.item().await;
//!     assert_eq!((&item, &named), (&payment, &id));
//! }
//! # }
//! ```
//!
//! All here panics where what a test takes for granted is not so.

mod node;

use std::{pin::pin, time::Duration};

use futures::future::{Either, select};

pub use self::node::Node;
use crate::{chain::Application, config::Config, platform::Delay};

/// How long is waited for what should happen: longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What happens; fails the test where it takes so long that it never will.
///
/// # Panics
/// It has not happened within [`PATIENCE`].
pub async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    sooner(PATIENCE, what, happens).await
}

async fn sooner<T>(time: Duration, what: &str, happens: impl Future<Output = T>) -> T {
    match within(time, happens).await {
        Some(value) => value,
        None => panic!("waited in vain for {what}"),
    }
}

async fn within<T>(time: Duration, happens: impl Future<Output = T>) -> Option<T> {
    match select(pin!(happens), Delay::new(time)).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}

/// A configuration that listens at one address, such as `/ip4/127.0.0.1/tcp/0`.
///
/// # Panics
/// It is no address.
pub fn listening(address: &str) -> Config {
    let mut config = Config::default();
    config.network.listen_addresses = vec![address.parse().expect("an address")];
    config
}

/// A configuration that listens in this process's memory, and dials nobody by itself: a network of such nodes has the links that the test made.
pub fn in_memory() -> Config {
    let mut config = listening("/memory/0");
    config.protocol.kademlia_config.wanted_peers = 0;
    config
}

/// So many running nodes, of which each is connected to the one before it: what one says reaches the others hop by hop. `application` makes the one of
/// each, which is given its number, from 0 on.
///
/// # Panics
/// The configuration is wrong, or two of them don't come together.
pub async fn network_of<A: Application>(
    count: usize,
    config: Config,
    mut application: impl FnMut(usize) -> A,
) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::with_capacity(count);
    for number in 0..count {
        let mut node = Node::with(config.clone(), application(number)).await;
        if let Some(last) = nodes.last_mut() {
            connect(&mut node, last).await;
        }
        nodes.push(node);
    }
    nodes
}

/// Connects `a` to `b`; both have seen it.
///
/// # Panics
/// They don't come together.
pub async fn connect(a: &mut Node, b: &mut Node) {
    let peer = soon("the dial", a.dial(b.address()))
        .await
        .expect("it is there");
    assert_eq!(peer, b.id());
    a.connected(b.id()).await;
    b.connected(a.id()).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Item, ItemKind, NetworkEvent, chain::Opaque};

    #[tokio::test]
    async fn an_item_goes_from_one_end_to_the_other() {
        let mut nodes = network_of(4, in_memory(), |_| Opaque).await;
        let links = nodes.iter().map(|node| node.get_connected_peers().len());
        assert_eq!(links.collect::<Vec<_>>(), [1, 2, 2, 1]);
        let item = Item::new(ItemKind::Vote, "aye");
        let id = nodes[0].submit(item.clone()).await.expect("it is valid");
        let last = nodes[2].id();
        assert_eq!(nodes[3].item().await, (item, id, Some(last)));
    }

    #[tokio::test]
    async fn what_was_not_waited_for_is_kept_in_order() {
        let mut nodes = network_of(2, in_memory(), |_| Opaque).await;
        let node = &mut nodes[0];
        for data in ["one", "two", "three", "four"] {
            let item = Item::new(ItemKind::Transaction, data);
            node.submit(item).await.expect("it is valid");
        }
        let is = |wanted: &'static str| {
            move |event| match event {
                NetworkEvent::ItemAccepted { item, .. } if *item.data() == wanted => Some(()),
                _ => None,
            }
        };
        node.event("the fourth", is("four")).await;
        node.event("the first", is("one")).await;
        let rest = node.rest().into_iter();
        let items = rest.filter_map(|event| match event {
            NetworkEvent::ItemAccepted { item, .. } => Some(item.data().clone()),
            _ => None,
        });
        assert_eq!(items.collect::<Vec<_>>(), ["two", "three"]);
    }

    #[tokio::test]
    #[should_panic(expected = "waited in vain for nothing")]
    async fn what_never_happens_fails() {
        let never = std::future::pending::<()>();
        sooner(Duration::from_millis(1), "nothing", never).await;
    }
}
