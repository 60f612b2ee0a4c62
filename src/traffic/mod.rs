//! How much a peer may ask, and what goes to it first. State machines without I/O.

mod budget;
mod budgets;
mod class;
mod limits;
mod rate_limit;
mod room;
mod scheduler;
mod shaper;
mod window;

pub use budget::{Admission, Budget};
pub use budgets::{BudgetConfig, Budgets};
pub use class::{Class, Lane};
pub(crate) use limits::USELESS;
pub use limits::{Limit, Limits, Protocol};
pub use rate_limit::{Cost, Pace, Rate, RateLimiter, Refusal};
pub(crate) use room::{Payer, Room};
pub use scheduler::{Full, QueueLimits, Scheduler, SchedulerConfig};
pub use shaper::{Load, Shaper};
pub(crate) use window::MAX_UNDONE;
pub use window::Window;
