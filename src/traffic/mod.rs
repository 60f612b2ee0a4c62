//! How much a peer may ask. State machines without I/O.

mod rate_limit;
mod window;

pub use rate_limit::RateLimiter;
pub use window::Window;
