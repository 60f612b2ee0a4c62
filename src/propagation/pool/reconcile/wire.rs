//! What the two sides of a session say to each other. `docs/reconcile.md` is the page for implementers.

use prost::Message as _;

use super::{
    Fault, MAX_MESSAGE, MAX_POOL,
    coding::{Symbol, usize_from},
};

/// A message of a session. The initiator sends [`Self::Request`], [`Self::More`], [`Self::Want`] and
/// [`Self::GiveUp`], the responder [`Self::Answer`] and [`Self::Symbols`], so sessions of both directions
/// fit on one stream.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Message {
    /// Begins a session.
    #[prost(message, tag = "1")]
    Request(Request),
    /// Accepts it, with the first symbols, or declines it, without.
    #[prost(message, tag = "2")]
    Answer(Answer),
    /// The next symbols.
    #[prost(message, tag = "3")]
    Symbols(Symbols),
    /// Asks for symbols.
    #[prost(message, tag = "4")]
    More(More),
    /// Ends the session: the difference is found.
    #[prost(message, tag = "5")]
    Want(Want),
    /// Ends the session: the pools differ too much.
    #[prost(message, tag = "6")]
    GiveUp(GiveUp),
}

/// Begins a session.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Request {
    /// The initiator's half of the key of the session's hashes, drawn at random for each session.
    #[prost(fixed64, tag = "1")]
    pub salt: u64,
    /// How many keys the initiator holds, at most [`MAX_POOL`].
    #[prost(uint32, tag = "2")]
    pub pool_size: u32,
}

/// The responder's half of the beginning.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    /// The request's salt: which session this begins.
    #[prost(fixed64, tag = "1")]
    pub request: u64,
    /// The responder's half of the key.
    #[prost(fixed64, tag = "2")]
    pub salt: u64,
    /// How many keys the responder holds, at most [`MAX_POOL`].
    #[prost(uint32, tag = "3")]
    pub pool_size: u32,
    /// The first symbols, or none.
    #[prost(message, optional, tag = "4")]
    pub run: Option<Run>,
}

/// Symbols after the first run.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Symbols {
    /// The index of the run's first symbol.
    #[prost(uint32, tag = "1")]
    pub first: u32,
    /// The symbols.
    #[prost(message, optional, tag = "2")]
    pub run: Option<Run>,
}

/// Symbols one after the other, in columns: about 13 bytes each.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Run {
    /// The exclusive or of the short ids.
    #[prost(fixed64, repeated, tag = "1")]
    pub sums: Vec<u64>,
    /// The exclusive or of their checksums.
    #[prost(fixed32, repeated, tag = "2")]
    pub checksums: Vec<u32>,
    /// How many short ids, less the `2 pool_size / (index + 2)`, rounded down, that are to be expected.
    #[prost(sint64, repeated, tag = "3")]
    pub counts: Vec<i64>,
}

/// Asks for symbols.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct More {
    /// Up to this index, which itself is not asked for. Before it come all symbols that were not sent yet.
    #[prost(uint32, tag = "1")]
    pub until: u32,
}

/// The short ids of what the responder alone holds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Want {
    /// Ascending, each once.
    #[prost(fixed64, repeated, tag = "1")]
    pub short_ids: Vec<u64>,
}

/// The pools differ too much.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct GiveUp {}

#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(oneof = "Message", tags = "1, 2, 3, 4, 5, 6")]
    message: Option<Message>,
}

impl Message {
    /// The message's protobuf bytes, at most [`MAX_MESSAGE`].
    pub fn to_bytes(self) -> Vec<u8> {
        let message = Some(self);
        Envelope { message }.encode_to_vec()
    }

    /// Reads a message. What it says is checked by the session that it belongs to.
    ///
    /// # Errors
    /// [`Fault`] where the bytes are over [`MAX_MESSAGE`], no protobuf, or of no known kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Fault::TooLong(bytes.len()));
        }
        Envelope::decode(bytes)?.message.ok_or(Fault::UnknownKind)
    }

    /// Bytes that it takes in memory, about: a column of small numbers is much shorter on the wire.
    pub(crate) fn weight(&self) -> usize {
        let numbers = match self {
            Self::Answer(Answer { run, .. }) | Self::Symbols(Symbols { run, .. }) => {
                run.as_ref().map_or(0, |run| {
                    run.sums.len() + run.checksums.len() + run.counts.len()
                })
            }
            Self::Want(want) => want.short_ids.len(),
            Self::Request(_) | Self::More(_) | Self::GiveUp(_) => 0,
        };
        size_of::<Self>() + numbers * size_of::<u64>()
    }

    /// The message's name in docs/reconcile.md.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::Answer(_) => "answer",
            Self::Symbols(_) => "symbols",
            Self::More(_) => "more",
            Self::Want(_) => "want",
            Self::GiveUp(_) => "give_up",
        }
    }
}

impl Run {
    /// Symbols of a pool, from the one with index `first` on.
    pub(super) fn of(symbols: &[Symbol], first: u32, pool_size: u32) -> Self {
        let counts = (first..).zip(symbols);
        let count = |(index, symbol): (u32, &Symbol)| {
            i64::from(symbol.count) - expected_count(pool_size, index)
        };
        Self {
            sums: symbols.iter().map(|symbol| symbol.sum).collect(),
            checksums: symbols.iter().map(|symbol| symbol.checksum).collect(),
            counts: counts.map(count).collect(),
        }
    }

