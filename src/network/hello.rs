//! The hello: the first exchange of every connection, on `/selkie/hello/1`.
//!
//! It is the same for all networks, so that a stranger can be told why it is let go: each side says its network, its genesis and
//! the sizes that it takes ([`Limits`]), which must be the same in all nodes of a network, so that none takes another's
//! honest item for a crime. `docs/wire.md` is the page for implementers. Bounds: [`Hello::MAX`] bytes.

use bytes::Bytes;

use super::protocol::Quoted;
use crate::{config::ProtocolConfig, error::DecodeError};

/// Who is there: the first message of each side on `/selkie/hello/1`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Hello {
    /// The network's name.
    #[prost(string, tag = "1")]
    pub network_id: String,
    /// The hash of the chain's first block; empty where it has none.
    #[prost(bytes = "bytes", tag = "2")]
    pub genesis: Bytes,
    /// Why the other side is refused, or has to go, for a person. Empty: welcome.
    #[prost(string, tag = "3")]
    pub refusal: String,
    /// Left out: [`Limits::USUAL`].
    #[prost(message, optional, tag = "4")]
    pub limits: Option<Limits>,
    /// The version of sync that it speaks; 0: none.
    #[prost(uint32, tag = "5")]
    pub sync: u32,
    /// With a refusal: after how many seconds it is of use to come again; 0: nobody can say.
    #[prost(uint32, tag = "6")]
    pub wait: u32,
}

/// The largest of what nodes of a network send each other, in bytes. All have the same, so that none takes another's honest
/// item for a crime.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Limits {
    #[prost(uint64, tag = "1")]
    pub vote: u64,
    #[prost(uint64, tag = "2")]
    pub block: u64,
    #[prost(uint64, tag = "3")]
    pub transaction: u64,
    /// A direct message, its item included.
    #[prost(uint64, tag = "4")]
    pub message: u64,
}

impl Limits {
    /// Those of a hello that says none: the defaults of this version.
    pub(crate) const USUAL: Self = Self {
        vote: 64 << 10,
        block: 4 << 20,
        transaction: 4 << 20,
        message: (4 << 20) + 1024,
    };

    /// Those of a configuration.
    pub(crate) fn new(config: &ProtocolConfig) -> Self {
        let (items, messages) = (&config.propagation, &config.request_response_config);
        Self {
            vote: items.votes.max_item as u64,
            block: items.blocks.max_block_bytes as u64,
            transaction: items.transactions.max_item as u64,
            message: messages.max_message_size as u64,
        }
    }

    /// The first one that differs: its field, ours and theirs.
    fn difference(&self, theirs: &Self) -> Option<(&'static str, u64, u64)> {
        let fields = [
            (
                "protocol.propagation.votes.max_item",
                self.vote,
                theirs.vote,
            ),
            (
                "protocol.propagation.blocks.max_block_bytes",
                self.block,
                theirs.block,
            ),
            (
                "protocol.propagation.transactions.max_item",
                self.transaction,
                theirs.transaction,
            ),
            (
                "protocol.request_response_config.max_message_size",
                self.message,
                theirs.message,
            ),
        ];
        fields.into_iter().find(|(_, ours, theirs)| ours != theirs)
    }
}

impl Hello {
    /// The largest hello, in bytes.
    pub(crate) const MAX: usize = 1024;

    /// Why a peer that says `theirs` is a stranger to us; `None` if it is one of ours.
    pub(crate) fn objection(&self, theirs: &Self) -> Option<String> {
        if theirs.network_id != self.network_id {
            Some(format!(
                "this is network \"{}\", not \"{}\"; check chain.network_id in the config",
                self.network_id,
                Quoted(&theirs.network_id)
            ))
        } else if theirs.genesis != self.genesis {
            Some(format!(
                "network \"{}\" here begins with block {}, not {}; check chain.genesis in the config",
                self.network_id,
                hex::encode(&self.genesis),
                hex::encode(theirs.genesis.get(..32).unwrap_or(&theirs.genesis)),
            ))
        } else {
            let limits = |hello: &Self| hello.limits.unwrap_or(Limits::USUAL);
            let (field, ours, theirs) = limits(self).difference(&limits(theirs))?;
            Some(format!(
                "network \"{}\" here has a limit of {ours} bytes, not {theirs}; make {field} the same in all nodes",
                self.network_id,
            ))
        }
    }
}

