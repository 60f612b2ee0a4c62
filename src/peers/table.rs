//! The one table of peers: how far each is, what it has done, whether there is a place for it, and by when it has to speak.
//!
//! A state machine without I/O: what happened and `now` go in, [`Action`]s come out. A connection begins as [`Stage::Greeting`];
//! the hello makes it one of ours ([`Stage::Greeted`], and [`Stage::Ready`] once its lanes are open), its lack a plain libp2p
//! peer ([`Stage::Plain`]). Who is told to go has a moment to read why ([`Stage::Leaving`]), then its connections are closed
//! ([`Stage::Ending`]) and nobody of that name is let in until the last of them is gone: so a dial after a parting opens a new
//! connection, and never rides on one that ends.
//!
//! Bounds. At most `max_peers` have a place, at most half of those are plain. Who has not said hello has none of these: such
//! newcomers have [`NEWCOMERS`] places of their own beside those that are free, and where there are more the eldest of the most crowded address
//! gives way, so that silent ones keep nobody out, and a full node still has room to say that it is full. Where all places are taken, the least useful of those that
//! came by themselves make room (`watermarks.rs`). Scores and bans are bounded by their own tables. Deadlines
//! are kept in order: time costs what is due, not what is there.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};

mod justice;
mod peer;
mod watermarks;

pub use self::watermarks::{MADE_ROOM, MAX_PROTECTED, MAX_TAG, MAX_TAGS, ProtectError};
use self::{
    peer::{Connection, Peer, Place},
    watermarks::Protected,
};
use super::{
    AddressGroup, Bans, Direction, Grouping, Misdeed, NetworkGroup, PeerInfo, Reputation,
    crowds::Crowds, scope::ip_of,
};
use crate::{chain::ItemKind, keyed::Keyed, platform::Instant};

/// Peers that have not said hello yet, at once, beyond those that have a place.
pub const NEWCOMERS: usize = 32;
/// Two: peers that dial each other at the same moment have two for a while. A further one takes the place of the eldest: a
/// peer that roams comes anew before this node knows that its last connections are dead.
pub const CONNECTIONS_PER_PEER: usize = 2;
/// Connections of one peer that have given way and are not closed yet, at once: to close one takes as long as its last bytes.
const GIVING_WAY: usize = 4;
/// How long a peer of ours may take to open its lanes before it is ready without.
const LANES: Duration = Duration::from_secs(1);
/// How long a peer that is told to go has to read why; as long it may take to get that off to it.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long a peer that does not say what it speaks has left to say hello, before it is taken for a plain one; and one that is to hear that it is banned.
const UNIDENTIFIED: Duration = Duration::from_secs(1);

/// Why a peer is kept out.
pub const BANNED: &str = "this peer is banned";
/// Why a peer finds no place.
pub const FULL: &str = "all places are taken (network.max_peers)";
const PLAIN_FULL: &str = "all places for plain libp2p peers are taken (half of network.max_peers)";
const NO_HELLO: &str = "it did not say hello in time";
const GAVE_WAY: &str = "it had not said hello when others waited";
/// Why a peer without a sign of life is let go.
const SILENT: &str = "it does not answer pings";

/// How far a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Connected; the hello is not over.
    Greeting,
    /// One of ours; its lanes are being opened.
    Greeted,
    /// One of ours.
    Ready,
    /// A plain libp2p peer.
    Plain,
    /// Refused, or told to go; it has a moment to read why.
    Leaving,
    /// Its connections are being closed.
    Ending,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Say hello to it.
    Greet(PeerId),
    /// Open its lanes.
    Open(PeerId),
    /// It is past the hello, and shown from now on.
    Ready(PeerInfo),
    /// It was not let in, or did not let us in.
    Refused {
        /// Who.
        peer: PeerId,
        /// Where its first connection came from, or went to.
        address: Option<Multiaddr>,
        /// Why, for a person.
        reason: String,
    },
    /// Its score changed.
    Scored(PeerId, &'static str, f64),
    /// Tell it that it makes room for others; once it has read that it was [told](Table::told).
    Part(PeerId),
    /// Close all its connections.
    Close(PeerId),
    /// Close this connection; others of the peer live.
    CloseConnection(ConnectionId),
    /// Its last connection ended.
    Gone {
        /// Who.
        peer: PeerId,
        /// Why, for a person.
        reason: String,
        /// Whether it was shown.
        shown: bool,
    },
}

