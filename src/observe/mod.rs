//! What the node knows about itself, in SPEC's terms.

mod metrics;

pub use metrics::{ConnectionMetrics, MessageMetrics, PeerMetrics};
pub(crate) use metrics::Recorder;
