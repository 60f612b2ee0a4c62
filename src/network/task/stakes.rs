//! What stands behind peers: of whom the chain is asked, and when again.
//!
//! Each peer is asked about when it has come, and again every [`AGAIN`] as long as it is here: it may prove its stake later, or lose it. Who has waited longest is
//! first; so who comes while as many questions are open as there may be is asked about later, and those that come and go meanwhile keep nobody out.
//!
//! Bounds: an entry for each peer that is past the hello; `network.max_peers` questions at once.

use std::collections::BTreeSet;

use super::*;
use crate::chain::rules::run;

/// After so long it is asked again what stands behind a peer.
const AGAIN: Duration = Duration::from_secs(600);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Stakes {
    /// Those that are here, each when it is to be asked about; nothing: it is being asked.
    peers: HashMap<PeerId, Option<Instant>>,
    due: BTreeSet<(Instant, PeerId)>,
    pub(super) asked: FuturesUnordered<BoxFuture<'static, (PeerId, Option<u64>)>>,
}

impl Stakes {
    /// A peer has come.
    fn came(&mut self, peer: PeerId, now: Instant) {
        self.gone(&peer);
        self.waits(peer, now);
    }

    /// It is gone.
    pub(super) fn gone(&mut self, peer: &PeerId) {
        if let Some(Some(at)) = self.peers.remove(peer) {
            self.due.remove(&(at, *peer));
        }
    }

    /// Who is to be asked about now.
    fn next(&mut self, now: Instant) -> Option<PeerId> {
        let (_, peer) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.due.pop_first();
        self.peers.insert(peer, None);
        Some(peer)
    }

    /// It was asked about.
    fn answered(&mut self, peer: PeerId, now: Instant) {
        if let Some(None) = self.peers.get(&peer) {
            self.waits(peer, now + AGAIN);
        }
    }

    fn waits(&mut self, peer: PeerId, until: Instant) {
        self.peers.insert(peer, Some(until));
        self.due.insert((until, peer));
    }
}

impl Task {
    /// A peer is past the hello.
    pub(super) fn weigh(&mut self, peer: PeerId) {
        let now = platform::now();
        self.stakes.came(peer, now);
        self.ask_for_stakes(now);
    }

    /// The chain's answer; where there is none, what it last said stands.
    pub(super) fn on_stake(&mut self, peer: PeerId, stake: Option<u64>) {
        let now = platform::now();
        if let Some(stake) = stake {
            self.shared.peers().staked(&peer, stake);
        }
        self.stakes.answered(peer, now);
        self.ask_for_stakes(now);
    }

    /// Asks the chain what stands behind peers, as far as it is time for that and few questions are open.
    pub(super) fn ask_for_stakes(&mut self, now: Instant) {
        while self.stakes.asked.len() < self.config.network.max_peers
            && let Some(peer) = self.stakes.next(now)
        {
            let rules = Arc::clone(&self.shared.rules);
            let asked = async move { rules.stake_of(&peer).await };
            let stake = run(&*self.shared.rules, asked);
            let stake = stake.map(move |stake| (peer, stake.flatten()));
            self.stakes.asked.push(stake.boxed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn who_could_not_be_asked_about_at_once_is_later_and_all_are_again() {
        let (mut stakes, start) = (Stakes::default(), platform::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let [first, second, third] = [(); 3].map(|()| PeerId::random());
        for (peer, seconds) in [(first, 0), (second, 1), (third, 2)] {
            stakes.came(peer, at(seconds));
        }
        assert_eq!(stakes.next(at(2)), Some(first), "there is room for one");
        stakes.answered(first, at(9));
        // In the order in which they came, whoever comes meanwhile.
        stakes.came(PeerId::random(), at(9));
        stakes.gone(&third);
        assert_eq!(stakes.next(at(9)), Some(second));
        assert!(stakes.next(at(9)).is_some_and(|peer| peer != third));
        assert_eq!(stakes.next(at(9) + AGAIN / 2), None, "it is quiet");
        assert_eq!(stakes.next(at(9) + AGAIN), Some(first));
        assert_eq!(stakes.next(at(9) + AGAIN), None, "while it is asked about");
        // Whose answer comes when it is gone is not asked about.
        stakes.gone(&first);
        stakes.answered(first, at(10) + AGAIN);
        assert_eq!(stakes.next(at(10) + 3 * AGAIN), None);
    }
}
