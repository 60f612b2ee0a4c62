//! The configuration object that JavaScript hands over: the shape of the TOML file, and the chain's name.
//!
//! It is read with care: unknown fields are errors. Nearly every field has a default; that is how the place of a fault is
//! found: the first value that is wrong even where it stands alone. Where fields belong together (`all` and `per_peer`), or
//! an object has no place at all, it is the object that is wrong.

use std::{error, fmt};

use js_sys::{Array, Object};
use serde::{
    Deserialize, Deserializer,
    de::{
        Error as _, Expected, IntoDeserializer, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use wasm_bindgen::{JsCast, JsValue};

use super::convert;
use crate::{ChainConfig, Config, NetworkConfig, ProtocolConfig, SecurityConfig, platform};

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
    /// Whose rules check the items: `opaque`, `bitcoin`, `ledger`, `ledger-light`, or the name of a chain that the WebAssembly has registered. **Default:** `opaque`.
    application: String,
}

impl Options {
    /// Reads it from a value such as `JSON.parse` makes.
    ///
    /// # Errors
    /// A sentence that begins with the place of what is wrong, as `network.listen_addresses[1]`.
    pub(super) fn read(json: &JsValue) -> Result<Self, String> {
        Self::deserialize(Json(json.clone())).map_err(|error| {
            let alone = |value: JsValue| {
                Self::deserialize(Json(value))
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

/// A value such as `JSON.parse` makes, read where it is: with serde_json it would be written out and parsed once more, by another 2% of
/// the package. A section is an object and nothing else; from a list of its fields, which nobody writes, it would take as
/// much code again.
struct Json(JsValue);

/// What is wrong with it.
#[derive(Debug)]
struct Error(String);

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self(problem.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = found(&unexpected);
        Self(format!("invalid type: {found}, expected {expected}"))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = found(&unexpected);
        Self(format!("invalid value: {found}, expected {expected}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for Error {}

/// In serde's words, except that JavaScript writes the numbers that have a fraction.
fn found(value: &Unexpected<'_>) -> String {
    match value {
        Unexpected::Bool(truth) => format!("boolean `{truth}`"),
        Unexpected::Unsigned(number) => format!("integer `{number}`"),
        Unexpected::Signed(number) => format!("integer `{number}`"),
        Unexpected::Float(number) => format!("floating point `{}`", platform::digits(*number)),
        Unexpected::Str(text) => format!("string {text:?}"),
        Unexpected::Seq => "sequence".to_owned(),
        Unexpected::Map => "map".to_owned(),
        Unexpected::Other(other) => (*other).to_owned(),
        _ => "something else".to_owned(),
    }
}

/// What it is.
enum Kind {
    Null,
    Truth(bool),
    Natural(u64),
    Negative(i64),
    Number(f64),
    Text(String),
    List(Array),
    Fields(Vec<(String, Json)>),
}

impl Json {
    fn kind(self) -> Kind {
        let value = self.0;
        if let Some(truth) = value.as_bool() {
            Kind::Truth(truth)
        } else if let Some(number) = value.as_f64() {
            // What is too large for either becomes a number that no field takes.
            if number.fract() != 0.0 || number.abs() >= u64::MAX as f64 {
                Kind::Number(number)
            } else if number < 0.0 {
                Kind::Negative(number as i64)
            } else {
                Kind::Natural(number as u64)
            }
        } else if let Some(text) = value.as_string() {
            Kind::Text(text)
        } else if Array::is_array(&value) {
            Kind::List(value.unchecked_into())
        } else {
            value
                .dyn_into()
                .map_or(Kind::Null, |object| Kind::Fields(fields(&object)))
        }
    }
}

fn fields(object: &Object) -> Vec<(String, Json)> {
    let field = |entry: JsValue| {
        let entry: Array = entry.unchecked_into();
        (
            entry.get(0).as_string().unwrap_or_default(),
            Json(entry.get(1)),
        )
    };
    Object::entries(object).iter().map(field).collect()
}

impl<'de> Deserializer<'de> for Json {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Kind::Fields(fields) = self.kind() else {
            return Err(Error::custom("give an object"));
        };
        visitor.visit_map(MapDeserializer::new(fields.into_iter()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// By its name: none of the configuration's holds anything.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let name = self.0.as_string().unwrap_or_default();
        visitor.visit_enum(name.into_deserializer())
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.kind() {
            Kind::Null => Err(Error::invalid_type(Unexpected::Other("null"), &visitor)),
            Kind::Truth(truth) => visitor.visit_bool(truth),
            Kind::Natural(number) => visitor.visit_u64(number),
            Kind::Negative(number) => visitor.visit_i64(number),
            Kind::Number(number) => visitor.visit_f64(number),
            Kind::Text(text) => visitor.visit_string(text),
            Kind::List(list) => visitor.visit_seq(SeqDeserializer::new(list.iter().map(Json))),
            Kind::Fields(fields) => visitor.visit_map(MapDeserializer::new(fields.into_iter())),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Json {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The first value in it for which `alone` has an error, with its path in front.
fn first_wrong(
    value: &JsValue,
    path: &str,
    alone: &dyn Fn(JsValue) -> Option<String>,
) -> Option<String> {
    match Json(value.clone()).kind() {
        Kind::Fields(fields) if alone(Object::new().into()).is_none() => {
            fields.into_iter().find_map(|(name, inner)| {
                let dot = if path.is_empty() { "" } else { "." };
                first_wrong(&inner.0, &format!("{path}{dot}{name}"), &|inner| {
                    let only = Object::new().into();
                    convert::set(&only, &name, &inner);
                    alone(only)
                })
            })
        }
        Kind::List(items) if items.length() > 0 => {
            items.iter().enumerate().find_map(|(place, inner)| {
                first_wrong(&inner, &format!("{path}[{place}]"), &|inner| {
                    alone(Array::of1(&inner).into())
                })
            })
        }
        _ => {
            let error = alone(value.clone())?;
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
    use serde_json::{Value, json};

    use super::*;
    use crate::platform::test;

    fn read(json: &Value) -> Result<Options, String> {
        Options::read(&js_sys::JSON::parse(&json.to_string()).expect("JSON"))
    }

    fn complaint(json: Value) -> String {
        read(&json).expect_err("wrong")
    }

    #[test]
    fn what_is_right_is_read_and_the_rest_has_defaults() {
        let json = json!({
            "network": { "max_peers": 7, "keepalive_interval": "20s" },
            "chain": { "genesis": "00ff", "application": "bitcoin" },
        });
        let (config, application) = read(&json).expect("right").split();
        assert_eq!(
            (config.network.max_peers, application.as_str()),
            (7, "bitcoin")
        );
        assert_eq!(config.chain.genesis, [0, 255]);
        assert_eq!(config.security, SecurityConfig::default());
        let (config, _) = read(&json!({})).expect("right").split();
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
                "chain.network_id: invalid type: null, expected a string",
            ),
            (
                json!({ "network": { "max_peers": -1 } }),
                "network.max_peers: invalid value: integer `-1`, expected usize",
            ),
            (
                json!({ "network": { "max_peers": 1.5 } }),
                "network.max_peers: invalid type: floating point `1.5`, expected usize",
            ),
            (
                json!({ "network": { "max_peers": 1e300 } }),
                "network.max_peers: invalid type: floating point",
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
