//! Places: how many distinct peers are connected, and whether one more may come.

use std::collections::HashMap;

use libp2p::PeerId;

/// Connections per peer, for at most `max_peers` peers of [`Places::CONNECTIONS_PER_PEER`] connections.
#[derive(Debug)]
pub struct Places {
    max_peers: usize,
    connections: HashMap<PeerId, usize>,
}

impl Places {
    /// Two: peers that dial each other at the same moment have two for a while.
    pub const CONNECTIONS_PER_PEER: usize = 2;

    /// No peers yet, room for `max_peers`.
    pub fn new(max_peers: usize) -> Self {
        Self {
            max_peers,
            connections: HashMap::new(),
        }
    }

    /// Whether one more connection to this peer fits; else why not.
    pub fn admits(&self, peer: &PeerId) -> Result<(), &'static str> {
        match self.connections.get(peer) {
            Some(&count) if count >= Self::CONNECTIONS_PER_PEER => {
                Err("this peer has its two connections already")
            }
            None if self.connections.len() >= self.max_peers => {
                Err("all places are taken (network.max_peers)")
            }
            _ => Ok(()),
        }
    }

    /// A connection was established.
    pub fn enter(&mut self, peer: PeerId) {
        *self.connections.entry(peer).or_default() += 1;
    }

    /// A connection ended.
    pub fn leave(&mut self, peer: &PeerId) {
        if let Some(count) = self.connections.get_mut(peer) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn peers_are_counted_not_connections() {
        let (a, b) = (PeerId::random(), PeerId::random());
        let mut places = Places::new(1);
        places.enter(a);
        assert!(
            places.admits(&a).is_ok(),
            "a second connection of the same peer"
        );
        assert!(places.admits(&b).is_err());
        places.enter(a);
        assert!(places.admits(&a).is_err());
        places.leave(&a);
        places.leave(&a);
        assert!(places.admits(&b).is_ok());
        places.leave(&b);
    }
}
