//! A Web Lock: what one tab or worker of this site holds at a time. The browser frees it when its holder is gone.

use std::cell::Cell;

use futures::future::{Either, select};
use js_sys::{Function, Object, Promise, Reflect};
use tokio::sync::oneshot;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    type LockManager;
    #[wasm_bindgen(method, catch)]
    fn request(
        this: &LockManager,
        name: &str,
        options: &Object,
        holder: &Function,
    ) -> Result<Promise, JsValue>;

    type AbortSignal;
    #[wasm_bindgen(static_method_of = AbortSignal, catch)]
    fn timeout(milliseconds: u32) -> Result<JsValue, JsValue>;
}

/// How long it is waited for, in milliseconds: of a page that is gone a worker may live on for moments, and hold it.
const PATIENCE: u32 = 2000;

/// Held until it is freed or dropped.
pub(super) struct WebLock {
    release: Function,
    /// What the browser promises to be over when others can have it.
    ended: Cell<Option<JsFuture>>,
}

impl WebLock {
    /// `None`: another has it, and keeps it.
    pub(super) async fn take(name: &str) -> Result<Option<Self>, JsValue> {
        let navigator = Reflect::get(&js_sys::global(), &"navigator".into())?;
        let locks = match navigator.is_object() {
            true => Reflect::get(&navigator, &"locks".into())?,
            false => JsValue::UNDEFINED,
        };
        if !locks.is_object() {
            let what = "this place has no Web Locks, which take https or localhost; keep it in memory here";
            return Err(what.into());
        }
        let options = Object::new();
        let signal = AbortSignal::timeout(PATIENCE)?;
        Reflect::set(&options, &"signal".into(), &signal)?;
        let (given, taken) = oneshot::channel();
        // The lock is held until the promise that this returns is settled.
        let holder = Closure::once(move || {
            let mut given = Some(given);
            let held = Promise::new(&mut |release, _| {
                // Where nobody waits for it any more it is free again.
                if let Some(Err(release)) = given.take().map(|given| given.send(release)) {
                    settle(&release);
                }
            });
            JsValue::from(held)
        });
        let locks: LockManager = locks.unchecked_into();
        let ended = locks.request(name, &options, holder.as_ref().unchecked_ref())?;
        match select(taken, JsFuture::from(ended)).await {
            Either::Left((Ok(release), ended)) => Ok(Some(Self {
                release,
                ended: Cell::new(Some(ended)),
            })),
            Either::Left((Err(_), _)) | Either::Right((Ok(_), _)) => Ok(None),
            Either::Right((Err(error), _)) => {
                let name = Reflect::get(&error, &"name".into())?;
                let is_late = name.as_string().as_deref() == Some("TimeoutError");
                if is_late { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Ready when others can have it.
    pub(super) async fn free(&self) {
        settle(&self.release);
        if let Some(ended) = self.ended.take() {
            let _ = ended.await;
        }
    }
}

impl Drop for WebLock {
    fn drop(&mut self) {
        settle(&self.release);
    }
}

/// Resolves a promise, once or again.
fn settle(resolve: &Function) {
    // That throws nothing.
    let _ = resolve.call0(&JsValue::UNDEFINED);
}
