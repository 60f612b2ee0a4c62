//! A node in virtual time: whatever it needs of a host it asks the simulator (`sim/`), which plugs itself in here.
//!
//! Time and randomness need nothing here: the simulator stands below the standard library's and `getrandom`'s.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes as Frame;
use futures::{AsyncRead, AsyncWrite, future::BoxFuture};
use libp2p::{core::transport::Boxed, swarm};

use crate::platform;

/// The usual `#[test]`.
#[cfg(test)]
pub use core::prelude::v1::test;

/// The two ends of a connection see such a stream of bytes each.
pub trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// What a simulator does for the nodes on its thread. All is asked while a node's task runs or is made, and the simulator knows
/// which node that is.
pub trait Host {
    /// Starts a task of this node.
    fn spawn(&self, task: BoxFuture<'static, ()>);
    /// How long a slow function takes on this node.
    fn work_takes(&self) -> Duration;
    /// What goes out for a frame that this node would send a peer now: a node that means harm keeps some back, and changes others.
    fn sent_for(&self, frame: Frame) -> Option<Frame>;
    /// This node's way to others.
    fn transport(&self) -> Boxed<Box<dyn Bytes>>;
}

thread_local! {
    static HOST: RefCell<Option<Rc<dyn Host>>> = const { RefCell::new(None) };
}

/// Nodes on this thread ask this host from now on.
pub fn plug_in(host: Rc<dyn Host>) {
    HOST.set(Some(host));
}

/// The simulator of this thread.
///
/// # Panics
/// Where there is none: this build of the crate runs in the simulator only.
pub(crate) fn host() -> Rc<dyn Host> {
    HOST.with_borrow(Clone::clone)
        .expect("built with cfg(selkie_sim), a node runs inside the simulator only")
}

/// Starts a task on the simulator's executor.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    host().spawn(Box::pin(task));
}

/// Runs a slow function once the time that it takes has gone by.
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let taken = platform::Delay::new(host().work_takes());
    taken.await;
    Some(work())
}

/// Runs a future to its end. A panic is the end of the simulation, which says where it was.
///
/// # Errors
/// None in a simulation.
pub async fn guarded<T>(work: impl Future<Output = T>) -> Result<T, String> {
    Ok(work.await)
}

/// Calls a function; as [`guarded`].
///
/// # Errors
/// None in a simulation.
pub fn guard<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    Ok(call())
}

/// Runs connections: on the simulator's executor.
#[derive(Clone, Copy, Default)]
pub struct Executor(());

impl Executor {
    /// libp2p's connections run here.
    pub fn swarm_config(&self) -> swarm::Config {
        swarm::Config::with_executor(|task| host().spawn(task))
    }
}

/// A number in digits.
pub fn digits(number: f64) -> String {
    number.to_string()
}

/// What the node sends for a frame of its lanes: one that means harm keeps some back, and changes others.
pub fn sent_for(frame: Frame) -> Option<Frame> {
    host().sent_for(frame)
}

/// Whether the connection that runs has done enough: never, since no virtual time goes by in its turn.
pub fn turn_is_over() -> bool {
    false
}
