/** What wasm-bindgen makes of the same surface where the ledgers are built in too. */

export { default, WasmNode } from './selkie.js'
