//! How much a peer may ask. State machines without I/O.

mod class;
mod rate_limit;

pub use class::{Class, Lane};
pub use rate_limit::{Cost, Limit, Limits, Protocol, Rate, RateLimiter, Refusal};
