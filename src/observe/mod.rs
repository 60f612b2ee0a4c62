//! What the node knows about itself, in SPEC's terms.

mod metrics;

pub(crate) use metrics::Recorder;
pub use metrics::{ConnectionMetrics, MessageMetrics, PeerMetrics};
