//! What is wrong at the moment: all that lasts, of which several may hold for one node at once.
//!
//! What a node is to be like follows from all that holds then, and never from what began or ended last. So faults overlap and touch as
//! they like: a node that crashes from 2 to 5 s and from 4 to 8 s is there again at 8 s.

use std::{collections::BTreeSet, time::Duration};

use crate::{executor::Node, net};

type Nodes = BTreeSet<Node>;

/// Something that lasts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// No process runs there; without its disk it comes again with another key.
    Down { nodes: Nodes, loses_disk: bool },
    /// The host has no power.
    Off { nodes: Nodes, loses_disk: bool },
    /// What is sent to these hosts or by them is lost.
    Dark(Nodes),
    /// So many groups that don't reach each other.
    Parted(usize),
    /// From some nothing comes to others.
    Cut { from: Nodes, to: Nodes },
    /// What each poll takes.
    SlowCpu(Nodes, Duration),
    /// What each check takes.
    SlowApplication(Nodes, Duration),
    /// Another line.
    Line(Nodes, net::Line),
    /// They take no connections.
    NoInbound(Nodes),
    /// Their date is so many nanoseconds ahead.
    Skew(Nodes, i64),
}

impl Effect {
    /// Whom it is about, of so many nodes.
    pub(super) fn nodes(&self, count: usize) -> Nodes {
        match self {
            Self::Parted(_) => (0..count).collect(),
            Self::Cut { from: nodes, .. }
            | Self::Down { nodes, .. }
            | Self::Off { nodes, .. }
            | Self::Dark(nodes)
            | Self::SlowCpu(nodes, _)
            | Self::SlowApplication(nodes, _)
            | Self::Line(nodes, _)
            | Self::NoInbound(nodes)
            | Self::Skew(nodes, _) => nodes.clone(),
        }
    }

    /// What is told of a node when it begins, and when it ends.
    pub(super) fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Down { .. } => ("crashes", "may start again"),
            Self::Off { .. } => ("has no power any more", "has power again"),
            Self::Dark(_) => ("is in a black hole", "is out of the black hole"),
            Self::Parted(_) => ("is parted from others", "is not parted so any more"),
            Self::Cut { .. } => ("is not heard any more", "is heard again"),
            Self::SlowCpu(..) => ("is slow", "is fast again"),
            Self::SlowApplication(..) => ("checks slowly", "checks fast again"),
            Self::Line(..) => ("has another line", "has its line again"),
            Self::NoInbound(_) => ("takes no connections", "takes connections again"),
            Self::Skew(..) => ("has another date", "has its date again"),
        }
    }

    pub(super) fn loses_disk(&self) -> bool {
        match self {
            Self::Down { loses_disk, .. } | Self::Off { loses_disk, .. } => *loses_disk,
            _ => false,
        }
    }
}

/// All that holds, in the order in which it began, by its number.
#[derive(Debug, Default)]
pub(super) struct Effects(Vec<(usize, Effect)>);

impl Effects {
    pub(super) fn begin(&mut self, number: usize, effect: Effect) {
        self.0.push((number, effect));
    }

    pub(super) fn end(&mut self, number: usize) -> Option<Effect> {
        let place = self.0.iter().position(|(each, _)| *each == number)?;
        Some(self.0.remove(place).1)
    }

    fn all(&self) -> impl DoubleEndedIterator<Item = &Effect> {
        self.0.iter().map(|(_, effect)| effect)
    }

    pub(super) fn is_down(&self, node: Node) -> bool {
        let down =
            |effect: &Effect| matches!(effect, Effect::Down { nodes, .. } if nodes.contains(&node));
        self.is_off(node) || self.all().any(down)
    }

    pub(super) fn is_off(&self, node: Node) -> bool {
        self.all()
            .any(|effect| matches!(effect, Effect::Off { nodes, .. } if nodes.contains(&node)))
    }

    pub(super) fn is_dark(&self, node: Node) -> bool {
        self.all()
            .any(|effect| matches!(effect, Effect::Dark(nodes) if nodes.contains(&node)))
    }

    pub(super) fn is_cut(&self, one: Node, other: Node) -> bool {
        self.all().any(|effect| {
            matches!(effect, Effect::Cut { from, to } if from.contains(&one) && to.contains(&other))
        })
    }

    /// Two of so many nodes have one number where they are in one group of every partition.
    pub(super) fn group(&self, node: Node, count: usize) -> usize {
        self.all().fold(0, |group, effect| match effect {
            Effect::Parted(groups) => group * groups + node * groups / count,
            _ => group,
        })
    }

    /// The slowest that holds.
    pub(super) fn poll(&self, node: Node) -> Duration {
        let takes = self.all().filter_map(|effect| match effect {
            Effect::SlowCpu(nodes, poll) if nodes.contains(&node) => Some(*poll),
            _ => None,
        });
        takes.max().unwrap_or_default()
    }

