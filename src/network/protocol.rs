//! Messages between peers and their wire format.
//!
//! Two protocols of ours run over libp2p's request-response, beside gossipsub, whose topics carry
//! the bare bytes of an item so that any libp2p peer can join them:
//!
//! * `/selkie/hello/1`: the first exchange of every connection (`hello.rs`).
//! * `/selkie/<network-id>/message/1`: one [`NetworkMessage`] there, one answer back.
//!
//! Both frame a protobuf message by its length as an unsigned varint of at most 5 bytes. The length is checked
//! against a limit before anything is allocated. `docs/wire.md` is the page for implementers.

use std::fmt;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use prost::Message as _;

use super::exchange::{self, at_most};
pub use super::exchange::{MAX_ADDRESS_BYTES, MAX_EXCHANGE_BYTES};
pub use super::hello::check_hello;
use crate::peers::{AddressPolicy, PeerInfo};
use crate::{
    chain::{
        Block, Item, ItemKind, MAX_STATE_KEY, MAX_STATE_KEYS, MAX_STATE_ROOT, ProvenState,
        StateBatch, StateRequest, StateResponse, StateRoot, Transaction, Vote,
    },
    error::{DecodeError, ProtocolError},
    fields::Fields,
};

/// The most peers in one [`NetworkMessage::PeerExchange`].
pub const MAX_EXCHANGED_PEERS: usize = 64;
/// The most addresses that one peer may list.
pub const MAX_ADDRESSES_PER_PEER: usize = AddressPolicy::MAX_ADDRESSES;

/// What peers say to each other.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkMessage {
    /// Block propagation.
    Block(Block),
    /// Transaction broadcasting.
    Transaction(Transaction),
    /// Consensus participation.
    ConsensusVote(Vote),
    /// State synchronisation: answered by a [`StateResponse`].
    StateRequest(StateRequest),
    /// Many keys in one state, which is named by its root: answered by a [`ProvenState`], or not at all.
    StateBatch(StateBatch),
    /// Peer discovery: at most [`MAX_EXCHANGED_PEERS`] peers in [`MAX_EXCHANGE_BYTES`]; what is more is left out.
    PeerExchange(Vec<PeerInfo>),
}

impl NetworkMessage {
    /// The item that the message carries, if it is one of the three that gossip moves.
    pub fn into_item(self) -> Result<Item, Self> {
        match self {
            Self::Block(block) => Ok(Item::Block(block)),
            Self::Transaction(transaction) => Ok(Item::Transaction(transaction)),
            Self::ConsensusVote(vote) => Ok(Item::Vote(vote)),
            other => Err(other),
        }
    }

    /// The kind of the item that the message carries, and its bytes.
    pub(crate) fn item(&self) -> Option<(ItemKind, usize)> {
        match self {
            Self::Block(block) => Some((ItemKind::Block, block.data.len())),
            Self::Transaction(transaction) => Some((ItemKind::Transaction, transaction.data.len())),
            Self::ConsensusVote(vote) => Some((ItemKind::Vote, vote.data.len())),
            Self::StateRequest(_) | Self::StateBatch(_) | Self::PeerExchange(_) => None,
        }
    }

    /// Whether a peer would take its fields; what is left out of a message ([`Self::encode`]) and items are not looked at.
    ///
    /// # Errors
    /// [`ProtocolError::TooLarge`] and [`ProtocolError::Invalid`], which name the field.
    pub(crate) fn check_fields(&self) -> Result<(), ProtocolError> {
        let (keys, root) = match self {
            Self::StateRequest(request) => (std::slice::from_ref(&request.key), None),
            Self::StateBatch(batch) => (&batch.keys[..], Some(&batch.at.root)),
            _ => return Ok(()),
        };
        let invalid = |field, problem| Err(ProtocolError::Invalid { field, problem });
        if root.is_some_and(Bytes::is_empty) {
            return invalid("state_request.root", "a batch is of a state with a root");
        }
        if keys.is_empty() {
            return invalid("state_request.key", "a batch has a key at least");
        }
        let longest = keys.iter().map(Bytes::len).max().unwrap_or_default();
        let fits = |size, limit, field| match size > limit {
            true => Err(ProtocolError::TooLarge { size, limit, field }),
            false => Ok(()),
        };
        fits(longest, MAX_STATE_KEY, "state_request.key")?;
        let root = root.map(Bytes::len).unwrap_or_default();
        fits(root, MAX_STATE_ROOT, "state_request.root")?;
        fits(keys.len(), MAX_STATE_KEYS, "state_request.more")
    }

