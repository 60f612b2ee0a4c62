//! Some of the nodes.

use std::fmt;

use selkie_sim_host::Random;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use crate::executor::Node;

/// Some of the nodes, as a scenario names them.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Nodes {
    /// `"all"`.
    #[default]
    All,
    /// `[0, 3]`.
    These(Vec<Node>),
    /// `"10%"`, at random, at least one.
    Part(f64),
}

impl Nodes {
    /// What is wrong with it for so many nodes.
    pub(super) fn fault(&self, nodes: usize) -> Option<String> {
        match self {
            Self::All | Self::Part(_) => None,
            Self::These(these) if these.is_empty() => Some("no node is named".to_owned()),
            Self::These(these) => these.iter().find(|node| **node >= nodes).map(|node| {
                format!(
                    "there is no node {node}; they are 0 to {}",
                    nodes.saturating_sub(1)
                )
            }),
        }
    }

    /// Which of so many, in order.
    pub fn choose(&self, nodes: usize, random: &mut Random) -> Vec<Node> {
        match self {
            Self::All => (0..nodes).collect(),
            Self::These(these) => these.clone(),
            Self::Part(part) => {
                let mut all: Vec<Node> = (0..nodes).collect();
                random.shuffle(&mut all);
                all.truncate(portion(nodes, *part).max(1));
                all.sort_unstable();
                all
            }
        }
    }
}

/// This part of so many, rounded.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of at most ten thousand nodes"
)]
pub(super) fn portion(nodes: usize, part: f64) -> usize {
    (nodes as f64 * part).round() as usize
}

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;

        impl<'de> Visitor<'de> for Named {
            type Value = Nodes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nodes: a list as [0, 3], a part as \"10%\", or \"all\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Nodes, E> {
                if text == "all" {
                    return Ok(Nodes::All);
                }
                let percent = text
                    .strip_suffix('%')
                    .and_then(|number| number.parse().ok());
                percent
                    .filter(|percent| *percent > 0.0 && *percent <= 100.0)
                    .map(|percent: f64| Nodes::Part(percent / 100.0))
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Nodes, A::Error> {
                let mut these = Vec::new();
                while let Some(node) = list.next_element()? {
                    these.push(node);
                }
                Ok(Nodes::These(these))
            }
        }

        deserializer.deserialize_any(Named)
    }
}
