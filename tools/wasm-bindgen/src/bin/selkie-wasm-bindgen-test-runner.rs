//! `wasm-bindgen-test-runner`, built from the workspace's lock file.
//!
//! Cargo calls it with a test compiled to WebAssembly; it serves that test to a browser that it
//! drives through WebDriver (`CHROMEDRIVER` names the driver, `webdriver.json` the browser's
//! options) and prints what the tests said. The environment chooses the place: `WASM_BINDGEN_USE_BROWSER`
//! for a page, `WASM_BINDGEN_USE_DEDICATED_WORKER` for a worker.

use std::process::ExitCode;

fn main() -> ExitCode {
    match wasm_bindgen_cli::wasm_bindgen_test_runner::run_cli_with_args(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}
