//! The alarm: signs that all to whom this node speaks are one attacker's.
//!
//! Whom an eclipse has surrounded can't prove it, but some of what it sees is seldom seen otherwise (Heilman et al., "Eclipse Attacks on Bitcoin's Peer-to-Peer Network", 2015;
//! Bitcoin Core's check for a stale tip). Three signs:
//!
//! - **Few networks**: the peers that its address book chose, at least [`ENOUGH`], are in at most half as many networks, and in at least [`KNOWN`], and twice
//!   as many as those, are others with whom it has no connection now: it reached them once, or has dialled them in vain in the last ten minutes. The book gives no two of
//!   one network while there is another, so they do not answer. Whom the user chose counts for nothing, and no more does what strangers only told.
//! - **A stale tip**: no block for [`STALE`] times the chain's pace ([`crate::Application::block_interval`]). Where blocks are found by chance that happens in six of a
//!   million waits, once in three years of Bitcoin. Time without peers, or asleep, is not counted.
//! - **Lost anchors**: those that it had dialled before it restarted all fail, and others answer. Near ones and those of days ago do not count. It is a sign for [`ANCHORED`].
//!
//! Networks that are near, and peers behind relays, count for nothing, and a node that dialled nobody of the internet sees none of these signs: in a private network or on one host
//! all are in few places, and blocks may rest, by design. A sign is told once it has been there for [`HOLDS`], and taken back once it has been away
//! for [`AWAY`], so that it is told of each at most some eleven times an hour, however it comes and goes.
//!
//! A state machine without I/O. Bounds: three signs.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

use crate::platform::Instant;

/// Peers of fewer say nothing about networks.
pub const ENOUGH: usize = 4;
/// Networks whose peers it misses at least, if that is to say that there are others.
pub const KNOWN: usize = 8;
/// After how many times the pace the tip is stale.
pub const STALE: u32 = 12;
/// How long after a start lost anchors are a sign.
pub const ANCHORED: Duration = Duration::from_secs(3600);
/// How long a sign has to be there before it is told.
pub const HOLDS: Duration = Duration::from_secs(30);
/// How long it has to be away before it is taken back.
pub const AWAY: Duration = Duration::from_secs(300);
/// How often it is looked for signs.
const LOOK: Duration = Duration::from_secs(10);

/// Something that a node seldom sees, unless it is surrounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EclipseSign {
    /// The peers that it dialled are in few networks, and it knows of others.
    FewNetworks,
    /// No block has come for much longer than the chain takes.
    StaleTip,
    /// Those that it had dialled before it restarted all fail, and others answer.
    AnchorsLost,
}

impl EclipseSign {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::FewNetworks, Self::StaleTip, Self::AnchorsLost];

    /// Its name in JSON and JavaScript.
    pub fn name(self) -> &'static str {
        match self {
            Self::FewNetworks => "few-networks",
            Self::StaleTip => "stale-tip",
            Self::AnchorsLost => "anchors-lost",
        }
    }
}

impl fmt::Display for EclipseSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FewNetworks => {
                "the peers that it dialled are in few networks, though it knows of others"
            }
            Self::StaleTip => "no block has come for much longer than the chain takes",
            Self::AnchorsLost => {
                "none of its last peers answers after the restart, though others do"
            }
        })
    }
}