/// What the table goes by.
#[derive(Debug)]
pub struct Limits {
    /// Peers at once: the high watermark.
    pub max_peers: usize,
    /// Down to how many are let go where one more wants a place: the low watermark; 0: one goes for one that comes.
    pub low_watermark: usize,
    /// By when a hello must be over.
    pub hello: Duration,
    /// How long a peer may give no sign of life.
    pub silence: Duration,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Table {
    limits: Limits,
    reputation: Reputation,
    bans: Bans,
    grouping: Grouping,
    peers: BTreeMap<PeerId, Box<Peer>>,
    deadlines: BTreeSet<(Instant, PeerId)>,
    /// Who has no place yet, the eldest first.
    newcomers: Crowds<(u64, PeerId)>,
    /// Peers of ours, and plain ones, that have a place.
    ours: usize,
    plain: usize,
    /// Peers of ours that we dialled, and those on their way to be such.
    outbound: usize,
    /// For each kind of item, peers that have it from nowhere but gossip.
    by_gossip: [usize; ItemKind::ALL.len()],
    /// How many have come; the next one's age.
    came: u64,
    /// Which networks are favoured where somebody has to go, which nobody else may know; and before when nobody has to again.
    lot: Keyed,
    trims_at: Option<Instant>,
    protected: Protected,
    /// Whom the user knows.
    users: BTreeSet<PeerId>,
    /// Whom the application needs now.
    on_duty: BTreeSet<PeerId>,
    actions: VecDeque<Action>,
}

impl Table {
    /// Nobody yet. `grouping` says who is of one network; `secret` is random.
    pub fn new(
        limits: Limits,
        reputation: Reputation,
        bans: Bans,
        grouping: Grouping,
        secret: &[u8; 16],
    ) -> Self {
        Self {
            limits,
            reputation,
            bans,
            grouping,
            peers: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            newcomers: Crowds::new(),
            ours: 0,
            plain: 0,
            outbound: 0,
            by_gossip: [0; ItemKind::ALL.len()],
            came: 0,
            lot: Keyed::new(secret),
            trims_at: None,
            protected: Protected::default(),
            users: BTreeSet::new(),
            on_duty: BTreeSet::new(),
            actions: VecDeque::new(),
        }
    }

    /// What is to be done next.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How far a peer is; `None` where it has no connection.
    pub fn stage(&self, id: &PeerId) -> Option<Stage> {
        self.peers.get(id).map(|peer| peer.stage)
    }

    /// Whether a peer is past the hello.
    pub fn is_shown(&self, id: &PeerId) -> bool {
        self.peers.get(id).is_some_and(|peer| peer.shown)
    }

    /// The peers that are past the hello, in the order of their ids.
    pub fn shown(&self) -> impl Iterator<Item = &PeerInfo> {
        let shown = self.peers.values().filter(|peer| peer.shown);
        shown.map(|peer| &peer.info)
    }

    /// Those, and since when each is connected.
    pub fn shown_since(&self) -> impl Iterator<Item = (&PeerInfo, Instant)> {
        let shown = self.peers.values().filter(|peer| peer.shown);
        shown.map(|peer| (&peer.info, peer.since))
    }

    /// Peers of ours that we dialled, and those on their way to be such.
    pub fn outbound(&self) -> usize {
        self.outbound
    }

