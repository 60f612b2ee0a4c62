//! How a running node is asked: a line of JSON to its control socket, a line of JSON back (docs/control.md).
//!
//! `selkie run` opens the socket beside its key, for the key's owner alone, as bitcoind's cookie, geth's `geth.ipc` and tailscaled's socket lie
//! beside what they belong to: so `selkie peers` finds the node without a word more, no port is open, and who may
//! read the key may ask. Where the key is a mounted secret it opens none unless it is told where. Objects have the names and fields that the npm
//! package gives to JavaScript.
//!
//! Bounds: a question has [`LONGEST`] bytes, [`MOST`] who ask are answered at once and further ones wait, and none is waited for longer than [`PATIENCE`].

#[cfg_attr(unix, path = "control/socket.rs")]
#[cfg_attr(not(unix), path = "control/elsewhere.rs")]
mod socket;
mod state;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use selkie::{
    P2PNetworkManager, PeerId, PeerInfo,
    chain::ledger::Address,
    peers::{Ban, Banned, Direction, KnownPeer},
    storage::AddressBookWriter,
    sync::SyncStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub(crate) use self::socket::{Control, HERE, Listener, may_be_at};
use self::state::Watched;
use crate::{output::milliseconds, settings::Chain};

/// The longest question, in bytes.
const LONGEST: usize = 4096;
/// Who is answered at once.
const MOST: usize = 16;
/// How long one who asks may be silent, and how long an answer may take either way.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a node may be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub(crate) enum Question {
    /// How it is.
    Status,
    /// Its figures.
    Metrics,
    /// How far its chain is.
    Sync,
    /// What has changed of these accounts of a ledger since the last such answer on this connection; at first all.
    State { keys: Vec<Address> },
    /// Who is connected.
    Peers,
    /// What a peer's score is, and of what it comes.
    Score { peer: PeerId },
    /// Whom it knows.
    Book,
    /// Whom it keeps out.
    Bans,
    /// To keep a peer or a network out, for so long or as long as is usual.
    Ban {
        #[serde(with = "who")]
        peer: Banned,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// To let it in again.
    Unban {
        #[serde(with = "who")]
        peer: Banned,
    },
    /// To keep a peer's place when it has to let peers go.
    Protect { peer: PeerId, tag: String },
    /// To do so no more for what the tag says.
    Unprotect { peer: PeerId, tag: String },
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Answer(Value),
    /// For a person.
    Error(String),
}

/// A node that is asked.
#[derive(Clone)]
pub(crate) struct Asked {
    node: P2PNetworkManager,
    chain: Chain,
    /// Where bans are kept.
    book: Option<AddressBookWriter>,
    since: Instant,
    /// Of those who watch the state.
    places: Arc<Semaphore>,
}

impl Asked {
    /// The node has just started.
    pub(crate) fn new(
        node: P2PNetworkManager,
        chain: Chain,
        book: Option<AddressBookWriter>,
    ) -> Self {
        let since = Instant::now();
        Self {
            node,
            chain,
            book,
            since,
            places: Arc::new(Semaphore::new(state::MOST)),
        }
    }

    /// Writes the bans down; whether they outlast the node.
    async fn keeps(&self) -> bool {
        match &self.book {
            Some(book) => book.write().await,
            None => false,
        }
    }

    /// The line that answers a line; `watched` is what who asks watches, at first nothing. Once it is `gone` nothing is waited for, but all that was asked is done.
    async fn reply(
        &self,
        line: &[u8],
        watched: &mut Option<Watched>,
        gone: impl Future<Output = ()>,
    ) -> Vec<u8> {
        let reply = match serde_json::from_slice(line) {
            Ok(question) => self.answer(question, watched, gone).await,
            Err(error) => Reply::Error(format!(
                "no question that this node knows: {error}; ask as in {{\"ask\":\"peers\"}}"
            )),
        };
        let mut line = json!(reply).to_string().into_bytes();
        line.push(b'\n');
        line
    }

