//! Addresses at less than public scope that somebody near told, by the host from which they were told.
//!
//! Names are free and addresses are not: where there are too many, one of the host that told most gives way, its eldest, however
//! many peers it is. So who tells without end forgets what it told itself. Bounds: as many as is said; a host that tells and a look are linear in hosts, and
//! of these there are no more than addresses.

use std::{collections::BTreeMap, net::IpAddr};

use libp2p::Multiaddr;

use crate::{keyed::Keyed, remembered::Remembered};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Told {
    /// Those of hosts; `None`: of all that have no IP address.
    by: BTreeMap<Option<IpAddr>, Remembered<Multiaddr>>,
    count: usize,
    most: usize,
    keyed: Keyed,
}

impl Told {
    /// At most so many, at least one.
    pub(super) fn new(most: usize, keyed: Keyed) -> Self {
        Self {
            by: BTreeMap::new(),
            count: 0,
            most: most.max(1),
            keyed,
        }
    }

    pub(super) fn contains(&self, address: &Multiaddr) -> bool {
        self.by.values().any(|told| told.contains(address))
    }

    /// Somebody at this host told of an address.
    pub(super) fn insert(&mut self, host: Option<IpAddr>, address: Multiaddr) {
        let (most, keyed) = (self.most, &self.keyed);
        let theirs = self.by.entry(host);
        // One more than there may be, so that it is here that one gives way.
        let theirs = theirs.or_insert_with(|| Remembered::new(most + 1, keyed.clone()));
        self.count += usize::from(theirs.insert(address));
        if self.count <= most {
            return;
        }
        let greatest = self.by.iter_mut().max_by_key(|(_, told)| told.len());
        if let Some((&host, told)) = greatest {
            told.forget_eldest();
            self.count -= 1;
            if told.len() == 0 {
                self.by.remove(&host);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let counts = self.by.values().map(Remembered::len);
        assert_eq!(counts.sum::<usize>(), self.count);
        self.count
    }
}
