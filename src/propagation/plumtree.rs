//! Items on their way: pushed to few peers, announced to the rest, fetched where they did not come by themselves.
//!
//! The links over which whole items are pushed form a tree that the nodes find together, after Plumtree (Leitão,
//! Pereira and Rodrigues: "Epidemic Broadcast Trees", SRDS 2007). A link begins as one that pushes. Whoever is pushed
//! what it has already asks for announcements instead, and the link carries those both ways from then on. Whoever
//! has to fetch what others announced, because nobody pushed it in time, asks that announcer to push. So an item
//! crosses most links as an announcement of 12 bytes (short id, size, fee rate) and arrives whole about once; and
//! a peer that withholds what it should push delays it by [`TreeConfig::fetch_patience`] only, or by what others' pushes take
//! meanwhile (`fetches/patience.rs`). What had to be fetched is announced on all links and pushed on none, since the neighbours most often have it or fetch it too. Announcements to those who have fetched nothing lately come the seldomer the more links there are, so that a node with a thousand peers spends no more on each
//! item than one with ten ([`QUIET`]).
//!
//! Transactions and votes have a tree each: transactions travel in batches, votes at once. Everything accepted stands in
//! one log that all peers read on in (`log.rs`); what is announced and not here is the business of `fetches.rs`. A batch
//! is therefore handled once, and encoded once for all who are pushed it. What different sources brought is read in turns
//! (`reader.rs`), and what leaves the log is what everybody has had time for, then what the one has that brought most: a flood holds up itself.
//!
//! Bounds: the log's bytes; of each peer the announcements, fetches and answers that wait. Further ones are dropped, and the peer
//! that sent too many pays. A slow reader falls behind in the log and misses what has left it. Of a peer beyond the first [`PLACES`] it is not noted what it has: it is pushed and told
//! even what it has brought, so over 128 peers a link of such a one is pruned and grafted now and then, and nothing is lost.

mod asked;
#[cfg(test)]
mod attack_tests;
#[cfg(test)]
mod crowd_tests;
mod fetches;
mod items;
mod lateness;
mod lessons;
mod links;
mod log;
mod long;
#[cfg(test)]
mod network_tests;
mod news;
mod overtaken;
mod owed;
mod peer;
mod reader;
mod rescues;
mod told;
#[cfg(test)]
mod turn_tests;

use std::{collections::HashMap, hash::BuildHasher, time::Duration};

use bytes::Bytes;
use libp2p::PeerId;

pub(crate) use self::items::{Accepted, Fresh, Received, fee_rate};
use self::{
    asked::Asked,
    fetches::{Claim, Fetches, Limits, MAX_CLAIMS},
    lateness::PROBES,
    lessons::{Push, Shows},
    links::{EFFECTS, OUTRUNS, random},
    log::{Batch, Entry, Log, Marks, bit},
    long::Long,
    news::News,
    overtaken::Overtaken,
    owed::{Answers, MOST_AWAITED, Owed},
    peer::{
        ANNOUNCE_DELAY, Peer, QUIET, Record, announce, answer, push, quiet_interval, tell_fetched,
        together,
    },
    reader::Reader,
    rescues::Rescues,
};
use super::{
    TreeConfig,
    announce::{Announce, Columns},
    output::{Output, Part},
    source::{PLACES, Place, Source},
    wire::{self, Fetch, Kind, Link},
};
use crate::peers::Misdeed;
use crate::{
    chain::{ShortId, TransactionKey},
    debts::Debts,
    keyed::Keyed,
    lanes::Outgoing,
    platform::Instant,
    propagation::pool::{
        Mempool,
        reconcile::{self, Awaited},
    },
    traffic::{Admission, Cost, Pace, Rate},
};