    /// It takes part in the gossip of a kind of item, or does not any more.
    pub fn gossips(&mut self, id: &PeerId, kind: ItemKind, takes_part: bool) {
        self.change(id, |peer| {
            peer.gossips.retain(|known| *known != kind);
            peer.gossips.extend(takes_part.then_some(kind));
        });
    }

    /// Whether items of a kind go to a peer: one of ours, or a plain one that takes part in their gossip.
    pub fn takes_part(&self, id: &PeerId, kind: ItemKind) -> bool {
        self.peers.get(id).is_some_and(|peer| match peer.stage {
            Stage::Greeted | Stage::Ready => true,
            Stage::Plain => peer.gossips.contains(&kind),
            Stage::Greeting | Stage::Leaving | Stage::Ending => false,
        })
    }

    /// Whether somebody is here that has items of a kind from nowhere but gossip.
    pub fn needs_gossip(&self, kind: ItemKind) -> bool {
        let mut counts = ItemKind::ALL.into_iter().zip(self.by_gossip);
        counts.any(|(of, count)| of == kind && count > 0)
    }

    /// Whether one more connection of this peer may come in, or go out; else why not.
    ///
    /// # Errors
    /// For a person: it is banned, is being let go, has connections that are still being closed, or there is no place for whom we
    /// would dial. Who dials us is let in to be told by the hello's answer, of a ban only once.
    pub fn admits(
        &mut self,
        id: &PeerId,
        direction: Direction,
        now: Instant,
    ) -> Result<(), &'static str> {
        let comes = direction == Direction::Inbound && !self.peers.contains_key(id);
        if self.bans.holds(id, now) && !(comes && self.bans.tells(id)) {
            return Err(BANNED);
        }
        let Some(peer) = self.peers.get(id) else {
            return if comes || self.makes_place_for_ours(1, now) {
                Ok(())
            } else {
                Err(FULL)
            };
        };
        if peer.stage == Stage::Ending {
            return Err("the last connection is being closed");
        }
        if peer.connections.len() >= CONNECTIONS_PER_PEER + GIVING_WAY {
            return Err("its earlier connections are still being closed");
        }
        Ok(())
    }

