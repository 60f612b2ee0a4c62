//! A browser tab, a worker or Node: one thread and its microtask queue.

use bytes::Bytes;
use js_sys::{Function, Number, Promise};
use libp2p::swarm;
use send_wrapper::SendWrapper;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// `#[test]` in a browser.
#[cfg(test)]
pub use wasm_bindgen_test::wasm_bindgen_test as test;

/// Starts a task on the microtask queue.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    wasm_bindgen_futures::spawn_local(task);
}

/// Runs a function in a later macrotask, so that the page can paint and read input first.
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    SendWrapper::new(macrotask()).await;
    Some(work())
}

#[wasm_bindgen]
extern "C" {
    type MessageChannel;
    type MessagePort;
    #[wasm_bindgen(constructor)]
    fn new() -> MessageChannel;
    #[wasm_bindgen(method, getter)]
    fn port1(this: &MessageChannel) -> MessagePort;
    #[wasm_bindgen(method, getter)]
    fn port2(this: &MessageChannel) -> MessagePort;
    #[wasm_bindgen(method, setter)]
    fn set_onmessage(this: &MessagePort, handler: &Function);
    #[wasm_bindgen(method, js_name = postMessage)]
    fn post_message(this: &MessagePort, message: bool);
    #[wasm_bindgen(method)]
    fn close(this: &MessagePort);
}

/// Node's process does not end before an open channel.
struct Open(MessageChannel);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.port1().close();
    }
}

/// Ready in a later macrotask: that of a message to ourselves. Timers would do, but those of a hidden tab ring once a second,
/// and after five minutes once a minute.
async fn macrotask() {
    let channel = Open(MessageChannel::new());
    let arrived = Promise::new(&mut |resolve, _| channel.0.port1().set_onmessage(&resolve));
    channel.0.port2().post_message(true);
    // Nobody rejects it.
    let _ = JsFuture::from(arrived).await;
}

/// Runs a future to its end. A panic is the end of the whole instance here, and JavaScript hears of it as a trap.
///
/// # Errors
/// None in a browser.
pub async fn guarded<T>(work: impl Future<Output = T>) -> Result<T, String> {
    Ok(work.await)
}

/// Calls a function; as [`guarded`].
///
/// # Errors
/// None in a browser.
pub fn guard<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    Ok(call())
}

/// Runs connections: on the microtask queue.
#[derive(Clone, Copy, Default)]
pub struct Executor(());

impl Executor {
    /// libp2p's connections run here.
    pub fn swarm_config(&self) -> swarm::Config {
        swarm::Config::with_wasm_executor()
    }
}

/// Whether the connection that runs has done enough: never, since what a browser's connection has received is little.
pub fn turn_is_over() -> bool {
    false
}

/// What a node sends for a frame of its lanes: the frame; a simulated one may mean harm.
pub fn sent_for(frame: Bytes) -> Option<Bytes> {
    Some(frame)
}

/// A number in digits, as JavaScript writes it: Rust's own way is 20 kB of what a page loads.
pub fn digits(number: f64) -> String {
    let text = Number::from(number).to_string(10);
    text.map_or_else(|_| String::new(), String::from)
}

#[cfg(test)]
mod tests {
    use js_sys::Reflect;

    use super::*;
    use crate::platform::test;

    #[test]
    async fn work_goes_on_where_timers_stand_still() {
        let (page, timer) = (js_sys::global(), JsValue::from("setTimeout"));
        let before = Reflect::get(&page, &timer).expect("a page has timers");
        let never = Function::new_no_args("return 0");
        Reflect::set(&page, &timer, &never).expect("it can be replaced");
        let done = offload(|| 7).await;
        Reflect::set(&page, &timer, &before).expect("it can be replaced");
        assert_eq!(done, Some(7));
    }
}