    async fn answer(
        &self,
        question: Question,
        watched: &mut Option<Watched>,
        gone: impl Future<Output = ()>,
    ) -> Reply {
        Reply::Answer(match question {
            Question::Status => self.status(),
            Question::Metrics => json!({
                "type": "metrics",
                "connections": self.node.connection_metrics(),
                "messages": self.node.message_metrics(),
                "peers": self.node.peer_metrics(),
            }),
            Question::Sync => match self.node.sync_status() {
                Some(status) => sync(&status),
                None => {
                    return Reply::Error(
                        "this node keeps no chain that is synced; selkie run --chain ledger does, and says so in its first second".to_owned(),
                    );
                }
            },
            Question::State { keys } => {
                match Watched::of(watched, keys, &self.node, &self.places).await {
                    Ok(watched) => match watched.next(gone).await {
                        Ok(changed) => changed,
                        Err(problem) => return Reply::Error(problem),
                    },
                    Err(problem) => return Reply::Error(problem),
                }
            }
            Question::Peers => {
                let peers = self.node.get_connected_peers();
                json!({"type": "peers", "peers": peers.iter().map(peer).collect::<Vec<_>>()})
            }
            Question::Score { peer } => self.score(&peer),
            Question::Book => {
                let (peers, now) = (self.node.known_peers(), SystemTime::now());
                let peers: Vec<_> = peers.iter().map(|peer| known(peer, now)).collect();
                json!({"type": "book", "peers": peers})
            }
            Question::Bans => {
                let bans = self.node.bans();
                json!({"type": "bans", "bans": bans.iter().map(banned).collect::<Vec<_>>()})
            }
            Question::Ban {
                seconds: Some(0), ..
            } => {
                return Reply::Error(
                    "a ban for no time is none; unban lets a peer in again".to_owned(),
                );
            }
            Question::Ban { peer, seconds } => {
                let banned = self.node.ban(peer, seconds.map(Duration::from_secs)).await;
                if let Err(error) = banned {
                    return Reply::Error(error.to_string());
                }
                let bans = self.node.bans();
                let ban = bans.iter().find(|ban| ban.who == peer);
                let until = ban.and_then(|ban| ban.until).map(milliseconds);
                let kept = self.keeps().await;
                let mut answer = json!({"type": "ban", "until": until, "kept": kept});
                answer[named(&peer)] = json!(peer.to_string());
                answer
            }
            Question::Unban { peer } if self.node.unban(peer) => {
                let kept = self.keeps().await;
                let still = match &peer {
                    Banned::Peer(peer) => self.node.kept_out_by(peer),
                    Banned::Network(_) => Vec::new(),
                };
                let still: Vec<_> = still.iter().map(banned).collect();
                let mut answer = json!({"type": "unban", "kept": kept, "still": still});
                answer[named(&peer)] = json!(peer.to_string());
                answer
            }
            Question::Unban { peer } => {
                return Reply::Error(format!(
                    "{peer} is not banned for a while; `selkie bans` lists who is, and whom security.blacklist_config.peers \
                     names stays out"
                ));
            }
            Question::Protect { peer, tag } => {
                if let Err(error) = self.node.protect(peer, &tag) {
                    return Reply::Error(error.to_string());
                }
                json!({"type": "protect", "peerId": peer.to_string(), "tag": tag})
            }
            Question::Unprotect { peer, tag } => {
                let still = self.node.unprotect(&peer, &tag);
                json!({"type": "unprotect", "peerId": peer.to_string(), "tag": tag, "protected": still})
            }
        })
    }

    fn score(&self, peer: &PeerId) -> Value {
        let (score, deeds) = self.node.score(peer);
        let rules = &self.node.config.security.peer_scoring;
        let deeds = deeds.iter().map(|deed| {
            let (reason, price) = (deed.misdeed.reason(), deed.misdeed.price());
            json!({"reason": reason, "price": price, "count": deed.count})
        });
        let bans = self.node.kept_out_by(peer);
        json!({
            "type": "score",
            "peerId": peer.to_string(),
            "score": score,
            "deeds": deeds.collect::<Vec<_>>(),
            "disconnectAt": rules.disconnect_at,
            "banAt": rules.ban_at,
            "halfLifeSeconds": rules.half_life.as_secs(),
            "banned": !bans.is_empty(),
            "bannedBy": bans.iter().map(banned).collect::<Vec<_>>(),
        })
    }

    fn status(&self) -> Value {
        let node = &self.node;
        let (peers, book) = (node.get_connected_peers(), node.known_peers());
        let outbound = |peer: &&PeerInfo| peer.direction == Some(Direction::Outbound);
        let (outbound, reached) = (
            peers.iter().filter(outbound).count(),
            book.iter().filter(|peer| peer.reached).count(),
        );
        let listening = node
            .listeners()
            .into_iter()
            .map(|address| address.to_string());
        json!({
            "type": "status",
            "peerId": node.local_peer_id.to_string(),
            "network": self.chain.network(&node.config.chain),
            "upSeconds": self.since.elapsed().as_secs(),
            "listening": listening.collect::<Vec<_>>(),
            "peers": {
                "connected": peers.len(),
                "outbound": outbound,
                "most": node.config.network.max_peers,
            },
            "book": {"tried": reached, "new": book.len() - reached},
            "bans": node.bans().len(),
            "eclipseSigns": node.peer_metrics().eclipse_signs,
            "connections": node.connection_metrics(),
            "messages": node.message_metrics(),
            "sync": node.sync_status().as_ref().map(sync),
        })
    }
}

fn sync(status: &SyncStatus) -> Value {
    let snapshot = status.snapshot.as_ref().map(|progress| {
        json!({
            "height": progress.snapshot.height,
            "chunks": progress.chunks,
            "totalChunks": progress.snapshot.chunks(),
            "bytes": progress.bytes,
            "totalBytes": progress.snapshot.size,
            "rate": progress.rate,
            "etaSeconds": progress.eta().map(|eta| eta.as_secs_f64()),
            "sources": progress.sources,
        })
    });
    json!({
        "type": "sync",
        "phase": status.phase.name(),
        "height": status.tip.height,
        "base": status.base,
        "target": status.target,
        "rate": status.rate,
        "etaSeconds": status.eta().map(|eta| eta.as_secs_f64()),
        "peers": status.peers,
        "sources": status.sources,
        "snapshot": snapshot,
        "trouble": status.trouble,
    })
}

fn peer(peer: &PeerInfo) -> Value {
    let direction = peer.direction.map(|direction| match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    });
    json!({
        "peerId": peer.peer_id.to_string(),
        "addresses": texts(&peer.addresses),
        "agent": peer.agent,
        "transport": peer.transport(),
        "rttMs": peer.round_trip.map(|took| took.as_secs_f64() * 1e3),
        "selkie": peer.selkie,
        "direction": direction,
        "connectedAt": peer.connected_at.map(milliseconds),
        "reputation": peer.reputation,
    })
}

