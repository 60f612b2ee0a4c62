//! Who knows whom at the beginning.

use std::collections::BTreeSet;

use selkie_sim_host::Random;
use serde::Deserialize;

use crate::executor::Node;

/// A graph of nodes; along each edge one of the two dials.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Topology {
    /// Each node has as many links as any other, at random.
    RandomRegular {
        /// How many.
        degree: usize,
    },
    /// Links to the nearest on a ring, some of which lead anywhere instead (Watts and Strogatz, 1998).
    SmallWorld {
        /// Links of a node at first.
        degree: usize,
        /// The part that leads elsewhere.
        rewired: f64,
    },
    /// All know the first node only, and dial it.
    Star {},
    /// Each knows the one before it.
    Line {},
    /// Random regular graphs that few links lead across.
    Islands {
        /// How many.
        islands: usize,
        /// Links of a node within its island.
        degree: usize,
        /// Links from each island to the next.
        links: usize,
    },
}

/// An edge, from who dials.
pub type Edge = (Node, Node);

impl Topology {
    /// What is wrong with it for so many nodes: the field, and why.
    pub fn fault(&self, nodes: usize) -> Option<(&'static str, String)> {
        let degree_fits = |degree: usize, nodes: usize| {
            (degree < 2 || degree >= nodes).then(|| {
                let why = format!(
                    "{degree} is not from 2 to {}, for {nodes} nodes",
                    nodes.saturating_sub(1)
                );
                ("degree", why)
            })
        };
        match *self {
            Self::Star {} | Self::Line {} => None,
            Self::RandomRegular { degree } => degree_fits(degree, nodes),
            Self::SmallWorld { degree, rewired } => degree_fits(degree, nodes).or_else(|| {
                (!(0.0..=1.0).contains(&rewired))
                    .then(|| ("rewired", format!("{rewired} is not from 0 to 1")))
            }),
            Self::Islands {
                islands,
                degree,
                links,
            } => {
                if islands < 2 || islands > nodes / 3 {
                    let why = format!(
                        "{islands} is not from 2 to {}, so that each has three nodes",
                        nodes / 3
                    );
                    return Some(("islands", why));
                }
                if links == 0 || links > nodes / islands {
                    let why = format!(
                        "{links} is not from 1 to {}: without links nothing gets from one island to the next",
                        nodes / islands
                    );
                    return Some(("links", why));
                }
                degree_fits(degree, nodes / islands)
            }
        }
    }

    /// Its edges, for so many nodes that fit it. All nodes are connected, by whatever way.
    pub fn edges(&self, nodes: usize, random: &mut Random) -> Vec<Edge> {
        let edges: Vec<Edge> = match *self {
            Self::RandomRegular { degree } => regular(0..nodes, degree, random),
            Self::SmallWorld { degree, rewired } => small_world(nodes, degree, rewired, random),
            Self::Star {} => return (1..nodes).map(|node| (node, 0)).collect(),
            Self::Line {} => (1..nodes).map(|node| (node, node - 1)).collect(),
            Self::Islands {
                islands,
                degree,
                links,
            } => archipelago(nodes, islands, degree, links, random),
        };
        let dialled_by_either = edges.into_iter().map(|(one, other)| {
            if random.below(2) == 0 {
                (one, other)
            } else {
                (other, one)
            }
        });
        dialled_by_either.collect()
    }
}

type Edges = BTreeSet<Edge>;

fn edge(one: Node, other: Node) -> Edge {
    (one.min(other), one.max(other))
}

/// Each linked with the nearest on a ring, and with the one opposite where the degree is odd.
fn ring(nodes: usize, degree: usize) -> Edges {
    let mut edges = Edges::new();
    for node in 0..nodes {
        for step in 1..=degree / 2 {
            edges.insert(edge(node, (node + step) % nodes));
        }
        if degree % 2 == 1 && node < nodes / 2 {
            edges.insert(edge(node, node + nodes / 2));
        }
    }
    edges
}

/// A ring whose edges have swapped ends often enough that nothing is left of it (a Markov chain over the regular graphs).
fn regular(range: std::ops::Range<Node>, degree: usize, random: &mut Random) -> Vec<Edge> {
    let (first, nodes) = (range.start, range.len());
    let mut edges: Vec<Edge> = ring(nodes, degree).into_iter().collect();
    let mut known: Edges = edges.iter().copied().collect();
    let mut rounds = 0;
    while rounds < 10 || !is_connected(nodes, &edges) {
        rounds += 1;
        for _ in 0..edges.len() {
            let (i, j) = (random.index(edges.len()), random.index(edges.len()));
            let ((a, b), (c, d)) = (edges[i], edges[j]);
            let (one, other) = if random.below(2) == 0 {
                (edge(a, c), edge(b, d))
            } else {
                (edge(a, d), edge(b, c))
            };
            let makes_a_loop = one.0 == one.1 || other.0 == other.1;
            if i == j
                || one == other
                || makes_a_loop
                || known.contains(&one)
                || known.contains(&other)
            {
                continue;
            }
            for gone in [edges[i], edges[j]] {
                known.remove(&gone);
            }
            known.extend([one, other]);
            (edges[i], edges[j]) = (one, other);
        }
    }
    edges
        .into_iter()
        .map(|(a, b)| (first + a, first + b))
        .collect()
}