/// Reads a hello as a node does; what a stranger is told, nothing where it is one of ours. For tools: fuzzing, analysers.
///
/// # Errors
/// [`DecodeError`] says what is wrong with it.
#[doc(hidden)]
pub fn check_hello(bytes: &[u8]) -> Result<String, DecodeError> {
    let theirs = <Hello as prost::Message>::decode(bytes)?;
    let ours = Hello {
        network_id: crate::ChainConfig::default().network_id,
        ..Hello::default()
    };
    Ok(ours.objection(&theirs).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::platform::test;

    proptest! {
        #[test]
        fn any_bytes_give_a_hello_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = check_hello(&bytes);
        }
    }

    #[test]
    fn a_stranger_is_told_why() {
        let ours = Hello {
            network_id: "a".into(),
            genesis: Bytes::from_static(&[1; 32]),
            ..Hello::default()
        };
        assert_eq!(ours.objection(&ours), None);
        let other_network = Hello {
            network_id: "b\n".into(),
            ..ours.clone()
        };
        let reason = ours.objection(&other_network).expect("another network");
        assert!(
            reason.contains("this is network \"a\", not \"b\u{fffd}\""),
            "{reason}"
        );
        let other_genesis = Hello {
            genesis: Bytes::from_static(&[2; 32]),
            ..ours.clone()
        };
        assert!(
            ours.objection(&other_genesis)
                .expect("another genesis")
                .contains("chain.genesis")
        );
    }

    #[test]
    fn limits_that_differ_are_named_and_those_left_out_are_the_defaults() {
        let hello = |limits| Hello {
            network_id: "a".into(),
            limits,
            ..Hello::default()
        };
        let config = ProtocolConfig::default();
        let usual = Limits::new(&config);
        assert_eq!(usual, Limits::USUAL, "the documented ones are the defaults");
        assert_eq!(hello(Some(usual)).objection(&hello(None)), None);
        let changes: [fn(&mut Limits); 4] = [
            |limits| limits.vote = 7,
            |limits| limits.block = 7,
            |limits| limits.transaction = 7,
            |limits| limits.message = 7,
        ];
        for (change, name) in changes.into_iter().zip([
            "votes.max_item",
            "max_block_bytes",
            "transactions.max_item",
            "max_message_size",
        ]) {
            let mut limits = usual;
            change(&mut limits);
            let reason = hello(Some(limits)).objection(&hello(None));
            let reason = reason.expect("they differ");
            assert!(
                reason.contains(name) && reason.contains("limit of 7"),
                "{reason}"
            );
        }
    }

    /// The vectors that implementers in other languages are given, made without this code.
    #[test]
    fn the_published_vectors_hold() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/wire.json")).expect("JSON");
        let field = |vector: &serde_json::Value, name: &str| {
            hex::decode(vector[name].as_str().expect("hex")).expect("hex")
        };
        for vector in vectors["hello"].as_array().expect("a list") {
            let hello = Hello {
                network_id: vector["network_id"].as_str().expect("a name").to_owned(),
                genesis: field(vector, "genesis").into(),
                refusal: vector["refusal"].as_str().expect("a sentence").to_owned(),
                limits: vector["limits"].is_object().then(|| {
                    let limit = |kind: &str| vector["limits"][kind].as_u64().expect("bytes");
                    Limits {
                        vote: limit("vote"),
                        block: limit("block"),
                        transaction: limit("transaction"),
                        message: limit("message"),
                    }
                }),
                sync: vector["sync"]
                    .as_u64()
                    .map_or(0, |sync| u32::try_from(sync).expect("small")),
                wait: 0,
            };
            let bytes = field(vector, "bytes");
            assert_eq!(hello.encode_to_vec(), bytes, "{}", vector["what"]);
            assert_eq!(Hello::decode(bytes.as_slice()).expect("a hello"), hello);
        }
    }
}