/// By which name an answer has it.
fn named(who: &Banned) -> &'static str {
    match who {
        Banned::Peer(_) => "peerId",
        Banned::Network(_) => "network",
    }
}

fn banned(ban: &Ban) -> Value {
    let mut shown = json!({"until": ban.until.map(milliseconds), "byUser": ban.by_user});
    shown[named(&ban.who)] = json!(ban.who.to_string());
    shown
}

/// Who is meant, as text.
mod who {
    use selkie::peers::Banned;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(who: &Banned, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(who)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Banned, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

fn known(peer: &KnownPeer, now: SystemTime) -> Value {
    json!({
        "peerId": peer.peer_id.to_string(),
        "addresses": texts(&peer.addresses),
        "network": peer.network.to_string(),
        "tried": peer.reached,
        "heardAt": now.checked_sub(peer.heard).map(milliseconds),
        "failures": peer.failures,
        "signed": peer.signed,
    })
}

fn texts(addresses: &[selkie::Multiaddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn questions_are_what_the_page_about_them_says() {
        let peer = PeerId::random();
        let ban = |seconds| Question::Ban {
            peer: peer.into(),
            seconds,
        };
        let network = Question::Unban {
            peer: "203.0.113.7/24".parse().expect("a network"),
        };
        let protect = Question::Protect {
            peer,
            tag: "a".to_owned(),
        };
        let rows = [
            (Question::Status, json!({"ask": "status"})),
            (Question::Metrics, json!({"ask": "metrics"})),
            (
                protect,
                json!({"ask": "protect", "peer": peer.to_string(), "tag": "a"}),
            ),
            (Question::Sync, json!({"ask": "sync"})),
            (Question::Peers, json!({"ask": "peers"})),
            (
                Question::State {
                    keys: vec![Address::new([7; 32])],
                },
                json!({"ask": "state", "keys": ["07".repeat(32)]}),
            ),
            (network, json!({"ask": "unban", "peer": "203.0.113.0/24"})),
            (ban(None), json!({"ask": "ban", "peer": peer.to_string()})),
            (
                ban(Some(9)),
                json!({"ask": "ban", "peer": peer.to_string(), "seconds": 9}),
            ),
        ];
        for (question, written) in rows {
            assert_eq!(json!(question), written);
            let read: Question = serde_json::from_value(written).expect("a question");
            assert_eq!(read, question);
        }
    }

    #[tokio::test]
    async fn what_is_no_question_is_answered_so() {
        let node = P2PNetworkManager::new(selkie::Config::default()).await;
        let asked = Asked::new(node.expect("the default is right"), Chain::Opaque, None);
        for wrong in [
            &b"\n"[..],
            b"nonsense\n",
            b"{\"ask\":\"money\"}\n",
            b"{\"ask\":\"ban\",\"peer\":\"nobody\"}\n",
            b"{\"ask\":\"unban\"}\n",
            b"\xff\n",
        ] {
            let line = asked.reply(wrong, &mut None, pending()).await;
            let reply: Reply = serde_json::from_slice(&line).expect("a reply");
            let Reply::Error(error) = reply else {
                panic!("an answer to {wrong:?}")
            };
            assert!(error.contains("{\"ask\":\"peers\"}"), "{error}");
        }
        let ban = json!({"ask": "ban", "peer": PeerId::random().to_string(), "seconds": 0});
        let told = asked
            .reply(ban.to_string().as_bytes(), &mut None, pending())
            .await;
        let told: Reply = serde_json::from_slice(&told).expect("a reply");
        assert!(matches!(told, Reply::Error(error) if error.contains("no time")));
        let status = asked
            .reply(b"{\"ask\":\"status\"}\n", &mut None, pending())
            .await;
        let reply: Reply = serde_json::from_slice(&status).expect("a reply");
        assert!(matches!(reply, Reply::Answer(answer) if answer["type"] == "status"));
    }
}