fn small_world(nodes: usize, degree: usize, rewired: f64, random: &mut Random) -> Vec<Edge> {
    let around = ring(nodes, degree);
    loop {
        let mut edges = around.clone();
        for (one, other) in around.iter().copied() {
            if random.unit() >= rewired {
                continue;
            }
            let anywhere = edge(one, random.index(nodes));
            if anywhere.0 != anywhere.1 && edges.insert(anywhere) {
                edges.remove(&(one, other));
            }
        }
        let edges: Vec<Edge> = edges.into_iter().collect();
        if is_connected(nodes, &edges) {
            return edges;
        }
    }
}

fn archipelago(
    nodes: usize,
    islands: usize,
    degree: usize,
    links: usize,
    random: &mut Random,
) -> Vec<Edge> {
    let begin = |island: usize| island * nodes / islands;
    let mut edges: Edges = (0..islands)
        .flat_map(|island| regular(begin(island)..begin(island + 1), degree, random))
        .collect();
    // Two islands have one strait, not two.
    let straits = if islands == 2 { 1 } else { islands };
    for island in 0..straits {
        let next = (island + 1) % islands;
        let mut wanted = links;
        while wanted > 0 {
            let mut on =
                |island: usize| begin(island) + random.index(begin(island + 1) - begin(island));
            let link = edge(on(island), on(next));
            wanted -= usize::from(edges.insert(link));
        }
    }
    edges.into_iter().collect()
}

/// Whether so many nodes are connected, by whatever way.
pub(crate) fn is_connected(nodes: usize, edges: &[Edge]) -> bool {
    let mut neighbours = vec![Vec::new(); nodes];
    for (one, other) in edges {
        neighbours[*one].push(*other);
        neighbours[*other].push(*one);
    }
    let (mut reached, mut next) = (vec![false; nodes], vec![0]);
    reached[0] = true;
    let mut count = 1;
    while let Some(node) = next.pop() {
        for neighbour in &neighbours[node] {
            if !std::mem::replace(&mut reached[*neighbour], true) {
                count += 1;
                next.push(*neighbour);
            }
        }
    }
    count == nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn degrees(nodes: usize, edges: &[Edge]) -> Vec<usize> {
        let mut degrees = vec![0; nodes];
        for (one, other) in edges {
            assert_ne!(one, other);
            degrees[*one] += 1;
            degrees[*other] += 1;
        }
        degrees
    }

    #[test]
    fn a_regular_graph_is_regular_connected_and_of_its_seed() {
        for (nodes, degree) in [(20, 8), (20, 3), (9, 2), (300, 8)] {
            let topology = Topology::RandomRegular { degree };
            let edges = topology.edges(nodes, &mut Random::new(7));
            assert!(
                degrees(nodes, &edges).iter().all(|links| *links == degree),
                "{nodes} {degree}"
            );
            assert!(is_connected(nodes, &edges));
            let unique: Edges = edges.iter().map(|(a, b)| edge(*a, *b)).collect();
            assert_eq!(unique.len(), edges.len());
            assert_eq!(edges, topology.edges(nodes, &mut Random::new(7)));
            assert_ne!(edges, topology.edges(nodes, &mut Random::new(8)));
        }
    }

    #[test]
    fn the_others_are_what_they_are_called() {
        let mut random = Random::new(1);
        let star = Topology::Star {}.edges(5, &mut random);
        assert_eq!(star, [(1, 0), (2, 0), (3, 0), (4, 0)]);
        let line = Topology::Line {}.edges(4, &mut random);
        assert_eq!(degrees(4, &line), [1, 2, 2, 1]);
        let world = Topology::SmallWorld {
            degree: 4,
            rewired: 0.2,
        }
        .edges(40, &mut random);
        assert!(is_connected(40, &world) && world.len() == 80);
        let islands = Topology::Islands {
            islands: 3,
            degree: 4,
            links: 2,
        };
        let islands = islands.edges(30, &mut random);
        let across = islands.iter().filter(|(a, b)| a / 10 != b / 10).count();
        assert!(is_connected(30, &islands) && across == 6, "{across}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let fault = |topology: Topology, nodes| topology.fault(nodes).map(|(field, _)| field);
        assert_eq!(
            fault(Topology::RandomRegular { degree: 8 }, 8),
            Some("degree")
        );
        assert_eq!(fault(Topology::RandomRegular { degree: 8 }, 9), None);
        assert_eq!(
            fault(
                Topology::SmallWorld {
                    degree: 4,
                    rewired: -0.1
                },
                20
            ),
            Some("rewired")
        );
        let islands = |islands, degree, links| Topology::Islands {
            islands,
            degree,
            links,
        };
        assert_eq!(fault(islands(2, 4, 0), 20), Some("links"));
        assert_eq!(fault(islands(9, 2, 1), 20), Some("islands"));
        assert_eq!(fault(islands(2, 12, 1), 20), Some("degree"));
    }
}
