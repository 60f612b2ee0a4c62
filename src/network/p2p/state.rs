//! The chain's state: asked for once, or watched.

use bytes::Bytes;
use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

use super::P2PNetworkManager;
use crate::{
    chain::{MAX_STATE_KEY, MAX_STATE_KEYS, StateRequest, StateResponse, rules},
    error::{NetworkError, ProtocolError},
    network::{
        questions::Questions,
        shared::{Command, seed},
        state_watch::StateWatch,
        watching::{self, Inbox, Order},
    },
    order,
    sync::watch::MAX_WATCHES,
};

/// Watches that wait for a moment to be opened; a caller waits where there is no room.
const ORDERS: usize = 16;

impl P2PNetworkManager {
    /// Asks a peer about the chain's state. Where the chain can check answers ([`crate::Application::check_state`]), only one that holds is given out; then
    /// the latest state is what can be shown to be so, and the answer says of which height it is. The question is sent in its turn, as by [`Self::send_message`].
    ///
    /// # Errors
    /// [`ProtocolError::TooLarge`] where the key is longer than [`MAX_STATE_KEY`];
    /// [`ProtocolError::Forged`] where the answer is false, and [`ProtocolError::Unproven`] where that can't be told;
    /// [`ProtocolError::Refused`] where the peer serves no state, or more than a message holds; [`ProtocolError::Busy`] where a thousand
    /// requests, or as many bytes of them as there is room for (64 MiB for those to all peers, of which one peer's are at most what is left free), wait for this peer already; [`ProtocolError::Unsent`] where its turn does not come in time, [`ProtocolError::Timeout`] where its answer does not; broken connections.
    pub async fn request_state(
        &self,
        peer_id: PeerId,
        request: StateRequest,
    ) -> Result<StateResponse, ProtocolError> {
        self.running().map_err(|error| ProtocolError::of(&error))?;
        self.questions().state(peer_id, request).await
    }

    /// Watches keys of the chain's state: what they have now, and then what changes, each time as it is verified in a state that is trusted here
    /// ([`crate::Application::trusted_state`]). Nothing is polled: for each new state one question about all keys goes to one peer, or to nobody where this node
    /// has the state itself, and the answer is verified before anything of it is told. A peer that answers with a false one pays, and another is asked; where
    /// nobody answers, [`crate::NetworkEvent::StateUnverified`] says so, and it goes on when somebody does. A state that was trusted in an earlier run, before a sleep
    /// or a time without peers is told of only when peers were asked for a newer one.
    ///
    /// Only the newest counts: states that follow each other faster than answers come are passed over, and changes that are not read come as one.
    ///
    /// `keys`: 1 to [`MAX_STATE_KEYS`], each of at most [`MAX_STATE_KEY`] bytes; of the ledger an address' 32 bytes.
    ///
    /// ```no_run
    /// # async fn example(node: selkie::P2PNetworkManager, address: Vec<u8>) -> Result<(), selkie::NetworkError> {
    /// let mut watch = node.watch_state([address]).await?;
    /// while let Some(change) = watch.recv().await {
    ///     println!("at height {}: {:?}", change.at.height, change.values);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`NetworkError::NotOffered`] where the chain proves nothing of a key; [`NetworkError::Argument`] for none, too many or too long keys;
    /// [`NetworkError::TooManyWatches`]; [`NetworkError::NotRunning`].
    pub async fn watch_state<K: Into<Bytes>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<StateWatch, NetworkError> {
        let keys = checked(keys)?;
        self.running()?;
        let watcher = self.shared.rules.watcher();
        let watcher = watcher.ok_or_else(|| NetworkError::NotOffered("no state".to_owned()))?;
        let chain = std::sync::Arc::clone(&self.shared.rules);
        let look = async move {
            for key in &keys {
                if !chain.is_provable(key).await {
                    return Err(NetworkError::NotOffered(format!("no key {}", shown(key))));
                }
            }
            Ok(keys)
        };
        let looked = rules::run(&*self.shared.rules, look).await;
        let keys = looked.ok_or(NetworkError::NotRunning)??;
        let secret = seed()?;
        let (reply, opened) = oneshot::channel();
        // The caller's runtime may end before the node, or there may be none.
        let place = self.commands.reserve().await;
        let place = place.map_err(|_| NetworkError::NotRunning)?;
        let orders = self.shared.watching(|| {
            let (orders, inbox) = mpsc::channel(ORDERS);
            let max_unread = self.config.protocol.validation.max_unread_bytes;
            let inbox = Inbox {
                orders: inbox,
                events: self.shared.subscribe_own(watching::wants, max_unread),
                secret,
            };
            place.send(Command::Beside(watcher(self.questions(), inbox)));
            orders
        });
        let order = Order::Open { keys, reply };
        let sent = orders.send(order).await;
        sent.map_err(|_| NetworkError::NotRunning)?;
        let opened = opened.await.map_err(|_| NetworkError::NotRunning)?;
        opened.ok_or(NetworkError::TooManyWatches(MAX_WATCHES))
    }

    pub(super) fn questions(&self) -> Questions {
        Questions::new(&self.shared, &self.config, self.commands.downgrade())
    }
}

/// Different keys of a length and a number that may be.
fn checked<K: Into<Bytes>>(keys: impl IntoIterator<Item = K>) -> Result<Vec<Bytes>, NetworkError> {
    // Of more than may be no more are looked at.
    let keys = keys.into_iter().take(MAX_STATE_KEYS + 1).map(Into::into);
    let mut keys: Vec<Bytes> = keys.collect();
    if !(1..=MAX_STATE_KEYS).contains(&keys.len()) {
        let problem = format!("give 1 to {MAX_STATE_KEYS}, and watch others by another call");
        return Err(NetworkError::argument("keys", keys.len(), problem));
    }
    if let Some(long) = keys.iter().find(|key| key.len() > MAX_STATE_KEY) {
        let problem = format!("a key has at most {MAX_STATE_KEY} bytes");
        return Err(NetworkError::argument("keys", shown(long), problem));
    }
    order::sort(&mut keys);
    keys.dedup();
    Ok(keys)
}

/// A key for a person.
fn shown(key: &[u8]) -> String {
    let start = hex::encode(key.get(..32).unwrap_or(key));
    format!("{start} ({} bytes)", key.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn keys_are_counted_measured_and_each_is_watched_once() {
        let refused = |keys: Vec<Vec<u8>>| checked(keys).expect_err("wrong").to_string();
        assert!(refused(Vec::new()).starts_with("keys = 0: give 1 to 64"));
        assert!(refused(vec![vec![1]; 65]).starts_with("keys = 65"));
        assert!(refused(vec![vec![0; 1025]]).contains("(1025 bytes): a key has at most 1024"));
        assert_eq!(checked([&b"b"[..], b"a", b"b"]).expect("two"), ["a", "b"]);
    }
}
