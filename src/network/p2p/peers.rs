//! Peers: finding them, connecting to them, letting them go.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use super::P2PNetworkManager;
use crate::{
    error::{DiscoveryError, NetworkError},
    network::shared::Command,
    peers::{ConnectionInfo, Deed, DutyError, PeerInfo},
    platform,
};

/// How long neighbours have to answer a query.
const LOCAL_ANSWERS: Duration = Duration::from_secs(2);

impl P2PNetworkManager {
    /// The peers that mDNS has found on the local network and that are still there, each once, connected or not: 256 at most, 32 that one
    /// host says, each as long as it was heard of in the last six minutes and since the host woke. Nobody has proved to be one of them who is not
    /// connected. They are asked anew; it takes 2 s, in which neighbours answer.
    ///
    /// # Errors
    /// [`DiscoveryError::Unavailable`] in a browser, and where only loopback is listened on or mDNS is configured off;
    /// [`NetworkError::NotRunning`] as [`DiscoveryError::Network`].
    pub async fn discover_local_peers(&self) -> Result<Vec<PeerInfo>, DiscoveryError> {
        self.running()?;
        if !self.config.uses_mdns() {
            return Err(DiscoveryError::Unavailable(
                "listen on an address that is not loopback and set protocol.kademlia_config.mdns; browsers have none",
            ));
        }
        self.command(Command::AskNeighbours).await?;
        // Answers arrive within moments, and once a second from each; RFC 6762 spreads them over 120 ms.
        platform::Delay::new(LOCAL_ANSWERS).await;
        // It may have ended meanwhile, and found nobody any more.
        self.running()?;
        Ok(self.shared.state().local.peers(platform::now()))
    }

