//! The connected peers, and how each stands with gossip.
//!
//! Bounds: as many as are connected; of each, the topics that libp2p's subscription filter lets pass.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use libp2p::{PeerId, core::ConnectedPoint, gossipsub::TopicHash, swarm::ConnectionId};
use tokio::sync::{Semaphore, watch};

use super::{
    ears::SMALL,
    handler::{Guest, Standing},
    reading::Reading,
};
use crate::{
    peers::Account,
    platform::{self, Instant},
};

/// How long a connected peer may take to tell its subscriptions, and who it is, before nobody waits for that.
const NEWCOMER: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Members {
    members: HashMap<PeerId, Member>,
    /// Who takes part in a topic.
    takers: HashMap<TopicHash, HashSet<PeerId>>,
    /// How many stand as plain.
    plain: usize,
}

/// A connected peer.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) connections: HashMap<ConnectionId, ConnectedPoint>,
    standing: watch::Sender<Standing>,
    since: Instant,
    /// Whether it has told subscriptions.
    told: bool,
    topics: HashSet<TopicHash>,
    /// Whether there may be something to say to it.
    pub(super) spoken_to: bool,
    /// Whether it is known to sign its messages.
    pub(super) signs: bool,
}

impl Member {
    fn new() -> Self {
        Self {
            connections: HashMap::new(),
            standing: watch::Sender::new(Standing::Stranger),
            since: platform::now(),
            told: false,
            topics: HashSet::new(),
            spoken_to: false,
            signs: false,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }
}

impl Members {
    pub(super) fn get(&self, peer: &PeerId) -> Option<&Member> {
        self.members.get(peer)
    }

    /// All that are connected.
    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.members.keys().copied().collect()
    }

    pub(super) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Member> {
        self.members.get_mut(peer)
    }

    /// A peer has a connection, or is about to. Each has room of its own: what was coming by one that is dead, unnoticed
    /// yet, holds up nothing on the next.
    pub(super) fn guest(
        &mut self,
        peer: PeerId,
        account: Account,
        reading: &Arc<Reading>,
    ) -> Guest {
        let member = self.members.entry(peer).or_insert_with(Member::new);
        member.spoken_to |= reading.has_joined();
        let kib = reading.longest.div_ceil(1024).max(SMALL / 1024);
        Guest {
            peer,
            account,
            reading: Arc::clone(reading),
            room: Arc::new(Semaphore::new(kib)),
            standing: member.standing.subscribe(),
        }
    }

    /// A peer is gone.
    pub(super) fn remove(&mut self, peer: &PeerId) {
        let Some(member) = self.members.remove(peer) else {
            return;
        };
        self.plain -= usize::from(member.standing() == Standing::Plain);
        for topic in &member.topics {
            untake(&mut self.takers, peer, topic);
        }
    }

    /// A peer is known to be one of ours, or plain libp2p, for which there are so many places. How it stands now, if it is
    /// connected, and whether it has come to that this moment.
    pub(super) fn admit(
        &mut self,
        peer: &PeerId,
        selkie: bool,
        max_plain: usize,
    ) -> Option<(Standing, bool)> {
        let full = self.plain >= max_plain;
        let before = self.members.get(peer)?.standing();
        let standing = match before {
            Standing::Deaf | Standing::Denied | Standing::Plain if !selkie => before,
            _ if selkie => Standing::Ours,
            _ if full => Standing::Denied,
            _ => Standing::Plain,
        };
        self.stand(peer, standing);
        Some((standing, standing != before))
    }

    /// A peer does not speak gossipsub.
    pub(super) fn never_hears(&mut self, peer: &PeerId) {
        if !self.is_denied(peer) {
            self.stand(peer, Standing::Deaf);
        }
    }

    fn stand(&mut self, peer: &PeerId, standing: Standing) {
        if let Some(member) = self.members.get(peer) {
            let before = member.standing.send_replace(standing);
            self.plain -= usize::from(before == Standing::Plain);
            self.plain += usize::from(standing == Standing::Plain);
        }
    }

    /// A peer takes part in a topic, or does no more.
    pub(super) fn takes(&mut self, peer: PeerId, topic: &TopicHash, takes_part: bool) {
        let Some(member) = self.members.get_mut(&peer) else {
            return;
        };
        member.told |= takes_part;
        if takes_part {
            member.topics.insert(topic.clone());
            self.takers.entry(topic.clone()).or_default().insert(peer);
        } else {
            member.topics.remove(topic);
            untake(&mut self.takers, &peer, topic);
        }
    }

    /// Whether a peer takes part in some topic, and is spoken to.
    pub(super) fn takes_part(&self, peer: &PeerId) -> bool {
        let member = self.members.get(peer);
        member.is_some_and(|member| !member.topics.is_empty()) && !self.is_denied(peer)
    }

    /// Who takes part in a topic, and is spoken to.
    pub(super) fn takers(&self, topic: &TopicHash) -> Vec<PeerId> {
        let takers = self.takers.get(topic).into_iter().flatten();
        takers
            .filter(|peer| !self.is_denied(peer))
            .copied()
            .collect()
    }

    pub(super) fn is_denied(&self, peer: &PeerId) -> bool {
        let denied = |member: &Member| member.standing() == Standing::Denied;
        self.members.get(peer).is_some_and(denied)
    }

    /// Whether nothing is known of a peer yet.
    pub(super) fn is_stranger(&self, peer: &PeerId) -> bool {
        let stranger = |member: &Member| member.standing() == Standing::Stranger;
        self.members.get(peer).is_some_and(stranger)
    }

    /// Whether a plain peer is spoken to.
    pub(super) fn hosts_plain(&self) -> bool {
        self.plain > 0
    }

    /// Whether a peer has connected so lately that its subscriptions, or who it is, may be on their way.
    pub(super) fn awaits_newcomers(&self, now: Instant) -> bool {
        let late = |member: &Member| {
            let fresh = now.saturating_duration_since(member.since) < NEWCOMER;
            let spoken_to = !matches!(member.standing(), Standing::Deaf | Standing::Denied);
            let known = member.told && member.standing() != Standing::Stranger;
            fresh && spoken_to && !known
        };
        self.members.values().any(late)
    }
}

fn untake(takers: &mut HashMap<TopicHash, HashSet<PeerId>>, peer: &PeerId, topic: &TopicHash) {
    if let Some(peers) = takers.get_mut(topic) {
        peers.remove(peer);
        if peers.is_empty() {
            takers.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::GossipsubConfig, platform::test};

    #[test]
    fn a_half_received_frame_holds_up_no_other_connection() {
        let reading = Arc::new(Reading::new(&GossipsubConfig::default()));
        let (mut members, peer) = (Members::default(), PeerId::random());
        let account = Account::Peer(peer);
        let old = members.guest(peer, account, &reading);
        let all = u32::try_from(old.room.available_permits()).expect("it is small");
        let _half = old.room.try_acquire_many(all).expect("it is free");
        let new = members.guest(peer, account, &reading);
        assert!(new.room.try_acquire_many(all).is_ok());
    }
}
