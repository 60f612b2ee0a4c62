//! Who means harm in a run: whom it dials, and what it does when.

use std::time::Duration;

use selkie_sim_host::Random;

use super::{Run, chain::Mind, effects::Effect};
use crate::{
    executor::Node,
    net,
    scenario::{Attack, Attackers, Speaks},
    script::Script,
};

/// Between the end of a process and the start of the next.
const PAUSE: Duration = Duration::from_millis(1);

/// What one node does, and from when on.
#[derive(Clone, Debug)]
pub(super) struct Harm {
    does: Attack,
    start: Duration,
    from: Duration,
}

impl Harm {
    /// When it starts.
    pub(super) fn start(&self) -> Duration {
        self.start
    }

    /// What it holds of items.
    pub(super) fn mind(&self, speaks: Speaks) -> Mind {
        let withholds = |of| Mind::Withholds {
            from: self.from,
            of,
        };
        match &self.does {
            Attack::Withhold {} | Attack::Rename { .. } => withholds(None),
            Attack::Announce {} | Attack::SpoilChunks { .. } if speaks == Speaks::Gossipsub => {
                withholds(None)
            }
            Attack::Censor { whom } => withholds(Some(whom.clone())),
            _ => Mind::Honest,
        }
    }

    /// What becomes of what it would send.
    pub(super) fn script(&self) -> Option<Script> {
        let from = self.from;
        match self.does {
            Attack::Announce {} => Some(Script::Announce { from }),
            Attack::SpoilChunks { .. } => Some(Script::SpoilChunks { from }),
            _ => None,
        }
    }
}

impl Run {
    /// Whom all of them dial, and when what happens.
    pub(super) fn plan_attackers(&mut self, random: &mut Random) {
        let mut next = self.scenario.nodes;
        for attackers in self.scenario.attacker.clone() {
            for node in next..next + attackers.count {
                self.plan_attacker(node, &attackers, random);
            }
            next += attackers.count;
        }
    }

    fn plan_attacker(&mut self, node: Node, attackers: &Attackers, random: &mut Random) {
        let mut dials = attackers.dials.choose(self.scenario.nodes, random);
        random.shuffle(&mut dials);
        dials.truncate(attackers.links);
        self.edges
            .extend(dials.into_iter().map(|other| (node, other)));
        let (from, does) = (attackers.from, attackers.does.clone());
        let this = || [node].into();
        if let Attack::ReadSlowly { bytes_per_second } = does {
            let up = self.lines.get(node).map_or(0, |line| line.up);
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to be from 1 to a thousand million"
            )]
            let down = bytes_per_second as u64;
            let line = net::Line { up, down };
            self.deeds.lasts(from, None, Effect::Line(this(), line));
        }
        if let Some(every) = does.restarts_every() {
            let mut at = from.max(attackers.start) + every;
            while at < self.scenario.duration {
                let down = Effect::Down {
                    nodes: this(),
                    // By another name it is another.
                    loses_disk: does.renames(),
                };
                self.deeds.lasts(at, Some(at + PAUSE), down);
                at += every;
            }
        }
        let start = attackers.start;
        self.harm.insert(node, Harm { does, start, from });
    }
}
