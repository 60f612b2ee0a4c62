//! Fast sync in a node: what the two state machines want goes over the lanes, and to the chain as a [`Job`] for the owner to run elsewhere.
//!
//! `taking.rs` says when a state is looked for and what becomes of it, `giving.rs` what is made for others and kept. Here is what they share: who takes
//! part, what goes out, what comes in and whose it is. Bounds: [`MAX_OUTBOX`] messages of our own for a peer; [`SEEKS`].

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

use super::{
    HashedPiece, Message, Outcome, Progress, Reason, Refusal, SnapshotsConfig,
    giving::Giving,
    job::{Done, Job},
    taking::Taking,
    wire,
};
use crate::{
    chain::rules::Synced,
    lanes::{Action, Outgoing, Taken},
    peers::Misdeed,
    platform::Instant,
    sync::blocks::SyncPhase,
    traffic::{Pace, Rate},
};

/// How often the owner is told how far it is.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// Messages of our own that a peer has not read: twice what it may be asked and told not to send. Who brings about more answers what it never read.
const MAX_OUTBOX: usize = 256;
/// How often a peer may say that it looks for a snapshot, and what it has.
const SEEKS: Rate = Rate {
    per_second: 1,
    burst: 8,
};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Snapshots {
    /// Who said in its hello that it speaks this.
    speakers: HashSet<PeerId>,
    /// Those of them that take part.
    peers: BTreeMap<PeerId, Peer>,
    taking: Taking,
    giving: Giving,
    told_at: Option<Instant>,
    out: Out,
}

#[derive(Debug)]
struct Peer {
    seeks: Pace,
    offers: Pace,
}

/// What goes out: to peers, and to the owner.
#[derive(Debug, Default)]
pub(super) struct Out {
    actions: VecDeque<Action<Event>>,
    /// Messages of our own for those that take part.
    outboxes: BTreeMap<PeerId, VecDeque<Bytes>>,
    /// Who does not read them.
    deaf: Vec<PeerId>,
}

impl Out {
    pub(super) fn send(&mut self, to: PeerId, message: Message) {
        let Some(outbox) = self.outboxes.get_mut(&to) else {
            return;
        };
        outbox.push_back(message.into_frame());
        self.actions.push_back(Action::Feed(to));
        if outbox.len() == MAX_OUTBOX + 1 {
            self.deaf.push(to);
        }
    }

    /// The same to all.
    pub(super) fn send_all(&mut self, message: &Message) {
        let peers: Vec<_> = self.outboxes.keys().copied().collect();
        for peer in peers {
            self.send(peer, message.clone());
        }
    }

    pub(super) fn misdeed(&mut self, peer: PeerId, misdeed: Misdeed) {
        self.act(Action::Misdeed(peer, misdeed));
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.act(Action::Tell(event));
    }

    pub(super) fn act(&mut self, action: Action<Event>) {
        self.actions.push_back(action);
    }
}

/// What the network task hears of.
#[derive(Debug)]
pub(crate) enum Event {
    /// Work for the chain; [`Snapshots::done`] is called with what came of it.
    Work(Job),
    /// Whether blocks wait from now on.
    Holds(bool),
    /// How far it is.
    Progress(Progress),
    /// It is over.
    Ended(Outcome),
    /// The application has failed at this call.
    Failed(&'static str, String),
}

/// A message of a peer, with a piece's hashes, which are made where the connection is read.
#[derive(Debug)]
pub(crate) enum Heard {
    Piece(HashedPiece),
    Message(Message),
}

impl Heard {
    /// Reads a frame, its length already taken off.
    ///
    /// # Errors
    /// It is none; the sender pays.
    pub(crate) fn read(frame: Bytes) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(match Message::read(frame)? {
            Message::Piece(piece) => Self::Piece(HashedPiece::of(piece)),
            other => Self::Message(other),
        })
    }
}

impl Snapshots {
    /// `seed`: random, and this node's own.
    pub(crate) fn new(config: SnapshotsConfig, chain: &Synced, seed: u32) -> Self {
        let mut out = Out::default();
        Self {
            speakers: HashSet::new(),
            peers: BTreeMap::new(),
            giving: Giving::new(&config, chain, &mut out),
            taking: Taking::new(config, chain, seed, &mut out),
            told_at: None,
            out,
        }
    }

    /// A peer has said hello, with this version.
    pub(crate) fn greeted(&mut self, peer: PeerId, version: u32) {
        if version >= wire::VERSION {
            self.speakers.insert(peer);
        } else {
            self.speakers.remove(&peer);
        }
    }

