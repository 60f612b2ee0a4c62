//! The wasm-bindgen surface: what the npm package's TypeScript calls. Private to that package, but for [`register`]: the chains of a crate that
//! is built on this one.
//!
//! [`WasmNode`] exports `&self` methods over [`crate::P2PNetworkManager`]; JavaScript pulls (`nextEvent`, `next`, `nextStream`, `read`), so a
//! slow reader never grows memory here. A chain that is written in JavaScript is called by `application`. `convert` turns our values into plain JavaScript objects, and ours only:
//! whatever comes from JavaScript is checked by serde and by [`crate::Config::check`].

mod application;
mod chains;
mod convert;
#[cfg(feature = "ledger")]
mod ledger;
// Where `tracing` compiles lines in: its own condition.
#[cfg(any(debug_assertions, not(feature = "silent")))]
mod log;
mod node;
mod options;
mod panic;
mod streams;
mod subscriptions;

pub use chains::{register, register_opening};
pub use node::WasmNode;