    /// Dials all bootstrap peers, each at all its addresses; returns when the first is connected. From then on those that are
    /// not connected are dialled again, 20 s apart at most, while fewer than `protocol.kademlia_config.wanted_peers` (8) peers
    /// were dialled with success. This node itself, where the list names it, is left out, which the log says. Where the list has nobody else, there is
    /// nothing to do, and no error. Nothing dials them before this is called.
    ///
    /// # Errors
    /// The last peer's [`NetworkError::Dial`] where none can be reached; redialling goes on. [`NetworkError::NotRunning`].
    pub async fn connect_bootstrap_peers(&self) -> Result<(), NetworkError> {
        let mut seeds: BTreeMap<PeerId, Vec<Multiaddr>> = BTreeMap::new();
        for peer in &self.config.network.bootstrap_peers {
            let addresses = seeds.entry(peer.peer_id).or_default();
            addresses.extend_from_slice(&peer.addresses);
        }
        if seeds.remove(&self.local_peer_id).is_some() {
            tracing::warn!("the bootstrap peers name this node itself, which is left out");
        }
        // Without bootstrap peers it is said too that the node does not run.
        let mut outcome = self.running();
        let mut dials = FuturesUnordered::new();
        // All are asked for before one is waited for: the first success is not to leave others out.
        for (id, addresses) in seeds {
            let (reply, dialled) = oneshot::channel();
            let peer = PeerInfo {
                addresses,
                ..PeerInfo::new(id)
            };
            self.command(Command::DialSeed { peer, reply }).await?;
            dials.push(dialled);
        }
        while let Some(dialled) = dials.next().await {
            match dialled.unwrap_or(Err(NetworkError::NotRunning)) {
                Ok(_) => return Ok(()),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Adds a peer to the routing table and to those that this node dials by itself while it wants more of them
    /// (`protocol.kademlia_config.wanted_peers`), also where it was let go before. 2,048 are kept with the bootstrap peers, each with the
    /// last 16 addresses; of more, one that waits to be dialled gives way. While it is one of them it makes no room for others on a full node, whoever
    /// dialled.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`]; [`NetworkError::Argument`] where the peer has no address.
    pub async fn add_peer(&self, peer_info: PeerInfo) -> Result<(), NetworkError> {
        if peer_info.addresses.is_empty() {
            let problem = "give at least one address of the peer";
            let addresses = "peer_info.addresses";
            return Err(NetworkError::argument(addresses, "[]", problem));
        }
        self.command(Command::AddPeer(peer_info)).await
    }

    /// Connects to an address, with or without the peer's identity at its end. Returns when the peer has said hello
    /// and is of our network, or is a plain libp2p peer.
    ///
    /// # Errors
    /// [`NetworkError::Dial`] says for a person what happened; [`NetworkError::NotRunning`].
    pub async fn dial(&self, address: Multiaddr) -> Result<PeerId, NetworkError> {
        self.ask(|reply| Command::Dial { address, reply }).await?
    }

    /// Closes all connections to a peer, also those whose hello is not over; returns when it is gone. It is not dialled again before somebody asks for it, though
    /// it may dial this node.
    ///
    /// # Errors
    /// [`NetworkError::NotConnected`], [`NetworkError::NotRunning`].
    pub async fn disconnect(&self, peer: PeerId) -> Result<(), NetworkError> {
        self.running()?;
        if self.shared.peers().stage(&peer).is_none() {
            return Err(NetworkError::NotConnected(peer));
        }
        self.ask(|reply| Command::Disconnect { peer, reply }).await
    }

    /// The peers that are connected and past the hello.
    pub fn get_connected_peers(&self) -> Vec<PeerInfo> {
        let (table, now) = (self.shared.peers(), platform::now());
        let as_of_now = |peer: &PeerInfo| PeerInfo {
            reputation: table.reputation().score(&peer.peer_id, now),
            ..peer.clone()
        };
        table.shown().map(as_of_now).collect()
    }

    /// A peer's score now and what led to it, connected or not; 0 where nothing is remembered of it. It halves every
    /// `security.peer_scoring.half_life`; at `disconnect_at` and `ban_at` follows what they say.
    pub fn score(&self, peer: &PeerId) -> (f64, Vec<Deed>) {
        let table = self.shared.peers();
        let reputation = table.reputation();
        (
            reputation.score(peer, platform::now()),
            reputation.deeds(peer),
        )
    }

    /// Keeps a peer's place, connected or not, when a full node lets the least useful go: until [`Self::unprotect`] has taken away each tag that it was protected by, or
    /// the node ends. A tag says what for. It does not keep the peer from being let go for misdeeds, silence or a ban.
    ///
    /// # Errors
    /// [`NetworkError::Argument`]: the tag is empty or over 64 bytes; the peer has 16 tags; 1,024 peers are protected.
    pub fn protect(&self, peer: PeerId, tag: &str) -> Result<(), NetworkError> {
        let protected = self.shared.peers().protect(peer, tag);
        protected.map_err(|error| NetworkError::argument("tag", tag, error.to_string()))
    }

    /// Takes a tag of [`Self::protect`] away. Whether the peer is still protected by another.
    pub fn unprotect(&self, peer: &PeerId, tag: &str) -> bool {
        self.shared.peers().unprotect(peer, tag)
    }

    /// Tells of a duty: peers that the application will need after `begins_in` (an hour at most) for as long as `lasts` (an hour at most), a committee's say. From
    /// 30 s before its beginning, or now where that is sooner, to its end they are dialled where they are not connected, whoever else is wanted, and again where they are lost; and they make no room for
    /// others, as by [`Self::protect`]. Then those that were dialled for it alone are let go, as far as this node has dialled as many as it wants
    /// (`protocol.kademlia_config.wanted_peers`). A peer without addresses is dialled where the address book knows it to be. What
    /// is said here of where a peer is counts as a stranger's word, since a chain has it from whoever registered there: private addresses are dialled only where
    /// nobody from further away was met, and what did not answer not again for a minute; [`Self::add_peer`] is for those that the operator vouches for. Whom the user disconnects meanwhile is
    /// not dialled again. Duties of one peer are one, from the first's beginning to the last's end.
    ///
    /// That they are dialled is no promise that they are there: [`Self::get_connected_peers`] says who is.
    ///
    /// # Errors
    /// [`NetworkError::Argument`]: it is further away, longer, or takes no time, or there would be more peers in all duties than 256, or than half of
    /// `network.max_peers`; nothing of it is noted then. [`NetworkError::NotRunning`].
    pub async fn expect_duty(
        &self,
        peers: Vec<PeerInfo>,
        begins_in: Duration,
        lasts: Duration,
    ) -> Result<(), NetworkError> {
        let value = format!("{} peers in {begins_in:?} for {lasts:?}", peers.len());
        let expected = self.ask(|reply| Command::ExpectDuty {
            peers,
            begins_in,
            lasts,
            reply,
        });
        let wrong = |error: DutyError| NetworkError::argument("duty", value, error.to_string());
        expected.await?.map_err(wrong)
    }

    /// All connections, the eldest first: also those whose hello is not over, and each of a peer that has two.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.shared.state().connections()
    }

    /// The addresses at which this node listens, with the ports that the system chose.
    pub fn listeners(&self) -> Vec<Multiaddr> {
        let with_identity = |address: &Multiaddr| address.clone().with_p2p(self.local_peer_id);
        let state = self.shared.state();
        state
            .listeners
            .iter()
            .map(|a| with_identity(a).unwrap_or_else(|a| a))
            .collect()
    }
}