    /// A peer's last connection is gone.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.speakers.remove(peer);
    }

    /// The chain is at this height.
    pub(crate) fn chain_is_at(&mut self, height: u64, phase: SyncPhase, now: Instant) {
        self.giving.chain_is_at(height, phase, &mut self.out, now);
        self.taking.chain_is_at(height, phase, &mut self.out, now);
        self.drive(now);
    }

    /// A peer says that it is at this height.
    pub(crate) fn heard_of(&mut self, height: u64, now: Instant) {
        self.taking.heard_of(height, &mut self.out, now);
    }

    pub(crate) fn joined(&mut self, peer: PeerId) {
        if !self.speakers.contains(&peer) {
            return;
        }
        let known = Peer {
            seeks: Pace::new(SEEKS),
            offers: Pace::new(SEEKS),
        };
        self.peers.insert(peer, known);
        self.out.outboxes.insert(peer, VecDeque::new());
        self.taking.joined(peer, &mut self.out);
    }

    /// What was under way may be lost: it is all said and asked anew.
    pub(crate) fn moved(&mut self, peer: PeerId, now: Instant) {
        let Some(outbox) = self.out.outboxes.get_mut(&peer) else {
            return;
        };
        outbox.clear();
        self.giving.serving.moved(&peer);
        self.taking.gone(&peer, now);
        self.taking.joined(peer, &mut self.out);
        self.drive(now);
    }

    /// What a peer sends was not read here for so long: it was not silent.
    pub(crate) fn unheard(&mut self, peer: &PeerId, time: Duration, now: Instant) {
        self.taking.unheard(peer, time, now);
    }

    pub(crate) fn gone(&mut self, peer: PeerId, now: Instant) {
        self.forgo(peer, now);
        self.drive(now);
    }

    fn forgo(&mut self, peer: PeerId, now: Instant) {
        self.peers.remove(&peer);
        self.out.outboxes.remove(&peer);
        self.giving.serving.gone(&peer);
        self.taking.gone(&peer, now);
    }

    /// A frame of a peer. What has come is bounded by what was asked for, so its lane is read on at once.
    pub(crate) fn frame(&mut self, from: PeerId, heard: Heard, took: Taken, now: Instant) {
        self.hear(from, heard, now);
        self.out.act(Action::Done(from, took));
        self.drive(now);
    }

    fn hear(&mut self, from: PeerId, heard: Heard, now: Instant) {
        let (out, serving) = (&mut self.out, &mut self.giving.serving);
        let Some(peer) = self.peers.get_mut(&from) else {
            // It speaks before it was greeted.
            return out.misdeed(from, Misdeed::InvalidMessage);
        };
        match heard {
            Heard::Message(Message::Seek) if peer.seeks.admits(1, now) => serving.joined(from),
            Heard::Message(Message::Seek) => out.misdeed(from, Misdeed::TooManyMessages),
            Heard::Message(Message::Offers(_)) if !peer.offers.admits(1, now) => {
                out.misdeed(from, Misdeed::TooManyMessages);
            }
            Heard::Message(Message::Request(request)) => {
                // That it looks for one was forgotten with streams of ours that broke, of which it knows nothing.
                if !serving.knows(&from) {
                    serving.joined(from);
                }
                if serving.knows(&from) {
                    serving.request(from, request, now);
                } else {
                    let refusal = Refusal {
                        number: request.number,
                        reason: Reason::Gone,
                    };
                    out.send(from, Message::Refusal(refusal));
                }
            }
            Heard::Message(Message::Cancel(number)) => serving.cancel(from, number),
            other => self.taking.hear(from, other, now),
        }
    }

    /// What came of a job.
    pub(crate) fn done(&mut self, done: Done, now: Instant) {
        let out = &mut self.out;
        match done {
            Done::Listed(_) | Done::Made(..) | Done::Forgotten(_) | Done::Loaded(..) => {
                self.giving.done(done, out, now);
            }
            done => self.taking.done(done, out, now),
        }
        self.drive(now);
    }

    /// Does what the two state machines want.
    fn drive(&mut self, now: Instant) {
        self.taking.drive(&mut self.out, now);
        self.giving.drive(&mut self.out);
        while let Some(deaf) = self.out.deaf.pop() {
            self.out.misdeed(deaf, Misdeed::InvalidMessage);
            self.forgo(deaf, now);
        }
    }

    /// The next frame for a peer whose lane has so much room.
    pub(crate) fn next(&mut self, to: PeerId, room: usize, now: Instant) -> Option<Outgoing> {
        let outbox = self.out.outboxes.get_mut(&to)?;
        if let Some(frame) = outbox.pop_front() {
            return Some(Outgoing::one(frame));
        }
        let message = self.giving.serving.next(&to, room, now)?;
        self.drive(now);
        Some(Outgoing::one(message.into_frame()))
    }

    /// When there is something for a peer.
    pub(crate) fn next_at(&self, to: &PeerId, now: Instant) -> Option<Instant> {
        let outbox = self.out.outboxes.get(to);
        let has_own = outbox.is_some_and(|outbox| !outbox.is_empty());
        (has_own || self.giving.serving.has_next(to)).then_some(now)
    }

    pub(crate) fn action(&mut self) -> Option<Action<Event>> {
        self.out.actions.pop_front()
    }

    pub(crate) fn on_time(&mut self, now: Instant) {
        self.taking.on_time(&mut self.out, now);
        self.giving.on_time(&mut self.out, now);
        self.drive(now);
        self.tell_progress(now);
    }

    fn tell_progress(&mut self, now: Instant) {
        let is_early = self.told_at.is_some_and(|at| now < at + TELL_EVERY);
        let progress = self.taking.progress(now).filter(|_| !is_early);
        if let Some(progress) = progress {
            self.told_at = Some(now);
            self.out.tell(Event::Progress(progress));
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.taking.next_deadline(), self.giving.next_deadline()];
        deadlines.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn who_answers_what_it_has_not_read_is_asked_no_more() {
        let mut core = Snapshots::new(SnapshotsConfig::default(), &Synced::default(), 1);
        let (peer, now) = (PeerId::random(), crate::platform::now());
        core.greeted(peer, wire::VERSION);
        core.joined(peer);
        for number in 0..1000 {
            core.out.send(peer, Message::Cancel(number));
        }
        core.drive(now);
        let misdeeds = core.out.actions.iter();
        let misdeeds = misdeeds.filter(|it| matches!(it, Action::Misdeed(..)));
        assert_eq!(misdeeds.count(), 1);
        assert!(!core.peers.contains_key(&peer), "nothing waits for it");
    }
}