    /// A connection was established. `info` says where to, and who dialled; it is of use where it is the first one. Where the peer
    /// has more than [`CONNECTIONS_PER_PEER`] now, the eldest is closed.
    pub fn connected(&mut self, connection: ConnectionId, info: PeerInfo, now: Instant) {
        let id = info.peer_id;
        let address = info.addresses.first();
        let connection = Connection {
            id: connection,
            ip: address.and_then(ip_of),
        };
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.connections.push(connection);
            // Those that are being closed already are so again, which does nothing.
            let surplus = peer.connections.len().saturating_sub(CONNECTIONS_PER_PEER);
            let eldest = peer.connections.iter().take(surplus).map(|open| open.id);
            self.actions.extend(eldest.map(Action::CloseConnection));
            return;
        }
        let outbound = info.direction == Some(Direction::Outbound);
        let group = address.map_or(AddressGroup::Elsewhere, AddressGroup::of);
        let network = address.map_or(NetworkGroup::Fleeting, |address| {
            self.grouping.of_teller(address)
        });
        let reputation = self.reputation.score(&id, now);
        self.came += 1;
        let peer = Peer {
            age: self.came,
            group,
            network,
            since: now,
            stage: Stage::Greeting,
            connections: vec![connection],
            deadline: None,
            propagates: false,
            gossips: Vec::new(),
            pings: true,
            nearest: None,
            brought: [None; ItemKind::ALL.len()],
            stake: 0,
            unidentified: false,
            info: PeerInfo { reputation, ..info },
            shown: false,
            farewell: None,
        };
        self.count(id, &peer);
        self.peers.insert(id, Box::new(peer));
        let patience = if self.bans.holds(&id, now) {
            UNIDENTIFIED
        } else {
            self.limits.hello
        };
        self.set_deadline(&id, Some(now + patience));
        if outbound {
            self.actions.push_back(Action::Greet(id));
        }
        while self.newcomers.len() > NEWCOMERS + self.free()
            && let Some((_, (_, eldest))) = self.newcomers.first_of_most_crowded()
        {
            self.reject(eldest, GAVE_WAY);
        }
    }

    /// The name that was dialled for its newest connection has led to this address.
    pub fn located(&mut self, id: &PeerId, ip: IpAddr) {
        let newest = self.peers.get_mut(id);
        if let Some(newest) = newest.and_then(|peer| peer.connections.last_mut()) {
            newest.ip.get_or_insert(ip);
        }
    }

    /// The eldest newcomer from an address gives way to another from there, if there is one.
    pub fn makes_room(&mut self, group: AddressGroup) -> bool {
        let eldest = self.newcomers.first_of(group);
        if let Some((_, eldest)) = eldest {
            self.reject(eldest, GAVE_WAY);
        }
        eldest.is_some()
    }

    /// A connection ended; `reason` is told where we gave none.
    pub fn closed(&mut self, id: &PeerId, connection: ConnectionId, reason: String) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        peer.connections.retain(|open| open.id != connection);
        if !peer.connections.is_empty() {
            return;
        }
        self.set_deadline(id, None);
        self.set_stage(id, Stage::Ending);
        if let Some(gone) = self.peers.remove(id) {
            self.actions.push_back(Action::Gone {
                peer: *id,
                reason: gone.farewell.unwrap_or(reason),
                shown: gone.shown,
            });
        }
    }

    /// It has said hello, and is of our network.
    ///
    /// # Errors
    /// For a person: it is banned, or there is no place for it.
    pub fn greeted(&mut self, id: &PeerId, now: Instant) -> Result<(), &'static str> {
        let Some(peer) = self.peers.get(id) else {
            return Ok(());
        };
        let (stage, is_newcomer) = (peer.stage, peer.place() == Place::Newcomer);
        match stage {
            Stage::Greeting if self.bans.holds(id, now) => return Err(BANNED),
            Stage::Greeting if is_newcomer && !self.makes_place_for(id, now) => return Err(FULL),
            Stage::Greeting | Stage::Plain => {}
            // By another connection, or on its way out.
            Stage::Greeted | Stage::Ready | Stage::Leaving | Stage::Ending => return Ok(()),
        }
        self.set_stage(id, Stage::Greeted);
        self.set_deadline(id, Some(now + LANES));
        self.actions.push_back(Action::Open(*id));
        Ok(())
    }

    /// It does not speak the hello: a plain libp2p peer.
    pub fn never_greets(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        if peer.stage != Stage::Greeting {
            return;
        }
        let has_place = self.has_place() || peer.place() == Place::Ours;
        if self.bans.holds(&id, now) {
            self.reject(id, BANNED);
        } else if !has_place {
            self.reject(id, FULL);
        } else if self.plain >= self.limits.max_peers.div_ceil(2) {
            self.reject(id, PLAIN_FULL);
        } else {
            self.ready(id, Stage::Plain, now);
        }
    }

    /// Its word of itself can't be understood, or it gives none: it has a moment left to say hello.
    pub fn unidentified(&mut self, id: &PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        if peer.stage == Stage::Greeting && peer.info.direction == Some(Direction::Inbound) {
            peer.unidentified = true;
            let soon = now + UNIDENTIFIED;
            let deadline = peer.deadline.map_or(soon, |deadline| deadline.min(soon));
            self.set_deadline(id, Some(deadline));
        }
    }

    /// What it calls its software.
    pub fn identified(&mut self, id: &PeerId, agent: &str) {
        if let Some(peer) = self.peers.get_mut(id) {
            agent.clone_into(&mut peer.info.agent);
        }
    }

    /// Its lanes are open, or (not `open`) it speaks none.
    pub fn lanes(&mut self, id: PeerId, open: bool, now: Instant) {
        self.change(&id, |peer| peer.propagates |= open);
        if self.stage(&id) == Some(Stage::Greeted) {
            self.ready(id, Stage::Ready, now);
        }
    }

    /// How long its ping took last, if there was one.
    pub fn round_trip(&self, id: &PeerId) -> Option<Duration> {
        self.peers.get(id)?.info.round_trip
    }

    /// It answered a ping.
    pub fn ponged(&mut self, id: &PeerId, took: Duration, now: Instant) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        peer.info.round_trip = Some(took);
        peer.nearest = Some(peer.nearest.map_or(took, |nearest| nearest.min(took)));
        if matches!(peer.stage, Stage::Ready | Stage::Plain) {
            self.set_deadline(id, Some(now + self.limits.silence));
        }
    }

    /// What it sends was not read here for so long: it was not silent. Who stands here for ever is let go.
    pub fn unheard(&mut self, id: &PeerId, time: Duration) {
        if let Some(peer) = self.peers.get(id)
            && matches!(peer.stage, Stage::Ready | Stage::Plain)
            && let Some(deadline) = peer.deadline
        {
            self.set_deadline(id, Some(deadline + time));
        }
    }

    /// It speaks no ping, so a plain peer's silence says nothing. Peers of ours have to speak it (docs/wire.md): who vanished
    /// would keep its place until something that was written to it times out, on a node at rest for ever.
    pub fn never_pongs(&mut self, id: &PeerId) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        peer.pings = false;
        if peer.stage == Stage::Plain {
            self.set_deadline(id, None);
        }
    }

    /// Pings on a connection went unanswered, one after the other: where the peer has another, this one is dead. Where not, its
    /// deadline decides: some peers end a ping's stream whenever it was idle for a while, and are alive.
    pub fn ping_failed(&mut self, id: &PeerId, connection: ConnectionId) {
        if self
            .peers
            .get(id)
            .is_some_and(|peer| peer.connections.len() > 1)
        {
            self.actions.push_back(Action::CloseConnection(connection));
        }
    }

    /// Refuses a peer that is being told why: its connections are closed once it has read it.
    pub fn turn_away(&mut self, id: PeerId, reason: &str, now: Instant) {
        if self.refuse(id, reason) {
            self.set_stage(&id, Stage::Leaving);
            self.set_deadline(&id, Some(now + FAREWELL * 2));
        }
    }

    /// What it is told is in its buffers, or will never be; it has a moment to read it, and none more for what it asks meanwhile.
    pub fn told(&mut self, id: &PeerId, now: Instant) {
        let Some(peer) = self.peers.get(id) else {
            return;
        };
        let ends = now + FAREWELL;
        if peer.stage == Stage::Leaving && peer.deadline.is_none_or(|at| ends < at) {
            self.set_deadline(id, Some(ends));
        }
    }

    /// Refuses a peer and closes its connections at once.
    pub fn reject(&mut self, id: PeerId, reason: &str) {
        self.refuse(id, reason);
        self.let_go(id, reason.to_owned());
    }

    /// Closes all connections of a peer for a reason; the first one given is told.
    pub fn let_go(&mut self, id: PeerId, reason: String) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.farewell.get_or_insert(reason);
        if peer.stage != Stage::Ending {
            self.set_deadline(&id, None);
            self.set_stage(&id, Stage::Ending);
            self.actions.push_back(Action::Close(id));
        }
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Instant) {
        while let Some((at, id)) = self.deadlines.first().copied()
            && at <= now
        {
            self.set_deadline(&id, None);
            let Some(peer) = self.peers.get(&id) else {
                continue;
            };
            match peer.stage {
                Stage::Greeting if self.bans.holds(&id, now) => self.reject(id, BANNED),
                Stage::Greeting if peer.unidentified => self.never_greets(id, now),
                Stage::Greeting => {
                    self.misdeed(id, Misdeed::NoAnswer, now);
                    self.reject(id, NO_HELLO);
                }
                // It holds an older connection of ours for alive.
                Stage::Greeted => self.ready(id, Stage::Ready, now),
                Stage::Ready | Stage::Plain => self.let_go(id, SILENT.to_owned()),
                Stage::Leaving => self.let_go(id, "it was refused".to_owned()),
                Stage::Ending => {}
            }
        }
    }

    /// The host slept: it was silent, not its peers, so that all have so much longer.
    pub fn slept(&mut self, time: Duration) {
        let later = |(at, id)| (at + time, id);
        self.deadlines = std::mem::take(&mut self.deadlines)
            .into_iter()
            .map(later)
            .collect();
        for peer in self.peers.values_mut() {
            peer.deadline = peer.deadline.map(|at| at + time);
        }
    }

    /// The node is over: nobody is shown any more.
    pub fn clear(&mut self) {
        self.peers.clear();
        self.deadlines.clear();
        self.newcomers.clear();
        self.actions.clear();
        (self.ours, self.plain, self.outbound) = (0, 0, 0);
        self.by_gossip = [0; ItemKind::ALL.len()];
    }

    fn ready(&mut self, id: PeerId, stage: Stage, now: Instant) {
        self.set_stage(&id, stage);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let is_heard = peer.pings || stage == Stage::Ready;
        let deadline = is_heard.then(|| now + self.limits.silence);
        peer.info.selkie = stage == Stage::Ready;
        if !std::mem::replace(&mut peer.shown, true) {
            self.actions.push_back(Action::Ready(peer.info.clone()));
        }
        self.set_deadline(&id, deadline);
    }

    /// Says once that a peer is not let in; false where it is unknown or on its way out.
    fn refuse(&mut self, id: PeerId, reason: &str) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        if matches!(peer.stage, Stage::Leaving | Stage::Ending) {
            return false;
        }
        peer.farewell = Some(reason.to_owned());
        self.actions.push_back(Action::Refused {
            peer: id,
            address: peer.info.addresses.first().cloned(),
            reason: reason.to_owned(),
        });
        true
    }

    fn set_deadline(&mut self, id: &PeerId, deadline: Option<Instant>) {
        if let Some(peer) = self.peers.get_mut(id) {
            let before = std::mem::replace(&mut peer.deadline, deadline);
            before.map(|at| self.deadlines.remove(&(at, *id)));
            deadline.map(|at| self.deadlines.insert((at, *id)));
        }
    }

    fn set_stage(&mut self, id: &PeerId, stage: Stage) {
        self.change(id, |peer| peer.stage = stage);
    }

    /// Changes what a peer is counted by.
    fn change(&mut self, id: &PeerId, change: impl FnOnce(&mut Peer)) {
        if let Some(mut peer) = self.peers.remove(id) {
            self.uncount(id, &peer);
            change(&mut peer);
            self.count(*id, &peer);
            self.peers.insert(*id, peer);
        }
    }

    fn count(&mut self, id: PeerId, peer: &Peer) {
        match peer.place() {
            Place::Newcomer => self.newcomers.insert(peer.group, (peer.age, id)),
            Place::Ours => self.ours += 1,
            Place::Plain => self.plain += 1,
            Place::None => {}
        }
        self.outbound += usize::from(peer.is_outbound());
        for (count, kind) in self.by_gossip.iter_mut().zip(ItemKind::ALL) {
            *count += usize::from(peer.needs_gossip(kind));
        }
    }

    fn uncount(&mut self, id: &PeerId, peer: &Peer) {
        match peer.place() {
            Place::Newcomer => self.newcomers.remove(peer.group, &(peer.age, *id)),
            Place::Ours => self.ours -= 1,
            Place::Plain => self.plain -= 1,
            Place::None => {}
        }
        self.outbound -= usize::from(peer.is_outbound());
        for (count, kind) in self.by_gossip.iter_mut().zip(ItemKind::ALL) {
            *count -= usize::from(peer.needs_gossip(kind));
        }
    }
}

#[cfg(test)]
mod tests;