    /// The message's bytes on the wire, without the length in front.
    pub fn encode(&self) -> Vec<u8> {
        wire::NetworkMessage::from(self).encode_to_vec()
    }

    /// Reads a message that [`NetworkMessage::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes are no protobuf, hold no known kind, or break a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::read(bytes).map(|(message, _)| message)
    }

    /// Reads a message, and what an exchange says beside the peers that it names.
    pub(crate) fn read(bytes: &[u8]) -> Result<(Self, Telling), DecodeError> {
        exchange::check(bytes, exchange::IN_MESSAGE)?;
        few_more(bytes, REQUEST_IN_MESSAGE, KEYS_IN_REQUEST)?;
        let mut message = wire::NetworkMessage::decode(bytes)?;
        let mut telling = Telling::default();
        if let Some(wire::Kind::PeerExchange(exchange)) = &mut message.kind {
            telling.wants = exchange.wants;
            telling.records = exchange.take_records();
        }
        Ok((message.try_into()?, telling))
    }
}

/// What a node says of itself in an exchange, and asks: the same on the wire as one that names peers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Telling {
    /// Signed records; that of the sender, whoever else is in it.
    pub(crate) records: Vec<Bytes>,
    /// How many records of others are wanted in the answer.
    pub(crate) wants: u32,
}

impl Telling {
    /// As a message's bytes. `own`: whose record it is.
    pub(crate) fn encode(&self, own: &PeerId) -> Vec<u8> {
        let exchange = wire::PeerExchange::of(&self.records, &own.to_bytes(), self.wants);
        let kind = Some(wire::Kind::PeerExchange(exchange));
        wire::NetworkMessage { kind }.encode_to_vec()
    }
}

impl From<Item> for NetworkMessage {
    fn from(item: Item) -> Self {
        match item {
            Item::Block(block) => Self::Block(block),
            Item::Transaction(transaction) => Self::Transaction(transaction),
            Item::Vote(vote) => Self::ConsensusVote(vote),
        }
    }
}

/// What a peer tells of the chain's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// To a [`StateRequest`].
    One(StateResponse),
    /// To a [`StateBatch`], of the state that it named.
    Many(StateRoot, ProvenState),
}

/// Fields of docs/wire.md that may come many times.
const REQUEST_IN_MESSAGE: u32 = 4;
const KEYS_IN_REQUEST: u32 = 3;
const STATE_IN_ANSWER: u32 = 2;
const VALUES_IN_STATE: u32 = 4;

/// Counts the keys or values beside the first before they are decoded: two bytes on the wire are one of them.
///
/// # Errors
/// [`DecodeError::Field`] where there are too many.
fn few_more(message: &[u8], within: u32, more: u32) -> Result<(), DecodeError> {
    let within = Fields::of(message).tagged(within);
    let count = within.map(|state| Fields::of(state).tagged(more).count());
    at_most("more", count.sum(), MAX_STATE_KEYS - 1)
}

/// The answer to a [`NetworkMessage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Received and taken into the checking queue (not yet a verdict).
    Received,
    /// The state that was asked for.
    State(Told),
    /// Refused, with a sentence for a person.
    Refused(String),
    /// Records of peers that the other side has reached, as it was asked.
    Peers(Vec<Bytes>),
}

impl Answer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        wire::Answer::from(self).encode_to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        exchange::check(bytes, exchange::IN_ANSWER)?;
        few_more(bytes, STATE_IN_ANSWER, VALUES_IN_STATE)?;
        wire::Answer::decode(bytes)?.try_into()
    }
}

/// Reads an answer as a node does; the reason, where it is a refusal. For tools: fuzzing, analysers.
///
/// # Errors
/// [`DecodeError`] says what is wrong with it.
#[doc(hidden)]
pub fn check_answer(bytes: &[u8]) -> Result<String, DecodeError> {
    Ok(match Answer::decode(bytes)? {
        Answer::Refused(reason) => reason,
        Answer::Received | Answer::State(_) | Answer::Peers(_) => String::new(),
    })
}

