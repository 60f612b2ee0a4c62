//! A panic is the end of all of this WebAssembly: nothing of it runs on, and what its promises wait for never comes. JavaScript is told of it with
//! its words, since what it sees besides, a trap, might be any other WebAssembly's on the page.

use std::{
    cell::RefCell,
    panic::{self, PanicHookInfo},
};

use js_sys::Function;
use wasm_bindgen::prelude::*;

thread_local! {
    static LISTENER: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Calls a function with the words of each panic from now on, and the last one no more. It must not call this WebAssembly.
pub fn listen(listener: Function) {
    LISTENER.set(Some(listener));
    panic::set_hook(Box::new(tell));
}

fn tell(panic: &PanicHookInfo<'_>) {
    console_error_panic_hook::hook(panic);
    LISTENER.with_borrow(|listener| {
        if let Some(listener) = listener {
            // Of what it throws there is nobody to be told.
            let _ = listener.call1(&JsValue::UNDEFINED, &panic.to_string().into());
        }
    });
}

/// Panics, for tests of who hears of it. What is shipped has no such thing.
#[cfg(debug_assertions)]
#[wasm_bindgen(js_name = panicForTests)]
pub fn panic_for_tests(words: &str) {
    panic!("{words}");
}