/// How often a peer whose streams are others now is told again what is in the log: four times at once and every ten seconds, each
/// counting its seconds. Beyond that, reconciliation finds what was lost.
const MOVES: Rate = Rate {
    per_second: 1,
    burst: 4 * MOVE,
};
const MOVE: u64 = 10;
/// Ids that a peer may fetch at once, the same in all nodes: no peer knows another's configuration. As many as it asks for at most, whose
/// `max_requested_bytes` are in their range.
const MOST_ASKED: usize = 1 << 15;
/// As many as a comparison of pools may find; what is over that the next one finds.
const MOST_WANTED: usize = reconcile::MAX_SYMBOLS as usize;
/// Bytes that a peer is sent for its asking: what more it asks for waits.
const SERVED: Rate = Rate {
    per_second: 64 << 20,
    burst: 64 << 20,
};
/// What an id that is not here counts as, of these: it was looked for, and an honest peer asks for few such.
const MISSING: usize = 1 << 10;
/// Of these, the bytes that are packed for it, which is work. What more it asks for goes out as it is, and it has to read all of it.
const PACKED: Rate = Rate {
    per_second: 8 << 20,
    burst: 8 << 20,
};
/// What a peer pushes that is here and that it was asked not to push, whatever it has asked for itself since, costs it so many times its size in its limits,
/// and so does an id that it announces to no use. What an honest one has under way when it is asked is within its burst all the same.
const NEEDLESS: u64 = 15;
/// Ids that a peer may announce to no use, or without having them, beyond those of what has become known here meanwhile: one that comes anew
/// announces all its pool, and under overload what was announced is gone before it is fetched.
const STALE: Rate = Rate {
    per_second: 16 << 10,
    burst: 1 << 20,
};
/// What was accepted so lately is announced to who comes, of so many items at most: it may have been under way to nobody who passes it on. What
/// came before that it finds by comparing pools, if it is a transaction.
const RECENT: Duration = Duration::from_secs(3);
const MOST_RECENT: usize = 4096;
/// As many of those that have what there was no room to check, beside who sent it, are noted again: who announced it does not do so twice.
const MOST_RETURNED: usize = 8;
/// Places of peers that are gone that are worth a walk over all there is: before there are so many, who comes does without.
const WORTH_CLEARING: usize = 16;

/// An item that is being checked.
#[derive(Debug, Default)]
struct Checking {
    /// The places of the peers that have it.
    known: u128,
    /// Whether it was fetched.
    fetched: bool,
    /// What counts once the chain has accepted it, so that nobody teaches anything by what it makes up.
    shows: Option<Shows>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Plumtree {
    config: TreeConfig,
    log: Log,
    fetches: Fetches,
    rescues: Rescues,
    news: News,
    overtaken: Overtaken,
    checking: HashMap<ShortId, Checking, Keyed>,
    peers: HashMap<PeerId, Peer, Keyed>,
    /// When the first peer came.
    began: Option<Instant>,
    /// The records of those who are gone.
    gone: Debts<Record>,
    /// Places that are free, and those of peers that are gone: what is noted of these has to be cleared before they are used again.
    places: Vec<Place>,
    used: Vec<Place>,
    /// Who has each place.
    holders: [Option<PeerId>; PLACES as usize],
    /// How many items have become known here.
    learnt: u64,
    /// How far the peer is in our own items that has read on furthest.
    ahead: u64,
    /// How often all links waited for the effect of one's change, and one was swapped since another was late.
    effects: Pace,
    outruns: Pace,
    /// How often something is asked for before its push has had its time.
    probes: Pace,
    /// No link pushes any more, and nobody has told of anything that is not here since.
    detached: bool,
    random: u64,
    keyed: Keyed,
}

impl Plumtree {
    /// `seed` keys the tables: 16 random bytes that no peer knows.
    pub(crate) fn new(config: TreeConfig, seed: &[u8; 16]) -> Self {
        let keyed = Keyed::new(seed);
        let limits = Limits {
            patience: config.fetch_patience,
            timeout: config.fetch_timeout,
            max_announced: config.max_announced,
            max_claims: MAX_CLAIMS,
            max_requested_bytes: config.max_requested_bytes,
        };
        Self {
            log: Log::new(
                config.max_log_bytes,
                QUIET + comes_within(&config),
                config.push_interval,
                keyed.clone(),
            ),
            fetches: Fetches::new(limits, keyed.clone()),
            rescues: Rescues::new(keyed.clone()),
            news: News::default(),
            overtaken: Overtaken::default(),
            checking: HashMap::with_hasher(keyed.clone()),
            peers: HashMap::with_hasher(keyed.clone()),
            began: None,
            gone: Debts::default(),
            places: (0..PLACES).rev().collect(),
            used: Vec::new(),
            holders: [None; PLACES as usize],
            learnt: 0,
            ahead: 0,
            effects: Pace::new(EFFECTS),
            outruns: Pace::new(OUTRUNS),
            probes: Pace::new(PROBES),
            detached: false,
            random: keyed.hash_one(0_u64) | 1,
            keyed,
            config,
        }
    }

