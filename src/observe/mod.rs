//! What the node knows about itself.

mod metrics;

pub(crate) use metrics::Recorder;
pub use metrics::{ConnectionMetrics, MessageMetrics, PeerMetrics};
