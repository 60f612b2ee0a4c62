//! The book as bytes, for a file or a browser's store: with its version and a checksum, and the bans beside it.
//!
//! A protobuf message of three fields: the version, the content's SHA-256, and the content, itself a message ([`Content`]). Times are the book's
//! own; with them stands the date on which it was saved (`clock.rs`). Whatever is wrong with the bytes costs the book and has a name ([`BookError`]); counts and lengths are
//! looked at before anything is allocated for them. Terrible peers are not saved.
//!
//! Bounds: the peers take [`PEER_BYTES`], the tried ones first; of more, those that were heard of longest ago are left out. Of each peer [`SAVED`] addresses: those at which it
//! was reached, then those that this node can dial, then the shortest, so that no stranger's long ones crowd others out. [`BANS`] bans, those that end
//! last; all together [`MAX_BOOK_BYTES`].

use std::{cmp::Reverse, time::Duration};

use libp2p::{Multiaddr, PeerId};
use prost::Message;
use sha2::{Digest as _, Sha256};

use super::{
    ANCHORS, AddressBook, Grouping, Link, NetworkGroup,
    clock::{Clock, seconds},
    entry::{ADDRESSES, Entry, Known},
    halves,
    places::{NEW, TRIED},
};
use crate::{
    fields::Fields,
    order,
    peers::{AddressPolicy, Banned, Kept},
    platform::{Instant, SystemTime},
};

/// No book is larger, in bytes.
pub const MAX_BOOK_BYTES: usize = 2 << 20;
/// What the peers in it take, in bytes.
const PEER_BYTES: usize = 1_000_000;
/// Addresses of each.
const SAVED: usize = 3;
/// After so long, in seconds, a book's anchors are none.
const FADES: u64 = 3 * 86_400;
/// Bans in it.
const BANS: usize = 10_000;
/// The longest id of a peer, in bytes.
const ID: usize = 64;
const VERSION: u32 = 1;

/// Why bytes are no address book; the node starts without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BookError {
    /// There are none.
    #[error("it is empty")]
    Empty,
    /// More than [`MAX_BOOK_BYTES`].
    #[error("it is larger than an address book can be")]
    TooLarge,
    /// No message of this form: torn, or something else.
    #[error("it is no address book, or only a part of one")]
    Malformed,
    /// Of a version that this node does not know.
    #[error("it is of version {0}, and this node reads version {VERSION}")]
    Version(u32),
    /// The checksum is not that of the content.
    #[error("it is damaged")]
    Damaged,
    /// A count or a length is over its limit.
    #[error("it has more {0} than there can be")]
    TooMany(&'static str),
}