    /// A peer is here, perhaps anew: it learns what is accepted from now on, and is told of what was just before.
    pub(crate) fn connected(&mut self, id: PeerId, now: Instant) {
        self.disconnected(id, now);
        self.began.get_or_insert(now);
        let pushing = self.peers.values().filter(|peer| peer.pushes).count();
        let pushes = pushing < self.config.push_peers;
        let place = self.place();
        if let Some(holder) = self.holder_mut(place) {
            *holder = Some(id);
        }
        let (own, ends) = (place.map(Source::at), self.log.ends());
        let reader = Reader::new(&ends, own, None);
        let since = self.log.recent(RECENT, MOST_RECENT, now);
        // What its place's last holder has brought is none of its own.
        let again = (since != ends).then(|| Reader::new(&since, None, Some(ends)));
        self.ahead = self.ahead.max(reader.own_items());
        let peer = Peer {
            place,
            pushes,
            since,
            reader,
            told: self.log.told_end(),
            told_from: self.log.told_end(),
            catches_up_at: Marks::default(),
            held_back: false,
            again,
            next_at: now,
            attentive_at: now,
            untaken: 0,
            told_since: now,
            tells_link: !pushes,
            agrees_anew: false,
            settles_at: now,
            rescues_from: now,
            long: None,
            serve: Asked::new(&self.keyed),
            wants: Asked::new(&self.keyed),
            record: self.gone.take(&id).unwrap_or_else(Record::new),
            owed: Owed::new(&self.keyed),
            fresh: 0,
            duplicates: 0,
            rescued: 0,
            doubted: [false; 2],
            believed: 0,
            heard: self.learnt,
        };
        self.peers.insert(id, peer);
    }

    /// A peer is gone; what it was asked for is asked of others.
    pub(crate) fn disconnected(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        if let Some(rests_at) = peer.record.rests_at(now) {
            self.gone.keep(id, peer.record, rests_at, now);
        }
        self.fetches.gone(id, now);
        self.overtaken.forget(&id);
        self.used.extend(peer.place);
        if let Some(holder) = self.holder_mut(peer.place) {
            *holder = None;
        }
        let read = self.peers.values().map(|peer| peer.reader.own_items());
        self.ahead = read.max().unwrap_or(0);
    }

    /// A place for a peer, if there is one. Those that were used are cleared many at once, since that walks over all there is.
    fn place(&mut self) -> Option<Place> {
        if self.places.is_empty() && self.used.len() >= WORTH_CLEARING {
            let used = self
                .used
                .iter()
                .fold(0, |all, place| all | bit(Some(*place)));
            self.log.forget(used);
            let checking = self.checking.values_mut();
            checking.for_each(|item| item.known &= !used);
            self.fetches.forget(used);
            self.news.forget(used);
            self.places.append(&mut self.used);
        }
        self.places.pop()
    }

    fn holder_mut(&mut self, place: Option<Place>) -> Option<&mut Option<PeerId>> {
        self.holders.get_mut(usize::from(place?))
    }

    /// The peers that have these places.
    fn holders(&self, places: u128) -> impl Iterator<Item = PeerId> {
        let held = (0..PLACES).zip(&self.holders);
        let held = held.filter(move |(place, _)| places & bit(Some(*place)) != 0);
        held.filter_map(|(_, holder)| *holder)
    }

