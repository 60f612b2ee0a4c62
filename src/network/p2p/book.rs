//! Whom a node remembers, and whom it keeps out.

use std::{collections::HashSet, sync::Arc, time::Duration};

use libp2p::PeerId;

use super::P2PNetworkManager;
use crate::{
    error::NetworkError,
    network::shared::{Command, seed},
    peers::{AddressBook, AsMap, Ban, Banned, KnownPeer, ip_of},
    platform, transport,
};

/// The longest blacklist, as of a configuration.
const MOST_BLACKLISTED: usize = 100_000;

impl P2PNetworkManager {
    /// The peers in the address book, at most 5,000, in the order of their ids: those that others told of, and those that
    /// this node has dialled with success.
    pub fn known_peers(&self) -> Vec<KnownPeer> {
        self.shared.book().peers().collect()
    }

    /// The address book and the bans as bytes, at most 2 MiB, to be kept until the next start; also after the node has ended. Natively
    /// `storage::keep_address_book` does it; a page puts them where it keeps the identity.
    pub fn save_address_book(&self) -> Vec<u8> {
        self.shared.saved_book()
    }

    /// Begins with what [`Self::save_address_book`] gave: peers are dialled from it when fewer than
    /// `protocol.kademlia_config.wanted_peers` were dialled with success, first two of those that were connected then.
    ///
    /// # Errors
    /// [`NetworkError::Argument`] says why the bytes are no address book, and the node has an empty one;
    /// [`NetworkError::AlreadyStarted`]; [`NetworkError::NotRunning`] once it has ended.
    pub fn load_address_book(&self, bytes: &[u8]) -> Result<(), NetworkError> {
        if self.idle().is_none() {
            self.running()?;
            return Err(NetworkError::AlreadyStarted);
        }
        let (own, now) = (self.local_peer_id, platform::now());
        let (date, seed) = (platform::date(), seed()?);
        let (dials, grouping) = (transport::dials, self.shared.grouping.clone());
        let loaded = AddressBook::load(bytes, own, dials, grouping, seed, now, date);
        let (book, bans) = loaded.map_err(|error| {
            let size = format!("{} bytes", bytes.len());
            NetworkError::argument("address book", size, error.to_string())
        })?;
        *self.shared.book() = book;
        let mut peers = self.shared.peers();
        for kept in bans {
            peers.bans_mut().restore(kept, now);
        }
        Ok(())
    }

    /// Counts networks by whose they are (autonomous systems) from now on, where the map knows that, and by prefixes (IPv4 /16, IPv6 /32) only where not: in the
    /// address book, for whom it dials, for the alarm, and for who makes room on a full node. To be called before [`Self::load_address_book`] (or
    /// `storage::keep_address_book`): a book that was saved under another map, or none, is placed anew then. Bans are not counted so.
    ///
    /// # Errors
    /// [`NetworkError::Argument`] where it has a map already, or the address book has peers; [`NetworkError::AlreadyStarted`];
    /// [`NetworkError::NotRunning`] once it has ended.
    pub fn use_as_map(&self, map: AsMap) -> Result<(), NetworkError> {
        if self.idle().is_none() {
            self.running()?;
            return Err(NetworkError::AlreadyStarted);
        }
        let is_late = self.shared.book().counts() != (0, 0);
        let given = if is_late {
            Err(map)
        } else {
            self.shared.grouping.give(map)
        };
        given.map_err(|map| {
            let problem = "give one map, before the address book is loaded";
            NetworkError::argument("map", format!("{map:?}"), problem)
        })
    }

    /// Who is kept out now: by `security.blacklist_config`, for misdeeds (peers, and for ten minutes a public address with three banned peers, and a network
    /// with four such addresses), or by [`Self::ban`].
    pub fn bans(&self) -> Vec<Ban> {
        let (now, date) = (platform::now(), platform::date());
        self.shared.peers().bans().all(now, date)
    }

    /// Lets a peer go, or all of an address or a network, and keeps them out, for so long or for `security.blacklist_config.ban_duration`; ten years at
    /// most. They are not dialled either. A ban that there is gets the new end. Where there are `security.blacklist_config.max_bans`, it takes the place of the one that ends
    /// first of those for misdeeds, and where all are the user's, of theirs: [`Self::bans`] says who is kept out. It is part of [`Self::save_address_book`].
    ///
    /// A ban of a network reaches whom this node dials by a name once that has led there. Where a peer is is not known behind a relay, nor in a
    /// browser, which looks names up itself: ban such a peer by its id.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`].
    pub async fn ban(
        &self,
        who: impl Into<Banned>,
        duration: Option<Duration>,
    ) -> Result<(), NetworkError> {
        let who = who.into();
        self.ask(|reply| Command::Ban {
            who,
            duration,
            reply,
        })
        .await
    }

    /// Keeps these peers out for as long as the node runs, in place of those of `security.blacklist_config.peers` and of an earlier call, and lets go who of them
    /// is connected: for a configuration that has changed meanwhile. Who is no longer among them may come in, unless a ban for a while keeps it out.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`]; [`NetworkError::Argument`]: they are more than 100,000.
    pub async fn blacklist(
        &self,
        peers: impl IntoIterator<Item = PeerId>,
    ) -> Result<(), NetworkError> {
        let peers: HashSet<_> = peers.into_iter().take(MOST_BLACKLISTED + 1).collect();
        if peers.len() > MOST_BLACKLISTED {
            let size = "over 100000 of them";
            return Err(NetworkError::argument("peers", size, "give at most 100000"));
        }
        self.ask(|reply| Command::Blacklist { peers, reply }).await
    }

    /// Lets a peer or a network in again, a peer with a score that is forgiven down to `security.peer_scoring.disconnect_at`. False where it was not banned for
    /// a while: a peer that `security.blacklist_config.peers` names stays out. What else keeps it out, [`Self::kept_out_by`] says; and it may stay away
    /// by itself for as long as it was told that the ban lasts.
    pub fn unban(&self, who: impl Into<Banned>) -> bool {
        self.shared.peers().unban(&who.into(), platform::now())
    }

    /// What keeps a peer out now: a ban of its own, and those of networks that have an address at which it is connected or that the
    /// book has of it. Nothing: it may come in, as far as is known of where it is.
    pub fn kept_out_by(&self, peer: &PeerId) -> Vec<Ban> {
        let (now, date) = (platform::now(), platform::date());
        let known = self.shared.book().candidate(peer);
        let known = known.iter().flat_map(|known| &known.addresses);
        let known: Vec<_> = known.filter_map(ip_of).collect();
        let peers = self.shared.peers();
        let by = peers.kept_out_by(peer, known, now);
        if by.is_empty() {
            return Vec::new();
        }
        let all = peers.bans().all(now, date);
        all.into_iter()
            .filter(|ban| by.contains(&ban.who))
            .collect()
    }

    /// Gives what [`Self::save_address_book`] does, and is no handle: it does not keep the node running.
    pub fn address_book_saver(&self) -> impl Fn() -> Vec<u8> + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.saved_book()
    }
}
