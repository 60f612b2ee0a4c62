//! Giving snapshots to others.
//!
//! Peers that look for a snapshot are told what there is, what proves it, and each change of that. What they ask for is read by the application off the network task, a part at a time,
//! kept while it is being sent, and dropped. Peers take turns, so that who asks for much holds up nobody.
//!
//! Who waits for room for longer than [`WAIT`] is told that there is none, and so asks elsewhere. Bounds: [`ServingConfig`]. Requests beyond a peer's places are refused as busy, which costs nobody anything. Who reads less of what was read
//! for it than [`LEAST_RATE`] loses its requests; and where others wait for room, who has begun to read nothing within [`IDLE`], or reads less than
//! [`BUSY_RATE`] beyond that, so that a few slow peers do not hold all the room. Whatever a request asks for, it costs its peer's limits a whole
//! part, since so much was read for it ([`Action::Surcharge`]).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use super::{
    config::ServingConfig,
    loaded::{LoadError, Loaded},
    tree,
    wire::{MAX_OFFERS, MAX_PIECE_GROUPS, Message, Offer, Part, Piece, Reason, Refusal, Request},
};
use crate::{
    chain::{
        MAX_SNAPSHOT_CHUNK, SNAPSHOT_GROUP, Snapshot, SnapshotHash, SnapshotId, SnapshotProof,
    },
    peers::Misdeed,
    platform::Instant,
};

/// So long a peer waits for room before it is refused as busy: less than it waits for an answer.
const WAIT: Duration = Duration::from_secs(1);
/// Bytes a second that a peer has to read, beyond the time of its patience.
const LEAST_RATE: usize = 8 << 10;
/// How long what was read for a peer may stand while others wait for its room, and how many bytes of it have to go in each second beyond that.
const IDLE: Duration = Duration::from_secs(2);
const BUSY_RATE: usize = 64 << 10;