    /// Whole items came, their keys computed. What the caller does not know is to be checked: it is told whether the log holds it,
    /// which for what has left a pool since does not say enough.
    pub(crate) fn on_items(
        &mut self,
        from: PeerId,
        batch: Vec<(TransactionKey, Bytes)>,
        missing: impl Iterator<Item = ShortId>,
        is_known: impl Fn(&TransactionKey, bool) -> bool,
        now: Instant,
    ) -> Received {
        let mut received = Received::default();
        self.count_rescues(now);
        let Some(peer) = self.peers.get_mut(&from) else {
            return received;
        };
        let (at, pushes) = (peer.place, peer.pushes);
        // To be put back.
        let mut owed = std::mem::replace(&mut peer.owed, Owed::new(&self.keyed));
        let is_needless = !pushes || peer.record.said == Some(false);
        let place = bit(at);
        let mut absent = 0;
        for id in missing {
            owed.missing(id, now);
            absent += u64::from(self.fetches.missing(id, from));
        }
        let (mut pushed, mut duplicates, mut excused, most) = (0, 0, 0, batch.len());
        let mut has_answered = false;
        for (key, data) in batch {
            if data.len() > self.config.max_item {
                // The hello has told it the limit.
                Misdeed::InvalidMessage.note(&mut received.misdeed);
                continue;
            }
            let id = key.short();
            let arrived = self.fetches.arrived(id, &from, now);
            let claim = arrived.and_then(|arrived| arrived.claim);
            if let Some(claim) = claim
                && u32::try_from(data.len()) != Ok(claim.size)
            {
                Misdeed::FalseAnnouncement.note(&mut received.misdeed);
            }
            let is_fetched = arrived.is_some_and(|arrived| arrived.asked);
            let is_here = if let Some(checking) = self.checking.get_mut(&id) {
                checking.known |= place;
                true
            } else {
                is_known(&key, self.log.mark(id, at))
            };
            // An answer that is no longer needed is no push.
            let answers = owed.came(&key, now);
            has_answered |= answers.is_some();
            let asked = is_fetched || answers.is_some();
            let is_wanted = !is_fetched && answers == Some(Answers::Want);
            pushed += u32::from(!asked);
            let by_tree = !asked && pushes;
            if is_here {
                let in_vain = by_tree && self.pushed_late(from, id, now);
                duplicates += u32::from(!asked && !in_vain);
                excused += u32::from(in_vain);
                if !asked && is_needless {
                    received.needless.items += NEEDLESS;
                    received.needless.bytes += data.len() as u64 * NEEDLESS;
                }
            } else {
                let since = arrived.map_or(now, |arrived| arrived.since);
                // Also where another one is asked meanwhile, or nobody any more. What a comparison found had its time to be pushed long ago.
                let shows = if is_wanted {
                    None
                } else if asked {
                    let is_first = arrived.is_none_or(|arrived| !arrived.returned);
                    is_first.then(|| Shows::Fetch(Box::new((from, since))))
                } else {
                    // Who announces an item and pushes it as late as it likes shows nothing of others.
                    by_tree.then(|| {
                        let took = now.saturating_duration_since(since);
                        let of_others = claim.is_none();
                        Shows::Push(Push {
                            took,
                            of_others,
                            after: None,
                        })
                    })
                };
                let checking = Checking {
                    known: place | arrived.map_or(0, |arrived| arrived.known),
                    fetched: is_wanted || asked && shows.is_some(),
                    shows,
                };
                self.checking.insert(id, checking);
                self.learnt += 1;
                let promised = claim.map(|claim| claim.fee_rate);
                if received.fresh.is_empty() {
                    // Most often all are new; they may wait for long, and with them what room is left over.
                    received.fresh.reserve_exact(most);
                }
                received.fresh.push(Fresh {
                    key,
                    data,
                    promised,
                });
            }
        }
        if has_answered {
            self.fetches.answers_on(&from, now);
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.owed = owed;
            received.needless.items += peer.stale(absent, self.learnt, now) * NEEDLESS;
            if peer.settles_at <= now {
                peer.duplicates += duplicates;
                peer.fresh += pushed - duplicates - excused;
                self.judge(from, now);
            }
        }
        received
    }