    /// The `length` symbols of a pool, from the one with index `first` on.
    ///
    /// # Errors
    /// [`Fault`] where it has another length, or a count that no symbol of such a pool can have.
    pub(super) fn symbols(
        &self,
        first: u32,
        length: u32,
        pool_size: u32,
    ) -> Result<Vec<Symbol>, Fault> {
        let lengths = [self.sums.len(), self.checksums.len(), self.counts.len()];
        if lengths != [usize_from(length); 3] {
            return Err(Fault::WrongRun);
        }
        let rows = self.sums.iter().zip(&self.checksums).zip(&self.counts);
        (first..)
            .zip(rows)
            .map(|(index, ((sum, checksum), count))| {
                let count = expected_count(pool_size, index)
                    .checked_add(*count)
                    // Symbol 0 holds everything.
                    .filter(|count| index > 0 || *count == i64::from(pool_size))
                    .and_then(|count| u32::try_from(count).ok())
                    .filter(|count| *count <= pool_size.min(MAX_POOL))
                    .and_then(|count| i32::try_from(count).ok())
                    .ok_or(Fault::WrongCount(index))?;
                Ok(Symbol {
                    sum: *sum,
                    checksum: *checksum,
                    count,
                })
            })
            .collect()
    }
}

/// How many elements of a pool a symbol holds on average, rounded down.
fn expected_count(pool_size: u32, index: u32) -> i64 {
    2 * i64::from(pool_size) / (i64::from(index) + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn symbols() -> impl Strategy<Value = Vec<Symbol>> {
        let symbol =
            (any::<u64>(), any::<u32>(), 0i32..=1000).prop_map(|(sum, checksum, count)| Symbol {
                sum,
                checksum,
                count,
            });
        proptest::collection::vec(symbol, 0..50)
    }

    proptest! {
        #[test]
        fn a_run_survives_the_wire(symbols in symbols(), first in 1u32..MAX_POOL) {
            let run = Some(Run::of(&symbols, first, 1000));
            let message = Message::Symbols(Symbols { first, run });
            let length = u32::try_from(symbols.len()).expect("few");
            let Ok(Message::Symbols(Symbols { run: Some(run), .. })) = Message::from_bytes(&message.to_bytes()) else {
                return Err(TestCaseError::fail("not the same message"));
            };
            prop_assert_eq!(run.symbols(first, length, 1000), Ok(symbols));
            prop_assert_eq!(run.symbols(first, length + 1, 1000), Err(Fault::WrongRun));
        }

        #[test]
        fn any_bytes_give_a_message_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Message::Symbols(Symbols { first, run: Some(run) })) = Message::from_bytes(&bytes) {
                let _ = run.symbols(first, 1, u32::MAX);
            }
        }

        #[test]
        fn any_numbers_give_symbols_or_a_fault(sum: u64, checksum: u32, count: i64, first: u32, pool_size: u32) {
            let run = Run { sums: vec![sum], checksums: vec![checksum], counts: vec![count] };
            if let Ok(symbols) = run.symbols(first, 1, pool_size) {
                prop_assert!((0..=i64::from(MAX_POOL)).contains(&i64::from(symbols[0].count)));
            }
        }
    }

    #[test]
    fn a_symbol_takes_about_thirteen_bytes() {
        let symbol = Symbol {
            sum: u64::MAX,
            checksum: u32::MAX,
            count: 200,
        };
        let run = Some(Run::of(&[symbol; 256], 1000, 100_000));
        let bytes = Message::Symbols(Symbols { first: 1000, run }).to_bytes();
        assert!(bytes.len() < 256 * 13 + 32, "{}", bytes.len());
    }

    #[test]
    fn the_longest_want_fits_and_nothing_longer() {
        let want = |ids: u64| {
            Message::Want(Want {
                short_ids: (0..ids).collect(),
            })
            .to_bytes()
        };
        let most = want(super::super::MAX_SYMBOLS.into());
        assert!(Message::from_bytes(&most).is_ok());
        let longer = want(u64::from(super::super::MAX_SYMBOLS) + 8);
        assert_eq!(
            Message::from_bytes(&longer),
            Err(Fault::TooLong(longer.len()))
        );
    }

    #[test]
    fn a_count_over_the_pool_or_below_nothing_is_refused() {
        let run = |first, count| {
            Run::of(
                &[Symbol {
                    count,
                    ..Symbol::default()
                }],
                first,
                10,
            )
            .symbols(first, 1, 10)
        };
        assert!(run(0, 10).is_ok() && run(5, 10).is_ok() && run(5, 0).is_ok());
        assert_eq!(
            run(0, 9),
            Err(Fault::WrongCount(0)),
            "symbol 0 holds everything"
        );
        assert_eq!(run(5, 11), Err(Fault::WrongCount(5)));
        assert_eq!(run(5, -1), Err(Fault::WrongCount(5)));
    }
}
