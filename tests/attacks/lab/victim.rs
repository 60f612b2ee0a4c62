//! The node that is attacked: a node as the `selkie` command runs it, alone in its process, and its account of what happened.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Instant,
};

use bytes::Bytes;
use selkie::{
    Application, Checked, Config, Keypair, NetworkEvent, P2PNetworkManager, StateRequest,
    StateResponse, Transaction,
};
use serde::{Deserialize, Serialize};

use super::{child, find};

/// Entries that an account keeps of strangers, and of friends.
const MOST: usize = 200;

/// Where the victim listens.
const LISTEN: [&str; 4] = [
    "/ip4/127.0.0.1/tcp/0",
    "/ip4/127.0.0.1/tcp/0/ws",
    "/ip4/127.0.0.1/udp/0/quic-v1",
    "/ip4/127.0.0.1/udp/0/quic-v1/webtransport",
];

/// What happened to a peer, and how long after the start of the account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fate {
    pub peer: String,
    pub what: String,
    pub seconds: f64,
}

/// What the victim tells of its peers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    /// What became of peers that are none of the friends: the first few.
    pub strangers: Vec<Fate>,
    /// What was held against friends, or ended their connections.
    pub friends: Vec<Fate>,
    /// How many strangers were scored, let go and refused.
    pub scored: u64,
    pub gone: u64,
    pub refused: u64,
    /// Events that this account missed.
    pub missed: u64,
    pub peers: usize,
}

/// What a chain of the laboratory accepts: all, but transactions that begin with `bad`.
pub struct Chain;

impl Application for Chain {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        let data = &transaction.data;
        if data.starts_with(b"bad") {
            return Checked::reject(data, "it begins with bad");
        }
        Checked::opaque(data)
    }

    fn query(&self, request: &StateRequest) -> Option<StateResponse> {
        Some(StateResponse {
            height: 7,
            value: request.key.clone(),
            proof: Bytes::from(vec![7; 4096]),
        })
    }
}

pub fn play(attack: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut config = Config::default();
    config.network.listen_addresses = LISTEN.map(|text| text.parse().expect("an address")).into();
    (find(attack).configure)(&mut config);
    runtime.block_on(async {
        let node = P2PNetworkManager::with(config, Keypair::generate_ed25519(), Chain)
            .await
            .expect("the configuration is right");
        let mut events = node.subscribe_events();
        // A subscriber that never reads. Items in its bound are its user's to pay for; what else can be said is the peers'.
        let _unread = node.subscribe(|event| !matches!(event, NetworkEvent::ItemAccepted { .. }));
        node.start().await.expect("it listens");
        let account = Arc::new(Mutex::new((
            Account::default(),
            HashSet::new(),
            Instant::now(),
        )));
        let kept = Arc::clone(&account);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let mut kept = kept.lock().expect("no panic");
                let (account, friends, begin) = &mut *kept;
                account.missed += events.missed();
                account.note(&event, friends, begin.elapsed().as_secs_f64());
            }
        });
        child::say(&node.listeners());
        let answers = tokio::task::spawn_blocking(move || {
            for word in child::words() {
                let mut account = account.lock().expect("no panic");
                match word.split_once(' ') {
                    Some(("friend", id)) => drop(account.1.insert(id.to_owned())),
                    _ if word == "begin" => account.2 = Instant::now(),
                    _ => {
                        let mut told = account.0.clone();
                        told.peers = node.get_connected_peers().len();
                        child::say(&told);
                    }
                }
            }
        });
        let _ = answers.await;
    });
    std::process::exit(0);
}

impl Account {
    fn note(&mut self, event: &NetworkEvent, friends: &HashSet<String>, seconds: f64) {
        let (peer, what) = match event {
            NetworkEvent::PeerScored {
                peer_id,
                reason,
                score,
            } => (peer_id, format!("{score:.0}: {reason}")),
            NetworkEvent::PeerDisconnected { peer_id, reason } => {
                (peer_id, format!("let go: {reason}"))
            }
            NetworkEvent::PeerRefused {
                peer_id, reason, ..
            } => (peer_id, format!("refused: {reason}")),
            _ => return,
        };
        let peer = peer.to_string();
        let fates = if friends.contains(&peer) {
            &mut self.friends
        } else {
            match event {
                NetworkEvent::PeerScored { .. } => self.scored += 1,
                NetworkEvent::PeerDisconnected { .. } => self.gone += 1,
                _ => self.refused += 1,
            }
            &mut self.strangers
        };
        if fates.len() < MOST {
            fates.push(Fate {
                peer,
                what,
                seconds,
            });
        }
    }
}