impl Serialize for EclipseSign {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What a node sees of the internet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Peers that it dialled there.
    pub dialled: usize,
    /// Those of them whom the user did not choose.
    pub chosen: usize,
    /// In how many networks these are.
    pub networks: usize,
    /// In how many there are others that it reached once, or has dialled in vain lately.
    pub missed: usize,
    /// Whether those that it had dialled before it restarted have all failed.
    pub anchors_lost: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Alarm {
    pace: Option<Duration>,
    began: Instant,
    /// How long it has waited for a block, with peers.
    waited: Duration,
    looked_at: Instant,
    look_at: Instant,
    signs: [Sign; EclipseSign::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct Sign {
    is_told: bool,
    /// Since when what is told is not what is seen.
    differs: Option<Instant>,
}

impl Alarm {
    /// `pace`: how long the chain takes from block to block, if that is known.
    pub fn new(pace: Option<Duration>, now: Instant) -> Self {
        Self {
            pace,
            began: now,
            waited: Duration::ZERO,
            looked_at: now,
            look_at: now,
            signs: Default::default(),
        }
    }

    /// A block came that is new.
    pub fn block(&mut self, now: Instant) {
        (self.waited, self.looked_at) = (Duration::ZERO, now);
    }

    /// The host slept: no block could come, and nothing be seen.
    pub fn slept(&mut self, time: Duration) {
        self.began += time;
        self.looked_at += time;
        let differs = self
            .signs
            .iter_mut()
            .filter_map(|sign| sign.differs.as_mut());
        differs.for_each(|since| *since += time);
    }

    /// Whether it is time to look.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.look_at
    }

    /// Looks for signs; those that are told of now, if they are others than before.
    pub fn look(&mut self, outlook: Outlook, now: Instant) -> Option<Vec<EclipseSign>> {
        self.look_at = now + LOOK;
        if outlook.dialled > 0 {
            self.waited += now.saturating_duration_since(self.looked_at);
        }
        self.looked_at = now;
        let mut changed = false;
        let seen = self.seen(outlook, now);
        for (sign, is_there) in self.signs.iter_mut().zip(seen) {
            changed |= sign.sees(is_there, now);
        }
        changed.then(|| self.signs())
    }

    /// The signs that are told of.
    pub fn signs(&self) -> Vec<EclipseSign> {
        let all = EclipseSign::ALL.into_iter().zip(&self.signs);
        let told = all.filter(|(_, sign)| sign.is_told);
        told.map(|(of, _)| of).collect()
    }

    /// Whether each sign is there now, in the order of [`EclipseSign::ALL`].
    fn seen(&self, outlook: Outlook, now: Instant) -> [bool; EclipseSign::ALL.len()] {
        let Outlook {
            dialled,
            chosen,
            networks,
            missed,
            anchors_lost,
        } = outlook;
        let are_few = chosen >= ENOUGH && networks * 2 <= chosen;
        let knows_others = missed >= KNOWN && missed >= networks * 2;
        let is_stale = self
            .pace
            .is_some_and(|pace| self.waited > pace.saturating_mul(STALE));
        let has_begun = now < self.began + ANCHORED;
        [
            are_few && knows_others,
            is_stale && dialled > 0,
            anchors_lost && has_begun && dialled > 0,
        ]
    }
}

impl Sign {
    /// Whether what is told of it changes.
    fn sees(&mut self, is_there: bool, now: Instant) -> bool {
        if is_there == self.is_told {
            self.differs = None;
            return false;
        }
        let since = *self.differs.get_or_insert(now);
        let patience = if is_there { HOLDS } else { AWAY };
        let changes = now.saturating_duration_since(since) >= patience;
        if changes {
            (self.is_told, self.differs) = (is_there, None);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{self, test};

    const WELL: Outlook = Outlook {
        dialled: 8,
        chosen: 8,
        networks: 8,
        missed: 100,
        anchors_lost: false,
    };
    const FEW: Outlook = Outlook {
        networks: 4,
        ..WELL
    };

    /// Looks each second for so long; what is told, and after how many seconds.
    fn looks(
        alarm: &mut Alarm,
        outlook: Outlook,
        from: Instant,
        seconds: u64,
    ) -> Vec<(u64, Vec<EclipseSign>)> {
        let mut told = Vec::new();
        for second in 0..=seconds {
            let now = from + Duration::from_secs(second);
            if alarm.is_due(now)
                && let Some(signs) = alarm.look(outlook, now)
            {
                told.push((second, signs));
            }
        }
        told
    }

    fn seconds(from: Instant, seconds: u64) -> Instant {
        from + Duration::from_secs(seconds)
    }

    #[test]
    fn few_networks_are_told_within_a_minute_and_taken_back_later() {
        let now = platform::now();
        let mut alarm = Alarm::new(None, now);
        assert!(looks(&mut alarm, WELL, now, 3600).is_empty());
        let lost = seconds(now, 3601);
        let told = looks(&mut alarm, FEW, lost, 3600);
        let [(after, signs)] = told.as_slice() else {
            panic!("{told:?}")
        };
        assert!(
            *after <= 60 && *signs == [EclipseSign::FewNetworks],
            "{told:?}"
        );
        let well = seconds(lost, 3601);
        let told = looks(&mut alarm, WELL, well, 3600);
        assert!(
            matches!(told.as_slice(), [(300..=320, signs)] if signs.is_empty()),
            "{told:?}"
        );
    }

    #[test]
    fn what_comes_and_goes_is_not_told_each_time() {
        let now = platform::now();
        let mut alarm = Alarm::new(None, now);
        let mut told = 0;
        // Each ten seconds the other way, and then each minute.
        for second in 0..7200 {
            let outlook = match second {
                0..3600 if second / 10 % 2 == 0 => FEW,
                3600.. if second / 60 % 2 == 0 => FEW,
                _ => WELL,
            };
            if alarm.is_due(seconds(now, second)) {
                let changed = alarm.look(outlook, seconds(now, second));
                told += usize::from(changed.is_some());
                assert!(second > 3600 || changed.is_none());
            }
        }
        assert_eq!(told, 1, "once, and not taken back while it comes again");
    }

    #[test]
    fn where_all_are_of_few_networks_by_design_nothing_is_told() {
        let now = platform::now();
        let outlooks = [
            // All near: nobody counts.
            Outlook::default(),
            // A few hosts of one provider, and nothing else is known.
            Outlook {
                networks: 1,
                missed: 1,
                ..WELL
            },
            Outlook {
                networks: 2,
                missed: 7,
                ..WELL
            },
            // The user chose them.
            Outlook { chosen: 3, ..FEW },
            // Too few peers to say anything.
            Outlook {
                chosen: 3,
                networks: 1,
                ..WELL
            },
            // Two of each network.
            Outlook {
                networks: 5,
                ..WELL
            },
        ];
        for outlook in outlooks {
            let mut alarm = Alarm::new(None, now);
            assert!(
                looks(&mut alarm, outlook, now, 600).is_empty(),
                "{outlook:?}"
            );
        }
        // Where nobody is of the internet blocks may rest.
        let mut alarm = Alarm::new(Some(Duration::from_secs(1)), now);
        assert!(looks(&mut alarm, Outlook::default(), now, 600).is_empty());
    }

    #[test]
    fn a_tip_is_stale_only_by_the_chains_own_pace() {
        let now = platform::now();
        let mut alarm = Alarm::new(Some(Duration::from_secs(10)), now);
        for minute in 0..60 {
            assert!(looks(&mut alarm, WELL, seconds(now, minute * 60), 59).is_empty());
            alarm.block(seconds(now, minute * 60 + 59));
        }
        let last = seconds(now, 3599);
        let told = looks(&mut alarm, WELL, last, 600);
        let stale = vec![EclipseSign::StaleTip];
        assert!(
            matches!(told.as_slice(), [(150..=175, signs)] if *signs == stale),
            "{told:?}"
        );
        alarm.block(seconds(last, 600));
        assert_eq!(alarm.signs(), stale, "it is not taken back at once");
        let mut slept = Alarm::new(Some(Duration::from_secs(10)), now);
        slept.slept(Duration::from_secs(86_400));
        assert!(looks(&mut slept, WELL, seconds(now, 86_400), 100).is_empty());
        let mut unknown = Alarm::new(None, now);
        assert!(looks(&mut unknown, WELL, now, 7200).is_empty());
        // A pace as long as can be is no panic.
        let mut endless = Alarm::new(Some(Duration::MAX), now);
        assert!(looks(&mut endless, WELL, now, 60).is_empty());
    }

    #[test]
    fn an_outage_or_a_sleep_is_no_time_in_which_blocks_could_come() {
        let now = platform::now();
        let mut alarm = Alarm::new(Some(Duration::from_secs(600)), now);
        assert!(looks(&mut alarm, WELL, now, 3600).is_empty());
        let lost = seconds(now, 3600);
        assert!(looks(&mut alarm, Outlook::default(), lost, 3 * 3600).is_empty());
        let back = seconds(lost, 3 * 3600);
        assert!(looks(&mut alarm, WELL, back, 3600 - 20).is_empty());
        let told = looks(&mut alarm, WELL, seconds(back, 3600), 60);
        assert!(
            told.len() == 1,
            "and the time before it is not forgotten: {told:?}"
        );
        // What was seen once before a sleep has not been there all night.
        let mut alarm = Alarm::new(None, now);
        assert_eq!(alarm.look(FEW, now), None);
        alarm.slept(Duration::from_secs(8 * 3600));
        let morning = seconds(now, 8 * 3600 + 2);
        assert_eq!(alarm.look(FEW, morning), None);
        assert_eq!(looks(&mut alarm, FEW, morning, 60).len(), 1);
    }

    #[test]
    fn lost_anchors_are_a_sign_for_an_hour() {
        let now = platform::now();
        let mut alarm = Alarm::new(None, now);
        let lost = Outlook {
            anchors_lost: true,
            ..WELL
        };
        let told = looks(&mut alarm, lost, now, 7200);
        let signs: Vec<_> = told.iter().map(|(_, signs)| signs.as_slice()).collect();
        assert_eq!(signs, [&[EclipseSign::AnchorsLost][..], &[]]);
        let offline = Outlook { dialled: 0, ..lost };
        let mut alarm = Alarm::new(None, now);
        assert!(looks(&mut alarm, offline, now, 3600).is_empty());
    }
}