    /// The slowest that holds.
    pub(super) fn check(&self, node: Node) -> Option<Duration> {
        let takes = self.all().filter_map(|effect| match effect {
            Effect::SlowApplication(nodes, check) if nodes.contains(&node) => Some(*check),
            _ => None,
        });
        takes.max()
    }

    /// That which began last.
    pub(super) fn line(&self, node: Node) -> Option<net::Line> {
        self.all().rev().find_map(|effect| match effect {
            Effect::Line(nodes, line) if nodes.contains(&node) => Some(*line),
            _ => None,
        })
    }

    pub(super) fn takes_inbound(&self, node: Node) -> bool {
        !self
            .all()
            .any(|effect| matches!(effect, Effect::NoInbound(nodes) if nodes.contains(&node)))
    }

    /// All jumps together.
    pub(super) fn skew(&self, node: Node) -> i64 {
        let jumps = self.all().filter_map(|effect| match effect {
            Effect::Skew(nodes, nanoseconds) if nodes.contains(&node) => Some(*nanoseconds),
            _ => None,
        });
        jumps.fold(0, i64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes<const N: usize>(nodes: [Node; N]) -> Nodes {
        nodes.into_iter().collect()
    }

    fn down<const N: usize>(which: [Node; N]) -> Effect {
        Effect::Down {
            nodes: nodes(which),
            loses_disk: false,
        }
    }

    /// All of these at once.
    fn holding<const N: usize>(all: [Effect; N]) -> Effects {
        let mut effects = Effects::default();
        for (number, effect) in all.into_iter().enumerate() {
            effects.begin(number, effect);
        }
        effects
    }

    #[test]
    fn what_overlaps_ends_with_the_last() {
        let mut effects = holding([down([1, 2]), down([2, 3])]);
        assert!((1..=3).all(|node| effects.is_down(node)) && !effects.is_down(0));
        effects.end(0);
        let is_down = [1, 2, 3].map(|node| effects.is_down(node));
        assert_eq!(is_down, [false, true, true]);
        effects.end(1);
        assert!(!effects.is_down(2) && effects.end(1).is_none());
        let cut = |from, to| Effect::Cut {
            from: nodes(from),
            to: nodes(to),
        };
        let mut effects = holding([cut([0, 1], [2, 3]), cut([1, 2], [3, 4])]);
        effects.end(0);
        assert!(effects.is_cut(1, 3) && !effects.is_cut(0, 3) && !effects.is_cut(3, 1));
    }

    #[test]
    fn a_host_without_power_runs_nothing_and_a_process_that_crashed_leaves_it_on() {
        let off = Effect::Off {
            nodes: nodes([1]),
            loses_disk: true,
        };
        let effects = holding([down([0, 1]), off]);
        assert_eq!([0, 1].map(|node| effects.is_off(node)), [false, true]);
        assert_eq!([0, 1].map(|node| effects.is_down(node)), [true, true]);
    }

    #[test]
    fn partitions_cross_each_other() {
        let mut effects = holding([Effect::Parted(2), Effect::Parted(3)]);
        let groups: BTreeSet<_> = (0..12).map(|node| effects.group(node, 12)).collect();
        // 0-3, 4-5, 6-7, 8-11.
        assert_eq!(groups.len(), 4);
        assert_eq!(effects.group(4, 12), effects.group(5, 12));
        assert_ne!(effects.group(5, 12), effects.group(6, 12));
        effects.end(0);
        assert_eq!(effects.group(5, 12), effects.group(6, 12));
        effects.end(1);
        assert_eq!(effects.group(0, 12), effects.group(11, 12));
    }

    #[test]
    fn of_degrees_the_worst_holds_of_lines_the_last_and_jumps_add_up() {
        let ms = Duration::from_millis;
        let line = |up| net::Line { up, down: 0 };
        let mut effects = holding([
            Effect::SlowCpu(nodes([0]), ms(3)),
            Effect::SlowCpu(nodes([0]), ms(1)),
            Effect::Line(nodes([0]), line(1)),
            Effect::Line(nodes([0]), line(2)),
            Effect::Skew(nodes([0]), 5),
            Effect::Skew(nodes([0]), -2),
            Effect::SlowApplication(nodes([0]), ms(9)),
        ]);
        assert_eq!((effects.poll(0), effects.check(0)), (ms(3), Some(ms(9))));
        assert_eq!((effects.line(0), effects.skew(0)), (Some(line(2)), 3));
        for number in [0, 3, 4, 6] {
            effects.end(number);
        }
        assert_eq!((effects.poll(0), effects.check(0)), (ms(1), None));
        assert_eq!((effects.line(0), effects.skew(0)), (Some(line(1)), -2));
        assert_eq!((effects.poll(1), effects.line(1)), (Duration::ZERO, None));
        assert!(effects.takes_inbound(0) && !effects.is_dark(0));
    }
}
