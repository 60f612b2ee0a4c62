//! Items on their way to a verdict: the queue in front of the chain's checks, and what came of them.

mod batch;
mod check;
mod judged;
mod queue;

pub(crate) use batch::{Batch, Origin};
pub(crate) use check::checked;
pub(crate) use judged::Judged;
pub(crate) use queue::{Pending, Queue, Source, Work};
