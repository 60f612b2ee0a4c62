//! A node with hundreds of peers that others bring everything: what it takes to tell them.

use super::{attack_tests::frame, *};
use crate::platform::test;

const CROWD: usize = 400;
const STEP: Duration = Duration::from_millis(10);

struct Crowd {
    tree: Plumtree,
    peers: Vec<PeerId>,
    now: Instant,
    published: u64,
}

impl Crowd {
    /// All of them came together, some time ago, and none is pushed anything.
    fn new() -> Self {
        let mut now = crate::platform::now();
        let config = TreeConfig {
            push_peers: 0,
            ..TreeConfig::default()
        };
        let mut tree = Plumtree::new(config, &[7; 16]);
        let peers: Vec<_> = (0..CROWD).map(|_| PeerId::random()).collect();
        peers.iter().for_each(|peer| tree.connected(*peer, now));
        for peer in &peers {
            let link = tree.next(*peer, None, now).expect("it is told so");
            assert_eq!(frame(&link.bytes), Kind::Link(Link { push: false }));
        }
        now += 2 * Duration::from_secs(2);
        Self {
            tree,
            peers,
            now,
            published: 0,
        }
    }

    /// The ids of which each peer is told, in frames, while 20 items come every [`STEP`].
    fn told(&mut self, steps: u32) -> Vec<Vec<Vec<ShortId>>> {
        let mut told = vec![Vec::new(); CROWD];
        for _ in 0..steps {
            for _ in 0..20 {
                self.publish();
            }
            for (peer, told) in self.peers.iter().zip(&mut told) {
                while let Some(out) = self.tree.next(*peer, None, self.now) {
                    match frame(&out.bytes) {
                        Kind::Announce(announce) => {
                            told.push(wire::ids(&announce.ids).expect("whole ids").collect());
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            self.now += STEP;
        }
        told
    }

    fn publish(&mut self) {
        self.published += 1;
        let data = Bytes::copy_from_slice(&self.published.to_le_bytes());
        let key = TransactionKey::of(&data);
        let item = Accepted { key, data, fee: 0 };
        self.tree.accepted(None, [item], self.now);
    }
}

#[test]
fn a_crowd_is_told_of_everything_and_seldom() {
    let mut crowd = Crowd::new();
    let told = crowd.told(400);
    let frames: usize = told.iter().map(Vec::len).sum();
    // Four seconds; each is told every second, or in three quarters of one.
    assert!(frames <= CROWD * 7, "{frames} frames");
    // All but what came in the last second.
    for told in told {
        assert!(told.concat().len() >= 20 * 299, "{}", told.concat().len());
    }
}

#[test]
fn who_fetches_is_told_at_once_again() {
    let mut crowd = Crowd::new();
    let told = crowd.told(100);
    let needy = crowd.peers[17];
    let id = told[17][0][0];
    let ids = wire::column(std::iter::once(id));
    assert_eq!(crowd.tree.on_fetch(needy, &Fetch { ids }, crowd.now), None);
    let answer = crowd.tree.next(needy, None, crowd.now).expect("it is here");
    assert_eq!(answer.items, 1);
    let told = crowd.told(100);
    assert!(
        told[17].len() >= 45,
        "{} frames in a second",
        told[17].len()
    );
    assert!(told[18].len() <= 2);
}

/// An item of so many bytes, of which the first ones are zeros and the rest can't be packed.
fn long_item(size: usize, zeros: usize) -> Accepted {
    let noise = (0_u64..).flat_map(|number| {
        TransactionKey::of(&number.to_le_bytes())
            .as_bytes()
            .to_vec()
    });
    let zeros = std::iter::repeat_n(0, zeros);
    let data: Bytes = zeros.chain(noise).take(size).collect();
    let key = TransactionKey::of(&data);
    Accepted { key, data, fee: 0 }
}

#[test]
fn a_crowd_that_fetches_one_long_item_and_reads_nothing_holds_little() {
    const SIZE: usize = 1_000_000;
    for zeros in [0, SIZE / 2] {
        let mut crowd = Crowd::new();
        let item = long_item(SIZE, zeros);
        crowd.tree.accepted(None, [item.clone()], crowd.now);
        let pool = Mempool::new(crate::propagation::pool::MempoolConfig::default(), &[1; 16]);
        let now = crowd.now;
        let mut held = 0;
        for peer in &crowd.peers {
            let ids = wire::column(std::iter::once(item.key.short()));
            assert_eq!(crowd.tree.on_fetch(*peer, &Fetch { ids }, now), None);
            let begins = crowd.tree.next(*peer, Some(&pool), now).expect("it asked");
            assert_eq!((begins.frames, begins.items), (0, 1));
            held += begins.bytes.len();
            let goes_on = crowd.tree.sends_at(peer, now);
            assert!(goes_on.is_some_and(|at| at <= now));
        }
        assert!(held < CROWD * (70 << 10), "{held}");
        // One of them reads on.
        let mut came = 0;
        while let Some(out) = crowd.tree.next(crowd.peers[0], Some(&pool), now) {
            came += out.bytes.len();
            if out.frames > 0 {
                break;
            }
        }
        assert_eq!(came, SIZE - (64 << 10));
    }
}

#[test]
fn a_long_item_that_many_are_pushed_is_encoded_once_whatever_goes_before_it() {
    const SIZE: usize = 1_000_000;
    const LINKS: usize = 100;
    let pool = Mempool::new(crate::propagation::pool::MempoolConfig::default(), &[1; 16]);
    // The long one follows in a batch of its own, or in that of the short one; which some have, or none.
    for (pause, knowing) in [
        (STEP, 0),
        (STEP, 50),
        (Duration::ZERO, 0),
        (Duration::ZERO, 50),
    ] {
        let mut now = crate::platform::now();
        let config = TreeConfig {
            push_peers: LINKS,
            ..TreeConfig::default()
        };
        let mut tree = Plumtree::new(config, &[7; 16]);
        let peers = [(); LINKS].map(|()| PeerId::random());
        peers.iter().for_each(|peer| tree.connected(*peer, now));
        let short = long_item(1000, 0);
        let mut columns = Columns::default();
        columns.push(short.key.short(), short.data.len(), 0);
        let announce = Announce::from(columns);
        tree.accepted(None, [short], now);
        for peer in &peers[..knowing] {
            tree.on_announce(*peer, &announce, |_, is_logged| is_logged, now);
        }
        now += pause;
        tree.accepted(None, [long_item(SIZE, SIZE / 2)], now);
        now += STEP;
        let mut held = HashMap::new();
        for peer in peers {
            let mut at = now;
            let mut items = 0;
            // Its link is full until then.
            for _ in 0..4 {
                while let Some(out) = tree.next(peer, Some(&pool), at) {
                    items += out.items;
                    held.insert(out.bytes.as_ptr(), out.bytes);
                }
                at += STEP;
            }
            assert!(items > 0 && tree.sends_at(&peer, at).is_none());
        }
        let held: usize = held.values().map(Bytes::len).sum();
        assert!(held < SIZE + 200_000, "{pause:?} {knowing}: {held}");
    }
}