/// Something to do. A driver does all of it, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read a part off the network task and check it ([`Loaded::of`]); the answer goes to [`Serving::loaded`].
    Load {
        /// Of which snapshot.
        snapshot: Snapshot,
        /// What of it.
        part: Part,
        /// Its hash.
        hash: SnapshotHash,
    },
    /// [`Serving::next`] may have something for a peer.
    Feed(PeerId),
    /// So many bytes were read for a peer and not sent to it: they count in its limits.
    Surcharge(PeerId, usize),
    /// A peer did wrong.
    Misdeed {
        /// Who.
        peer: PeerId,
        /// What, for its reputation.
        misdeed: Misdeed,
        /// What, for a person.
        why: &'static str,
    },
    /// A snapshot is damaged and not served any more: this node's error.
    Damaged(Snapshot),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Serving {
    config: ServingConfig,
    offered: BTreeMap<SnapshotId, Offered>,
    peers: BTreeMap<PeerId, Peer>,
    loads: BTreeMap<(SnapshotId, Part), Load>,
    /// Who may have a part loaded, the next first.
    turns: VecDeque<PeerId>,
    /// Bytes that are loaded or being loaded.
    held: usize,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Offered {
    offer: Offer,
    proof: Option<SnapshotProof>,
    hashes: Option<Loaded>,
    used_at: Option<Instant>,
    is_damaged: bool,
}

#[derive(Debug, Default)]
struct Peer {
    /// It knows what is offered, and of which of them what proves it.
    is_told: bool,
    proven: BTreeSet<SnapshotId>,
    refusals: VecDeque<Refusal>,
    requests: VecDeque<Asked>,
    /// When something was loaded for it, and later by as much as it has read of that at [`LEAST_RATE`].
    moved_at: Option<Instant>,
    /// The same at [`BUSY_RATE`].
    paced_at: Option<Instant>,
    /// Since when it waits, and has nothing loaded.
    waits_since: Option<Instant>,
}

#[derive(Debug)]
struct Asked {
    request: Request,
    /// A load counts it.
    is_loading: bool,
    sent: usize,
}

/// A part that is here or being read, for so many requests.
#[derive(Debug)]
struct Load {
    length: usize,
    loaded: Option<Loaded>,
    users: usize,
}

impl Serving {
    /// Serves nothing until it is told what there is.
    pub fn new(config: ServingConfig) -> Self {
        Self {
            config,
            offered: BTreeMap::new(),
            peers: BTreeMap::new(),
            loads: BTreeMap::new(),
            turns: VecDeque::new(),
            held: 0,
            actions: VecDeque::new(),
        }
    }

    /// What there is now, the most important first: of more than [`MAX_OFFERS`] those. With the hashes of a snapshot that is still being fetched;
    /// others are read where they are needed. What peers would take for a lie is left out: an impossible snapshot, and a second one of a height
    /// and format. Every change is told to all peers, so what is still being fetched is offered anew once a second at most.
    pub fn offer(&mut self, offers: impl IntoIterator<Item = (Offer, Option<Loaded>)>) {
        let mut before = std::mem::take(&mut self.offered);
        let mut is_new = false;
        let mut kinds = BTreeSet::new();
        let is_possible = |(offer, _): &(Offer, _)| {
            let Snapshot { height, format, .. } = offer.snapshot;
            offer.snapshot.check().is_ok() && kinds.insert((height, format))
        };
        let possible = offers.into_iter().filter(is_possible);
        for (offer, hashes) in possible.take(MAX_OFFERS) {
            let id = offer.snapshot.id();
            let known = before.remove(&id);
            is_new |= known.as_ref().is_none_or(|known| known.offer != offer);
            let known = known.unwrap_or_else(|| Offered {
                offer: offer.clone(),
                proof: None,
                hashes: None,
                used_at: None,
                is_damaged: false,
            });
            let hashes = hashes.or(known.hashes);
            self.offered.insert(
                id,
                Offered {
                    offer,
                    hashes,
                    ..known
                },
            );
        }
        if is_new || !before.is_empty() {
            self.tell_all();
        }
    }

    /// What shows that an offered snapshot is the chain's state: peers are told it once.
    pub fn prove(&mut self, id: &SnapshotId, proof: SnapshotProof) {
        let Some(offered) = self.offered.get_mut(id) else {
            return;
        };
        if offered.proof.is_none() {
            offered.proof = Some(proof);
            let peers = self.peers.keys().copied();
            self.actions.extend(peers.map(Action::Feed));
        }
    }

    /// Whether a peer is known to look for a snapshot.
    pub fn knows(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// A peer looks for a snapshot, or does so anew.
    pub fn joined(&mut self, peer: PeerId) {
        self.gone(&peer);
        if self.peers.len() < self.config.max_peers {
            self.peers.insert(peer, Peer::default());
            self.actions.push_back(Action::Feed(peer));
        }
    }

    /// A peer's streams are others now: what was under way may be lost.
    pub fn moved(&mut self, peer: &PeerId) {
        let Some(known) = self.peers.get_mut(peer) else {
            return;
        };
        known.is_told = false;
        known.proven.clear();
        known.refusals.clear();
        known.waits_since = None;
        self.actions.push_back(Action::Feed(*peer));
        // It has forgotten them itself.
        for asked in std::mem::take(&mut known.requests) {
            self.done(peer, &asked);
        }
        self.load();
    }

    /// A peer is gone.
    pub fn gone(&mut self, peer: &PeerId) {
        if let Some(gone) = self.peers.remove(peer) {
            for asked in gone.requests {
                self.done(peer, &asked);
            }
        }
        self.turns.retain(|turn| turn != peer);
        self.load();
    }

    /// A peer asks for a part.
    pub fn request(&mut self, from: PeerId, request: Request, now: Instant) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if peer
            .requests
            .iter()
            .any(|it| it.request.number == request.number)
        {
            return self.misdeed(from, "two requests under one number");
        }
        let offered = self.offered.get_mut(&request.snapshot);
        let refusal = match offered.filter(|it| !it.is_damaged) {
            None => Some(Reason::Gone),
            Some(offered) => {
                let Some(length) = request.part.length(&offered.offer.snapshot) else {
                    return self
                        .misdeed(from, "it asks for a chunk that the snapshot does not have");
                };
                if usize::from(request.end) > tree::groups(length) {
                    return self.misdeed(from, "it asks for groups that the chunk does not have");
                }
                offered.used_at = Some(now);
                if !offered.has(request.part) {
                    Some(Reason::Missing)
                } else if peer.requests.len() >= self.config.max_requests {
                    Some(Reason::Busy)
                } else {
                    None
                }
            }
        };
        if let Some(reason) = refusal {
            return self.refuse(from, request.number, reason);
        }
        if peer.requests.is_empty() {
            peer.waits_since = Some(now);
        }
        peer.requests.push_back(Asked {
            request,
            is_loading: false,
            sent: 0,
        });
        if !self.turns.contains(&from) {
            self.turns.push_back(from);
        }
        self.load();
    }

    /// A peer does not need what it asked for under this number any more. Of one that is answered already nothing is said.
    pub fn cancel(&mut self, from: PeerId, number: u32) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let place = peer
            .requests
            .iter()
            .position(|it| it.request.number == number);
        if let Some(asked) = place.and_then(|place| peer.requests.remove(place)) {
            self.done(&from, &asked);
            self.refuse(from, number, Reason::Cancelled);
            self.load();
        }
    }

    /// The answer to [`Action::Load`].
    pub fn loaded(
        &mut self,
        id: SnapshotId,
        part: Part,
        loaded: Result<Loaded, LoadError>,
        now: Instant,
    ) {
        let Some(load) = self.loads.get_mut(&(id, part)) else {
            return;
        };
        match loaded {
            Ok(loaded) if loaded.bytes().len() == load.length => {
                if let (Part::Hashes, Some(offered)) = (part, self.offered.get_mut(&id)) {
                    offered.hashes = Some(loaded.clone());
                }
                load.loaded = Some(loaded);
                let uses = |peer: &Peer| peer.requests.iter().any(|it| it.uses(id, part));
                let users = self.peers.iter_mut().filter(|(_, peer)| uses(peer));
                for (id, peer) in users {
                    (peer.moved_at, peer.paced_at) = (Some(now), Some(now));
                    self.actions.push_back(Action::Feed(*id));
                }
                if load.users == 0 {
                    self.drop_load(id, part);
                }
            }
            failed => {
                self.drop_load(id, part);
                self.unreadable(id, part, failed.err().unwrap_or(LoadError::Damaged));
            }
        }
        self.load();
    }

    /// The next message for a peer with so much room; a piece has at least a group, however little room there is.
    pub fn next(&mut self, to: &PeerId, room: usize, now: Instant) -> Option<Message> {
        let unproven = self.unproven(self.peers.get(to)?);
        let peer = self.peers.get_mut(to)?;
        if !peer.is_told {
            peer.is_told = true;
            let offered = self.offered.values().filter(|it| !it.is_damaged);
            return Some(Message::Offers(
                offered.map(|it| it.offer.clone()).collect(),
            ));
        }
        if let Some((id, proof)) = unproven {
            peer.proven.retain(|id| self.offered.contains_key(id));
            peer.proven.insert(id);
            return Some(Message::Proof(id, proof));
        }
        if let Some(refusal) = peer.refusals.pop_front() {
            return Some(Message::Refusal(refusal));
        }
        let asked = peer.requests.front_mut()?;
        let Request {
            number,
            snapshot,
            part,
            first,
            end,
            values,
        } = asked.request;
        let loaded = self.loads.get(&(snapshot, part))?.loaded.as_ref()?;
        let most = self.config.piece_groups.clamp(1, MAX_PIECE_GROUPS);
        let count = (room / SNAPSHOT_GROUP)
            .clamp(1, most)
            .min((end - first).into());
        let data = loaded.groups(first.into(), count);
        let values = if values {
            loaded.values().to_vec()
        } else {
            Vec::new()
        };
        asked.sent += data.len();
        asked.request.first = first.saturating_add(u16::try_from(count).unwrap_or(u16::MAX));
        asked.request.values = false;
        let buys = |at: Instant, rate: usize| {
            now.min(at + Duration::from_secs_f64(data.len() as f64 / rate as f64))
        };
        peer.moved_at = peer.moved_at.map(|at| buys(at, LEAST_RATE));
        peer.paced_at = peer.paced_at.map(|at| buys(at, BUSY_RATE));
        if asked.request.first >= end
            && let Some(asked) = peer.requests.pop_front()
        {
            self.done(to, &asked);
            self.load();
        }
        Some(Message::Piece(Piece {
            number,
            first,
            values,
            data,
        }))
    }

    /// Whether there is a message for a peer.
    pub fn has_next(&self, to: &PeerId) -> bool {
        self.peers.get(to).is_some_and(|peer| {
            let is_told = peer.is_told && self.unproven(peer).is_none();
            !is_told || !peer.refusals.is_empty() || peer.holds(&self.loads)
        })
    }

    /// What proves a snapshot and was not told to a peer.
    fn unproven(&self, peer: &Peer) -> Option<(SnapshotId, SnapshotProof)> {
        self.offered.iter().find_map(|(id, it)| {
            let proof = it.proof.as_ref().filter(|_| !it.is_damaged)?;
            (!peer.proven.contains(id)).then(|| (*id, proof.clone()))
        })
    }

    /// Drops the requests of those who read next to nothing, and of those who wait for the room of others.
    pub fn on_time(&mut self, now: Instant) {
        let waits = self.waits_for_room();
        let silent = self.peers.iter().filter(|(_, peer)| {
            let until = self.reads_until(peer, waits);
            until.is_some_and(|until| now >= until)
                || peer.waits_since.is_some_and(|since| now >= since + WAIT)
        });
        for peer in silent.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.refuse_all(peer);
        }
        self.load();
    }

    /// When [`Serving::on_time`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waits = self.waits_for_room();
        let reads = self
            .peers
            .values()
            .filter_map(|it| self.reads_until(it, waits));
        let waiting = self.peers.values().filter_map(|it| it.waits_since);
        reads.chain(waiting.map(|since| since + WAIT)).min()
    }

    /// Whether somebody waits for what others hold.
    fn waits_for_room(&self) -> bool {
        let is_full = self.held + MAX_SNAPSHOT_CHUNK > self.config.max_bytes;
        is_full && self.peers.values().any(|peer| peer.waits_since.is_some())
    }

    /// When a peer that holds something loses it, if it reads nothing more.
    fn reads_until(&self, peer: &Peer, waits: bool) -> Option<Instant> {
        let (moved_at, paced_at) = peer
            .holds(&self.loads)
            .then_some((peer.moved_at?, peer.paced_at?))?;
        let patience = moved_at + self.config.patience;
        Some(if waits {
            patience.min(paced_at + IDLE)
        } else {
            patience
        })
    }

    /// What is to be done next.
    pub fn action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether somebody is fetching a snapshot: one that had better be kept yet, or who does begins anew.
    pub fn in_use(&self, id: &SnapshotId, now: Instant) -> bool {
        let used = self.offered.get(id).and_then(|it| it.used_at);
        used.is_some_and(|at| now < at + self.config.in_use)
    }

    /// Bytes that are loaded or being loaded.
    pub fn bytes_held(&self) -> usize {
        self.held
    }

    /// Has parts loaded as far as there is room, for one peer after the other.
    fn load(&mut self) {
        for _ in 0..self.turns.len() {
            let Some(turn) = self.turns.pop_front() else {
                return;
            };
            match self.load_for(&turn) {
                Turn::Loaded => self.turns.push_back(turn),
                Turn::NoRoom => return self.turns.push_front(turn),
                Turn::Nothing => {}
            }
        }
    }

    /// Has the next part loaded that a peer waits for.
    fn load_for(&mut self, id: &PeerId) -> Turn {
        let Some(peer) = self.peers.get_mut(id) else {
            return Turn::Nothing;
        };
        let loading = peer.requests.iter().take_while(|it| it.is_loading).count();
        let Some(asked) = peer.requests.get_mut(loading) else {
            return Turn::Nothing;
        };
        if loading >= self.config.max_loads_per_peer {
            return Turn::Nothing;
        }
        let Request { snapshot, part, .. } = asked.request;
        let Some(offered) = self.offered.get(&snapshot) else {
            let number = asked.request.number;
            peer.requests.remove(loading);
            self.refuse(*id, number, Reason::Gone);
            return Turn::Loaded;
        };
        // Without the hashes nobody could say whether a chunk is right: they are loaded first, for all who wait.
        let (next, hash) = match offered.hash(part) {
            Some(hash) => (part, hash),
            None => (Part::Hashes, offered.offer.snapshot.root),
        };
        let length = next
            .length(&offered.offer.snapshot)
            .unwrap_or(MAX_SNAPSHOT_CHUNK);
        let load = self.loads.get_mut(&(snapshot, next));
        if load.is_none() && self.held > 0 && self.held + length > self.config.max_bytes {
            return Turn::NoRoom;
        }
        match load {
            Some(load) if next == part => load.users += 1,
            Some(_) => return Turn::NoRoom,
            None => {
                self.held += length;
                let known = offered.hashes.clone().filter(|_| next == Part::Hashes);
                if known.is_none() {
                    let snapshot = offered.offer.snapshot.clone();
                    let load = Action::Load {
                        snapshot,
                        part: next,
                        hash,
                    };
                    self.actions.push_back(load);
                }
                let load = Load {
                    length,
                    loaded: known,
                    users: usize::from(next == part),
                };
                self.loads.insert((snapshot, next), load);
            }
        }
        asked.is_loading = next == part;
        if asked.is_loading {
            peer.waits_since = None;
        }
        if asked.is_loading
            && self
                .loads
                .get(&(snapshot, part))
                .is_some_and(|it| it.loaded.is_some())
        {
            self.actions.push_back(Action::Feed(*id));
        }
        Turn::Loaded
    }

    /// A request is over: what was loaded for it alone goes.
    fn done(&mut self, peer: &PeerId, asked: &Asked) {
        if !self.turns.contains(peer) && self.peers.contains_key(peer) {
            self.turns.push_back(*peer);
        }
        if !asked.is_loading {
            return;
        }
        let Request { snapshot, part, .. } = asked.request;
        let Some(load) = self.loads.get_mut(&(snapshot, part)) else {
            return;
        };
        load.users = load.users.saturating_sub(1);
        let more = load.length.saturating_sub(asked.sent);
        // One that is being read comes back first.
        if load.users == 0 && load.loaded.is_some() {
            self.drop_load(snapshot, part);
        }
        if more > 0 {
            self.actions.push_back(Action::Surcharge(*peer, more));
        }
    }

    fn drop_load(&mut self, id: SnapshotId, part: Part) {
        if let Some(load) = self.loads.remove(&(id, part)) {
            self.held = self.held.saturating_sub(load.length);
        }
    }

    /// A part could not be read: who waits for it is told so. A damaged snapshot is not served any more.
    fn unreadable(&mut self, id: SnapshotId, part: Part, error: LoadError) {
        let is_whole = part == Part::Hashes || error == LoadError::Damaged;
        let reason = if is_whole {
            Reason::Gone
        } else {
            Reason::Missing
        };
        let mut refused = Vec::new();
        for (peer, it) in &mut self.peers {
            let concerns =
                |it: &Asked| it.request.snapshot == id && (is_whole || it.request.part == part);
            let (gone, stays) = std::mem::take(&mut it.requests)
                .into_iter()
                .partition(concerns);
            it.requests = stays;
            let gone: VecDeque<Asked> = gone;
            refused.extend(gone.into_iter().map(|asked| (*peer, asked)));
        }
        for (peer, asked) in refused {
            self.done(&peer, &asked);
            self.refuse(peer, asked.request.number, reason);
        }
        if error == LoadError::Damaged
            && let Some(offered) = self.offered.get_mut(&id)
            && !offered.is_damaged
        {
            offered.is_damaged = true;
            let snapshot = offered.offer.snapshot.clone();
            self.actions.push_back(Action::Damaged(snapshot));
            self.tell_all();
        }
    }

    fn refuse(&mut self, to: PeerId, number: u32, reason: Reason) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        // Who asks on without reading the answers has no answer to expect.
        if peer.refusals.len() >= 2 * self.config.max_requests {
            let why = "it asks on and does not read that it is refused";
            self.actions.push_back(Action::Misdeed {
                peer: to,
                misdeed: Misdeed::TooManyMessages,
                why,
            });
            return;
        }
        peer.refusals.push_back(Refusal { number, reason });
        self.actions.push_back(Action::Feed(to));
    }

    /// A peer gets nothing of what it asked for, and may ask again.
    fn refuse_all(&mut self, peer: PeerId) {
        let known = self.peers.get_mut(&peer);
        let requests = known.map(|it| {
            it.waits_since = None;
            std::mem::take(&mut it.requests)
        });
        for asked in requests.unwrap_or_default() {
            self.done(&peer, &asked);
            self.refuse(peer, asked.request.number, Reason::Busy);
        }
    }

    fn tell_all(&mut self) {
        for (id, peer) in &mut self.peers {
            peer.is_told = false;
            self.actions.push_back(Action::Feed(*id));
        }
    }

    fn misdeed(&mut self, peer: PeerId, why: &'static str) {
        let misdeed = Misdeed::InvalidMessage;
        self.actions
            .push_back(Action::Misdeed { peer, misdeed, why });
    }
}

/// What came of a peer's turn.
enum Turn {
    Loaded,
    /// It waits until there is room.
    NoRoom,
    /// It has nothing to wait for, or has what it may.
    Nothing,
}

impl Offered {
    fn has(&self, part: Part) -> bool {
        match (part, &self.offer.have) {
            (Part::Chunk(index), Some(have)) => have.contains(index),
            _ => true,
        }
    }

    /// A part's hash, as far as it is known.
    fn hash(&self, part: Part) -> Option<SnapshotHash> {
        let Part::Chunk(index) = part else {
            return Some(self.offer.snapshot.root);
        };
        let (hashes, _) = self.hashes.as_ref()?.bytes().as_chunks();
        hashes.get(index as usize).copied()
    }
}

impl Peer {
    /// Whether something is loaded that it could read.
    fn holds(&self, loads: &BTreeMap<(SnapshotId, Part), Load>) -> bool {
        let first = self.requests.front();
        let load = first.and_then(|it| loads.get(&(it.request.snapshot, it.request.part)));
        load.is_some_and(|load| load.loaded.is_some())
    }
}

impl Asked {
    fn uses(&self, id: SnapshotId, part: Part) -> bool {
        self.is_loading && self.request.snapshot == id && self.request.part == part
    }
}
