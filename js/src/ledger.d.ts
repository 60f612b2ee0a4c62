/** What wasm-bindgen makes of the same surface where the ledgers are built in too. */

export { default, onException, WasmNode } from './selkie.js'
