//! The limits of a peer exchange, looked at before it is decoded.
//!
//! An exchange is small by nature, and would otherwise be a cheap way to make a node hold millions of little things: two bytes on the
//! wire are a peer of a hundred in memory. So its bytes, its peers, their addresses and the length of each are counted
//! first, all parts of the message together, since protobuf lets a field come in pieces.

use super::protocol::{MAX_ADDRESSES_PER_PEER, MAX_EXCHANGED_PEERS};
use crate::{
    error::DecodeError,
    fields::Fields,
    peers::{AddressPolicy, SignedRecord},
};

/// The most bytes of a peer exchange.
pub const MAX_EXCHANGE_BYTES: usize = 64 << 10;
/// The longest address in one, in bytes. One of WebTransport with two hashes and its peer's id has 130.
pub const MAX_ADDRESS_BYTES: usize = AddressPolicy::MAX_BYTES;

/// The most records that a node passes on at once.
pub(crate) const MAX_RECORDS: usize = 16;

/// Fields of docs/wire.md.
pub(crate) const IN_MESSAGE: u32 = 5;
pub(crate) const IN_ANSWER: u32 = 4;
const PEERS: u32 = 1;
const ADDRESSES: u32 = 2;
const RECORD: u32 = 3;

/// Checks the exchange in a `NetworkMessage` or an `Answer`, if it holds one. What is no protobuf is left to the decoder.
///
/// # Errors
/// [`DecodeError::Field`] where a limit is broken.
pub(crate) fn check(message: &[u8], field: u32) -> Result<(), DecodeError> {
    let (mut bytes, mut peers, mut records) = (0, 0, 0);
    for exchange in Fields::of(message).tagged(field) {
        bytes += exchange.len();
        at_most("peer_exchange", bytes, MAX_EXCHANGE_BYTES)?;
        for peer in Fields::of(exchange).tagged(PEERS) {
            peers += 1;
            at_most("peer_exchange.peers", peers, MAX_EXCHANGED_PEERS)?;
            for (count, address) in Fields::of(peer).tagged(ADDRESSES).enumerate() {
                at_most("peer.addresses", count + 1, MAX_ADDRESSES_PER_PEER)?;
                at_most("peer.addresses", address.len(), MAX_ADDRESS_BYTES)?;
            }
            for record in Fields::of(peer).tagged(RECORD) {
                records += 1;
                at_most("peer_exchange.records", records, MAX_RECORDS)?;
                at_most("peer.record", record.len(), SignedRecord::MAX_BYTES)?;
            }
        }
    }
    Ok(())
}

/// # Errors
/// [`DecodeError::Field`] over the limit.
pub(super) fn at_most(field: &'static str, length: usize, limit: usize) -> Result<(), DecodeError> {
    if length > limit {
        let problem = format!("{length} is over the limit of {limit}");
        return Err(DecodeError::field(field, problem));
    }
    Ok(())
}