    /// Announced items: those that are not here are noted, to be fetched unless they come by themselves. What it costs the sender in
    /// its limits that it announces more to no use than has become known here meanwhile.
    pub(crate) fn on_announce(
        &mut self,
        from: PeerId,
        announce: &Announce,
        is_known: impl Fn(ShortId, bool) -> bool,
        now: Instant,
    ) -> Cost {
        let (Some(peer), Ok(ids)) = (self.peers.get_mut(&from), wire::ids(&announce.ids)) else {
            return Cost::default();
        };
        let Self {
            config,
            log,
            checking,
            ..
        } = self;
        let mut told = 0;
        let news = ids.zip(announce.claims()).filter_map(|(id, claim)| {
            let (size, fee_rate) = claim;
            // Another node may take what is too large here.
            if usize::try_from(size).is_ok_and(|size| size > config.max_item) {
                return None;
            }
            told += 1;
            if let Some(item) = checking.get_mut(&id) {
                item.known |= bit(peer.place);
                return None;
            }
            let is_new = !is_known(id, log.mark(id, peer.place));
            is_new.then_some((id, Claim { size, fee_rate }))
        });
        let by = (from, bit(peer.place), peer.pushes);
        let noted = self.fetches.announced(by, news, now);
        let stale = peer.stale(told - noted, self.learnt, now);
        Cost {
            items: stale * NEEDLESS,
            bytes: 0,
        }
    }

    /// A peer wants items that were announced to it. What it has asked for already it gets once.
    pub(crate) fn on_fetch(
        &mut self,
        from: PeerId,
        fetch: &Fetch,
        now: Instant,
    ) -> Option<Misdeed> {
        let peer = self.peers.get_mut(&from)?;
        peer.attentive_at = now;
        peer.next_at = peer.next_at.min(now + self.config.announce_interval);
        for id in wire::ids(&fetch.ids).ok()? {
            peer.untaken = peer.untaken.saturating_sub(1);
            if !peer.serve.add(id, MOST_ASKED) {
                return Some(Misdeed::TooManyMessages);
            }
        }
        None
    }

    /// A long frame of a peer, of so many bytes on the stream, is lost: what it may have answered is asked again.
    pub(crate) fn skipped(&mut self, from: PeerId, length: usize) {
        self.fetches.lost(&from, length);
    }

    /// A peer is to be sent these when it is sent what it has fetched, as far as there is room.
    pub(crate) fn serve(&mut self, to: PeerId, keys: &[TransactionKey]) {
        if let Some(peer) = self.peers.get_mut(&to) {
            let mut ids = keys.iter().map(TransactionKey::short);
            ids.all(|id| peer.wants.add(id, MOST_WANTED));
        }
    }

    /// What a peer sends of these was asked for. Where too many are awaited, those are forgotten of whom most are.
    pub(crate) fn awaits(&mut self, of: PeerId, awaited: Awaited, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&of) {
            peer.owed.awaits(awaited, now);
        }
        let awaited = |peer: &Peer| peer.owed.awaited();
        while self.peers.values().map(awaited).sum::<usize>() > MOST_AWAITED
            && let Some(most) = self.peers.values_mut().max_by_key(|peer| awaited(peer))
        {
            most.owed.forget_awaited();
        }
    }

    /// Whether an item is being checked.
    pub(crate) fn checks(&self, key: &TransactionKey) -> bool {
        self.checking.contains_key(&key.short())
    }

    /// An item is of no use any more: nobody is told of it from now on.
    pub(crate) fn withdraw(&mut self, key: &TransactionKey) {
        self.log.withdraw(key.short());
    }

    /// Whether an item is in the log.
    pub(crate) fn holds(&self, key: &TransactionKey) -> bool {
        self.log.get(key.short()).is_some()
    }

