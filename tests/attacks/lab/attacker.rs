//! The attacker's process: one thread, so a core at most.

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol};
use serde::{Deserialize, Serialize};

use super::{
    child, find,
    link::{DIALS, ENDS, Link, Manners, REFUSALS, WRITTEN},
    victim::Fate,
};

/// How long an identity that was turned away waits before it comes again.
const PAUSE: Duration = Duration::from_millis(50);

/// Whom to attack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    pub addresses: Vec<Multiaddr>,
    /// A number for each run, so that nothing sent in one is known from another.
    pub salt: u64,
}

/// What an attacker tells of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Deeds {
    pub dials: u64,
    pub refusals: u64,
    pub ends: u64,
    pub written: u64,
    /// What honest nodes of its own had to suffer.
    pub suffered: Vec<Fate>,
}

/// What an attack knows.
#[derive(Clone)]
pub struct Ctx {
    order: Arc<Order>,
    pub identities: usize,
    pub suffered: Arc<Mutex<Vec<Fate>>>,
}

/// A way to the victim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Via {
    Tcp,
    WebSocket,
    Quic,
    WebTransport,
}

impl Ctx {
    pub fn address(&self, via: Via) -> Multiaddr {
        address(&self.order.addresses, via)
    }

    pub fn tcp(&self) -> Multiaddr {
        self.address(Via::Tcp)
    }

    /// The victim's port for TCP, WebSocket or UDP.
    pub fn port(&self, via: Via) -> u16 {
        let port = |part| match part {
            Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
            _ => None,
        };
        self.address(via).iter().find_map(port).expect("a port")
    }

    /// Bytes that no other run has.
    pub fn unique(&self, number: u64, length: usize) -> Vec<u8> {
        let mut state = self.order.salt ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            state = splitmix(state);
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Runs an attack from each identity at once: connects, says hello, attacks; turned away, it comes again.
    pub async fn siege<F, Fut>(&self, manners: Manners, attack: F)
    where
        F: Fn(Arc<Link>, Self, usize) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        self.storm(move |ctx, key, number| {
            let (manners, attack) = (manners.clone(), attack.clone());
            async move {
                let link = Arc::new(Link::join(&ctx.tcp(), &key, manners).await?);
                tokio::select! {
                    done = attack(Arc::clone(&link), ctx, number) => done,
                    () = link.ended() => Ok(()),
                }
            }
        })
        .await;
    }

    /// As [`Self::siege`], for who connects in a way of its own.
    pub async fn storm<F, Fut>(&self, attack: F)
    where
        F: Fn(Self, Keypair, usize) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        let mut identities = tokio::task::JoinSet::new();
        for number in 0..self.identities {
            let (ctx, attack, key) = (self.clone(), attack.clone(), Keypair::generate_ed25519());
            identities.spawn(async move {
                loop {
                    let _ = attack(ctx.clone(), key.clone(), number).await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        while identities.join_next().await.is_some() {}
    }
}

/// Where the victim is reached in a way.
pub fn address(addresses: &[Multiaddr], via: Via) -> Multiaddr {
    let is = |address: &&Multiaddr| {
        let text = address.to_string();
        let (ws, wt) = (text.contains("/ws"), text.contains("/webtransport"));
        match via {
            Via::Tcp => text.contains("/tcp/") && !ws,
            Via::WebSocket => ws,
            Via::Quic => text.contains("/udp/") && !wt,
            Via::WebTransport => wt,
        }
    };
    addresses.iter().find(is).expect("it listens there").clone()
}

pub fn play(attack: &str, order: Order) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let attack = find(attack);
    let ctx = Ctx {
        order: Arc::new(order),
        identities: attack.identities,
        suffered: Arc::default(),
    };
    let suffered = Arc::clone(&ctx.suffered);
    // Answers from a thread of its own: the attack does not stop for them.
    std::thread::spawn(move || {
        for _ in child::words() {
            child::say(&Deeds {
                dials: DIALS.load(Ordering::Relaxed),
                refusals: REFUSALS.load(Ordering::Relaxed),
                ends: ENDS.load(Ordering::Relaxed),
                written: WRITTEN.load(Ordering::Relaxed),
                suffered: suffered.lock().expect("no panic").clone(),
            });
        }
        std::process::exit(0);
    });
    runtime.block_on(async {
        (attack.run)(ctx).await;
        std::future::pending::<()>().await;
    });
}

pub fn splitmix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
