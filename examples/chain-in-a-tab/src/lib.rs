//! A chain of one's own for a browser tab: these lines, and `wasm-bindgen`.

// There are no tabs elsewhere.
#![cfg(target_arch = "wasm32")]

use selkie::{Application, Checked, Transaction};
use wasm_bindgen::prelude::wasm_bindgen;

/// Takes what pays.
struct Payments;

impl Application for Payments {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        match transaction.data.starts_with(b"pay ") {
            true => Checked::opaque(&transaction.data),
            false => Checked::reject(&transaction.data, "it pays nobody"),
        }
    }
}

#[wasm_bindgen(start)]
fn start() {
    selkie::web::register("payments", || Payments);
}