    /// An item that did not come by here is being checked; copies of it that do come are not.
    pub(crate) fn claim(&mut self, key: &TransactionKey) {
        self.checking.entry(key.short()).or_insert_with(|| {
            self.learnt += 1;
            Checking {
                known: self.fetches.known(&key.short()),
                ..Checking::default()
            }
        });
    }

    /// The chain has judged what [`Self::on_items`] gave out, or was claimed: this may be asked for and sent again.
    pub(crate) fn refused(&mut self, key: &TransactionKey) {
        self.checking.remove(&key.short());
    }

    /// There was no room to check what a peer has sent: as if it had announced it just now, and so had others that have it
    /// ([`MOST_RETURNED`]), it is fetched again.
    pub(crate) fn turned_away(&mut self, from: PeerId, fresh: &Fresh, now: Instant) {
        let checking = self.checking.remove(&fresh.key.short());
        let known = checking.map_or(0, |checking| checking.known);
        let others = self.holders(known).filter(|other| *other != from);
        // Of others it is not noted what they have promised.
        let mut others: Vec<_> = others.map(|peer| (peer, 0)).collect();
        // Not always of the same.
        let first = random(&mut self.random) * others.len() as f64;
        others.rotate_left(first as usize);
        others.truncate(MOST_RETURNED);
        let promised = fresh.promised.unwrap_or_default();
        for (id, fee_rate) in [(from, promised)].into_iter().chain(others) {
            let Some(peer) = self.peers.get(&id) else {
                continue;
            };
            let size = u32::try_from(fresh.data.len()).unwrap_or(u32::MAX);
            let by = (id, bit(peer.place), peer.pushes);
            let again = (fresh.key.short(), Claim { size, fee_rate });
            self.fetches.returned(by, again, now);
        }
    }

    /// Whose items these are, where room and turns are shared by that; `None`: our own.
    pub(crate) fn source(&self, from: Option<PeerId>) -> Source {
        let Some(from) = from else {
            return Source::OWN;
        };
        let place = self.peers.get(&from).and_then(|peer| peer.place);
        place.map_or_else(|| Source::elsewhere(&from, &self.keyed), Source::at)
    }

    /// The chain has accepted items: they go on their way. `from` is who brought them, and has them; `None`: they are our own.
    pub(crate) fn accepted(
        &mut self,
        from: Option<PeerId>,
        items: impl IntoIterator<Item = Accepted>,
        now: Instant,
    ) {
        let place = from.and_then(|from| self.peers.get(&from)?.place);
        let source = self.source(from);
        let since = self.log.last_of(source);
        let mut has_fetched = false;
        for item in items {
            let id = item.key.short();
            match self.checking.remove(&id) {
                Some(mut checking) => {
                    has_fetched |= self.conclude(id, from, checking.shows.take(), now);
                    self.news.came(checking.known, now);
                    self.enter(source, item, checking, place, now);
                }
                // What is being checked is not in the log; anything else may be.
                None if self.holds(&item.key) => {}
                None => self.enter(source, item, Checking::default(), place, now),
            }
        }
        self.log.trim(source, since);
        if let Some(from) = from.filter(|_| has_fetched && self.detached) {
            self.attach_to(from, now);
        }
    }

    /// Adds to the log what is not there.
    fn enter(
        &mut self,
        source: Source,
        Accepted { key, data, fee }: Accepted,
        checking: Checking,
        from: Option<Place>,
        now: Instant,
    ) {
        let entry = Entry {
            id: key.short(),
            fee_rate: fee_rate(fee, data.len()),
            data,
            known: checking.known | bit(from),
            fetched: checking.fetched,
            withdrawn: false,
        };
        self.log.append(source, entry, now);
    }

    /// When there is something to send to a peer that no input will bring.
    pub(crate) fn sends_at(&self, id: &PeerId, now: Instant) -> Option<Instant> {
        let peer = self.peers.get(id)?;
        let has_more = |reader: &Reader| reader.has_more(&self.log);
        let has_news = peer.told < self.log.told_end();
        let reads_on = (has_news || has_more(&peer.reader)).then_some(peer.next_at);
        let again = peer.again.as_ref().is_some_and(has_more);
        let again = again.then_some(now + ANNOUNCE_DELAY);
        let served = match peer.record.served.ready(now) {
            Admission::At(at) if peer.asks() => Some(at),
            _ => None,
        };
        let goes_on = peer.long.as_ref().map(|_| now);
        let due = [reads_on, again, served, goes_on];
        due.into_iter().flatten().min()
    }

