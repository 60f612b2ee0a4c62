//! The configuration object that JavaScript hands over: the shape of the TOML file, and the chain's name.
//!
//! It is read as JSON, so that unknown fields are errors. Nearly every field has a default; that is how the place of a fault is
//! found: the first value that is wrong even where it stands alone. Where fields belong together (`all` and `per_peer`), or
//! an object has no place at all, it is the object that is wrong.

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IntoDeserializer, Visitor, value::MapDeserializer},
    forward_to_deserialize_any,
};
use serde_json::{Error, Map, Value};

use crate::{ChainConfig, Config, NetworkConfig, ProtocolConfig, SecurityConfig};

/// Everything a node is told. Each part has defaults.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    /// Addresses, peers and times.
    network: NetworkConfig,
    /// Which chain this is.
    chain: ChainOptions,
    /// How the protocols behave.
    protocol: ProtocolConfig,
    /// What peers may do.
    security: SecurityConfig,
}

/// Which chain this is: compared with each peer at first contact.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ChainOptions {
    /// The network's name: 1 to 64 of `a-z 0-9 . _ -`.
    network_id: String,
    /// Hash of the chain's first block, in hex, at most 64 bytes. **Default:** empty.
    #[serde(with = "hex::serde")]
    genesis: Vec<u8>,
    /// Whose rules check the items: `opaque`, `bitcoin`, or the name of a chain that the WebAssembly has registered. **Default:** `opaque`.
    application: String,
}

impl Options {
    /// Reads it.
    ///
    /// # Errors
    /// A sentence that begins with the place of what is wrong, as `network.listen_addresses[1]`.
    pub(super) fn read(json: &Value) -> Result<Self, String> {
        Self::deserialize(Named(json)).map_err(|error| {
            let alone = |value: Value| {
                Self::deserialize(Named(&value))
                    .err()
                    .map(|error| error.to_string())
            };
            first_wrong(json, "", &alone).unwrap_or_else(|| error.to_string())
        })
    }

    /// The node's configuration, and the name of the chain's application.
    pub(super) fn split(self) -> (Config, String) {
        let config = Config {
            network: self.network,
            chain: ChainConfig {
                network_id: self.chain.network_id,
                genesis: self.chain.genesis,
            },
            protocol: self.protocol,
            security: self.security,
        };
        (config, self.chain.application)
    }
}

/// JSON in which a section is an object and nothing else. serde_json would read one from a list of its fields too, which nobody
/// writes, and which takes as much code again for every section.
struct Named<'a>(&'a Value);

impl<'de> Deserializer<'de> for Named<'de> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Value::Object(fields) = self.0 else {
            return Err(Error::custom("give an object"));
        };
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_str(), Named(value)));
        visitor.visit_map(MapDeserializer::new(fields))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Named<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The first value in it for which `alone` has an error, with its path in front.
fn first_wrong(
    value: &Value,
    path: &str,
    alone: &dyn Fn(Value) -> Option<String>,
) -> Option<String> {
    match value {
        Value::Object(fields) if alone(Value::Object(Map::new())).is_none() => {
            fields.iter().find_map(|(name, inner)| {
                let dot = if path.is_empty() { "" } else { "." };
                first_wrong(inner, &format!("{path}{dot}{name}"), &|inner| {
                    let mut only = Map::new();
                    only.insert(name.clone(), inner);
                    alone(Value::Object(only))
                })
            })
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().find_map(|(place, inner)| {
                first_wrong(inner, &format!("{path}[{place}]"), &|inner| {
                    alone(Value::Array(vec![inner]))
                })
            })
        }
        leaf => {
            let error = alone(leaf.clone())?;
            Some(if path.is_empty() {
                error
            } else {
                format!("{path}: {error}")
            })
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        let Config {
            network,
            protocol,
            security,
            ..
        } = Config::default();
        Self {
            network,
            chain: ChainOptions::default(),
            protocol,
            security,
        }
    }
}

impl Default for ChainOptions {
    fn default() -> Self {
        let ChainConfig {
            network_id,
            genesis,
        } = ChainConfig::default();
        Self {
            network_id,
            genesis,
            application: "opaque".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::platform::test;

    fn complaint(json: Value) -> String {
        Options::read(&json).expect_err("wrong")
    }

    #[test]
    fn what_is_right_is_read_and_the_rest_has_defaults() {
        let json = json!({
            "network": { "max_peers": 7, "keepalive_interval": "20s" },
            "chain": { "genesis": "00ff", "application": "bitcoin" },
        });
        let (config, application) = Options::read(&json).expect("right").split();
        assert_eq!(
            (config.network.max_peers, application.as_str()),
            (7, "bitcoin")
        );
        assert_eq!(config.chain.genesis, [0, 255]);
        assert_eq!(config.security, SecurityConfig::default());
        let (config, _) = Options::read(&json!({})).expect("right").split();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn a_complaint_begins_with_the_place() {
        let unknown = complaint(json!({ "network": { "max_peers": 7, "max_pears": 7 } }));
        assert!(
            unknown.starts_with("network.max_pears: unknown field `max_pears`, expected one of")
                && unknown.contains("`max_peers`"),
            "{unknown}"
        );
        let addresses = ["/ip4/127.0.0.1/tcp/1", "nowhere"];
        let address = complaint(json!({ "network": { "listen_addresses": addresses } }));
        assert!(
            address.starts_with("network.listen_addresses[1]: "),
            "{address}"
        );
        assert_eq!(
            complaint(json!({ "network": { "max_peers": "many" } })),
            "network.max_peers: invalid type: string \"many\", expected usize"
        );
        for (wrong, place) in [
            (json!({ "chain": 5 }), "chain: "),
            (json!({ "chain": { "genesis": "xyz" } }), "chain.genesis: "),
            (
                json!({ "chain": { "network_id": null } }),
                "chain.network_id: ",
            ),
            (
                json!({ "protocol": { "gossipsub": { "none": {} } } }),
                "protocol.gossipsub: ",
            ),
            (
                json!({ "protocol": { "validation": { "votes": { "all": 5 } } } }),
                "protocol.validation.votes: missing field `per_peer`",
            ),
            (
                json!({ "protocol": { "validation": { "votes": { "all": 5, "per_peer": "x" } } } }),
                "protocol.validation.votes: invalid type: string \"x\"",
            ),
            (json!({ "netwrok": {} }), "netwrok: "),
            (json!("bitcoin"), "give an object"),
            (json!({ "chain": ["selkie-dev", "", "bitcoin"] }), "chain"),
        ] {
            let said = complaint(wrong);
            assert!(said.starts_with(place), "{said}");
        }
    }
}
