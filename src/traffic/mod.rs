//! How much a peer may ask. State machines without I/O.

mod rate_limit;

pub use rate_limit::RateLimiter;