    /// Peers that there is something to ask for, since this was last called.
    pub(crate) fn touched(&mut self) -> impl Iterator<Item = PeerId> {
        self.fetches.touched()
    }

    /// Whether more of our own may be made, beside what is `coming` already: the peer that is ahead of all others has read most
    /// of what there is, and what it has not is no more than our share of the log. So a caller waits for the network, and no slow peer
    /// holds up the rest.
    pub(crate) fn has_room(&self, coming: usize) -> bool {
        let most = self.config.max_log_bytes / self.log.sources().max(4);
        let is_little = |unread: u64| {
            let unread = usize::try_from(unread).unwrap_or(usize::MAX);
            unread.saturating_add(coming) < most
        };
        let ahead = if self.peers.is_empty() {
            0
        } else {
            self.log.own_from(self.ahead)
        };
        is_little(ahead)
    }

    /// Whether some peer was sent all there is whole, or all were told of it so long ago that who wants it has come for it; and nobody
    /// has read so slowly that something was gone before, unless that is told and it has read all that there was then. Or whether all that is so
    /// of this one.
    pub(crate) fn is_taken(&self, by: Option<&PeerId>, now: Instant) -> bool {
        let is_meant = |(id, _): &(&PeerId, &Peer)| by.is_none_or(|by| by == *id);
        let meant = || self.peers.iter().filter(is_meant).map(|(_, peer)| peer);
        let lags = |peer: &Peer| peer.reader.is_before(&peer.catches_up_at);
        if self.overtaken.has_news() || meant().any(lags) {
            return false;
        }
        // Others are about as patient as this node.
        let more = self
            .fetches
            .patience(now)
            .saturating_sub(self.config.fetch_patience);
        let had_time = |at| at + comes_within(&self.config) + more <= now;
        let is_sent = meant().next().is_none() || meant().any(|peer| peer.pushes);
        let last = self.log.last_at();
        is_sent || last.is_none_or(had_time)
    }