/// A peer's words, made safe to print: at most 256 characters, none of them control characters.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(256) {
            write!(f, "{}", if c.is_control() { '\u{fffd}' } else { c })?;
        }
        Ok(())
    }
}

/// The gossipsub topic of a kind of item on a network.
pub(crate) fn topic(network_id: &str, kind: ItemKind) -> String {
    format!("/selkie/{network_id}/{kind}/1")
}

/// The protobuf messages, field for field as docs/wire.md has them.
mod wire {
    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct NetworkMessage {
        #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5")]
        pub kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        #[prost(bytes = "bytes", tag = "1")]
        Block(Bytes),
        #[prost(bytes = "bytes", tag = "2")]
        Transaction(Bytes),
        #[prost(bytes = "bytes", tag = "3")]
        Vote(Bytes),
        #[prost(message, tag = "4")]
        StateRequest(StateRequest),
        #[prost(message, tag = "5")]
        PeerExchange(PeerExchange),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct StateRequest {
        #[prost(bytes = "bytes", tag = "1")]
        pub key: Bytes,
        #[prost(uint64, optional, tag = "2")]
        pub height: Option<u64>,
        #[prost(bytes = "bytes", repeated, tag = "3")]
        pub more: Vec<Bytes>,
        #[prost(bytes = "bytes", tag = "4")]
        pub root: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PeerExchange {
        #[prost(message, repeated, tag = "1")]
        pub peers: Vec<Peer>,
        #[prost(uint32, tag = "2")]
        pub wants: u32,
    }

    impl PeerExchange {
        /// Records, each beside an id: older nodes read no peer without.
        pub fn of<'a>(records: impl IntoIterator<Item = &'a Bytes>, id: &[u8], wants: u32) -> Self {
            let peer = |record: &Bytes| Peer {
                peer_id: id.to_vec(),
                addresses: Vec::new(),
                record: record.clone(),
            };
            let peers = records.into_iter().map(peer).collect();
            Self { peers, wants }
        }

        /// The records in it, which are there no more.
        pub fn take_records(&mut self) -> Vec<Bytes> {
            let records = self
                .peers
                .iter_mut()
                .map(|peer| std::mem::take(&mut peer.record));
            records.filter(|record| !record.is_empty()).collect()
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Peer {
        #[prost(bytes = "vec", tag = "1")]
        pub peer_id: Vec<u8>,
        #[prost(bytes = "vec", repeated, tag = "2")]
        pub addresses: Vec<Vec<u8>>,
        #[prost(bytes = "bytes", tag = "3")]
        pub record: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Answer {
        #[prost(oneof = "AnswerKind", tags = "1, 2, 3, 4")]
        pub kind: Option<AnswerKind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum AnswerKind {
        #[prost(message, tag = "1")]
        Received(Received),
        #[prost(message, tag = "2")]
        State(StateResponse),
        #[prost(string, tag = "3")]
        Refused(String),
        #[prost(message, tag = "4")]
        Peers(PeerExchange),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Received {}

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct StateResponse {
        #[prost(uint64, tag = "1")]
        pub height: u64,
        #[prost(bytes = "bytes", tag = "2")]
        pub value: Bytes,
        #[prost(bytes = "bytes", tag = "3")]
        pub proof: Bytes,
        #[prost(bytes = "bytes", repeated, tag = "4")]
        pub more: Vec<Bytes>,
        #[prost(bytes = "bytes", tag = "5")]
        pub root: Bytes,
    }
}

/// The first of some, or nothing, and the others.
fn first_and_more(all: &[Bytes]) -> (Bytes, Vec<Bytes>) {
    match all.split_first() {
        Some((first, more)) => (first.clone(), more.to_vec()),
        None => Default::default(),
    }
}

fn together(first: Bytes, mut more: Vec<Bytes>) -> Vec<Bytes> {
    more.insert(0, first);
    more
}

impl From<&NetworkMessage> for wire::NetworkMessage {
    fn from(message: &NetworkMessage) -> Self {
        let kind = match message {
            NetworkMessage::Block(block) => wire::Kind::Block(block.data.clone()),
            NetworkMessage::Transaction(transaction) => {
                wire::Kind::Transaction(transaction.data.clone())
            }
            NetworkMessage::ConsensusVote(vote) => wire::Kind::Vote(vote.data.clone()),
            NetworkMessage::StateRequest(request) => wire::Kind::StateRequest(wire::StateRequest {
                key: request.key.clone(),
                height: request.height,
                more: Vec::new(),
                root: Bytes::new(),
            }),
            NetworkMessage::StateBatch(batch) => {
                let (key, more) = first_and_more(&batch.keys);
                wire::Kind::StateRequest(wire::StateRequest {
                    key,
                    height: Some(batch.at.height),
                    more,
                    root: batch.at.root.clone(),
                })
            }
            NetworkMessage::PeerExchange(peers) => {
                let mut room = MAX_EXCHANGE_BYTES;
                let peers = peers.iter().take(MAX_EXCHANGED_PEERS).map(wire::Peer::from);
                let mut fits = |peer: &wire::Peer| {
                    // A tag of one byte and a length of at most five are in front of it.
                    let left = room.checked_sub(peer.encoded_len() + 6);
                    left.map(|left| room = left).is_some()
                };
                let peers = peers.take_while(|peer| fits(peer)).collect();
                wire::Kind::PeerExchange(wire::PeerExchange { peers, wants: 0 })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl From<&PeerInfo> for wire::Peer {
    fn from(peer: &PeerInfo) -> Self {
        Self {
            peer_id: peer.peer_id.to_bytes(),
            addresses: peer
                .addresses
                .iter()
                .filter(|address| address.len() <= MAX_ADDRESS_BYTES)
                .take(MAX_ADDRESSES_PER_PEER)
                .map(Multiaddr::to_vec)
                .collect(),
            record: Bytes::new(),
        }
    }
}

impl TryFrom<wire::NetworkMessage> for NetworkMessage {
    type Error = DecodeError;

    fn try_from(message: wire::NetworkMessage) -> Result<Self, DecodeError> {
        Ok(match message.kind.ok_or(DecodeError::UnknownKind)? {
            wire::Kind::Block(data) => Self::Block(Block::new(data)),
            wire::Kind::Transaction(data) => Self::Transaction(Transaction::new(data)),
            wire::Kind::Vote(data) => Self::ConsensusVote(Vote::new(data)),
            wire::Kind::StateRequest(request) => {
                for key in std::iter::once(&request.key).chain(&request.more) {
                    at_most("state_request.key", key.len(), MAX_STATE_KEY)?;
                }
                let (root, height) = (request.root, request.height);
                at_most("state_request.root", root.len(), MAX_STATE_ROOT)?;
                match (root.is_empty(), height) {
                    (true, _) if request.more.is_empty() => Self::StateRequest(StateRequest {
                        key: request.key,
                        height,
                    }),
                    (false, Some(height)) => Self::StateBatch(StateBatch {
                        at: StateRoot { height, root },
                        keys: together(request.key, request.more),
                    }),
                    _ => {
                        let problem = "many keys are of one state: its root and its height";
                        return Err(DecodeError::field("state_request.root", problem));
                    }
                }
            }
            wire::Kind::PeerExchange(exchange) => {
                at_most(
                    "peer_exchange.peers",
                    exchange.peers.len(),
                    MAX_EXCHANGED_PEERS,
                )?;
                let peers = exchange.peers.into_iter().map(PeerInfo::try_from);
                Self::PeerExchange(peers.collect::<Result<_, _>>()?)
            }
        })
    }
}

impl TryFrom<wire::Peer> for PeerInfo {
    type Error = DecodeError;

    fn try_from(peer: wire::Peer) -> Result<Self, DecodeError> {
        at_most(
            "peer.addresses",
            peer.addresses.len(),
            MAX_ADDRESSES_PER_PEER,
        )?;
        let wrong = DecodeError::field;
        let peer_id = PeerId::from_bytes(&peer.peer_id)
            .map_err(|error| wrong("peer.peer_id", error.to_string()))?;
        let addresses = peer
            .addresses
            .into_iter()
            .map(Multiaddr::try_from)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong("peer.addresses", error.to_string()))?;
        Ok(PeerInfo {
            addresses,
            ..PeerInfo::new(peer_id)
        })
    }
}

impl From<&Answer> for wire::Answer {
    fn from(answer: &Answer) -> Self {
        let kind = match answer {
            Answer::Received => wire::AnswerKind::Received(wire::Received {}),
            Answer::State(Told::One(state)) => wire::AnswerKind::State(wire::StateResponse {
                height: state.height,
                value: state.value.clone(),
                proof: state.proof.clone(),
                more: Vec::new(),
                root: Bytes::new(),
            }),
            Answer::State(Told::Many(at, state)) => {
                let (value, more) = first_and_more(&state.values);
                wire::AnswerKind::State(wire::StateResponse {
                    height: at.height,
                    value,
                    proof: state.proof.clone(),
                    more,
                    root: at.root.clone(),
                })
            }
            Answer::Refused(reason) => wire::AnswerKind::Refused(reason.clone()),
            Answer::Peers(records) => {
                wire::AnswerKind::Peers(wire::PeerExchange::of(records, &[], 0))
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<wire::Answer> for Answer {
    type Error = DecodeError;

    fn try_from(answer: wire::Answer) -> Result<Self, DecodeError> {
        Ok(match answer.kind.ok_or(DecodeError::UnknownKind)? {
            wire::AnswerKind::Received(_) => Self::Received,
            wire::AnswerKind::State(state) => {
                let (height, root, proof) = (state.height, state.root, state.proof);
                at_most("state.root", root.len(), MAX_STATE_ROOT)?;
                Self::State(match root.is_empty() {
                    true => Told::One(StateResponse {
                        height,
                        value: state.value,
                        proof,
                    }),
                    false => Told::Many(
                        StateRoot { height, root },
                        ProvenState {
                            values: together(state.value, state.more),
                            proof,
                        },
                    ),
                })
            }
            wire::AnswerKind::Refused(reason) => Self::Refused(Quoted(&reason).to_string()),
            wire::AnswerKind::Peers(mut peers) => Self::Peers(peers.take_records()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn messages() -> impl Strategy<Value = NetworkMessage> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..2048).prop_map(Bytes::from);
        let key = proptest::collection::vec(any::<u8>(), 0..MAX_STATE_KEY).prop_map(Bytes::from);
        let short = |least| {
            proptest::collection::vec(any::<u8>(), least..=MAX_STATE_ROOT).prop_map(Bytes::from)
        };
        let keys = proptest::collection::vec(short(0), 1..=MAX_STATE_KEYS);
        let root = short(1);
        let peer = any::<u16>().prop_map(|port| PeerInfo {
            addresses: vec![
                format!("/ip4/127.0.0.1/tcp/{port}")
                    .parse()
                    .expect("an address"),
            ],
            ..PeerInfo::new(PeerId::random())
        });
        prop_oneof![
            bytes().prop_map(|data| NetworkMessage::Block(Block { data })),
            bytes().prop_map(|data| NetworkMessage::Transaction(Transaction { data })),
            bytes().prop_map(|data| NetworkMessage::ConsensusVote(Vote { data })),
            (key, any::<Option<u64>>()).prop_map(|(key, height)| {
                NetworkMessage::StateRequest(StateRequest { key, height })
            }),
            (any::<u64>(), root, keys).prop_map(|(height, root, keys)| {
                let at = StateRoot { height, root };
                NetworkMessage::StateBatch(StateBatch { at, keys })
            }),
            proptest::collection::vec(peer, 0..8).prop_map(NetworkMessage::PeerExchange),
        ]
    }

    proptest! {
        #[test]
        fn a_message_survives_the_wire(message in messages()) {
            prop_assert_eq!(NetworkMessage::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn any_bytes_give_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = NetworkMessage::decode(&bytes);
            let _ = Answer::decode(&bytes);
        }

        #[test]
        fn a_truncated_message_never_passes_as_whole(message in messages(), cut in any::<prop::sample::Index>()) {
            let bytes = message.encode();
            let cut = cut.index(bytes.len().max(1));
            prop_assert_ne!(NetworkMessage::decode(bytes.get(..cut).unwrap_or_default()), Ok(message));
        }
    }

    #[test]
    fn an_exchange_is_measured_before_it_is_decoded() {
        let message = |exchange: &[u8]| {
            let mut message = vec![0x2a];
            prost::encode_length_delimiter(exchange.len(), &mut message).expect("vectors grow");
            message.extend(exchange);
            message
        };
        // A million peers without a name, in two bytes each.
        let empty = NetworkMessage::decode(&message(&[0x0a, 0].repeat(1 << 20)));
        let error = empty.expect_err("too long").to_string();
        assert!(error.contains("over the limit of 65536"), "{error}");
        let pieces = message(&[0x0a, 0].repeat(40)).repeat(2);
        let error = NetworkMessage::decode(&pieces)
            .expect_err("80 peers")
            .to_string();
        assert!(error.contains("65 is over the limit of 64"), "{error}");
        let addresses = wire::Peer {
            peer_id: Vec::new(),
            addresses: vec![Vec::new(); MAX_ADDRESSES_PER_PEER + 1],
            record: Bytes::new(),
        };
        let peers = wire::PeerExchange {
            peers: vec![addresses],
            wants: 0,
        };
        let error = NetworkMessage::decode(&message(&peers.encode_to_vec())).expect_err("17");
        assert!(error.to_string().starts_with("field peer.addresses: 17 is"));
    }

    #[test]
    fn a_batch_goes_out_where_a_peer_takes_it_and_nowhere_else() {
        let goes = |root, keys: &[usize]| {
            let at = StateRoot {
                height: 1,
                root: vec![7; root].into(),
            };
            let keys = keys.iter().map(|length| vec![7; *length].into()).collect();
            let message = NetworkMessage::StateBatch(StateBatch { at, keys });
            let goes = message.check_fields().is_ok();
            let is_taken = NetworkMessage::decode(&message.encode()) == Ok(message);
            assert_eq!(goes, is_taken, "a root of {root} bytes");
            goes
        };
        assert!(goes(1, &[0]) && goes(MAX_STATE_ROOT, &[MAX_STATE_KEY; MAX_STATE_KEYS]));
        assert!(!goes(0, &[1]) && !goes(MAX_STATE_ROOT + 1, &[1]));
        assert!(!goes(1, &[]) && !goes(1, &[MAX_STATE_KEY + 1]));
        assert!(!goes(1, &[1; MAX_STATE_KEYS + 1]));
    }

    #[test]
    fn what_is_sent_keeps_to_the_limits_of_what_is_received() {
        let long = "/ip4/127.0.0.1/tcp/1/ws/http-path/".to_owned() + &"a".repeat(200);
        let peers: Vec<_> = (0..100)
            .map(|_| PeerInfo {
                addresses: vec![long.parse().expect("an address"); 30],
                ..PeerInfo::new(PeerId::random())
            })
            .collect();
        let encoded = NetworkMessage::PeerExchange(peers).encode();
        let decoded = NetworkMessage::decode(&encoded).expect("within the limits");
        let NetworkMessage::PeerExchange(peers) = decoded else {
            panic!("another kind");
        };
        assert!(peers.len() > 10 && peers[0].addresses.len() == MAX_ADDRESSES_PER_PEER);
    }

    #[test]
    fn many_keys_and_values_are_counted_before_they_are_decoded() {
        let message = |within: u32, more: u32, count| {
            let (within, more) = ((within << 3 | 2) as u8, (more << 3 | 2) as u8);
            let more = [more, 0].repeat(count);
            let mut message = vec![within];
            prost::encode_length_delimiter(more.len(), &mut message).expect("vectors grow");
            message.extend(more);
            message
        };
        let asked = message(REQUEST_IN_MESSAGE, KEYS_IN_REQUEST, 1 << 20);
        let error = NetworkMessage::decode(&asked).expect_err("a million");
        assert!(
            error.to_string().contains("over the limit of 63"),
            "{error}"
        );
        let told = message(STATE_IN_ANSWER, VALUES_IN_STATE, 1 << 20);
        let error = Answer::decode(&told).expect_err("a million");
        assert!(
            error.to_string().contains("over the limit of 63"),
            "{error}"
        );
        // In pieces, which protobuf puts together.
        let pieces = message(REQUEST_IN_MESSAGE, KEYS_IN_REQUEST, 40).repeat(2);
        NetworkMessage::decode(&pieces).expect_err("80");
        // Many keys, and no state that they are of.
        let stateless = message(REQUEST_IN_MESSAGE, KEYS_IN_REQUEST, 3);
        NetworkMessage::decode(&stateless).expect_err("no root");
    }

    #[test]
    fn limits_hold_before_use() {
        let too_many = wire::NetworkMessage {
            kind: Some(wire::Kind::PeerExchange(wire::PeerExchange {
                peers: vec![
                    wire::Peer::from(&PeerInfo::new(PeerId::random()));
                    MAX_EXCHANGED_PEERS + 1
                ],
                wants: 0,
            })),
        };
        let error = NetworkMessage::decode(&too_many.encode_to_vec()).expect_err("over the limit");
        assert_eq!(
            error.to_string(),
            "field peer_exchange.peers: 65 is over the limit of 64"
        );
        let long_key = NetworkMessage::StateRequest(StateRequest {
            key: Bytes::from(vec![0; MAX_STATE_KEY + 1]),
            height: None,
        });
        assert!(NetworkMessage::decode(&long_key.encode()).is_err());
    }

    /// The vectors that implementers in other languages are given, made without this code.
    #[test]
    fn the_published_vectors_hold() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/wire.json")).expect("JSON");
        let all = |section: &str| vectors[section].as_array().expect("a list").clone();
        let field = |vector: &serde_json::Value, name: &str| {
            hex::decode(vector[name].as_str().expect("hex")).expect("hex")
        };
        for vector in all("message") {
            let data = field(&vector, "data");
            let message = match vector["kind"].as_str().expect("a kind") {
                "block" => NetworkMessage::Block(Block::new(data)),
                "transaction" => NetworkMessage::Transaction(Transaction::new(data)),
                "vote" => NetworkMessage::ConsensusVote(Vote::new(data)),
                "state_batch" => NetworkMessage::StateBatch(StateBatch {
                    at: StateRoot {
                        height: vector["height"].as_u64().expect("a height"),
                        root: data.into(),
                    },
                    keys: vector["keys"]
                        .as_array()
                        .expect("a list")
                        .iter()
                        .map(|key| hex::decode(key.as_str().expect("hex")).expect("hex").into())
                        .collect(),
                }),
                "state_request" => NetworkMessage::StateRequest(StateRequest {
                    key: data.into(),
                    height: vector["height"].as_u64(),
                }),
                _ => NetworkMessage::PeerExchange(vec![PeerInfo {
                    addresses: vec![
                        vector["address"]
                            .as_str()
                            .expect("text")
                            .parse()
                            .expect("ok"),
                    ],
                    ..PeerInfo::new(PeerId::from_bytes(&data).expect("a peer id"))
                }]),
            };
            let bytes = field(&vector, "bytes");
            assert_eq!(message.encode(), bytes, "{}", vector["what"]);
            assert_eq!(NetworkMessage::decode(&bytes), Ok(message));
        }
        let answers = [
            Answer::Received,
            Answer::State(Told::One(StateResponse {
                height: 7,
                value: Bytes::from_static(b"v"),
                proof: Bytes::from_static(b"p"),
            })),
            Answer::Refused("no".to_owned()),
            Answer::State(Told::Many(
                StateRoot {
                    height: 7,
                    root: Bytes::from_static(b"r"),
                },
                ProvenState {
                    values: vec![Bytes::from_static(b"v"), Bytes::new()],
                    proof: Bytes::from_static(b"p"),
                },
            )),
        ];
        for (vector, answer) in all("answer").iter().zip(answers) {
            let bytes = field(vector, "bytes");
            assert_eq!(answer.encode(), bytes, "{}", vector["what"]);
            assert_eq!(Answer::decode(&bytes), Ok(answer));
        }
        for vector in all("invalid") {
            assert!(
                NetworkMessage::decode(&field(&vector, "bytes")).is_err(),
                "{}",
                vector["what"]
            );
        }
    }
}
