//! `wasm-bindgen` itself, built from the workspace's lock file.
//!
//! The glue that this command writes must come from the very version of `wasm-bindgen` that the
//! crate links. Building it here leaves one place that names the version, and nothing to install.

use std::process::ExitCode;

fn main() -> ExitCode {
    match wasm_bindgen_cli::wasm_bindgen::run_cli_with_args(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}