    /// The next bytes for a peer whose stream has room: whole frames, about 64 KiB at most, or a longer item, or a piece of one. What a peer
    /// has asked for and is not in the log is looked up in the `pool`.
    pub(crate) fn next(
        &mut self,
        id: PeerId,
        pool: Option<&Mempool>,
        now: Instant,
    ) -> Option<Outgoing> {
        let long = self.peers.get_mut(&id).map(|peer| &mut peer.long);
        if let Some(rest) = long.and_then(Long::go_on) {
            return Some(rest);
        }
        let comes_within = comes_within(&self.config);
        let is_due = |batch: &Batch| batch.at + ANNOUNCE_DELAY <= now;
        self.graft(id, now);
        let links = self.peers.len();
        let peer = self.peers.get_mut(&id)?;
        if std::mem::take(&mut peer.tells_link) {
            let push = peer.pushes;
            return Some(Outgoing::from(Kind::Link(Link { push })));
        }
        if self.fetches.is_ready(&id) {
            let ids = self.fetches.take(id, now);
            if !ids.is_empty() {
                peer.owed.asked(&ids, now);
                let ids = wire::column(ids.into_iter());
                return Some(Outgoing::from(Kind::Fetch(Fetch { ids })));
            }
        }
        if peer.asks() && peer.record.served.ready(now) == Admission::Now {
            return Some(answer(peer, &self.log, pool, now));
        }
        if let Some(again) = &mut peer.again {
            if let Some(told) = announce(
                Columns::default(),
                peer.told_from,
                again,
                peer.place,
                &self.log,
                is_due,
            ) {
                return Some(told);
            }
            peer.again = peer.again.take().filter(|again| again.has_more(&self.log));
        }
        if peer.next_at > now {
            return None;
        }
        let missed = peer.reader.pass_over(&self.log);
        if missed > 0 && !peer.held_back {
            self.overtaken.note(id, missed, now);
            peer.catches_up_at = self.log.ends();
        }
        if !peer.pushes && pool.is_none() {
            // What it does not note it finds nowhere else, where no pools are compared: it is told more when it has come for this.
            if peer.told_since + comes_within <= now {
                (peer.untaken, peer.told_since) = (0, now);
            }
            if peer.untaken >= self.config.max_announced / 2 {
                peer.next_at = now + self.config.announce_interval;
                peer.held_back = true;
                return None;
            }
        }
        peer.held_back = false;
        let fetched = tell_fetched(peer, &self.log);
        let announces = self.config.announce_interval;
        let (out, next_at) = if !peer.pushes {
            let (reader, place) = (&mut peer.reader, peer.place);
            let told = announce(fetched, peer.told_from, reader, place, &self.log, is_due);
            peer.untaken += told.as_ref().map_or(0, |told| told.items);
            let next_at = if peer.is_attentive(now) {
                now + announces
            } else {
                let interval = quiet_interval(announces, links, random(&mut self.random));
                let is_crowded = interval > announces;
                let began = self.began.filter(|_| is_crowded);
                began.map_or(now + interval, |began| {
                    together(now + interval, began, announces)
                })
            };
            (told, next_at)
        } else {
            if !fetched.is_empty() {
                return Some(Outgoing::from(Kind::Announce(fetched.into())));
            }
            (push(peer, &self.log, now), now + self.config.push_interval)
        };
        self.ahead = self.ahead.max(peer.reader.own_items());
        // What is left after a full one waits for room, not for time.
        let full = self.log.batch_bytes();
        let size = |out: &Outgoing| out.bytes.len().max(out.payload);
        if out.as_ref().is_none_or(|out| size(out) < full) {
            peer.next_at = next_at;
        }
        out
    }
}

/// How soon a peer comes for what it was told of, if it does.
fn comes_within(config: &TreeConfig) -> Duration {
    config.announce_interval + config.fetch_patience + config.fetch_timeout
}

/// What is pushed so long after others announced it is late: by more than the way between two of them, so that slow links alone are not.
fn late_after(config: &TreeConfig) -> Duration {
    config.fetch_patience * 6
}

impl Part for Plumtree {
    fn joined(&mut self, peer: PeerId, _outbound: bool, now: Instant) -> Vec<Output> {
        self.connected(peer, now);
        Vec::new()
    }

    fn moved(&mut self, id: PeerId, _: bool, now: Instant) -> Vec<Output> {
        self.fetches.excuse(&id, now);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.long = None;
            (peer.tells_link, peer.agrees_anew) = (true, true);
            if peer.record.moves.admits(MOVE, now) {
                self.fetches.ask_again(&id);
                // What was fetched it was told of before its turn, which may be lost too.
                peer.told = peer.told_from;
                let until = peer.reader.marks();
                peer.again = Some(Reader::new(&peer.since, None, Some(until)));
            }
        }
        Vec::new()
    }

    fn gone(&mut self, peer: PeerId, now: Instant) -> Vec<Output> {
        self.disconnected(peer, now);
        self.attach(peer, now);
        Vec::new()
    }

    fn unheard(&mut self, peer: &PeerId, time: Duration, _: Instant) {
        self.fetches.unheard(peer, time);
    }

    fn on_time(&mut self, _: &Mempool, now: Instant) -> Vec<Output> {
        let silent = self.fetches.on_time(now).into_iter();
        let silent = silent.map(|peer| Output::Misdeed(peer, Misdeed::NoAnswer));
        let overtaken = self.overtaken.take(now).into_iter();
        let overtaken = overtaken.map(|(peer, batches)| Output::Overtaken(peer, batches));
        silent.chain(overtaken).collect()
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let deadlines = [self.fetches.next_deadline(), self.overtaken.next_deadline()];
        deadlines.into_iter().flatten().min()
    }
}
