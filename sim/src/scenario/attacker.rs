//! Who means harm: nodes beside the others, which dial them, and whose behaviour is a script.

use std::{num::NonZeroUsize, time::Duration};

use serde::{Deserialize, Serialize};

use super::Nodes;
use crate::executor::Node;

/// Nodes of one kind that mean harm. They come in number after all others, which do not know them at the beginning.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attackers {
    /// How many.
    pub count: usize,
    /// What they do.
    pub does: Attack,
    /// Whom they dial. **Default:** all others.
    #[serde(default)]
    pub dials: Nodes,
    /// How many of these each of them, at random. **Default:** 8.
    #[serde(default = "links")]
    pub links: usize,
    /// In how many networks (IPv4 /16) their hosts are, in turn. **Default:** each in one of its own, as all others.
    pub networks: Option<NonZeroUsize>,
    /// When they start. **Default:** at the beginning.
    #[serde(default, with = "humantime_serde")]
    pub start: Duration,
    /// From when on they do it; they are as all others until then. **Default:** from the beginning.
    #[serde(default, with = "humantime_serde")]
    pub from: Duration,
}

fn links() -> usize {
    8
}

/// What somebody does who means harm.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Attack {
    /// Takes everything and passes nothing on.
    Withhold {},
    /// Passes nothing on that some nodes made.
    Censor {
        /// Which.
        whom: Vec<Node>,
    },
    /// Tells of all that it has and sends none of it. (In gossipsub: withholds.)
    Announce {},
    /// Sends coded chunks of blocks with a byte changed. (In gossipsub, which has none: withholds.)
    SpoilChunks {
        /// How often it starts anew by another name. **Default:** never.
        #[serde(default, with = "humantime_serde")]
        renames: Option<Duration>,
    },
    /// Reads, at most, so many bytes a second.
    ReadSlowly {
        /// How many.
        bytes_per_second: f64,
    },
    /// Starts anew again and again, by the same name.
    Reconnect {
        /// How often.
        #[serde(with = "humantime_serde")]
        every: Duration,
    },
    /// The same, by another name each time; and passes nothing on.
    Rename {
        /// How often.
        #[serde(with = "humantime_serde")]
        every: Duration,
    },
}

impl Attack {
    /// How often it starts anew.
    pub(crate) fn restarts_every(&self) -> Option<Duration> {
        match self {
            Self::Reconnect { every } | Self::Rename { every } => Some(*every),
            Self::SpoilChunks { renames } => *renames,
            _ => None,
        }
    }

    /// Whether it has another name whenever it starts anew.
    pub(crate) fn renames(&self) -> bool {
        matches!(self, Self::Rename { .. } | Self::SpoilChunks { .. })
    }
}

/// What nodes speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaks {
    /// Selkie.
    #[default]
    Selkie,
    /// Plain gossipsub, with libp2p's defaults ([`crate::baseline`]): to compare.
    Gossipsub,
}