#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    checksum: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    content: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Content {
    /// The secret that chooses places.
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    /// The book's time, and the date, in seconds.
    #[prost(uint64, tag = "2")]
    time: u64,
    #[prost(uint64, tag = "3")]
    date: u64,
    #[prost(message, repeated, tag = "4")]
    peers: Vec<Peer>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    anchors: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "6")]
    bans: Vec<Ban>,
    /// What tells the AS map by which networks were counted from others; nothing without one.
    #[prost(bytes = "vec", tag = "7")]
    map: Vec<u8>,
    /// When the anchors were drawn, in the book's time; a book of before has those of when it was saved.
    #[prost(uint64, optional, tag = "8")]
    drawn: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Peer {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    addresses: Vec<Vec<u8>>,
    /// At so many of them, the first ones, it was reached.
    #[prost(uint32, tag = "3")]
    proven: u32,
    #[prost(bytes = "vec", tag = "4")]
    group: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    source: Vec<u8>,
    #[prost(bool, tag = "6")]
    is_tried: bool,
    #[prost(uint64, tag = "7")]
    heard: u64,
    #[prost(uint64, optional, tag = "8")]
    reached: Option<u64>,
    #[prost(uint64, optional, tag = "9")]
    tried: Option<u64>,
    #[prost(uint32, tag = "10")]
    failures: u32,
    #[prost(uint64, tag = "11")]
    due: u64,
    /// Of the last record that it signed, so that no older one counts after a restart.
    #[prost(uint64, tag = "12")]
    sequence: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Ban {
    #[prost(bytes = "vec", tag = "1")]
    peer: Vec<u8>,
    #[prost(uint64, tag = "2")]
    ends: u64,
    /// In place of a peer: a network, as people write it.
    #[prost(string, tag = "3")]
    network: String,
    #[prost(bool, tag = "4")]
    by_user: bool,
}

/// Fields of [`Content`] and [`Peer`] that repeat.
const PEERS: u32 = 4;
const ANCHORED: u32 = 5;
const BANNED: u32 = 6;
const AT: u32 = 2;

impl AddressBook {
    /// The book as bytes, with the bans that are handed in, the one that ends first in front.
    pub fn save(&mut self, bans: &[Kept], now: Instant, date: SystemTime) -> Vec<u8> {
        self.wake(now);
        let time = self.time;
        let ban = |kept: &Kept| Ban {
            peer: match kept.who {
                Banned::Peer(peer) => peer.to_bytes(),
                Banned::Network(_) => Vec::new(),
            },
            network: match kept.who {
                Banned::Peer(_) => String::new(),
                Banned::Network(net) => net.to_string(),
            },
            ends: time.saturating_add(kept.left.as_secs().max(1)),
            by_user: kept.by_user,
        };
        let longest = bans.get(bans.len().saturating_sub(BANS)..).unwrap_or(bans);
        let content = Content {
            key: self.places.key.to_vec(),
            time,
            date: seconds(date),
            anchors: self.draw_anchors(),
            drawn: Some(self.drawn.1),
            peers: self.saved_peers(),
            bans: longest.iter().map(ban).collect(),
            map: self.grouping.mark(),
        };
        let content = content.encode_to_vec();
        let envelope = Envelope {
            version: VERSION,
            checksum: Sha256::digest(&content).to_vec(),
            content,
        };
        envelope.encode_to_vec()
    }

    /// The book that was saved, and its bans; `own` and what follows as in [`AddressBook::new`]. Where it was saved under another AS map, its peers are placed anew.
    ///
    /// # Errors
    /// Why the bytes are none.
    pub fn load(
        bytes: &[u8],
        own: PeerId,
        dials: fn(&Multiaddr) -> bool,
        grouping: Grouping,
        seed: [u8; 32],
        now: Instant,
        date: SystemTime,
    ) -> Result<(Self, Vec<Kept>), BookError> {
        let content = opened(bytes)?;
        let key = <[u8; 16]>::try_from(content.key.as_slice());
        let (key, (_, random)) = (key.map_err(|_| BookError::Malformed)?, halves(seed));
        let clock = Clock::resumed(content.time, content.date, now, date);
        let mut book = Self::with(own, dials, grouping, (key, random), clock, now);
        let is_anew = content.map != book.grouping.mark();
        for peer in content.peers {
            book.put_back(peer, is_anew, content.time);
        }
        let ids = content.anchors.iter();
        let time = book.time;
        let drawn = content.drawn.unwrap_or(content.time).min(content.time);
        // After that, others may all have gone by themselves.
        if time.saturating_sub(drawn) < FADES {
            book.anchors = ids.filter_map(|id| PeerId::from_bytes(id).ok()).collect();
            book.drawn = (book.anchors.clone(), drawn);
        }
        let ban = |ban: Ban| {
            let peer = PeerId::from_bytes(&ban.peer).map(Banned::from);
            let who = peer.ok().or_else(|| ban.network.parse().ok())?;
            let left = ban.ends.saturating_sub(time);
            let kept = Kept {
                who,
                left: Duration::from_secs(left),
                by_user: ban.by_user,
            };
            (left > 0).then_some(kept)
        };
        let bans = content.bans.into_iter().filter_map(ban).collect();
        Ok((book, bans))
    }

    /// Of the peers that this node has dialled some by chance, of different networks; of near ones and those behind relays only where there are no others. Where it has
    /// dialled too few since it was started, those that it is yet to dial are among them; where none is here, it may be offline, and they are the last ones.
    fn draw_anchors(&mut self) -> Vec<Vec<u8>> {
        let outbound = self.links.iter();
        let mut outbound: Vec<_> = outbound
            .filter_map(|(peer, link)| match **link {
                Link::Outbound(network) if self.entries.contains_key(peer) => {
                    Some((*peer, network))
                }
                _ => None,
            })
            .collect();
        if outbound.iter().any(|(_, network)| network.is_far()) {
            outbound.retain(|(_, network)| network.is_far());
        }
        let mut anchors: Vec<PeerId> = Vec::new();
        while anchors.len() < ANCHORS
            && let Some((peer, network)) = self.random.one_of(&outbound).copied()
        {
            anchors.push(peer);
            outbound.retain(|(_, other)| *other != network);
        }
        if !anchors.is_empty() {
            let left = self.anchors.iter().filter(|left| !anchors.contains(left));
            let left: Vec<_> = left.copied().collect();
            anchors.extend(left);
            anchors.truncate(ANCHORS);
            self.drawn = (anchors, self.time);
        }
        let known = self
            .drawn
            .0
            .iter()
            .filter(|id| self.entries.contains_key(id));
        known.map(|id| id.to_bytes()).collect()
    }

    fn saved_peers(&self) -> Vec<Peer> {
        let entries = self.entries.iter();
        let mut entries: Vec<_> = entries
            .filter(|(_, entry)| !entry.is_terrible(self.time))
            .collect();
        order::sort_by_key(&mut entries, |(_, entry)| {
            Reverse((entry.place.is_tried, entry.heard))
        });
        let mut bytes = 0;
        let mut peers = Vec::new();
        for (id, entry) in entries {
            let peer = self.saved(id, entry);
            // With its own tag and length.
            let size = peer.encoded_len() + 4;
            if bytes + size <= PEER_BYTES {
                bytes += size;
                peers.push(peer);
            }
        }
        peers
    }

    fn saved(&self, id: &PeerId, entry: &Entry) -> Peer {
        let mut known: Vec<_> = entry.addresses.iter().collect();
        // A stable order: those at which it was reached stay in front, the last one first.
        order::sort_by_key(&mut known, |known| match known.proven {
            true => (false, 0),
            false => (!(self.dials)(&known.address), known.address.len()),
        });
        known.truncate(SAVED);
        let proven = known.iter().filter(|known| known.proven).count();
        Peer {
            id: id.to_bytes(),
            addresses: known.iter().map(|known| known.address.to_vec()).collect(),
            proven: u32::try_from(proven).unwrap_or(0),
            group: entry.group.bytes().to_vec(),
            source: entry.source.bytes().to_vec(),
            is_tried: entry.place.is_tried,
            heard: entry.heard,
            reached: entry.reached,
            tried: entry.tried,
            failures: entry.failures,
            due: entry.due,
            sequence: entry.sequence,
        }
    }

    /// Puts a saved peer where it stood, or, if `is_anew`, where one stands that is found now; the tried ones come first. What can't be right is left out.
    fn put_back(&mut self, peer: Peer, is_anew: bool, saved: u64) {
        let group = |bytes: &[u8]| NetworkGroup::from_bytes(bytes.try_into().ok()?);
        let (Ok(id), Some(mut of), Some(mut source)) = (
            PeerId::from_bytes(&peer.id),
            group(&peer.group),
            group(&peer.source),
        ) else {
            return;
        };
        let known = peer.addresses.into_iter().zip(0..);
        let known = known.filter_map(|(bytes, number)| {
            Some(Known {
                address: Multiaddr::try_from(bytes).ok()?,
                proven: number < peer.proven,
            })
        });
        let known: Vec<_> = known.collect();
        let Some(home) = known.first() else {
            return;
        };
        if is_anew {
            // Where a teller is stays a name only: its address is not kept, but where it told of itself.
            let told_of_itself = source == of;
            of = match peer.is_tried {
                true => self.grouping.of(&home.address),
                false => self
                    .grouping
                    .of_peer(known.iter().map(|known| &known.address)),
            };
            source = if told_of_itself { of } else { source };
        }
        let tried = peer.is_tried.then(|| self.places.tried_place(&id, of));
        let places = tried
            .into_iter()
            .chain([self.places.new_place(&id, of, source)]);
        let mut free = places.filter(|place| self.places.at(*place).is_none());
        let Some(place) = free.next() else {
            return;
        };
        if id == self.own || self.entries.contains_key(&id) {
            return;
        }
        self.insert(id, of, source, place);
        self.change(&id, |entry, _, _| {
            entry.addresses = known;
            entry.heard = peer.heard.min(saved);
            entry.reached = peer.reached.map(|reached| reached.min(saved));
            entry.tried = peer.tried.map(|tried| tried.min(saved));
            entry.failures = peer.failures;
            entry.sequence = peer.sequence;
            entry.due = peer.due.min(saved.saturating_add(super::entry::PAUSE.1));
        });
    }
}

/// The content of a book's bytes, within its limits.
fn opened(bytes: &[u8]) -> Result<Content, BookError> {
    match bytes.len() {
        0 => return Err(BookError::Empty),
        size if size > MAX_BOOK_BYTES => return Err(BookError::TooLarge),
        _ => {}
    }
    let envelope = Envelope::decode(bytes).map_err(|_| BookError::Malformed)?;
    if envelope.version != VERSION {
        return Err(BookError::Version(envelope.version));
    }
    if Sha256::digest(&envelope.content).as_slice() != envelope.checksum {
        return Err(BookError::Damaged);
    }
    check(&envelope.content)?;
    Content::decode(&*envelope.content).map_err(|_| BookError::Malformed)
}

/// Looks at counts and lengths before room is made for them.
fn check(content: &[u8]) -> Result<(), BookError> {
    let most = usize::try_from(NEW.0 * NEW.1 + TRIED.0 * TRIED.1).unwrap_or(0);
    let fields = |tag| Fields::of(content).tagged(tag);
    let at_most = |what, count: usize, most: usize| {
        let fits = count <= most;
        fits.then_some(()).ok_or(BookError::TooMany(what))
    };
    at_most("peers", fields(PEERS).count(), most)?;
    at_most("anchors", fields(ANCHORED).count(), ANCHORS)?;
    at_most("bans", fields(BANNED).count(), BANS)?;
    for peer in fields(PEERS) {
        for (count, address) in Fields::of(peer).tagged(AT).enumerate() {
            at_most("addresses of a peer", count + 1, ADDRESSES)?;
            at_most(
                "bytes of an address",
                address.len(),
                AddressPolicy::MAX_BYTES,
            )?;
        }
        for id in Fields::of(peer).tagged(1) {
            at_most("bytes of an id", id.len(), ID)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
